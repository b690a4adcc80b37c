//! A verified callback becomes an event: recorded, and answered with the ledger's result.

use std::time::Instant;

use super::commit::{self, Commit};
use super::dispute::Dispute;
use super::handler::Shared;
use super::inline_wait::{InlineReply, InlineWait};
use super::judging::{Readings, Slot, judge, note_reply, read};
use super::received::Received;
use super::reply::{Proof, Reply, Unacknowledged, salt};
use super::test_calls;
use crate::clock;
use crate::config::Superseded;
use crate::ledger::{
    BatchedLedger, EventBody, EventId, EventIdentity, HeldWhy, Incoming, LedgerError, NewEvent,
    PendingRecord, Recorded, Release,
};
use crate::sender::{Answer, Callback, KeySet, Outcome, ReplyDraft, ReplyKind, Resolved, Role};

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

/// A verified callback on its way into the ledger, without what only rare results need. It stays in
/// one place while the ledger works.
pub(super) struct Recording<'r> {
    id: EventId,
    submission: Submission,
    resolved: Box<Resolved>,
    judged: Instant,
    /// When its sender stops waiting.
    until: Instant,
    reply_kind: ReplyKind,
    /// The reply to an accepted callback, where it depends on the callback.
    first: Option<ReplyDraft>,
    inline: AsksInline,
    /// The question to the inline backend, once it has begun.
    inline_wait: Option<InlineWait<'r>>,
    /// Kept where the reply is sure to need it.
    pub callback: Option<Box<Callback<'r>>>,
}

/// The parts around a callback that recording it needs.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'r> {
    pub received: &'r Received,
    pub shared: &'r Shared,
    pub keys: Option<&'r KeySet>,
}

/// Whether an inline backend is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AsksInline {
    Yes,
    No,
}

/// How the ledger answers a callback.
enum Submission {
    /// After a commit; `None` once the answer has come.
    Pending(Option<PendingRecord>),
    /// After a commit, for which nothing is submitted before the wait for the inline backend begins.
    Later(Option<Box<LaterEvent>>),
    /// At once: it is a duplicate of a durable event.
    Known(Recorded),
}

/// An event that is not submitted yet.
struct LaterEvent {
    event: NewEvent,
    ledger: BatchedLedger,
    until: Instant,
}

/// The result for a recorded callback whose reply has to be worked out.
struct CommitResult<'i> {
    recorded: Recorded,
    inline_wait: Option<InlineWait<'i>>,
    first: Option<ReplyDraft>,
    until: Instant,
}

impl Submission {
    /// The result of the ledger, noted in the record.
    async fn result(&mut self, slot: &mut Slot) -> Result<Recorded, Unacknowledged> {
        if let Self::Later(later) = self {
            let submit = |later: Box<LaterEvent>| later.ledger.submit(later.event, later.until);
            *self = Self::Pending(later.take().map(submit));
        }
        let answer = match self {
            Self::Pending(pending) => Commit::new(slot, pending).await,
            Self::Known(recorded) => commit::known(slot, *recorded),
            Self::Later(_) => Err(LedgerError::Unknown),
        };
        answer.or(Err(Unacknowledged::Unavailable))
    }
}

impl<'r> Recording<'r> {
    /// Whether the reply is sure to need the callback.
    pub(super) fn needs_callback(&self) -> bool {
        self.inline == AsksInline::Yes
    }

    /// Records the callback and answers it.
    pub(super) async fn record(
        mut self: Box<Self>,
        slot: &mut Slot,
        with: Surroundings<'r>,
    ) -> Reply {
        if self.inline == AsksInline::Yes {
            let (route, verdicts) = (with.received.route(), &with.shared.verdicts);
            self.inline_wait = InlineWait::begin(route, verdicts, self.id, self.until);
        }
        let result = self.submission.result(slot).await;
        if let Ok(recorded) = &result {
            self.confirm_subscription(recorded, with);
        }
        match self.fixed_reply(slot, with.received, &result) {
            Some(reply) => note_reply(slot, reply),
            None => Box::pin(self.work_out_reply(slot, with, result)).await,
        }
    }

    /// Confirms the subscription that a new callback asks for, if its source does so by itself.
    fn confirm_subscription(&self, recorded: &Recorded, with: Surroundings<'r>) {
        let Surroundings { received, shared, keys } = with;
        let is_new = commit::outcome(recorded) == Outcome::Accepted;
        if received.route().source.recipe.confirms() && is_new && !received.is_test_call() {
            shared.confirm(&verified_again(received, keys, self.id), received);
        }
    }

    /// The reply, if it is the same for all callbacks of its kind or was worked out before.
    fn fixed_reply(
        &self,
        slot: &mut Slot,
        received: &Received,
        result: &Result<Recorded, Unacknowledged>,
    ) -> Option<Reply> {
        let recipe = &received.route().source.recipe;
        let Ok(recorded) = result else { return Reply::unavailable(recipe, self.reply_kind) };
        if commit::outcome(recorded) != Outcome::Accepted {
            slot.iter_mut().for_each(|record| record.note_roles(&self.resolved));
        }
        if self.inline_wait.is_some() {
            return None;
        }
        let proof = Proof::of_event(recorded, received).ok()?;
        let draft = match &self.first {
            Some(first) => (proof.outcome() == Outcome::Accepted).then(|| first.clone()),
            None => recipe.fixed_draft(self.reply_kind, proof.outcome()),
        };
        Some(Reply::acknowledge(draft?, &proof))
    }

    /// The reply that depends on the callback.
    async fn work_out_reply(
        self: Box<Self>,
        slot: &mut Slot,
        with: Surroundings<'r>,
        result: Result<Recorded, Unacknowledged>,
    ) -> Reply {
        let Self { id, resolved, judged, until, first, inline_wait, callback, .. } = *self;
        let Surroundings { received, shared, keys } = with;
        let callback = callback.unwrap_or_else(|| verified_again(received, keys, id));
        let recorded = match (result, shared.ledger.get()) {
            (Ok(recorded), Some(ledger)) => Ok((recorded, ledger)),
            (Ok(_), None) => Err(Unacknowledged::Unavailable),
            (Err(outcome), _) => Err(outcome),
        };
        match recorded {
            Ok((recorded, ledger)) => {
                let release = Release::None;
                let callback = &*callback;
                let verified =
                    VerifiedCallback { id, callback, received, resolved, judged, release };
                let result = CommitResult { recorded, inline_wait, first, until };
                verified.conclude(slot, ledger, result).await
            }
            Err(outcome) => note_reply(slot, Reply::unacknowledged(&callback, outcome, None)),
        }
    }
}

/// The callback, read and verified again: a callback that has to be recorded is not kept, because
/// few results need it.
#[inline(never)]
fn verified_again<'r>(
    received: &'r Received,
    keys: Option<&'r KeySet>,
    id: EventId,
) -> Box<Callback<'r>> {
    let mut callback = Box::new(read(received, keys));
    let _ = judge(&mut callback, || id);
    callback
}

impl VerifiedCallback<'_, '_> {
    /// Prepares the record of the callback.
    ///
    /// # Errors
    /// The outcome, if another source takes precedence over this one, or its rate is used up.
    pub(super) fn prepare<'r>(
        self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
    ) -> Result<Box<Recording<'r>>, Unacknowledged> {
        let first = self.reply_if_accepted();
        let submission = self.submit(slot, ledger, first.as_ref())?;
        Ok(Box::new(Recording {
            id: self.id,
            submission,
            judged: self.judged,
            until: self.until(slot),
            reply_kind: self.callback.reply_kind(),
            first,
            inline: self.asks_inline(),
            inline_wait: None,
            resolved: self.resolved,
            callback: None,
        }))
    }

    /// Looks the callback up among those that are known, or submits its event to the ledger.
    fn submit(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        first: Option<&ReplyDraft>,
    ) -> Result<Submission, Unacknowledged> {
        self.check_precedence(slot)?;
        let identity = self.identity();
        let known = ledger.known(self.id, &identity.keys, identity.fingerprint);
        if let Some(record) = slot {
            let transaction = self.resolved.role(Role::Transaction).unwrap_or_default();
            record.note_verified(self.id, transaction, self.resolved.secret());
        }
        if let Some(recorded) = known {
            return Ok(Submission::Known(recorded));
        }
        let event = self.event(first, identity).ok_or(Unacknowledged::Unavailable)?;
        let until = self.until(slot);
        Ok(match self.asks_inline() {
            AsksInline::No => Submission::Pending(Some(ledger.submit(event, until))),
            AsksInline::Yes => {
                let ledger = ledger.clone();
                Submission::Later(Some(Box::new(LaterEvent { event, ledger, until })))
            }
        })
    }

    /// Answers a recorded callback that is held, has an inline backend, or a reply of its own.
    async fn conclude(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        result: CommitResult<'_>,
    ) -> Reply {
        let CommitResult { recorded, inline_wait, first, until } = result;
        let (proof, inline_reply) = match Proof::of_event(&recorded, self.received) {
            Ok(proof) => match inline_wait {
                Some(inline_wait) => (Ok(proof), inline_wait.end(ledger, &recorded).await),
                None => (Ok(proof), InlineReply::Accepted),
            },
            Err(why) => {
                let dispute = Dispute { why, first: Some(recorded.first()), until };
                self.hold_and_wait(slot, ledger, dispute, first.as_ref(), inline_wait).await
            }
        };
        let reply = match proof {
            Ok(proof) => self.reply(ledger, &proof, inline_reply, first).await,
            Err(outcome) => Reply::unacknowledged(self.callback, outcome, None),
        };
        note_reply(slot, reply)
    }

    /// Holds a callback that disputes an event, with the answer for its sender. A verdict is waited
    /// for only if the callback was held before, and an operator made an event of it.
    async fn hold_and_wait(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        dispute: Dispute,
        kept: Option<&ReplyDraft>,
        inline_wait: Option<InlineWait<'_>>,
    ) -> (Result<Proof, Unacknowledged>, InlineReply) {
        let proof = self.hold(slot, ledger, dispute, kept).await;
        let released = proof.as_ref().ok().and_then(Proof::released_as);
        let inline_reply = match (inline_wait, released) {
            (Some(inline_wait), Some(event)) => inline_wait.end_as(ledger, event).await,
            (inline_wait, _) => {
                inline_wait.into_iter().for_each(InlineWait::withdraw);
                InlineReply::of_held(self.received.route())
            }
        };
        (proof, inline_reply)
    }

    /// Holds it without asking whether it is new, and answers it: what was signed has several
    /// readings, so no event is to be made of one.
    ///
    /// # Errors
    /// The outcome, if another source takes precedence over this one, or its rate is used up.
    pub(super) async fn record_ambiguous(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
    ) -> Result<Reply, Unacknowledged> {
        let first = self.reply_if_accepted();
        self.check_precedence(slot)?;
        let reply = match self.hold_ambiguous(slot, ledger, first.as_ref()).await {
            Ok(proof) => {
                let inline_reply = InlineReply::of_held(self.received.route());
                self.reply(ledger, &proof, inline_reply, first).await
            }
            Err(outcome) => Reply::unacknowledged(self.callback, outcome, None),
        };
        Ok(note_reply(slot, reply))
    }

    /// Records one of several events of a callback.
    ///
    /// # Errors
    /// The outcome of an event that is not recorded.
    pub(super) async fn record_part(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        readings: Readings,
    ) -> Result<Proof, Unacknowledged> {
        if readings == Readings::Many {
            self.check_precedence(slot)?;
            return self.hold_ambiguous(slot, ledger, None).await;
        }
        let recorded = self.submit(slot, ledger, None)?.result(slot).await?;
        if commit::outcome(&recorded) != Outcome::Accepted {
            slot.iter_mut().for_each(|record| record.note_roles(&self.resolved));
        }
        match Proof::of_event(&recorded, self.received) {
            Ok(proof) => Ok(proof),
            Err(why) => {
                let first = Some(recorded.first());
                let dispute = Dispute { why, first, until: self.until(slot) };
                Box::pin(self.hold(slot, ledger, dispute, None)).await
            }
        }
    }

    /// Holds a callback that has several readings.
    async fn hold_ambiguous(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        kept: Option<&ReplyDraft>,
    ) -> Result<Proof, Unacknowledged> {
        if let Some(record) = slot {
            record.note_roles(&self.resolved);
            record.limit_logging();
        }
        let dispute = Dispute { why: HeldWhy::Ambiguous, first: None, until: self.until(slot) };
        self.hold(slot, ledger, dispute, kept).await
    }

    /// Whether the callback is to be recorded.
    ///
    /// # Errors
    /// The outcome, if another source takes precedence over this one, or its rate is used up.
    fn check_precedence(&self, slot: &mut Slot) -> Result<(), Unacknowledged> {
        let Some(outcome) = self.passed_over() else { return Ok(()) };
        slot.iter_mut().for_each(|record| record.note_roles(&self.resolved));
        Err(outcome)
    }

    /// The outcome for which a verified callback is not recorded.
    fn passed_over(&self) -> Option<Unacknowledged> {
        // Only a new callback takes one of the rate, when it is recorded: neither forged ones nor
        // repeated ones use it up.
        let rate = self.received.route().rate.as_ref();
        let over = || rate.is_some_and(|rate| !rate.has(clock::instant()));
        match self.is_superseded() {
            true => Some(Unacknowledged::Superseded),
            false => over().then_some(Unacknowledged::Unavailable),
        }
    }

    /// Whether another source makes the event of this callback.
    pub(super) fn is_superseded(&self) -> bool {
        match &self.received.route().source.superseded {
            Superseded::Never => false,
            Superseded::Always => true,
            Superseded::Named { parameter, values } => {
                let value = self.callback.parameter(parameter);
                value.is_some_and(|value| self.is_named(parameter, &value, values))
            }
        }
    }

    /// Whether `value` is one of `values`, or begins with one if its end was re-cut. A signature
    /// without separators lets bytes move into the value; they are not part of it.
    fn is_named(&self, parameter: &str, value: &str, values: &[String]) -> bool {
        let is_recut = || self.resolved.recut().iter().any(|name| name == parameter);
        values.iter().any(|known| known == value)
            || (is_recut() && values.iter().any(|known| value.starts_with(known)))
    }

    /// When its sender stops waiting.
    fn until(&self, slot: &Slot) -> Instant {
        let began = slot.as_ref().map_or(self.judged, |record| record.began);
        began + self.received.route().patience
    }

    /// Whether its sender waits for an inline backend. One whose URL does not say what the event is
    /// is not asked.
    fn asks_inline(&self) -> AsksInline {
        match &self.received.route().inline {
            Some(inline) if !self.is_withheld(&inline.target) => AsksInline::Yes,
            Some(_) | None => AsksInline::No,
        }
    }

    /// The keys and the content that make the callback a duplicate of another one.
    pub(super) fn identity(&self) -> EventIdentity {
        let source = &self.received.route().id;
        match self.received.is_test_call() {
            true => EventIdentity::among(&test_calls::key_owner(source), source, &self.resolved),
            false => EventIdentity::of(source, &self.resolved),
        }
    }

    /// The draft of its reply if it is accepted, where that depends on the callback: then it is kept
    /// with the event.
    pub(super) fn reply_if_accepted(&self) -> Option<ReplyDraft> {
        self.callback
            .answer_depends_on_callback()
            .then(|| self.callback.draft_reply(Outcome::Accepted, None, &salt))
    }

    /// The event to be recorded, with the answer to keep, if there is one. `None` if it cannot be
    /// written down, which no sender causes.
    pub(super) fn event(
        &self,
        first: Option<&ReplyDraft>,
        identity: EventIdentity,
    ) -> Option<NewEvent> {
        let source = &self.received.route().source;
        let incoming = Incoming {
            id: self.id,
            source: &source.name,
            sender: source.recipe.sender().name(),
            received_ms: self.received.at_ms(),
            resolved: &self.resolved,
            params: &self.callback.shown_params(),
            release: self.release,
        };
        let kept = match first {
            Some(ReplyDraft::Answer(answer)) => Some(answer),
            Some(ReplyDraft::Silence) | None => None,
        };
        let body = EventBody::store(&incoming, self.callback.request(), kept).ok()?;
        Some(NewEvent::new(&incoming, identity, body, self.allowed_targets()))
    }

    /// The reply to a recorded callback, as the inline backend decided. A duplicate gets what the
    /// first one got. `first` is the draft of the reply to an accepted one.
    async fn reply(
        &self,
        ledger: &BatchedLedger,
        proof: &Proof,
        inline_reply: InlineReply,
        first: Option<ReplyDraft>,
    ) -> Reply {
        match inline_reply {
            InlineReply::Accepted => {}
            InlineReply::Rejected => {
                return Reply::unacknowledged(self.callback, Unacknowledged::Rejected, None);
            }
            InlineReply::Unavailable => {
                return Reply::unacknowledged(self.callback, Unacknowledged::Unavailable, None);
            }
        }
        let outcome = proof.outcome();
        let is_usual = outcome == Outcome::Accepted || !self.callback.has_own_answer(outcome);
        let repeated = match (first.filter(|_| is_usual), proof.earlier()) {
            (Some(first), None) => Some(first),
            (Some(_), Some(earlier)) => kept_answer(ledger, earlier).await.map(ReplyDraft::Answer),
            (None, _) => None,
        };
        let draft = repeated.unwrap_or_else(|| self.callback.draft_reply(outcome, None, &salt));
        Reply::acknowledge(draft, proof)
    }
}

/// The answer that was kept with an event; none if it has expired or cannot be read.
async fn kept_answer(ledger: &BatchedLedger, of: EventId) -> Option<Answer> {
    let detail = ledger.event(of).await.ok()??;
    EventBody::decode(&detail.event.body).ok()?.reply?.answer().ok()
}
