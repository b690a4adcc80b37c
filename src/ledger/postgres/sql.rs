//! Building blocks of the statements.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ledger::{DedupeKey, EventId, Fingerprint};

/// Now, by the server's clock: gateways may disagree, due times must not. `$1` is null, or the time
/// of a test's clock.
pub(super) const NOW: &str =
    "coalesce($1::bigint, floor(extract(epoch from now()) * 1000)::bigint)";

/// The time at which a row is written, by the server's clock, for due times: after its transaction
/// has a number, like [`NOW`] (queue.rs). `$1` as there.
pub(super) const CLOCK: &str =
    "coalesce($1::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)";

/// [`NOW`] for statements with many rows: read once, not for each of them.
pub(super) const NOW_ONCE: &str =
    "(select coalesce($1::bigint, floor(extract(epoch from now()) * 1000)::bigint))";

/// [`CLOCK`] for statements with many rows: read once, when the first of them is written and the
/// transaction has its number.
pub(super) const CLOCK_ONCE: &str =
    "(select coalesce($1::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
      where pg_current_xact_id() is not null)";

/// A condition that always holds, after which the transaction has its number.
pub(super) const NUMBERED: &str = "pg_current_xact_id() is not null";

/// The event `e` of each row whose id is in the column `id`. A server without fresh statistics (a day
/// that has just begun, a store that was just filled) would rather read all events than
/// look a few of them up; the offset leaves it no choice.
pub(super) fn event_of(id: &str) -> String {
    format!("cross join lateral (select * from event where id = {id} offset 0) e")
}

/// Whether the event `e` has a pending delivery, looked up for each event. Without the offset a server
/// that takes the table for empty reads all of its dead rows first.
pub(super) const PENDING: &str =
    "exists (select 1 from delivery d where d.event_id = e.id offset 0)";

/// The same for a dead delivery.
pub(super) const DEAD: &str = "exists (select 1 from dead d where d.event_id = e.id offset 0)";

/// The unfinished deliveries of the events in parameter 1, looked up one by one for the same reason.
pub(super) const OPEN: &str = "select d.event_id, d.target, d.attempt, d.due_ms
        from unnest($1::uuid[]) as w(id)
            cross join lateral (select * from delivery where event_id = w.id offset 0) d
    union all select d.event_id, d.target, d.attempt, null
        from unnest($1::uuid[]) as w(id)
            cross join lateral (select * from dead where event_id = w.id offset 0) d";

/// The tolerated age of a key at its commit: its gateway's clock may be slow.
const SEEN_SLACK_MS: i64 = 60_000;

/// When a key was seen, of a row `o`: its gateway's time, unless that is long past by the server's
/// clock. Such a key would expire early.
pub(super) fn seen() -> String {
    format!("case when o.seen_ms < {NOW_ONCE} - {SEEN_SLACK_MS} then {NOW_ONCE} else o.seen_ms end")
}

/// The longest delay of a due time: 140,000 years, which can still be added to the time.
pub(super) const FOR_EVER_MS: i64 = 1 << 52;

/// The lookup hash of a text of any length.
pub(super) fn hash8(text: &[u8]) -> i64 {
    let mut short = [0; 8];
    short.copy_from_slice(&Sha256::digest(text)[..8]);
    i64::from_le_bytes(short)
}

pub(super) fn int(fingerprint: Fingerprint) -> i64 {
    fingerprint.0.cast_signed()
}

/// A key as a UUID of the server.
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
