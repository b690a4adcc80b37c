//! Characters that a terminal obeys in place of showing them. Callers of the gateway choose the
//! values that operators read.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal obeys `c`, or shows the text around it in another order: a control character,
/// or a mark of the writing direction.
pub(crate) const fn is_unprintable(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// The JSON text `json` with such characters escaped, which leaves its values the same. JSON itself
/// escapes those of ASCII, and has the others in strings only.
pub(crate) fn printable_json(json: &str) -> Cow<'_, str> {
    let is_bare = |c: char| !c.is_ascii() && is_unprintable(c);
    if json.is_ascii() || !json.contains(is_bare) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + ESCAPE_BYTES);
    for c in json.chars() {
        if is_bare(c) {
            // All of them take four digits.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Bytes of `\u009b`.
const ESCAPE_BYTES: usize = 6;

/// The same with a `line` of the log.
pub(super) fn make_printable(line: &mut Vec<u8>) {
    if line.is_ascii() {
        return;
    }
    let escaped = match std::str::from_utf8(line).map(printable_json) {
        Ok(Cow::Owned(escaped)) => escaped,
        _ => return,
    };
    line.clear();
    line.extend_from_slice(escaped.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_without_characters_that_terminals_obey() {
        let odd = "a\u{9b}31m\u{202e}b\u{2066}\u{200f}\u{61c}é人\u{1b}\n";
        let written = serde_json::to_string(odd).unwrap();
        let shown = printable_json(&written);
        assert!(!shown.chars().any(is_unprintable), "{shown:?}");
        assert!(shown.contains("é人") && shown.contains("\\u009b") && shown.contains("\\u202e"));
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), odd);
        assert!(matches!(printable_json("{\"a\": \"é\"}\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_line_of_the_log_says_the_same_too() {
        let mut line = "{\"user\":\"\u{9d}52;c\u{202e}\"}\n".as_bytes().to_vec();
        make_printable(&mut line);
        assert_eq!(line, b"{\"user\":\"\\u009d52;c\\u202e\"}\n");
    }
}
