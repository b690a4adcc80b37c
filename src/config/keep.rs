//! `keep_events` and `keep_transactions` of a source, in place of those of the store.

use std::time::Duration;

use super::file::Section;
use super::{Store, limits, unit};

/// How long the data of a source is kept; `None`: as long as that of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Its events. Never longer than those of the store.
    pub events: Option<Duration>,
    /// Its deduplication keys.
    pub transactions: Option<Duration>,
}

/// The times of the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreKeep {
    pub(super) events: Duration,
    pub(super) transactions: Duration,
}

impl StoreKeep {
    /// The times of a checked store.
    pub(super) fn of(store: &Store) -> Self {
        Self { events: store.keep_events, transactions: store.keep_transactions }
    }
}

/// The two keys of a source.
pub(super) fn read(section: &Section<'_>, store: Option<StoreKeep>) -> Keep {
    let duration = unit::duration(limits::KEEP_BOUND);
    let events = section.take("keep_events", &duration);
    let transactions = section.take("keep_transactions", &duration);
    let Some(store) = store else { return Keep { events, transactions } };
    if let Some(own) = events.filter(|own| *own > store.events) {
        let (own, all) = (unit::show(own), unit::show(store.events));
        let what = format!("is {own}, longer than store.keep_events ({all})");
        let remedy = "raise store.keep_events, and give the other sources a shorter one";
        section.fault("keep_events", what, remedy);
    }
    let least = events.unwrap_or(store.events);
    if let Some(own) = transactions.filter(|own| *own < least) {
        let what = format!(
            "is {}, less than keep_events ({}): a callback could be accepted twice while its first \
             event is still kept",
            unit::show(own),
            unit::show(least)
        );
        section.fault("keep_transactions", what, "keep transactions at least as long as events");
    }
    Keep { events, transactions }
}
