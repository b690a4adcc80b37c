//! The receiving path: a request to `/callback/<source>`, from its head to its sender's answer.
//!
//! ```text
//! find ─▶ receive ─▶ judge ─▶ record ─▶ reply
//!  │        │          │        │         └ in the format the sender expects, or silence
//!  │        │          │        └ the ledger; what it says is durable, and only then told
//!  │        │          └ the sender's recipe: verified, resolved, or why not
//!  │        └ disabled? from where? then the body: bounded, timed, within the pool
//!  └ source and caller, from the snapshot of the configuration
//! ```
//!
//! Every callback has a record that is counted and logged exactly once, when it is dropped. A
//! sender that hangs up while its event is recorded changes nothing but the reply.
//!
//! After a source is found, a transient failure is answered with that sender's own `unavailable`:
//! many senders never retry after a 429 or a 5xx.

mod address_check;
mod callback_log;
mod callback_trace;
mod client;
mod commit;
mod destinations;
mod dispute;
mod handler;
mod held_requests;
mod http_reply;
mod inline_wait;
mod judging;
mod line_sampler;
mod quarantine;
mod received;
mod recent;
mod record;
mod rejections;
mod release;
mod releases;
mod reply;
mod route;
mod secret_uses;
mod several;
mod test_calls;

pub use client::{Caller, caller_at};
pub use handler::CallbackHandler;
pub use received::Received;
pub use recent::{Recent, UnrecordedCallback};
pub use rejections::Rejections;
pub use release::{ReleaseMode, Released, ReleasedCallback};
pub use releases::{BusyError, FoundRelease, ReleaseFilter, ReleaseProgress, Releases};
pub use reply::{Proof, Reply};
pub use test_calls::TestCall;
