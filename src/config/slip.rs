//! Usual slips in a secret: what another program should have replaced, and what was copied along.

/// Byte order marks of UTF-8 and UTF-16.
const MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// Pairs of quotes that are copied along with a value.
const QUOTES: [(&str, &str); 6] =
    [("\"", "\""), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("「", "」")];

/// The marks around a reference.
const FRAMES: [(&str, &str); 8] = [
    ("${{", "}}"),
    ("${", "}"),
    ("$(", ")"),
    ("#{", "}"),
    ("{{", "}}"),
    ("{$", "}"),
    ("{env.", "}"),
    ("env(", ")"),
];

/// Words that stand for a secret, in small letters and without separators.
const PLACEHOLDERS: [&str; 7] = [
    "changeme",
    "replaceme",
    "placeholder",
    "yoursecret",
    "todo",
    "secrethere",
    "insertsecrethere",
];

/// Whether `value` is a reference as other programs write them: `${NAME}`, `$NAME`, `$(NAME)`,
/// `${{ secrets.NAME }}`, `#{NAME}`, `{$NAME}`, `{env.NAME}`, `{{NAME}}`, `{NAME}`, `%NAME%`,
/// `env(NAME)`, or one of ours in capitals: `ENV:NAME`.
pub(super) fn is_reference(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let text = text.trim();
    let within = |start: &str, end: &str| text.strip_prefix(start)?.strip_suffix(end);
    let braced = FRAMES.iter().find_map(|(start, end)| within(start, end));
    if let Some(inner) = braced {
        return inner.trim().starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    }
    if text.strip_prefix('$').is_some_and(is_lower_name) {
        return true;
    }
    // Without braces of its own a secret could be written so by chance: only capitals are a name.
    let bare = text.strip_prefix('$').or_else(|| within("%", "%")).or_else(|| within("{", "}"));
    bare.is_some_and(is_variable) || is_capital_prefix(text)
}

/// Whether `value` is what a text about secrets has in place of one: `<NAME>`, `YOUR_SECRET`,
/// `changeme`.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let text = text.trim();
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    if inner.is_some_and(|inner| inner.starts_with(|first: char| first.is_ascii_alphabetic())) {
        return true;
    }
    let plain = text.to_ascii_lowercase().replace(['_', '-', ' '], "");
    PLACEHOLDERS.contains(&plain.as_str())
        || ["your_", "your-", "your "]
            .iter()
            .any(|your| text.get(..your.len()).is_some_and(|head| head.eq_ignore_ascii_case(your)))
}

/// Whether `name` is a variable in small letters: letters and `_`. A secret of that length has a
/// digit or a capital.
fn is_lower_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
}

/// Whether `name` is written as variables usually are: capitals, digits and `_`.
fn is_variable(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_uppercase() || byte == b'_')
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Whether `text` begins with `env:` or `file:` in another case, or with `env.`.
fn is_capital_prefix(text: &str) -> bool {
    let is = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    };
    let rest = text.split_once([':', '.']).map_or("", |(_, rest)| rest);
    (is("env:") || is("env.") || is("file:")) && !rest.is_empty()
}

/// Whether `value` begins with a byte order mark.
pub(super) fn begins_with_mark(value: &[u8]) -> bool {
    MARKS.iter().any(|mark| value.starts_with(mark))
}

/// Whether nothing is left of `value` without the spaces and line ends around it.
pub(super) fn is_blank(value: &[u8]) -> bool {
    bare(&String::from_utf8_lossy(value)).is_empty()
}

fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || "\u{200b}\u{feff}".contains(c))
}

/// Everything at the ends of `value` that was probably copied along: quotes, spaces and line ends.
pub(super) fn all(value: &[u8]) -> Vec<&'static str> {
    // The ends of a PEM text do not count.
    if value.starts_with(b"-----BEGIN ") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let text = String::from_utf8_lossy(value);
    let bare = bare(&text);
    if bare.len() != text.len() {
        found.push("has spaces or line ends around it");
    }
    let is_quoted = |(start, end): &(&str, &str)| {
        bare.len() > start.len() + end.len() && bare.starts_with(start) && bare.ends_with(end)
    };
    if QUOTES.iter().any(is_quoted) {
        found.push("has quotes around it");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_other_programs_are_told_from_secrets() {
        for reference in [
            "${TAKU_SEC_KEY}",
            "${taku-key}",
            "${KEY:-none}",
            "$TAKU_SEC_KEY",
            "{$TAKU}",
            "{env.TAKU}",
            "{{ taku_key }}",
            "%TAKU_KEY%",
            "ENV:TAKU",
            "Env:TAKU",
            "env.TAKU",
            "FILE:secrets/taku",
            "$X",
            "$name",
            "$(TAKU_KEY)",
            "#{TAKU_KEY}",
            "${{ secrets.TAKU }}",
            "{TAKU_KEY}",
            "env(TAKU_KEY)",
            " ${TAKU}\n",
        ] {
            assert!(is_reference(reference.as_bytes()), "{reference}");
        }
        for secret in [
            "",
            "$",
            "$1a2b3c",
            "$aB3",
            "a${X}",
            "${}",
            "100%",
            "environment",
            "whsec_env:",
            "{}",
            "{a1b2}",
            "$(1)",
        ] {
            assert!(!is_reference(secret.as_bytes()), "{secret}");
        }
    }

    #[test]
    fn words_in_place_of_a_secret_are_told_from_secrets() {
        for word in ["<NAME>", "<your secret>", "YOUR_SECRET", "your-key", "changeme", "CHANGE_ME"]
        {
            assert!(is_placeholder(word.as_bytes()), "{word}");
        }
        for secret in ["", "<1a2b3c>", "yours2truly", "change", "hidden", "<>"] {
            assert!(!is_placeholder(secret.as_bytes()), "{secret}");
        }
    }

    #[test]
    fn quotes_and_spaces_at_the_ends_are_found_and_others_are_not() {
        assert_eq!(all(b"\"tapjoy\""), ["has quotes around it"]);
        assert_eq!(all("“tapjoy”".as_bytes()), ["has quotes around it"]);
        assert_eq!(all(b"tapjoy \n"), ["has spaces or line ends around it"]);
        assert_eq!(all("\u{a0}tapjoy".as_bytes()), ["has spaces or line ends around it"]);
        assert_eq!(all(b"'tapjoy' ").len(), 2);
        for right in ["tap joy", "tap\"joy\"", "\"", "\"\"", "-----BEGIN PUBLIC KEY-----\n\n"] {
            assert_eq!(all(right.as_bytes()), [""; 0], "{right}");
        }
        assert!(begins_with_mark("\u{feff}tapjoy".as_bytes()));
        assert!(!begins_with_mark(b"tapjoy"));
    }
}
