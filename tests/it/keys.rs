//! Senders that sign with private keys, and the servers that publish the public ones.

use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA256, RsaKeyPair,
};
use sha2::{Digest as _, Sha256};

use super::backend::{Backend, Say, status};
use super::deliver_tls;
use super::gateway::{Gateway, await_lines, eventually};
use super::wire::{get, post};

/// A key pair of Google's kind, under an id.
pub struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    pub fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap() }
    }

    fn spki(&self) -> String {
        const HEAD: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
        let head = const_hex::decode(HEAD).unwrap();
        STANDARD.encode([&head, self.pair.public_key().as_ref()].concat())
    }

    /// A callback of AdMob for `transaction`, signed with this key.
    pub fn admob(&self, transaction: &str) -> String {
        let query = format!(
            "ad_network=1&ad_unit=2&reward_amount=10&reward_item=coin&timestamp=1700000000000\
             &transaction_id={transaction}&user_id=u1"
        );
        self.signed(&query)
    }

    fn signed(&self, query: &str) -> String {
        let text = query.replace("%20", " ").replace("%26", "&").replace("%3D", "=");
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        let signature = URL_SAFE_NO_PAD.encode(signature);
        format!("/callback/ads?{query}&signature={signature}&key_id={}", self.id)
    }
}

/// A list as Google publishes it.
pub fn list(keys: &[&Key]) -> Say {
    let entries: Vec<_> = keys
        .iter()
        .map(|key| {
            let id: u64 = key.id.parse().unwrap();
            serde_json::json!({ "keyId": id, "pem": "-", "base64": key.spki() })
        })
        .collect();
    let body = serde_json::json!({ "keys": entries }).to_string();
    Say::Status(200, "Cache-Control: public, max-age=86400\r\n", body)
}

pub fn text(server: &Backend) -> String {
    format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"5s\"\n\n\
         [[source]]\nname = \"ads\"\nsender = \"admob\"\nkey_set_url = \"http://{}/keys.json\"\n",
        server.at
    )
}

/// A gateway that has the list of `server`.
fn gateway(server: &Backend) -> Gateway {
    let gateway = Gateway::start(&text(server));
    let probe = Key::new("999").admob("probe");
    // Until the list is fetched, no callback can be judged.
    eventually("the list is there", || get(gateway.at.callbacks, &probe).status == 403);
    gateway
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"ads\"}}"))
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric(&format!("postern_rejections_total{{reason=\"{reason}\",source=\"ads\"}}"))
}

#[test]
fn a_published_key_verifies_and_nothing_else_does() {
    let key = Key::new("3335741209");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = gateway(&server);
    let to = gateway.at.callbacks;
    let original = key.admob("t1");
    for _ in 0..2 {
        assert_eq!(get(to, &original).status, 200);
    }
    assert_eq!(outcomes(&gateway, "accepted"), 1.0);
    assert_eq!(outcomes(&gateway, "duplicate"), 1.0);
    // Escapes are decoded before they are signed.
    assert_eq!(get(to, &key.signed("custom_data=a%20b&transaction_id=t2")).status, 200);
    // The console's button.
    assert_eq!(get(to, &key.signed("transaction_id=123456789")).status, 200);
    assert_eq!(outcomes(&gateway, "test"), 1.0);

    let forger = Key { id: "3335741209", ..Key::new("1") };
    for (forged, reason) in [
        (forger.admob("t3"), "bad_signature"),
        (original.replace("reward_amount=10", "reward_amount=99"), "bad_signature"),
        (original.replace("user_id=u1", "user_id=u2"), "bad_signature"),
        (original.replace("user_id=u1&", ""), "bad_signature"),
        (original.replace("ad_network=1&ad_unit=2", "ad_unit=2&ad_network=1"), "bad_signature"),
        (format!("{original}&user_id=u2"), "repeated_parameter"),
        (format!("{original}&reward=99"), "unsigned_parameter"),
        (key.signed("transaction_id=t4") + "&user_id=victim", "unsigned_parameter"),
        (original.replace("&key_id=3335741209", ""), "missing_parameter"),
        (original.replace("signature=", "sig="), "missing_parameter"),
        (original.replace("signature=", "signature=AAAA"), "bad_signature"),
        (original.replace("key_id=3335741209", "key_id=3335741210"), "unknown_key"),
        (original.replace("key_id=3335741209", "key_id="), "missing_parameter"),
        (original.replace("key_id=3335741209", "key_id=03335741209"), "unknown_key"),
    ] {
        let before = refused(&gateway, reason);
        assert_eq!(get(to, &forged).status, 403, "{forged}");
        assert_eq!(refused(&gateway, reason), before + 1.0, "{reason}: {forged}");
    }
    assert_eq!(outcomes(&gateway, "accepted"), 2.0);
}

/// 1. A player has an app pass `&reward_amount=1000&…` in its custom data, which Google signs.
/// 2. The player sends the callback again, with that text as parameters of their own: decoded, it
///    is the same text.
/// 3. Nothing tells which one Google sent, so both are held. Without the names that Google always
///    sends, the text has one reading, and nothing else becomes an event.
#[test]
fn a_value_does_not_become_a_parameter() {
    let key = Key::new("7");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = gateway(&server);
    let to = gateway.at.callbacks;
    let rest = "reward_amount=1&reward_item=coin&timestamp=1&transaction_id=00a1&user_id=u1";
    let hidden =
        "reward_amount%3D1000%26reward_item%3Dcoin%26timestamp%3D1%26transaction_id%3D00ff";
    let head = "ad_network=1&ad_unit=2&custom_data=a";
    let signed = key.signed(&format!("{head}%26{hidden}%26x%3D&{rest}"));
    let cut = rest.replace('&', "%26").replace('=', "%3D");
    let plain = hidden.replace("%26", "&").replace("%3D", "=");
    let recut =
        signed.replace(&format!("%26{hidden}%26x%3D&{rest}"), &format!("&{plain}&x=%26{cut}"));
    assert_ne!(recut, signed);
    for one in [&signed, &recut, &signed, &recut] {
        assert_eq!(get(to, one).status, 200, "held is durable: Google need not send it again");
    }
    assert_eq!(outcomes(&gateway, "accepted"), 0.0);
    assert_eq!(gateway.metric("postern_held_callbacks{source=\"ads\"}"), 2.0);
    // Without a name that Google always sends, the second reading is not possible: the first one
    // counts.
    let lacking = hidden.replace("timestamp%3D1%26", "").replace("00ff", "00fe");
    let rest = rest.replace("00a1", "00a2");
    let signed = key.signed(&format!("{head}%26{lacking}%26x%3D&{rest}"));
    assert_eq!(get(to, &signed).status, 200);
    assert_eq!(outcomes(&gateway, "accepted"), 1.0);
    let cut = rest.replace('&', "%26").replace('=', "%3D");
    let plain = lacking.replace("%26", "&").replace("%3D", "=");
    let recut =
        signed.replace(&format!("%26{lacking}%26x%3D&{rest}"), &format!("&{plain}&x=%26{cut}"));
    assert_ne!(recut, signed);
    assert_eq!(get(to, &recut).status, 200);
    assert_eq!(outcomes(&gateway, "accepted"), 1.0);
    // A parameter hidden in the value before it, or in its own name.
    for (hidden, status) in [
        (signed.replace("coin&timestamp=", "coin%26timestamp%3D"), 200),
        (signed.replace("timestamp=", "timestamp%3D"), 403),
        (signed.replace("&user_id=u1", "&user_id%3Du1"), 403),
        (signed.replace("reward_amount=1&", "reward_amount=1%00&"), 403),
    ] {
        let before = refused(&gateway, "bad_encoding");
        assert_eq!(get(to, &hidden).status, status, "{hidden}");
        let more = f64::from(u8::from(status == 403));
        assert_eq!(refused(&gateway, "bad_encoding"), before + more, "{hidden}");
        assert_eq!(outcomes(&gateway, "accepted"), 1.0, "{hidden}");
    }
    // A name that came once only: the signature is right, so it is the same event at most.
    let signed = key.signed("custom_data=a%26user_id%3Du9&transaction_id=00a5");
    let recut = signed.replace("a%26user_id%3Du9", "a&user_id=u9");
    assert_eq!(get(to, &signed).status, 200);
    assert_eq!(get(to, &recut).status, 200);
    assert_eq!(outcomes(&gateway, "accepted"), 2.0);
}

#[test]
fn a_valid_callback_of_another_publisher_is_refused_where_the_source_says_what_is_its_own() {
    let key = Key::new("1");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = Gateway::start(&(text(&server) + "ad_units = \"2, 3\"\n"));
    let to = gateway.at.callbacks;
    eventually("the list is there", || get(to, &key.admob("p1")).status == 200);
    let theirs = |unit: &str| key.signed(&format!("{unit}&transaction_id=p2&user_id=u1"));
    for unit in ["ad_unit=4", "ad_unit=", "ad_unit=2%203", "ad_unit=%2C", "x=2"] {
        assert_eq!(get(to, &theirs(unit)).status, 403, "{unit}");
    }
    assert_eq!(refused(&gateway, "not_ours"), 5.0);
    assert_eq!(get(to, &theirs("ad_unit=3")).status, 200);
}

#[test]
fn a_new_key_is_fetched_while_its_first_callback_waits() {
    let (old, new) = (Key::new("1"), Key::new("2"));
    let server = Backend::start();
    server.says(list(&[&old]));
    let gateway = gateway(&server);
    let before = server.got().len();
    server.says(list(&[&old, &new]));
    assert_eq!(get(gateway.at.callbacks, &new.admob("n1")).status, 200);
    assert_eq!(get(gateway.at.callbacks, &old.admob("n2")).status, 200);
    assert_eq!(server.got().len(), before + 1);
}

#[test]
fn without_a_list_a_callback_is_not_refused_but_unavailable() {
    let key = Key::new("1");
    let server = Backend::start();
    server.says(status(500));
    let gateway = Gateway::start(&text(&server));
    let line = await_lines("callbacks are unavailable", 1).concat();
    assert!(line.contains("127.0.0.1"), "{line}");
    assert_eq!(get(gateway.at.callbacks, &key.admob("w1")).status, 503);
    assert_eq!(outcomes(&gateway, "unavailable"), 1.0);
    assert_eq!(outcomes(&gateway, "rejected"), 0.0);
    // A callback that is wrong in itself is rejected all the same.
    let torn = key.admob("w2").replace("signature=", "sig=");
    assert_eq!(get(gateway.at.callbacks, &torn).status, 403);
    assert_eq!(get(gateway.at.admin, "/readyz").status, 200);
    server.says(list(&[&key]));
    eventually("the list is there", || get(gateway.at.callbacks, &key.admob("w1")).status == 200);
}

#[test]
fn an_answer_that_is_no_list_is_not_taken() {
    let key = Key::new("1");
    let elsewhere = Backend::start();
    elsewhere.says(list(&[&key]));
    let away: &'static str =
        Box::leak(format!("Location: http://{}/keys.json\r\n", elsewhere.at).into_boxed_str());
    let many: Vec<_> = (0..65).map(|n| format!("{{\"keyId\":{n},\"base64\":\"AA==\"}}")).collect();
    let twice = [("1", &key), ("1", &Key::new("2"))]
        .map(|(id, key)| format!("{{\"keyId\":{id},\"base64\":\"{}\"}}", key.spki()));
    let ok = |body: String| Say::Status(200, "", body);
    for (say, why) in [
        (ok("rubbish".into()), "not JSON"),
        (ok("[]".into()), "not JSON"),
        (ok("{\"keys\":{}}".into()), "not JSON"),
        (ok("[".repeat(100_000)), "not JSON"),
        (ok(format!("{{\"keys\":[{}]}}", many.join(","))), "more than 64 keys"),
        (ok(format!("{{\"keys\":[{}]}}", twice.join(","))), "two keys under one id"),
        (ok("{\"keys\":[]}".into()), "no key that can be used"),
        (ok("{\"keys\":[{\"keyId\":1,\"base64\":\"AAAA\"},7]}".into()), "no key that can be used"),
        (ok(" ".repeat(300 * 1024)), "over 256 KiB"),
        (Say::Status(302, away, String::new()), "302 Found"),
        (status(404), "404 Not Found"),
        (Say::Bytes(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{}"), "truncated"),
        (Say::Bytes(b"\x16\x03\x01rubbish"), "client error"),
        (Say::Nothing, "client error"),
    ] {
        let server = Backend::start();
        server.says(say);
        let gateway = Gateway::start(&text(&server));
        let port = format!(":{}\"", server.at.port());
        let line = || {
            await_lines("could not fetch public keys", 1)
                .into_iter()
                .find(|line| line.contains(&port))
        };
        eventually("it is reported", || line().is_some());
        let line = line().unwrap();
        assert!(line.contains(why), "{why}: {line}");
        assert_eq!(get(gateway.at.callbacks, &key.admob("x1")).status, 503, "{why}");
    }
    assert!(elsewhere.got().is_empty(), "a redirect is not followed");
}

#[test]
fn a_server_that_fails_later_leaves_the_keys_in_force() {
    let key = Key::new("1");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = gateway(&server);
    for say in [status(500), Say::Status(200, "", "{}".into())] {
        let before = server.got().len();
        server.says(say);
        // An unknown key has the list fetched, which fails.
        assert_eq!(get(gateway.at.callbacks, &Key::new("55").admob("s1")).status, 403);
        server.await_count(before + 1);
    }
    assert_eq!(get(gateway.at.callbacks, &key.admob("s2")).status, 200);
    assert!(gateway.metric("postern_key_set_age_seconds{sender=\"admob\"}") >= 0.0);
}

#[test]
fn made_up_keys_cause_few_fetches_and_hold_nobody_up() {
    let key = Key::new("1");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = gateway(&server);
    let began = postern::clock::instant();
    // From now on the server takes a request and never answers.
    server.says(Say::Late(std::time::Duration::from_secs(600)));
    let to = gateway.at.callbacks;
    let forged = key.admob("f1");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..80 {
            let (forged, stop) = (&forged, &stop);
            scope.spawn(move || {
                for n in 0..5 {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("key_id={worker}{n}0");
                    let forged = forged.replace("key_id=1", &id);
                    assert_eq!(get(to, &forged).status, 403);
                }
            });
        }
        for n in 0..50 {
            assert_eq!(get(to, &key.admob(&format!("g{n}"))).status, 200);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(outcomes(&gateway, "accepted"), 50.0);
    let fetches = server.got().len();
    // One fetch at the start, one for the probe, and the rest of three; three more in thirty seconds.
    let slow = usize::try_from(began.elapsed().as_secs() / 30).unwrap();
    assert!(fetches <= 4 + 3 * slow, "{fetches} fetches");
}

#[test]
fn a_new_configuration_keeps_the_keys_that_are_there() {
    let key = Key::new("1");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = gateway(&server);
    let before = server.got().len();
    server.says(status(500));
    // Two sources without ad units of their own take each other's callbacks, and say so.
    let first = text(&server) + "replayable = true\n";
    let more = first.clone() + "template = \"x={ad_unit}\"\n";
    let second = first.split("[[source]]").nth(1).unwrap().replace("\"ads\"", "\"more\"");
    gateway.reload(&format!("{more}\n[[source]]{second}"));
    let other = key.admob("r1").replace("/callback/ads", "/callback/more");
    eventually("the new source is there", || get(gateway.at.callbacks, &other).status == 200);
    assert_eq!(get(gateway.at.callbacks, &key.admob("r2")).status, 200);
    assert_eq!(server.got().len(), before, "nothing was fetched again");
    // Without a source that needs it there is neither a list nor an age of one.
    gateway.reload(super::gateway::PLAIN);
    eventually("the age is gone", || {
        !get(gateway.at.admin, "/metrics").body.contains("postern_key_set_age_seconds{")
    });
}

#[test]
fn nothing_is_fetched_for_a_source_that_is_off() {
    let server = Backend::start();
    let gateway = Gateway::start(&(text(&server) + "enabled = false\n"));
    assert_eq!(get(gateway.at.callbacks, &Key::new("1").admob("o1")).status, 403);
    assert!(!get(gateway.at.admin, "/metrics").body.contains("postern_key_set_age_seconds{"));
    assert!(server.got().is_empty());
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let tls = deliver_tls::authority(folder.path());
    let (at, _versions) = deliver_tls::backend(tls, &[b"http/1.1"]);
    let server = Backend::start();
    let url = format!("https://localhost:{}/", at.port());
    let text = text(&server).replace(&format!("http://{}/keys.json", server.at), &url);
    let gateway = Gateway::start(&text);
    let named = format!("localhost:{}", at.port());
    eventually("it is reported", || {
        let lines = await_lines("UnknownIssuer", 1);
        lines.iter().any(|line| line.contains(&named) && line.contains("admob"))
    });
    assert_eq!(get(gateway.at.callbacks, &Key::new("1").admob("v1")).status, 503);
}

// === Huawei: a list that is shown to a caller who proves its identity ===

fn rsa() -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(include_bytes!("../../fixtures/keys/test-rsa-2048.pk8")).unwrap()
}

/// The list as Huawei publishes it: PEM, in base64.
fn huawei_list() -> Say {
    let vector = include_str!("../../src/sender/catalog/huawei.toml");
    let about = vector.split("the older sign alone").nth(1).unwrap();
    let key = about.split("k1 = \"").nth(1).unwrap().split('"').next().unwrap();
    let body = serde_json::json!({ "keys": [{ "keyId": "k1", "publicKey": key }] }).to_string();
    Say::Status(200, "", body)
}

fn huawei(unique: &str) -> String {
    let text = format!("adId=ad1&rewardAmount=5&rewardName=coin&uniqueId={unique}&userId=u1");
    let message = const_hex::encode(Sha256::digest(text));
    let pair = rsa();
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    serde_json::json!({
        "adId": "ad1", "data": "", "keyId": "k1", "rewardAmount": "5", "rewardName": "coin",
        "uniqueId": unique, "userId": "u1", "newSign": STANDARD.encode(signature),
    })
    .to_string()
}

#[test]
fn a_list_is_asked_for_with_a_signature_of_the_developers() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    // The first secret is not the developer's any more.
    let server = Backend::saying([status(401)]);
    server.says(huawei_list());
    let gateway = Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"5s\"\n\
         [[source]]\nname = \"ads\"\nsender = \"huawei\"\ndeveloper_id = \"dev-1\"\n\
         secrets = [\"b2xkIGtleQ==\", \"bmV3IGtleQ==\"]\nkey_set_url = \"http://{}/publickeys\"\n",
        server.at
    ));
    let to = gateway.at.callbacks;
    eventually("the list is there", || post(to, "/callback/ads", &huawei("h1")).status == 200);
    let forged = huawei("h2").replace("\"rewardAmount\":\"5\"", "\"rewardAmount\":\"50\"");
    assert_eq!(post(to, "/callback/ads", &forged).status, 403);
    assert_eq!(refused(&gateway, "bad_signature"), 1.0);

    let got = server.await_count(2);
    for (got, key) in got.iter().zip(["old key", "new key"]) {
        assert_eq!(got.line, "GET /publickeys HTTP/1.1");
        assert_eq!(got.header("userid"), "dev-1");
        let said = got.header("authorization");
        let time = said.strip_prefix("Digest validTime=\"").unwrap().split('"').next().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{time}:/publickeys").as_bytes());
        let response = const_hex::encode(mac.finalize().into_bytes());
        assert_eq!(said, format!("Digest validTime=\"{time}\", response=\"{response}\""));
        assert!(!super::gateway::logged().contains(&response), "the response is not logged");
    }
}

// === explain ===

fn explained(gateway: &Gateway, url: &str) -> serde_json::Value {
    let asked = serde_json::json!({ "source": "ads", "url": url }).to_string();
    let answer = post(gateway.at.admin, "/admin/v1/explain", &asked);
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[test]
fn a_callback_is_explained_with_the_keys_that_are_there() {
    let key = Key::new("1");
    let server = Backend::start();
    server.says(list(&[&key]));
    let gateway = gateway(&server);
    let original = key.admob("e1");
    let right = explained(&gateway, &original);
    assert_eq!(right["verdict"], "verified");
    let text = right["signed_text"].as_str().unwrap();
    assert!(text.starts_with("ad_network=1&") && text.ends_with("&user_id=u1"), "{text}");
    for (url, reason, kind, parameter) in [
        (original.replace("reward_amount=10", "reward_amount=11"), "bad_signature", "unknown", ""),
        (
            original.replace("ad_network=1&ad_unit=2", "ad_unit=2&ad_network=1"),
            "bad_signature",
            "order",
            "",
        ),
        (original.replace("/ads?", "/ads?utm=7&"), "bad_signature", "parameter_not_signed", "utm"),
        (
            key.signed("custom_data=a%20b&transaction_id=t").replace("%20", "+"),
            "bad_signature",
            "plus_as_blank",
            "custom_data",
        ),
    ] {
        let told = explained(&gateway, &url);
        assert_eq!(told["verdict"], "rejected", "{url}");
        assert_eq!(told["reason"], reason, "{told}");
        assert_eq!(told["mistake"]["kind"], kind, "{told}");
        assert_eq!(told["mistake"]["parameter"].as_str().unwrap_or_default(), parameter, "{told}");
    }
    let unknown = explained(&gateway, &original.replace("key_id=1", "key_id=2"));
    assert_eq!(unknown["reason"], "unknown_key");
    assert_eq!(unknown["parameter"], "key_id");
}
