//! Delivery: recorded events reach their destinations, at least once, each time under the same id.
//!
//! ```text
//! BatchedLedger ─lease─▶ Dispatcher ─▶ AttemptTasks ─▶ Settler ─settle─▶ BatchedLedger
//!                  └ DestinationState: one per destination: slots, breaker, client
//! ```
//!
//! The [`Dispatcher`] is one task. It sleeps until something is due and never polls. The ledger
//! wakes it (an event was recorded, replayed or released), and so do the time that the ledger
//! named, a finished attempt and a new configuration. It starts each leased delivery at once. A
//! destination is excluded from the lease request if it has no free slot, if its breaker is open or
//! if the configuration no longer has it. Such a destination neither delays another nor uses up
//! attempts.
//!
//! Guaranteed: an event is settled as done only after a 2xx. After anything else the delivery is
//! retried until its attempts are used up; then it is dead and stays stored. Not guaranteed: any
//! order, and that a backend sees an event only once. A backend recognizes a repetition by
//! `webhook-id`.

mod attempt;
mod attempt_result;
mod attempt_tasks;
mod attempt_trace;
mod breaker;
mod control;
mod destination_state;
mod destination_table;
mod dispatcher;
mod failure_log;
mod forward;
mod message;
mod message_signature;
mod outbound_request;
mod pauses;
mod preview;
mod quick_hash;
mod replay;
mod schedule;
mod settler;
mod signature;
mod values;
mod verdict_recorder;

pub use breaker::BreakerState;
pub use control::{Condition, Control};
pub use dispatcher::{Deliveries, Dispatcher, Tools};
pub use pauses::{Pause, PauseReason};
pub use preview::{NoPreview, Preview};
pub use replay::{
    FoundReplay, KnownBy, ReplayFilter, ReplayMode, ReplayOrderError, ReplayProgress, Replays,
};
pub use signature::SignedMessage;
