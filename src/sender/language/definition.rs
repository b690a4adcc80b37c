//! A sender file, checked: every text read, every name known, nothing bound to a source yet.

mod certificate;
mod cipher;
mod confirm;
mod effects;
mod event_list;
mod pasted;
mod public;
mod reader;
mod routing;
mod sender;
mod token;

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use jiff::tz::Offset;

use super::condition::Condition;
use super::recut::chains::NameOrder;
use super::shape::Shape;
use super::text::{Origin, Spot, Text};
use super::time::Stamp;
use super::value_shape::{ByteSet, ValueShape};
use super::vector::Vector;
use crate::sender::acts::reply::Rows;
use crate::sender::acts::resolved::{AmountUnit, ByRole, Effect, Role};
use crate::sender::crypto::digest::Algorithm;
use crate::sender::crypto::jws::JwsAlgorithm;
use crate::sender::request::encoding::Plus;

use self::reader::Reader;

pub(in crate::sender) use cipher::{AesKey, Cipher, Iv, Open};
pub(in crate::sender) use confirm::Confirm;
pub use effects::SenderEffects;
pub(in crate::sender) use event_list::EventList;
pub(in crate::sender) use public::{KeySet, Public, Signs};
pub use routing::{Precedence, SenderRouting};
pub(in crate::sender) use token::{Claim, TokenKey, TokenRule};

/// A sender: one file of the catalog, checked.
#[derive(Debug)]
pub struct Sender {
    pub(in crate::sender) name: String,
    pub(in crate::sender) title: String,
    /// Other names that people know it by.
    pub(in crate::sender) aliases: Vec<String>,
    pub(in crate::sender) docs: Vec<String>,
    pub(in crate::sender) basis: Option<Basis>,
    pub(in crate::sender) unconfirmed: Vec<String>,
    pub(in crate::sender) secret: Option<String>,
    /// Why its signatures are weak.
    pub(in crate::sender) weak: Option<String>,
    pub(in crate::sender) methods: Vec<Method>,
    pub(in crate::sender) reads: Vec<Reads>,
    pub(in crate::sender) root: Root,
    /// The list of events in one callback.
    pub(in crate::sender) each: Option<EventList>,
    pub(in crate::sender) paste: Vec<Pasted>,
    /// Parameters that the sender adds to the pasted query by itself.
    pub(in crate::sender) appends: Vec<String>,
    pub(in crate::sender) unsigned: bool,
    pub(in crate::sender) from_client: Vec<Role>,
    /// Placeholders of the sender's secrets: shown nowhere.
    pub(in crate::sender) masked: Vec<Spot>,
    /// Headers and their second names.
    pub(in crate::sender) header_names: Vec<(HeaderName, HeaderName)>,
    pub(in crate::sender) addresses: Vec<String>,
    pub(in crate::sender) settings: Vec<(String, String)>,
    pub(in crate::sender) lists: Vec<List>,
    /// Settings that name what belongs to the source, each with the placeholder of a callback.
    pub(in crate::sender) ours: Vec<(String, Text)>,
    pub(in crate::sender) roles: Roles,
    /// Shapes of parameters, by the key under which texts read them.
    pub(in crate::sender) shapes: Shapes,
    pub(in crate::sender) identity: Identity,
    pub(in crate::sender) time: Option<TimeRule>,
    pub(in crate::sender) known: Vec<(String, Text)>,
    pub(in crate::sender) codes: BTreeMap<String, toml::Value>,
    pub(in crate::sender) challenge: Challenge,
    pub(in crate::sender) test: Test,
    pub(in crate::sender) kinds: Vec<Kind>,
    pub(in crate::sender) events: Option<EventTable>,
    pub(in crate::sender) open: Option<Open>,
    pub(in crate::sender) token: Option<TokenRule>,
    pub(in crate::sender) key_set: Option<KeySet>,
    pub(in crate::sender) confirm: Option<Confirm>,
    pub(in crate::sender) countersign: Option<Countersign>,
    pub(in crate::sender) retries: SenderRetries,
    pub(in crate::sender) routing: SenderRouting,
    pub(in crate::sender) variants: Vec<SignatureVariant>,
    pub(in crate::sender) replies: Rows,
    pub(in crate::sender) vectors: Vec<Vector>,
    pub(in crate::sender) text: String,
}

/// The basis of a file's facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The sender's documentation.
    Documentation,
    /// Public implementations do so; the sender's own word has not been seen.
    Implementations,
}

impl Basis {
    /// A phrase for the contract.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Documentation => "confirmed by the sender's own documentation",
            Self::Implementations => "taken from public implementations, not from the sender",
        }
    }
}

/// Variants of a signature that a file may have: with four live secrets that bounds the digests
/// of one callback at sixteen.
pub(in crate::sender) const READINGS_MAX: usize = 4;

/// Characters of a supplied signature that may be kept: fewer than eight of hex are guessed within
/// hours, and a SHA-512 has no more.
const CUT_MIN: usize = 8;
const CUT_MAX: usize = 128;

/// Where `{…}` is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Reads {
    Query,
    Form,
    Json,
    Xml,
}

/// The form of a JSON body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Root {
    /// An object, whose members are parameters.
    #[default]
    Object,
    /// A list of objects. It has no parameters; the callback is one event, identified by its
    /// content, or one event for each object ([`EventList`]), whose members are the parameters.
    List,
}

/// One pair of the query to paste: our name and the sender's macro.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Pasted {
    pub(in crate::sender) name: String,
    pub(in crate::sender) value: String,
}

/// A list inside a value, read by its shape.
#[derive(Debug)]
pub(in crate::sender) struct List {
    pub(in crate::sender) name: String,
    pub(in crate::sender) of: Text,
    pub(in crate::sender) shape: Shape,
}

/// The texts of the roles; each role takes the first that can be made.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Roles<K = Spot> {
    /// By role.
    pub(in crate::sender) texts: ByRole<Vec<RoleText<K>>>,
    /// Effects of an event on a balance: the first rule that applies.
    pub(in crate::sender) effects: Vec<EffectRule<K>>,
    /// The unit of the amount, where the provider counts in parts: `fen`, `cent`, `milli`, `micro`.
    pub(in crate::sender) amount_unit: Option<AmountUnit>,
}

impl<K> Default for Roles<K> {
    fn default() -> Self {
        Self { texts: ByRole::default(), effects: Vec::new(), amount_unit: None }
    }
}

/// An effect of an event on a balance, possibly under a condition.
#[derive(Clone, Debug)]
pub(in crate::sender) struct EffectRule<K = Spot> {
    pub(in crate::sender) effect: Effect,
    /// Conditions of which one has to hold; none: it always applies.
    pub(in crate::sender) when: Vec<Condition<K>>,
}

/// `[shapes]`: what the provider can put into parameters.
#[derive(Clone, Debug, Default)]
pub(in crate::sender) struct Shapes {
    /// By the key that texts read them under: `id`, `header.webhook-id`, `sig.t`.
    pub(in crate::sender) of: BTreeMap<String, ValueShape>,
    /// Parameters that reject a callback if they do not fit.
    pub(in crate::sender) refuse: Vec<String>,
    /// Parameters that are all there or none.
    pub(in crate::sender) together: Vec<String>,
    /// Whether the provider writes the names of a query in ascending order.
    pub(in crate::sender) order: NameOrder,
}

/// `[identity]`: which callbacks are the same event.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Identity<K = Spot> {
    /// The texts that identify an event; the transaction's where there is none.
    pub(in crate::sender) by: Vec<RoleText<K>>,
    /// Members that a provider changes when it repeats a callback.
    pub(in crate::sender) volatile: Vec<String>,
    /// Why one signature serves several transactions, and when it does.
    pub(in crate::sender) repeats: Option<Repeats<K>>,
    /// Handling of a callback whose signature does not cover its identity.
    pub(in crate::sender) uncovered: Uncovered,
    /// The texts of the keys that versions before this form of keys made.
    pub(in crate::sender) formerly: Formerly<K>,
}

/// Handling of a callback whose signature does not cover its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Uncovered {
    /// Accepted: one event for each signature.
    Accepted,
    /// Rejected, unless the source says `replayable = true`.
    Rejected,
    /// Accepted only because the source says `replayable = true`, as is any other callback under
    /// the same signature.
    Replayable,
}

/// Why one signature serves several transactions.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Repeats<K = Spot> {
    pub(in crate::sender) why: Box<str>,
    /// Conditions of which one has to hold; none: it always does.
    pub(in crate::sender) when: Vec<Condition<K>>,
}

/// The texts that versions before this form of keys made keys of, where they were others.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Formerly<K = Spot> {
    pub(in crate::sender) transaction: Vec<RoleText<K>>,
    pub(in crate::sender) replay: Vec<RoleText<K>>,
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
pub(in crate::sender) struct EventTable {
    /// Placeholders that name an event: the first that is present counts.
    pub(in crate::sender) by: Vec<Spot>,
    /// Why the name is not signed.
    pub(in crate::sender) unsigned: Option<Box<str>>,
    pub(in crate::sender) rows: Vec<EventRow>,
}

/// A row of the provider's table of events.
#[derive(Clone, Debug)]
pub(in crate::sender) struct EventRow {
    /// The names that the row is about.
    pub(in crate::sender) is: Vec<String>,
    /// The index of its kind.
    pub(in crate::sender) kind: usize,
    /// The identity of such an event beside its kind; the content if empty.
    pub(in crate::sender) id: Vec<RoleText>,
    pub(in crate::sender) roles: Roles,
    pub(in crate::sender) volatile: Vec<String>,
}

/// One text of a role.
#[derive(Clone, Debug)]
pub(in crate::sender) struct RoleText<K = Spot> {
    pub(in crate::sender) of: Text<K>,
    pub(in crate::sender) when: Vec<Condition<K>>,
}

/// The place of a callback's time, and its allowed age.
#[derive(Debug)]
pub(in crate::sender) struct TimeRule {
    pub(in crate::sender) r#in: Text,
    pub(in crate::sender) stamp: Stamp,
    pub(in crate::sender) zone: Offset,
    /// Milliseconds of past and future allowed; `None`: not checked.
    pub(in crate::sender) within: Option<(i64, i64)>,
}

/// Address checks.
#[derive(Debug, Default)]
pub(in crate::sender) struct Challenge {
    pub(in crate::sender) when: Vec<Condition>,
    /// A cipher text that is opened before `when` is asked.
    pub(in crate::sender) open: Option<Text>,
    pub(in crate::sender) probes: Probes,
}

/// Test requests.
#[derive(Debug, Default)]
pub(in crate::sender) struct Test {
    pub(in crate::sender) when: Vec<Condition>,
    pub(in crate::sender) probes: Probes,
    pub(in crate::sender) flag: Vec<Condition>,
    /// Why the flag is not signed.
    pub(in crate::sender) unsigned: Option<Box<str>>,
}

/// Whether a test or an address check has to verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Probes {
    /// Signed.
    #[default]
    Signed,
    /// Accepted also if no signature variant verifies.
    Unsigned,
}

impl Probes {
    fn from_signed(signed: Option<bool>) -> Self {
        if signed == Some(false) { Self::Unsigned } else { Self::Signed }
    }
}

/// A kind of event.
#[derive(Debug)]
pub(in crate::sender) struct Kind {
    pub(in crate::sender) name: String,
    /// Conditions of which one has to hold. None: rows of the table of events name the kind.
    pub(in crate::sender) when: Vec<Condition>,
    /// Why the conditions are not signed.
    pub(in crate::sender) unsigned: Option<Box<str>>,
    pub(in crate::sender) roles: Roles,
    pub(in crate::sender) replies: Rows,
    pub(in crate::sender) also: Option<SignatureVariant>,
    pub(in crate::sender) stands: KindUse,
    pub(in crate::sender) formerly: FormerKind,
}

/// The keys that versions before this form of keys made of events of a kind.
#[derive(Clone, Debug)]
pub(in crate::sender) struct FormerKind<K = Spot> {
    /// The number of the kind in the file of those versions, from 1; 0: it had none.
    pub(in crate::sender) number: Option<u8>,
    /// Its transaction, where it was not that of the file.
    pub(in crate::sender) transaction: Vec<RoleText<K>>,
}

/// The use of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum KindUse {
    /// Events.
    ForEvents,
    /// A console's tests: answered, never stored.
    ForTests,
}

/// A signature of ours.
#[derive(Debug)]
pub(in crate::sender) struct Countersign {
    pub(in crate::sender) of: Text,
    pub(in crate::sender) with: Chain,
    pub(in crate::sender) key: Option<Text>,
    pub(in crate::sender) r#as: Writing,
}

/// A chain of digests, left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Chain {
    pub(in crate::sender) first: First,
    pub(in crate::sender) then: Vec<Step>,
}

/// The first step of a chain: it takes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum First {
    Digest(Algorithm),
    Keyed(Algorithm),
    /// The text itself: a bare secret is all that proves the callback. Inside it is a SHA-256 on
    /// both sides, so that a comparison takes the same time whatever the lengths.
    Equal,
}

/// A further step: it takes what the one before made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Step {
    Digest(Algorithm),
    Hex,
}

/// How a supplied signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Writing {
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

/// One variant of a signature.
#[derive(Clone, Debug)]
pub(in crate::sender) struct SignatureVariant {
    pub(in crate::sender) why: Option<String>,
    pub(in crate::sender) of: Text,
    pub(in crate::sender) with: Chain,
    pub(in crate::sender) public: Option<Public>,
    pub(in crate::sender) key: Text,
    pub(in crate::sender) r#in: Spot,
    pub(in crate::sender) r#as: Writing,
    pub(in crate::sender) cut: Option<usize>,
    pub(in crate::sender) when: Vec<Condition>,
    pub(in crate::sender) plus: Plus,
    pub(in crate::sender) roles: Roles,
    pub(in crate::sender) sorted: Vec<Text>,
    pub(in crate::sender) pairs: Option<Pairs>,
    /// The algorithm that the header of the token has to name, where a token is verified.
    pub(in crate::sender) token: Option<JwsAlgorithm>,
}

/// The parameters that a variant signs as a list.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Pairs {
    pub(in crate::sender) which: ListedParameters,
    pub(in crate::sender) except: Vec<String>,
    pub(in crate::sender) add: Vec<(String, Text)>,
    pub(in crate::sender) order: Order,
    pub(in crate::sender) shape: Shape,
    pub(in crate::sender) each: Each,
    pub(in crate::sender) empty: Empty,
}

/// Which parameters are in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum ListedParameters {
    /// The listed names.
    Names(Vec<String>),
    /// All of the query.
    Query,
    /// All of the form.
    Form,
    /// All of query and form.
    All,
    /// The names in `paste`.
    Pasted,
}

/// The order of the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Order {
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
pub(in crate::sender) enum Each {
    /// Decoded.
    #[default]
    Decoded,
    /// As on the wire.
    Raw,
    /// Encoded as PHP does.
    Form,
    /// Percent-encoded.
    Percent,
    /// Percent-encoded, but for these bytes.
    Escaped(ByteSet),
}

/// Handling of empty values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Empty {
    /// Signed as empty.
    #[default]
    Kept,
    /// Omitted.
    Dropped,
}

/// A sender's timeout and retries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderRetries {
    /// How long it waits for an answer.
    pub timeout: Option<Duration>,
    /// Number of retries.
    pub retries: Option<u32>,
    /// The gaps between its tries, where they are known.
    pub gaps: Vec<Duration>,
    /// From the first try to the last.
    pub horizon: Option<Duration>,
    /// The sender's condition for a retry, as prose.
    pub when: Option<String>,
}

/// The status for a number in a file.
pub(in crate::sender) fn status(number: i64) -> Option<StatusCode> {
    let number = u16::try_from(number).ok().filter(|number| *number >= 200)?;
    StatusCode::from_u16(number).ok()
}

/// Whether `text` reads what is known here as `key`.
fn reads(text: &Text, key: &str) -> bool {
    text.spots().any(|spot| !spot.came() && spot.key == key)
}

impl SignatureVariant {
    /// Whether its key reads what is known here as `key`.
    pub(in crate::sender) fn reads(&self, key: &str) -> bool {
        reads(&self.key, key)
    }
}

impl Spot {
    /// The first step of its key, and the rest.
    pub(in crate::sender) fn steps(&self) -> (&str, impl Iterator<Item = &str>) {
        let mut steps = self.steps.iter().map(|step| &**step);
        (steps.next().unwrap_or_default(), steps)
    }

    /// Whether it came with the callback.
    pub(in crate::sender) fn came(&self) -> bool {
        self.origin == Origin::Callback
    }
}
