//! The last use of each secret of a source, on this gateway, since its start: whether an old one can
//! be removed after a rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::clock::UnixMillis;

/// The last uses of the secrets of one source, in the order of its recipe.
#[derive(Debug, Default)]
pub(super) struct SecretUses(Vec<SecretUse>);

#[derive(Debug)]
struct SecretUse {
    id: String,
    /// Zero: not used yet.
    last_ms: Arc<AtomicI64>,
}

impl SecretUses {
    /// The secrets called `ids`. Those that were there `before` keep their last use.
    pub(super) fn new<'i>(ids: impl Iterator<Item = &'i str>, before: Option<&Self>) -> Self {
        let known = |id: &str| before?.0.iter().find(|one| one.id == id);
        let new = |id: &str| SecretUse {
            id: id.to_owned(),
            last_ms: known(id).map(|one| Arc::clone(&one.last_ms)).unwrap_or_default(),
        };
        Self(ids.map(new).collect())
    }

    /// Notes that the secret at `index` verified a callback.
    pub(super) fn note(&self, index: usize, at_ms: UnixMillis) {
        if let Some(one) = self.0.get(index) {
            one.last_ms.fetch_max(at_ms, Ordering::Relaxed);
        }
    }

    /// The id of each secret with its last use.
    pub(super) fn all(&self) -> Vec<(String, Option<UnixMillis>)> {
        let last = |one: &SecretUse| Some(one.last_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0);
        self.0.iter().map(|one| (one.id.clone(), last(one))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_keeps_its_last_use_when_others_come_and_go() {
        let first = SecretUses::new(["1", "old"].into_iter(), None);
        first.note(1, 7);
        first.note(5, 9);
        let next = SecretUses::new(["2", "old"].into_iter(), Some(&first));
        next.note(0, 8);
        let wanted = [("2".to_owned(), Some(8)), ("old".to_owned(), Some(7))];
        assert_eq!(next.all(), wanted);
        assert_eq!(first.all()[0], ("1".to_owned(), None));
    }
}
