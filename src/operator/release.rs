//! Releases as people order them: recorded in the audit log first, then done.

use crate::clock::now_ms;
use crate::intake::{BusyError, ReleaseFilter, ReleaseMode, ReleaseProgress, Releases};
use crate::ledger::{LedgerError, ReleaseId};
use crate::orders::OrderState;
use crate::registry::{Action, Actor, Registry};

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
        registry.note(who, Action::Released, ("release", &id.to_string())).await?;
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
        registry.note(who, Action::Cancelled, ("release", &id.to_string())).await?;
    }
    Ok(Some(progress))
}
