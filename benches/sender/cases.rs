//! The requests that the benchmarks of the pure half verify: one of each kind of recipe.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::LazyLock;

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use md5::{Digest, Md5};
use postern::sender::{Callback, Catalog, Judgement, LiveSecret, Recipe, Request, Secret, Terms};
use ring::signature;
use sha1::Sha1;
use sha2::Sha256;

/// The time of every request.
pub const NOW_MS: i64 = 1_700_000_000_000;
const TAKU_SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn recipe(sender: &str, secret: &str) -> Recipe {
    recipe_with(sender, secret, BTreeMap::new())
}

fn recipe_with(sender: &str, secret: &str, settings: BTreeMap<String, Secret>) -> Recipe {
    let catalog = Catalog::embedded().unwrap();
    let value = Secret::new(secret.as_bytes());
    let secrets = vec![LiveSecret { id: "1".into(), value, until_ms: None }];
    let template = Some("type=1&who={user_id}".into());
    let terms = Terms { secrets, template, settings, ..Terms::default() };
    Recipe::compile(catalog.get(sender).unwrap(), &terms).unwrap()
}

/// A request of a sender with the text that it signs.
pub struct Case {
    /// Its kind of recipe.
    pub name: &'static str,
    recipe: Recipe,
    method: Method,
    /// Path and query.
    pub target: String,
    base: &'static str,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The bytes that are signed.
    pub signed: Vec<u8>,
    bare: fn(&[u8]),
}

impl Case {
    fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: self.target.as_bytes(),
            base: self.base,
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// The digest or the check of a signature alone, and where a message is sealed its cipher.
    pub fn bare(&self) {
        (self.bare)(&self.signed);
    }

    /// The request, read.
    pub fn read(&self) -> Callback<'_> {
        let case = black_box(self);
        case.recipe.read(case.request(), NOW_MS)
    }

    /// Reads the request and verifies it.
    pub fn verify(&self) {
        let mut callback = self.read();
        assert!(black_box(matches!(callback.verify(), Judgement::Verified(_))));
    }
}

fn bare_md5(text: &[u8]) {
    black_box(Md5::digest(black_box(text)));
}

fn bare_sha1(text: &[u8]) {
    black_box(Sha1::digest(black_box(text)));
}

fn taku_text(transaction: &str) -> String {
    format!(
        "trans_id={transaction}&placement_id=b1e2f3a4b5c6d7&adsource_id=90001&reward_amount=10\
         &reward_name=coin&sec_key={TAKU_SECRET}"
    )
}

/// MD5 over a fixed text of about 180 bytes.
fn fixed_text() -> Case {
    let transaction = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789";
    let signed = taku_text(transaction);
    let sign = const_hex::encode(Md5::digest(&signed));
    let target = format!(
        "/callback/level-end?user_id=player-7&trans_id={transaction}&placement_id=b1e2f3a4b5c6d7\
         &adsource_id=90001&reward_amount=10&reward_name=coin&network_firm_id=66&sign={sign}"
    );
    case("fixed text, md5", recipe("taku", TAKU_SECRET), target, signed, bare_md5)
}

/// MD5 over sorted parameters of about 180 bytes.
fn sorted_parameters() -> Case {
    let secret = "uIVtlG06";
    let signed = format!(
        "appSecret{secret}callback_paramscallbackparams-0123456789-0123infotestinfo\
         sid5fe4428376051f85cc5f3973timestamp1609408137uidtestuser-0123456789\
         uid_sourcetestsourceuser_typeweak_third_party"
    );
    let sign = const_hex::encode(Md5::digest(&signed));
    let target = format!(
        "/callback/survey?sid=5fe4428376051f85cc5f3973&timestamp=1609408137\
         &uid=testuser-0123456789&user_type=weak_third_party&uid_source=testsource\
         &callback_params=callbackparams-0123456789-0123&info=testinfo&effective=true&aid=a1\
         &sign={sign}"
    );
    case("sorted parameters, md5", recipe("imur-http", secret), target, signed, bare_md5)
}

/// SHA-1 over three sorted values.
fn sorted_values() -> Case {
    let target = "/callback/push?signature=be4d53cdd56d183a856b22073582ac8e79219493\
        &timestamp=1700000000&nonce=12345&echostr=4375120948345356249"
        .to_owned();
    let signed = "123451700000000gatewaytoken".to_owned();
    case("sorted values, sha1", recipe("wechat-push", "gatewaytoken"), target, signed, bare_sha1)
}

/// HMAC-SHA256 over all received parameters, sorted.
fn gathered_parameters() -> Case {
    let secret = "api-key";
    let signed = "amount=10&is_chargeback=0&item=gold&transaction_id=t-1&user=u1".to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let claim = const_hex::encode(mac.finalize().into_bytes());
    let target =
        "/callback/wall?user=u1&transaction_id=t-1&amount=10&item=gold&is_chargeback=0".to_owned();
    let mut case = case("all parameters, hmac", recipe("ayet", secret), target, signed, bare_hmac);
    let name = HeaderName::from_static("x-ayetstudios-security-hash");
    case.headers.insert(name, HeaderValue::from_str(&claim).unwrap());
    case
}

thread_local! {
    static KEYED: Hmac<Sha256> = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
}

fn bare_hmac(text: &[u8]) {
    let mut mac = KEYED.with(Clone::clone);
    mac.update(black_box(text));
    black_box(mac.finalize().into_bytes());
}

/// HMAC-SHA256 over the whole URL without the signature.
fn whole_url() -> Case {
    let (base, secret) = ("https://callbacks.example.com", "adgem-postback-key");
    let target = "/callback/wall?player_id=player-7&transaction_id=c1d2e3f4a5b6c7d8e9f0&amount=250\
        &offer_id=7&request_id=r-1&timestamp=1700000000";
    let signed = format!("{base}{target}");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let claim = const_hex::encode(mac.finalize().into_bytes());
    let target = format!("{target}&verifier={claim}");
    let mut case = case("whole URL, hmac", recipe("adgem", secret), target, signed, bare_hmac);
    case.base = base;
    case
}

/// The secret itself, as a parameter: its bare work is the digest of both sides.
fn bare_secret() -> Case {
    let secret = "heyzap-secret-key";
    let recipe = recipe("heyzap", secret);
    let mut case =
        case("bare secret", recipe, "/callback/video".to_owned(), secret.to_owned(), bare_equal);
    case.method = Method::POST;
    case.headers.insert(
        HeaderName::from_static("content-type"),
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    case.body = format!("tracking_id=r-1&device_id=player-7&secret_key={secret}").into_bytes();
    case
}

fn bare_equal(text: &[u8]) {
    black_box((Sha256::digest(black_box(text)), Sha256::digest(black_box(text))));
}

/// The case as a POST of `body` with `headers`.
fn posted(mut case: Case, body: String, headers: [(&'static str, String); 3]) -> Case {
    case.method = Method::POST;
    case.body = body.into_bytes();
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        case.headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    case
}

/// HMAC-SHA256 over a body of 1 kB.
fn body_hmac() -> Case {
    let secret = "It's a Secret to Everybody";
    let body = format!("{{\"action\":\"opened\",\"data\":\"{}\"}}", "x".repeat(960));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let claim = const_hex::encode(mac.finalize().into_bytes());
    let target = "/callback/hook".to_owned();
    let case = case("body, hmac", recipe("github", secret), target, body.clone(), bare_hmac);
    let headers = [
        ("x-github-event", "issues".to_owned()),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958".to_owned()),
        ("x-hub-signature-256", format!("sha256={claim}")),
    ];
    posted(case, body, headers)
}

/// HMAC-SHA256 over an id, a time and a body of 1 kB, one of a list of signatures.
fn webhook_hmac() -> Case {
    let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3";
    let body = format!("{{\"type\":\"reward.granted\",\"data\":\"{}\"}}", "x".repeat(960));
    let signed = format!("msg_1.1700000000.{body}");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"0123456789abcdef01234567").unwrap();
    mac.update(signed.as_bytes());
    let claim = STANDARD.encode(mac.finalize().into_bytes());
    let recipe = recipe("standard-webhooks", secret);
    let case =
        case("id, time and body, hmac", recipe, "/callback/hook".to_owned(), signed, bare_hmac);
    let headers = [
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", "1700000000".to_owned()),
        ("webhook-signature", format!("v1,{claim}")),
    ];
    posted(case, body, headers)
}

/// SHA-256 of the SHA-256 of a plain text.
fn plain_text() -> Case {
    let (secret, transaction) = ("0123456789abcdefghijklmnopqrstuv", "c1d2e3f4a5b6c7d8e9f0");
    let signed = format!("{secret}:{transaction}");
    let digest = const_hex::encode(Sha256::digest(Sha256::digest(&signed)));
    let target = format!("/callback/video?user=player-7&txid={transaction}&digest={digest}");
    case("plain text, sha256 twice", recipe("vungle", secret), target, signed, bare_sha256_twice)
}

fn bare_sha256_twice(text: &[u8]) {
    black_box(Sha256::digest(Sha256::digest(black_box(text))));
}

const AES_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
const SEALED: &str = "j6vsOpBNQ16EYTy8Pn5HPboD3HE7tAdL4GRfHPwTB7+CBwpIwhTPtyAyOQyi09x7AS1Cn77m\
    FYpmq//GvZTuttjRTtoyoQGqdR7PCTQ6AxpJ+qLVuszzhifD6PrVsar4";

/// A message sealed with AES-256-CBC, its cipher text under SHA-1.
fn sealed_message() -> Case {
    let settings = [("aes_key", AES_KEY), ("app_id", "wx0000000000000001")];
    let settings = settings.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let recipe = recipe_with("wechat-push", "gatewaytoken", settings.into());
    let mut parts = ["gatewaytoken", "1700000001", "12341", SEALED];
    parts.sort_unstable();
    let target = "/callback/push?timestamp=1700000001&nonce=12341&encrypt_type=aes\
        &msg_signature=c8d8f7dc96403a920e4d6b23ea8c797f6f7367fc"
        .to_owned();
    let mut case = case("sealed message, aes", recipe, target, parts.concat(), bare_sealed);
    case.method = Method::POST;
    case.body = format!("{{\"ToUserName\":\"gh_1\",\"Encrypt\":\"{SEALED}\"}}").into_bytes();
    case
}

fn bare_sealed(text: &[u8]) {
    bare_sha1(text);
    let key: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
    let iv: [u8; 16] = *b"0123456789abcdef";
    let sealed = STANDARD.decode(black_box(SEALED)).unwrap();
    let open = cbc::Decryptor::<Aes256>::new((&black_box(key)).into(), (&iv).into());
    black_box(open.decrypt_padded_vec::<NoPadding>(&sealed).unwrap());
}

const ADMOB_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+nzvoGqvDeB9+SzE6igTl7TyK4JBbglwir9oTcQta8Nu\
    G26ZpZFxt+F2NDk7asTE6/2Yc8i1ATcGIqtuS5hv0Q==";
const ADMOB_SIGNATURE: &str = "MEUCIQDXN3qOshww7SsZIlNUJc5yX3VCtDol3XW0E8K3n5lDEAIgVXsy0GstN-AEU-7g38p2SYMnO\
    6iKb-vf65L9JqaTBv0";

/// ECDSA on P-256 over a query of about 200 bytes, a published capture.
fn query_ecdsa() -> Case {
    let signed = "ad_network=5450213213286189855&ad_unit=1809337431&custom_data=holiiis\
        &reward_amount=1&reward_item=Reward&timestamp=1588193918052\
        &transaction_id=1b996a03fb990f1d28d631ae69575520&user_id=1712485313"
        .to_owned();
    let target = format!("/callback/ads?{signed}&signature={ADMOB_SIGNATURE}&key_id=3335741209");
    let recipe = recipe_of("admob", &[("3335741209", ADMOB_KEY)]);
    case("query, ecdsa_p256", recipe, target, signed, bare_ecdsa)
}

fn bare_ecdsa(text: &[u8]) {
    static BARE: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
        let key = STANDARD.decode(ADMOB_KEY).unwrap();
        (key[26..].to_vec(), URL_SAFE_NO_PAD.decode(ADMOB_SIGNATURE).unwrap())
    });
    bare_public(&signature::ECDSA_P256_SHA256_ASN1, &BARE, text);
}

fn bare_public(
    scheme: &'static dyn signature::VerificationAlgorithm,
    (key, claim): &(Vec<u8>, Vec<u8>),
    text: &[u8],
) {
    let key = signature::UnparsedPublicKey::new(scheme, key);
    key.verify(black_box(text), claim).unwrap();
}

const HUAWEI_TEXT: &str = "adId=ad1&rewardAmount=5&rewardName=coin&uniqueId=ab12&userId=u1";

/// An RSA key pair, and the hex text of a digest that it signs.
static RSA: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let pk8 = include_bytes!("../../fixtures/keys/test-rsa-2048.pk8");
    let pair = signature::RsaKeyPair::from_pkcs8(pk8).unwrap();
    let mut claim = vec![0; pair.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    let hex = const_hex::encode(Sha256::digest(HUAWEI_TEXT));
    pair.sign(&signature::RSA_PSS_SHA256, &random, hex.as_bytes(), &mut claim).unwrap();
    (pair.public().as_ref().to_vec(), claim)
});

/// RSA-PSS with 2048 bits over the hex of a digest, in a JSON body.
fn body_rsa() -> Case {
    const HEAD: &str = "30820122300d06092a864886f70d01010105000382010f00";
    let spki = [&const_hex::decode(HEAD).unwrap()[..], &RSA.0].concat();
    let recipe = recipe_of("huawei", &[("k1", &STANDARD.encode(spki))]);
    let target = "/callback/ads".to_owned();
    let mut case = case("digest of pairs, rsa_pss", recipe, target, HUAWEI_TEXT.into(), bare_rsa);
    case.method = Method::POST;
    case.body = format!(
        "{{\"adId\":\"ad1\",\"data\":\"\",\"keyId\":\"k1\",\"rewardAmount\":\"5\",\
         \"rewardName\":\"coin\",\"uniqueId\":\"ab12\",\"userId\":\"u1\",\"newSign\":\"{}\"}}",
        STANDARD.encode(&RSA.1)
    )
    .into_bytes();
    case
}

fn bare_rsa(text: &[u8]) {
    let hex = const_hex::encode(Sha256::digest(black_box(text)));
    bare_public(&signature::RSA_PSS_2048_8192_SHA256, &RSA, hex.as_bytes());
}

const WHPK: &str = "I7xUkSwebpLEqGglyGfif/3FVb/71CRPF6Jqv//ull0=";
const WHPK_SIGNATURE: &str =
    "vMIIUuGqIT05DHKMF2T1Yv2ghKFtgxxfgmQff71NsDq6XJY0Dg+8tBMegwZcOEszZ41AH3V+xPNbyrQVdSX/DA==";

/// Ed25519 over a short body.
fn body_ed25519() -> Case {
    let recipe = recipe("standard-webhooks", &format!("whpk_{WHPK}"));
    let signed = "msg_2.1700000000.{}".to_owned();
    let mut case = case("body, ed25519", recipe, "/callback/hook".into(), signed, bare_ed25519);
    case.method = Method::POST;
    case.body = b"{}".to_vec();
    for (name, value) in [
        ("webhook-id", "msg_2".to_owned()),
        ("webhook-timestamp", "1700000000".to_owned()),
        ("webhook-signature", format!("v1a,{WHPK_SIGNATURE}")),
    ] {
        let name = HeaderName::from_static(name);
        case.headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    case
}

fn bare_ed25519(text: &[u8]) {
    static BARE: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
        (STANDARD.decode(WHPK).unwrap(), STANDARD.decode(WHPK_SIGNATURE).unwrap())
    });
    bare_public(&signature::ED25519, &BARE, text);
}

/// A source of a sender that signs with a private key.
fn recipe_of(sender: &str, keys: &[(&str, &str)]) -> Recipe {
    let catalog = Catalog::embedded().unwrap();
    let keys = keys.iter().map(|(id, key)| ((*id).to_owned(), (*key).to_owned())).collect();
    let terms = Terms { keys, ..Terms::default() };
    Recipe::compile(catalog.get(sender).unwrap(), &terms).unwrap()
}

fn case(
    name: &'static str,
    recipe: Recipe,
    target: String,
    signed: String,
    bare: fn(&[u8]),
) -> Case {
    let signed = signed.into_bytes();
    let (method, headers, body) = (Method::GET, HeaderMap::new(), Vec::new());
    Case { name, recipe, method, target, base: "", headers, body, signed, bare }
}

/// One case of each kind.
pub fn cases() -> Vec<Case> {
    vec![
        fixed_text(),
        plain_text(),
        sorted_parameters(),
        sorted_values(),
        gathered_parameters(),
        whole_url(),
        bare_secret(),
        body_hmac(),
        webhook_hmac(),
        sealed_message(),
        query_ecdsa(),
        body_rsa(),
        body_ed25519(),
    ]
}
