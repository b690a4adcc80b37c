//! Certificates that callers present: asked for in the handshake, and held against the authorities
//! of the source that is called. Only then is it known which source that is.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::clock::UnixMillis;
use crate::config::ClientCa;

/// Certificates in a caller's chain: its own and those between it and an authority. Each one costs
/// a few checks of a signature where it leads nowhere.
const CHAIN_CERTIFICATES_MAX: usize = 8;

/// Bytes of a caller's chain, which the connection and its sessions keep.
const CHAIN_BYTES_MAX: usize = 16 * 1024;

/// How long a chain that was checked counts, in milliseconds: a certificate that expires while its
/// connection is open is refused a minute later.
const CHECK_COUNTS_MS: i64 = 60_000;

/// Whether a listener asks callers for their certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Not asked: the handshake is as short as it can be.
    NotRequested,
    /// Asked, and callers without one are served too.
    Requested,
}

/// The certificates that the caller of a connection has presented, its own first. The handshake has
/// proved that the caller has the key of that one.
#[derive(Debug)]
pub struct PeerCertificates {
    chain: Vec<CertificateDer<'static>>,
    last: Mutex<Option<LastCheck>>,
}

/// The last check of the certificates of a connection. A caller usually means one source.
#[derive(Debug)]
struct LastCheck {
    ca: Arc<ClientCa>,
    at_ms: UnixMillis,
    is_accepted: bool,
}

impl PeerCertificates {
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, last: Mutex::default() }
    }

    /// Whether they lead to one of the authorities of `ca` now.
    #[must_use]
    pub fn lead_to(&self, ca: &Arc<ClientCa>, now_ms: UnixMillis) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = |last: &LastCheck| {
            Arc::ptr_eq(&last.ca, ca) && (0..CHECK_COUNTS_MS).contains(&(now_ms - last.at_ms))
        };
        if let Some(known) = last.as_ref().filter(|last| counts(last)) {
            return known.is_accepted;
        }
        let is_accepted = ca.accepts(&self.chain, now_ms);
        *last = Some(LastCheck { ca: Arc::clone(ca), at_ms: now_ms, is_accepted });
        is_accepted
    }
}

/// Takes every chain within the bounds: which authority it has to lead to depends on the source.
/// The proof that the caller has the key is checked here.
#[derive(Debug)]
pub(super) struct AnyChain(WebPkiSupportedAlgorithms);

impl AnyChain {
    pub(super) fn new() -> Self {
        Self(ring::default_provider().signature_verification_algorithms)
    }
}

impl ClientCertVerifier for AnyChain {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: which authorities there are would tell every caller who else calls.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let bytes = own.len() + others.iter().map(|one| one.len()).sum::<usize>();
        if others.len() >= CHAIN_CERTIFICATES_MAX || bytes > CHAIN_BYTES_MAX {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
