//! Signatures of private keys: in a sender's file, in a source, and explained.

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256};

use super::*;
use crate::sender::crypto::public_key::tests::{rsa_pair, rsa_spki};
use crate::sender::request::encoding::{base64, base64url};

const NOW: i64 = 1_700_000_000_000;

fn edited(sender: &str, from: &str, to: &str) -> Vec<DefinitionError> {
    let catalog = Catalog::embedded().unwrap();
    let text = catalog.get(sender).unwrap().text();
    assert!(text.contains(from), "{from}");
    Sender::parse("mine", &text.replacen(from, to, 1)).err().unwrap_or_default()
}

#[test]
fn mistakes_of_a_file_name_their_key() {
    for (sender, from, to, key) in [
        ("admob", "https://www.gstatic", "http://www.gstatic", "key_set.url"),
        ("admob", "https://www.gstatic.com", "/x", "key_set.url"),
        ("admob", "keep    = \"24h\"", "keep    = \"soon\"", "key_set.keep"),
        ("admob", "\"{key_id}\"", "\"{key_id}x\"", "key_set.pick"),
        ("admob", "key  = \"[public_key]\"", "key  = \"[secret]\"", "key_set"),
        ("admob", "with = \"ecdsa_p256\"", "with = \"hmac_sha256\"", "signature.key"),
        ("admob", "with = \"ecdsa_p256\"", "with = [\"ecdsa_p256\", \"hex\"]", "signature.with"),
        ("admob", "with = \"ecdsa_p256\"", "with = [\"hmac_md5\", \"rsa_pss\"]", "signature.with"),
        ("admob", "as   = \"base64url\"", "as   = \"base64url\"\ncut = 9", "signature.with"),
        ("admob", "|unpercent]\"\n", "|unpercent][secret]\"\n", "signature.with"),
        ("huawei", "\"[developer_id]\"", "\"{userId}\"", "key_set.headers.userId"),
        ("huawei", "headers = { userId", "headers = { \"a b\"", "key_set.headers.a b"),
        ("stripe", "in   = \"{sig.v1}\"", "in   = \"{sig.v1}\"\nkey = \"[public_key]\"", "key_set"),
    ] {
        let faults = edited(sender, from, to);
        assert!(faults.iter().any(|fault| fault.key == key), "{sender} {to:?}: {faults:?}");
    }
}

fn admob() -> Recipe {
    let catalog = Catalog::embedded().unwrap();
    Recipe::compile(catalog.get("admob").unwrap(), &Terms::default()).unwrap()
}

#[test]
fn without_keys_nothing_verifies_and_nothing_is_refused_for_its_key() {
    let recipe = admob();
    let catalog = Catalog::embedded().unwrap();
    let none = KeySet::default();
    let vectors = &catalog.get("admob").unwrap().vectors;
    for vector in vectors.iter().filter(|vector| vector.expects("outcome", "accepted")) {
        let came = run(&recipe, &vector.request, NOW);
        assert_eq!((came.outcome, came.rejection), (Outcome::Unavailable, None));
        let mut callback = recipe.read(vector.request.borrow(), NOW);
        callback.use_keys(Some(&none));
        let Judgement::Rejected(rejection) = callback.verify() else { panic!("it has no keys") };
        assert_eq!(rejection.reason, Reason::UnknownKey);
    }
}

#[test]
fn sources_share_a_list_by_url_and_settings_and_not_by_secrets() {
    let identity = |text: &str| {
        let recipe = source("huawei", text).unwrap();
        recipe.key_list().unwrap().identity()
    };
    let one = identity("developer_id = \"d\"\nsecrets = \"a2V5\"");
    assert_eq!(one, identity("developer_id = \"d\"\nsecrets = \"b3RoZXI=\""));
    assert_ne!(one, identity("developer_id = \"e\"\nsecrets = \"a2V5\""));
    assert_eq!(one, identity("developer_id = \"d\"\nad_ids = \"a\"\nsecrets = \"a2V5\""));
    let url = "key_set_url = \"https://mirror/keys\"";
    assert_ne!(one, identity(&format!("developer_id = \"d\"\nsecrets = \"a2V5\"\n{url}")));
}

#[test]
fn a_list_is_asked_for_under_each_live_secret_and_never_shown() {
    let catalog = Catalog::embedded().unwrap();
    let mut terms = vector_terms("developer_id = \"d\"\nsecrets = [\"a2V5\", \"b3RoZXI=\"]");
    terms.settings.insert(Terms::KEY_SET_URL.into(), Secret::new("https://h/x?token=hush-hush"));
    let requests = |terms: &Terms| {
        let recipe = Recipe::compile(catalog.get("huawei").unwrap(), terms).unwrap();
        let shown = format!("{recipe:?} {:?}", recipe.key_requests(NOW));
        assert!(!shown.contains("hush-hush") && !shown.contains("a2V5"), "{shown}");
        recipe.key_requests(NOW)
    };
    let two = requests(&terms);
    assert_eq!(two.len(), 2);
    assert_ne!(two[0].headers, two[1].headers);
    assert!(two[0].headers.values().all(http::HeaderValue::is_sensitive));
    terms.secrets[0].until_ms = Some(NOW);
    assert_eq!(requests(&terms), two[1..]);
    terms.secrets[1].until_ms = Some(NOW);
    assert!(requests(&terms).is_empty(), "no request is sent without a proof");
    assert_eq!(admob().key_requests(NOW).len(), 1);
}

#[test]
fn a_list_is_read_or_said_to_be_none() {
    let recipe = admob();
    let list = recipe.key_list().unwrap();
    let point = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+nzvoGqvDeB9+SzE6igTl7TyK4JBbglwir9oTcQta8NuG26ZpZFxt+F2NDk7asTE6/2Yc8i1ATcGIqtuS5hv0Q==";
    let entry = |id: &str, key: &str| format!("{{\"keyId\":{id},\"base64\":\"{key}\",\"pem\":1}}");
    let read = |entries: &[String]| {
        list.read(format!("{{\"keys\":[{}],\"more\":[]}}", entries.join(",")).as_bytes())
    };
    let set = read(&[
        entry("18446744073709551615", point),
        entry("\"text\"", point),
        entry("1.5", point),
        entry("-1", point),
        entry("null", point),
        entry("\"\"", point),
        entry(&format!("\"{}\"", "x".repeat(KEY_ID_MAX + 1)), point),
        entry("3", &base64(&rsa_spki())),
        entry("4", "rubbish"),
        "7".to_owned(),
    ])
    .unwrap();
    assert_eq!((set.len(), set.left_out()), (2, 8));
    assert!(set.knows(b"18446744073709551615") && set.knows(b"text"));
    let marked = format!("\u{feff}{{\"keys\":[{}]}}", entry("1", point));
    assert_eq!(list.read(marked.as_bytes()).unwrap().len(), 1);
    // The same key twice is one key.
    assert_eq!(read(&[entry("1", point), entry("1", point)]).unwrap().len(), 1);
    let other = super::other_key(point);
    assert_eq!(read(&[entry("1", point), entry("1", &other)]), Err(KeySetError::Repeated));
}

// === explained ===

fn mistake(recipe: &Recipe, request: &OwnedRequest) -> Option<(MistakeKind, String)> {
    let told = explain(recipe, &request.borrow(), NOW, &[]).mistake;
    told.map(|mistake| (mistake.kind, mistake.advice.english().to_owned()))
}

fn rsa_signed(padding: &'static dyn ring::signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
    let pair = rsa_pair();
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

#[test]
fn another_padding_or_text_of_huawei_is_named() {
    let catalog = Catalog::embedded().unwrap();
    let keys = [("k1".to_owned(), base64(&rsa_spki()))].into();
    let terms = Terms { keys, ..Terms::default() };
    let recipe = Recipe::compile(catalog.get("huawei").unwrap(), &terms).unwrap();
    let text = "adId=ad1&rewardAmount=5&rewardName=coin&uniqueId=ab12&userId=u1";
    let digest = crate::sender::crypto::digest::Algorithm::Sha256.of(text.as_bytes());
    let hex = digest.hex(&mut [0; 128]).to_vec();
    let with = |name: &str, signature: &[u8]| {
        let mut query = String::new();
        crate::sender::request::encoding::percent(
            base64(signature).as_bytes(),
            &mut Text(&mut query),
        );
        get(&format!("/?{text}&data=&keyId=k1&{name}={query}"))
    };
    let right = with("newSign", &rsa_signed(&RSA_PSS_SHA256, &hex));
    assert_eq!(run(&recipe, &right, NOW).outcome, Outcome::Accepted);
    // The secret opens the list and verifies nothing: its end rejects no callback.
    let mut ended = Terms { secrets: vector_terms("secrets = \"a2V5\"").secrets, ..terms };
    ended.secrets[0].until_ms = Some(0);
    let ended = Recipe::compile(catalog.get("huawei").unwrap(), &ended).unwrap();
    assert_eq!(run(&ended, &right, NOW).outcome, Outcome::Accepted);
    assert_eq!(mistake(&recipe, &right), None);
    for (name, signature) in [
        ("newSign", rsa_signed(&RSA_PKCS1_SHA256, &hex)),
        ("newSign", rsa_signed(&RSA_PSS_SHA256, text.as_bytes())),
        ("newSign", rsa_signed(&RSA_PSS_SHA256, digest.bytes())),
        ("sign", rsa_signed(&RSA_PSS_SHA256, &hex)),
    ] {
        let (kind, advice) = mistake(&recipe, &with(name, &signature)).unwrap();
        assert_eq!(kind, MistakeKind::OtherDigest, "{advice}");
        assert!(advice.contains("this signature is read as rsa_"), "{advice}");
    }
    let kept = text.replace("&rewardAmount", "&data=&rewardAmount");
    let digest = crate::sender::crypto::digest::Algorithm::Sha256.of(kept.as_bytes());
    let signature = rsa_signed(&RSA_PSS_SHA256, digest.hex(&mut [0; 128]));
    assert_eq!(mistake(&recipe, &with("newSign", &signature)).unwrap().0, MistakeKind::EmptyKept);
}

/// Takes bytes that are text.
struct Text<'t>(&'t mut String);

impl crate::sender::request::encoding::Sink for Text<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.0.push_str(str::from_utf8(bytes).unwrap());
    }
}

#[test]
fn a_webhook_of_a_private_key_is_explained() {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let whpk = format!("whpk_{}", base64(pair.public_key().as_ref()));
    let recipe = source("standard-webhooks", &format!("secrets = {whpk:?}")).unwrap();
    let request = |supplied: &str, body: &str| {
        OwnedRequest::parse(&format!(
            "POST /\nwebhook-id: m1\nwebhook-timestamp: 1700000000\nwebhook-signature: {supplied}\n\n{body}"
        ))
        .unwrap()
    };
    let signature = pair.sign(b"m1.1700000000.{\"a\": 1}");
    let right = request(&format!("v1,AAAA v1a,{}", base64(signature.as_ref())), "{\"a\": 1}");
    let resolved = run(&recipe, &right, NOW).resolved.unwrap();
    assert_eq!(resolved.secret(), Some(0), "the metric says which key it was");
    assert_eq!(explain(&recipe, &right.borrow(), NOW, &[]).verdict, Verification::Verified);
    let hex = request(&format!("v1a,{}", const_hex::encode(signature.as_ref())), "{\"a\": 1}");
    assert_eq!(mistake(&recipe, &hex).unwrap().0, MistakeKind::OtherEncoding);
    let url_safe = request(&format!("v1a,{}", base64url(signature.as_ref())), "{\"a\": 1}");
    assert_eq!(run(&recipe, &url_safe, NOW).outcome, Outcome::Accepted, "either alphabet");
    let compact = request(&format!("v1a,{}", base64(signature.as_ref())), "{\"a\":1}");
    assert_eq!(mistake(&recipe, &compact).unwrap().0, MistakeKind::ValueReformatted);
    let other = request(&format!("v1a,{}", base64(&[7; 64])), "{\"a\": 1}");
    assert_eq!(mistake(&recipe, &other).unwrap().0, MistakeKind::Unknown);
    // A shared secret decides where its signature came, and a private key does not save it.
    let both = format!("secrets = [{whpk:?}, \"whsec_MDEyMzQ1Njc4OWFi\"]");
    let both = source("standard-webhooks", &both).unwrap();
    assert_eq!(run(&both, &right, NOW).outcome, Outcome::Rejected);
}
