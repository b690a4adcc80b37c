//! The outbound request: an event in the format of its destination.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;

use super::forward::{ReadFields, with_query};
use super::signature::{Attempt, Keys};
use super::values::Values;
use super::{message, message_signature, signature};
use crate::clock::UnixMillis;
use crate::config::{
    Destination, EventNature, Format, Notation, TemplateMethod, UrlFacts, Withheld,
};
use crate::ledger::{EventBody, EventId, RawRequest};
use crate::sender::{
    Effect, MacroUrl, PathSegmentError, Placeholder, Secret, UrlTemplate, recorded_value,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION")));

/// The format of the events for one destination, computed once.
#[derive(Clone, Debug)]
pub(super) enum PayloadFormat {
    /// The event's JSON, as a POST.
    Event(Uri),
    /// The sender's own request, with these of its headers.
    Forward(Uri, Arc<ReadFields>),
    /// A URL with placeholders, for what it can tell from a grant.
    Template(UrlTemplate, TemplateMethod, EventUrlFacts),
    /// A URL with a sender's own macros.
    Macros(MacroUrl),
    /// The message of the callback, as a POST.
    Message(Uri, Notation),
    /// The URL is unusable. The check of the configuration prevents this.
    Unusable(String),
}

/// Facts that a URL states of an event, and the files of senders.
#[derive(Clone, Debug)]
pub(super) struct EventUrlFacts {
    facts: UrlFacts,
    fields: Arc<ReadFields>,
}

/// Parts of every request to one destination, computed once.
#[derive(Clone, Debug)]
pub(super) struct RequestParts {
    /// The name of the destination.
    name: String,
    keys: Keys,
    /// Additional headers.
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Headers of a delivery: content type, id, time, signature, agent, `Host`, and room for those of
/// RFC 9421, of the sender and of the destination. The map does not grow.
const HEADERS_USUAL: usize = 12;

/// An event that cannot be written in the destination's format.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    /// The stored event cannot be decoded.
    #[error("the stored event cannot be decoded")]
    Stored,
    /// With this event's values the URL is invalid.
    #[error("the destination's URL is invalid with this event's values: {0}")]
    Url(String),
    /// The URL names what only a caller brought: anybody can add a parameter that nothing signs.
    #[error(
        "[{0}] in its URL is not a pair of the source's template; write {{{0}}} for the parameter"
    )]
    Unknown(String),
    /// The backend would take the event for a grant.
    #[error("not sent: {}", .0.sentence())]
    Withheld(Withheld),
    /// The URL is invalid, whatever the event.
    #[error("the destination's URL is invalid: {0}")]
    Unusable(String),
}

impl RequestParts {
    /// The parts of requests to `destination`.
    pub(super) fn of(destination: &Destination) -> Self {
        let value = |value: &Secret| {
            let mut value = HeaderValue::from_bytes(value.expose()).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let headers = destination.headers.iter();
        Self {
            name: destination.name.clone(),
            keys: Keys::of(destination),
            headers: headers
                .filter_map(|(name, said)| Some((name.clone(), value(said)?)))
                .collect(),
        }
    }
}

impl PayloadFormat {
    /// The format of `destination`, where senders' files read these `fields`.
    pub(super) fn of(destination: &Destination, fields: &Arc<ReadFields>) -> Self {
        let uri = |make: &dyn Fn(Uri) -> Self| match destination.url.parse() {
            Ok(uri) => make(uri),
            Err(error) => Self::Unusable(format!("{error}")),
        };
        match destination.format {
            Format::Event => uri(&Self::Event),
            Format::Forward => uri(&|to| Self::Forward(to, Arc::clone(fields))),
            Format::Template => match UrlTemplate::parse(&destination.url) {
                Ok(template) => {
                    let facts = UrlFacts::of(destination).unwrap_or_default();
                    let url_facts = EventUrlFacts { facts, fields: Arc::clone(fields) };
                    Self::Template(template, destination.method, url_facts)
                }
                Err(fault) => Self::Unusable(fault.to_string()),
            },
            Format::Macros => {
                let known = |name: &str| destination.macros.iter().any(|known| known == name);
                Self::Macros(MacroUrl::read(&destination.url, known))
            }
            Format::Message(notation) => uri(&|to| Self::Message(to, notation)),
        }
    }

    /// The request that delivers `event`, made at `now_ms`.
    pub(super) fn request(
        &self,
        parts: &RequestParts,
        event: EventId,
        stored: &Bytes,
        now_ms: UnixMillis,
    ) -> Result<Request<Full<Bytes>>, PayloadError> {
        let mut outbound = match self {
            Self::Event(to) => posted(to, stored)?,
            Self::Forward(to, fields) => forwarded(to, fields, stored)?,
            Self::Template(template, method, url_facts) => {
                resolved(template, *method, url_facts, stored)?
            }
            Self::Macros(url) => replaced(url, stored)?,
            Self::Message(to, notation) => message(to, *notation, stored)?,
            Self::Unusable(why) => return Err(PayloadError::Unusable(why.clone())),
        };
        self.sign(&mut outbound, parts, Attempt { event, at_ms: now_ms });
        outbound.headers.entry(header::USER_AGENT).or_insert(AGENT);
        for (name, value) in &parts.headers {
            outbound.headers.insert(name, value.clone());
        }
        Ok(outbound.wrapped())
    }

    /// Signs `outbound`. Headers of the callback with these names are overwritten, unless its
    /// sender signs in them: then a forwarded request keeps what it was verified by. Method and URL
    /// are signed in any case: what the sender signs need not cover them.
    fn sign(&self, outbound: &mut OutboundRequest, parts: &RequestParts, attempt: Attempt) {
        let RequestParts { name, keys, .. } = parts;
        let OutboundRequest { method, to, headers, body } = outbound;
        if !headers.contains_key(signature::SIGNATURE) {
            signature::put(headers, attempt, keys, body);
        }
        if self.has_content_in_url() {
            message_signature::put(
                headers,
                message_signature::Signed { method, to, attempt, destination: name },
                keys,
            );
        }
    }

    /// Whether a part of the delivery's content is in its method, path or query.
    fn has_content_in_url(&self) -> bool {
        match self {
            Self::Forward(..) | Self::Template(..) | Self::Macros(_) => true,
            Self::Event(_) | Self::Message(..) | Self::Unusable(_) => false,
        }
    }

    /// Whether the format depends on what senders' files read.
    pub(super) fn reads_fields(&self) -> bool {
        matches!(self, Self::Forward(..) | Self::Template(..))
    }
}

/// A request under construction.
struct OutboundRequest {
    method: Method,
    to: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl OutboundRequest {
    fn wrapped(mut self) -> Request<Full<Bytes>> {
        // Some servers wait for a body if a POST has no Content-Length.
        if self.body.is_empty() && ![Method::GET, Method::HEAD].contains(&self.method) {
            self.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.to;
        *request.headers_mut() = self.headers;
        request
    }
}

/// Headers with these values, and room for the others of a delivery.
fn headers<const N: usize>(first: [(HeaderName, HeaderValue); N]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_USUAL);
    headers.extend(first);
    headers
}

fn posted(to: &Uri, stored: &Bytes) -> Result<OutboundRequest, PayloadError> {
    let body = EventBody::json_of(stored).or(Err(PayloadError::Stored))?;
    let headers = headers([(header::CONTENT_TYPE, JSON)]);
    Ok(OutboundRequest { method: Method::POST, to: to.clone(), headers, body })
}

// === forward ===

fn forwarded(
    to: &Uri,
    fields: &ReadFields,
    stored: &Bytes,
) -> Result<OutboundRequest, PayloadError> {
    let body = EventBody::decode(stored).or(Err(PayloadError::Stored))?;
    let sender = body.event().or(Err(PayloadError::Stored))?.sender;
    let RawRequest { method, target, headers, body } = body.request;
    let query = target.iter().position(|byte| *byte == b'?').map(|at| &target[at + 1..]);
    let to = with_query(to, query.unwrap_or_default())?;
    Ok(OutboundRequest { method, to, headers: fields.kept(&sender, headers), body })
}

// === macros ===

/// The URL of a reward rule, called as its sender would: with the original parameters as they were
/// read, and with a mark where they are a test.
fn replaced(url: &MacroUrl, stored: &Bytes) -> Result<OutboundRequest, PayloadError> {
    let kept = EventBody::decode(stored).or(Err(PayloadError::Stored))?;
    let values = Values::read(&kept.json).ok_or(PayloadError::Stored)?;
    let no_headers = HeaderMap::new();
    let request = kept.request.as_request("", &no_headers);
    let to = url_of(url.fill(|name| {
        let recorded = values.get(Placeholder::Parameter(name));
        recorded_value(&request, name, recorded.as_deref())
    }))?;
    let test = kept.event().or(Err(PayloadError::Stored))?.test;
    let to = if test { with_query(&to, b"is_test=1")? } else { to };
    Ok(OutboundRequest { method: Method::GET, to, headers: headers([]), body: Bytes::new() })
}

// === message ===

fn message(to: &Uri, notation: Notation, stored: &Bytes) -> Result<OutboundRequest, PayloadError> {
    let kept = EventBody::decode(stored).or(Err(PayloadError::Stored))?;
    let (content_type, body) = message::of(&kept, notation).ok_or(PayloadError::Stored)?;
    let headers = headers([(header::CONTENT_TYPE, content_type), (message::SOURCE, message::OURS)]);
    Ok(OutboundRequest { method: Method::POST, to: to.clone(), headers, body })
}

// === template ===

fn resolved(
    template: &UrlTemplate,
    method: TemplateMethod,
    url_facts: &EventUrlFacts,
    stored: &Bytes,
) -> Result<OutboundRequest, PayloadError> {
    let event = EventBody::json_of(stored).or(Err(PayloadError::Stored))?;
    let values = Values::read(&event).ok_or(PayloadError::Stored)?;
    if let Some(why) = url_facts.withholds(&values) {
        return Err(PayloadError::Withheld(why));
    }
    if let Some(name) = template.placeholders().find_map(|one| values.unknown(one)) {
        return Err(PayloadError::Unknown(name.to_owned()));
    }
    let to = url_of(template.fill(|placeholder| values.get(placeholder)))?;
    let pairs = values.pairs();
    Ok(match method {
        TemplateMethod::Get => {
            let to = with_query(&to, pairs.as_bytes())?;
            OutboundRequest { method: Method::GET, to, headers: headers([]), body: Bytes::new() }
        }
        TemplateMethod::Post => {
            let headers = headers([(header::CONTENT_TYPE, FORM)]);
            OutboundRequest { method: Method::POST, to, headers, body: pairs.into() }
        }
    })
}

impl EventUrlFacts {
    /// Why an event is not sent. It is not delivered in the first place: this is about replays, and
    /// about events that were recorded under another URL or by an older version. An event of a
    /// sender without a file, such as an operator's test, is sent.
    fn withholds(&self, values: &Values<'_>) -> Option<Withheld> {
        let value = |name| values.get(Placeholder::Member(name));
        let effects = self.fields.effects(&value("sender")?)?;
        let (kind, reverses) = (value("kind").unwrap_or_default(), value("reverses"));
        // An event of an older version has none; what it takes back, it names.
        let effect = value("effect").and_then(|word| Effect::from_name(&word));
        let by_default = if reverses.is_some() { Effect::Revoke } else { Effect::Grant };
        let event = EventNature {
            effect: effect.unwrap_or(by_default),
            kind: &kind,
            test: value("test").is_some_and(|test| test == "true"),
            reverses: reverses.as_deref(),
        };
        self.facts.withholds(&event, effects)
    }
}

/// The URL of a template with an event's values.
fn url_of(filled: Result<String, PathSegmentError>) -> Result<Uri, PayloadError> {
    let text = filled.map_err(|fault| PayloadError::Url(fault.to_string()))?;
    text.parse().map_err(|error| PayloadError::Url(format!("{error}")))
}
