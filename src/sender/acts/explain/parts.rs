//! Mistakes in what is signed: a part too many or too few, another order, other separators.

use std::rc::Rc;

use crate::sender::acts::evaluate;
use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{
    Arrangement, Content, Draft, Field, Item, Presence, Side,
};
use crate::sender::acts::explain::record::encoded;
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::acts::signature::Pairs;
use crate::sender::language::bound::Scope;
use crate::sender::language::definition::Each;

/// Texts of so few parts are tried in every order: 120 of five.
const PERMUTED_MAX: usize = 5;

/// Parts of which every two are tried left out or swapped: 780 of forty.
const PAIRED_MAX: usize = 40;

/// A signed parameter that was left out.
pub(super) fn left_out(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let places: Vec<usize> =
        draft.places().into_iter().filter(|&index| !draft.items[index].is_secret()).collect();
    for &index in &places {
        if budget.is_spent() {
            return None;
        }
        let name = &draft.items[index].name;
        if case.matches(&draft.without(index), budget) {
            let advice = Advice::new(
                format!("`{name}` was omitted from the signed text: sign it too."),
                format!("`{name}` 没有参与签名：请将它也加入待签名字符串。"),
            );
            return Some(Mistake::new(MistakeKind::ParameterNotSigned, Some(name), advice));
        }
    }
    None
}

/// Two signed parameters that were left out, or all that the sender's file does not name.
pub(super) fn several_left_out(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let places: Vec<usize> =
        draft.places().into_iter().filter(|&index| !draft.items[index].is_secret()).collect();
    unknown_left_out(case, &places, budget).or_else(|| two_left_out(case, &places, budget))
}

/// Everything that the sender's file does not name was left out.
fn unknown_left_out(case: &Case<'_>, places: &[usize], budget: &mut Budget) -> Option<Mistake> {
    let recipe = case.callback.recipe;
    let is_known = |item: &Item| {
        let slot = recipe.names.find(item.name.as_bytes());
        slot.is_some_and(|slot| usize::from(slot) < recipe.file_slots)
    };
    let unknown: Vec<usize> =
        places.iter().copied().filter(|&index| !is_known(&case.draft.items[index])).collect();
    if unknown.len() < 2 {
        return None;
    }
    let mut draft = case.draft.clone();
    unknown.iter().for_each(|&index| draft.item_mut(index).presence = Presence::Dropped);
    if !case.matches(&draft, budget) {
        return None;
    }
    let names: Vec<_> =
        unknown.iter().map(|&index| format!("`{}`", case.draft.items[index].name)).collect();
    let advice = Advice::new(
        format!("{} were omitted: sign every parameter that is sent.", names.join(", ")),
        format!("{} 没有参与签名：发送的每个参数都要签名。", names.join("、")),
    );
    Some(Mistake::new(MistakeKind::ParameterNotSigned, None, advice))
}

fn two_left_out(case: &Case<'_>, places: &[usize], budget: &mut Budget) -> Option<Mistake> {
    if places.len() > PAIRED_MAX {
        return None;
    }
    for (at, &one) in places.iter().enumerate() {
        for &other in &places[at + 1..] {
            if budget.is_spent() {
                return None;
            }
            let mut draft = case.draft.clone();
            draft.item_mut(one).presence = Presence::Dropped;
            draft.item_mut(other).presence = Presence::Dropped;
            if case.matches(&draft, budget) {
                let (one, other) = (&case.draft.items[one].name, &case.draft.items[other].name);
                let advice = Advice::new(
                    format!("`{one}` and `{other}` were omitted from the signed text: sign both."),
                    format!("`{one}` 和 `{other}` 没有参与签名：请将两者都加入待签名字符串。"),
                );
                return Some(Mistake::new(MistakeKind::ParameterNotSigned, Some(one), advice));
            }
        }
    }
    None
}

/// A parameter that the rule does not sign was signed.
pub(super) fn extra(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let extras = extras(case);
    for item in &extras {
        for place in placements(&case.draft, item) {
            if budget.is_spent() {
                return None;
            }
            let mut draft = case.draft.clone();
            draft.items.insert(place, Rc::new(item.clone()));
            if case.matches(&draft, budget) {
                let name = &item.name;
                let advice = Advice::new(
                    format!(
                        "`{name}` was signed, and the sender does not sign it: omit it from the \
                         signed text."
                    ),
                    format!("`{name}` 参与了签名，而发送方不对它签名：请从待签名字符串中去掉。"),
                );
                return Some(Mistake::new(MistakeKind::ExtraParameterSigned, Some(name), advice));
            }
        }
    }
    if extras.len() < 2 || !case.matches(&with_extras(&case.draft, &extras), budget) {
        return None;
    }
    let names: Vec<_> = extras.iter().map(|item| format!("`{}`", item.name)).collect();
    let advice = Advice::new(
        format!("{} were signed: omit them from the signed text.", names.join(", ")),
        format!("{} 参与了签名：请从待签名字符串中去掉。", names.join("、")),
    );
    Some(Mistake::new(MistakeKind::ExtraParameterSigned, None, advice))
}

/// The parameters that came and are not signed, as items of the text.
pub(super) fn extras(case: &Case<'_>) -> Vec<Item> {
    let callback = case.callback;
    let draft = &case.draft;
    let supplied_signatures = &callback.recipe.supplied_signatures;
    let each =
        case.variant.pairs.as_ref().map_or_else(Default::default, |pairs: &Pairs| pairs.each);
    let (parameters, buffers) = callback.side(Scope::Outer);
    let labelled = draft.is_labelled();
    let body = callback.request.body;
    let has_body = !body.is_empty() && !draft.items.iter().any(|item| item.name == "body");
    let body = has_body.then(|| Item {
        between: draft.between(),
        label: Vec::new(),
        within: Vec::new(),
        name: "body".to_owned(),
        content: Content::Field(Field::plain(body)),
        presence: Presence::Signed,
        side: Side::Outside,
    });
    parameters
        .iter(buffers)
        .filter(|parameter| {
            let slot = callback.recipe.names.find(parameter.name);
            let is_signature_field = slot.is_some_and(|slot| supplied_signatures.contains(&slot));
            let is_signed = draft.items.iter().any(|item| item.name.as_bytes() == parameter.name);
            !is_signature_field && !is_signed
        })
        // One that is empty, and whose name is not signed, would leave but its separator.
        .filter(|parameter| labelled || !evaluate::is_empty(*parameter))
        .filter_map(|parameter| {
            Some(Item {
                between: draft.between(),
                label: if labelled { encoded(parameter.name, each) } else { Vec::new() },
                within: if labelled { draft.within() } else { Vec::new() },
                name: String::from_utf8_lossy(parameter.name).into_owned(),
                content: Content::Field(Field::parameter(parameter, each, case.variant.plus)?),
                presence: Presence::Signed,
                side: draft.side(),
            })
        })
        .chain(body)
        .collect()
}

/// The text with every extra in its place.
pub(super) fn with_extras(draft: &Draft, extras: &[Item]) -> Draft {
    let mut draft = draft.clone();
    for item in extras {
        let place = placements(&draft, item).first().copied().unwrap_or_default();
        draft.items.insert(place, Rc::new(item.clone()));
    }
    draft
}

/// Where an extra may have been put: by name, in front of the secret, at the end, in front.
fn placements(draft: &Draft, item: &Item) -> Vec<usize> {
    let len = draft.items.len();
    let mut places = Vec::new();
    places.extend(sorted_place(draft, &item.label));
    if let Some(secret) = draft.secret() {
        places.push(secret);
        places.push(secret + 1);
    }
    places.extend([len, 0]);
    let mut once = Vec::new();
    for place in places {
        if !once.contains(&place) {
            once.push(place);
        }
    }
    once
}

/// The position of `label` in a text sorted by name; `None` if it is not sorted. Parts after the
/// sorted names, such as the secret, keep their position.
fn sorted_place(draft: &Draft, label: &[u8]) -> Option<usize> {
    if label.is_empty() {
        return None;
    }
    let labels: Vec<&[u8]> = draft.items.iter().map(|item| item.label.as_slice()).collect();
    let sorted = labels.windows(2).take_while(|two| two[0] <= two[1]).count() + 1;
    if sorted + 1 < labels.len() {
        return None;
    }
    Some(labels[..sorted.min(labels.len())].iter().take_while(|one| **one < label).count())
}

/// The parts in another order.
pub(super) fn order(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let places = draft.places();
    for (order, about) in orders(draft, &places) {
        let differs = order != places || draft.arrangement == Arrangement::Sorted;
        if differs && case.matches(&draft.ordered(&order), budget) {
            let advice = in_order(draft).after(
                &format!("The parts were signed {}:", about.en),
                &format!("各部分签名时{}：", about.zh),
            );
            return Some(Mistake::new(MistakeKind::Order, None, advice));
        }
    }
    resorted(case, budget)
        .or_else(|| bare_secret(case, budget))
        .or_else(|| permuted(case, &places, budget))
}

/// Values that are tried in the places of others.
const EXCHANGED_MAX: usize = 400;

/// Another parameter was signed in the place of one.
pub(super) fn other_parameter(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let (parameters, buffers) = case.callback.side(Scope::Outer);
    let supplied = &case.callback.recipe.supplied_signatures;
    let others: Vec<_> = parameters
        .iter_known(buffers)
        .filter(|(slot, _)| slot.is_none_or(|slot| !supplied.contains(&slot)))
        .filter_map(|(_, other)| {
            let name = String::from_utf8_lossy(other.name).into_owned();
            Some((name, Field::parameter(other, Each::Decoded, case.variant.plus)?))
        })
        .collect();
    let mut left = EXCHANGED_MAX;
    for index in draft.places() {
        let item = &draft.items[index];
        // A whole query or body is not a parameter.
        let Some(field) = item.field().filter(|field| field.place.is_some()) else { continue };
        for (name, other) in others.iter().filter(|(name, _)| *name != item.name) {
            if left == 0 || budget.is_spent() {
                return None;
            }
            let texts = texts_of(draft, field, name, other);
            for text in texts.into_iter().filter(|text| *text != field.text) {
                left = left.saturating_sub(1);
                if left > 0 && case.matches(&draft.with(index, item.saying(text)), budget) {
                    let own = &item.name;
                    let advice = Advice::new(
                        format!(
                            "`{name}` was signed in the place of `{own}`: sign the value of \
                             `{own}` there."
                        ),
                        format!(
                            "在 `{own}` 的位置上签的是 `{name}` 的值：请在该处使用 `{own}` 的值。"
                        ),
                    );
                    return Some(Mistake::new(MistakeKind::OtherParameter, Some(own), advice));
                }
            }
        }
    }
    None
}

/// The texts of the parameter called `name` in the place of `field`: under the rule of that place,
/// as it is, and as the rule signs it elsewhere.
fn texts_of(draft: &Draft, field: &Field, name: &str, other: &Field) -> Vec<Vec<u8>> {
    if field.is_raw() {
        return vec![other.raw.clone()];
    }
    let elsewhere = draft.items.iter().filter(|item| item.name == name);
    let elsewhere = elsewhere.filter_map(|item| item.field()).map(|field| field.text.clone());
    let mut texts: Vec<Vec<u8>> = field.rewritten(&other.decoded).into_iter().collect();
    for text in elsewhere.chain([other.decoded.clone()]) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// The order of the rule, as the second half of a sentence.
struct InOrder {
    en: String,
    zh: String,
}

impl InOrder {
    fn after(&self, en: &str, zh: &str) -> Advice {
        Advice::new(format!("{en} {}", self.en), format!("{zh}{}", self.zh))
    }
}

fn in_order(draft: &Draft) -> InOrder {
    if draft.arrangement == Arrangement::Sorted {
        return InOrder {
            en: "sort the values as bytes and join them.".to_owned(),
            zh: "请将各值按字节排序后连接。".to_owned(),
        };
    }
    let items: Vec<&Item> = draft.signed().collect();
    let Named { en, zh } = named(&items);
    InOrder {
        en: format!("put them in the order {en}."), zh: format!("请按 {zh} 的顺序排列。")
    }
}

/// Names of items, listed in both languages.
struct Named {
    en: String,
    zh: String,
}

fn named(items: &[&Item]) -> Named {
    let shown = items.get(..NAMED_MAX).unwrap_or(items).iter();
    let en: Vec<&str> = shown.clone().map(|item| item.name.as_str()).collect();
    let zh: Vec<&str> =
        shown.map(|item| if item.is_secret() { "密钥" } else { &item.name }).collect();
    let (more, others) = if items.len() > NAMED_MAX { (", …", " 等") } else { ("", "") };
    Named { en: format!("{}{more}", en.join(", ")), zh: format!("{}{others}", zh.join("、")) }
}

/// Names that one sentence holds.
const NAMED_MAX: usize = 12;

/// Orders that programs make, each with its name.
fn orders(draft: &Draft, places: &[usize]) -> Vec<(Vec<usize>, Phrase)> {
    let item = |index: usize| &draft.items[index];
    let by = |compare: &dyn Fn(&Item, &Item) -> std::cmp::Ordering| {
        let mut order = places.to_vec();
        order.sort_by(|&one, &other| compare(item(one), item(other)));
        order
    };
    let label = |one: &Item| match one.label.is_empty() {
        true => one.name.as_bytes().to_vec(),
        false => one.label.clone(),
    };
    let by_name = by(&|one, other| label(one).cmp(&label(other)));
    let any_case =
        by(&|one, other| label(one).to_ascii_lowercase().cmp(&label(other).to_ascii_lowercase()));
    let valued = by(&|one, other| text(one).cmp(text(other)));
    let reversed: Vec<usize> = places.iter().rev().copied().collect();
    let backwards: Vec<usize> = by_name.iter().rev().copied().collect();
    let last = |order: &[usize]| secret_at(draft, order, End::Last);
    let first = |order: &[usize]| secret_at(draft, order, End::Start);
    vec![
        (last(places), phrase("with the secret at the end", "密钥放在了末尾")),
        (first(places), phrase("with the secret in front", "密钥放在了开头")),
        (
            last(&by_name),
            phrase("sorted by name, the secret at the end", "按名称排序，密钥放在了末尾"),
        ),
        (
            first(&by_name),
            phrase("sorted by name, the secret in front", "按名称排序，密钥放在了开头"),
        ),
        (by_name, phrase("sorted by name", "按名称排序")),
        (
            last(&any_case),
            phrase(
                "sorted by name whatever its case, the secret at the end",
                "按名称排序（不分大小写），密钥放在了末尾",
            ),
        ),
        (any_case, phrase("sorted by name whatever its case", "按名称排序（不分大小写）")),
        (
            last(&valued),
            phrase("sorted by value, the secret at the end", "按值排序，密钥放在了末尾"),
        ),
        (valued, phrase("sorted by value", "按值排序")),
        (
            last(&backwards),
            phrase("sorted by name backwards, the secret at the end", "按名称倒序，密钥放在了末尾"),
        ),
        (backwards, phrase("sorted by name backwards", "按名称倒序")),
        (reversed, phrase("in reverse", "顺序颠倒")),
    ]
}

fn text(item: &Item) -> &[u8] {
    item.field().map_or(&[], |field| &field.text)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Start,
    Last,
}

fn secret_at(draft: &Draft, order: &[usize], end: End) -> Vec<usize> {
    let is_secret = |index: &&usize| draft.items[**index].is_secret();
    let secret = order.iter().find(is_secret).copied();
    let mut others: Vec<usize> = order.iter().filter(|index| !is_secret(index)).copied().collect();
    match end {
        End::Start => others.splice(0..0, secret),
        End::Last => others.splice(others.len().., secret),
    };
    others
}

/// The parts in the order in which they came, and the values sorted with the secret among them.
fn resorted(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let arrived = arrived(case);
    for order in [secret_at(draft, &arrived, End::Last), secret_at(draft, &arrived, End::Start)] {
        if case.matches(&draft.ordered(&order), budget) {
            let advice = in_order(draft)
                .after("The parts were signed in the order received:", "各部分按收到的顺序签名：");
            return Some(Mistake::new(MistakeKind::Order, None, advice));
        }
    }
    let mut sorted = draft.clone();
    sorted.arrangement = Arrangement::Sorted;
    if draft.arrangement == Arrangement::Sorted || !case.matches(&sorted, budget) {
        return None;
    }
    let advice =
        in_order(draft).after("The parts were sorted by value:", "各部分按值排序后才签名：");
    Some(Mistake::new(MistakeKind::Order, None, advice))
}

fn arrived(case: &Case<'_>) -> Vec<usize> {
    let (parameters, buffers) = case.callback.side(Scope::Outer);
    let names: Vec<&[u8]> = parameters.iter(buffers).map(|parameter| parameter.name).collect();
    let at = |index: &usize| {
        let name = case.draft.items[*index].name.as_bytes();
        names.iter().position(|known| *known == name).unwrap_or(names.len())
    };
    let mut order = case.draft.places();
    order.sort_by_key(at);
    order
}

/// The secret at one end, without a name or a separator of its own.
fn bare_secret(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    draft.secret()?;
    for end in [End::Last, End::Start] {
        for between in [Vec::new(), draft.between()] {
            let order = secret_at(draft, &draft.places(), end);
            let mut bare = draft.ordered(&order);
            let at = if end == End::Last { bare.items.len() - 1 } else { 0 };
            let item = bare.item_mut(at);
            // In its place and without a name, only its separator can be another one.
            if item.label.is_empty() && order == draft.places() {
                continue;
            }
            item.label.clear();
            item.within.clear();
            item.between.clone_from(&between);
            if let Some(next) = bare.items.get_mut(1).filter(|_| end == End::Start) {
                Rc::make_mut(next).between = between;
            }
            if case.matches(&bare, budget) {
                let (en, zh) =
                    if end == End::Last { ("end", "末尾") } else { ("front", "开头") };
                let advice = in_order(draft).after(
                    &format!("The secret was placed separately at the {en}:"),
                    &format!("密钥被单独放在{zh}："),
                );
                return Some(Mistake::new(MistakeKind::Order, None, advice));
            }
        }
    }
    None
}

/// Every order of few parts; of many, every two swapped and each one moved.
fn permuted(case: &Case<'_>, places: &[usize], budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let orders = if places.len() <= PERMUTED_MAX {
        permutations(places)
    } else if places.len() <= PAIRED_MAX {
        swapped(places)
    } else {
        Vec::new()
    };
    for order in orders {
        if budget.is_spent() {
            return None;
        }
        if case.matches(&draft.ordered(&order), budget) {
            let moved = order.iter().zip(places).find(|(one, other)| one != other);
            let name = moved.map(|(one, _)| draft.items[*one].name.as_str());
            let name =
                name.filter(|_| !moved.is_some_and(|(one, _)| draft.items[*one].is_secret()));
            let items: Vec<&Item> = order.iter().map(|&index| &*draft.items[index]).collect();
            let Named { en, zh } = named(&items);
            let advice = in_order(draft).after(
                &format!("The parts were signed in the order {en}:"),
                &format!("各部分按 {zh} 的顺序签名："),
            );
            return Some(Mistake::new(MistakeKind::Order, name, advice));
        }
    }
    None
}

fn permutations(places: &[usize]) -> Vec<Vec<usize>> {
    let Some((first, rest)) = places.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in permutations(rest) {
        for at in 0..=order.len() {
            let mut with = order.clone();
            with.insert(at, *first);
            all.push(with);
        }
    }
    all
}

fn swapped(places: &[usize]) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    for one in 0..places.len() {
        for other in one + 1..places.len() {
            let mut order = places.to_vec();
            order.swap(one, other);
            all.push(order);
        }
    }
    for from in 0..places.len() {
        for to in [0, places.len() - 1] {
            let mut order = places.to_vec();
            let moved = order.remove(from);
            order.insert(to, moved);
            all.push(order);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_parts_have_every_order_and_many_every_swap() {
        assert_eq!(permutations(&[0, 1, 2, 3]).len(), 24);
        assert!(permutations(&[0, 1, 2]).contains(&vec![2, 0, 1]));
        assert_eq!(swapped(&[0, 1, 2, 3, 4, 5]).len(), 15 + 12);
    }
}
