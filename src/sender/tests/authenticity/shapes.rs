//! Shapes, read and drawn without the code that they are a test of.

use super::world::Dice;

/// A file's facts about one value.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    form: String,
    width: Option<usize>,
    pub(super) may_be_absent: bool,
    pub(super) confirmed: bool,
}

impl Shape {
    /// Reads what stands in `[shapes]`.
    pub(super) fn read(text: &str) -> Self {
        let (text, confirmed) = match text.strip_suffix(", unconfirmed") {
            Some(text) => (text, false),
            None => (text, true),
        };
        let (text, may_be_absent) = match text.strip_suffix('?') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (form, width) = match text.split_once(':') {
            Some((form, width)) if form != "is" => (form, width.parse().ok()),
            _ => (text, None),
        };
        Self { form: form.to_owned(), width, may_be_absent, confirmed }
    }

    pub(super) fn is_object(&self) -> bool {
        self.form == "object"
    }

    pub(super) fn is_free(&self) -> bool {
        self.form == "free"
    }

    /// Whether a provider can put `value` there; `separators` are those of the signed text.
    pub(super) fn fits(&self, value: Option<&[u8]>, separators: &[u8]) -> bool {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return self.may_be_absent || (self.is_free() && value.is_some());
        };
        let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let in_width = self.width.is_none_or(|width| value.len() == width);
        let all = |is_in: fn(&u8) -> bool| in_width && value.iter().all(is_in);
        match self.form.as_str() {
            "free" => true,
            "digits" => all(u8::is_ascii_digit),
            "hex" => all(u8::is_ascii_hexdigit),
            "word" => all(u8::is_ascii_alphanumeric),
            "letters" => all(u8::is_ascii_alphabetic),
            "base64" => all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte)),
            "token" => value.iter().all(|b| b.is_ascii_graphic() && !separators.contains(b)),
            "url" => all(|byte| {
                byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(byte)
            }),
            "object" => value.starts_with(b"{") && value.ends_with(b"}"),
            "uuid" => {
                let groups: Vec<&[u8]> = value.split(|byte| *byte == b'-').collect();
                groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
                    && groups.iter().all(|group| group.iter().all(u8::is_ascii_hexdigit))
            }
            "decimal" => {
                let value = value.strip_prefix(b"-").unwrap_or(value);
                match value.iter().position(|byte| *byte == b'.') {
                    Some(at) => digits(&value[..at]) && digits(&value[at + 1..]),
                    None => digits(value),
                }
            }
            other => {
                let words = other.strip_prefix("is:").unwrap_or_else(|| panic!("shape {other}"));
                words.split(',').any(|word| word.as_bytes() == value)
            }
        }
    }

    /// A value that fits.
    pub(super) fn draw(&self, dice: &mut Dice, separators: &[u8]) -> Vec<u8> {
        let len = self.width.unwrap_or_else(|| 1 + dice.below(5));
        let alphabet: &[u8] = match self.form.as_str() {
            "digits" => b"0123456789",
            "hex" => b"0123456789abcdef",
            "word" => b"ab01Zz",
            "letters" => b"abAB",
            "base64" => b"Ab1+/",
            "url" => b"a/?&=%",
            "object" => return [b"{\"a\":\"", dice.text(b"ab{}", len).as_slice(), b"\"}"].concat(),
            "token" => b"a1-_.~:&=,|!x2",
            "uuid" => {
                let of = |dice: &mut Dice, len| dice.text(b"0123456789abcdef", len);
                let parts = [8, 4, 4, 4, 12].map(|len| of(dice, len));
                return parts.join(&b'-');
            }
            "decimal" => {
                let whole = dice.text(b"0123456789", len);
                return match dice.below(3) {
                    0 => [b"-", whole.as_slice()].concat(),
                    1 => [whole.as_slice(), b".", &dice.text(b"0123456789", 2)].concat(),
                    _ => whole,
                };
            }
            other => {
                let words: Vec<&str> = other.trim_start_matches("is:").split(',').collect();
                return dice.pick(&words).as_bytes().to_vec();
            }
        };
        let alphabet: Vec<u8> =
            alphabet.iter().copied().filter(|byte| !separators.contains(byte)).collect();
        dice.text(&alphabet, len)
    }
}

/// A value with a digit in place of each digit.
pub(super) fn form_of(value: &[u8]) -> Vec<u8> {
    value.iter().map(|byte| if byte.is_ascii_digit() { b'0' } else { *byte }).collect()
}
