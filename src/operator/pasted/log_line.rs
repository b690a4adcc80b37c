//! A line of an access log: the common formats in text, and JSON.

use jiff::Timestamp;
use jiff::fmt::strtime;
use serde_json::{Map, Value};

use crate::clock::UnixMillis;

/// A request as an access log has it: without headers and body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    pub(super) method: String,
    /// A path with its query, or a whole URL.
    pub(super) target: Vec<u8>,
    /// When it came.
    pub(super) at_ms: Option<UnixMillis>,
}

/// The first line of `text` that is of an access log.
pub(super) fn first(text: &str) -> Option<LogLine> {
    text.lines().find_map(|line| of_json(line).or_else(|| of_text(line)))
}

// ---- text ----

/// `… [29/Nov/2026:08:00:00 +0000] "GET /callback/a?b=c HTTP/1.1" 403 0 …`
fn of_text(line: &str) -> Option<LogLine> {
    let starts = line.match_indices('"').map(|(at, _)| at + 1);
    let (method, target) = starts.filter_map(|at| quoted(&line[at..])).find_map(|text| {
        let (method, target) = request_line(&text)?;
        Some((method.to_owned(), target.to_vec()))
    })?;
    Some(LogLine { method, target, at_ms: time_in(line) })
}

/// The text up to the closing quote, with the escapes of nginx and Apache undone.
fn quoted(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1)) {
            (b'"', _) => return Some(out),
            (b'\\', Some(b'x')) => {
                let digits = text.get(at + 2..at + 4)?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 4;
            }
            (b'\\', Some(escaped)) => {
                out.push(*escaped);
                at += 2;
            }
            (byte, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    None
}

/// Method and target of `GET /callback/a?b=c HTTP/1.1`.
fn request_line(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memmem::rfind(text, b" HTTP/")?;
    let space = memchr::memchr(b' ', &text[..end])?;
    let (method, target) = (std::str::from_utf8(&text[..space]).ok()?, &text[space + 1..end]);
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_target = target.starts_with(b"/") || target.starts_with(b"http");
    (is_method && is_target).then_some((method, target))
}

/// The time in the brackets of the common log format, or a word that is a time.
fn time_in(line: &str) -> Option<UnixMillis> {
    let bracketed = line.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    let common = bracketed.filter_map(|text| {
        let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?;
        time.to_timestamp().ok()
    });
    let mut words = line.split([' ', '[', ']', '"']).filter_map(|word| word.parse().ok());
    let found: Option<Timestamp> = common.into_iter().next().or_else(|| words.next());
    found.map(Timestamp::as_millisecond)
}

// ---- JSON ----

/// Names of a request line, of a target, of its query and of a method.
const LINES: [&str; 3] = ["request", "requestline", "httprequest"];
const TARGETS: [&str; 8] =
    ["uri", "requesturi", "clientrequesturi", "url", "requesturl", "target", "path", "requestpath"];
const QUERIES: [&str; 4] = ["query", "querystring", "args", "requestquery"];
const METHODS: [&str; 4] = ["method", "requestmethod", "clientrequestmethod", "verb"];

fn of_json(line: &str) -> Option<LogLine> {
    let object: Map<String, Value> = serde_json::from_str(line.trim()).ok()?;
    let at_ms = time_in(line);
    let by_line = text_at(&object, &LINES).and_then(|text| {
        let (method, target) = request_line(text.as_bytes())?;
        Some(LogLine { method: method.to_owned(), target: target.to_vec(), at_ms })
    });
    by_line.or_else(|| {
        let mut target = text_at(&object, &TARGETS)?.to_owned();
        if !target.starts_with('/') && !target.contains("://") {
            return None;
        }
        if let Some(query) = text_at(&object, &QUERIES).filter(|_| !target.contains('?')) {
            target.push('?');
            target.push_str(query.trim_start_matches('?'));
        }
        let method = text_at(&object, &METHODS).unwrap_or("GET").to_owned();
        Some(LogLine { method, target: target.into_bytes(), at_ms })
    })
}

/// The first text under one of `names`, in this object or one inside it; whatever their case and
/// separators.
fn text_at<'v>(object: &'v Map<String, Value>, names: &[&str]) -> Option<&'v str> {
    let is_named = |key: &str| {
        let bare: String = key.chars().filter(char::is_ascii_alphanumeric).collect();
        names.contains(&bare.to_ascii_lowercase().as_str())
    };
    let here = object.iter().filter(|(key, _)| is_named(key)).find_map(|(_, value)| value.as_str());
    let inside = || object.values().filter_map(Value::as_object);
    here.or_else(|| inside().find_map(|inner| text_at(inner, names)))
}
