//! Signatures: a reading compiled for one source.

use super::bound::{Binder, Bound, Gate, Gateway, Input, Use};
use super::callback::Message;
use super::coverage::{Always, Shaping, Signed, SignedTexts};
use super::definition::{
    self, Chain, Each, Empty, First, ListedParameters, Order, Roles, Sender, Signs, Step, Writing,
};
use super::definition_error::DefinitionError;
use super::digest::{self, Algorithm, Hasher, Output, Start};
use super::encoding::{self, Plus};
use super::key_set;
use super::modifier::Modifier;
use super::names::Slot;
use super::parameters::Place;
use super::public_key::{PublicKey, Scheme};
use super::recipe::LiveSecret;
use super::shape::Shape;
use super::text::{Piece, Text};

/// One reading of a signature, compiled.
#[derive(Debug)]
pub(super) struct Reading {
    /// Its place in the sender's file.
    pub(super) index: usize,
    pub(super) when: Gate,
    pub(super) of: Text<Bound>,
    pub(super) with: Chain,
    /// Where a private key signs what the chain makes.
    pub(super) public: Option<Public>,
    /// The key, for those who have to make it anew.
    pub(super) key: Text<Bound>,
    /// For each secret the keyed state, where the chain starts with an HMAC.
    pub(super) keyed: Vec<Option<Hasher>>,
    pub(super) claim: Bound,
    /// The first reading of the file that has the same claim.
    pub(super) claim_group: usize,
    pub(super) writing: Writing,
    pub(super) cut: Option<usize>,
    pub(super) plus: Plus,
    /// An earlier reading differs in the meaning of `+` alone.
    pub(super) twin: Redundancy,
    pub(super) sorted: Vec<Text<Bound>>,
    /// For each of `sorted` whether its size is bounded.
    pub(super) sorted_sizes: Vec<PartSize>,
    pub(super) pairs: Option<Pairs>,
    pub(super) roles: Roles<Bound>,
    /// What the text reads, and what that proves.
    pub(super) signed: Signed,
    /// Whether it covers the time that is checked.
    pub(super) time: TimeCover,
    /// The parameter that the signed query or URL is cut before.
    pub(super) cut_before: Option<Box<str>>,
    /// Other readings under which the same text could be another callback.
    pub(super) siblings: Vec<usize>,
    /// Whether another reading takes the escapes of the same query for text.
    pub(super) escapes: Escapes,
}

/// How the escapes of a signed query are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    /// In one way.
    OneWay,
    /// Decoded by one reading and as they are by another, which is at that place.
    BothWays { other: usize },
}

/// Bytes of a nonce or time that is hashed sorted beside a sealed message. A block of the message
/// is 64 characters of base64: a part that is shorter cannot take one, or give one.
pub(super) const SORTED_PART_BYTES_MAX: usize = 32;

/// Whether the size of a part that is hashed sorted is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartSize {
    /// A nonce or a time.
    Bounded,
    /// The secret, or a sealed message.
    Any,
}

/// A signature that a private key makes.
#[derive(Debug)]
pub(super) struct Public {
    pub(super) scheme: Scheme,
    pub(super) signs: Signs,
    pub(super) keys: Keys,
}

/// Where the public key comes from.
#[derive(Debug)]
pub(super) enum Keys {
    /// The sender's list, under the id that the callback names.
    List,
    /// One for each secret; `None` where the secret is none of these keys.
    Secrets(Vec<Option<PublicKey>>),
}

/// Bytes of a signature: that of an RSA key of 8192 bits.
const SIGNATURE_MAX: usize = 1024;

/// Whether a reading can say anything that an earlier one did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redundancy {
    /// It stands for itself.
    No,
    /// Only where a `+` came.
    OfPlus,
    /// Only where an escape came.
    OfEscapes,
}

/// The parameters that a reading signs as a list.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) plan: Plan,
    pub(super) shape: Shape,
    pub(super) each: Each,
    pub(super) empty: Empty,
    /// Names of ours that a callback must not bring.
    pub(super) added: Vec<Slot>,
}

/// How the list is gathered.
#[derive(Debug)]
pub(super) enum Plan {
    /// Known names in a known order.
    Listed(Vec<Listed>),
    /// Whatever came.
    Gathered {
        places: &'static [Place],
        except: Vec<Except>,
        order: Order,
        add: Vec<(Box<[u8]>, Text<Bound>)>,
    },
}

/// One pair of a known list.
#[derive(Debug)]
pub(super) struct Listed {
    /// Its name as the signature writes it.
    pub(super) label: Box<[u8]>,
    /// What is written before its value: the separator, the label and what follows that.
    pub(super) lead: Box<[u8]>,
    pub(super) value: ListedValue,
}

/// Where the value of a listed pair comes from.
#[derive(Debug)]
pub(super) enum ListedValue {
    Parameter(Slot),
    Ours(Text<Bound>),
}

/// A name, or a pattern with `*` at its ends, that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Except {
    /// The name, or what stands between the stars.
    text: Vec<u8>,
    open_start: bool,
    open_end: bool,
}

impl Except {
    fn new(pattern: &str) -> Self {
        let text = pattern.trim_matches('*');
        Self {
            text: text.as_bytes().to_vec(),
            open_start: pattern.starts_with('*'),
            open_end: pattern.ends_with('*'),
        }
    }

    /// Whether `name` is left out. Patterns know no case, plain names do.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        if !self.open_start && !self.open_end {
            return name == self.text.as_slice();
        }
        let fits = |part: &[u8]| part.eq_ignore_ascii_case(&self.text);
        let len = self.text.len();
        match (self.open_start, self.open_end) {
            (true, true) => name.windows(len.max(1)).any(fits) || len == 0,
            (true, false) => name.len() >= len && fits(&name[name.len() - len..]),
            _ => name.len() >= len && fits(&name[..len]),
        }
    }
}

/// Whether a reading covers the time that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeCover {
    /// It does for every callback, or none is checked.
    Always,
    /// That depends on the callback.
    ByCallback,
    /// It reads a time that can be re-cut: the window is only a filter.
    Never,
}

/// Compiles `reading`, the one at `index` of its file; `None` when its condition can never hold.
pub(super) fn compile(
    index: usize,
    reading: &definition::Reading,
    binder: &mut Binder<'_>,
    shaping: &Shaping,
) -> Result<Option<Reading>, DefinitionError> {
    let when = binder.gate(&reading.when)?;
    if matches!(when, Gate::Never) {
        return Ok(None);
    }
    let of = binder.text(&reading.of, Use::Signed).map_err(|fault| fault.under("of"))?;
    let claim = binder.spot(&reading.r#in, Use::Signed).map_err(|fault| fault.under("in"))?;
    let reads = |gateway: Gateway| {
        of.spots().any(|spot| matches!(spot.input, Input::Gateway(read) if read == gateway))
    };
    // A further reading takes over lists that its own text may not read.
    let sorted = if reads(Gateway::Sorted) { reading.sorted.as_slice() } else { &[] };
    let sorted: Result<Vec<_>, DefinitionError> =
        sorted.iter().map(|text| binder.text(text, Use::Signed)).collect();
    let sorted = sorted.map_err(|fault| fault.under("sorted"))?;
    let pairs = reading.pairs.as_ref().filter(|_| reads(Gateway::Pairs));
    let pairs = pairs.map(|pairs| compile_pairs(pairs, &claim, binder));
    let pairs = pairs.transpose().map_err(|fault| fault.under("pairs"))?;
    let key = binder.text(&reading.key, Use::Key).map_err(|fault| fault.under("key"))?;
    let keyed = keyed(&reading.with, Some(&key), &binder.terms.secrets);
    let public = reading.public.map(|public| Public::new(public, &key, &binder.terms.secrets));
    let lacking = matches!(reading.with.first, First::Keyed(_))
        && keyed.iter().all(Option::is_none)
        && fixed(&key, b"").is_none_or(|key| key.is_empty());
    if lacking && !reads_secret(&key) {
        return Err(DefinitionError::new("key", "needs a setting that is not there", "set it"));
    }
    let texts = SignedTexts { of: &of, sorted: &sorted, pairs: pairs.as_ref() };
    let signed = Signed::of(texts, binder, shaping);
    let earlier = &binder.sender.readings[..index.min(binder.sender.readings.len())];
    Ok(Some(Reading {
        index,
        when,
        signed,
        siblings: Vec::new(),
        escapes: Escapes::OneWay,
        cut_before: cut_before(&of),
        of,
        with: reading.with.clone(),
        public,
        key,
        keyed,
        claim,
        claim_group: binder
            .sender
            .readings
            .iter()
            .position(|other| same_claim(other, reading))
            .unwrap_or(index),
        writing: reading.r#as,
        cut: reading.cut,
        plus: reading.plus,
        twin: earlier.iter().find_map(|other| twin(other, reading)).unwrap_or(Redundancy::No),
        sorted_sizes: sorted.iter().map(|text| part_size(text, binder.sender)).collect(),
        sorted,
        pairs,
        roles: binder.roles(&reading.roles)?,
        time: TimeCover::Always,
    }))
}

/// Finds out which readings can read each other's texts: those with one digest, key and signature.
pub(super) fn relate(readings: &mut [Reading], of: &[definition::Reading]) {
    let same_encoding = |one: usize, other: usize| {
        let (Some(one), Some(other)) = (of.get(one), of.get(other)) else { return false };
        let alike = one.with == other.with && one.key == other.key && one.public == other.public;
        alike && same_claim(one, other) && one.cut == other.cut && one.r#as == other.r#as
    };
    for at in 0..readings.len() {
        let mut siblings = Vec::new();
        for other in (0..readings.len()).filter(|other| *other != at) {
            let (own, theirs) = (readings[at].index, readings[other].index);
            if !same_encoding(own, theirs) || readings[at].signed.is_sorted() {
                continue;
            }
            if raw(&of[own].of) == raw(&of[theirs].of) && of[own].of != of[theirs].of {
                readings[at].escapes = Escapes::BothWays { other };
            } else if !readings[at].signed.agrees_with(&readings[other].signed) {
                siblings.push(other);
            }
        }
        if !siblings.is_empty() || readings[at].escapes != Escapes::OneWay {
            readings[at].signed.is_closed = Always::ByCallback;
        }
        readings[at].siblings = siblings;
    }
}

fn part_size(text: &Text<Bound>, sender: &Sender) -> PartSize {
    let sealed = sender.sealed_names();
    let is_any = text.spots().any(|spot| {
        matches!(spot.input, Input::Gateway(Gateway::Secret)) || sealed.contains(&&*spot.name)
    });
    if is_any { PartSize::Any } else { PartSize::Bounded }
}

fn same_claim(one: &definition::Reading, other: &definition::Reading) -> bool {
    one.r#in.key == other.r#in.key && one.r#in.origin == other.r#in.origin
}

/// In what alone two readings differ, where that is the meaning of `+` or of escapes in the query.
fn twin(one: &definition::Reading, other: &definition::Reading) -> Option<Redundancy> {
    let alike = same_claim(one, other)
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

/// A text with whatever it decodes left as it is.
fn raw(of: &Text) -> Text {
    let mut of = of.clone();
    for piece in &mut of.pieces {
        if let Piece::Value(spot) = piece {
            spot.modifiers.retain(|modifier| *modifier != Modifier::Unpercent);
        }
    }
    of
}

fn pairs_key(reading: &definition::Reading) -> Option<String> {
    reading.pairs.as_ref().map(|pairs| format!("{pairs:?}"))
}

fn cut_before(of: &Text<Bound>) -> Option<Box<str>> {
    of.spots().flat_map(|spot| spot.modifiers.iter()).find_map(|modifier| match modifier {
        Modifier::Before(name) => Some(name.as_str().into()),
        _ => None,
    })
}

fn compile_pairs(
    pairs: &definition::Pairs,
    claim: &Bound,
    binder: &mut Binder<'_>,
) -> Result<Pairs, DefinitionError> {
    let except: Vec<_> = pairs.except.iter().map(|name| Except::new(name)).collect();
    let left_out = |name: &str| {
        name == &*claim.name || except.iter().any(|except| except.takes(name.as_bytes()))
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
        ListedParameters::Query | ListedParameters::All => Vec::new(),
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
        ListedParameters::All => gathered(&[Place::Query, Place::Form], except, add, pairs.order),
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
    }
    out.into()
}

/// The keyed states of a chain that starts with an HMAC, one for each secret; `None` where the
/// secret cannot be read as the key's text wants it.
pub(super) fn keyed(
    with: &Chain,
    key: Option<&Text<Bound>>,
    secrets: &[LiveSecret],
) -> Vec<Option<Hasher>> {
    let First::Keyed(algorithm) = with.first else { return Vec::new() };
    let state = |secret: &[u8]| {
        let key = key.map_or_else(|| Some(secret.to_vec()), |key| fixed(key, secret))?;
        // What nothing is left of is no key: everybody has it.
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
pub(super) fn reads_secret(key: &Text<Bound>) -> bool {
    key.spots().any(|spot| matches!(spot.input, Input::Gateway(Gateway::Secret)))
}

/// A text that reads nothing but `secret` and settings.
pub(super) fn fixed(text: &Text<Bound>, secret: &[u8]) -> Option<Vec<u8>> {
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

/// The slot of a text that is one parameter and nothing else.
pub(super) fn only_slot(text: &Text<Bound>) -> Option<Slot> {
    match text.pieces.as_slice() {
        [Piece::Value(Bound { input: Input::Parameter { slot, .. }, .. })] => Some(*slot),
        _ => None,
    }
}

/// Whether a text reads a parameter.
pub(super) fn reads_parameters(text: &Text<Bound>) -> bool {
    text.spots().any(|spot| matches!(spot.input, Input::Parameter { .. } | Input::Known(_)))
}

/// The slots of the claims of `readings`.
pub(super) fn claim_slots(readings: &[Reading]) -> Vec<Slot> {
    readings
        .iter()
        .filter_map(|reading| match reading.claim.input {
            Input::Parameter { slot, .. } => Some(slot),
            _ => None,
        })
        .collect()
}

impl Public {
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

    /// Whether the written `claim` of `reading` is a signature of `message` under `key`.
    pub(super) fn is_signature(
        &self,
        reading: &Reading,
        key: &PublicKey,
        message: &[u8],
        claim: &[u8],
    ) -> bool {
        is_signature(reading, self.scheme, key, (message, claim))
    }

    /// Whether its key is one of the sender's list.
    pub(super) fn is_listed(&self) -> bool {
        matches!(self.keys, Keys::List)
    }
}

/// Whether the written `claim` of `reading` is a signature of `message` under `key`.
pub(super) fn is_signature(
    reading: &Reading,
    scheme: Scheme,
    key: &PublicKey,
    (message, claim): (&[u8], &[u8]),
) -> bool {
    let mut buffer = [0; SIGNATURE_MAX];
    let signature = reading.unwritten(claim, &mut buffer);
    signature.is_some_and(|signature| scheme.verifies(key, message, signature))
}

/// What a private key signs of a chain's `output`.
pub(super) fn message(signs: Signs, output: &Output) -> Message {
    match signs {
        Signs::Text | Signs::Bytes => output.bytes().into(),
        Signs::Hex => output.hex(&mut [0; 128]).into(),
    }
}

impl Reading {
    /// Whether its text reads scheme, authority and path, as the sender sees them.
    pub(super) fn signs_url(&self) -> bool {
        self.of.spots().any(|spot| matches!(spot.input, Input::Gateway(Gateway::Url)))
    }

    /// Whether the secret stands between values of its text.
    pub(super) fn separates_by_secret(&self) -> bool {
        self.signed.layout.segments.len() > 1 || self.sorted.iter().any(reads_secret)
    }

    /// Whether the secret at `index` can be used with it.
    pub(super) fn can_use(&self, index: usize) -> bool {
        match self.public.as_ref().map(|public| &public.keys) {
            Some(Keys::List) => return true,
            Some(Keys::Secrets(keys)) => return keys.get(index).is_some_and(Option::is_some),
            None => {}
        }
        match self.with.first {
            First::Digest(_) | First::Equal => true,
            First::Keyed(_) => self.keyed.get(index).is_some_and(Option::is_some),
        }
    }

    /// Whether it reads a parameter, so that the body may have to be read before it.
    pub(super) fn reads_parameters(&self) -> bool {
        let conditions = match &self.when {
            Gate::Any(list) => list
                .iter()
                .filter_map(|condition| condition.spot())
                .any(|spot| matches!(spot.input, Input::Parameter { .. })),
            _ => false,
        };
        conditions
            || matches!(self.claim.input, Input::Parameter { .. })
            || reads_parameters(&self.of)
            || self.sorted.iter().any(reads_parameters)
            || self.pairs.is_some()
    }

    /// The output of its chain for what `feed` was fed.
    pub(super) fn finish(&self, feed: &digest::Feed<'_>) -> Output {
        chained(feed.finish(), &self.with.then)
    }

    /// The bytes that the written `claim` stands for, in `buffer`.
    fn unwritten<'b>(&self, claim: &[u8], buffer: &'b mut [u8; SIGNATURE_MAX]) -> Option<&'b [u8]> {
        let len = match self.writing {
            Writing::Hex => {
                let len = claim.len() / 2;
                const_hex::decode_to_slice(claim, buffer.get_mut(..len)?).ok()?;
                len
            }
            Writing::Base64 | Writing::Base64Url => encoding::unbase64_into(claim, buffer).ok()?,
            Writing::Text => return None,
        };
        buffer.get(..len)
    }

    /// Whether the written `claim` says `output`, in time that depends on lengths alone.
    pub(super) fn is_claimed(&self, output: &Output, claim: &[u8]) -> bool {
        if let Some(cut) = self.cut {
            let ours = written(output, self.writing);
            return claim.len() == cut
                && ours.len() >= cut
                && digest::same(&ours.as_bytes()[..cut], &folded(claim, self.writing));
        }
        let mut decoded = [0; 96];
        let ours = output.bytes();
        match self.writing {
            Writing::Hex => {
                let Some(theirs) = decoded.get_mut(..ours.len()) else { return false };
                claim.len() == ours.len() * 2
                    && const_hex::decode_to_slice(claim, theirs).is_ok()
                    && digest::same(ours, theirs)
            }
            Writing::Base64 | Writing::Base64Url => encoding::unbase64_into(claim, &mut decoded)
                .is_ok_and(|len| digest::same(ours, &decoded[..len])),
            Writing::Text => digest::same(ours, Algorithm::Sha256.of(claim).bytes()),
        }
    }
}

fn folded(claim: &[u8], writing: Writing) -> Vec<u8> {
    match writing {
        Writing::Hex => claim.to_ascii_lowercase(),
        _ => claim.to_vec(),
    }
}

/// What a chain makes of its first output.
pub(super) fn chained(first: Output, steps: &[Step]) -> Output {
    if steps.is_empty() {
        return first;
    }
    let mut output = first;
    let mut hex = [0; 128];
    let mut written: Option<usize> = None;
    for step in steps {
        match step {
            Step::Hex => written = Some(output.hex(&mut hex).len()),
            Step::Digest(algorithm) => {
                output = match written.take() {
                    Some(len) => algorithm.of(&hex[..len]),
                    None => algorithm.of(output.bytes()),
                };
            }
        }
    }
    output
}

/// An output as a claim is written.
pub(super) fn written(output: &Output, writing: Writing) -> String {
    match writing {
        // Of a text there is but its digest here: see `First::Equal`.
        Writing::Hex | Writing::Text => const_hex::encode(output.bytes()),
        Writing::Base64 => encoding::base64(output.bytes()),
        Writing::Base64Url => encoding::base64url(output.bytes()),
    }
}

/// What a chain starts from under the secret at `index`; `None` where the secret cannot be used.
pub(super) fn start<'h>(
    with: &Chain,
    keyed: &'h [Option<Hasher>],
    index: usize,
) -> Option<Start<'h>> {
    match with.first {
        First::Digest(algorithm) => Some(Start::Plain(algorithm)),
        First::Equal => Some(Start::Plain(Algorithm::Sha256)),
        First::Keyed(_) => keyed.get(index)?.as_ref().map(Start::Keyed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_left_out() {
        let takes = |pattern: &str, name: &str| Except::new(pattern).takes(name.as_bytes());
        assert!(takes("manager_name", "manager_name"));
        assert!(!takes("manager_name", "manager_name2"));
        assert!(takes("*debug_*", "Xdebug_on") && takes("*debug_*", "Debug_on"));
        assert!(!takes("*debug_*", "debug"));
        assert!(takes("sig*", "signature") && !takes("sig*", "xsig"));
        assert!(takes("*sig", "xSIG") && !takes("*sig", "sigx"));
    }
}
