//! What the statements are made of.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ledger::{DedupeKey, EventId, Fingerprint};

/// Now, by the server's clock: gateways may disagree, due times must not. `$1` is null, or the time
/// of a clock that a test holds.
pub(super) const NOW: &str =
    "coalesce($1::bigint, floor(extract(epoch from now()) * 1000)::bigint)";

/// The time at which a row is written, by the server's clock, for due times: not before its
/// transaction has a number, as [`NOW`] is (queue.rs). `$1` as there.
pub(super) const CLOCK: &str =
    "coalesce($1::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)";

/// A condition that always holds, after which the transaction has its number.
pub(super) const NUMBERED: &str = "pg_current_xact_id() is not null";

/// A key that is this much older than its commit was stamped by a clock that is behind the server's.
const SEEN_SLACK_MS: i64 = 60_000;

/// When a key was seen, of a row `o`: what its gateway says, unless that is long past by the
/// server's clock. Such a key would be forgotten early.
pub(super) fn seen() -> String {
    format!("case when o.seen_ms < {NOW} - {SEEN_SLACK_MS} then {NOW} else o.seen_ms end")
}

/// The longest that a due time is put off: 140,000 years, to which the time can still be added.
pub(super) const FOR_EVER_MS: i64 = 1 << 52;

/// What a text is looked up by, however long it is.
pub(super) fn hash8(text: &[u8]) -> i64 {
    let mut short = [0; 8];
    short.copy_from_slice(&Sha256::digest(text)[..8]);
    i64::from_le_bytes(short)
}

pub(super) fn int(fingerprint: Fingerprint) -> i64 {
    fingerprint.0.cast_signed()
}

/// A key, as sixteen bytes of the server's own.
pub(super) fn key_uuid(key: &DedupeKey) -> Uuid {
    Uuid::from_bytes(key.0)
}

pub(super) fn key_of(key: Uuid) -> DedupeKey {
    DedupeKey(key.into_bytes())
}

pub(super) fn uuid_of(id: EventId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) fn id_of(id: Uuid) -> EventId {
    EventId::from_bytes(*id.as_bytes())
}
