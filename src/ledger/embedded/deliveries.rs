//! Unfinished deliveries: pending, leased and dead. All of them are in memory, rebuilt from the
//! journal at the start, without leases, which end with the process.
//!
//! Each destination has its own queue: a long backlog does not slow down others. About 100 bytes
//! per waiting delivery.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;

use super::event_hasher::HashesEvents;
use super::record::Outcome;
use crate::clock::{UnixMillis, between, millis};
use crate::ledger::{
    Delivery, DeliveryState, EventId, EventState, LeaseAsk, LeaseResult, NodeId, Settlement,
    TargetFilter, TargetId, TargetStats,
};

/// Bytes of fresh events' bodies kept in memory: an immediate delivery reads nothing from the disk.
const BODIES_MAX: usize = 32 << 20;

/// The longest time between two attempts in ms: a day, which is the bound of `retry.max` in the
/// configuration, and a fifth more, which is its jitter.
const GAP_MAX_MS: i64 = 86_400_000 / 5 * 6;

/// The number of a destination within this process.
type TargetNo = u16;
type Key = (EventId, TargetNo);

/// All unfinished deliveries.
#[derive(Default)]
pub(super) struct Deliveries {
    rows: BTreeMap<Key, Row>,
    queues: Vec<Queue>,
    numbers: HashMap<TargetId, TargetNo>,
    leases: HashMap<Key, Lease, HashesEvents>,
    bodies: HashMap<EventId, Bytes, HashesEvents>,
    bodies_size: usize,
    last_token: u64,
}

/// The state of an unfinished delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) dead: bool,
    pub(super) attempt: u32,
    /// The due time, or the end of the lease.
    pub(super) due_ms: UnixMillis,
}

impl Row {
    /// A new delivery.
    pub(super) fn due(due_ms: UnixMillis) -> Self {
        Self { dead: false, attempt: 0, due_ms }
    }

    /// The delivery of an event as a start at `now` takes it over. A clock that was ahead before has
    /// made it due too late, by as much as it was ahead; no delivery becomes due too early. That holds
    /// if `now` is behind instead: the ledger's clock does not jump when the system's clock is set.
    pub(super) fn at_start(self, event: EventId, now: UnixMillis) -> Self {
        let Self { attempt, due_ms, .. } = self;
        if attempt == 0 {
            return Self { due_ms: due_ms.min(now), ..self };
        }
        let received_ms = event.ms();
        let due_ms = if now < received_ms && received_ms <= due_ms {
            // Both times are of that clock: what was between them counts.
            now.saturating_add(due_ms.saturating_sub(received_ms))
        } else {
            due_ms
        };
        Self { due_ms: due_ms.min(now.saturating_add(GAP_MAX_MS)), ..self }
    }

    fn state(&self) -> DeliveryState {
        if self.dead { DeliveryState::Dead } else { DeliveryState::Pending }
    }
}

/// A lease.
struct Lease {
    who: NodeId,
    token: u64,
}

/// The deliveries of one destination, by when they are due.
struct Queue {
    target: TargetId,
    due: BTreeSet<(UnixMillis, EventId)>,
    /// Events whose delivery is dead: found among any number of waiting ones.
    dead: BTreeSet<EventId>,
}

/// A pending delivery that is not leased for a while: its state before, and meanwhile.
pub(super) struct Suspended {
    key: Key,
    before: Row,
    meanwhile: Row,
}

/// A leased delivery, with its body if it is in memory.
pub(super) struct Handed {
    pub(super) event: EventId,
    pub(super) target: TargetId,
    pub(super) attempt: u32,
    pub(super) token: u64,
    pub(super) body: Option<Bytes>,
}

/// The effect of a settlement.
pub(super) enum LeaseDecision {
    /// Stale: not the newest lease, nothing changed.
    Stale,
    /// Released; nothing to write.
    Postponed,
    /// To be written: the outcome, and the number of attempts.
    Settled(Outcome, u32),
}

// === Rows ===

impl Deliveries {
    fn number(&mut self, target: &TargetId) -> Option<TargetNo> {
        if let Some(number) = self.numbers.get(target) {
            return Some(*number);
        }
        let number = TargetNo::try_from(self.queues.len()).ok()?;
        self.queues.push(Queue {
            target: target.clone(),
            due: BTreeSet::new(),
            dead: BTreeSet::new(),
        });
        self.numbers.insert(target.clone(), number);
        Some(number)
    }

    /// Sets the state of a delivery to `row`, or to done.
    ///
    /// A process knows at most 65,536 destinations; a delivery for one more waits for the next
    /// start.
    pub(super) fn put(&mut self, event: EventId, target: &TargetId, row: Option<Row>) {
        if let Some(number) = self.number(target) {
            self.set((event, number), row);
        }
    }

    fn set(&mut self, key: Key, row: Option<Row>) {
        let queue = &mut self.queues[usize::from(key.1)];
        let before = match row {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        };
        match before {
            Some(Row { dead: true, .. }) => {
                queue.dead.remove(&key.0);
            }
            Some(Row { due_ms, .. }) => {
                queue.due.remove(&(due_ms, key.0));
            }
            None => {}
        }
        match row {
            Some(Row { dead: true, .. }) => {
                queue.dead.insert(key.0);
            }
            Some(Row { due_ms, .. }) => {
                queue.due.insert((due_ms, key.0));
            }
            None => {}
        }
    }

    /// Starts a delivery over: older leases do not count.
    pub(super) fn renew(&mut self, event: EventId, target: &TargetId, now: UnixMillis) {
        if let Some(number) = self.number(target) {
            self.leases.remove(&(event, number));
            self.set((event, number), Some(Row::due(now)));
        }
    }

    /// Starts those deliveries of an event over that are in the state `only` (`None`: in any) and,
    /// if it is given, not leased. Returns their destinations.
    pub(super) fn renew_taken(
        &mut self,
        event: EventId,
        targets: &[TargetId],
        only: Option<DeliveryState>,
        now: UnixMillis,
    ) -> Vec<TargetId> {
        let is_taken = |target: &&TargetId| self.is_taken(event, target, only);
        let taken: Vec<TargetId> = targets.iter().filter(is_taken).cloned().collect();
        taken.iter().for_each(|target| self.renew(event, target, now));
        taken
    }

    fn is_taken(&self, event: EventId, target: &TargetId, only: Option<DeliveryState>) -> bool {
        let Some(only) = only else { return true };
        let key = self.numbers.get(target).map(|number| (event, *number));
        let is_leased = key.is_some_and(|key| self.leases.contains_key(&key));
        let row = key.and_then(|key| self.rows.get(&key));
        row.map_or(DeliveryState::Done, Row::state) == only && !is_leased
    }

    /// Ends a delivery without a result: no lease of it counts.
    pub(super) fn end(&mut self, event: EventId, target: &TargetId) {
        if let Some(number) = self.number(target) {
            self.leases.remove(&(event, number));
            self.set((event, number), None);
        }
        self.drop_body(event);
    }

    /// Keeps the body of a fresh event for its first attempt, while there is room.
    pub(super) fn keep_body(&mut self, event: EventId, body: &Bytes) {
        if self.bodies_size + body.len() > BODIES_MAX {
            // Bodies that are not fetched mean a backlog; its first bodies were read long ago.
            self.bodies.clear();
            self.bodies_size = 0;
        }
        self.bodies_size += body.len();
        self.bodies.insert(event, body.clone());
    }

    fn drop_body(&mut self, event: EventId) {
        if let Some(body) = self.bodies.remove(&event) {
            self.bodies_size -= body.len();
        }
    }

    fn rows_of(&self, event: EventId) -> impl Iterator<Item = (&TargetId, &Row)> {
        let rows = self.rows.range((event, TargetNo::MIN)..=(event, TargetNo::MAX));
        rows.map(|((_, number), row)| (&self.queues[usize::from(*number)].target, row))
    }

    /// The state of an event's deliveries.
    pub(super) fn state(&self, event: EventId) -> EventState {
        EventState::of(self.rows_of(event).map(|(_, row)| row.state()))
    }

    /// Whether the event has an unfinished delivery.
    pub(super) fn is_live(&self, event: EventId) -> bool {
        self.rows_of(event).next().is_some()
    }

    /// One delivery, without its attempts; done if it is unknown.
    pub(super) fn delivery(&self, event: EventId, target: &TargetId) -> Delivery {
        let row = self.numbers.get(target).and_then(|number| self.rows.get(&(event, *number)));
        Delivery {
            event,
            target: target.clone(),
            state: row.map_or(DeliveryState::Done, Row::state),
            attempt: row.map_or(0, |row| row.attempt),
            due_ms: row.filter(|row| !row.dead).map(|row| row.due_ms),
            attempts: Vec::new(),
        }
    }

    /// Destinations of an event with unfinished deliveries.
    pub(super) fn live_targets(&self, event: EventId) -> Vec<TargetId> {
        self.rows_of(event).map(|(target, _)| target.clone()).collect()
    }

    /// Events below `before` with unfinished deliveries, newest first; at most `max` that `admit`
    /// selects.
    pub(super) fn live_events(
        &self,
        before: EventId,
        max: usize,
        admit: &dyn Fn(&TargetId, DeliveryState) -> bool,
    ) -> Vec<EventId> {
        let mut events: Vec<EventId> = Vec::new();
        for ((event, number), row) in self.rows.range(..(before, TargetNo::MIN)).rev() {
            let target = &self.queues[usize::from(*number)].target;
            if events.last() == Some(event) || !admit(target, row.state()) {
                continue;
            }
            if events.len() == max {
                break;
            }
            events.push(*event);
        }
        events
    }

    /// Events below `before` with a dead delivery to `target`, or to any, newest first; at most
    /// `max` of them.
    pub(super) fn dead_events(
        &self,
        before: EventId,
        max: usize,
        target: Option<&TargetId>,
    ) -> Vec<EventId> {
        let wanted = self.queues.iter().filter(|queue| {
            !queue.dead.is_empty() && target.is_none_or(|only| *only == queue.target)
        });
        let newest = |queue: &'_ Queue| -> Vec<EventId> {
            queue.dead.range(..before).rev().take(max).copied().collect()
        };
        let all: BTreeSet<EventId> = wanted.flat_map(newest).collect();
        all.into_iter().rev().take(max).collect()
    }

    /// Counts by destination, by name.
    pub(super) fn stats(&self, now: UnixMillis) -> Vec<TargetStats> {
        let mut targets: Vec<TargetStats> = self
            .queues
            .iter()
            .filter(|queue| !queue.dead.is_empty() || !queue.due.is_empty())
            .map(|queue| {
                let oldest = queue.due.first().map(|(due_ms, _)| now.saturating_sub(*due_ms));
                let overdue = oldest.and_then(|ms| u64::try_from(ms).ok());
                TargetStats {
                    target: queue.target.clone(),
                    pending: queue.due.len() as u64,
                    dead: queue.dead.len() as u64,
                    oldest_due: overdue.map(Duration::from_millis),
                }
            })
            .collect();
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets
    }
}

// === Leases ===

impl Deliveries {
    /// Leases due deliveries.
    pub(super) fn lease(&mut self, who: &NodeId, ask: &LeaseAsk, now: UnixMillis) -> Vec<Handed> {
        let queues = self.admitted(&ask.targets);
        let mut due: Vec<(UnixMillis, EventId, TargetNo)> = Vec::new();
        for number in queues {
            let queue = self.queues[usize::from(number)].due.iter();
            let ready = queue.take_while(|(due_ms, _)| *due_ms <= now).take(ask.max);
            due.extend(ready.map(|(due_ms, event)| (*due_ms, *event, number)));
        }
        due.sort_by(|a, b| {
            let name = |number: TargetNo| &self.queues[usize::from(number)].target;
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| name(a.2).cmp(name(b.2)))
        });
        due.truncate(ask.max);
        let until = now.saturating_add(millis(ask.ttl));
        due.into_iter()
            .filter_map(|(_, event, no)| self.hand_out(who, until, (event, no)))
            .collect()
    }

    fn hand_out(&mut self, who: &NodeId, until: UnixMillis, key: Key) -> Option<Handed> {
        let row = *self.rows.get(&key)?;
        let attempt = row.attempt + 1;
        self.set(key, Some(Row { dead: false, attempt, due_ms: until }));
        self.last_token += 1;
        let token = self.last_token;
        self.leases.insert(key, Lease { who: who.clone(), token });
        Some(Handed {
            event: key.0,
            target: self.queues[usize::from(key.1)].target.clone(),
            attempt,
            token,
            body: self.bodies.get(&key.0).cloned(),
        })
    }

    fn admitted(&self, filter: &TargetFilter) -> Vec<TargetNo> {
        let named = |these: &[TargetId]| -> HashSet<TargetNo> {
            these.iter().filter_map(|target| self.numbers.get(target)).copied().collect()
        };
        // Every destination may be named: whatever the filter is, each is checked once.
        let all = (0..).zip(&self.queues).map(|(number, _)| number);
        match filter {
            TargetFilter::All => all.collect(),
            TargetFilter::Only(these) => named(these).into_iter().collect(),
            TargetFilter::Except(these) => {
                let these = named(these);
                all.filter(|number| !these.contains(number)).collect()
            }
        }
    }

    /// The time until the next delivery of those destinations is due.
    pub(super) fn next_due(&self, filter: &TargetFilter, now: UnixMillis) -> Option<Duration> {
        let queues = self.admitted(filter).into_iter().map(|no| &self.queues[usize::from(no)]);
        let next = queues.filter_map(|queue| queue.due.first()).map(|(due_ms, _)| *due_ms).min()?;
        Some(between(now, next))
    }

    /// Settles a lease, if it is the newest of its delivery.
    pub(super) fn settle(
        &mut self,
        who: &NodeId,
        settlement: &Settlement,
        now: UnixMillis,
    ) -> LeaseDecision {
        let Some(number) = self.numbers.get(&settlement.target) else {
            return LeaseDecision::Stale;
        };
        let key = (settlement.event, *number);
        let newest = self.leases.get(&key);
        let is_newest =
            newest.is_some_and(|held| held.who == *who && held.token == settlement.token);
        let Some(row) = self.rows.get(&key).copied().filter(|_| is_newest) else {
            return LeaseDecision::Stale;
        };
        self.leases.remove(&key);
        let attempt = row.attempt;
        let outcome = match settlement.result {
            LeaseResult::Postpone { after } => {
                let due_ms = now.saturating_add(millis(after));
                self.set(
                    key,
                    Some(Row { dead: false, attempt: attempt.saturating_sub(1), due_ms }),
                );
                return LeaseDecision::Postponed;
            }
            LeaseResult::Done | LeaseResult::Decided => Outcome::Done,
            LeaseResult::Retry { after } => {
                Outcome::Retry { due_ms: now.saturating_add(millis(after)) }
            }
            LeaseResult::Dead => Outcome::Dead,
        };
        self.set(key, after(outcome, attempt));
        if outcome != Outcome::Done || !self.is_live(key.0) {
            self.drop_body(key.0);
        }
        LeaseDecision::Settled(outcome, attempt)
    }

    /// Has the pending deliveries of these events not leased until `until_ms`. Their leases end: the
    /// result of an attempt in flight does not count.
    pub(super) fn suspend(
        &mut self,
        events: &BTreeSet<EventId>,
        until_ms: UnixMillis,
    ) -> Vec<Suspended> {
        let mut suspended = Vec::new();
        for event in events {
            let rows = self.rows.range((*event, TargetNo::MIN)..=(*event, TargetNo::MAX));
            let pending = rows.filter(|(_, row)| !row.dead);
            suspended.extend(pending.map(|(key, row)| {
                let meanwhile = Row { due_ms: row.due_ms.max(until_ms), ..*row };
                Suspended { key: *key, before: *row, meanwhile }
            }));
        }
        for Suspended { key, meanwhile, .. } in &suspended {
            self.leases.remove(key);
            self.set(*key, Some(*meanwhile));
        }
        suspended
    }

    /// Goes on with suspended deliveries, unless they have ended or changed since. One that was leased
    /// is due when its lease would have expired.
    pub(super) fn resume(&mut self, suspended: &[Suspended]) {
        for Suspended { key, before, meanwhile } in suspended {
            if self.rows.get(key) == Some(meanwhile) {
                self.set(*key, Some(*before));
            }
        }
    }

    /// Releases the leases of `who`.
    pub(super) fn release(&mut self, who: &NodeId, now: UnixMillis) -> u64 {
        let theirs = self.leases.extract_if(|_, held| held.who == *who);
        let keys: Vec<Key> = theirs.map(|(key, _)| key).collect();
        for key in &keys {
            if let Some(row) = self.rows.get(key).copied() {
                let attempt = row.attempt.saturating_sub(1);
                self.set(*key, Some(Row { dead: false, attempt, due_ms: now }));
            }
        }
        keys.len() as u64
    }
}

/// The state of a delivery after an outcome; `None`: done.
pub(super) fn after(outcome: Outcome, attempt: u32) -> Option<Row> {
    match outcome {
        Outcome::Done => None,
        Outcome::Retry { due_ms } => Some(Row { dead: false, attempt, due_ms }),
        Outcome::Dead => Some(Row { dead: true, attempt, due_ms: 0 }),
    }
}
