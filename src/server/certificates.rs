//! The certificates of the listeners: read again on a reload, and watched for their expiry.

use std::sync::Arc;

use crate::config::Server;
use crate::telemetry::Metrics;
use crate::wire::Certificate;

/// The certificates of the listeners.
#[derive(Clone)]
pub(super) struct Certificates {
    pub(super) callbacks: Option<Arc<Certificate>>,
    pub(super) admin: Option<Arc<Certificate>>,
}

impl Certificates {
    fn named(&self) -> [(&'static str, &Option<Arc<Certificate>>); 2] {
        [("callbacks", &self.callbacks), ("admin", &self.admin)]
    }

    /// Reads the files again. A certificate that cannot be read stays as it was.
    pub(super) fn reload(&self, server: &Server) {
        for ((listener, certificate), files) in
            self.named().into_iter().zip([&server.tls, &server.admin_tls])
        {
            if let (Some(certificate), Some(files)) = (certificate, files)
                && let Err(error) = certificate.reload(files)
            {
                tracing::error!(%error, listener, "could not read the certificate, the old one stays");
            }
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
