//! Fields of a query or a form, path segments, and cookies.

use http::{HeaderMap, header};

use crate::clock::UnixMillis;
pub(super) use crate::sender::path_segment as segment;

/// Fields read from one form or query: more than the largest page sends, few enough to be cheap.
const FIELDS_MAX: usize = 2000;

/// The fields of a query or a form, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`. Undecodable input yields no fields; invalid UTF-8
    /// becomes replacement characters.
    pub(super) fn read(text: &[u8]) -> Self {
        let mut pairs: Vec<(String, String)> =
            serde_urlencoded::from_bytes(text).unwrap_or_default();
        pairs.truncate(FIELDS_MAX);
        Self(pairs)
    }

    /// Fields with these names and values.
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(owned).collect())
    }

    /// The first value of `name`, trimmed; `None` if it is missing or empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.verbatim(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The first value of `name`, unchanged.
    pub(super) fn verbatim(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The fields without those of `names`.
    pub(super) fn without(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| !names.contains(&name.as_str())).cloned().collect())
    }

    /// Writes the fields as a query.
    pub(super) fn as_query(&self) -> String {
        self.with("", None)
    }

    /// Writes the fields as a query, with `name` set to `value` or removed.
    pub(super) fn with(&self, name: &str, value: Option<&str>) -> String {
        let others = self.0.iter().map(|(known, value)| (known.as_str(), value.as_str()));
        let others = others.filter(|(known, _)| *known != name);
        let all: Vec<_> = others.chain(value.map(|value| (name, value))).collect();
        query(&all)
    }
}

/// Writes pairs as a query, `?a=1&b=2`; empty if there are none.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    match serde_urlencoded::to_string(pairs) {
        Ok(text) if !text.is_empty() => format!("?{text}"),
        _ => String::new(),
    }
}

/// Unescapes a path segment; `None` if it is not valid UTF-8.
pub(super) fn unescape(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.extend(const_hex::decode(digits).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Reads a time in UTC: RFC 3339, or as `datetime-local` sends it.
pub(super) fn time(text: &str) -> Option<UnixMillis> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Some(stamp.as_millisecond());
    }
    let local: jiff::civil::DateTime = text.trim_end_matches(" UTC").parse().ok()?;
    Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// The value of the cookie `name`.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(known, value)| (known.trim(), value.trim()))
        .find_map(|(known, value)| (known == name && !value.is_empty()).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_written() {
        let fields = Fields::read(b"q=+a%20b+&source=&x=1&x=2&bad=%ff");
        assert_eq!(fields.text("q"), Some("a b"));
        assert_eq!(fields.verbatim("q"), Some(" a b "));
        assert_eq!(fields.text("source"), None);
        assert_eq!(fields.all("x").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(fields.text("bad"), Some("\u{fffd}"));
        let fields = Fields::read(b"a=%26&lang=en");
        assert_eq!(fields.with("lang", Some("zh-CN")), "?a=%26&lang=zh-CN");
        assert_eq!(Fields::read(b"lang=en").with("lang", None), "");
    }

    #[test]
    fn segments_round_trip() {
        for name in ["reward/17", "a b", "é%", "..", "x"] {
            assert_eq!(unescape(&segment(name)).as_deref(), Some(name));
            assert!(!segment(name).contains('/'));
        }
        for bad in ["%", "%f", "%zz", "%ff"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_as_browsers_send_them() {
        let at = Some(1_767_323_040_000);
        assert_eq!(time("2026-01-02T03:04"), at);
        assert_eq!(time("2026-01-02 03:04:00 UTC"), at);
        assert_eq!(time("2026-01-02T03:04:00Z"), at);
        assert_eq!(time("yesterday"), None);
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let value = "a=1; postern_session=abc ;b=".parse().unwrap();
        let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
        assert_eq!(cookie(&headers, "postern_session"), Some("abc"));
        assert_eq!(cookie(&headers, "b"), None);
        assert_eq!(cookie(&headers, "session"), None);
    }
}
