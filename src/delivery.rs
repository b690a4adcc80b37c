//! Delivery: recorded events reach their destinations, at least once, each time under the same id.
//!
//! ```text
//! BatchedLedger ─lease─▶ Courier ─one a delivery─▶ Attempt ─▶ Clerk ─settle─▶ BatchedLedger
//!                  └ Lane: one a destination: places, breaker, client
//! ```
//!
//! The [`Courier`] is one task. It sleeps until something is due, and nothing polls: it is woken by
//! the ledger (an event was recorded, replayed, given back), by the time that the ledger named, by
//! an attempt that ended, and by a new configuration. What it leases it starts at once; a
//! destination that has no place left, whose breaker is open or that the configuration no longer
//! has is left out of what it asks for, so that it neither holds up another nor uses up attempts.
//!
//! What is promised: an event is settled as done only after a 2xx; whatever else happens it is
//! tried again until its attempts are used up, and then it is dead, which is kept. What is not: any
//! order, and that a backend sees an event once only. It knows a repetition by `webhook-id`.

mod attempt;
mod attempt_result;
mod breaker;
mod control;
mod destination_state;
mod destination_table;
mod dispatcher;
mod forward;
mod judge;
mod message;
mod message_signature;
mod outbound_request;
mod pauses;
mod replay;
mod schedule;
mod settler;
mod signature;
mod values;

pub use breaker::BreakerState;
pub use control::{Condition, Control};
pub use dispatcher::{Dispatcher, Tools};
pub use pauses::{Pause, PauseReason};
pub use replay::{ReplayFilter, ReplayOrderError, ReplayProgress, ReplayState, Replays};
