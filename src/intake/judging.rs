//! The decision about a whole callback: judged, and then recorded, held or answered.
//!
//! A future is as large as the largest that it may wait for, and is moved as a whole. So a
//! callback, which is a kilobyte long, is judged without one. Rare branches are boxed, with the
//! callback. Of a callback that is recorded only a few results need it: those read it again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::address_check;
use super::callback_log::CallbackRecord;
use super::handler::Shared;
use super::quarantine::quarantine;
use super::received::Received;
use super::record::{Recording, Surroundings, VerifiedCallback};
use super::reply::{Reply, Unacknowledged};
use super::several::Several;
use crate::clock;
use crate::ledger::{EventId, Release};
use crate::sender::{
    Callback, CallbackError, Judgement, KeyList, KeySet, OlderKeys, Reason, Resolution, Resolved,
};
use crate::wire::ReservedBytes;

/// A callback that goes no further, and what becomes of it.
pub(super) enum EarlyReply {
    Unacknowledged(Unacknowledged),
    Rejected(CallbackError),
}

/// The decision about a callback before anything is recorded.
pub(super) enum Decision {
    Event(EventId, Box<Resolved>),
    /// Verified, but it may say several things.
    Ambiguous(EventId, Box<Resolved>),
    /// Verified, and several events, in parts with these bodies.
    Several(Vec<Bytes>),
    /// An address check, to be answered once.
    AddressCheck,
    Early(EarlyReply),
}

/// How many readings the signed text of a callback, or of a part of one, has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readings {
    /// One: its values.
    One,
    /// Several, or none that is certain.
    Many,
}

/// The next step for a callback that was judged.
enum Step<'r> {
    /// None: this is the reply.
    Done(Reply),
    /// Recorded in the ledger.
    Record(Box<Recording<'r>>),
    /// Judged again once the store is open.
    Wait,
    /// Held, or answered as an address check.
    Rare(Box<Rare<'r>>),
}

/// A callback that needs more than a record or a reply.
struct Rare<'r> {
    callback: Callback<'r>,
    decision: Decision,
    judged: Instant,
}

/// The part of the pool that a callback's body has, until the callback is verified.
pub(super) type Taken<'p> = Option<Box<ReservedBytes<'p>>>;

/// The record of the callback in progress; removed if its sender hangs up while it is being
/// recorded.
pub(super) type Slot = Option<CallbackRecord>;

impl Shared {
    /// Judges a whole request, and records it if it is verified.
    pub(super) async fn decide(
        &self,
        slot: &mut Slot,
        received: &mut Received,
        taken: Taken<'_>,
    ) -> Reply {
        let keys = match &received.route().keys {
            Some(_) => Box::pin(public_keys(received, slot.as_ref())).await,
            None => None,
        };
        let step = self.judged(slot, received, keys.as_deref());
        if keys.is_some() && matches!(step, Step::Record(_)) {
            note_proof(received);
        }
        match step {
            Step::Done(reply) => reply,
            Step::Wait => {
                drop(step);
                Box::pin(self.when_open(slot, received, taken)).await
            }
            Step::Record(recording) => {
                drop(taken);
                let with = Surroundings { received, shared: self, keys: keys.as_deref() };
                recording.record(slot, with).await
            }
            Step::Rare(rare) => {
                drop(taken);
                Box::pin(self.decide_rarely(slot, received, keys.as_deref(), rare)).await
            }
        }
    }

    /// Reads and judges a callback, and prepares what has to be recorded.
    #[inline(never)]
    fn judged<'r>(
        &self,
        slot: &mut Slot,
        received: &'r Received,
        keys: Option<&'r KeySet>,
    ) -> Step<'r> {
        let route = received.route();
        let recipe = &route.source.recipe;
        let mut callback = recipe.unread(received.request(), received.at_ms());
        callback.read();
        callback.use_keys(keys);
        self.look_up(&mut callback);
        let began = clock::instant();
        let decision = judge(&mut callback, || EventId::new(received.at_ms()));
        let judged = clock::instant();
        self.callback_log.metrics.verify_seconds.observe((judged - began).as_secs_f64());
        if let Some(trace) = slot.as_mut().and_then(|record| record.trace.as_mut()) {
            trace.verified(began, judged);
        }
        let Some(ledger) = self.ledger.get().filter(|_| !self.is_starting()) else {
            return match decision {
                // A callback that is to be held has to be recorded.
                Decision::Early(early) if !early.is_held_by(route) => {
                    Step::Done(end_unrecorded(slot, &callback, received, early))
                }
                _ => Step::Wait,
            };
        };
        match decision {
            Decision::Early(early) if !early.is_held_by(route) || received.is_test_call() => {
                Step::Done(end_unrecorded(slot, &callback, received, early))
            }
            // A sender that checks addresses may sign no message.
            Decision::Event(id, resolved) if callback.message_proof().is_none() => {
                let verified = verified(id, &callback, received, resolved, judged);
                match verified.prepare(slot, ledger) {
                    Ok(mut recording) => {
                        if recording.needs_callback() {
                            recording.callback = Some(Box::new(callback));
                        }
                        Step::Record(recording)
                    }
                    Err(outcome) => Step::Done(end_unrecorded(
                        slot,
                        &callback,
                        received,
                        EarlyReply::Unacknowledged(outcome),
                    )),
                }
            }
            Decision::Event(..)
            | Decision::Early(_)
            | Decision::AddressCheck
            | Decision::Ambiguous(..)
            | Decision::Several(_) => Step::Rare(Box::new(Rare { callback, decision, judged })),
        }
    }

    /// Judges a callback that needs more than a record or a reply.
    async fn decide_rarely<'r>(
        &self,
        slot: &mut Slot,
        received: &'r Received,
        keys: Option<&'r KeySet>,
        rare: Box<Rare<'r>>,
    ) -> Reply {
        let Rare { callback, decision, judged } = *rare;
        let Some(ledger) = self.ledger.get() else {
            return end_unrecorded(
                slot,
                &callback,
                received,
                EarlyReply::Unacknowledged(Unacknowledged::Unavailable),
            );
        };
        let (id, resolved, readings) = match decision {
            Decision::Early(early) => return hold_or_end(slot, &callback, received, early).await,
            Decision::AddressCheck => {
                let early = address_check::answer(&callback, received, ledger).await;
                return end_unrecorded(slot, &callback, received, early);
            }
            Decision::Several(bodies) => {
                return match Several::judge(&callback, received, &bodies) {
                    Ok(several) => several.record(slot, ledger, judged).await,
                    Err(early) => hold_or_end(slot, &callback, received, early).await,
                };
            }
            Decision::Event(id, resolved) => {
                match address_check::readings(&callback, &resolved, received, ledger).await {
                    Ok(readings) => (id, resolved, readings),
                    Err(early) => return hold_or_end(slot, &callback, received, early).await,
                }
            }
            Decision::Ambiguous(id, resolved) => (id, resolved, Readings::Many),
        };
        let verified = verified(id, &callback, received, resolved, judged);
        let reply = match readings {
            Readings::Many => verified.record_ambiguous(slot, ledger).await,
            Readings::One => match verified.prepare(slot, ledger) {
                Ok(recording) => {
                    Ok(recording.record(slot, Surroundings { received, shared: self, keys }).await)
                }
                Err(outcome) => Err(outcome),
            },
        };
        reply.unwrap_or_else(|outcome| {
            end_unrecorded(slot, &callback, received, EarlyReply::Unacknowledged(outcome))
        })
    }

    pub(super) fn look_up(&self, callback: &mut Callback<'_>) {
        if !self.no_older_keys.load(Ordering::Relaxed) {
            callback.look_up(OlderKeys::Wanted);
        }
    }
}

/// A callback that was verified and resolved just now.
pub(super) fn verified<'g, 'a>(
    id: EventId,
    callback: &'g Callback<'a>,
    received: &'g Received,
    mut resolved: Box<Resolved>,
    judged: Instant,
) -> VerifiedCallback<'g, 'a> {
    if received.is_test_call() {
        resolved.make_test();
    }
    received.route().note_misfits(resolved.misfits());
    VerifiedCallback { id, callback, received, resolved, judged, release: Release::None }
}

/// The callback that was received, made where it stays.
#[inline(always)]
pub(super) fn read<'r>(received: &'r Received, keys: Option<&'r KeySet>) -> Callback<'r> {
    let mut callback = received.route().source.recipe.read(received.request(), received.at_ms());
    callback.use_keys(keys);
    callback
}

/// Verifies and resolves.
pub(super) fn judge(callback: &mut Callback<'_>, id: impl FnOnce() -> EventId) -> Decision {
    match callback.verify() {
        Judgement::Probe => Decision::Early(EarlyReply::Unacknowledged(Unacknowledged::Test)),
        Judgement::Undecided => {
            Decision::Early(EarlyReply::Unacknowledged(Unacknowledged::Unavailable))
        }
        Judgement::Challenge => Decision::AddressCheck,
        Judgement::Rejected(error) => Decision::Early(EarlyReply::Rejected(error)),
        Judgement::Verified(mut verified) => {
            let id = id();
            match verified.resolve(id) {
                Resolution::Event(resolved) => Decision::Event(id, resolved),
                Resolution::Ambiguous(resolved) => Decision::Ambiguous(id, resolved),
                Resolution::Several(bodies) => Decision::Several(bodies),
                Resolution::Challenge => Decision::AddressCheck,
                Resolution::Test => {
                    Decision::Early(EarlyReply::Unacknowledged(Unacknowledged::Test))
                }
                Resolution::Rejected(error) => Decision::Early(EarlyReply::Rejected(error)),
            }
        }
    }
}

/// The public keys to verify a callback with, if its sender has some. If the callback names a key
/// that is missing, the list is checked again, within the sender's patience.
pub(super) async fn public_keys(
    received: &Received,
    record: Option<&CallbackRecord>,
) -> Option<Arc<KeySet>> {
    let route = received.route();
    let published = route.keys.as_ref()?;
    let keys = published.now();
    let Some(id) = wanted_key(received, keys.as_deref()) else { return keys };
    let spent = record.map_or(Duration::ZERO, |record| record.began.elapsed());
    let left = route.patience.saturating_sub(spent);
    published.look_again(&id, received.client(), left).await;
    published.now()
}

/// Notes the certificate that a callback verified with, where its sender has some.
#[cold]
fn note_proof(received: &Received) {
    let route = received.route();
    let is_of_certificates =
        route.source.recipe.key_list().is_some_and(KeyList::is_of_certificates);
    if let Some(published) = route.keys.as_ref().filter(|_| is_of_certificates) {
        let callback = route.source.recipe.read(received.request(), received.at_ms());
        if let Some(id) = callback.key_id() {
            published.note_proof(&id);
        }
    }
}

/// The id of the key that a callback cannot be verified without, if nothing else is wrong with it.
fn wanted_key(received: &Received, keys: Option<&KeySet>) -> Option<Vec<u8>> {
    let mut callback = read(received, keys);
    let id = callback.key_id()?.into_owned();
    if keys.is_some_and(|keys| keys.knows(&id)) {
        return None;
    }
    let lacks_key = match callback.verify() {
        Judgement::Undecided => true,
        Judgement::Rejected(error) => error.reason == Reason::UnknownKey,
        _ => false,
    };
    lacks_key.then_some(id)
}

/// Ends a callback that does not become an event: in quarantine, where its source says so.
async fn hold_or_end(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    early: EarlyReply,
) -> Reply {
    if received.is_test_call() {
        return end_unrecorded(slot, callback, received, early);
    }
    match early.quarantined(received.route()) {
        Ok(quarantined) => quarantine(slot, callback, received, quarantined).await,
        Err(early) => end_unrecorded(slot, callback, received, early),
    }
}

/// Ends a callback that is not recorded: noted, kept if it is rejected, and answered.
pub(super) fn end_unrecorded(
    slot: &mut Slot,
    callback: &Callback<'_>,
    received: &Received,
    early: EarlyReply,
) -> Reply {
    let outcome = early.outcome();
    let reply = match early.reason() {
        Some(Reason::TooLarge) => Reply::too_large(),
        reason => Reply::unacknowledged(callback, outcome, reason),
    };
    let reply = note_reply(slot, reply);
    if let Some(record) = slot {
        record.set_outcome(outcome.outcome());
        if !matches!(outcome, Unacknowledged::Challenge | Unacknowledged::Superseded) {
            record.limit_logging();
        }
        if let EarlyReply::Rejected(error) = early {
            record.set_error(error);
            record.keep_sample(received, callback);
        }
    }
    reply
}

/// Notes the status of the reply in the record.
pub(super) fn note_reply(slot: &mut Slot, reply: Reply) -> Reply {
    if let (Some(record), Some(status)) = (slot, reply.status()) {
        record.set_status(status);
    }
    reply
}

impl EarlyReply {
    pub(super) fn rejected(reason: Reason) -> Self {
        Self::Rejected(CallbackError { reason, parameter: None })
    }

    /// The outcome of the callback.
    pub(super) fn outcome(&self) -> Unacknowledged {
        match self {
            Self::Unacknowledged(outcome) => *outcome,
            Self::Rejected(CallbackError { reason: Reason::Disabled, .. }) => {
                Unacknowledged::Disabled
            }
            Self::Rejected(_) => Unacknowledged::Rejected,
        }
    }

    /// The reason for a rejection.
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unacknowledged(_) => None,
            Self::Rejected(error) => Some(error.reason),
        }
    }
}
