//! Replays by filter: recorded events are delivered again, page by page, until none is left or an
//! operator cancels.
//!
//! An order has an id. The ledger makes no delivery twice for one id. The same order, given again
//! after a timeout or a restart, continues where it was and repeats nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Control;
use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{
    BatchedLedger, Cursor, Delivery, DeliveryQuery, DeliveryState, EventBody, EventId, LedgerError,
    LogQuery, Logged, ReplayId, ReplayOrder, ReplayPage, ReplayWhat, SourceId, TargetId,
};
use crate::orders::{
    Account, BeginError, OpenAccount, Order, OrderState, Orders, Outcome, Progress,
};

/// Events of one call to the ledger: each call costs a sync, and a cancelled order ends within one.
const PAGE: usize = 200;

/// Names of numbers in the account of an order.
const SEEN: &str = "seen";
const EVENTS: &str = "events";
const DELIVERIES: &str = "deliveries";

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

/// An order of this gateway, or one of any gateway that has an account.
#[derive(Clone, Debug)]
pub struct FoundReplay {
    /// Its progress.
    pub progress: ReplayProgress,
    /// The outcome of its deliveries so far; `None`: it makes none.
    pub outcome: Option<Outcome>,
    /// The place where its state is known.
    pub known: KnownBy,
}

/// The place where the state of an order is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// This process: the order was given to it.
    Process,
    /// The ledger: it was given to another gateway, or before a restart.
    Account,
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

impl ReplayProgress {
    /// The progress that the account of an order has.
    fn of(id: ReplayId, account: &Account) -> Self {
        Self {
            id,
            at_ms: account.at_ms,
            mode: ReplayMode::Deliver,
            among: account.among.as_deref().map(Arc::from),
            state: account.state(now_ms()),
            seen: account.number(SEEN),
            of: None,
            events: account.number(EVENTS),
            deliveries: account.number(DELIVERIES),
        }
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

    /// An order, with the outcome of its deliveries so far.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn find(&self, id: ReplayId) -> Result<Option<FoundReplay>, LedgerError> {
        let (account, outcome) = Account::with_outcome(&self.ledger, id).await?.unzip();
        let there = account.as_ref().map(|account| ReplayProgress::of(id, account));
        let Some(here) = self.orders.progress(id) else {
            let known = KnownBy::Account;
            return Ok(there.map(|progress| FoundReplay { progress, outcome, known }));
        };
        let ran_here = here.state == OrderState::Running;
        let progress = here.or_account(there);
        let known = match progress.state {
            OrderState::Running if !ran_here => KnownBy::Account,
            _ => KnownBy::Process,
        };
        Ok(Some(FoundReplay { progress, outcome, known }))
    }

    /// The progress of the latest orders, those of other gateways included, the latest first.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn latest(&self, limit: usize) -> Result<Vec<ReplayProgress>, LedgerError> {
        let mut all = self.orders.all();
        for (id, account) in Account::latest(&self.ledger, limit).await? {
            let there = ReplayProgress::of(id, &account);
            match all.iter_mut().find(|known| known.id == id) {
                Some(known) => *known = known.clone().or_account(Some(there)),
                None => all.push(there),
            }
        }
        all.sort_by_key(|progress| std::cmp::Reverse((progress.at_ms, *progress.id.as_bytes())));
        all.truncate(limit);
        Ok(all)
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
        let _failed = self.or_failed();
        let worked = match self.filter.mode {
            ReplayMode::Deliver => self.run_with_account(ledger, control).await,
            ReplayMode::DryRun => {
                let mut work = ReplayWork { order: self, ledger, control, account: None };
                work.replay().await
            }
        };
        let state = self.state_after(worked);
        let ReplayProgress { events, deliveries, .. } = self.progress();
        tracing::info!(state = state.as_str(), events, deliveries, "replay ended");
        self.end(state);
    }

    async fn run_with_account(
        &self,
        ledger: &BatchedLedger,
        control: &Control,
    ) -> Result<(), LedgerError> {
        let ReplayProgress { id, at_ms, among, .. } = self.progress();
        let account = OpenAccount::begin(ledger, id, Account::new(at_ms, among.as_deref())).await?;
        let mut work = ReplayWork { order: self, ledger, control, account: Some(account) };
        let worked = work.replay().await;
        work.save(&self.state_after(worked.clone())).await?;
        worked
    }

    fn expect(&self, of: Option<u64>) {
        self.note(|progress| progress.of = of);
    }

    fn note_page(&self, seen: u64, page: &ReplayPage) {
        self.note(|progress| {
            progress.seen += seen;
            progress.events += page.events;
            progress.deliveries += page.deliveries;
        });
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
        let Ok(claims) = EventBody::claims_of(&body) else { return Ok(false) };
        Ok(log.is_of(source.as_str())
            && log.transaction.as_ref().is_none_or(|wanted| *wanted == claims.transaction)
            && (log.user.is_none() || log.user.as_deref() == claims.user.as_deref())
            && log.test.is_none_or(|wanted| wanted == test)
            && log.in_time(received_ms))
    }
}

/// An order at work.
struct ReplayWork<'w> {
    order: &'w ReplayRun,
    ledger: &'w BatchedLedger,
    control: &'w Control,
    /// `None`: a dry run.
    account: Option<OpenAccount<'w, ReplayId>>,
}

impl<'w> ReplayWork<'w> {
    async fn replay(&mut self) -> Result<(), LedgerError> {
        match self.order.filter.state {
            _ if !self.order.filter.events.is_empty() => self.replay_named().await,
            Some(state @ (DeliveryState::Dead | DeliveryState::Pending)) => {
                self.replay_listed(state).await
            }
            Some(DeliveryState::Done) | None => self.replay_found().await,
        }
    }

    async fn note_page(&mut self, seen: u64, page: &ReplayPage) -> Result<(), LedgerError> {
        self.order.note_page(seen, page);
        match self.counted() {
            Some(open) => open.save_progress().await,
            None => Ok(()),
        }
    }

    async fn save(&mut self, state: &OrderState) -> Result<(), LedgerError> {
        match self.counted() {
            Some(open) => open.save(state).await,
            None => Ok(()),
        }
    }

    /// The account, with the numbers of now.
    fn counted(&mut self) -> Option<&mut OpenAccount<'w, ReplayId>> {
        let open = self.account.as_mut()?;
        let ReplayProgress { seen, events, deliveries, .. } = self.order.progress();
        let numbers = [(SEEN, seen), (EVENTS, events), (DELIVERIES, deliveries)];
        open.count(numbers.map(|(name, number)| (name.to_owned(), number)).into());
        Some(open)
    }

    /// Makes new deliveries of `events` to `targets`, or to all their destinations.
    async fn make(
        &mut self,
        events: Vec<EventId>,
        targets: Option<Vec<TargetId>>,
    ) -> Result<ReplayPage, LedgerError> {
        if self.order.filter.mode == ReplayMode::DryRun {
            return count_deliveries(self.ledger, &events, targets.as_deref()).await;
        }
        let id = self.order.id();
        let limit = events.len();
        let order = ReplayOrder { id, what: ReplayWhat::Events(events), targets };
        let page = self.ledger.replay(&order, None, limit).await?;
        if let (Some(open), ReplayWhat::Events(events)) = (&mut self.account, &order.what) {
            open.add(events, order.targets.as_deref());
        }
        // A manual replay is a probe.
        self.control.probe(order.targets);
        Ok(page)
    }

    /// The same, where the filter selects among the deliveries of each event.
    async fn make_chosen(&mut self, events: Vec<EventId>) -> Result<ReplayPage, LedgerError> {
        let ReplayFilter { state, target, .. } = &self.order.filter;
        if state.is_none() && target.is_none() {
            return self.make(events, None).await;
        }
        let mut all = ReplayPage::default();
        for event in events {
            let Some(detail) = self.ledger.event(event).await? else { continue };
            let chosen = detail.deliveries.into_iter().filter(|delivery| {
                state.is_none_or(|state| state == delivery.state)
                    && target.as_ref().is_none_or(|only| *only == delivery.target)
            });
            let targets: Vec<TargetId> = chosen.map(|delivery| delivery.target).collect();
            if targets.is_empty() {
                continue;
            }
            let page = self.make(vec![event], Some(targets)).await?;
            all.events += page.events;
            all.deliveries += page.deliveries;
        }
        Ok(all)
    }

    /// Replays the events whose ids were given.
    async fn replay_named(&mut self) -> Result<(), LedgerError> {
        self.order.expect(u64::try_from(self.order.filter.events.len()).ok());
        for ids in self.order.filter.events.chunks(PAGE) {
            if self.order.is_cancelled() {
                break;
            }
            let mut wanted = Vec::with_capacity(ids.len());
            for id in ids {
                if self.order.is_wanted(*id, self.ledger).await? {
                    wanted.push(*id);
                }
            }
            let page = self.make_chosen(wanted).await?;
            self.note_page(ids.len() as u64, &page).await?;
        }
        Ok(())
    }

    /// Replays the events that the query finds, delivered or not.
    async fn replay_found(&mut self) -> Result<(), LedgerError> {
        let mut cursor: Option<Cursor> = None;
        while !self.order.is_cancelled() {
            let found = self.ledger.query(&self.order.filter.log, cursor.as_ref(), PAGE).await?;
            let ids: Vec<EventId> = found.events.iter().map(|event| event.id).collect();
            let seen = ids.len() as u64;
            let page = self.make_chosen(ids).await?;
            self.note_page(seen, &page).await?;
            cursor = found.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Replays dead or pending deliveries: the ledger lists them by destination, and they are few
    /// compared with all events.
    async fn replay_listed(&mut self, state: DeliveryState) -> Result<(), LedgerError> {
        self.order.expect(self.order.count(state, self.ledger).await?);
        let target = self.order.filter.target.clone();
        let query = DeliveryQuery { target, ..DeliveryQuery::of(state) };
        let mut cursor: Option<Cursor> = None;
        while !self.order.is_cancelled() {
            let page = self.ledger.deliveries(&query, cursor.as_ref(), PAGE).await?;
            let listed = page.deliveries.len() as u64;
            let mut made = ReplayPage::default();
            let wanted = self.order.by_target(page.deliveries, self.ledger).await?;
            // A viewer of some sources gets no totals of the others.
            let seen = match self.order.filter.log.among {
                None => listed,
                Some(_) => wanted.values().map(|events| events.len() as u64).sum(),
            };
            for (target, events) in wanted {
                let one = self.make(events, Some(vec![target])).await?;
                made.events += one.events;
                made.deliveries += one.deliveries;
            }
            self.note_page(seen, &made).await?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
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
