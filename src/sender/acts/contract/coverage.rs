//! Coverage of a sender's signature.
//!
//! Verifies the accepted vectors of the file, once under the facts as they are and once with all
//! unconfirmed shapes confirmed. Analyses the signed texts as the gateway does.

use std::sync::Arc;

use crate::sender::acts::parts::resolve_parts;
use crate::sender::acts::prove::SOME_TIME_MS;
use crate::sender::acts::resolved::{Fact, Resolved, Role};
use crate::sender::language::bound::Bound;
use crate::sender::language::definition::Sender;
use crate::sender::language::recipe::{Protection, Recipe};
use crate::sender::language::vector::Vector;
use crate::sender::request::callback::{Judgement, Resolution};

/// How many of the vectors that have something also prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    /// None.
    None,
    /// Some.
    Partly,
    /// All.
    Whole,
}

/// Coverage of a sender's signature, as its accepted vectors show.
pub(super) struct Coverage {
    samples: Vec<Sample>,
    /// Names whose shape is an assumption.
    unconfirmed: Vec<String>,
    /// Why kinds are not signed, and why the flag is not.
    unsigned: [Option<String>; 2],
}

/// An accepted vector of a source whose callbacks are signed.
struct Sample {
    pub(super) recipe: Recipe,
    pub(super) resolved: Box<Resolved>,
    /// The same under confirmed shapes, where some are not.
    confirmed: Option<Box<Resolved>>,
}

impl Coverage {
    pub(super) fn of(sender: &Arc<Sender>) -> Self {
        let unconfirmed: Vec<String> = sender.unconfirmed_shapes().map(str::to_owned).collect();
        let accepted = sender.vectors.iter().filter(|one| one.expects("outcome", "accepted"));
        let sample = |vector| {
            let (recipe, resolved) = resolved(sender, vector, &[])?;
            let confirmed = match unconfirmed.as_slice() {
                [] => None,
                names => resolved_again(sender, vector, names),
            };
            Some(Sample { recipe, resolved, confirmed })
        };
        let signed = |sample: &Sample| sample.recipe.protection == Protection::Signed;
        let kinds = sender.kinds.iter().filter_map(|kind| kind.unsigned.as_deref());
        let mut kinds: Vec<&str> = kinds.collect();
        kinds.dedup();
        let kinds = (!kinds.is_empty()).then(|| kinds.join("; "));
        let flag = sender.test.unsigned.as_deref().map(str::to_owned);
        Self {
            samples: accepted.filter_map(sample).filter(signed).collect(),
            unconfirmed,
            unsigned: [kinds, flag],
        }
    }

    /// The recipe of the first vector, for its signed texts.
    pub(super) fn recipe(&self) -> Option<&Recipe> {
        self.samples.first().map(|sample| &sample.recipe)
    }

    /// Whether the signatures cover `role`.
    pub(super) fn proof(&self, role: Role) -> Proof {
        let resolved: Vec<&Resolved> = self.samples.iter().map(|one| &*one.resolved).collect();
        proof_of(role, &resolved).unwrap_or_else(|| self.guess(role))
    }

    /// Whether `role` is covered, with the reason if not.
    pub(super) fn role(&self, role: Role) -> String {
        let found = self.proof(role);
        let confirmed = self.samples.iter().filter_map(|sample| sample.confirmed.as_deref());
        let confirmed = proof_of(role, &confirmed.collect::<Vec<_>>());
        let reason = match (found, confirmed) {
            (Proof::Whole, _) => return String::from("yes"),
            (Proof::Partly, Some(Proof::Whole)) => {
                format!("in all callbacks once {} confirmed", is_or_are(&self.unconfirmed))
            }
            (_, Some(better)) if better > found => {
                format!("only once {} confirmed", is_or_are(&self.unconfirmed))
            }
            _ => self.why_open(role),
        };
        let answer = if found == Proof::Partly { "partly" } else { "no" };
        format!("{answer}: {reason}")
    }

    /// Whether `fact` is covered.
    pub(super) fn fact(&self, fact: Fact) -> String {
        let found = self.fact_proof(fact);
        let why = self.unsigned[fact as usize].as_deref();
        match (found, why) {
            (Proof::Whole, _) => String::from("yes"),
            (Proof::Partly, None) => String::from("partly: not by every signature"),
            (Proof::Partly, Some(why)) => format!("partly: {why}"),
            (Proof::None, Some(why)) => format!("no: {why}"),
            (Proof::None, None) => String::from("no"),
        }
    }

    pub(super) fn fact_proof(&self, fact: Fact) -> Proof {
        let resolved = self.samples.iter().map(|sample| &*sample.resolved);
        proof(resolved, |one| one.covered().contains(&fact)).unwrap_or(Proof::None)
    }

    /// When the signature is a second key; `None`: never.
    pub(super) fn signature_key(&self) -> Option<&'static str> {
        let has_key = |one: &&Sample| one.resolved.signature_keys().next().is_some();
        let with = self.samples.iter().filter(has_key).count();
        match with {
            0 => None,
            all if all == self.samples.len() => {
                Some("always: the signature does not cover the identity")
            }
            _ => Some("if the signature does not cover the identity"),
        }
    }

    /// The proof of a role that no vector has, from the analysis of the texts.
    fn guess(&self, role: Role) -> Proof {
        let Some(recipe) = self.recipe() else { return Proof::None };
        let Some(texts) = recipe.roles.texts.get(role) else { return Proof::None };
        let mut spots = texts.iter().flat_map(|text| text.of.spots());
        let closed = |spot: &Bound| {
            recipe.variants.iter().all(|variant| variant.signed.always_covers(spot, recipe))
        };
        if spots.all(closed) { Proof::Whole } else { Proof::None }
    }

    /// Why the value of `role` can be another one under the same signature.
    fn why_open(&self, role: Role) -> String {
        let Some(recipe) = self.recipe() else { return String::from("nothing is signed") };
        if role == Role::Transaction && recipe.repeats().is_some() {
            return String::from("one signature is valid for several");
        }
        let texts = recipe.roles.texts.get(role).into_iter().flatten();
        let spots: Vec<&Bound> = texts.flat_map(|text| text.of.spots()).collect();
        let (mut some, mut all, mut lossy) = (false, true, false);
        let mut neighbours: Vec<String> = Vec::new();
        for variant in &recipe.variants {
            for spot in &spots {
                let places = variant.signed.places_of(spot, recipe);
                all &= !places.is_empty();
                for place in places {
                    some = true;
                    lossy |= variant.signed.is_lossy(place);
                    neighbours.extend(variant.signed.open_beside(place));
                }
            }
        }
        let own = |name: &String| spots.iter().any(|spot| *spot.name == **name);
        neighbours.retain(|name| !own(name));
        neighbours.sort_unstable();
        neighbours.dedup();
        match (some, all, lossy, neighbours.as_slice()) {
            (false, ..) => String::from("not signed"),
            (_, _, true, _) => String::from("signed in a form that other values share"),
            (_, false, ..) => String::from("not in every signature"),
            (_, _, _, []) => String::from("can be re-cut with an adjacent value"),
            (.., names) => format!("can be re-cut with {}", list(names)),
        }
    }
}

fn resolved(
    sender: &Arc<Sender>,
    vector: &Vector,
    confirmed: &[String],
) -> Option<(Recipe, Box<Resolved>)> {
    let mut terms = vector.terms();
    terms.confirmed.extend_from_slice(confirmed);
    let recipe = Recipe::compile(sender, &terms).ok()?;
    let now_ms = vector.now_ms.unwrap_or(SOME_TIME_MS);
    let mut callback = recipe.read(vector.request.borrow(), now_ms);
    let Judgement::Verified(mut verified) = callback.verify() else { return None };
    let resolution = match verified.resolve("evt") {
        Resolution::Several(parts) => resolve_parts(verified.callback, &parts, "evt").pop()?,
        whole => whole,
    };
    let Resolution::Event(resolved) = resolution else { return None };
    Some((recipe, resolved))
}

fn resolved_again(
    sender: &Arc<Sender>,
    vector: &Vector,
    confirmed: &[String],
) -> Option<Box<Resolved>> {
    resolved(sender, vector, confirmed).map(|(_, resolved)| resolved)
}

/// How far `role` is covered. A kind may have texts of its own: plain callbacks count, if there are
/// any with the role.
fn proof_of(role: Role, all: &[&Resolved]) -> Option<Proof> {
    let has = |one: &&&Resolved| one.role(role).is_some();
    let covers = |one: &Resolved| one.authenticated().contains(&role);
    let plain = |one: &&&Resolved| has(one) && one.kind() == Resolved::PLAIN_KIND;
    proof(all.iter().filter(plain).copied(), covers)
        .or_else(|| proof(all.iter().filter(has).copied(), covers))
}

/// How many of `all` are covered; `None` if there are none.
fn proof<'r>(
    all: impl Iterator<Item = &'r Resolved>,
    covers: impl Fn(&Resolved) -> bool,
) -> Option<Proof> {
    let found: Vec<bool> = all.map(covers).collect();
    Some(match found.iter().filter(|covered| **covered).count() {
        _ if found.is_empty() => return None,
        0 => Proof::None,
        some if some == found.len() => Proof::Whole,
        _ => Proof::Partly,
    })
}

/// A list of names, for prose.
pub(super) fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one, two, three, others @ ..] if others.len() > 1 => {
            format!("{one}, {two}, {three} and {} others", others.len())
        }
        [one] => one.clone(),
        [firsts @ .., last] => format!("{} and {last}", firsts.join(", ")),
    }
}

fn is_or_are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", list(names))
}
