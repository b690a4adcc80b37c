//! What a genuine callback says.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// What a value of a callback means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The sender's id of the thing that happened.
    Transaction,
    /// Who is to be rewarded.
    User,
    /// What is given.
    Item,
    /// How much of it.
    Amount,
    /// In which currency.
    Currency,
    /// What the app passed through.
    Custom,
    /// The transaction that this one takes back.
    Reverses,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Transaction,
        Self::User,
        Self::Item,
        Self::Amount,
        Self::Currency,
        Self::Custom,
        Self::Reverses,
    ];

    /// The name in sender files and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::User => "user",
            Self::Item => "item",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::Custom => "custom",
            Self::Reverses => "reverses",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// What an event does to the balance of its user: a closed set, in events, the API and the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Adds to it.
    #[default]
    Grant,
    /// Takes an earlier grant back.
    Revoke,
    /// Leaves it as it is: probes, pending states, pushes, generic webhooks.
    None,
}

impl Effect {
    /// Every effect, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Grant, Self::Revoke, Self::None];

    /// The word in sender files and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Revoke => "revoke",
            Self::None => "none",
        }
    }

    /// The effect of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effect| effect.as_str() == name)
    }
}

/// The part of a currency that a provider counts in, where its amounts are not whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountUnit {
    /// A hundredth of a yuan.
    Fen,
    /// A hundredth of a dollar, euro and the like.
    Cent,
    /// A millionth of a unit.
    Micro,
}

impl AmountUnit {
    /// Every unit.
    pub const ALL: [Self; 3] = [Self::Fen, Self::Cent, Self::Micro];

    /// The word in sender files and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fen => "fen",
            Self::Cent => "cent",
            Self::Micro => "micro",
        }
    }

    /// The unit of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }
}

/// A fact about a callback that is not the value of a role, and that a signature may cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Its kind.
    Kind,
    /// Whether it is a test.
    Test,
}

impl Fact {
    /// The word in `authenticated`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Test => "test",
        }
    }
}

/// Something for each role that has it: a map whose look-up is an index.
#[derive(Clone, Debug)]
pub(super) struct ByRole<T>([Option<T>; Role::ALL.len()]);

impl<T> Default for ByRole<T> {
    fn default() -> Self {
        Self([const { None }; Role::ALL.len()])
    }
}

impl<T> ByRole<T> {
    pub(super) fn get(&self, role: Role) -> Option<&T> {
        self.0[role as usize].as_ref()
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.get(role).is_some()
    }

    pub(super) fn insert(&mut self, role: Role, value: T) {
        self.0[role as usize] = Some(value);
    }

    /// What is there, in the order of [`Role::ALL`].
    pub(super) fn iter(&self) -> impl Iterator<Item = (Role, &T)> + Clone {
        Role::ALL.into_iter().zip(&self.0).filter_map(|(role, one)| Some((role, one.as_ref()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> + Clone {
        self.iter().map(|(_, value)| value)
    }
}

/// What a genuine callback says. Only [`super::Verified::resolve`] makes one.
#[derive(Debug)]
pub struct Resolved {
    pub(super) texts: String,
    pub(super) roles: [Option<Span>; Role::ALL.len()],
    pub(super) kind: Option<String>,
    pub(super) test: bool,
    pub(super) unresolved: Vec<String>,
    pub(super) authenticated: SmallVec<[Role; Role::ALL.len()]>,
    /// Facts that the signature covers besides the roles.
    pub(super) covered: SmallVec<[Fact; 2]>,
    pub(super) effect: Effect,
    pub(super) unit: Option<AmountUnit>,
    /// Roles that are shown percent-encoded, because they are not UTF-8.
    pub(super) escaped: SmallVec<[Role; 1]>,
    pub(super) recut: Vec<String>,
    pub(super) params: Span,
    pub(super) template: Span,
    pub(super) keys: Keys,
    pub(super) secret: Option<usize>,
}

/// Texts of a callback that is resolved, one behind the other: one buffer in place of a dozen.
#[derive(Debug)]
pub(super) struct Texts(Vec<u8>);

/// One of several texts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

/// One or two de-duplication keys, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Keys {
    bytes: SmallVec<[u8; KEYS_BYTES]>,
    /// Where each begins.
    starts: SmallVec<[usize; 2]>,
}

/// Bytes of keys that stay off the heap: a usual transaction, and a digest.
const KEYS_BYTES: usize = 104;

impl Texts {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Takes the text that `write` writes: UTF-8, always.
    pub(super) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.0.len();
        write(&mut self.0);
        Span { start, end: self.0.len() }
    }

    pub(super) fn get(&self, span: Span) -> &[u8] {
        self.0.get(span.start..span.end).unwrap_or_default()
    }

    pub(super) fn finish(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }
}

impl Keys {
    /// Begins the next key; what is returned takes its bytes.
    pub(super) fn begin(&mut self) -> &mut SmallVec<[u8; KEYS_BYTES]> {
        self.starts.push(self.bytes.len());
        &mut self.bytes
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.starts.iter().skip(1).copied().chain(std::iter::once(self.bytes.len()));
        self.starts.iter().zip(ends).map(|(start, end)| &self.bytes[*start..end])
    }
}

impl Resolved {
    /// The value of `role`, if the callback has it. The transaction is always there.
    #[must_use]
    pub fn role(&self, role: Role) -> Option<&str> {
        self.roles[role as usize].map(|span| self.text(span))
    }

    fn text(&self, span: Span) -> &str {
        self.texts.get(span.start..span.end).unwrap_or_default()
    }

    /// The name of the kind of a callback to which no kind of its sender's file applies.
    pub const PLAIN_KIND: &str = "event";

    /// The name of its kind in the sender's file, or [`Resolved::PLAIN_KIND`].
    #[must_use]
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(Self::PLAIN_KIND)
    }

    /// What it does to the balance of its user. A callback that reverses another one revokes.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self.role(Role::Reverses) {
            Some(_) if self.effect == Effect::Grant => Effect::Revoke,
            _ => self.effect,
        }
    }

    /// The unit of its amount, where the provider counts in parts.
    #[must_use]
    pub fn amount_unit(&self) -> Option<AmountUnit> {
        self.unit
    }

    /// Facts that the signature covers besides the roles.
    #[must_use]
    pub fn covered(&self) -> &[Fact] {
        &self.covered
    }

    /// Roles whose value is percent-encoded as a whole, because it is not UTF-8.
    #[must_use]
    pub fn escaped(&self) -> &[Role] {
        &self.escaped
    }

    /// Whether it is a real callback that the sender marks as a test.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.test
    }

    /// Names that were asked for and not there, or whose macro the sender left unreplaced.
    #[must_use]
    pub fn unresolved(&self) -> &[String] {
        &self.unresolved
    }

    /// The roles that the signature covers.
    #[must_use]
    pub fn authenticated(&self) -> &[Role] {
        &self.authenticated
    }

    /// Parameters whose value could have been cut anew without changing the signature.
    #[must_use]
    pub fn recut(&self) -> &[String] {
        &self.recut
    }

    /// The parameters as received, a JSON object; claims are masked.
    #[must_use]
    pub fn params(&self) -> &str {
        self.text(self.params)
    }

    /// The source's template, resolved, a JSON object of texts.
    #[must_use]
    pub fn template(&self) -> &str {
        self.text(self.template)
    }

    /// One or two de-duplication keys, each unambiguous within its source: the transaction first,
    /// then, where the signature does not cover it, what was signed.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter()
    }

    /// Which of the source's secrets matched; `None` where nothing is signed.
    #[must_use]
    pub fn secret(&self) -> Option<usize> {
        self.secret
    }
}
