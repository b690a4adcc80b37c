//! Replays by filter: recorded events are delivered again, page by page, until none is left or an
//! operator cancels.
//!
//! An order has an id. The ledger makes no delivery twice for one id. The same order, given again
//! after a timeout or a restart, continues where it was and repeats nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Control;
use crate::clock::UnixMillis;
use crate::ledger::{
    BatchedLedger, Cursor, Delivery, DeliveryQuery, DeliveryState, EventId, LedgerError, LogQuery,
    Logged, ReplayId, ReplayOrder, ReplayPage, ReplayWhat, SourceId, TargetId,
};
use crate::orders::{BeginError, Order, OrderState, Orders, Progress};

/// Events of one call to the ledger: each call costs a sync, and a cancelled order ends within one.
const PAGE: usize = 200;

/// Which events are delivered again, and to which destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayFilter {
    /// Only these events.
    pub events: Vec<EventId>,
    /// The events that this query finds. Its `state` is ignored.
    pub log: LogQuery,
    /// Only deliveries in this state; `None`: to every destination of an event.
    pub state: Option<DeliveryState>,
    /// Only to this destination.
    pub target: Option<TargetId>,
    /// Whether deliveries are made.
    pub mode: ReplayMode,
}

/// Whether an order makes deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayMode {
    /// Deliveries are made.
    #[default]
    Deliver,
    /// The deliveries that would be made are counted.
    DryRun,
}

/// The progress of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayProgress {
    /// The order.
    pub id: ReplayId,
    /// When it was given.
    pub at_ms: UnixMillis,
    /// Whether it makes deliveries.
    pub mode: ReplayMode,
    /// The sources that it was ordered for; `None`: all.
    pub among: Option<Arc<[SourceId]>>,
    /// Its state.
    pub state: OrderState,
    /// Events read so far.
    pub seen: u64,
    /// The number of events to read, if known.
    pub of: Option<u64>,
    /// Events with new deliveries.
    pub events: u64,
    /// New deliveries.
    pub deliveries: u64,
}

/// Why an order is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayOrderError {
    /// The id is that of an order for other events.
    #[error("this id belongs to a replay of other events; use another id")]
    Other,
    /// Too many orders are running.
    #[error("four replays are running; wait for one, or cancel it")]
    Busy,
}

/// All orders of this process.
#[derive(Clone, Debug)]
pub struct Replays {
    ledger: BatchedLedger,
    control: Control,
    orders: Orders<ReplayFilter, ReplayProgress>,
}

type ReplayRun = Order<ReplayFilter, ReplayProgress>;

impl Progress for ReplayProgress {
    type Id = ReplayId;

    fn id(&self) -> ReplayId {
        self.id
    }

    fn state(&self) -> &OrderState {
        &self.state
    }

    fn set_state(&mut self, state: OrderState) {
        self.state = state;
    }
}

impl From<BeginError> for ReplayOrderError {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Other => Self::Other,
            BeginError::Busy => Self::Busy,
        }
    }
}

// === Orders ===

impl Replays {
    /// No orders yet.
    #[must_use]
    pub fn new(ledger: BatchedLedger, control: Control) -> Self {
        Self { ledger, control, orders: Orders::default() }
    }

    /// Begins an order, or finds the one of that id: a running order continues, an incomplete one
    /// begins again. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the id is that of another order, or too many are running.
    pub fn begin(
        &self,
        id: ReplayId,
        filter: ReplayFilter,
        at_ms: UnixMillis,
    ) -> Result<(), ReplayOrderError> {
        let state = OrderState::Running;
        let (seen, of, events, deliveries) = (0, None, 0, 0);
        let (mode, among) = (filter.mode, filter.log.among.clone());
        let progress =
            ReplayProgress { id, at_ms, mode, among, state, seen, of, events, deliveries };
        if let Some(order) = self.orders.begin(filter, progress)? {
            let (ledger, control) = (self.ledger.clone(), self.control.clone());
            tokio::spawn(async move { order.run(&ledger, &control).await });
        }
        Ok(())
    }

    /// The progress of an order; `None`: the id is unknown or forgotten.
    #[must_use]
    pub fn progress(&self, id: ReplayId) -> Option<ReplayProgress> {
        self.orders.progress(id)
    }

    /// The progress of every remembered order, the latest first.
    #[must_use]
    pub fn all(&self) -> Vec<ReplayProgress> {
        self.orders.all()
    }

    /// The progress of an order when it has ended or after `wait`.
    pub async fn ended(&self, id: ReplayId, wait: Duration) -> Option<ReplayProgress> {
        self.orders.ended(id, wait).await
    }

    /// Cancels an order, which ends with its present page; `None`: the id is unknown.
    pub async fn cancel(&self, id: ReplayId) -> Option<ReplayProgress> {
        self.orders.cancel(id).await
    }
}

// === One order ===

impl ReplayRun {
    async fn run(&self, ledger: &BatchedLedger, control: &Control) {
        let worked = match self.filter.state {
            _ if !self.filter.events.is_empty() => self.replay_named(ledger, control).await,
            Some(state @ (DeliveryState::Dead | DeliveryState::Pending)) => {
                self.replay_listed(state, ledger, control).await
            }
            Some(DeliveryState::Done) | None => self.replay_found(ledger, control).await,
        };
        let state = self.state_after(worked);
        let ReplayProgress { events, deliveries, .. } = self.progress();
        tracing::info!(state = state.as_str(), events, deliveries, "replay ended");
        self.end(state);
    }

    fn note_page(&self, seen: u64, page: &ReplayPage) {
        self.note(|progress| {
            progress.seen += seen;
            progress.events += page.events;
            progress.deliveries += page.deliveries;
        });
    }

    fn expect(&self, of: Option<u64>) {
        self.note(|progress| progress.of = of);
    }

    /// Makes new deliveries of `events` to `targets`, or to all their destinations.
    async fn make(
        &self,
        ledger: &BatchedLedger,
        control: &Control,
        events: Vec<EventId>,
        targets: Option<Vec<TargetId>>,
    ) -> Result<ReplayPage, LedgerError> {
        if self.filter.mode == ReplayMode::DryRun {
            return count_deliveries(ledger, &events, targets.as_deref()).await;
        }
        let id = self.id();
        let limit = events.len();
        let order = ReplayOrder { id, what: ReplayWhat::Events(events), targets };
        let page = ledger.replay(&order, None, limit).await?;
        // A manual replay is a probe.
        control.probe(order.targets);
        Ok(page)
    }

    /// The same, where the filter selects among the deliveries of each event.
    async fn make_chosen(
        &self,
        ledger: &BatchedLedger,
        control: &Control,
        events: Vec<EventId>,
    ) -> Result<ReplayPage, LedgerError> {
        let ReplayFilter { state, target, .. } = &self.filter;
        if state.is_none() && target.is_none() {
            return self.make(ledger, control, events, None).await;
        }
        let mut all = ReplayPage::default();
        for event in events {
            let Some(detail) = ledger.event(event).await? else { continue };
            let chosen = detail.deliveries.into_iter().filter(|delivery| {
                state.is_none_or(|state| state == delivery.state)
                    && target.as_ref().is_none_or(|only| *only == delivery.target)
            });
            let targets: Vec<TargetId> = chosen.map(|delivery| delivery.target).collect();
            if targets.is_empty() {
                continue;
            }
            let page = self.make(ledger, control, vec![event], Some(targets)).await?;
            all.events += page.events;
            all.deliveries += page.deliveries;
        }
        Ok(all)
    }

    /// Replays the events whose ids were given.
    async fn replay_named(
        &self,
        ledger: &BatchedLedger,
        control: &Control,
    ) -> Result<(), LedgerError> {
        self.expect(u64::try_from(self.filter.events.len()).ok());
        for ids in self.filter.events.chunks(PAGE) {
            if self.is_cancelled() {
                break;
            }
            let mut wanted = Vec::with_capacity(ids.len());
            for id in ids {
                if self.is_wanted(*id, ledger).await? {
                    wanted.push(*id);
                }
            }
            let page = self.make_chosen(ledger, control, wanted).await?;
            self.note_page(ids.len() as u64, &page);
        }
        Ok(())
    }

    /// Replays the events that the query finds, delivered or not.
    async fn replay_found(
        &self,
        ledger: &BatchedLedger,
        control: &Control,
    ) -> Result<(), LedgerError> {
        let mut cursor: Option<Cursor> = None;
        while !self.is_cancelled() {
            let found = ledger.query(&self.filter.log, cursor.as_ref(), PAGE).await?;
            let ids: Vec<EventId> = found.events.iter().map(|event| event.id).collect();
            let seen = ids.len() as u64;
            let page = self.make_chosen(ledger, control, ids).await?;
            self.note_page(seen, &page);
            cursor = found.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Replays dead or pending deliveries: the ledger lists them by destination, and they are few
    /// compared with all events.
    async fn replay_listed(
        &self,
        state: DeliveryState,
        ledger: &BatchedLedger,
        control: &Control,
    ) -> Result<(), LedgerError> {
        self.expect(self.count(state, ledger).await?);
        let query = DeliveryQuery { state, target: self.filter.target.clone() };
        let mut cursor: Option<Cursor> = None;
        while !self.is_cancelled() {
            let page = ledger.deliveries(&query, cursor.as_ref(), PAGE).await?;
            let listed = page.deliveries.len() as u64;
            let mut made = ReplayPage::default();
            let wanted = self.by_target(page.deliveries, ledger).await?;
            // A viewer of some sources gets no totals of the others.
            let seen = match self.filter.log.among {
                None => listed,
                Some(_) => wanted.values().map(|events| events.len() as u64).sum(),
            };
            for (target, events) in wanted {
                let one = self.make(ledger, control, events, Some(vec![target])).await?;
                made.events += one.events;
                made.deliveries += one.deliveries;
            }
            self.note_page(seen, &made);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn count(
        &self,
        state: DeliveryState,
        ledger: &BatchedLedger,
    ) -> Result<Option<u64>, LedgerError> {
        if self.filter.log.among.is_some() {
            return Ok(None);
        }
        let stats = ledger.stats().await?;
        let wanted = |name: &TargetId| self.filter.target.as_ref().is_none_or(|only| only == name);
        let targets = stats.targets.iter().filter(|stats| wanted(&stats.target));
        Ok(match state {
            DeliveryState::Dead => Some(targets.map(|stats| stats.dead).sum()),
            DeliveryState::Pending => Some(targets.map(|stats| stats.pending).sum()),
            DeliveryState::Done => None,
        })
    }

    async fn by_target(
        &self,
        deliveries: Vec<Delivery>,
        ledger: &BatchedLedger,
    ) -> Result<BTreeMap<TargetId, Vec<EventId>>, LedgerError> {
        let mut events: BTreeMap<TargetId, Vec<EventId>> = BTreeMap::new();
        for Delivery { event, target, .. } in deliveries {
            if self.is_wanted(event, ledger).await? {
                events.entry(target).or_default().push(event);
            }
        }
        Ok(events)
    }

    /// Whether the filter finds an event. The event is read only where its id does not decide.
    async fn is_wanted(&self, event: EventId, ledger: &BatchedLedger) -> Result<bool, LedgerError> {
        let log = &self.filter.log;
        if *log == LogQuery::default() {
            return Ok(true);
        }
        let narrow =
            LogQuery { since_ms: log.since_ms, until_ms: log.until_ms, ..LogQuery::default() };
        if *log == narrow {
            return Ok(log.in_time(event.ms()));
        }
        let Some(detail) = ledger.event(event).await? else { return Ok(false) };
        let Logged { source, received_ms, test, body, .. } = detail.event;
        let said = crate::ledger::EventBody::decode(&body).and_then(|body| {
            let event = body.event()?;
            let transaction = event.transaction.into_owned();
            Ok((transaction, event.user.map(std::borrow::Cow::into_owned)))
        });
        let Ok((transaction, user)) = said else { return Ok(false) };
        Ok(log.is_of(source.as_str())
            && log.transaction.as_ref().is_none_or(|wanted| *wanted == transaction)
            && (log.user.is_none() || log.user == user)
            && log.test.is_none_or(|wanted| wanted == test)
            && log.in_time(received_ms))
    }
}

/// The deliveries that a replay of `events` to `targets`, or to all their destinations, would make.
async fn count_deliveries(
    ledger: &BatchedLedger,
    events: &[EventId],
    targets: Option<&[TargetId]>,
) -> Result<ReplayPage, LedgerError> {
    let mut page = ReplayPage::default();
    for event in events {
        let Some(detail) = ledger.event(*event).await? else { continue };
        let wanted =
            |name: &TargetId| targets.is_none_or(|targets| targets.iter().any(|one| one == name));
        let count = detail.deliveries.iter().filter(|one| wanted(&one.target)).count() as u64;
        page.events += u64::from(count > 0);
        page.deliveries += count;
    }
    Ok(page)
}
