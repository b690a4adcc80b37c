//! One request, read by a recipe: verified, resolved, answered.

use super::{Outcome, Reason, Recipe, Reply, Request, Resolved};

/// One request, read by a recipe.
#[derive(Debug)]
pub struct Callback<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) request: Request<'a>,
}

/// What verification says.
#[derive(Debug)]
pub enum Judgement<'c, 'a> {
    /// It is genuine.
    Verified(Verified<'c, 'a>),
    /// It is one of the sender's unsigned probes: answer [`Outcome::Test`], store nothing.
    Probe,
    /// It is refused.
    Refused(Refusal),
}

/// A callback that is genuine. Only [`Callback::verify`] makes one.
#[derive(Debug)]
pub struct Verified<'c, 'a> {
    pub(super) callback: &'c Callback<'a>,
}

/// Why a callback is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The closed reason.
    pub reason: Reason,
    /// The parameter it is about, where there is one. It comes from the sender's file or the
    /// request: bounded, but not to be trusted as a label.
    pub parameter: Option<String>,
}

/// What a verified callback turns out to be.
#[derive(Debug)]
pub enum Resolution {
    /// An event, to be recorded.
    Event(Box<Resolved>),
    /// An address check: answered with [`Outcome::Challenge`], never stored.
    Challenge,
    /// A console's test: answered with [`Outcome::Test`], never stored.
    Test,
    /// Genuine, but it cannot be taken.
    Refused(Refusal),
}

/// A public key of a sender, found by the id that the callback names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(pub Vec<u8>);

impl<'a> Callback<'a> {
    /// Decides whether the callback is genuine: guards, freshness, decryption, signature.
    /// `key` is the public key that [`Callback::key_id`] asked for.
    pub fn verify(&mut self, key: Option<&PublicKey>) -> Judgement<'_, 'a> {
        let _ = key;
        todo!()
    }

    /// The id of the public key that this callback names, for senders with a key set.
    #[must_use]
    pub fn key_id(&self) -> Option<String> {
        None
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// The decoded value of the parameter `name` (the sender's own name for it), if it came.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        let _ = name;
        todo!()
    }

    /// Whether the answer to an accepted callback is made from the callback, so that it has to be
    /// kept with the event for duplicates to get the same one.
    #[must_use]
    pub fn answer_depends_on_callback(&self) -> bool {
        todo!()
    }

    /// The sender's answer for `outcome`; `reason` with [`Outcome::Rejected`] or
    /// [`Outcome::Disabled`]. `salt` makes 16 random bytes, asked for only where a reply is sealed.
    pub fn reply(
        &self,
        outcome: Outcome,
        reason: Option<Reason>,
        salt: &dyn Fn() -> [u8; 16],
    ) -> Reply {
        let _ = (outcome, reason, salt, self.recipe);
        todo!()
    }
}

impl Verified<'_, '_> {
    /// Finds out what the callback says: its kind, roles, parameters and template.
    #[must_use]
    pub fn resolve(&self) -> Resolution {
        let _ = self.callback;
        todo!()
    }
}
