//! URLs with placeholders: where a delivery of the classic kind goes.

use std::fmt::Write as _;

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
                Piece::Value(spot) => encoded(&mut url, &get(spot)),
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
                encoded(url, &value);
            }
            // Parts do not stand in one another.
            Piece::Optional(_) => {}
        }
    }
}

fn literal(url: &mut String, bytes: &[u8]) {
    url.push_str(&String::from_utf8_lossy(bytes));
}

fn encoded(url: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(byte));
            }
            // Writing to a text cannot fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
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
    fn mistakes_are_named_by_their_column_in_the_url() {
        for (url, column) in [("http://h/a?b={c", 14), ("http://h/{a|raw}", 10)] {
            assert_eq!(UrlTemplate::parse(url).unwrap_err().column, Some(column), "{url}");
        }
    }
}
