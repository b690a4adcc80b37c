//! The lines of the list, merged newest first from the ledger and from the recent callbacks of this
//! gateway. Each source of lines uses an index or is short, and is read only as far as needed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::filter::{Filter, outcome_of};
use super::position::{Position, Reach};
use crate::clock::UnixMillis;
use crate::console::app::Console;
use crate::console::page_error::PageError;
use crate::intake::UnrecordedCallback;
use crate::ledger::{
    Cursor, DeliveryQuery, DeliveryState, EventBody, EventId, EventState, HeldId, LedgerError,
    LogQuery, Logged, Rejected, Rejection, SourceId, TargetId,
};
use crate::registry::Subject;
use crate::sender::{Effect, Outcome};

/// Most ledger reads for one page: each read examines many events if a filter has few matches.
const ASKED_MAX: usize = 3;

/// Events per read, and reads per page, of a search for a beginning, which no index has.
const SCAN: usize = 500;
const SCANS_MAX: usize = 4;

/// One callback.
#[derive(Debug)]
pub(super) struct Line {
    pub at_ms: UnixMillis,
    pub source: String,
    pub outcome: Outcome,
    pub reason: Option<Rejected>,
    /// The source with the most similar name, for an unknown path.
    pub nearest: Option<String>,
    pub parameter: Option<String>,
    pub transaction: Option<String>,
    pub user: Option<String>,
    pub item: Option<String>,
    pub amount: Option<String>,
    pub thing: Thing,
    /// State of its deliveries.
    pub state: Option<EventState>,
    /// Whether its sender marks it as a test.
    pub is_test: bool,
    pub kind: Option<String>,
    pub effect: Option<Effect>,
    pub took: Option<Duration>,
    /// Subject of a manual resolution.
    pub subject: Option<Subject>,
}

/// The page of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Event(EventId),
    Rejection(HeldId),
    Nothing,
}

/// A page of lines, and the position of the next.
#[derive(Debug)]
pub(super) struct Lines {
    pub lines: Vec<Line>,
    pub next: Option<Position>,
}

/// A list, newest first: its lines with the position after each, and after all of them.
struct List<T> {
    from: Reach<T>,
    lines: VecDeque<(T, Line)>,
    to: Reach<T>,
}

impl<T: Clone> List<T> {
    fn ended() -> Self {
        Self { from: Reach::End, lines: VecDeque::new(), to: Reach::End }
    }

    fn newest(&self) -> Option<UnixMillis> {
        self.lines.front().map(|(_, line)| line.at_ms)
    }

    fn take(&mut self) -> Option<Line> {
        let (place, line) = self.lines.pop_front()?;
        self.from = Reach::To(place);
        Some(line)
    }

    /// The position after the shown lines.
    fn reach(self) -> Reach<T> {
        if self.lines.is_empty() { self.to } else { self.from }
    }
}

/// A read of a list.
struct Read {
    /// Where to begin; `None`: at the newest line.
    cursor: Option<Cursor>,
    /// The number of lines that the page lacks.
    missing: usize,
}

impl List<Cursor> {
    /// An empty list that is read from `from` on.
    fn reading(from: &Reach<Cursor>) -> Self {
        Self { from: from.clone(), lines: VecDeque::new(), to: from.clone() }
    }

    /// The next read for a page of `limit` lines. `None`: the page is full, or the list ends.
    fn next_read(&self, limit: usize) -> Option<Read> {
        let cursor = match &self.to {
            Reach::Begin => None,
            Reach::To(cursor) => Some(cursor.clone()),
            Reach::End => return None,
        };
        let missing = limit.saturating_sub(self.lines.len());
        (missing > 0).then_some(Read { cursor, missing })
    }
}

/// Finds at most `limit` callbacks that match `filter`, from `position` on.
pub(super) async fn find(
    console: &Console,
    filter: &Filter,
    position: &Position,
    limit: usize,
) -> Result<Lines, PageError> {
    let (mut transactions, mut users) = events(console, filter, position, limit).await?;
    let mut passed = passed(console, filter, &position.passed, limit);
    let mut rejected = rejected(console, filter, &position.rejected, limit).await?;
    let mut lines = Vec::new();
    let mut seen = HashSet::new();
    loop {
        let ages = [transactions.newest(), users.newest(), passed.newest(), rejected.newest()];
        let Some(newest) = ages.iter().flatten().max() else { break };
        // An event in two lists is next in both: it is removed from both, whatever the limit.
        let is_twin = |list: &List<Cursor>| {
            let next = list.lines.front().and_then(|(_, line)| line.event());
            next.is_some_and(|id| seen.contains(&id))
        };
        if is_twin(&transactions) {
            transactions.take();
            continue;
        }
        if is_twin(&users) {
            users.take();
            continue;
        }
        if lines.len() >= limit {
            break;
        }
        let next = match ages.iter().position(|age| age.as_ref() == Some(newest)) {
            Some(0) => transactions.take(),
            Some(1) => users.take(),
            Some(2) => passed.take(),
            _ => rejected.take(),
        };
        let Some(line) = next else { break };
        seen.extend(line.event().filter(|_| line.outcome == Outcome::Accepted));
        lines.push(line);
    }
    let next = Position {
        transactions: transactions.reach(),
        users: users.reach(),
        passed: passed.reach(),
        rejected: rejected.reach(),
    };
    Ok(Lines { lines, next: (!next.is_end()).then_some(next) })
}

/// Recorded events: of a transaction (or all), and of a user.
async fn events(
    console: &Console,
    filter: &Filter,
    position: &Position,
    limit: usize,
) -> Result<(List<Cursor>, List<Cursor>), PageError> {
    let Some(all) = filter.of_ledger(&console.config()) else {
        return Ok((List::ended(), List::ended()));
    };
    if let Some(destination) = &filter.destination {
        let of = delivered(console, filter, destination, &position.transactions, limit);
        return Ok((of.await?, List::ended()));
    }
    let Some(text) = filter.text.clone().filter(|_| filter.beginning().is_none()) else {
        let list = recorded(console, filter, &all, &position.transactions, limit).await?;
        return Ok((list, List::ended()));
    };
    if let Some(id) = filter.event() {
        return Ok((one(console, id, &all, &position.transactions).await?, List::ended()));
    }
    let by_transaction = LogQuery { transaction: Some(text.clone()), ..all.clone() };
    let by_user = LogQuery { user: Some(text), ..all };
    let transactions =
        recorded(console, filter, &by_transaction, &position.transactions, limit).await?;
    let users = recorded(console, filter, &by_user, &position.users, limit).await?;
    Ok((transactions, users))
}

async fn one(
    console: &Console,
    id: EventId,
    query: &LogQuery,
    from: &Reach<Cursor>,
) -> Result<List<Cursor>, PageError> {
    let mut list = List::ended();
    if *from == Reach::Begin
        && let Some(detail) = console.ledger().event(id).await?
        && query.source.as_ref().is_none_or(|source| *source == detail.event.source)
        && query.in_time(detail.event.received_ms)
    {
        list.lines.push_back((Cursor::after(id), Line::of_event(&detail.event)?));
        list.from = Reach::Begin;
    }
    Ok(list)
}

/// Events with an unsettled delivery to `destination`: pending ones, or dead ones.
async fn delivered(
    console: &Console,
    filter: &Filter,
    destination: &TargetId,
    from: &Reach<Cursor>,
    limit: usize,
) -> Result<List<Cursor>, PageError> {
    let state = match filter.state {
        Some(EventState::Dead) => DeliveryState::Dead,
        Some(EventState::Pending | EventState::Done) | None => DeliveryState::Pending,
    };
    let query = filter.of_ledger(&console.config()).unwrap_or_default();
    let among = query.source.iter().cloned().collect::<Arc<[SourceId]>>();
    let wanted = DeliveryQuery {
        target: Some(destination.clone()),
        among: Some(among).filter(|all| !all.is_empty()),
        ..DeliveryQuery::of(state)
    };
    let mut list = List::reading(from);
    let cursor = match from {
        Reach::Begin => None,
        Reach::To(cursor) => Some(cursor.clone()),
        Reach::End => return Ok(List::ended()),
    };
    let page = console.ledger().deliveries(&wanted, cursor.as_ref(), limit).await?;
    let ids: Vec<EventId> = page.deliveries.iter().map(|delivery| delivery.event).collect();
    let details = console.ledger().events(&ids).await?;
    for (delivery, detail) in page.deliveries.iter().zip(details) {
        let Some(detail) = detail else { continue };
        let line = Line::of_event(&detail.event)?;
        let is_wanted = query.in_time(detail.event.received_ms) && filter.is_about_line(&line);
        if is_wanted {
            list.lines.push_back((Cursor::behind(delivery), line));
        }
    }
    list.to = page.next.map_or(Reach::End, Reach::To);
    Ok(list)
}

async fn recorded(
    console: &Console,
    filter: &Filter,
    query: &LogQuery,
    from: &Reach<Cursor>,
    limit: usize,
) -> Result<List<Cursor>, PageError> {
    let mut list = List::reading(from);
    let is_scan = filter.beginning().is_some();
    for _ in 0..if is_scan { SCANS_MAX } else { ASKED_MAX } {
        let Some(Read { cursor, missing }) = list.next_read(limit) else { break };
        let asked = if is_scan { SCAN } else { missing };
        let page = console.ledger().query(query, cursor.as_ref(), asked).await?;
        list.to = page.next.map_or(Reach::End, Reach::To);
        for event in &page.events {
            if is_scan && !begins(filter, event)? {
                continue;
            }
            let line = Line::of_event(event)?;
            if list.lines.len() >= limit {
                // The rest of what was read belongs to the next page.
                list.to = list.lines.back().map_or(list.to, |(place, _)| Reach::To(place.clone()));
                break;
            }
            list.lines.push_back((Cursor::after(event.id), line));
        }
    }
    Ok(list)
}

/// Whether an event begins as wanted. Most of those that a scan examines do not.
fn begins(filter: &Filter, event: &Logged) -> Result<bool, PageError> {
    let corrupt = |_| LedgerError::Corrupt(event.id.to_string());
    let claims = EventBody::claims_of(&event.body).map_err(corrupt)?;
    Ok(filter.begins([Some(&claims.transaction), claims.user.as_deref()]))
}

fn passed(console: &Console, filter: &Filter, from: &Reach<u64>, limit: usize) -> List<u64> {
    let below = match from {
        Reach::Begin => None,
        Reach::To(number) => Some(*number),
        Reach::End => return List::ended(),
    };
    let recent = console.tools.callback_handler.recent();
    let wants =
        |one: &UnrecordedCallback| console.view().sees_passed(one) && filter.wants_passed(one);
    let (found, more) = recent.list(below, limit, wants);
    let to = found.last().filter(|_| more).map_or(Reach::End, |last| Reach::To(last.number));
    let lines = found.iter().map(|one| (one.number, Line::of_passed(one))).collect();
    List { from: from.clone(), lines, to }
}

/// Rejected callbacks of all gateways.
async fn rejected(
    console: &Console,
    filter: &Filter,
    from: &Reach<Cursor>,
    limit: usize,
) -> Result<List<Cursor>, PageError> {
    let Some(query) = filter.of_rejections(&console.config()) else { return Ok(List::ended()) };
    let mut list = List::reading(from);
    for _ in 0..ASKED_MAX {
        let Some(Read { cursor, missing }) = list.next_read(limit) else { break };
        let log = console.rejections();
        let (found, next) = log.list(&query, cursor.as_ref(), missing).await?;
        let wanted = found.iter().filter(|one| filter.wants_rejected(one));
        list.lines.extend(wanted.map(|one| (Cursor::after_held(one.id), Line::of_rejected(one))));
        list.to = next.map_or(Reach::End, Reach::To);
    }
    Ok(list)
}

impl Line {
    fn of_event(logged: &Logged) -> Result<Self, LedgerError> {
        let corrupt = || LedgerError::Corrupt(logged.id.to_string());
        let json = EventBody::json_of(&logged.body).map_err(|_| corrupt())?;
        let event: crate::ledger::Event<'_> =
            serde_json::from_slice(&json).map_err(|_| corrupt())?;
        let effect = event.effect();
        Ok(Self {
            at_ms: logged.received_ms,
            source: event.source.into_owned(),
            outcome: Outcome::Accepted,
            reason: None,
            nearest: None,
            parameter: None,
            transaction: Some(event.transaction.into_owned()),
            user: event.user.map(std::borrow::Cow::into_owned),
            item: event.item.map(std::borrow::Cow::into_owned),
            amount: event.amount.map(std::borrow::Cow::into_owned),
            thing: Thing::Event(logged.id),
            state: Some(logged.state),
            is_test: logged.test,
            effect,
            kind: Some(event.kind.into_owned()),
            took: None,
            subject: Some(Subject::Event(logged.id)),
        })
    }

    fn of_passed(one: &UnrecordedCallback) -> Self {
        Self {
            at_ms: one.at_ms,
            source: one.source.clone(),
            outcome: one.outcome,
            reason: None,
            nearest: None,
            parameter: None,
            transaction: one.transaction.clone(),
            user: one.user.clone(),
            item: None,
            amount: None,
            thing: match (one.outcome, one.event) {
                (Outcome::Duplicate | Outcome::Conflict | Outcome::Ambiguous, Some(first)) => {
                    Thing::Event(first)
                }
                _ => Thing::Nothing,
            },
            state: None,
            is_test: false,
            kind: None,
            effect: None,
            took: Some(one.took),
            subject: None,
        }
    }

    fn of_rejected(one: &Rejection) -> Self {
        Self {
            at_ms: one.at_ms,
            source: one.source.clone(),
            outcome: outcome_of(one),
            reason: Some(one.reason),
            nearest: one.nearest.clone(),
            parameter: one.parameter.clone(),
            transaction: one.transaction.clone(),
            user: one.user.clone(),
            item: None,
            amount: None,
            thing: Thing::Rejection(one.id),
            state: None,
            is_test: false,
            kind: None,
            effect: None,
            took: Some(one.took),
            subject: Some(Subject::rejection(&one.source, &one.request)),
        }
    }

    /// Whether its page is that of an earlier event.
    pub(super) fn is_repeated(&self) -> bool {
        self.outcome != Outcome::Accepted && matches!(self.thing, Thing::Event(_))
    }

    fn event(&self) -> Option<EventId> {
        match self.thing {
            Thing::Event(id) => Some(id),
            Thing::Rejection(_) | Thing::Nothing => None,
        }
    }
}
