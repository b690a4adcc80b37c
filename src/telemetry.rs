//! What the gateway says about itself: metrics and log lines.
//!
//! Labels are closed sets and configured names, never anything that came with a request, so that
//! the number of series is a function of the configuration. A log line carries closed fields; no
//! secret, no signature and no signed text is ever one of them.

mod delivery;
mod history;
mod lines;
mod log;
mod metrics;
mod program;

pub use delivery::{DeliveryMetrics, DeliveryOutcome, VerdictOutcome};
pub use history::{Histories, History, Span, Start, Took};
pub use lines::{LineWriter, Lines, LinesGuard};
pub use log::{LogFormat, init, subscriber};
pub use metrics::{Metrics, SourceMetrics};
pub use program::ProgramMetrics;
