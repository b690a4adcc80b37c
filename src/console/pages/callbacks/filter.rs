//! The filter of callbacks.

use super::lines::{Line, Thing};
use super::{WHAT_TIME, WHAT_WORD};
use crate::clock::{UnixMillis, now_ms};
use crate::config::Config;
use crate::console::components::span::{self, Preset};
use crate::console::fields::{Fields, query, time};
use crate::console::page_error::PageError;
use crate::intake::UnrecordedCallback;
use crate::ledger::{
    EventId, EventState, HeldQuery, LogQuery, Rejected, Rejection, SourceId, TargetId,
};
use crate::operator::source_id;
use crate::sender::{Outcome, Reason};

/// A filter of callbacks; `None` matches all.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// A user, a transaction or the id of an event; with `*` at its end, the beginning of one.
    pub text: Option<String>,
    /// The state of its deliveries.
    pub state: Option<EventState>,
    /// A destination with a delivery in that state.
    pub destination: Option<TargetId>,
    pub source: Option<String>,
    pub outcome: Option<Outcome>,
    pub reason: Option<Reason>,
    pub since_ms: Option<UnixMillis>,
    pub until_ms: Option<UnixMillis>,
    /// The fields, unchanged, for links.
    given: Vec<(&'static str, String)>,
}

const NAMES: [&str; 9] =
    ["q", "source", "outcome", "reason", "state", "destination", "span", "since", "until"];

/// Fields beside the text that is searched for.
pub(super) const CHOICES: [&str; 7] =
    ["source", "outcome", "reason", "state", "destination", "since", "until"];

impl Filter {
    pub(super) fn read(fields: &Fields) -> Result<Self, PageError> {
        let given = NAMES.iter().filter_map(|name| Some((*name, fields.text(name)?.to_owned())));
        let word = |found: Option<_>| found.ok_or(PageError::Bad(WHAT_WORD));
        let at = |name| {
            let read = |text| time(text).ok_or(PageError::Bad(WHAT_TIME));
            fields.text(name).map(read).transpose()
        };
        let outcome = fields.text("outcome").map(Outcome::from_name).map(word).transpose()?;
        let reason = fields.text("reason").map(Reason::from_name);
        let state = |text: &str| {
            let all = [EventState::Pending, EventState::Dead, EventState::Done];
            let found = all.into_iter().find(|state| state.as_str() == text);
            found.ok_or(PageError::Bad(WHAT_WORD))
        };
        let span = fields.text(span::FIELD).and_then(Preset::find);
        let since = span.map(|span| span.since_ms(now_ms()));
        Ok(Self {
            text: fields.text("q").map(str::to_owned),
            source: fields.text("source").map(str::to_owned),
            outcome,
            reason: reason.map(|found| found.ok_or(PageError::Bad(WHAT_WORD))).transpose()?,
            state: fields.text("state").map(state).transpose()?,
            destination: fields.text("destination").map(TargetId::from),
            since_ms: at("since")?.or(since),
            until_ms: at("until")?,
            given: given.collect(),
        })
    }

    /// Writes the filter as a query.
    pub(super) fn query(&self) -> String {
        let pairs: Vec<_> =
            self.given.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query(&pairs)
    }

    /// The event, if the text is an event id, with its prefix or without.
    pub(super) fn event(&self) -> Option<EventId> {
        let text = self.text.as_deref()?;
        text.parse().or_else(|_| format!("evt_{text}").parse()).ok()
    }

    /// The beginning of a user or transaction, in lower case, if that is searched for.
    pub(super) fn beginning(&self) -> Option<String> {
        let beginning = self.text.as_deref()?.strip_suffix('*')?;
        (!beginning.is_empty()).then(|| beginning.to_lowercase())
    }

    /// The filter with the text as a beginning.
    pub(super) fn as_beginning(&self) -> Option<String> {
        let text = self.text.as_deref().filter(|text| !text.ends_with('*'))?;
        let pairs = self.given.iter().map(|(name, value)| (*name, value.as_str()));
        let star = format!("{text}*");
        let all: Vec<_> =
            pairs.filter(|(name, _)| *name != "q").chain([("q", star.as_str())]).collect();
        Some(query(&all))
    }

    /// The query of recorded events, without user and transaction; `None`: no event matches.
    pub(super) fn of_ledger(&self, config: &Config) -> Option<LogQuery> {
        let state = self.state;
        let test = match (self.outcome, self.reason) {
            (None | Some(Outcome::Accepted), None) => None,
            (Some(Outcome::Test), None) => Some(true),
            _ => return None,
        };
        let source = self.source_id(config);
        let (since_ms, until_ms) = (self.since_ms, self.until_ms);
        Some(LogQuery { source, test, state, since_ms, until_ms, ..LogQuery::default() })
    }

    pub(super) fn wants_passed(&self, one: &UnrecordedCallback) -> bool {
        self.reason.is_none()
            && self.is_of_any_state()
            && self.outcome.is_none_or(|outcome| outcome == one.outcome)
            && self.wants(&one.source, one.at_ms)
            && self.is_about([one.transaction.as_deref(), one.user.as_deref()], one.event)
    }

    /// The query of rejected callbacks; `None`: none matches. The outcome is checked separately.
    pub(super) fn of_rejections(&self, config: &Config) -> Option<HeldQuery> {
        let wanted = self
            .outcome
            .is_none_or(|outcome| matches!(outcome, Outcome::Rejected | Outcome::Disabled));
        // Where the beginning is searched for, each one is compared.
        let claims = self.text.clone().filter(|_| self.beginning().is_none());
        (wanted && self.is_of_any_state()).then(|| HeldQuery {
            source: self.source_id(config),
            reason: self.reason,
            claims,
            since_ms: self.since_ms,
            until_ms: self.until_ms,
            ..HeldQuery::default()
        })
    }

    /// Whether a rejected callback has the wanted outcome.
    pub(super) fn wants_rejected(&self, one: &Rejection) -> bool {
        self.outcome.is_none_or(|outcome| outcome == outcome_of(one))
            && self.begins([one.transaction.as_deref(), one.user.as_deref()])
    }

    /// Whether only events have what is searched for.
    const fn is_of_any_state(&self) -> bool {
        self.state.is_none() && self.destination.is_none()
    }

    /// Whether an event has the wanted text.
    pub(super) fn is_about_line(&self, line: &Line) -> bool {
        let event = match line.thing {
            Thing::Event(id) => Some(id),
            Thing::Rejection(_) | Thing::Nothing => None,
        };
        self.is_about([line.transaction.as_deref(), line.user.as_deref()], event)
    }

    /// Whether one of `texts` begins as wanted, if a beginning is searched for.
    pub(super) fn begins(&self, texts: [Option<&str>; 2]) -> bool {
        self.beginning().is_none_or(|beginning| {
            texts.into_iter().flatten().any(|text| text.to_lowercase().starts_with(&beginning))
        })
    }

    fn source_id(&self, config: &Config) -> Option<SourceId> {
        self.source.as_deref().map(|name| source_id(config, name))
    }

    fn wants(&self, source: &str, at_ms: UnixMillis) -> bool {
        self.source.as_deref().is_none_or(|wanted| wanted == source)
            && self.since_ms.is_none_or(|since| at_ms >= since)
            && self.until_ms.is_none_or(|until| at_ms < until)
    }

    fn is_about(&self, texts: [Option<&str>; 2], event: Option<EventId>) -> bool {
        if self.beginning().is_some() {
            return self.begins(texts);
        }
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
