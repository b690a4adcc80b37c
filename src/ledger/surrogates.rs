//! JSON texts that every parser accepts.
//!
//! A sender may write half of a surrogate pair, `"\\ud83d"`. JSON's grammar allows it, and most
//! parsers reject the whole text. In events such a half is written as U+FFFD.

use bytes::Bytes;

/// Bytes of an escape, `\uXXXX`.
const ESCAPE_BYTES: usize = 6;

/// The replacement of a half: as long as the escape.
const REPLACEMENT: &[u8; ESCAPE_BYTES] = b"\\ufffd";

/// Replaces each escape in `json` that is half of a surrogate pair.
pub(super) fn mend(json: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json[at..]) {
        at += found;
        at += match (unit(&json[at..]), unit(json.get(at + ESCAPE_BYTES..).unwrap_or_default())) {
            // The second of two characters may be a backslash: it is skipped with the first.
            (None, _) => 2,
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * ESCAPE_BYTES,
            (Some(0xd800..=0xdfff), _) => {
                json[at..at + ESCAPE_BYTES].copy_from_slice(REPLACEMENT);
                ESCAPE_BYTES
            }
            (Some(_), _) => ESCAPE_BYTES,
        };
        at = at.min(json.len());
    }
}

/// `json` with every half replaced. Copied only if it may contain one: older versions wrote some.
pub(super) fn mended(json: Bytes) -> Bytes {
    let may_hold_one =
        [&b"\\ud"[..], b"\\uD"].iter().any(|escape| memchr::memmem::find(&json, escape).is_some());
    if !may_hold_one {
        return json;
    }
    let mut copy = json.to_vec();
    mend(&mut copy);
    Bytes::from(copy)
}

/// The code unit of the escape that `json` begins with.
fn unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    let text = std::str::from_utf8(digits).ok()?;
    u16::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(json: &str) -> String {
        String::from_utf8(mended(Bytes::copy_from_slice(json.as_bytes())).to_vec()).unwrap()
    }

    #[test]
    fn halves_of_pairs_are_replaced_and_nothing_else() {
        for (json, expected) in [
            (r#"{"a":"b\ud83d"}"#, r#"{"a":"b\ufffd"}"#),
            (r#"["\uD83D\ude00"]"#, r#"["\uD83D\ude00"]"#),
            (r#"["\ude00\ud83d"]"#, r#"["\ufffd\ufffd"]"#),
            (r#"["\ud83d\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            (r#"["\\ud83d"]"#, r#"["\\ud83d"]"#),
            (r#"["\\\ud83d"]"#, r#"["\\\ufffd"]"#),
            (r#"["\ud83dx","\u0041","\n"]"#, r#"["\ufffdx","\u0041","\n"]"#),
            (r#""\ud83"#, r#""\ud83"#),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(after(json), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_of_escapes_can_be_read_afterwards(units: Vec<u16>) {
            let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let text = after(&format!("\"{escapes}\""));
            let read: String = serde_json::from_str(&text).unwrap();
            proptest::prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }
    }
}
