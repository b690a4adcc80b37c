//! Callbacks signed with a private key: the public key under which one verifies, and whether its
//! text can be parsed in one way only.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::Callback;
use super::matching::Under;
use crate::sender::acts::evaluate::{Context, EvalError, Nul};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::{self, Keys, Public, SignatureVariant};
use crate::sender::crypto::digest::{Algorithm, Output};
use crate::sender::crypto::jws::Header;
use crate::sender::crypto::key_set::KeySet;
use crate::sender::crypto::public_key::PublicKey;
use crate::sender::language::definition::Signs;
use crate::sender::request::parameters::ParameterError;

/// A text that a private key signs: most stay off the heap.
pub(in crate::sender) type Message = SmallVec<[u8; 512]>;

impl<'a> Callback<'a> {
    /// Lets it be verified with these public keys of its sender.
    pub fn use_keys(&mut self, keys: Option<&'a KeySet>) {
        self.keys = keys.or(self.keys);
    }

    /// The id of the public key that it names, where its sender has a list of them.
    #[must_use]
    pub fn key_id(&self) -> Option<Cow<'_, [u8]>> {
        let list = self.recipe.key_list.as_ref()?;
        self.value(&list.pick, &Context::default()).ok()?
    }

    /// Under which public key a supplied signature of `variant` is a signature of what it makes.
    pub(super) fn try_public<'r>(
        &self,
        variant: &'r SignatureVariant,
        public: &'r Public,
        output: &mut Output,
    ) -> Result<Option<Under>, EvalError<'r>> {
        match &public.keys {
            Keys::List => {
                let key = self.listed_key()?;
                let message = self.message_of(variant, public, output)?;
                let signed = self.is_signed(variant, public, key, &message)?;
                Ok(signed.then_some(Under::PublicKey))
            }
            Keys::Certificates(rule) => {
                let message = self.message_of(variant, public, output)?;
                let header = Header::of_signed(&message);
                let key = header.and_then(|one| rule.key(&one.certificates, self.now_ms));
                let Some(key) = key else { return Ok(None) };
                let signed = self.is_signed(variant, public, &key, &message)?;
                Ok(signed.then_some(Under::PublicKey))
            }
            Keys::Secrets(keys) => {
                let message = self.message_of(variant, public, output)?;
                for (index, key) in keys.iter().enumerate() {
                    let Some(key) = key.as_ref().filter(|_| self.is_live(index)) else { continue };
                    if self.is_signed(variant, public, key, &message)? {
                        let of_secret = index < self.recipe.secrets.len();
                        return Ok(Some(if of_secret {
                            Under::Secret(index)
                        } else {
                            Under::PublicKey
                        }));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The key of the sender's list that the callback names.
    pub(in crate::sender) fn listed_key(&self) -> Result<&'a PublicKey, ParameterError> {
        let pick = self.recipe.key_list.as_ref().map(|list| &list.pick);
        let wrong = |reason| {
            let parameter = pick.map(|pick| pick.name.to_string());
            ParameterError { reason, parameter }
        };
        let id = self.key_id().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| wrong(Reason::MissingParameter))?;
        if !self.recipe.key_list.as_ref().is_some_and(|list| list.allows(&id)) {
            return Err(wrong(Reason::NotOurs));
        }
        let key = self.keys.and_then(|keys| keys.get(&id));
        key.ok_or_else(|| wrong(Reason::UnknownKey))
    }

    /// The text that the private key signs under `variant`; `output` is its digest.
    pub(in crate::sender) fn message_of<'r>(
        &self,
        variant: &'r SignatureVariant,
        public: &Public,
        output: &mut Output,
    ) -> Result<Message, EvalError<'r>> {
        if public.signs == Signs::Text {
            let context = Context {
                plus: variant.plus,
                variant: Some(variant),
                nul: Nul::Rejected,
                ..Context::default()
            };
            let mut message = Message::new();
            self.put(&variant.of, &context, &mut message)?;
            *output = Algorithm::Sha256.of(&message);
            return Ok(message);
        }
        self.put_output(variant, 0, &[], output)?;
        Ok(signature::message(public.signs, output))
    }

    /// Whether a supplied signature of the callback is a signature of `message`.
    fn is_signed(
        &self,
        variant: &SignatureVariant,
        public: &Public,
        key: &PublicKey,
        message: &[u8],
    ) -> Result<bool, ParameterError> {
        self.any_supplied(variant, |supplied| public.is_signature(variant, key, message, supplied))
    }
}
