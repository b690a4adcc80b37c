//! A request as the independent signer reads it.

use super::encodings::decode;
use crate::sender::OwnedRequest;

/// Place, name, raw value, decoded value with `+` as a space, and with `+` kept.
pub(super) type Value = (&'static str, String, Vec<u8>, Vec<u8>, Vec<u8>);

/// A request, parsed here.
pub(super) struct Wire {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) url: String,
    pub(super) values: Vec<Value>,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Wire {
    pub(super) fn of(request: &OwnedRequest) -> Self {
        let target = String::from_utf8(request.target.clone()).unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let mut values = Vec::new();
        let mut pairs = |place, text: &str| {
            for pair in text.split('&').filter(|pair| !pair.is_empty()) {
                let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
                let name = String::from_utf8(decode(name.as_bytes(), true)).unwrap();
                let raw = raw.as_bytes().to_vec();
                let (blank, kept) = (decode(&raw, true), decode(&raw, false));
                values.push((place, name, raw, blank, kept));
            }
        };
        pairs("query", target.split_once('?').map_or("", |(_, query)| query));
        let start = body.trim_start();
        if start.starts_with('{') {
            let document: serde_json::Value = serde_json::from_str(start).unwrap();
            let mut members = Vec::new();
            flattened("", &document, &mut members);
            for (name, value) in members {
                let (raw, text) = spelled(start, &name, &value);
                values.push(("json", name, raw.into_bytes(), text.clone(), text));
            }
        } else if let Some(at) = start.find("<Encrypt><![CDATA[") {
            let rest = &start[at + 18..];
            let text = rest.as_bytes()[..rest.find("]]>").unwrap()].to_vec();
            values.push(("xml", "Encrypt".into(), text.clone(), text.clone(), text));
        } else if !start.starts_with('<') {
            pairs("form", start);
        }
        let headers = request.headers.iter();
        let headers = headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned()));
        let url = format!("{}{target}", request.base);
        let path = target.split('?').next().unwrap().to_owned();
        let (method, body) = (request.method.to_string(), request.body.clone());
        Self { method, path, url, values, headers: headers.collect(), body }
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// The members of a document, those within others as `outer.inner`.
fn flattened(name: &str, value: &serde_json::Value, to: &mut Vec<(String, serde_json::Value)>) {
    let mut inner = |key: &str, value| {
        let lead = if name.is_empty() { String::new() } else { format!("{name}.") };
        flattened(&format!("{lead}{key}"), value, to);
    };
    match value {
        serde_json::Value::Object(members) => {
            members.iter().for_each(|(key, value)| inner(key, value));
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| inner(&at.to_string(), value));
        }
        _ => to.push((name.to_owned(), value.clone())),
    }
}

/// A JSON member as spelled, without quotes, and as text.
fn spelled(document: &str, name: &str, value: &serde_json::Value) -> (String, Vec<u8>) {
    match value {
        serde_json::Value::String(text) => {
            let key = name.rsplit('.').next().unwrap();
            let at = document.find(&format!("\"{key}\":")).map(|at| at + key.len() + 3);
            let rest = at.and_then(|at| document[at..].trim_start().strip_prefix('"'));
            // An item of a list has no name of its own.
            let Some(rest) = rest else { return (text.clone(), text.clone().into_bytes()) };
            let mut end = 0;
            let bytes = rest.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            (rest[..end].to_owned(), text.clone().into_bytes())
        }
        other => (other.to_string(), other.to_string().into_bytes()),
    }
}
