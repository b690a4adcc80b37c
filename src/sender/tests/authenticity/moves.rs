//! Other callbacks under the signature of one: bytes moved between values, pairs merged and split,
//! values exchanged, renamed, left out, spelled otherwise, put in another place.

use super::call::{Call, Field, In, Style};
use super::lists;
use super::model::Variant;
use super::world::{Dice, Facts, Scene, name_of};
use crate::sender::language::bound::{Bound, Gateway, Input};
use crate::sender::language::definition::Reads;
use crate::sender::language::modifier::Modifier;
use crate::sender::language::text::Piece;
use crate::sender::language::vector::OwnedRequest;

/// Places where a text is looked for in another one.
const PLACES_MAX: usize = 24;

/// The original callback and others that verify under its signature, at most `most`.
pub(super) fn variants(
    scene: &Scene,
    original: &OwnedRequest,
    dice: &mut Dice,
    most: usize,
) -> Vec<Variant> {
    let mut all: Vec<Variant> = Variant::of(scene, original.clone()).into_iter().collect();
    let call = Call::of(original);
    let mut tried = std::collections::HashSet::from([original.clone().target]);
    let mut try_one = |request: OwnedRequest, all: &mut Vec<Variant>| {
        if request.body == original.body
            && request.headers == original.headers
            && !tried.insert(request.target.clone())
        {
            return;
        }
        all.extend(Variant::of(scene, request));
    };
    let as_spelled = [Call::as_spelled(original), Call::of(original).decoded()];
    let mut cut: Vec<Call> = (0..RECUTS).filter_map(|_| recut(scene, &call, dice)).collect();
    cut.extend((0..RECUTS).filter_map(|_| lists::recut(scene, &call, dice)));
    for moved in cut.into_iter().chain(as_spelled) {
        if let Some(request) = moved.request(Style::default(), dice) {
            try_one(request, &mut all);
        }
    }
    if let Some(request) = unescaped(original) {
        try_one(request, &mut all);
    }
    for moved in neighbours(scene, &call, dice) {
        if all.len() > most {
            break;
        }
        if let Some(request) = moved.request(Style::default(), dice) {
            try_one(request, &mut all);
        }
    }
    for _ in 0..most {
        let base = dice.below(all.len().max(1));
        let Some(base) = all.get(base) else { break };
        let mut call = Call::of(&base.request);
        for _ in 0..=dice.below(2) {
            change(scene, &mut call, dice);
        }
        let style = if dice.one_in(3) { Style::drawn(dice) } else { Style::default() };
        let Some(mut request) = call.request(style, dice) else { continue };
        if dice.one_in(12) {
            respell(&mut request, dice);
        }
        try_one(request, &mut all);
    }
    for moved in recased(scene, &call) {
        if let Some(request) = moved.request(Style::default(), dice) {
            try_one(request, &mut all);
        }
    }
    all
}

/// Cuts of one text into all of its values that are tried.
const RECUTS: usize = 24;

/// The same, where every one is looked for.
const RECUTS_MANY: usize = 600;

/// Other cuts of the signed text of `original`, many and each once, of values that the provider can
/// send by confirmed facts.
pub(super) fn recuts(scene: &Scene, original: &OwnedRequest, dice: &mut Dice) -> Vec<Variant> {
    let call = Call::of(original);
    let mut calls = lists::near(scene, &call);
    calls.extend(recased(scene, &call));
    for _ in 0..RECUTS_MANY {
        calls.extend(recut(scene, &call, dice));
        calls.extend(lists::recut(scene, &call, dice));
    }
    let mut tried = std::collections::HashSet::new();
    let fits = calls.into_iter().filter(|call| scene.fits(call, Facts::Confirmed));
    let mut requests = fits.filter_map(|call| call.request(Style::default(), &mut Dice::new(1)));
    let is_new = |request: &OwnedRequest| {
        let headers = format!("{:?}", request.headers);
        tried.insert((request.target.clone(), request.body.clone(), headers))
    };
    let mut new = Vec::new();
    let mut is_new = is_new;
    for request in requests.by_ref().filter(|request| is_new(request)) {
        new.extend(Variant::of(scene, request));
    }
    new
}

/// The call with a value in another case, where a text reads it in one case only.
fn recased(scene: &Scene, call: &Call) -> Vec<Call> {
    let spots = scene.recipe.variants.iter().flat_map(|variant| variant.of.spots());
    let is_of_case = |spot: &&Bound| {
        spot.modifiers.iter().any(|m| matches!(m, Modifier::Lower | Modifier::Upper))
    };
    let names = spots.filter(is_of_case).filter_map(|spot| name_of(&scene.recipe, spot));
    let fields = names.filter_map(|name| call.position(&name));
    let other = |at: usize, value: Vec<u8>| {
        let mut moved = call.clone();
        moved.fields[at].value = value;
        moved
    };
    fields
        .flat_map(|at| {
            let value = &call.fields[at].value;
            let first = value.iter().position(u8::is_ascii_alphabetic).unwrap_or_default();
            let mut one = value.clone();
            one.iter_mut().skip(first).take(1).for_each(|byte| *byte = flipped(*byte));
            let all = [value.to_ascii_lowercase(), value.to_ascii_uppercase(), one];
            all.into_iter().filter(move |other| other != value).map(move |value| other(at, value))
        })
        .collect()
}

/// A letter in the other case.
fn flipped(byte: u8) -> u8 {
    if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() }
}

/// Cuts the whole text of a variant elsewhere: each literal at any of its places, in order.
fn recut(scene: &Scene, call: &Call, dice: &mut Dice) -> Option<Call> {
    let variant = dice.pick(&scene.recipe.variants);
    if variant.pairs.is_some() || !variant.sorted.is_empty() {
        return None;
    }
    let mut parts: Vec<TextPart> = Vec::new();
    let mut text = Vec::new();
    let mut present = call.clone();
    for piece in &variant.of.pieces {
        let inner = match piece {
            Piece::Optional(inner) => inner.as_slice(),
            piece => std::slice::from_ref(piece),
        };
        let is_there = |piece: &Piece<Bound>| match piece {
            Piece::Value(spot) => {
                name_of(&scene.recipe, spot).is_some_and(|name| call.position(&name).is_some())
            }
            _ => true,
        };
        // An optional part may come or go, whatever it was.
        let is_optional = matches!(piece, Piece::Optional(_));
        let was = !is_optional || inner.iter().all(is_there);
        let goes = is_optional && dice.one_in(2);
        for piece in inner {
            match piece {
                Piece::Literal(bytes) => {
                    text.extend(bytes.iter().filter(|_| was));
                    parts.extend((!goes).then(|| TextPart::Literal(bytes.to_vec())));
                }
                Piece::Value(spot) if matches!(spot.input, Input::Gateway(Gateway::Secret)) => {
                    text.extend(SENTINEL);
                    parts.push(TextPart::Literal(SENTINEL.to_vec()));
                }
                Piece::Value(spot) => {
                    let name = name_of(&scene.recipe, spot).or_else(|| match &spot.input {
                        Input::Header(name) => Some(name.as_str().as_bytes().to_vec()),
                        _ => None,
                    })?;
                    let value = call.position(&name).map(|at| call.fields[at].value.clone());
                    text.extend(value.filter(|_| was).unwrap_or_default());
                    if goes {
                        present.remove(&name);
                    } else {
                        parts.push(TextPart::Value(name));
                    }
                }
                Piece::Optional(_) => return None,
            }
        }
    }
    cut_elsewhere(&merged(parts), &text, present, dice)
}

/// The parts with neighbouring literals as one: a value ends where all of that can stand.
fn merged(parts: Vec<TextPart>) -> Vec<TextPart> {
    let mut merged: Vec<TextPart> = Vec::new();
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(TextPart::Literal(last)), TextPart::Literal(next)) => last.extend(next),
            (_, part) => merged.push(part),
        }
    }
    merged
}

/// Cuts `text` into `parts`, each value at a place where what follows it can stand.
fn cut_elsewhere(parts: &[TextPart], text: &[u8], mut call: Call, dice: &mut Dice) -> Option<Call> {
    let mut at = 0;
    for (index, part) in parts.iter().enumerate() {
        match part {
            TextPart::Literal(bytes) => {
                text[at..].starts_with(bytes).then_some(())?;
                at += bytes.len();
            }
            TextPart::Value(name) => {
                let next: &[u8] = match parts.get(index + 1) {
                    Some(TextPart::Literal(bytes)) => bytes,
                    _ => b"",
                };
                let is_last = index + 1 == parts.len();
                let ends: Vec<usize> = (at..=text.len())
                    .take_while(|end| !text[at..*end].ends_with(SENTINEL))
                    .filter(|end| {
                        text[*end..].starts_with(next) && (!is_last || *end == text.len())
                    })
                    .collect();
                let end = *ends.get(dice.below(ends.len()))?;
                call.set(name, &text[at..end]);
                at = end;
            }
        }
    }
    (at == text.len()).then_some(call)
}

enum TextPart {
    Literal(Vec<u8>),
    Value(Vec<u8>),
}

/// Stands for the secret, which no value holds.
const SENTINEL: &[u8] = b"\0secret\0";

/// The callback with its query as the text that it decodes to, where that is a query.
fn unescaped(request: &OwnedRequest) -> Option<OwnedRequest> {
    let call = Call::of(request);
    let mut target = request.target.split(|byte| *byte == b'?').next()?.to_vec();
    for (at, field) in call.fields.iter().filter(|field| field.place == In::Query).enumerate() {
        target.push(if at == 0 { b'?' } else { b'&' });
        target.extend([&field.name[..], b"=", &field.value].concat());
    }
    target.iter().all(u8::is_ascii_graphic).then_some(OwnedRequest { target, ..request.clone() })
}

/// Every way to move bytes between two values that `between` stands between.
fn neighbours(scene: &Scene, call: &Call, dice: &mut Dice) -> Vec<Call> {
    let mut moved = Vec::new();
    let signed: Vec<usize> =
        (0..call.fields.len()).filter(|at| !scene.is_signature_field(&call.fields[*at])).collect();
    let mut literals = scene.literals.clone();
    literals.push(Vec::new());
    for one in &signed {
        for other in &signed {
            if one == other {
                continue;
            }
            for literal in &literals {
                moved.extend(cuts(call, *one, *other, literal));
            }
        }
    }
    // A few of each pair: a loop over all of them takes long for calls of many parameters.
    while moved.len() > 160 {
        moved.swap_remove(dice.below(moved.len()));
    }
    moved
}

fn cuts(call: &Call, one: usize, other: usize, literal: &[u8]) -> Vec<Call> {
    let (left, right) = (&call.fields[one].value, &call.fields[other].value);
    let joined = [left.as_slice(), literal, right].concat();
    let places = (0..=joined.len()).filter(|at| joined[*at..].starts_with(literal));
    let with = |at: usize| {
        let mut moved = call.clone();
        moved.fields[one].value = joined[..at].to_vec();
        moved.fields[other].value = joined[at + literal.len()..].to_vec();
        moved
    };
    places.filter(|at| *at != left.len()).take(PLACES_MAX).map(with).collect()
}

/// Changes one thing.
fn change(scene: &Scene, call: &mut Call, dice: &mut Dice) {
    let open: Vec<usize> =
        (0..call.fields.len()).filter(|at| !scene.is_signature_field(&call.fields[*at])).collect();
    if open.is_empty() {
        return;
    }
    let (one, other) = (*dice.pick(&open), *dice.pick(&open));
    match dice.below(11) {
        0 if one != other => merge(scene, call, Merge { into: one, from: other }, dice),
        1 => split(scene, call, one, dice),
        2 if one != other => {
            let literal = dice.pick(&scene.literals_or_nothing()).clone();
            let cuts = cuts(call, one, other, &literal);
            if !cuts.is_empty() {
                *call = dice.pick(&cuts).clone();
            }
        }
        3 if one != other => {
            let value = std::mem::take(&mut call.fields[one].value);
            call.fields[one].value = std::mem::replace(&mut call.fields[other].value, value);
        }
        4 => {
            call.fields.remove(one);
        }
        5 => {
            let name =
                if scene.names.is_empty() { b"z9" } else { dice.pick(&scene.names) as &[u8] };
            let value = match dice.below(3) {
                0 => scene.words.iter().find(|(n, _)| n == name).map(|(_, w)| w.clone()),
                1 => Some(Vec::new()),
                _ => Some(b"{x}".to_vec()),
            };
            let value = value.unwrap_or_else(|| scene.free(dice));
            call.set(name, &value);
        }
        6 if !scene.words.is_empty() => {
            let (name, word) = dice.pick(&scene.words);
            call.set(name, word);
        }
        7 => {
            let at = dice.below(call.fields.len());
            let field = call.fields.remove(at);
            call.fields.insert(dice.below(call.fields.len() + 1), field);
        }
        8 => elsewhere(scene, &mut call.fields[one]),
        9 => {
            // What one way of reading decodes, another does not.
            let mut value = Vec::new();
            super::call::escape(&call.fields[one].value, Style::drawn(dice), dice, &mut value);
            call.fields[one].value = value;
        }
        _ => {
            let names = [&call.fields[one].name[..], b"=", &call.fields[one].value].concat();
            call.fields[other].name.extend_from_slice(b"&");
            call.fields[other].name.extend(names);
        }
    }
}

impl Scene {
    fn literals_or_nothing(&self) -> Vec<Vec<u8>> {
        self.literals.iter().cloned().chain([Vec::new()]).collect()
    }

    /// The separators of pairs, and of a name and its value.
    fn pair_separators(&self, dice: &mut Dice) -> (Vec<u8>, Vec<u8>) {
        let shapes: Vec<_> = self
            .recipe
            .variants
            .iter()
            .filter_map(|variant| variant.pairs.as_ref())
            .map(|pairs| {
                let within = pairs.shape.within.as_deref().unwrap_or_default();
                (pairs.shape.between.to_vec(), within.to_vec())
            })
            .chain([(b"&".to_vec(), b"=".to_vec())])
            .collect();
        dice.pick(&shapes).clone()
    }
}

/// Indices of two fields to merge.
#[derive(Clone, Copy)]
struct Merge {
    into: usize,
    from: usize,
}

/// One value becomes the end of another, with its name as a list writes it.
fn merge(scene: &Scene, call: &mut Call, fields: Merge, dice: &mut Dice) {
    let Merge { into: one, from: other } = fields;
    let (between, within) = scene.pair_separators(dice);
    let field = call.fields[other].clone();
    let tail = match dice.below(3) {
        0 => [between.as_slice(), &field.name, &within, &field.value].concat(),
        1 => [dice.pick(&scene.literals_or_nothing()).as_slice(), &field.value].concat(),
        _ => [between.as_slice(), &field.value].concat(),
    };
    call.fields[one].value.extend(tail);
    call.fields.remove(other);
}

/// The end of a value becomes a value of its own.
fn split(scene: &Scene, call: &mut Call, one: usize, dice: &mut Dice) {
    let (between, within) = scene.pair_separators(dice);
    let value = call.fields[one].value.clone();
    let starts: Vec<usize> =
        (0..value.len()).filter(|at| value[*at..].starts_with(&between)).collect();
    if starts.is_empty() {
        return;
    }
    let start = *dice.pick(&starts);
    let tail = &value[start + between.len()..];
    let known = scene.names.iter().find(|name| tail.starts_with(name)).map(Vec::len);
    let end = (0..tail.len()).find(|at| tail[*at..].starts_with(&within));
    let Some(end) = (if within.is_empty() { known } else { end }) else { return };
    let (name, rest) = (tail[..end].to_vec(), tail[end + within.len()..].to_vec());
    if name.is_empty() || call.position(&name).is_some() {
        return;
    }
    let place = call.fields[one].place;
    call.fields[one].value.truncate(start);
    let field = Field { place, name, value: rest };
    let at = (one + 1).min(call.fields.len());
    call.fields.insert(at, field);
}

fn elsewhere(scene: &Scene, field: &mut Field) {
    let reads = |place| scene.sender.reads.contains(&place);
    field.place = match field.place {
        In::Query if reads(Reads::Form) => In::Form,
        In::Query if reads(Reads::Json) => In::Json,
        In::Form | In::Json if reads(Reads::Query) => In::Query,
        place => place,
    };
}

/// Spells the query as no writer does: pairs that are empty or have no value, escaped names.
fn respell(request: &mut OwnedRequest, dice: &mut Dice) {
    let target = &mut request.target;
    let Some(query) = target.iter().position(|byte| *byte == b'?') else { return };
    let marks: Vec<usize> =
        (query..target.len()).filter(|at| b"?&=".contains(&target[*at])).collect();
    let at = *dice.pick(&marks);
    match (dice.below(3), target[at]) {
        (0, b'&') => target.insert(at, b'&'),
        (1, b'=') if target.get(at + 1).is_none_or(|byte| *byte == b'&') => {
            target.remove(at);
        }
        (_, mark) if mark != b'=' && target.get(at + 1).is_some_and(u8::is_ascii_alphabetic) => {
            let escaped = format!("%{:02x}", target[at + 1]);
            target.splice(at + 1..at + 2, escaped.bytes());
        }
        _ => target.push(b'&'),
    }
}
