//! The spans of a callback: the call, its verification and its commit.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http::Method;

use super::callback_log::CallbackRecord;
use super::received::Received;
use crate::clock;
use crate::ledger::EventId;
use crate::sender::Outcome;
use crate::telemetry::{SpanContext, SpanEnd, SpanKind, SpanValue, Spans, TraceSpan, span_time};

/// The times of a callback in progress, where spans are made.
#[derive(Debug)]
pub(super) struct CallbackTrace {
    method: &'static str,
    /// The place that the caller says it calls from. An unauthenticated caller must neither choose a
    /// trace nor its sampling, so it is only linked, and only from a verified callback.
    caller: Option<SpanContext>,
    verify: Option<[Instant; 2]>,
    recorded: Option<Instant>,
}

/// The result of a callback, as its span shows it.
pub(super) struct Ending {
    pub outcome: Outcome,
    pub reason: Option<&'static str>,
    /// The event that it is, or that it repeats.
    pub event: Option<EventId>,
    /// The event that it will be once it is released.
    pub held: Option<EventId>,
    pub status: Option<u16>,
    pub took: Duration,
}

impl CallbackTrace {
    /// The trace of a callback; `None`: no spans are made.
    pub(super) fn begin(spans: &Spans, received: &Received) -> Option<Box<Self>> {
        if !spans.is_on() {
            return None;
        }
        let request = received.request();
        let parent = request.headers.get("traceparent");
        Some(Box::new(Self {
            method: method(request.method),
            caller: parent.and_then(|value| SpanContext::parse(value.as_bytes())),
            verify: None,
            recorded: None,
        }))
    }

    /// Notes when it was verified.
    pub(super) fn verified(&mut self, began: Instant, ended: Instant) {
        self.verify = Some([began, ended]);
    }

    /// Notes that the ledger has answered.
    pub(super) fn recorded(&mut self) {
        self.recorded = Some(clock::instant());
    }

    /// Makes the spans, if the trace is sampled.
    pub(super) fn end(self, of: &CallbackRecord, ending: &Ending) {
        let spans = &of.route.callback_log.metrics.spans;
        // A duplicate has a trace of its own: that of the event has its root already.
        let own = match ending.outcome {
            Outcome::Accepted => ending.event,
            _ => ending.held,
        };
        let event = own.unwrap_or_else(|| EventId::new(clock::now_ms()));
        let Some(root) = spans.root(event).filter(|root| root.sampled) else { return };
        let first = ending.event.filter(|first| *first != event);
        let is_verified = ending.event.or(ending.held).is_some();
        let link = match first {
            Some(first) => spans.root(first),
            None => self.caller.filter(|_| is_verified),
        };
        let part = |name: &'static str, [began, ended]: [Instant; 2]| TraceSpan {
            context: root.child(),
            parent: Some(root.span),
            kind: SpanKind::Internal,
            name: Cow::Borrowed(name),
            time: span_time(began, ended),
            attributes: Vec::new(),
            link: None,
            end: SpanEnd::Fine,
        };
        if let Some(verify) = self.verify {
            spans.send(part("verify", verify));
            if let Some(recorded) = self.recorded {
                spans.send(part("commit", [verify[1], recorded]));
            }
        }
        // The path of a source whose name is its secret has the digest of the name.
        let path = format!("/callback/{}", of.route.label);
        spans.send(TraceSpan {
            context: root,
            parent: None,
            kind: SpanKind::Server,
            name: Cow::Owned(format!("{} {path}", self.method)),
            time: span_time(of.began, of.began + ending.took),
            attributes: attributes(self.method, path, of, ending),
            link,
            end: match ending.outcome {
                Outcome::Unavailable => SpanEnd::Failed,
                _ => SpanEnd::Fine,
            },
        });
    }
}

fn attributes(
    method: &'static str,
    path: String,
    of: &CallbackRecord,
    ending: &Ending,
) -> Vec<(&'static str, SpanValue)> {
    let mut attributes = vec![
        ("http.request.method", SpanValue::name(method)),
        ("http.route", SpanValue::text(path.clone())),
        ("url.path", SpanValue::text(path)),
        ("client.address", SpanValue::text(of.client.to_string())),
        ("postern.source", SpanValue::text(&*of.route.label)),
        ("postern.sender", SpanValue::text(of.route.source.recipe.sender().name())),
        ("postern.outcome", SpanValue::name(ending.outcome.as_str())),
    ];
    if let Some((scheme, host)) = of.route.base.split_once("://") {
        attributes.push(("url.scheme", SpanValue::text(scheme)));
        attributes.push(("server.address", SpanValue::text(host)));
    }
    let status = ending.status.map(|status| SpanValue::Number(i64::from(status)));
    attributes.extend(status.map(|status| ("http.response.status_code", status)));
    let reason = ending.reason.map(SpanValue::name);
    attributes.extend(reason.map(|reason| ("postern.reason", reason)));
    if ending.outcome == Outcome::Unavailable {
        attributes.push(("error.type", SpanValue::name(ending.outcome.as_str())));
    }
    let event = ending.event.or(ending.held);
    attributes.extend(event.map(|id| ("postern.event", SpanValue::text(id.to_string()))));
    attributes
}

/// The name of a method that is known; callers may make others up.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
