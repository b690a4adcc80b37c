//! TLS by rustls: a certificate that can change without dropping a connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::UnixMillis;
use crate::config::Tls;

/// The protocols that a listener offers, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate chain with its key, read from PEM files.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

/// Why a certificate is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or contains no PEM of the kind.
    #[error("{file}: {cause}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        cause: rustls_pki_types::pem::Error,
    },
    /// Chain and key do not match, or the type of the key is not supported.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// If a file cannot be read, or chain and key do not match.
    pub fn read(files: &Tls) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(load(files)?)))
    }

    /// Reads the files again; new connections see the new certificate.
    ///
    /// # Errors
    /// As [`Certificate::read`]; then the old certificate stays.
    pub fn reload(&self, files: &Tls) -> Result<(), TlsError> {
        self.0.store(Arc::new(load(files)?));
        Ok(())
    }

    /// The earliest expiry in the chain, in milliseconds since 1970; `None`: a certificate is invalid.
    pub fn expires_ms(&self) -> Option<UnixMillis> {
        let pair = self.0.load();
        let ends = pair.cert.iter().map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
            Some(certificate.validity().not_after.timestamp().saturating_mul(1000))
        });
        ends.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// The TLS settings of a listener with this certificate.
    ///
    /// # Errors
    /// If the crypto provider offers no protocol version, which no build does.
    pub(super) fn acceptor(self: &Arc<Self>) -> Result<tokio_rustls::TlsAcceptor, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn load(files: &Tls) -> Result<CertifiedKey, TlsError> {
    let in_file = |file: &Path| {
        let file = file.to_owned();
        move |cause| TlsError::File { file, cause }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(in_file(&files.cert))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(in_file(&files.key))?;
    let pair = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
    pair.keys_match()?;
    Ok(pair)
}
