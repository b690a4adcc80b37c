//! The stored body of an event: its JSON, the original request, and sometimes the reply.
//!
//! Encoded once, before the event is recorded, and passed around as bytes. The first byte is the
//! version of the form. In version 1 the JSON is written out beside the request. In version 2 it is
//! derived when it is read, from the request and from the facts that resolution found. Both are
//! written and read: a body that is not a callback's has version 1.

mod compact;
mod facts;

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::codec::{DecodeError, Put, Take, share};
use super::surrogates::mended;
use super::{Event, EventJson, Incoming};
use crate::sender::{Answer, Request};

/// The stored body of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBody {
    /// The event's JSON, exactly as shown and delivered.
    pub json: Bytes,
    /// The original request.
    pub request: RawRequest,
    /// The reply, where it depends on the callback and a duplicate must get the same one.
    pub reply: Option<KeptReply>,
}

/// A request as its sender made it, for replay, for disputes and for `format = "forward"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRequest {
    /// The method.
    pub method: Method,
    /// Path and query exactly as on the wire.
    pub target: Bytes,
    /// The headers, in the order of the map; values of one name in their original order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// A reply that was computed from the callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReply {
    /// The status.
    pub status: u16,
    /// The content type, if any.
    pub content_type: Option<Bytes>,
    /// The body.
    pub body: Bytes,
}

/// Values of an event that searches compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventClaims<'b> {
    /// Its transaction.
    pub transaction: Cow<'b, str>,
    /// Its user, if it has one.
    pub user: Option<Cow<'b, str>>,
}

/// The usual maximum of a length prefix and similar.
const LENGTH_BYTES: usize = 4;

/// The form that holds the JSON.
const WITH_JSON: u8 = 1;
/// The form from which the JSON is derived.
const COMPACT: u8 = 2;

impl EventBody {
    /// Encodes the body of a callback, from which its JSON is derived. `request` is the one that was
    /// resolved; it is copied once.
    ///
    /// # Errors
    /// `DecodeError` if the request is longer than 4 GiB.
    pub fn store(
        event: &Incoming<'_>,
        request: &Request<'_>,
        reply: Option<&Answer>,
    ) -> Result<Bytes, DecodeError> {
        compact::encode(event, request, reply)
    }

    /// `body` in the form of version 1, for programs that read no other.
    ///
    /// # Errors
    /// If the bytes have another form or a later version.
    pub fn with_json(body: &Bytes) -> Result<Bytes, DecodeError> {
        if body.first() != Some(&COMPACT) {
            return Ok(body.clone());
        }
        let Self { json, request, reply } = Self::decode(body)?;
        let headers = request.header_map();
        let answer = reply.map(|reply| reply.answer()).transpose()?;
        Self::encode(&json, &request.as_request("", &headers), answer.as_ref())
    }

    /// A body of version 2, marked as released by an operator; `None` for one of version 1.
    pub(super) fn compact_released(body: &Bytes) -> Option<Result<Bytes, DecodeError>> {
        (body.first() == Some(&COMPACT)).then(|| compact::released(body))
    }

    /// Where source, transaction and user of the event stand in `body`, if that is known.
    pub(super) fn positions(body: &[u8]) -> Option<[usize; 3]> {
        if body.first() != Some(&COMPACT) {
            return None;
        }
        compact::positions(body).ok()
    }

    /// Encodes the body of `event` with its JSON. The request is borrowed and copied once.
    ///
    /// # Errors
    /// `DecodeError` if the event cannot be written as JSON, which no event of a sender causes.
    pub fn encode(
        event: &impl EventJson,
        request: &Request<'_>,
        reply: Option<&Answer>,
    ) -> Result<Bytes, DecodeError> {
        let headers = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let headers: usize = headers.map(|len| len + 2 * LENGTH_BYTES).sum();
        let size = event.size_hint() + request.target.len() + headers + request.body.len();
        let mut to = Vec::with_capacity(size + reply.map_or(0, |answer| answer.body.len()));
        to.push(WITH_JSON);
        // The JSON is written in place; its length is four bytes in front, not of variable size.
        to.extend_from_slice(&[0; 4]);
        event.put_json(&mut to)?;
        let len = u32::try_from(to.len() - 5).or(Err(DecodeError))?;
        to[1..5].copy_from_slice(&len.to_le_bytes());
        put_request(&mut to, request);
        to.push(u8::from(reply.is_some()));
        if let Some(answer) = reply {
            put_reply(&mut to, answer);
        }
        Ok(to.into())
    }

    /// Decodes a stored body; the parts share `bytes`, but for a JSON that is derived.
    ///
    /// # Errors
    /// If the bytes have another form or a later version.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.first() == Some(&COMPACT) {
            return compact::decode(bytes);
        }
        let mut from = Take(bytes);
        let json = take_json(&mut from)?;
        let request = take_request(&mut from, bytes)?;
        let reply = match from.u8()? {
            0 => None,
            _ => Some(take_reply(&mut from, bytes)?),
        };
        from.end()?;
        Ok(Self { json: mended(share(bytes, json)), request, reply })
    }

    /// The event's JSON alone, for lists and deliveries that need nothing else.
    ///
    /// # Errors
    /// If the bytes have another form or a later version.
    pub fn json_of(bytes: &Bytes) -> Result<Bytes, DecodeError> {
        if bytes.first() == Some(&COMPACT) {
            return compact::json_of(bytes);
        }
        take_json(&mut Take(bytes)).map(|json| mended(share(bytes, json)))
    }

    /// Transaction and user of the event, for searches that examine many: its JSON is not made for
    /// that.
    ///
    /// # Errors
    /// If the bytes have another form or a later version.
    pub fn claims_of(bytes: &Bytes) -> Result<EventClaims<'_>, DecodeError> {
        if bytes.first() == Some(&COMPACT) {
            return compact::claims_of(bytes);
        }
        let json = Self::json_of(bytes)?;
        let event: Event<'_> = serde_json::from_slice(&json).or(Err(DecodeError))?;
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Ok(EventClaims { transaction: owned(event.transaction), user: event.user.map(owned) })
    }

    /// The event.
    ///
    /// # Errors
    /// If its JSON is not that of an event.
    pub fn event(&self) -> Result<Event<'static>, DecodeError> {
        serde_json::from_slice(&self.json).or(Err(DecodeError))
    }
}

impl KeptReply {
    /// The stored reply, for a duplicate.
    ///
    /// # Errors
    /// If status or content type are invalid.
    pub fn answer(&self) -> Result<Answer, DecodeError> {
        let content_type = self.content_type.clone().map(HeaderValue::from_maybe_shared);
        Ok(Answer {
            status: StatusCode::from_u16(self.status).or(Err(DecodeError))?,
            content_type: content_type.transpose().or(Err(DecodeError))?,
            headers: Box::default(),
            body: self.body.clone(),
        })
    }
}

impl RawRequest {
    /// The headers as a map.
    #[must_use]
    pub fn header_map(&self) -> HeaderMap {
        self.headers.iter().cloned().collect()
    }

    /// The request as a sender's recipe reads it, with the `headers` of
    /// [`RawRequest::header_map`].
    #[must_use]
    pub fn as_request<'a>(&'a self, base: &'a str, headers: &'a HeaderMap) -> Request<'a> {
        Request { method: &self.method, target: &self.target, base, headers, body: &self.body }
    }
}

// Common methods take one byte on disk; any other is written in full after a zero.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::PUT];

fn put_method(to: &mut Vec<u8>, method: &Method) {
    match METHODS.iter().position(|known| known == method) {
        Some(at) => to.push(at as u8 + 1),
        None => {
            to.push(0);
            to.put_bytes(method.as_str().as_bytes());
        }
    }
}

fn take_method(from: &mut Take<'_>) -> Result<Method, DecodeError> {
    match from.u8()? {
        0 => Method::from_bytes(from.bytes()?).or(Err(DecodeError)),
        at => METHODS.get(usize::from(at) - 1).cloned().ok_or(DecodeError),
    }
}

fn put_request(to: &mut Vec<u8>, request: &Request<'_>) {
    put_method(to, request.method);
    to.put_bytes(request.target);
    to.put_len(request.headers.len());
    for (name, value) in request.headers {
        to.put_bytes(name.as_str().as_bytes());
        to.put_bytes(value.as_bytes());
    }
    to.put_bytes(request.body);
}

fn put_reply(to: &mut Vec<u8>, answer: &Answer) {
    to.extend_from_slice(&answer.status.as_u16().to_le_bytes());
    let content_type = answer.content_type.as_ref().map(HeaderValue::as_bytes);
    to.put_bytes(content_type.unwrap_or_default());
    to.put_bytes(&answer.body);
}

/// JSON that is written already.
impl EventJson for Bytes {
    fn size_hint(&self) -> usize {
        self.len()
    }

    fn put_json(&self, to: &mut Vec<u8>) -> Result<(), DecodeError> {
        to.extend_from_slice(self);
        Ok(())
    }
}

fn take_json<'a>(from: &mut Take<'a>) -> Result<&'a [u8], DecodeError> {
    if from.u8()? != WITH_JSON {
        return Err(DecodeError);
    }
    let len = from.u32()? as usize;
    from.raw(len)
}

fn take_request(from: &mut Take<'_>, whole: &Bytes) -> Result<RawRequest, DecodeError> {
    let method = take_method(from)?;
    let target = share(whole, from.bytes()?);
    let count = from.len()?;
    let mut headers = Vec::with_capacity(count.min(from.0.len()));
    for _ in 0..count {
        let name = HeaderName::from_bytes(from.bytes()?).or(Err(DecodeError))?;
        let value = HeaderValue::from_maybe_shared(share(whole, from.bytes()?));
        headers.push((name, value.or(Err(DecodeError))?));
    }
    Ok(RawRequest { method, target, headers, body: share(whole, from.bytes()?) })
}

fn take_reply(from: &mut Take<'_>, whole: &Bytes) -> Result<KeptReply, DecodeError> {
    let status = u16::from_le_bytes(from.array()?);
    let content_type = Some(share(whole, from.bytes()?)).filter(|text| !text.is_empty());
    Ok(KeptReply { status, content_type, body: share(whole, from.bytes()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::event::tests::sample;

    fn request_parts() -> (Method, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.append("x-one", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_bytes(b"\xff raw").unwrap());
        headers.append("x-one", HeaderValue::from_static("again"));
        (Method::from_bytes(b"REPORT").unwrap(), headers)
    }

    #[test]
    fn what_was_kept_comes_back_to_the_byte() {
        let (method, headers) = request_parts();
        let target = b"/callback/a?x=%7Bu%7D&y=\xe4";
        let request = Request { method: &method, target, base: "", headers: &headers, body: b"{}" };
        let answer = Answer {
            status: StatusCode::from_u16(601).unwrap(),
            content_type: Some(HeaderValue::from_static("text/xml")),
            headers: Box::default(),
            body: Bytes::from_static(b"<ok/>"),
        };
        let event = sample();
        let bytes = EventBody::encode(&event, &request, Some(&answer)).unwrap();
        let body = EventBody::decode(&bytes).unwrap();
        assert_eq!(body.json, serde_json::to_vec(&event).unwrap());
        assert_eq!(EventBody::json_of(&bytes).unwrap(), body.json);
        let claims = EventBody::claims_of(&bytes).unwrap();
        assert_eq!(
            (claims.transaction, claims.user),
            (event.transaction.clone(), event.user.clone())
        );
        assert_eq!(body.event().unwrap().id, event.id);
        let map = body.request.header_map();
        assert_eq!(map, headers);
        let again = body.request.as_request("", &map);
        assert_eq!((again.method, again.target, again.body), (&method, &target[..], &b"{}"[..]));
        assert_eq!(body.reply.unwrap().answer().unwrap(), answer);
    }

    #[test]
    fn no_cut_and_no_other_version_is_read() {
        let (_, headers) = request_parts();
        let request = Request {
            method: &Method::GET,
            target: b"/callback/a",
            base: "",
            headers: &headers,
            body: b"",
        };
        let bytes = EventBody::encode(&sample(), &request, None).unwrap();
        assert_eq!(EventBody::decode(&bytes).unwrap().reply, None);
        for cut in 0..bytes.len() {
            assert_eq!(EventBody::decode(&bytes.slice(..cut)), Err(DecodeError));
        }
        let mut later = bytes.to_vec();
        later[0] = 3;
        assert_eq!(EventBody::decode(&later.into()), Err(DecodeError));
    }
}
