//! The signature of Taku's open API: method, digest of the body, content type, key and time, path.
//!
//! The only secret is the publisher's key, and the call contains it. The signature proves that the
//! call was not changed; the connection must protect the key.

use std::fmt::Write as _;

use constant_time_eq::{constant_time_eq, constant_time_eq_32};
use http::header;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use super::{RewardRuleErrorCode, RewardRuleStop, ledger_error, refused};
use crate::ledger::NonceUse;
use crate::partners::Call;
use crate::partners::reward_rules::settings::{Publisher, RewardRules};
use crate::partners::used_signatures::{Rule, Signature};

/// The validity of a call, before and after its time.
const WINDOW_MS: i64 = 15 * 60 * 1000;

/// The time and the digest that a call claims.
pub(super) struct Claim {
    time: String,
    at_ms: i64,
    digest: [u8; 16],
}

/// Finds the publisher by its key. Nothing more is read for unknown keys.
pub(super) fn publisher<'a>(
    call: &Call<'_>,
    api: &'a RewardRules,
) -> Result<(&'a Publisher, Claim), RewardRuleStop> {
    let field = |name: &str| {
        let missing =
            || refused(RewardRuleErrorCode::Header, format!("{name} is missing, or there twice"));
        call.header(name).ok_or_else(missing)
    };
    let key = field("X-Up-Key")?;
    let time = field("X-Up-Timestamp")?;
    let sign = field("X-Up-Signature")?;
    let unknown = || refused(RewardRuleErrorCode::Publisher, "no publisher has that X-Up-Key");
    let publisher = find(api, key.as_bytes()).ok_or_else(unknown)?;
    let wrong =
        || refused(RewardRuleErrorCode::Header, "X-Up-Timestamp is not a time in milliseconds");
    let at_ms: i64 = time.parse().map_err(|_| wrong())?;
    if call.at_ms.abs_diff(at_ms) > WINDOW_MS.unsigned_abs() {
        return Err(refused(
            RewardRuleErrorCode::Header,
            "X-Up-Timestamp is more than 15 minutes off",
        ));
    }
    let mut digest = [0; 16];
    const_hex::decode_to_slice(sign, &mut digest).map_err(|_| {
        refused(RewardRuleErrorCode::Sign, "X-Up-Signature is not 32 hexadecimal digits")
    })?;
    Ok((publisher, Claim { time: time.to_owned(), at_ms, digest }))
}

/// Compares the digests of all keys, so the time reveals nothing about any of them.
fn find<'a>(api: &'a RewardRules, key: &[u8]) -> Option<&'a Publisher> {
    let given = Sha256::digest(key).into();
    let mut found = None;
    for publisher in &api.publishers {
        if constant_time_eq_32(&Sha256::digest(publisher.key.expose()).into(), &given) {
            found = Some(publisher);
        }
    }
    found
}

/// Whether the signature is right for this call.
pub(super) fn check(
    call: &Call<'_>,
    publisher: &Publisher,
    claim: &Claim,
    body: &[u8],
) -> Result<(), RewardRuleStop> {
    let content_type = call.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map_or(&b""[..], |value| value.as_bytes());
    let right = digest([
        call.method().as_str().as_bytes(),
        &body_digest(body),
        content_type,
        &[b"X-Up-Key:", publisher.key.expose()].concat(),
        &[b"X-Up-Timestamp:", claim.time.as_bytes()].concat(),
        call.path().as_bytes(),
    ]);
    match constant_time_eq(&right, &claim.digest) {
        true => Ok(()),
        false => Err(refused(RewardRuleErrorCode::Sign, "X-Up-Signature is wrong")),
    }
}

/// The digest of the lines of a call.
fn digest(lines: [&[u8]; 6]) -> [u8; 16] {
    Md5::digest(lines.join(&b'\n')).into()
}

fn body_digest(body: &[u8]) -> Vec<u8> {
    let mut text = String::with_capacity(32);
    for byte in Md5::digest(body) {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text.into_bytes()
}

/// Uses the signature of a call that changes something, before anything else. A used signature is
/// rejected: replayed by others, the call could undo later changes and cause requests to URLs.
pub(super) async fn use_once(call: &Call<'_>, claim: &Claim) -> Result<(), RewardRuleStop> {
    let signature = Signature {
        rule: Rule::RewardRule,
        bytes: &claim.digest,
        good_until_ms: claim.at_ms.saturating_add(WINDOW_MS),
    };
    let used = signature.use_to_write(call.registry.ledger()).await;
    match used.map_err(|error| ledger_error(&error))? {
        NonceUse::First => Ok(()),
        NonceUse::Repeated => {
            Err(refused(RewardRuleErrorCode::Repeated, "this call was made before; re-sign it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the contract: the path is signed, and the query is not.
    #[test]
    fn the_query_is_no_part_of_what_is_signed() {
        let sign = |path: &str| {
            let lines: [&[u8]; 6] = [
                b"GET",
                &body_digest(b""),
                b"application/json",
                b"X-Up-Key:demo-publisher-key",
                b"X-Up-Timestamp:1700000000000",
                path.as_bytes(),
            ];
            const_hex::encode_upper(digest(lines))
        };
        assert_eq!(body_digest(b""), b"D41D8CD98F00B204E9800998ECF8427E");
        assert_eq!(sign("/v3/advanced/reward_rule"), "CE8A80FCC20828CFF847BCF6C37ADA0B");
        let other = sign("/v3/advanced/reward_rule?ids=1,2");
        assert_eq!(other, "4D78E9B2B59C95CA6F9D6F982CF93E87");
    }
}
