//! Replays by filter: recorded events are delivered again, page by page, until none is left or an
//! operator cancels.
//!
//! An order has an id. The ledger makes no delivery twice for one id. The same order, given again
//! after a timeout or a restart, continues where it was and repeats nothing.

mod work;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use self::work::ReplayWork;
use super::Control;
use crate::clock::{UnixMillis, now_ms};
use crate::ledger::{
    BatchedLedger, Delivery, DeliveryState, EventBody, EventId, LedgerError, LogQuery, Logged,
    ReplayId, ReplayPage, SourceId, TargetId,
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
const SKIPPED: &str = "skipped";

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
    /// Deliveries that are skipped: the configuration does not have their destinations. An order
    /// that is given again counts them again from zero.
    pub skipped: u64,
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
    #[error(
        "this id belongs to a replay of other events; use another id, or the filter that the audit \
         log has (a duration such as 2h is another time now)"
    )]
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

impl ReplayFilter {
    /// A digest of the selection, for the account of its order.
    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in self.criteria() {
            // The length says where the value ends.
            hash.update(format!("{name} {} {value} ", value.len()));
        }
        const_hex::encode(hash.finalize())
    }

    /// The criteria that are given, by name. One that is not given is left out, so a later version
    /// with more of them has the same digests. The mode is left out: a dry run has no account.
    fn criteria(&self) -> Vec<(&'static str, String)> {
        let Self { events, log, state, target, mode: _ } = self;
        let LogQuery { source, among, transaction, user, state: _, test, since_ms, until_ms } = log;
        let all = [
            ("state", state.map(|state| state.as_str().to_owned())),
            ("destination", target.as_ref().map(TargetId::to_string)),
            ("source", source.as_ref().map(SourceId::to_string)),
            ("transaction", transaction.clone()),
            ("user", user.clone()),
            ("test", test.map(|test| test.to_string())),
            ("since", since_ms.map(|ms| ms.to_string())),
            ("until", until_ms.map(|ms| ms.to_string())),
            // No source at all is not all sources.
            ("among", among.as_ref().map(|all| all.len().to_string())),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let sources = among.iter().flat_map(|all| all.iter()).map(|id| ("one of", id.to_string()));
        let events = events.iter().map(|id| ("event", id.to_string()));
        given.chain(sources).chain(events).collect()
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
            skipped: account.number(SKIPPED),
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

    /// Checks that the order `id`, if it has an account, is one for `filter`: another gateway may
    /// have begun it, or this one before a restart. The inner error says that it is not.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn check(
        &self,
        id: ReplayId,
        filter: &ReplayFilter,
    ) -> Result<Result<(), ReplayOrderError>, LedgerError> {
        let account = Account::find(&self.ledger, id).await?;
        let digest = filter.digest();
        Ok(match account.is_none_or(|account| account.accepts(Some(&digest))) {
            true => Ok(()),
            false => Err(ReplayOrderError::Other),
        })
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
        let (seen, of, events, deliveries, skipped) = (0, None, 0, 0, 0);
        let (mode, among) = (filter.mode, filter.log.among.clone());
        let progress =
            ReplayProgress { id, at_ms, mode, among, state, seen, of, events, deliveries, skipped };
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
            ReplayMode::DryRun => ReplayWork::new(self, ledger, control).replay().await,
        };
        let state = self.state_after(worked);
        let ReplayProgress { events, deliveries, skipped, .. } = self.progress();
        tracing::info!(state = state.as_str(), events, deliveries, skipped, "replay ended");
        self.end(state);
    }

    async fn run_with_account(
        &self,
        ledger: &BatchedLedger,
        control: &Control,
    ) -> Result<(), LedgerError> {
        let ReplayProgress { id, at_ms, among, .. } = self.progress();
        let new = Account::new(at_ms, among.as_deref()).of_filter(self.filter.digest());
        let account = OpenAccount::begin(ledger, id, new).await?;
        let mut work = ReplayWork::new(self, ledger, control).with_account(account);
        let worked = work.replay().await;
        work.save(&self.state_after(worked.clone())).await?;
        worked
    }

    fn expect(&self, of: Option<u64>) {
        self.note(|progress| progress.of = of);
    }

    /// Notes a page. An order that is given again may not have read yet as much as before.
    fn note_page(&self, read: u64, skipped: u64, page: &ReplayPage) {
        self.note(|progress| {
            progress.seen = progress.seen.max(read);
            progress.skipped = skipped;
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
