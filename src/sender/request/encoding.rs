//! Encodings on the wire: percent and form encoding, JSON and XML text, hex, base64.
//!
//! Decoding streams into a [`Sink`], so that the verify path makes no copy of its own.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

/// Takes bytes: a hasher, a buffer, a counter.
pub(in crate::sender) trait Sink {
    /// Takes `bytes`, behind what it took before.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The meaning of `+` in a query or form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Plus {
    /// A space, as in forms.
    #[default]
    Space,
    /// A plus sign.
    Kept,
}

/// Bytes that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) struct EncodingError;

/// Padding may be there or not, and the spare bits of the last character may be anything: keys
/// that people have (WeChat's 43 characters) do not end canonically.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Decodes percent escapes into `sink`. An escape that is none stands as it is, as PHP and the
/// URL standard have it.
pub(in crate::sender) fn unpercent(raw: &[u8], plus: Plus, sink: &mut impl Sink) {
    let mut rest = raw;
    while let Some(at) = next_escape(rest, plus) {
        sink.put(&rest[..at]);
        let (decoded, used) = escape_at(&rest[at..]);
        sink.put(&[decoded]);
        rest = &rest[at + used..];
    }
    sink.put(rest);
}

/// Below this number of bytes, a plain loop is faster than a search.
const SHORT: usize = 16;

#[inline]
fn next_escape(bytes: &[u8], plus: Plus) -> Option<usize> {
    if bytes.len() < SHORT {
        let blank = plus == Plus::Space;
        return bytes.iter().position(|byte| *byte == b'%' || (blank && *byte == b'+'));
    }
    match plus {
        Plus::Space => memchr::memchr2(b'%', b'+', bytes),
        Plus::Kept => memchr::memchr(b'%', bytes),
    }
}

fn escape_at(bytes: &[u8]) -> (u8, usize) {
    match bytes {
        [b'+', ..] => (b' ', 1),
        [b'%', high, low, ..] => match (nibble(*high), nibble(*low)) {
            (Some(high), Some(low)) => (high << 4 | low, 3),
            _ => (b'%', 1),
        },
        _ => (b'%', 1),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The decoded form of `raw`, borrowed where nothing is escaped.
pub(in crate::sender) fn unpercented(raw: &[u8], plus: Plus) -> Cow<'_, [u8]> {
    if next_escape(raw, plus).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    unpercent(raw, plus, &mut out);
    Cow::Owned(out)
}

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

fn escape(byte: u8, sink: &mut impl Sink) {
    let high = UPPER_HEX[usize::from(byte >> 4)];
    let low = UPPER_HEX[usize::from(byte & 15)];
    sink.put(&[b'%', high, low]);
}

/// Encodes for a URL: all but the unreserved characters of RFC 3986.
pub(in crate::sender) fn percent(bytes: &[u8], sink: &mut impl Sink) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                sink.put(&[byte]);
            }
            _ => escape(byte, sink),
        }
    }
}

/// `value` as one segment of a path: all but the unreserved characters of RFC 3986 are escaped.
#[must_use]
pub fn path_segment(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    percent(value.as_bytes(), &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `text` as it is shown: what is not UTF-8 is percent-encoded as a whole. A replacement character
/// in place of odd bytes would make one text of two identifiers.
#[inline]
pub(in crate::sender) fn shown(text: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(escaped(text)),
    }
}

#[cold]
fn escaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(3 * text.len());
    percent(text, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

/// Encodes all bytes but those for which `stays` holds.
pub(in crate::sender) fn percent_where(
    bytes: &[u8],
    stays: impl Fn(u8) -> bool,
    sink: &mut impl Sink,
) {
    for &byte in bytes {
        if stays(byte) { sink.put(&[byte]) } else { escape(byte, sink) }
    }
}

/// Encodes as PHP's `urlencode` does: a space is `+`, and `~` is escaped.
pub(in crate::sender) fn form(bytes: &[u8], sink: &mut impl Sink) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => sink.put(&[byte]),
            b' ' => sink.put(b"+"),
            _ => escape(byte, sink),
        }
    }
}

/// Decodes hex in either case.
pub(in crate::sender) fn unhex(text: &[u8]) -> Result<Vec<u8>, EncodingError> {
    const_hex::decode(text).map_err(|_| EncodingError)
}

/// Decodes base64 of either alphabet, padded or not.
pub(in crate::sender) fn unbase64(text: &[u8]) -> Result<Vec<u8>, EncodingError> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if url_safe { &URL_SAFE } else { &STANDARD };
    engine.decode(text).map_err(|_| EncodingError)
}

/// Decodes base64 of either alphabet into `out`; the bytes written.
pub(in crate::sender) fn unbase64_into(
    text: &[u8],
    out: &mut [u8],
) -> Result<usize, EncodingError> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let engine = if url_safe { &URL_SAFE } else { &STANDARD };
    engine.decode_slice(text, out).map_err(|_| EncodingError)
}

/// Padded base64 of the standard alphabet.
pub(in crate::sender) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Base64 of the URL-safe alphabet, without padding.
pub(in crate::sender) fn base64url(bytes: &[u8]) -> String {
    let mut text = URL_SAFE.encode(bytes);
    text.truncate(text.trim_end_matches('=').len());
    text
}

/// The text of a JSON value: a string's decoded text, anything else as it is spelled; `None` for
/// `null`. Half of a surrogate pair has no UTF-8: it becomes the three bytes that would encode its
/// number, so that two different strings never have one text.
pub(in crate::sender) fn json_text(raw: &[u8]) -> Result<Option<Cow<'_, [u8]>>, EncodingError> {
    match raw {
        b"null" => Ok(None),
        [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
            Ok(Some(Cow::Borrowed(inner)))
        }
        [b'"', ..] => serde_json::from_slice::<TextBytes>(raw)
            .map(|text| Some(Cow::Owned(text.0)))
            .map_err(|_| EncodingError),
        _ => Ok(Some(Cow::Borrowed(raw))),
    }
}

/// The decoded bytes of a JSON string. Read as bytes, since a `String` has no halves of pairs.
struct TextBytes(Vec<u8>);

impl<'de> Deserialize<'de> for TextBytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = TextBytes;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a string")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<TextBytes, E> {
                Ok(TextBytes(bytes.to_vec()))
            }
        }
        from.deserialize_bytes(BytesVisitor)
    }
}

/// `text` as a JSON string, quotes included.
pub(in crate::sender) fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| String::from("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &[u8], plus: Plus) -> Vec<u8> {
        unpercented(raw, plus).into_owned()
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stands() {
        assert_eq!(decoded(b"a%20b+c%2b", Plus::Space), b"a b c+");
        assert_eq!(decoded(b"a+b", Plus::Kept), b"a+b");
        assert_eq!(decoded(b"100%", Plus::Space), b"100%");
        assert_eq!(decoded(b"%zz%4", Plus::Space), b"%zz%4");
        assert_eq!(decoded(b"%E4%BA%BA%00", Plus::Space), "人\0".as_bytes());
    }

    #[test]
    fn php_escapes_the_tilde_and_urls_do_not() {
        let (mut php, mut url) = (Vec::new(), Vec::new());
        form("R 2~人*".as_bytes(), &mut php);
        percent("R 2~人*".as_bytes(), &mut url);
        assert_eq!(php, b"R+2%7E%E4%BA%BA%2A");
        assert_eq!(url, b"R%202~%E4%BA%BA%2A");
    }

    #[test]
    fn base64_takes_both_alphabets_and_spare_bits() {
        assert_eq!(unbase64(b"-_-_"), unbase64(b"+/+/"));
        assert_eq!(unbase64(b"YQ").unwrap(), b"a");
        assert_eq!(unbase64(b"YR==").unwrap(), b"a");
        assert!(unbase64(b"Y*==").is_err());
    }

    #[test]
    fn json_text_is_a_string_decoded_and_a_number_as_spelled() {
        assert_eq!(json_text(b"1.50").unwrap().unwrap().as_ref(), b"1.50");
        assert_eq!(json_text(br#""a\nb""#).unwrap().unwrap().as_ref(), b"a\nb");
        assert_eq!(json_text(b"null").unwrap(), None);
        assert_eq!(json_text(br#""v\ud83d""#).unwrap().unwrap().as_ref(), b"v\xED\xA0\xBD");
        assert_eq!(json_text(br#""\ud83d\ude00""#).unwrap().unwrap().as_ref(), "😀".as_bytes());
        assert!(json_text(br#""\ud80""#).is_err());
    }
}
