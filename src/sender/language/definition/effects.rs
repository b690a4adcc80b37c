//! Effects of a sender's events, as far as its file alone says them.

use std::collections::BTreeMap;

use super::{EffectRule, KindUse, Sender};
use crate::sender::acts::resolved::Effect;

/// Effects of a sender's events: what can be told from a grant, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderEffects {
    /// Whether some events are grants and others have no effect.
    pub mixes_grants: bool,
    /// The effect of each kind that has only one.
    pub of_kinds: BTreeMap<String, Effect>,
}

impl Sender {
    /// The effects of its events.
    #[must_use]
    pub fn effects(&self) -> SenderEffects {
        let says = |effect| self.effect_rules().any(|rule| rule.effect == effect);
        // Where no rule applies, an event with a user and an amount or item is a grant.
        let by_default = !self.roles.effects.iter().any(|rule| rule.when.is_empty());
        let names = self.kinds.iter().map(|kind| kind.name.as_str());
        let of_kinds = names.filter_map(|name| Some((name.to_owned(), self.effect_of(name)?)));
        SenderEffects {
            mixes_grants: says(Effect::None) && (by_default || says(Effect::Grant)),
            of_kinds: of_kinds.collect(),
        }
    }

    /// Whether its console, or a user, can mark events as tests.
    #[must_use]
    pub fn has_tests(&self) -> bool {
        !self.test.flag.is_empty()
    }

    /// Whether some of its events take a grant back.
    #[must_use]
    pub fn revokes(&self) -> bool {
        let reverses = crate::sender::acts::resolved::Role::Reverses;
        let kinds = self.kinds.iter().map(|kind| &kind.roles);
        let rows = self.events.iter().flat_map(|table| &table.rows).map(|row| &row.roles);
        let mut all = std::iter::once(&self.roles).chain(kinds).chain(rows);
        all.any(|roles| {
            roles.texts.has(reverses)
                || roles.effects.iter().any(|rule| rule.effect == Effect::Revoke)
        })
    }

    fn effect_rules(&self) -> impl Iterator<Item = &EffectRule> {
        let kinds = self.kinds.iter().filter(|kind| kind.stands == KindUse::ForEvents);
        let rows = self.events.iter().flat_map(|table| &table.rows).map(|row| &row.roles);
        let variants = self.variants.iter().map(|variant| &variant.roles);
        let all = kinds.map(|kind| &kind.roles).chain(rows).chain(variants);
        std::iter::once(&self.roles).chain(all).flat_map(|roles| &roles.effects)
    }

    /// The effect that every event of the kind `name` has.
    fn effect_of(&self, name: &str) -> Option<Effect> {
        if self.variants.iter().any(|variant| !variant.roles.effects.is_empty()) {
            return None;
        }
        let mut effects = Vec::new();
        for (index, kind) in self.kinds.iter().enumerate().filter(|(_, kind)| kind.name == name) {
            // A kind without a rule has those of the file.
            if kind.roles.effects.is_empty() {
                return None;
            }
            let rows = self.events.iter().flat_map(|table| &table.rows);
            let rows = rows.filter(|row| row.kind == index).flat_map(|row| &row.roles.effects);
            effects.extend(kind.roles.effects.iter().chain(rows).map(|rule| rule.effect));
        }
        let first = *effects.first()?;
        effects.iter().all(|effect| *effect == first).then_some(first)
    }
}
