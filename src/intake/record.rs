//! A verified callback becomes an event: recorded, and answered with the ledger's result.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::clock;
use crate::config::{EventNature, Superseded};
use crate::ledger::{
    BatchedLedger, EventBody, EventId, EventKeys, Fingerprint, HeldWhy, Incoming, NewEvent,
    Recorded, Release, TargetId,
};
use crate::plan::Routes;
use crate::sender::{Answer, Callback, KeySet, Operand, Outcome, Reply, ReplyKind, Resolved, Role};

use super::commit::{self, Commit, PendingCommit, outcome, pending_commit};
use super::dispute::{Dispute, held_for};
use super::handler::Shared;
use super::inline_wait::{InlineReply, InlineWait};
use super::judging::{EarlyReply, Slot, judge, read, reread, salt, stopped, told};
use super::received::Received;
use super::several::Readings;
use super::test_calls;

/// A callback that was verified and resolved.
pub(super) struct VerifiedCallback<'g, 'a> {
    pub id: EventId,
    pub callback: &'g Callback<'a>,
    pub received: &'g Received,
    pub resolved: Box<Resolved>,
    /// When that was done.
    pub judged: Instant,
    /// How it comes to be recorded.
    pub release: Release,
}

/// The deduplication keys of a callback, and its content.
pub(super) struct CallbackIdentity {
    keys: EventKeys,
    fingerprint: Fingerprint,
}

/// A verified callback on its way into the ledger, without what only rare results need.
pub(super) struct Recording {
    id: EventId,
    submission: Submission,
    resolved: Box<Resolved>,
    judged: Instant,
    /// When its sender stops waiting.
    until: Instant,
    reply_kind: ReplyKind,
    /// An inline backend is asked.
    is_asked: bool,
    /// The reply to an accepted callback, where it depends on the callback.
    first: Option<Reply>,
}

/// How the ledger answers a callback.
enum Submission {
    /// After a commit.
    Pending(PendingCommit),
    /// At once: it is a duplicate of a durable event.
    Known(Recorded),
}

impl Recording {
    /// Records the callback and answers it.
    pub async fn record(
        self,
        slot: &mut Slot,
        received: &Received,
        shared: &Shared,
        keys: Option<&KeySet>,
    ) -> Reply {
        let Self { id, submission, resolved, judged, until, reply_kind, is_asked, first } = self;
        let inquiry = match is_asked {
            true => InlineWait::begin(received.route(), &shared.verdicts, id, until),
            false => None,
        };
        let recipe = &received.route().source.recipe;
        let answer = match submission {
            Submission::Pending(commit) => Commit::new(slot, commit).await,
            Submission::Known(recorded) => commit::known(slot, recorded),
        };
        let Ok(recorded) = answer else {
            let outcome = Outcome::Unavailable;
            let made = || reread(received, keys, id, |one| one.reply(outcome, None, &salt));
            return told(slot, recipe.fixed_reply(reply_kind, outcome).unwrap_or_else(made));
        };
        let outcome = outcome(&recorded);
        if outcome != Outcome::Accepted {
            slot.iter_mut().for_each(|entry| entry.is_about(&resolved));
        }
        let usual = inquiry.is_none() && matches!(outcome, Outcome::Accepted | Outcome::Duplicate);
        let fixed = match usual && first.is_none() {
            true => recipe.fixed_reply(reply_kind, outcome),
            false => None,
        };
        match (fixed, first) {
            (Some(reply), _) => told(slot, reply),
            (None, Some(first)) if usual && outcome == Outcome::Accepted => told(slot, first),
            (None, first) => {
                let result = CommitResult { recorded, inquiry, first, until };
                let recording = Judged { id, resolved, judged };
                Box::pin(recording.conclude(slot, received, shared, keys, result)).await
            }
        }
    }
}

/// The result for a recorded callback whose reply has to be worked out.
struct CommitResult<'i> {
    recorded: Recorded,
    inquiry: Option<InlineWait<'i>>,
    first: Option<Reply>,
    until: Instant,
}

/// A callback that was verified and resolved, and has to be read again.
struct Judged {
    id: EventId,
    resolved: Box<Resolved>,
    judged: Instant,
}

impl Judged {
    /// Reads the callback again and answers it.
    async fn conclude(
        self,
        slot: &mut Slot,
        received: &Received,
        shared: &Shared,
        keys: Option<&KeySet>,
        result: CommitResult<'_>,
    ) -> Reply {
        let Self { id, resolved, judged } = self;
        let mut callback = read(received, keys);
        let _ = judge(&mut callback, || id);
        let callback = &callback;
        let release = Release::None;
        let genuine = VerifiedCallback { id, callback, received, resolved, judged, release };
        match shared.book.get() {
            Some(book) => genuine.conclude(slot, book, result).await,
            None => told(slot, callback.reply(Outcome::Unavailable, None, &salt)),
        }
    }
}

impl VerifiedCallback<'_, '_> {
    /// Prepares the record of the callback.
    ///
    /// # Errors
    /// The reply, if another source takes precedence over this one, or its rate is used up.
    pub fn prepare(self, slot: &mut Slot, book: &BatchedLedger) -> Result<Recording, Reply> {
        let Self { id, callback, received, judged, .. } = self;
        if let Some(outcome) = self.passed_over() {
            slot.iter_mut().for_each(|entry| entry.is_about(&self.resolved));
            return Err(stopped(slot, callback, received, EarlyReply::Is(outcome)));
        }
        let first = callback
            .answer_depends_on_callback()
            .then(|| callback.reply(Outcome::Accepted, None, &salt));
        let identity = self.identity();
        let known = book.known(id, &identity.keys, identity.fingerprint);
        if let Some(entry) = slot {
            let transaction = self.resolved.role(Role::Transaction).unwrap_or_default();
            entry.verified(id, transaction, self.resolved.secret());
        }
        let spent = slot.as_ref().map_or(Duration::ZERO, |entry| judged - entry.began);
        let left = received.route().patience.saturating_sub(spent);
        let submission = match known {
            Some(recorded) => Submission::Known(recorded),
            None => match self.event(first.as_ref(), identity) {
                Some(event) => Submission::Pending(pending_commit(book.clone(), event, left)),
                None => {
                    let stop = EarlyReply::Is(Outcome::Unavailable);
                    return Err(stopped(slot, callback, received, stop));
                }
            },
        };
        Ok(Recording {
            id,
            submission,
            is_asked: !self.is_inline_withheld(),
            resolved: self.resolved,
            judged,
            until: judged + left,
            reply_kind: callback.reply_kind(),
            first,
        })
    }

    /// Answers a recorded callback that is held, has an inline backend, or a reply of its own.
    async fn conclude(
        &self,
        slot: &mut Slot,
        book: &BatchedLedger,
        result: CommitResult<'_>,
    ) -> Reply {
        let Self { callback, received, .. } = self;
        let CommitResult { recorded, inquiry, first, until } = result;
        // A dispute between tests needs no decision.
        let held = held_for(recorded.standing()).filter(|_| !received.is_test_call());
        let said = match (held, inquiry) {
            (Some(why), inquiry) => {
                inquiry.into_iter().for_each(InlineWait::withdraw);
                let dispute = Dispute { why, first: Some(recorded.first()), until };
                let held = self.hold(slot, book, dispute, first.as_ref()).await;
                self.said_of_held(held)
            }
            (None, Some(inquiry)) => inquiry.end(book, &recorded).await,
            (None, None) => InlineReply::Accepted,
        };
        let reply = match said {
            InlineReply::Accepted => self.reply(book, &recorded, first).await,
            InlineReply::Rejected => callback.reply(Outcome::Rejected, None, &salt),
            InlineReply::Unavailable => callback.reply(Outcome::Unavailable, None, &salt),
        };
        told(slot, reply)
    }

    /// Holds it without asking whether it is new, and answers it: what was signed has several
    /// readings, so no event is to be made of one.
    pub async fn record_ambiguous(&self, slot: &mut Slot, book: &BatchedLedger) -> Reply {
        let Self { callback, received, .. } = self;
        if let Some(outcome) = self.passed_over() {
            slot.iter_mut().for_each(|entry| entry.is_about(&self.resolved));
            return stopped(slot, callback, received, EarlyReply::Is(outcome));
        }
        let kept = callback
            .answer_depends_on_callback()
            .then(|| callback.reply(Outcome::Accepted, None, &salt));
        let mut until = self.judged + received.route().patience;
        if let Some(entry) = slot {
            entry.is_about(&self.resolved);
            entry.spare();
            until = entry.began + received.route().patience;
        }
        let dispute = Dispute { why: HeldWhy::Ambiguous, first: None, until };
        let outcome = self.hold(slot, book, dispute, kept.as_ref()).await;
        let reply = match (self.said_of_held(outcome), kept) {
            (InlineReply::Accepted, Some(kept)) if !callback.has_own_answer(outcome) => kept,
            (InlineReply::Accepted, _) => callback.reply(outcome, None, &salt),
            (InlineReply::Rejected, _) => callback.reply(Outcome::Rejected, None, &salt),
            (InlineReply::Unavailable, _) => callback.reply(Outcome::Unavailable, None, &salt),
        };
        told(slot, reply)
    }

    /// Records one of several events of a callback; says its outcome.
    pub async fn record_part(
        &self,
        slot: &mut Slot,
        book: &BatchedLedger,
        readings: Readings,
    ) -> Outcome {
        if let Some(outcome) = self.passed_over() {
            if let Some(entry) = slot {
                entry.is_about(&self.resolved);
                entry.is(outcome);
            }
            return outcome;
        }
        let until = self.judged + self.received.route().patience;
        if readings == Readings::Many {
            if let Some(entry) = slot {
                entry.is_about(&self.resolved);
                entry.spare();
            }
            let dispute = Dispute { why: HeldWhy::Ambiguous, first: None, until };
            return self.hold(slot, book, dispute, None).await;
        }
        let Some(event) = self.event(None, self.identity()) else { return Outcome::Unavailable };
        let mut spent = Duration::ZERO;
        if let Some(entry) = slot {
            entry.verified(self.id, &event.transaction, self.resolved.secret());
            spent = self.judged - entry.began;
        }
        let left = self.received.route().patience.saturating_sub(spent);
        let commit = pending_commit(book.clone(), event, left);
        let Ok(recorded) = Commit::new(slot, commit).await else { return Outcome::Unavailable };
        if outcome(&recorded) != Outcome::Accepted {
            slot.iter_mut().for_each(|entry| entry.is_about(&self.resolved));
        }
        let held = held_for(recorded.standing()).filter(|_| !self.received.is_test_call());
        let Some(why) = held else { return outcome(&recorded) };
        let dispute = Dispute { why, first: Some(recorded.first()), until };
        Box::pin(self.hold(slot, book, dispute, None)).await
    }

    /// The answer for a held callback: as if it were accepted, or as if the inline backend were
    /// late.
    fn said_of_held(&self, outcome: Outcome) -> InlineReply {
        match (outcome, &self.received.route().inline) {
            (Outcome::Unavailable, _) => InlineReply::Unavailable,
            (_, Some(inline)) => InlineReply::late(inline.late),
            (_, None) => InlineReply::Accepted,
        }
    }

    /// The outcome for which a verified callback is not recorded.
    fn passed_over(&self) -> Option<Outcome> {
        let route = self.received.route();
        let superseded = match &route.source.superseded {
            Superseded::Never => false,
            Superseded::Always => true,
            Superseded::Named { parameter, values } => {
                let value = self.callback.parameter(parameter);
                value.is_some_and(|value| self.is_named(parameter, &value, values))
            }
        };
        // Only a new callback takes one of the rate, when it is recorded: neither forged ones nor
        // repeated ones use it up.
        let over = || route.rate.as_ref().is_some_and(|rate| !rate.has(clock::instant()));
        match superseded {
            true => Some(Outcome::Superseded),
            false => over().then_some(Outcome::Unavailable),
        }
    }

    /// Whether `value` is one of `values`, or begins with one if its end was re-cut. A signature
    /// without separators lets bytes move into the value; they are not part of it.
    fn is_named(&self, parameter: &str, value: &str, values: &[String]) -> bool {
        let is_recut = || self.resolved.recut().iter().any(|name| name == parameter);
        values.iter().any(|known| known == value)
            || (is_recut() && values.iter().any(|known| value.starts_with(known)))
    }

    /// The keys and the content that make the callback a duplicate of another one.
    pub(super) fn identity(&self) -> CallbackIdentity {
        let Self { received, resolved, .. } = self;
        let route = received.route();
        let keys = match received.is_test_call() {
            true => EventKeys::of(&test_calls::key_owner(&route.id), resolved),
            false => EventKeys::of(&route.id, resolved),
        };
        CallbackIdentity { keys, fingerprint: Fingerprint::of(resolved) }
    }

    /// The event to be recorded, with the answer to keep, if there is one. `None` if it cannot be
    /// written down, which no sender causes.
    pub(super) fn event(
        &self,
        first: Option<&Reply>,
        identity: CallbackIdentity,
    ) -> Option<NewEvent> {
        let Self { id, received, resolved, release, .. } = self;
        let route = received.route();
        let at_ms = received.at_ms();
        let sender = route.source.recipe.sender().name();
        let source = &route.source.name;
        let release = *release;
        let event = Incoming { id: *id, source, sender, received_ms: at_ms, resolved, release };
        let kept = match first {
            Some(Reply::Answer(answer)) => Some(answer),
            Some(Reply::Silence) | None => None,
        };
        let body = EventBody::store(&event, self.callback.request(), kept).ok()?;
        Some(NewEvent {
            id: *id,
            source: route.id.clone(),
            keys: identity.keys,
            fingerprint: identity.fingerprint,
            transaction: resolved.role(Role::Transaction).unwrap_or_default().to_owned(),
            user: resolved.role(Role::User).map(str::to_owned),
            received_ms: at_ms,
            test: resolved.is_test(),
            body,
            targets: self.told_targets(),
        })
    }

    /// A value that a route depends on. A role never falls back to a parameter of its name, which
    /// any caller could add.
    fn value(&self, operand: Operand<'_>) -> Option<Cow<'_, str>> {
        let resolved = &self.resolved;
        match operand {
            Operand::Value(name) => match Role::from_name(name) {
                Some(role) => resolved.role(role).map(Cow::Borrowed),
                None => self.callback.parameter(name).map(Cow::Owned),
            },
            Operand::Fact("kind") => Some(Cow::Borrowed(resolved.kind())),
            Operand::Fact("effect") => Some(Cow::Borrowed(resolved.effect().as_str())),
            Operand::Fact("test") => resolved.is_test().then_some(Cow::Borrowed("1")),
            Operand::Fact("sender") => {
                Some(Cow::Borrowed(self.received.route().source.recipe.sender().name()))
            }
            Operand::Fact(_) => None,
        }
    }

    /// The destinations of the event but those whose URL cannot tell it from a grant.
    fn told_targets(&self) -> SmallVec<[TargetId; 2]> {
        let mut all = self.targets();
        all.retain(|target| !self.is_withheld(target));
        all
    }

    fn is_withheld(&self, target: &TargetId) -> bool {
        let route = self.received.route();
        let Some(facts) = route.urls.get(target) else { return false };
        let event = EventNature {
            effect: self.resolved.effect(),
            kind: self.resolved.kind(),
            test: self.resolved.is_test(),
            reverses: self.resolved.role(Role::Reverses),
        };
        facts.withholds(&event, &route.effects).is_some()
    }

    /// Whether its sender would wait for a destination that is not asked.
    fn is_inline_withheld(&self) -> bool {
        let inline = self.received.route().inline.as_ref();
        inline.is_some_and(|inline| self.is_withheld(&inline.target))
    }

    /// The destinations that source and routes name.
    fn targets(&self) -> SmallVec<[TargetId; 2]> {
        let route = self.received.route();
        let mut own = route.targets.clone();
        for rule in &route.source.routes {
            if rule.when.iter().all(|one| one.holds(&|operand| self.value(operand))) {
                let more = rule.to.iter().map(|name| TargetId::from(name.as_str()));
                own.extend(more);
            }
        }
        if !route.source.routes.is_empty() {
            let mut seen = BTreeSet::new();
            own.retain(|target| seen.insert(target.clone()));
        }
        let Some(routing) = &route.routing else { return own };
        let [first, second] = &*routing.parameters;
        let value = |name| self.callback.parameter(name).unwrap_or_default();
        let key = (value(first), value(second));
        match &routing.routes {
            Routes::Added(names) => {
                own.extend(names.get(&key).map(|name| TargetId::from(name.as_str())));
                own
            }
            Routes::Replaced(routes) => match (routes.kinds.get(&key), &routes.others) {
                (Some(None), _) => SmallVec::new(),
                (Some(Some(name)), _) | (None, Some(name)) => {
                    SmallVec::from_iter([TargetId::from(name.as_str())])
                }
                (None, None) => own,
            },
        }
    }

    /// The answer to a recorded callback: a duplicate gets what the first one got.
    async fn reply(
        &self,
        book: &BatchedLedger,
        recorded: &Recorded,
        first: Option<Reply>,
    ) -> Reply {
        match (outcome(recorded), first) {
            (Outcome::Accepted, Some(first)) => first,
            (outcome, None) => self.callback.reply(outcome, None, &salt),
            (outcome, _) if self.callback.has_own_answer(outcome) => {
                self.callback.reply(outcome, None, &salt)
            }
            (outcome, Some(_)) => match kept_answer(book, recorded.first()).await {
                Some(kept) => Reply::Answer(kept),
                None => self.callback.reply(outcome, None, &salt),
            },
        }
    }
}

/// The answer that was kept with an event; none if it has expired or cannot be read.
async fn kept_answer(book: &BatchedLedger, of: EventId) -> Option<Answer> {
    let detail = book.event(of).await.ok()??;
    EventBody::decode(&detail.event.body).ok()?.reply?.answer().ok()
}
