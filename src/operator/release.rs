//! Releases as people order them: recorded in the audit log first, then done.

use serde_json::{Map, Value};

use super::replay::IDS_NOTED;
use super::source_name;
use crate::clock::{now_ms, rfc3339};
use crate::config::Config;
use crate::intake::{BusyError, ReleaseFilter, ReleaseMode, ReleaseProgress, Releases};
use crate::ledger::{HeldId, LedgerError, ReleaseId};
use crate::orders::OrderState;
use crate::registry::{Action, Actor, AuditSubject, Registry};

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Too many run.
    #[error(transparent)]
    Busy(#[from] BusyError),
}

/// Facts about an order for the audit log: its filter.
fn facts(config: &Config, filter: &ReleaseFilter) -> Map<String, Value> {
    let ReleaseFilter { source, reasons, since_ms, until_ms, ids, mode: _ } = filter;
    let listed = |all: Vec<String>| (!all.is_empty()).then(|| Value::from(all));
    let reasons = reasons.iter().map(|reason| reason.as_str().to_owned());
    let all = [
        ("source", Some(Value::from(source_name(config, source)))),
        ("reasons", listed(reasons.collect())),
        ("since", since_ms.map(|ms| Value::from(rfc3339(ms)))),
        ("until", until_ms.map(|ms| Value::from(rfc3339(ms)))),
        ("callbacks", (!ids.is_empty()).then(|| Value::from(ids.len()))),
        ("ids", listed(ids.iter().take(IDS_NOTED).map(HeldId::to_string).collect())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Begins to release all callbacks in quarantine that `filter` finds, as the order `id`.
///
/// # Errors
/// The order is not accepted, or the ledger fails.
pub async fn release_all(
    registry: &Registry,
    releases: &Releases,
    who: &Actor,
    id: ReleaseId,
    filter: ReleaseFilter,
) -> Result<(), ReleaseError> {
    let mode = filter.mode;
    if mode == ReleaseMode::Real {
        let facts = facts(&registry.config(), &filter);
        let id = id.to_string();
        let subject = AuditSubject::new("release", &id);
        registry.note_with(who, Action::Released, subject, facts).await?;
    }
    releases.begin(id, filter, now_ms())?;
    match mode {
        ReleaseMode::Real => {
            tracing::info!(release = %id, who = who.as_str(), "a release was ordered");
        }
        ReleaseMode::DryRun => {
            tracing::info!(release = %id, who = who.as_str(), "a dry run of a release was ordered");
        }
    }
    Ok(())
}

/// Cancels the order `id`; it ends with what it is looking at. `None`: there is none of that id.
///
/// # Errors
/// The ledger cannot write it down; the order is cancelled all the same.
pub async fn cancel_release(
    registry: &Registry,
    releases: &Releases,
    who: &Actor,
    id: ReleaseId,
) -> Result<Option<ReleaseProgress>, LedgerError> {
    let Some(progress) = releases.cancel(id).await else { return Ok(None) };
    // An order that ended before is not cancelled, and a dry run changes nothing.
    let is_cancelled = matches!(progress.state, OrderState::Running | OrderState::Cancelled);
    if is_cancelled && progress.mode == ReleaseMode::Real {
        tracing::info!(release = %id, who = who.as_str(), "a release was cancelled");
        let id = id.to_string();
        registry.note(who, Action::Cancelled, AuditSubject::new("release", &id)).await?;
    }
    Ok(Some(progress))
}
