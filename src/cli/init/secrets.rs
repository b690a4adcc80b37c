//! Random secrets in the forms that senders, backends and the admin API use.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Bytes of a secret.
const BYTES: usize = 32;

/// Random secrets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Generated;

/// A form of a secret. A sender's own form is the first that its check accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// 32 hexadecimal digits.
    Hex,
    /// An AES key of 43 base64 digits.
    AesKey,
    /// 32 bytes in base64.
    Base64,
    /// `whsec_` and 32 bytes in base64.
    Webhook,
    /// Ten decimal digits.
    Number,
    /// 64 hexadecimal digits.
    LongHex,
    /// A public key on P-256, whose other half is not kept.
    EcKey,
    /// A public RSA key, whose other half was not kept.
    RsaKey,
}

/// Stands for the sender's key until it is replaced: its private half does not exist any more.
const RSA_KEY: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAo2D0a7f/1FAPjpmTI64sDs1UTs4VSEXefHRDxHuFrXKeKrjHcQmjIRr7VL1GSEakK1GLbA4QCAIZmm542wZWnf4B0sHPS1MYGI2qYp4c9pf4319+3ZMaqzJUeysWtr8/K/cJ6buMGyP8DYb2S6buCirAw3bMxTaBv8ydq6gjNU5D8QeX9v3crMyi/ugJR6YcLKhRWHLbHWg1NZoklo2qHRlO424yR1wwAfuptSnC2QfgkTRR3N39ZHuB0nf0N4+qy/sujEcWK5JDorN9CbcdIdD4pfs9bbqTL6l1b1RerzxN3VAxMeACAR6RS3XSUNPi47/XMAwfOsZDpuNYplIK4wIDAQAB";

/// A public key on P-256 before its point: DER.
const P256_HEAD: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";

impl Form {
    /// The form to try after this one.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Hex => Some(Self::AesKey),
            Self::AesKey => Some(Self::Base64),
            Self::Base64 => Some(Self::Webhook),
            Self::Webhook => Some(Self::Number),
            Self::Number => Some(Self::LongHex),
            Self::LongHex => Some(Self::EcKey),
            Self::EcKey => Some(Self::RsaKey),
            Self::RsaKey => None,
        }
    }
}

impl Generated {
    /// A source of secrets.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub(super) fn new() -> io::Result<Self> {
        random().map(|_| Self)
    }

    /// A secret of that form.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub(super) fn secret(self, form: Form) -> io::Result<String> {
        let bytes = random()?;
        Ok(match form {
            Form::Hex => const_hex::encode(&bytes[..BYTES / 2]),
            Form::AesKey => STANDARD_NO_PAD.encode(bytes),
            Form::Base64 => STANDARD.encode(bytes),
            Form::Webhook => format!("whsec_{}", STANDARD.encode(bytes)),
            Form::Number => {
                let digits = bytes.iter().take(10).map(|byte| char::from(b'1' + byte % 9));
                digits.collect()
            }
            Form::LongHex => const_hex::encode(bytes),
            Form::EcKey => STANDARD.encode([P256_HEAD, &point()?].concat()),
            Form::RsaKey => RSA_KEY.to_owned(),
        })
    }

    /// A token of the admin API.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub(super) fn token(self) -> io::Result<String> {
        random().map(const_hex::encode)
    }
}

/// The public half of a key on P-256 that nothing keeps.
fn point() -> io::Result<Vec<u8>> {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
    let random = ring::rand::SystemRandom::new();
    let no_key = |_| io::Error::other("no random key");
    let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(no_key)?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random)
        .map_err(|_| io::Error::other("no random key"))?;
    Ok(pair.public_key().as_ref().to_vec())
}

fn random() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
