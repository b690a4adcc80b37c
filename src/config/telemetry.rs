//! `[telemetry]`: where spans of traces go, and which callbacks have a line in the log.

use toml::de::DeValue;

use super::file::{Item, Read, Section, ValueError};
use super::{LineShares, TraceExport, limits, network};
use crate::sender::Outcome;

pub(super) const KEYS: &[&str] = &["otlp", "sample", "callback_lines"];

/// The table `[telemetry]`; `None`: no spans are made.
pub(super) fn check(section: &Section<'_>) -> Option<TraceExport> {
    let sample = section.take_or("sample", limits::TRACE_SAMPLE, share);
    if !section.has("otlp") {
        if section.has("sample") {
            let remedy = "write otlp = \"http://127.0.0.1:4318\", the address of a collector";
            section.fault("sample", "has no otlp beside it", remedy);
        }
        return None;
    }
    if !cfg!(feature = "otlp") {
        let what = "is a collector, which this program was built without";
        section.fault("otlp", what, "build it with --features otlp");
    }
    let collector = section.take("otlp", network::origin)?;
    Some(TraceExport { collector, sample })
}

/// The table `[telemetry.callback_lines]`; every callback has a line where it says nothing.
pub(super) fn lines(section: &Section<'_>) -> LineShares {
    let mut shares = LineShares::default();
    let Some(table) = section.section("callback_lines") else { return shares };
    let names: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    table.refuse_unknown(&names);
    for outcome in Outcome::ALL {
        if let Some(share) = table.take(outcome.as_str(), share_or_none) {
            shares.set(*outcome, share);
        }
    }
    shares
}

/// A share of all callbacks; 0: none.
fn share_or_none(item: &Item<'_>) -> Read<f64> {
    const WANTED: &str = "a share from 0 (none) to 1 (all) such as 0.01";
    let share = number(item).ok_or_else(|| item.expected(WANTED))?;
    let fits = Some(share).filter(|share| (0.0..=1.0).contains(share));
    fits.ok_or_else(|| {
        ValueError::new("is not a share of all callbacks", format!("write {WANTED}"))
    })
}

fn number(item: &Item<'_>) -> Option<f64> {
    match item.value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    }
}

/// A share of all traces.
fn share(item: &Item<'_>) -> Read<f64> {
    const WANTED: &str = "a share above 0 and up to 1 such as 0.01";
    let share = number(item).ok_or_else(|| item.expected(WANTED))?;
    let fits = Some(share).filter(|share| *share > 0.0 && *share <= 1.0);
    fits.ok_or_else(|| ValueError::new("is not a share of all traces", format!("write {WANTED}")))
}
