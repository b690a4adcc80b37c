//! Signed tokens: what a file may say of them, what a key set may hold, what their claims mean.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::sender::crypto::public_key::tests::{rsa_pair, rsa_spki};
use crate::sender::request::encoding::base64;

const NOW: i64 = 1_700_000_000_000;

fn faults(sender: &str, from: &str, to: &str) -> Vec<String> {
    let catalog = Catalog::embedded().unwrap();
    let text = catalog.get(sender).unwrap().text();
    assert!(text.contains(from), "{from}");
    let faults = Sender::parse("mine", &text.replacen(from, to, 1)).err().unwrap_or_default();
    faults.into_iter().map(|fault| fault.key).collect()
}

#[test]
fn a_file_pins_what_a_token_could_choose() {
    let claims = "claims = { iss";
    for (sender, from, to, key) in [
        ("apple", "\"ES256\"", "\"none\"", "jws.alg"),
        ("apple", "\"ES256\"", "[]", "jws.alg"),
        ("apple", "\"ES256\"", "[\"ES256\", \"HS256\"]", "jws.alg"),
        ("apple", "\"ES256\"", "\"HS256\"", "jws.key"),
        ("apple", "\"x5c\"", "\"list\"", "jws.chain"),
        ("apple", "\"x5c\"", "\"[secret]\"", "jws.key"),
        ("apple", "chain = 3", "chain = 1", "jws.chain"),
        ("apple", "roots = \"MII", "roots = \"MIJ", "jws.roots[0]"),
        ("apple", "leaf = \"1.2.840", "leaf = \"1.2.x840", "jws.oids.leaf"),
        ("apple", "leaf = \"", "root = \"", "jws.oids"),
        ("apple", "bundle_ids = \"{data.bundleId}\"", "", "jws"),
        ("apple", "as    = \"body\"", "as    = \"other\"", "jws.as"),
        ("apple", "as    = \"body\"", "as    = \"bearer\"", "jws.also"),
        (
            "apple",
            "[jws] ",
            "[signature]\nof = \"[body]\"\nwith = \"md5\"\nin = \"{a}\"\n[jws] ",
            "jws",
        ),
        ("google-play", claims, "claims = { exp = false, iss", "jws.claims.exp"),
        ("google-play", "\"[audience]\"", "\"[nothing]\"", "jws.claims.aud"),
        ("google-play", "form = \"jwks\"", "form = \"pem\"", "key_set.form"),
        ("google-play", "form = \"jwks\"", "form = \"jwks\"\npick = \"{a}\"", "key_set.pick"),
        ("google-play", "with  = \"none\"", "with  = \"none\"\nkey = \"[secret]\"", "open.key"),
        ("google-play", "with  = \"none\"", "with  = \"aes256_gcm\"", "open.nonce"),
        ("google-play", "with  = \"none\"", "with  = \"rot13\"", "open.with"),
        ("wechat-pay", "nonce = \"", "frame = \"x\"\nnonce = \"", "open.frame"),
        ("surveymonkey", "signed = false", "", "method"),
        ("oppo", "weak    = \"RSA with 1024 bits and SHA-1\"\n", "", "weak"),
    ] {
        let found = faults(sender, from, to);
        assert!(found.iter().any(|own| own == key), "{sender} {to:?}: {found:?}");
    }
}

fn google() -> Recipe {
    let catalog = Catalog::embedded().unwrap();
    let setting = |name: &str, value: &str| (name.to_owned(), Secret::new(value.as_bytes()));
    let terms = Terms {
        settings: [setting("audience", "aud-1"), setting("service_account", "push@x")].into(),
        replayable: crate::sender::Replay::Accepted,
        ..Terms::default()
    };
    Recipe::compile(catalog.get("google-play").unwrap(), &terms).unwrap()
}

fn jwk(kid: &str) -> serde_json::Value {
    // SEQUENCE { SEQUENCE, BIT STRING { SEQUENCE { modulus, exponent } } } of a key of 2048 bits.
    let spki = rsa_spki();
    let modulus = &spki[33..33 + 256];
    json!({ "kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "e": "AQAB",
            "n": URL_SAFE_NO_PAD.encode(modulus) })
}

#[test]
fn a_json_web_key_set_is_read_and_a_private_key_refuses_it() {
    let recipe = google();
    let list = recipe.key_list().unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut entry = jwk("k2");
        change(&mut entry);
        list.read(json!({ "keys": [jwk("k1"), entry] }).to_string().as_bytes())
    };
    assert_eq!(with(&|_| {}).unwrap().len(), 2);
    let mut written = rsa_spki();
    let set = with(&|_| {}).unwrap();
    assert_eq!(
        set.get(b"k1"),
        crate::sender::crypto::public_key::PublicKey::read(&written).as_ref()
    );
    written[100] ^= 1;
    assert_ne!(
        set.get(b"k1"),
        crate::sender::crypto::public_key::PublicKey::read(&written).as_ref()
    );
    for (name, value) in [
        ("use", json!("enc")),
        ("alg", json!("RS512")),
        ("kid", json!(7)),
        ("kid", json!("")),
        ("kty", json!("EC")),
        ("n", json!("AQAB")),
    ] {
        let set = with(&|entry| entry[name] = value.clone()).unwrap();
        assert_eq!((set.len(), set.left_out()), (1, 1), "{name} {value}");
    }
    for (name, value) in [("d", json!("AQ")), ("k", json!("AQ")), ("kty", json!("oct"))] {
        let refused = with(&|entry| entry[name] = value.clone());
        assert_eq!(refused, Err(KeySetError::Private), "{name}");
    }
    let same = list.read(json!({ "keys": [jwk("k1"), jwk("k1")] }).to_string().as_bytes());
    assert_eq!(same.unwrap().len(), 1);
    assert_eq!(list.read(b"{\"keys\":[]}"), Err(KeySetError::NoKey));
}

/// A push with a token of these claims, as the claims are written.
fn push(header: &str, claims: &str) -> OwnedRequest {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let pair = rsa_pair();
    let mut signature = vec![0; pair.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    let padding = &ring::signature::RSA_PKCS1_SHA256;
    pair.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
    let data = base64(br#"{"packageName":"com.example","oneTimeProductNotification":{"sku":"s"}}"#);
    OwnedRequest::parse(&format!(
        "POST /\nAuthorization: Bearer {signed}.{}\n\n\
         {{\"message\":{{\"data\":\"{data}\",\"messageId\":\"m1\"}}}}",
        URL_SAFE_NO_PAD.encode(signature)
    ))
    .unwrap()
}

#[test]
fn claims_are_what_the_file_says() {
    let recipe = google();
    let keys = recipe.key_list().unwrap();
    let keys = keys.read(json!({ "keys": [jwk("k1")] }).to_string().as_bytes()).unwrap();
    let judged = |header: &str, claims: &str| {
        let request = push(header, claims);
        let mut callback = recipe.read(request.borrow(), NOW);
        callback.use_keys(Some(&keys));
        match callback.verify() {
            Judgement::Verified(_) => Ok(()),
            Judgement::Rejected(rejection) => Err((rejection.reason, rejection.parameter)),
            other => panic!("{other:?}"),
        }
    };
    let header = r#"{"alg":"RS256","kid":"k1"}"#;
    let right = r#"{"iss":"accounts.google.com","aud":"aud-1","email":"push@x","email_verified":true,"exp":1700000100,"iat":1700000000}"#;
    assert_eq!(judged(header, right), Ok(()));
    let refused = |from: &str, to: &str| {
        assert!(right.contains(from), "{from}");
        judged(header, &right.replace(from, to)).map_err(|(reason, _)| reason)
    };
    // A list of audiences has to hold ours; a fraction of a second is cut; clocks may differ.
    assert_eq!(refused("\"aud-1\"", "[\"other\",\"aud-1\"]"), Ok(()));
    assert_eq!(refused("1700000100", "1700000100.9"), Ok(()));
    assert_eq!(refused("1700000100", "1699999940"), Ok(()));
    assert_eq!(refused("1700000100", "1699999939"), Err(Reason::Stale));
    assert_eq!(refused(",\"iat\":1700000000", ",\"iat\":1700000061"), Err(Reason::Future));
    assert_eq!(refused(",\"iat\"", ",\"nbf\":1700000061,\"iat\""), Err(Reason::Future));
    assert_eq!(refused("\"exp\":1700000100,", ""), Err(Reason::MissingParameter));
    assert_eq!(refused("1700000100", "\"1700000100\""), Err(Reason::BadEncoding));
    assert_eq!(refused("accounts.google.com", "accounts.google.org"), Err(Reason::NotOurs));
    assert_eq!(refused("aud-1", "aud-2"), Err(Reason::NotOurs));
    assert_eq!(refused("push@x", "push@y"), Err(Reason::NotOurs));
    assert_eq!(refused("true", "\"true\""), Err(Reason::NotOurs));
    assert_eq!(refused(",\"iat\"", ",\"aud\":\"aud-1\",\"iat\""), Err(Reason::RepeatedParameter));
    // The header names the algorithm of the file, and a key of the list.
    for (header, reason) in [
        (r#"{"alg":"PS256","kid":"k1"}"#, Reason::BadSignature),
        (r#"{"alg":"none","kid":"k1"}"#, Reason::BadSignature),
        (r#"{"alg":"rs256","kid":"k1"}"#, Reason::BadSignature),
        (r#"{"alg":"RS256","kid":"k2"}"#, Reason::UnknownKey),
        (r#"{"alg":"RS256","kid":"k1","crit":["b64"],"b64":false}"#, Reason::BadEncoding),
    ] {
        let got = judged(header, right).map_err(|(reason, _)| reason);
        assert_eq!(got, Err(reason), "{header}");
    }
}

#[test]
fn a_head_is_a_probe_and_never_an_event() {
    let terms = "secrets = \"secret-1\"\napi_key = \"key-1\"\n";
    let recipe = source("surveymonkey", terms).unwrap();
    let catalog = Catalog::embedded().unwrap();
    let accepted = &catalog.get("surveymonkey").unwrap().vectors[0].request;
    assert_eq!(run(&recipe, accepted, NOW).outcome, Outcome::Accepted);
    let probe = OwnedRequest { method: http::Method::HEAD, ..accepted.clone() };
    assert_eq!(run(&recipe, &probe, NOW).outcome, Outcome::Test);
    let other = source("typeform", "secrets = \"secret-1\"\n").unwrap();
    let came = run(&other, &probe, NOW);
    assert_eq!(came.rejection.unwrap().reason, Reason::WrongMethod);
}
