//! Sources to test, and callbacks drawn for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{Came, now, run};
use super::call::{Call, Field, In, Style};
pub(super) use super::dice::Dice;
use super::shapes::{Shape, form_of};
use super::twin::with_digests;
use crate::sender::acts::signature::{Plan, SignatureVariant};
use crate::sender::crypto::secret::Secret;
use crate::sender::language::bound::{Bound, Gate, Gateway, Input};
use crate::sender::language::condition::Subject;
use crate::sender::language::recipe::{LiveSecret, Protection, Terms};
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::vector::{OwnedRequest, Vector};
use crate::sender::{Catalog, Outcome, Recipe, Role, Sender, Signing};

/// A secret that no drawn value contains.
pub(super) const SECRET: &str = "SECRET-of-0123456789abcdefghijkl";

/// A callback that is accepted.
struct Sample<'s> {
    about: &'s str,
    request: &'s OwnedRequest,
    now_ms: i64,
}

/// Which shapes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Facts {
    All,
    Confirmed,
}

/// A source of a sender, and a callback of it that is accepted.
pub(super) struct Scene {
    pub(super) name: String,
    pub(super) about: String,
    pub(super) sender: Arc<Sender>,
    pub(super) terms: Terms,
    pub(super) recipe: Recipe,
    pub(super) request: OwnedRequest,
    pub(super) now_ms: i64,
    pub(super) shapes: BTreeMap<String, Shape>,
    together: Vec<String>,
    /// Whether the provider sorts the names of its queries.
    ascending: bool,
    /// The secret that the callback is signed under.
    secret: usize,
    /// First and last bytes of what stands between values.
    pub(super) separators: Vec<u8>,
    /// The literals between values.
    pub(super) literals: Vec<Vec<u8>>,
    /// Names that are read anywhere, on the wire.
    pub(super) names: Vec<Vec<u8>>,
    /// Words that conditions ask for, with the name they are asked of.
    pub(super) words: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Senders of which no scenes are drawn, each with a reason.
const NOT_DRAWN: &[(&str, &str)] = &[
    ("wechat-push", "a payment has a second signature, and the model knows the first one only"),
    ("adyen", "its values stand in a list, and the model signs members of objects only"),
    ("sendgrid", "its body is a list, which the model has no parameters of"),
];

/// A scene for each accepted vector of the catalog that can be signed here. Where a sender signs
/// with a private key, a keyed digest stands for it: coverage is the same.
pub(super) fn scenes() -> Vec<Scene> {
    let catalog = Catalog::embedded().unwrap();
    // A token is one value, signed as it is: there is nothing to draw, and nothing to sign it with.
    let is_drawn = |sender: &&Arc<Sender>| {
        sender.token.is_none() && NOT_DRAWN.iter().all(|(name, _)| *name != sender.name())
    };
    let scenes: Vec<Scene> = catalog.iter().filter(is_drawn).flat_map(of_sender).collect();
    assert!(scenes.len() >= 70, "{} scenes", scenes.len());
    scenes
}

/// The scenes of one sender.
pub(super) fn of_sender(sender: &Arc<Sender>) -> Vec<Scene> {
    let name = sender.name();
    let text = with_digests(sender.text());
    let twin = Sender::parse(name, &text).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
    let twin = Arc::new(twin);
    let accepted = sender.vectors.iter().filter(|vector| vector.expects("outcome", "accepted"));
    let keys = if twin.text() == sender.text() { Keys::OfVector } else { Keys::Own };
    accepted.filter_map(|vector| Scene::new(&twin, vector, keys)).collect()
}

/// The secrets of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// The keys of its vector.
    OfVector,
    /// One of the tests, in place of a public key.
    Own,
}

impl Scene {
    fn new(sender: &Arc<Sender>, vector: &Vector, keys: Keys) -> Option<Self> {
        let mut terms = vector.terms();
        terms.keys.clear();
        let is_public = |secret: &LiveSecret| secret.value.expose().starts_with(b"whpk_");
        if terms.unsigned || terms.secrets.iter().any(is_public) {
            return None;
        }
        if keys == Keys::Own || terms.secrets.is_empty() {
            terms.secrets = vec![secret("1", SECRET)];
        }
        Self::compiled(sender, terms, vector)
    }

    /// The same source and callback under another definition of its sender.
    pub(super) fn under(&self, sender: &Arc<Sender>, terms: Terms) -> Option<Self> {
        let recipe = Recipe::compile(sender, &terms).ok()?;
        let sample = Sample { about: &self.about, request: &self.request, now_ms: self.now_ms };
        let scene = Self::with(sender, terms, recipe, &sample);
        Some(Self { secret: self.secret, ..scene })
    }

    fn compiled(sender: &Arc<Sender>, terms: Terms, vector: &Vector) -> Option<Self> {
        let mut request = vector.request.clone();
        if sender.name() == "admob" {
            // The id of the key follows the signature, and none is here.
            let mut call = Call::of(&request);
            call.remove(b"key_id");
            request = call.request(Style::default(), &mut Dice::new(1))?;
        }
        let recipe = Recipe::compile(sender, &terms)
            .unwrap_or_else(|faults| panic!("{}, {}: {faults:?}", sender.name(), vector.about));
        if recipe.protection == Protection::Unsigned {
            return None;
        }
        let sample = Sample { about: &vector.about, request: &request, now_ms: now(vector) };
        let mut scene = Self::with(sender, terms, recipe, &sample);
        let call = Call::of(&scene.request);
        for secret in 0..scene.terms.secrets.len() {
            scene.secret = secret;
            let signed = scene.sign(&call, Style::default(), &mut Dice::new(1), None);
            let came = signed.map(|signed| run(&scene.recipe, &signed, scene.now_ms).outcome);
            if came == Some(Outcome::Accepted) {
                return Some(scene);
            }
        }
        panic!("{}: cannot be signed: {}", scene.name, scene.about)
    }

    fn with(sender: &Arc<Sender>, terms: Terms, recipe: Recipe, sample: &Sample<'_>) -> Self {
        let &Sample { about, request, now_ms } = sample;
        let file: toml::Table = sender.text().parse().unwrap();
        let table = file.get("shapes").and_then(toml::Value::as_table);
        let mut shapes = BTreeMap::new();
        let mut together = Vec::new();
        let ascending = table.is_some_and(|table| table.contains_key("ascending"));
        for (name, value) in table.into_iter().flatten() {
            match value {
                toml::Value::String(text) => {
                    let mut shape = Shape::read(text);
                    shape.confirmed |= terms.confirmed.contains(name);
                    shapes.insert(name.clone(), shape);
                }
                toml::Value::Array(names) if name == "together" => {
                    together = names.iter().map(|name| name.as_str().unwrap().into()).collect();
                }
                _ => {}
            }
        }
        let mut literals: Vec<Vec<u8>> = recipe.variants.iter().flat_map(literals_of).collect();
        literals.retain(|literal| !literal.is_empty());
        literals.sort();
        literals.dedup();
        let mut separators: Vec<u8> = recipe.variants.iter().flat_map(separators_of).collect();
        separators.sort_unstable();
        separators.dedup();
        let spots = spots_of(&recipe);
        let mut names: Vec<Vec<u8>> =
            spots.iter().filter_map(|spot| name_of(&recipe, spot)).collect();
        names.sort();
        names.dedup();
        Self {
            name: sender.name().to_owned(),
            about: about.to_owned(),
            sender: Arc::clone(sender),
            words: words_of(&recipe),
            request: request.clone(),
            terms,
            now_ms,
            shapes,
            together,
            ascending,
            secret: 0,
            separators,
            literals,
            names,
            recipe,
        }
    }

    /// The key that texts read `field` under.
    fn key_of(&self, field: &Field) -> String {
        let name = String::from_utf8_lossy(&field.name).into_owned();
        if field.place == In::Header {
            let own = format!("header.{name}");
            let known = self.shapes.keys().find(|key| key.eq_ignore_ascii_case(&own));
            return known.cloned().unwrap_or(own);
        }
        let renamed = self.recipe.renames.iter().find(|(_, wire)| **wire == name);
        renamed.map_or(name, |(key, _)| key.clone())
    }

    /// Whether the values of `call` are such that the provider can send them.
    pub(super) fn fits(&self, call: &Call, facts: Facts) -> bool {
        let counts = |shape: &Shape| facts == Facts::All || shape.confirmed;
        let value = |key: &str| {
            call.fields.iter().find(|field| self.key_of(field) == key).map(|f| f.value.as_slice())
        };
        let fits = self
            .shapes
            .iter()
            .filter(|(key, shape)| counts(shape) && self.reads(key) && !is_whole(key))
            .all(|(key, shape)| shape.fits(value(key), &self.separators));
        let bound = self.together.iter().all(|name| self.shapes.get(name).is_none_or(counts));
        let there = |name: &String| value(name).is_some_and(|value| !value.is_empty());
        let together = self.together.iter().filter(|name| there(name)).count();
        let query = call.fields.iter().filter(|field| field.place == In::Query);
        let names: Vec<&[u8]> = query
            .filter(|field| !self.is_signature_field(field))
            .map(|f| f.name.as_slice())
            .collect();
        let sorted = !self.ascending || names.windows(2).all(|two| two[0] < two[1]);
        // A time has the form of that of the vector, which is never drawn.
        let original = Call::of(&self.request);
        let times = self.recipe.time.iter().flat_map(|time| time.r#in.spots());
        let timely = times.filter(|spot| spot.modifiers.is_empty()).all(|spot| {
            let is_it = |field: &&Field| self.key_of(field).eq_ignore_ascii_case(&spot.name);
            let of = |call: &Call| call.fields.iter().find(is_it).map(|field| field.value.clone());
            match (of(call), of(&original)) {
                (Some(own), Some(theirs)) => form_of(&own) == form_of(&theirs),
                _ => true,
            }
        });
        fits && sorted && timely && (!bound || together == 0 || together == self.together.len())
    }

    pub(super) fn is_signature_field(&self, field: &Field) -> bool {
        let mut supplied_signatures =
            self.recipe.variants.iter().map(|variant| &variant.supplied.input);
        supplied_signatures.any(|input| match input {
            Input::Parameter { slot, steps, .. } => {
                let is_name = self.recipe.names.name(*slot) == field.name;
                field.place != In::Header && steps.is_empty() && is_name
            }
            Input::Header(name) => {
                field.place == In::Header && name.as_str().as_bytes() == field.name
            }
            _ => false,
        })
    }

    /// Whether `field` holds a time, what is sealed, or a list with the signature: not to be drawn.
    fn is_fixed(&self, field: &Field) -> bool {
        let key = self.key_of(field);
        let time = self.recipe.time.iter().flat_map(|time| time.r#in.spots());
        let ours = self.recipe.ours.iter().flat_map(|ours| ours.of.spots());
        let named = |spot: &Bound| spot.name.eq_ignore_ascii_case(&key);
        let listed = self.recipe.lists.iter().flat_map(Text::spots);
        let mut is_header = listed.filter_map(|spot| match &spot.input {
            Input::Header(name) => Some(name.as_str().as_bytes()),
            _ => None,
        });
        time.chain(ours).any(named)
            || self.sender.sealed_names().iter().any(|name| *name == key)
            || (field.place == In::Header && is_header.any(|name| name == field.name))
            || matches!(field.place, In::JsonRaw | In::XmlRaw)
            || self.shapes.get(&key).is_some_and(Shape::is_object)
    }

    /// A callback with other values, most of them such as the provider can send.
    pub(super) fn draw(&self, dice: &mut Dice) -> Call {
        let mut call = Call::of(&self.request);
        call.fields.retain(|field| !self.is_signature_field(field));
        for name in &self.names {
            let field = Field { place: In::Query, name: name.clone(), value: Vec::new() };
            let known = call.position(name).is_some() || self.is_signature_field(&field);
            if !known && !self.is_fixed(&field) && dice.one_in(4) {
                call.set(name, b"");
                let at = call.fields.len() - 1;
                call.fields[at].value = self.value(&call.fields[at].clone(), dice);
            }
        }
        let fields = std::mem::take(&mut call.fields);
        for mut field in fields {
            if self.is_fixed(&field) {
                call.fields.push(field);
                continue;
            }
            let may_go = self.shapes.get(&self.key_of(&field)).is_none_or(|s| s.may_be_absent);
            if may_go && dice.one_in(12) {
                continue;
            }
            if !dice.one_in(3) {
                field.value = self.value(&field, dice);
            }
            call.fields.push(field);
        }
        if self.ascending {
            call.fields.sort_by(|one, other| one.name.cmp(&other.name));
        }
        call
    }

    fn value(&self, field: &Field, dice: &mut Dice) -> Vec<u8> {
        let words: Vec<&Vec<u8>> =
            self.words.iter().filter(|(name, _)| *name == field.name).map(|(_, w)| w).collect();
        if !words.is_empty() && dice.one_in(2) {
            return dice.pick(&words).to_vec();
        }
        match self.shapes.get(&self.key_of(field)) {
            Some(shape) if !shape.is_free() && !dice.one_in(25) => {
                shape.draw(dice, &self.separators)
            }
            _ => self.free(dice),
        }
    }

    /// Any text: separators, names, what fits other shapes, letters.
    pub(super) fn free(&self, dice: &mut Dice) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..dice.below(5) {
            match dice.below(8) {
                7 => text.extend(self.tail(dice)),
                0 | 1 if !self.literals.is_empty() => {
                    text.extend(dice.pick(&self.literals).clone());
                }
                2 if !self.names.is_empty() => text.extend(dice.pick(&self.names).clone()),
                3 if !self.shapes.is_empty() => {
                    let shapes: Vec<&Shape> =
                        self.shapes.values().filter(|shape| !shape.is_free()).collect();
                    if !shapes.is_empty() {
                        text.extend(dice.pick(&shapes).draw(dice, &self.separators));
                    }
                }
                4 => text.extend(dice.text(b"&=,:.-_%+ {}|~;", 1)),
                _ => text.extend(dice.text(b"a1b2", 2)),
            }
        }
        text
    }

    /// The end of a signed text, so that a value can be read as the values behind it.
    fn tail(&self, dice: &mut Dice) -> Vec<u8> {
        let value = |key: &str, dice: &mut Dice| match self.shapes.get(key) {
            Some(shape) if !shape.is_free() => shape.draw(dice, &self.separators),
            _ => dice.text(b"ab1", 2),
        };
        let variant = dice.pick(&self.recipe.variants);
        let mut parts: Vec<Vec<u8>> = Vec::new();
        if variant.pairs.is_some() || variant.signed.chain.is_some() {
            let (between, within) = match &variant.pairs {
                Some(pairs) => (
                    pairs.shape.between.to_vec(),
                    pairs.shape.within.as_deref().unwrap_or_default(),
                ),
                None => (b"&".to_vec(), &b"="[..]),
            };
            for key in self.shapes.keys() {
                let value = value(key, dice);
                parts.push([&between, key.as_bytes(), within, &value].concat());
            }
        }
        let pieces = variant.of.pieces.iter().take_while(
            |piece| !matches!(piece, Piece::Value(spot) if matches!(spot.input, Input::Gateway(_))),
        );
        for piece in pieces {
            match piece {
                Piece::Literal(bytes) => parts.push(bytes.to_vec()),
                Piece::Value(spot) => parts.push(value(&spot.name, dice)),
                Piece::Optional(inner) if dice.one_in(2) => {
                    for piece in inner {
                        match piece {
                            Piece::Literal(bytes) => parts.push(bytes.to_vec()),
                            Piece::Value(spot) => parts.push(value(&spot.name, dice)),
                            Piece::Optional(_) => {}
                        }
                    }
                }
                Piece::Optional(_) => {}
            }
        }
        let from = dice.below(parts.len());
        parts.get(from..).unwrap_or_default().concat()
    }

    /// Whether the signed text of some variant has the value of `key` at a place of its own.
    pub(super) fn reads(&self, key: &str) -> bool {
        self.recipe.variants.iter().any(|variant| {
            let listed =
                matches!(variant.pairs.as_ref().map(|pairs| &pairs.plan), Some(Plan::Listed(_)));
            listed || variant.signed.chain.is_some() || variant.of.spots().any(|s| *s.name == *key)
        })
    }

    /// Signs `call`, by the variant at `variant` of the file or by the first that applies.
    pub(super) fn sign(
        &self,
        call: &Call,
        style: Style,
        dice: &mut Dice,
        variant: Option<usize>,
    ) -> Option<OwnedRequest> {
        let mut call = call.clone();
        call.fields.retain(|field| !self.is_signature_field(field));
        let request = call.request(style, dice)?;
        let signing = Signing { variant, secret: Some(self.secret), ..Signing::at(self.now_ms) };
        self.recipe.sign(&request, &signing).ok()
    }

    /// A drawn callback that verifies, with its result.
    pub(super) fn accepted(&self, dice: &mut Dice) -> Option<(OwnedRequest, Came)> {
        let call = self.draw(dice);
        let variants = self.recipe.variants.len();
        let variant = dice.one_in(2).then(|| dice.below(variants));
        let style = if dice.one_in(3) { Style::drawn(dice) } else { Style::default() };
        let request = self.sign(&call, style, dice, variant)?;
        let came = run(&self.recipe, &request, self.now_ms);
        (came.resolved.is_some()).then_some((request, came))
    }
}

/// Whether a shape is that of the whole URL or body, which the requests here always have.
fn is_whole(key: &str) -> bool {
    matches!(key, "url" | "body")
}

pub(super) fn secret(id: &str, value: &str) -> LiveSecret {
    LiveSecret { id: id.into(), value: Secret::new(value.as_bytes()), until_ms: None }
}

/// The literals between the values of a variant's texts.
fn literals_of(variant: &SignatureVariant) -> Vec<Vec<u8>> {
    fn of(pieces: &[Piece<Bound>], to: &mut Vec<Vec<u8>>) {
        for piece in pieces {
            match piece {
                Piece::Literal(bytes) => to.push(bytes.to_vec()),
                Piece::Value(_) => {}
                Piece::Optional(inner) => of(inner, to),
            }
        }
    }
    let mut literals = Vec::new();
    of(&variant.of.pieces, &mut literals);
    if let Some(pairs) = &variant.pairs {
        literals.push(pairs.shape.between.to_vec());
        literals.extend(pairs.shape.within.iter().map(|within| within.to_vec()));
        if let Plan::Listed(list) = &pairs.plan {
            literals.extend(list.iter().map(|listed| listed.lead.to_vec()));
            let bare = |lead: &[u8]| lead[pairs.shape.between.len().min(lead.len())..].to_vec();
            literals.extend(list.iter().map(|listed| bare(&listed.lead)));
        }
    } else if variant.signed.chain.is_some() {
        literals.extend([b"&".to_vec(), b"=".to_vec()]);
    }
    literals
}

/// The bytes that stand beside values in a variant's text.
fn separators_of(variant: &SignatureVariant) -> Vec<u8> {
    let mut separators = Vec::new();
    if let Some(pairs) = &variant.pairs {
        let within = pairs.shape.within.as_deref().unwrap_or_default();
        let named = |lead: &[u8]| lead[pairs.shape.between.len().min(lead.len())..].to_vec();
        let (between, mut leads) = (&pairs.shape.between, Vec::new());
        if let Plan::Listed(list) = &pairs.plan {
            leads = list.iter().map(|listed| named(&listed.lead)).collect();
        }
        separators.extend(between.first());
        separators.extend(within.last().or(between.last()));
        if between.is_empty() {
            separators.extend(leads.iter().filter_map(|lead| lead.first()));
        }
        if within.is_empty() {
            separators.extend(leads.iter().filter_map(|lead| lead.last()));
        }
        return separators;
    }
    if variant.signed.chain.is_some() {
        return vec![b'&', b'='];
    }
    // A literal between two values has both of its ends beside one.
    let mut flat: Vec<Piece<Bound>> = Vec::new();
    for piece in &variant.of.pieces {
        match piece {
            Piece::Optional(inner) => flat.extend(inner.iter().cloned()),
            piece => flat.push(piece.clone()),
        }
    }
    let is_value = |piece: Option<&Piece<Bound>>| {
        let secret = |spot: &Bound| matches!(spot.input, Input::Gateway(Gateway::Secret));
        matches!(piece, Some(Piece::Value(spot)) if !secret(spot))
    };
    for (at, piece) in flat.iter().enumerate() {
        let Piece::Literal(bytes) = piece else { continue };
        if at > 0 && is_value(flat.get(at - 1)) {
            separators.extend(bytes.first());
        }
        if is_value(flat.get(at + 1)) {
            separators.extend(bytes.last());
        }
    }
    separators
}

/// Every placeholder that says something of a callback.
fn spots_of(recipe: &Recipe) -> Vec<&Bound> {
    let mut spots: Vec<&Bound> = Vec::new();
    let layers = recipe.kinds.iter().map(|kind| &kind.roles).chain([&recipe.roles]);
    for layer in layers.chain(recipe.variants.iter().map(|variant| &variant.roles)) {
        for role in Role::ALL {
            let texts = layer.texts.get(role).map(Vec::as_slice).unwrap_or_default();
            spots.extend(texts.iter().flat_map(|text| text.of.spots()));
        }
    }
    for variant in &recipe.variants {
        spots.extend(variant.of.spots());
    }
    spots.extend(
        conditions_of(recipe)
            .into_iter()
            .flat_map(crate::sender::language::condition::Condition::spots),
    );
    spots
}

fn conditions_of(recipe: &Recipe) -> Vec<&crate::sender::language::condition::Condition<Bound>> {
    let gates = recipe.kinds.iter().map(|kind| &kind.when);
    let gates = gates.chain([&recipe.flag]).chain(recipe.variants.iter().map(|one| &one.when));
    gates
        .flat_map(|gate| match gate {
            Gate::Any(conditions) => conditions.as_slice(),
            Gate::Always | Gate::Never => &[],
        })
        .collect()
}

pub(super) fn name_of(recipe: &Recipe, spot: &Bound) -> Option<Vec<u8>> {
    match &spot.input {
        Input::Parameter { slot, steps, .. } if steps.is_empty() => {
            Some(recipe.names.name(*slot).to_vec())
        }
        _ => None,
    }
}

fn words_of(recipe: &Recipe) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut words = Vec::new();
    for condition in conditions_of(recipe)
        .into_iter()
        .flat_map(crate::sender::language::condition::Condition::parts)
    {
        if let Subject::Is(spot, word) = &condition.subject
            && let Some(name) = name_of(recipe, spot)
        {
            words.push((name, word.to_vec()));
        }
    }
    words
}
