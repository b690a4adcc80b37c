//! Slots: callers that wait for an answer, in memory that is used again and again.

use std::task::{Poll, Waker};
use std::time::Instant;

use super::Answer;
use crate::ledger::LedgerError;

/// The right to the answer in a slot. A slot that is used again does not know earlier tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) struct Ticket {
    at: u32,
    turn: u32,
}

/// The slots of a queue.
#[derive(Default)]
pub(super) struct AnswerSlots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    waiting: usize,
}

struct Slot {
    turn: u32,
    state: SlotState,
}

enum SlotState {
    Free,
    Waiting { caller: Waker, deadline: Instant, stage: Stage },
    Answered(Answer),
}

/// Whether the committer has the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Committing,
}

impl Stage {
    /// The answer to a caller whose deadline has passed.
    fn too_late(self) -> LedgerError {
        match self {
            Self::Queued => LedgerError::Overloaded,
            Self::Committing => LedgerError::Unknown,
        }
    }
}

impl AnswerSlots {
    /// A slot for another caller, which nothing wakes before it has polled.
    pub(super) fn enter(&mut self, deadline: Instant) -> Ticket {
        let caller = Waker::noop().clone();
        let state = SlotState::Waiting { caller, deadline, stage: Stage::Queued };
        self.waiting += 1;
        if let Some(at) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(at as usize)
        {
            slot.state = state;
            return Ticket { at, turn: slot.turn };
        }
        let at = self.slots.len() as u32;
        self.slots.push(Slot { turn: 0, state });
        Ticket { at, turn: 0 }
    }

    /// The number of callers without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The callers without an answer.
    pub(super) fn callers(&self) -> impl Iterator<Item = &Waker> {
        self.slots.iter().filter_map(|slot| match &slot.state {
            SlotState::Waiting { caller, .. } => Some(caller),
            SlotState::Free | SlotState::Answered(_) => None,
        })
    }

    /// The answer to a caller, whose ticket ends with it. Until there is one, `caller` is to be
    /// woken.
    pub(super) fn poll(&mut self, ticket: Ticket, caller: &Waker) -> Poll<Answer> {
        match self.slot(ticket).map(|slot| &mut slot.state) {
            Some(SlotState::Waiting { caller: known, .. }) => {
                known.clone_from(caller);
                return Poll::Pending;
            }
            // A ticket is polled after its answer only by mistake: nothing is known about its event.
            None | Some(SlotState::Free) => return Poll::Ready(Err(LedgerError::Unknown)),
            Some(SlotState::Answered(_)) => {}
        }
        match self.release(ticket) {
            Some(SlotState::Answered(answer)) => Poll::Ready(answer),
            _ => Poll::Ready(Err(LedgerError::Unknown)),
        }
    }

    /// Frees the slot of a caller that stopped waiting.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(SlotState::Waiting { .. }) = self.release(ticket) {
            self.waiting -= 1;
        }
    }

    /// Whether the event with that ticket is to be committed: its caller waits for it, and is in
    /// time.
    pub(super) fn begin(
        &mut self,
        ticket: Ticket,
        now: Instant,
        answered: &mut Vec<Waker>,
    ) -> bool {
        match self.slot(ticket).map(|slot| &mut slot.state) {
            Some(SlotState::Waiting { deadline, stage, .. }) if *deadline > now => {
                *stage = Stage::Committing;
                true
            }
            Some(SlotState::Waiting { stage, .. }) => {
                let late = Err(stage.too_late());
                answered.extend(self.answer(ticket, late));
                false
            }
            _ => false,
        }
    }

    /// Answers a caller, which is to be woken; `None` if the caller stopped waiting.
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) -> Option<Waker> {
        let slot = self.slot(ticket)?;
        if !matches!(slot.state, SlotState::Waiting { .. }) {
            return None;
        }
        let before = std::mem::replace(&mut slot.state, SlotState::Answered(answer));
        self.waiting -= 1;
        match before {
            SlotState::Waiting { caller, .. } => Some(caller),
            SlotState::Free | SlotState::Answered(_) => None,
        }
    }

    /// Answers the callers whose deadline has passed; returns the next deadline.
    pub(super) fn expire(&mut self, now: Instant, answered: &mut Vec<Waker>) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for at in 0..self.slots.len() {
            let Slot { turn, state: SlotState::Waiting { deadline, stage, .. } } = self.slots[at]
            else {
                continue;
            };
            if deadline <= now {
                let ticket = Ticket { at: at as u32, turn };
                answered.extend(self.answer(ticket, Err(stage.too_late())));
            } else {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
        }
        next
    }

    /// Answers all callers with an error.
    pub(super) fn fail(&mut self, error: &LedgerError, answered: &mut Vec<Waker>) {
        for at in 0..self.slots.len() {
            let ticket = Ticket { at: at as u32, turn: self.slots[at].turn };
            answered.extend(self.answer(ticket, Err(error.clone())));
        }
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        self.slots.get_mut(ticket.at as usize).filter(|slot| slot.turn == ticket.turn)
    }

    /// Frees a slot; its ticket is not known any more.
    fn release(&mut self, ticket: Ticket) -> Option<SlotState> {
        let slot = self.slot(ticket)?;
        slot.turn = slot.turn.wrapping_add(1);
        let state = std::mem::replace(&mut slot.state, SlotState::Free);
        self.free.push(ticket.at);
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::instant;
    use crate::ledger::Accepted;

    /// One step; a number selects a caller among all that ever came.
    #[derive(Clone, Debug)]
    enum Step {
        Enter(u64),
        Begin(usize, u64),
        Answer(usize),
        Leave(usize),
        Poll(usize),
        Expire(u64),
        Fail,
    }

    /// The expected state of a caller.
    #[derive(Clone, Debug, PartialEq)]
    enum Expected {
        Waiting { deadline: u64, stage: Stage },
        Answered(Answer),
        Gone,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_u64..50).prop_map(Step::Enter),
            4 => (any::<usize>(), 0_u64..40).prop_map(|(at, now)| Step::Begin(at, now)),
            4 => any::<usize>().prop_map(Step::Answer),
            2 => any::<usize>().prop_map(Step::Leave),
            6 => any::<usize>().prop_map(Step::Poll),
            1 => (0_u64..40).prop_map(Step::Expire),
            1 => Just(Step::Fail),
        ]
    }

    /// The slots, and what each caller has to find there.
    struct Pair {
        slots: AnswerSlots,
        start: Instant,
        callers: Vec<(Ticket, Expected)>,
        most: usize,
    }

    impl Pair {
        /// Expires the expected callers; returns how many.
        fn expire(&mut self, which: impl Fn(usize, u64) -> bool) -> usize {
            let mut late = 0;
            for (at, (_, expected)) in self.callers.iter_mut().enumerate() {
                if let Expected::Waiting { deadline, stage } = *expected
                    && which(at, deadline)
                {
                    *expected = Expected::Answered(Err(stage.too_late()));
                    late += 1;
                }
            }
            late
        }

        fn step(&mut self, step: &Step) {
            let mut woken = Vec::new();
            let (start, count) = (self.start, self.callers.len().max(1));
            let time = |second: u64| start + Duration::from_secs(second);
            match *step {
                Step::Enter(deadline) => {
                    let ticket = self.slots.enter(time(deadline));
                    let stage = Stage::Queued;
                    self.callers.push((ticket, Expected::Waiting { deadline, stage }));
                }
                Step::Expire(now) => {
                    self.slots.expire(time(now), &mut woken);
                    let late = self.expire(|_, deadline| deadline <= now);
                    assert_eq!(woken.len(), late);
                }
                Step::Fail => {
                    self.slots.fail(&LedgerError::TooLarge { size: 1, max: 0 }, &mut woken);
                    for (_, expected) in &mut self.callers {
                        if matches!(expected, Expected::Waiting { .. }) {
                            let error = LedgerError::TooLarge { size: 1, max: 0 };
                            *expected = Expected::Answered(Err(error));
                        }
                    }
                }
                _ if self.callers.is_empty() => {}
                Step::Begin(at, now) => {
                    let at = at % count;
                    let begun = self.slots.begin(self.callers[at].0, time(now), &mut woken);
                    let late = self.expire(|other, deadline| other == at && deadline <= now);
                    assert_eq!(woken.len(), late);
                    let expected = &mut self.callers[at].1;
                    assert_eq!(begun, matches!(expected, Expected::Waiting { .. }));
                    if let Expected::Waiting { stage, .. } = expected {
                        *stage = Stage::Committing;
                    }
                }
                Step::Answer(at) => {
                    let (ticket, expected) = &mut self.callers[at % count];
                    let is_waiting = matches!(expected, Expected::Waiting { .. });
                    let caller = self.slots.answer(*ticket, Ok(Accepted::New));
                    assert_eq!(caller.is_some(), is_waiting);
                    if is_waiting {
                        *expected = Expected::Answered(Ok(Accepted::New));
                    }
                }
                Step::Leave(at) => {
                    let (ticket, expected) = &mut self.callers[at % count];
                    self.slots.leave(*ticket);
                    *expected = Expected::Gone;
                }
                Step::Poll(at) => {
                    let (ticket, expected) = &mut self.callers[at % count];
                    let polled = self.slots.poll(*ticket, Waker::noop());
                    match std::mem::replace(expected, Expected::Gone) {
                        Expected::Answered(answer) => assert_eq!(polled, Poll::Ready(answer)),
                        Expected::Gone => {
                            assert_eq!(polled, Poll::Ready(Err(LedgerError::Unknown)));
                        }
                        waiting => {
                            assert_eq!(polled, Poll::Pending);
                            *expected = waiting;
                        }
                    }
                }
            }
        }

        fn check(&mut self) {
            let of = |is: fn(&Expected) -> bool| {
                self.callers.iter().filter(|(_, expected)| is(expected)).count()
            };
            let waiting = of(|expected| matches!(expected, Expected::Waiting { .. }));
            assert_eq!(self.slots.waiting(), waiting);
            assert_eq!(self.slots.callers().count(), waiting);
            self.most = self.most.max(of(|expected| *expected != Expected::Gone));
            assert_eq!(self.slots.slots.len(), self.most, "slots are used again");
        }
    }

    proptest! {
        #[test]
        fn each_caller_gets_its_own_answer_and_no_other(
            steps in prop::collection::vec(step(), 1..200)
        ) {
            let mut pair = Pair {
                slots: AnswerSlots::default(),
                start: instant(),
                callers: Vec::new(),
                most: 0,
            };
            for step in &steps {
                pair.step(step);
                pair.check();
            }
        }
    }
}
