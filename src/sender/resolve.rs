//! What a verified callback says: its kind, roles, parameters, template and keys.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::bound::{Bound, Input, Scope};
use super::callback::{Callback, Nature, Refusal, Resolution, Verified};
use super::definition::{RoleText, Roles, Stands};
use super::digest;
use super::encoding::Plus;
use super::evaluate::{self, Context, Said};
use super::json_object::{JsonObject, is_plain, put_json_text};
use super::names::Slot;
use super::outcome::Reason;
use super::parameters::{Parameter, Parameters, Place, Unreadable, Value};
use super::recipe::{Also, WhenBody};
use super::resolved::{Effect, Keys, Resolved, Role, Texts};
use super::signature::{Covers, ListedValue, Pairs, Plan, Reading, Seams, TimeCover};
use super::text::{Piece, Text};
use super::unreplaced;

/// What stands in place of a claim wherever parameters are shown.
const MASK: &str = "***";

/// Room for the texts of a callback, beyond twice its query: once as roles, once as parameters.
const TEXTS_BYTES: usize = 128;

/// A value with the text that made it.
type Made<'s> = (Cow<'s, [u8]>, &'s Text<Bound>);

impl Verified<'_, '_> {
    /// Finds out what the callback says. `event_id` is the id that the event will have, for
    /// `[event_id]` in the source's template; it is written out only where that is asked for.
    #[must_use]
    pub fn resolve(&mut self, event_id: impl fmt::Display) -> Resolution {
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
        match callback.resolved(&event_id) {
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
    fn resolved(&self, event_id: &dyn fmt::Display) -> Result<Resolved, Refusal> {
        let mut keys = Keys::default();
        self.transaction(&mut keys)?;
        self.ours()?;
        let recut = self.recut();
        let mut unresolved: Vec<String> = self.unreplaced().map(unreplaced::shown).collect();
        let mut texts = Texts::with_capacity(TEXTS_BYTES + 2 * self.query.len());
        let mut roles = [None; Role::ALL.len()];
        let mut authenticated = SmallVec::new();
        for role in Role::ALL {
            let Some((value, text)) = self.role_text(role)? else { continue };
            roles[role as usize] = Some(texts.put(|out| put_lossy(out, &value)));
            if text.spots().all(|spot| self.is_proven(spot, &recut)) {
                authenticated.push(role);
            }
        }
        self.pinned(|role| roles[role as usize].map_or(&[], |span| texts.get(span)))?;
        let params = texts.put(|out| self.put_params(out, Strangers::Shown));
        let template = texts.put(|out| self.put_template(event_id, &mut unresolved, out));
        self.replay(&mut keys)?;
        Ok(Resolved {
            texts: texts.finish(),
            roles,
            kind: self.kind_here().map(|kind| kind.name.clone()),
            test: self.holds(&self.recipe.flag),
            unresolved,
            authenticated,
            covered: SmallVec::new(),
            effect: Effect::default(),
            unit: None,
            escaped: SmallVec::new(),
            recut,
            params,
            template,
            keys,
            secret: self.matched.as_ref().and_then(|matched| matched.secret),
        })
    }

    /// The key of the transaction; without one there is nothing to record.
    fn transaction(&self, keys: &mut Keys) -> Result<(), Refusal> {
        let texts = self.role_texts(Role::Transaction);
        match self.first_made(texts)? {
            Some((_, text)) => Ok(self.key(0, texts, text, keys)?),
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

    fn replay(&self, keys: &mut Keys) -> Result<(), Unreadable> {
        let texts = &self.recipe.roles.replay;
        match self.first_made(texts)? {
            Some((_, text)) => self.key(1, texts, text, keys)?,
            None if texts.is_empty() => self.signed_key(keys),
            None => {}
        }
        Ok(())
    }

    /// What was signed, as a key, where its values could be cut anew under the same signature.
    /// It knows no kind: a parameter that nothing covers must not make a new event of an old call.
    fn signed_key(&self, keys: &mut Keys) {
        let hidden = self.matched_reading().is_some_and(|reading| reading.seams == Seams::Hidden);
        let output = self.matched.as_ref().and_then(|matched| matched.output.as_ref());
        if let Some(output) = output.filter(|_| hidden) {
            let key = keys.begin();
            key.push(2);
            key.extend_from_slice(output.bytes());
        }
    }

    /// A de-duplication key: which key and which of its texts, then for each placeholder its place
    /// in the text, its length and its value, so that no two callbacks run into one.
    fn key(
        &self,
        which: u8,
        texts: &[RoleText<Bound>],
        text: &Text<Bound>,
        keys: &mut Keys,
    ) -> Result<(), Unreadable> {
        let index = texts.iter().position(|known| std::ptr::eq(&raw const known.of, text));
        let kind = self.kind.map_or(0, |kind| kind + 1);
        let small = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        let key = keys.begin();
        key.extend_from_slice(&[which, small(index.unwrap_or_default()), small(kind)]);
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
        Ok(())
    }

    /// The texts of `role`: those of the reading that matched, of the kind, or of the file.
    fn role_texts(&self, role: Role) -> &'a [RoleText<Bound>] {
        let reading = self.matched_reading().map(|reading| &reading.roles);
        let kind = self.kind_here().map(|kind| &kind.roles);
        let layers: [Option<&'a Roles<Bound>>; 3] = [reading, kind, Some(&self.recipe.roles)];
        layers
            .into_iter()
            .flatten()
            .find_map(|roles| roles.texts.get(role))
            .map_or(&[], Vec::as_slice)
    }

    fn role_text(&self, role: Role) -> Result<Option<Made<'_>>, Unreadable> {
        self.first_made(self.role_texts(role))
    }

    /// The value of `role`, if the callback has it.
    pub(super) fn role(&self, role: Role) -> Result<Option<Cow<'_, [u8]>>, Unreadable> {
        Ok(self.role_text(role)?.map(|(value, _)| value))
    }

    /// The first text that can be made and is not empty.
    fn first_made<'s>(
        &'s self,
        texts: &'s [RoleText<Bound>],
    ) -> Result<Option<Made<'s>>, Unreadable> {
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
    fn made<'s>(&'s self, text: &'s Text<Bound>) -> Result<Option<Cow<'s, [u8]>>, Unreadable> {
        let context = Context { plus: self.plus(), ..Context::default() };
        if let [Piece::Value(spot)] = text.pieces.as_slice() {
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
    ) -> Result<Option<Cow<'s, [u8]>>, Unreadable> {
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
                let is_recut =
                    || recut.iter().any(|name| *name == unreplaced::shown(parameter.name));
                covers.parameter(*slot, steps, parameter.place, parameter.name) && !is_recut()
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
            if value.is_empty() || !own.into_iter().any(|own| *own == *value) {
                let name = ours.of.spots().next().map_or("", |spot| &spot.name);
                return Err(Refusal::of(Reason::NotOurs, name));
            }
        }
        Ok(())
    }

    /// Refuses an item or amount that differs from the source's own table.
    fn pinned<'t>(&self, role: impl Fn(Role) -> &'t [u8]) -> Result<(), Refusal> {
        if self.recipe.rewards.is_empty() {
            return Ok(());
        }
        let text = |of| str::from_utf8(role(of)).unwrap_or_default();
        let (item, amount) = (text(Role::Item), text(Role::Amount));
        let pinned = self.recipe.rewards.get(item);
        if pinned.is_some_and(|pinned| same_amount(pinned, amount)) {
            return Ok(());
        }
        let about = if pinned.is_some() { Role::Amount } else { Role::Item };
        Err(Refusal::of(Reason::PinnedReward, about.as_str()))
    }

    /// The source's template, resolved, as a JSON object of texts.
    fn put_template(
        &self,
        event_id: &dyn fmt::Display,
        unresolved: &mut Vec<String>,
        to: &mut Vec<u8>,
    ) {
        let event_id = Some(event_id);
        let said = Said { reason: None, at_ms: self.now_ms, countersign: "", code: "", event_id };
        let context = Context { plus: self.plus(), said: Some(&said), ..Context::default() };
        let mut object = JsonObject::begin(to);
        let mut out = Vec::new();
        for (name, text) in &self.recipe.template {
            out.clear();
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
            put_json_text(object.name(name.as_bytes()), &out);
        }
        object.end();
    }

    /// The value of `role` as far as it can be read, whether or not the callback is genuine: to be
    /// looked for by, and for nothing else.
    #[must_use]
    pub fn says(&self, role: Role) -> Option<String> {
        let value = self.role(role).ok()??;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// The parameters as received, as a JSON object: what people may see of a refused callback.
    /// Claims are masked, and so is whatever could be one under a name that nobody reads: a right
    /// signature whose name is misspelt is as good as one that was never used.
    #[must_use]
    pub fn params(&self) -> Box<RawValue> {
        let mut out = Vec::new();
        self.put_params(&mut out, Strangers::Guarded);
        let text = String::from_utf8(out).unwrap_or_default();
        RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }

    fn put_params(&self, out: &mut Vec<u8>, strangers: Strangers) {
        let (parameters, buffers) = self.side(Scope::Message);
        let plus = self.plus();
        let mut object = JsonObject::begin(out);
        for (index, (slot, parameter)) in parameters.iter_known(buffers).enumerate() {
            // What was read stands once in its place; of two places the first counts.
            let once = self.unreadable.is_none() && parameter.place == Place::Query;
            let mut earlier = parameters.iter(buffers).take(index);
            if !once && earlier.any(|other| other.name == parameter.name) {
                continue;
            }
            let out = match slot {
                Some(slot) => object.member(self.recipe.names.member(slot)),
                None => object.name(parameter.name),
            };
            let text = self.shown_text(parameters, &parameter, plus);
            let is_claim = match slot {
                Some(slot) => self.recipe.claims.contains(&slot),
                None => strangers == Strangers::Guarded && may_be_claim(&text),
            };
            if is_claim || self.is_secret(&text) {
                put_json_text(out, MASK.as_bytes());
            } else if parameter.place == Place::Json {
                let json = self.without_inner_claim(slot, parameter.raw);
                out.extend_from_slice(str::from_utf8(&json).unwrap_or("null").as_bytes());
            } else {
                put_json_text(out, &text);
            }
        }
        object.end();
    }
}

impl Callback<'_> {
    /// The decoded text of `parameter`; what cannot be decoded is empty.
    fn shown_text<'p>(
        &self,
        parameters: &Parameters,
        parameter: &Parameter<'p>,
        plus: Plus,
    ) -> Cow<'p, [u8]> {
        match parameter.place {
            Place::Query | Place::Form if parameters.is_plain() => Cow::Borrowed(parameter.raw),
            place => {
                let value = Value { place, raw: Cow::Borrowed(parameter.raw) };
                value.into_text(plus).ok().flatten().unwrap_or_default()
            }
        }
    }

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

/// What is shown of parameters that no text of the sender's file reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strangers {
    /// All of it.
    Shown,
    /// Nothing that could be a claim.
    Guarded,
}

/// The shortest signature of any sender, in characters: those that are cut keep eight.
const CLAIM_LEN_MIN: usize = 8;

/// Whether a value is written as signatures are: nothing but characters of hex or base64, digits
/// among them.
fn may_be_claim(value: &[u8]) -> bool {
    let written = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
    let text = value.trim_ascii();
    text.len() >= CLAIM_LEN_MIN
        && text.iter().all(written)
        && text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_alphabetic)
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

/// What is not UTF-8 in `text` is replaced.
fn put_lossy(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        out.extend_from_slice(String::from_utf8_lossy(text).as_bytes());
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
