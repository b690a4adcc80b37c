//! Shapes of values: the values that a provider can put into a parameter.
//!
//! A shape is proof and not a filter. [`super::recut`] uses it to decide which other values make
//! the
//! same signed text. A callback with a value that does not fit its shape is not rejected for it.

use super::definition_error::DefinitionError;
use super::modifier::Modifier;
use super::time::Stamp;

/// A set of bytes, or of other small numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) struct ByteSet([u64; 4]);

impl ByteSet {
    /// Every byte.
    pub(in crate::sender) const ALL: Self = Self([u64::MAX; 4]);

    /// The decimal digits.
    const DIGITS: Self = Self([0x3ff << b'0', 0, 0, 0]);

    /// The bytes for which `is_in` holds.
    fn of(is_in: impl Fn(u8) -> bool) -> Self {
        let mut set = Self::default();
        (0..=u8::MAX).filter(|byte| is_in(*byte)).for_each(|byte| set.insert(byte));
        set
    }

    /// The first `len` members.
    pub(in crate::sender) fn first(len: usize) -> Self {
        Self(std::array::from_fn(|word| match len.saturating_sub(64 * word) {
            64.. => u64::MAX,
            bits => (1 << bits) - 1,
        }))
    }

    /// The bytes of `text`.
    pub(in crate::sender) fn of_text(text: &[u8]) -> Self {
        Self::default().with(text)
    }

    /// The same set, and the bytes of `text`.
    fn with(mut self, text: &[u8]) -> Self {
        text.iter().for_each(|byte| self.insert(*byte));
        self
    }

    pub(in crate::sender) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }

    pub(in crate::sender) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    /// The bytes that are not in `other`.
    pub(in crate::sender) fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    fn is_disjoint(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(one, other)| one & other == 0)
    }
}

/// The values that a provider can put into one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct ValueShape {
    form: Form,
    /// The bytes that a value can hold.
    bytes: ByteSet,
    /// The number of bytes, where it is always the same.
    width: Option<usize>,
    /// Whether the parameter may be absent.
    pub(in crate::sender) presence: Presence,
    /// Whether the shape is a fact.
    pub(in crate::sender) basis: ShapeBasis,
}

/// Whether a parameter may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Presence {
    /// The provider always sends it.
    Required,
    /// The provider leaves it out at times.
    Optional,
}

/// Whether a shape is a fact or an assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum ShapeBasis {
    /// The provider documents it, or a source has confirmed it.
    Confirmed,
    /// An assumption: it holds variants back and proves nothing.
    Unconfirmed,
}

/// How values are made of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// One or more of the bytes, or just `width` of them.
    Run,
    /// Like `Run`, of visible characters but for the separators of the signed text.
    Token,
    /// 8-4-4-4-12 hex digits.
    Uuid,
    /// `-?digits(.digits)?`.
    Decimal,
    /// `-?digits`: a decimal cut to its integer.
    Integer,
    /// One of these words.
    Words(Box<[Box<[u8]>]>),
    /// A JSON object: from `{` to `}`.
    Object,
    /// Nothing, or some of the bytes: all that is asked of it is where it ends.
    OrEmpty,
    /// Any bytes, none included.
    Free,
}

const SHAPES: &str = "use digits, hex, word or letters (each with :N for a fixed width), uuid, decimal, base64, is:a,b, token, url, object or free, \
     then `?` if it may be absent, then `, unconfirmed` if it is not confirmed";

/// Bytes of a UUID in text.
const UUID_BYTES: usize = 36;

impl ValueShape {
    /// Any value, perhaps absent: what a parameter without a shape has.
    pub(in crate::sender) fn free() -> Self {
        Self::new(Form::Free, ByteSet::ALL)
    }

    /// Any value, always there.
    pub(in crate::sender) fn required() -> Self {
        Self { presence: Presence::Required, ..Self::free() }
    }

    /// The path of a URL: no query follows in it.
    pub(in crate::sender) fn path() -> Self {
        let is_in = |byte: u8| is_of_url(&byte) && !b"?#".contains(&byte);
        Self::new(Form::Run, ByteSet::of(is_in))
    }

    /// Results of percent encoding.
    pub(in crate::sender) fn escaped() -> Self {
        let is_in = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
        Self::new(Form::Run, ByteSet::of(is_in))
    }

    fn new(form: Form, bytes: ByteSet) -> Self {
        let (presence, basis) = match form {
            Form::Free => (Presence::Optional, ShapeBasis::Confirmed),
            _ => (Presence::Required, ShapeBasis::Confirmed),
        };
        Self { form, bytes, width: None, presence, basis }
    }

    /// Reads a shape as a sender file writes it: `digits:10`, `token?, unconfirmed`.
    ///
    /// # Errors
    /// A fault without a key if it is not a shape.
    pub(in crate::sender) fn parse(text: &str) -> Result<Self, DefinitionError> {
        let unknown = || DefinitionError::new("", format!("`{text}` is not a shape"), SHAPES);
        let (shape, basis) = match text.strip_suffix(", unconfirmed") {
            Some(shape) => (shape, ShapeBasis::Unconfirmed),
            None => (text, ShapeBasis::Confirmed),
        };
        let (shape, presence) = match shape.strip_suffix('?') {
            Some(shape) => (shape, Presence::Optional),
            None => (shape, Presence::Required),
        };
        let own = Self::parse_form(shape).ok_or_else(unknown)?;
        Ok(Self { presence, basis, ..own })
    }

    fn parse_form(text: &str) -> Option<Self> {
        if let Some(words) = text.strip_prefix("is:") {
            return Self::words(words.split(',').map(str::as_bytes));
        }
        let (name, width) = match text.split_once(':') {
            Some((name, width)) => {
                (name, Some(width.parse::<usize>().ok().filter(|width| *width > 0)?))
            }
            None => (text, None),
        };
        let run = |is_in: fn(&u8) -> bool| {
            Some(Self { width, ..Self::new(Form::Run, ByteSet::of(|byte| is_in(&byte))) })
        };
        match (name, width) {
            ("digits", _) => run(u8::is_ascii_digit),
            ("hex", _) => run(u8::is_ascii_hexdigit),
            ("word", _) => run(u8::is_ascii_alphanumeric),
            ("letters", _) => run(u8::is_ascii_alphabetic),
            ("base64", None) => run(is_base64),
            ("url", None) => run(is_of_url),
            ("object", None) => Some(Self::new(Form::Object, ByteSet::ALL)),
            ("uuid", None) => Some(Self {
                width: Some(UUID_BYTES),
                ..Self::new(
                    Form::Uuid,
                    ByteSet::of(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
                )
            }),
            ("decimal", None) => Some(Self::new(Form::Decimal, ByteSet::of_text(b"-.0123456789"))),
            ("token", None) => {
                Some(Self::new(Form::Token, ByteSet::of(|byte| byte.is_ascii_graphic())))
            }
            ("free", None) => Some(Self::required()),
            _ => None,
        }
    }

    /// One of `words`; `None` if there is none, or an empty one.
    pub(in crate::sender) fn words<'w>(words: impl Iterator<Item = &'w [u8]>) -> Option<Self> {
        let words: Box<[Box<[u8]>]> = words.map(Box::from).collect();
        if words.is_empty() || words.iter().any(|word| word.is_empty()) {
            return None;
        }
        let bytes = ByteSet::of(|byte| words.iter().any(|word| word.contains(&byte)));
        let first = words.first().map(|word| word.len());
        let width = first.filter(|len| words.iter().all(|word| word.len() == *len));
        Some(Self { width, ..Self::new(Form::Words(words), bytes) })
    }

    /// The shape of a time in the format of `stamp`.
    pub(in crate::sender) fn of_time(stamp: &Stamp) -> Self {
        let digits = |width| Self { width: Some(width), ..Self::new(Form::Run, ByteSet::DIGITS) };
        match stamp {
            Stamp::Seconds => digits(SECONDS_DIGITS),
            Stamp::Millis => digits(MILLIS_DIGITS),
            Stamp::Iso => Self::new(Form::Run, ByteSet::DIGITS.with(b"-:.TZ+")),
            Stamp::Pattern(fields) => {
                let width = stamp.width();
                let others = fields.iter().filter_map(|field| field.other());
                let mut bytes = ByteSet::DIGITS;
                others.for_each(|byte| bytes.insert(byte));
                Self { width, ..Self::new(Form::Run, bytes) }
            }
        }
    }

    /// The shape of a value once `modifiers` were applied to it.
    pub(in crate::sender) fn modified(&self, modifiers: &[Modifier]) -> Self {
        let own = Self { presence: self.presence, basis: self.basis, ..Self::free() };
        match modifiers {
            [] | [Modifier::Raw] => self.clone(),
            [Modifier::Int] => {
                let bytes = ByteSet::of_text(b"-0123456789");
                Self { form: Form::Integer, bytes, width: None, ..own }
            }
            [Modifier::Lower] if self.form == Form::Run => {
                self.mapped(|byte| byte.to_ascii_lowercase())
            }
            [Modifier::Upper] if self.form == Form::Run => {
                self.mapped(|byte| byte.to_ascii_uppercase())
            }
            _ => own,
        }
    }

    /// The shape with each byte of a value replaced by another one.
    fn mapped(&self, to: impl Fn(u8) -> u8) -> Self {
        let mut bytes = ByteSet::default();
        (0..=u8::MAX).filter(|byte| self.bytes.contains(*byte)).for_each(|b| bytes.insert(to(b)));
        Self { bytes, ..self.clone() }
    }

    /// The shape within a signed text with these first and last bytes of separators.
    pub(in crate::sender) fn between(self, separators: ByteSet) -> Self {
        match self.form {
            Form::Token => Self { form: Form::Run, bytes: self.bytes.without(separators), ..self },
            _ => self,
        }
    }

    /// The shape of a value that may be absent, where an absent one is written as an empty one.
    pub(in crate::sender) fn or_empty(&self) -> Self {
        match self.presence {
            Presence::Optional if !self.is_free() => {
                Self { form: Form::OrEmpty, width: None, ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// Whether it is a shape that [`Self::or_empty`] made of one that has no empty value.
    pub(in crate::sender) fn may_be_empty(&self) -> bool {
        self.form == Form::OrEmpty
    }

    /// Whether its values are JSON objects.
    pub(in crate::sender) fn is_object(&self) -> bool {
        self.form == Form::Object
    }

    /// Whether no value holds a bracket of a JSON object, or a byte behind it in order: sorted as
    /// bytes, every value precedes every object, and no object begins in one.
    pub(in crate::sender) fn precedes_objects(&self) -> bool {
        self.basis == ShapeBasis::Confirmed && (b'{'..=u8::MAX).all(|b| !self.bytes.contains(b))
    }

    /// The bytes that a value can begin with.
    fn first_bytes(&self) -> ByteSet {
        if self.is_object() { ByteSet::of_text(b"{") } else { self.bytes }
    }

    /// Whether any value at all is one.
    pub(in crate::sender) fn is_free(&self) -> bool {
        self.form == Form::Free
    }

    /// Whether `value` is one.
    pub(in crate::sender) fn fits(&self, value: &[u8]) -> bool {
        // All of them: most values fit, and a loop without an exit is shorter.
        let in_bytes = || value.iter().fold(true, |fits, byte| fits & self.bytes.contains(*byte));
        match &self.form {
            Form::Free => true,
            Form::Run | Form::Token => {
                let right = self.width.map_or(!value.is_empty(), |width| value.len() == width);
                right && in_bytes()
            }
            Form::Uuid => is_uuid(value),
            Form::Decimal => is_decimal(value),
            Form::Integer => is_integer(value),
            Form::OrEmpty => in_bytes(),
            Form::Words(words) => words.iter().any(|word| **word == *value),
            Form::Object => value.starts_with(b"{") && value.ends_with(b"}"),
        }
    }

    /// Calls `end` with every place where a value that starts at `start` of `text` can end, until
    /// `end` answers that it has seen enough. The ends ascend.
    pub(in crate::sender) fn ends(
        &self,
        text: &[u8],
        start: usize,
        mut end: impl FnMut(usize) -> Seen,
    ) {
        if let (Some(width), false) = (self.width, matches!(self.form, Form::Words(_))) {
            let stop = start + width;
            if text.get(start..stop).is_some_and(|value| self.fits(value)) {
                end(stop);
            }
            return;
        }
        let least = if self.is_free() { start } else { start + 1 };
        for stop in least..=text.len() {
            if stop > start && !self.bytes.contains(text[stop - 1]) {
                return;
            }
            let fits = match &self.form {
                Form::Free | Form::Run | Form::Token | Form::OrEmpty => true,
                _ => self.fits(&text[start..stop]),
            };
            if fits && end(stop) == Seen::Enough {
                return;
            }
        }
    }

    /// The last place where a value that starts at `start` of `text` can end, if it can end at each
    /// place up to that; `None` if its length or its form decides too.
    pub(in crate::sender) fn run_end(&self, text: &[u8], start: usize) -> Option<usize> {
        let is_run = matches!(self.form, Form::Free | Form::Run | Form::Token | Form::OrEmpty);
        let rest = text.get(start..).filter(|_| is_run && self.width.is_none())?;
        let len = rest.iter().position(|byte| !self.bytes.contains(*byte));
        Some(start + len.unwrap_or(rest.len()))
    }

    /// Whether a value followed by `next` delimits its own end.
    pub(in crate::sender) fn ends_before(&self, next: &Neighbour<'_>) -> bool {
        let first = |other: &Self| self.bytes.is_disjoint(other.first_bytes());
        self.stops_at(next, <[u8]>::starts_with, first)
    }

    /// Whether a value after `previous` delimits its own start.
    pub(in crate::sender) fn starts_after(&self, previous: &Neighbour<'_>) -> bool {
        let last = |other: &Self| self.bytes.is_disjoint(other.bytes);
        self.stops_at(previous, <[u8]>::ends_with, last)
    }

    fn stops_at(
        &self,
        neighbour: &Neighbour<'_>,
        holds: fn(&[u8], &[u8]) -> bool,
        is_apart: impl Fn(&Self) -> bool,
    ) -> bool {
        let own_words = match &self.form {
            Form::Words(words) => !words
                .iter()
                .any(|one| words.iter().any(|other| one.len() > other.len() && holds(one, other))),
            _ => false,
        };
        self.width.is_some()
            || own_words
            || match neighbour {
                Neighbour::Edge => true,
                Neighbour::Byte(byte) => !self.bytes.contains(*byte),
                Neighbour::Value(other) => !other.is_free() && !self.is_free() && is_apart(other),
                Neighbour::Unknown => false,
            }
    }
}

/// Whether a caller of [`ValueShape::ends`] wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Seen {
    /// Another end may decide something.
    More,
    /// Nothing can change any more.
    Enough,
}

/// The neighbours of a value.
#[derive(Debug)]
pub(in crate::sender) enum Neighbour<'s> {
    /// Nothing: the segment begins or ends here.
    Edge,
    /// A literal whose nearest byte that is.
    Byte(u8),
    /// A value that is always there.
    Value(&'s ValueShape),
    /// Something that may be absent.
    Unknown,
}

/// Digits of a time in seconds from 2001 to 2286.
const SECONDS_DIGITS: usize = 10;

/// Digits of a time in milliseconds from 2001 to 2286.
const MILLIS_DIGITS: usize = 13;

fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte)
}

/// The characters of a URL, RFC 3986.
fn is_of_url(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(byte)
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == UUID_BYTES
        && value.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_decimal(value: &[u8]) -> bool {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let fraction = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    parts.next().is_some_and(is_integer) && parts.next().is_none_or(fraction)
}

fn is_integer(value: &[u8]) -> bool {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> ValueShape {
        ValueShape::parse(text).unwrap()
    }

    #[test]
    fn values_fit_or_not() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("digits", &["0", "123"], &["", "-1", "1a"]),
            ("digits:3", &["123"], &["12", "1234"]),
            ("hex", &["0aF"], &["g", ""]),
            ("word", &["aZ9"], &["a_b", ""]),
            ("letters", &["aZ"], &["a1"]),
            (
                "uuid",
                &["123e4567-e89b-12d3-a456-426614174000"],
                &["123e4567e89b12d3a456426614174000"],
            ),
            ("decimal", &["1", "-1.50"], &["1.", ".5", "1e1", "--1", ""]),
            ("base64", &["ab+/=-_"], &["a b", ""]),
            ("is:coin,gem", &["coin", "gem"], &["coins", ""]),
            ("token", &["a.b!"], &["a b", "é", ""]),
            ("url", &["https://h/p?a=%20"], &["https://h/{", "a b", ""]),
            ("object", &["{}", "{\"a\":1}"], &["[]", "{", "x{}", "{} ", ""]),
            ("free", &["", "anything at all"], &[]),
        ];
        for (text, fits, misfits) in table {
            let shape = shape(text);
            fits.iter().for_each(|value| assert!(shape.fits(value.as_bytes()), "{text} {value}"));
            misfits
                .iter()
                .for_each(|value| assert!(!shape.fits(value.as_bytes()), "{text} {value}"));
        }
    }

    #[test]
    fn a_suffix_says_what_is_known() {
        let both = shape("token?, unconfirmed");
        assert_eq!((both.presence, both.basis), (Presence::Optional, ShapeBasis::Unconfirmed));
        let none = shape("token");
        assert_eq!((none.presence, none.basis), (Presence::Required, ShapeBasis::Confirmed));
        for text in ["", "digit", "digits:0", "digits:x", "uuid:3", "is:", "is:a,,b", "token, x"] {
            assert!(ValueShape::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shape_in_one_case_has_no_letters_of_the_other() {
        let word = ValueShape::parse("word?").unwrap();
        let (lower, upper) = (word.modified(&[Modifier::Lower]), word.modified(&[Modifier::Upper]));
        assert!(lower.fits(b"ord1") && !lower.fits(b"ORD1") && !lower.fits(b"ord-1"));
        assert!(upper.fits(b"ORD1") && !upper.fits(b"ord1"));
        assert_eq!(lower.presence, Presence::Optional);
    }

    #[test]
    fn the_first_members_are_all_below_a_number() {
        for len in [0, 1, 63, 64, 65, 200, 255, 256] {
            let first = ByteSet::first(len);
            assert!((0..=u8::MAX).all(|byte| first.contains(byte) == (usize::from(byte) < len)));
        }
    }

    #[test]
    fn ends_are_those_of_fitting_values() {
        let ends = |text: &str, of: &str, start: usize| {
            let mut ends = Vec::new();
            shape(text).ends(of.as_bytes(), start, |end| {
                ends.push(end);
                Seen::More
            });
            ends
        };
        assert_eq!(ends("digits", "12x4", 0), [1, 2]);
        assert_eq!(ends("digits:2", "1234", 1), [3]);
        assert_eq!(ends("decimal", "1.5.2", 0), [1, 3]);
        assert_eq!(ends("is:a,ab", "abc", 0), [1, 2]);
        assert_eq!(ends("free", "ab", 1), [1, 2]);
        assert_eq!(ends("digits", "x", 1), Vec::<usize>::new());
    }
}
