//! Outbound connections: HTTP clients, and the guard that checks every address before a connection.
//!
//! Deliveries, key set fetches and URL probes go through here. Nothing else connects outwards.

mod client;
mod guard;
mod probe;

pub use client::{Client, ClientError, Trusted, error_text};
pub use guard::{EgressError, Guard, Scheme, Trust, is_public};
pub use probe::{Probe, ProbeError};
