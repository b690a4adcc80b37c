//! Conditions of a sender file: `{x}`, `{x} is word`, `not {x}`, `unreplaced`, `recut`.

use super::definition_error::DefinitionError;
use super::text::{Piece, Spot, Strictness, Text};

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Condition<K = Spot> {
    /// Whether it holds when its subject does not.
    pub(in crate::sender) negated: bool,
    /// The subject.
    pub(in crate::sender) subject: Subject<K>,
}

/// The subject of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Subject<K = Spot> {
    /// The placeholder is there and not empty.
    There(K),
    /// The placeholder's text is that word.
    Is(K, Box<[u8]>),
    /// A value is a macro that the sender left unreplaced.
    Unreplaced,
    /// A value could have been re-cut under the same signature.
    Recut,
}

impl Condition {
    /// Reads one.
    ///
    /// # Errors
    /// A [`DefinitionError`] without the key.
    pub(in crate::sender) fn parse(text: &str) -> Result<Self, DefinitionError> {
        let (negated, rest) = match text.strip_prefix("not ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let subject = match rest {
            "unreplaced" => Subject::Unreplaced,
            "recut" => Subject::Recut,
            _ => match rest.split_once(" is ") {
                Some((spot, word)) => Subject::Is(placeholder(spot)?, word.as_bytes().into()),
                None => Subject::There(placeholder(rest)?),
            },
        };
        Ok(Self { negated, subject })
    }
}

impl<K> Condition<K> {
    /// Its placeholder, if it has one.
    pub(in crate::sender) fn spot(&self) -> Option<&K> {
        match &self.subject {
            Subject::There(spot) | Subject::Is(spot, _) => Some(spot),
            Subject::Unreplaced | Subject::Recut => None,
        }
    }

    /// The same condition under other keys.
    ///
    /// # Errors
    /// The error of `bind` for its placeholder.
    pub(in crate::sender) fn bind<L, E>(
        &self,
        bind: &mut impl FnMut(&K) -> Result<L, E>,
    ) -> Result<Condition<L>, E> {
        let subject = match &self.subject {
            Subject::There(spot) => Subject::There(bind(spot)?),
            Subject::Is(spot, word) => Subject::Is(bind(spot)?, word.clone()),
            Subject::Unreplaced => Subject::Unreplaced,
            Subject::Recut => Subject::Recut,
        };
        Ok(Condition { negated: self.negated, subject })
    }
}

fn placeholder(text: &str) -> Result<Spot, DefinitionError> {
    let mut pieces = Text::parse(text, Strictness::Strict)?.pieces.into_iter();
    match (pieces.next(), pieces.next()) {
        (Some(Piece::Value(spot)), None) => Ok(spot),
        _ => Err(DefinitionError::new(
            "",
            format!("`{text}` is not a condition"),
            "write {x}, {x} is word, not in front of either, `unreplaced` or `recut`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_five_forms() {
        assert!(matches!(Condition::parse("{a}").unwrap().subject, Subject::There(_)));
        assert!(matches!(Condition::parse("[method] is GET").unwrap().subject, Subject::Is(_, _)));
        let negated = Condition::parse("not [aes_key]").unwrap();
        assert!(negated.negated && negated.spot().unwrap().key == "aes_key");
        assert_eq!(Condition::parse("unreplaced").unwrap().subject, Subject::Unreplaced);
        assert_eq!(Condition::parse("not recut").unwrap().subject, Subject::Recut);
    }

    #[test]
    fn anything_else_is_a_fault() {
        for text in ["", "a", "{a}{b}", "{a} = b", "{a", "never"] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }
}
