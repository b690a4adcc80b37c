//! What goes out: HTTP clients, and the guard that asks about every address before it is reached.
//!
//! Deliveries, the fetching of public keys and the trying out of addresses go through here, and nothing
//! else goes out.

mod client;
mod guard;
mod probe;

pub use client::{Client, ClientError, Trusted, told};
pub use guard::{EgressError, Guard, Scheme, Trust, is_public};
pub use probe::{Probe, ProbeError};
