//! Leases of deliveries. None is given whose result could not be recorded: on a full disk it would be
//! delivered again each time that its lease expires.

use std::time::Duration;

use super::Embedded;
use super::core::Core;
use super::deliveries::Handed;
use crate::ledger::{Lease, LeaseAsk, LeaseBatch, LedgerError, NodeId};

/// When a delivery that waits for room is looked at again. The indexer looks for room meanwhile.
const NO_ROOM: Duration = Duration::from_secs(1);

impl Embedded {
    /// As [`Ledger::lease`](crate::ledger::Ledger::lease).
    pub(super) async fn lease_due(
        &self,
        who: &NodeId,
        ask: &LeaseAsk,
    ) -> Result<LeaseBatch, LedgerError> {
        self.core().poison.check()?;
        if !self.core().has_room_for_results() {
            return Ok(waiting_for_room(self.core(), ask));
        }
        let (handed, next_due) = {
            let now = self.core().now();
            let mut deliveries = self.core().deliveries();
            let handed = deliveries.lease(who, ask, now);
            (handed, deliveries.next_due(&ask.targets, now))
        };
        let ttl = ask.ttl;
        let leases = if handed.iter().all(|handed| handed.body.is_some()) {
            with_bodies(self.core(), handed, ttl)
        } else {
            self.read(move |core| Ok(with_bodies(core, handed, ttl))).await?
        };
        Ok(LeaseBatch { leases, next_due })
    }
}

/// No lease. Deliveries that are due wait.
fn waiting_for_room(core: &Core, ask: &LeaseAsk) -> LeaseBatch {
    let next_due = core.deliveries().next_due(&ask.targets, core.now());
    if next_due == Some(Duration::ZERO)
        && let Some(others) = core.unleased.admit()
    {
        tracing::warn!(
            others,
            "deliveries wait: the disk has no room for another segment of the store, so their \
             results could not be recorded; free space on the disk"
        );
    }
    LeaseBatch { leases: Vec::new(), next_due: next_due.map(|due| due.max(NO_ROOM)) }
}

/// Adds the bodies that are not in memory. A delivery with an unreadable body stays leased, is
/// reported, and becomes due again when its lease expires.
fn with_bodies(core: &Core, handed: Vec<Handed>, ttl: Duration) -> Vec<Lease> {
    let lease = |handed: Handed| {
        let body = match handed.body {
            Some(body) => body,
            None => match core.body(handed.event) {
                Ok(Some(body)) => body,
                Ok(None) => {
                    core.notice(format!("{}: its record is missing", handed.event));
                    return None;
                }
                Err(error) => {
                    // Fails again with each lease; the place is recorded where it was found.
                    if let Some(others) = core.unread.admit() {
                        let event = handed.event;
                        core.notice(format!("{event}: {error} ({others} more since the last)"));
                    }
                    return None;
                }
            },
        };
        let Handed { event, target, attempt, token, .. } = handed;
        Some(Lease { event, target, attempt, token, body, expires_in: ttl })
    };
    handed.into_iter().filter_map(lease).collect()
}
