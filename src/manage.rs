//! The admin listener (metrics, health, the admin API) and the management APIs of the seeds, each a
//! module that is faithful to its document. What they manage is kept by the `registry`.
//!
//! Routing is a match on a path's segments. Who may ask is decided in one place, before a handler
//! sees the request: on loopback the name by which it was called (a web page must not get at it by
//! rebinding a name of its own), and the bearer token where tokens are configured.

mod admin;
mod background_check;
mod callback_address;
mod failed_auth;
mod http;
mod partners;
mod push_config;
mod reward_rule;
mod spent;

pub use admin::{Admin, Starting};
pub(crate) use admin::{EXPORT_KEY, EXPORT_NEXT};
pub use partners::Partners;
