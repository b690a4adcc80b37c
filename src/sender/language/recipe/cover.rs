//! Checks of a compiled recipe: the time, kinds and flags must be signed.

use std::sync::Arc;

use super::compile::Compiler;
use super::{Protection, Recipe};
use crate::sender::acts::signature::{self, SignatureVariant, TimeCover};
use crate::sender::language::bound::{Bound, Gate, Input, Scope};
use crate::sender::language::condition::Condition;
use crate::sender::language::definition::KindUse;

impl Compiler {
    /// Checks kinds and flags: any caller can choose one that is not signed, so the file has to say
    /// so.
    pub(super) fn covered_kinds(&mut self, recipe: &Recipe) {
        if recipe.protection == Protection::Unsigned {
            return;
        }
        let sender = Arc::clone(&recipe.sender);
        let open = |gate: &Gate| match gate {
            Gate::Always | Gate::Never => false,
            Gate::Any(conditions) => conditions.iter().any(|one| !recipe.may_cover_condition(one)),
        };
        for (kind, of_file) in recipe.kinds.iter().zip(&sender.kinds) {
            let for_events = kind.stands == KindUse::ForEvents;
            if for_events && of_file.unsigned.is_none() && open(&kind.when) {
                let remedy =
                    "say why in unsigned = \"…\": any holder of one callback can choose it";
                self.fault(format!("kind[{}].when", kind.name), "is not signed", remedy);
            }
        }
        let by = recipe.events.iter().flat_map(|events| &events.by);
        let said = sender.events.as_ref().is_some_and(|events| events.unsigned.is_some());
        if !said && by.into_iter().any(|spot| !recipe.may_cover_spot(spot)) {
            let remedy = "say why in unsigned = \"…\": any holder of one callback can choose it";
            self.fault("events.by", "is not signed", remedy);
        }
        if sender.test.unsigned.is_none() && open(&recipe.flag) {
            let remedy = "say why in unsigned = \"…\": any holder of one callback can set it";
            self.fault("test.flag", "is not signed", remedy);
        }
    }

    /// Checks that a time limit is on a signed time: any caller could renew another one.
    pub(super) fn covered_time(&mut self, recipe: &mut Recipe) {
        let Some(time) = recipe.time.as_ref().filter(|time| time.within.is_some()) else { return };
        let spots: Vec<&Bound> = time.r#in.spots().collect();
        let covers: Vec<Option<TimeCover>> = recipe
            .variants
            .iter()
            .map(|variant| {
                let signed = &variant.signed;
                let may = spots.iter().all(|spot| signed.may_cover(spot, recipe));
                let always = spots.iter().all(|spot| signed.always_covers(spot, recipe));
                let by_callback = spots.iter().all(|spot| signed.covers_somewhere(spot, recipe));
                may.then_some(match (always, by_callback) {
                    (true, _) => TimeCover::Always,
                    (false, true) => TimeCover::ByCallback,
                    (false, false) => TimeCover::Never,
                })
            })
            .collect();
        if covers.iter().any(Option::is_none) {
            let remedy = "sign it, or omit `within` and set max_age = \"off\"";
            self.fault("time.within", "is checked on a time that is not signed", remedy);
        }
        for (variant, cover) in recipe.variants.iter_mut().zip(covers) {
            variant.time = cover.unwrap_or(TimeCover::Never);
        }
    }
}

impl Recipe {
    /// Whether every variant may cover the subject of `condition`.
    fn may_cover_condition(&self, condition: &Condition<Bound>) -> bool {
        let may_cover = |spot| self.may_cover_spot(spot);
        condition.parts().iter().all(|one| one.spot().is_some_and(may_cover))
    }

    /// Whether `variant` applies to address checks alone.
    fn is_of_challenges(&self, variant: &SignatureVariant) -> bool {
        let when = self.sender.variants.get(variant.index).map_or(&[][..], |one| &one.when);
        !when.is_empty() && when.iter().all(|one| self.sender.challenge.when.contains(one))
    }

    /// Whether every variant of messages may cover the value of `spot`.
    fn may_cover_spot(&self, spot: &Bound) -> bool {
        let in_seal = matches!(spot.input, Input::Parameter { scope: Scope::Message, .. });
        let sealed = || self.open.iter().flat_map(|opener| &opener.of);
        let of_messages = self.variants.iter().filter(|variant| !self.is_of_challenges(variant));
        of_messages.into_iter().all(|variant| {
            let mut slots = sealed().filter_map(signature::only_slot);
            (in_seal && slots.any(|slot| variant.signed.reads_slot(slot)))
                || variant.signed.may_cover(spot, self)
        })
    }
}
