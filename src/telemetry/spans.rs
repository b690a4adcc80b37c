//! Spans of traces: what is made of a sampled callback and of each attempt to deliver its event,
//! and the bounded queue from which they are exported.
//!
//! The trace of an event follows from its id: every gateway finds the same trace id, the same root
//! span and the same decision of the sampler, also after a restart. Nothing is stored.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use prometheus::IntCounter;
use tokio::sync::mpsc;

use super::metrics::Family;
use crate::clock;
use crate::ledger::EventId;

/// Spans that wait for export, about 0.5 KiB each: a collector that is away for a few seconds loses
/// none at a thousand sampled spans a second.
const QUEUE_SPANS: usize = 8192;

/// Random bits of a trace id that decide about sampling, as W3C Trace Context has them.
const RANDOM_BITS: u32 = 56;

/// A share of all traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The lowest random number that is sampled, of [`RANDOM_BITS`].
    from: u64,
}

impl Sampling {
    /// The share `of` all traces, between 0 and 1.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0 and 2^56, which a float holds"
    )]
    pub fn share(of: f64) -> Self {
        let all = (1_u64 << RANDOM_BITS) as f64;
        Self { from: (all * (1.0 - of.clamp(0.0, 1.0))) as u64 }
    }

    /// Whether the trace is sampled. A collector that samples consistently decides alike.
    fn takes(self, trace: [u8; 16]) -> bool {
        let random = u128::from_be_bytes(trace) & ((1 << RANDOM_BITS) - 1);
        random >= u128::from(self.from)
    }
}

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: [u8; 8],
    /// Whether its spans are exported.
    pub sampled: bool,
}

impl SpanContext {
    /// The root span of the trace of `event`: the callback. Both ids are parts of the event's id,
    /// whose second half is random.
    fn root(event: EventId, sampling: Sampling) -> Self {
        let trace = *event.as_bytes();
        let mut span = [0; 8];
        span.copy_from_slice(&trace[8..]);
        Self { trace, span, sampled: sampling.takes(trace) }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        // Without random bytes the clock tells two spans of a trace apart.
        let random = getrandom::u64().unwrap_or_else(|_| clock::now_nanos());
        Self { span: random.max(1).to_be_bytes(), ..self }
    }

    /// The value of a `traceparent` header, if it is one.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let lower = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'-');
        if header.len() != 55 || !header.starts_with(b"00-") || !header.iter().all(lower) {
            return None;
        }
        let mut fields = header[3..].split(|byte| *byte == b'-');
        let (mut trace, mut span, mut flags) = ([0; 16], [0; 8], [0; 1]);
        const_hex::decode_to_slice(fields.next()?, &mut trace).ok()?;
        const_hex::decode_to_slice(fields.next()?, &mut span).ok()?;
        const_hex::decode_to_slice(fields.next()?, &mut flags).ok()?;
        let is_set = trace != [0; 16] && span != [0; 8];
        is_set.then_some(Self { trace, span, sampled: flags[0] & 1 == 1 })
    }

    /// The value of its `traceparent` header.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        let (trace, span) = (const_hex::encode(self.trace), const_hex::encode(self.span));
        // Writing to a string cannot fail.
        let _ = write!(text, "00-{trace}-{span}-{:02x}", u8::from(self.sampled));
        text
    }
}

/// The role of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A part of the work on a callback.
    Internal,
    /// A callback.
    Server,
    /// An attempt to deliver.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct TraceSpan {
    /// Its own place.
    pub context: SpanContext,
    /// The span that it is a part of.
    pub parent: Option<[u8; 8]>,
    /// Its role.
    pub kind: SpanKind,
    /// Its name: a constant, or a method and a configured name.
    pub name: Cow<'static, str>,
    /// Its start and its end, in nanoseconds since 1970.
    pub time: [u64; 2],
    /// Attributes: never a value of a callback, a secret or a query.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// A span of another trace that led to it.
    pub link: Option<SpanContext>,
    /// Whether it failed.
    pub end: SpanEnd,
}

/// The end of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanEnd {
    /// As intended, or for a reason of the other side.
    Fine,
    /// With an error.
    Failed,
}

impl SpanValue {
    /// A text that is known only now.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    /// A name of a closed set.
    #[must_use]
    pub const fn name(name: &'static str) -> Self {
        Self::Text(Cow::Borrowed(name))
    }
}

/// The wall-clock time of a span that began at `began` and ended at `ended`, seen from now.
#[must_use]
pub fn span_time(began: Instant, ended: Instant) -> [u64; 2] {
    let (now, wall) = (clock::instant(), clock::now_nanos());
    let back = |to: Instant| {
        let since = now.saturating_duration_since(to).as_nanos();
        wall.saturating_sub(u64::try_from(since).unwrap_or(u64::MAX))
    };
    [back(began), back(ended)]
}

/// All spans of the gateway. Off until they are started, and then on until the end.
#[derive(Debug)]
pub struct Spans {
    live: OnceLock<Live>,
    exported: IntCounter,
    dropped: IntCounter,
}

#[derive(Debug)]
struct Live {
    sampling: Sampling,
    queue: mpsc::Sender<TraceSpan>,
}

/// The spans to be exported.
#[derive(Debug)]
pub struct SpanQueue(mpsc::Receiver<TraceSpan>);

impl Spans {
    /// No spans yet.
    pub(super) fn new(family: &Family) -> Result<Self, prometheus::Error> {
        let counted =
            family.counters("postern_spans_total", "Spans of traces by outcome", &["outcome"])?;
        let of = |outcome: &str| counted.with_label_values(&[outcome]);
        Ok(Self { live: OnceLock::new(), exported: of("exported"), dropped: of("dropped") })
    }

    /// Makes spans of that share of the traces from now on. `None`: they are made already.
    pub fn start(&self, sampling: Sampling) -> Option<SpanQueue> {
        let (queue, waiting) = mpsc::channel(QUEUE_SPANS);
        self.live.set(Live { sampling, queue }).ok()?;
        Some(SpanQueue(waiting))
    }

    /// Whether spans are made at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.live.get().is_some()
    }

    /// The root span of the trace of `event`; `None`: no spans are made.
    #[must_use]
    pub fn root(&self, event: EventId) -> Option<SpanContext> {
        Some(SpanContext::root(event, self.live.get()?.sampling))
    }

    /// Queues a span for export. Never waits: without room it is dropped and counted.
    pub fn send(&self, span: TraceSpan) {
        let Some(live) = self.live.get() else { return };
        if live.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }

    /// Counts spans that the collector has taken.
    pub fn note_exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    /// Counts spans that could not be exported.
    pub fn note_dropped(&self, spans: usize) {
        self.dropped.inc_by(spans as u64);
    }
}

impl SpanQueue {
    /// Waits for spans, and then for more of them until there are `most` or `gather` is over. Loses
    /// none if it is dropped.
    pub async fn fill(&mut self, batch: &mut Vec<TraceSpan>, most: usize, gather: Duration) {
        if self.0.recv_many(batch, most).await == 0 {
            return;
        }
        let until = tokio::time::Instant::from_std(clock::instant() + gather);
        while batch.len() < most {
            let left = most - batch.len();
            match tokio::time::timeout_at(until, self.0.recv_many(batch, left)).await {
                Ok(more) if more > 0 => {}
                _ => break,
            }
        }
    }

    /// Adds the spans that wait.
    pub fn rest(&mut self, batch: &mut Vec<TraceSpan>) {
        batch.extend(std::iter::from_fn(|| self.0.try_recv().ok()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written_exactly() {
        let context = SpanContext::parse(PARENT).unwrap();
        assert_eq!(context.traceparent().as_bytes(), PARENT);
        let swap = |from: &str, to: &str| {
            let text = str::from_utf8(PARENT).unwrap().replacen(from, to, 1);
            SpanContext::parse(text.as_bytes())
        };
        assert_eq!(swap("-01", "-00"), Some(SpanContext { sampled: false, ..context }));
        for (from, to) in [
            ("00-", "01-"),
            ("0af", "0AF"),
            ("0af", "xaf"),
            ("-01", "-1"),
            ("-01", "-01-"),
            ("b7ad6b7169203331", "0000000000000000"),
            ("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            ("9c-b7", "9cb7-"),
        ] {
            assert_eq!(swap(from, to), None, "{to}");
        }
        assert_eq!(SpanContext::parse(b""), None);
    }

    #[test]
    fn the_share_is_that_of_all_ids_and_both_ends_are_exact() {
        let ids: Vec<EventId> = (0..4000).map(|_| EventId::new(1)).collect();
        let count = |share| {
            let taken = |id: &&EventId| Sampling::share(share).takes(*id.as_bytes());
            ids.iter().filter(taken).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 4000));
        // Six standard deviations.
        assert!((1800..2200).contains(&count(0.5)), "{}", count(0.5));
        assert!((290..510).contains(&count(0.1)), "{}", count(0.1));
    }

    #[test]
    fn whoever_is_sampled_by_a_share_is_sampled_by_a_larger_one() {
        for _ in 0..1000 {
            let id = *EventId::new(1).as_bytes();
            let taken = [0.01, 0.3, 0.7].map(|share| Sampling::share(share).takes(id));
            assert!(taken.is_sorted(), "{taken:?}");
        }
    }

    #[test]
    fn without_room_spans_are_dropped_and_counted() {
        let spans = crate::telemetry::Metrics::new().unwrap().spans;
        let context = SpanContext::parse(PARENT).unwrap();
        let span = || TraceSpan {
            context,
            parent: None,
            kind: SpanKind::Internal,
            name: Cow::Borrowed("a"),
            time: [0, 0],
            attributes: Vec::new(),
            link: None,
            end: SpanEnd::Fine,
        };
        spans.send(span());
        assert_eq!(spans.dropped.get(), 0, "off");
        let mut queue = spans.start(Sampling::share(1.0)).unwrap();
        assert!(spans.start(Sampling::share(1.0)).is_none());
        (0..QUEUE_SPANS + 3).for_each(|_| spans.send(span()));
        assert_eq!(spans.dropped.get(), 3);
        let mut rest = Vec::new();
        queue.rest(&mut rest);
        assert_eq!(rest.len(), QUEUE_SPANS);
    }
}
