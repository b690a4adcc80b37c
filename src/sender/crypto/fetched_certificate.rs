//! Certificates that callbacks name by URL: which ones count, and until when.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::certificate::{SIGNED_WITH, SIGNING};
use super::der::{Der, SEQUENCE};
use super::pinned_url::UrlPins;
use super::public_key::PublicKey;

/// Certificates of one response: a leaf and what leads to its root.
const CERTIFICATES_MAX: usize = 8;

/// Which certificates of a sender count.
#[derive(Clone, Debug)]
pub(in crate::sender) struct CertificateRule {
    /// The URLs that may be fetched.
    pub(in crate::sender) pins: UrlPins,
    /// The end of a name that the certificate has: `.example.com`.
    pub(in crate::sender) subject: Option<Box<str>>,
    pub(in crate::sender) chain: CertificateChain,
}

/// The proof of a certificate.
#[derive(Clone, Debug)]
pub(in crate::sender) enum CertificateChain {
    /// The host that it comes from, by its TLS.
    Host,
    /// The authorities that TLS trusts.
    Web,
    /// Roots in the sender's file.
    Pinned(Vec<CertificateDer<'static>>),
}

/// A certificate that counts: its key, and its end.
#[derive(Clone, Debug)]
pub struct FetchedCertificate {
    pub(in crate::sender) key: PublicKey,
    until_ms: i64,
}

/// Why a response is not a certificate that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateError {
    /// Not certificates in PEM.
    NotPem,
    /// Dates that do not include now, or cannot be read.
    Dates,
    /// No name that the sender's file asks for.
    Subject,
    /// No way to a trusted root.
    Chain,
    /// A key of another kind than the sender signs with.
    Key,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotPem => "the response is not a certificate in PEM",
            Self::Dates => "the certificate is not valid now",
            Self::Subject => "the certificate is for another name",
            Self::Chain => "the certificate does not lead to a trusted root",
            Self::Key => "the certificate has a key of another kind",
        })
    }
}

impl std::error::Error for CertificateError {}

impl FetchedCertificate {
    /// The end of the certificate, Unix milliseconds.
    #[must_use]
    pub fn until_ms(&self) -> i64 {
        self.until_ms
    }
}

impl CertificateRule {
    /// The first certificate of a response, if it counts at `now_ms`; the others may lead from it to
    /// a root. `web` are the authorities that TLS trusts.
    pub(in crate::sender) fn read(
        &self,
        response: &[u8],
        now_ms: i64,
        web: &[TrustAnchor<'_>],
    ) -> Result<FetchedCertificate, CertificateError> {
        let all: Result<Vec<CertificateDer<'_>>, _> =
            CertificateDer::pem_slice_iter(response).take(CERTIFICATES_MAX).collect();
        let all = all.map_err(|_| CertificateError::NotPem)?;
        let (leaf, between) = all.split_first().ok_or(CertificateError::NotPem)?;
        let certificate = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::NotPem)?;
        let valid = validity(leaf).ok_or(CertificateError::Dates)?;
        if !valid.contains(&now_ms) {
            return Err(CertificateError::Dates);
        }
        if let Some(end) = &self.subject {
            let is_right = |name: &str| name.to_ascii_lowercase().ends_with(&**end);
            if !certificate.valid_dns_names().any(is_right) {
                return Err(CertificateError::Subject);
            }
        }
        if !self.leads_to_root(&certificate, Path { between, now_ms, web }) {
            return Err(CertificateError::Chain);
        }
        let key = PublicKey::read(&certificate.subject_public_key_info());
        let until_ms = *valid.end();
        Ok(FetchedCertificate { key: key.ok_or(CertificateError::Key)?, until_ms })
    }

    fn leads_to_root(&self, certificate: &EndEntityCert<'_>, path: Path<'_>) -> bool {
        let pinned: Vec<TrustAnchor<'_>>;
        // Providers sign with certificates of servers, of signers, or of neither.
        let usages = [KeyUsage::server_auth(), KeyUsage::required_if_present(SIGNING)];
        let anchors = match &self.chain {
            CertificateChain::Host => return true,
            CertificateChain::Web => path.web,
            CertificateChain::Pinned(roots) => {
                let read = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok());
                pinned = read.collect();
                pinned.as_slice()
            }
        };
        let now = Duration::from_millis(u64::try_from(path.now_ms).unwrap_or_default());
        let now = UnixTime::since_unix_epoch(now);
        let leads = |usage| {
            let between = path.between;
            let path =
                certificate.verify_for_usage(SIGNED_WITH, anchors, between, now, usage, None, None);
            path.is_ok()
        };
        usages.into_iter().any(leads)
    }
}

/// The certificates between a leaf and its root.
#[derive(Clone, Copy)]
struct Path<'p> {
    between: &'p [CertificateDer<'p>],
    now_ms: i64,
    web: &'p [TrustAnchor<'p>],
}

const VERSION: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is valid, Unix milliseconds.
pub(super) fn validity(certificate: &[u8]) -> Option<RangeInclusive<i64>> {
    let mut fields = Der(Der(Der(certificate).take(SEQUENCE)?).take(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.take(VERSION)?;
    }
    fields.take(INTEGER)?;
    fields.take(SEQUENCE)?; // the algorithm
    fields.take(SEQUENCE)?; // the issuer
    let mut dates = Der(fields.take(SEQUENCE)?);
    let mut date = || {
        let (tag, text) = dates.take_any()?;
        time(tag, text)
    };
    Some(date()?..=date()?)
}

/// A time as certificates write it (RFC 5280, 4.1.2.5): in UTC, with seconds.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let date = jiff::civil::Date::new(year, two(0)?, two(2)?).ok()?;
    let time = jiff::civil::Time::new(two(4)?, two(6)?, two(8)?, 0).ok()?;
    let zoned = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject as _;

    use super::*;

    /// A certificate of a test's own authority, in PEM, and that authority.
    fn issued(name: &str) -> (String, CertificateDer<'static>) {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        leaf.not_before = rcgen::date_time_ymd(2026, 1, 1);
        leaf.not_after = rcgen::date_time_ymd(2027, 1, 1);
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let own = rcgen::KeyPair::generate().unwrap();
        (leaf.signed_by(&own, &issuer).unwrap().pem(), root.der().clone())
    }

    fn rule(chain: CertificateChain) -> CertificateRule {
        let pins = UrlPins::parse(&[String::from("a.example.com")], "/").unwrap();
        CertificateRule { pins, subject: Some(".example.com".into()), chain }
    }

    /// 2026-06-01.
    const NOW: i64 = 1_780_272_000_000;

    #[test]
    fn a_certificate_counts_while_it_is_valid_and_for_its_name() {
        let rule = rule(CertificateChain::Host);
        let (pem, _) = issued("keys.example.com");
        let found = rule.read(pem.as_bytes(), NOW, &[]).unwrap();
        assert_eq!(found.until_ms(), 1_798_761_600_000);
        let why = |pem: &str, now| rule.read(pem.as_bytes(), now, &[]).unwrap_err();
        assert_eq!(why(&pem, 1_767_225_599_000), CertificateError::Dates);
        assert_eq!(why(&pem, 1_798_761_601_000), CertificateError::Dates);
        assert_eq!(why(&issued("keys.example.com.evil.org").0, NOW), CertificateError::Subject);
        assert_eq!(why(&issued("example.com").0, NOW), CertificateError::Subject);
        for text in ["", "<html>", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
            assert_eq!(why(text, NOW), CertificateError::NotPem, "{text}");
        }
    }

    #[test]
    fn a_chain_leads_to_the_authorities_of_tls_or_to_pinned_roots() {
        let (pem, root) = issued("keys.example.com");
        let (_, other) = issued("keys.example.com");
        let web = |root: &CertificateDer<'static>| {
            let anchors = [anchor_from_trusted_cert(root).unwrap().to_owned()];
            rule(CertificateChain::Web).read(pem.as_bytes(), NOW, &anchors).map(|_| ())
        };
        assert_eq!((web(&root), web(&other)), (Ok(()), Err(CertificateError::Chain)));
        let none = rule(CertificateChain::Web).read(pem.as_bytes(), NOW, &[]).map(|_| ());
        assert_eq!(none, Err(CertificateError::Chain));
        let pinned = |root: CertificateDer<'static>| {
            let chain = CertificateChain::Pinned(vec![root]);
            rule(chain).read(pem.as_bytes(), NOW, &[]).map(|_| ())
        };
        assert_eq!(pinned(other), Err(CertificateError::Chain));
        assert_eq!(pinned(root), Ok(()));
    }

    #[test]
    fn times_are_read_as_certificates_write_them() {
        assert_eq!(time(UTC_TIME, b"260101000000Z"), Some(1_767_225_600_000));
        assert_eq!(time(UTC_TIME, b"500101000000Z"), Some(-631_152_000_000));
        assert_eq!(time(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000_000));
        for (tag, text) in [
            (UTC_TIME, &b"2601010000Z"[..]),
            (UTC_TIME, b"260101000000+0000"),
            (UTC_TIME, b"261301000000Z"),
            (UTC_TIME, b"-60101000000Z"),
            (GENERALIZED_TIME, b"20500101000000.5Z"),
            (0x16, b"260101000000Z"),
            (UTC_TIME, b""),
        ] {
            assert_eq!(time(tag, text), None);
        }
        let (pem, _) = issued("a.example.com");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        for at in 0..der.len() {
            let _ = validity(&der[..at]);
        }
    }
}
