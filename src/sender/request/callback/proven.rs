//! The right to digest the content of a callback.

use std::sync::OnceLock;

use super::Callback;
use crate::sender::acts::outcome::Reason;
use crate::sender::request::content;
use crate::sender::request::parameters::{ParameterError, Place};

/// The proof that the content of a callback may be digested, with the digest, which is made once.
/// Only verification makes one, an operator's grant, and the record of an event.
#[derive(Debug)]
pub(in crate::sender) struct Proven {
    digest: OnceLock<Result<Option<[u8; 32]>, ParameterError>>,
}

impl Proven {
    pub(super) fn new() -> Self {
        Self { digest: OnceLock::new() }
    }

    #[cfg(test)]
    pub(in crate::sender) fn in_test() -> Self {
        Self::new()
    }
}

impl Callback<'_> {
    /// Takes the record of an event for the proof of its callback, whose secrets are masked there.
    pub(in crate::sender) fn was_recorded(&mut self) {
        if self.proven.is_none() {
            self.proven = Some(Proven::new());
        }
    }

    /// The digest of the content: see [`content`]. `None` if the callback is not proven, or its
    /// message cannot be read.
    ///
    /// # Errors
    /// `too_large` if the names of the message are too long for so many values.
    pub(in crate::sender) fn content_digest(&self) -> Result<Option<[u8; 32]>, ParameterError> {
        let Some(proven) = &self.proven else { return Ok(None) };
        proven.digest.get_or_init(|| self.digested(proven)).clone()
    }

    fn digested(&self, proven: &Proven) -> Result<Option<[u8; 32]>, ParameterError> {
        let message = self.opened.as_ref().map_or(&*self.body, |opened| &opened.message);
        let Some(first) = message.iter().find(|byte| !byte.is_ascii_whitespace()) else {
            return Ok(None);
        };
        let place = match first {
            b'<' => Place::Xml,
            b'{' | b'[' => Place::Json,
            _ => Place::Form,
        };
        let row = self.row_here().map_or(&[][..], |row| &row.volatile);
        let volatile = [&self.recipe.identity.volatile, row].concat();
        match content::digest(proven, message, place, &volatile) {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if error.reason == Reason::TooLarge => Err(error),
            Err(_) => Ok(None),
        }
    }
}
