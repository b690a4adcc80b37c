//! Serial numbers: a repeated call gets the same reply.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Envelope;
use crate::clock::UnixMillis;
use crate::ledger::{BatchedLedger, DocumentChange, Expect, Kind, LedgerError};

/// Replies, by company and serial number.
const SEEN: Kind = Kind::new("report_seq");

/// Answers that are kept, the newest: at half a kilobyte each some ten megabytes of memory.
const KEPT_MAX: usize = 20_000;

/// How long an answer is kept for certain, unless there are more than that: longer than any client
/// tries the same call.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// Old answers that are removed with a new one.
const SWEPT_AT_ONCE: usize = 20;

/// The identity of a call.
pub(super) struct About<'a> {
    pub key: &'a str,
    pub seq: &'a str,
    pub number: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Seen {
    number: String,
    said: Envelope,
}

impl About<'_> {
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.key, self.seq] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        const_hex::encode(&hash.finalize()[..16])
    }
}

/// The reply to this call; `Some(None)` if the serial number was used for another.
pub(super) async fn find(
    ledger: &BatchedLedger,
    about: &About<'_>,
) -> Result<Option<Option<Envelope>>, LedgerError> {
    let Some(kept) = ledger.document(SEEN, &about.id()).await? else { return Ok(None) };
    let damaged = |_| LedgerError::Corrupt(format!("the document {SEEN} {}", kept.id));
    let seen: Seen = serde_json::from_slice(&kept.body).map_err(damaged)?;
    Ok(Some((seen.number == about.number).then_some(seen.said)))
}

/// Stores a reply. Returns the reply of the first call with this serial number.
pub(super) async fn keep(
    ledger: &BatchedLedger,
    about: &About<'_>,
    said: Envelope,
    at_ms: UnixMillis,
) -> Result<Option<Envelope>, LedgerError> {
    let id = about.id();
    let seen = Seen { number: about.number.to_owned(), said };
    let body = serde_json::to_vec(&seen);
    let body = body.map_err(|_| LedgerError::Corrupt(format!("the document {SEEN} {id}")))?;
    let change = |id: String, expect, body| DocumentChange {
        kind: SEEN,
        id,
        expect,
        body,
        who: String::from("postern"),
        at_ms,
    };
    let mut changes = vec![change(id, Expect::Absent, Some(body.into()))];
    let mut all = ledger.documents(SEEN).await?.documents;
    all.sort_unstable_by_key(|kept| kept.at_ms);
    let over = all.len().saturating_sub(KEPT_MAX);
    let old = |at: usize, kept_ms: i64| at < over || kept_ms.saturating_add(KEPT_MS) < at_ms;
    let gone = all.into_iter().enumerate().filter(|(at, kept)| old(*at, kept.at_ms));
    let gone = gone.take(SWEPT_AT_ONCE);
    changes.extend(gone.map(|(_, kept)| change(kept.id, Expect::Version(kept.version), None)));
    // Another gateway may sweep at the same time; without the sweep the answer itself decides.
    for changes in [&changes[..], &changes[..1]] {
        match ledger.change_all(changes).await {
            Ok(_) => return Ok(Some(seen.said)),
            Err(LedgerError::Conflict { .. }) => {
                if let Some(first) = find(ledger, about).await? {
                    return Ok(first);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(LedgerError::Overloaded)
}
