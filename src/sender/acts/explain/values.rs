//! Mistakes in values: raw or decoded, what `+` means, empty ones, rewritten ones.

use std::rc::Rc;

use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{Content, Draft, Field, Item, Presence};
use crate::sender::acts::explain::rewrite;
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::language::modifier::Modifier;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::parameters::Place;

/// A spelling of values, and its name in the advice.
struct Change {
    about: Phrase,
    value: fn(&Field) -> Option<Vec<u8>>,
    label: fn(&Item) -> Option<Vec<u8>>,
}

/// Which values were changed when it matched: one by name, or several.
pub(super) struct Found(Option<String>);

impl Found {
    /// The parameter, if it was one.
    pub(super) fn parameter(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The subject of a sentence.
    fn subject(&self) -> String {
        match &self.0 {
            Some(name) => format!("The value of `{name}`"),
            None => "The values".to_owned(),
        }
    }

    fn verb(&self) -> &'static str {
        if self.0.is_some() { "was" } else { "were" }
    }

    fn object(&self) -> &'static str {
        if self.0.is_some() { "it" } else { "them" }
    }

    /// The subject of a Chinese sentence.
    fn in_chinese(&self) -> String {
        match &self.0 {
            Some(name) => format!("参数 `{name}` 的值"),
            None => "各参数的值".to_owned(),
        }
    }
}

fn same_label(_: &Item) -> Option<Vec<u8>> {
    None
}

/// `+` signed as a space where it is a plus sign, and the reverse.
pub(super) fn plus(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let ours = case.variant.plus;
    let other = match ours {
        Plus::Space => Plus::Kept,
        Plus::Kept => Plus::Space,
    };
    let decoded = |field: &Field| {
        let text = field.decoded_with(other).filter(|_| !field.is_raw())?;
        field.rewritten(&text)
    };
    if let Some(found) = changed(case, budget, &decoded, &same_label) {
        return Some(plus_mistake(other, &found));
    }
    let blanked = |field: &Field| field.is_raw().then(|| replaced(&field.raw, b'+', b' '));
    if let Some(found) = changed(case, budget, &blanked, &same_label) {
        return Some(plus_mistake(Plus::Space, &found));
    }
    // `%2B`, decoded twice.
    let twice = |field: &Field| field.rewritten(&replaced(&field.decoded, b'+', b' '));
    if let Some(found) = changed(case, budget, &twice, &same_label) {
        return Some(plus_mistake(Plus::Space, &found));
    }
    on_the_way(case, budget)
}

/// `+` signed, and a space received: something on the way took the one for the other.
fn on_the_way(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let restored = |field: &Field| {
        if field.is_raw() {
            return Some(rewrite::swapped(&field.raw, b"%20", b"+"));
        }
        field.rewritten(&replaced(&field.decoded, b' ', b'+'))
    };
    let found = changed(case, budget, &restored, &same_label)?;
    let advice = Advice::new(
        format!(
            "{} {} signed with `+` where a space came: a proxy on the way took the plus sign for a \
             space. Have it pass on the query as it comes.",
            found.subject(),
            found.verb()
        ),
        format!(
            "{}签名时含 `+`，收到的却是空格：途中的代理把加号当成了空格。请让代理原样转发查询串。",
            found.in_chinese()
        ),
    );
    Some(Mistake::new(MistakeKind::PlusAsBlank, found.parameter(), advice))
}

fn plus_mistake(signed_as: Plus, found: &Found) -> Mistake {
    let (kind, advice) = match signed_as {
        Plus::Kept => (
            MistakeKind::PlusKept,
            Advice::new(
                format!(
                    "{} {} signed with `+` as a plus sign: decode `+` to a space before signing, \
                     or send a plus sign as %2B.",
                    found.subject(),
                    found.verb()
                ),
                format!(
                    "{}签名时把 `+` 当作加号：请在签名前将 `+` 解码为空格，或用 %2B 发送加号。",
                    found.in_chinese()
                ),
            ),
        ),
        Plus::Space => (
            MistakeKind::PlusAsBlank,
            Advice::new(
                format!(
                    "{} {} signed with a space in place of `+`: keep the plus sign in the signed \
                     text, or send a space as %20.",
                    found.subject(),
                    found.verb()
                ),
                format!(
                    "{}签名时把 `+` 换成了空格：请在待签名字符串中保留加号，或用 %20 发送空格。",
                    found.in_chinese()
                ),
            ),
        ),
    };
    Mistake::new(kind, found.parameter(), advice)
}

fn replaced(text: &[u8], from: u8, to: u8) -> Vec<u8> {
    text.iter().map(|byte| if *byte == from { to } else { *byte }).collect()
}

/// Values signed in another writing: as on the wire, encoded or decoded.
pub(super) fn raw_or_decoded(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    const ENCODED: &[Change] = &[
        Change { about: ON_WIRE, value: raw, label: raw_label },
        Change {
            about: phrase("as it stands on the wire, quotes included", "传输原文（含引号）"),
            value: quoted,
            label: same_label,
        },
        Change {
            about: phrase("percent-encoded", "百分号编码后的文本"),
            value: percented,
            label: raw_label,
        },
        Change {
            about: phrase("form-encoded", "表单编码后的文本"),
            value: formed,
            label: formed_label,
        },
        Change {
            about: phrase("percent-encoded in lower case", "小写百分号编码后的文本"),
            value: percented_low,
            label: raw_label,
        },
    ];
    const ON_WIRE: Phrase = phrase("as it stands on the wire", "传输原文");
    const ONCE: Phrase = phrase("decoded", "解码后的文本");
    const TWICE: Phrase = phrase("decoded twice", "解码两次后的文本");
    const DECODED: &[Change] = &[
        Change { about: ONCE, value: decoded, label: plain_label },
        Change { about: TWICE, value: decoded_twice, label: plain_label },
        Change { about: TWICE, value: rewritten_twice, label: same_label },
    ];
    for change in ENCODED {
        if let Some(found) = changed(case, budget, &change.value, &change.label) {
            let advice = Advice::new(
                format!(
                    "{} {} signed {}: decode {} before signing.",
                    found.subject(),
                    found.verb(),
                    change.about.en,
                    found.object()
                ),
                format!("{}按{}签名：请先解码再签名。", found.in_chinese(), change.about.zh),
            );
            return Some(Mistake::new(MistakeKind::RawValues, found.parameter(), advice));
        }
    }
    for change in DECODED {
        if let Some(found) = changed(case, budget, &change.value, &change.label) {
            let advice = Advice::new(
                format!(
                    "{} {} signed {}: sign {} as the sender writes {}.",
                    found.subject(),
                    found.verb(),
                    change.about.en,
                    found.object(),
                    found.object()
                ),
                format!("{}按{}签名：请按发送方的写法签名。", found.in_chinese(), change.about.zh),
            );
            return Some(Mistake::new(MistakeKind::DecodedValues, found.parameter(), advice));
        }
    }
    list_as_it_is(case, budget)
}

/// The list of pairs as it is, where the rule encodes it as a whole.
fn list_as_it_is(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    const ADVICE: Phrase = phrase(
        "The list of parameters was signed as it is: encode it again as a whole, as the sender \
         does.",
        "参数列表未经整体编码就参与了签名：请像发送方那样，将整个列表再编码一次。",
    );
    let bare = Draft { wrap: Box::default(), ..case.draft.clone() };
    let was_signed = !case.draft.wrap.is_empty() && case.matches(&bare, budget);
    was_signed.then(|| Mistake::new(MistakeKind::DecodedValues, None, ADVICE))
}

/// Values encoded twice before they were signed.
pub(super) fn encoded_twice(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    type Encode = fn(&[u8], &mut Vec<u8>);
    let ways: [[Encode; 2]; 4] = [
        [encoding::form, encoding::form],
        [encoding::percent, encoding::percent],
        [encoding::percent, encoding::form],
        [encoding::form, encoding::percent],
    ];
    for [first, second] in ways {
        let twice = |field: &Field| {
            field.place?;
            let mut once = Vec::new();
            first(&field.decoded, &mut once);
            // What has nothing to encode is the same as ever.
            if once == field.decoded {
                return None;
            }
            let mut out = Vec::new();
            second(&once, &mut out);
            Some(out)
        };
        if let Some(found) = changed(case, budget, &twice, &same_label) {
            let advice = Advice::new(
                format!(
                    "{} {} signed encoded twice: encode {} once at most, as the sender does.",
                    found.subject(),
                    found.verb(),
                    found.object()
                ),
                format!("{}签名前被编码了两次：请像发送方那样，最多编码一次。", found.in_chinese()),
            );
            return Some(Mistake::new(MistakeKind::EncodedTwice, found.parameter(), advice));
        }
    }
    None
}

/// Whether the rule signs the value encoded in some way, so that decoding is the mistake.
fn is_encoded(field: &Field) -> bool {
    field.is_raw() || field.text != field.decoded
}

/// Whether the rule signs only a part of the value, or another form of it.
fn is_reduced(field: &Field) -> bool {
    field.modifiers.iter().any(|modifier: &Modifier| modifier.is_lossy() && !modifier.is_decoder())
}

fn raw(field: &Field) -> Option<Vec<u8>> {
    if is_reduced(field) && field.raw == field.decoded {
        return None;
    }
    match (field.place?, field.raw.as_slice()) {
        (Place::Json, [b'"', inner @ .., b'"']) => Some(inner.to_vec()),
        (_, raw) => Some(raw.to_vec()),
    }
}

fn quoted(field: &Field) -> Option<Vec<u8>> {
    (field.place == Some(Place::Json)).then(|| field.raw.clone())
}

fn percented(field: &Field) -> Option<Vec<u8>> {
    encoded(field, encoding::percent)
}

fn percented_low(field: &Field) -> Option<Vec<u8>> {
    encoded(field, encoding::percent).map(|text| rewrite::lower_escapes(&text))
}

fn formed(field: &Field) -> Option<Vec<u8>> {
    encoded(field, encoding::form)
}

fn encoded(field: &Field, encode: fn(&[u8], &mut Vec<u8>)) -> Option<Vec<u8>> {
    let whole = field.place.is_none();
    if whole || is_encoded(field) {
        return None;
    }
    let mut out = Vec::new();
    encode(&field.decoded, &mut out);
    Some(out)
}

fn decoded(field: &Field) -> Option<Vec<u8>> {
    if is_reduced(field) {
        return None;
    }
    match field.place {
        // A whole query or URL: it holds escapes that may be signed decoded.
        None => Some(encoding::unpercented(&field.text, Plus::Kept).into_owned()),
        Some(_) => Some(field.decoded.clone()),
    }
}

fn decoded_twice(field: &Field) -> Option<Vec<u8>> {
    let twice = encoding::unpercented(&field.decoded, Plus::Kept).into_owned();
    (twice != field.decoded).then_some(twice)
}

fn rewritten_twice(field: &Field) -> Option<Vec<u8>> {
    field.rewritten(&decoded_twice(field)?)
}

fn raw_label(item: &Item) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encoding::percent(item.name.as_bytes(), &mut out);
    Some(out)
}

fn formed_label(item: &Item) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    encoding::form(item.name.as_bytes(), &mut out);
    Some(out)
}

fn plain_label(item: &Item) -> Option<Vec<u8>> {
    Some(item.name.clone().into_bytes())
}

/// Tries the values that `value` changes: all of them, then one by one.
pub(super) fn changed(
    case: &Case<'_>,
    budget: &mut Budget,
    value: &dyn Fn(&Field) -> Option<Vec<u8>>,
    label: &dyn Fn(&Item) -> Option<Vec<u8>>,
) -> Option<Found> {
    let draft = &case.draft;
    let mut texts: Vec<(usize, Vec<u8>)> = Vec::new();
    for index in draft.places() {
        let item = &draft.items[index];
        let Some(field) = item.field() else { continue };
        if !budget.work(field.raw.len()) {
            return None;
        }
        if let Some(text) = value(field).filter(|text| *text != field.text) {
            texts.push((index, text));
        }
    }
    if texts.len() > 1 {
        let all = with_all(draft, &texts, label);
        if case.matches(&all, budget) {
            return Some(Found(None));
        }
    }
    for (index, text) in &texts {
        if budget.is_spent() {
            return None;
        }
        let mut one = draft.with(*index, draft.items[*index].saying(text.clone()));
        if case.matches(&one, budget) {
            return Some(Found(Some(draft.items[*index].name.clone())));
        }
        // A name is written like its value, where it is written at all.
        let item = &one.items[*index];
        if let Some(label) = label(item).filter(|l| !item.label.is_empty() && *l != item.label) {
            one.item_mut(*index).label = label;
            if case.matches(&one, budget) {
                return Some(Found(Some(draft.items[*index].name.clone())));
            }
        }
    }
    None
}

fn with_all(
    draft: &Draft,
    texts: &[(usize, Vec<u8>)],
    label: &dyn Fn(&Item) -> Option<Vec<u8>>,
) -> Draft {
    let mut all = draft.clone();
    for (index, text) in texts {
        *all.item_mut(*index) = draft.items[*index].saying(text.clone());
    }
    for item in &mut all.items {
        if item.is_secret() || item.label.is_empty() {
            continue;
        }
        if let Some(label) = label(item).filter(|_| item.label.ends_with(item.name.as_bytes())) {
            Rc::make_mut(item).label = label;
        }
    }
    all
}

/// Empty parameters signed where the rule leaves them out, and the reverse.
pub(super) fn empties(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    const SIGNED: Phrase = phrase(
        "Empty parameters were signed: omit them from the signed text.",
        "空参数参与了签名：请从待签名字符串中略去。",
    );
    const OMITTED: Phrase = phrase(
        "Empty parameters were omitted: sign them with empty values.",
        "空参数被略去：请以空值参与签名。",
    );
    if let Some(names) = kept(case, budget) {
        let advice = match names.as_slice() {
            [] => SIGNED.into(),
            [name] => Advice::new(
                format!("`{name}` is empty and was signed: omit it from the signed text."),
                format!("`{name}` 为空却参与了签名：请从待签名字符串中略去。"),
            ),
            some => Advice::new(
                format!(
                    "One of {} is empty and was signed, and each makes the same text: omit empty \
                     parameters from the signed text.",
                    quoted_names(some, ", ")
                ),
                format!(
                    "{} 之一为空却参与了签名，且效果相同：请从待签名字符串中略去空参数。",
                    quoted_names(some, "、")
                ),
            ),
        };
        return Some(Mistake::new(MistakeKind::EmptyKept, only(&names), advice));
    }
    let names = dropped(case, budget)?;
    let advice = match names.as_slice() {
        [] => OMITTED.into(),
        [name] => Advice::new(
            format!("`{name}` is empty and was omitted: sign it with an empty value."),
            format!("`{name}` 为空而被略去：请以空值参与签名。"),
        ),
        some => Advice::new(
            format!(
                "One of {} is empty and was omitted, and each makes the same text: sign empty \
                 parameters with empty values.",
                quoted_names(some, ", ")
            ),
            format!(
                "{} 之一为空而被略去，且效果相同：请以空值对空参数签名。",
                quoted_names(some, "、")
            ),
        ),
    };
    Some(Mistake::new(MistakeKind::EmptyDropped, only(&names), advice))
}

/// The name, if there is one alone.
fn only(names: &[String]) -> Option<&str> {
    if let [name] = names { Some(name) } else { None }
}

fn quoted_names(names: &[String], between: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(between)
}

fn kept(case: &Case<'_>, budget: &mut Budget) -> Option<Vec<String>> {
    let draft = &case.draft;
    let empty: Vec<usize> =
        (0..draft.items.len()).filter(|&i| !draft.items[i].is_signed()).collect();
    some_of(case, budget, &empty, |draft, index| {
        draft.item_mut(index).presence = Presence::Signed;
    })
}

fn dropped(case: &Case<'_>, budget: &mut Budget) -> Option<Vec<String>> {
    let draft = &case.draft;
    let is_empty = |index: &usize| match &draft.items[*index].content {
        Content::Field(field) => field.text.is_empty(),
        Content::Secret(_) => false,
    };
    let empty: Vec<usize> = draft.places().into_iter().filter(is_empty).collect();
    some_of(case, budget, &empty, |draft, index| {
        draft.item_mut(index).presence = Presence::Dropped;
    })
}

/// Tries all of `places` changed, then each: the names of those that match alone, none for all.
fn some_of(
    case: &Case<'_>,
    budget: &mut Budget,
    places: &[usize],
    change: fn(&mut Draft, usize),
) -> Option<Vec<String>> {
    if places.len() > 1 {
        let mut all = case.draft.clone();
        places.iter().for_each(|index| change(&mut all, *index));
        if case.matches(&all, budget) {
            return Some(Vec::new());
        }
    }
    let mut names = Vec::new();
    for index in places {
        if budget.is_spent() {
            break;
        }
        let mut one = case.draft.clone();
        change(&mut one, *index);
        if case.matches(&one, budget) {
            names.push(case.draft.items[*index].name.clone());
        }
    }
    (!names.is_empty()).then_some(names)
}

/// A number, a JSON text or the case of letters, rewritten.
pub(super) fn reformatted(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let whole = |field: &Field| is_reduced(field).then(|| field.decoded.clone());
    if let Some(found) = changed(case, budget, &whole, &same_label) {
        let advice = Advice::new(
            format!(
                "{} {} signed whole, and the sender signs {} rewritten: see its page for how.",
                found.subject(),
                found.verb(),
                found.object()
            ),
            format!(
                "{}以全文参与了签名，而发送方签名的是改写后的值：写法见该发送方的页面。",
                found.in_chinese()
            ),
        );
        return Some(Mistake::new(MistakeKind::ValueReformatted, found.parameter(), advice));
    }
    for rewriting in rewrite::ALL {
        if budget.is_spent() {
            return None;
        }
        let value = |field: &Field| rewriting.of(field);
        if let Some(found) = changed(case, budget, &value, &same_label) {
            let advice = Advice::new(
                format!(
                    "{} {} signed {}: sign {} as sent.",
                    found.subject(),
                    found.verb(),
                    rewriting.about().en,
                    found.object()
                ),
                format!(
                    "{}签名前被改写：{}。请按发送的原样签名。",
                    found.in_chinese(),
                    rewriting.about().zh
                ),
            );
            return Some(Mistake::new(MistakeKind::ValueReformatted, found.parameter(), advice));
        }
    }
    whole_text(case, budget)
}

/// The whole text in lower or upper case.
fn whole_text(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    for material in &case.materials {
        let (Some(text), Some(key)) = (case.draft.written(material), case.key(material)) else {
            continue;
        };
        for (changed, about) in [
            (text.to_ascii_lowercase(), phrase("lower", "小写")),
            (text.to_ascii_uppercase(), phrase("upper", "大写")),
        ] {
            if changed != text && case.says(&changed, &key, budget) {
                let advice = Advice::new(
                    format!(
                        "The whole text was signed in {} case, the secret included: sign it as it \
                         is.",
                        about.en
                    ),
                    format!("整个字符串（包括密钥）以{}签名：请按原样签名。", about.zh),
                );
                return Some(Mistake::new(MistakeKind::ValueReformatted, None, advice));
            }
        }
    }
    None
}
