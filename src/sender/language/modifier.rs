//! Modifiers of a placeholder: `{reward_name|raw}`, `[secret|after:whsec_|unbase64]`.

use std::borrow::Cow;

use super::definition_error::DefinitionError;
use super::time::Stamp;
use super::value_shape::ByteSet;
use crate::sender::crypto::digest::Algorithm;
use crate::sender::crypto::jws::TokenPart;
use crate::sender::request::encoding::{self, EncodingError, Plus};

/// One modifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Modifier {
    /// The value as on the wire.
    Raw,
    /// Percent escapes decoded; `+` stays.
    Unpercent,
    /// Hex decoded.
    Unhex,
    /// Base64 decoded, either alphabet.
    Unbase64,
    /// Percent-encoded.
    Percent,
    /// Percent-encoded, but for letters, digits and these bytes.
    PercentBut(ByteSet),
    /// Encoded as PHP does.
    Form,
    /// In lower-case hex.
    Hex,
    /// In base64.
    Base64,
    /// In lower case.
    Lower,
    /// In upper case.
    Upper,
    /// A decimal text cut to its integer.
    Int,
    /// The part of a query or URL that precedes the parameter of that name.
    Before(String),
    /// Of a query or URL: all but the parameter of that name.
    Without(String),
    /// The text that follows the prefix; the prefix is required.
    After(String),
    /// Its CRC-32, as a decimal number. It protects nothing against intent.
    Crc32,
    /// Its first bytes; it must not have fewer.
    First(usize),
    /// One word for another; other words are unchanged.
    Map(Vec<(String, String)>),
    /// Its digest, as bytes.
    Digest(Algorithm),
    /// A part of a token. Only `[jws]` makes one.
    Token(TokenPart),
    /// Of `[now]`: how it is written.
    Time(Stamp),
}

impl Modifier {
    /// Whether nothing leads from its result back to the value.
    pub(in crate::sender) fn is_one_way(&self) -> bool {
        matches!(self, Self::Digest(_) | Self::Crc32)
    }

    /// Reads one.
    ///
    /// # Errors
    /// A fault without a key when there is no such modifier.
    pub(in crate::sender) fn parse(text: &str) -> Result<Self, DefinitionError> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        match (name, argument) {
            ("raw", None) => Ok(Self::Raw),
            ("unpercent", None) => Ok(Self::Unpercent),
            ("unhex", None) => Ok(Self::Unhex),
            ("unbase64", None) => Ok(Self::Unbase64),
            ("percent", None) => Ok(Self::Percent),
            ("form", None) => Ok(Self::Form),
            ("hex", None) => Ok(Self::Hex),
            ("base64", None) => Ok(Self::Base64),
            ("lower", None) => Ok(Self::Lower),
            ("upper", None) => Ok(Self::Upper),
            ("int", None) => Ok(Self::Int),
            ("crc32", None) => Ok(Self::Crc32),
            ("before", Some(name)) if !name.is_empty() => Ok(Self::Before(name.to_owned())),
            ("without", Some(name)) if !name.is_empty() => Ok(Self::Without(name.to_owned())),
            ("after", Some(prefix)) if !prefix.is_empty() => Ok(Self::After(prefix.to_owned())),
            ("map", Some(pairs)) => words(pairs),
            ("first", Some(count)) => first(count),
            ("percent", Some(kept)) => Ok(Self::PercentBut(unescaped(kept)?)),
            (name, None) => {
                let digest = Algorithm::from_name(name).map(Self::Digest);
                let time = || Stamp::parse(name).map(Self::Time);
                digest.or_else(time).ok_or_else(|| unknown(text))
            }
            _ => Err(unknown(text)),
        }
    }

    /// Whether two values can come out as one.
    pub(in crate::sender) fn is_lossy(&self) -> bool {
        self.is_decoder()
            || matches!(
                self,
                Self::Lower | Self::Upper | Self::Int | Self::Map(_) | Self::First(_) | Self::Crc32
            )
    }

    /// Whether it decodes: what it makes can be spelled in several ways, as `a` is `YQ==` and `YQ`
    /// in base64.
    pub(in crate::sender) fn is_decoder(&self) -> bool {
        matches!(self, Self::Unpercent | Self::Unhex | Self::Unbase64)
    }

    /// Whether another value can come out as `written` too.
    pub(in crate::sender) fn merges(&self, written: &[u8]) -> bool {
        let lower = || written.iter().any(u8::is_ascii_lowercase);
        let upper = || written.iter().any(u8::is_ascii_uppercase);
        match self {
            Self::Lower => lower() && !upper(),
            Self::Upper => upper() && !lower(),
            _ => self.is_lossy(),
        }
    }

    /// Whether the value can be read back, whatever it is.
    pub(in crate::sender) fn is_reversible(&self) -> bool {
        matches!(self, Self::Percent | Self::PercentBut(_) | Self::Form | Self::Hex | Self::Base64)
    }

    /// `value`, modified.
    ///
    /// # Errors
    /// [`EncodingError`] if it cannot be decoded, or the prefix of `after` is missing.
    pub(in crate::sender) fn apply<'v>(
        &self,
        value: Cow<'v, [u8]>,
    ) -> Result<Cow<'v, [u8]>, EncodingError> {
        Ok(match self {
            Self::Raw | Self::Time(_) => value,
            Self::Unpercent => Cow::Owned(encoding::unpercented(&value, Plus::Kept).into_owned()),
            Self::Unhex => Cow::Owned(encoding::unhex(&value)?),
            Self::Unbase64 => Cow::Owned(encoding::unbase64(&value)?),
            Self::Percent => encoded(&value, encoding::percent),
            Self::PercentBut(kept) => encoded(&value, |value, out| {
                encoding::percent_where(value, |byte| kept.contains(byte), out);
            }),
            Self::First(count) => {
                if value.len() < *count {
                    return Err(EncodingError);
                }
                cut(value, 0, *count)
            }
            Self::Form => encoded(&value, encoding::form),
            Self::Hex => Cow::Owned(const_hex::encode(&value).into_bytes()),
            Self::Base64 => Cow::Owned(encoding::base64(&value).into_bytes()),
            Self::Lower => Cow::Owned(value.to_ascii_lowercase()),
            Self::Upper => Cow::Owned(value.to_ascii_uppercase()),
            Self::Int => integer(value)?,
            Self::Crc32 => Cow::Owned(crc32fast::hash(&value).to_string().into_bytes()),
            Self::Before(_) | Self::Without(_) => {
                let whole = CutText { start: query_start(&value), text: &value };
                match self.cut(whole) {
                    Some((head, [])) => {
                        let end = head.len();
                        cut(value, 0, end)
                    }
                    Some((head, tail)) => Cow::Owned([head, tail].concat()),
                    None => value,
                }
            }
            Self::After(prefix) => after(value, prefix)?,
            Self::Map(words) => mapped(value, words),
            Self::Token(part) => Cow::Owned(part.of(&value)?),
            Self::Digest(algorithm) => Cow::Owned(algorithm.of(&value).bytes().to_vec()),
        })
    }
}

fn unknown(text: &str) -> DefinitionError {
    DefinitionError::new(
        "",
        format!("`{text}` is not a modifier"),
        "use raw, unpercent, unhex, unbase64, percent, form, hex, base64, lower, upper, int, \
         before:NAME, without:NAME, after:PREFIX, first:N, percent:SIGNS, crc32, map:a=b,c=d, md5, sha1, sha256, sha512, or for \
         [now] s, ms or a pattern",
    )
}

fn words(pairs: &str) -> Result<Modifier, DefinitionError> {
    pairs
        .split(',')
        .map(|pair| pair.split_once('=').map(|(from, to)| (from.to_owned(), to.to_owned())))
        .collect::<Option<Vec<_>>>()
        .map(Modifier::Map)
        .ok_or_else(|| {
            DefinitionError::new("", "`map` has a part without `=`", "write map:a=b,c=d")
        })
}

/// Bytes that `first` can keep: a digest of SHA-512 in hex has 128.
const FIRST_MAX: usize = 128;

fn first(count: &str) -> Result<Modifier, DefinitionError> {
    let count = count.parse().ok().filter(|count| (1..=FIRST_MAX).contains(count));
    count.map(Modifier::First).ok_or_else(|| {
        DefinitionError::new("", "`first` is not a number from 1 to 128", "write first:16")
    })
}

/// Letters, digits and the bytes of `kept`: those that an escape of the sender's own leaves alone.
///
/// # Errors
/// A [`DefinitionError`] if `kept` holds a `%`, a letter, a digit, or no visible ASCII.
pub(in crate::sender) fn unescaped(kept: &str) -> Result<ByteSet, DefinitionError> {
    let is_sign = |byte: u8| byte.is_ascii_punctuation() && byte != b'%';
    if kept.is_empty() || !kept.bytes().all(is_sign) {
        let remedy = "name the signs that stay as they are: percent:!*()";
        return Err(DefinitionError::new("", "`percent:` keeps something else than signs", remedy));
    }
    let mut set = ByteSet::of_text(kept.as_bytes());
    (0..=u8::MAX).filter(u8::is_ascii_alphanumeric).for_each(|byte| set.insert(byte));
    Ok(set)
}

fn encoded<'v>(value: &[u8], encode: impl Fn(&[u8], &mut Vec<u8>)) -> Cow<'v, [u8]> {
    let mut out = Vec::with_capacity(value.len() + 16);
    encode(value, &mut out);
    Cow::Owned(out)
}

fn integer(value: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, EncodingError> {
    let end = memchr::memchr(b'.', &value).unwrap_or(value.len());
    let digits = value[..end].strip_prefix(b"-").unwrap_or(&value[..end]);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(EncodingError);
    }
    Ok(cut(value, 0, end))
}

fn cut(value: Cow<'_, [u8]>, from: usize, to: usize) -> Cow<'_, [u8]> {
    match value {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[from..to]),
        Cow::Owned(mut bytes) => {
            bytes.truncate(to);
            bytes.drain(..from);
            Cow::Owned(bytes)
        }
    }
}

/// Where the query starts in a URL or query: behind the first `?`, or at once.
fn query_start(value: &[u8]) -> usize {
    memchr::memchr(b'?', value).map_or(0, |at| at + 1)
}

/// A query, or a URL, that is cut at a parameter.
#[derive(Clone, Copy)]
pub(in crate::sender) struct CutText<'t> {
    pub(in crate::sender) text: &'t [u8],
    /// Where the query starts in it. Any later `?` is data.
    pub(in crate::sender) start: usize,
}

impl<'t> CutText<'t> {
    /// A query.
    pub(in crate::sender) fn query(text: &'t [u8]) -> Self {
        Self { text, start: 0 }
    }

    /// A URL, or the target of a request.
    pub(in crate::sender) fn url(text: &'t [u8]) -> Self {
        Self { text, start: query_start(text) }
    }

    /// The parameter called `name`: where it starts and ends, without its `&`. Its name is spelled
    /// without escapes, or it is not found.
    fn parameter(self, name: &str) -> Option<(usize, usize)> {
        let mut at = self.start;
        while at <= self.text.len() {
            let end =
                memchr::memchr(b'&', &self.text[at..]).map_or(self.text.len(), |len| at + len);
            let pair = &self.text[at..end];
            let key = &pair[..memchr::memchr(b'=', pair).unwrap_or(pair.len())];
            if key == name.as_bytes() {
                return Some((at, end));
            }
            at = end + 1;
        }
        None
    }

    /// The text before the parameter called `name`.
    fn before(self, name: &str) -> &'t [u8] {
        match self.parameter(name) {
            Some((start, _)) => &self.text[..start.saturating_sub(1)],
            None => self.text,
        }
    }

    /// The text before and after the parameter called `name`.
    fn without(self, name: &str) -> (&'t [u8], &'t [u8]) {
        let Some((start, end)) = self.parameter(name) else { return (self.text, &[]) };
        let (head, tail) = (&self.text[..start], &self.text[end..]);
        let tail = tail.strip_prefix(b"&").unwrap_or(tail);
        let head = if tail.is_empty() { head.strip_suffix(b"&").unwrap_or(head) } else { head };
        // The mark in front of the query goes with its only parameter. Any later one is data.
        let is_alone = tail.is_empty() && start == self.start;
        let head = if is_alone { head.strip_suffix(b"?").unwrap_or(head) } else { head };
        (head, tail)
    }
}

impl Modifier {
    /// The parts of `whole` that are left, where this cuts a query or URL.
    pub(in crate::sender) fn cut<'t>(&self, whole: CutText<'t>) -> Option<(&'t [u8], &'t [u8])> {
        match self {
            Self::Before(name) => Some((whole.before(name), &[])),
            Self::Without(name) => Some(whole.without(name)),
            _ => None,
        }
    }
}

fn after<'v>(value: Cow<'v, [u8]>, prefix: &str) -> Result<Cow<'v, [u8]>, EncodingError> {
    if !value.starts_with(prefix.as_bytes()) {
        return Err(EncodingError);
    }
    let end = value.len();
    Ok(cut(value, prefix.len(), end))
}

fn mapped<'v>(value: Cow<'v, [u8]>, words: &[(String, String)]) -> Cow<'v, [u8]> {
    match words.iter().find(|(from, _)| from.as_bytes() == value.as_ref()) {
        Some((_, to)) => Cow::Owned(to.clone().into_bytes()),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(modifier: &str, value: &str) -> Result<String, EncodingError> {
        Modifier::parse(modifier)
            .unwrap()
            .apply(Cow::Borrowed(value.as_bytes()))
            .map(|bytes| String::from_utf8(bytes.into_owned()).unwrap())
    }

    #[test]
    fn letters_in_the_case_of_the_rule_can_have_come_in_the_other() {
        for (modifier, written, merges) in [
            ("lower", "ord1", true),
            ("lower", "123", false),
            ("lower", "ORD1", false),
            ("lower", "Ord1", false),
            ("upper", "ORD1", true),
            ("upper", "ord1", false),
            ("int", "12", true),
            ("hex", "ab", false),
            ("unhex", "a", true),
            ("unbase64", "a", true),
            ("unpercent", "a", true),
        ] {
            let modifier = Modifier::parse(modifier).unwrap();
            assert_eq!(modifier.merges(written.as_bytes()), merges, "{modifier:?} {written}");
        }
    }

    #[test]
    fn what_is_decoded_can_be_spelled_in_several_ways() {
        for (modifier, spellings) in [
            ("unbase64", &["YQ==", "YQ", "YR=="][..]),
            ("unhex", &["6a", "6A"][..]),
            ("unpercent", &["a", "%61"][..]),
        ] {
            assert!(Modifier::parse(modifier).unwrap().is_lossy(), "{modifier}");
            let results = spellings.iter().map(|text| applied(modifier, text).unwrap());
            let results: Vec<String> = results.collect();
            assert!(results.iter().all(|one| *one == results[0]), "{modifier}: {results:?}");
        }
        for modifier in ["percent", "form", "hex", "base64", "raw", "sha256"] {
            assert!(!Modifier::parse(modifier).unwrap().is_lossy(), "{modifier}");
        }
    }

    #[test]
    fn a_query_is_cut_at_a_whole_name() {
        assert_eq!(
            applied("before:signature", "a=1&xsignature=2&signature=3&k=4").unwrap(),
            "a=1&xsignature=2"
        );
        assert_eq!(applied("before:signature", "signature=3").unwrap(), "");
        assert_eq!(applied("without:v", "https://h/p?a=1&v=2&b=3").unwrap(), "https://h/p?a=1&b=3");
        assert_eq!(applied("without:v", "https://h/p?a=1&v=2").unwrap(), "https://h/p?a=1");
        assert_eq!(applied("without:v", "https://h/p?v=2").unwrap(), "https://h/p");
        assert_eq!(applied("without:v", "https://h/p?a=1?&v=2").unwrap(), "https://h/p?a=1?");
    }

    #[test]
    fn a_question_mark_in_a_query_is_data() {
        let cut = |text| Modifier::Before("sig".into()).cut(text).unwrap().0;
        assert_eq!(cut(CutText::query(b"a=1?sig=x&sig=y")), b"a=1?sig=x");
        assert_eq!(cut(CutText::query(b"?sig=x&b=2&sig=y")), b"?sig=x&b=2");
        assert_eq!(cut(CutText::url(b"/p?a=?sig=x&sig=y")), b"/p?a=?sig=x");
    }

    #[test]
    fn words_are_mapped_and_others_stand() {
        assert_eq!(applied("map:true=0,false=1", "true").unwrap(), "0");
        assert_eq!(applied("map:true=0,false=1", "2").unwrap(), "2");
    }

    #[test]
    fn decimals_are_cut_and_a_prefix_must_be_there() {
        assert_eq!(applied("int", "100.1234").unwrap(), "100");
        assert!(applied("int", "ten").is_err());
        assert_eq!(applied("after:whsec_", "whsec_x").unwrap(), "x");
        assert!(applied("after:whsec_", "x").is_err());
    }

    #[test]
    fn a_senders_own_escapes_spare_only_its_signs() {
        assert_eq!(applied("percent:!*()", "a-b_c.*!~ (1)").unwrap(), "a%2Db%5Fc%2E*!%7E%20(1)");
        for text in ["percent:", "percent:%", "percent:a!", "percent:é", "percent:! "] {
            assert!(Modifier::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_is_cut_to_its_first_bytes() {
        assert_eq!(applied("first:3", "abcd").unwrap(), "abc");
        assert_eq!(applied("first:3", "abc").unwrap(), "abc");
        assert!(applied("first:3", "ab").is_err());
        for text in ["first", "first:", "first:0", "first:129", "first:x"] {
            assert!(Modifier::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_bytes() {
        let digest = Modifier::parse("sha256").unwrap().apply(Cow::Borrowed(b"")).unwrap();
        assert_eq!(digest.len(), 32);
        assert_eq!(digest[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }

    #[test]
    fn what_is_no_modifier_is_refused() {
        for text in ["", "upperr", "map:x", "before:", "before", "yyyyQQ"] {
            assert!(Modifier::parse(text).is_err(), "{text}");
        }
    }
}
