//! Certificates: the key of a leaf that leads to a root which the sender file pins.

use std::ops::RangeInclusive;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::der::{Der, SEQUENCE};
use super::fetched_certificate::validity;
use super::key_set::identity;
use super::public_key::PublicKey;

/// Certificates of a chain: those of app stores have three.
pub(in crate::sender) const CHAIN_MAX: usize = 8;

/// Algorithms that may sign a certificate: nothing with SHA-1, no RSA key under 2048 bits.
pub(super) const SIGNED_WITH: &[&dyn SignatureVerificationAlgorithm] = &[
    ECDSA_P256_SHA256,
    ECDSA_P256_SHA384,
    ECDSA_P384_SHA256,
    ECDSA_P384_SHA384,
    RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512,
];

/// `id-kp-codeSigning`: a leaf that limits its purposes has to allow signing. Those of app stores
/// have no such limit.
pub(super) const SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// How a chain of certificates has to look.
#[derive(Clone, Debug)]
pub(in crate::sender) struct ChainRule {
    /// The pinned roots, DER.
    pub(in crate::sender) roots: Vec<CertificateDer<'static>>,
    /// The number of certificates that a chain has, the root included.
    pub(in crate::sender) length: usize,
    /// An extension that the leaf has to have, DER of its object identifier.
    pub(in crate::sender) leaf: Option<Box<[u8]>>,
    /// An extension that each certificate between leaf and root has to have.
    pub(in crate::sender) intermediate: Option<Box<[u8]>>,
    /// Chains that led to a root.
    pub(in crate::sender) verified: VerifiedChains,
}

impl ChainRule {
    /// The key of the first of `certificates` (base64 of DER), if they lead to a pinned root at
    /// `now_ms`. The last one stands for the root, and is not read: the pinned one counts.
    ///
    /// A chain that did so before is looked up, while all of its certificates are valid.
    pub(in crate::sender) fn key(&self, certificates: &[String], now_ms: i64) -> Option<PublicKey> {
        if certificates.len() != self.length {
            return None;
        }
        let (_, certificates) = certificates.split_last()?;
        let digest = identity(certificates.iter().map(String::as_bytes));
        if let Some(key) = self.verified.get(&digest, now_ms) {
            return Some(key);
        }
        let (key, valid) = self.verified_key(certificates, now_ms)?;
        self.verified.insert(VerifiedChain { digest, valid, key: key.clone() });
        Some(key)
    }

    /// The key of the first of `certificates`, which are without the root, and when all of them are
    /// valid.
    fn verified_key(
        &self,
        certificates: &[String],
        now_ms: i64,
    ) -> Option<(PublicKey, RangeInclusive<i64>)> {
        let read = |text: &String| STANDARD.decode(text).ok().map(CertificateDer::from);
        let certificates: Vec<CertificateDer<'static>> =
            certificates.iter().map(read).collect::<Option<_>>()?;
        let (leaf, between) = certificates.split_first()?;
        let anchors: Vec<TrustAnchor<'_>> =
            self.roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now_ms).ok()?));
        let certificate = EndEntityCert::try_from(leaf).ok()?;
        let usage = KeyUsage::required_if_present(SIGNING);
        certificate
            .verify_for_usage(SIGNED_WITH, &anchors, between, now, usage, None, None)
            .ok()?;
        let has = |certificate: &CertificateDer<'_>, extension: &Option<Box<[u8]>>| {
            extension.as_ref().is_none_or(|oid| has_extension(certificate, oid))
        };
        let marked = has(leaf, &self.leaf)
            && between.iter().all(|certificate| has(certificate, &self.intermediate));
        let key = PublicKey::read(&certificate.subject_public_key_info()).filter(|_| marked)?;
        let dates: Vec<_> = certificates.iter().map(|one| validity(one)).collect::<Option<_>>()?;
        let from = dates.iter().map(|valid| *valid.start()).max()?;
        let until = dates.iter().map(|valid| *valid.end()).min()?;
        Some((key, from..=until))
    }
}

/// Chains that are remembered: a provider signs with a few at a time. Only verified ones are, so no
/// caller can push them out with certificates of its own.
const CHAINS_MAX: usize = 64;

/// Chains that led to a pinned root, the latest last. Another rule remembers its own.
#[derive(Debug, Default)]
pub(in crate::sender) struct VerifiedChains(RwLock<Vec<VerifiedChain>>);

#[derive(Debug)]
struct VerifiedChain {
    digest: [u8; 32],
    /// When all of its certificates are valid, Unix milliseconds.
    valid: RangeInclusive<i64>,
    key: PublicKey,
}

impl Clone for VerifiedChains {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl VerifiedChains {
    fn get(&self, digest: &[u8; 32], now_ms: i64) -> Option<PublicKey> {
        // No holder of the lock can panic in between.
        let chains = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = chains.iter().rev().find(|chain| chain.digest == *digest)?;
        known.valid.contains(&now_ms).then(|| known.key.clone())
    }

    fn insert(&self, chain: VerifiedChain) {
        let mut chains = self.0.write().unwrap_or_else(PoisonError::into_inner);
        chains.retain(|known| known.digest != chain.digest);
        if chains.len() >= CHAINS_MAX {
            chains.remove(0);
        }
        chains.push(chain);
    }
}

/// The DER content of the object identifier that `text` writes with dots; `None` if it is none.
pub(in crate::sender) fn object_identifier(text: &str) -> Option<Box<[u8]>> {
    let numbers: Vec<u32> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [first, second, rest @ ..] = numbers.as_slice() else { return None };
    if *first > 2 || *second > 39 || rest.is_empty() {
        return None;
    }
    let mut der = vec![u8::try_from(first * 40 + second).ok()?];
    for number in rest {
        let groups = (0..5).rev().map(|group| number >> (7 * group) & 0x7f);
        let groups: Vec<u32> = groups.skip_while(|group| *group == 0).collect();
        let (last, front) = groups.split_last().unwrap_or((&0, &[]));
        der.extend(front.iter().filter_map(|group| u8::try_from(group | 0x80).ok()));
        der.push(u8::try_from(*last).ok()?);
    }
    Some(der.into())
}

/// A root as a file writes it: base64 of DER, or PEM.
pub(in crate::sender) fn read_root(written: &str) -> Option<CertificateDer<'static>> {
    use rustls_pki_types::pem::PemObject as _;
    let text = written.trim();
    let der = match text.starts_with("-----BEGIN ") {
        true => CertificateDer::from_pem_slice(text.as_bytes()).ok()?,
        false => {
            let unbroken: String = text.split_whitespace().collect();
            CertificateDer::from(STANDARD.decode(unbroken).ok()?)
        }
    };
    anchor_from_trusted_cert(&der).is_ok().then_some(der)
}

const OID: u8 = 0x06;
const EXTENSIONS: u8 = 0xa3;

/// Whether a certificate, which was verified, has the extension `oid`, critical or not.
fn has_extension(certificate: &[u8], oid: &[u8]) -> bool {
    let extensions = || {
        let body = Der(Der(certificate).take(SEQUENCE)?).take(SEQUENCE)?;
        let mut fields = Der(body);
        loop {
            let (tag, content) = fields.take_any()?;
            if tag == EXTENSIONS {
                return Der(content).take(SEQUENCE);
            }
        }
    };
    let mut extensions = Der(extensions().unwrap_or_default());
    while let Some(extension) = extensions.take(SEQUENCE) {
        if Der(extension).take(OID) == Some(oid) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Published: the test data of Apple's own libraries (`testNotification`). The certificates end
    /// on 2032-12-31.
    const ROOT: &str = "MIIBgjCCASmgAwIBAgIJALUc5ALiH5pbMAoGCCqGSM49BAMDMDYxCzAJBgNVBAYTAlVTMRMwEQYDVQQIDApDYWxpZm9ybmlhMRIwEAYDVQQHDAlDdXBlcnRpbm8wHhcNMjMwMTA1MjEzMDIyWhcNMzMwMTAyMjEzMDIyWjA2MQswCQYDVQQGEwJVUzETMBEGA1UECAwKQ2FsaWZvcm5pYTESMBAGA1UEBwwJQ3VwZXJ0aW5vMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEc+/Bl+gospo6tf9Z7io5tdKdrlN1YdVnqEhEDXDShzdAJPQijamXIMHf8xWWTa1zgoYTxOKpbuJtDplz1XriTaMgMB4wDAYDVR0TBAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwCgYIKoZIzj0EAwMDRwAwRAIgemWQXnMAdTad2JDJWng9U4uBBL5mA7WI05H7oH7c6iQCIHiRqMjNfzUAyiu9h6rOU/K+iTR0I/3Y/NSWsXHX+acc";
    const LEAF: &str = "MIIBoDCCAUagAwIBAgIBCzAKBggqhkjOPQQDAjBNMQswCQYDVQQGEwJVUzETMBEGA1UECAwKQ2FsaWZvcm5pYTESMBAGA1UEBwwJQ3VwZXJ0aW5vMRUwEwYDVQQKDAxJbnRlcm1lZGlhdGUwHhcNMjMwMTA0MTYzNzMxWhcNMzIxMjMxMTYzNzMxWjBFMQswCQYDVQQGEwJVUzETMBEGA1UECAwKQ2FsaWZvcm5pYTESMBAGA1UEBwwJQ3VwZXJ0aW5vMQ0wCwYDVQQKDARMZWFmMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4rWBxGmFbnPIPQI0zsBKzLxsj8pD2vqbr0yPISUx2WQyxmrNql9fhK8YEEyYFV7++p5i4YUSR/o9uQIgCPIhrKMfMB0wCQYDVR0TBAIwADAQBgoqhkiG92NkBgsBBAITADAKBggqhkjOPQQDAgNIADBFAiEAkiEZkoFMkj4gXn+Q9jXQZMjZ2gnjZ3aM8NYrgfTUivQCIDJYZ0FaLe7nSIU2LWLTk5tXTCc4E8GJSYf/sYRxEFie";
    const BETWEEN: &str = "MIIBlzCCAT2gAwIBAgIBBjAKBggqhkjOPQQDAjA2MQswCQYDVQQGEwJVUzETMBEGA1UECAwKQ2FsaWZvcm5pYTESMBAGA1UEBwwJQ3VwZXJ0aW5vMB4XDTIzMDEwNDE2MjYwMVoXDTMyMTIzMTE2MjYwMVowTTELMAkGA1UEBhMCVVMxEzARBgNVBAgMCkNhbGlmb3JuaWExEjAQBgNVBAcMCUN1cGVydGlubzEVMBMGA1UECgwMSW50ZXJtZWRpYXRlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFQ3lX2sqN9GIwAiiMQDQC/kynSgX47RwviDOtMXXvyKdQe6CPsS3jo2uRDuEqAxWeOiCrjlDWsyz5wwdU0gtaqMlMCMwDwYDVR0TBAgwBgEB/wIBADAQBgoqhkiG92NkBgIBBAITADAKBggqhkjOPQQDAgNIADBFAiEAvnzMcV268cRb1/FpyV1EhT3WFvOzrBUWP6/ToThFavMCIFba5t6YKy0R2JDtxqtOjJy66l6V7d/PrADNpkmIPW+i";
    /// 2023-04-12.
    const NOW: i64 = 1_681_314_324_000;

    fn rule() -> ChainRule {
        ChainRule {
            roots: vec![read_root(ROOT).unwrap()],
            length: 3,
            leaf: object_identifier("1.2.840.113635.100.6.11.1"),
            intermediate: object_identifier("1.2.840.113635.100.6.2.1"),
            verified: VerifiedChains::default(),
        }
    }

    fn chain(parts: [&str; 3]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn a_published_chain_leads_to_its_root_and_to_no_other() {
        let sent = chain([LEAF, BETWEEN, "what stands for the root is not read"]);
        assert!(rule().key(&sent, NOW).is_some());
        assert!(rule().key(&sent[..2], NOW).is_none(), "another length");
        assert!(rule().key(&chain([BETWEEN, BETWEEN, ROOT]), NOW).is_none(), "a CA is not a leaf");
        assert!(rule().key(&chain([ROOT, BETWEEN, ROOT]), NOW).is_none(), "a root is not a leaf");
        assert!(rule().key(&chain([LEAF, LEAF, ROOT]), NOW).is_none(), "a leaf signs none");
        assert!(rule().key(&sent, 1_672_000_000_000).is_none(), "before its time");
        assert!(rule().key(&sent, 1_988_200_000_000).is_none(), "after its time");
        assert!(rule().key(&sent, -1).is_none());
        let none = ChainRule { roots: Vec::new(), ..rule() };
        assert!(none.key(&sent, NOW).is_none());
        let other = ChainRule { roots: vec![read_root(BETWEEN).unwrap()], length: 2, ..rule() };
        assert!(other.key(&sent[..2], NOW).is_some(), "an intermediate that is pinned is a root");
    }

    #[test]
    fn a_verified_chain_is_remembered_while_it_is_valid() {
        let sent = chain([LEAF, BETWEEN, ROOT]);
        let rule = rule();
        let known = || rule.verified.0.read().unwrap().len();
        let key = rule.key(&sent, NOW).unwrap();
        assert_eq!((rule.key(&sent, NOW).unwrap(), known()), (key, 1));
        // The dates count each time, and nothing else is taken for the same.
        assert!(rule.key(&sent, 1_672_000_000_000).is_none());
        assert!(rule.key(&sent, 1_988_200_000_000).is_none());
        assert!(rule.key(&chain([LEAF, LEAF, ROOT]), NOW).is_none());
        assert!(rule.key(&chain([&LEAF.replace('E', "F"), BETWEEN, ROOT]), NOW).is_none());
        assert_eq!(known(), 1, "only what verified is remembered");
        let other = ChainRule { roots: Vec::new(), ..rule.clone() };
        assert!(other.key(&sent, NOW).is_none(), "another rule remembers nothing of this one");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let chains = VerifiedChains::default();
        let key = rule().key(&chain([LEAF, BETWEEN, ROOT]), NOW).unwrap();
        for n in 0..200_u8 {
            chains.insert(VerifiedChain { digest: [n; 32], valid: 0..=1, key: key.clone() });
        }
        assert_eq!(chains.0.read().unwrap().len(), CHAINS_MAX);
        assert!(chains.get(&[199; 32], 1).is_some() && chains.get(&[0; 32], 1).is_none());
        assert!(chains.get(&[199; 32], 2).is_none());
    }

    #[test]
    fn every_byte_of_a_certificate_counts() {
        let der = STANDARD.decode(LEAF).unwrap();
        for at in 0..der.len() {
            let mut wrong = der.clone();
            wrong[at] ^= 1;
            let sent = chain([&STANDARD.encode(&wrong), BETWEEN, ROOT]);
            assert!(rule().key(&sent, NOW).is_none(), "byte {at}");
        }
    }

    #[test]
    fn an_extension_that_a_file_asks_for_has_to_be_there() {
        let sent = chain([LEAF, BETWEEN, ROOT]);
        let swapped = ChainRule { leaf: rule().intermediate, ..rule() };
        assert!(swapped.key(&sent, NOW).is_none());
        let swapped = ChainRule { intermediate: rule().leaf, ..rule() };
        assert!(swapped.key(&sent, NOW).is_none());
        let none = ChainRule { leaf: None, intermediate: None, ..rule() };
        assert!(none.key(&sent, NOW).is_some());
    }

    #[test]
    fn identifiers_are_written_as_der_does() {
        assert_eq!(&*object_identifier("1.2.840.113549").unwrap(), b"\x2a\x86\x48\x86\xf7\x0d");
        assert_eq!(&*object_identifier("2.5.29.15").unwrap(), b"\x55\x1d\x0f");
        for text in ["", "1", "1.2", "3.1.1", "1.40.1", "1.2.x", "1.2.", "1.2.99999999999"] {
            assert_eq!(object_identifier(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(der: Vec<u8>, oid: Vec<u8>) {
            let _ = has_extension(&der, &oid);
            let sent = chain([&STANDARD.encode(&der), BETWEEN, ROOT]);
            proptest::prop_assert!(rule().key(&sent, NOW).is_none());
        }
    }
}
