//! Names of the publisher's own: the sender's console lets them be chosen, and the source does not
//! list them in `params`.

use crate::sender::acts::explain::advice::Advice;
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::acts::resolved::Role;
use crate::sender::language::bound::{Input, Scope};
use crate::sender::language::recipe::Recipe;
use crate::sender::request::Request;
use crate::sender::request::callback::Callback;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::Place;

/// Names that are exchanged at once.
const EXCHANGED_MAX: usize = 3;

/// Names of either side that are tried.
const NAMES_MAX: usize = 8;

/// Requests with other names that are tried.
const TRIED_MAX: usize = 600;

/// Names under which the signature would match.
pub(super) struct Renamed {
    pub(super) mistake: Mistake,
    pub(super) certainty: Certainty,
}

/// Whether anything else can explain the callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// Nothing: without these names the callback has no transaction.
    Needed,
    /// Other mistakes can.
    Possible,
}

/// A name of the file that did not come, and the one that came in its place.
#[derive(Clone, Copy, Debug)]
struct Exchange<'s> {
    slot: Slot,
    stranger: &'s [u8],
}

/// The names that came in the place of the sender's own, if the signature matches under them.
pub(super) fn names(callback: &Callback<'_>, budget: &mut Budget) -> Option<Renamed> {
    let recipe = callback.recipe;
    let strangers = strangers(callback);
    let lacking = lacking(callback);
    if strangers.is_empty() || lacking.is_empty() {
        return None;
    }
    let mut left = TRIED_MAX;
    for count in 1..=EXCHANGED_MAX.min(strangers.len()).min(lacking.len()) {
        for exchanges in assignments(&lacking, &strangers, count) {
            left = left.checked_sub(1).filter(|_| !budget.is_spent())?;
            if matches_with(callback, &exchanges, budget) {
                return Some(found(recipe, &exchanges));
            }
        }
    }
    None
}

/// Names that came in query or form and mean nothing to the sender's file.
fn strangers(callback: &Callback<'_>) -> Vec<Vec<u8>> {
    let recipe = callback.recipe;
    let (parameters, buffers) = callback.side(Scope::Outer);
    let is_pair = |place| matches!(place, Place::Query | Place::Form);
    let is_known = |slot: Slot| usize::from(slot) < recipe.file_slots;
    let all = parameters.iter_known(buffers).filter(|(slot, parameter)| {
        is_pair(parameter.place) && !slot.is_some_and(is_known) && !parameter.raw.is_empty()
    });
    all.map(|(_, parameter)| parameter.name.to_vec()).take(NAMES_MAX).collect()
}

/// Names of the file that did not come: those that are signed first, then those that an event
/// needs.
fn lacking(callback: &Callback<'_>) -> Vec<Slot> {
    let recipe = callback.recipe;
    let (parameters, _) = callback.side(Scope::Outer);
    let slots = (0..recipe.file_slots).filter_map(|slot| Slot::try_from(slot).ok());
    let mut lacking: Vec<Slot> = slots
        .filter(|slot| !parameters.has(*slot) && !recipe.supplied_signatures.contains(slot))
        .collect();
    let is_signed =
        |slot: Slot| recipe.variants.iter().any(|variant| variant.signed.reads_slot(slot));
    lacking.sort_by_key(|slot| (!is_signed(*slot), !is_needed(recipe, *slot)));
    lacking.truncate(NAMES_MAX);
    lacking
}

/// Whether the transaction is read from `slot`.
fn is_needed(recipe: &Recipe, slot: Slot) -> bool {
    let texts = recipe.roles.texts.get(Role::Transaction).into_iter().flatten();
    texts.flat_map(|text| text.of.spots()).any(|spot| match &spot.input {
        Input::Parameter { slot: own, .. } => *own == slot,
        _ => false,
    })
}

/// Every way to put `count` of the unknown names in the place of those that are `lacking`.
fn assignments<'s>(
    lacking: &'s [Slot],
    strangers: &'s [Vec<u8>],
    count: usize,
) -> Vec<Vec<Exchange<'s>>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, slot) in lacking.iter().enumerate() {
        for rest in assignments(&lacking[at + 1..], strangers, count - 1) {
            for stranger in strangers {
                if rest.iter().any(|used| used.stranger == stranger.as_slice()) {
                    continue;
                }
                let mut one = vec![Exchange { slot: *slot, stranger }];
                one.extend(rest.iter().copied());
                all.push(one);
            }
        }
        if all.len() > TRIED_MAX {
            break;
        }
    }
    all
}

/// Whether the signature matches once the names are those of the file.
fn matches_with(callback: &Callback<'_>, exchanges: &[Exchange<'_>], budget: &mut Budget) -> bool {
    let recipe = callback.recipe;
    let request = callback.request;
    // Written with other names, and read again.
    if !budget.work(2 * (request.target.len() + request.body.len())) {
        return false;
    }
    let at = request.target.len() - callback.query.len();
    let (path, query) = request.target.split_at(at);
    let target = [path, &with_names(recipe, query, exchanges)].concat();
    let is_form = callback.side(Scope::Outer).0.iter_places().any(|place| place == Place::Form);
    let body = match is_form {
        true => with_names(recipe, request.body, exchanges),
        false => request.body.to_vec(),
    };
    let request = Request { target: &target, body: &body, ..request };
    let mut renamed = recipe.read(request, callback.now_ms);
    renamed.use_keys(callback.keys);
    let cases = Case::all(&renamed);
    cases.iter().any(|case| case.matches(&case.draft, budget))
}

fn with_names(recipe: &Recipe, pairs: &[u8], exchanges: &[Exchange<'_>]) -> Vec<u8> {
    let written = pairs.split(|byte| *byte == b'&').map(|pair| {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let name = encoding::unpercented(&pair[..end], Plus::Space);
        let exchange = exchanges.iter().find(|exchange| exchange.stranger == &*name);
        match exchange {
            Some(exchange) => [recipe.names.name(exchange.slot), &pair[end..]].concat(),
            None => pair.to_vec(),
        }
    });
    written.collect::<Vec<_>>().join(&b'&')
}

fn found(recipe: &Recipe, exchanges: &[Exchange<'_>]) -> Renamed {
    let in_file = |exchange: &Exchange<'_>| {
        let wire = String::from_utf8_lossy(recipe.names.name(exchange.slot)).into_owned();
        let renamed = recipe.renames.iter().find(|(_, own)| **own == wire);
        renamed.map_or(wire, |(name, _)| name.clone())
    };
    let names: Vec<String> = exchanges.iter().map(in_file).collect();
    let pair = |(name, exchange): (&String, &Exchange<'_>)| {
        format!("{name} = \"{}\"", String::from_utf8_lossy(exchange.stranger))
    };
    let pairs: Vec<String> = names.iter().zip(exchanges).map(pair).collect();
    let lacking: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let verb = if lacking.len() == 1 { "is" } else { "are" };
    let pairs = pairs.join(", ");
    let advice = Advice::new(
        format!(
            "{} {verb} not there, and the signature is right under other names: write params = \
             {{ {pairs} }} in the source.",
            lacking.join(" and ")
        ),
        format!(
            "缺少 {}，而换用其他参数名后签名正确：请在来源中写入 params = {{ {pairs} }}。",
            lacking.join("、")
        ),
    );
    let needed = exchanges.iter().any(|exchange| is_needed(recipe, exchange.slot));
    let first = names.first().map(String::as_str);
    Renamed {
        mistake: Mistake::new(MistakeKind::RenamedParameter, first, advice),
        certainty: if needed { Certainty::Needed } else { Certainty::Possible },
    }
}
