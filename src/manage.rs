//! The admin listener: metrics, health and the admin API. The `registry` keeps the managed objects.
//!
//! Routing is a match on a path's segments. Who may ask is decided in one place, before a handler
//! sees the request: on loopback the name by which it was called (a web page must not get at it by
//! rebinding a name of its own), and the bearer token where tokens are configured.

mod admin;
pub(crate) mod failed_auth;
pub(crate) mod http;

pub use admin::{Admin, AdminParts, Starting};
pub(crate) use admin::{EXPORT_KEY, EXPORT_NEXT};
pub(crate) use http::LIMIT_MAX;
