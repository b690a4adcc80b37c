//! What a verified callback says: its kind, roles, parameters, template and keys.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::bound::{Bound, Input, Scope};
use super::callback::{Callback, Nature, Refusal, Resolution, Verified};
use super::definition::{RoleText, Roles, Stands};
use super::digest;
use super::evaluate::{self, Context, Said};
use super::names::Slot;
use super::outcome::Reason;
use super::parameters::{Parameter, Place, Unreadable, Value};
use super::recipe::{Also, WhenBody};
use super::resolved::{Resolved, Role};
use super::signature::{Covers, ListedValue, Pairs, Plan, Reading, Seams, TimeCover};
use super::text::{Piece, Text};
use super::unreplaced;

/// What stands in place of a claim wherever parameters are shown.
const MASK: &str = "***";

/// A value with the text that made it.
type Made<'t> = (Vec<u8>, &'t Text<Bound>);

impl Verified<'_, '_> {
    /// Finds out what the callback says. `event_id` is the id that the event will have, for
    /// `[event_id]` in the source's template.
    #[must_use]
    pub fn resolve(&mut self, event_id: &str) -> Resolution {
        let callback = &mut *self.callback;
        let late = callback.recipe.body == WhenBody::AfterVerification;
        if late
            && callback.recipe.kinds.is_empty()
            && let Err(unreadable) = callback.read_body()
        {
            return Resolution::Refused(unreadable.into());
        }
        if callback.nature == Nature::Challenge {
            return Resolution::Challenge;
        }
        let of_tests = callback.kind_here().is_some_and(|kind| kind.stands == Stands::ForTests);
        if of_tests || callback.holds(&callback.recipe.test) {
            return Resolution::Test;
        }
        match callback.resolved(event_id) {
            Ok(resolved) => Resolution::Event(Box::new(resolved)),
            Err(refusal) => Resolution::Refused(refusal),
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

impl<'a> Callback<'a> {
    fn resolved(&self, event_id: &str) -> Result<Resolved, Refusal> {
        let transaction = self.transaction()?;
        self.ours()?;
        let recut = self.recut();
        let mut roles: [Option<String>; Role::ALL.len()] = Default::default();
        let mut authenticated = Vec::new();
        let mut unresolved: Vec<String> = self.unreplaced().map(unreplaced::shown).collect();
        for role in Role::ALL {
            let Some((value, text)) = self.role_text(role)? else { continue };
            roles[role as usize] = Some(String::from_utf8_lossy(&value).into_owned());
            if text.spots().all(|spot| self.is_proven(spot, &recut)) {
                authenticated.push(role);
            }
        }
        self.pinned(&roles)?;
        let template = self.template(event_id, &mut unresolved)?;
        let mut keys = vec![transaction];
        keys.extend(self.replay()?);
        Ok(Resolved {
            roles,
            kind: self.kind_here().map(|kind| kind.name.clone()),
            test: self.holds(&self.recipe.flag),
            unresolved,
            authenticated,
            recut,
            params: self.params(),
            template,
            keys,
            secret: self.matched.as_ref().and_then(|matched| matched.secret),
        })
    }

    /// The key of the transaction; without one there is nothing to record.
    fn transaction(&self) -> Result<Vec<u8>, Refusal> {
        let texts = self.role_texts(Role::Transaction);
        match self.first_made(texts)? {
            Some((_, text)) => Ok(self.key(0, texts, text)?),
            None => {
                let mut spots = texts.iter().flat_map(|text| text.of.spots());
                let unreplaced = spots.find_map(|spot| self.unreplaced_name(spot));
                Err(match unreplaced {
                    Some(name) => Refusal::of(Reason::UnresolvedPlaceholder, &name),
                    None => {
                        let name = texts.iter().flat_map(|text| text.of.spots()).next();
                        let name = name.map_or("transaction", |spot| &spot.name);
                        Refusal::of(Reason::MissingParameter, name)
                    }
                })
            }
        }
    }

    fn replay(&self) -> Result<Option<Vec<u8>>, Unreadable> {
        let texts = &self.recipe.roles.replay;
        match self.first_made(texts)? {
            Some((_, text)) => Ok(Some(self.key(1, texts, text)?)),
            None if texts.is_empty() => Ok(self.signed_key()),
            None => Ok(None),
        }
    }

    /// What was signed, as a key, where its values could be cut anew under the same signature.
    /// It knows no kind: a parameter that nothing covers must not make a new event of an old call.
    fn signed_key(&self) -> Option<Vec<u8>> {
        let hidden = self.matched_reading().is_some_and(|reading| reading.seams == Seams::Hidden);
        let output = self.matched.as_ref()?.output.as_ref()?;
        hidden.then(|| [&[2], output.bytes()].concat())
    }

    /// A de-duplication key: which key and which of its texts, then for each placeholder its place
    /// in the text, its length and its value, so that no two callbacks run into one.
    fn key(
        &self,
        which: u8,
        texts: &[RoleText<Bound>],
        text: &Text<Bound>,
    ) -> Result<Vec<u8>, Unreadable> {
        let index = texts.iter().position(|known| std::ptr::eq(&raw const known.of, text));
        let kind = self.kind.map_or(0, |kind| kind + 1);
        let small = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let mut key = vec![which, small(index.unwrap_or_default()), small(kind)];
        let context = Context { plus: self.plus(), ..Context::default() };
        for (place, spot) in text.spots().enumerate() {
            // An optional part that is empty is left out, and so is one that did not come.
            let Some(value) = self.value(spot, &context)?.filter(|value| !value.is_empty()) else {
                continue;
            };
            let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
            key.push(small(place));
            key.extend_from_slice(&len.to_be_bytes());
            key.extend_from_slice(&value);
        }
        Ok(key)
    }

    /// The texts of `role`: those of the reading that matched, of the kind, or of the file.
    fn role_texts(&self, role: Role) -> &'a [RoleText<Bound>] {
        let reading = self.matched_reading().map(|reading| &reading.roles);
        let kind = self.kind_here().map(|kind| &kind.roles);
        let layers: [Option<&'a Roles<Bound>>; 3] = [reading, kind, Some(&self.recipe.roles)];
        layers
            .into_iter()
            .flatten()
            .find_map(|roles| roles.texts.get(&role))
            .map_or(&[], Vec::as_slice)
    }

    fn role_text(&self, role: Role) -> Result<Option<Made<'a>>, Unreadable> {
        self.first_made(self.role_texts(role))
    }

    /// The value of `role`, if the callback has it.
    pub(super) fn role(&self, role: Role) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.role_text(role)?.map(|(value, _)| value))
    }

    /// The first text that can be made and is not empty.
    fn first_made<'t>(&self, texts: &'t [RoleText<Bound>]) -> Result<Option<Made<'t>>, Unreadable> {
        for text in texts {
            if !self.holds_any(&text.when) {
                continue;
            }
            if let Some(value) = self.made(&text.of)?.filter(|value| !value.is_empty()) {
                return Ok(Some((value, &text.of)));
            }
        }
        Ok(None)
    }

    /// A role's text: every placeholder outside an optional part has to be there, not empty, and
    /// not a macro that the sender left in place.
    fn made(&self, text: &Text<Bound>) -> Result<Option<Vec<u8>>, Unreadable> {
        let context = Context { plus: self.plus(), ..Context::default() };
        let mut out = Vec::new();
        for piece in &text.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Value(spot) => match self.value(spot, &context) {
                    Ok(Some(value)) if !value.is_empty() && !self.is_macro(spot, &value) => {
                        out.extend_from_slice(&value);
                    }
                    Ok(_) => return Ok(None),
                    // A modifier that cannot be applied, such as `after:r-`: no such role.
                    Err(unreadable) if unreadable.reason == Reason::BadEncoding => {
                        return Ok(None);
                    }
                    Err(unreadable) => return Err(unreadable),
                },
                Piece::Optional(_) => {
                    let one = Text { pieces: vec![piece.clone()] };
                    let _ = self.put(&one, &context, &mut out);
                }
            }
        }
        Ok(Some(out))
    }

    fn is_macro(&self, spot: &Bound, value: &[u8]) -> bool {
        matches!(spot.input, Input::Parameter { .. }) && self.recipe.macros.is_unreplaced(value)
    }

    fn unreplaced_name(&self, spot: &Bound) -> Option<String> {
        let value = self.value(spot, &Context::default()).ok()??;
        self.is_macro(spot, &value).then(|| spot.name.to_string())
    }

    /// Refuses a time that is checked and stands where the signature does not reach: whoever sends
    /// the call again could make it fresh.
    pub(super) fn time_is_proven(&self) -> Result<(), Refusal> {
        match self.matched_reading() {
            Some(reading) if reading.time == TimeCover::ByPlace => self.time_is_covered(reading),
            _ => Ok(()),
        }
    }

    #[cold]
    fn time_is_covered(&self, reading: &Reading) -> Result<(), Refusal> {
        let Some(time) = &self.recipe.time else { return Ok(()) };
        match time.r#in.spots().find(|spot| !self.covers(&reading.covers, spot, &[])) {
            Some(spot) => Err(Refusal::of(Reason::MissingParameter, &spot.name)),
            None => Ok(()),
        }
    }

    /// Whether the signature covers the value of `spot`.
    fn is_proven(&self, spot: &Bound, recut: &[String]) -> bool {
        let also = match self.kind_here().map(|kind| &kind.also) {
            Some(Also::Reading(also)) => Some(&also.covers),
            _ => None,
        };
        let main = self.matched_reading().map(|reading| &reading.covers);
        main.is_some_and(|covers| self.covers(covers, spot, recut))
            || also.is_some_and(|covers| self.covers(covers, spot, recut))
    }

    fn covers(&self, covers: &Covers, spot: &Bound, recut: &[String]) -> bool {
        match &spot.input {
            Input::Parameter { slot, steps, scope } => {
                let sealed = self.recipe.open.as_ref().and_then(|opener| opener.slot);
                if self.opened.is_some()
                    && *scope == Scope::Message
                    && sealed.is_some_and(|slot| self.covers_sealed(covers, slot))
                {
                    return true;
                }
                let (parameters, buffers) = self.side(*scope);
                // What is not there is no claim of anybody's.
                let Some(parameter) = parameters.get(*slot, buffers) else { return true };
                let shown = unreplaced::shown(parameter.name);
                covers.parameter(*slot, steps, parameter.place, parameter.name)
                    && !recut.contains(&shown)
            }
            Input::Header(name) => covers.header(name),
            Input::List { .. } => covers.may_cover(spot, self.recipe),
            Input::Known(text) => text.spots().all(|spot| self.covers(covers, spot, recut)),
            Input::Gateway(super::bound::Gateway::BodySha256) => covers.body(),
            _ => true,
        }
    }

    /// Whether the cipher text in `slot` is covered.
    fn covers_sealed(&self, covers: &Covers, slot: Slot) -> bool {
        let (parameters, buffers) = self.side(Scope::Outer);
        let parameter = parameters.get(slot, buffers);
        parameter.is_some_and(|one| covers.parameter(slot, &[], one.place, one.name))
    }

    /// Parameters whose value holds the name of a signed parameter that is not there, in a list
    /// without separators: it could be the two of them, cut anew.
    pub(super) fn recut(&self) -> Vec<String> {
        let pairs = self.matched_reading().and_then(|reading| reading.pairs.as_ref());
        match pairs {
            Some(Pairs { plan: Plan::Listed(list), shape, .. }) if shape.is_seamless() => {
                self.recut_in(list)
            }
            _ => Vec::new(),
        }
    }

    fn recut_in(&self, list: &[super::signature::Listed]) -> Vec<String> {
        let (parameters, buffers) = self.side(Scope::Outer);
        let mut absent: Vec<&[u8]> = Vec::new();
        let mut present: Vec<Parameter<'_>> = Vec::new();
        for listed in list {
            let ListedValue::Parameter(slot) = &listed.value else { continue };
            match parameters.get(*slot, buffers).filter(|p| !evaluate::is_empty(*p)) {
                Some(parameter) => present.push(parameter),
                None => absent.push(&listed.label),
            }
        }
        let holds = |parameter: &Parameter<'_>| {
            let value = Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
            let Ok(Some(text)) = value.text(self.plus()) else { return false };
            absent.iter().any(|name| memchr::memmem::find(&text, name).is_some())
        };
        present.iter().filter(|p| holds(p)).map(|p| unreplaced::shown(p.name)).collect()
    }

    /// Refuses what is not the source's own: its sender signs for others too.
    fn ours(&self) -> Result<(), Refusal> {
        for ours in &self.recipe.ours {
            let value = self.made(&ours.of)?.unwrap_or_default();
            let own = ours.own.expose().split(|byte| matches!(byte, b' ' | b',' | b'\t' | b'\n'));
            if value.is_empty() || !own.into_iter().any(|own| own == value) {
                let name = ours.of.spots().next().map_or("", |spot| &spot.name);
                return Err(Refusal::of(Reason::NotOurs, name));
            }
        }
        Ok(())
    }

    /// Refuses an item or amount that differs from the source's own table.
    fn pinned(&self, roles: &[Option<String>]) -> Result<(), Refusal> {
        if self.recipe.rewards.is_empty() {
            return Ok(());
        }
        let item = roles[Role::Item as usize].as_deref().unwrap_or_default();
        let amount = roles[Role::Amount as usize].as_deref().unwrap_or_default();
        let pinned = self.recipe.rewards.get(item);
        if pinned.is_some_and(|pinned| same_amount(pinned, amount)) {
            return Ok(());
        }
        let about = if pinned.is_some() { Role::Amount } else { Role::Item };
        Err(Refusal::of(Reason::PinnedReward, about.as_str()))
    }

    /// The source's template, resolved, as a JSON object of texts.
    fn template(
        &self,
        event_id: &str,
        unresolved: &mut Vec<String>,
    ) -> Result<Box<RawValue>, Refusal> {
        let said = Said { reason: None, at_ms: self.now_ms, countersign: "", code: "", event_id };
        let context = Context { plus: self.plus(), said: Some(&said), ..Context::default() };
        let mut object = Object::with_capacity(self.recipe.template.len() * 32);
        for (name, text) in &self.recipe.template {
            let mut out = Vec::new();
            for piece in &text.pieces {
                match piece {
                    Piece::Literal(bytes) => out.extend_from_slice(bytes),
                    // What cannot be read is not there: a template refuses nobody's reward.
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
            object.name(name);
            object.text(&String::from_utf8_lossy(&out));
        }
        Ok(object.finish())
    }

    /// The value of `role` as far as it can be read, whether or not the callback is genuine: to be
    /// looked for by, and for nothing else.
    #[must_use]
    pub fn says(&self, role: Role) -> Option<String> {
        let value = self.role(role).ok()??;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// The parameters as received, claims masked, as a JSON object: what people may see of a
    /// callback, refused or not.
    #[must_use]
    pub fn params(&self) -> Box<RawValue> {
        let (parameters, buffers) = self.side(Scope::Message);
        let len: usize = parameters.iter(buffers).map(|p| p.name.len() + p.raw.len() + 8).sum();
        let mut object = Object::with_capacity(len);
        for (index, parameter) in parameters.iter(buffers).enumerate() {
            // What was read stands once in its place; of two places the first counts.
            let once = self.unreadable.is_none() && parameter.place == Place::Query;
            let mut earlier = parameters.iter(buffers).take(index);
            if !once && earlier.any(|other| other.name == parameter.name) {
                continue;
            }
            object.name(&String::from_utf8_lossy(parameter.name));
            let slot = self.recipe.names.find(parameter.name);
            let value = Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
            let text = value.text(self.plus()).ok().flatten().unwrap_or_default();
            if slot.is_some_and(|slot| self.recipe.claims.contains(&slot)) || self.is_secret(&text)
            {
                object.text(MASK);
            } else if parameter.place == Place::Json {
                object.raw(&self.without_inner_claim(slot, parameter.raw));
            } else {
                object.text(&String::from_utf8_lossy(&text));
            }
        }
        object.finish()
    }
}

impl Callback<'_> {
    /// Whether a value is a secret of the source: some senders send theirs.
    fn is_secret(&self, value: &[u8]) -> bool {
        self.recipe.secrets.iter().any(|secret| digest::same(secret.value.expose(), value))
    }

    /// The JSON text of the parameter in `slot` without the second signature, which may be inside.
    fn without_inner_claim<'r>(&self, slot: Option<Slot>, raw: &'r [u8]) -> Cow<'r, [u8]> {
        let kind = self.recipe.kinds.iter().find_map(|kind| match &kind.also {
            Also::Reading(reading) => Some(reading),
            Also::None | Also::Lacking => None,
        });
        let claim = kind.map(|reading| &reading.claim).filter(|claim| match &claim.input {
            Input::Parameter { slot: own, steps, .. } => Some(*own) == slot && !steps.is_empty(),
            _ => false,
        });
        let claim = claim.and_then(|claim| self.value(claim, &Context::default()).ok().flatten());
        match claim.filter(|claim| !claim.is_empty()) {
            Some(claim) => {
                let mut out = Vec::with_capacity(raw.len());
                let mut from = 0;
                for at in memchr::memmem::find_iter(raw, &*claim) {
                    out.extend_from_slice(&raw[from..at]);
                    out.extend_from_slice(MASK.as_bytes());
                    from = at + claim.len();
                }
                out.extend_from_slice(&raw[from..]);
                Cow::Owned(out)
            }
            None => Cow::Borrowed(raw),
        }
    }
}

/// Amounts are decimal texts: `10` is `10.0`, `10.000000` and `010`, and no number is rounded to
/// compare it. What is no decimal (`1e1`, `10 coins`) is only what it is to the letter.
fn same_amount(one: &str, other: &str) -> bool {
    one == other || decimal(one).is_some_and(|one| Some(one) == decimal(other))
}

/// Sign, whole and fraction of a decimal text, without the zeros that say nothing.
fn decimal(amount: &str) -> Option<(bool, &str, &str)> {
    let (negative, digits) = match amount.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, amount.strip_prefix('+').unwrap_or(amount)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    Some((negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction))
}

/// A JSON object, written member by member.
struct Object(Vec<u8>);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        let mut text = Vec::with_capacity(bytes + 2);
        text.push(b'{');
        Self(text)
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.text(name);
        self.0.push(b':');
    }

    fn text(&mut self, text: &str) {
        // A vector takes whatever is written to it.
        let _ = serde_json::to_writer(&mut self.0, text);
    }

    /// A value that is JSON already.
    fn raw(&mut self, json: &[u8]) {
        self.0.extend_from_slice(json);
    }

    fn finish(mut self) -> Box<RawValue> {
        self.0.push(b'}');
        let text = String::from_utf8(self.0).unwrap_or_default();
        RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_compared_as_decimals() {
        assert!(same_amount("10", "10.00"));
        assert!(same_amount("0.5", "0.50"));
        assert!(!same_amount("10", "1"));
        assert!(!same_amount("10", "10.001"));
        assert!(!same_amount("10", ""));
        assert!(same_amount("10", "10.000000") && same_amount("10", "+010"));
        assert!(same_amount("0", "-0.0") && !same_amount("10", "-10"));
        assert!(!same_amount("10", "1e1") && !same_amount("10", "10.") && same_amount("x", "x"));
    }
}
