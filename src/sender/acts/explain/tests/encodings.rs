//! Encodings and digests of the independent signer.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// Percent escapes decoded.
pub(super) fn decode(raw: &[u8], plus_is_blank: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let escape = raw.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let escape = escape.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (raw[at], escape) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus_is_blank => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

/// PHP's `urlencode`.
pub(super) fn form(text: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for byte in text {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' => out.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(*byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out.into_bytes()
}

/// RFC 3986's percent encoding.
pub(super) fn percent(text: &[u8], stays: impl Fn(u8) -> bool) -> Vec<u8> {
    let escaped = |byte: &u8| match *byte {
        byte if byte.is_ascii_alphanumeric() || stays(byte) => vec![byte],
        byte => format!("%{byte:02X}").into_bytes(),
    };
    text.iter().flat_map(escaped).collect()
}

pub(super) fn is_unreserved(byte: u8) -> bool {
    b"-_.~".contains(&byte)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A chain of digests.
pub(super) fn digest(with: &[String], key: &[u8], text: &[u8]) -> Vec<u8> {
    fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    }
    with.iter().fold(text.to_vec(), |text, step| match step.as_str() {
        "md5" => Md5::digest(&text).to_vec(),
        "sha1" => Sha1::digest(&text).to_vec(),
        "sha256" => Sha256::digest(&text).to_vec(),
        "sha512" => Sha512::digest(&text).to_vec(),
        "hmac_md5" => mac::<Hmac<Md5>>(key, &text),
        "hmac_sha1" => mac::<Hmac<Sha1>>(key, &text),
        "hmac_sha256" => mac::<Hmac<Sha256>>(key, &text),
        "hmac_sha512" => mac::<Hmac<Sha512>>(key, &text),
        "hex" => hex(&text).into_bytes(),
        "equal" => text,
        other => panic!("step {other}"),
    })
}
