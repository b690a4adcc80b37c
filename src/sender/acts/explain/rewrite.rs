//! Values as programs rewrite them before they sign: numbers, JSON texts, letters, escapes.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::sender::acts::explain::advice::{Phrase, phrase};
use crate::sender::acts::explain::draft::Field;
use crate::sender::request::encoding;

/// One way to rewrite a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewriting {
    about: Phrase,
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    /// The decoded value, which the rule then writes as ever.
    Decoded(fn(&str) -> Option<String>),
    /// The text that is signed.
    Signed(fn(&[u8]) -> Vec<u8>),
}

impl Rewriting {
    /// Its name in the advice: in English after "was signed".
    pub(super) fn about(self) -> Phrase {
        self.about
    }

    /// The rewritten value.
    pub(super) fn of(self, field: &Field) -> Option<Vec<u8>> {
        match self.of {
            Of::Decoded(rewrite) => {
                let text = std::str::from_utf8(&field.decoded).ok()?;
                field.rewritten(rewrite(text)?.as_bytes())
            }
            Of::Signed(rewrite) => Some(rewrite(&field.text)),
        }
    }
}

/// Every rewriting, the commonest first.
pub(super) const ALL: &[Rewriting] = &[
    decoded(phrase("with its number cut to an integer", "数字被截成了整数"), integer),
    decoded(phrase("with its number without zeros at the end", "数字末尾的零被去掉"), shortest),
    decoded(phrase("with its number at one decimal", "数字写成了一位小数"), |text| {
        decimals(text, 1)
    }),
    decoded(phrase("with its number at two decimals", "数字写成了两位小数"), |text| {
        decimals(text, 2)
    }),
    decoded(phrase("with its number at three decimals", "数字写成了三位小数"), |text| {
        decimals(text, 3)
    }),
    decoded(phrase("with its number at four decimals", "数字写成了四位小数"), |text| {
        decimals(text, 4)
    }),
    decoded(phrase("with its number at six decimals", "数字写成了六位小数"), |text| {
        decimals(text, 6)
    }),
    decoded(phrase("with its number rounded to a double", "数字被舍入为双精度浮点数"), double),
    decoded(phrase("with its number without leading zeros", "数字开头的零被去掉"), unpadded),
    decoded(phrase("in seconds instead of milliseconds", "时间写成了秒而非毫秒"), seconds),
    decoded(phrase("in milliseconds instead of seconds", "时间写成了毫秒而非秒"), millis),
    decoded(phrase("without white space at its ends", "首尾的空白被去掉"), |text| {
        Some(text.trim().to_owned())
    }),
    decoded(phrase("with a line end after it", "末尾多了一个换行"), |text| {
        Some(format!("{text}\n"))
    }),
    decoded(phrase("with its JSON text minified", "JSON 文本中的空白被去掉"), minified),
    decoded(
        phrase(
            "with its JSON text minified and its names sorted",
            "JSON 文本中的空白被去掉，成员按名称排序",
        ),
        sorted,
    ),
    decoded(
        phrase("with its JSON text spaced as Python does", "JSON 文本带有 Python 风格的空格"),
        |text| spaced(text, Escapes::Kept),
    ),
    decoded(
        phrase(
            "with its JSON text in ASCII, as Python does",
            "JSON 文本按 Python 的方式转成了 ASCII",
        ),
        |text| spaced(text, Escapes::Ascii),
    ),
    decoded(
        phrase("with its JSON text minified in ASCII", "JSON 文本中的空白被去掉，并转成了 ASCII"),
        ascii,
    ),
    decoded(
        phrase("with its JSON text indented by two", "JSON 文本以两个空格缩进"),
        |text| indented(text, "  "),
    ),
    decoded(
        phrase("with its JSON text indented by four", "JSON 文本以四个空格缩进"),
        |text| indented(text, "    "),
    ),
    decoded(phrase("with its JSON text's slashes escaped", "JSON 文本中的斜杠被转义"), slashes),
    decoded(phrase("in lower case", "字母转成了小写"), |text| Some(text.to_lowercase())),
    decoded(phrase("in upper case", "字母转成了大写"), |text| Some(text.to_uppercase())),
    decoded(phrase("with its first letter in upper case", "首字母转成了大写"), capital),
    decoded(phrase("with `true` and `false` as 1 and 0", "`true` 和 `false` 写成了 1 和 0"), digit),
    decoded(phrase("as `true` or `false`", "1 和 0 写成了 `true` 和 `false`"), word),
    decoded(phrase("with https in its URL", "URL 的协议写成了 https"), |text| {
        scheme(text, "http://", "https://")
    }),
    decoded(phrase("with http in its URL", "URL 的协议写成了 http"), |text| {
        scheme(text, "https://", "http://")
    }),
    decoded(phrase("without the scheme and host of its URL", "URL 缺少协议和主机名"), path),
    signed(phrase("with its percent escapes in lower case", "百分号转义写成了小写"), lower_escapes),
    signed(phrase("with %20 in place of `+`", "`+` 写成了 %20"), |text| {
        swapped(text, b"+", b"%20")
    }),
    signed(phrase("with `+` in place of %20", "%20 写成了 `+`"), |text| {
        swapped(text, b"%20", b"+")
    }),
    signed(phrase("with `~` not escaped", "`~` 没有转义"), |text| swapped(text, b"%7E", b"~")),
    signed(phrase("with `*` not escaped", "`*` 没有转义"), |text| swapped(text, b"%2A", b"*")),
    signed(
        phrase("as RFC 3986 has it, not PHP", "按 RFC 3986 而非 PHP 的方式编码"),
        |text| swapped(&swapped(text, b"+", b"%20"), b"%7E", b"~"),
    ),
];

const fn decoded(about: Phrase, rewrite: fn(&str) -> Option<String>) -> Rewriting {
    Rewriting { about, of: Of::Decoded(rewrite) }
}

const fn signed(about: Phrase, rewrite: fn(&[u8]) -> Vec<u8>) -> Rewriting {
    Rewriting { about, of: Of::Signed(rewrite) }
}

/// Sign, digits and fraction of a plain decimal number.
fn number(text: &str) -> Option<(&str, &str, &str)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && is_digits(whole) && is_digits(fraction))
        .then_some((sign, whole, fraction))
}

fn integer(text: &str) -> Option<String> {
    let (sign, whole, _) = number(text)?;
    Some(format!("{sign}{whole}"))
}

fn shortest(text: &str) -> Option<String> {
    let (sign, whole, fraction) = number(text)?;
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

fn decimals(text: &str, count: usize) -> Option<String> {
    let (sign, whole, fraction) = number(text)?;
    let fraction = fraction.trim_end_matches('0');
    (fraction.len() <= count).then(|| format!("{sign}{whole}.{fraction:0<count$}"))
}

fn double(text: &str) -> Option<String> {
    number(text)?;
    text.parse::<f64>().ok().map(|number| number.to_string())
}

fn unpadded(text: &str) -> Option<String> {
    let (sign, whole, fraction) = number(text)?;
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

fn seconds(text: &str) -> Option<String> {
    let (_, whole, _) = number(text)?;
    (whole.len() == 13).then(|| whole[..10].to_owned())
}

fn millis(text: &str) -> Option<String> {
    let (_, whole, _) = number(text)?;
    (whole.len() == 10).then(|| format!("{whole}000"))
}

/// A JSON object or array; other JSON texts have one spelling that matters.
fn json(text: &str) -> Option<Json> {
    let first = text.trim_start().bytes().next()?;
    matches!(first, b'{' | b'[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// The text without white space between its tokens, in its order and spelling.
fn minified(text: &str) -> Option<String> {
    json(text)?;
    let mut out = String::with_capacity(text.len());
    for token in tokens(text) {
        out.push_str(token);
    }
    Some(out)
}

fn sorted(text: &str) -> Option<String> {
    serde_json::to_string(&json(text)?).ok()
}

fn ascii(text: &str) -> Option<String> {
    minified(text).map(|text| escaped(&text))
}

/// Whether characters beyond ASCII are escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Kept,
    Ascii,
}

fn spaced(text: &str, escapes: Escapes) -> Option<String> {
    json(text)?;
    let mut out = String::with_capacity(text.len() + 16);
    for token in tokens(text) {
        out.push_str(token);
        if matches!(token, "," | ":") {
            out.push(' ');
        }
    }
    Some(if escapes == Escapes::Ascii { escaped(&out) } else { out })
}

fn indented(text: &str, indent: &str) -> Option<String> {
    json(text)?;
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut tokens = tokens(text).peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                if !matches!(tokens.peek(), Some(&("}" | "]"))) {
                    depth += 1;
                    new_line(&mut out, indent, depth);
                }
            }
            "}" | "]" => {
                if !out.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, indent, depth);
                }
                out.push_str(token);
            }
            "," => {
                out.push(',');
                new_line(&mut out, indent, depth);
            }
            ":" => out.push_str(": "),
            _ => out.push_str(token),
        }
    }
    Some(out)
}

fn new_line(out: &mut String, indent: &str, depth: usize) {
    out.push('\n');
    // Bounds the output for a deeply nested text.
    out.push_str(&indent.repeat(depth.min(INDENTS_MAX)));
}

/// Levels that an indented text is written with.
const INDENTS_MAX: usize = 16;

fn slashes(text: &str) -> Option<String> {
    let text = minified(text)?;
    Some(if text.contains("\\/") { text.replace("\\/", "/") } else { text.replace('/', "\\/") })
}

/// The tokens of a JSON text: strings whole, marks, and runs of anything else that is not blank.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let len = match rest.bytes().next()? {
            b'"' => string_len(rest),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => {
                let end = |c: char| c.is_whitespace() || "{}[],:\"".contains(c);
                rest.find(end).unwrap_or(rest.len())
            }
        };
        let (token, tail) = rest.split_at(len);
        rest = tail;
        Some(token)
    })
}

fn string_len(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

fn capital(text: &str) -> Option<String> {
    let mut characters = text.chars();
    let first = characters.next()?;
    Some(first.to_uppercase().chain(characters).collect())
}

fn digit(text: &str) -> Option<String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some("1".to_owned()),
        "false" => Some("0".to_owned()),
        _ => None,
    }
}

fn word(text: &str) -> Option<String> {
    match text {
        "1" => Some("true".to_owned()),
        "0" => Some("false".to_owned()),
        _ => None,
    }
}

fn scheme(text: &str, from: &str, to: &str) -> Option<String> {
    text.strip_prefix(from).map(|rest| format!("{to}{rest}"))
}

fn path(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    rest.find('/').map(|at| rest[at..].to_owned())
}

/// Percent escapes with lower-case digits.
pub(super) fn lower_escapes(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'%', &out[at..]) {
        let start = at + found + 1;
        let end = (start + 2).min(out.len());
        if encoding::unhex(&out[start..end]).is_ok() {
            out[start..end].make_ascii_lowercase();
        }
        at = start;
    }
    out
}

/// `text` with `to` in place of each `from`.
pub(super) fn swapped(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for found in memchr::memmem::find_iter(text, from) {
        out.extend_from_slice(&text[at..found]);
        out.extend_from_slice(to);
        at = found + from.len();
    }
    out.extend_from_slice(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rewritten_and_nothing_else_is() {
        assert_eq!(integer("10.50").as_deref(), Some("10"));
        assert_eq!(shortest("10.50").as_deref(), Some("10.5"));
        assert_eq!(shortest("3000.000000").as_deref(), Some("3000"));
        assert_eq!(decimals("10", 2).as_deref(), Some("10.00"));
        assert_eq!(decimals("10.125", 2), None);
        assert_eq!(double("12345678901234567891").as_deref(), Some("12345678901234567000"));
        for none in ["", "-", ".5", "1e3", "ten", "1.2.3"] {
            assert_eq!(integer(none), None, "{none}");
        }
    }

    #[test]
    fn json_texts_are_rewritten_and_keep_their_spelling() {
        let text = "{ \"b\" : 1.50,\n \"a\":[ \"x y\", \"人\\\"\" ] }";
        assert_eq!(minified(text).unwrap(), "{\"b\":1.50,\"a\":[\"x y\",\"人\\\"\"]}");
        assert_eq!(
            spaced(text, Escapes::Ascii).unwrap(),
            "{\"b\": 1.50, \"a\": [\"x y\", \"\\u4eba\\\"\"]}"
        );
        assert_eq!(sorted("{\"b\":1,\"a\":2}").unwrap(), "{\"a\":2,\"b\":1}");
        assert_eq!(minified("12"), None);
        assert_eq!(
            indented(r#"{"a":[1,{}],"b":{"c":null}}"#, "  ").unwrap(),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": null\n  }\n}"
        );
    }

    #[test]
    fn escapes_in_lower_case() {
        assert_eq!(lower_escapes(b"A%2FB%zz%"), b"A%2fB%zz%");
        assert_eq!(swapped(b"a+b+", b"+", b"%20"), b"a%20b%20");
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_rewritten(text in "\\PC{0,40}") {
            let field = Field::plain(text.as_bytes());
            for rewriting in ALL {
                let _ = rewriting.of(&field);
            }
        }
    }
}
