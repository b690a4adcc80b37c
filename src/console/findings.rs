//! Callbacks that were pasted into the box of every page, each under an address that can be shared.
//! The address holds nothing of the callback: a pasted one may contain a valid signature.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixMillis;

/// Bytes of the texts that are kept, together.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Texts that are kept: more than operators paste in a day.
const KEPT_MAX: usize = 1000;

/// Random bytes of an address: it cannot be guessed.
const ID_BYTES: usize = 12;

/// A pasted callback.
#[derive(Debug)]
pub(super) struct PastedCallback {
    pub id: String,
    /// The text, as pasted.
    pub text: String,
    pub at_ms: UnixMillis,
}

/// The pasted callbacks of this gateway, since its start.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<VecDeque<Arc<PastedCallback>>>);

impl Findings {
    /// Keeps `text` and lets the oldest go. `None`: no randomness from the operating system.
    pub(super) fn keep(&self, text: &str, at_ms: UnixMillis) -> Option<Arc<PastedCallback>> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        let id = URL_SAFE_NO_PAD.encode(bytes);
        let pasted = Arc::new(PastedCallback { id, text: text.to_owned(), at_ms });
        let mut kept = self.lock();
        kept.push_back(Arc::clone(&pasted));
        let mut size: usize = kept.iter().map(|one| one.text.len()).sum();
        while kept.len() > KEPT_MAX || size > BYTES_MAX {
            let Some(oldest) = kept.pop_front() else { break };
            size -= oldest.text.len();
        }
        Some(pasted)
    }

    /// The one of that id.
    pub(super) fn find(&self, id: &str) -> Option<Arc<PastedCallback>> {
        self.lock().iter().rev().find(|one| one.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<PastedCallback>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_too_long_ones() {
        let findings = Findings::default();
        let first = findings.keep("a", 1).unwrap();
        assert_eq!(findings.find(&first.id).unwrap().text, "a");
        for _ in 0..KEPT_MAX {
            findings.keep("b", 2).unwrap();
        }
        assert!(findings.find(&first.id).is_none());
        let long = "x".repeat(BYTES_MAX / 2);
        let long = [1, 2, 3].map(|_| findings.keep(&long, 3).unwrap());
        assert!(findings.find(&long[0].id).is_none() && findings.find(&long[2].id).is_some());
    }
}
