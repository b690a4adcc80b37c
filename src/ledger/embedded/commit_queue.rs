//! Commit queues: events on their way to the committer, and its answers on their way back.
//!
//! Each thread that records has a queue. The thread encodes an event into the queue's buffer and
//! waits for the answer in a slot of the queue. One message tells the committer of all events in a
//! queue: it takes the buffer and leaves an empty one. After the sync it fills the slots and wakes
//! one task, the driver of the queue, which wakes the callers within their own runtime. So an event
//! has no allocation, channel or task of its own, and a commit wakes two threads, however many
//! events it has.
//!
//! A caller may leave at any time. Its event is left out if the committer has not taken it;
//! otherwise it is recorded without an answer.

mod slots;

use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use self::slots::AnswerSlots;
pub(in crate::ledger) use self::slots::Ticket;
use super::record::{self, Gaps};
use super::tables::FullRow;
use crate::ledger::{
    Accepted, EventId, EventKeys, Fingerprint, LedgerError, NewEvent, SourceId, TargetId,
};

/// The number of queues. More threads than that share them, which only costs wake-ups across
/// runtimes.
pub(in crate::ledger) const QUEUES: usize = 16;
/// Looks of a driver at events that go on gathering. More of them would delay the first one by more
/// than a quick sync.
const LOOKS_MAX: usize = 4;
/// Events that gather at most: with so many, the cost of a commit hardly shows in one of them, and
/// more would only wait longer.
const ENOUGH: usize = 64;
/// Bytes of an empty buffer that are kept for the next events: one commit's.
const BUFFER_KEPT: usize = 1 << 20;

/// An answer to an event.
pub(super) type Answer = Result<Accepted, LedgerError>;

/// The queues of one handle, and what they share.
pub(in crate::ledger) struct CommitQueues {
    queues: [CommitQueue; QUEUES],
    limits: CommitLimits,
    listener: Box<dyn CommitListener>,
    /// The number of waiting events that ends a linger of the committer; zero outside of one.
    wanted: AtomicUsize,
}

/// Limits of a commit.
#[derive(Clone, Copy, Debug)]
pub(in crate::ledger) struct CommitLimits {
    /// Events in one commit.
    pub(in crate::ledger) events: usize,
    /// Bytes of bodies in one commit; a single larger event goes alone.
    pub(in crate::ledger) bytes: usize,
    /// The longest linger.
    pub(in crate::ledger) linger_max: Duration,
}

/// The listener to commits. Called on the committer's thread: it must be quick and must not block.
pub(in crate::ledger) trait CommitListener: Send + Sync {
    /// A commit of `events` events took `took`, from when the committer took the first of them.
    fn committed(&self, took: Duration, events: usize);
    /// `events` events failed.
    fn failed(&self, error: &LedgerError, events: usize);
    /// Deliveries have become due.
    fn deliveries_due(&self);
}

/// The queue of a thread.
#[derive(Default)]
struct CommitQueue {
    state: Mutex<State>,
    /// The number of events that the committer has not taken.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    input: Input,
    gaps: Gaps,
    /// A message has told the committer of the events in `input`.
    called: bool,
    slots: AnswerSlots,
    /// Callers with an answer, to be woken by the driver.
    answered: Vec<Waker>,
    driver: Driver,
    /// No caller's deadline is earlier.
    earliest: Option<Instant>,
}

/// The state of the task that wakes the callers of a queue.
#[derive(Default)]
enum Driver {
    #[default]
    Absent,
    /// Spawned, and not polled yet.
    Starting,
    Running(Waker),
}

/// Encoded events.
#[derive(Default)]
pub(super) struct Input {
    pub(super) events: Vec<EncodedEvent>,
    pub(super) bytes: Vec<u8>,
    /// Bytes of their bodies.
    bodies: usize,
}

/// An event whose record is encoded, and what the committer needs to know of it.
pub(super) struct EncodedEvent {
    pub(super) ticket: Ticket,
    pub(super) id: EventId,
    pub(super) source: SourceId,
    pub(super) keys: EventKeys,
    pub(super) fingerprint: Fingerprint,
    /// The row of the event, without its offset.
    pub(super) row: FullRow,
    /// The place of the record in the buffer.
    pub(super) record: Range<usize>,
    pub(super) body_bytes: usize,
    /// Destinations and body, if there are destinations.
    pub(super) deliveries: Option<(SmallVec<[TargetId; 2]>, Bytes)>,
}

/// The next steps of a caller that has added an event.
#[derive(Debug)]
pub(in crate::ledger) struct Added {
    pub(in crate::ledger) ticket: Ticket,
    /// The caller starts the driver.
    pub(in crate::ledger) starts_driver: bool,
    /// The caller tells the committer: the thread may not rest soon.
    pub(in crate::ledger) hands_over: bool,
}

/// The progress of a caller.
#[derive(Debug)]
pub(in crate::ledger) enum Progress {
    Answered(Result<Accepted, LedgerError>),
    Waiting,
    /// Waiting, and the caller starts a driver: the last one ended with its runtime.
    Undriven,
}

/// The events that a driver lets gather before it tells the committer of them.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Gathering {
    /// The number of events at the last look.
    seen: usize,
    /// Looks since the first of them.
    looks: usize,
}

/// The next step of a driver with the events of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Gathered {
    /// No events that the committer does not know of.
    Nothing,
    /// Its thread may have more: the driver looks again once the thread has asked for requests.
    More,
    /// The driver tells the committer.
    All,
}

impl Gathering {
    /// Looks at `waiting` events that the committer does not know of.
    fn look(&mut self, waiting: usize) -> Gathered {
        if waiting == 0 {
            *self = Self::default();
            return Gathered::Nothing;
        }
        if waiting == self.seen || waiting >= ENOUGH || self.looks == LOOKS_MAX {
            *self = Self::default();
            return Gathered::All;
        }
        *self = Self { seen: waiting, looks: self.looks + 1 };
        Gathered::More
    }
}

/// The next steps of a driver.
#[derive(Debug)]
pub(in crate::ledger) struct Duties {
    /// The next step with the events of the queue.
    pub(in crate::ledger) gathered: Gathered,
    /// When the driver looks for passed deadlines; `None`: no caller is waiting, and the driver
    /// ends.
    pub(in crate::ledger) deadline: Option<Instant>,
}

/// The message that a queue has events. If it is lost, their callers get an error.
pub(in crate::ledger) struct HandOver {
    queues: Arc<CommitQueues>,
    at: usize,
    is_answered: bool,
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if !self.is_answered {
            self.queues.fail(self.at);
        }
    }
}

// === For callers and drivers ===

impl CommitQueues {
    pub(in crate::ledger) fn new(limits: CommitLimits, listener: Box<dyn CommitListener>) -> Self {
        Self { queues: Default::default(), limits, listener, wanted: AtomicUsize::new(0) }
    }

    /// The message for queue `at`.
    pub(in crate::ledger) fn hand_over(self: &Arc<Self>, at: usize) -> HandOver {
        HandOver { queues: Arc::clone(self), at, is_answered: false }
    }

    /// Adds an event to queue `at`, for a caller that waits until `deadline`.
    pub(in crate::ledger) fn add(&self, at: usize, event: NewEvent, deadline: Instant) -> Added {
        let queue = &self.queues[at];
        let mut state = queue.state();
        let State { input, gaps, slots, .. } = &mut *state;
        let ticket = slots.enter(deadline);
        input.add(event, ticket, gaps);
        let waiting = state.input.events.len();
        queue.waiting.store(waiting, Ordering::SeqCst);
        let is_full = waiting >= self.limits.events || state.input.bodies >= self.limits.bytes;
        let ends_linger = self.ends_linger();
        let hands_over = ends_linger || (is_full && !state.called);
        state.called |= hands_over;
        let is_earlier = state.earliest.is_none_or(|earliest| deadline < earliest);
        if is_earlier {
            state.earliest = Some(deadline);
        }
        let has_news = is_earlier || (waiting == 1 && !state.called);
        let starts_driver = state.claim_driver();
        let driver = state.driver.waker().filter(|_| has_news);
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        Added { ticket, starts_driver, hands_over }
    }

    /// The progress of a caller in queue `at`; `caller` is woken when there is an answer.
    pub(in crate::ledger) fn progress(
        &self,
        at: usize,
        ticket: Ticket,
        caller: &Waker,
    ) -> Progress {
        let mut state = self.queues[at].state();
        match state.slots.poll(ticket, caller) {
            Poll::Ready(answer) => Progress::Answered(answer),
            Poll::Pending if state.claim_driver() => Progress::Undriven,
            Poll::Pending => Progress::Waiting,
        }
    }

    /// A caller does not wait any more.
    pub(in crate::ledger) fn leave(&self, at: usize, ticket: Ticket) {
        self.queues[at].state().slots.leave(ticket);
    }

    /// Takes the callers with an answer into `awake`, for the driver to wake, and returns the
    /// driver's next steps.
    pub(in crate::ledger) fn attend(
        &self,
        at: usize,
        driver: &Waker,
        awake: &mut Vec<Waker>,
        gathering: &mut Gathering,
    ) -> Duties {
        let mut state = self.queues[at].state();
        mem::swap(awake, &mut state.answered);
        let mut gathered = gathering.look(if state.called { 0 } else { state.input.events.len() });
        let has_callers = state.slots.waiting() > 0;
        // Without callers the driver ends. A lingering committer counts all that wait, and would not
        // take those that it was not told of.
        let is_awaited = self.wanted.load(Ordering::SeqCst) > 0;
        if gathered == Gathered::More && (is_awaited || !has_callers) {
            gathered = Gathered::All;
        }
        state.called |= gathered == Gathered::All;
        if !has_callers {
            (state.driver, state.earliest) = (Driver::Absent, None);
            return Duties { gathered, deadline: None };
        }
        if !matches!(&state.driver, Driver::Running(known) if known.will_wake(driver)) {
            state.driver = Driver::Running(driver.clone());
        }
        Duties { gathered, deadline: state.earliest }
    }

    /// Answers the callers in queue `at` whose deadline has passed.
    pub(in crate::ledger) fn expire(&self, at: usize, now: Instant) {
        let mut state = self.queues[at].state();
        let State { slots, answered, earliest, .. } = &mut *state;
        *earliest = slots.expire(now, answered);
    }

    /// The driver of queue `at` ended before its work: with its runtime. Callers that remain have
    /// another runtime, and start another driver.
    pub(in crate::ledger) fn detach_driver(&self, at: usize) {
        let mut state = self.queues[at].state();
        state.driver = Driver::Absent;
        let State { slots, answered, .. } = &mut *state;
        answered.extend(slots.callers().cloned());
        let awake = mem::take(answered);
        drop(state);
        awake.into_iter().for_each(Waker::wake);
    }

    /// Whether a lingering committer has all events that it waits for.
    fn ends_linger(&self) -> bool {
        let wanted = self.wanted.load(Ordering::SeqCst);
        wanted > 0 && self.waiting() >= wanted
    }

    /// The number of events that the committer has not taken.
    fn waiting(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiting.load(Ordering::SeqCst)).sum()
    }

    /// Answers all callers in queue `at`: there is no committer any more.
    fn fail(&self, at: usize) {
        let queue = &self.queues[at];
        let mut state = queue.state();
        state.input.clear();
        state.called = false;
        queue.waiting.store(0, Ordering::SeqCst);
        let State { slots, answered, .. } = &mut *state;
        slots.fail(&LedgerError::Fatal("the committer has ended".to_owned()), answered);
        state.notify();
    }
}

impl CommitQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the caller has to start the driver; it counts as starting from now on.
    fn claim_driver(&mut self) -> bool {
        let is_absent = matches!(self.driver, Driver::Absent);
        if is_absent {
            self.driver = Driver::Starting;
        }
        is_absent
    }
}

trait Notify {
    /// Has the callers with an answer woken.
    fn notify(self);
}

impl Notify for MutexGuard<'_, State> {
    fn notify(mut self) {
        if self.answered.is_empty() {
            return;
        }
        let awake: SmallVec<[Waker; 1]> = match &self.driver {
            // The driver sees them when it is polled first.
            Driver::Starting => return,
            Driver::Running(driver) => SmallVec::from_elem(driver.clone(), 1),
            Driver::Absent => SmallVec::from_vec(mem::take(&mut self.answered)),
        };
        drop(self);
        awake.into_iter().for_each(Waker::wake);
    }
}

impl Driver {
    fn waker(&self) -> Option<Waker> {
        match self {
            Self::Running(waker) => Some(waker.clone()),
            Self::Absent | Self::Starting => None,
        }
    }
}

impl Input {
    fn add(&mut self, event: NewEvent, ticket: Ticket, gaps: &mut Gaps) {
        let start = self.bytes.len();
        record::put_event(&mut self.bytes, &event, gaps);
        self.bodies += event.body.len();
        let row = FullRow::of(&event, 0);
        let NewEvent { id, source, keys, fingerprint, targets, body, .. } = event;
        self.events.push(EncodedEvent {
            ticket,
            id,
            source,
            keys,
            fingerprint,
            row,
            record: start..self.bytes.len(),
            body_bytes: body.len(),
            deliveries: (!targets.is_empty()).then_some((targets, body)),
        });
    }

    /// Removes everything, and keeps no more memory than one commit needs.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.bytes.clear();
        self.bodies = 0;
        if self.bytes.capacity() > BUFFER_KEPT {
            *self = Self::default();
        }
    }
}

// === For the committer ===

impl CommitQueues {
    pub(super) fn limits(&self) -> &CommitLimits {
        &self.limits
    }

    pub(super) fn listener(&self) -> &dyn CommitListener {
        &*self.listener
    }

    /// Begins to wait until `wanted` events are waiting, and returns whether they are. The last of
    /// them comes with a message.
    pub(super) fn want(&self, wanted: usize) -> bool {
        self.wanted.store(wanted, Ordering::SeqCst);
        self.waiting() >= wanted
    }

    /// Ends the wait.
    pub(super) fn want_nothing(&self) {
        self.wanted.store(0, Ordering::SeqCst);
    }
}

impl HandOver {
    pub(super) fn queues(&self) -> &Arc<CommitQueues> {
        &self.queues
    }

    /// The number of events in all queues.
    pub(super) fn waiting(&self) -> usize {
        self.queues.waiting()
    }

    /// Takes the events of the queue into `input`, which is empty. Events without a caller are left
    /// out; callers whose deadline has passed are answered.
    pub(super) fn take(&self, input: &mut Input, now: Instant) {
        let queue = &self.queues.queues[self.at];
        let mut state = queue.state();
        state.called = false;
        mem::swap(&mut state.input, input);
        queue.waiting.store(0, Ordering::SeqCst);
        let State { slots, answered, .. } = &mut *state;
        input.events.retain(|event| slots.begin(event.ticket, now, answered));
        state.notify();
    }

    /// Answers callers of the queue.
    pub(super) fn answer(&self, answers: impl Iterator<Item = (Ticket, Answer)>) {
        let mut state = self.queues.queues[self.at].state();
        let State { slots, answered, .. } = &mut *state;
        answered.extend(answers.filter_map(|(ticket, answer)| slots.answer(ticket, answer)));
        state.notify();
    }

    /// Ends the message: every caller has an answer.
    pub(super) fn end(mut self) {
        self.is_answered = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_gather_while_more_come_and_not_for_long() {
        let mut gathering = Gathering::default();
        let mut look = |waiting| gathering.look(waiting);
        assert_eq!([0, 1, 3, 3].map(&mut look), {
            use Gathered::{All, More, Nothing};
            [Nothing, More, More, All]
        });
        // The next ones gather by themselves.
        assert_eq!([3, 3].map(&mut look), [Gathered::More, Gathered::All]);
        assert_eq!([1, 2, 3, 4].map(&mut look), [Gathered::More; LOOKS_MAX]);
        assert_eq!(look(5), Gathered::All);
        assert_eq!([1, ENOUGH].map(&mut look), [Gathered::More, Gathered::All]);
        // The committer took them before the driver looked again.
        assert_eq!([1, 0, 1].map(&mut look), {
            use Gathered::{More, Nothing};
            [More, Nothing, More]
        });
    }
}
