//! The filter of callbacks.

use super::{WHAT_TIME, WHAT_WORD};
use crate::clock::UnixMillis;
use crate::config::Config;
use crate::console::fields::{Fields, query, time};
use crate::console::page_error::PageError;
use crate::intake::Passed;
use crate::ledger::{EventId, HeldQuery, LogQuery, Rejected, Rejection, SourceId};
use crate::sender::{Outcome, Reason};

/// A filter of callbacks; `None` matches all.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// A user, a transaction or the id of an event.
    pub text: Option<String>,
    pub source: Option<String>,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub since_ms: Option<UnixMillis>,
    pub until_ms: Option<UnixMillis>,
    /// The fields, unchanged, for links.
    given: Vec<(&'static str, String)>,
}

const NAMES: [&str; 6] = ["q", "source", "outcome", "reason", "since", "until"];

impl Filter {
    pub fn read(fields: &Fields) -> Result<Self, PageError> {
        let given = NAMES.iter().filter_map(|name| Some((*name, fields.text(name)?.to_owned())));
        let word = |found: Option<_>| found.ok_or(PageError::Bad(WHAT_WORD));
        let at = |name| {
            let read = |text| time(text).ok_or(PageError::Bad(WHAT_TIME));
            fields.text(name).map(read).transpose()
        };
        let outcome = fields.text("outcome").map(Outcome::from_name).map(word).transpose()?;
        let reason = fields.text("reason").map(Reason::from_name);
        Ok(Self {
            text: fields.text("q").map(str::to_owned),
            source: fields.text("source").map(str::to_owned),
            outcome,
            reason: reason.map(|found| found.ok_or(PageError::Bad(WHAT_WORD))).transpose()?,
            since_ms: at("since")?,
            until_ms: at("until")?,
            given: given.collect(),
        })
    }

    /// Writes the filter as a query.
    pub fn query(&self) -> String {
        let pairs: Vec<_> =
            self.given.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query(&pairs)
    }

    /// The event, if the text is an event id.
    pub fn event(&self) -> Option<EventId> {
        self.text.as_deref()?.parse().ok()
    }

    /// The query of recorded events, without user and transaction; `None`: no event matches.
    pub fn of_ledger(&self, config: &Config) -> Option<LogQuery> {
        let test = match (self.outcome, self.reason) {
            (None | Some(Outcome::Accepted), None) => None,
            (Some(Outcome::Test), None) => Some(true),
            _ => return None,
        };
        let source = self.source_id(config);
        let (since_ms, until_ms) = (self.since_ms, self.until_ms);
        Some(LogQuery { source, test, since_ms, until_ms, ..LogQuery::default() })
    }

    pub fn wants_passed(&self, one: &Passed) -> bool {
        self.reason.is_none()
            && self.outcome.is_none_or(|outcome| outcome == one.outcome)
            && self.wants(&one.source, one.at_ms)
            && self.is_about([one.transaction.as_deref(), one.user.as_deref()], one.event)
    }

    /// The query of rejected callbacks; `None`: none matches. The outcome is checked separately.
    pub fn of_rejections(&self, config: &Config) -> Option<HeldQuery> {
        let wanted = self
            .outcome
            .is_none_or(|outcome| matches!(outcome, Outcome::Rejected | Outcome::Disabled));
        wanted.then(|| HeldQuery {
            source: self.source_id(config),
            reason: self.reason,
            claims: self.text.clone(),
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            ..HeldQuery::default()
        })
    }

    /// Whether a rejected callback has the wanted outcome.
    pub fn wants_rejected(&self, one: &Rejection) -> bool {
        self.outcome.is_none_or(|outcome| outcome == outcome_of(one))
    }

    fn source_id(&self, config: &Config) -> Option<SourceId> {
        self.source.as_deref().map(|name| {
            SourceId::from(config.sources.get(name).map_or(name, |source| source.id.as_str()))
        })
    }

    fn wants(&self, source: &str, at_ms: UnixMillis) -> bool {
        self.source.as_deref().is_none_or(|wanted| wanted == source)
            && self.since_ms.is_none_or(|since| at_ms >= since)
            && self.until_ms.is_none_or(|until| at_ms < until)
    }

    fn is_about(&self, texts: [Option<&str>; 2], event: Option<EventId>) -> bool {
        let Some(wanted) = self.text.as_deref() else { return true };
        texts.contains(&Some(wanted)) || self.event().is_some_and(|id| event == Some(id))
    }
}

/// The outcome of a rejected callback.
pub(super) fn outcome_of(rejected: &Rejection) -> Outcome {
    match rejected.reason {
        Rejected::For(Reason::Disabled) => Outcome::Disabled,
        _ => Outcome::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_fields_are_errors_and_the_rest_is_kept() {
        let read = |text: &str| Filter::read(&Fields::read(text.as_bytes()));
        for bad in ["outcome=nonsense", "reason=x", "since=yesterday", "until=1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let filter =
            read("q=+u1+&outcome=duplicate&since=2026-01-02T03%3A04&cursor=9&lang=en").unwrap();
        assert_eq!(filter.text.as_deref(), Some("u1"));
        assert_eq!(filter.query(), "?q=u1&outcome=duplicate&since=2026-01-02T03%3A04");
        assert_eq!(filter.event(), None);
    }
}
