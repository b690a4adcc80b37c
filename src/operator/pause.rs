//! Manual pauses and resumptions of a destination: recorded in the audit log for every actor.

use crate::delivery::Control;
use crate::ledger::{LedgerError, TargetId};
use crate::registry::{Action, Actor, AuditSubject, Registry};

/// The name of a pause in the audit log.
const KIND: &str = "pause";

/// Delivers nothing to `target` until it is resumed. The audit log keeps the `reason`.
///
/// # Errors
/// The ledger cannot write it down.
pub async fn pause(
    registry: &Registry,
    control: &Control,
    who: &Actor,
    target: &TargetId,
    reason: Option<&str>,
) -> Result<(), LedgerError> {
    let subject = AuditSubject::new(KIND, target.as_str());
    registry.note_for(who, Action::Created, subject, reason).await?;
    control.pause(target, who.as_str(), reason).await?;
    tracing::info!(destination = target.as_str(), who = who.as_str(), "paused");
    Ok(())
}

/// Goes on delivering to `target`.
///
/// # Errors
/// The ledger cannot write it down.
pub async fn resume(
    registry: &Registry,
    control: &Control,
    who: &Actor,
    target: &TargetId,
) -> Result<(), LedgerError> {
    registry.note(who, Action::Deleted, AuditSubject::new(KIND, target.as_str())).await?;
    control.resume(target, who.as_str()).await?;
    tracing::info!(destination = target.as_str(), who = who.as_str(), "resumed");
    Ok(())
}
