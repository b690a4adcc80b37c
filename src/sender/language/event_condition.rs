//! Conditions on an event, in the words of sender files: `{reverses}`, `[kind] is reversal`, `not {x}`.

use std::borrow::Cow;
use std::fmt;

use super::condition::{Condition, Subject};
use super::definition_error::DefinitionError;
use super::text::{Origin, Spot};

/// Facts of an event that are neither roles nor parameters.
const FACTS: [&str; 4] = ["kind", "effect", "test", "sender"];

/// A condition on an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCondition {
    text: String,
    condition: Condition,
}

/// The value that a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand<'c> {
    /// `{name}`: a role of the event, or else a parameter of the callback.
    Value(&'c str),
    /// `[kind]`, `[effect]`, `[sender]`, or `[test]`, which is there for a test event.
    Fact(&'c str),
}

impl EventCondition {
    /// Reads a condition.
    ///
    /// # Errors
    /// A [`DefinitionError`] without the key.
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        let condition = Condition::parse(text)?;
        let Some(spot) = condition.spot() else {
            let what = format!("`{text}` is about a callback, not about its event");
            let remedy = "write {x}, {x} is word, [kind] is word, or not in front of either";
            return Err(DefinitionError::new("", what, remedy));
        };
        if !spot.modifiers.is_empty() {
            let what = format!("`{text}` has a modifier");
            return Err(DefinitionError::new("", what, "compare the value as events show it"));
        }
        if spot.origin == Origin::Known && !FACTS.contains(&spot.key.as_str()) {
            let what = format!("[{}] is not a fact of an event", spot.key);
            let remedy = format!("write one of [{}]", FACTS.join("], ["));
            return Err(DefinitionError::new("", what, &remedy));
        }
        Ok(Self { text: text.to_owned(), condition })
    }

    /// The value that the condition is about.
    #[must_use]
    pub fn operand(&self) -> Option<Operand<'_>> {
        let spot = self.condition.spot()?;
        Some(match spot.origin {
            Origin::Callback => Operand::Value(&spot.key),
            Origin::Known => Operand::Fact(&spot.key),
        })
    }

    /// The word that the value is compared with, where it is.
    #[must_use]
    pub fn word(&self) -> Option<&str> {
        match &self.condition.subject {
            Subject::Is(_, word) => std::str::from_utf8(word).ok(),
            Subject::There(_) | Subject::Unreplaced | Subject::Recut | Subject::All(_) => None,
        }
    }

    /// Whether the condition holds for the event whose values `value` returns.
    pub fn holds<'v>(&self, value: &dyn Fn(Operand<'_>) -> Option<Cow<'v, str>>) -> bool {
        let of = |spot: &Spot| match spot.origin {
            Origin::Callback => value(Operand::Value(&spot.key)),
            Origin::Known => value(Operand::Fact(&spot.key)),
        };
        let holds = match &self.condition.subject {
            Subject::There(spot) => of(spot).is_some_and(|value| !value.is_empty()),
            Subject::Is(spot, word) => of(spot).is_some_and(|value| value.as_bytes() == &**word),
            // `parse` reads none of these.
            Subject::Unreplaced | Subject::Recut | Subject::All(_) => false,
        };
        holds != self.condition.negated
    }
}

impl fmt::Display for EventCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_parameters_and_facts_decide() {
        let value = |operand: Operand<'_>| match operand {
            Operand::Value("reverses") => Some(Cow::Borrowed("t1")),
            Operand::Value("empty") => Some(Cow::Borrowed("")),
            Operand::Value("currency") => Some(Cow::Borrowed("USD")),
            Operand::Fact("kind") => Some(Cow::Borrowed("reversal")),
            Operand::Value(_) | Operand::Fact(_) => None,
        };
        for (text, expected) in [
            ("{reverses}", true),
            ("not {reverses}", false),
            ("{empty}", false),
            ("{absent}", false),
            ("not {absent}", true),
            ("{currency} is USD", true),
            ("{currency} is EUR", false),
            ("[kind] is reversal", true),
            ("not [kind] is reversal", false),
            ("[test]", false),
        ] {
            assert_eq!(EventCondition::parse(text).unwrap().holds(&value), expected, "{text}");
        }
    }

    #[test]
    fn conditions_of_callbacks_are_refused() {
        for text in ["unreplaced", "recut", "[method] is GET", "{a|raw} is b", "{a} = b", ""] {
            assert!(EventCondition::parse(text).is_err(), "{text}");
        }
    }
}
