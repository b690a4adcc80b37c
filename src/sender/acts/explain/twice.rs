//! Two common mistakes at once: the report names the first and describes the other.

use std::rc::Rc;

use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{Content, Draft, Field, Presence};
use crate::sender::acts::explain::{Mistake, MistakeKind, parts};
use crate::sender::request::encoding::{self, Plus};

/// A common change of the whole text.
struct TextChange {
    kind: MistakeKind,
    about: &'static str,
    of: fn(&Case<'_>, &Draft) -> Option<Draft>,
}

const SLIPS: &[TextChange] = &[
    TextChange {
        kind: MistakeKind::RawValues,
        about: "values were signed as on the wire",
        of: raw,
    },
    TextChange {
        kind: MistakeKind::DecodedValues,
        about: "values were signed decoded",
        of: decoded,
    },
    TextChange { kind: MistakeKind::EmptyKept, about: "empty parameters were signed", of: kept },
    TextChange {
        kind: MistakeKind::EmptyDropped,
        about: "empty parameters were left out",
        of: dropped,
    },
    TextChange {
        kind: MistakeKind::ExtraParameterSigned,
        about: "every parameter was signed",
        of: all,
    },
    TextChange { kind: MistakeKind::Order, about: "the parts were sorted by name", of: named },
    TextChange { kind: MistakeKind::Order, about: "the secret was put at the end", of: last },
    TextChange { kind: MistakeKind::Order, about: "the secret was put in front", of: first },
    TextChange { kind: MistakeKind::Separator, about: "values alone were signed", of: bare },
];

/// Any two of the common changes.
pub(super) fn twice(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    for (at, one) in SLIPS.iter().enumerate() {
        let Some(draft) = (one.of)(case, &case.draft) else { continue };
        for other in &SLIPS[at + 1..] {
            let Some(draft) = (other.of)(case, &draft) else { continue };
            if case.matches(&draft, budget) {
                let advice = format!("Two things differ: {}, and {}.", one.about, other.about);
                return Some(Mistake::new(one.kind, None, advice));
            }
        }
    }
    None
}

fn raw(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    texts(draft, |field| field.raw.clone())
}

fn decoded(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    texts(draft, |field| match field.place {
        Some(_) => field.decoded.clone(),
        None => encoding::unpercented(&field.text, Plus::Kept).into_owned(),
    })
}

fn texts(draft: &Draft, of: fn(&Field) -> Vec<u8>) -> Option<Draft> {
    let mut changed = draft.clone();
    let mut any = false;
    for item in &mut changed.items {
        if let Content::Field(field) = &mut Rc::make_mut(item).content {
            let text = of(field);
            any |= text != field.text;
            field.text = text;
        }
    }
    any.then_some(changed)
}

fn kept(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    let mut changed = draft.clone();
    let mut any = false;
    for item in changed.items.iter_mut().filter(|item| !item.is_signed()) {
        Rc::make_mut(item).presence = Presence::Signed;
        any = true;
    }
    any.then_some(changed)
}

fn dropped(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    let mut changed = draft.clone();
    let mut any = false;
    for item in &mut changed.items {
        if item.field().is_some_and(|field| field.text.is_empty()) && item.is_signed() {
            Rc::make_mut(item).presence = Presence::Dropped;
            any = true;
        }
    }
    any.then_some(changed)
}

fn all(case: &Case<'_>, draft: &Draft) -> Option<Draft> {
    let extras = parts::extras(case);
    (!extras.is_empty()).then(|| parts::with_extras(draft, &extras))
}

fn named(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    let mut order: Vec<usize> = draft.places();
    order.sort_by(|&one, &other| draft.items[one].name.cmp(&draft.items[other].name));
    let secret = order.iter().position(|&index| draft.items[index].is_secret());
    if let Some(at) = secret {
        let secret = order.remove(at);
        order.push(secret);
    }
    Some(draft.ordered(&order))
}

fn last(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    let secret = draft.secret()?;
    let mut order: Vec<usize> = draft.places().into_iter().filter(|&at| at != secret).collect();
    order.push(secret);
    Some(draft.ordered(&order))
}

fn first(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    let secret = draft.secret()?;
    let mut order = vec![secret];
    order.extend(draft.places().into_iter().filter(|&at| at != secret));
    Some(draft.ordered(&order))
}

fn bare(_: &Case<'_>, draft: &Draft) -> Option<Draft> {
    if !draft.is_labelled() {
        return None;
    }
    let mut changed = draft.clone();
    for item in &mut changed.items {
        let item = Rc::make_mut(item);
        item.label.clear();
        item.within.clear();
        item.between.clear();
    }
    Some(changed)
}
