//! Outbound connections: HTTP clients, and the guard that checks every address before a connection.
//!
//! Deliveries, fetches of key sets and certificates, confirmations and URL probes go through here. Nothing else connects outwards.

mod address;
mod client;
mod exchange;
mod guard;
mod probe;
#[cfg(feature = "s3")]
pub mod s3;

pub use address::resolve;
pub use client::{Client, ClientError, Trusted, authorities, error_text, has_system_roots};
pub use exchange::{ExchangeError, UnreadResponse};
pub use guard::{EgressError, Guard, Scheme, Trust, is_public};
pub use probe::{Probe, ProbeError};
