//! URLs with placeholders: where a delivery of the classic kind goes.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::definition_error::DefinitionError;
use super::text::{Origin, Piece, Spot, Strictness, Text};
use crate::sender::request::encoding::{Plus, unpercented};

/// A URL whose path and query are a template. Scheme, host and port are literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    origin: String,
    rest: Text,
}

/// The value of a URL's placeholder. An event's own member takes precedence over a parameter
/// of the same name: any caller can add a parameter that nothing signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder<'k> {
    /// A member of the event: `{user}`, `[event_id]`, or in any case `{event.user}`.
    Member(&'k str),
    /// A parameter as it was received: `{uid}`, or in any case `{params.uid}`.
    Parameter(&'k str),
    /// A pair of the source's template, resolved: `[resolved.type]`.
    Resolved(&'k str),
    /// A pair of the source's template, or else a [survey value](SURVEY_VALUES): `[type]`.
    Known(&'k str),
}

/// A placeholder as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'k> {
    /// Its key, without the brackets.
    pub key: &'k str,
    /// Whether it is in the brackets of what came with the callback.
    pub bracket: Bracket,
    /// Its place in the path and query, from 1.
    pub column: usize,
}

/// The brackets of a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bracket {
    /// `{key}` or `<key>`: it came with the callback.
    Came,
    /// `[key]`: it is known here.
    Known,
}

/// Members of an event that a URL may name. `event_id` is its `id`.
pub const MEMBERS: [&str; 21] = [
    "event_id",
    "id",
    "source",
    "sender",
    "transaction",
    "received_at",
    "user",
    "item",
    "amount",
    "test",
    "unresolved",
    "authenticated",
    "currency",
    "custom",
    "reverses",
    "recut",
    "amount_unit",
    "escaped",
    "released",
    "kind",
    "effect",
];

/// Values of a survey system, which `[…]` names although the callback brings them. No other `[…]` is
/// ever a parameter: any caller can add one that nothing signs.
pub const SURVEY_VALUES: [&str; 5] =
    ["effective", "answer_consumed", "uid_info", "sid", "answer_id"];

/// A value with which a segment of the path is not one of its own: a server would look for another
/// path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathSegmentError {
    /// The segment would be `.` or `..`.
    #[error("a value would make a dot segment (`.` or `..`) in its path")]
    Dots,
    /// The segment would be empty.
    #[error("a value is empty, and would make an empty segment in its path")]
    Empty,
}

impl<'k> Placeholder<'k> {
    /// The value of `key` in these brackets.
    #[must_use]
    pub fn of(bracket: Bracket, key: &'k str) -> Self {
        if let Some(name) = key.strip_prefix("params.") {
            return Self::Parameter(name);
        }
        if let Some(name) = key.strip_prefix("resolved.") {
            return Self::Resolved(name);
        }
        if let Some(name) = key.strip_prefix("event.").filter(|name| MEMBERS.contains(name)) {
            return Self::Member(name);
        }
        match bracket {
            _ if MEMBERS.contains(&key) => Self::Member(key),
            Bracket::Came => Self::Parameter(key),
            Bracket::Known => Self::Known(key),
        }
    }
}

impl Spot {
    fn bracket(&self) -> Bracket {
        match self.origin {
            Origin::Callback => Bracket::Came,
            Origin::Known => Bracket::Known,
        }
    }
}

impl UrlTemplate {
    /// Reads a URL such as `https://game.example/reward?user={user_id}`.
    ///
    /// # Errors
    /// The first mistake, with its column in the whole URL.
    pub fn parse(url: &str) -> Result<Self, DefinitionError> {
        let behind = url.find("://").map_or(0, |at| at + 3);
        let end = url[behind..].find(['/', '?']).map_or(url.len(), |at| behind + at);
        let (origin, rest) = url.split_at(end);
        let before = origin.chars().count();
        let moved = |fault: DefinitionError| {
            let column = fault.column.map(|column| column + before);
            column.map_or(fault.clone(), |column| fault.at(column))
        };
        let rest = Text::parse(rest, Strictness::Strict).map_err(moved)?;
        if let Some(spot) = rest.spots().find(|spot| !spot.modifiers.is_empty()) {
            let what = format!("`{}` has a modifier, which a URL does not read", spot.key);
            let fault = DefinitionError::new("url", what, "remove the bar and the modifier");
            return Err(moved(fault.at(spot.column)));
        }
        Ok(Self { origin: origin.to_owned(), rest })
    }

    /// Its placeholders, as they are written.
    pub fn placeholders(&self) -> impl Iterator<Item = Written<'_>> {
        self.rest.spots().map(|spot| Written {
            key: &spot.key,
            bracket: spot.bracket(),
            column: spot.column,
        })
    }

    /// The URL with `value` of each placeholder in its place, percent-encoded so that no value can
    /// add a parameter or a part of a path. A missing value is written as an empty text.
    ///
    /// # Errors
    /// When a value would make a dot segment, or an empty one, in the path.
    pub fn fill(
        &self,
        mut value: impl FnMut(Placeholder<'_>) -> Option<String>,
    ) -> Result<String, PathSegmentError> {
        let mut get =
            |spot: &Spot| value(Placeholder::of(spot.bracket(), &spot.key)).unwrap_or_default();
        let mut url = Filled::behind(&self.origin);
        for piece in &self.rest.pieces {
            match piece {
                Piece::Literal(bytes) => url.literal(&String::from_utf8_lossy(bytes)),
                Piece::Value(spot) => url.value(get(spot).as_bytes()),
                Piece::Optional(inner) => optional(&mut url, inner, &mut get),
            }
        }
        url.finish()
    }
}

/// A part that is left out when one of its placeholders is absent or empty.
fn optional(url: &mut Filled, inner: &[Piece], get: &mut impl FnMut(&Spot) -> String) {
    let value = |piece: &Piece| match piece {
        Piece::Value(spot) => Some(get(spot)),
        // Parts do not stand in one another.
        Piece::Literal(_) | Piece::Optional(_) => None,
    };
    let values: Vec<Option<String>> = inner.iter().map(value).collect();
    if values.iter().flatten().any(String::is_empty) {
        return;
    }
    for (piece, value) in inner.iter().zip(values) {
        match (piece, value) {
            (Piece::Literal(bytes), _) => url.literal(&String::from_utf8_lossy(bytes)),
            (_, Some(value)) => url.value(value.as_bytes()),
            (_, None) => {}
        }
    }
}

/// A URL that is being filled, and the segment of its path that is being written.
struct Filled {
    url: String,
    /// The segment as a server decodes it; nothing behind the path.
    segment: Option<Vec<u8>>,
    /// Whether a value is a part of the segment.
    has_value: bool,
    /// The content since the last slash of the URL as it is written.
    written: SegmentText,
    fault: Result<(), PathSegmentError>,
}

/// The content of a segment of a path, as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SegmentText {
    /// Nothing yet.
    Nothing,
    /// Values, all of them empty.
    EmptyValue,
    /// Characters.
    Characters,
}

impl Filled {
    fn behind(origin: &str) -> Self {
        let segment = Some(Vec::new());
        let (has_value, written) = (false, SegmentText::Nothing);
        Self { url: origin.to_owned(), segment, has_value, written, fault: Ok(()) }
    }

    /// Writes literal parts of the URL.
    fn literal(&mut self, text: &str) {
        self.url.push_str(text);
        let (path, is_end) = match text.split_once(['?', '#']) {
            Some((path, _)) => (path, true),
            None => (text, false),
        };
        for &byte in &*unpercented(path.as_bytes(), Plus::Kept) {
            self.decoded(byte);
        }
        for byte in path.bytes() {
            match byte {
                b'/' => self.end_written(),
                _ => self.written = SegmentText::Characters,
            }
        }
        if is_end {
            self.end_path();
        }
    }

    /// Writes a value, percent-encoded.
    fn value(&mut self, value: &[u8]) {
        encoded(&mut self.url, value);
        self.written = match self.written {
            SegmentText::Nothing | SegmentText::EmptyValue if value.is_empty() => {
                SegmentText::EmptyValue
            }
            _ => SegmentText::Characters,
        };
        self.has_value = true;
        for &byte in value {
            self.decoded(byte);
            self.has_value = true;
        }
    }

    /// Takes one byte of the path as a server sees it that decodes before it splits.
    fn decoded(&mut self, byte: u8) {
        match (byte, &mut self.segment) {
            (_, None) => {}
            (b'/' | b'\\', _) => self.end_segment(),
            (_, Some(segment)) => segment.push(byte),
        }
    }

    fn end_segment(&mut self) {
        let Some(segment) = &mut self.segment else { return };
        // Some servers take what is behind a semicolon away first.
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        if self.has_value && matches!(name, b"." | b"..") {
            self.fault = Err(PathSegmentError::Dots);
        }
        segment.clear();
        self.has_value = false;
    }

    /// Ends a segment as it is written: a slash in a value is escaped, and ends none.
    fn end_written(&mut self) {
        if self.written == SegmentText::EmptyValue && self.segment.is_some() {
            self.fault = self.fault.and(Err(PathSegmentError::Empty));
        }
        self.written = SegmentText::Nothing;
    }

    fn end_path(&mut self) {
        self.end_segment();
        self.end_written();
        self.segment = None;
    }

    fn finish(mut self) -> Result<String, PathSegmentError> {
        self.end_path();
        self.fault.map(|()| self.url)
    }
}

fn encoded(url: &mut String, value: &[u8]) {
    for &byte in value {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(byte));
            }
            // Writing to a text cannot fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
}

/// A URL in which a sender replaces its own macros, `{user_id}`, and nothing else: whatever else it
/// holds stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacroUrl(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Macro(String),
}

impl MacroUrl {
    /// Reads `url`, where `macros` are the names that are replaced.
    pub fn read<'m>(url: &str, macros: impl Fn(&str) -> bool + 'm) -> Self {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = url;
        while let Some(open) = rest.find('{') {
            let (before, behind) = rest.split_at(open);
            text.push_str(before);
            let name = behind[1..].split_once('}').map(|(name, _)| name);
            let used = match name.filter(|name| macros(name)) {
                Some(name) => {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                    parts.push(Part::Macro(name.to_owned()));
                    name.len() + 2
                }
                None => {
                    text.push('{');
                    1
                }
            };
            rest = &behind[used..];
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Self(parts)
    }

    /// The URL with the `value` that a callback has for each macro, escaped so that it can add
    /// nothing; what no URL may hold as it is, is escaped too.
    ///
    /// # Errors
    /// When a value would make a dot segment, or an empty one, in the path.
    pub fn fill<'v>(
        &self,
        value: impl Fn(&str) -> Option<Cow<'v, [u8]>>,
    ) -> Result<String, PathSegmentError> {
        let mut url = Filled::behind("");
        for part in &self.0 {
            match part {
                Part::Text(text) => {
                    let mut kept = String::new();
                    keep(&mut kept, text);
                    url.literal(&kept);
                }
                Part::Macro(name) => url.value(&value(name).unwrap_or_default()),
            }
        }
        url.finish()
    }

    /// The URL with its macros left as they are, as a sender calls it to try it out.
    #[must_use]
    pub fn unfilled(&self) -> String {
        let mut url = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => keep(&mut url, text),
                Part::Macro(name) => drop(write!(url, "%7B{name}%7D")),
            }
        }
        url
    }
}

/// Writes a literal part, except bytes that a request line may not contain.
fn keep(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"'
            | b'<'
            | b'>'
            | b'#'
            | b'\\'
            | b'^'
            | b'`'
            | b'{'
            | b'|'
            | b'}'
            | 0..=b' '
            | 0x7f.. => {
                // Writing to a text cannot fail.
                let _ = write!(url, "%{byte:02X}");
            }
            _ => url.push(char::from(byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(url: &str) -> String {
        let filled = UrlTemplate::parse(url).unwrap().fill(|placeholder| match placeholder {
            Placeholder::Member("user") => Some("a b&c=/ü".into()),
            Placeholder::Known("sid") => Some("7".into()),
            Placeholder::Parameter("empty") => Some(String::new()),
            _ => None,
        });
        filled.unwrap()
    }

    #[test]
    fn a_member_takes_precedence_and_each_has_a_name_of_its_own() {
        use Bracket::{Came, Known};
        for (bracket, key, expected) in [
            (Came, "user", Placeholder::Member("user")),
            (Known, "user", Placeholder::Member("user")),
            (Came, "event.user", Placeholder::Member("user")),
            (Known, "event_id", Placeholder::Member("event_id")),
            (Came, "uid", Placeholder::Parameter("uid")),
            (Came, "params.user", Placeholder::Parameter("user")),
            (Known, "params.user", Placeholder::Parameter("user")),
            (Came, "event.other", Placeholder::Parameter("event.other")),
            (Known, "type", Placeholder::Known("type")),
            (Known, "resolved.user", Placeholder::Resolved("user")),
        ] {
            assert_eq!(Placeholder::of(bracket, key), expected, "{key}");
        }
    }

    #[test]
    fn no_value_makes_a_dot_segment() {
        let fill = |url: &str, value: &str| {
            UrlTemplate::parse(url).unwrap().fill(|_| Some(value.to_owned()))
        };
        for (url, value) in [
            ("http://h/tpl/{user}/grant", ".."),
            ("http://h/tpl/{user}/grant", "."),
            ("http://h/tpl/{user}", ".."),
            ("http://h/tpl/{user}?a=1", ".."),
            ("http://h/tpl/.{user}/grant", "."),
            ("http://h/tpl/%2e{user}/grant", "."),
            ("http://h/tpl/{user}{item}/grant", "."),
            ("http://h/tpl/{user}/grant", "a/../../x"),
            ("http://h/tpl/{user}/grant", "a\\..\\x"),
            ("http://h/tpl/{user};v=1/grant", ".."),
            ("http://h/tpl({user})?/x", "/../"),
        ] {
            assert_eq!(fill(url, value), Err(PathSegmentError::Dots), "{url} {value}");
        }
        for (url, value) in [
            ("http://h/tpl/{user}/grant", "..."),
            ("http://h/tpl/{user}/grant", "a..b"),
            ("http://h/tpl/v{user}", ".."),
            ("http://h/a/../b/{user}", "u"),
            ("http://h/grant?u={user}", "../.."),
        ] {
            assert!(fill(url, value).is_ok(), "{url} {value}");
        }
        let own = MacroUrl::read("http://h/{user_id}/x?u={user_id}", |name| name == "user_id");
        assert_eq!(own.fill(|_| Some(Cow::Borrowed(b".."))), Err(PathSegmentError::Dots));
        assert_eq!(own.fill(|_| Some(Cow::Borrowed(b"..a"))).unwrap(), "http://h/..a/x?u=..a");
    }

    #[test]
    fn no_empty_value_is_a_segment() {
        let fill = |url: &str, value: &str| {
            UrlTemplate::parse(url).unwrap().fill(|_| Some(value.to_owned()))
        };
        for url in [
            "http://h/t/{user}/x",
            "http://h/t/{user}",
            "http://h/{user}?a=1",
            "http://h/t/{user}{item}/x?u={user}",
            "http://h/t/x/{user}(/{item})?",
        ] {
            assert_eq!(fill(url, ""), Err(PathSegmentError::Empty), "{url}");
            assert!(fill(url, "u").is_ok(), "{url}");
        }
        for (url, value) in [
            ("http://h/t/u{user}/x", ""),
            ("http://h/t/{user}-{item}/x", ""),
            ("http://h/t(/{user})?/x", ""),
            ("http://h/t//x?u={user}", ""),
            ("http://h/t?u={user}/{user}/x", ""),
            ("http://h/t/{user}/x", "/"),
            ("http://h/t/{user}/x", "a//b"),
        ] {
            assert!(fill(url, value).is_ok(), "{url} {value}");
        }
        let own = MacroUrl::read("http://h/{user_id}/x?u={user_id}", |name| name == "user_id");
        assert_eq!(own.fill(|_| None), Err(PathSegmentError::Empty));
    }

    #[test]
    fn values_are_percent_encoded_and_nothing_is_added() {
        assert_eq!(filled("https://h/{user}?s=[sid]"), "https://h/a%20b%26c%3D%2F%C3%BC?s=7");
        assert_eq!(
            filled("http://[::1]:80/x?u=<user>"),
            "http://[::1]:80/x?u=a%20b%26c%3D%2F%C3%BC"
        );
    }

    #[test]
    fn what_is_absent_is_nothing_and_optional_parts_go_with_it() {
        assert_eq!(
            filled("http://h/?a={none}&b=1(&c={empty})?(&s=[sid])?"),
            "http://h/?a=&b=1&s=7"
        );
    }

    #[test]
    fn only_a_senders_own_macros_are_replaced() {
        let known = |name: &str| ["user_id", "ilrd", "sign"].contains(&name);
        let sample = r#"https://a.example/x?Key=%3D&中文=测试&_!@#$%^&*4353*(233223)_+-={]}[]\|:;"'23<,>.?/E=1&32`~4355"#;
        let kept = MacroUrl::read(sample, known);
        assert_eq!(
            kept.fill(|_| Some(Cow::Borrowed(b"1"))).unwrap(),
            "https://a.example/x?Key=%3D&%E4%B8%AD%E6%96%87=%E6%B5%8B%E8%AF%95&_!@%23$%%5E&*4353*\
             (233223)_+-=%7B]%7D[]%5C%7C:;%22'23%3C,%3E.?/E=1&32%60~4355"
        );
        let url = MacroUrl::read("http://h/{user_id}/{other}?u={user_id}&i={ilrd}&{sign", known);
        let value = |name: &str| {
            let value: &[u8] = if name == "user_id" { b"a b&c/..d" } else { b"{\"a\":1}" };
            Some(Cow::Borrowed(value))
        };
        assert_eq!(
            url.fill(value).unwrap(),
            "http://h/a%20b%26c%2F..d/%7Bother%7D?u=a%20b%26c%2F..d&i=%7B%22a%22%3A1%7D&%7Bsign"
        );
        let absent = MacroUrl::read("http://h/u{user_id}/{other}?u={user_id}&{sign", known);
        assert_eq!(absent.fill(|_| None).unwrap(), "http://h/u/%7Bother%7D?u=&%7Bsign");
        assert_eq!(
            url.unfilled(),
            "http://h/%7Buser_id%7D/%7Bother%7D?u=%7Buser_id%7D&i=%7Bilrd%7D&%7Bsign"
        );
    }

    #[test]
    fn mistakes_are_named_by_their_column_in_the_url() {
        for (url, column) in [("http://h/a?b={c", 14), ("http://h/{a|raw}", 10)] {
            assert_eq!(UrlTemplate::parse(url).unwrap_err().column, Some(column), "{url}");
        }
    }
}
