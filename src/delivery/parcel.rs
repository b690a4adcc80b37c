//! What is sent: an event in the form that its destination wants.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::signature;
use crate::clock::UnixMillis;
use crate::config::{Destination, Format, TemplateMethod};
use crate::ledger::{EventBody, EventId, RawRequest};
use crate::sender::{Placeholder, UrlTemplate};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION")));

/// How events are written for one destination, worked out once.
#[derive(Debug)]
pub(super) enum Form {
    /// The event's JSON, posted.
    Event(Uri),
    /// The sender's own request.
    Forward(Uri),
    /// A URL with values in it.
    Template(UrlTemplate, TemplateMethod),
    /// The URL cannot be used, which the configuration's check keeps from happening.
    Unusable(String),
}

/// An event that cannot be written in the form that is wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritable {
    /// What is stored cannot be read.
    #[error("the event as it is stored cannot be read")]
    Stored,
    /// With this event's values the URL is none.
    #[error("the destination's URL cannot be made: {0}")]
    Url(String),
    /// The URL is none, whatever the event.
    #[error("the destination's URL cannot be used: {0}")]
    Unusable(String),
}

impl Form {
    /// The form of `destination`.
    pub(super) fn of(destination: &Destination) -> Self {
        let uri = |make: fn(Uri) -> Self| match destination.url.parse() {
            Ok(uri) => make(uri),
            Err(error) => Self::Unusable(format!("{error}")),
        };
        match destination.format {
            Format::Event => uri(Self::Event),
            Format::Forward => uri(Self::Forward),
            Format::Template => match UrlTemplate::parse(&destination.url) {
                Ok(template) => Self::Template(template, destination.method),
                Err(fault) => Self::Unusable(fault.to_string()),
            },
        }
    }

    /// The request that brings `event` to `destination`, made at `now_ms`.
    pub(super) fn request(
        &self,
        destination: &Destination,
        (event, stored): (EventId, &Bytes),
        now_ms: UnixMillis,
    ) -> Result<Request<Full<Bytes>>, Unwritable> {
        let mut parcel = match self {
            Self::Event(to) => posted(to, stored)?,
            Self::Forward(to) => forwarded(to, stored)?,
            Self::Template(template, method) => resolved((template, *method), stored)?,
            Self::Unusable(why) => return Err(Unwritable::Unusable(why.clone())),
        };
        // A sender that signs in these very fields is passed on with its own.
        if ![signature::ID, signature::TIMESTAMP, signature::SIGNATURE]
            .iter()
            .any(|name| parcel.headers.contains_key(name))
        {
            let signed = (&parcel.body[..], destination.secrets.as_slice());
            signature::put(&mut parcel.headers, event, now_ms, signed);
        }
        parcel.headers.entry(header::USER_AGENT).or_insert(AGENT);
        for (name, value) in &destination.headers {
            if let Ok(mut value) = HeaderValue::from_bytes(value.expose()) {
                value.set_sensitive(true);
                parcel.headers.insert(name, value);
            }
        }
        Ok(parcel.wrapped())
    }
}

/// A request in the making.
struct Parcel {
    method: Method,
    to: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Parcel {
    fn wrapped(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.to;
        *request.headers_mut() = self.headers;
        request
    }
}

fn posted(to: &Uri, stored: &Bytes) -> Result<Parcel, Unwritable> {
    let body = EventBody::json_of(stored).or(Err(Unwritable::Stored))?;
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, JSON)]);
    Ok(Parcel { method: Method::POST, to: to.clone(), headers, body })
}

// === forward ===

/// Fields of a sender's request that are about its connection to the gateway, or about the ways it
/// took there. Everything else may be what the backend verifies.
fn is_of_the_way(name: &HeaderName) -> bool {
    const OF_THE_WAY: [HeaderName; 13] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::EXPECT,
        header::ACCEPT_ENCODING,
        header::FORWARDED,
        header::VIA,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("x-real-ip"),
    ];
    let name_text = name.as_str();
    OF_THE_WAY.contains(name)
        || name_text.starts_with("x-forwarded-")
        || name_text.starts_with("proxy-")
}

fn forwarded(to: &Uri, stored: &Bytes) -> Result<Parcel, Unwritable> {
    let body = EventBody::decode(stored).or(Err(Unwritable::Stored))?;
    let RawRequest { method, target, headers, body } = body.request;
    let query = target.iter().position(|byte| *byte == b'?').map(|at| &target[at + 1..]);
    let to = with_query(to, query.unwrap_or_default())?;
    let kept = headers.into_iter().filter(|(name, _)| !is_of_the_way(name));
    let mut map = HeaderMap::new();
    for (name, value) in kept {
        map.append(name, value);
    }
    Ok(Parcel { method, to, headers: map, body })
}

/// The URL with `query` behind its own; what no URL may hold is escaped, everything else stays as
/// the sender wrote it.
fn with_query(to: &Uri, query: &[u8]) -> Result<Uri, Unwritable> {
    if query.is_empty() {
        return Ok(to.clone());
    }
    let mut text = to.to_string();
    text.push(if to.query().is_some() { '&' } else { '?' });
    for byte in query {
        match byte {
            b'"' | b'<' | b'>' | b'#' | 0..=b' ' | 0x7f.. => {
                // Writing to a text cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text.parse().map_err(|error| Unwritable::Url(format!("{error}")))
}

// === template ===

fn resolved(
    (template, method): (&UrlTemplate, TemplateMethod),
    stored: &Bytes,
) -> Result<Parcel, Unwritable> {
    let event = EventBody::json_of(stored).or(Err(Unwritable::Stored))?;
    let values = Values::read(&event).ok_or(Unwritable::Stored)?;
    let to = template.fill(|origin, key| values.get(origin, key));
    let to: Uri = to.parse().map_err(|error| Unwritable::Url(format!("{error}")))?;
    let pairs = values.pairs();
    Ok(match method {
        TemplateMethod::Get => {
            let to = with_query(&to, pairs.as_bytes())?;
            Parcel { method: Method::GET, to, headers: HeaderMap::new(), body: Bytes::new() }
        }
        TemplateMethod::Post => {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, FORM)]);
            Parcel { method: Method::POST, to, headers, body: pairs.into() }
        }
    })
}

/// What placeholders of a URL stand for: the event's own JSON, read by member.
struct Values {
    members: Map<String, Value>,
    resolved: Pairs,
}

/// The source's template, resolved, in its own order.
#[derive(Default)]
struct Pairs(Vec<(String, String)>);

#[derive(serde::Deserialize)]
struct Templated {
    #[serde(default)]
    resolved: Pairs,
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Pairs {
    type Value = Self;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            self.0.extend(shown(&value).map(|value| (name, value)));
        }
        Ok(self)
    }
}

impl Values {
    fn read(event: &[u8]) -> Option<Self> {
        let members = serde_json::from_slice(event).ok()?;
        let Templated { resolved } = serde_json::from_slice(event).ok()?;
        Some(Self { members, resolved })
    }

    /// The value of a placeholder. `{key}` is a parameter as received, or else a member of the
    /// event (`{user}`, `{amount}`); `[key]` is what the gateway knows, or else what the source's
    /// template made of the callback, or a parameter.
    fn get(&self, origin: Placeholder, key: &str) -> Option<String> {
        let received = || self.members.get("params")?.get(key).and_then(shown);
        let own = || match key {
            "event_id" => self.members.get("id").and_then(shown),
            "params" | "resolved" => None,
            _ => self.members.get(key).and_then(shown),
        };
        let made = || {
            let pair = self.resolved.0.iter().find(|(name, _)| name == key);
            pair.map(|(_, value)| value.clone())
        };
        match origin {
            Placeholder::Received => received().or_else(own),
            Placeholder::Known => own().or_else(made).or_else(received),
        }
    }

    /// The source's template, resolved, as a query.
    fn pairs(&self) -> String {
        // Pairs of texts can always be written.
        serde_urlencoded::to_string(&self.resolved.0).unwrap_or_default()
    }
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_passed_on_as_it_came() {
        let with = |to: &'static str, query: &[u8]| {
            with_query(&Uri::from_static(to), query).unwrap().to_string()
        };
        assert_eq!(with("http://a/x", b"a=1&b=%7B+c"), "http://a/x?a=1&b=%7B+c");
        assert_eq!(with("http://a/x?k=v", b"a=1"), "http://a/x?k=v&a=1");
        assert_eq!(with("http://a", b"a=1"), "http://a/?a=1");
        assert_eq!(with("http://a/x?k=v", b""), "http://a/x?k=v");
        assert_eq!(with("http://a/", b"n={\"k\":<\xe4#>}"), "http://a/?n={%22k%22:%3C%E4%23%3E}");
    }

    #[test]
    fn fields_of_the_way_stay_behind() {
        for name in ["host", "connection", "x-forwarded-for", "proxy-authorization", "via"] {
            assert!(is_of_the_way(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["content-type", "x-hub-signature-256", "authorization", "webhook-signature"] {
            assert!(!is_of_the_way(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn placeholders_find_parameters_members_and_what_the_template_made() {
        let event = br#"{"id":"evt_1","user":"u 1","source":"s","transaction":"t",
            "params":{"uid":"p&1","n":5,"source":"theirs"},"resolved":{"type":"1","x":null,"a":"2"}}"#;
        let values = Values::read(event).unwrap();
        let template = UrlTemplate::parse(
            "https://a/{uid}/[event_id]?u={user}&n={n}&s=[source]&p={source}&t=[type](&z={zz})?&q={zz}",
        )
        .unwrap();
        assert_eq!(
            template.fill(|origin, key| values.get(origin, key)),
            "https://a/p%261/evt_1?u=u%201&n=5&s=s&p=theirs&t=1&q="
        );
        assert_eq!(values.pairs(), "type=1&a=2");
    }
}
