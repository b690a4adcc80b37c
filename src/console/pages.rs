//! The pages, one file each. `get` renders a page. `post` handles a form and redirects, so a reload
//! does not send the form again.

pub(super) mod addresses;
pub(super) mod audit;
pub(super) mod callbacks;
mod captured;
mod compare;
pub(super) mod dead_letters;
pub(super) mod debug;
pub(super) mod destinations;
pub(super) mod event;
pub(super) mod find;
pub(super) mod held;
pub(super) mod issues;
mod managed;
pub(super) mod overview;
mod preview;
pub(super) mod rejection;
mod resolved;
pub(super) mod rules;
pub(super) mod senders;
pub(super) mod sign_in;
pub(super) mod sign_in_with;
pub(super) mod sources;
mod why;

/// Last path segment of the parts that the script refreshes. These requests do not extend a session.
pub(super) const LIVE: &str = "live";
