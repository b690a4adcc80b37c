//! The record of a rejected callback: the request, why it was rejected, and its claims.
//!
//! Nothing of it is verified. The record is a held callback, whose body has the request and, in
//! place of an event, a note.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::codec::DecodeError;
use super::event::EventJson;
use super::{
    DedupeKey, EventBody, EventKeys, Fingerprint, HeldId, HeldWhy, NewEvent, NewHeld, RawRequest,
    SourceId,
};
use crate::clock::UnixMillis;
use crate::sender::{Reason, Request};

/// Why a request was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Its source rejected it.
    For(Reason),
    /// No source has its path.
    UnknownPath,
}

/// A rejected callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its id.
    pub id: HeldId,
    /// When it came.
    pub at_ms: UnixMillis,
    /// The id of the source that it came to; [`Rejection::UNKNOWN_PATHS`] if there is none.
    pub source_id: SourceId,
    /// The name that the source had then, or what the path says in its place.
    pub source: String,
    /// The source whose name is nearest to a path that belongs to none.
    pub nearest: Option<String>,
    /// Why it was rejected, the last time that was asked.
    pub reason: Rejected,
    /// The parameter that the reason was about.
    pub parameter: Option<String>,
    /// The transaction that it claims to be.
    pub transaction: Option<String>,
    /// The user that the callback claims to be for.
    pub user: Option<String>,
    /// How long it took to reject it.
    pub took: Duration,
    /// The status that its sender was answered with; `None`: none, the sender waited in vain.
    pub status: Option<u16>,
    /// The caller.
    pub client: IpAddr,
    /// Whether it is in quarantine.
    pub held: bool,
    /// Bytes of its body when it came.
    pub body_bytes: usize,
    /// The request as it came; of a sample without its body where that is too large.
    pub request: RawRequest,
}

/// A rejected callback that is to be kept.
#[derive(Clone, Debug)]
pub struct NewRejection<'r> {
    /// When it came.
    pub at_ms: UnixMillis,
    /// As a sample, or in quarantine.
    pub why: HeldWhy,
    /// Why it is rejected; `None`: no source has its path.
    pub reason: Option<Reason>,
    /// The source's id.
    pub source_id: SourceId,
    /// The transaction that the callback claims.
    pub transaction: Option<String>,
    /// The user that the callback claims.
    pub user: Option<String>,
    /// Further details.
    pub note: RejectionNote,
    /// The request.
    pub request: Request<'r>,
}

/// Details of a rejected callback, beside its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionNote {
    /// See [`Rejection::source`].
    pub source: String,
    /// See [`Rejection::nearest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// See [`Rejection::parameter`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// See [`Rejection::client`].
    pub client: IpAddr,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// See [`Rejection::status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// See [`Rejection::body_bytes`].
    #[serde(default)]
    pub body_bytes: usize,
}

impl EventJson for RejectionNote {
    fn size_hint(&self) -> usize {
        200 + self.source.len()
    }

    fn put_json(&self, to: &mut Vec<u8>) -> Result<(), DecodeError> {
        serde_json::to_writer(to, self).or(Err(DecodeError))
    }
}

impl Rejected {
    /// The name of a path that belongs to no source, beside the names of [`Reason`].
    pub const UNKNOWN_PATH: &str = "unknown_path";

    /// Its name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::For(reason) => reason.as_str(),
            Self::UnknownPath => Self::UNKNOWN_PATH,
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            Self::UNKNOWN_PATH => Some(Self::UnknownPath),
            _ => Reason::from_name(name).map(Self::For),
        }
    }

    /// The reason of a source.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::For(reason) => Some(reason),
            Self::UnknownPath => None,
        }
    }
}

impl NewRejection<'_> {
    /// As it is kept.
    ///
    /// # Errors
    /// `DecodeError` if it cannot be written down, which no request causes.
    pub fn held(self) -> Result<NewHeld, DecodeError> {
        let id = HeldId::new(self.at_ms);
        let body = EventBody::encode(&self.note, &self.request, None)?;
        let source = self.source_id;
        Ok(NewHeld {
            id,
            why: self.why,
            reason: self.reason,
            anchor: caller(&source, self.note.client),
            variant: match self.why {
                HeldWhy::Rejected => digest(&[b"sample", id.as_bytes()]),
                _ => request_digest(&source, &self.request),
            },
            first: None,
            event: NewEvent {
                id: id.event(),
                source,
                keys: EventKeys::default(),
                fingerprint: Fingerprint(0),
                transaction: self.transaction.unwrap_or_default(),
                user: self.user,
                received_ms: self.at_ms,
                test: false,
                body,
                targets: smallvec::SmallVec::new(),
                seal: Default::default(),
            },
        })
    }
}

impl Rejection {
    /// The source id for paths that belong to no source. No source has it.
    pub const UNKNOWN_PATHS: &str = "";

    /// Reads what [`NewRejection::held`] wrote.
    ///
    /// # Errors
    /// `DecodeError` if it is not of a rejected callback, or of a later version.
    pub fn read(held: &NewHeld) -> Result<Self, DecodeError> {
        let body = EventBody::decode(&held.event.body)?;
        let note: RejectionNote = serde_json::from_slice(&body.json).or(Err(DecodeError))?;
        Ok(Self {
            id: held.id,
            at_ms: held.event.received_ms,
            source_id: held.event.source.clone(),
            source: note.source,
            nearest: note.nearest,
            reason: held.reason.map_or(Rejected::UnknownPath, Rejected::For),
            parameter: note.parameter,
            transaction: Some(held.event.transaction.clone()).filter(|text| !text.is_empty()),
            user: held.event.user.clone(),
            took: Duration::from_micros(note.took_us),
            status: note.status,
            client: note.client,
            held: held.why == HeldWhy::Quarantine,
            body_bytes: note.body_bytes,
            request: body.request,
        })
    }
}

/// The caller of a source: an address, or the network of a caller with many.
#[must_use]
pub fn caller(source: &SourceId, client: IpAddr) -> DedupeKey {
    let network = match client {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64,
    };
    digest(&[b"caller", source.as_str().as_bytes(), &network.to_le_bytes()])
}

/// Everything that was sent: what differs in a header may verify where the other does not.
fn request_digest(source: &SourceId, request: &Request<'_>) -> DedupeKey {
    let source = source.as_str().as_bytes();
    let mut parts: Vec<&[u8]> =
        vec![b"request", source, request.method.as_str().as_bytes(), request.target, request.body];
    for (name, value) in request.headers {
        parts.extend([name.as_str().as_bytes(), value.as_bytes()]);
    }
    digest(&parts)
}

fn digest(parts: &[&[u8]]) -> DedupeKey {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    DedupeKey(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::conformance::rejected;

    #[test]
    fn what_is_kept_comes_back() {
        let held = rejected(7, HeldWhy::Quarantine, 1);
        let rejection = Rejection::read(&held).unwrap();
        assert_eq!(rejection.request.target, &b"/callback/s?n=7"[..]);
        assert_eq!(rejection.request.headers[0].0, "x-sign");
        assert_eq!((rejection.status, rejection.held), (Some(601), true));
        assert_eq!(rejection.reason, Rejected::For(Reason::BadSignature));
        assert_eq!(rejection.transaction.as_deref(), Some("t-7"));
        assert_eq!(held.id.event().as_bytes(), held.id.as_bytes());
    }

    #[test]
    fn the_same_request_is_one_and_samples_are_each_their_own() {
        let one = rejected(7, HeldWhy::Quarantine, 1);
        assert_eq!(one.variant, rejected(7, HeldWhy::Quarantine, 2).variant);
        assert_ne!(one.variant, rejected(8, HeldWhy::Quarantine, 1).variant);
        assert_ne!(one.anchor, rejected(7, HeldWhy::Quarantine, 2).anchor);
        let sample = rejected(7, HeldWhy::Rejected, 1);
        assert_ne!(sample.variant, rejected(7, HeldWhy::Rejected, 1).variant);
    }

    #[test]
    fn neighbours_of_one_ipv6_network_are_one_caller() {
        let (source, of) = (SourceId::from("s"), |text: &str| text.parse::<IpAddr>().unwrap());
        let one = caller(&source, of("2001:db8::1"));
        assert_eq!(one, caller(&source, of("2001:db8::2")));
        assert_ne!(one, caller(&source, of("2001:db8:0:1::1")));
        assert_ne!(one, caller(&SourceId::from("t"), of("2001:db8::1")));
    }
}
