//! `client_ca` of a source: the authorities whose client certificates its callers have to present.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::file::{Item, Read, Section, ValueError};
use super::pass::Writer;
use super::secret::unreadable;
use super::{Tls, limits};
use crate::clock::{self, UnixMillis};

/// How long before its end an authority is mentioned by `check`: time to get the next one from the
/// other side.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The authorities of one source. A certificate of any of them will do.
#[derive(Debug)]
pub struct ClientCa(Vec<Authority>);

/// One authority. Each has a verifier of its own: a path to an authority does not end with the
/// authority's own validity, so an expired one is left out here.
#[derive(Debug)]
struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
    ends_ms: UnixMillis,
}

impl ClientCa {
    /// Whether `chain`, the caller's own certificate first, leads to one of the authorities now,
    /// and is meant for clients. That the caller has the key is the matter of the TLS handshake.
    #[must_use]
    pub fn accepts(&self, chain: &[CertificateDer<'_>], now_ms: UnixMillis) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        let seconds = u64::try_from(now_ms / 1000).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let live = self.0.iter().filter(|authority| now_ms < authority.ends_ms);
        live.map(|authority| authority.verifier.verify_client_cert(own, others, now))
            .any(|verified| verified.is_ok())
    }
}

/// The key of a source, where the callback listener has these `tls` settings.
pub(super) fn read(section: &Section<'_>, tls: Option<&Tls>) -> Option<Arc<ClientCa>> {
    let ca = section.take("client_ca", authorities);
    if section.has("client_ca") && !section.is_faulty("client_ca") && tls.is_none() {
        let what = "needs TLS on the callback listener: without it, no certificate arrives here";
        let remedy = "write server.tls = { cert = \"chain.pem\", key = \"key.pem\" }; if a proxy \
                      ends TLS, let it check the certificates, and leave client_ca out";
        section.fault("client_ca", what, remedy);
    }
    ca.map(Arc::new)
}

fn authorities(item: &Item<'_>) -> Read<ClientCa> {
    let text = item.text("the path of a PEM file")?;
    if item.pass.writer() != Writer::Operator {
        let what = "is a file of the gateway, which an API does not read";
        return Err(ValueError::new(what, "write it in the configuration file"));
    }
    let path = item.pass.beside(text.strip_prefix("file:").unwrap_or(text));
    let contents = item.pass.contents(&path);
    let contents = contents.map_err(|error| unreadable(&path, &error).missing())?;
    let shown = path.display();
    let remedy = "give a PEM file with the certificates of the authorities";
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents.bytes).collect();
    let all = all.ok().filter(|all| !all.is_empty());
    let all =
        all.ok_or_else(|| ValueError::new(format!("there is no certificate in {shown}"), remedy))?;
    if all.len() > limits::CLIENT_CA_CERTIFICATES_MAX {
        let what = format!(
            "has {} certificates, more than {}",
            all.len(),
            limits::CLIENT_CA_CERTIFICATES_MAX
        );
        return Err(ValueError::new(what, "name only the authorities of this sender"));
    }
    let read = all.iter().map(|der| authority(item, der)).collect::<Read<Vec<_>>>()?;
    let now_ms = item.pass.now_ms();
    let last = read.iter().map(|authority| authority.ends_ms).max().unwrap_or_default();
    if last <= now_ms {
        let what = format!("{shown} expired at {}", clock::rfc3339(last));
        return Err(ValueError::new(what, "give the file of an authority that has not"));
    }
    for ended in read.iter().filter(|authority| authority.ends_ms <= now_ms) {
        let what = format!("one of its authorities expired at {}", clock::rfc3339(ended.ends_ms));
        item.warning(what, "remove it from the file");
    }
    if last.saturating_sub(now_ms) < clock::millis(ENDS_SOON) {
        let what = format!("expires at {}: then every callback is rejected", clock::rfc3339(last));
        item.warning(what, "add the next authority of the sender to the file");
    }
    Ok(ClientCa(read))
}

/// One certificate of the file, which has to be that of an authority.
fn authority(item: &Item<'_>, der: &CertificateDer<'_>) -> Read<Authority> {
    let remedy = "give the certificate of the authority that issues the caller's certificates";
    let unfit = |what: String| ValueError::new(what, remedy);
    let (_, certificate) = x509_parser::parse_x509_certificate(der)
        .map_err(|_| unfit(String::from("has a certificate that cannot be read")))?;
    let subject = certificate.subject();
    let is_ca = certificate.is_ca();
    if !is_ca {
        return Err(unfit(format!(
            "{subject} is not an authority: the certificate issues no others"
        )));
    }
    let anchor = webpki::anchor_from_trusted_cert(der);
    let anchor = anchor.map_err(|error| unfit(format!("{subject} cannot be used: {error}")))?;
    if is_public(&anchor) {
        let what = format!("{subject} is a public authority: it gives certificates to everybody");
        item.warning(what, "give an authority that the sender has for its own clients");
    }
    let mut roots = RootCertStore::empty();
    roots.roots.push(anchor.to_owned());
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| unfit(format!("{subject} cannot be used: {error}")))?;
    let ends_ms = certificate.validity().not_after.timestamp().saturating_mul(1000);
    Ok(Authority { verifier, ends_ms })
}

/// Whether browsers trust the authority.
fn is_public(anchor: &TrustAnchor<'_>) -> bool {
    webpki_roots::TLS_SERVER_ROOTS.iter().any(|public| {
        public.subject == anchor.subject
            && public.subject_public_key_info == anchor.subject_public_key_info
    })
}
