//! Metrics and log lines.
//!
//! Labels are closed sets and configured names, never values of a request: the configuration bounds
//! the number of series. A log line has a closed set of fields, none of them a secret, a signature
//! or a signed text.

mod archive;
mod callback_line;
mod cell;
mod delivery;
mod destination_health;
mod gateway_record;
mod history;
mod keys;
mod lines;
mod log;
mod metrics;
mod observed;
#[cfg(feature = "otlp")]
pub mod otlp;
mod printable;
mod program;
mod rejections;
mod spans;

pub use archive::{ArchiveDelay, ArchiveMetrics};
pub use callback_line::{CallbackLevel, CallbackLine, LineOutput};
pub use delivery::{DeliveryMetrics, DeliveryOutcome, VerdictOutcome};
pub use destination_health::{DestinationHealth, DestinationHealths, HealthView};
pub use gateway_record::{GatewayNotes, Peers};
pub use history::{Histories, History, Span, Start, Took, is_verified};
pub use keys::KeyMetrics;
pub use lines::{LineWriter, Lines, LinesGuard};
pub use log::{LogFormat, init, subscriber};
pub use metrics::{Metrics, SourceMetrics};
pub(crate) use printable::{is_unprintable, printable_json};
pub use program::ProgramMetrics;
pub use spans::{
    Sampling, SpanContext, SpanEnd, SpanKind, SpanQueue, SpanValue, Spans, TraceSpan, span_time,
};
