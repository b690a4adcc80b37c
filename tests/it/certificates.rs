//! Senders whose callbacks name the certificate that signs them, and the confirmation of a subscription.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use super::backend::{Backend, Say, body, status};
use super::gateway::{Gateway, await_lines, eventually};
use super::wire::{Answer, get, send};

/// A sender like Amazon's SNS, with ECDSA.
const SENDER: &str = r#"
title  = "A sender with certificates"
secret = "optional: a certificate to pin"
method = "POST"
reads  = "json"

[roles]
effect      = "none"
transaction = "{id}"

[shapes]
id  = "word"
url = "token?"

[certificate]
url     = "{cert}"
hosts   = ["keys.*.example.com"]
path    = "*.pem"
chain   = "host"
subject = ".example.com"

[signature]
of   = "id={id}(&url={url})?"
with = "ecdsa_p256"
key  = "[public_key]"
in   = "{sign}"
as   = "base64"

[confirm]
when  = "{url}"
url   = "{url}"
hosts = ["confirm.example.com"]
path  = "/?Action=Confirm&"

[reply]
accepted    = 200
rejected    = 403
unavailable = 503

[[vector]]
about   = "own"
keys    = { "https://keys.eu-1.example.com/a.pem" = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+nzvoGqvDeB9+SzE6igTl7TyK4JBbglwir9oTcQta8NuG26ZpZFxt+F2NDk7asTE6/2Yc8i1ATcGIqtuS5hv0Q==" }
request = """
POST /
Content-Type: application/json

{"id":"1","cert":"https://keys.eu-1.example.com/a.pem","sign":"AAAA"}"""
expect  = { reason = "bad_signature" }

[[vector]]
about   = "own"
source  = { secrets = "SPKI" }
request = """
POST /
Content-Type: application/json

{"id":"1","cert":"https://keys.eu-1.example.com/a.pem","sign":"SIGN"}"""
expect  = { outcome = "accepted" }
"#;

/// A certificate with its key.
struct Certificate {
    pem: String,
    pair: EcdsaKeyPair,
    spki: String,
}

impl Certificate {
    fn new(name: &str, until: i32) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).unwrap();
        let spki = key.public_key_pem();
        let spki = spki.lines().filter(|line| !line.starts_with('-')).collect();
        Self { pem, pair, spki }
    }

    fn good() -> Self {
        Self::new("signer.example.com", 2100)
    }

    fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap())
    }

    /// A callback `id` that names the certificate at `url`.
    fn callback(&self, id: &str, url: &str) -> String {
        let sign = self.sign(&format!("id={id}"));
        serde_json::json!({ "id": id, "cert": url, "sign": sign }).to_string()
    }
}

struct World {
    gateway: Gateway,
    _folder: tempfile::TempDir,
}

impl World {
    /// A source `certs` whose certificates come from `server`, a mirror.
    fn new(server: &Backend, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("certs.toml");
        let own = Certificate::good();
        let text = SENDER.replace("SPKI", &own.spki).replace("SIGN", &own.sign("id=1"));
        std::fs::write(&file, text).unwrap();
        let gateway = Gateway::start(&format!(
            "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"5s\"\n\
             trusted_proxies = [\"127.0.0.1\"]\n\
             [[source]]\nname = \"certs\"\nsender = \"custom\"\nrecipe = {:?}\n\
             key_set_url = \"http://{}/mirror\"\n{more}\n",
            file.display().to_string(),
            server.at
        ));
        Self { gateway, _folder: folder }
    }

    fn send(&self, callback: &str) -> Answer {
        let json = [("Content-Type", "application/json")];
        send(self.gateway.at.callbacks, "POST /callback/certs", &json, callback)
    }

    /// Sends a callback of the client `address`, through a proxy.
    fn send_from(&self, address: &str, callback: &str) -> Answer {
        let headers = [("Content-Type", "application/json"), ("X-Forwarded-For", address)];
        send(self.gateway.at.callbacks, "POST /callback/certs", &headers, callback)
    }

    fn refused(&self, reason: &str) -> f64 {
        let series = format!("postern_rejections_total{{reason=\"{reason}\",source=\"certs\"}}");
        self.gateway.metric(&series)
    }
}

const A: &str = "https://keys.eu-1.example.com/a.pem";

#[test]
fn a_named_certificate_is_fetched_once_from_its_pinned_host() {
    let certificate = Certificate::good();
    let server = Backend::start();
    server.says(body(&certificate.pem));
    let world = World::new(&server, "");
    assert!(server.got().is_empty(), "nothing is fetched before a callback names it");
    assert_eq!(world.send(&certificate.callback("c1", A)).status, 200);
    assert_eq!(world.send(&certificate.callback("c2", A)).status, 200);
    let got = server.got();
    assert_eq!(got.len(), 1);
    assert!(got[0].line.starts_with("GET /mirror/a.pem "), "{}", got[0].line);
    // Another key, and another text.
    assert_eq!(world.send(&Certificate::good().callback("c3", A)).status, 403);
    assert_eq!(world.send(&certificate.callback("c4", A).replace("c4", "c5")).status, 403);
    assert_eq!(world.refused("bad_signature"), 2.0);
    for url in [
        "http://keys.eu-1.example.com/a.pem",
        "https://keys.eu-1.example.com.evil.org/a.pem",
        "https://keys.eu-1.example.com:8443/a.pem",
        "https://evil@keys.eu-1.example.com/a.pem",
        "https://127.0.0.1/a.pem",
        "https://keys.eu-1.example.com/../a.pem",
        "https://keys.eu-1.example.com/a.pem?x",
        "file:///etc/passwd",
    ] {
        assert_eq!(world.send(&certificate.callback("c6", url)).status, 403, "{url}");
    }
    assert_eq!(world.refused("not_ours"), 8.0);
    assert_eq!(world.send(&certificate.callback("c7", "")).status, 403);
    assert_eq!(server.got().len(), 1, "no other call");
}

#[test]
fn without_a_certificate_that_counts_the_sender_has_to_try_again() {
    let good = Certificate::good();
    let elsewhere = Backend::start();
    let away = format!("Location: http://{}/a.pem\r\n", elsewhere.at).leak();
    let many = format!("{}{}", good.pem, " ".repeat(17 * 1024));
    for say in [
        status(404),
        Say::Status(302, away, String::new()),
        body("<html>"),
        body(&many),
        body(&Certificate::new("signer.example.com", 2021).pem),
        body(&Certificate::new("signer.example.org", 2100).pem),
        Say::Nothing,
    ] {
        let server = Backend::start();
        server.says(say);
        let world = World::new(&server, "");
        assert_eq!(world.send(&good.callback("d1", A)).status, 503);
        let calls = server.got().len();
        assert_eq!(world.send(&good.callback("d2", A)).status, 503);
        assert_eq!(server.got().len(), calls, "a failure is remembered for a while");
    }
    assert!(elsewhere.got().is_empty(), "a redirect is not followed");
}

#[test]
fn made_up_certificates_cause_few_calls_and_take_nothing_from_others() {
    let certificate = Certificate::good();
    let server = Backend::start();
    server.says(body(&certificate.pem));
    let world = World::new(&server, "");
    assert_eq!(world.send(&certificate.callback("e1", A)).status, 200);
    let began = postern::clock::instant();
    for n in 0..200 {
        let url = format!("https://keys.eu-1.example.com/x{n}.pem");
        let forged = Certificate::good().callback("e2", &url);
        assert!(matches!(world.send(&forged).status, 403 | 503));
    }
    let slow = usize::try_from(began.elapsed().as_secs() / 30).unwrap();
    assert!((1..=4 + 3 * slow).contains(&server.got().len()), "{}", server.got().len());
    assert_eq!(world.send(&certificate.callback("e3", A)).status, 200);
}

#[test]
fn a_flood_of_one_network_leaves_the_first_try_of_another() {
    let certificate = Certificate::good();
    let server = Backend::start();
    server.says(status(404));
    let world = World::new(&server, "");
    for n in 0..100 {
        let url = format!("https://keys.eu-1.example.com/b{n}.pem");
        let forged = Certificate::good().callback("j1", &url);
        assert_eq!(world.send_from(&format!("203.0.113.{n}"), &forged).status, 503);
    }
    let calls = server.got().len();
    assert!(calls >= 1, "made-up names are looked for, up to the allowance of their network");
    server.says(body(&certificate.pem));
    assert_eq!(world.send_from("198.51.100.1", &certificate.callback("j2", A)).status, 200);
    let got = server.got();
    assert!(got[calls..].iter().any(|got| got.line.starts_with("GET /mirror/a.pem ")));
}

#[test]
fn a_source_that_pins_certificates_fetches_none() {
    let (pinned, other) = (Certificate::good(), Certificate::good());
    let server = Backend::start();
    server.says(body(&other.pem));
    let world = World::new(&server, &format!("secrets = {:?}", pinned.pem));
    assert_eq!(world.send(&pinned.callback("f1", A)).status, 200);
    assert_eq!(world.send(&other.callback("f2", A)).status, 403);
    assert!(server.got().is_empty());
}

/// A callback that asks for the confirmation of `url`.
fn asking(certificate: &Certificate, id: &str, url: &str) -> String {
    let sign = certificate.sign(&format!("id={id}&url={url}"));
    serde_json::json!({ "id": id, "url": url, "cert": A, "sign": sign }).to_string()
}

const CONFIRM: &str = "https://confirm.example.com/?Action=Confirm&Token=t1";

#[test]
fn a_subscription_is_confirmed_once_after_its_callback_verified() {
    let certificate = Certificate::good();
    let server = Backend::start();
    server.says(body(&certificate.pem));
    let world = World::new(&server, "confirm = true");
    let confirmed = || {
        let lines = server.got().into_iter().map(|got| got.line);
        lines.filter(|line| line.contains("Action=")).collect::<Vec<_>>()
    };
    let forged = asking(&Certificate::good(), "g1", CONFIRM);
    assert_eq!(world.send(&forged).status, 403);
    let callback = asking(&certificate, "g2", CONFIRM);
    assert_eq!(world.send(&callback).status, 200);
    eventually("it is confirmed", || confirmed().len() == 1);
    assert!(
        confirmed()[0].starts_with("GET /mirror/?Action=Confirm&Token=t1 "),
        "{:?}",
        confirmed()
    );
    // The same again, one that asks for nothing, and others than the pinned host and path.
    assert_eq!(world.send(&callback).status, 200);
    assert_eq!(world.send(&certificate.callback("g3", A)).status, 200);
    let evil = [
        "https://evil.example.com/?Action=Confirm&",
        "https://confirm.example.com/?Action=Delete&",
    ];
    for (n, url) in evil.into_iter().enumerate() {
        assert_eq!(world.send(&asking(&certificate, &format!("h{n}"), url)).status, 200);
    }
    let last = asking(&certificate, "g4", "https://confirm.example.com/?Action=Confirm&Token=t2");
    assert_eq!(world.send(&last).status, 200);
    eventually("the last one is confirmed", || confirmed().len() == 2);
    assert!(confirmed()[1].contains("Token=t2"));
    let count = "postern_confirmations_total{outcome=\"confirmed\",sender=\"certs\"}";
    world.gateway.await_metric(count, 2.0);
    assert!(!await_lines("subscription confirmed", 2).is_empty());
}

#[test]
fn without_the_key_of_the_source_nothing_is_confirmed() {
    let certificate = Certificate::good();
    let server = Backend::start();
    server.says(body(&certificate.pem));
    let world = World::new(&server, "");
    assert_eq!(world.send(&asking(&certificate, "i1", CONFIRM)).status, 200);
    assert_eq!(world.send(&certificate.callback("i2", A)).status, 200);
    assert!(server.got().iter().all(|got| got.line.contains(".pem")));
    let events = get(world.gateway.at.admin, "/admin/v1/events").json();
    assert_eq!(events["events"].as_array().unwrap().len(), 2, "an operator sees it");
}
