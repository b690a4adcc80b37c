//! A sender file, checked: every text read, every name known, nothing bound to a source yet.

mod public;
mod reader;

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode, Uri};
use jiff::tz::Offset;

use super::condition::Condition;
use super::definition_error::DefinitionError;
use super::digest::Algorithm;
use super::encoding::Plus;
use super::file::File;
use super::recut::chains::NameOrder;
use super::reply::Rows;
use super::resolved::{AmountUnit, ByRole, Effect, Role};
use super::shape::Shape;
use super::text::{Origin, Piece, Spot, Text};
use super::time::Stamp;
use super::unreplaced::name_of;
use super::value_shape::{ShapeBasis, ValueShape};
use super::vector::Vector;

use self::reader::Reader;

pub(super) use public::{KeySet, Public, Signs};

/// A sender: one file of the catalog, checked.
#[derive(Debug)]
pub struct Sender {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) docs: Vec<String>,
    pub(super) basis: Option<Basis>,
    pub(super) unconfirmed: Vec<String>,
    pub(super) secret: Option<String>,
    pub(super) methods: Vec<Method>,
    pub(super) reads: Vec<Reads>,
    pub(super) paste: Vec<Pasted>,
    pub(super) unsigned: bool,
    pub(super) from_client: Vec<Role>,
    /// What is a secret of the sender: it is shown nowhere.
    pub(super) masked: Vec<Spot>,
    /// Header fields and their second names.
    pub(super) header_names: Vec<(HeaderName, HeaderName)>,
    pub(super) addresses: Vec<String>,
    pub(super) settings: Vec<(String, String)>,
    pub(super) lists: Vec<List>,
    /// Settings that say what is the source's own, each with where a callback names it.
    pub(super) ours: Vec<(String, Text)>,
    pub(super) roles: Roles,
    /// What the provider puts into parameters, by the key that texts read them under.
    pub(super) shapes: Shapes,
    pub(super) identity: Identity,
    pub(super) time: Option<TimeRule>,
    pub(super) known: Vec<(String, Text)>,
    pub(super) codes: BTreeMap<String, toml::Value>,
    pub(super) challenge: Challenge,
    pub(super) test: Test,
    pub(super) kinds: Vec<Kind>,
    pub(super) events: Option<EventTable>,
    pub(super) open: Option<Open>,
    pub(super) key_set: Option<KeySet>,
    pub(super) countersign: Option<Countersign>,
    pub(super) patience: SenderRetries,
    pub(super) readings: Vec<Reading>,
    pub(super) replies: Rows,
    pub(super) vectors: Vec<Vector>,
    pub(super) text: String,
}

/// What a file's facts rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The sender's own documentation says so.
    Documentation,
    /// Public implementations do so; the sender's own word has not been seen.
    Implementations,
}

impl Basis {
    /// A sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Documentation => "confirmed by the sender's own documentation",
            Self::Implementations => "taken from public implementations, not from the sender",
        }
    }
}

/// Readings of a signature that a file may have: with four live secrets that bounds the digests
/// of one callback at sixteen.
pub(super) const READINGS_MAX: usize = 4;

/// Characters of a claim that may be kept: fewer than eight of hex are guessed within hours, and a
/// SHA-512 has no more.
const CUT_MIN: usize = 8;
const CUT_MAX: usize = 128;

/// Where `{…}` is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Query,
    Form,
    Json,
    Xml,
}

/// One pair of the query to paste: our name and the sender's macro.
#[derive(Clone, Debug)]
pub(super) struct Pasted {
    pub(super) name: String,
    pub(super) value: String,
}

/// A list inside a value, read by its shape.
#[derive(Debug)]
pub(super) struct List {
    pub(super) name: String,
    pub(super) of: Text,
    pub(super) shape: Shape,
}

/// The texts of the roles; each role takes the first that can be made.
#[derive(Clone, Debug)]
pub(super) struct Roles<K = Spot> {
    /// By role.
    pub(super) texts: ByRole<Vec<RoleText<K>>>,
    /// What an event does to a balance, where the file says so: the first that applies.
    pub(super) effects: Vec<EffectRule<K>>,
    /// The unit of the amount, where the provider counts in parts: `fen`, `cent`, `micro`.
    pub(super) amount_unit: Option<AmountUnit>,
}

impl<K> Default for Roles<K> {
    fn default() -> Self {
        Self { texts: ByRole::default(), effects: Vec::new(), amount_unit: None }
    }
}

/// What an event does to a balance, perhaps only under a condition.
#[derive(Clone, Debug)]
pub(super) struct EffectRule<K = Spot> {
    pub(super) effect: Effect,
    /// Conditions of which one has to hold; none: it always applies.
    pub(super) when: Vec<Condition<K>>,
}

/// `[shapes]`: what the provider can put into parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes {
    /// By the key that texts read them under: `id`, `header.webhook-id`, `sig.t`.
    pub(super) of: BTreeMap<String, ValueShape>,
    /// Parameters that reject a callback if they do not fit.
    pub(super) refuse: Vec<String>,
    /// Parameters that are all there or none.
    pub(super) together: Vec<String>,
    /// Whether the provider writes the names of a query in ascending order.
    pub(super) order: NameOrder,
}

/// `[identity]`: which callbacks are the same event.
#[derive(Clone, Debug)]
pub(super) struct Identity<K = Spot> {
    /// The texts that identify an event; the transaction's where there is none.
    pub(super) by: Vec<RoleText<K>>,
    /// Members that a provider changes when it repeats a callback.
    pub(super) volatile: Vec<String>,
    /// Why one signature serves several transactions, and when it does.
    pub(super) repeats: Option<Repeats<K>>,
    /// What becomes of a callback whose signature does not cover what identifies it.
    pub(super) uncovered: Uncovered,
    /// The texts of the keys that versions before this form of keys made.
    pub(super) formerly: Formerly<K>,
}

/// What becomes of a callback whose signature does not cover what identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncovered {
    /// It is an event, and one for each signature.
    Accepted,
    /// It is rejected, unless the source says `replayable = true`.
    Rejected,
    /// It would be rejected, and the source says `replayable = true`: it is an event, and so is any
    /// other one under the same signature.
    Replayable,
}

/// Why one signature serves several transactions.
#[derive(Clone, Debug)]
pub(super) struct Repeats<K = Spot> {
    pub(super) why: Box<str>,
    /// Conditions of which one has to hold; none: it always does.
    pub(super) when: Vec<Condition<K>>,
}

/// The texts that versions before this form of keys made keys of, where they were others.
#[derive(Clone, Debug)]
pub(super) struct Formerly<K = Spot> {
    pub(super) transaction: Vec<RoleText<K>>,
    pub(super) replay: Vec<RoleText<K>>,
}

impl<K> Default for Identity<K> {
    fn default() -> Self {
        Self {
            by: Vec::new(),
            volatile: Vec::new(),
            repeats: None,
            uncovered: Uncovered::Accepted,
            formerly: Formerly::default(),
        }
    }
}

impl<K> Default for Formerly<K> {
    fn default() -> Self {
        Self { transaction: Vec::new(), replay: Vec::new() }
    }
}

/// `[events]` and `[[event]]`: the provider's table of events.
#[derive(Clone, Debug)]
pub(super) struct EventTable {
    /// What names an event: the first that is there.
    pub(super) by: Vec<Spot>,
    /// Why the name is not signed.
    pub(super) unsigned: Option<Box<str>>,
    pub(super) rows: Vec<EventRow>,
}

/// A row of the provider's table of events.
#[derive(Clone, Debug)]
pub(super) struct EventRow {
    /// The names that the row is about.
    pub(super) is: Vec<String>,
    /// The index of its kind.
    pub(super) kind: usize,
    /// What identifies such an event beside its kind; the content where there is none.
    pub(super) id: Vec<RoleText>,
    pub(super) roles: Roles,
    pub(super) volatile: Vec<String>,
}

/// One text of a role.
#[derive(Clone, Debug)]
pub(super) struct RoleText<K = Spot> {
    pub(super) of: Text<K>,
    pub(super) when: Vec<Condition<K>>,
}

/// Where a callback's time stands and how old it may be.
#[derive(Debug)]
pub(super) struct TimeRule {
    pub(super) r#in: Text,
    pub(super) stamp: Stamp,
    pub(super) zone: Offset,
    /// Milliseconds of past and future allowed; `None`: not checked.
    pub(super) within: Option<(i64, i64)>,
}

/// What asks for the address.
#[derive(Debug, Default)]
pub(super) struct Challenge {
    pub(super) when: Vec<Condition>,
    /// A cipher text that is opened before `when` is asked.
    pub(super) open: Option<Text>,
    pub(super) probes: Probes,
}

/// What is a test.
#[derive(Debug, Default)]
pub(super) struct Test {
    pub(super) when: Vec<Condition>,
    pub(super) probes: Probes,
    pub(super) flag: Vec<Condition>,
    /// Why the flag is not signed.
    pub(super) unsigned: Option<Box<str>>,
}

/// Whether a test or an address check has to verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Probes {
    /// It has to.
    #[default]
    Signed,
    /// It is one also when no reading verifies.
    Unsigned,
}

impl Probes {
    fn from_signed(signed: Option<bool>) -> Self {
        if signed == Some(false) { Self::Unsigned } else { Self::Signed }
    }
}

/// A kind of event.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    /// Conditions of which one has to hold. None: rows of the table of events name the kind.
    pub(super) when: Vec<Condition>,
    /// Why the conditions are not signed.
    pub(super) unsigned: Option<Box<str>>,
    pub(super) roles: Roles,
    pub(super) replies: Rows,
    pub(super) also: Option<Reading>,
    pub(super) stands: KindUse,
    pub(super) formerly: FormerKind,
}

/// The keys that versions before this form of keys made of events of a kind.
#[derive(Clone, Debug)]
pub(super) struct FormerKind<K = Spot> {
    /// The number of the kind in the file of those versions, from 1; 0: it had none.
    pub(super) number: Option<u8>,
    /// Its transaction, where it was not that of the file.
    pub(super) transaction: Vec<RoleText<K>>,
}

/// What callbacks of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KindUse {
    /// Events.
    ForEvents,
    /// A console's tests: answered, never stored.
    ForTests,
}

/// How a sealed message is opened.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) of: Vec<Text>,
    pub(super) key: Text,
    pub(super) iv: Iv,
    pub(super) pad: u8,
    pub(super) frame: Option<Text>,
    pub(super) when: Vec<Condition>,
    /// The writings of the message inside: those of `reads` that are no query where it says none.
    pub(super) reads: Vec<Reads>,
}

/// Where the initialisation vector of a sealed message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iv {
    /// The first 16 bytes of the text.
    Front,
    /// The first 16 bytes of the key.
    Key,
}

/// A signature of ours.
#[derive(Debug)]
pub(super) struct Countersign {
    pub(super) of: Text,
    pub(super) with: Chain,
    pub(super) key: Option<Text>,
    pub(super) r#as: Writing,
}

/// A chain of digests, left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) first: First,
    pub(super) then: Vec<Step>,
}

/// The first step of a chain: it takes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Digest(Algorithm),
    Keyed(Algorithm),
    /// The text itself: a bare secret is all that proves the callback. Inside it is a SHA-256 on
    /// both sides, so that a comparison takes the same time whatever the lengths.
    Equal,
}

/// A further step: it takes what the one before made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Digest(Algorithm),
    Hex,
}

/// How a claim is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writing {
    /// Hex in either case.
    #[default]
    Hex,
    /// Base64 of the standard alphabet.
    Base64,
    /// Base64 of the URL-safe alphabet.
    Base64Url,
    /// The text itself; only with `equal`.
    Text,
}

/// One reading of a signature.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) why: Option<String>,
    pub(super) of: Text,
    pub(super) with: Chain,
    pub(super) public: Option<Public>,
    pub(super) key: Text,
    pub(super) r#in: Spot,
    pub(super) r#as: Writing,
    pub(super) cut: Option<usize>,
    pub(super) when: Vec<Condition>,
    pub(super) plus: Plus,
    pub(super) roles: Roles,
    pub(super) sorted: Vec<Text>,
    pub(super) pairs: Option<Pairs>,
}

/// The parameters that a reading signs as a list.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    pub(super) which: ListedParameters,
    pub(super) except: Vec<String>,
    pub(super) add: Vec<(String, Text)>,
    pub(super) order: Order,
    pub(super) shape: Shape,
    pub(super) each: Each,
    pub(super) empty: Empty,
}

/// Which parameters are in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListedParameters {
    /// These.
    Names(Vec<String>),
    /// All of the query.
    Query,
    /// All of query and form.
    All,
    /// Those of `paste`.
    Pasted,
}

/// In which order they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By name, as bytes.
    #[default]
    Name,
    /// As the file or the callback gives them.
    Given,
    /// By the sender's macro in `paste`.
    Macro,
}

/// How each name and value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Each {
    /// Decoded.
    #[default]
    Decoded,
    /// As on the wire.
    Raw,
    /// Encoded as PHP does.
    Form,
    /// Percent-encoded.
    Percent,
}

/// What becomes of empty values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Empty {
    /// They are signed as empty.
    #[default]
    Kept,
    /// They are left out.
    Dropped,
}

/// How long a sender waits, and how it tries again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderRetries {
    /// How long it waits for an answer.
    pub timeout: Option<Duration>,
    /// How often it tries again.
    pub retries: Option<u32>,
    /// The gaps between its tries, where they are known.
    pub gaps: Vec<Duration>,
    /// From the first try to the last.
    pub horizon: Option<Duration>,
    /// What makes it try again, in its own words.
    pub when: Option<String>,
}

impl Sender {
    /// Reads and checks a sender file called `name`.
    ///
    /// # Errors
    /// Every mistake in the file, at once; a file that is no TOML has one, with its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<DefinitionError>> {
        let file: File = toml::from_str(text).map_err(|error| {
            let place = error.span().map_or(String::new(), |span| {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}")
            });
            vec![DefinitionError::new(place, error.message().trim(), "see the sender language")]
        })?;
        let mut reader = Reader { faults: Vec::new() };
        let sender = reader.sender(name, text, file);
        if reader.faults.is_empty() { Ok(sender) } else { Err(reader.faults) }
    }

    /// Its name: the file's, without `.toml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its title, for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Links to its documentation.
    #[must_use]
    pub fn docs(&self) -> &[String] {
        &self.docs
    }

    /// What its facts rest on, where its file says so.
    #[must_use]
    pub fn basis(&self) -> Option<Basis> {
        self.basis
    }

    /// What nobody outside has confirmed; shown wherever the sender is.
    #[must_use]
    pub fn unconfirmed(&self) -> &[String] {
        &self.unconfirmed
    }

    /// What the sender calls its secret; `None`: it has none.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// Whether a source may run without a secret.
    #[must_use]
    pub fn may_be_unsigned(&self) -> bool {
        self.unsigned || self.readings.is_empty()
    }

    /// The methods it calls with; the first is the usual one.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The names of the sender's own macros, as its console replaces them in a URL.
    pub fn macros(&self) -> impl Iterator<Item = &str> {
        self.paste.iter().filter_map(|pasted| name_of(pasted.value.as_bytes()))
    }

    /// Where it publishes its public keys, and the longest time that they are kept.
    #[must_use]
    pub fn key_set(&self) -> Option<(&Uri, Duration)> {
        self.key_set.as_ref().map(|set| (&set.url, set.keep))
    }

    /// Further keys that a source of this sender may have: name and what it is.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Settings that say what is the source's own. A sender that signs for everybody alike has
    /// some: without them, anybody's callbacks are taken.
    pub fn ours(&self) -> impl Iterator<Item = &str> {
        self.ours.iter().map(|(name, _)| name.as_str())
    }

    /// Its patience.
    #[must_use]
    pub fn patience(&self) -> &SenderRetries {
        &self.patience
    }

    /// Addresses that it publishes, for `allow = "sender"`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Roles whose value an app sets, signed or not.
    #[must_use]
    pub fn from_client(&self) -> &[Role] {
        &self.from_client
    }

    /// Names whose shape is an assumption until a source says `confirmed`.
    pub fn unconfirmed_shapes(&self) -> impl Iterator<Item = &str> {
        let shapes = self.shapes.of.iter();
        let assumed = shapes.filter(|(_, shape)| shape.basis == ShapeBasis::Unconfirmed);
        assumed.map(|(name, _)| name.as_str())
    }

    /// Why each further reading of its signature is there.
    pub fn readings(&self) -> impl Iterator<Item = Option<&str>> {
        self.readings.iter().map(|reading| reading.why.as_deref())
    }

    /// The file as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Sender {
    /// The parameter that `role` is, where it is just one.
    pub(super) fn single_parameter(&self, role: Role) -> Option<String> {
        let [text] = self.roles.texts.get(role)?.as_slice() else { return None };
        match text.of.pieces.as_slice() {
            [Piece::Value(spot)] if spot.came() && !spot.key.contains('.') => {
                Some(spot.key.clone())
            }
            _ => None,
        }
    }

    /// The parameter without which no event can be made: the transaction, where no kind and no
    /// reading takes another.
    pub(super) fn only_transaction(&self) -> Option<String> {
        let others = self.kinds.iter().map(|kind| &kind.roles);
        let others = others.chain(self.readings.iter().map(|reading| &reading.roles));
        let mut overriding = others.filter(|roles| roles.texts.has(Role::Transaction));
        if overriding.next().is_some() || self.open.is_some() || self.events.is_some() {
            return None;
        }
        self.single_parameter(Role::Transaction)
    }

    /// The names of parameters whose value is a sealed message.
    pub(super) fn sealed_names(&self) -> Vec<&str> {
        let opened = self.open.iter().flat_map(|open| &open.of).chain(&self.challenge.open);
        opened.flat_map(Text::spots).map(|spot| spot.key.as_str()).collect()
    }
}

/// The status that a number in a file stands for.
pub(super) fn status(number: i64) -> Option<StatusCode> {
    let number = u16::try_from(number).ok().filter(|number| *number >= 200)?;
    StatusCode::from_u16(number).ok()
}

/// Whether `text` reads what is known here as `key`.
fn reads(text: &Text, key: &str) -> bool {
    text.spots().any(|spot| !spot.came() && spot.key == key)
}

impl Reading {
    /// Whether its key reads what is known here as `key`.
    pub(super) fn reads(&self, key: &str) -> bool {
        reads(&self.key, key)
    }
}

impl Spot {
    /// The first step of its key, and the rest.
    pub(super) fn steps(&self) -> (&str, impl Iterator<Item = &str>) {
        let mut steps = self.key.split('.');
        (steps.next().unwrap_or_default(), steps)
    }

    /// Whether it came with the callback.
    pub(super) fn came(&self) -> bool {
        self.origin == Origin::Callback
    }
}
