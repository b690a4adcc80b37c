//! Public keys of senders: fetched, cached, and handed to `sender` as values.
//!
//! ```text
//! Keys ─one a list─▶ Keeper ─fetch─▶ egress          a callback ─▶ Published ─▶ KeySet
//!                      └──────publish──────▶ Published ◀── look_again ──┘
//! ```
//!
//! Sources whose sender publishes its keys in a list share one copy of it, kept by a task of its
//! own: so there is never more than one fetch of a list at a time. A list is fetched at the start,
//! again when half of its lifetime is over, and when a callback names a key that it does not have;
//! that last at a bounded rate, because anybody can name a key. What cannot be fetched leaves what
//! is there in force, and the metric says how old it is. Callbacks wait for a fetch only where they
//! name a key that is not there.

mod cache;
mod fetch;
mod key_set_state;
mod lifetime;
mod refresher;
mod unknown_keys;

pub use cache::Keys;
pub use fetch::{FetchError, fetch_once};
pub use key_set_state::KeySetState;
