//! Conditions of a sender file, evaluated on one callback.

use super::Context;
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
        let context = Context { plus: self.plus(), ..Context::default() };
        let holds = match &condition.subject {
            Subject::There(spot) => {
                matches!(self.value(spot, &context), Ok(Some(value)) if !value.is_empty())
            }
            Subject::Is(spot, word) => {
                matches!(self.value(spot, &context), Ok(Some(value)) if value.as_ref() == &**word)
            }
            // In a verified callback, a value that looks like a macro is a value.
            Subject::Unreplaced => {
                self.matched.is_none() && !self.has_signature() && self.first_unreplaced().is_some()
            }
            Subject::Recut => self.coverage.as_ref().is_some_and(|one| !one.recut.is_empty()),
        };
        holds != condition.negated
    }
}
