//! An order at work: it reads events page by page, and the ledger makes their deliveries.

use std::collections::{BTreeMap, BTreeSet};

use super::{DELIVERIES, EVENTS, PAGE, ReplayMode, ReplayProgress, ReplayRun, SEEN, SKIPPED};
use crate::delivery::Control;
use crate::ledger::{
    BatchedLedger, Cursor, Delivery, DeliveryQuery, DeliveryState, EventId, LedgerError, ReplayId,
    ReplayOrder, ReplayPage, ReplayWhat, TargetId,
};
use crate::orders::{OpenAccount, OrderState};

/// An order at work.
pub(super) struct ReplayWork<'w> {
    order: &'w ReplayRun,
    ledger: &'w BatchedLedger,
    control: &'w Control,
    /// `None`: a dry run.
    account: Option<OpenAccount<'w, ReplayId>>,
    /// Events that were read. Each one counts once, however often the order is given.
    read: u64,
    /// Deliveries that were skipped.
    skipped: u64,
    /// Destinations that this order let a probe through to.
    probed: BTreeSet<TargetId>,
    /// Destinations of deliveries that are skipped: the configuration does not have them.
    absent: BTreeSet<TargetId>,
}

// === Numbers ===

impl<'w> ReplayWork<'w> {
    /// The work of a dry run.
    pub(super) fn new(
        order: &'w ReplayRun,
        ledger: &'w BatchedLedger,
        control: &'w Control,
    ) -> Self {
        let (probed, absent) = (BTreeSet::new(), BTreeSet::new());
        let (read, skipped) = (0, 0);
        Self { order, ledger, control, account: None, read, skipped, probed, absent }
    }

    /// The work of an order that has an account. It adds to the numbers in there.
    pub(super) fn with_account(self, account: OpenAccount<'w, ReplayId>) -> Self {
        self.order.note(|progress| {
            progress.seen = account.number(SEEN);
            progress.events = account.number(EVENTS);
            progress.deliveries = account.number(DELIVERIES);
            progress.skipped = account.number(SKIPPED);
        });
        Self { account: Some(account), ..self }
    }

    async fn note_page(&mut self, read: u64, page: &ReplayPage) -> Result<(), LedgerError> {
        self.read += read;
        self.order.note_page(self.read, self.skipped, page);
        match self.counted() {
            Some(open) => open.save_progress().await,
            None => Ok(()),
        }
    }

    /// Writes the account in that state.
    pub(super) async fn save(&mut self, state: &OrderState) -> Result<(), LedgerError> {
        match self.counted() {
            Some(open) => open.save(state).await,
            None => Ok(()),
        }
    }

    /// The account, with the numbers of now.
    fn counted(&mut self) -> Option<&mut OpenAccount<'w, ReplayId>> {
        let open = self.account.as_mut()?;
        let ReplayProgress { seen, events, deliveries, skipped, .. } = self.order.progress();
        let numbers =
            [(SEEN, seen), (EVENTS, events), (DELIVERIES, deliveries), (SKIPPED, skipped)];
        open.count(numbers.map(|(name, number)| (name.to_owned(), number)).into());
        Some(open)
    }
}

// === Deliveries ===

impl ReplayWork<'_> {
    /// Makes new deliveries of `events` to `targets`, which each of them has. The ledger leaves out
    /// those that have left the state of the filter since they were read.
    async fn make(
        &mut self,
        events: Vec<EventId>,
        targets: Vec<TargetId>,
    ) -> Result<ReplayPage, LedgerError> {
        let limit = events.len();
        if self.order.filter.mode == ReplayMode::DryRun {
            let deliveries = (limit * targets.len()) as u64;
            return Ok(ReplayPage { events: limit as u64, deliveries, next: None });
        }
        let what = ReplayWhat::Events(events);
        let (id, only) = (self.order.id(), self.order.filter.state);
        let order = ReplayOrder { id, what, targets: Some(targets), only };
        let page = self.ledger.replay(&order, None, limit).await?;
        if let (Some(open), ReplayWhat::Events(events)) = (&mut self.account, &order.what) {
            open.add(events, order.targets.as_deref());
        }
        self.probe(order.targets.unwrap_or_default());
        Ok(page)
    }

    /// Lets a probe through to each of `targets`. A manual replay is one probe: with more of them,
    /// each delivery of the order would pass an open breaker.
    fn probe(&mut self, targets: Vec<TargetId>) {
        let mut due = targets;
        due.retain(|target| self.probed.insert(target.clone()));
        if !due.is_empty() {
            self.control.probe(Some(due));
        }
    }

    /// Makes new deliveries of `events`, as far as the filter selects them.
    async fn make_chosen(&mut self, events: &[EventId]) -> Result<ReplayPage, LedgerError> {
        let mut all = ReplayPage::default();
        for (targets, events) in self.chosen(events).await? {
            let one = self.make(events, targets.into_iter().collect()).await?;
            all.events += one.events;
            all.deliveries += one.deliveries;
        }
        Ok(all)
    }

    /// Events with deliveries that the filter selects, grouped by their destinations.
    async fn chosen(
        &mut self,
        events: &[EventId],
    ) -> Result<BTreeMap<BTreeSet<TargetId>, Vec<EventId>>, LedgerError> {
        let order = self.order;
        let is_chosen = |delivery: &Delivery| {
            order.filter.state.is_none_or(|state| state == delivery.state)
                && order.filter.target.as_ref().is_none_or(|only| *only == delivery.target)
        };
        let details = self.ledger.events(events).await?;
        let deliveries = details.into_iter().flatten().flat_map(|detail| detail.deliveries);
        let chosen: Vec<Delivery> = deliveries.filter(is_chosen).collect();
        let targets = chosen.iter().map(|delivery| delivery.target.clone()).collect();
        let configured = self.configured(targets).await?;
        let mut by_event: BTreeMap<EventId, BTreeSet<TargetId>> = BTreeMap::new();
        let mut skipped: BTreeSet<(EventId, TargetId)> = BTreeSet::new();
        for Delivery { event, target, .. } in chosen {
            if configured.contains(&target) {
                by_event.entry(event).or_default().insert(target);
            } else {
                skipped.insert((event, target));
            }
        }
        self.skipped += skipped.len() as u64;
        let mut by_targets: BTreeMap<BTreeSet<TargetId>, Vec<EventId>> = BTreeMap::new();
        for (event, targets) in by_event {
            by_targets.entry(targets).or_default().push(event);
        }
        Ok(by_targets)
    }

    /// The targets that the configuration has. A delivery to another one would leave the dead
    /// letters and wait without end.
    async fn configured(
        &mut self,
        targets: BTreeSet<TargetId>,
    ) -> Result<BTreeSet<TargetId>, LedgerError> {
        let mut configured = BTreeSet::new();
        for target in targets {
            match self.control.has(&target).await {
                Some(true) => {
                    configured.insert(target);
                }
                Some(false) => self.note_absent(target),
                // Nothing is skipped for that: the same order may be given again.
                None => return Err(LedgerError::Unavailable("the gateway stops".to_owned())),
            }
        }
        Ok(configured)
    }

    fn note_absent(&mut self, target: TargetId) {
        if !self.absent.contains(&target) {
            let destination = target.as_str();
            tracing::warn!(
                replay = %self.order.id(),
                destination,
                "a replay skips deliveries to a destination that is not configured"
            );
            self.absent.insert(target);
        }
    }
}

// === Pages ===

impl ReplayWork<'_> {
    /// Replays page by page until nothing is left or the order is cancelled.
    pub(super) async fn replay(&mut self) -> Result<(), LedgerError> {
        match self.order.filter.state {
            _ if !self.order.filter.events.is_empty() => self.replay_named().await,
            Some(state @ (DeliveryState::Dead | DeliveryState::Pending)) => {
                self.replay_listed(state).await
            }
            Some(DeliveryState::Done) | None => self.replay_found().await,
        }
    }

    /// Replays the events whose ids were given.
    async fn replay_named(&mut self) -> Result<(), LedgerError> {
        let order = self.order;
        order.expect(u64::try_from(order.filter.events.len()).ok());
        for ids in order.filter.events.chunks(PAGE) {
            if order.is_cancelled() {
                break;
            }
            let mut wanted = Vec::with_capacity(ids.len());
            for id in ids {
                if order.is_wanted(*id, self.ledger).await? {
                    wanted.push(*id);
                }
            }
            let page = self.make_chosen(&wanted).await?;
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
            let page = self.make_chosen(&ids).await?;
            self.note_page(ids.len() as u64, &page).await?;
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
        self.expect_listed(state).await?;
        let mut before = self.read;
        let target = self.order.filter.target.clone();
        let query = DeliveryQuery { target, ..DeliveryQuery::of(state) };
        let mut cursor: Option<Cursor> = None;
        while !self.order.is_cancelled() {
            let page = self.ledger.deliveries(&query, cursor.as_ref(), PAGE).await?;
            let listed = page.deliveries.len() as u64;
            let mut wanted = self.order.by_target(page.deliveries, self.ledger).await?;
            let found = events_of(&wanted);
            // A viewer of some sources gets no totals of the others.
            let seen = match self.order.filter.log.among {
                None => listed,
                Some(_) => found,
            };
            let configured = self.configured(wanted.keys().cloned().collect()).await?;
            wanted.retain(|target, _| configured.contains(target));
            let tried = events_of(&wanted);
            self.skipped += found.saturating_sub(tried);
            let mut made = ReplayPage::default();
            for (target, events) in wanted {
                let one = self.make(events, vec![target]).await?;
                made.events += one.events;
                made.deliveries += one.deliveries;
            }
            // What this order had replayed before is skipped, and was counted then. The rest of
            // what is skipped has left the state since it was listed.
            let again = tried.saturating_sub(made.events).min(before);
            before -= again;
            self.note_page(seen.saturating_sub(again), &made).await?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Begins to count what is listed. An order that is given again begins with what it had
    /// replayed before. All else is listed again.
    async fn expect_listed(&mut self, state: DeliveryState) -> Result<(), LedgerError> {
        let before = self.order.progress().events;
        let listed = self.order.count(state, self.ledger).await?;
        let gone = match state {
            DeliveryState::Dead => before,
            // A pending delivery that is replayed is pending.
            DeliveryState::Pending | DeliveryState::Done => 0,
        };
        self.order.expect(listed.map(|listed| listed + gone));
        self.read = before;
        Ok(())
    }
}

fn events_of(by_target: &BTreeMap<TargetId, Vec<EventId>>) -> u64 {
    by_target.values().map(|events| events.len() as u64).sum()
}
