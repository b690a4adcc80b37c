//! A callback in quarantine, verified again: as of its receipt, with the current secrets and sender
//! file.
//!
//! A callback that verifies is recorded like every event, under an id derived from its own.
//! Releasing it twice makes one event, and a repetition of it is a duplicate. Then the callback is
//! settled. The next release repairs a crash in between.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Version;

use super::address_check;
use super::client::Caller;
use super::handler::{CallbackHandler, Shared};
use super::judging::{Decision, EarlyReply, Readings, judge, public_keys};
use super::received::Received;
use super::record::VerifiedCallback;
use super::several::Part;
use crate::clock::{self, now_ms};
use crate::ledger::{
    BatchedLedger, DedupResult, EventId, HeldBounds, HeldOrder, HeldWhy, LedgerError, LogQuery,
    NewEvent, NewHeld, Rejection, Release,
};
use crate::sender::{Callback, CallbackError, Granted, Reason, Resolved, Role};
use crate::wire::{RawTarget, RequestBody, Target, WireRequest};

/// Whether anything is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReleaseMode {
    /// A callback that verifies becomes an event.
    #[default]
    Real,
    /// Nothing changes.
    DryRun,
}

/// The result of verifying a held callback again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// The callback is an event now.
    Event(EventId),
    /// The transaction is known, by this event.
    Duplicate(EventId),
    /// The callback verifies and disputes an event: it is now held for that.
    Disputed,
    /// The callback stays in quarantine, now rejected for this reason.
    Rejected(Reason),
    /// The callback stays in quarantine: it cannot be judged at present.
    Undecided,
}

/// The result of verifying a held callback again, and the events that it became: a callback may have
/// several, of which some are new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedCallback {
    /// The result: of several events, what still has to be done comes first.
    pub result: Released,
    /// The new events.
    pub events: Vec<EventId>,
}

impl From<Released> for ReleasedCallback {
    fn from(result: Released) -> Self {
        Self { events: result.new_event().into_iter().collect(), result }
    }
}

impl Released {
    /// The event that the callback became.
    pub(super) const fn new_event(&self) -> Option<EventId> {
        match self {
            Self::Event(id) => Some(*id),
            Self::Duplicate(_) | Self::Disputed | Self::Rejected(_) | Self::Undecided => None,
        }
    }

    /// The order of the results of several events in that of their callback: what still has to be
    /// done comes first.
    const fn weight(&self) -> u8 {
        match self {
            Self::Undecided => 5,
            Self::Rejected(_) => 4,
            Self::Event(_) => 3,
            Self::Disputed => 2,
            Self::Duplicate(_) => 1,
        }
    }
}

impl CallbackHandler {
    /// Verifies a callback in quarantine again.
    ///
    /// # Errors
    /// The ledger fails. The callback may be released again.
    pub async fn release(
        &self,
        held: &NewHeld,
        mode: ReleaseMode,
    ) -> Result<ReleasedCallback, LedgerError> {
        let shared = &*self.0;
        let undecided = || Ok(Released::Undecided.into());
        let Some(received) = shared.received_again(held) else { return undecided() };
        let keys = match &received.route().keys {
            Some(_) => public_keys(&received, None).await,
            None => None,
        };
        let recipe = &received.route().source.recipe;
        let mut callback = recipe.read(received.request(), received.at_ms());
        callback.use_keys(keys.as_deref());
        shared.look_up(&mut callback);
        let (id, resolved, readings) = match judge(&mut callback, || held.id.event()) {
            Decision::Event(id, resolved) => (id, resolved, Readings::One),
            Decision::Ambiguous(id, resolved) => (id, resolved, Readings::Many),
            Decision::Several(bodies) => {
                return shared.release_parts(held, mode, &received, &callback, &bodies).await;
            }
            Decision::AddressCheck => return undecided(),
            Decision::Early(early) => return Ok(shared.stays(held, early, mode).await?.into()),
        };
        if shared.is_too_old(&received) {
            return undecided();
        }
        let verified = released(&callback, &received, id, resolved);
        // Another source makes its event, unless that source came later: an operator decides.
        if verified.is_superseded() {
            return undecided();
        }
        if mode == ReleaseMode::DryRun {
            return Ok(shared.would_be(&received, &verified.resolved, id, readings).await?.into());
        }
        let readings = match readings {
            Readings::Many => Readings::Many,
            // Its signature may be that of an address check, or of another message.
            Readings::One => {
                let ledger = shared.opened_ledger()?;
                match address_check::readings(&callback, &verified.resolved, &received, ledger)
                    .await
                {
                    Ok(readings) => readings,
                    Err(_) => return undecided(),
                }
            }
        };
        let Some(event) = verified.event_with_reply() else { return undecided() };
        let released = shared.enter(event, readings).await?;
        shared.settle_as(held, &released).await?;
        Ok(released.into())
    }

    /// Makes an event, or several, of a callback in quarantine that does not verify, because an
    /// operator takes responsibility for it. Nothing of it is authenticated.
    ///
    /// # Errors
    /// Why it cannot be read, or the ledger fails.
    pub async fn grant(
        &self,
        held: &NewHeld,
    ) -> Result<Result<Released, CallbackError>, LedgerError> {
        let shared = &*self.0;
        let Some(received) = shared.received_again(held) else { return Ok(Err(gone())) };
        match shared.granted_events(&received, held.id.event()) {
            Ok(events) => shared.record_granted(held, events).await.map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// The error of a callback whose source is missing, or of which no event can be made.
fn gone() -> CallbackError {
    CallbackError { reason: Reason::Disabled, parameter: None }
}

/// A callback that an operator releases.
fn released<'g, 'a>(
    callback: &'g Callback<'a>,
    received: &'g Received,
    id: EventId,
    resolved: Box<Resolved>,
) -> VerifiedCallback<'g, 'a> {
    let (judged, release) = (clock::instant(), Release::ByOperator);
    VerifiedCallback { id, callback, received, resolved, judged, release }
}

impl VerifiedCallback<'_, '_> {
    /// The event to be recorded, with the reply that a duplicate repeats, if there is one.
    fn event_with_reply(&self) -> Option<NewEvent> {
        self.event(self.reply_if_accepted().as_ref(), self.identity())
    }

    /// The event that an operator grants. No caller waits, and without a secret no reply can be
    /// sealed: a verified duplicate gets its own.
    fn event_without_reply(&self) -> Option<NewEvent> {
        self.event(None, self.identity())
    }
}

impl Shared {
    /// The request as it came, to the source of now; `None`: that is gone.
    fn received_again(&self, held: &NewHeld) -> Option<Received> {
        let rejection = Rejection::read(held).ok()?;
        let view = self.view.load();
        let route = view.of_id(&rejection.source_id)?;
        let request = rejection.request;
        let headers = request.header_map();
        let as_it_came = Box::new(WireRequest {
            method: request.method,
            target: Target::Sent(RawTarget(request.target)),
            version: Version::HTTP_11,
            headers,
            certificates: None,
            body: RequestBody::Empty,
        });
        let caller = Caller::Known(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut received = Received::new(Arc::clone(route), caller, as_it_came, rejection.at_ms);
        received.set_body(request.body);
        Some(received)
    }

    fn opened_ledger(&self) -> Result<&BatchedLedger, LedgerError> {
        self.ledger.get().ok_or(LedgerError::Unavailable("the store is not open yet".into()))
    }

    /// Whether what it repeats may be forgotten.
    fn is_too_old(&self, received: &Received) -> bool {
        let age = now_ms().saturating_sub(received.at_ms());
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        received.route().releasable.is_some_and(|most| age > most)
    }

    /// Keeps a callback that does not verify, with its current reason.
    async fn stays(
        &self,
        held: &NewHeld,
        early: EarlyReply,
        mode: ReleaseMode,
    ) -> Result<Released, LedgerError> {
        let EarlyReply::Rejected(error) = early else { return Ok(Released::Undecided) };
        let reason = error.reason;
        if mode == ReleaseMode::Real && held.reason != Some(reason) {
            self.opened_ledger()?.note_reason(held.id, reason).await?;
        }
        Ok(Released::Rejected(reason))
    }

    /// The result that a release would have, as far as it can be known without one.
    async fn would_be(
        &self,
        received: &Received,
        resolved: &Resolved,
        id: EventId,
        readings: Readings,
    ) -> Result<Released, LedgerError> {
        if readings == Readings::Many {
            return Ok(Released::Disputed);
        }
        let query = LogQuery {
            source: Some(received.route().id.clone()),
            transaction: resolved.role(Role::Transaction).map(str::to_owned),
            ..LogQuery::default()
        };
        let found = self.opened_ledger()?.query(&query, None, 1).await?;
        let known = found.events.first();
        Ok(known.map_or(Released::Event(id), |event| Released::Duplicate(event.id)))
    }

    /// The events that an operator makes of a callback: one, or one of each part.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn granted_events(
        &self,
        received: &Received,
        id: EventId,
    ) -> Result<Vec<NewEvent>, CallbackError> {
        let recipe = &received.route().source.recipe;
        let mut callback = recipe.read(received.request(), received.at_ms());
        self.look_up(&mut callback);
        let events: Option<Vec<NewEvent>> = match callback.grant(id)? {
            Granted::Event(resolved) => {
                let granted = released(&callback, received, id, resolved);
                granted.event_without_reply().map(|event| vec![event])
            }
            Granted::Several(bodies) => {
                let events = bodies.iter().enumerate().map(|(at, body)| {
                    let id = id.nth(at);
                    let mut part = recipe.read_part(&callback, body);
                    match part.grant(id)? {
                        Granted::Event(resolved) => {
                            Ok(released(&part, received, id, resolved).event_without_reply())
                        }
                        // A part has one element.
                        Granted::Several(_) => Ok(None),
                    }
                });
                // An error of any part goes first: it says more than that one cannot be made.
                let events = events.collect::<Result<Vec<Option<_>>, CallbackError>>()?;
                events.into_iter().collect()
            }
        };
        events.filter(|events| !events.is_empty()).ok_or_else(gone)
    }

    /// Records the events of a callback that an operator grants, and settles it when all are
    /// recorded. Until then granting it again changes nothing for those that are.
    async fn record_granted(
        &self,
        held: &NewHeld,
        events: Vec<NewEvent>,
    ) -> Result<Released, LedgerError> {
        let mut all = Vec::with_capacity(events.len());
        for event in events {
            all.push(self.enter(event, Readings::One).await?);
        }
        let result = all.into_iter().max_by_key(Released::weight).unwrap_or(Released::Undecided);
        self.settle_as(held, &result).await?;
        Ok(result)
    }

    /// Releases a callback with several events, under ids derived from its own. It is settled when
    /// all are recorded; until then releasing it again changes nothing for those that are.
    async fn release_parts(
        &self,
        held: &NewHeld,
        mode: ReleaseMode,
        received: &Received,
        whole: &Callback<'_>,
        bodies: &[Bytes],
    ) -> Result<ReleasedCallback, LedgerError> {
        let undecided = || Ok(Released::Undecided.into());
        let mut parts = Vec::with_capacity(bodies.len());
        for (at, body) in bodies.iter().enumerate() {
            match Part::judge(whole, received, body, held.id.event().nth(at)) {
                Ok(part) => parts.extend(part),
                Err(early) => return Ok(self.stays(held, early, mode).await?.into()),
            }
        }
        if parts.is_empty() || self.is_too_old(received) {
            return undecided();
        }
        let mut all = Vec::with_capacity(parts.len());
        for Part { callback, id, resolved, readings } in parts {
            let verified = released(&callback, received, id, resolved);
            let released = match mode {
                _ if verified.is_superseded() => Released::Undecided,
                ReleaseMode::DryRun => {
                    self.would_be(received, &verified.resolved, id, readings).await?
                }
                ReleaseMode::Real => match verified.event_with_reply() {
                    Some(event) => self.enter(event, readings).await?,
                    None => Released::Undecided,
                },
            };
            all.push(released);
        }
        let events = all.iter().filter_map(Released::new_event).collect();
        let result = all.into_iter().max_by_key(Released::weight).unwrap_or(Released::Undecided);
        if mode == ReleaseMode::Real {
            self.settle_as(held, &result).await?;
        }
        Ok(ReleasedCallback { result, events })
    }

    /// Records an event, or holds it if it disputes another.
    async fn enter(&self, event: NewEvent, readings: Readings) -> Result<Released, LedgerError> {
        if readings == Readings::Many {
            return self.dispute(HeldWhy::Ambiguous, None, event).await;
        }
        let source = event.source.clone();
        let recorded = self.opened_ledger()?.record(event.clone()).await?;
        let first = recorded.first();
        match recorded.result() {
            DedupResult::New => {
                if let Some(route) = self.view.load().of_id(&source) {
                    route.counters.released.inc();
                }
                Ok(Released::Event(first))
            }
            DedupResult::Duplicate => Ok(Released::Duplicate(first)),
            DedupResult::Conflict => self.dispute(HeldWhy::Conflict, Some(first), event).await,
            DedupResult::Ambiguous => self.dispute(HeldWhy::Ambiguous, Some(first), event).await,
        }
    }

    /// Handles a callback that verifies although a person still has to decide.
    async fn dispute(
        &self,
        why: HeldWhy,
        first: Option<EventId>,
        event: NewEvent,
    ) -> Result<Released, LedgerError> {
        let disputing = NewHeld::disputing(why, first, event);
        Ok(match self.opened_ledger()?.hold(&disputing, HeldBounds::default()).await? {
            Some(_) => Released::Disputed,
            None => Released::Undecided,
        })
    }

    /// Settles a callback that is released, if it is.
    async fn settle_as(&self, held: &NewHeld, released: &Released) -> Result<(), LedgerError> {
        match released {
            Released::Event(first) | Released::Duplicate(first) => {
                self.settle(held, Some(*first)).await
            }
            Released::Disputed => self.settle(held, None).await,
            Released::Rejected(_) | Released::Undecided => Ok(()),
        }
    }

    async fn settle(&self, held: &NewHeld, event: Option<EventId>) -> Result<(), LedgerError> {
        let decision = crate::ledger::Decision::Settle;
        let order = HeldOrder { id: held.id, decision, at_ms: now_ms(), event };
        self.opened_ledger()?.decide(&order).await.map(drop)
    }
}
