//! A certificate chain and its private key, from PEM files: those of a listener, and those that
//! deliveries present. One reader serves the check of a configuration and the connections.

use std::io;
use std::path::{Path, PathBuf};

use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::file::Section;
use super::pass::{Contents, Input as _, Machine, Secrets};
use crate::clock::{self, UnixMillis};

/// Why a chain and its key are unusable.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    /// A file cannot be read or contains no PEM of the kind.
    #[error("{file}: {cause}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        cause: pem::Error,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {key} does not belong to the certificate in {cert}",
        key = key.display(),
        cert = cert.display()
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The certificate cannot be parsed, or the type of the key is not supported.
    #[error(
        "the certificate in {cert} cannot be used with the key in {key}: {cause}",
        cert = cert.display(),
        key = key.display()
    )]
    Unusable {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The reason.
        cause: rustls::Error,
    },
}

impl KeyPairError {
    const fn remedy(&self) -> &'static str {
        match self {
            Self::File { .. } => "give a whole PEM file",
            Self::Mismatch { .. } | Self::Unusable { .. } => {
                "give the key that the certificate was issued for; a renewal replaces both files"
            }
        }
    }
}

/// The time in which every certificate of a chain is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub from_ms: UnixMillis,
    /// Its end.
    pub until_ms: UnixMillis,
}

/// Reads a chain and its key.
///
/// # Errors
/// A file cannot be read, or the two do not belong together.
pub fn key_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, KeyPairError> {
    load(cert, key, |file| Machine.read(file))
}

/// The validity of a chain; `None`: it is empty, or a certificate is invalid.
#[must_use]
pub fn validity(chain: &[CertificateDer<'_>]) -> Option<Validity> {
    let mut whole: Option<Validity> = None;
    for der in chain {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let own = certificate.validity();
        let from_ms = own.not_before.timestamp().saturating_mul(1000);
        let until_ms = own.not_after.timestamp().saturating_mul(1000);
        whole = Some(whole.map_or(Validity { from_ms, until_ms }, |whole| Validity {
            from_ms: whole.from_ms.max(from_ms),
            until_ms: whole.until_ms.min(until_ms),
        }));
    }
    whole
}

/// Notes at `place`, the key with the certificate, that a chain and its key do not belong together,
/// or that the chain is not valid now.
pub(super) fn check(section: &Section<'_>, place: &str, cert: &Path, key: &Path) {
    let pass = section.pass;
    // A command that asks a gateway knows it by the certificate alone.
    if pass.secrets() == Secrets::Optional {
        return;
    }
    let pair = match load(cert, key, |file| pass.contents(file)) {
        Ok(pair) => pair,
        Err(error) => {
            section.fault(place, error.to_string(), error.remedy());
            return;
        }
    };
    let Some(Validity { from_ms, until_ms }) = validity(&pair.cert) else { return };
    let (now_ms, shown) = (pass.now_ms(), cert.display());
    if until_ms <= now_ms {
        let what = format!("{shown} expired at {}", clock::rfc3339(until_ms));
        section.warning(place, what, "renew it: the other side refuses it");
    } else if from_ms > now_ms {
        let what = format!("{shown} is not valid before {}", clock::rfc3339(from_ms));
        section.warning(place, what, "give one that is valid now, or set the clock right");
    }
}

fn load(
    cert: &Path,
    key: &Path,
    read: impl Fn(&Path) -> io::Result<Contents>,
) -> Result<CertifiedKey, KeyPairError> {
    let in_file = |file: &Path| {
        let file = file.to_owned();
        move |cause| KeyPairError::File { file, cause }
    };
    let bytes = |file: &Path| {
        let contents = read(file).map_err(pem::Error::Io).map_err(in_file(file))?;
        Ok::<_, KeyPairError>(contents.bytes)
    };
    let chain = CertificateDer::pem_slice_iter(&bytes(cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(in_file(cert))?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(in_file(key))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|cause| {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        match cause {
            rustls::Error::InconsistentKeys(_) => KeyPairError::Mismatch { cert, key },
            cause => KeyPairError::Unusable { cert, key, cause },
        }
    })
}
