//! The ledger: the durable store of deduplication keys, events, deliveries and documents.
//!
//! ```text
//! gateway ─▶ BatchedLedger (micro-batches, deadlines) ─▶ Engine ─┬─▶ Embedded (journal, index)
//!                                                       ├─▶ Postgres (many gateways, one server)
//!                                                       └─▶ Memory   (the model, for tests; not in a release)
//! ```
//!
//! [`Ledger`] is the contract of an engine, which the suite `conformance` checks. Suite and model are
//! only in builds with debug assertions. [`Engine`] is the closed
//! set of engines. [`BatchedLedger`] is the handle that the gateway uses. A [`Recorded`] is the
//! proof that an event is durable; only a [`BatchedLedger`] creates one.
//!
//! Guarantees of every engine:
//!
//! - batch in, batch out, results in the order of the batch; one call is at most one commit;
//! - [`Accepted`] is returned only when the record is durable, anything else is an error;
//! - the gateway creates ids before the call and keeps them over retries: a retry after
//!   [`LedgerError::Unknown`] finds its own first try and gets `Fresh`;
//! - deliveries happen at least once; an expired lease changes nothing;
//! - cursors are opaque, and belong to the query that returned them.
//!
//! The ledger does not know HTTP, does not verify, and does not read the content of an event.

mod accept;
mod batch;
mod body;
mod clock;
mod codec;
#[doc(hidden)]
#[cfg(any(test, debug_assertions))]
pub mod conformance;
mod delivery;
mod document;
mod embedded;
mod engine;
mod erasure;
mod error;
mod event;
mod fault_code;
mod gateway;
mod held;
mod holdings;
mod id;
mod integrity;
mod log;
#[cfg(any(test, debug_assertions))]
mod memory;
mod portable;
mod postgres;
mod rejection;
mod scrub;
mod seal;
mod surrogates;
mod upkeep;
mod window;

pub use accept::{
    Accepted, DedupeKey, EventIdentity, EventKeys, Fingerprint, LookupKey, NewEvent, Nonce,
    NonceUse,
};
pub use batch::{
    BatchOptions, BatchedLedger, DedupResult, Due, HeldProof, NoopObserver, Observer,
    PendingRecord, Recorded,
};
pub use body::{EventBody, EventClaims, KeptReply, RawRequest};
pub use clock::StoreClock;
pub use delivery::{
    Attempt, Delivery, DeliveryCounts, DeliveryPage, DeliveryQuery, DeliveryState, Lease, LeaseAsk,
    LeaseBatch, LeaseResult, ReplayOrder, ReplayPage, ReplayWhat, Settled, Settlement,
    TargetFilter,
};
pub use document::{Document, DocumentChange, DocumentQuery, Documents, Expect, Kind, Revision};
pub use embedded::{Embedded, EmbeddedOptions, Missing, OpenProgress, OpenStep, Survey};
#[doc(hidden)]
#[cfg(any(test, debug_assertions))]
pub use embedded::{RecordCheck, check_record};
pub use engine::Engine;
pub use erasure::{EarlyExpiry, Erased, Erasure};
pub use error::LedgerError;
pub use event::{Event, EventJson, Incoming, Release};
pub use fault_code::FaultCode;
pub use gateway::{GatewayRecord, GatewayReport, GatewaySlot, RECORD_BYTES_MAX};
pub use held::{
    Decided, Decision, HeldBounds, HeldList, HeldMark, HeldOne, HeldOrder, HeldPage, HeldQuery,
    HeldStats, HeldWhy, HoldOutcome, Holding, NewHeld, REJECTED_MAX, VARIANTS_MAX,
};
pub use id::{
    EventId, EventIdError, HeldId, HeldIdError, NodeId, ReleaseId, ReleaseIdError, ReplayId,
    ReplayIdError, SourceId, TargetId,
};
pub use integrity::{Damage, ScrubPage};
pub use log::{Cursor, EventDetail, EventState, LogPage, LogQuery, Logged};
#[cfg(any(test, debug_assertions))]
pub use memory::Memory;
pub use portable::{
    DifferingDocument, ExportError, ExportId, ExportPage, ExportReader, ExportWriter, Imported,
    Item, KnownItems, PastEvent, StoredForm,
};
pub use postgres::{Postgres, PostgresError, PostgresOptions};
pub use rejection::{NewRejection, Rejected, Rejection, RejectionNote, caller};
pub use scrub::{PassState, ScrubPass, ScrubShare, Scrubber};
pub use seal::{KeyId, Keyring, MasterKey};
pub use upkeep::{
    DiskSpace, Durability, Health, HeldRetention, KeepKeys, Retention, ServerHealth, Stats, Swept,
    TargetStats,
};
pub use window::{ARCHIVE, EventWindow};

use std::future::Future;
use std::time::Duration;

use crate::sender::Reason;

/// The contract of every engine. The suite `conformance` checks it.
///
/// A future that is dropped before it is ready may have taken effect. Every operation may fail with
/// [`LedgerError::Unavailable`], [`LedgerError::Unknown`], [`LedgerError::Corrupt`] or
/// [`LedgerError::Fatal`]; further errors are listed where they can occur.
pub trait Ledger: Send + Sync {
    /// Records events whose keys are all unknown; returns the first event for the others.
    ///
    /// All or nothing for the whole batch, in its order. A known identity makes a duplicate if the
    /// content is equal, and a conflict if not; without one, a known signature is ambiguous. The
    /// unknown keys of a duplicate are added to the first event; the keys of the others are not
    /// written. An event whose own id was recorded before is `Fresh` again. One delivery is made
    /// for each target of a fresh event, due at once.
    ///
    /// Survives: the process and the machine, as far as [`Ledger::health`] says `durability`.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`] if an event exceeds what the engine stores; nothing was recorded.
    fn accept(
        &self,
        batch: &[NewEvent],
    ) -> impl Future<Output = Result<Vec<Accepted>, LedgerError>> + Send;

    /// Whether the ledger may have keys in an older form, which have to be looked up too. `false`
    /// for a ledger that this version created, until an import.
    fn may_hold_older_keys(&self) -> impl Future<Output = Result<bool, LedgerError>> + Send;

    /// Records nonces, each until its own end, and returns which were used before.
    ///
    /// Of two equal nonces of one batch the first is [`NonceUse::First`]. Survives what
    /// [`Ledger::accept`] survives.
    fn check_nonces(
        &self,
        batch: &[Nonce],
    ) -> impl Future<Output = Result<Vec<NonceUse>, LedgerError>> + Send;

    /// Leases due deliveries to `who` for `ask.ttl`, earliest first.
    ///
    /// A lease that is neither settled nor released becomes due again after its time. Each lease
    /// raises the attempt and the token. Leases of an embedded engine die with the process.
    fn lease(
        &self,
        who: &NodeId,
        ask: &LeaseAsk,
    ) -> impl Future<Output = Result<LeaseBatch, LedgerError>> + Send;

    /// Records the results of leased deliveries. A token that is not the newest changes nothing and
    /// gets [`Settled::Stale`].
    ///
    /// [`LeaseResult::Decided`], [`LeaseResult::Retry`] and [`LeaseResult::Dead`] are durable on
    /// return. [`LeaseResult::Done`] and [`LeaseResult::Postpone`] may be lost in a crash: then the
    /// delivery is repeated under the same event id, or is due earlier.
    fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<Vec<Settled>, LedgerError>> + Send;

    /// Releases every lease of `who` without using up its attempt; returns their number.
    fn release(&self, who: &NodeId) -> impl Future<Output = Result<u64, LedgerError>> + Send;

    /// Makes new deliveries of recorded events, attempt 0, due at once: never a new event.
    ///
    /// Idempotent for one [`ReplayOrder::id`] and event: repeating a page changes nothing. A delivery
    /// that [`ReplayOrder::only`] leaves out is neither counted nor remembered as made.
    /// Processes at most `limit` events per call, newest first, from `cursor` on. Durable on
    /// return.
    fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<ReplayPage, LedgerError>> + Send;

    /// Recorded events, newest id first, at most `limit` (1 at least).
    ///
    /// A page may have fewer than `limit` events and still have a next one.
    ///
    /// # Errors
    /// [`LedgerError::BadCursor`] if `cursor` is not from such a query.
    fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<LogPage, LedgerError>> + Send;

    /// One event with its deliveries and their attempts; `None` if it is missing or expired.
    fn event(
        &self,
        id: EventId,
    ) -> impl Future<Output = Result<Option<EventDetail>, LedgerError>> + Send;

    /// Each of these events, as [`Ledger::event`] returns it, in their order.
    fn events(
        &self,
        ids: &[EventId],
    ) -> impl Future<Output = Result<Vec<Option<EventDetail>>, LedgerError>> + Send;

    /// Counts the deliveries of `events` to `targets`, or to all their destinations, by state. The
    /// caller names destinations that the events have: a delivery that is neither pending nor dead
    /// is done. An event that is named twice is counted twice.
    fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> impl Future<Output = Result<DeliveryCounts, LedgerError>> + Send;

    /// Deliveries in one state, newest event first, at most `limit` (1 at least), without their
    /// attempts.
    ///
    /// # Errors
    /// [`LedgerError::BadCursor`] if `cursor` is not from such a query.
    fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<DeliveryPage, LedgerError>> + Send;

    /// Keeps callbacks that did not become events; persisted before the answer. A variant is held
    /// once. Bounds are [`VARIANTS_MAX`] per anchor, and those of the source and reason; in a
    /// quarantine, a caller leaves room for others. Samples of rejected callbacks are bounded by
    /// [`REJECTED_MAX`], and older ones make room. No keys are written. May be repeated with the
    /// same ids.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`] if they exceed what the engine stores in one piece.
    fn hold_all(
        &self,
        batch: &[Holding],
    ) -> impl Future<Output = Result<Vec<HoldOutcome>, LedgerError>> + Send;

    /// Keeps one callback, as [`Ledger::hold_all`] does.
    ///
    /// # Errors
    /// As [`Ledger::hold_all`].
    fn hold(
        &self,
        held: &NewHeld,
        bounds: HeldBounds,
    ) -> impl Future<Output = Result<HoldOutcome, LedgerError>> + Send {
        let one = Holding { held: held.clone(), bounds };
        async move {
            let outcomes = self.hold_all(std::slice::from_ref(&one)).await?;
            outcomes.into_iter().next().ok_or(LedgerError::Unknown)
        }
    }

    /// Notes that a kept callback would now be rejected for another reason. Nothing happens if the
    /// callback is missing.
    fn note_reason(
        &self,
        id: HeldId,
        reason: Reason,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Kept callbacks of a list, newest first, at most `limit` (1 at least).
    ///
    /// # Errors
    /// [`LedgerError::BadCursor`] if `cursor` is not from such a query.
    fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> impl Future<Output = Result<HeldPage, LedgerError>> + Send;

    /// One held callback, or its mark.
    fn held_one(
        &self,
        id: HeldId,
    ) -> impl Future<Output = Result<Option<HeldOne>, LedgerError>> + Send;

    /// Decides on a held callback, once: durable on return. A release makes the event, with its
    /// original time and with deliveries due at once, and writes those of its keys that no event
    /// has. Every decision leaves a mark: the variant stays known.
    fn decide(
        &self,
        order: &HeldOrder,
    ) -> impl Future<Output = Result<Decided, LedgerError>> + Send;

    /// Deletes the deduplication keys and held callbacks of a source; its events stay. Returns the
    /// number of keys and held callbacks.
    fn forget(&self, source: &SourceId) -> impl Future<Output = Result<u64, LedgerError>> + Send;

    /// Erases the content of a user's events and kept callbacks. The deduplication keys stay, so the
    /// transactions stay known; unsettled deliveries of those events end without an attempt.
    /// Durable on return. May be repeated, also after an error.
    fn erase(&self, erasure: &Erasure) -> impl Future<Output = Result<Erased, LedgerError>> + Send;

    /// Deletes settled events of a source that keeps them for a shorter time than others, about
    /// `budget` per call; their keys stay. The attempts of such events may stay until
    /// [`Ledger::sweep`] deletes them. The result says whether something is left.
    fn expire_early(
        &self,
        early: &EarlyExpiry,
        budget: usize,
    ) -> impl Future<Output = Result<Swept, LedgerError>> + Send;

    /// Counts for metrics and pages. They may be a few seconds old.
    fn stats(&self) -> impl Future<Output = Result<Stats, LedgerError>> + Send;

    /// The document `id` of `kind`, if there is one.
    fn document(
        &self,
        kind: Kind,
        id: &str,
    ) -> impl Future<Output = Result<Option<Document>, LedgerError>> + Send;

    /// Every document of `kind`, by id, and their revision.
    fn documents(&self, kind: Kind) -> impl Future<Output = Result<Documents, LedgerError>> + Send;

    /// The documents that `query` finds, the greatest id first, at most `limit` (1 at least).
    fn latest_documents(
        &self,
        query: &DocumentQuery,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Document>, LedgerError>> + Send;

    /// Writes or deletes one document, as [`Ledger::change_all`] does.
    ///
    /// # Errors
    /// As [`Ledger::change_all`].
    fn change(
        &self,
        change: &DocumentChange,
    ) -> impl Future<Output = Result<Revision, LedgerError>> + Send {
        self.change_all(std::slice::from_ref(change))
    }

    /// Writes and deletes documents, all or none, and returns the new revision, which is also the
    /// version of each written document. Durable on return. A document may occur once in `changes`.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] with the version of the first document that is not as its `expect`
    /// says: nothing changed. [`LedgerError::TooLarge`] if they exceed what the engine stores in
    /// one piece.
    fn change_all(
        &self,
        changes: &[DocumentChange],
    ) -> impl Future<Output = Result<Revision, LedgerError>> + Send;

    /// Waits, at most for `wait`, until the documents are newer than `after`, and returns their
    /// revision. May return early, with a revision that is not newer.
    fn changed(
        &self,
        after: Revision,
        wait: Duration,
    ) -> impl Future<Output = Result<Revision, LedgerError>> + Send;

    /// Takes the record of a gateway that has ended, or a new one, for `who`, which counts as alive
    /// for `ttl`. Two gateways never have one record.
    fn join(
        &self,
        who: &NodeId,
        ttl: Duration,
    ) -> impl Future<Output = Result<GatewayRecord, LedgerError>> + Send;

    /// Writes the record of a gateway, and returns those of all others, by slot; `None` if another
    /// gateway has taken the slot. Survives the process; a crash of the machine may lose it.
    fn report(
        &self,
        report: &GatewayReport,
    ) -> impl Future<Output = Result<Option<Vec<GatewayRecord>>, LedgerError>> + Send;

    /// Deletes data that `policy` no longer keeps, about `budget` events per call.
    ///
    /// Never an event with a pending or a dead delivery, never a document. Safe at any time, on
    /// every node. The result says whether something is left.
    fn sweep(
        &self,
        policy: &Retention,
        budget: usize,
    ) -> impl Future<Output = Result<Swept, LedgerError>> + Send;

    /// A page of all stored data, about `bytes` of it, from `cursor` on.
    ///
    /// May be read while the ledger works: every item is complete, and data recorded meanwhile may
    /// be missing. A callback that is released meanwhile is in it, held or as an event, and of an event
    /// that is deleted meanwhile at least the keys are.
    ///
    /// # Errors
    /// [`LedgerError::BadCursor`] if `cursor` is not from an export.
    fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> impl Future<Output = Result<ExportPage, LedgerError>> + Send;

    /// A page of the events of a window of time, by their ids, with their deliveries, about `bytes`
    /// of it. In the engine's own order; as complete as an export.
    ///
    /// # Errors
    /// [`LedgerError::BadCursor`] if `cursor` is not from such a window.
    fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> impl Future<Output = Result<ExportPage, LedgerError>> + Send;

    /// Reads the next part of all stored data, about `bytes` of it, and reports damage. Changes
    /// nothing. A pass begins without a cursor.
    ///
    /// An engine without its own files has nothing to read: its server checks them. The pass is
    /// then complete at once.
    ///
    /// # Errors
    /// [`LedgerError::BadCursor`] if `cursor` is not from a scrub. Damage is not an error.
    fn scrub(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> impl Future<Output = Result<ScrubPage, LedgerError>> + Send {
        let _ = (cursor, bytes);
        async { Ok(ScrubPage::default()) }
    }

    /// Imports the export of another ledger, each event once, by its id and its keys: known events
    /// stay as they are. A document is imported if it is newer than the stored one.
    ///
    /// After an error some items may have been imported. They may be offered again.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`] if an item exceeds what the engine stores in one piece.
    fn import(
        &self,
        items: Vec<Item>,
    ) -> impl Future<Output = Result<Imported, LedgerError>> + Send;

    /// Whether the ledger can write, how durable that is, and its size.
    fn health(&self) -> impl Future<Output = Result<Health, LedgerError>> + Send;
}
