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
}

impl Form {
    /// The form to try after this one.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Hex => Some(Self::AesKey),
            Self::AesKey => Some(Self::Base64),
            Self::Base64 => Some(Self::Webhook),
            Self::Webhook => Some(Self::Number),
            Self::Number => None,
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

fn random() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
