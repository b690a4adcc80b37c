//! Two common mistakes at once: the report names the first and describes the other.

use std::rc::Rc;

use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{Content, Draft, Field, Presence};
use crate::sender::acts::explain::{Mistake, MistakeKind, parts};
use crate::sender::request::encoding::{self, Plus};

/// A common change of the whole text.
struct TextChange {
    kind: MistakeKind,
    about: Phrase,
    of: fn(&Case<'_>, &Draft) -> Option<Draft>,
}

const SLIPS: &[TextChange] = &[
    TextChange {
        kind: MistakeKind::RawValues,
        about: phrase("values were signed as on the wire", "参数值按传输原文签名"),
        of: raw,
    },
    TextChange {
        kind: MistakeKind::DecodedValues,
        about: phrase("values were signed decoded", "参数值解码后才签名"),
        of: decoded,
    },
    TextChange {
        kind: MistakeKind::EmptyKept,
        about: phrase("empty parameters were signed", "空参数参与了签名"),
        of: kept,
    },
    TextChange {
        kind: MistakeKind::EmptyDropped,
        about: phrase("empty parameters were left out", "空参数被略去"),
        of: dropped,
    },
    TextChange {
        kind: MistakeKind::ExtraParameterSigned,
        about: phrase("every parameter was signed", "所有参数都参与了签名"),
        of: all,
    },
    TextChange {
        kind: MistakeKind::Order,
        about: phrase("the parts were sorted by name", "各部分按名称排序"),
        of: named,
    },
    TextChange {
        kind: MistakeKind::Order,
        about: phrase("the secret was put at the end", "密钥放在了末尾"),
        of: last,
    },
    TextChange {
        kind: MistakeKind::Order,
        about: phrase("the secret was put in front", "密钥放在了开头"),
        of: first,
    },
    TextChange {
        kind: MistakeKind::Separator,
        about: phrase("values alone were signed", "只对值签名，不含名称"),
        of: bare,
    },
];

/// Any two of the common changes.
pub(super) fn twice(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    for (at, one) in SLIPS.iter().enumerate() {
        let Some(draft) = (one.of)(case, &case.draft) else { continue };
        for other in &SLIPS[at + 1..] {
            if budget.is_spent() {
                return None;
            }
            let Some(draft) = (other.of)(case, &draft) else { continue };
            if case.matches(&draft, budget) {
                let (one_is, other_is) = (one.about, other.about);
                let advice = Advice::new(
                    format!("Two things differ: {}, and {}.", one_is.en, other_is.en),
                    format!("有两处不同：{}；{}。", one_is.zh, other_is.zh),
                );
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
