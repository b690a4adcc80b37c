//! Replays as people order them: recorded in the audit log first, then done.

use crate::clock::now_ms;
use crate::delivery::{
    Control, ReplayFilter, ReplayMode, ReplayOrderError, ReplayProgress, Replays,
};
use crate::ledger::{
    BatchedLedger, EventId, LedgerError, ReplayId, ReplayOrder, ReplayPage, ReplayWhat, TargetId,
};
use crate::orders::OrderState;
use crate::registry::{Action, Actor, Registry};

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The order is not accepted.
    #[error(transparent)]
    Refused(#[from] ReplayOrderError),
}

/// Delivers one event again, to every destination that it has. `None`: there is no such event.
///
/// # Errors
/// The ledger fails.
pub async fn replay_event(
    registry: &Registry,
    control: &Control,
    who: &Actor,
    id: EventId,
) -> Result<Option<ReplayPage>, LedgerError> {
    let book: &BatchedLedger = registry.book();
    let Some(known) = book.event(id).await? else { return Ok(None) };
    registry.note(who, Action::Replayed, ("event", &id.to_string())).await?;
    let what = ReplayWhat::Events(vec![id]);
    let order = ReplayOrder { id: ReplayId::new(now_ms()), what, targets: None };
    let page = book.replay(&order, None, 1).await?;
    // A manual replay is a probe.
    let targets: Vec<TargetId> =
        known.deliveries.into_iter().map(|delivery| delivery.target).collect();
    control.probe(Some(targets));
    tracing::info!(event = %id, who = who.as_str(), deliveries = page.deliveries, "to be delivered again");
    Ok(Some(page))
}

/// Begins to deliver all events again that `filter` finds, as the order `id`. A dry run changes
/// nothing, so the audit log has no entry of it.
///
/// # Errors
/// The order is not accepted, or the ledger fails.
pub async fn replay_all(
    registry: &Registry,
    replays: &Replays,
    who: &Actor,
    id: ReplayId,
    filter: ReplayFilter,
) -> Result<(), ReplayError> {
    let mode = filter.mode;
    if mode == ReplayMode::Deliver {
        registry.note(who, Action::Replayed, ("replay", &id.to_string())).await?;
    }
    replays.begin(id, filter, now_ms())?;
    match mode {
        ReplayMode::Deliver => {
            tracing::info!(replay = %id, who = who.as_str(), "a replay was ordered");
        }
        ReplayMode::DryRun => {
            tracing::info!(replay = %id, who = who.as_str(), "a dry run of a replay was ordered");
        }
    }
    Ok(())
}

/// Cancels the order `id`; it ends with its present page. `None`: there is none of that id.
///
/// # Errors
/// The ledger cannot write it down; the order is cancelled all the same.
pub async fn cancel_replay(
    registry: &Registry,
    replays: &Replays,
    who: &Actor,
    id: ReplayId,
) -> Result<Option<ReplayProgress>, LedgerError> {
    let Some(progress) = replays.cancel(id).await else { return Ok(None) };
    // An order that ended before is not cancelled, and a dry run changes nothing.
    let is_cancelled = matches!(progress.state, OrderState::Running | OrderState::Cancelled);
    if is_cancelled && progress.mode == ReplayMode::Deliver {
        tracing::info!(replay = %id, who = who.as_str(), "a replay was cancelled");
        registry.note(who, Action::Cancelled, ("replay", &id.to_string())).await?;
    }
    Ok(Some(progress))
}
