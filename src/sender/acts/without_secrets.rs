//! Shown texts without the secrets of sources, however they are escaped there.
//!
//! A sender may have the right secret and put it in the wrong place: a body of another form, behind
//! a wrong separator, in the path. There it is a part of a longer text, or of a name.

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::json_object::put_json_text;
use super::params_form::MASK;
use crate::sender::crypto::secret::Secret;
use crate::sender::language::recipe::Recipe;
use crate::sender::request::encoding;

/// Bytes of a secret from which on it is masked inside of a text: a shorter one may be a part of
/// any other value.
const SECRET_BYTES_MIN: usize = 6;

/// Layers of escapes that are looked through: JSON in a query in a query, and one of a proxy.
const LAYERS_MAX: usize = 4;

/// Escapes of JSON and XML, each with the character that it stands for.
const SPELLINGS: [(&[u8], u8); 13] = [
    (br"\\", b'\\'),
    (br"\/", b'/'),
    (br#"\""#, b'"'),
    (br"\b", 0x08),
    (br"\f", 0x0c),
    (br"\n", b'\n'),
    (br"\r", b'\r'),
    (br"\t", b'\t'),
    (b"&amp;", b'&'),
    (b"&lt;", b'<'),
    (b"&gt;", b'>'),
    (b"&quot;", b'"'),
    (b"&apos;", b'\''),
];

/// `text` with a mask in place of each secret of `recipes`, also where it is percent-encoded, or
/// escaped as in JSON or XML. Costs up to ten times the text's memory while it runs: it is for
/// texts that people see, not for the path of a callback.
#[must_use]
pub fn without_secrets<'t, 'r>(
    text: &'t str,
    recipes: impl IntoIterator<Item = &'r Recipe>,
) -> Cow<'t, str> {
    let secrets = recipes.into_iter().flat_map(|recipe| &recipe.secrets);
    masked(text, secrets.map(|secret| &secret.value))
}

impl Recipe {
    /// [`without_secrets`] of this source alone.
    #[must_use]
    pub fn without_secrets<'t>(&self, text: &'t str) -> Cow<'t, str> {
        without_secrets(text, [self])
    }

    /// The same in each name and value of `json`, a JSON text, which remains one.
    pub(in crate::sender) fn json_without_secrets(&self, json: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::with_capacity(json.len()), json);
        while !rest.is_empty() {
            let (token, behind) = rest.split_at(token_len(rest));
            let text = match encoding::json_text(token) {
                Ok(Some(text)) => text,
                Ok(None) | Err(_) => Cow::Borrowed(token),
            };
            match self.without_secrets(&String::from_utf8_lossy(&text)) {
                Cow::Borrowed(_) => out.extend_from_slice(token),
                Cow::Owned(masked) => put_json_text(&mut out, masked.as_bytes()),
            }
            rest = behind;
        }
        out
    }
}

/// Bytes of the token that a JSON text begins with: a string, a number or a word; at least one.
fn token_len(json: &[u8]) -> usize {
    let is_bare = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    if json.first() != Some(&b'"') {
        return json.iter().take_while(|byte| is_bare(byte)).count().max(1);
    }
    let mut at = 1;
    loop {
        match json.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return json.len(),
        }
    }
}

/// `text` with a mask in place of each of `secrets`, as [`without_secrets`] has it.
pub(in crate::sender) fn masked<'t, 's>(
    text: &'t str,
    secrets: impl Iterator<Item = &'s Secret>,
) -> Cow<'t, str> {
    // No layer is longer than the text.
    let lengths = SECRET_BYTES_MIN..=text.len();
    let wanted = secrets.filter(|secret| lengths.contains(&secret.expose().len()));
    let wanted: Vec<Wanted<'_>> = wanted.map(Wanted::of).collect();
    if wanted.is_empty() {
        return Cow::Borrowed(text);
    }
    // No request comes near 4 GiB.
    let Some(layer) = Layer::outer(text.as_bytes()) else { return Cow::Borrowed(MASK) };
    let places = found(layer, &wanted);
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    let text = text.as_bytes();
    let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
    for place in places {
        let (start, end) = (place.start as usize, place.end as usize);
        if start >= from {
            out.extend_from_slice(&text[from..start]);
            out.extend_from_slice(MASK.as_bytes());
        }
        from = from.max(end);
    }
    out.extend_from_slice(&text[from..]);
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Where the text of the layer `outer` has one of `wanted`, by their starts. One layer is searched
/// and dropped before the next one is.
fn found(outer: Layer, wanted: &[Wanted<'_>]) -> Vec<Range<u32>> {
    let (mut layer, mut depth, mut places) = (outer, 0, Vec::new());
    loop {
        wanted.iter().for_each(|one| layer.find(one.bytes(), &mut places));
        let inner = if depth < LAYERS_MAX { layer.unescaped() } else { None };
        let Some(inner) = inner else { break };
        (layer, depth) = (inner, depth + 1);
    }
    places.sort_unstable_by_key(|place| place.start);
    places
}

/// A secret as the layers have it.
enum Wanted<'s> {
    AsItIs(&'s Secret),
    Spaced(Secret),
}

impl<'s> Wanted<'s> {
    fn of(secret: &'s Secret) -> Self {
        let bytes = secret.expose();
        match memchr::memchr(b'+', bytes) {
            Some(_) => {
                Self::Spaced(Secret::new(bytes.iter().copied().map(spaced).collect::<Vec<u8>>()))
            }
            None => Self::AsItIs(secret),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::AsItIs(secret) => secret.expose(),
            Self::Spaced(secret) => secret.expose(),
        }
    }
}

/// A text behind some layers of escapes: five bytes for each of its own.
struct Layer {
    bytes: Vec<u8>,
    /// Where each of the bytes, or the escape that it is from, begins in the text itself. It ends
    /// where the next one begins: bytes of one escape have one beginning.
    starts: Vec<u32>,
    /// Where the text itself ends.
    end: u32,
}

impl Layer {
    /// The text itself; `None`: it has 4 GiB or more.
    fn outer(text: &[u8]) -> Option<Self> {
        let end = u32::try_from(text.len()).ok()?;
        let bytes = text.iter().copied().map(spaced).collect();
        Some(Self { bytes, starts: (0..end).collect(), end })
    }

    /// The text behind one more layer; `None`: nothing is escaped.
    fn unescaped(&self) -> Option<Self> {
        memchr::memchr3(b'%', b'\\', b'&', &self.bytes)?;
        let room = self.bytes.len();
        let (bytes, starts) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut inner = Self { bytes, starts, end: self.end };
        let mut at = 0;
        while let Some(&byte) = self.bytes.get(at) {
            let escape = match byte {
                b'%' | b'\\' | b'&' => escape_at(&self.bytes[at..]),
                _ => None,
            };
            let Escape { text, len } = escape.unwrap_or_else(|| Escape::of(&[byte], 1));
            let start = self.starts[at];
            for byte in text {
                inner.bytes.push(spaced(byte));
                inner.starts.push(start);
            }
            at += len;
        }
        // What an escape stands for is shorter.
        (inner.bytes.len() < self.bytes.len()).then_some(inner)
    }

    /// Adds where `secret`, which is not empty, is in the text itself.
    fn find(&self, secret: &[u8], places: &mut Vec<Range<u32>>) {
        for at in memchr::memmem::find_iter(&self.bytes, secret) {
            places.push(self.starts[at]..self.end_of(at + secret.len() - 1));
        }
    }

    /// Where the byte at `at` ends in the text itself.
    fn end_of(&self, at: usize) -> u32 {
        let start = self.starts[at];
        let next = self.starts[at..].iter().copied().find(|next| *next > start);
        next.unwrap_or(self.end)
    }
}

/// A space in place of a plus sign: a form may have either for the other.
fn spaced(byte: u8) -> u8 {
    if byte == b'+' { b' ' } else { byte }
}

/// An escape: what it stands for, and how many bytes it has.
struct Escape {
    text: SmallVec<[u8; 4]>,
    len: usize,
}

impl Escape {
    fn of(text: &[u8], len: usize) -> Self {
        Self { text: SmallVec::from_slice(text), len }
    }
}

/// The escape that `bytes` begin with.
fn escape_at(bytes: &[u8]) -> Option<Escape> {
    match bytes {
        [b'%', high, low, ..] => {
            let byte = u8::try_from(number(&[*high, *low])?).ok()?;
            Some(Escape::of(&[byte], 3))
        }
        [b'\\', b'u', a, b, c, d, ..] => {
            let character = char::from_u32(number(&[*a, *b, *c, *d])?)?;
            Some(Escape::of(character.encode_utf8(&mut [0; 4]).as_bytes(), 6))
        }
        _ => {
            let found = SPELLINGS.iter().find(|(escape, _)| bytes.starts_with(escape));
            found.map(|(escape, byte)| Escape::of(&[*byte], escape.len()))
        }
    }
}

/// The number that hex digits write.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, digit| Some(16 * number + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, secrets: &[&str]) -> String {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        masked(text, secrets.iter()).into_owned()
    }

    #[test]
    fn a_secret_is_masked_in_each_spelling_and_nothing_else_is() {
        for (text, expected) in [
            ("u;secret=s/e+c \"t", "u;secret=***"),
            ("u;secret=s/e+c \"t&a=1", "u;secret=***&a=1"),
            ("u;secret=s%2Fe%2bc+%22t;x", "u;secret=***;x"),
            ("%75%3B%73/%65+c%20%22%74", "%75%3B***"),
            ("a%253Ds%252Fe%252Bc%2520%2522t%2526b", "a%253D***%2526b"),
            (r#"{"k":"s\/e+c \"t"}"#, r#"{"k":"***"}"#),
            (r#"{"k":"s\u002fe\u002Bc \u0022t"}"#, r#"{"k":"***"}"#),
            ("<k>s/e+c &quot;t</k>", "<k>***</k>"),
            (r#"s/e+c "ts/e+c "t-s/e+c "t"#, "******-***"),
            ("人s/e+c \"t人", "人***人"),
            ("s/e+c \"", "s/e+c \""),
            ("100%&%zz\\u12", "100%&%zz\\u12"),
        ] {
            assert_eq!(shown(text, &["s/e+c \"t"]), expected, "{text}");
        }
        assert_eq!(shown("a=12345&b=123456", &["12345", "123456"]), "a=12345&b=***");
        assert_eq!(shown("abcdefghij", &["abcdefgh", "efghij"]), "***");
        assert_eq!(shown("", &["", "s"]), "");
    }

    #[test]
    fn a_mask_covers_an_escape_of_several_bytes_whole() {
        for (text, expected) in [
            (r#"{"k":"\u4eba\u4ebakey\u4eba","a":1}"#, r#"{"k":"***","a":1}"#),
            (r"\u4eba\u4ebakey\u4eba", "***"),
            (r"%5Cu4eba%5Cu4ebakey%5Cu4eba人", "***人"),
            (r"\u4eba\u4eba\u4ebakey\u4eba\u4eba", r"\u4eba***\u4eba"),
        ] {
            assert_eq!(shown(text, &["人人key人"]), expected, "{text}");
        }
    }

    #[test]
    fn a_layer_has_five_bytes_for_each_of_the_text() {
        let text = b"a%2541".repeat(100);
        let mut layer = Layer::outer(&text).unwrap();
        let size = |layer: &Layer| size_of_val(&*layer.bytes) + size_of_val(&*layer.starts);
        assert_eq!(size(&layer), 5 * text.len());
        for bytes in [400, 200] {
            layer = layer.unescaped().unwrap();
            assert_eq!(size(&layer), 5 * bytes);
        }
        assert!(layer.unescaped().is_none());
    }

    #[test]
    fn deeper_layers_than_there_are_reasons_for_are_not_looked_through() {
        let escaped = |layers: usize| format!("secre%{}74", "25".repeat(layers));
        assert_eq!(shown(&escaped(LAYERS_MAX - 1), &["secret"]), "***");
        assert_eq!(shown(&escaped(LAYERS_MAX), &["secret"]), escaped(LAYERS_MAX));
    }

    #[test]
    fn tokens_of_json_are_taken_whole() {
        for (json, len) in [
            (r#""a\"b":1"#, 6),
            (r#""a\\":1"#, 5),
            (r#""a"#, 2),
            (r#""a\"#, 3),
            ("-1.5e+7,2", 7),
            ("{}", 1),
            (":null", 1),
        ] {
            assert_eq!(token_len(json.as_bytes()), len, "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_secret_is_found_as_encoders_write_it(
            before in "[a-z人 =]{0,9}",
            secret in "[g-z+&/\\\\\"]{6,9}",
            after in "[a-z人 =]{0,9}",
        ) {
            let (mut percent, mut form) = (Vec::new(), Vec::new());
            encoding::percent(secret.as_bytes(), &mut percent);
            encoding::form(secret.as_bytes(), &mut form);
            let json = encoding::json_string(&secret);
            let json = json[1..json.len() - 1].to_owned();
            let percent = String::from_utf8(percent).unwrap();
            for spelled in [secret.clone(), percent, String::from_utf8(form).unwrap(), json] {
                let text = format!("{before}{spelled}{after}");
                proptest::prop_assert_eq!(shown(&text, &[&secret]), format!("{before}***{after}"));
            }
        }

        #[test]
        fn any_text_is_shown(text: String, secret in "[a-z+%&\\\\\"]{6,9}") {
            proptest::prop_assert!(!shown(&text, &[&secret]).contains(&secret));
        }
    }
}
