//! Records of gateways.

use std::time::Duration;

use bytes::Bytes;

use super::Model;
use crate::clock::{UnixMillis, millis};
use crate::ledger::{GatewayRecord, GatewayReport, GatewaySlot, NodeId};

/// The record in a slot; the slot is its place in the list.
pub(super) struct Kept {
    who: NodeId,
    until_ms: UnixMillis,
    body: Bytes,
}

impl Model {
    pub(in crate::ledger::memory) fn join(&mut self, who: &NodeId, ttl: Duration) -> GatewayRecord {
        let now = self.clock.ms();
        let free = self.gateways.iter().position(|kept| kept.until_ms <= now);
        let at = free.unwrap_or_else(|| {
            let new = Kept { who: who.clone(), until_ms: now, body: Bytes::new() };
            self.gateways.push(new);
            self.gateways.len() - 1
        });
        let kept = &mut self.gateways[at];
        (kept.who, kept.until_ms) = (who.clone(), now + millis(ttl));
        GatewayRecord { slot: slot(at), is_live: false, body: kept.body.clone() }
    }

    pub(in crate::ledger::memory) fn report(
        &mut self,
        report: &GatewayReport,
    ) -> Option<Vec<GatewayRecord>> {
        let now = self.clock.ms();
        let own = self.gateways.get_mut(report.slot.0 as usize)?;
        if own.who != report.who {
            return None;
        }
        (own.until_ms, own.body) = (now + millis(report.ttl), report.body.clone());
        let all = self.gateways.iter().enumerate().filter(|(at, _)| slot(*at) != report.slot);
        let record = |(at, kept): (usize, &Kept)| {
            let (is_live, body) = (kept.until_ms > now, kept.body.clone());
            GatewayRecord { slot: slot(at), is_live, body }
        };
        Some(all.map(record).collect())
    }
}

fn slot(at: usize) -> GatewaySlot {
    GatewaySlot(u32::try_from(at).unwrap_or(u32::MAX))
}
