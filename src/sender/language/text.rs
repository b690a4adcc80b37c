//! Texts with placeholders: the one grammar of signature texts, templates, URLs and replies.
//!
//! `{key}` and `<key>` came with the callback, `[key]` is known here. Only a key in brackets is a
//! placeholder; any other bracket is an ordinary character, and a fault where a slip costs most.
//! A key in doubled brackets is the plain text. A step in quotes is one name, whatever is in it:
//! `{"data.id"}`, `{a."b.c"}`. `(…)?` with a placeholder in it is an optional
//! part.

use super::definition_error::DefinitionError;
use super::modifier::Modifier;

/// A text, read but not yet bound to a sender's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Text<K = Spot> {
    /// Its pieces, in order.
    pub(in crate::sender) pieces: Vec<Piece<K>>,
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Piece<K = Spot> {
    /// Literal bytes.
    Literal(Box<[u8]>),
    /// A placeholder.
    Value(K),
    /// A part that is left out when one of its placeholders is absent or empty.
    Optional(Vec<Piece<K>>),
}

/// A placeholder as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Spot {
    /// Where its value comes from.
    pub(in crate::sender) origin: Origin,
    /// The key between the brackets, without quotes.
    pub(in crate::sender) key: String,
    /// Its steps: the name, and the members below it. A quoted step may hold a dot.
    pub(in crate::sender) steps: Box<[Box<str>]>,
    /// The modifiers after the bars.
    pub(in crate::sender) modifiers: Vec<Modifier>,
    /// The column in the text, from 1.
    pub(in crate::sender) column: usize,
}

/// Where a placeholder's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Origin {
    /// With the callback: `{key}` or `<key>`.
    Callback,
    /// Known here: `[key]`.
    Known,
}

/// How strictly a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Strictness {
    /// Signature texts, keys, URLs and templates: an ordinary bracket is a fault.
    Strict,
    /// An ordinary bracket is an ordinary character.
    Lenient,
    /// As lenient, and `<key>` is markup, not a placeholder: replies.
    Markup,
}

impl<K> Default for Text<K> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<K> Text<K> {
    /// The placeholder of a text that is nothing else.
    #[inline]
    pub(in crate::sender) fn only_spot(&self) -> Option<&K> {
        match self.pieces.as_slice() {
            [Piece::Value(spot)] => Some(spot),
            _ => None,
        }
    }

    /// Every placeholder, those of optional parts included.
    pub(in crate::sender) fn spots(&self) -> impl Iterator<Item = &K> {
        self.pieces
            .iter()
            .flat_map(|piece| match piece {
                Piece::Literal(_) => [].iter(),
                Piece::Value(_) => std::slice::from_ref(piece).iter(),
                Piece::Optional(inner) => inner.iter(),
            })
            .filter_map(|piece| match piece {
                Piece::Value(spot) => Some(spot),
                _ => None,
            })
    }

    /// Whether a callback may come without any of it.
    pub(in crate::sender) fn is_optional(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Optional(_)))
    }

    /// Whether it is literal throughout.
    pub(in crate::sender) fn is_literal(&self) -> bool {
        self.spots().next().is_none()
    }

    /// The same text under other keys.
    ///
    /// # Errors
    /// The error of `bind` for one of its placeholders.
    pub(in crate::sender) fn bind<L, E>(
        &self,
        bind: &mut impl FnMut(&K) -> Result<L, E>,
    ) -> Result<Text<L>, E> {
        let pieces = self.pieces.iter().map(|piece| piece.bind(bind)).collect::<Result<_, _>>()?;
        Ok(Text { pieces })
    }
}

impl<K> Piece<K> {
    fn bind<L, E>(&self, bind: &mut impl FnMut(&K) -> Result<L, E>) -> Result<Piece<L>, E> {
        Ok(match self {
            Self::Literal(bytes) => Piece::Literal(bytes.clone()),
            Self::Value(spot) => Piece::Value(bind(spot)?),
            Self::Optional(inner) => Piece::Optional(
                inner.iter().map(|piece| piece.bind(bind)).collect::<Result<_, _>>()?,
            ),
        })
    }
}

impl Text {
    /// Reads a text.
    ///
    /// # Errors
    /// The first error, with its column; the caller fills in the key.
    pub(in crate::sender) fn parse(
        text: &str,
        strictness: Strictness,
    ) -> Result<Self, DefinitionError> {
        let mut reader =
            Reader { text, at: 0, strictness, literal: Vec::new(), pieces: Vec::new() };
        while reader.at < text.len() {
            reader.step()?;
        }
        reader.flush();
        Ok(Self { pieces: reader.pieces })
    }
}

/// Whether `key` is a placeholder's key: a letter or `_`, then letters, digits, `_`, `-`, `.`.
pub(in crate::sender) fn is_key(key: impl AsRef<[u8]>) -> bool {
    let mut bytes = key.as_ref().iter();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// Bytes of a quoted step: names on the wire are short.
const QUOTED_MAX: usize = 64;

/// The steps of a key: `a.b`, `"hub.mode"`, `a."b.c"`; `None` if it is not a key. A step in quotes is
/// one name, and may hold anything but quotes and brackets.
fn steps_of(key: &str) -> Option<Vec<Box<str>>> {
    if !key.contains('"') {
        return is_key(key).then(|| key.split('.').map(Box::from).collect());
    }
    let mut steps = Vec::new();
    let mut rest = key;
    loop {
        let step;
        (step, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (name, rest) = quoted.split_once('"')?;
                (Some(name).filter(|name| !name.is_empty() && name.len() <= QUOTED_MAX)?, rest)
            }
            None => {
                let (name, rest) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                (Some(name).filter(|name| !name.contains('"') && is_key(name))?, rest)
            }
        };
        steps.push(Box::from(step));
        match rest.strip_prefix('.') {
            Some(further) => rest = further,
            None => return rest.is_empty().then_some(steps),
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    strictness: Strictness,
    literal: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Reader<'_> {
    fn step(&mut self) -> Result<(), DefinitionError> {
        match self.text.as_bytes()[self.at] {
            open @ (b'{' | b'<' | b'[') => self.bracket(open),
            b'(' => self.parenthesis(),
            b'}' | b'>' | b']' if self.strictness == Strictness::Strict => Err(self.stray()),
            byte => {
                self.literal.push(byte);
                self.at += 1;
                Ok(())
            }
        }
    }

    fn bracket(&mut self, open: u8) -> Result<(), DefinitionError> {
        if open == b'<' && self.strictness == Strictness::Markup {
            self.literal.push(open);
            self.at += 1;
            return Ok(());
        }
        if let Some(end) = self.doubled(open) {
            self.literal.extend_from_slice(&self.text.as_bytes()[self.at + 1..end - 1]);
            self.at = end;
            return Ok(());
        }
        if let Some((spot, end)) = self.placeholder(open)? {
            self.flush();
            self.pieces.push(Piece::Value(spot));
            self.at = end;
            return Ok(());
        }
        if self.strictness == Strictness::Strict {
            return Err(self.stray());
        }
        self.literal.push(open);
        self.at += 1;
        Ok(())
    }

    /// The end of a key in doubled brackets that starts here.
    fn doubled(&self, open: u8) -> Option<usize> {
        let rest = &self.text[self.at..];
        if rest.as_bytes().get(1) != Some(&open) {
            return None;
        }
        let close = char::from(closing(open));
        let end = rest.find(close)?;
        let whole = rest.as_bytes().get(end + 1) == Some(&closing(open));
        (whole && is_key(&rest[2..end])).then_some(self.at + end + 2)
    }

    fn placeholder(&self, open: u8) -> Result<Option<(Spot, usize)>, DefinitionError> {
        let rest = &self.text[self.at + 1..];
        let Some(end) = rest.find(char::from(closing(open))) else { return Ok(None) };
        let mut parts = rest[..end].split('|');
        let key = parts.next().unwrap_or_default();
        let Some(steps) = steps_of(key) else { return Ok(None) };
        let mut modifiers = Vec::new();
        for part in parts {
            let modifier = Modifier::parse(part).map_err(|fault| fault.at(self.column()))?;
            if modifier == Modifier::Raw && !modifiers.is_empty() {
                return Err(DefinitionError::new(
                    "",
                    "`raw` follows another modifier",
                    "put it first",
                )
                .at(self.column()));
            }
            modifiers.push(modifier);
        }
        let origin = if open == b'[' { Origin::Known } else { Origin::Callback };
        let (key, steps) = (steps.join("."), steps.into_boxed_slice());
        let spot = Spot { origin, key, steps, modifiers, column: self.column() };
        Ok(Some((spot, self.at + 1 + end + 1)))
    }

    fn parenthesis(&mut self) -> Result<(), DefinitionError> {
        let rest = &self.text[self.at + 1..];
        let end = rest.find(')').filter(|&end| rest[end + 1..].starts_with('?'));
        if let Some(end) = end {
            let inner = &rest[..end];
            let part = Text::parse(inner, self.strictness)
                .map_err(|fault| self.shifted(fault, self.at + 1))?;
            let nested = inner.contains('(') && !part.is_literal();
            if nested {
                return Err(DefinitionError::new(
                    "",
                    "an optional part stands in another",
                    "take it apart",
                )
                .at(self.column()));
            }
            if !part.is_literal() {
                self.flush();
                self.pieces.push(Piece::Optional(self.shift(part.pieces, self.at + 1)));
                self.at += 1 + end + 2;
                return Ok(());
            }
        }
        self.literal.push(b'(');
        self.at += 1;
        Ok(())
    }

    fn shift(&self, mut pieces: Vec<Piece>, by: usize) -> Vec<Piece> {
        let by = self.text[..by].chars().count();
        for piece in &mut pieces {
            if let Piece::Value(spot) = piece {
                spot.column += by;
            }
        }
        pieces
    }

    fn shifted(&self, fault: DefinitionError, by: usize) -> DefinitionError {
        let column = fault.column.unwrap_or(1) + self.text[..by].chars().count();
        fault.at(column)
    }

    fn flush(&mut self) {
        if !self.literal.is_empty() {
            let literal = std::mem::take(&mut self.literal);
            self.pieces.push(Piece::Literal(literal.into_boxed_slice()));
        }
    }

    fn column(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn stray(&self) -> DefinitionError {
        let bracket = char::from(self.text.as_bytes()[self.at]);
        DefinitionError::new(
            "",
            format!("`{bracket}` is not a placeholder here"),
            "write a key in brackets ({key}, [key]), or take the bracket out",
        )
        .at(self.column())
    }
}

fn closing(open: u8) -> u8 {
    match open {
        b'{' => b'}',
        b'<' => b'>',
        _ => b']',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with its placeholders written `‹origin key›`, to compare variants at a glance.
    fn shown(text: &str, strictness: Strictness) -> String {
        fn piece(out: &mut String, piece: &Piece) {
            match piece {
                Piece::Literal(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
                Piece::Value(spot) if spot.origin == Origin::Known => {
                    out.push_str(&format!("‹known {}›", spot.key));
                }
                Piece::Value(spot) => out.push_str(&format!("‹{}›", spot.key)),
                Piece::Optional(inner) => {
                    out.push('«');
                    inner.iter().for_each(|inner| self::tests::piece_into(out, inner));
                    out.push('»');
                }
            }
        }
        let mut out = String::new();
        for part in &Text::parse(text, strictness).unwrap().pieces {
            piece(&mut out, part);
        }
        out
    }

    fn piece_into(out: &mut String, piece: &Piece) {
        match piece {
            Piece::Literal(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
            Piece::Value(spot) => out.push_str(&format!("‹{}›", spot.key)),
            Piece::Optional(_) => out.push('?'),
        }
    }

    #[test]
    fn ordinary_brackets_stand_as_they_are() {
        for plain in [
            r#"{"isValid":true}"#,
            r#"[{"x":[]}]"#,
            "http://[::1]:80/",
            "http://[fd00::1]/",
            "a[0]=1",
            "/Foo_(bar)?x=1",
            "{user id}",
            "{x",
        ] {
            assert_eq!(shown(plain, Strictness::Lenient), plain);
        }
        assert_eq!(shown(r#"{"a":{"b":{txn}}}"#, Strictness::Lenient), r#"{"a":{"b":‹txn›}}"#);
    }

    #[test]
    fn doubled_brackets_are_the_plain_text() {
        assert_eq!(shown("{{txn}} [[sid]] <<k>>", Strictness::Strict), "{txn} [sid] <k>");
    }

    #[test]
    fn both_spellings_of_what_came_are_the_same() {
        assert_eq!(shown("{a}<b>[c]", Strictness::Strict), "‹a›‹b›‹known c›");
        assert_eq!(shown("{a}<b>[c]", Strictness::Markup), "‹a›<b>‹known c›");
    }

    #[test]
    fn a_step_in_quotes_is_one_name() {
        let steps = |text: &str| {
            let text = Text::parse(text, Strictness::Strict).ok()?;
            let spot = text.spots().next()?.clone();
            Some(spot.steps.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let words = |list: &[&str]| Some(list.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(steps(r#"{"data.id"}"#), words(&["data.id"]));
        assert_eq!(steps(r#"{a."b.c".d|lower}"#), words(&["a", "b.c", "d"]));
        assert_eq!(steps("{a.b}"), words(&["a", "b"]));
        for text in [r#"{""}"#, r#"{"a}"#, r#"{"a"b}"#, r#"{a."b".}"#, r#"{a"b"}"#] {
            assert_eq!(steps(text), None, "{text}");
        }
    }

    #[test]
    fn optional_parts_hold_placeholders() {
        assert_eq!(shown("a(&ilrd={ilrd})?b", Strictness::Strict), "a«&ilrd=‹ilrd›»b");
        assert_eq!(shown("(plain)?", Strictness::Strict), "(plain)?");
    }

    #[test]
    fn faults_name_the_column() {
        for (text, column) in
            [("ab{user id}", 3), ("人{x", 2), ("a]", 2), ("{a|nonsense}", 1), ("x({a}b[)?", 7)]
        {
            let fault = Text::parse(text, Strictness::Strict).unwrap_err();
            assert_eq!(fault.column, Some(column), "{text}: {fault}");
        }
    }

    #[test]
    fn columns_count_characters_also_inside_optional_parts() {
        let text = Text::parse("人({a})?", Strictness::Strict).unwrap();
        assert_eq!(text.spots().next().unwrap().column, 3);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            for strictness in [Strictness::Strict, Strictness::Lenient, Strictness::Markup] {
                let _ = Text::parse(&text, strictness);
            }
        }

        #[test]
        fn lenient_reading_never_refuses_text_without_bars(text in "[^|]{0,60}") {
            let nested = text.contains('(');
            proptest::prop_assert!(nested || Text::parse(&text, Strictness::Lenient).is_ok());
        }
    }
}
