//! The form of version 2: a callback is stored once, and its JSON is derived from it.
//!
//! ```text
//! body     2 · flags · id (16) · time of receipt (8), if the id has another one · method
//!          length of the target · length of the request's body · text: target, then body
//!          source · sender · roles (a bit for each) · roles that are covered · codes
//!          roles that are escaped, and whether parameters are, if any · a part for each role · kind · unresolved names, if any
//!          names re-cut, if any · template, if any · form of the parameters · headers
//!          reply, if it is kept
//! part     length << 1 | 1 · position in the text, or length << 1 · the text itself
//! header   number of a known name, or 0 and the name · value
//! ```
//!
//! Nothing here refers to a sender's file: the JSON of a body is the same for ever.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};

use super::facts::{Facts, Texts};
use super::{
    COMPACT, EventBody, EventClaims, LENGTH_BYTES, RawRequest, put_method, put_reply, take_method,
};
use crate::ledger::codec::{DecodeError, Put, Take, share};
use crate::ledger::{EventId, Incoming, Release};
use crate::sender::{
    AmountUnit, Answer, Effect, Fact, ParamTexts, Request, Resolved, Role, StoredParams,
};

const RELEASED: u8 = 1;
const TEST: u8 = 2;
const REPLY: u8 = 4;
/// The id was not made for the time of receipt, which is written too.
const APART: u8 = 8;
const UNRESOLVED: u8 = 16;
const RECUT: u8 = 32;
const ESCAPED: u8 = 64;
const TEMPLATE: u8 = 128;
/// The place of the flags.
const FLAGS_AT: usize = 1;

/// The bits of the effect, in the codes; above them the unit of the amount.
const EFFECT_MASK: u8 = 3;
const UNIT_SHIFT: u32 = 2;
const UNIT_MASK: u8 = 3;
/// Parameters are escaped, in the byte of the escaped roles. Older versions pass over it.
const PARAMS: u8 = 128;
const KIND_COVERED: u8 = 16;
const TEST_COVERED: u8 = 32;

/// About how many bytes a body takes beyond its texts.
const FIXED_BYTES: usize = 80;

/// Header names that are written as their place in this list, from 1. New ones come at its end.
const NAMES: [HeaderName; 18] = [
    header::HOST,
    header::USER_AGENT,
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CACHE_CONTROL,
    header::ACCEPT_LANGUAGE,
    header::FORWARDED,
    header::VIA,
    header::AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::PRAGMA,
    header::DATE,
    header::REFERER,
    header::TE,
    header::EXPECT,
];

// === Writing ===

pub(super) fn encode(
    event: &Incoming<'_>,
    request: &Request<'_>,
    reply: Option<&Answer>,
) -> Result<Bytes, DecodeError> {
    let Incoming { id, source, sender, received_ms, resolved, params, .. } = *event;
    let text = Text { target: request.target, body: request.body };
    // A position has to fit into what is read again.
    u32::try_from(text.len()).or(Err(DecodeError))?;
    let mut to = Vec::with_capacity(size(event, request, reply));
    to.extend_from_slice(&[COMPACT, flags(event, reply)]);
    to.extend_from_slice(id.as_bytes());
    if received_ms != id.ms() {
        to.extend_from_slice(&received_ms.to_le_bytes());
    }
    put_method(&mut to, request.method);
    to.put_len(request.target.len());
    to.put_len(request.body.len());
    to.extend_from_slice(request.target);
    to.extend_from_slice(request.body);
    to.put_bytes(source.as_bytes());
    to.put_bytes(sender.as_bytes());
    put_roles(&mut to, event, text);
    let kind = resolved.kind();
    to.put_bytes(if kind == Resolved::PLAIN_KIND { b"" } else { kind.as_bytes() });
    put_texts(&mut to, resolved.unresolved());
    put_texts(&mut to, resolved.recut());
    if resolved.has_template() {
        to.put_bytes(resolved.template().as_bytes());
    }
    to.put_bytes(params.form());
    put_headers(&mut to, request);
    if let Some(answer) = reply {
        put_reply(&mut to, answer);
    }
    Ok(to.into())
}

fn size(event: &Incoming<'_>, request: &Request<'_>, reply: Option<&Answer>) -> usize {
    let headers = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let headers: usize = headers.map(|len| len + 2 * LENGTH_BYTES).sum();
    let names = event.source.len() + event.sender.len() + event.resolved.kind().len();
    let facts = event.params.form().len() + event.resolved.template().len();
    let reply = reply.map_or(0, |answer| answer.body.len() + FIXED_BYTES);
    FIXED_BYTES + request.target.len() + request.body.len() + headers + names + facts + reply
}

fn flags(event: &Incoming<'_>, reply: Option<&Answer>) -> u8 {
    let resolved = event.resolved;
    let flags = [
        (RELEASED, event.release == Release::ByOperator),
        (TEST, resolved.is_test()),
        (REPLY, reply.is_some()),
        (APART, event.received_ms != event.id.ms()),
        (UNRESOLVED, !resolved.unresolved().is_empty()),
        (RECUT, !resolved.recut().is_empty()),
        (ESCAPED, escaped(event) != 0),
        (TEMPLATE, resolved.has_template()),
    ];
    flags.into_iter().fold(0, |all, (flag, is_set)| if is_set { all | flag } else { all })
}

/// Target and body of a request, joined.
#[derive(Clone, Copy)]
struct Text<'r> {
    target: &'r [u8],
    body: &'r [u8],
}

impl Text<'_> {
    fn len(self) -> usize {
        self.target.len() + self.body.len()
    }

    /// Whether `part` stands at `at`.
    fn has(self, part: &[u8], at: usize) -> bool {
        let found = match at.checked_sub(self.target.len()) {
            Some(at) => self.body.get(at..),
            None => self.target.get(at..),
        };
        found.is_some_and(|found| found.starts_with(part))
    }
}

fn put_roles(to: &mut Vec<u8>, event: &Incoming<'_>, text: Text<'_>) {
    let resolved = event.resolved;
    let bits = |roles: &[Role]| roles.iter().fold(0, |bits, role| bits | bit(*role));
    let facts = resolved.covered().iter().map(|fact| match fact {
        Fact::Kind => KIND_COVERED,
        Fact::Test => TEST_COVERED,
    });
    let unit = AmountUnit::ALL.iter().position(|unit| Some(*unit) == resolved.amount_unit());
    let unit = unit.map_or(0, |at| at as u8 + 1) << UNIT_SHIFT;
    let effect = Effect::ALL.iter().position(|effect| *effect == resolved.effect());
    let codes = facts.fold(effect.unwrap_or_default() as u8 | unit, |codes, fact| codes | fact);
    // The roles that are there are written when they have been seen.
    let there_at = to.len();
    to.extend_from_slice(&[0, bits(resolved.authenticated()), codes]);
    let escaped = escaped(event);
    if escaped != 0 {
        to.push(escaped);
    }
    let mut there = 0;
    for role in Role::ALL {
        let Some(value) = resolved.role(role) else { continue };
        there |= bit(role);
        let at = resolved.position(role).filter(|at| text.has(value.as_bytes(), *at));
        to.put_len(value.len() << 1 | usize::from(at.is_some()));
        match at {
            Some(at) => to.put_len(at),
            None => to.extend_from_slice(value.as_bytes()),
        }
    }
    if let Some(bits) = to.get_mut(there_at) {
        *bits = there;
    }
}

/// Roles, and the parameters, that are percent-encoded.
fn escaped(event: &Incoming<'_>) -> u8 {
    let params = match event.params.texts() {
        ParamTexts::Plain => 0,
        ParamTexts::Escaped => PARAMS,
    };
    event.resolved.escaped().iter().fold(params, |bits, role| bits | bit(*role))
}

fn bit(role: Role) -> u8 {
    1 << role as u8
}

/// A list, unless it is empty: a flag says so.
fn put_texts(to: &mut Vec<u8>, texts: &[String]) {
    if !texts.is_empty() {
        to.put_len(texts.len());
        texts.iter().for_each(|text| to.put_bytes(text.as_bytes()));
    }
}

fn put_headers(to: &mut Vec<u8>, request: &Request<'_>) {
    to.put_len(request.headers.len());
    for (name, value) in request.headers {
        match NAMES.iter().position(|known| known == name) {
            Some(at) => to.push(at as u8 + 1),
            None => {
                to.push(0);
                to.put_bytes(name.as_str().as_bytes());
            }
        }
        to.put_bytes(value.as_bytes());
    }
}

/// `body`, marked as released by an operator.
///
/// # Errors
/// If it is marked already.
pub(super) fn released(body: &Bytes) -> Result<Bytes, DecodeError> {
    json_of(body)?;
    let mut copy = body.to_vec();
    let flags = copy.get_mut(FLAGS_AT).filter(|flags| **flags & RELEASED == 0);
    *flags.ok_or(DecodeError)? |= RELEASED;
    Ok(copy.into())
}

// === Reading ===

/// The part that precedes the facts.
struct Head<'b> {
    flags: u8,
    id: EventId,
    received_ms: i64,
    method: http::Method,
    target: &'b [u8],
    body: &'b [u8],
    /// Target and body, one behind the other.
    text: &'b [u8],
}

fn take_head<'b>(from: &mut Take<'b>) -> Result<Head<'b>, DecodeError> {
    if from.u8()? != COMPACT {
        return Err(DecodeError);
    }
    let flags = from.u8()?;
    let id = EventId::from_bytes(from.array()?);
    let received_ms = if flags & APART == 0 { id.ms() } else { from.i64()? };
    let method = take_method(from)?;
    let (target, body) = (from.len()?, from.len()?);
    let text = from.raw(target.checked_add(body).ok_or(DecodeError)?)?;
    let (target, body) = text.split_at_checked(target).ok_or(DecodeError)?;
    Ok(Head { flags, id, received_ms, method, target, body, text })
}

fn take_facts<'b>(from: &mut Take<'b>, head: &Head<'b>) -> Result<Facts<'b>, DecodeError> {
    let (source, sender) = (from.text()?, from.text()?);
    let (there, covered, codes) = (from.u8()?, from.u8()?, from.u8()?);
    let escaped = if head.flags & ESCAPED == 0 { 0 } else { from.u8()? };
    let mut roles = [None; Role::ALL.len()];
    for role in Role::ALL.into_iter().filter(|role| there & bit(*role) != 0) {
        let part = Part::take(from)?.of(head.text)?;
        roles[role as usize] = Some(std::str::from_utf8(part).or(Err(DecodeError))?);
    }
    let mut authenticated = names(covered);
    let facts = [(KIND_COVERED, Fact::Kind), (TEST_COVERED, Fact::Test)];
    let facts = facts.into_iter().filter(|(bit, _)| codes & bit != 0);
    authenticated.extend(facts.map(|(_, fact)| fact.as_str()));
    let unit = usize::from(codes >> UNIT_SHIFT & UNIT_MASK);
    let effect = Effect::ALL.get(usize::from(codes & EFFECT_MASK)).copied();
    let kind = from.text()?;
    let unresolved = take_texts(from, head.flags & UNRESOLVED)?;
    let recut = take_texts(from, head.flags & RECUT)?;
    let template = if head.flags & TEMPLATE == 0 { "" } else { from.text()? };
    let params = StoredParams { form: from.bytes()?, target: head.target, body: head.body };
    Ok(Facts {
        id: head.id,
        received_ms: head.received_ms,
        source,
        sender,
        roles,
        test: head.flags & TEST != 0,
        released: head.flags & RELEASED != 0,
        unresolved,
        authenticated,
        recut,
        escaped: escaped_names(escaped),
        unit: unit.checked_sub(1).and_then(|at| AmountUnit::ALL.get(at).copied()),
        kind,
        effect: effect.ok_or(DecodeError)?,
        template,
        params,
    })
}

fn names(bits: u8) -> Texts<'static> {
    Role::ALL.into_iter().filter(|role| bits & bit(*role) != 0).map(Role::as_str).collect()
}

fn escaped_names(bits: u8) -> Texts<'static> {
    let mut names = names(bits);
    names.extend((bits & PARAMS != 0).then_some("params"));
    names
}

fn take_texts<'b>(from: &mut Take<'b>, flag: u8) -> Result<Texts<'b>, DecodeError> {
    let count = if flag == 0 { 0 } else { from.len()? };
    (0..count).map(|_| from.text()).collect()
}

/// The text of a role.
enum Part<'b> {
    Here(&'b [u8]),
    Within { at: usize, len: usize },
}

impl<'b> Part<'b> {
    fn take(from: &mut Take<'b>) -> Result<Self, DecodeError> {
        let len = from.len()?;
        match len & 1 {
            0 => from.raw(len >> 1).map(Self::Here),
            _ => Ok(Self::Within { at: from.len()?, len: len >> 1 }),
        }
    }

    fn of(self, text: &'b [u8]) -> Result<&'b [u8], DecodeError> {
        match self {
            Self::Here(part) => Ok(part),
            Self::Within { at, len } => {
                text.get(at..at.checked_add(len).ok_or(DecodeError)?).ok_or(DecodeError)
            }
        }
    }
}

fn take_headers(
    from: &mut Take<'_>,
    whole: &Bytes,
) -> Result<Vec<(HeaderName, HeaderValue)>, DecodeError> {
    let count = from.len()?;
    let mut headers = Vec::with_capacity(count.min(from.0.len()));
    for _ in 0..count {
        let name = match from.u8()? {
            0 => HeaderName::from_bytes(from.bytes()?).or(Err(DecodeError))?,
            at => NAMES.get(usize::from(at) - 1).cloned().ok_or(DecodeError)?,
        };
        let value = HeaderValue::from_maybe_shared(share(whole, from.bytes()?));
        headers.push((name, value.or(Err(DecodeError))?));
    }
    Ok(headers)
}

pub(super) fn decode(bytes: &Bytes) -> Result<EventBody, DecodeError> {
    let mut from = Take(bytes);
    let head = take_head(&mut from)?;
    let json = take_facts(&mut from, &head)?.json()?.into();
    let headers = take_headers(&mut from, bytes)?;
    let reply = match head.flags & REPLY {
        0 => None,
        _ => Some(super::take_reply(&mut from, bytes)?),
    };
    from.end()?;
    let (target, body) = (share(bytes, head.target), share(bytes, head.body));
    Ok(EventBody {
        json,
        request: RawRequest { method: head.method, target, headers, body },
        reply,
    })
}

pub(super) fn json_of(bytes: &Bytes) -> Result<Bytes, DecodeError> {
    let mut from = Take(bytes);
    let head = take_head(&mut from)?;
    take_facts(&mut from, &head)?.json().map(Bytes::from)
}

pub(super) fn claims_of(bytes: &Bytes) -> Result<EventClaims<'_>, DecodeError> {
    let mut from = Take(bytes);
    let head = take_head(&mut from)?;
    let roles = take_facts(&mut from, &head)?.roles;
    let role = |role: Role| roles[role as usize].map(Cow::Borrowed);
    let transaction = role(Role::Transaction).unwrap_or_default();
    Ok(EventClaims { transaction, user: role(Role::User) })
}

/// Where source, transaction and user stand in a body; 0 where there is none.
pub(super) fn positions(body: &[u8]) -> Result<[usize; 3], DecodeError> {
    let mut from = Take(body);
    let head = take_head(&mut from)?;
    let before = |rest: &[u8]| body.len() - rest.len();
    let text_at = before(from.0) - head.text.len();
    let source = from.bytes()?.len();
    let source_at = before(from.0) - source;
    let _sender = from.bytes()?;
    let there = from.u8()?;
    let _covered_and_codes = from.array::<2>()?;
    if head.flags & ESCAPED != 0 {
        let _escaped = from.u8()?;
    }
    let mut role_at = |role| {
        if there & bit(role) == 0 {
            return Ok(0);
        }
        Ok(match Part::take(&mut from)? {
            Part::Here(part) => before(from.0) - part.len(),
            Part::Within { at, .. } => text_at + at,
        })
    };
    Ok([source_at, role_at(Role::Transaction)?, role_at(Role::User)?])
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::ledger::event::tests::{SECRET, resolved};

    const QUERY: &str = "user_id=u1&trans_id=t-1&placement_id=p&adsource_id=5&reward_amount=10\
        &reward_name=coin&extra_data=%7B%7D&odd%22=a+b";

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("a.example"));
        headers.append("x-two", HeaderValue::from_bytes(b"\xff raw").unwrap());
        headers.append("x-two", HeaderValue::from_static("again"));
        headers.append("accept", HeaderValue::from_static("*/*"));
        headers
    }

    fn stored(release: Release, reply: Option<&Answer>) -> (Bytes, EventId) {
        let target = crate::ledger::event::tests::signed(QUERY, SECRET);
        let headers = headers();
        let request = Request {
            method: &Method::GET,
            target: target.as_bytes(),
            base: "",
            headers: &headers,
            body: b"",
        };
        let (resolved, params) = &resolved(&request, SECRET);
        let id = EventId::new(1_700_000_000_123);
        let event = Incoming {
            id,
            source: "level-end",
            sender: "taku",
            received_ms: 1_700_000_000_123,
            resolved,
            params,
            release,
        };
        (encode(&event, &request, reply).unwrap(), id)
    }

    #[test]
    fn a_body_is_shorter_than_twice_its_request_and_comes_back() {
        let answer = Answer {
            status: http::StatusCode::OK,
            content_type: None,
            headers: Box::default(),
            body: Bytes::from_static(b"ok"),
        };
        let (bytes, id) = stored(Release::None, Some(&answer));
        let body = decode(&bytes).unwrap();
        assert!(bytes.len() < body.request.target.len() + 160, "{}", bytes.len());
        assert_eq!(json_of(&bytes).unwrap(), body.json);
        assert_eq!(body.event().unwrap().id, id);
        assert_eq!(body.request.header_map(), headers());
        assert_eq!(body.reply.unwrap().answer().unwrap(), answer);
        let older = EventBody::with_json(&bytes).unwrap();
        assert_eq!(EventBody::decode(&older).unwrap(), decode(&bytes).unwrap());
        assert_eq!(EventBody::with_json(&older).unwrap(), older);
    }

    #[test]
    fn its_texts_are_found_in_it() {
        let (bytes, _) = stored(Release::None, None);
        let claims = claims_of(&bytes).unwrap();
        assert_eq!((&*claims.transaction, claims.user.as_deref()), ("t-1", Some("u1")));
        let at = positions(&bytes).unwrap();
        for (at, text) in at.into_iter().zip(["level-end", "t-1", "u1"]) {
            assert!(bytes[at..].starts_with(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_release_is_marked_once_and_shown() {
        let (bytes, _) = stored(Release::None, None);
        let marked = released(&bytes).unwrap();
        let shown = String::from_utf8(json_of(&marked).unwrap().to_vec()).unwrap();
        assert!(shown.contains(r#","released":true,"kind":"event","#), "{shown}");
        assert_eq!(released(&marked), Err(DecodeError));
        assert_eq!(stored(Release::ByOperator, None).0.len(), marked.len());
    }

    #[test]
    fn no_cut_is_read() {
        let (bytes, _) = stored(Release::None, None);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes.slice(..cut)), Err(DecodeError), "{cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(at in 1_usize..200, byte: u8) {
            let mut bytes = stored(Release::None, None).0.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let bytes = Bytes::from(bytes);
            let _ = decode(&bytes);
            let _ = positions(&bytes);
        }
    }
}
