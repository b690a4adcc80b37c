//! The conformance suite: one set of checks, run against every engine.
//!
//! [`all`] gets a fresh ledger for every check, created by the caller with the given clock for
//! leases and due times. A failed check panics with its position.

mod accepting;
mod delivering;
mod erasing;
mod holding;
mod keeping;
mod reading;
mod rejecting;
mod transferring;
mod windows;

use bytes::Bytes;

use super::{
    Accepted, Attempt, DedupeKey, EventId, EventKeys, Fingerprint, HeldWhy, KeepKeys, Lease,
    LeaseAsk, LeaseResult, Ledger, LedgerError, NewEvent, NewHeld, NodeId, Settled, Settlement,
    SourceId, StoreClock, TargetFilter, TargetId,
};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use super::{NewRejection, RejectionNote};
use crate::sender::{Reason, Request};

/// The result of a check: errors are failures that were not expected.
pub type Checked = Result<(), LedgerError>;

/// Where the clocks of the checks begin.
pub const START_MS: i64 = 1_767_323_045_000;

macro_rules! run {
    ($make:ident, $failed:ident: $($check:path,)+) => {
        $({
            let clock = StoreClock::manual(START_MS);
            let ledger = $make(clock.clone());
            if let Err(error) = $check(&ledger, &clock).await {
                $failed.push(format!("{}: {error}", stringify!($check)));
            }
        })+
    };
}

/// Runs every check against ledgers from `make`.
///
/// # Panics
/// If the engine breaks its contract.
pub async fn all<L: Ledger>(make: impl Fn(StoreClock) -> L) {
    let mut failed = events(&make).await;
    failed.extend(others(&make).await);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// The checks of events and their deliveries; returns what failed.
async fn events<L: Ledger>(make: &impl Fn(StoreClock) -> L) -> Vec<String> {
    let mut failed = Vec::new();
    run!(make, failed:
        accepting::a_second_callback_is_a_duplicate_of_the_first,
        accepting::either_identity_makes_a_duplicate,
        accepting::the_content_tells_a_duplicate_from_a_conflict,
        accepting::a_signature_alone_is_ambiguous,
        accepting::each_signature_of_an_event_is_known,
        accepting::a_duplicate_adds_its_keys_to_the_first_event,
        accepting::an_older_key_is_looked_up_and_not_written,
        accepting::a_mark_takes_no_place_and_adds_nothing,
        accepting::added_keys_are_judged_in_the_order_of_a_batch,
        accepting::a_batch_is_judged_in_its_order,
        accepting::the_same_id_again_is_fresh_again,
        accepting::of_many_at_once_one_is_fresh,
        accepting::variants_at_once_make_one_event_for_each_signature,
        accepting::an_event_that_is_too_large_changes_nothing,
        accepting::a_nonce_is_first_once_until_it_ends,
        delivering::each_target_gets_one_delivery_due_at_once,
        delivering::a_lease_is_held_by_one_and_ends,
        delivering::an_old_token_changes_nothing,
        delivering::verdicts_do_what_they_say,
        delivering::a_postponed_delivery_uses_up_no_attempt,
        delivering::release_gives_back_what_is_held,
        delivering::filters_choose_destinations,
        delivering::the_earliest_comes_first_and_the_next_is_announced,
        delivering::a_replay_makes_deliveries_anew_once,
        delivering::a_replay_goes_page_by_page,
        delivering::a_replay_of_the_dead_makes_each_due_once,
        delivering::a_replay_of_the_pending_leaves_what_is_in_flight,
        delivering::a_replay_of_the_done_leaves_the_others,
        reading::the_log_is_newest_first_and_pages,
        reading::the_log_filters,
        reading::an_event_tells_its_whole_story,
        reading::deliveries_are_listed_by_state,
        reading::events_are_read_together,
        reading::deliveries_are_counted_by_state,
        reading::foreign_cursors_are_refused,
        reading::stats_count_what_is_there,
    );
    failed
}

/// The other checks; returns what failed.
async fn others<L: Ledger>(make: &impl Fn(StoreClock) -> L) -> Vec<String> {
    let mut failed = Vec::new();
    run!(make, failed:
        keeping::documents_have_versions_that_never_come_back,
        keeping::changes_happen_together_or_not_at_all,
        keeping::a_change_wakes_who_waits_for_it,
        keeping::kinds_are_kept_apart,
        keeping::the_latest_documents_are_listed_first,
        keeping::a_sweep_keeps_what_it_must,
        keeping::keys_that_duplicates_brought_are_kept_as_long,
        keeping::a_healthy_ledger_says_so,
        keeping::a_record_is_one_gateways_and_outlives_it,
        holding::a_variant_is_held_once_and_few_of_one_anchor,
        holding::a_source_has_bounds,
        holding::held_callbacks_are_listed_newest_first,
        holding::a_release_makes_one_event,
        holding::a_released_conflict_takes_no_key,
        holding::of_many_who_decide_one_does,
        holding::held_callbacks_outlive_every_sweep,
        holding::held_callbacks_are_carried_over,
        holding::a_forgotten_source_is_new_again,
        erasing::an_erased_user_is_gone_and_the_transactions_stay_known,
        erasing::an_erasure_of_one_source_leaves_the_others,
        erasing::a_source_may_keep_its_events_for_a_shorter_time,
        erasing::kept_callbacks_of_an_erased_user_are_gone,
        rejecting::samples_make_room_and_a_flood_only_for_itself,
        rejecting::a_quarantine_is_full_and_leaves_room_for_other_callers,
        rejecting::rejections_are_found_by_what_they_claim,
        rejecting::what_is_settled_is_settled_once,
        rejecting::what_is_rejected_has_its_time,
        transferring::an_export_is_taken_by_another_ledger_once,
        transferring::what_another_ledger_exported_is_taken_once,
        transferring::an_import_changes_nothing_that_is_known,
        transferring::keys_outlive_their_events_in_an_export,
        transferring::keys_that_duplicates_brought_are_carried_over,
        transferring::no_key_is_lost_while_an_export_is_read,
        transferring::a_key_that_an_export_has_twice_is_taken_once,
        transferring::a_release_while_an_export_is_read_is_not_lost,
        transferring::an_event_without_keys_is_taken_once,
        transferring::documents_of_one_change_stay_of_one_revision,
        transferring::a_deleted_document_is_imported_with_its_time,
        transferring::a_document_that_differs_from_the_stored_one_is_named,
        windows::a_window_has_its_events_and_no_others,
    );
    failed
}

// === Helpers of the checks ===

/// The `n`th event of source `s`, received `n` milliseconds after the start, for `targets`.
pub fn event(n: u64, targets: &[&str]) -> NewEvent {
    let received_ms = START_MS + i64::try_from(n).unwrap_or(0);
    NewEvent {
        id: EventId::new(received_ms),
        source: SourceId::from("s"),
        keys: EventKeys::from_iter([key(n)]),
        fingerprint: Fingerprint(n),
        transaction: format!("t-{n}"),
        user: Some(format!("u-{}", n % 3)),
        received_ms,
        test: false,
        body: Bytes::from(format!("body of {n}")),
        targets: targets.iter().map(|target| TargetId::from(*target)).collect(),
        seal: Default::default(),
    }
}

/// A retention policy: the keys of these sources are kept for `time`.
#[must_use]
pub fn keep(sources: &[&str], time: Duration) -> Vec<KeepKeys> {
    sources.iter().map(|source| KeepKeys { source: SourceId::from(*source), time }).collect()
}

/// The `n`th event, as a repetition of `first`.
pub fn repeat(first: &NewEvent, n: u64) -> NewEvent {
    NewEvent { keys: first.keys.clone(), fingerprint: first.fingerprint, ..event(n, &["a"]) }
}

/// The `n`th event, held for that reason.
pub fn held(n: u64, why: HeldWhy, first: Option<EventId>) -> NewHeld {
    NewHeld::disputing(why, first, event(n, &["a"]))
}

/// The `n`th rejected callback of source `s`, of the caller with that last byte.
pub fn rejected(n: u32, why: HeldWhy, client: u8) -> NewHeld {
    let target = format!("/callback/s?n={n}");
    let mut headers = HeaderMap::new();
    headers.insert("x-sign", HeaderValue::from_static("no"));
    let request = Request {
        method: &Method::POST,
        target: target.as_bytes(),
        base: "",
        headers: &headers,
        body: b"{}",
    };
    let note = RejectionNote {
        source: "s".into(),
        nearest: None,
        parameter: Some("sign".into()),
        client: [203, 0, 113, client].into(),
        took_us: 12,
        status: Some(601),
        body_bytes: 2,
    };
    let new = NewRejection {
        at_ms: START_MS + i64::from(n),
        why,
        reason: Some(Reason::BadSignature),
        source_id: SourceId::from("s"),
        transaction: Some(format!("t-{n}")),
        user: Some(format!("u-{}", n % 3)),
        note,
        request,
    };
    new.held().unwrap_or_else(|_| held(u64::from(n), why, None))
}

/// The `n`th key.
pub fn key(n: u64) -> DedupeKey {
    DedupeKey::new(&SourceId::from("s"), &n.to_le_bytes())
}

/// The node that most checks lease as.
pub fn node() -> NodeId {
    NodeId::from("node-1")
}

fn ask(max: usize) -> LeaseAsk {
    LeaseAsk { targets: TargetFilter::All, max, ttl: Duration::from_secs(30) }
}

/// Due deliveries, leased by [`node`].
async fn lease(ledger: &impl Ledger, max: usize) -> Result<Vec<Lease>, LedgerError> {
    Ok(ledger.lease(&node(), &ask(max)).await?.leases)
}

async fn accept(ledger: &impl Ledger, event: &NewEvent) -> Result<Accepted, LedgerError> {
    let accepted = ledger.accept(std::slice::from_ref(event)).await?;
    assert_eq!(accepted.len(), 1);
    Ok(accepted.into_iter().next().unwrap_or(Accepted::New))
}

fn duplicate_of(first: &NewEvent) -> Accepted {
    Accepted::Duplicate { first: first.id, first_seen_ms: first.received_ms }
}

/// The settlement of a lease by [`node`].
pub fn settlement(lease: &Lease, result: LeaseResult) -> Settlement {
    Settlement {
        event: lease.event,
        target: lease.target.clone(),
        token: lease.token,
        result,
        attempt: Attempt {
            at_ms: START_MS + i64::from(lease.attempt),
            latency_ms: 12,
            status: Some(200),
            head: Bytes::from_static(b"{}"),
            error: None,
        },
    }
}

async fn settle(
    ledger: &impl Ledger,
    lease: &Lease,
    result: LeaseResult,
) -> Result<Settled, LedgerError> {
    let settled = ledger.settle(&node(), &[settlement(lease, result)]).await?;
    assert_eq!(settled.len(), 1);
    Ok(settled.first().copied().unwrap_or(Settled::Stale))
}
