//! Conditions of a sender file, evaluated on one callback.

use super::{Context, PlainValue};
use crate::sender::language::bound::{Bound, Gate};
use crate::sender::language::condition::{Condition, Subject};
use crate::sender::request::callback::Callback;

impl Callback<'_> {
    /// Whether the conditions of `gate` hold.
    pub(in crate::sender) fn holds(&self, gate: &Gate) -> bool {
        match gate {
            Gate::Always => true,
            Gate::Never => false,
            Gate::Any(conditions) => conditions.iter().any(|one| self.holds_one(one)),
        }
    }

    /// Whether one of `conditions` holds, or there are none.
    pub(in crate::sender) fn holds_any(&self, conditions: &[Condition<Bound>]) -> bool {
        conditions.is_empty() || conditions.iter().any(|one| self.holds_one(one))
    }

    pub(in crate::sender) fn holds_one(&self, condition: &Condition<Bound>) -> bool {
        let holds = match &condition.subject {
            Subject::There(spot) => self.is(spot, |value| !value.is_empty()),
            Subject::Is(spot, word) => self.is(spot, |value| value == &**word),
            // In a verified callback, a value that looks like a macro is a value.
            Subject::Unreplaced => {
                self.matched.is_none() && !self.has_signature() && self.first_unreplaced().is_some()
            }
            Subject::Recut => !self.coverage.recut.is_empty(),
            Subject::All(parts) => self.holds_all(parts),
        };
        holds != condition.negated
    }

    // Few files have such a list.
    #[inline(never)]
    fn holds_all(&self, parts: &[Condition<Bound>]) -> bool {
        parts.iter().all(|one| self.holds_one(one))
    }

    /// Whether the value of `spot` came, can be read, and is as `wanted`.
    fn is(&self, spot: &Bound, wanted: impl Fn(&[u8]) -> bool) -> bool {
        match self.plain_value(spot) {
            PlainValue::Value(value) => wanted(value),
            PlainValue::Absent => false,
            PlainValue::Unknown => {
                let context = Context { plus: self.plus(), ..Context::default() };
                matches!(self.value(spot, &context), Ok(Some(value)) if wanted(&value))
            }
        }
    }
}
