//! URLs with placeholders: where a delivery of the classic kind goes.

use std::fmt::Write as _;

use super::encoding::{Plus, unpercented};
use super::fault::Fault;
use super::text::{Origin, Piece, Spot, Strictness, Text};

/// A URL whose path and query are a template. Scheme, host and port stand as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    origin: String,
    rest: Text,
}

/// Where the value of a placeholder comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// It came with the callback: `{key}` or `<key>`.
    Received,
    /// It is known here: `[key]`.
    Known,
}

impl UrlTemplate {
    /// Reads a URL such as `https://game.example/reward?user={user_id}`.
    ///
    /// # Errors
    /// The first mistake, with its column in the whole URL.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let behind = url.find("://").map_or(0, |at| at + 3);
        let end = url[behind..].find(['/', '?']).map_or(url.len(), |at| behind + at);
        let (origin, rest) = url.split_at(end);
        let before = origin.chars().count();
        let moved = |fault: Fault| {
            let column = fault.column.map(|column| column + before);
            column.map_or(fault.clone(), |column| fault.at(column))
        };
        let rest = Text::parse(rest, Strictness::Strict).map_err(moved)?;
        if let Some(spot) = rest.spots().find(|spot| !spot.modifiers.is_empty()) {
            let what = format!("`{}` has a modifier, which a URL does not read", spot.key);
            let fault = Fault::new("url", what, "leave out the bar and what is behind it");
            return Err(moved(fault.at(spot.column)));
        }
        Ok(Self { origin: origin.to_owned(), rest })
    }

    /// The URL with `value` of each placeholder in its place, percent-encoded so that no value can
    /// add a parameter or a part of a path. What is absent is written as nothing.
    pub fn fill(&self, mut value: impl FnMut(Placeholder, &str) -> Option<String>) -> String {
        let mut get = |spot: &Spot| {
            let origin = match spot.origin {
                Origin::Callback => Placeholder::Received,
                Origin::Known => Placeholder::Known,
            };
            value(origin, &spot.key).unwrap_or_default()
        };
        let mut url = self.origin.clone();
        for piece in &self.rest.pieces {
            match piece {
                Piece::Literal(bytes) => literal(&mut url, bytes),
                Piece::Value(spot) => encoded(&mut url, get(spot).as_bytes()),
                Piece::Optional(inner) => optional(&mut url, inner, &mut get),
            }
        }
        url
    }
}

/// A part that is left out when one of its placeholders is absent or empty.
fn optional(url: &mut String, inner: &[Piece], get: &mut impl FnMut(&Spot) -> String) {
    let before = url.len();
    for piece in inner {
        match piece {
            Piece::Literal(bytes) => literal(url, bytes),
            Piece::Value(spot) => {
                let value = get(spot);
                if value.is_empty() {
                    url.truncate(before);
                    return;
                }
                encoded(url, value.as_bytes());
            }
            // Parts do not stand in one another.
            Piece::Optional(_) => {}
        }
    }
}

fn literal(url: &mut String, bytes: &[u8]) {
    url.push_str(&String::from_utf8_lossy(bytes));
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

    /// The URL with the value that the raw `query` of a callback has for each macro, escaped so
    /// that it can add nothing; what no URL may hold as it is, is escaped too.
    #[must_use]
    pub fn fill(&self, query: &[u8]) -> String {
        let mut url = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => keep(&mut url, text),
                Part::Macro(name) => {
                    let value = value_in(query, name.as_bytes()).unwrap_or_default();
                    encoded(&mut url, &unpercented(value, Plus::Blank));
                }
            }
        }
        url
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

/// Writes what stands as it is, but for bytes that no request line may hold.
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

/// The raw value of the pair called `name`.
fn value_in<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let behind = pair.strip_prefix(name)?;
        behind.strip_prefix(b"=").or(behind.is_empty().then_some(behind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(url: &str) -> String {
        UrlTemplate::parse(url).unwrap().fill(|origin, key| match (origin, key) {
            (Placeholder::Received, "user") => Some("a b&c=/ü".into()),
            (Placeholder::Known, "sid") => Some("7".into()),
            (_, "empty") => Some(String::new()),
            _ => None,
        })
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
            kept.fill(b"user_id=1"),
            "https://a.example/x?Key=%3D&%E4%B8%AD%E6%96%87=%E6%B5%8B%E8%AF%95&_!@%23$%%5E&*4353*\
             (233223)_+-=%7B]%7D[]%5C%7C:;%22'23%3C,%3E.?/E=1&32%60~4355"
        );
        let url = MacroUrl::read("http://h/{user_id}/{other}?u={user_id}&i={ilrd}&{sign", known);
        let query = b"x=1&user_id=a+b%26c%2F..&ilrd={\"a\":1}&sign=s";
        assert_eq!(
            url.fill(query),
            "http://h/a%20b%26c%2F../%7Bother%7D?u=a%20b%26c%2F..&i=%7B%22a%22%3A1%7D&%7Bsign"
        );
        assert_eq!(url.fill(b""), "http://h//%7Bother%7D?u=&i=&%7Bsign");
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
