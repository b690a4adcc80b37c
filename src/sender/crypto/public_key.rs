//! Public keys, and the verification of signatures.
//!
//! The cryptography is `ring`'s, which TLS uses as well. It takes a bare point or RSA key, so what
//! stands around it (PEM, base64, DER) is taken off here: strictly, because one key written in two
//! ways would be two keys.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519,
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use super::der::{Der, SEQUENCE, element, integer};
use crate::sender::request::encoding;

/// The scheme of a signature with a private key. Each hashes the text with SHA-256, except the one
/// on P-384, which takes SHA-384, and Ed25519, which has a digest of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Scheme {
    /// ECDSA on P-256; the signature is DER.
    EcdsaP256,
    /// ECDSA on P-256; the signature is two numbers of 32 bytes.
    EcdsaP256Raw,
    /// ECDSA on P-384; the signature is two numbers of 48 bytes.
    EcdsaP384Raw,
    /// RSA-PSS; the salt is as long as the digest.
    RsaPss,
    /// RSA with the padding of PKCS #1 v1.5.
    RsaPkcs1,
    /// RSA with the padding of PKCS #1 v1.5 and SHA-1, also with keys of 1024 bits: weak.
    RsaPkcs1Sha1,
    /// Ed25519.
    Ed25519,
}

impl Scheme {
    pub(in crate::sender) const ALL: [Self; 7] = [
        Self::EcdsaP256,
        Self::EcdsaP256Raw,
        Self::EcdsaP384Raw,
        Self::RsaPss,
        Self::RsaPkcs1,
        Self::RsaPkcs1Sha1,
        Self::Ed25519,
    ];

    /// The scheme called `name` in a sender file.
    pub(in crate::sender) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// Its name in a sender file.
    pub(in crate::sender) fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa_p256",
            Self::EcdsaP256Raw => "ecdsa_p256_raw",
            Self::EcdsaP384Raw => "ecdsa_p384_raw",
            Self::RsaPss => "rsa_pss",
            Self::RsaPkcs1 => "rsa_pkcs1",
            Self::RsaPkcs1Sha1 => "rsa_pkcs1_sha1",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The kind of key that it takes.
    pub(in crate::sender) fn kind(self) -> KeyKind {
        match self {
            Self::EcdsaP256 | Self::EcdsaP256Raw => KeyKind::P256,
            Self::EcdsaP384Raw => KeyKind::P384,
            Self::RsaPss | Self::RsaPkcs1 | Self::RsaPkcs1Sha1 => KeyKind::Rsa,
            Self::Ed25519 => KeyKind::Ed25519,
        }
    }

    /// Whether it takes keys of that kind.
    pub(in crate::sender) fn takes(self, kind: KeyKind) -> bool {
        kind == self.kind() || (self.is_weak() && kind == KeyKind::WeakRsa)
    }

    /// Whether forging it is within reach: only a source that says `weak = true` accepts it.
    pub(in crate::sender) fn is_weak(self) -> bool {
        self == Self::RsaPkcs1Sha1
    }

    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP256Raw => &ECDSA_P256_SHA256_FIXED,
            Self::EcdsaP384Raw => &ECDSA_P384_SHA384_FIXED,
            Self::RsaPss => &RSA_PSS_2048_8192_SHA256,
            Self::RsaPkcs1 => &RSA_PKCS1_2048_8192_SHA256,
            Self::RsaPkcs1Sha1 => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Ed25519 => &ED25519,
        }
    }

    /// Whether `signature` was made of `message` with the private half of `key`.
    pub(in crate::sender) fn verifies(
        self,
        key: &PublicKey,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let fits = self.takes(key.kind);
        fits && UnparsedPublicKey::new(self.algorithm(), &key.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

/// The kinds of keys that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum KeyKind {
    /// A point of P-256.
    P256,
    /// A point of P-384.
    P384,
    /// An RSA key of 2048 to 8192 bits.
    Rsa,
    /// An RSA key of 1024 to 2047 bits.
    WeakRsa,
    /// A key of Ed25519.
    Ed25519,
}

/// A public key, without what stood around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct PublicKey {
    kind: KeyKind,
    /// The uncompressed point, the `RSAPublicKey` of PKCS #1, or the 32 bytes of Ed25519.
    bytes: Box<[u8]>,
}

/// Base64 around a key that is taken off: Huawei writes the PEM text in base64.
const LAYERS_MAX: usize = 2;

/// Characters of a written key: an RSA key of 8192 bits as PEM in base64 has under 2 kB.
const WRITTEN_MAX: usize = 8 * 1024;

const PEM_HEAD: &[u8] = b"-----BEGIN ";
const CERTIFICATE_HEAD: &[u8] = b"-----BEGIN CERTIFICATE-----";

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`: DER, PEM, or either in base64; or a certificate in PEM or its
    /// base64, of which only the key counts: a key that was pinned does not end.
    pub(in crate::sender) fn read(written: &[u8]) -> Option<Self> {
        let mut text = Cow::Borrowed(written);
        for _ in 0..=LAYERS_MAX {
            if text.len() > WRITTEN_MAX {
                return None;
            }
            if let Some(key) = Self::from_spki(&text) {
                return Some(key);
            }
            let trimmed = text.trim_ascii();
            if trimmed.starts_with(CERTIFICATE_HEAD) {
                return Self::of_certificate(&CertificateDer::from_pem_slice(trimmed).ok()?);
            }
            if trimmed.starts_with(PEM_HEAD) {
                let der = SubjectPublicKeyInfoDer::from_pem_slice(trimmed).ok()?;
                return Self::from_spki(&der);
            }
            let unbroken: Vec<u8> =
                trimmed.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            text = Cow::Owned(encoding::unbase64(&unbroken).ok()?);
        }
        None
    }

    /// Reads a key that a source is given: as [`Self::read`] does, or the bare 32 bytes that
    /// Standard Webhooks writes behind `whpk_`.
    pub(in crate::sender) fn read_for(scheme: Scheme, written: &[u8]) -> Option<Self> {
        let bare = scheme == Scheme::Ed25519 && written.len() == ED25519_LEN;
        if bare {
            return Some(Self { kind: KeyKind::Ed25519, bytes: written.into() });
        }
        Self::read(written).filter(|key| scheme.takes(key.kind))
    }

    fn of_certificate(der: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(der).ok()?;
        Self::from_spki(&certificate.subject_public_key_info())
    }

    /// Reads the DER of a `SubjectPublicKeyInfo`, whole.
    fn from_spki(der: &[u8]) -> Option<Self> {
        let mut outer = Der(der);
        let mut info = Der(outer.take(SEQUENCE)?);
        let algorithm = info.take(SEQUENCE)?;
        let bits = info.take(BIT_STRING)?;
        let whole = outer.0.is_empty() && info.0.is_empty();
        let (unused, bytes) = bits.split_first()?;
        if !whole || *unused != 0 {
            return None;
        }
        let (kind, sound) = match algorithm {
            P256 => (KeyKind::P256, is_point(bytes, P256_BYTES)),
            P384 => (KeyKind::P384, is_point(bytes, P384_BYTES)),
            RSA if is_rsa(bytes, WEAK_MODULUS) => (KeyKind::WeakRsa, true),
            RSA => (KeyKind::Rsa, is_rsa(bytes, MODULUS)),
            ED25519_ID => (KeyKind::Ed25519, bytes.len() == ED25519_LEN),
            _ => return None,
        };
        sound.then(|| Self { kind, bytes: bytes.into() })
    }

    /// Reads an entry of a JSON Web Key Set (RFC 7517): `kty` EC, RSA or OKP.
    pub(in crate::sender) fn of_jwk(entry: &serde_json::Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let point = |len: usize| {
            let point = [vec![UNCOMPRESSED], bytes("x")?, bytes("y")?].concat();
            let has_len = |name| bytes(name).is_some_and(|one| one.len() == len);
            (has_len("x") && has_len("y")).then(|| point.into_boxed_slice())
        };
        let (kind, bytes) = match (text("kty")?, text("crv")) {
            ("EC", Some("P-256")) => (KeyKind::P256, point(P256_BYTES)?),
            ("EC", Some("P-384")) => (KeyKind::P384, point(P384_BYTES)?),
            ("OKP", Some("Ed25519")) => {
                let key = bytes("x").filter(|key| key.len() == ED25519_LEN)?;
                (KeyKind::Ed25519, key.into())
            }
            ("RSA", _) => {
                let der =
                    element(SEQUENCE, &[integer(&bytes("n")?)?, integer(&bytes("e")?)?].concat())?;
                (KeyKind::Rsa, Some(der).filter(|der| is_rsa(der, MODULUS))?.into())
            }
            _ => return None,
        };
        Some(Self { kind, bytes })
    }

    /// Its kind.
    pub(in crate::sender) fn kind(&self) -> KeyKind {
        self.kind
    }
}

// === DER ===

const BIT_STRING: u8 = 0x03;

/// The whole `AlgorithmIdentifier` of `id-ecPublicKey` on `prime256v1`: another curve is another
/// algorithm.
const P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// The same on `secp384r1`.
const P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";

/// The identifier of `rsaEncryption`, whose parameters are NULL.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// The identifier of `id-Ed25519`, which has no parameters.
const ED25519_ID: &[u8] = b"\x06\x03\x2b\x65\x70";

/// Bytes of a coordinate.
const P256_BYTES: usize = 32;
const P384_BYTES: usize = 48;
const UNCOMPRESSED: u8 = 0x04;
const ED25519_LEN: usize = 32;

/// Bytes of the modulus of an RSA key: 2048 to 8192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// The same of a weak key: 1024 to 2047 bits.
const WEAK_MODULUS: std::ops::RangeInclusive<usize> = 128..=255;

/// Whether `bytes` are an uncompressed point with coordinates of `len` bytes.
fn is_point(bytes: &[u8], len: usize) -> bool {
    bytes.len() == 2 * len + 1 && bytes[0] == UNCOMPRESSED
}

/// Whether `der` is an `RSAPublicKey`, whole, with a modulus of so many bytes.
fn is_rsa(der: &[u8], modulus_bytes: std::ops::RangeInclusive<usize>) -> bool {
    let read = || {
        let mut outer = Der(der);
        let mut pair = Der(outer.take(SEQUENCE)?);
        let modulus = pair.take_positive()?;
        let exponent = pair.take_positive()?;
        let whole = outer.0.is_empty() && pair.0.is_empty();
        Some(whole && modulus_bytes.contains(&modulus.len()) && exponent.len() <= 4)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
pub(in crate::sender) mod tests {
    use super::*;

    /// The public half of `fixtures/keys/test-rsa-2048.pk8`, which protects nothing.
    pub(in crate::sender) fn rsa_spki() -> Vec<u8> {
        use ring::signature::KeyPair as _;
        let pkcs1 = rsa_pair().public_key().as_ref().to_vec();
        spki(RSA, &pkcs1)
    }

    /// Bytes of a point of P-256, its mark included.
    const POINT_LEN: usize = 2 * P256_BYTES + 1;

    pub(in crate::sender) fn rsa_pair() -> ring::signature::RsaKeyPair {
        let pk8 = include_bytes!("../../../fixtures/keys/test-rsa-2048.pk8");
        ring::signature::RsaKeyPair::from_pkcs8(pk8).unwrap()
    }

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let head = match content.len() {
            len @ 0..=0x7f => vec![tag, u8::try_from(len).unwrap()],
            len @ 0x80..=0xff => vec![tag, 0x81, u8::try_from(len).unwrap()],
            len => [&[tag, 0x82][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
        };
        [head, content.to_vec()].concat()
    }

    pub(in crate::sender) fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
        let algorithm = element(SEQUENCE, algorithm);
        let bits = element(BIT_STRING, &[&[0], key].concat());
        element(SEQUENCE, &[algorithm, bits].concat())
    }

    const POINT: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6GVBIW2k2FehoPuEUBBDZGDVbivORESuj2B9dnVM+F\
                         53oSqjTZeIx2L0jX/WFMbgxPBtRwDtHmEjBHR9Vn/sTA==";

    fn der(base64: &str) -> Vec<u8> {
        encoding::unbase64(base64.as_bytes()).unwrap()
    }

    fn kind(written: &[u8]) -> Option<KeyKind> {
        PublicKey::read(written).map(|key| key.kind())
    }

    fn pem(der: &[u8]) -> String {
        let text = encoding::base64(der);
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    #[test]
    fn a_key_is_read_in_each_writing() {
        let edwards = der("MCowBQYDK2VwAyEANU3m+PzNTMqn/0lM7NhKGerDEtsK++PkSSU0Jb2HERI=");
        for (der, expected) in
            [(der(POINT), KeyKind::P256), (rsa_spki(), KeyKind::Rsa), (edwards, KeyKind::Ed25519)]
        {
            let key = PublicKey::read(&der);
            assert_eq!(key.as_ref().map(PublicKey::kind), Some(expected));
            let pem = pem(&der);
            for written in [
                encoding::base64(&der),
                encoding::base64url(&der),
                pem.clone(),
                pem.replace('\n', "\r\n"),
                format!("\n  {pem}  \n"),
                encoding::base64(pem.as_bytes()),
                encoding::base64(pem.as_bytes()).replace('A', "A\n"),
                encoding::base64(encoding::base64(&der).as_bytes()),
            ] {
                assert_eq!(PublicKey::read(written.as_bytes()), key, "{written}");
            }
        }
    }

    #[test]
    fn other_curves_sizes_and_writings_are_no_keys() {
        let secp256k1 = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEQf0LOUnJRZbqvJKQVISKNeqSKSP+VL+DXp8/7uQ+PfDJAkvvm1rw0dtv079wu3/UQ+bcbL/AvkTmk8y6uJQANQ==";
        let compressed =
            "MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgAC6GVBIW2k2FehoPuEUBBDZGDVbivORESuj2B9dnVM+F4=";
        let rsa_1024 = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC7/Bd5FZPVrSeCGI5nW/tp1dg86nQmmSJzaUL0hx0WbyPDkghwrL7op1xdgPLCV4UrQSnCbgRCFRhL65GKZ6vgYCquP8Lmo3/7+V9j7kJmeFDewT4Bq8FrT+V7Hp7HmW7KY+p5dCmvaVB+24mshdgvezdCeHcgib0UIT5ekfZ98QIDAQAB";
        let explicit = "MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABOhlQSFtpNhXoaD7hFAQQ2Rg1W4rzkREro9gfXZ1TPhed6Eqo02XiMdi9I1/1hTG4MTwbUcA7R5hIwR0fVZ/7Ew=";
        for other in [secp256k1, compressed, explicit, "", "AA==", "====", "MA=="] {
            assert_eq!(kind(other.as_bytes()), None, "{other}");
        }
        assert_eq!(kind(rsa_1024.as_bytes()), Some(KeyKind::WeakRsa));
        for scheme in [Scheme::RsaPss, Scheme::RsaPkcs1] {
            assert!(!scheme.takes(KeyKind::WeakRsa), "1024 bits, for what is not called weak");
        }
        let private = pem(&der(POINT)).replace("PUBLIC", "PRIVATE");
        assert_eq!(kind(private.as_bytes()), None);
        assert_eq!(kind(pem(&der(POINT)).replace("END", "FIN").as_bytes()), None);
        assert_eq!(kind(&[b'A'; WRITTEN_MAX + 1]), None);
        // Base64 of base64 of base64 of base64.
        let deep = (0..4).fold(der(POINT), |text, _| encoding::base64(&text).into_bytes());
        assert_eq!(kind(&deep), None);
    }

    #[test]
    fn a_key_of_another_kind_is_not_taken_for_a_scheme() {
        let bare = [7; ED25519_LEN];
        for scheme in Scheme::ALL {
            let is_edwards = scheme == Scheme::Ed25519;
            assert_eq!(PublicKey::read_for(scheme, &bare).is_some(), is_edwards);
            let point = PublicKey::read_for(scheme, &der(POINT));
            assert_eq!(point.is_some(), scheme.kind() == KeyKind::P256);
            let rsa = PublicKey::read_for(scheme, &rsa_spki());
            assert_eq!(rsa.is_some(), scheme.kind() == KeyKind::Rsa);
            let key = PublicKey::read(&der(POINT)).unwrap();
            assert!(!scheme.verifies(&key, b"message", b""), "{scheme:?}");
        }
    }

    /// The leaf of the test data of Apple's libraries.
    #[test]
    fn the_key_of_a_certificate_is_read() {
        let leaf = "MIIBoDCCAUagAwIBAgIBCzAKBggqhkjOPQQDAjBNMQswCQYDVQQGEwJVUzETMBEGA1UECAwKQ2FsaWZvcm5pYTESMBAGA1UEBwwJQ3VwZXJ0aW5vMRUwEwYDVQQKDAxJbnRlcm1lZGlhdGUwHhcNMjMwMTA0MTYzNzMxWhcNMzIxMjMxMTYzNzMxWjBFMQswCQYDVQQGEwJVUzETMBEGA1UECAwKQ2FsaWZvcm5pYTESMBAGA1UEBwwJQ3VwZXJ0aW5vMQ0wCwYDVQQKDARMZWFmMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4rWBxGmFbnPIPQI0zsBKzLxsj8pD2vqbr0yPISUx2WQyxmrNql9fhK8YEEyYFV7++p5i4YUSR/o9uQIgCPIhrKMfMB0wCQYDVR0TBAIwADAQBgoqhkiG92NkBgsBBAITADAKBggqhkjOPQQDAgNIADBFAiEAkiEZkoFMkj4gXn+Q9jXQZMjZ2gnjZ3aM8NYrgfTUivQCIDJYZ0FaLe7nSIU2LWLTk5tXTCc4E8GJSYf/sYRxEFie";
        let pem = format!("-----BEGIN CERTIFICATE-----\n{leaf}\n-----END CERTIFICATE-----\n");
        assert_eq!(PublicKey::read(pem.as_bytes()).unwrap().kind(), KeyKind::P256);
        let packed = encoding::base64(pem.as_bytes());
        assert_eq!(PublicKey::read(packed.as_bytes()), PublicKey::read(pem.as_bytes()));
        assert_eq!(PublicKey::read(pem.replace("MIIB", "MIIC").as_bytes()), None);
    }

    #[test]
    fn keys_of_a_set_are_built_from_their_numbers() {
        let rsa = PublicKey::read(&rsa_spki()).unwrap();
        let mut pair = Der(&rsa.bytes);
        let mut numbers = Der(pair.take(SEQUENCE).unwrap());
        let mut number = || URL_SAFE_NO_PAD.encode(numbers.take_positive().unwrap());
        let (n, e) = (number(), number());
        let jwk = |n: &str| PublicKey::of_jwk(&serde_json::json!({"kty": "RSA", "n": n, "e": e}));
        assert_eq!(jwk(&n), Some(rsa));
        for wrong in ["", "AQAB", &n[4..n.len() / 2], "not base64!"] {
            assert_eq!(jwk(wrong), None, "{wrong}");
        }
        let edwards = URL_SAFE_NO_PAD.encode([7; ED25519_LEN]);
        let okp = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": edwards});
        assert_eq!(PublicKey::of_jwk(&okp).unwrap().kind(), KeyKind::Ed25519);
        for other in [
            serde_json::json!({"kty": "oct", "k": "AA"}),
            serde_json::json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            serde_json::json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            serde_json::json!({"kty": 1}),
            serde_json::json!([]),
        ] {
            assert_eq!(PublicKey::of_jwk(&other), None, "{other}");
        }
    }

    #[test]
    fn a_weak_key_is_for_the_weak_scheme_alone() {
        let weak = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCmreYIkPwVovKR8rLHWlFVw7YDfm9uQOJKL89Smt6ypXGVdrAKKl0wNYc3/jecAoPi2ylChfa2iRu5gunJyNmpWZzlCNRIau55fxGW0XEu553IiprOZcaw5OuYGlf60ga8QT6qToP0/dpiL/ZbmNUO9kUhosIjEu22uFgR+5cYyQIDAQAB";
        assert_eq!(PublicKey::read(weak.as_bytes()).unwrap().kind(), KeyKind::WeakRsa);
        for scheme in Scheme::ALL {
            let is_taken = PublicKey::read_for(scheme, weak.as_bytes()).is_some();
            assert_eq!(is_taken, scheme == Scheme::RsaPkcs1Sha1, "{scheme:?}");
        }
    }

    #[test]
    fn rfc_8032() {
        let key =
            const_hex::decode("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = const_hex::decode(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        let key = PublicKey::read_for(Scheme::Ed25519, &key.unwrap()).unwrap();
        assert!(Scheme::Ed25519.verifies(&key, b"\x72", &signature.clone().unwrap()));
        assert!(!Scheme::Ed25519.verifies(&key, b"\x73", &signature.unwrap()));
    }

    /// Signed with the private half of the test key by `padding`.
    fn rsa_signed(padding: &'static dyn ring::signature::RsaEncoding, message: &[u8]) -> Vec<u8> {
        let pair = rsa_pair();
        let mut signature = vec![0; pair.public().modulus_len()];
        let random = ring::rand::SystemRandom::new();
        pair.sign(padding, &random, message, &mut signature).unwrap();
        signature
    }

    #[test]
    fn each_padding_of_rsa_is_its_own_scheme() {
        let key = PublicKey::read(&rsa_spki()).unwrap();
        let pss = rsa_signed(&ring::signature::RSA_PSS_SHA256, b"message");
        let pkcs1 = rsa_signed(&ring::signature::RSA_PKCS1_SHA256, b"message");
        for (signature, right, wrong) in
            [(&pss, Scheme::RsaPss, Scheme::RsaPkcs1), (&pkcs1, Scheme::RsaPkcs1, Scheme::RsaPss)]
        {
            assert!(right.verifies(&key, b"message", signature));
            assert!(!right.verifies(&key, b"Message", signature));
            assert!(!right.verifies(&key, b"message", &signature[1..]));
            assert!(!wrong.verifies(&key, b"message", signature));
        }
    }

    #[test]
    fn what_stands_around_a_point_is_the_same_for_all_points() {
        let right = der(POINT);
        let key = &right[right.len() - POINT_LEN..];
        assert_eq!(spki(P256, key), right);
        for at in 0..=right.len() - POINT_LEN {
            for change in [1, 0x80, 0xff] {
                let mut wrong = right.clone();
                wrong[at] ^= change;
                assert_eq!(PublicKey::from_spki(&wrong), None, "byte {at}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_key_or_none(bytes: Vec<u8>) {
            let _ = PublicKey::read(&bytes);
            let _ = PublicKey::from_spki(&element(SEQUENCE, &bytes));
            let _ = is_rsa(&element(SEQUENCE, &bytes), MODULUS);
        }

        #[test]
        fn a_key_that_is_cut_or_goes_on_is_none(more in proptest::collection::vec(0_u8.., 1..20)) {
            for right in [der(POINT), rsa_spki()] {
                let cut = &right[..right.len() - more.len()];
                proptest::prop_assert_eq!(PublicKey::from_spki(cut), None);
                let longer = [&right[..], &more].concat();
                proptest::prop_assert_eq!(PublicKey::from_spki(&longer), None);
            }
        }

        /// A key has one writing in DER: whatever is read is written again as it was.
        #[test]
        fn a_key_that_is_read_has_one_writing(at in 0_usize..294, byte: u8) {
            for mut changed in [der(POINT), rsa_spki()] {
                let at = at % changed.len();
                changed[at] = byte;
                let Some(key) = PublicKey::from_spki(&changed) else { continue };
                let algorithm = if key.kind == KeyKind::P256 { P256 } else { RSA };
                proptest::prop_assert_eq!(spki(algorithm, &key.bytes), changed);
            }
        }

        #[test]
        fn only_what_was_signed_verifies(message: Vec<u8>, at: usize, byte in 1_u8..) {
            use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING as SIGNING, EcdsaKeyPair, KeyPair as _};
            let random = ring::rand::SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(&SIGNING, pkcs8.as_ref(), &random).unwrap();
            let key = PublicKey::read(&spki(P256, pair.public_key().as_ref())).unwrap();
            let signature = pair.sign(&random, &message).unwrap().as_ref().to_vec();
            proptest::prop_assert!(Scheme::EcdsaP256.verifies(&key, &message, &signature));
            let mut forged = signature.clone();
            let at = at % forged.len();
            forged[at] ^= byte;
            proptest::prop_assert!(!Scheme::EcdsaP256.verifies(&key, &message, &forged));
            let longer = [&message[..], &[byte]].concat();
            proptest::prop_assert!(!Scheme::EcdsaP256.verifies(&key, &longer, &signature));
        }
    }
}
