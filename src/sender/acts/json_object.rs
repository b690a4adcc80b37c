//! JSON texts on their way into the ledger, written in place.
//!
//! Nearly every value of a callback is plain ASCII and stands in JSON as it came. That is seen
//! eight bytes at a time; whatever is not plain goes through `serde_json`.

/// Writes one JSON object, member by member, behind what `out` holds.
#[derive(Debug)]
pub struct JsonObject<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> JsonObject<'o> {
    /// Opens an object.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// A member whose name is a plain word and whose value is a text; what is not UTF-8 in it is
    /// replaced.
    #[inline]
    pub fn text(&mut self, name: &'static str, value: impl AsRef<[u8]>) {
        put_json_text(self.word(name), value.as_ref());
    }

    /// The same with a value in which JSON escapes nothing.
    #[inline]
    pub fn plain(&mut self, name: &'static str, value: &[u8]) {
        put_quoted(self.word(name), value);
    }

    /// The same with a value that is JSON already.
    pub fn raw(&mut self, name: &'static str, json: &str) {
        self.word(name).extend_from_slice(json.as_bytes());
    }

    /// The same with a number.
    pub fn number(&mut self, name: &'static str, value: u64) {
        let mut digits = itoa::Buffer::new();
        self.word(name).extend_from_slice(digits.format(value).as_bytes());
    }

    /// A member of any name, of which what is returned takes the value; what is not UTF-8 in the
    /// name is replaced.
    pub fn name(&mut self, name: &[u8]) -> &mut Vec<u8> {
        let out = self.member(b"");
        put_json_text(out, name);
        out.push(b':');
        out
    }

    /// A member that begins with `name`, which is a JSON string and a colon; what is returned takes
    /// the value.
    #[inline]
    pub(in crate::sender) fn member(&mut self, name: &[u8]) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(name);
        self.out
    }

    fn word(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.out.reserve(name.len() + 4);
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Closes it.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// `text` as a JSON string, quotes included; what is not UTF-8 in it is replaced.
#[inline]
pub fn put_json_text(out: &mut Vec<u8>, text: &[u8]) {
    match is_plain(text) {
        true => put_quoted(out, text),
        false => put_escaped(out, text),
    }
}

#[inline]
fn put_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

#[inline(never)]
fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    // A vector takes whatever is written to it.
    let _ = serde_json::to_writer(out, &*String::from_utf8_lossy(text));
}

/// Whether `text` is ASCII without anything that JSON escapes.
#[inline]
pub(in crate::sender) fn is_plain(text: &[u8]) -> bool {
    let odd = match text.last_chunk::<WORD>() {
        Some(last) => {
            let (words, _) = text.as_chunks::<WORD>();
            words.iter().fold(odd_bytes(*last), |odd, word| odd | odd_bytes(*word))
        }
        None => odd_bytes(short_word(text)),
    };
    odd & HIGHS == 0
}

/// The bytes of a text that is shorter than a word, some of them twice.
#[inline]
fn short_word(text: &[u8]) -> [u8; WORD] {
    if let (Some([a, b, c, d]), Some([e, f, g, h])) = (text.first_chunk(), text.last_chunk()) {
        return [*a, *b, *c, *d, *e, *f, *g, *h];
    }
    match *text {
        [a, b, c] => [a, b, c, a, b, c, a, b],
        [a, b] => [a, b, a, b, a, b, a, b],
        [a] => [a; WORD],
        _ => [b' '; WORD],
    }
}

const WORD: usize = 8;

/// The highest bit of each byte.
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// A word of which [`HIGHS`] has a bit if one of eight bytes is a control character, a quote, a
/// backslash or no ASCII.
#[inline]
fn odd_bytes(word: [u8; WORD]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(word);
    // The first byte from below that is less than what is subtracted takes its highest bit from the
    // next one. No byte has that bit before, or the word is odd without this.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * 0x22)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
    control | quote | backslash | word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &[u8]) -> String {
        let mut out = Vec::new();
        put_json_text(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_at_every_place_is_as_a_library_writes_it() {
        for len in 0..20 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    let expected = serde_json::to_string(&String::from_utf8_lossy(&text)).unwrap();
                    assert_eq!(written(&text), expected);
                    let plain = (0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&text), plain, "{byte:#x} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn members_stand_in_the_order_they_came() {
        let mut out = b"behind ".to_vec();
        let mut object = JsonObject::begin(&mut out);
        put_json_text(object.name(b"a\""), b"\xff");
        object.member(b"\"b\":").extend_from_slice(b"[1, 2]");
        object.text("c", "\"");
        object.raw("d", "{}");
        object.number("n", u64::MAX);
        object.number("z", 0);
        object.end();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "behind {\"a\\\"\":\"\u{fffd}\",\"b\":[1, 2],\"c\":\"\\\"\",\"d\":{},\"n\":18446744073709551615,\"z\":0}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_as_a_library_writes_it(text in "\\PC{0,40}") {
            proptest::prop_assert_eq!(written(text.as_bytes()), serde_json::to_string(&text).unwrap());
        }
    }
}
