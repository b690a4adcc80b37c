//! The destinations of a verified callback: those of its source, of the source's routes, and of the
//! parameters that a sender's routing depends on.

use std::borrow::Cow;
use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::record::VerifiedCallback;
use crate::config::EventNature;
use crate::ledger::TargetId;
use crate::plan::Routes;
use crate::sender::{Operand, Role};

impl VerifiedCallback<'_, '_> {
    /// A value that a route depends on. A role never falls back to a parameter of its name, which
    /// any caller could add.
    fn value(&self, operand: Operand<'_>) -> Option<Cow<'_, str>> {
        let resolved = &self.resolved;
        match operand {
            Operand::Value(name) => match Role::from_name(name) {
                Some(role) => resolved.role(role).map(Cow::Borrowed),
                None => self.callback.parameter(name).map(Cow::Owned),
            },
            Operand::Fact("kind") => Some(Cow::Borrowed(resolved.kind())),
            Operand::Fact("effect") => Some(Cow::Borrowed(resolved.effect().as_str())),
            Operand::Fact("test") => resolved.is_test().then_some(Cow::Borrowed("1")),
            Operand::Fact("sender") => {
                Some(Cow::Borrowed(self.received.route().source.recipe.sender().name()))
            }
            Operand::Fact(_) => None,
        }
    }

    /// The destinations of the event but those whose URL cannot tell it from a grant.
    pub(super) fn allowed_targets(&self) -> SmallVec<[TargetId; 2]> {
        let mut all = self.targets();
        all.retain(|target| !self.is_withheld(target));
        all
    }

    /// Whether the destination does not get it, because its URL cannot tell it from a grant.
    pub(super) fn is_withheld(&self, target: &TargetId) -> bool {
        let route = self.received.route();
        let Some(facts) = route.urls.get(target) else { return false };
        let event = EventNature {
            effect: self.resolved.effect(),
            kind: self.resolved.kind(),
            test: self.resolved.is_test(),
            reverses: self.resolved.role(Role::Reverses),
        };
        facts.withholds(&event, &route.effects).is_some()
    }

    /// The destinations that source and routes name.
    fn targets(&self) -> SmallVec<[TargetId; 2]> {
        let route = self.received.route();
        let mut own = route.targets.clone();
        for rule in &route.source.routes {
            if rule.when.iter().all(|one| one.holds(&|operand| self.value(operand))) {
                let more = rule.to.iter().map(|name| TargetId::from(name.as_str()));
                own.extend(more);
            }
        }
        if !route.source.routes.is_empty() {
            let mut seen = BTreeSet::new();
            own.retain(|target| seen.insert(target.clone()));
        }
        let Some(routing) = &route.routing else { return own };
        let [first, second] = &*routing.parameters;
        let value = |name| self.callback.parameter(name).unwrap_or_default();
        let key = (value(first), value(second));
        match &routing.routes {
            Routes::Added(names) => {
                own.extend(names.get(&key).map(|name| TargetId::from(name.as_str())));
                own
            }
            Routes::Replaced(routes) => match (routes.kinds.get(&key), &routes.others) {
                (Some(None), _) => SmallVec::new(),
                (Some(Some(name)), _) | (None, Some(name)) => {
                    SmallVec::from_iter([TargetId::from(name.as_str())])
                }
                (None, None) => own,
            },
        }
    }
}
