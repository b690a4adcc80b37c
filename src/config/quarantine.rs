//! `quarantine` of a source: which rejected callbacks are held for a person, and how many.

use std::time::Duration;

use toml::de::DeValue;

use super::file::{Item, Read, Section, ValueError, nearest};
use super::unit;
use crate::ledger::HeldBounds;
use crate::sender::Reason;

pub(super) const KEYS: &[&str] = &["reasons", "keep", "max", "answer"];

/// How long rejected callbacks are held unless it is said: long enough for a mistake that is made
/// before holidays.
pub const KEEP: Duration = Duration::from_secs(14 * 86_400);

/// The longest: a decision that takes longer than a quarter is never made.
const KEEP_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Bytes that are held unless it is said: some 50,000 callbacks of a reward network.
const MAX: usize = 64 << 20;

/// A least that is worth it, and what a gateway reads at a start.
const MAX_BOUNDS: std::ops::RangeInclusive<usize> = (1 << 20)..=(4 << 30);

/// Callbacks that are held, for each MiB: the smallest takes half a KiB.
const PER_MIB: u64 = 2048;

/// The rejected callbacks that a source holds for an operator's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The reasons, each of which [`Reason::can_be_held`].
    pub reasons: Vec<Reason>,
    /// How long, from receipt.
    pub keep: Duration,
    /// How much.
    pub bounds: HeldBounds,
    /// The reply to the sender.
    pub answer: HeldAnswer,
}

/// The reply to the sender of a callback in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldAnswer {
    /// The callback is rejected.
    Refuse,
    /// The callback is accepted, once it is held.
    Accept,
}

impl Quarantine {
    /// Whether callbacks are held that are rejected for `reason`.
    #[must_use]
    pub fn holds(&self, reason: Reason) -> bool {
        self.reasons.contains(&reason)
    }
}

/// The table of a source.
pub(super) fn read(source: &Section<'_>) -> Option<Quarantine> {
    let section = source.section("quarantine")?;
    section.refuse_unknown(KEYS);
    let reasons = section.need("reasons", "\"all\", or [\"bad_signature\"]", reasons);
    let keep = unit::duration(Duration::from_secs(3600)..=KEEP_MAX);
    let keep = section.take_or("keep", KEEP, keep);
    let max = section.take_or("max", MAX, unit::size(MAX_BOUNDS));
    let answer = section.take_or(
        "answer",
        HeldAnswer::Refuse,
        unit::word(&[("refuse", HeldAnswer::Refuse), ("accept", HeldAnswer::Accept)]),
    );
    let bytes = max as u64;
    let bounds = HeldBounds { count: (bytes >> 20) * PER_MIB, bytes };
    Some(Quarantine { reasons: reasons?, keep, bounds, answer })
}

fn reasons(item: &Item<'_>) -> Read<Vec<Reason>> {
    match item.value {
        DeValue::String(text) if text == "all" => Ok(held_reasons().collect()),
        DeValue::Array(list) if !list.is_empty() => {
            let name = |value: &DeValue<'_>| held_reason(value.as_str().unwrap_or_default());
            list.iter().map(|value| name(value.get_ref())).collect()
        }
        _ => Err(item.expected("\"all\", or a list of reasons such as [\"bad_signature\"]")),
    }
}

fn held_reasons() -> impl Iterator<Item = Reason> {
    Reason::ALL.iter().copied().filter(|reason| reason.can_be_held())
}

/// The reason of that name, if callbacks can be held for it.
pub(crate) fn held_reason(name: &str) -> Read<Reason> {
    let names: Vec<&str> = held_reasons().map(Reason::as_str).collect();
    match Reason::from_name(name) {
        Some(reason) if reason.can_be_held() => Ok(reason),
        Some(_) => {
            let what = format!("{name} cannot be held: such a callback is not read as a whole");
            Err(ValueError::new(what, "remove it"))
        }
        None => {
            let near = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let all = || format!("the reasons are {}", names.join(", "));
            Err(ValueError::new(format!("there is no reason {name:?}"), near.unwrap_or_else(all)))
        }
    }
}
