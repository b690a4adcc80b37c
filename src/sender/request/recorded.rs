//! The message of a recorded callback: the one that was opened, or the body as it came.
//!
//! Of a sealed message the record has the parameters inside, and none of the request around it. So
//! a request with a parameter that the record does not have came sealed. Its body is not the
//! message then, whatever else it says: any caller can write more around a captured cipher text.

use std::borrow::Cow;

use super::body;
use super::encoding::{self, Plus};
use super::names::{Names, Strangers};
use super::parameters::{Buffers, Parameter, ParameterError, Parameters, Place, Value};
use super::xml;
use crate::sender::acts::json_object::{JsonObject, is_plain, put_json_text};
use crate::sender::request::Request;

/// The message of a recorded callback.
#[derive(Debug)]
pub enum RecordedMessage<'r> {
    /// A message that came sealed: the recorded parameters are all of it.
    Sealed,
    /// A message that came in the body.
    Plain(Box<PlainMessage<'r>>),
}

/// A message that came in the body.
#[derive(Debug)]
pub struct PlainMessage<'r> {
    writing: MessageWriting,
    body: &'r [u8],
    parameters: Parameters,
}

/// The writing of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageWriting {
    /// A JSON object.
    Json,
    /// An XML document.
    Xml,
    /// Pairs, or nothing.
    Pairs,
}

impl<'r> RecordedMessage<'r> {
    /// The message of `request`, where `is_recorded` says which parameters the record has. `None`
    /// if the request cannot be read, which no recorded one causes.
    #[must_use]
    pub fn of(request: &Request<'r>, is_recorded: impl Fn(&str) -> bool) -> Option<Self> {
        let Request { target, headers, body, .. } = *request;
        let query = memchr::memchr(b'?', target).map_or(&[][..], |at| &target[at + 1..]);
        // Without forms to be read, a body is borrowed.
        let Cow::Borrowed(body) = body::readable(headers, body, &[]).ok()? else { return None };
        let mut around = Parameters::new();
        around.read_pairs(Place::Query, query, &names()).ok()?;
        let plain = PlainMessage::read(body).ok()?;
        // A name with odd characters is recorded in another spelling: it decides nothing.
        let is_there = |one: Parameter<'_>| {
            !is_plain(one.name) || std::str::from_utf8(one.name).is_ok_and(&is_recorded)
        };
        let in_query = Buffers { query, body: b"" };
        let is_whole = around.iter(in_query).chain(plain.iter()).all(is_there);
        Some(if is_whole { Self::Plain(Box::new(plain)) } else { Self::Sealed })
    }
}

impl<'r> PlainMessage<'r> {
    fn read(body: &'r [u8]) -> Result<Self, ParameterError> {
        let mut parameters = Parameters::new();
        let writing = match body.trim_ascii_start().first() {
            Some(b'{') => {
                parameters.read_json(body, &names())?;
                MessageWriting::Json
            }
            Some(b'<') => {
                parameters.read_xml(body, &names())?;
                MessageWriting::Xml
            }
            _ => {
                parameters.read_pairs(Place::Form, body, &names())?;
                MessageWriting::Pairs
            }
        };
        Ok(Self { writing, body, parameters })
    }

    fn iter(&self) -> impl Iterator<Item = Parameter<'_>> {
        self.parameters.iter(Buffers { query: b"", body: self.body })
    }

    /// Its writing.
    #[must_use]
    pub fn writing(&self) -> MessageWriting {
        self.writing
    }

    /// The body, without a byte order mark.
    #[must_use]
    pub fn body(&self) -> &'r [u8] {
        self.body
    }

    /// Whether it has a member called `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|one| one.name == name.as_bytes())
    }

    /// The JSON object of its members but `left_out`. Elements of one name are a list.
    #[must_use]
    pub fn json_without(&self, left_out: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 2);
        let mut object = JsonObject::begin(&mut out);
        for (index, one) in self.iter().enumerate() {
            let is_known = self.iter().take(index).any(|other| other.name == one.name);
            if is_known || one.name == left_out.as_bytes() {
                continue;
            }
            let same: Vec<_> = self.iter().filter(|other| other.name == one.name).collect();
            let to = object.name(one.name);
            match same.as_slice() {
                [one] => put_value(to, one),
                all => {
                    for (at, one) in all.iter().enumerate() {
                        to.push(if at == 0 { b'[' } else { b',' });
                        put_value(to, one);
                    }
                    to.push(b']');
                }
            }
        }
        object.end();
        out
    }
}

/// The value of the first pair of the request's query that is called `name`, however it is spelled,
/// as it was read when it was recorded: `recorded` is the text that the record has. A `+` is a plus
/// sign only where that says so.
#[must_use]
pub fn recorded_value<'r>(
    request: &Request<'r>,
    name: &str,
    recorded: Option<&str>,
) -> Option<Cow<'r, [u8]>> {
    let query =
        memchr::memchr(b'?', request.target).map_or(&[][..], |at| &request.target[at + 1..]);
    let mut parameters = Parameters::new();
    parameters.read_pairs(Place::Query, query, &names()).ok()?;
    let buffers = Buffers { query, body: b"" };
    let index = parameters.iter(buffers).position(|one| one.name == name.as_bytes())?;
    // The value is a part of the request, not of what was read here.
    let value = parameters.value_at(index, query)?;
    let kept = encoding::unpercented(value, Plus::Kept);
    Some(match recorded.is_some_and(|text| encoding::shown(&kept) == text) {
        true => kept,
        false => encoding::unpercented(value, Plus::Space),
    })
}

/// No name is read here, and any may repeat.
fn names() -> Names {
    let mut names = Names::default();
    names.strangers = Strangers::Repeated;
    names
}

fn put_value(to: &mut Vec<u8>, one: &Parameter<'_>) {
    if one.place == Place::Json {
        return to.extend_from_slice(one.raw);
    }
    if let Some(json) = Some(one.raw).filter(|_| one.place == Place::Xml).and_then(xml::object) {
        return to.extend_from_slice(&json);
    }
    let value = Value { place: one.place, raw: Cow::Borrowed(one.raw) };
    put_json_text(to, &value.into_text(Plus::Space).ok().flatten().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn message(query: &str, body: &str, recorded: &[&str]) -> Option<String> {
        let target = format!("/callback/a?{query}");
        let request = Request {
            method: &Method::POST,
            target: target.as_bytes(),
            base: "",
            headers: &HeaderMap::new(),
            body: body.as_bytes(),
        };
        match RecordedMessage::of(&request, |name| recorded.contains(&name))? {
            RecordedMessage::Sealed => None,
            RecordedMessage::Plain(plain) => {
                Some(String::from_utf8(plain.json_without("Encrypt")).unwrap())
            }
        }
    }

    #[test]
    fn what_stands_around_a_sealed_message_is_never_the_message() {
        let inside = ["FromUserName", "MsgType", "Event"];
        for (query, body) in [
            ("nonce=1", r#"{"Encrypt":"x"}"#),
            ("nonce=1", r#"{"FromUserName":"evil","\u0045ncrypt":"x"}"#),
            ("%6eonce=1", r#"{"FromUserName":"evil"}"#),
            ("FromUserName=1", r#"{"Event":"evil","\u0045ncrypt":"x"}"#),
            ("nonce=1", "<xml><Event>evil</Event><Encrypt ><![CDATA[x]]></Encrypt></xml>"),
            ("nonce=1", "<xml><Event>evil</Event><Encrypt a='b'>x</Encrypt></xml>"),
            ("", "\u{feff} <xml><Event>evil</Event><Encrypt>x</Encrypt></xml>"),
            ("nonce=1&Encrypt=x", r#"{"FromUserName":"evil"}"#),
            ("nonce=1&Encrypt=x", ""),
            ("Encrypt", "Event=evil"),
        ] {
            assert_eq!(message(query, body, &inside), None, "{query} {body}");
        }
    }

    #[test]
    fn a_value_is_that_of_the_first_pair_of_its_name() {
        let value = |query: &str, recorded: Option<&str>| {
            let target = format!("/a?{query}");
            let request = Request {
                method: &Method::GET,
                target: target.as_bytes(),
                base: "",
                headers: &HeaderMap::new(),
                body: b"",
            };
            let value = recorded_value(&request, "user_id", recorded)?;
            Some(String::from_utf8(value.into_owned()).unwrap())
        };
        for query in
            ["user_id=u1", "user%5Fid=u1", "x&%75ser_i%64=u%31&user_id=u2", "&=&user%5fid=u1"]
        {
            assert_eq!(value(query, Some("u1")).as_deref(), Some("u1"), "{query}");
        }
        assert_eq!(value("user_id", None).as_deref(), Some(""));
        assert_eq!(value("user+id=u1&user_id%3D=u&USER_ID=u", None), None);
        assert_eq!(value("user_id=a+b", Some("a b")).as_deref(), Some("a b"));
        assert_eq!(value("user_id=a+b", Some("a+b")).as_deref(), Some("a+b"));
        let escaped = |recorded| {
            let target = b"/a?user_id=%BD%F0+";
            let headers = HeaderMap::new();
            let request =
                Request { method: &Method::GET, target, base: "", headers: &headers, body: b"" };
            recorded_value(&request, "user_id", Some(recorded)).unwrap().into_owned()
        };
        assert_eq!(escaped("%BD%F0%2B"), b"\xbd\xf0+");
        assert_eq!(escaped("%BD%F0%20"), b"\xbd\xf0 ");
        assert_eq!(value("user_id=a+b", Some("***")).as_deref(), Some("a b"));
    }

    #[test]
    fn a_plain_message_is_its_body_alone() {
        let recorded = ["nonce", "Event", "List", "n", "Encrypt"];
        for (body, expected) in [
            (r#"{"Event":"a","n": 1.50}"#, r#"{"Event":"a","n":1.50}"#),
            (r#"{"Event":"a","Encrypt":"x"}"#, r#"{"Event":"a"}"#),
            (
                "<xml><Event><![CDATA[a]]></Event><List>1</List><n>2</n><List>3</List></xml>",
                r#"{"Event":"a","List":["1","3"],"n":"2"}"#,
            ),
            ("\u{feff}{\"Event\":\"a\"}", r#"{"Event":"a"}"#),
            ("Event=a+b&n=%7B", r#"{"Event":"a b","n":"{"}"#),
            ("", "{}"),
        ] {
            for query in ["nonce=1", "nonce=1&Event=1&%45vent=2&n=3", "%ff=1&List=4&List=5"] {
                let shown = message(query, body, &recorded);
                assert_eq!(shown.as_deref(), Some(expected), "{query} {body}");
            }
        }
    }
}
