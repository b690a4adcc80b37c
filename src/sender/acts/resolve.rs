//! Resolution of a verified callback: its kind, roles, parameters, template and keys.

mod amount;
mod roles;
mod shown;

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use super::evaluate::{Context, PlainValue, ReplyValues};
use super::identity::{IdentityChoice, IdentityCover, KeyFacts, KindCover, Mark};
use super::json_object::{JsonObject, put_json_text};
use super::outcome::Reason;
use super::resolved::{Effect, Fact, IdentityProof, Keys, Resolved, Role, Span, Texts};
use super::signature::{SignatureVariant, TimeCover};
use crate::sender::language::bound::{Bound, Gate, Input};
use crate::sender::language::condition::Condition;
use crate::sender::language::coverage::{Coverage, TextVerdict};
use crate::sender::language::definition::{KindUse, RoleText, Roles, Uncovered};
use crate::sender::language::recipe::{Protection, WhenBody};
use crate::sender::language::text::{Piece, Text};
use crate::sender::request::callback::{
    Callback, CallbackError, CallbackKind, Proof, Resolution, Verified,
};
use crate::sender::request::encoding;
use crate::sender::request::parameters::ParameterError;
use crate::sender::request::unreplaced;
use amount::same_amount;
use roles::RoleValues;

pub(in crate::sender) use amount::plain_amount;

/// Room for the texts of a callback, beyond its query.
const TEXTS_BYTES: usize = 128;

/// A value with the role's text that made it.
type MadeOf<'s, 't> = (Cow<'s, [u8]>, &'t RoleText<Bound>);

impl Verified<'_, '_> {
    /// Resolves the callback. `event_id` is the id that the event will have, for
    /// `[event_id]` in the source's template; it is written out only where that is asked for.
    #[must_use]
    pub fn resolve(&mut self, event_id: impl fmt::Display) -> Resolution {
        let callback = &mut *self.callback;
        let late = callback.recipe.body == WhenBody::AfterVerification;
        if late
            && callback.recipe.kinds.is_empty()
            && let Err(unreadable) = callback.read_body()
        {
            return Resolution::Rejected(unreadable.into());
        }
        if callback.nature == CallbackKind::Challenge {
            return Resolution::Challenge;
        }
        // Before anything is asked of element 0: the first of several may be a test, and the others
        // not.
        match callback.parts() {
            Ok(None) => {}
            Ok(Some(parts)) => return Resolution::Several(parts),
            Err(rejection) => return Resolution::Rejected(rejection),
        }
        let of_tests = callback.kind_here().is_some_and(|kind| kind.stands == KindUse::ForTests);
        if of_tests || callback.holds(&callback.recipe.test) {
            return Resolution::Test;
        }
        match callback.resolved(&event_id) {
            Ok((resolved, TextVerdict::Ambiguous)) => Resolution::Ambiguous(resolved),
            Ok((resolved, _)) => Resolution::Event(resolved),
            Err(rejection) => Resolution::Rejected(callback.on_the_wire(rejection)),
        }
    }

    /// The decoded value of the parameter `name` (its name on the wire), if it came.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.callback.parameter(name)
    }

    /// Whether the answer to an accepted callback is made from the callback; see
    /// [`Callback::answer_depends_on_callback`].
    #[must_use]
    pub fn answer_depends_on_callback(&self) -> bool {
        self.callback.answer_depends_on_callback()
    }
}

/// The template of a source as one callback resolves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedTemplate {
    /// The values, a JSON object of texts; empty if there is no template.
    pub json: String,
    /// Placeholders without a value.
    pub unresolved: Vec<String>,
}

impl<'a> Callback<'a> {
    /// The source's template as the callback of a recorded event resolves it: to show it, and for
    /// nothing else. `event_id` is the id of the event.
    #[must_use]
    pub fn preview_template(&mut self, event_id: impl fmt::Display) -> ResolvedTemplate {
        // Only the verification opens what is sealed, whatever its result.
        let _ = self.verify();
        self.was_recorded();
        if self.recipe.body == WhenBody::AfterVerification && self.recipe.kinds.is_empty() {
            // Values of an unreadable body are missing.
            let _ = self.read_body();
        }
        let mut unresolved = Vec::new();
        let mut texts = Texts::with_capacity(TEXTS_BYTES);
        self.put_template(&event_id, &mut unresolved, &mut texts);
        ResolvedTemplate { json: texts.finish(), unresolved }
    }

    pub(in crate::sender) fn resolved(
        &mut self,
        event_id: &dyn fmt::Display,
    ) -> Result<(Box<Resolved>, TextVerdict), CallbackError> {
        let identity = self.identity_text()?;
        let is_proven = self.proof == Proof::Signature;
        if is_proven {
            self.cover()?;
            self.ours()?;
        }
        let this = &*self;
        let coverage = &this.coverage;
        let mut facts = this.key_facts(coverage, identity);
        if is_proven {
            this.reject_uncovered(&facts, identity.text)?;
        } else {
            // There is no signature to be remembered.
            facts.identity = IdentityCover::Covered;
        }
        let proof = this.identity_proof(&facts, identity);
        let mut unresolved: Vec<String> = this.unreplaced().map(unreplaced::shown).collect();
        let mut found = RoleValues::new(TEXTS_BYTES + this.query.len());
        let proven_facts = is_proven.then_some(&facts);
        this.find_roles(proven_facts, &mut found)?;
        if is_proven {
            this.pinned(|role| found.get(role).unwrap_or_default())?;
        }
        let said = this.said_effect();
        let content = this.content(this.decided(said), |role| found.get(role), &found.escaped);
        let template = this.put_template(event_id, &mut unresolved, &mut found.texts);
        let mut keys = Keys::default();
        this.put_keys(identity, facts, &mut keys)?;
        let test = this.holds(&this.recipe.flag);
        let effect = match test {
            true => Effect::None,
            false => said.unwrap_or_else(|| this.usual_effect(found.get(Role::User))),
        };
        let resolved = Box::new(Resolved {
            texts: found.texts.finish(),
            roles: found.roles,
            positions: found.positions,
            kind: this.kind_here().map(|kind| kind.name.clone()),
            test,
            unresolved,
            authenticated: found.authenticated,
            covered: if is_proven { this.covered_facts(&facts) } else { SmallVec::new() },
            effect,
            unit: this.role_layers().find_map(|roles| roles.amount_unit),
            escaped: found.escaped,
            recut: copied(&coverage.recut),
            template,
            keys,
            proof,
            content,
            misfits: copied(&coverage.misfits),
            secret: this.matched.as_ref().and_then(|matched| matched.secret),
        });
        Ok((resolved, coverage.verdict))
    }

    /// Facts for the keys, as far as `coverage` goes.
    pub(super) fn key_facts<'k>(
        &self,
        coverage: &'k Coverage,
        identity: IdentityChoice<'_>,
    ) -> KeyFacts<'k> {
        let kind = match self.covers_kind(coverage) {
            true => KindCover::Covered,
            false => KindCover::Open,
        };
        let flagged = self.holds(&self.recipe.flag);
        let mark = match flagged && !self.covers_gate(coverage, &self.recipe.flag) {
            true => Mark::Marked,
            false => Mark::Unmarked,
        };
        let of_text = match self.recipe.identity.uncovered {
            // A present value that no signature covers is rejected: no caller can add one.
            Uncovered::Rejected => self.uncovered_spot(&self.coverage, identity.text).is_none(),
            Uncovered::Accepted | Uncovered::Replayable => {
                self.covers_text(coverage, identity.texts, identity.text)
            }
        };
        let covered = of_text
            && coverage.verdict == TextVerdict::Agrees
            && (kind == KindCover::Covered || !self.identity_is_of_kind());
        let replayable = self.recipe.identity.uncovered == Uncovered::Replayable && !covered;
        let identity = if replayable || self.signature_repeats() {
            IdentityCover::Repeats
        } else if covered {
            IdentityCover::Covered
        } else {
            IdentityCover::Open
        };
        KeyFacts { coverage, mark, identity, kind }
    }

    /// The proof of which event it is, by the facts of all signatures.
    fn identity_proof(&self, whole: &KeyFacts<'_>, identity: IdentityChoice<'_>) -> IdentityProof {
        if whole.identity == IdentityCover::Open {
            return IdentityProof::None;
        }
        let covers = |coverage: &Coverage| {
            self.key_facts(coverage, identity).identity == IdentityCover::Covered
        };
        match whole.coverage.without_kind() {
            Some(others) if whole.identity == IdentityCover::Covered && !covers(&others) => {
                IdentityProof::OfKind
            }
            Some(_) | None => IdentityProof::Usual,
        }
    }

    /// Rejects an identity that the signature does not cover, where the sender's file says so: the
    /// signature could have been made for something else.
    fn reject_uncovered(
        &self,
        facts: &KeyFacts<'_>,
        identity: &RoleText<Bound>,
    ) -> Result<(), CallbackError> {
        let rejects = self.recipe.protection == Protection::Signed
            && self.recipe.identity.uncovered == Uncovered::Rejected;
        if !rejects {
            return Ok(());
        }
        match self.uncovered_spot(facts.coverage, identity) {
            Some(spot) => Err(CallbackError::of(Reason::UnsignedParameter, &spot.name)),
            None => Ok(()),
        }
    }

    /// The first placeholder of the identity that is present and not covered.
    fn uncovered_spot<'t>(
        &self,
        coverage: &Coverage,
        identity: &'t RoleText<Bound>,
    ) -> Option<&'t Bound> {
        let context = Context { plus: self.plus(), ..Context::default() };
        let is_there = |spot: &Bound| matches!(self.value(spot, &context), Ok(Some(_)));
        identity.of.spots().find(|spot| is_there(spot) && !self.covers(coverage, spot))
    }

    /// Whether one signature serves several transactions.
    fn signature_repeats(&self) -> bool {
        let repeats = self.recipe.identity.repeats.as_ref();
        repeats.is_some_and(|repeats| self.holds_any(&repeats.when))
    }

    /// Whether the kind has texts of its own for what identifies an event.
    fn identity_is_of_kind(&self) -> bool {
        let own = |roles: &Roles<Bound>| roles.texts.has(Role::Transaction);
        self.row_here().is_some() || self.kind_here().is_some_and(|kind| own(&kind.roles))
    }

    /// Whether the signatures cover what selected the kind, and what did not select those before.
    fn covers_kind(&self, coverage: &Coverage) -> bool {
        let asked = match (self.kind, self.row) {
            (Some(kind), None) => kind + 1,
            _ => self.recipe.kinds.len(),
        };
        // Whether it is a test is another fact than which kind of event it is.
        let kinds = self.recipe.kinds.iter().take(asked);
        let mut kinds = kinds.filter(|kind| kind.stands == KindUse::ForEvents);
        let by = match self.row.is_some() || self.kind.is_none() {
            true => self.naming_spots(),
            false => &[],
        };
        kinds.all(|kind| self.covers_gate(coverage, &kind.when))
            && by.iter().all(|spot| self.covers(coverage, spot))
    }

    /// The placeholders that select the kind, or that leave it open.
    pub(in crate::sender) fn selecting_spots(&self) -> impl Iterator<Item = &'a Bound> {
        let recipe = self.recipe;
        let conditions = recipe.kinds.iter().flat_map(|kind| match &kind.when {
            Gate::Any(conditions) => conditions.as_slice(),
            Gate::Always | Gate::Never => &[],
        });
        let by = recipe.events.iter().flat_map(|events| &events.by);
        conditions.flat_map(Condition::spots).chain(by)
    }

    /// Whether kind and test flag are covered, where the sender has them.
    fn covered_facts(&self, facts: &KeyFacts<'_>) -> SmallVec<[Fact; 2]> {
        let mut covered = SmallVec::new();
        let has_kinds = !self.recipe.kinds.is_empty() || self.recipe.events.is_some();
        let has_flag = !matches!(self.recipe.flag, Gate::Never);
        if self.recipe.protection == Protection::Unsigned || !(has_kinds || has_flag) {
            return covered;
        }
        if has_kinds && facts.kind == KindCover::Covered {
            covered.push(Fact::Kind);
        }
        let of_tests = self.recipe.kinds.iter().filter(|kind| kind.stands == KindUse::ForTests);
        let mut gates = of_tests.map(|kind| &kind.when).chain([&self.recipe.flag]);
        if has_flag && gates.all(|gate| self.covers_gate(facts.coverage, gate)) {
            covered.push(Fact::Test);
        }
        covered
    }

    /// The effect on a balance where the file names none: an event with a user is a grant.
    fn usual_effect(&self, user: Option<&str>) -> Effect {
        let has = |role| self.role_layers().any(|roles| roles.texts.has(role));
        let gives = user.is_some() && (has(Role::Amount) || has(Role::Item));
        if gives { Effect::Grant } else { Effect::None }
    }

    /// The effect on a balance that the file names for this callback.
    fn said_effect(&self) -> Option<Effect> {
        let mut rules = self.role_layers().flat_map(|roles| &roles.effects);
        rules.find(|rule| self.holds_any(&rule.when)).map(|rule| rule.effect)
    }

    /// The same, if values of the callback decide it, and it is not a grant. `said` is the effect.
    fn decided(&self, said: Option<Effect>) -> Option<Effect> {
        let mut rules = self.role_layers().flat_map(|roles| &roles.effects);
        let is_decided = rules.any(|rule| !rule.when.is_empty());
        said.filter(|effect| is_decided && *effect != Effect::Grant)
    }

    /// The layers of roles, the nearest first.
    fn role_layers(&self) -> impl Iterator<Item = &'a Roles<Bound>> {
        let layers = [
            self.matched_variant().map(|variant| &variant.roles),
            self.row_here().map(|row| &row.roles),
            self.kind_here().map(|kind| &kind.roles),
            Some(&self.recipe.roles),
        ];
        layers.into_iter().flatten()
    }

    /// The value of `role`, if the callback has it.
    pub(in crate::sender) fn role(
        &self,
        role: Role,
    ) -> Result<Option<Cow<'_, [u8]>>, ParameterError> {
        Ok(self.first_made(self.role_texts(role))?.map(|(value, _)| value))
    }

    /// The first text that can be made and is not empty.
    pub(in crate::sender) fn first_made<'s, 't>(
        &'s self,
        texts: &'t [RoleText<Bound>],
    ) -> Result<Option<MadeOf<'s, 't>>, ParameterError>
    where
        't: 's,
    {
        for text in texts {
            if !self.holds_any(&text.when) {
                continue;
            }
            if let Some(value) = self.made(&text.of)?.filter(|value| !value.is_empty()) {
                return Ok(Some((value, text)));
            }
        }
        Ok(None)
    }

    /// A role's text: every placeholder outside an optional part has to be there, not empty, and
    /// not a macro that the sender left in place.
    fn made<'s>(&'s self, text: &'s Text<Bound>) -> Result<Option<Cow<'s, [u8]>>, ParameterError> {
        let only = text.only_spot();
        match only.map_or(PlainValue::Unknown, |spot| self.plain_value(spot)) {
            PlainValue::Value(value) => {
                let is_made = !value.is_empty() && !self.recipe.macros.is_unreplaced(value);
                return Ok(is_made.then_some(Cow::Borrowed(value)));
            }
            PlainValue::Absent => return Ok(None),
            PlainValue::Unknown => {}
        }
        let context = Context { plus: self.plus(), ..Context::default() };
        if let Some(spot) = only {
            return self.made_value(spot, &context);
        }
        let mut out = Vec::new();
        for piece in &text.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Value(spot) => match self.made_value(spot, &context)? {
                    Some(value) => out.extend_from_slice(&value),
                    None => return Ok(None),
                },
                Piece::Optional(_) => {
                    let one = Text { pieces: vec![piece.clone()] };
                    let _ = self.put(&one, &context, &mut out);
                }
            }
        }
        Ok(Some(Cow::Owned(out)))
    }

    /// The value of a placeholder of a role.
    fn made_value<'s>(
        &'s self,
        spot: &'s Bound,
        context: &Context<'s>,
    ) -> Result<Option<Cow<'s, [u8]>>, ParameterError> {
        match self.value(spot, context) {
            Ok(value) => Ok(value.filter(|value| !value.is_empty() && !self.is_macro(spot, value))),
            // A modifier that cannot be applied, such as `after:r-`: no such role.
            Err(unreadable) if unreadable.reason == Reason::BadEncoding => Ok(None),
            Err(unreadable) => Err(unreadable),
        }
    }

    fn is_macro(&self, spot: &Bound, value: &[u8]) -> bool {
        matches!(spot.input, Input::Parameter { .. }) && self.recipe.macros.is_unreplaced(value)
    }

    pub(in crate::sender) fn unreplaced_name(&self, spot: &Bound) -> Option<String> {
        let value = self.value(spot, &Context::default()).ok()??;
        self.is_macro(spot, &value).then(|| spot.name.to_string())
    }

    /// Rejects a checked time outside the signature: a replay attack could renew it.
    pub(in crate::sender) fn time_is_proven(&self) -> Result<(), CallbackError> {
        match self.matched_variant() {
            Some(variant) if variant.time == TimeCover::ByCallback => self.time_is_covered(variant),
            _ => Ok(()),
        }
    }

    #[cold]
    fn time_is_covered(&self, variant: &SignatureVariant) -> Result<(), CallbackError> {
        let Some(time) = &self.recipe.time else { return Ok(()) };
        let came_elsewhere = |spot: &&Bound| match &spot.input {
            Input::Parameter { slot, scope, .. } => {
                let (parameters, buffers) = self.side(*scope);
                let parameter = parameters.get(*slot, buffers);
                parameter.is_some_and(|one| !variant.signed.reads_place(one.place, one.name))
            }
            _ => false,
        };
        match time.r#in.spots().find(came_elsewhere) {
            Some(spot) => Err(CallbackError::of(Reason::MissingParameter, &spot.name)),
            None => Ok(()),
        }
    }

    /// Rejects what is not the source's own: its sender signs for others too. A callback may lack an
    /// optional name, such as that of the application in a refund, if it has another of the source.
    fn ours(&self) -> Result<(), CallbackError> {
        let not_ours = |text: &Text<Bound>| {
            let name = text.spots().next().map_or("", |spot| &spot.name);
            Err(CallbackError::of(Reason::NotOurs, name))
        };
        let (mut lacking, mut is_own) = (None, false);
        for ours in &self.recipe.ours {
            let value = self.made(&ours.of)?.unwrap_or_default();
            // No value of a source is empty.
            if ours.values().any(|own| *own == *value) {
                is_own = true;
            } else if value.is_empty() && self.is_without(&ours.of)? {
                lacking = lacking.or(Some(&ours.of));
            } else {
                return not_ours(&ours.of);
            }
        }
        lacking.filter(|_| !is_own).map_or(Ok(()), not_ours)
    }

    /// Whether nothing of `text` came, all of it is optional, and the signature covers that: no
    /// caller can have removed it.
    fn is_without(&self, text: &Text<Bound>) -> Result<bool, ParameterError> {
        if !text.is_optional() {
            return Ok(false);
        }
        let context = Context { plus: self.plus(), ..Context::default() };
        for spot in text.spots() {
            let came = self.value(spot, &context)?.is_some_and(|value| !value.is_empty());
            if came || !self.covers(&self.coverage, spot) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Rejects an item or amount that differs from the source's own table.
    fn pinned<'t>(&self, role: impl Fn(Role) -> &'t str) -> Result<(), CallbackError> {
        if self.recipe.rewards.is_empty() {
            return Ok(());
        }
        let (item, amount) = (role(Role::Item), role(Role::Amount));
        let pinned = self.recipe.rewards.get(item);
        if pinned.is_some_and(|pinned| same_amount(pinned, amount)) {
            return Ok(());
        }
        let about = if pinned.is_some() { Role::Amount } else { Role::Item };
        Err(CallbackError::of(Reason::PinnedReward, about.as_str()))
    }

    /// The source's template, resolved, as a JSON object of texts; nothing if there is none.
    fn put_template(
        &self,
        event_id: &dyn fmt::Display,
        unresolved: &mut Vec<String>,
        to: &mut Texts,
    ) -> Span {
        if self.recipe.template.is_empty() {
            return to.put("");
        }
        let mut json = Vec::new();
        let event_id = Some(event_id);
        let said =
            ReplyValues { reason: None, at_ms: self.now_ms, countersign: "", code: "", event_id };
        let context = Context { plus: self.plus(), said: Some(&said), ..Context::default() };
        let mut object = JsonObject::begin(&mut json);
        let mut out = Vec::new();
        for (name, text) in &self.recipe.template {
            out.clear();
            for piece in &text.pieces {
                match piece {
                    Piece::Literal(bytes) => out.extend_from_slice(bytes),
                    // An unreadable value counts as missing: a template never rejects a reward.
                    Piece::Value(spot) => match self.value(spot, &context).unwrap_or_default() {
                        Some(value) if !self.is_macro(spot, &value) => {
                            out.extend_from_slice(&value);
                        }
                        _ => {
                            let name = spot.name.to_string();
                            if !unresolved.contains(&name) {
                                unresolved.push(name);
                            }
                        }
                    },
                    Piece::Optional(_) => {
                        let one = Text { pieces: vec![piece.clone()] };
                        let _ = self.put(&one, &context, &mut out);
                    }
                }
            }
            put_json_text(object.name(name.as_bytes()), encoding::shown(&out).as_bytes());
        }
        object.end();
        to.put(str::from_utf8(&json).unwrap_or_default())
    }

    /// The value of `role` as far as it can be read, verified or not, without secrets of the source.
    /// Use it only to search and to show. `None` if it is a digest of the content: that is not a value
    /// which anybody searches for, and a caller without a secret could make it costly.
    #[must_use]
    pub fn says(&self, role: Role) -> Option<String> {
        let texts = self.role_texts(role);
        let end = texts.iter().position(|text| text.of.spots().any(Bound::is_content));
        let readable = texts.get(..end.unwrap_or(texts.len())).unwrap_or_default();
        let (value, _) = self.first_made(readable).ok()??;
        Some(self.recipe.without_secrets(&encoding::shown(&value)).into_owned())
    }
}

/// A copy of `names`, of which there are hardly ever any.
#[inline]
fn copied(names: &[String]) -> Vec<String> {
    if names.is_empty() { Vec::new() } else { names.to_vec() }
}
