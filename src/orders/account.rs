//! Accounts of orders: which deliveries an order made, kept in the ledger. So the outcome of an
//! order can be counted at any time, on every gateway, and after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::OrderState;
use crate::clock::{UnixMillis, instant, now_ms};
use crate::ledger::{
    BatchedLedger, DeliveryCounts, Document, DocumentChange, DocumentQuery, EventId, Expect, Kind,
    LedgerError, ReleaseId, ReplayId, Revision, SourceId, TargetId,
};

/// Events of an account: 400 kB of ids. Further ones are only counted.
const EVENTS_MAX: usize = 10_000;

/// The interval of writes while an order makes progress: each one writes all its ids.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// New events that are written at once: a crash loses no more of them.
const UNWRITTEN_MAX: usize = 1_000;

/// An order that runs and has not written for so long is interrupted. The slowest page of
/// a working one takes seconds. It includes the difference between the clocks of two gateways.
const SILENT_MS: i64 = 60_000;

/// Accounts of one kind that are kept. Those of usual orders are a few kB each.
const KEPT_MAX: usize = 50;

/// The actor of an account: the audit log has the operator.
const ACTOR: &str = "postern";

/// Writes of an account that another gateway writes too, because it was given the same order.
const TRIES: usize = 4;

/// The id of an order that has an account.
pub trait AccountId: Copy + Display + FromStr {
    /// The kind of the documents.
    const KIND: Kind;
}

impl AccountId for ReplayId {
    const KIND: Kind = Kind::new("replay_account");
}

impl AccountId for ReleaseId {
    const KIND: Kind = Kind::new("release_account");
}

/// The account of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// When it was given.
    pub at_ms: UnixMillis,
    /// The sources that it was given for; `None`: all.
    pub among: Option<Vec<SourceId>>,
    /// Its numbers, by name.
    pub numbers: BTreeMap<String, u64>,
    /// Events beyond the 10,000 that an account holds.
    pub further: u64,
    /// A digest of the filter; `None`: the order has none, or an earlier version began it.
    filter: Option<String>,
    /// When it was last written.
    written_ms: UnixMillis,
    /// The events, by the destinations that they go to; `None`: all that each event has.
    made: BTreeMap<Option<Vec<TargetId>>, BTreeSet<EventId>>,
    state: String,
}

/// An account in the ledger.
#[derive(Deserialize, Serialize)]
struct Written {
    at_ms: UnixMillis,
    among: Option<Vec<String>>,
    numbers: BTreeMap<String, u64>,
    further: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    made: Vec<Made>,
    state: String,
}

#[derive(Deserialize, Serialize)]
struct Made {
    to: Option<Vec<String>>,
    events: Vec<EventId>,
}

/// The deliveries of an order by their present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The deliveries by state.
    pub counts: DeliveryCounts,
    /// Events that are not among them, because the order has too many.
    pub further: u64,
}

/// An account that an order writes while it runs.
#[derive(Debug)]
pub struct OpenAccount<'l, I> {
    ledger: &'l BatchedLedger,
    id: I,
    expect: Expect,
    written: Instant,
    /// Events since then.
    unwritten: usize,
    /// Its content.
    account: Account,
}

impl Account {
    /// The account of an order that has done nothing yet.
    #[must_use]
    pub fn new(at_ms: UnixMillis, among: Option<&[SourceId]>) -> Self {
        let state = OrderState::Running.as_str().to_owned();
        let among = among.map(<[_]>::to_vec);
        Self { at_ms, among, written_ms: now_ms(), state, ..Self::default() }
    }

    /// The same, for the filter with this digest.
    #[must_use]
    pub fn of_filter(self, digest: String) -> Self {
        Self { filter: Some(digest), ..self }
    }

    /// Whether it is of an order for the filter with this digest; `None`: any filter. An account
    /// without a digest accepts any filter.
    #[must_use]
    pub fn accepts(&self, digest: Option<&str>) -> bool {
        self.filter.as_deref().zip(digest).is_none_or(|(own, other)| own == other)
    }

    /// Adds deliveries of `events` to `targets`, or to all their destinations.
    fn add(&mut self, events: &[EventId], targets: Option<&[TargetId]>) {
        // An earlier version did not name the destinations of events that went to all of theirs.
        let whole = self.made.get(&None);
        let is_known = |event: &EventId| whole.is_some_and(|made| made.contains(event));
        let events: Vec<EventId> =
            events.iter().copied().filter(|event| !is_known(event)).collect();
        let mut room = EVENTS_MAX.saturating_sub(self.made.values().map(BTreeSet::len).sum());
        let made = self.made.entry(targets.map(<[_]>::to_vec)).or_default();
        for event in events {
            if made.contains(&event) {
                continue;
            }
            if room == 0 {
                self.further += 1;
                continue;
            }
            room -= 1;
            made.insert(event);
        }
    }

    /// The state of the order at this time. The error of a failed one is not kept.
    #[must_use]
    pub fn state(&self, now_ms: UnixMillis) -> OrderState {
        let all = [OrderState::Running, OrderState::Done, OrderState::Cancelled];
        match all.into_iter().find(|state| state.as_str() == self.state) {
            Some(OrderState::Running) if now_ms - self.written_ms > SILENT_MS => {
                OrderState::Interrupted
            }
            known => known.unwrap_or(OrderState::Failed(LedgerError::Unknown)),
        }
    }

    /// A number of the account.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// Counts the deliveries by their present state.
    async fn outcome(&self, ledger: &BatchedLedger) -> Result<Outcome, LedgerError> {
        let mut counts = DeliveryCounts::default();
        for (targets, events) in &self.made {
            let events: Vec<EventId> = events.iter().copied().collect();
            counts.add(ledger.count_deliveries(&events, targets.as_deref()).await?);
        }
        Ok(Outcome { counts, further: self.further })
    }

    /// The account of an order, if it is kept, with the outcome of its deliveries so far.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn with_outcome<I: AccountId>(
        ledger: &BatchedLedger,
        id: I,
    ) -> Result<Option<(Self, Outcome)>, LedgerError> {
        let Some(account) = Self::find(ledger, id).await? else { return Ok(None) };
        let outcome = account.outcome(ledger).await?;
        Ok(Some((account, outcome)))
    }

    /// The account of an order, if it is kept.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn find<I: AccountId>(
        ledger: &BatchedLedger,
        id: I,
    ) -> Result<Option<Self>, LedgerError> {
        let document = ledger.document(I::KIND, &id.to_string()).await?;
        document.as_ref().map(Self::read).transpose()
    }

    /// The latest accounts.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn latest<I: AccountId>(
        ledger: &BatchedLedger,
        limit: usize,
    ) -> Result<Vec<(I, Self)>, LedgerError> {
        let documents = ledger.latest_documents(&DocumentQuery::of(I::KIND), limit).await?;
        let known = documents.iter().filter_map(|one| Some((one.id.parse().ok()?, one)));
        known.map(|(id, document)| Ok((id, Self::read(document)?))).collect()
    }

    fn read(document: &Document) -> Result<Self, LedgerError> {
        let written: Written = serde_json::from_slice(&document.body)
            .map_err(|_| LedgerError::Corrupt(format!("the account {}", document.id)))?;
        let Written { at_ms, among, numbers, further, filter, made, state } = written;
        let among =
            among.map(|names| names.iter().map(|name| SourceId::from(name.as_str())).collect());
        let made = made.into_iter().map(|Made { to, events }| {
            let to = to.map(|all| all.iter().map(|name| TargetId::from(name.as_str())).collect());
            (to, events.into_iter().collect())
        });
        let (made, written_ms) = (made.collect(), document.at_ms);
        Ok(Self { at_ms, among, numbers, further, filter, written_ms, made, state })
    }

    fn written(&self) -> Result<Bytes, LedgerError> {
        let made = self.made.iter().map(|(to, events)| Made {
            to: to.as_ref().map(|all| all.iter().map(|one| one.as_str().to_owned()).collect()),
            events: events.iter().copied().collect(),
        });
        let among = self.among.as_ref();
        let written = Written {
            at_ms: self.at_ms,
            among: among.map(|all| all.iter().map(|one| one.as_str().to_owned()).collect()),
            numbers: self.numbers.clone(),
            further: self.further,
            filter: self.filter.clone(),
            made: made.collect(),
            state: self.state.clone(),
        };
        let body = serde_json::to_vec(&written);
        body.map(Bytes::from).map_err(|error| LedgerError::Corrupt(error.to_string()))
    }
}

impl<'l, I: AccountId> OpenAccount<'l, I> {
    /// Begins the account of an order in place of the oldest one. An order that is given again
    /// continues its account.
    ///
    /// # Errors
    /// The ledger fails, or its account is of an order for another filter: a
    /// [`LedgerError::Conflict`].
    pub async fn begin(
        ledger: &'l BatchedLedger,
        id: I,
        new: Account,
    ) -> Result<Self, LedgerError> {
        let known = ledger.document(I::KIND, &id.to_string()).await?;
        let (expect, account) = match &known {
            None => (Expect::Absent, new),
            // It continues. Further events have no ids here: those that are found again count again.
            Some(known) => {
                let earlier = Account::read(known)?;
                check_filter(&earlier, &new, known.version)?;
                let filter = earlier.filter.clone().or(new.filter);
                (Expect::Version(known.version), Account { further: 0, filter, ..earlier })
            }
        };
        let mut open = Self { ledger, id, expect, written: instant(), unwritten: 0, account };
        if known.is_none() {
            open.make_room().await?;
        }
        open.save(&OrderState::Running).await?;
        Ok(open)
    }

    /// Adds deliveries of `events` to `targets`, or to all their destinations.
    pub fn add(&mut self, events: &[EventId], targets: Option<&[TargetId]>) {
        self.account.add(events, targets);
        self.unwritten += events.len();
    }

    /// A number of the account: of an order that is given again, what it had counted before.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.account.number(name)
    }

    /// Notes the numbers of the order, by name.
    pub fn count(&mut self, numbers: BTreeMap<String, u64>) {
        self.account.numbers = numbers;
    }

    /// Writes the account of an order that goes on, if that is due: every two seconds, or after a
    /// thousand events. What a crash loses of it is not in the outcome; the deliveries are made.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn save_progress(&mut self) -> Result<(), LedgerError> {
        match self.written.elapsed() < WRITE_EVERY && self.unwritten < UNWRITTEN_MAX {
            true => Ok(()),
            false => self.save(&OrderState::Running).await,
        }
    }

    /// Writes the account of an order in that state.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn save(&mut self, state: &OrderState) -> Result<(), LedgerError> {
        state.as_str().clone_into(&mut self.account.state);
        (self.account.written_ms, self.written) = (now_ms(), instant());
        for _ in 0..TRIES {
            let change = self.change(self.expect, Some(self.account.written()?));
            match self.ledger.change(&change).await {
                Ok(version) => {
                    (self.expect, self.unwritten) = (Expect::Version(version), 0);
                    return Ok(());
                }
                Err(LedgerError::Conflict { .. }) => self.merge().await?,
                Err(error) => return Err(error),
            }
        }
        Err(LedgerError::Overloaded)
    }

    /// Adds the events of the account in the ledger: another gateway was given the same order.
    async fn merge(&mut self) -> Result<(), LedgerError> {
        let Some(document) = self.ledger.document(I::KIND, &self.id.to_string()).await? else {
            self.expect = Expect::Absent;
            return Ok(());
        };
        let other = Account::read(&document)?;
        check_filter(&other, &self.account, document.version)?;
        self.expect = Expect::Version(document.version);
        for (targets, events) in other.made {
            let events: Vec<EventId> = events.into_iter().collect();
            self.account.add(&events, targets.as_deref());
        }
        Ok(())
    }

    /// Deletes accounts beyond [`KEPT_MAX`], with the new one.
    async fn make_room(&self) -> Result<(), LedgerError> {
        let all = DocumentQuery::of(I::KIND);
        let kept = self.ledger.latest_documents(&all, KEPT_MAX + 1).await?;
        for old in kept.into_iter().skip(KEPT_MAX - 1) {
            let change = self.change(Expect::Version(old.version), None);
            match self.ledger.change(&DocumentChange { id: old.id, ..change }).await {
                // Another order deleted it, or goes on with it.
                Ok(_) | Err(LedgerError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn change(&self, expect: Expect, body: Option<Bytes>) -> DocumentChange {
        DocumentChange {
            kind: I::KIND,
            id: self.id.to_string(),
            expect,
            body,
            who: ACTOR.to_owned(),
            at_ms: self.account.written_ms,
        }
    }
}

/// Checks that the account in the ledger, of this version, is not of an order for another filter.
fn check_filter(known: &Account, own: &Account, version: Revision) -> Result<(), LedgerError> {
    match known.accepts(own.filter.as_deref()) {
        true => Ok(()),
        false => Err(LedgerError::Conflict { current: Some(version) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{BatchOptions, Memory, NoopObserver, StoreClock};

    fn ledger() -> BatchedLedger {
        let memory = Memory::new(StoreClock::manual(0));
        BatchedLedger::new(memory, BatchOptions::default(), std::sync::Arc::new(NoopObserver))
    }

    #[tokio::test]
    async fn an_account_comes_back_as_it_was_and_goes_on() {
        let ledger = ledger();
        let (id, sources) = (ReplayId::new(1), [SourceId::from("s")]);
        let targets = [TargetId::from("game")];
        let mut open =
            OpenAccount::begin(&ledger, id, Account::new(7, Some(&sources))).await.unwrap();
        open.add(&[EventId::new(1), EventId::new(2)], Some(&targets));
        open.count([("seen".to_owned(), 3)].into());
        open.save(&OrderState::Cancelled).await.unwrap();
        let read = Account::find(&ledger, id).await.unwrap().unwrap();
        assert_eq!(read, open.account);
        assert_eq!((read.state(now_ms()), read.number("seen")), (OrderState::Cancelled, 3));
        assert_eq!(read.outcome(&ledger).await.unwrap().counts.gone, 2);
        let mut again = OpenAccount::begin(&ledger, id, Account::new(9, None)).await.unwrap();
        let now = now_ms();
        assert_eq!((again.account.at_ms, again.account.state(now)), (7, OrderState::Running));
        // Another gateway was given the same order: the events of both are kept, and the state of
        // the last one to write.
        again.add(&[EventId::new(3)], Some(&targets));
        again.save(&OrderState::Running).await.unwrap();
        open.add(&[EventId::new(4)], None);
        open.save(&OrderState::Done).await.unwrap();
        let found = Account::find(&ledger, id).await.unwrap().unwrap();
        assert_eq!(found.state(now + 100 * SILENT_MS), OrderState::Done);
        let by_target = |found: &Account| found.made[&Some(targets.to_vec())].len();
        assert_eq!((by_target(&found), found.made[&None].len()), (3, 1));
        assert_eq!(Account::find(&ledger, ReleaseId::new(1)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_account_is_of_one_filter() {
        let ledger = ledger();
        let id = ReplayId::new(1);
        let of = |digest: &str| Account::new(7, None).of_filter(digest.to_owned());
        let begun = |new| OpenAccount::begin(&ledger, id, new);
        // One of an earlier version accepts any filter, and then belongs to it.
        begun(Account::new(7, None)).await.unwrap();
        begun(of("a")).await.unwrap();
        let kept = Account::find(&ledger, id).await.unwrap().unwrap();
        assert!(kept.accepts(Some("a")) && kept.accepts(None) && !kept.accepts(Some("b")));
        let refused = begun(of("b")).await.map(drop);
        assert!(matches!(refused, Err(LedgerError::Conflict { .. })), "{refused:?}");
        assert_eq!(Account::find(&ledger, id).await.unwrap(), Some(kept));
        begun(of("a")).await.unwrap();
    }

    #[tokio::test]
    async fn two_gateways_that_begin_an_id_with_two_filters_do_not_mix_them() {
        let ledger = ledger();
        let id = ReplayId::new(1);
        let of = |digest: &str| Account::new(7, None).of_filter(digest.to_owned());
        let mut first = OpenAccount::begin(&ledger, id, of("a")).await.unwrap();
        let account = of("b");
        let (expect, written, unwritten) = (Expect::Absent, instant(), 0);
        let mut other = OpenAccount { ledger: &ledger, id, expect, written, unwritten, account };
        other.add(&[EventId::new(1)], None);
        let refused = other.save(&OrderState::Done).await;
        assert!(matches!(refused, Err(LedgerError::Conflict { .. })), "{refused:?}");
        first.save(&OrderState::Done).await.unwrap();
        let kept = Account::find(&ledger, id).await.unwrap().unwrap();
        assert!(kept.accepts(Some("a")) && kept.made.is_empty());
    }

    #[test]
    fn an_account_of_an_earlier_version_can_be_read() {
        let written = r#"{"at_ms":7,"among":null,"numbers":{"seen":3},"further":0,
            "made":[{"to":null,"events":["evt_00000000000000000000000000000001"]}],
            "state":"done"}"#;
        let written: Written = serde_json::from_str(written).unwrap();
        assert_eq!((written.filter, written.numbers["seen"]), (None, 3));
    }

    #[tokio::test]
    async fn an_event_that_went_to_all_destinations_is_not_counted_again() {
        let mut account = Account::new(0, None);
        let event = EventId::new(1);
        account.add(&[event], None);
        account.add(&[event], Some(&[TargetId::from("game")]));
        assert_eq!(account.outcome(&ledger()).await.unwrap().counts.gone, 1);
    }

    #[tokio::test]
    async fn a_running_order_that_is_silent_is_interrupted() {
        let ledger = ledger();
        let id = ReplayId::new(1);
        let mut open = OpenAccount::begin(&ledger, id, Account::new(7, None)).await.unwrap();
        let read = async || Account::find(&ledger, id).await.unwrap().unwrap();
        let begun = read().await;
        assert_eq!(begun.state(begun.written_ms + SILENT_MS), OrderState::Running);
        assert_eq!(begun.state(begun.written_ms + SILENT_MS + 1), OrderState::Interrupted);
        // Progress is not written each time.
        open.add(&[EventId::new(1)], None);
        open.save_progress().await.unwrap();
        assert_eq!(read().await, begun);
        open.written -= WRITE_EVERY;
        open.save_progress().await.unwrap();
        assert_eq!(read().await, open.account);
        let many: Vec<EventId> = (0..1_000).map(|_| EventId::new(1)).collect();
        open.add(&many, None);
        open.save_progress().await.unwrap();
        assert_eq!(read().await, open.account);
    }

    #[tokio::test]
    async fn accounts_are_bounded() {
        let ledger = ledger();
        let mut account = Account::new(0, None);
        let events: Vec<EventId> = (0..10_007).map(|_| EventId::new(1)).collect();
        account.add(&events, None);
        account.add(&events[..10], None);
        assert_eq!(account.outcome(&ledger).await.unwrap().counts.gone, 10_000);
        assert_eq!(account.further, 7);
        for n in 0..60 {
            OpenAccount::begin(&ledger, ReplayId::new(n), Account::new(n, None)).await.unwrap();
        }
        let all: Vec<(ReplayId, Account)> = Account::latest(&ledger, 100).await.unwrap();
        let times: Vec<i64> = all.iter().map(|(_, account)| account.at_ms).collect();
        assert_eq!(times, (10..60).rev().collect::<Vec<i64>>());
    }
}
