//! Public keys of senders: fetched, cached, and passed to `sender` as values.
//!
//! ```text
//! Keys ─one per list─▶ refresher ─fetch─▶ egress       a callback ─▶ KeySetState ─▶ KeySet
//!       └───────publish──────▶ KeySetState ◀── look_again ──┘
//! ```
//!
//! Sources whose sender publishes its keys share one key set, kept fresh by one task: there is
//! never more than one fetch of it in flight. It is fetched at the start, again after half of its
//! lifetime, and when a callback names an unknown key. The last is rate-limited, in all and for
//! each network of callers, because any caller can name a key. After a failed fetch the old keys
//! stay, and a metric shows their age. Callbacks wait for a fetch only if they name an unknown key.
//!
//! Certificates that callbacks name by URL are kept in a key set too, under their URLs: each is
//! fetched when the first callback names it. Those that are wanted stand in a queue, in which each
//! network has one place.

mod cache;
mod certificates;
mod confirmation;
mod fetch;
mod key_set_state;
mod lifetime;
mod refresher;
mod unknown_keys;
mod waiting;

pub use cache::Keys;
pub use confirmation::Subscription;
pub use fetch::{FetchError, fetch_certificate_once, fetch_once};
pub use key_set_state::KeySetState;
