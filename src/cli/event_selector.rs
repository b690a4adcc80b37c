//! Which events a command is about.

use std::time::Duration;

use clap::Args;

use super::client::AdminApi;
use super::names::{self, NameError};
use crate::clock::{now_ms, rfc3339};
use crate::config::parse_duration;

/// Events by what they say and when they came; all of it has to fit.
#[derive(Args, Debug)]
pub(super) struct EventSelector {
    /// Of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// With this transaction
    #[arg(long, value_name = "ID")]
    transaction: Option<String>,
    /// For this user
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    #[command(flatten)]
    times: Times,
}

/// A period.
#[derive(Args, Debug)]
pub(super) struct Times {
    /// Received at this time or later: 1h (ago), 2026-11-29, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<String>,
    /// Received before this time: 10m (ago), 2026-11-29, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since)]
    until: Option<String>,
}

impl EventSelector {
    /// The given criteria, by their names in the admin API.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all =
            [("source", &self.source), ("transaction", &self.transaction), ("user", &self.user)];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .chain(self.times.pairs())
    }

    /// The subject of the criteria, if it is one user or one transaction.
    pub(super) const fn subject(&self) -> Option<&'static str> {
        match (&self.transaction, &self.user) {
            (Some(_), Some(_)) => Some("this transaction and user"),
            (Some(_), None) => Some("this transaction"),
            (None, Some(_)) => Some("this user"),
            (None, None) => None,
        }
    }

    /// The given criteria as the options of a command, for a shell.
    pub(super) fn options(&self) -> String {
        let option = |(name, value): (&str, &str)| {
            // A value that looks like an option is none.
            let between = if value.starts_with('-') { '=' } else { ' ' };
            format!(" --{name}{between}{}", quoted(value))
        };
        self.pairs().map(option).collect()
    }

    /// Checks the name of the source. A source that was removed is known by its events.
    ///
    /// # Errors
    /// There is no such source, or the gateway could not be asked.
    pub(super) async fn check(&self, api: &AdminApi) -> Result<(), NameError> {
        match &self.source {
            Some(name) => names::check_past(api, name).await,
            None => Ok(()),
        }
    }
}

impl Times {
    /// The given bounds, by their names in the admin API.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("since", &self.since), ("until", &self.until)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-._:/@%+,=".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Reads a time, into RFC 3339: as it is, the beginning of a day in UTC, or a duration before now.
pub(super) fn since(text: &str) -> Result<String, String> {
    time_before(text, now_ms())
}

fn time_before(text: &str, now_ms: i64) -> Result<String, String> {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.len() == "2026-11-29".len() && text.parse::<jiff::civil::Date>().is_ok() {
        return Ok(format!("{text}T00:00:00Z"));
    }
    let ago = parse_duration(text);
    let ago = ago.and_then(|ago: Duration| i64::try_from(ago.as_millis()).ok());
    match ago.and_then(|ago| now_ms.checked_sub(ago)).filter(|ms| *ms >= 0) {
        Some(ms) => Ok(rfc3339(ms)),
        None => Err(String::from(
            "write a duration such as 90s, 1h or 2d, a date such as 2026-11-29, or RFC 3339 such as \
             2026-11-29T08:00:00Z",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_a_day_or_a_duration_ago() {
        let now_ms = "2026-11-29T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let read = |text| time_before(text, now_ms).unwrap();
        assert_eq!(read("2026-11-29T08:00:00+08:00"), "2026-11-29T08:00:00+08:00");
        assert_eq!(read("2026-11-28"), "2026-11-28T00:00:00Z");
        assert_eq!(read("1h"), "2026-11-29T11:00:00.000Z");
        assert_eq!(read("2d"), "2026-11-27T12:00:00.000Z");
        for text in ["yesterday", "", "2026-13-01", "-1h", "1", "9999999d"] {
            assert!(time_before(text, now_ms).is_err(), "{text}");
        }
    }
}
