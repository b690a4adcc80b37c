//! Postern: a callback receiver and verifier gateway.
//!
//! Platforms that reward players, run questionnaires, show ads or push messages call it. It
//! verifies each call against stored secrets and records it durably. It replies in the format the
//! sender expects, and delivers every verified event, once per transaction, to the backend that
//! wants it.
//!
//! # The life of a callback
//!
//! ```text
//! Received ─▶ Verified ─▶ Resolved ─▶ Recorded ─▶ Reply      then      Recorded ─▶ Delivery ─▶ Attempt …
//! (intake)    (sender)    (sender)    (ledger)    (intake)             (delivery)
//! ```
//!
//! Each phase's result is a type that only that phase can make, so skipping a phase does not
//! compile. The modules carry the names of the phases; `ARCHITECTURE.md` tells the whole story.
//!
//! Only verification makes a [`sender::Verified`]:
//!
//! ```compile_fail,E0451
//! fn forge<'c, 'a>(callback: &'c mut postern::sender::Callback<'a>) -> postern::sender::Verified<'c, 'a> {
//!     postern::sender::Verified { callback }
//! }
//! ```
//!
//! Only resolution makes a [`sender::Resolved`]:
//!
//! ```compile_fail,E0599
//! let resolved = postern::sender::Resolved::default();
//! ```
//!
//! Only the ledger makes a [`ledger::Recorded`] or a [`ledger::HeldProof`], and only with one of them an
//! [`intake::Reply`] acknowledges a callback.

pub mod alert;
mod archive;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod delivery;
pub mod egress;
mod file_descriptors;
mod host;
pub mod intake;
pub mod keys;
pub mod ledger;
pub mod lifecycle;
pub mod manage;
pub mod operator;
pub mod orders;
pub mod partners;
pub mod plan;
pub mod private;
pub mod rate_limiter;
pub mod registry;
pub mod sender;
pub mod server;
pub mod telemetry;
pub mod verdict;
pub mod wire;
