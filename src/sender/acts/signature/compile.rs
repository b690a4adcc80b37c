//! Compilation of a signature for one source.

use super::{
    Escapes, Except, Keys, Listed, ListedValue, Pairs, PartSize, Plan, Public, Redundancy,
    SignatureVariant, TimeCover,
};
use crate::sender::crypto::certificate::{ChainRule, read_root};
use crate::sender::crypto::digest::Hasher;
use crate::sender::crypto::key_set;
use crate::sender::crypto::public_key::PublicKey;
use crate::sender::language::bound::{Binder, Bound, Gate, Gateway, Input, Use};
use crate::sender::language::coverage::{Always, Shaping, Signed, SignedTexts};
use crate::sender::language::definition::{
    self, Chain, Each, First, ListedParameters, Order, Sender, TokenKey, TokenRule,
};
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::modifier::Modifier;
use crate::sender::language::recipe::{LiveSecret, Terms};
use crate::sender::language::shape::Shape;
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::value_shape::ValueShape;
use crate::sender::request::encoding;
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::Place;

/// Compiles `variant`, the one at `index` of its file; `None` when its condition can never hold.
pub(in crate::sender) fn compile(
    index: usize,
    variant: &definition::SignatureVariant,
    binder: &mut Binder<'_>,
    shaping: &Shaping,
) -> Result<Option<SignatureVariant>, DefinitionError> {
    let when = binder.gate(&variant.when)?;
    if matches!(when, Gate::Never) {
        return Ok(None);
    }
    let of = binder.text(&variant.of, Use::Signed).map_err(|fault| fault.under("of"))?;
    let supplied = binder.spot(&variant.r#in, Use::Signed).map_err(|fault| fault.under("in"))?;
    let reads = |gateway: Gateway| {
        of.spots().any(|spot| matches!(spot.input, Input::Gateway(read) if read == gateway))
    };
    // A further variant inherits lists that its own text may not read.
    let sorted = if reads(Gateway::Sorted) { variant.sorted.as_slice() } else { &[] };
    let sorted: Result<Vec<_>, DefinitionError> =
        sorted.iter().map(|text| binder.text(text, Use::Signed)).collect();
    let sorted = sorted.map_err(|fault| fault.under("sorted"))?;
    let pairs = variant.pairs.as_ref().filter(|_| reads(Gateway::Pairs));
    let pairs = pairs.map(|pairs| compile_pairs(pairs, &supplied, binder));
    let pairs = pairs.transpose().map_err(|fault| fault.under("pairs"))?;
    let key = binder.text(&variant.key, Use::Key).map_err(|fault| fault.under("key"))?;
    let keyed = keyed(&variant.with, Some(&key), &binder.terms.secrets);
    let public = variant.public.map(|public| match (variant.token, &binder.sender.token) {
        (Some(_), Some(TokenRule { key: TokenKey::Certificates(rule), .. })) => {
            Public::of_certificates(public, rule, binder.terms)
        }
        // A source that pins certificates, in place of those that callbacks name.
        _ if key_set::is_from_list(&key) && binder.sender.certificate_hosts().is_some() => {
            Public::of_pinned(public, &binder.terms.secrets)
        }
        _ => Public::new(public, &key, &binder.terms.secrets),
    });
    let lacking = matches!(variant.with.first, First::Keyed(_))
        && keyed.iter().all(Option::is_none)
        && fixed(&key, b"").is_none_or(|key| key.is_empty());
    if lacking && !reads_secret(&key) {
        return Err(DefinitionError::new("key", "needs a setting that is missing", "set it"));
    }
    let texts = SignedTexts { of: &of, sorted: &sorted, pairs: pairs.as_ref() };
    let signed = Signed::of(texts, binder, shaping);
    let earlier = &binder.sender.variants[..index.min(binder.sender.variants.len())];
    Ok(Some(SignatureVariant {
        index,
        when,
        signed,
        siblings: Vec::new(),
        escapes: Escapes::OneWay,
        cut_before: cut_before(&of),
        of,
        with: variant.with.clone(),
        public,
        token: variant.token,
        key,
        keyed,
        supplied,
        supplied_group: binder
            .sender
            .variants
            .iter()
            .position(|other| same_place(other, variant))
            .unwrap_or(index),
        writing: variant.r#as,
        cut: variant.cut,
        plus: variant.plus,
        twin: earlier.iter().find_map(|other| twin(other, variant)).unwrap_or(Redundancy::No),
        sorted_sizes: sorted.iter().map(|text| part_size(text, binder.sender)).collect(),
        sorted,
        pairs,
        roles: binder.roles(&variant.roles)?,
        time: TimeCover::Always,
    }))
}

/// Finds variants that can parse each other's texts: those with the same digest, key and signature.
pub(in crate::sender) fn relate(
    variants: &mut [SignatureVariant],
    of: &[definition::SignatureVariant],
) {
    let same_encoding = |one: usize, other: usize| {
        let (Some(one), Some(other)) = (of.get(one), of.get(other)) else { return false };
        let alike = one.with == other.with && one.key == other.key && one.public == other.public;
        alike && same_place(one, other) && one.cut == other.cut && one.r#as == other.r#as
    };
    for at in 0..variants.len() {
        let mut siblings = Vec::new();
        for other in (0..variants.len()).filter(|other| *other != at) {
            let (own, theirs) = (variants[at].index, variants[other].index);
            if !same_encoding(own, theirs) || variants[at].signed.is_sorted() {
                continue;
            }
            if raw(&of[own].of) == raw(&of[theirs].of) && of[own].of != of[theirs].of {
                variants[at].escapes = Escapes::BothWays { other };
            } else if !variants[at].signed.agrees_with(&variants[other].signed) {
                siblings.push(other);
            }
        }
        if !siblings.is_empty() || variants[at].escapes != Escapes::OneWay {
            variants[at].signed.is_closed = Always::ByCallback;
        }
        variants[at].siblings = siblings;
    }
}

fn part_size(text: &Text<Bound>, sender: &Sender) -> PartSize {
    let sealed = sender.sealed_names();
    let is_object = |name: &str| sender.shapes.of.get(name).is_some_and(ValueShape::is_object);
    let is_any = text.spots().any(|spot| {
        matches!(spot.input, Input::Gateway(Gateway::Secret))
            || sealed.contains(&&*spot.name)
            || is_object(&spot.name)
    });
    if is_any { PartSize::Any } else { PartSize::Bounded }
}

fn same_place(one: &definition::SignatureVariant, other: &definition::SignatureVariant) -> bool {
    one.r#in.key == other.r#in.key && one.r#in.origin == other.r#in.origin
}

/// The only difference between two variants, if that is the meaning of `+` or of escapes.
fn twin(
    one: &definition::SignatureVariant,
    other: &definition::SignatureVariant,
) -> Option<Redundancy> {
    let alike = same_place(one, other)
        && one.when == other.when
        && one.sorted == other.sorted
        && one.with == other.with
        && one.public == other.public
        && pairs_key(one) == pairs_key(other);
    match (one.plus == other.plus, one.of == other.of) {
        (false, true) if alike => Some(Redundancy::OfPlus),
        (true, false) if alike && raw(&one.of) == raw(&other.of) => Some(Redundancy::OfEscapes),
        _ => None,
    }
}

/// A text without decoding.
fn raw(of: &Text) -> Text {
    let mut of = of.clone();
    for piece in &mut of.pieces {
        if let Piece::Value(spot) = piece {
            spot.modifiers.retain(|modifier| *modifier != Modifier::Unpercent);
        }
    }
    of
}

fn pairs_key(variant: &definition::SignatureVariant) -> Option<String> {
    variant.pairs.as_ref().map(|pairs| format!("{pairs:?}"))
}

fn cut_before(of: &Text<Bound>) -> Option<Box<str>> {
    of.spots().flat_map(|spot| spot.modifiers.iter()).find_map(|modifier| match modifier {
        Modifier::Before(name) => Some(name.as_str().into()),
        _ => None,
    })
}

fn compile_pairs(
    pairs: &definition::Pairs,
    supplied: &Bound,
    binder: &mut Binder<'_>,
) -> Result<Pairs, DefinitionError> {
    let except: Vec<_> = pairs.except.iter().map(|name| Except::new(name)).collect();
    let left_out = |name: &str| {
        name == &*supplied.name || except.iter().any(|except| except.takes(name.as_bytes()))
    };
    let names: Vec<String> = match &pairs.which {
        ListedParameters::Names(names) => {
            names.iter().filter(|name| !left_out(name)).cloned().collect()
        }
        ListedParameters::Pasted => {
            let mut pasted: Vec<_> = binder.sender.paste.clone();
            if pairs.order == Order::Macro {
                pasted.sort_by(|one, other| one.value.cmp(&other.value));
            }
            pasted.into_iter().map(|p| p.name).filter(|name| !left_out(name)).collect()
        }
        ListedParameters::Query | ListedParameters::Form | ListedParameters::All => Vec::new(),
    };
    let mut added = Vec::new();
    let mut add = Vec::new();
    for (name, text) in &pairs.add {
        added.push(binder.slot(name)?);
        add.push((label(name, pairs.each), binder.text(text, Use::Signed)?));
    }
    let plan = match &pairs.which {
        ListedParameters::Names(_) | ListedParameters::Pasted => {
            listed(&names, add, pairs, binder)?
        }
        ListedParameters::Query => gathered(&[Place::Query], except, add, pairs.order),
        ListedParameters::Form => gathered(&[Place::Form], except, add, pairs.order),
        ListedParameters::All => {
            gathered(&[Place::Query, Place::Form, Place::Json], except, add, pairs.order)
        }
    };
    Ok(Pairs { plan, shape: pairs.shape.clone(), each: pairs.each, empty: pairs.empty, added })
}

fn listed(
    names: &[String],
    add: Vec<(Box<[u8]>, Text<Bound>)>,
    pairs: &definition::Pairs,
    binder: &mut Binder<'_>,
) -> Result<Plan, DefinitionError> {
    let mut list = Vec::new();
    for name in names {
        let value = ListedValue::Parameter(binder.slot(name)?);
        list.push(Listed::new(label(name, pairs.each), value, &pairs.shape));
    }
    let ours = |(label, text)| Listed::new(label, ListedValue::Ours(text), &pairs.shape);
    list.extend(add.into_iter().map(ours));
    if pairs.order == Order::Name {
        list.sort_by(|one, other| one.label.cmp(&other.label));
    }
    Ok(Plan::Listed(list))
}

impl Listed {
    fn new(label: Box<[u8]>, value: ListedValue, shape: &Shape) -> Self {
        let named = shape.within.as_deref().map(|within| [&label, within].concat());
        let lead = [&*shape.between, &*named.unwrap_or_default()].concat();
        Self { label, lead: lead.into(), value }
    }
}

fn gathered(
    places: &'static [Place],
    except: Vec<Except>,
    add: Vec<(Box<[u8]>, Text<Bound>)>,
    order: Order,
) -> Plan {
    Plan::Gathered { places, except, order, add }
}

/// A name as the signature writes it.
fn label(name: &str, each: Each) -> Box<[u8]> {
    let mut out = Vec::new();
    match each {
        Each::Decoded | Each::Raw => out.extend_from_slice(name.as_bytes()),
        Each::Form => encoding::form(name.as_bytes(), &mut out),
        Each::Percent => encoding::percent(name.as_bytes(), &mut out),
        Each::Escaped(_) => out.extend_from_slice(name.as_bytes()),
    }
    out.into()
}

/// The keyed states of a chain that starts with an HMAC, one for each secret; `None` where the
/// secret does not fit the key's text.
pub(in crate::sender) fn keyed(
    with: &Chain,
    key: Option<&Text<Bound>>,
    secrets: &[LiveSecret],
) -> Vec<Option<Hasher>> {
    let First::Keyed(algorithm) = with.first else { return Vec::new() };
    let state = |secret: &[u8]| {
        let key = key.map_or_else(|| Some(secret.to_vec()), |key| fixed(key, secret))?;
        // An empty key is public: reject it.
        if key.is_empty() { None } else { algorithm.keyed(&key) }
    };
    if key.is_some_and(|key| !reads_secret(key)) {
        // The key is a setting: it is the same under every secret, and without any.
        let state = state(&[]);
        return std::iter::repeat_n(state, secrets.len().max(1)).collect();
    }
    secrets.iter().map(|secret| state(secret.value.expose())).collect()
}

/// Whether a key depends on which secret is tried.
pub(in crate::sender) fn reads_secret(key: &Text<Bound>) -> bool {
    key.spots().any(|spot| matches!(spot.input, Input::Gateway(Gateway::Secret)))
}

/// A text that reads nothing but `secret` and settings.
pub(in crate::sender) fn fixed(text: &Text<Bound>, secret: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for piece in &text.pieces {
        match piece {
            Piece::Literal(bytes) => out.extend_from_slice(bytes),
            Piece::Value(spot) => {
                let value = match &spot.input {
                    Input::Gateway(Gateway::Secret) => secret,
                    Input::Setting(value) => value.expose(),
                    _ => return None,
                };
                let mut value = std::borrow::Cow::Borrowed(value);
                for modifier in &spot.modifiers {
                    value = modifier.apply(value).ok()?;
                }
                out.extend_from_slice(&value);
            }
            Piece::Optional(inner) => {
                let is_absent = |piece: &Piece<Bound>| {
                    matches!(piece, Piece::Value(Bound { input: Input::Absent, .. }))
                };
                if !inner.iter().any(is_absent) {
                    out.extend_from_slice(&fixed(&Text { pieces: inner.clone() }, secret)?);
                }
            }
        }
    }
    Some(out)
}

/// The slot of a text that is exactly one parameter.
pub(in crate::sender) fn only_slot(text: &Text<Bound>) -> Option<Slot> {
    match text.pieces.as_slice() {
        [Piece::Value(Bound { input: Input::Parameter { slot, .. }, .. })] => Some(*slot),
        _ => None,
    }
}

/// Whether a text reads a parameter.
pub(in crate::sender) fn reads_parameters(text: &Text<Bound>) -> bool {
    text.spots().any(|spot| matches!(spot.input, Input::Parameter { .. } | Input::Known(_)))
}

/// The slots of parameters that are, or hold, a supplied signature of `variants`.
pub(in crate::sender) fn supplied_slots(variants: &[SignatureVariant]) -> Vec<Slot> {
    variants
        .iter()
        .filter_map(|variant| match variant.supplied.input {
            Input::Parameter { slot, .. } => Some(slot),
            _ => None,
        })
        .collect()
}

impl Public {
    /// The key of certificates in a token. A vector has roots of its own.
    fn of_certificates(rule: definition::Public, chain: &ChainRule, terms: &Terms) -> Self {
        let mut chain = chain.clone();
        if !terms.keys.is_empty() {
            chain.roots = terms.keys.values().filter_map(|key| read_root(key)).collect();
        }
        Self { scheme: rule.scheme, signs: rule.signs, keys: Keys::Certificates(chain) }
    }

    /// The keys of the certificates that are a source's secrets; of none, those that callbacks name.
    fn of_pinned(rule: definition::Public, secrets: &[LiveSecret]) -> Self {
        let definition::Public { scheme, signs } = rule;
        let read = |secret: &LiveSecret| PublicKey::read_for(scheme, secret.value.expose());
        let keys = match secrets {
            [] => Keys::List,
            _ => Keys::Secrets(secrets.iter().map(read).collect()),
        };
        Self { scheme, signs, keys }
    }

    fn new(rule: definition::Public, key: &Text<Bound>, secrets: &[LiveSecret]) -> Self {
        let definition::Public { scheme, signs } = rule;
        if key_set::is_from_list(key) {
            return Self { scheme, signs, keys: Keys::List };
        }
        let read = |secret: &[u8]| PublicKey::read_for(scheme, &fixed(key, secret)?);
        let keys = if reads_secret(key) {
            secrets.iter().map(|secret| read(secret.value.expose())).collect()
        } else {
            std::iter::repeat_n(read(&[]), secrets.len().max(1)).collect()
        };
        Self { scheme, signs, keys: Keys::Secrets(keys) }
    }
}
