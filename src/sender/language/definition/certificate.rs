//! Certificates that callbacks name by URL, in a sender file: `[certificate]`.

use std::time::Duration;

use super::public::KEEP;
use super::{KeySet, Reader, TokenRule};
use crate::sender::crypto::certificate;
use crate::sender::crypto::fetched_certificate::{CertificateChain, CertificateRule};
use crate::sender::crypto::key_set::KeyListForm;
use crate::sender::crypto::pinned_url::UrlPins;
use crate::sender::language::file;
use crate::sender::language::time;

impl Reader {
    /// The keys of the sender: a list of them, or certificates that its callbacks name.
    pub(super) fn key_list(
        &mut self,
        set: Option<file::KeySet>,
        certificate: Option<file::Certificate>,
        token: Option<&TokenRule>,
    ) -> Option<KeySet> {
        match (set, certificate) {
            (Some(_), Some(_)) => {
                self.fault("certificate", "stands beside [key_set]", "write one of the two");
                None
            }
            (Some(set), None) => self.key_set(set, token),
            (None, certificate) => certificate.and_then(|one| self.certificate(&one)),
        }
    }

    /// Certificates are one more kind of key list: one whose entries are fetched one by one.
    fn certificate(&mut self, written: &file::Certificate) -> Option<KeySet> {
        let pick = self.spot("certificate.url", &written.url);
        let pins = match UrlPins::parse(&written.hosts.to_vec(), &written.path) {
            Ok(pins) => Some(pins),
            Err(fault) => {
                self.faults.push(fault.under("certificate"));
                None
            }
        };
        let keep = written.keep.as_deref().unwrap_or(KEEP);
        let keep = time::duration_ms(keep).map(|ms| Duration::from_millis(ms.unsigned_abs()));
        if keep.is_none() {
            self.fault("certificate.keep", "is not a duration", "write 24h");
        }
        let subject = written.subject.as_deref();
        if subject.is_some_and(|end| !end.starts_with('.') || end.chars().any(char::is_uppercase)) {
            let remedy = "write the end of a name, in lower case: \".example.com\"";
            self.fault("certificate.subject", "is not the end of a name", remedy);
        }
        let subject = subject.map(Box::from);
        let rule = CertificateRule { pins: pins?, subject, chain: self.chain_of(written)? };
        let form = KeyListForm::Certificates(Box::new(rule));
        Some(KeySet { url: None, headers: Vec::new(), form, keep: keep?, pick: pick? })
    }

    fn chain_of(&mut self, written: &file::Certificate) -> Option<CertificateChain> {
        let texts = written.roots.to_vec();
        let roots: Vec<_> = texts.iter().filter_map(|root| certificate::read_root(root)).collect();
        let is_pinned = written.chain == "pinned";
        if roots.len() != texts.len() || roots.is_empty() == is_pinned {
            let remedy = "write whole roots, PEM or base64 of DER, with chain = \"pinned\" alone";
            self.fault("certificate.roots", "are missing, or do not belong here", remedy);
            return None;
        }
        match written.chain.as_str() {
            "host" => Some(CertificateChain::Host),
            "web" => Some(CertificateChain::Web),
            "pinned" => Some(CertificateChain::Pinned(roots)),
            other => {
                self.fault("certificate.chain", &format!("`{other}`"), "use host, web or pinned");
                None
            }
        }
    }
}
