//! What a genuine callback says.

use serde_json::value::RawValue;

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

/// What a genuine callback says. Only [`super::Verified::resolve`] makes one.
#[derive(Debug)]
pub struct Resolved {
    pub(super) roles: [Option<String>; Role::ALL.len()],
    pub(super) kind: Option<String>,
    pub(super) test: bool,
    pub(super) unresolved: Vec<String>,
    pub(super) authenticated: Vec<Role>,
    pub(super) recut: Vec<String>,
    pub(super) params: Box<RawValue>,
    pub(super) template: Box<RawValue>,
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) secret: Option<usize>,
}

impl Resolved {
    /// The value of `role`, if the callback has it. The transaction is always there.
    #[must_use]
    pub fn role(&self, role: Role) -> Option<&str> {
        self.roles[role as usize].as_deref()
    }

    /// The name of its kind, where the sender's file has kinds and one holds.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
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
    pub fn params(&self) -> &RawValue {
        &self.params
    }

    /// The source's template, resolved, a JSON object of texts.
    #[must_use]
    pub fn template(&self) -> &RawValue {
        &self.template
    }

    /// One or two de-duplication keys, each unambiguous within its source: the transaction first,
    /// then, where the signature does not cover it, what was signed.
    #[must_use]
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// Which of the source's secrets matched; `None` where nothing is signed.
    #[must_use]
    pub fn secret(&self) -> Option<usize> {
        self.secret
    }
}
