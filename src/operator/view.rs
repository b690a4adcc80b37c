//! The part of the gateway that a caller sees: everything, or the sources that its token is bound to.
//!
//! Handlers and pages ask a [`View`], which leaves out the rest: a [`SeenLedger`] in place of the
//! ledger, a configuration without other sources, [`SeenRejections`] in place of the log. So none of
//! them has to remember who is asking.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::masked::mask_notes;
use crate::config::{Config, Source, SourceScope};
use crate::delivery::ReplayProgress;
use crate::intake::{Rejections, ReleaseProgress, UnrecordedCallback};
use crate::ledger::{
    BatchedLedger, Cursor, DeliveryPage, DeliveryQuery, EventDetail, EventId, Health, HeldId,
    HeldOne, HeldPage, HeldQuery, LedgerError, LogPage, LogQuery, Rejection, SourceId, Stats,
};
use crate::orders::Account;
use crate::registry::Entry;

/// The kind of the audit log's entries about sources.
const SOURCE: &str = "source";

/// The part of the gateway that a caller sees.
#[derive(Clone, Debug)]
pub struct View {
    config: Arc<Config>,
    /// The sources that are seen; `None`: everything.
    among: Option<Arc<[SourceId]>>,
}

/// The ledger, without what a caller may not see.
#[derive(Clone, Debug)]
pub struct SeenLedger {
    ledger: BatchedLedger,
    among: Option<Arc<[SourceId]>>,
}

/// The log of rejected callbacks, without what a caller may not see.
#[derive(Clone, Debug)]
pub struct SeenRejections {
    log: Rejections,
    among: Option<Arc<[SourceId]>>,
    /// The configuration whose secrets are masked.
    config: Arc<Config>,
}

fn sees(among: Option<&[SourceId]>, source: &SourceId) -> bool {
    among.is_none_or(|among| among.contains(source))
}

// === The view ===

impl View {
    /// Everything.
    #[must_use]
    pub fn whole(config: Arc<Config>) -> Self {
        Self { config, among: None }
    }

    /// The view of a token of `scope` on `config`: its sources, the destinations of these, and nothing
    /// of what is not configured any more.
    #[must_use]
    pub fn of(config: Arc<Config>, scope: &SourceScope) -> Self {
        if !scope.is_bound() {
            return Self::whole(config);
        }
        let all = config.sources.iter().filter(|(name, _)| scope.covers(name));
        let sources: BTreeMap<String, Arc<Source>> =
            all.map(|(name, source)| (name.clone(), Arc::clone(source))).collect();
        let all = |source: &'_ Arc<Source>| -> Vec<String> {
            let routed = source.routes.iter().flat_map(|route| &route.to);
            source.destinations.iter().chain(routed).cloned().collect()
        };
        let to: BTreeSet<String> = sources.values().flat_map(all).collect();
        let destinations = config.destinations.iter().filter(|(name, _)| to.contains(*name));
        let destinations = destinations.map(|(name, one)| (name.clone(), Arc::clone(one)));
        let among = sources.values().map(|source| SourceId::from(source.id.as_str())).collect();
        let destinations = destinations.collect();
        let config = Arc::new(Config { sources, destinations, ..Config::clone(&config) });
        Self { config, among: Some(among) }
    }

    /// Whether something is left out.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.among.is_some()
    }

    /// The running configuration, without other sources and their destinations.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The sources that queries are restricted to; `None`: to none.
    #[must_use]
    pub fn among(&self) -> Option<Arc<[SourceId]>> {
        self.among.clone()
    }

    /// `ledger` without what the caller may not see.
    #[must_use]
    pub fn ledger(&self, ledger: &BatchedLedger) -> SeenLedger {
        SeenLedger { ledger: ledger.clone(), among: self.among() }
    }

    /// The log `log`, as far as it is seen.
    #[must_use]
    pub fn rejections(&self, log: &Rejections) -> SeenRejections {
        SeenRejections { log: log.clone(), among: self.among(), config: Arc::clone(&self.config) }
    }

    /// Whether the source of that name is seen.
    #[must_use]
    pub fn sees_named(&self, name: &str) -> bool {
        !self.is_bound() || self.config.sources.contains_key(name)
    }

    /// Whether a recent callback is seen.
    #[must_use]
    pub fn sees_passed(&self, one: &UnrecordedCallback) -> bool {
        self.sees_named(&one.source)
    }

    /// Whether an entry of the audit log is seen: one about a source that is, or about something of
    /// such sources alone. Of the others, some name events and users of anybody.
    #[must_use]
    pub fn sees_entry(&self, entry: &Entry) -> bool {
        match entry.kind.as_str() {
            _ if !self.is_bound() => true,
            SOURCE => self.sees_named(&entry.name),
            "event" | "held" | "keys" | "release" | "replay" | "user" => self.sees_facts(entry),
            _ => false,
        }
    }

    /// Whether an entry says of which source it is, or of which ones, and all are seen. An order for a
    /// destination that is not seen has the name of one: it is left out.
    fn sees_facts(&self, entry: &Entry) -> bool {
        let said = |fact: &str| entry.changes.get(fact).and_then(|change| change.get(1));
        let sees = |name: &Value| name.as_str().is_some_and(|name| self.sees_named(name));
        let among = said("among").and_then(Value::as_array).into_iter().flatten();
        let mut named = said("source").into_iter().chain(among).peekable();
        let destination = said("destination").and_then(Value::as_str);
        let is_own = destination.is_none_or(|name| self.config.destinations.contains_key(name));
        is_own && named.peek().is_some() && named.all(sees)
    }

    /// Whether a replay is seen: one that was ordered for sources that all are.
    #[must_use]
    pub fn sees_replay(&self, progress: &ReplayProgress) -> bool {
        let Some(own) = self.among.as_deref() else { return true };
        progress.among.as_ref().is_some_and(|all| all.iter().all(|one| own.contains(one)))
    }

    /// Whether the account of an order is seen, as a replay is.
    #[must_use]
    pub fn sees_account(&self, account: &Account) -> bool {
        let Some(own) = self.among.as_deref() else { return true };
        account.among.as_ref().is_some_and(|all| all.iter().all(|one| own.contains(one)))
    }

    /// Whether a release is seen.
    #[must_use]
    pub fn sees_release(&self, progress: &ReleaseProgress) -> bool {
        sees(self.among.as_deref(), &progress.source)
    }
}

// === The ledger ===

impl SeenLedger {
    fn sees(&self, source: &SourceId) -> bool {
        sees(self.among.as_deref(), source)
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// The ledger fails, or the cursor is none of this list.
    pub async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        let query = LogQuery { among: self.among.clone(), ..query.clone() };
        self.ledger.query(&query, cursor, limit).await
    }

    /// An event with its deliveries.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        let detail = self.ledger.event(id).await?;
        Ok(detail.filter(|detail| self.sees(&detail.event.source)))
    }

    /// Callbacks that are held, newest first.
    ///
    /// # Errors
    /// The ledger fails, or the cursor is none of this list.
    pub async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        let query = HeldQuery { among: self.among.clone(), ..query.clone() };
        self.ledger.held(&query, cursor, limit).await
    }

    /// A held callback, or its mark.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        let one = self.ledger.held_one(id).await?;
        Ok(one.filter(|one| match one {
            HeldOne::Waiting(held) => self.sees(&held.event.source),
            HeldOne::Decided(mark) => self.sees(&mark.source),
        }))
    }

    /// Each of these events, in their order.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn events(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        let all = self.ledger.events(ids).await?.into_iter();
        Ok(all.map(|one| one.filter(|detail| self.sees(&detail.event.source))).collect())
    }

    /// Deliveries, newest first. A page may have less than `limit` of them and a next one.
    ///
    /// # Errors
    /// The ledger fails, or the cursor is none of this list.
    pub async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        let among = match (&self.among, &query.among) {
            (None, wanted) => wanted.clone(),
            (Some(seen), None) => Some(Arc::clone(seen)),
            (Some(_), Some(wanted)) => {
                Some(wanted.iter().filter(|source| self.sees(source)).cloned().collect())
            }
        };
        let query = DeliveryQuery { among, ..query.clone() };
        self.ledger.deliveries(&query, cursor, limit).await
    }

    /// The state of the store.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn health(&self) -> Result<Health, LedgerError> {
        self.ledger.health().await
    }

    /// Counts. A caller that is bound to sources has those of held callbacks, which are by source.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn stats(&self) -> Result<Stats, LedgerError> {
        let stats = self.ledger.stats().await?;
        Ok(match self.among {
            None => stats,
            Some(_) => {
                let held = stats.held.into_iter().filter(|held| self.sees(&held.source));
                Stats { held: held.collect(), ..Stats::default() }
            }
        })
    }
}

// === Rejected callbacks ===

impl SeenRejections {
    /// Rejected callbacks, newest first.
    ///
    /// # Errors
    /// The ledger fails, or the cursor is none of this list.
    pub async fn list(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Rejection>, Option<Cursor>), LedgerError> {
        let query = HeldQuery { among: self.among.clone(), ..query.clone() };
        let (mut page, next) = self.log.list(&query, cursor, limit).await?;
        page.iter_mut().for_each(|one| mask_notes(one, &self.config));
        Ok((page, next))
    }

    /// A rejected callback.
    ///
    /// # Errors
    /// The ledger fails.
    pub async fn get(&self, id: HeldId) -> Result<Option<Rejection>, LedgerError> {
        let mut one = self.log.get(id).await?;
        one.iter_mut().for_each(|one| mask_notes(one, &self.config));
        Ok(one.filter(|one| sees(self.among.as_deref(), &one.source_id)))
    }
}
