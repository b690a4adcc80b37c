//! Events that come over queues: taken together, each judged on its own, and answered together.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::Committer;
use crate::clock::instant;
use crate::ledger::accept::Judged;
use crate::ledger::embedded::call::Call;
use crate::ledger::embedded::commit_queue::{
    Answer, CommitQueues, EncodedEvent, HandOver, Input, Ticket,
};
use crate::ledger::embedded::journal::payload_max;
use crate::ledger::embedded::segment::{Position, RECORD_HEAD};
use crate::ledger::embedded::tables::{EventRow, FullRow};
use crate::ledger::{Accepted, LedgerError, PastEvent, seal};

/// The sync time from which lingering pays off: a linger lasts a quarter of a sync at most, and
/// waking up costs 0.1 ms.
const QUICK_SYNC: Duration = Duration::from_micros(400);
/// About how many bytes the record of one key takes, without its source.
const KEYS_BYTES: usize = 64;

/// Events between their queues and their answers.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Queues with events that are not taken yet.
    called: Vec<HandOver>,
    /// Queues whose events were taken, and are not all answered.
    taken: Vec<HandOver>,
    /// Whether the events of the last of them are still being judged.
    is_judging: bool,
    /// Answers that wait for the sync, with the number of their queue in `taken`.
    answers: Vec<(usize, Ticket, Answer)>,
    /// Bytes of the bodies of these events.
    bodies: usize,
    /// When the first of these events was taken.
    began: Option<Instant>,
    /// Whether one of them has deliveries.
    has_deliveries: bool,
    /// The buffer for the next events.
    input: Input,
    /// The number of events that were waiting or being committed at the end of the last commit:
    /// about the number of callers.
    callers: usize,
}

impl Arrivals {
    /// Notes that a queue has events.
    pub(super) fn call(&mut self, queue: HandOver) {
        self.called.push(queue);
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.called.is_empty()
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.taken.is_empty()
    }

    /// Tells the listeners of the queues that a commit has ended, which took `took`.
    fn report(&self, took: Duration) {
        let mut tally = Tally::default();
        let mut answers = self.answers.iter().peekable();
        for (at, queue) in self.taken.iter().enumerate() {
            while let Some((.., answer)) = answers.next_if(|(of, ..)| *of == at) {
                tally.count(answer);
            }
            let next = self.taken.get(at + 1);
            if !next.is_some_and(|next| Arc::ptr_eq(next.queues(), queue.queues())) {
                mem::take(&mut tally).tell(queue.queues(), took);
            }
        }
    }
}

impl Committer {
    /// Waits for the callers of the last commit, where a sync costs more than that. A call that
    /// waits for the same sync ends the wait.
    pub(super) fn linger(&mut self, calls: &Receiver<Call>) {
        let sync = self.core.sync_time();
        let first = self.arrivals.called.first().filter(|_| sync >= QUICK_SYNC);
        // No event is waiting: none would share the commit.
        let Some(first) = first.filter(|first| first.waiting() > 0) else {
            return;
        };
        let queues = Arc::clone(first.queues());
        let limits = *queues.limits();
        let wanted = self.arrivals.callers.min(limits.events);
        let until = instant() + limits.linger_max.min(sync / 4);
        while self.waiting.is_empty() && self.has_room() && !queues.want(wanted) {
            match calls.recv_timeout(until.saturating_duration_since(instant())) {
                Ok(call) => self.take(call),
                Err(_) => break,
            }
        }
        queues.want_nothing();
    }

    /// Takes the events of all queues that have some.
    pub(super) fn take_arrivals(&mut self) {
        while let Some(queue) = self.arrivals.called.pop() {
            let now = instant();
            self.arrivals.began.get_or_insert(now);
            let mut input = mem::take(&mut self.arrivals.input);
            queue.take(&mut input, now);
            let limits = *queue.queues().limits();
            self.arrivals.taken.push(queue);
            self.arrivals.is_judging = true;
            let Input { events, bytes, .. } = &mut input;
            for event in events {
                let arrivals = &self.arrivals;
                let is_full = arrivals.answers.len() >= limits.events
                    || arrivals.bodies + event.body_bytes > limits.bytes;
                if is_full && !arrivals.answers.is_empty() {
                    self.commit();
                }
                self.arrivals.bodies += event.body_bytes;
                let record = bytes.get(event.record.clone()).unwrap_or_default();
                let ticket = event.ticket;
                let answer = self.record_arrival(event, record);
                // Making room may have answered the queues before this one.
                let at = self.arrivals.taken.len().saturating_sub(1);
                self.arrivals.answers.push((at, ticket, answer));
            }
            self.arrivals.is_judging = false;
            input.clear();
            self.arrivals.input = input;
        }
    }

    /// Judges an event, and adds its record, or keys that it brings. After an error nothing of it
    /// was added.
    fn record_arrival(&mut self, event: &mut EncodedEvent, record: &[u8]) -> Answer {
        let max = payload_max(self.core.options.segment_bytes);
        let keys_size = KEYS_BYTES + 16 * event.keys.len() + event.source.as_str().len();
        let size = record.len().max(keys_size);
        if size + RECORD_HEAD + seal::OVERHEAD > max {
            return Err(LedgerError::TooLarge { size, max });
        }
        self.make_room(size, 1)?;
        let EncodedEvent { id, source, keys, fingerprint, row, deliveries, .. } = event;
        let (id, fingerprint) = (*id, *fingerprint);
        let judged = keys.judge(id, fingerprint, |key| self.find(key))?;
        let accepted = judged.accepted();
        self.arrivals.has_deliveries |= accepted == Accepted::New && deliveries.is_some();
        match judged {
            Judged::New => {
                let at = self.journal.frame.append(|to| to.extend_from_slice(record));
                keys.written().for_each(|key| self.keys.insert(&key, at));
                self.staged.rows.push(row_at(*row, at));
                let fresh = deliveries.take().map(|(targets, body)| (id, targets, body));
                self.staged.fresh.extend(fresh);
            }
            Judged::Duplicate { first, missing } if !missing.is_empty() => {
                let (source, received_ms) = (source.clone(), first.received_ms);
                let past =
                    PastEvent { id: first.id, source, keys: missing, fingerprint, received_ms };
                self.add_keys(&past);
            }
            _ => {}
        }
        Ok(accepted)
    }

    /// Tells the listener of the commit, and then answers its events. The queue whose events are still
    /// being judged remains.
    pub(super) fn answer_arrivals(&mut self, committed: &Result<(), LedgerError>) {
        let arrivals = &mut self.arrivals;
        let Some(last) = arrivals.taken.last() else { return };
        // Before a caller has an answer, and comes with another event.
        arrivals.callers = arrivals.answers.len() + last.waiting();
        let now = instant();
        let took = now.saturating_duration_since(arrivals.began.unwrap_or(now));
        arrivals.began = arrivals.is_judging.then_some(now);
        arrivals.bodies = 0;
        if let Err(error) = committed {
            arrivals.answers.iter_mut().for_each(|(.., answer)| *answer = Err(error.clone()));
        }
        arrivals.report(took);
        let has_deliveries = mem::take(&mut arrivals.has_deliveries) && committed.is_ok();
        if has_deliveries {
            let queues = arrivals.taken.chunk_by(|a, b| Arc::ptr_eq(a.queues(), b.queues()));
            queues.flat_map(<[_]>::first).for_each(|of| of.queues().listener().deliveries_due());
        }
        let mut answers = arrivals.answers.drain(..).peekable();
        for (at, queue) in arrivals.taken.iter().enumerate() {
            let own = std::iter::from_fn(|| answers.next_if(|(of, ..)| *of == at));
            queue.answer(own.map(|(_, ticket, answer)| (ticket, answer)));
        }
        drop(answers);
        let ended = arrivals.taken.len() - usize::from(arrivals.is_judging);
        arrivals.taken.drain(..ended).for_each(HandOver::end);
    }
}

/// The results of a commit.
#[derive(Default)]
struct Tally {
    committed: usize,
    failed: usize,
    error: Option<LedgerError>,
}

impl Tally {
    fn count(&mut self, answer: &Answer) {
        match answer {
            Ok(_) => self.committed += 1,
            Err(error) => {
                self.failed += 1;
                self.error.get_or_insert_with(|| error.clone());
            }
        }
    }

    fn tell(self, queues: &CommitQueues, took: Duration) {
        if self.committed > 0 {
            queues.listener().committed(took, self.committed);
        }
        if let Some(error) = &self.error {
            queues.listener().failed(error, self.failed);
        }
    }
}

fn row_at(row: FullRow, at: Position) -> FullRow {
    FullRow { row: EventRow { offset: at.offset(), ..row.row }, ..row }
}
