//! TLS by rustls: a certificate that can change without dropping a connection.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::client_certificate::{AnyChain, ClientCertificates};
use crate::clock::UnixMillis;
use crate::config::{KeyPairError, Tls, key_pair, validity};

/// The protocols that a listener offers, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate chain with its key, read from PEM files, and the negotiation of its listener.
#[derive(Debug)]
pub struct Certificate {
    pair: Arc<Pair>,
    settings: ArcSwap<Settings>,
}

/// A chain with its key, which may change.
#[derive(Debug)]
struct Pair(ArcSwap<CertifiedKey>);

/// The negotiation with new connections. Its sessions end with it: one that began without a
/// certificate is not resumed where certificates are asked for.
#[derive(Debug)]
pub(super) struct Settings {
    requested: ClientCertificates,
    tls: Arc<ServerConfig>,
}

/// Why a certificate is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or chain and key do not match.
    #[error(transparent)]
    Files(#[from] KeyPairError),
    /// The crypto provider offers no protocol version.
    #[error(transparent)]
    Provider(#[from] rustls::Error),
}

impl Certificate {
    /// Reads the files, for a listener that asks for certificates as `requested` says.
    ///
    /// # Errors
    /// If a file cannot be read, or chain and key do not match.
    pub fn read(files: &Tls, requested: ClientCertificates) -> Result<Self, TlsError> {
        let pair = Arc::new(Pair(ArcSwap::from_pointee(load(files)?)));
        let settings = Settings::new(&pair, requested)?;
        Ok(Self { pair, settings: ArcSwap::from_pointee(settings) })
    }

    /// Reads the files again; new connections see the new certificate.
    ///
    /// # Errors
    /// As [`Certificate::read`]; then the old certificate stays.
    pub fn reload(&self, files: &Tls) -> Result<(), TlsError> {
        self.pair.0.store(Arc::new(load(files)?));
        Ok(())
    }

    /// Asks for certificates as `requested` says from now on. Open connections, which were asked
    /// otherwise, end with their next reply.
    ///
    /// # Errors
    /// If the crypto provider offers no protocol version, which no build does.
    pub fn request(&self, requested: ClientCertificates) -> Result<(), TlsError> {
        if self.settings.load().requested != requested {
            self.settings.store(Arc::new(Settings::new(&self.pair, requested)?));
        }
        Ok(())
    }

    /// The earliest expiry in the chain, in milliseconds since 1970; `None`: a certificate is
    /// invalid.
    pub fn expires_ms(&self) -> Option<UnixMillis> {
        validity(&self.pair.0.load().cert).map(|valid| valid.until_ms)
    }

    /// The negotiation with new connections.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Whether `settings` hold for new connections.
    pub(super) fn is_current(&self, settings: &Arc<Settings>) -> bool {
        Arc::ptr_eq(&self.settings.load(), settings)
    }
}

impl Settings {
    fn new(pair: &Arc<Pair>, requested: ClientCertificates) -> Result<Self, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let builder = match requested {
            ClientCertificates::NotRequested => builder.with_no_client_auth(),
            ClientCertificates::Requested => {
                builder.with_client_cert_verifier(Arc::new(AnyChain::new()))
            }
        };
        let mut tls = builder.with_cert_resolver(Arc::<Pair>::clone(pair));
        tls.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Self { requested, tls: Arc::new(tls) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.tls))
    }
}

impl ResolvesServerCert for Pair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn load(files: &Tls) -> Result<CertifiedKey, KeyPairError> {
    key_pair(&files.cert, &files.key)
}
