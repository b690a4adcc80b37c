//! The span of an attempt, which the backend continues.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue, Request};

use super::attempt::AttemptReport;
use super::attempt_result::AttemptResult;
use crate::clock;
use crate::ledger::{EventId, TargetId};
use crate::telemetry::{Metrics, SpanContext, SpanEnd, SpanKind, SpanValue, TraceSpan, span_time};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// An attempt in progress, where spans are made. Its trace follows from the event's id, whichever
/// gateway makes the attempt.
#[derive(Debug)]
pub(super) struct AttemptTrace {
    metrics: Arc<Metrics>,
    root: SpanContext,
    own: SpanContext,
    event: EventId,
    number: u32,
    began: Instant,
    method: Cow<'static, str>,
    server: Option<(String, Option<u16>)>,
}

impl AttemptTrace {
    /// The trace of attempt `number` (from 1) to deliver `event`; `None`: no spans are made.
    pub(super) fn begin(metrics: &Arc<Metrics>, event: EventId, number: u32) -> Option<Box<Self>> {
        let root = metrics.spans.root(event)?;
        Some(Box::new(Self {
            metrics: Arc::clone(metrics),
            root,
            own: root.child(),
            event,
            number,
            began: clock::instant(),
            method: Cow::Borrowed("POST"),
            server: None,
        }))
    }

    /// Passes the trace on to the backend, unless the destination sets that header itself.
    pub(super) fn pass_on<B>(&mut self, request: &mut Request<B>) {
        if let Ok(value) = HeaderValue::from_str(&self.own.traceparent()) {
            request.headers_mut().entry(&TRACEPARENT).or_insert(value);
        }
        self.method = Cow::Owned(request.method().to_string());
        let uri = request.uri();
        self.server = uri.host().map(|host| (host.to_owned(), uri.port_u16()));
    }

    /// Makes the span, if the trace is sampled. Path and query of the URL may hold a secret of the
    /// backend, and are in no attribute.
    pub(super) fn end(self, target: &TargetId, report: &AttemptReport) {
        if !self.own.sampled {
            return;
        }
        let status = report.attempt.status;
        let mut attributes = vec![
            ("http.request.method", SpanValue::Text(self.method.clone())),
            ("postern.destination", SpanValue::text(target.as_str())),
            ("postern.event", SpanValue::text(self.event.to_string())),
        ];
        if let Some((host, port)) = self.server {
            attributes.push(("server.address", SpanValue::text(host)));
            let port = port.map(|port| SpanValue::Number(i64::from(port)));
            attributes.extend(port.map(|port| ("server.port", port)));
        }
        if self.number > 1 {
            let before = SpanValue::Number(i64::from(self.number - 1));
            attributes.push(("http.request.resend_count", before));
        }
        let number = status.map(|status| SpanValue::Number(i64::from(status)));
        attributes.extend(number.map(|status| ("http.response.status_code", status)));
        let failure = failure(report.result);
        attributes.extend(failure.clone().map(|failure| ("error.type", failure)));
        self.metrics.spans.send(TraceSpan {
            context: self.own,
            parent: Some(self.root.span),
            kind: SpanKind::Client,
            name: self.method,
            time: span_time(self.began, clock::instant()),
            attributes,
            link: None,
            end: if failure.is_some() { SpanEnd::Failed } else { SpanEnd::Fine },
        });
    }
}

/// The kind of failure; `None` where the backend took the event.
fn failure(result: AttemptResult) -> Option<SpanValue> {
    Some(match result {
        AttemptResult::Answered(status, _) if status.is_success() => return None,
        AttemptResult::Answered(status, _) => SpanValue::text(status.as_str()),
        AttemptResult::Unclear => SpanValue::name("unclear_verdict"),
        AttemptResult::Unreadable(_) => SpanValue::name("unreadable_verdict"),
        AttemptResult::Late => SpanValue::name("timeout"),
        AttemptResult::Broken => SpanValue::name("connection"),
        AttemptResult::InvalidPayload => SpanValue::name("invalid_payload"),
        AttemptResult::Unable => SpanValue::name("unable"),
    })
}
