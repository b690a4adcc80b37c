//! The protocol of collectors, OTLP over HTTP: the messages of a request with spans, version 1, as
//! far as they are written here. A test reads them with another implementation.

use prost::Message as _;

use super::spans::{SpanEnd, SpanKind, SpanValue, TraceSpan};

/// The name of what makes the spans.
const NAME: &str = "postern";

/// The path below a collector's URL.
pub const PATH: &str = "/v1/traces";

/// The media type of the requests.
pub const MEDIA_TYPE: &str = "application/x-protobuf";

/// A request with `spans` of the gateway called `instance`.
#[must_use]
pub fn request(spans: &[TraceSpan], instance: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = Resource {
        attributes: vec![
            text("service.name", NAME),
            text("service.version", version),
            text("service.instance.id", instance),
        ],
    };
    let scope = Scope { name: NAME.to_owned(), version: version.to_owned() };
    let scoped = ScopeSpans { scope: Some(scope), spans: spans.iter().map(Span::from).collect() };
    let of_resource = ResourceSpans { resource: Some(resource), scoped: vec![scoped] };
    Request { resources: vec![of_resource] }.encode_to_vec()
}

/// How many spans the collector rejected, according to its response to a request.
#[must_use]
pub fn rejected(response: &[u8]) -> usize {
    let read = Response::decode(response).ok().and_then(|response| response.partial);
    read.and_then(|partial| usize::try_from(partial.rejected).ok()).unwrap_or(0)
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(Value::Text(value.to_owned()));
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }) }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scoped: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, repeated, tag = "13")]
    links: Vec<Link>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Link {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
}

impl From<&TraceSpan> for Span {
    fn from(span: &TraceSpan) -> Self {
        let attributes = span.attributes.iter().map(|(key, value)| {
            let value = match value {
                SpanValue::Text(text) => Value::Text(text.to_string()),
                SpanValue::Number(number) => Value::Number(*number),
            };
            KeyValue { key: (*key).to_owned(), value: Some(AnyValue { value: Some(value) }) }
        });
        let kind = match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        };
        let status = match span.end {
            SpanEnd::Fine => None,
            SpanEnd::Failed => Some(Status { code: 2 }),
        };
        let link = |to: super::spans::SpanContext| Link {
            trace: to.trace.to_vec(),
            span: to.span.to_vec(),
        };
        Self {
            trace: span.context.trace.to_vec(),
            id: span.context.span.to_vec(),
            parent: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            name: span.name.to_string(),
            kind,
            start: span.time[0],
            end: span.time[1],
            attributes: attributes.collect(),
            links: span.link.map(link).into_iter().collect(),
            status,
            flags: u32::from(span.context.sampled),
        }
    }
}
