//! JSON Web Signatures and tokens (RFC 7515, 7519): the strict reading of a token, its key, and its
//! claims.
//!
//! A token chooses nothing. The sender file names the algorithms and where keys come from; the
//! header's `alg` is only compared, its `kid` only picks from a list, and every other way to name a
//! key is ignored. What changes the meaning of a token (`crit`, `b64`, `zip`, `enc`) refuses it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::key_set::KeySet;
use super::public_key::{PublicKey, Scheme};
use crate::sender::request::encoding::EncodingError;
use crate::sender::request::json;

/// Bytes of a token: those of app stores have up to 20 kB.
pub(in crate::sender) const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a header: three certificates have about 4 kB.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Members of a header that change the meaning of a token.
const REFUSED: &[&str] = &["crit", "b64", "zip", "enc"];

/// The algorithm of a token, as the sender file pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum JwsAlgorithm {
    /// HMAC with SHA-256, under the source's secret.
    Hs256,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// RSA-PSS and SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256; the signature is two numbers.
    Es256,
    /// ECDSA on P-384 with SHA-384; the signature is two numbers.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl JwsAlgorithm {
    const ALL: [Self; 6] =
        [Self::Hs256, Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// Its name in headers and files.
    pub(in crate::sender) fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm called `name`. There is no `none`.
    pub(in crate::sender) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The scheme of its private key; `None` if its key is a secret.
    pub(in crate::sender) fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Hs256 => None,
            Self::Rs256 => Some(Scheme::RsaPkcs1),
            Self::Ps256 => Some(Scheme::RsaPss),
            Self::Es256 => Some(Scheme::EcdsaP256Raw),
            Self::Es384 => Some(Scheme::EcdsaP384Raw),
            Self::EdDsa => Some(Scheme::Ed25519),
        }
    }
}

/// A part of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum TokenPart {
    /// The text that is signed: header and payload as they are written.
    Signed,
    /// The signature as it is written.
    Signature,
    /// The payload, decoded.
    Payload,
    /// The id of the key, from the header.
    KeyId,
}

impl TokenPart {
    /// The part of `token`.
    ///
    /// # Errors
    /// [`EncodingError`] if it is not a token, or has no such part.
    pub(in crate::sender) fn of(self, token: &[u8]) -> Result<Vec<u8>, EncodingError> {
        let token = Token::read(token).ok_or(EncodingError)?;
        match self {
            Self::Signed => Ok(token.signed.to_vec()),
            Self::Signature => {
                let is_canonical = decoded(token.signature).is_some();
                Some(token.signature.to_vec()).filter(|_| is_canonical).ok_or(EncodingError)
            }
            Self::Payload => decoded(token.payload).ok_or(EncodingError),
            Self::KeyId => {
                let id = Header::read(token.header).and_then(|header| header.key_id);
                id.map(String::into_bytes).ok_or(EncodingError)
            }
        }
    }
}

/// A token in its three parts, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Token<'t> {
    signed: &'t [u8],
    header: &'t [u8],
    payload: &'t [u8],
    signature: &'t [u8],
}

impl<'t> Token<'t> {
    /// Reads a token in compact form: exactly three parts of base64url without padding, none empty.
    pub(in crate::sender) fn read(token: &'t [u8]) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let last = memchr::memrchr(b'.', token)?;
        let (signed, signature) = (&token[..last], &token[last + 1..]);
        let (header, payload) = split_signed(signed)?;
        is_base64url(signature).then_some(Self { signed, header, payload, signature })
    }

    /// The text that is signed.
    pub(in crate::sender) fn signed(&self) -> &'t [u8] {
        self.signed
    }

    /// The bytes of the signature.
    pub(in crate::sender) fn signature(&self) -> Option<Vec<u8>> {
        decoded(self.signature)
    }

    /// The payload.
    pub(in crate::sender) fn payload(&self) -> Option<Vec<u8>> {
        decoded(self.payload)
    }
}

/// Header and payload of the text that a token signs.
fn split_signed(signed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, payload) = signed.split_at_checked(memchr::memchr(b'.', signed)?)?;
    let payload = &payload[1..];
    (is_base64url(header) && is_base64url(payload)).then_some((header, payload))
}

fn is_base64url(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Decodes base64url, canonical: one text for each value.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The members of a header that count; others are ignored.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sender) struct Header {
    algorithm: String,
    key_id: Option<String>,
    kind: Option<String>,
    /// Certificates in standard base64, that of the key first.
    pub(in crate::sender) certificates: Vec<String>,
}

impl Header {
    /// Reads a header as it is written in a token.
    fn read(written: &[u8]) -> Option<Self> {
        let text = decoded(written).filter(|text| text.len() <= HEADER_BYTES_MAX)?;
        let members = json::members(&text)?;
        let mut header =
            Self { algorithm: String::new(), key_id: None, kind: None, certificates: Vec::new() };
        for (index, member) in members.iter().enumerate() {
            let name = &*member.name;
            let repeated = members[..index].iter().any(|other| other.name == member.name);
            if repeated || REFUSED.contains(&name) {
                return None;
            }
            match name {
                "alg" => header.algorithm = serde_json::from_slice(member.raw).ok()?,
                "kid" => header.key_id = Some(serde_json::from_slice(member.raw).ok()?),
                "typ" => header.kind = Some(serde_json::from_slice(member.raw).ok()?),
                "x5c" => header.certificates = serde_json::from_slice(member.raw).ok()?,
                _ => {}
            }
        }
        Some(header)
    }

    /// The header of the text that a token signs.
    pub(in crate::sender) fn of_signed(signed: &[u8]) -> Option<Self> {
        Self::read(split_signed(signed)?.0)
    }

    /// The id of the key.
    pub(in crate::sender) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether it names `algorithm`.
    pub(in crate::sender) fn names(&self, algorithm: JwsAlgorithm) -> bool {
        self.algorithm == algorithm.name()
    }

    /// Whether its type is `kind`, compared as media types are: `application/` may be missing.
    pub(in crate::sender) fn is_a(&self, kind: &str) -> bool {
        let bare = |kind: &str| {
            let kind = kind.to_ascii_lowercase();
            kind.strip_prefix("application/").map(str::to_owned).unwrap_or(kind)
        };
        self.kind.as_deref().is_some_and(|own| bare(own) == bare(kind))
    }
}

/// Why a token of a provider is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or one that changes what a token means.
    #[error("it is not a signed token")]
    NotAToken,
    /// Signed with an algorithm that needs a shared secret, or unsigned.
    #[error("it is not signed with a public key")]
    Algorithm,
    /// The key set has no key of its id.
    #[error("its key is not among those of the provider")]
    UnknownKey,
    /// The signature does not verify.
    #[error("its signature is wrong")]
    Signature,
}

impl KeySet {
    /// The payload of a token that was signed with one of these keys. A token without a key's id may
    /// be of any of them.
    ///
    /// # Errors
    /// Why the token is not believed.
    pub fn open_token(&self, token: &[u8]) -> Result<Vec<u8>, TokenError> {
        let token = Token::read(token).ok_or(TokenError::NotAToken)?;
        let header = Header::of_signed(token.signed()).ok_or(TokenError::NotAToken)?;
        let signature = token.signature().ok_or(TokenError::NotAToken)?;
        let algorithm = JwsAlgorithm::from_name(&header.algorithm).ok_or(TokenError::Algorithm)?;
        let scheme = algorithm.scheme().ok_or(TokenError::Algorithm)?;
        let verifies = |key: &PublicKey| scheme.verifies(key, token.signed(), &signature);
        let is_right = match header.key_id() {
            Some(id) => verifies(self.get(id.as_bytes()).ok_or(TokenError::UnknownKey)?),
            None => self.all().any(verifies),
        };
        match is_right {
            true => token.payload().ok_or(TokenError::NotAToken),
            false => Err(TokenError::Signature),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, A.3.
    const PUBLISHED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

    fn token(header: &str) -> String {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn the_published_token_is_read_and_verifies() {
        let read = Token::read(PUBLISHED.as_bytes()).unwrap();
        let header = Header::of_signed(read.signed()).unwrap();
        assert!(header.names(JwsAlgorithm::Es256) && !header.names(JwsAlgorithm::Rs256));
        assert!(read.payload().unwrap().starts_with(b"{\"iss\":\"joe\""));
        let jwk = serde_json::json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let key = crate::sender::crypto::public_key::PublicKey::of_jwk(&jwk).unwrap();
        let signature = read.signature().unwrap();
        assert!(Scheme::EcdsaP256Raw.verifies(&key, read.signed(), &signature));
        // Two numbers, not DER.
        assert!(!Scheme::EcdsaP256.verifies(&key, read.signed(), &signature));
        let other = [&signature[..63], &[signature[63] ^ 1]].concat();
        assert!(!Scheme::EcdsaP256Raw.verifies(&key, read.signed(), &other));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = format!("{}.e30.AA", "A".repeat(TOKEN_BYTES_MAX));
        for text in
            ["", ".", "..", "a.b", "a.b.", "a..c", ".b.c", "a.b.c.d", "a.b.c=", "a b.c.d", &long]
        {
            assert_eq!(Token::read(text.as_bytes()), None, "{text}");
        }
        // One byte has one spelling.
        assert_eq!(TokenPart::Payload.of(b"e30.QQ.AA"), Ok(b"A".to_vec()));
        assert!(TokenPart::Payload.of(b"e30.QR.AA").is_err());
    }

    #[test]
    fn what_changes_the_meaning_of_a_token_refuses_it() {
        let header =
            |text: &str| Token::read(token(text).as_bytes()).and_then(|t| Header::read(t.header));
        assert!(header(r#"{"alg":"ES256","jku":"https://x","jwk":{},"x5u":"y"}"#).is_some());
        for text in [
            r#"{"alg":"ES256","crit":["exp"]}"#,
            r#"{"alg":"ES256","b64":false}"#,
            r#"{"alg":"ES256","zip":"DEF"}"#,
            r#"{"alg":"ES256","alg":"none"}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"alg":"ES256","x5c":"one"}"#,
            r#"["ES256"]"#,
            "x",
        ] {
            assert_eq!(header(text), None, "{text}");
        }
        assert_eq!(JwsAlgorithm::from_name("none"), None);
        assert!(!header(r#"{"alg":"none"}"#).unwrap().names(JwsAlgorithm::Hs256));
        assert!(header(r#"{"alg":"ES256","typ":"application/JWT"}"#).unwrap().is_a("jwt"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text: Vec<u8>) {
            for part in [TokenPart::Signed, TokenPart::Signature, TokenPart::Payload, TokenPart::KeyId] {
                let _ = part.of(&text);
            }
        }

        #[test]
        fn any_header_is_read_or_refused(text in "[{}\\[\\]\":,a-z0-9 ]{0,80}") {
            let _ = TokenPart::KeyId.of(token(&text).as_bytes());
        }
    }

    #[test]
    fn a_token_of_a_provider_is_opened_with_its_key_and_no_other() {
        let set = |id: &str| {
            let key = serde_json::json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "kid": id,
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            });
            KeySet::of_jwks(serde_json::json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
        };
        let payload = set("a").open_token(PUBLISHED.as_bytes()).unwrap();
        assert!(payload.starts_with(b"{\"iss\":\"joe\""));
        let opened = |header: &str| set("a").open_token(token(header).as_bytes());
        assert_eq!(opened(r#"{"alg":"ES256","kid":"a"}"#), Err(TokenError::Signature));
        assert_eq!(opened(r#"{"alg":"ES256","kid":"b"}"#), Err(TokenError::UnknownKey));
        for algorithm in ["none", "HS256", "hs256", ""] {
            let header = format!(r#"{{"alg":"{algorithm}","kid":"a"}}"#);
            assert_eq!(opened(&header), Err(TokenError::Algorithm), "{algorithm}");
        }
        assert_eq!(opened(r#"{"alg":"ES256","crit":["x"]}"#), Err(TokenError::NotAToken));
        assert_eq!(set("a").open_token(b"a.b"), Err(TokenError::NotAToken));
        for keys in [r#"{"keys":[{"kty":"oct","k":"AA"}]}"#, r#"{"keys":[]}"#, "{}", "x"] {
            assert!(KeySet::of_jwks(keys.as_bytes()).is_err(), "{keys}");
        }
    }
}
