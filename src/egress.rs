//! What goes out: HTTP clients, and the guard that asks about every address before it is reached.
//!
//! Deliveries and the fetching of public keys go through here, and nothing else goes out.

mod client;
mod guard;

pub use client::{Client, ClientFault, Trusted, told};
pub use guard::{Guard, Refused, Scheme, Trust, is_public};
