//! TLS by rustls: a certificate that can be changed without dropping a connection.

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

/// What a listener offers, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate chain with its key, read from PEM files.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of the kind.
    #[error("{file}: {cause}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why not.
        cause: rustls_pki_types::pem::Error,
    },
    /// Chain and key do not go together, or the key is of no kind that can be used.
    #[error("certificate and key: {0}")]
    Pair(#[from] rustls::Error),
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or chain and key do not go together.
    pub fn read(files: &Tls) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(load(files)?)))
    }

    /// Reads the files anew; connections from now on see the new certificate.
    ///
    /// # Errors
    /// As [`Certificate::read`]; the old certificate stays in use then.
    pub fn reload(&self, files: &Tls) -> Result<(), TlsError> {
        self.0.store(Arc::new(load(files)?));
        Ok(())
    }

    /// When the first certificate of the chain to expire does so, in milliseconds since 1970;
    /// `None`: a certificate cannot be read.
    pub fn expires_ms(&self) -> Option<UnixMillis> {
        let pair = self.0.load();
        let ends = pair.cert.iter().map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
            Some(certificate.validity().not_after.timestamp().saturating_mul(1000))
        });
        ends.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// How a listener talks TLS under this certificate.
    ///
    /// # Errors
    /// When the cryptography offers no protocol version, which no build does.
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
