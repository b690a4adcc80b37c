//! HTTP Message Signatures (RFC 9421) for deliveries whose URL contains values: Standard Webhooks
//! signs only the body, and the content of such a delivery is in its method, path and query.
//!
//! ```text
//! Signature-Input: v1=("@method" "@authority" "@path" "@query" "webhook-id" "webhook-timestamp")
//!                     ;created=1700000000;keyid="game";alg="hmac-sha256"
//! Signature: v1=:base64 of the HMAC:
//! ```
//!
//! The scheme is not covered: a backend behind a proxy that terminates TLS does not see it. The one
//! crate for the RFC brings NIST curves, a second Ed25519 and a second base64, and is at 0.0.x; the
//! signed text has seven lines.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::signature::{Attempt, ID, Keys, TIMESTAMP};

/// The headers with the covered components and the signature.
pub(super) const INPUT: HeaderName = HeaderName::from_static("signature-input");
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// The headers of a signature.
#[derive(Clone, Debug)]
struct Fields {
    input: HeaderName,
    signature: HeaderName,
}

/// Where a signature of the gateway is in a request whose sender signs in the headers of the RFC
/// itself. Two signers cannot share them: what a sender writes there need not be a list.
const BESIDE: Fields = Fields {
    input: HeaderName::from_static("postern-signature-input"),
    signature: HeaderName::from_static("postern-signature"),
};

impl Fields {
    /// The headers in which the gateway signs a request with these `headers` of its sender.
    fn free_in(headers: &HeaderMap) -> Self {
        match headers.contains_key(INPUT) || headers.contains_key(SIGNATURE) {
            true => BESIDE,
            false => Self { input: INPUT, signature: SIGNATURE },
        }
    }
}

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    HmacSha256,
    Ed25519,
}

impl Algorithm {
    /// The name in the registry of the RFC.
    const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// The request that is signed, besides its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'r> {
    pub(super) method: &'r Method,
    pub(super) to: &'r Uri,
    pub(super) attempt: Attempt,
    /// The name of the destination: the id of a shared secret.
    pub(super) destination: &'r str,
}

/// Components of a message: name and value.
type Components<'m> = [(&'static str, &'m str)];

/// Signs method, URL, id and time of a request whose `headers` have id and time already. The label
/// of each signature is that of the Standard Webhooks signature with the same key: `v1`, `v1a`; the
/// second of a kind is `v1-2`. Signatures of the sender in `headers` stay, and these go beside
/// them.
pub(super) fn put(headers: &mut HeaderMap, signed: Signed<'_>, keys: &Keys) {
    let Signed { method, to, attempt, destination } = signed;
    if keys.is_empty() {
        return;
    }
    let fields = Fields::free_in(headers);
    let (authority, query) = (authority(to), format!("?{}", to.query().unwrap_or_default()));
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(id), Some(stamp)) = (text(&ID), text(&TIMESTAMP)) else { return };
    let components = [
        ("@method", method.as_str()),
        ("@authority", &*authority),
        ("@path", path(to)),
        ("@query", &*query),
        (ID_NAME, id),
        (TIMESTAMP_NAME, stamp),
    ];
    let (mut inputs, mut signatures) = (String::new(), String::new());
    let mut add = |label: &str, params: &str, signature: &[u8]| {
        let comma = if inputs.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(inputs, "{comma}{label}={params}");
        let _ = write!(signatures, "{comma}{label}=:{}:", STANDARD.encode(signature));
    };
    let created = attempt.seconds();
    for (at, key) in keys.shared.iter().enumerate() {
        let params = params(&components, created, destination, Algorithm::HmacSha256);
        let mac = key.mac(&[base(&components, &params).as_bytes()]);
        add(&label("v1", at), &params, &mac);
    }
    for (at, pair) in keys.pairs.iter().enumerate() {
        let params = params(&components, created, &pair.public_text(), Algorithm::Ed25519);
        add(&label("v1a", at), &params, &pair.sign(base(&components, &params).as_bytes()));
    }
    for (name, text) in [(fields.input, inputs), (fields.signature, signatures)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    }
}

const ID_NAME: &str = "webhook-id";
const TIMESTAMP_NAME: &str = "webhook-timestamp";

fn label(kind: &str, at: usize) -> String {
    match at {
        0 => kind.to_owned(),
        at => format!("{kind}-{}", at + 1),
    }
}

/// The component `@authority`: host in lower case, and the port unless it is that of the scheme.
fn authority(to: &Uri) -> String {
    let host = to.host().unwrap_or_default().to_ascii_lowercase();
    let usual = if to.scheme_str() == Some("http") { 80 } else { 443 };
    match to.port_u16().filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// The component `@path`.
fn path(to: &Uri) -> &str {
    match to.path() {
        "" => "/",
        path => path,
    }
}

/// `@signature-params`: covered components, time and key.
fn params(components: &Components<'_>, created: i64, key_id: &str, algorithm: Algorithm) -> String {
    let names: Vec<String> = components.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    // A string of a structured field is printable ASCII; quotes and backslashes are escaped.
    let name = key_id.replace('\\', "\\\\").replace('"', "\\\"");
    let is_text = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let keyid = if is_text { format!(";keyid=\"{name}\"") } else { String::new() };
    format!("({});created={created}{keyid};alg=\"{}\"", names.join(" "), algorithm.as_str())
}

/// The signature base: a line for each component, and one for the parameters.
fn base(components: &Components<'_>, params: &str) -> String {
    let mut text = String::new();
    for (name, value) in components {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\"{name}\": {value}");
    }
    let _ = write!(text, "\"@signature-params\": {params}");
    text
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::config::SigningKey;
    use crate::delivery::signature::SharedKey;
    use crate::ledger::EventId;
    use crate::sender::Secret;

    fn hmac(secret: &Secret, parts: &[&[u8]]) -> [u8; 32] {
        SharedKey::new(secret).unwrap().mac(parts)
    }

    /// The request that the examples of the RFC sign, appendix B.2.
    fn example() -> (Method, Uri) {
        (Method::POST, Uri::from_static("https://example.com/foo?param=Value&Pet=dog"))
    }

    #[test]
    fn the_hmac_of_appendix_b_2_5() {
        let (_, to) = example();
        let authority = authority(&to);
        let components = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@authority", &*authority),
            ("content-type", "application/json"),
        ];
        let params = "(\"date\" \"@authority\" \"content-type\");created=1618884473\
                      ;keyid=\"test-shared-secret\"";
        let secret = Secret::new(
            STANDARD
                .decode(
                    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsas\
                     jlTMtDQ==",
                )
                .unwrap(),
        );
        let mac = hmac(&secret, &[base(&components, params).as_bytes()]);
        assert_eq!(STANDARD.encode(mac), "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    }

    #[test]
    fn the_ed25519_signature_of_appendix_b_2_6() {
        let (method, to) = example();
        let authority = authority(&to);
        let components = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("@method", method.as_str()),
            ("@path", path(&to)),
            ("@authority", &*authority),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ];
        let params = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                      \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
        let seed = STANDARD.decode("n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=").unwrap();
        let pair = SigningKey::from_seed(&seed).unwrap();
        assert_eq!(
            STANDARD.encode(pair.sign(base(&components, params).as_bytes())),
            "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
        );
    }

    #[test]
    fn every_key_signs_the_content_of_the_delivery() {
        let to = Uri::from_static("http://Game.example:80/reward/u1?n=10");
        let pair = SigningKey::from_seed(&[7; 32]).unwrap();
        let secrets = [Secret::new([1; 32]), Secret::new([2; 32])];
        let keys = &Keys { pairs: vec![pair.clone()], ..Keys::shared(&secrets) };
        let attempt = Attempt { event: EventId::from_bytes([7; 16]), at_ms: 1_700_000_000_999 };
        let mut headers = HeaderMap::new();
        super::super::signature::put(&mut headers, attempt, keys, b"");
        let signed = Signed { method: &Method::GET, to: &to, attempt, destination: "ga\"me" };
        put(&mut headers, signed, keys);
        let inputs = headers[INPUT].to_str().unwrap();
        let covered = "(\"@method\" \"@authority\" \"@path\" \"@query\" \"webhook-id\" \"webhook-timestamp\")";
        let mac = format!("{covered};created=1700000000;keyid=\"ga\\\"me\";alg=\"hmac-sha256\"");
        let public = pair.public_text();
        let own = format!("{covered};created=1700000000;keyid=\"{public}\";alg=\"ed25519\"");
        assert_eq!(inputs, format!("v1={mac}, v1-2={mac}, v1a={own}"));
        let text = "\"@method\": GET\n\"@authority\": game.example\n\"@path\": /reward/u1\n\
                    \"@query\": ?n=10\n\
                    \"webhook-id\": evt_07070707070707070707070707070707\n\
                    \"webhook-timestamp\": 1700000000\n\"@signature-params\": ";
        let signatures = headers[SIGNATURE].to_str().unwrap();
        let signed = |label: &str| {
            let found = signatures.split(", ").find_map(|one| one.strip_prefix(label));
            STANDARD.decode(found.unwrap().trim_matches(':')).unwrap()
        };
        for (label, secret) in [("v1=", &secrets[0]), ("v1-2=", &secrets[1])] {
            let expected = hmac(secret, &[text.as_bytes(), mac.as_bytes()]);
            assert_eq!(signed(label), expected, "{label}");
        }
        let public = UnparsedPublicKey::new(&ED25519, pair.public_bytes());
        public.verify(format!("{text}{own}").as_bytes(), &signed("v1a=")).unwrap();
    }

    #[test]
    fn a_sender_that_signs_in_the_same_headers_is_no_reason_not_to_sign() {
        let attempt = Attempt { event: EventId::from_bytes([7; 16]), at_ms: 1_700_000_000_999 };
        let secrets = [Secret::new([1; 32])];
        let keys = Keys::shared(&secrets);
        let to = Uri::from_static("http://a/x?user=evil");
        let signed = Signed { method: &Method::POST, to: &to, attempt, destination: "a" };
        let sign = |own: &[(HeaderName, &'static str)]| {
            let own = own.iter().map(|(name, text)| (name.clone(), HeaderValue::from_static(text)));
            let mut headers = HeaderMap::from_iter(own);
            super::super::signature::put(&mut headers, attempt, &keys, b"{}");
            put(&mut headers, signed, &keys);
            headers
        };
        let plain = sign(&[]);
        for own in [
            vec![(SIGNATURE, "9f86d081")],
            vec![(INPUT, "sig1=()")],
            vec![(SIGNATURE, "sig1=:AA==:"), (INPUT, "sig1=()")],
            vec![(SIGNATURE, "x"), (BESIDE.signature, "v1=:AA==:"), (BESIDE.input, "v1=()")],
        ] {
            let headers = sign(&own);
            for (name, text) in own.iter().filter(|(name, _)| [INPUT, SIGNATURE].contains(name)) {
                assert_eq!(headers[name], *text, "the sender's own stays");
            }
            assert_eq!(headers[BESIDE.input], plain[INPUT]);
            assert_eq!(headers[BESIDE.signature], plain[SIGNATURE]);
            assert_eq!(headers.get_all(BESIDE.signature).iter().count(), 1);
        }
        assert!(!plain.contains_key(BESIDE.signature) && !plain.contains_key(BESIDE.input));
    }

    #[test]
    fn without_a_key_nothing_is_signed() {
        let attempt = Attempt { event: EventId::from_bytes([7; 16]), at_ms: 0 };
        let keys = &Keys::default();
        let mut headers = HeaderMap::new();
        super::super::signature::put(&mut headers, attempt, keys, b"");
        let to = Uri::from_static("http://a/");
        let signed = Signed { method: &Method::GET, to: &to, attempt, destination: "a" };
        put(&mut headers, signed, keys);
        assert!(!headers.contains_key(INPUT) && !headers.contains_key(SIGNATURE));
    }
}
