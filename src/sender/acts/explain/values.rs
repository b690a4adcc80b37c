//! Mistakes in values: raw or decoded, what `+` means, empty ones, rewritten ones.

use std::rc::Rc;

use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{Content, Draft, Field, Item, Presence};
use crate::sender::acts::explain::rewrite;
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::language::modifier::Modifier;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::parameters::Place;

/// A spelling of values, and its name in the advice.
struct Change {
    about: &'static str,
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
    let advice = format!(
        "{} {} signed with `+` where a space came: a proxy on the way took the plus sign for a \
         space. Have it pass on the query as it comes.",
        found.subject(),
        found.verb()
    );
    Some(Mistake::new(MistakeKind::PlusAsBlank, found.parameter(), advice))
}

fn plus_mistake(signed_as: Plus, found: &Found) -> Mistake {
    let (kind, advice) = match signed_as {
        Plus::Kept => (
            MistakeKind::PlusKept,
            format!(
                "{} {} signed with `+` as a plus sign: decode `+` to a space before signing, or \
                 send a plus sign as %2B.",
                found.subject(),
                found.verb()
            ),
        ),
        Plus::Space => (
            MistakeKind::PlusAsBlank,
            format!(
                "{} {} signed with a space in place of `+`: keep the plus sign in the signed text, \
                 or send a space as %20.",
                found.subject(),
                found.verb()
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
        Change { about: "as it stands on the wire", value: raw, label: raw_label },
        Change {
            about: "as it stands on the wire, quotes included",
            value: quoted,
            label: same_label,
        },
        Change { about: "percent-encoded", value: percented, label: raw_label },
        Change { about: "form-encoded", value: formed, label: formed_label },
        Change { about: "percent-encoded in lower case", value: percented_low, label: raw_label },
    ];
    const DECODED: &[Change] = &[
        Change { about: "decoded", value: decoded, label: plain_label },
        Change { about: "decoded twice", value: decoded_twice, label: plain_label },
        Change { about: "decoded twice", value: rewritten_twice, label: same_label },
    ];
    for change in ENCODED {
        if let Some(found) = changed(case, budget, &change.value, &change.label) {
            let advice = format!(
                "{} {} signed {}: decode {} before signing.",
                found.subject(),
                found.verb(),
                change.about,
                found.object()
            );
            return Some(Mistake::new(MistakeKind::RawValues, found.parameter(), advice));
        }
    }
    for change in DECODED {
        if let Some(found) = changed(case, budget, &change.value, &change.label) {
            let advice = format!(
                "{} {} signed {}: sign {} as the sender writes {}.",
                found.subject(),
                found.verb(),
                change.about,
                found.object(),
                found.object()
            );
            return Some(Mistake::new(MistakeKind::DecodedValues, found.parameter(), advice));
        }
    }
    list_as_it_is(case, budget)
}

/// The list of pairs as it is, where the rule encodes it as a whole.
fn list_as_it_is(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    const ADVICE: &str = "The list of parameters was signed as it is: encode it as a whole, once \
                          more, as the sender does.";
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
            let advice = format!(
                "{} {} signed encoded twice: encode {} once at most, as the sender does.",
                found.subject(),
                found.verb(),
                found.object()
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
    field.modifiers.iter().any(Modifier::is_lossy)
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
    if let Some(found) = kept(case, budget) {
        let advice = match found.parameter() {
            Some(name) => {
                format!("`{name}` is empty and was signed: omit it from the signed text.")
            }
            None => "Empty parameters were signed: leave them out of the signed text.".to_owned(),
        };
        return Some(Mistake::new(MistakeKind::EmptyKept, found.parameter(), advice));
    }
    let found = dropped(case, budget)?;
    let advice = match found.parameter() {
        Some(name) => format!("`{name}` is empty and was omitted: sign it with an empty value."),
        None => "Empty parameters were left out: sign them with empty values.".to_owned(),
    };
    Some(Mistake::new(MistakeKind::EmptyDropped, found.parameter(), advice))
}

fn kept(case: &Case<'_>, budget: &mut Budget) -> Option<Found> {
    let draft = &case.draft;
    let empty: Vec<usize> =
        (0..draft.items.len()).filter(|&i| !draft.items[i].is_signed()).collect();
    some_of(case, budget, &empty, |draft, index| {
        draft.item_mut(index).presence = Presence::Signed;
    })
}

fn dropped(case: &Case<'_>, budget: &mut Budget) -> Option<Found> {
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

/// Tries all of `places` changed, then each.
fn some_of(
    case: &Case<'_>,
    budget: &mut Budget,
    places: &[usize],
    change: fn(&mut Draft, usize),
) -> Option<Found> {
    if places.len() > 1 {
        let mut all = case.draft.clone();
        places.iter().for_each(|index| change(&mut all, *index));
        if case.matches(&all, budget) {
            return Some(Found(None));
        }
    }
    for index in places {
        let mut one = case.draft.clone();
        change(&mut one, *index);
        if case.matches(&one, budget) {
            return Some(Found(Some(case.draft.items[*index].name.clone())));
        }
    }
    None
}

/// A number, a JSON text or the case of letters, rewritten.
pub(super) fn reformatted(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let whole = |field: &Field| is_reduced(field).then(|| field.decoded.clone());
    if let Some(found) = changed(case, budget, &whole, &same_label) {
        let advice = format!(
            "{} {} signed whole, and the sender signs {} rewritten: see its page for how.",
            found.subject(),
            found.verb(),
            found.object()
        );
        return Some(Mistake::new(MistakeKind::ValueReformatted, found.parameter(), advice));
    }
    for rewriting in rewrite::ALL {
        let value = |field: &Field| rewriting.of(field);
        if let Some(found) = changed(case, budget, &value, &same_label) {
            let advice = format!(
                "{} {} signed {}: sign {} as sent.",
                found.subject(),
                found.verb(),
                rewriting.about(),
                found.object()
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
        for (changed, about) in
            [(text.to_ascii_lowercase(), "lower"), (text.to_ascii_uppercase(), "upper")]
        {
            if changed != text && case.says(&changed, &key, budget) {
                let advice = format!(
                    "The whole text was signed in {about} case, the secret included: sign it as \
                     it is."
                );
                return Some(Mistake::new(MistakeKind::ValueReformatted, None, advice));
            }
        }
    }
    None
}
