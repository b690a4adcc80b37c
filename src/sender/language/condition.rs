//! Conditions of a sender file: `{x}`, `{x} is word`, `not {x}`, `unreplaced`, `recut`, and several
//! that all have to hold.

use super::definition_error::DefinitionError;
use super::text::{Piece, Spot, Strictness, Text};

/// Conditions of one `all`: more are several kinds.
const ALL_MAX: usize = 8;

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
    /// Every one of these conditions holds; none of them is such a list.
    All(Box<[Condition<K>]>),
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

    /// Reads conditions that all have to hold.
    ///
    /// # Errors
    /// A [`DefinitionError`] without the key.
    pub(in crate::sender) fn parse_all(texts: &[String]) -> Result<Self, DefinitionError> {
        if !(2..=ALL_MAX).contains(&texts.len()) {
            let what = format!("has {} conditions in `all`", texts.len());
            return Err(DefinitionError::new("", what, "write from 2 to 8"));
        }
        let parts: Result<Vec<Self>, _> = texts.iter().map(|text| Self::parse(text)).collect();
        Ok(Self::all(parts?))
    }
}

impl<K> Condition<K> {
    /// The condition that all of `parts` hold.
    pub(in crate::sender) fn all(parts: Vec<Self>) -> Self {
        Self { negated: false, subject: Subject::All(parts.into()) }
    }

    /// The conditions that all have to hold: itself, if it is one.
    pub(in crate::sender) fn parts(&self) -> &[Self] {
        match &self.subject {
            Subject::All(parts) => parts,
            _ => std::slice::from_ref(self),
        }
    }

    /// Its placeholder, if it has one and is not a list.
    pub(in crate::sender) fn spot(&self) -> Option<&K> {
        match &self.subject {
            Subject::There(spot) | Subject::Is(spot, _) => Some(spot),
            Subject::Unreplaced | Subject::Recut | Subject::All(_) => None,
        }
    }

    /// The placeholders of its parts.
    pub(in crate::sender) fn spots(&self) -> impl Iterator<Item = &K> {
        self.parts().iter().filter_map(Self::spot)
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
            Subject::All(parts) => {
                let parts: Result<Vec<_>, E> = parts.iter().map(|one| one.bind(bind)).collect();
                Subject::All(parts?.into())
            }
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
    fn several_have_to_hold_together() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = Condition::parse_all(&texts(&["{a} is x", "not {b}"])).unwrap();
        assert_eq!(all.spots().map(|spot| spot.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(all.spot().is_none() && all.parts()[1].negated);
        let one = Condition::parse("{a}").unwrap();
        assert_eq!(one.parts(), std::slice::from_ref(&one));
        for wrong in [&[][..], &["{a}"], &["{a}", "b"], &["{a}"; 9]] {
            assert!(Condition::parse_all(&texts(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn anything_else_is_a_fault() {
        for text in ["", "a", "{a}{b}", "{a} = b", "{a", "never"] {
            assert!(Condition::parse(text).is_err(), "{text}");
        }
    }
}
