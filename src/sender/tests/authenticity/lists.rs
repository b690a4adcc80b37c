//! Lists of pairs under one signature: each separator in the signed text may be a border or data.
//! Nothing here knows which cuts the product takes for possible.

use super::call::{Call, Field, In};
use super::world::{Dice, Scene};
use crate::sender::acts::signature::{ListedValue, Pairs, Plan, SignatureVariant};
use crate::sender::language::definition::{Empty, Order};
use crate::sender::request::parameters::Place;

/// Cuts the list of a variant into other pairs. `None`: it has no list, or the cut is the same.
pub(super) fn recut(scene: &Scene, call: &Call, dice: &mut Dice) -> Option<Call> {
    let variant = dice.pick(&scene.recipe.variants);
    let pairs = variant.pairs.as_ref()?;
    match &pairs.plan {
        Plan::Listed(_) => listed(scene, variant, call, dice),
        Plan::Gathered { .. } => gathered(scene, pairs, call, dice),
    }
}

// === Lists of what came ===

/// The text of a list, and where its pairs begin.
struct Joined {
    text: Vec<u8>,
    /// The places of the original borders, each with the place of its field.
    borders: Vec<(usize, In)>,
}

fn gathered(scene: &Scene, pairs: &Pairs, call: &Call, dice: &mut Dice) -> Option<Call> {
    let (mut recut, joined, order) = taken_apart(scene, pairs, call)?;
    recut.fields.extend(other_pairs(scene, pairs, &joined, order, dice)?);
    Some(recut)
}

/// The callback without the pairs of the list, and the list.
fn taken_apart(scene: &Scene, pairs: &Pairs, call: &Call) -> Option<(Call, Joined, Order)> {
    let Plan::Gathered { places, except, order, .. } = &pairs.plan else { return None };
    let is_listed = |field: &&Field| {
        let place = match field.place {
            In::Query => Place::Query,
            In::Form => Place::Form,
            In::Json => Place::Json,
            _ => return false,
        };
        let is_left_out = except.iter().any(|one| one.takes(&field.name));
        let is_dropped = pairs.empty == Empty::Dropped && field.value.is_empty();
        places.contains(&place) && !is_left_out && !is_dropped && !scene.is_signature_field(field)
    };
    let mut fields: Vec<&Field> = call.fields.iter().filter(is_listed).collect();
    if *order == Order::Name {
        fields.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let within = pairs.shape.within.as_deref().unwrap_or_default();
    let joined = joined(&fields, &pairs.shape.between, within);
    let mut others = call.clone();
    others.fields.retain(|field| !is_listed(&field));
    Some((others, joined, *order))
}

/// Lists that differ in few borders: one or two that were data, and one or two that are data now.
pub(super) fn near(scene: &Scene, call: &Call) -> Vec<Call> {
    let mut all = Vec::new();
    for variant in &scene.recipe.variants {
        let Some(pairs) = variant.pairs.as_ref() else { continue };
        let Some((recut, joined, order)) = taken_apart(scene, pairs, call) else { continue };
        let between = &pairs.shape.between;
        let within = pairs.shape.within.as_deref().unwrap_or_default();
        if between.is_empty() || within.is_empty() {
            continue;
        }
        let was: Vec<usize> = joined.borders.iter().map(|(at, _)| *at).collect();
        let others = memchr::memmem::find_iter(&joined.text, between).map(|at| at + between.len());
        let others: Vec<usize> = others.filter(|at| !was.contains(at)).take(NEAR_MAX).collect();
        let mut cuts = ends_replaced(&joined, between, within);
        for on in few(&others).into_iter().filter(|on| !on.is_empty()) {
            for off in few(was.get(1..).unwrap_or_default()) {
                let kept = was.iter().filter(|at| !off.contains(at));
                let mut starts: Vec<usize> = kept.chain(&on).copied().collect();
                starts.sort_unstable();
                cuts.push(starts);
            }
        }
        let cuts = cuts.iter().filter_map(|starts| at_borders(pairs, &joined, order, starts));
        all.extend(cuts.map(|cut| {
            let mut recut = recut.clone();
            recut.fields.extend(cut);
            recut
        }));
    }
    all
}

/// The first borders, and behind any later separator all that keep the names in order: a value
/// holds a whole other end of the list.
fn ends_replaced(joined: &Joined, between: &[u8], within: &[u8]) -> Vec<Vec<usize>> {
    let Joined { text, borders } = joined;
    let name = |at: usize| {
        let end = memchr::memmem::find(&text[at..], within)?;
        Some(&text[at..at + end])
    };
    let all: Vec<usize> =
        memchr::memmem::find_iter(text, between).map(|at| at + between.len()).collect();
    let mut cuts = Vec::new();
    for kept in 1..=borders.len() {
        let first: Vec<usize> = borders[..kept].iter().map(|(at, _)| *at).collect();
        for (index, at) in all.iter().enumerate().filter(|(_, at)| **at > first[kept - 1]) {
            let mut starts = first.clone();
            for at in std::iter::once(at).chain(&all[index + 1..]) {
                let last = starts.last().and_then(|last| name(*last));
                if name(*at).is_some_and(|own| last.is_none_or(|last| last < own)) {
                    starts.push(*at);
                }
            }
            cuts.push(starts);
        }
    }
    cuts
}

/// Separators in values that are tried as borders.
const NEAR_MAX: usize = 14;

/// None, each one and each two of `of`.
fn few(of: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for (index, one) in of.iter().enumerate() {
        all.push(vec![*one]);
        all.extend(of[index + 1..].iter().map(|other| vec![*one, *other]));
    }
    all
}

/// The pairs that begin at `starts`, if their names are in order and none comes twice.
fn at_borders(
    pairs: &Pairs,
    joined: &Joined,
    order: Order,
    starts: &[usize],
) -> Option<Vec<Field>> {
    let Joined { text, borders } = joined;
    let between = pairs.shape.between.len();
    let within = pairs.shape.within.as_deref()?;
    let mut fields: Vec<Field> = Vec::new();
    for (index, at) in starts.iter().enumerate() {
        let end = starts.get(index + 1).map_or(text.len(), |next| next - between);
        let pair = text.get(*at..end)?;
        let name = memchr::memmem::find(pair, within).filter(|len| *len > 0)?;
        let (name, value) = (pair[..name].to_vec(), pair[name + within.len()..].to_vec());
        let fits = match order {
            Order::Name => fields.last().is_none_or(|last| last.name < name),
            Order::Given | Order::Macro => fields.iter().all(|known| known.name != name),
        };
        let place = borders.iter().rev().find(|(start, _)| start <= at)?.1;
        fits.then(|| fields.push(Field { place, name, value }))?;
    }
    Some(fields)
}

fn joined(fields: &[&Field], between: &[u8], within: &[u8]) -> Joined {
    let (mut text, mut borders) = (Vec::new(), Vec::new());
    for (index, field) in fields.iter().enumerate() {
        text.extend(between.iter().filter(|_| index > 0));
        borders.push((text.len(), field.place));
        text.extend([&field.name[..], within, &field.value].concat());
    }
    Joined { text, borders }
}

/// Other pairs that make the same text, names in order and none twice.
fn other_pairs(
    scene: &Scene,
    pairs: &Pairs,
    joined: &Joined,
    order: Order,
    dice: &mut Dice,
) -> Option<Vec<Field>> {
    let Joined { text, borders } = joined;
    let between = &pairs.shape.between;
    let within = pairs.shape.within.as_deref().unwrap_or_default();
    let mut starts: Vec<(usize, Vec<u8>)> = Vec::new();
    for at in 0..text.len() {
        let is_border = at == 0 || text[..at].ends_with(between);
        let was = borders.iter().any(|(start, _)| *start == at);
        let taken = at == 0 || if was { !dice.one_in(4) } else { dice.one_in(2) };
        if !is_border || !taken {
            continue;
        }
        let Some(name) = name_at(scene, &text[at..], within, dice) else { continue };
        let fits = match order {
            Order::Name => starts.last().is_none_or(|(_, last)| *last < name),
            Order::Given | Order::Macro => starts.iter().all(|(_, known)| *known != name),
        };
        let behind = starts
            .last()
            .is_none_or(|(start, last)| at >= start + last.len() + within.len() + between.len());
        if fits && behind {
            starts.push((at, name));
        }
    }
    let ends = starts.iter().skip(1).map(|(at, _)| at - between.len()).chain([text.len()]);
    let place = |at: usize| borders.iter().rev().find(|(start, _)| *start <= at).map(|b| b.1);
    let fields = starts.iter().zip(ends).map(|((at, name), end)| {
        let value = text.get(at + name.len() + within.len()..end)?.to_vec();
        Some(Field { place: place(*at)?, name: name.clone(), value })
    });
    fields.collect()
}

/// The name that a pair at the start of `text` would have.
fn name_at(scene: &Scene, text: &[u8], within: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let end = match within.is_empty() {
        false => memchr::memmem::find(text, within)?,
        // Nothing ends a name: a known one, or any length.
        true => {
            let known = scene.names.iter().filter(|name| text.starts_with(name)).map(Vec::len);
            known.max().unwrap_or_else(|| 1 + dice.below(8).min(text.len() - 1))
        }
    };
    (end > 0).then(|| text[..end].to_vec())
}

// === Lists of known names ===

/// One pair of a list: its name, and the text in front of its value.
struct Known {
    name: Vec<u8>,
    lead: Vec<u8>,
}

fn listed(scene: &Scene, variant: &SignatureVariant, call: &Call, dice: &mut Dice) -> Option<Call> {
    let pairs = variant.pairs.as_ref()?;
    let Plan::Listed(list) = &pairs.plan else { return None };
    let between = pairs.shape.between.len();
    let known = |value: &ListedValue, lead: &[u8]| match value {
        ListedValue::Parameter(slot) => {
            Some(Known { name: scene.recipe.names.name(*slot).to_vec(), lead: lead.to_vec() })
        }
        ListedValue::Ours(_) => None,
    };
    let list: Vec<Known> =
        list.iter().map(|one| known(&one.value, &one.lead)).collect::<Option<_>>()?;
    let mut text = Vec::new();
    let mut is_first = true;
    for Known { name, lead } in &list {
        let Some(at) = call.position(name) else { continue };
        let value = &call.fields[at].value;
        if value.is_empty() && pairs.empty == Empty::Dropped {
            continue;
        }
        let skipped = if std::mem::take(&mut is_first) { between.min(lead.len()) } else { 0 };
        text.extend([&lead[skipped..], value].concat());
    }
    let mut recut = call.clone();
    let mut open: Option<(&[u8], usize)> = None;
    for Known { name, lead } in &list {
        let from = open.map_or(0, |(_, start)| start);
        let lead = if open.is_none() { &lead[between.min(lead.len())..] } else { lead };
        let places: Vec<usize> = match open {
            None => text.starts_with(lead).then_some(0).into_iter().collect(),
            Some(_) if lead.is_empty() => (from..=text.len()).collect(),
            Some(_) => memchr::memmem::find_iter(&text[from..], lead).map(|at| from + at).collect(),
        };
        recut.remove(name);
        if places.is_empty() || dice.one_in(6) {
            continue;
        }
        let at = *dice.pick(&places);
        if let Some((before, start)) = open.replace((name, at + lead.len())) {
            set_as(&mut recut, call, before, &text[start..at]);
        }
    }
    let (last, start) = open?;
    set_as(&mut recut, call, last, &text[start..]);
    Some(recut)
}

/// Sets a value, beside those that the original callback has.
fn set_as(recut: &mut Call, original: &Call, name: &[u8], value: &[u8]) {
    let at = original.position(name);
    let place = at.or(original.fields.iter().position(|field| field.place != In::Header));
    let place = place.map_or(In::Query, |at| original.fields[at].place);
    recut.fields.push(Field { place, name: name.to_vec(), value: value.to_vec() });
}
