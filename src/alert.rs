//! Alerts: problems announce themselves to operators, each once when it begins and once when it
//! ends.
//!
//! ```text
//!  Survey ─problems─▶ Board ─notices─▶ Channel (webhook, e-mail, Slack, Feishu, DingTalk, WeCom)
//!    │                  └ a document of the ledger: what is open, and who was notified
//!    └ counts of all gateways, ledger, and what other gateways see
//! ```
//!
//! One of several gateways sends: the one that leads (`telemetry::Peers`). The others put the
//! problems that only they see into their records. A notice that could not be sent is sent again
//! until it is; after a crash at the wrong moment it may arrive twice, with the same id.

mod board;
mod channel;
#[cfg(feature = "email")]
mod email;
mod hook;
mod incident;
mod link;
mod rules;
mod survey;
mod text;
mod watch;

pub use channel::{SendError, send_test};
pub use link::console_at;
pub use watch::{Alerts, Tools};
