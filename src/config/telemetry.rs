//! `[telemetry]`: where spans of traces go.

use toml::de::DeValue;

use super::file::{Item, Read, Section, ValueError};
use super::{TraceExport, limits, network};

pub(super) const KEYS: &[&str] = &["otlp", "sample"];

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

/// A share of all traces.
fn share(item: &Item<'_>) -> Read<f64> {
    const WANTED: &str = "a share above 0 and up to 1 such as 0.01";
    let number: Option<f64> = match item.value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => return Err(item.expected(WANTED)),
    };
    let fits = number.filter(|share| *share > 0.0 && *share <= 1.0);
    fits.ok_or_else(|| ValueError::new("is not a share of all traces", format!("write {WANTED}")))
}
