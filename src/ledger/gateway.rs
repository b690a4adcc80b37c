//! Records of the gateways that share a ledger: what each one counted, and which one leads.

use std::time::Duration;

use bytes::Bytes;

use super::NodeId;

/// Maximum bytes of a record. A gateway with more sources leaves out the least recent ones.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// The place of a record. A gateway keeps its slot while it lives; the next one that starts takes
/// over the slot of one that has ended, with what it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewaySlot(pub u32);

/// The record of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRecord {
    /// Its slot.
    pub slot: GatewaySlot,
    /// Whether the gateway still writes it.
    pub is_live: bool,
    /// The content, opaque to the ledger; empty if nothing was written yet.
    pub body: Bytes,
}

/// A gateway's own record, to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReport {
    /// Its slot.
    pub slot: GatewaySlot,
    /// The gateway.
    pub who: NodeId,
    /// How long the gateway counts as alive from now on; zero: it ends, and its slot is free.
    pub ttl: Duration,
    /// The content.
    pub body: Bytes,
}
