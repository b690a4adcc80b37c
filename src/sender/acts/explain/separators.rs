//! Mistakes between the parts: other separators, a name too many or none at all.

use std::rc::Rc;

use crate::sender::acts::explain::advice::{Advice, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{Draft, Item};
use crate::sender::acts::explain::{Mistake, MistakeKind};

/// Separators that programs write between two parts.
const BETWEENS: &[&str] =
    &["", "&", ",", ":", "_", "|", "-", ".", ";", " ", "\n", "+", "/", "#", "&amp;", ", "];

/// Signs that programs write between a name and its value.
const WITHINS: &[&str] = &["=", "", ":", "_", ","];

/// Other separators, a name too many or none at all.
pub(super) fn separator(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    single_gap(case, budget).or_else(|| ends(case, budget)).or_else(|| all_gaps(case, budget))
}

/// One separator is missing, or the secret has one of its own.
fn single_gap(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    for (nth, &index) in draft.places().iter().enumerate() {
        let item = &draft.items[index];
        let mut changed = Vec::new();
        if nth > 0 && !item.between.is_empty() {
            changed.push(Item { between: Vec::new(), ..Item::clone(item) });
        }
        if !item.within.is_empty() {
            changed.push(Item { within: Vec::new(), ..Item::clone(item) });
        }
        if !item.label.is_empty() {
            let bare = Item { label: Vec::new(), within: Vec::new(), ..Item::clone(item) };
            changed.push(bare);
        }
        if item.is_secret() {
            let own = BETWEENS
                .iter()
                .map(|b| Item { between: b.as_bytes().to_vec(), ..Item::clone(item) });
            changed.extend(own);
        }
        for item in changed {
            if budget.is_spent() {
                return None;
            }
            if case.matches(&draft.with(index, item), budget) {
                let item = &draft.items[index];
                let Rule { en, zh } = rule(draft);
                let advice = Advice::new(
                    format!("The text before `{}` was signed in another way: {en}", item.name),
                    format!("{}前面的写法不同：{zh}", item.in_chinese()),
                );
                return Some(separated(draft, index, advice));
            }
        }
    }
    None
}

fn separated(draft: &Draft, index: usize, advice: Advice) -> Mistake {
    let item = &draft.items[index];
    let name = (!item.is_secret()).then_some(item.name.as_str());
    Mistake::new(MistakeKind::Separator, name, advice)
}

/// The sender's own separators, in both languages.
struct Rule {
    en: String,
    zh: String,
}

fn rule(draft: &Draft) -> Rule {
    let en = |bytes: &[u8]| match bytes {
        [] => "nothing".to_owned(),
        bytes => format!("`{}`", String::from_utf8_lossy(bytes)),
    };
    let zh = |bytes: &[u8]| match bytes {
        [] => "不加分隔符".to_owned(),
        bytes => format!("用 `{}` 分隔", String::from_utf8_lossy(bytes)),
    };
    let (between, within) = (draft.between(), draft.within());
    if draft.is_labelled() {
        let en =
            format!("put {} between two parts and {} after a name.", en(&between), en(&within));
        let zh = format!("各部分之间{}，名称与值之间{}。", zh(&between), zh(&within));
        return Rule { en, zh };
    }
    Rule {
        en: format!("put {} between two parts, and sign no names.", en(&between)),
        zh: format!("各部分之间{}，且不对名称签名。", zh(&between)),
    }
}

/// A separator in front of the text or behind it.
fn ends(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let own = draft.between();
    for mark in [own.as_slice(), b"&", b"?", b"\n", b"\r\n", b" ", b",", b":"] {
        if mark.is_empty() {
            continue;
        }
        let mut behind = draft.clone();
        behind.tail.extend_from_slice(mark);
        let mut front = draft.clone();
        front.head.splice(0..0, mark.iter().copied());
        let (after, before) = (phrase("behind", "末尾"), phrase("in front of", "开头"));
        for (draft, place) in [(behind, after), (front, before)] {
            if case.matches(&draft, budget) {
                let mark = String::from_utf8_lossy(mark);
                let mark = mark.escape_debug();
                let advice = Advice::new(
                    format!("`{mark}` stood {} the signed text: remove it.", place.en),
                    format!("待签名字符串的{}多了 `{mark}`：请去掉。", place.zh),
                );
                return Some(Mistake::new(MistakeKind::Separator, None, advice));
            }
        }
    }
    None
}

/// Other separators throughout, with names or without, the secret's own kept or not.
fn all_gaps(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    for names in [Names::AsRuled, Names::Other] {
        for between in BETWEENS {
            for within in withins(draft, names) {
                for secret in [Own::Kept, Own::Changed] {
                    if budget.is_spent() {
                        return None;
                    }
                    let changed =
                        separated_by(draft, Separators { between, within }, names, secret);
                    if case.matches(&changed, budget) {
                        let Rule { en, zh } = rule(draft);
                        let advice = Advice::new(
                            format!("The text was signed with other separators: {en}"),
                            format!("签名时用了其他分隔符：{zh}"),
                        );
                        return Some(Mistake::new(MistakeKind::Separator, None, advice));
                    }
                }
            }
        }
    }
    None
}

/// Whether names are written as in the rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    AsRuled,
    Other,
}

/// Whether the secret keeps the separator before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Kept,
    Changed,
}

fn withins(draft: &Draft, names: Names) -> &'static [&'static str] {
    let written = draft.is_labelled() == (names == Names::AsRuled);
    if written { WITHINS } else { &[""] }
}

/// Separators of items, and of a name and its value.
#[derive(Clone, Copy)]
struct Separators<'s> {
    between: &'s str,
    within: &'s str,
}

fn separated_by(draft: &Draft, separators: Separators<'_>, names: Names, secret: Own) -> Draft {
    let Separators { between, within } = separators;
    let mut changed = draft.clone();
    let labelled = draft.is_labelled();
    for item in &mut changed.items {
        if item.is_secret() && secret == Own::Kept {
            continue;
        }
        let item = Rc::make_mut(item);
        item.between = between.as_bytes().to_vec();
        match names {
            Names::AsRuled if item.label.is_empty() => {}
            Names::AsRuled => item.within = within.as_bytes().to_vec(),
            Names::Other if labelled => {
                item.label.clear();
                item.within.clear();
            }
            Names::Other if item.is_secret() => {}
            Names::Other => {
                item.label = item.name.clone().into_bytes();
                item.within = within.as_bytes().to_vec();
            }
        }
    }
    changed
}
