//! The facts of a verified callback.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The meaning of a callback's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The sender's id of the thing that happened.
    Transaction,
    /// Who is to be rewarded.
    User,
    /// The item.
    Item,
    /// How much of it.
    Amount,
    /// In which currency.
    Currency,
    /// The app's pass-through data.
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

/// The effect of an event on its user's balance: a closed set, in events, the API and the console.
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
    /// 0.01 yuan.
    Fen,
    /// The smallest unit of the currency: 0.01 dollar or euro, one yen.
    Cent,
    /// A thousandth of a unit.
    Milli,
    /// A millionth of a unit.
    Micro,
}

impl AmountUnit {
    /// Every unit.
    pub const ALL: [Self; 4] = [Self::Fen, Self::Cent, Self::Milli, Self::Micro];

    /// The word in sender files and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fen => "fen",
            Self::Cent => "cent",
            Self::Milli => "milli",
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

/// The proof of which event a callback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityProof {
    /// Its signatures, or nothing does and nothing has to: nothing is signed, an operator grants it,
    /// or one signature serves several events.
    Usual,
    /// Only the second signature that its kind asks for: without that, another message could have
    /// the first one.
    OfKind,
    /// None: another message could have its signature.
    None,
}

/// A map by role: a lookup is an index.
#[derive(Clone, Debug)]
pub(in crate::sender) struct ByRole<T>([Option<T>; Role::ALL.len()]);

impl<T> Default for ByRole<T> {
    fn default() -> Self {
        Self([const { None }; Role::ALL.len()])
    }
}

impl<T> ByRole<T> {
    pub(in crate::sender) fn get(&self, role: Role) -> Option<&T> {
        self.0[role as usize].as_ref()
    }

    pub(in crate::sender) fn has(&self, role: Role) -> bool {
        self.get(role).is_some()
    }

    pub(in crate::sender) fn insert(&mut self, role: Role, value: T) {
        self.0[role as usize] = Some(value);
    }

    /// The entries, in the order of [`Role::ALL`].
    pub(in crate::sender) fn iter(&self) -> impl Iterator<Item = (Role, &T)> + Clone {
        Role::ALL.into_iter().zip(&self.0).filter_map(|(role, one)| Some((role, one.as_ref()?)))
    }

    pub(in crate::sender) fn values(&self) -> impl Iterator<Item = &T> + Clone {
        self.iter().map(|(_, value)| value)
    }
}

/// The facts of a verified callback. Only [`crate::sender::Verified::resolve`] makes one.
#[derive(Debug)]
pub struct Resolved {
    pub(in crate::sender) texts: String,
    pub(in crate::sender) roles: [Option<Span>; Role::ALL.len()],
    /// The place of each role in target and body, joined.
    pub(in crate::sender) positions: [Option<u32>; Role::ALL.len()],
    pub(in crate::sender) kind: Option<String>,
    pub(in crate::sender) test: bool,
    pub(in crate::sender) unresolved: Vec<String>,
    pub(in crate::sender) authenticated: SmallVec<[Role; Role::ALL.len()]>,
    /// Facts other than roles that the signature covers.
    pub(in crate::sender) covered: SmallVec<[Fact; 2]>,
    pub(in crate::sender) effect: Effect,
    pub(in crate::sender) unit: Option<AmountUnit>,
    /// Roles that are shown percent-encoded, because they are not UTF-8.
    pub(in crate::sender) escaped: SmallVec<[Role; 1]>,
    pub(in crate::sender) recut: Vec<String>,
    pub(in crate::sender) template: Span,
    pub(in crate::sender) keys: Keys,
    pub(in crate::sender) proof: IdentityProof,
    pub(in crate::sender) content: u64,
    pub(in crate::sender) misfits: Vec<String>,
    pub(in crate::sender) secret: Option<usize>,
}

/// Texts of a callback that is resolved, joined: one buffer in place of a dozen.
#[derive(Debug)]
pub(in crate::sender) struct Texts(String);

/// One of several texts.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct Span {
    start: usize,
    end: usize,
}

/// Deduplication keys, joined.
#[derive(Debug, Default)]
pub(in crate::sender) struct Keys {
    bytes: KeyBytes,
    /// Where each begins, and what it is for.
    starts: SmallVec<[(usize, KeyPlace); 3]>,
}

/// Bytes of keys.
type KeyBytes = Vec<u8>;

/// Room for the keys of a usual callback: those of its transaction and its signature.
const KEYS_BYTES: usize = 128;

/// A key that is looked up and never written.
#[derive(Clone, Copy, Debug)]
pub struct KeyLookup<'r> {
    /// The meaning of the key.
    pub role: KeyRole,
    /// Why it is looked up.
    pub form: KeyForm,
    /// Its bytes.
    pub key: &'r [u8],
}

/// The meaning of a known key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyRole {
    /// The same thing happened.
    Identity,
    /// The same text was signed.
    Signature,
}

/// Why a key is looked up and never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyForm {
    /// An older version wrote the key in this form, with a content of that version. A duplicate
    /// adds today's keys to the first event.
    Older,
    /// The callback has a mark that nothing signs, and this is the key without it. A marked
    /// duplicate adds nothing to the first event.
    Unmarked,
}

/// Where a key belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyPlace {
    Written(KeyRole),
    LookedUp(KeyRole, KeyForm),
}

impl Texts {
    pub(in crate::sender) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Takes a text.
    #[inline]
    pub(in crate::sender) fn put(&mut self, text: &str) -> Span {
        let start = self.0.len();
        self.0.push_str(text);
        Span { start, end: self.0.len() }
    }

    pub(in crate::sender) fn get(&self, span: Span) -> &str {
        self.0.get(span.start..span.end).unwrap_or_default()
    }

    pub(in crate::sender) fn finish(self) -> String {
        self.0
    }
}

impl Keys {
    /// Begins an identity key; what is returned takes its bytes.
    pub(in crate::sender) fn identity(&mut self) -> &mut KeyBytes {
        self.begin(KeyPlace::Written(KeyRole::Identity))
    }

    /// Begins a signature key.
    pub(in crate::sender) fn signature(&mut self) -> &mut KeyBytes {
        self.begin(KeyPlace::Written(KeyRole::Signature))
    }

    /// Begins a key that is only looked up.
    pub(in crate::sender) fn lookup(&mut self, role: KeyRole, form: KeyForm) -> &mut KeyBytes {
        self.begin(KeyPlace::LookedUp(role, form))
    }

    fn begin(&mut self, place: KeyPlace) -> &mut KeyBytes {
        if self.starts.is_empty() {
            self.bytes.reserve(KEYS_BYTES);
        }
        self.starts.push((self.bytes.len(), place));
        &mut self.bytes
    }

    fn iter(&self) -> impl Iterator<Item = (KeyPlace, &[u8])> {
        let starts = self.starts.iter().skip(1).map(|(start, _)| *start);
        let ends = starts.chain(std::iter::once(self.bytes.len()));
        self.starts.iter().zip(ends).map(|((start, place), end)| (*place, &self.bytes[*start..end]))
    }

    fn written(&self, role: KeyRole) -> impl Iterator<Item = &[u8]> {
        let is_it = move |place| place == KeyPlace::Written(role);
        self.iter().filter(move |(place, _)| is_it(*place)).map(|(_, key)| key)
    }
}

impl Resolved {
    /// Makes a test of it, whatever its sender says: it has no effect.
    pub fn make_test(&mut self) {
        self.test = true;
        self.effect = Effect::None;
    }

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

    /// The effect on the user's balance. A callback that reverses another one revokes.
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

    /// Facts other than roles that the signature covers.
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

    /// Names that are missing, or whose macro the sender left unreplaced.
    #[must_use]
    pub fn unresolved(&self) -> &[String] {
        &self.unresolved
    }

    /// The roles that the signature covers.
    #[must_use]
    pub fn authenticated(&self) -> &[Role] {
        &self.authenticated
    }

    /// Parameters whose value could have been re-cut under the same signature.
    #[must_use]
    pub fn recut(&self) -> &[String] {
        &self.recut
    }

    /// The position of `role`'s value in the target and the body, joined, of the
    /// request that was resolved; `None` if it does not stand there as it is.
    #[must_use]
    pub fn position(&self, role: Role) -> Option<usize> {
        self.positions[role as usize].map(|at| at as usize)
    }

    /// The source's template, resolved, a JSON object of texts.
    #[must_use]
    pub fn template(&self) -> &str {
        match self.text(self.template) {
            "" => "{}",
            template => template,
        }
    }

    /// Whether the source has a template.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.template.end > self.template.start
    }

    /// The keys of what happened, each unambiguous within its source: one, and one more for each
    /// further signature that names a transaction of its own.
    pub fn identities(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.written(KeyRole::Identity)
    }

    /// The identity key without the mark of a test, where nothing signs that: the same as that of
    /// the unmarked callback.
    #[must_use]
    pub fn unmarked_identity(&self) -> Option<&[u8]> {
        let unmarked =
            |one: &KeyLookup<'_>| (one.role, one.form) == (KeyRole::Identity, KeyForm::Unmarked);
        let lookup = self.lookups().find(unmarked).map(|one| one.key);
        lookup.or_else(|| self.identities().next())
    }

    /// The keys of what was signed: one for each signature that does not cover the identity alone.
    pub fn signature_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.written(KeyRole::Signature)
    }

    /// The proof of which event it is.
    #[must_use]
    pub fn identity_proof(&self) -> IdentityProof {
        self.proof
    }

    /// Keys that are looked up and never written: the unmarked ones of a marked callback, and those
    /// that earlier versions made.
    pub fn lookups(&self) -> impl Iterator<Item = KeyLookup<'_>> {
        self.keys.iter().filter_map(|(place, key)| match place {
            KeyPlace::LookedUp(role, form) => Some(KeyLookup { role, form, key }),
            KeyPlace::Written(_) => None,
        })
    }

    /// A digest of the content: a known identity with another content is a conflict.
    #[must_use]
    pub fn content(&self) -> u64 {
        self.content
    }

    /// Parameters whose value contradicts the sender's file.
    #[must_use]
    pub fn misfits(&self) -> &[String] {
        &self.misfits
    }

    /// Which of the source's secrets matched; `None` where nothing is signed.
    #[must_use]
    pub fn secret(&self) -> Option<usize> {
        self.secret
    }
}
