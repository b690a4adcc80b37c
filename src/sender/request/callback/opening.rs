//! Sealed messages: the cipher text of a callback, opened.

use super::{Callback, CallbackError, Inside, Opened, read_body};
use crate::sender::acts::evaluate::{Context, EvalError};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature;
use crate::sender::crypto::cipher::{Sealed, Sealing};
use crate::sender::language::bound::Bound;
use crate::sender::language::definition::Cipher;
use crate::sender::language::text::Text;
use crate::sender::request::parameters::Parameters;

impl Callback<'_> {
    pub(super) fn open(&mut self) -> Result<(), CallbackError> {
        let Some(opener) = &self.recipe.open else { return Ok(()) };
        let mut rejection = CallbackError::new(Reason::BadEncoding);
        for text in opener.of.iter().filter(|text| self.may_open(text)) {
            match self.unsealed(text, Inside::Parameters) {
                Ok(opened) => {
                    self.opened = Some(self.with_tokens(opened)?);
                    return Ok(());
                }
                // The error of another text is more specific than an invalid cipher text.
                Err(other) if other.reason == Reason::BadEncoding => {}
                Err(other) => rejection = other,
            }
        }
        Err(rejection)
    }

    /// Whether the signature that matched reads the cipher text `text`. Another one is not opened:
    /// any caller can have sealed it.
    pub(super) fn may_open(&self, text: &Text<Bound>) -> bool {
        let is_plain = self.recipe.open.as_ref().is_some_and(|open| !open.with.is_sealed());
        match (self.matched_variant(), signature::only_slot(text)) {
            // A text without a cipher is only read: it proves nothing.
            _ if is_plain => true,
            (Some(variant), Some(slot)) => variant.signed.reads_slot(slot),
            _ => true,
        }
    }

    /// The message that `text` is the cipher text of, under the secret that matched or, where
    /// nothing is signed, under any live one.
    pub(super) fn unsealed(
        &self,
        text: &Text<Bound>,
        inside: Inside,
    ) -> Result<Box<Opened>, CallbackError> {
        let broken = || CallbackError::new(Reason::BadEncoding);
        let opener = self.recipe.open.as_ref().ok_or_else(broken)?;
        let context = Context { plus: self.plus(), ..Context::default() };
        let (mut sealed, mut nonce, mut aad) = (Vec::new(), Vec::new(), Vec::new());
        let put = |text: &Text<Bound>, to: &mut Vec<u8>| {
            self.put(text, &context, to).map_err(|lack| match lack {
                EvalError::Missing(name) => CallbackError::of(Reason::MissingParameter, name),
                EvalError::Parameter(_) => broken(),
            })
        };
        put(text, &mut sealed)?;
        if let Cipher::Gcm { nonce: nonce_text, aad: aad_text, .. } = &opener.with {
            put(nonce_text, &mut nonce)?;
            put(aad_text, &mut aad)?;
        }
        let sealed = Sealed { text: &sealed, nonce: &nonce, aad: &aad };
        let mut rejection = broken();
        let slot = signature::only_slot(text);
        for secret in self.opening_secrets() {
            match opener.open(&sealed, secret) {
                Ok(message) => {
                    let mut parameters = Parameters::new();
                    let read = read_body(self.recipe, &opener.reads, &message, &mut parameters);
                    match (read, inside) {
                        (Ok(()), _) => return Ok(Box::new(Opened { message, parameters, slot })),
                        (Err(_), Inside::Anything) => {
                            let parameters = Parameters::new();
                            return Ok(Box::new(Opened { message, parameters, slot }));
                        }
                        (Err(unreadable), Inside::Parameters) => rejection = unreadable.into(),
                    }
                }
                Err(Sealing::NotOurs) => rejection = CallbackError::new(Reason::NotOurs),
                Err(Sealing::Broken) => {}
            }
        }
        Err(rejection)
    }

    /// The secrets whose keys may open a message.
    fn opening_secrets(&self) -> std::ops::Range<usize> {
        match self.matched.as_ref().and_then(|matched| matched.secret) {
            Some(secret) => secret..secret + 1,
            None => 0..self.recipe.open.as_ref().map_or(0, |opener| opener.keys.len()),
        }
    }
}
