//! The URL of a report: valid for 1 min, and for one report.

use constant_time_eq::constant_time_eq;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::clock::UnixMillis;
use crate::partners::background_checks::settings::Company;

/// The path of reports.
pub(in crate::partners) const REPORTS: &str = "/survey-result/";

/// The validity of a URL.
const LIFE_SECONDS: i64 = 60;

const EXPIRES: &str = "Expires";
const ACCESS: &str = "OSSAccessKeyId";
const SIGNATURE: &str = "Signature";

/// Bytes of the name of a company in a URL, which tells nothing about its key.
const ACCESS_BYTES: usize = 8;

/// The reason that a URL is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkError {
    /// The URL was changed.
    Changed,
    /// The URL has expired.
    Expired,
}

/// Path and query of the report of the check `number`, made on `day` for `company`.
pub(super) fn write(company: &Company, day: &str, number: &str, now_ms: UnixMillis) -> String {
    let expires = now_ms / 1000 + LIFE_SECONDS;
    let path = format!("{REPORTS}{day}/{number}.pdf");
    let access = access(company);
    let signature = signature(company, &[&path, &expires.to_string(), &access]);
    format!("{path}?{EXPIRES}={expires}&{ACCESS}={access}&{SIGNATURE}={signature}")
}

/// The check of a URL, and its company.
pub(super) fn read<'a, 'p>(
    companies: &'a [Company],
    path: &'p str,
    query: &str,
    now_ms: UnixMillis,
) -> Result<(&'a Company, &'p str), LinkError> {
    let mut parts = query.split('&').map(|pair| pair.split_once('='));
    let [
        Some(Some((EXPIRES, expires))),
        Some(Some((ACCESS, id))),
        Some(Some((SIGNATURE, given))),
        None,
    ] = [parts.next(), parts.next(), parts.next(), parts.next()]
    else {
        return Err(LinkError::Changed);
    };
    let company = companies.iter().find(|company| access(company) == id);
    let company = company.ok_or(LinkError::Changed)?;
    let right = signature(company, &[path, expires, id]);
    if !constant_time_eq(right.as_bytes(), given.as_bytes()) {
        return Err(LinkError::Changed);
    }
    let until: i64 = expires.parse().map_err(|_| LinkError::Changed)?;
    if now_ms / 1000 > until {
        return Err(LinkError::Expired);
    }
    let name = path.strip_prefix(REPORTS).and_then(|rest| rest.strip_suffix(".pdf"));
    let (_, number) = name.and_then(|name| name.split_once('/')).ok_or(LinkError::Changed)?;
    Ok((company, number))
}

fn access(company: &Company) -> String {
    const_hex::encode(&Sha256::digest(company.key.expose())[..ACCESS_BYTES])
}

/// The signature, under a key derived from the company's token and used for nothing else. Any
/// gateway can read what another one wrote.
fn signature(company: &Company, parts: &[&str]) -> String {
    let mac = |key: &[u8], message: &[u8]| {
        // A key may have any length.
        Hmac::<Sha256>::new_from_slice(key)
            .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
            .unwrap_or_default()
    };
    let key = mac(company.token.expose(), b"postern: links to temporary reports");
    const_hex::encode(mac(&key, parts.join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Secret;

    fn company(key: &str) -> Company {
        Company {
            key: Secret::new(key),
            token: Secret::new(format!("token of {key}")),
            enabled: true,
        }
    }

    #[test]
    fn a_link_is_good_for_its_minute_and_as_it_is() {
        let companies = [company("A"), company("B")];
        let link = write(&companies[1], "20260102", "R-1", 1_000_000);
        let read = |link: &str, now_ms| {
            let (path, query) = link.split_once('?').unwrap();
            super::read(&companies, path, query, now_ms)
                .map(|(of, number)| (of.key.clone(), number.to_owned()))
        };
        assert_eq!(read(&link, 1_000_000), Ok((Secret::new("B"), String::from("R-1"))));
        assert!(link.contains("Expires=1060&"));
        assert_eq!(read(&link, 1_060_999).map(|(_, number)| number).as_deref(), Ok("R-1"));
        assert_eq!(read(&link, 1_061_000), Err(LinkError::Expired));
        for (from, to) in [
            ("R-1", "R-2"),
            ("20260102", "20260103"),
            ("Expires=1060", "Expires=9060"),
            ("&Signature=", "&x=1&Signature="),
            ("Signature=", "Signature=0"),
            ("OSSAccessKeyId=", "OSSAccessKeyId=0"),
        ] {
            assert_eq!(read(&link.replace(from, to), 1_000_000), Err(LinkError::Changed), "{to}");
        }
        assert_eq!(read(&format!("{link}&a=b"), 1_000_000), Err(LinkError::Changed));
        for at in 0..link.len() {
            let mut bytes = link.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            if changed.contains('?') {
                assert!(read(&changed, 1_000_000).is_err(), "{changed}");
            }
        }
    }
}
