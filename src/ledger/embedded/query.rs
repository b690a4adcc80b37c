//! Queries: the log, single events, lists of deliveries. All of them block on the disk and run on
//! threads that may block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::core::Core;
use super::record::{EventRecord, Record};
use super::run::{Finder, Walk};
use super::segment::Segment;
use super::tables::{By, EventRow, hash, tag};
use crate::ledger::{
    Attempt, Cursor, Delivery, DeliveryCounts, DeliveryPage, DeliveryQuery, DeliveryState,
    EventDetail, EventId, EventState, LedgerError, LogPage, LogQuery, Logged, ReplayId,
    ReplayOrder, ReplayWhat, SourceId, TargetId,
};

/// Rows that one call reads: a query that finds nothing among them returns a cursor.
const ROWS_MAX: usize = 200_000;
/// Events with an unfinished delivery that one call looks up, if it is for some sources.
const LOOKUPS_MAX: usize = 5_000;
/// The maximum difference between an id's time and the time of receipt.
const SKEW_MS: i64 = 60_000;
const FIRST: EventId = EventId::from_bytes([0; 16]);
const LAST: EventId = EventId::from_bytes([0xff; 16]);

/// An event's row and segment.
type Place = (EventRow, Arc<Segment>);

/// The records about an event's deliveries.
#[derive(Default)]
struct Notes {
    attempts: BTreeMap<TargetId, Vec<Attempt>>,
    replays: BTreeSet<(ReplayId, TargetId)>,
    /// Destinations of an imported event.
    imported: BTreeSet<TargetId>,
}

// === Single events ===

impl Core {
    fn find(&self, id: EventId) -> Result<Option<Place>, LedgerError> {
        self.finder().find(id)
    }

    pub(super) fn finder(&self) -> Finder {
        Finder::new(self.all_runs())
    }

    /// The body of an event, for its deliveries.
    pub(super) fn body(&self, id: EventId) -> Result<Option<Bytes>, LedgerError> {
        let Some((row, segment)) = self.find(id)? else { return Ok(None) };
        let payload = segment.read(row.offset);
        let payload = payload.map_err(|error| self.unreadable(&segment, row.offset, error))?;
        let event = read_event(&payload, &segment, row)?;
        Ok(Some(crate::ledger::codec::share(&payload, event.body)))
    }

    fn notes(&self, id: EventId, from: &Segment) -> Result<Notes, LedgerError> {
        let mut notes = Notes::default();
        for run in self.all_runs() {
            let segment = run.segment();
            if segment.header.number < from.header.number {
                continue;
            }
            for offset in run.notes(id)? {
                let payload = segment.read(offset)?;
                notes
                    .add(id, &payload)
                    .map_err(|_| segment.damaged(offset, "the record is of no known form"))?;
            }
        }
        Ok(notes)
    }

    /// An event with all its deliveries and attempts.
    pub(super) fn detail(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        self.detail_by(&mut self.finder(), id)
    }

    /// [`Self::detail`] of each of `ids`.
    pub(super) fn details(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        let mut finder = self.finder();
        ids.iter().map(|id| self.detail_by(&mut finder, *id)).collect()
    }

    fn detail_by(
        &self,
        finder: &mut Finder,
        id: EventId,
    ) -> Result<Option<EventDetail>, LedgerError> {
        let Some((row, segment)) = finder.find(id)? else { return Ok(None) };
        let payload = segment.read(row.offset)?;
        let event = read_event(&payload, &segment, row)?;
        let mut notes = self.notes(id, &segment)?;
        let targets = self.targets(&event, &notes);
        let deliveries = self.deliveries();
        let with_attempts = targets.into_iter().map(|target| {
            let attempts = notes.attempts.remove(&target).unwrap_or_default();
            Delivery { attempts, ..deliveries.delivery(id, &target) }
        });
        let found = with_attempts.collect();
        let event = logged(&payload, &event, deliveries.state(id));
        Ok(Some(EventDetail { event, deliveries: found }))
    }

    /// Counts the deliveries of events to `targets`, or to all their destinations.
    pub(super) fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> Result<DeliveryCounts, LedgerError> {
        let mut counts = DeliveryCounts::default();
        let mut finder = self.finder();
        for event in events {
            let Some(place) = finder.find(*event)? else {
                counts.gone += 1;
                continue;
            };
            let all = match targets {
                Some(_) => BTreeSet::new(),
                None => self.targets_of(&place)?,
            };
            let deliveries = self.deliveries();
            for target in targets.into_iter().flatten().chain(&all) {
                counts.count(deliveries.delivery(*event, target).state);
            }
        }
        Ok(counts)
    }

    /// Every destination that an event has or had.
    fn targets(&self, event: &EventRecord<'_>, notes: &Notes) -> BTreeSet<TargetId> {
        let mut targets: BTreeSet<TargetId> =
            event.targets.iter().map(|target| TargetId::from(*target)).collect();
        targets.extend(notes.attempts.keys().cloned());
        targets.extend(notes.replays.iter().map(|(_, target)| target.clone()));
        targets.extend(notes.imported.iter().cloned());
        targets.extend(self.deliveries().live_targets(event.head.id));
        targets
    }
}

impl Notes {
    fn add(
        &mut self,
        id: EventId,
        payload: &[u8],
    ) -> Result<(), crate::ledger::codec::DecodeError> {
        match Record::read(payload)? {
            Record::Attempt(attempt) if attempt.event == id => {
                let target = TargetId::from(attempt.target);
                self.attempts.entry(target).or_default().push(attempt.attempt()?);
            }
            Record::Replay(replay) if replay.event == id => {
                let targets = replay.targets.iter().map(|target| TargetId::from(*target));
                self.replays.extend(targets.map(|target| (replay.replay, target)));
            }
            Record::State(state) if state.event == id => {
                self.imported.insert(TargetId::from(state.target));
            }
            _ => {}
        }
        Ok(())
    }
}

fn read_event<'a>(
    payload: &'a [u8],
    segment: &Segment,
    row: EventRow,
) -> Result<EventRecord<'a>, LedgerError> {
    match Record::read(payload) {
        Ok(Record::Event(event)) if event.head.id == row.id => Ok(event),
        _ => Err(segment.damaged(row.offset, "another record than the index says is here")),
    }
}

fn logged(payload: &Bytes, event: &EventRecord<'_>, state: EventState) -> Logged {
    Logged {
        id: event.head.id,
        source: SourceId::from(event.head.source),
        received_ms: event.head.received_ms,
        test: event.test,
        state,
        body: crate::ledger::codec::share(payload, event.body),
    }
}

// === The log ===

/// The source of candidates for a query.
enum Candidates {
    Walk(Walk),
    /// Found by a hash, oldest first, to be taken from the end.
    Found(Vec<Place>),
    /// Events with unfinished deliveries, newest first.
    Live(std::vec::IntoIter<EventId>, Finder),
    /// The same, of which only the deliveries are wanted: they are in memory.
    Open(std::vec::IntoIter<EventId>),
}

impl Candidates {
    fn next(&mut self) -> Result<Option<(EventId, Option<Place>)>, LedgerError> {
        Ok(match self {
            Self::Walk(walk) => walk.next()?.map(|place| (place.0.id, Some(place))),
            Self::Found(places) => places.pop().map(|place| (place.0.id, Some(place))),
            Self::Live(ids, finder) => match ids.next() {
                Some(id) => Some((id, finder.find(id)?)),
                None => None,
            },
            Self::Open(ids) => ids.next().map(|id| (id, None)),
        })
    }
}

impl Core {
    /// A page of events, newest first.
    pub(super) fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        let before = cursor.map(Cursor::event).transpose()?.unwrap_or(LAST);
        let mut candidates = self.candidates(query, before)?;
        let sources = query.source.as_ref().map(std::slice::from_ref).or(query.among.as_deref());
        let tags = sources.map(|all| all.iter().map(|source| tag(source, false) >> 1));
        let tags: Option<Vec<u32>> = tags.map(Iterator::collect);
        let mut page = LogPage::default();
        let mut last = None;
        for _ in 0..ROWS_MAX {
            let Some((id, place)) = candidates.next()? else { return Ok(page) };
            last = Some(id);
            if let Some(place) = place
                && let Some(event) = self.matching(query, tags.as_deref(), &place)?
            {
                page.events.push(event);
                if page.events.len() >= limit.max(1) {
                    break;
                }
            }
        }
        page.next = last.map(Cursor::after);
        Ok(page)
    }

    fn candidates(&self, query: &LogQuery, before: EventId) -> Result<Candidates, LedgerError> {
        if let Some(transaction) = &query.transaction {
            return self.found(By::Transaction, transaction, before).map(Candidates::Found);
        }
        if let Some(user) = &query.user {
            return self.found(By::User, user, before).map(Candidates::Found);
        }
        let live = match query.state {
            Some(EventState::Pending) => Some(DeliveryState::Pending),
            Some(EventState::Dead) => Some(DeliveryState::Dead),
            Some(EventState::Done) | None => None,
        };
        if let Some(wanted) = live {
            let admit = |_: &TargetId, state: DeliveryState| state == wanted;
            let ids = self.deliveries().live_events(before, ROWS_MAX, &admit);
            return Ok(Candidates::Live(ids.into_iter(), self.finder()));
        }
        let since = query.since_ms.map(|ms| EventId::floor(ms.saturating_sub(SKEW_MS)));
        let until = query.until_ms.map(|ms| EventId::floor(ms.saturating_add(SKEW_MS)));
        let before = until.map_or(before, |until| until.min(before));
        Walk::new(&self.all_runs(), before, since.unwrap_or(FIRST)).map(Candidates::Walk)
    }

    fn found(&self, by: By, text: &str, before: EventId) -> Result<Vec<Place>, LedgerError> {
        let wanted = hash(text);
        let mut places = Vec::new();
        for run in self.all_runs() {
            let rows = run.find_by(by, wanted)?.into_iter().filter(|row| row.id < before);
            places.extend(rows.map(|row| (row, Arc::clone(run.segment()))));
        }
        places.sort_unstable_by_key(|(row, _)| row.id);
        Ok(places)
    }

    /// The event at `place`, if the query matches it; `tags` are those of its sources. The row is checked first: the record of
    /// another event is rarely read.
    fn matching(
        &self,
        query: &LogQuery,
        tags: Option<&[u32]>,
        place: &Place,
    ) -> Result<Option<Logged>, LedgerError> {
        let (row, segment) = place;
        let state = self.deliveries().state(row.id);
        let maybe = tags.is_none_or(|tags| tags.contains(&(row.tag >> 1)))
            && query.test.is_none_or(|test| u32::from(test) == row.tag & 1)
            && query.state.is_none_or(|wanted| wanted == state);
        if !maybe {
            return Ok(None);
        }
        let payload = segment.read(row.offset)?;
        let event = read_event(&payload, segment, *row)?;
        let is_it = query.is_of(event.head.source)
            && query.transaction.as_deref().is_none_or(|text| text == event.transaction)
            && query.user.as_deref().is_none_or(|text| Some(text) == event.user)
            && query.in_time(event.head.received_ms);
        Ok(is_it.then(|| logged(&payload, &event, state)))
    }
}

// === Deliveries ===

impl Core {
    /// A page of deliveries in one state.
    pub(super) fn list(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        let after = cursor.map(Cursor::delivery).transpose()?;
        // The event of the last page may have more deliveries.
        let before = after.as_ref().map_or(LAST, |key| successor(key.event));
        // Each such event has at least one such delivery, except the one of the last page.
        let rows = match (query.state, &query.among) {
            (DeliveryState::Done, _) => ROWS_MAX,
            (DeliveryState::Dead | DeliveryState::Pending, Some(_)) => LOOKUPS_MAX,
            (DeliveryState::Dead | DeliveryState::Pending, None) => {
                limit.max(1).saturating_add(2).min(ROWS_MAX)
            }
        };
        let mut candidates = self.listed(query, before, rows)?;
        let mut finder = self.finder();
        let mut page = DeliveryPage::default();
        let mut last = None;
        for _ in 0..rows {
            let Some((id, place)) = candidates.next()? else { return Ok(page) };
            last = Some(id);
            if let Some(among) = &query.among {
                let found = if place.is_none() { finder.find(id)? } else { None };
                let place = place.as_ref().or(found.as_ref());
                if !place.map_or(Ok(false), |place| is_of(place, among))? {
                    continue;
                }
            }
            for target in self.listed_targets(id, place.as_ref())? {
                let shown =
                    after.as_ref().is_some_and(|key| key.event == id && target <= key.target);
                let wanted = query.target.as_ref().is_none_or(|only| *only == target);
                if shown || !wanted {
                    continue;
                }
                if page.deliveries.len() >= limit.max(1) {
                    page.next = page.deliveries.last().map(Cursor::behind);
                    return Ok(page);
                }
                let delivery = self.deliveries().delivery(id, &target);
                if delivery.state == query.state {
                    page.deliveries.push(delivery);
                }
            }
        }
        page.next = last.map(behind_all);
        Ok(page)
    }

    fn listed(
        &self,
        query: &DeliveryQuery,
        before: EventId,
        rows: usize,
    ) -> Result<Candidates, LedgerError> {
        let target = query.target.as_ref();
        let ids = match query.state {
            DeliveryState::Done => {
                return Walk::new(&self.all_runs(), before, FIRST).map(Candidates::Walk);
            }
            DeliveryState::Dead => self.deliveries().dead_events(before, rows, target),
            DeliveryState::Pending => {
                self.deliveries().live_events(before, rows, &|name, state| {
                    state == DeliveryState::Pending && target.is_none_or(|only| only == name)
                })
            }
        };
        Ok(Candidates::Open(ids.into_iter()))
    }

    /// The destinations of an event of a list: those that are in memory, or all at its place.
    fn listed_targets(
        &self,
        id: EventId,
        place: Option<&Place>,
    ) -> Result<BTreeSet<TargetId>, LedgerError> {
        match place {
            Some(place) => self.targets_of(place),
            None => Ok(self.deliveries().live_targets(id).into_iter().collect()),
        }
    }

    fn targets_of(&self, (row, segment): &Place) -> Result<BTreeSet<TargetId>, LedgerError> {
        let payload = segment.read(row.offset)?;
        let event = read_event(&payload, segment, *row)?;
        let notes = self.notes(row.id, segment)?;
        Ok(self.targets(&event, &notes))
    }
}

/// Whether an event is of one of `among`. The row is checked first, which has a short hash.
fn is_of((row, segment): &Place, among: &[SourceId]) -> Result<bool, LedgerError> {
    if !among.iter().any(|source| tag(source, false) >> 1 == row.tag >> 1) {
        return Ok(false);
    }
    let payload = segment.read(row.offset)?;
    let event = read_event(&payload, segment, *row)?;
    Ok(among.iter().any(|source| source.as_str() == event.head.source))
}

/// The smallest id above `id`.
fn successor(id: EventId) -> EventId {
    EventId::from_bytes(u128::from_be_bytes(*id.as_bytes()).saturating_add(1).to_be_bytes())
}

/// A position after every destination of an event: no name sorts after it.
fn behind_all(event: EventId) -> Cursor {
    let mut bytes = event.as_bytes().to_vec();
    bytes.extend_from_slice("\u{10ffff}".as_bytes());
    Cursor(bytes)
}

// === Replay ===

/// The events and destinations that a call to replay selects.
pub(super) type Chosen = Vec<(EventId, Vec<TargetId>)>;

impl Core {
    /// Selects the new deliveries of a call to replay, and where the next page begins: those that its
    /// order has not made already, in any state.
    pub(super) fn choose(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Chosen, Option<Cursor>), LedgerError> {
        let (ids, next) = match &order.what {
            ReplayWhat::Events(ids) => some_of(ids, cursor, limit)?,
            ReplayWhat::Matching(query) => {
                let page = self.query(query, cursor, limit)?;
                (page.events.iter().map(|event| event.id).collect(), page.next)
            }
        };
        let mut chosen = Chosen::new();
        for id in ids {
            let targets = self.to_replay(order, id)?;
            if !targets.is_empty() {
                chosen.push((id, targets));
            }
        }
        Ok((chosen, next))
    }

    fn to_replay(&self, order: &ReplayOrder, id: EventId) -> Result<Vec<TargetId>, LedgerError> {
        let Some((row, segment)) = self.find(id)? else { return Ok(Vec::new()) };
        let payload = segment.read(row.offset)?;
        let event = read_event(&payload, &segment, row)?;
        let notes = self.notes(id, &segment)?;
        let targets = match &order.targets {
            Some(targets) => targets.iter().cloned().collect(),
            None => self.targets(&event, &notes),
        };
        let made = |target: &TargetId| notes.replays.contains(&(order.id, target.clone()));
        Ok(targets.into_iter().filter(|target| !made(target)).collect())
    }
}

/// A page of the ids in an order, newest first.
fn some_of(
    ids: &[EventId],
    cursor: Option<&Cursor>,
    limit: usize,
) -> Result<(Vec<EventId>, Option<Cursor>), LedgerError> {
    let before = cursor.map(Cursor::event).transpose()?.unwrap_or(LAST);
    let ids: BTreeSet<EventId> = ids.iter().copied().filter(|id| *id < before).collect();
    let page: Vec<EventId> = ids.iter().rev().take(limit.max(1)).copied().collect();
    let more = page.len() < ids.len();
    let next = page.last().filter(|_| more).map(|id| Cursor::after(*id));
    Ok((page, next))
}
