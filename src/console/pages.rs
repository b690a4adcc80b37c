//! The pages, a file each. `get` makes a page of what was asked, `post` does what a form asks for
//! and answers with where to go then, so that a reload repeats nothing.

pub(super) mod addresses;
pub(super) mod audit;
pub(super) mod callbacks;
mod captured;
pub(super) mod dead_letters;
pub(super) mod debug;
pub(super) mod destinations;
pub(super) mod event;
pub(super) mod held;
mod managed;
pub(super) mod overview;
pub(super) mod refusal;
mod resolved;
pub(super) mod rules;
pub(super) mod senders;
pub(super) mod sign_in;
pub(super) mod sources;

/// The last segment of a path that the script asks for again and again: nobody's doing, so that it
/// keeps no session alive.
pub(super) const LIVE: &str = "live";
