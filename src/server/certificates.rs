//! The certificates of the listeners: read again on a reload, and watched for their expiry. Callers
//! are asked for theirs where a source wants them.

use std::sync::Arc;

use crate::config::Config;
use crate::telemetry::Metrics;
use crate::wire::{Certificate, ClientCertificates, TlsError};

/// The certificates of the listeners.
#[derive(Clone)]
pub(super) struct Certificates {
    pub(super) callbacks: Option<Arc<Certificate>>,
    pub(super) admin: Option<Arc<Certificate>>,
}

impl Certificates {
    /// Reads the files of `config`.
    pub(super) fn read(config: &Config) -> Result<Self, TlsError> {
        let read = |files, requested| Certificate::read(files, requested).map(Arc::new);
        let server = &config.server;
        let requested = requested(config);
        let callbacks = server.tls.as_ref().map(|files| read(files, requested)).transpose()?;
        let none = ClientCertificates::NotRequested;
        let admin = server.admin_tls.as_ref().map(|files| read(files, none)).transpose()?;
        Ok(Self { callbacks, admin })
    }

    fn named(&self) -> [(&'static str, &Option<Arc<Certificate>>); 2] {
        [("callbacks", &self.callbacks), ("admin", &self.admin)]
    }

    /// Reads the files again. A certificate that cannot be read stays as it was.
    pub(super) fn reload(&self, config: &Config) {
        let server = &config.server;
        for ((listener, certificate), files) in
            self.named().into_iter().zip([&server.tls, &server.admin_tls])
        {
            if let (Some(certificate), Some(files)) = (certificate, files)
                && let Err(error) = certificate.reload(files)
            {
                tracing::error!(%error, listener, "could not read the certificate, the old one stays");
            }
        }
        if let Some(callbacks) = &self.callbacks
            && let Err(error) = callbacks.request(requested(config))
        {
            tracing::error!(%error, "could not ask callers for their certificates");
        }
    }

    /// Notes when each expires.
    pub(super) fn note_expiry(&self, metrics: &Metrics) {
        for (listener, certificate) in self.named() {
            if let Some(expires_ms) = certificate.as_ref().and_then(|one| one.expires_ms()) {
                metrics.program.set_certificate(listener, expires_ms);
            }
        }
    }
}

/// Whether a source wants certificates of its callers.
fn requested(config: &Config) -> ClientCertificates {
    match config.sources.values().any(|source| source.client_ca.is_some()) {
        true => ClientCertificates::Requested,
        false => ClientCertificates::NotRequested,
    }
}
