//! Rounds over a sender file: callbacks are drawn and signed, and their values moved under the same
//! signature. What counts as authenticated must stay what it is, and one signature must not make two
//! events.
//!
//! What a signature covers is derived when a file is compiled. For the embedded senders the tests try
//! that in thousands of rounds; these few are for a user's own file. They take some milliseconds, are
//! the same in every run, and need a secret: files with private keys, sealed messages or second
//! signatures are left out.

use std::sync::Arc;

use super::prove::SOME_TIME_MS;
use super::resolved::{Fact, Resolved, Role};
use super::sign::Signing;
use crate::sender::language::definition::Sender;
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::recipe::{Also, Recipe, Replay, Terms};
use crate::sender::language::vector::{OwnedRequest, Vector};
use crate::sender::request::callback::{Judgement, Resolution};

/// Accepted vectors that callbacks are drawn from.
const VECTORS_MAX: usize = 6;

/// Callbacks drawn from each vector.
const ROUNDS: usize = 12;

/// Changes of each callback that are tried.
const CHANGES_MAX: usize = 160;

/// Texts that stand between values.
const SEPARATORS: [&str; 8] = ["", "&", "=", ":", "_", "-", ".", "|"];

/// Tries `sender` out, and says what must not be.
#[must_use]
pub fn try_out(sender: &Arc<Sender>) -> Vec<DefinitionError> {
    let accepted = sender.vectors.iter().filter(|vector| vector.expects("outcome", "accepted"));
    let mut trials = accepted.take(VECTORS_MAX).filter_map(|vector| Trial::of(sender, vector));
    trials.find_map(|trial| trial.run()).into_iter().collect()
}

/// A source of the sender, and a callback to draw others from.
struct Trial<'v> {
    recipe: Recipe,
    replayable: Replay,
    request: &'v OwnedRequest,
    now_ms: i64,
    /// The parameters whose values are drawn.
    names: Vec<String>,
}

/// Parameters to be set, or to be removed.
type Change<'c> = Vec<(&'c str, Option<String>)>;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end.max(1)
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }
}

impl<'v> Trial<'v> {
    fn of(sender: &Arc<Sender>, vector: &'v Vector) -> Option<Self> {
        let terms: Terms = vector.terms();
        let recipe = Recipe::compile(sender, &terms).ok()?;
        let has_second = recipe.kinds.iter().any(|kind| !matches!(kind.also, Also::None));
        if recipe.signable().is_err() || !recipe.is_signed() || recipe.open.is_some() || has_second
        {
            return None;
        }
        let now_ms = vector.now_ms.unwrap_or(SOME_TIME_MS);
        let names = recipe.drawn_names(&vector.request, now_ms);
        Some(Self { recipe, replayable: terms.replayable, request: &vector.request, now_ms, names })
    }

    fn run(&self) -> Option<DefinitionError> {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for round in 0..ROUNDS {
            let drawn = if round == 0 { Some(self.request.clone()) } else { self.drawn(&mut dice) };
            let signed =
                drawn.and_then(|one| self.recipe.sign(&one, &Signing::at(self.now_ms)).ok());
            let Some(signed) = signed else { continue };
            let Some(first) = self.event(&signed) else { continue };
            for changed in self.changes(&signed, &mut dice) {
                let other = self.event(&changed);
                let what = other.and_then(|other| self.disagreement(&first, &other));
                if let Some(what) = what {
                    const REMEDY: &str = "report it with the file: what a signature covers is \
                                          derived, and this must not be";
                    return Some(DefinitionError::new("signature", what, REMEDY));
                }
            }
        }
        None
    }

    /// The event that `request` makes, if it is accepted.
    fn event(&self, request: &OwnedRequest) -> Option<Box<Resolved>> {
        let mut callback = self.recipe.read(request.borrow(), self.now_ms);
        match callback.verify() {
            Judgement::Verified(mut verified) => match verified.resolve("evt_check") {
                Resolution::Event(resolved) => Some(resolved),
                _ => None,
            },
            _ => None,
        }
    }

    fn value(&self, request: &OwnedRequest, name: &str) -> String {
        let mut callback = self.recipe.read(request.borrow(), self.now_ms);
        // A body that cannot be read has no parameters.
        let _ = callback.read_body();
        callback.parameter(name).unwrap_or_default()
    }

    /// The callback of the vector with other values.
    fn drawn(&self, dice: &mut Dice) -> Option<OwnedRequest> {
        let mut request = self.request.clone();
        let known: Vec<String> =
            self.names.iter().map(|name| self.value(self.request, name)).collect();
        for name in &self.names {
            if dice.below(3) == 0 {
                continue;
            }
            let mut value = String::new();
            for _ in 0..=dice.below(3) {
                match dice.below(5) {
                    0 => value += dice.pick(&SEPARATORS),
                    1 => value += self.names.get(dice.below(self.names.len()))?,
                    2 => value += known.get(dice.below(known.len()))?,
                    3 => value += dice.pick(&["1", "23", "400", "5.00"]),
                    _ => value += dice.pick(&["a", "b1", "Cd"]),
                }
            }
            self.recipe.put_parameter(&mut request, &[name.as_str()], value.as_bytes()).ok()?;
        }
        Some(request)
    }

    /// The callback with values moved between its parameters, exchanged, and merged, under the same
    /// signature.
    fn changes(&self, signed: &OwnedRequest, dice: &mut Dice) -> Vec<OwnedRequest> {
        let values: Vec<String> = self.names.iter().map(|name| self.value(signed, name)).collect();
        let pairs = || self.names.iter().zip(&values).map(|(name, value)| (&**name, &**value));
        let mut all: Vec<Change<'_>> = Vec::new();
        for (left, one) in pairs() {
            all.push(vec![(left, None)]);
            for (right, other) in pairs().filter(|(name, _)| *name != left) {
                all.push(vec![(left, Some(other.to_owned())), (right, Some(one.to_owned()))]);
                for between in SEPARATORS {
                    all.extend(
                        cuts(one, between, other)
                            .map(|(one, other)| vec![(left, Some(one)), (right, Some(other))]),
                    );
                    for within in ["", "=", ":"] {
                        let merged = [one, between, right, within, other].concat();
                        all.push(vec![(left, Some(merged)), (right, None)]);
                    }
                }
            }
        }
        while all.len() > CHANGES_MAX {
            all.swap_remove(dice.below(all.len()));
        }
        all.iter().filter_map(|change| self.with(signed, change)).collect()
    }

    /// The callback with each of those parameters set, or removed.
    fn with(&self, signed: &OwnedRequest, change: &Change<'_>) -> Option<OwnedRequest> {
        let mut request = signed.clone();
        for (name, value) in change {
            match value {
                Some(value) => {
                    let path = [*name];
                    self.recipe.put_parameter(&mut request, &path, value.as_bytes()).ok()?;
                }
                None => self.recipe.remove_parameter(&mut request, name)?,
            }
        }
        Some(request)
    }

    /// The error of two callbacks that have one signature.
    fn disagreement(&self, one: &Resolved, other: &Resolved) -> Option<String> {
        let is_same_kind = one.kind() == other.kind();
        for role in [one, other].iter().flat_map(|event| event.authenticated()) {
            let values = (one.role(*role), other.role(*role));
            if values.0 != values.1 && (is_same_kind || !self.is_of_kind(*role)) {
                let role = role.as_str();
                return Some(format!(
                    "is said to cover `{role}`, and one is valid for {:?} and {:?}",
                    values.0.unwrap_or_default(),
                    values.1.unwrap_or_default()
                ));
            }
        }
        let covers = |fact| one.covered().contains(&fact) || other.covered().contains(&fact);
        if covers(Fact::Kind) && !is_same_kind {
            let (one, other) = (one.kind(), other.kind());
            return Some(format!(
                "is said to cover the kind, and one is valid for {one:?} and {other:?}"
            ));
        }
        let is_same_state = is_same_kind && one.is_test() == other.is_test();
        let repeats = self.recipe.repeats().is_some() || self.replayable == Replay::Accepted;
        let shares_key = one.identities().any(|key| other.identities().any(|known| known == key))
            || one.signature_keys().any(|key| other.signature_keys().any(|known| known == key));
        (is_same_state && !repeats && !shares_key).then(|| {
            String::from("makes two events: neither identity nor signature tells them apart")
        })
    }

    /// Whether a kind writes `role` in a way of its own.
    fn is_of_kind(&self, role: Role) -> bool {
        self.recipe.kinds.iter().any(|kind| kind.roles.texts.has(role))
    }
}

/// Other ways to cut `one` and `other` at `between`: a few characters to either side.
fn cuts<'t>(
    one: &'t str,
    between: &'t str,
    other: &'t str,
) -> impl Iterator<Item = (String, String)> + use<'t> {
    let joined = [one, between, other].concat();
    let near = one.len().saturating_sub(3)..=(one.len() + 3).min(joined.len());
    near.filter(move |at| *at != one.len()).filter_map(move |at| {
        let (left, right) = (joined.get(..at)?, joined.get(at..)?.strip_prefix(between)?);
        Some((left.to_owned(), right.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Catalog;

    #[test]
    fn the_rounds_find_nothing_in_the_catalog() {
        let catalog = Catalog::embedded().unwrap();
        let mut tried = 0;
        for sender in catalog.iter() {
            assert_eq!(try_out(sender), [], "{}", sender.name());
            tried += sender.vectors.iter().filter_map(|one| Trial::of(sender, one)).count();
        }
        assert!(tried > 150, "{tried}");
    }

    /// Moved values verify under one signature in many files: the rounds do reach them.
    #[test]
    fn the_rounds_find_callbacks_under_one_signature() {
        let catalog = Catalog::embedded().unwrap();
        for name in ["levelplay", "adcolony", "fyber", "tapjoy"] {
            let sender = catalog.get(name).unwrap();
            let vector = sender.vectors.iter().find(|one| one.expects("outcome", "accepted"));
            let trial = Trial::of(sender, vector.unwrap()).unwrap();
            let mut dice = Dice(7);
            let signed = trial.recipe.sign(trial.request, &Signing::at(trial.now_ms)).unwrap();
            let mut callback = |request: &OwnedRequest| {
                let mut callback = trial.recipe.read(request.borrow(), trial.now_ms);
                matches!(callback.verify(), Judgement::Verified(_))
            };
            let changes = trial.changes(&signed, &mut dice);
            assert!(changes.iter().any(&mut callback), "{name}: {}", changes.len());
        }
    }

    /// Two callbacks with a signature each, as if they had one: what would be wrong is said.
    #[test]
    fn a_disagreement_is_named() {
        let catalog = Catalog::embedded().unwrap();
        let sender = catalog.get("vungle").unwrap();
        let vector = sender.vectors.iter().find(|one| one.expects("outcome", "accepted"));
        let trial = Trial::of(sender, vector.unwrap()).unwrap();
        let event = |id: &str| {
            let mut request = trial.request.clone();
            trial.recipe.put_parameter(&mut request, &["txid"], id.as_bytes()).unwrap();
            let signed = trial.recipe.sign(&request, &Signing::at(trial.now_ms)).unwrap();
            trial.event(&signed).unwrap()
        };
        let (one, other) = (event("t-1"), event("t-2"));
        assert_eq!(trial.disagreement(&one, &one), None);
        let found = trial.disagreement(&one, &other).unwrap();
        assert!(found.starts_with("is said to cover `transaction`"), "{found}");
    }
}
