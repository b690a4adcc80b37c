//! Address checks: what asks for the address, and what may be said back to it.

use sha2::{Digest as _, Sha256};

use super::{Callback, CallbackError, CallbackKind, Inside};
use crate::sender::acts::evaluate::Context;
use crate::sender::acts::outcome::Reason;
use crate::sender::crypto::digest::Output;
use crate::sender::language::definition::{First, Probes};

impl Callback<'_> {
    /// Whether it asks for the address, and its sender signs no such question. One that bears a
    /// wrong signature is rejected like any other, and so is an open one where they come sealed.
    pub(super) fn is_unsigned_challenge(&mut self, rejection: &CallbackError) -> bool {
        let unsigned = self.recipe.sender.challenge.probes == Probes::Unsigned;
        let lacks_signature =
            self.unreadable.is_none() && rejection.reason == Reason::MissingParameter;
        let bears_nothing = lacks_signature || self.is_bare();
        unsigned
            && bears_nothing
            && self.asks_for_address().is_ok_and(|errand| errand == CallbackKind::Challenge)
            && (self.recipe.challenge_open.is_none() || self.opened.is_some())
    }

    /// Whether it asks for the address. What is sealed in it then stays open.
    ///
    /// # Errors
    /// A [`CallbackError`] if the sealed text does not decrypt, or is not an address check.
    pub(super) fn asks_for_address(&mut self) -> Result<CallbackKind, CallbackError> {
        let recipe = self.recipe;
        let mut sealed = Ok(());
        if let Some(text) = &recipe.challenge_open {
            match self.unsealed(text, Inside::Anything) {
                _ if !self.may_open(text) => sealed = Err(CallbackError::new(Reason::BadSignature)),
                Ok(opened) => self.opened = Some(opened),
                Err(rejection) => sealed = Err(rejection),
            }
        }
        if !self.holds(&recipe.challenge) || self.is_several() {
            self.opened = None;
            return Ok(CallbackKind::Message);
        }
        match sealed.and_then(|()| self.echoes_a_word()) {
            Ok(()) => Ok(CallbackKind::Challenge),
            Err(rejection) => {
                self.opened = None;
                Err(rejection)
            }
        }
    }

    /// The identity of this address check: its signature, or its sealed text. `None` if nothing
    /// proves that the sender asks: the reply only repeats the request.
    #[must_use]
    pub fn check_proof(&self) -> Option<[u8; 32]> {
        if self.nature == CallbackKind::Challenge { self.proof_used() } else { None }
    }

    /// The identity that an address check under the same signature has, if the sender checks
    /// addresses: a captured check must not pass for a message.
    #[must_use]
    pub fn message_proof(&self) -> Option<[u8; 32]> {
        let checks = !self.recipe.sender.challenge.when.is_empty();
        if checks && self.nature == CallbackKind::Message { self.proof_used() } else { None }
    }

    fn proof_used(&self) -> Option<[u8; 32]> {
        // A bare secret is the same in every check: it cannot be spent.
        let is_bare = self.matched_variant().is_some_and(|one| one.with.first == First::Equal);
        if is_bare {
            return None;
        }
        let signed = self.matched.as_ref().and_then(|matched| matched.output.as_ref());
        let opened = || self.opened.as_ref().map(|opened| opened.message.as_slice());
        let proof = signed.map(Output::bytes).or_else(opened)?;
        Some(Sha256::digest(proof).into())
    }

    /// Rejects an address check whose reply would repeat more than one word: a message that
    /// was sealed for the gateway is not an address check, even if sent as one.
    fn echoes_a_word(&self) -> Result<(), CallbackError> {
        let context = Context { plus: self.plus(), ..Context::default() };
        for spot in &self.recipe.echoed {
            let value = self.value(spot, &context)?;
            if value.is_some_and(|value| !is_word(&value)) {
                return Err(CallbackError::of(Reason::BadEncoding, &spot.name));
            }
        }
        Ok(())
    }
}

/// The longest text that an address check has said back, in bytes: senders use up to 40.
const ECHO_BYTES_MAX: usize = 128;

/// Whether `value` is what address checks have said back: letters, digits and what base64 and UUIDs
/// are made of. No message is written so.
fn is_word(value: &[u8]) -> bool {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~+/".contains(byte);
    // Padding is allowed only at the end: in the middle, it could be part of a form.
    let padding = value.iter().rev().take_while(|byte| **byte == b'=').count();
    let unpadded = &value[..value.len() - padding];
    value.len() <= ECHO_BYTES_MAX && unpadded.iter().all(is_of_word)
}
