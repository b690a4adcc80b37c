//! The message of a push, as cloud hosting passes it to a container: JSON or XML, decrypted.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::config::Notation;
use crate::ledger::EventBody;
use crate::sender::{MessageWriting, RecordedMessage};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const XML: HeaderValue = HeaderValue::from_static("text/xml");

/// The header by which a container recognizes a call of the platform.
pub(super) const SOURCE: HeaderName = HeaderName::from_static("x-wx-source");

/// The value of that header.
pub(super) const OURS: HeaderValue = HeaderValue::from_static("other");

/// The member in which a message is sealed; in compatible mode it stands beside the plain ones.
const SEALED: &str = "Encrypt";

/// The message of an event: the one that was opened, or the body. A plain message in the wanted
/// notation is forwarded unchanged.
pub(super) fn of(kept: &EventBody, notation: Notation) -> Option<(HeaderValue, Bytes)> {
    let (content_type, wanted) = match notation {
        Notation::Json => (JSON, MessageWriting::Json),
        Notation::Xml => (XML, MessageWriting::Xml),
    };
    let event = kept.event().ok()?;
    let recorded: Map<String, Value> = serde_json::from_str(event.params.get()).ok()?;
    let headers = kept.request.header_map();
    let request = kept.request.as_request("", &headers);
    let json = match RecordedMessage::of(&request, |name| recorded.contains_key(name))? {
        RecordedMessage::Sealed => Bytes::copy_from_slice(event.params.get().as_bytes()),
        RecordedMessage::Plain(plain) if plain.writing() == wanted && !plain.has(SEALED) => {
            return Some((content_type, kept.request.body.slice_ref(plain.body())));
        }
        RecordedMessage::Plain(plain) => plain.json_without(SEALED).into(),
    };
    Some((
        content_type,
        match notation {
            Notation::Json => json,
            Notation::Xml => xml(&serde_json::from_slice(&json).ok()?).into(),
        },
    ))
}

fn xml(message: &Map<String, Value>) -> String {
    let mut text = String::from("<xml>");
    members(&mut text, message);
    text.push_str("</xml>");
    text
}

fn members(to: &mut String, object: &Map<String, Value>) {
    for (name, value) in object {
        match value {
            Value::Array(list) => list.iter().for_each(|value| member(to, name, value)),
            value => member(to, name, value),
        }
    }
}

fn member(to: &mut String, name: &str, value: &Value) {
    // A member whose name is not an XML element name is not part of a message.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) || byte >= 0x80;
    if name.is_empty() || !name.bytes().all(fits) || !name.as_bytes()[0].is_ascii_alphabetic() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = write!(to, "<{name}>");
    match value {
        Value::Object(inner) => members(to, inner),
        Value::String(text) => cdata(to, text),
        // XML has no nested lists: an inner list stays a string.
        list @ Value::Array(_) => cdata(to, &list.to_string()),
        Value::Null => {}
        plain @ (Value::Number(_) | Value::Bool(_)) => drop(write!(to, "{plain}")),
    }
    let _ = write!(to, "</{name}>");
}

/// Writes a string that no reader takes for markup. A character that XML does not have (1.0,
/// section 2.2) is replaced.
fn cdata(to: &mut String, text: &str) {
    to.push_str("<![CDATA[");
    for character in text.replace("]]>", "]]]]><![CDATA[>").chars() {
        let fits = !matches!(character, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
        to.push(if fits { character } else { char::REPLACEMENT_CHARACTER });
    }
    to.push_str("]]>");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_in_xml_cannot_be_broken_by_its_values() {
        let message = json!({
            "MsgType": "event", "CreateTime": 5, "Content": "a]]><b>", "bad name": 1,
            "List": [{ "Id": "1" }, { "Id": "2" }],
        });
        let parts = [
            "<xml><Content><![CDATA[a]]]]><![CDATA[><b>]]></Content><CreateTime>5</CreateTime>",
            "<List><Id><![CDATA[1]]></Id></List><List><Id><![CDATA[2]]></Id></List>",
            "<MsgType><![CDATA[event]]></MsgType></xml>",
        ];
        assert_eq!(xml(message.as_object().unwrap()), parts.concat());
    }

    #[test]
    fn markup_in_a_list_in_a_list_stays_text() {
        let message = json!({
            "Arr": [["</Arr></xml><xml><Admin>1</Admin>"], [{ "a": "]]>" }]], "Bell": "a\u{7}b",
        });
        let written = xml(message.as_object().unwrap());
        let parts = [
            "<xml><Arr><![CDATA[[\"</Arr></xml><xml><Admin>1</Admin>\"]]]></Arr>",
            "<Arr><![CDATA[[{\"a\":\"]]]]><![CDATA[>\"}]]]></Arr>",
            "<Bell><![CDATA[a\u{fffd}b]]></Bell></xml>",
        ];
        assert_eq!(written, parts.concat());
        let mut reader = quick_xml::Reader::from_str(&written);
        let mut elements = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Start(start) => elements.push(start.name().0.to_owned()),
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(elements, ["xml", "Arr", "Arr", "Bell"]);
    }
}
