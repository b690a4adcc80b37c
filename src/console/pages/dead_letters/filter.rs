//! The filter of dead letters.

use std::sync::Arc;

use super::WHAT_TIME;
use crate::clock::{UnixMillis, now_ms};
use crate::config::Config;
use crate::console::components::span::{self, Preset};
use crate::console::fields::{self, Fields};
use crate::console::page_error::PageError;
use crate::ledger::{DeliveryQuery, DeliveryState, LogQuery, SourceId, TargetId};
use crate::operator::source_id;

/// A filter of dead letters; an empty field matches all.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub since_ms: Option<UnixMillis>,
    pub until_ms: Option<UnixMillis>,
    /// The fields, unchanged.
    given: Vec<(&'static str, String)>,
}

const NAMES: [&str; 5] = ["destination", "source", "span", "since", "until"];

impl Filter {
    pub(super) fn read(fields: &Fields) -> Result<Self, PageError> {
        let at = |name| {
            let read = |text| fields::time(text).ok_or(PageError::Bad(WHAT_TIME));
            fields.text(name).map(read).transpose()
        };
        let given = NAMES.iter().filter_map(|name| Some((*name, fields.text(name)?.to_owned())));
        let span = fields.text(span::FIELD).and_then(Preset::find);
        let since = span.map(|span| span.since_ms(now_ms()));
        Ok(Self {
            since_ms: at("since")?.or(since),
            until_ms: at("until")?,
            given: given.collect(),
        })
    }

    /// A field, unchanged; empty if it is missing.
    pub(super) fn given(&self, name: &str) -> &str {
        let mut pairs = self.pairs();
        pairs.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Writes the filter as a query, followed by `more`.
    pub(super) fn query(&self, more: &[(&str, &str)]) -> String {
        let all: Vec<_> = self.pairs().chain(more.iter().copied()).collect();
        fields::query(&all)
    }

    pub(super) fn target(&self) -> Option<TargetId> {
        Some(self.given("destination")).filter(|name| !name.is_empty()).map(TargetId::from)
    }

    pub(super) fn source(&self, config: &Config) -> Option<SourceId> {
        let name = Some(self.given("source")).filter(|name| !name.is_empty())?;
        Some(source_id(config, name))
    }

    /// The filter of deliveries, with the source of `log`.
    pub(super) fn deliveries(&self, log: &LogQuery) -> DeliveryQuery {
        let among = log.source.iter().cloned().collect::<Arc<[SourceId]>>();
        let among = Some(among).filter(|all| !all.is_empty());
        let target = self.target();
        DeliveryQuery { target, among, ..DeliveryQuery::of(DeliveryState::Dead) }
    }

    /// The filter of events, without the destination.
    pub(super) fn log(&self, config: &Config) -> LogQuery {
        let (since_ms, until_ms) = (self.since_ms, self.until_ms);
        LogQuery { source: self.source(config), since_ms, until_ms, ..LogQuery::default() }
    }
}
