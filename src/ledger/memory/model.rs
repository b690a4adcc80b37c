//! The state behind [`super::Memory`] and the rules that change it: no I/O, no waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use crate::clock::{UnixMillis, between, millis};
use crate::ledger::accept::{First, Judged};
use crate::ledger::holdings::Holdings;
use crate::ledger::{
    Accepted, Attempt, Cursor, DedupeKey, Delivery, DeliveryCounts, DeliveryPage, DeliveryQuery,
    DeliveryState, Document, DocumentChange, Documents, EarlyExpiry, Erased, Erasure, EventDetail,
    EventId, EventState, HeldId, Kind, Lease, LeaseAsk, LeaseBatch, LeaseResult, LedgerError,
    LogPage, LogQuery, Logged, NewEvent, NewHeld, NodeId, Nonce, NonceUse, PastEvent, ReplayId,
    ReplayOrder, ReplayPage, ReplayWhat, Retention, Revision, Settled, Settlement, SourceId, Stats,
    StoreClock, Swept, TargetId, TargetStats,
};

mod gateway;
mod held;
mod transfer;

/// The complete state of a ledger.
pub(super) struct Model {
    clock: StoreClock,
    keys: HashMap<DedupeKey, Known>,
    events: BTreeMap<EventId, Stored>,
    /// Pending and dead deliveries; a finished one has no row.
    rows: BTreeMap<(EventId, TargetId), Row>,
    replayed: HashSet<(ReplayId, EventId, TargetId)>,
    nonces: HashMap<DedupeKey, UnixMillis>,
    documents: BTreeMap<(String, String), Document>,
    held: Holdings<NewHeld>,
    gateways: Vec<gateway::Kept>,
    revision: Revision,
    last_token: u64,
    /// Whether there was an import: keys of an older form may exist.
    pub(super) imported: bool,
}

/// The facts about a key, also after its event expired: the event, and all keys written with this
/// one.
struct Known(PastEvent);

impl Known {
    fn first(&self) -> First {
        let PastEvent { id, received_ms, fingerprint, .. } = self.0;
        First { id, received_ms, fingerprint }
    }
}

struct Stored {
    event: NewEvent,
    attempts: BTreeMap<TargetId, Vec<Attempt>>,
}

struct Row {
    dead: bool,
    attempt: u32,
    /// The due time, or the end of the lease.
    due_ms: UnixMillis,
    token: u64,
    lease: Option<NodeId>,
    /// Attempt and due time as last persisted.
    written: (u32, UnixMillis),
}

impl Row {
    fn new(due_ms: UnixMillis) -> Self {
        let written = (0, due_ms);
        Self { dead: false, attempt: 0, due_ms, token: 0, lease: None, written }
    }

    fn state(&self) -> DeliveryState {
        if self.dead { DeliveryState::Dead } else { DeliveryState::Pending }
    }

    /// Whether a replay of deliveries in the state `only` (`None`: in any) takes the one of this row.
    fn is_taken(row: Option<&Self>, only: Option<DeliveryState>) -> bool {
        let Some(only) = only else { return true };
        let is_leased = row.is_some_and(|row| row.lease.is_some());
        row.map_or(DeliveryState::Done, Self::state) == only && !is_leased
    }
}

// === Callbacks ===

impl Model {
    pub(super) fn new(clock: StoreClock) -> Self {
        Self {
            clock,
            keys: HashMap::new(),
            events: BTreeMap::new(),
            rows: BTreeMap::new(),
            replayed: HashSet::new(),
            nonces: HashMap::new(),
            documents: BTreeMap::new(),
            held: Holdings::default(),
            gateways: Vec::new(),
            revision: Revision(0),
            last_token: 0,
            imported: false,
        }
    }

    pub(super) fn accept(&mut self, event: &NewEvent) -> Accepted {
        let known = |key: &DedupeKey| Ok::<_, Infallible>(self.keys.get(key).map(Known::first));
        let Ok(judged) = event.judge(known);
        match &judged {
            Judged::New => self.record(event),
            Judged::Duplicate { first, missing } => {
                let first = PastEvent {
                    id: first.id,
                    source: event.source.clone(),
                    keys: missing.clone(),
                    fingerprint: event.fingerprint,
                    received_ms: first.received_ms,
                };
                self.remember(&first);
            }
            Judged::Own | Judged::Conflict(_) | Judged::Ambiguous(_) => {}
        }
        judged.accepted()
    }

    /// Records keys and their event.
    fn remember(&mut self, past: &PastEvent) {
        for key in &past.keys {
            self.keys.insert(*key, Known(past.clone()));
        }
    }

    fn record(&mut self, event: &NewEvent) {
        self.remember(&PastEvent {
            id: event.id,
            source: event.source.clone(),
            keys: event.keys.written().collect(),
            fingerprint: event.fingerprint,
            received_ms: event.received_ms,
        });
        let now = self.clock.ms();
        let mut attempts = BTreeMap::new();
        for target in &event.targets {
            self.rows.insert((event.id, target.clone()), Row::new(now));
            attempts.insert(target.clone(), Vec::new());
        }
        self.events.insert(event.id, Stored { event: event.clone(), attempts });
    }

    pub(super) fn use_nonce(&mut self, nonce: &Nonce) -> NonceUse {
        let now = self.clock.ms();
        match self.nonces.get(&nonce.key) {
            Some(expires_ms) if *expires_ms > now => NonceUse::Repeated,
            _ => {
                self.nonces.insert(nonce.key, nonce.expires_ms);
                NonceUse::First
            }
        }
    }
}

// === Deliveries ===

impl Model {
    pub(super) fn lease(&mut self, who: &NodeId, ask: &LeaseAsk) -> LeaseBatch {
        let now = self.clock.ms();
        let mut due: Vec<(UnixMillis, EventId, TargetId)> = self
            .rows
            .iter()
            .filter(|((_, target), row)| !row.dead && ask.targets.admits(target))
            .map(|((event, target), row)| (row.due_ms, *event, target.clone()))
            .collect();
        due.sort();
        let ready = due.iter().take_while(|(due_ms, ..)| *due_ms <= now).count().min(ask.max);
        let leases: Vec<Lease> = due
            .drain(..ready)
            .filter_map(|(_, event, target)| self.lease_one(who, ask.ttl, event, target))
            .collect();
        let next = self
            .rows
            .iter()
            .filter(|((_, target), row)| !row.dead && ask.targets.admits(target))
            .map(|(_, row)| row.due_ms)
            .min();
        LeaseBatch { leases, next_due: next.map(|ms| between(now, ms)) }
    }

    fn lease_one(
        &mut self,
        who: &NodeId,
        ttl: Duration,
        event: EventId,
        target: TargetId,
    ) -> Option<Lease> {
        let key = (event, target);
        let row = self.rows.get_mut(&key)?;
        self.last_token += 1;
        row.attempt += 1;
        row.token = self.last_token;
        row.lease = Some(who.clone());
        row.due_ms = self.clock.ms().saturating_add(millis(ttl));
        let (event, target) = key;
        Some(Lease {
            event,
            target,
            attempt: row.attempt,
            token: row.token,
            body: self.events.get(&event)?.event.body.clone(),
            expires_in: ttl,
        })
    }

    pub(super) fn settle(&mut self, who: &NodeId, settlement: &Settlement) -> Settled {
        let key = (settlement.event, settlement.target.clone());
        let now = self.clock.ms();
        let Some(row) = self.rows.get_mut(&key) else { return Settled::Stale };
        if row.lease.as_ref() != Some(who) || row.token != settlement.token {
            return Settled::Stale;
        }
        row.lease = None;
        match settlement.result {
            LeaseResult::Done | LeaseResult::Decided => {
                self.rows.remove(&key);
            }
            LeaseResult::Retry { after } => {
                row.due_ms = now.saturating_add(millis(after));
                row.written = (row.attempt, row.due_ms);
            }
            LeaseResult::Dead => row.dead = true,
            LeaseResult::Postpone { after } => {
                row.attempt -= 1;
                row.due_ms = now.saturating_add(millis(after));
                return Settled::Applied;
            }
        }
        if let Some(stored) = self.events.get_mut(&settlement.event) {
            let attempts = stored.attempts.entry(settlement.target.clone()).or_default();
            attempts.push(settlement.attempt.clone().trimmed());
        }
        Settled::Applied
    }

    pub(super) fn release(&mut self, who: &NodeId) -> u64 {
        let now = self.clock.ms();
        let mut released = 0;
        for row in self.rows.values_mut().filter(|row| row.lease.as_ref() == Some(who)) {
            row.lease = None;
            row.attempt -= 1;
            row.due_ms = now;
            released += 1;
        }
        released
    }

    /// Simulates a restart of an embedded engine: unpersisted changes are lost.
    pub(super) fn restart(&mut self) {
        for row in self.rows.values_mut().filter(|row| !row.dead) {
            row.lease = None;
            (row.attempt, row.due_ms) = row.written;
        }
    }

    pub(super) fn replay(
        &mut self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        let (ids, next) = match &order.what {
            ReplayWhat::Events(ids) => self.page_of_ids(ids, cursor, limit)?,
            ReplayWhat::Matching(query) => {
                let page = self.query(query, cursor, limit)?;
                (page.events.iter().map(|event| event.id).collect(), page.next)
            }
        };
        let mut page = ReplayPage { next, ..ReplayPage::default() };
        for id in ids {
            let made = self.replay_one(order, id);
            page.events += u64::from(made > 0);
            page.deliveries += made;
        }
        Ok(page)
    }

    fn page_of_ids(
        &self,
        ids: &[EventId],
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<EventId>, Option<Cursor>), LedgerError> {
        let before = cursor.map(Cursor::event).transpose()?;
        let ids: BTreeSet<EventId> = ids.iter().copied().collect();
        let mut ids = ids
            .into_iter()
            .rev()
            .filter(|id| before.is_none_or(|before| *id < before) && self.events.contains_key(id));
        let page: Vec<EventId> = ids.by_ref().take(limit.max(1)).collect();
        let more = ids.next().is_some();
        let next = page.last().filter(|_| more).map(|id| Cursor::after(*id));
        Ok((page, next))
    }

    fn replay_one(&mut self, order: &ReplayOrder, id: EventId) -> u64 {
        let Some(stored) = self.events.get_mut(&id) else { return 0 };
        let targets: BTreeSet<TargetId> = match &order.targets {
            Some(targets) => targets.iter().cloned().collect(),
            None => stored.attempts.keys().cloned().collect(),
        };
        let now = self.clock.ms();
        let mut made = 0;
        for target in targets {
            let key = (id, target.clone());
            if Row::is_taken(self.rows.get(&key), order.only)
                && self.replayed.insert((order.id, id, target.clone()))
            {
                stored.attempts.entry(target).or_default();
                self.rows.insert(key, Row::new(now));
                made += 1;
            }
        }
        made
    }
}

// === The log ===

impl Model {
    pub(super) fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        let before = cursor.map(Cursor::event).transpose()?;
        let mut found = self
            .events
            .iter()
            .rev()
            .filter(|(id, _)| before.is_none_or(|before| **id < before))
            .filter(|(id, stored)| self.matches(query, **id, &stored.event));
        let page: Vec<Logged> =
            found.by_ref().take(limit.max(1)).map(|(_, stored)| self.logged(stored)).collect();
        let more = found.next().is_some();
        let next = page.last().filter(|_| more).map(|event| Cursor::after(event.id));
        Ok(LogPage { events: page, next })
    }

    fn matches(&self, query: &LogQuery, id: EventId, event: &NewEvent) -> bool {
        query.is_of(event.source.as_str())
            && query.transaction.as_ref().is_none_or(|text| *text == event.transaction)
            && (query.user.is_none() || query.user == event.user)
            && query.test.is_none_or(|test| test == event.test)
            && query.in_time(event.received_ms)
            && query.state.is_none_or(|state| state == self.state(id))
    }

    fn rows_of(&self, id: EventId) -> impl Iterator<Item = (&TargetId, &Row)> {
        let from = (id, TargetId::from(""));
        let rows = self.rows.range(from..).take_while(move |((event, _), _)| *event == id);
        rows.map(|((_, target), row)| (target, row))
    }

    fn state(&self, id: EventId) -> EventState {
        EventState::of(self.rows_of(id).map(|(_, row)| row.state()))
    }

    fn logged(&self, stored: &Stored) -> Logged {
        let event = &stored.event;
        Logged {
            id: event.id,
            source: event.source.clone(),
            received_ms: event.received_ms,
            test: event.test,
            state: self.state(event.id),
            body: event.body.clone(),
        }
    }

    pub(super) fn detail(&self, id: EventId) -> Option<EventDetail> {
        let stored = self.events.get(&id)?;
        let deliveries = stored.attempts.iter().map(|(target, attempts)| {
            let delivery = self.delivery(id, target);
            Delivery { attempts: attempts.clone(), ..delivery }
        });
        Some(EventDetail { event: self.logged(stored), deliveries: deliveries.collect() })
    }

    pub(super) fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> DeliveryCounts {
        let mut counts = DeliveryCounts::default();
        for event in events {
            let Some(stored) = self.events.get(event) else {
                counts.gone += 1;
                continue;
            };
            let count = |target| counts.count(self.delivery(*event, target).state);
            match targets {
                Some(targets) => targets.iter().for_each(count),
                None => stored.attempts.keys().for_each(count),
            }
        }
        counts
    }

    fn delivery(&self, event: EventId, target: &TargetId) -> Delivery {
        let row = self.rows.get(&(event, target.clone()));
        Delivery {
            event,
            target: target.clone(),
            state: row.map_or(DeliveryState::Done, Row::state),
            attempt: row.map_or(0, |row| row.attempt),
            due_ms: row.filter(|row| !row.dead).map(|row| row.due_ms),
            attempts: Vec::new(),
        }
    }

    /// Whether an event is of one of these sources.
    fn is_of(&self, id: EventId, among: Option<&[SourceId]>) -> bool {
        among.is_none_or(|among| {
            self.events.get(&id).is_some_and(|stored| among.contains(&stored.event.source))
        })
    }

    pub(super) fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        let after = cursor.map(Cursor::delivery).transpose()?;
        let mut found = self
            .events
            .iter()
            .rev()
            .flat_map(|(id, stored)| stored.attempts.keys().map(|target| (*id, target)))
            .filter(|(id, target)| {
                after.as_ref().is_none_or(|key| {
                    *id < key.event || (*id == key.event && target.as_str() > key.target.as_str())
                })
            })
            .filter(|(_, target)| query.target.as_ref().is_none_or(|only| only == *target))
            .filter(|(id, _)| self.is_of(*id, query.among.as_deref()))
            .map(|(id, target)| self.delivery(id, target))
            .filter(|delivery| delivery.state == query.state);
        let page: Vec<Delivery> = found.by_ref().take(limit.max(1)).collect();
        let more = found.next().is_some();
        let next = page.last().filter(|_| more).map(Cursor::behind);
        Ok(DeliveryPage { deliveries: page, next })
    }

    pub(super) fn stats(&self) -> Stats {
        let now = self.clock.ms();
        let mut targets: BTreeMap<&TargetId, TargetStats> = BTreeMap::new();
        for ((_, target), row) in &self.rows {
            let stats = targets.entry(target).or_insert_with(|| TargetStats::new(target.clone()));
            stats.count(row.state(), now.saturating_sub(row.due_ms));
        }
        let targets = targets.into_values().collect();
        let (events, keys) = (self.events.len() as u64, self.keys.len() as u64);
        Stats::sum(events, keys, targets, self.held.stats())
    }
}

// === Documents and upkeep ===

impl Model {
    pub(super) fn document(&self, kind: Kind, id: &str) -> Option<Document> {
        self.documents.get(&(kind.as_str().to_owned(), id.to_owned())).cloned()
    }

    pub(super) fn documents(&self, kind: Kind) -> Documents {
        let documents = self.documents.iter().filter(|((of, _), _)| of == kind.as_str());
        Documents {
            documents: documents.map(|(_, document)| document.clone()).collect(),
            revision: self.revision,
        }
    }

    pub(super) fn change_all(
        &mut self,
        changes: &[DocumentChange],
    ) -> Result<Revision, LedgerError> {
        for change in changes {
            let key = (change.kind.as_str().to_owned(), change.id.clone());
            let current = self.documents.get(&key).map(|document| document.version);
            if !change.expect.holds(current) {
                return Err(LedgerError::Conflict { current });
            }
        }
        self.revision.0 += 1;
        changes.iter().for_each(|change| self.put(change));
        Ok(self.revision)
    }

    fn put(&mut self, change: &DocumentChange) {
        let key = (change.kind.as_str().to_owned(), change.id.clone());
        match &change.body {
            Some(body) => {
                let document = Document {
                    id: change.id.clone(),
                    version: self.revision,
                    at_ms: change.at_ms,
                    who: change.who.clone(),
                    body: body.clone(),
                };
                self.documents.insert(key, document);
            }
            None => {
                self.documents.remove(&key);
            }
        }
    }

    pub(super) fn erase(&mut self, erasure: &Erasure) -> Erased {
        let events = self.events.iter().filter(|(_, one)| erasure.covers_event(&one.event));
        let ids: Vec<EventId> = events.map(|(id, _)| *id).collect();
        let rows = self.rows.len();
        for id in &ids {
            self.events.remove(id);
            self.rows.retain(|(event, _), _| event != id);
            self.replayed.retain(|(_, event, _)| event != id);
        }
        let claimed = self.held.of_user(&erasure.user);
        let held: Vec<HeldId> = claimed
            .into_iter()
            .filter(|id| {
                self.held.waiting(*id).is_some_and(|held| erasure.covers_event(&held.event))
            })
            .collect();
        held.iter().for_each(|id| self.held.remove(*id));
        let deliveries = (rows - self.rows.len()) as u64;
        Erased { events: ids.len() as u64, deliveries, held: held.len() as u64 }
    }

    pub(super) fn expire_early(&mut self, early: &EarlyExpiry, budget: usize) -> Swept {
        let is_old =
            |event: &NewEvent| event.source == early.source && event.received_ms < early.before();
        let settled = |id: EventId| self.rows_of(id).next().is_none();
        let old = self.events.iter().filter(|(id, one)| is_old(&one.event) && settled(**id));
        let mut old: Vec<EventId> = old.map(|(id, _)| *id).collect();
        let more = old.len() > budget;
        old.truncate(budget);
        for id in &old {
            self.events.remove(id);
        }
        Swept { events: old.len() as u64, more, ..Swept::default() }
    }

    pub(super) fn sweep(&mut self, policy: &Retention, budget: usize) -> Swept {
        let before = policy.events_before();
        let mut old: Vec<EventId> = self
            .events
            .iter()
            .filter(|(id, stored)| {
                stored.event.received_ms < before && self.rows_of(**id).next().is_none()
            })
            .map(|(id, _)| *id)
            .collect();
        let more = old.len() > budget;
        old.truncate(budget);
        for id in &old {
            self.events.remove(id);
        }
        let keys = self.keys.len();
        let events = &self.events;
        self.keys.retain(|_, Known(past)| {
            let before = policy.keys_before(past.source.as_str());
            before.is_none_or(|before| past.received_ms >= before) || events.contains_key(&past.id)
        });
        self.held.expire(policy.now_ms, &policy.held);
        let now = self.clock.ms();
        self.nonces.retain(|_, expires_ms| *expires_ms > now);
        self.replayed.retain(|(_, event, _)| events.contains_key(event));
        Swept { events: old.len() as u64, keys: (keys - self.keys.len()) as u64, bytes: 0, more }
    }
}
