//! The items that a chain of exports holds, so a further one holds only what is new.
//!
//! A full export, and each increment after it, names the export that it follows. An increment is a
//! difference: the whole ledger is read, and items that the chain has in the same form are omitted.
//! So it is exact on every engine, and saves space and transfer.
//!
//! A restore goes from the newest to the oldest. Known items stay as they are, so the newest form
//! of an event wins. Each increment has all documents, because a deleted one leaves no trace: only
//! those of the newest export count.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::Item;

/// The newest form of each item of a chain, as 32 bytes an item.
#[derive(Debug, Default)]
pub struct KnownItems {
    forms: HashMap<[u8; 16], [u8; 16]>,
}

impl KnownItems {
    /// Notes the items of the chain's next export; from the oldest export to the newest.
    pub fn note(&mut self, items: &[Item]) {
        for item in items {
            let form = form_of(item);
            self.forms.insert(identity_of(item).unwrap_or(form), form);
        }
    }

    /// The items that the chain lacks, or has in another form. Documents are always among them.
    #[must_use]
    pub fn missing(&self, items: Vec<Item>) -> Vec<Item> {
        let is_new = |item: &Item| {
            let form = form_of(item);
            let known = self.forms.get(&identity_of(item).unwrap_or(form));
            matches!(item, Item::Document { .. }) || known != Some(&form)
        };
        items.into_iter().filter(is_new).collect()
    }

    /// How many items the chain holds, each counted once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.forms.len()
    }

    /// Whether the chain holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Whether the chain has an item of this identity, in any form.
    #[must_use]
    pub fn has(&self, item: &Item) -> bool {
        self.forms.contains_key(&identity_of(item).unwrap_or_else(|| form_of(item)))
    }
}

/// The identity of an item that may change; `None`: it never does.
fn identity_of(item: &Item) -> Option<[u8; 16]> {
    match item {
        Item::Document { kind, document } => {
            Some(digest(&[b"document", kind.as_bytes(), document.id.as_bytes()]))
        }
        Item::Event { event, .. } => Some(digest(&[b"event", event.id.as_bytes()])),
        Item::Nonce(nonce) => Some(digest(&[b"nonce", &nonce.key.0])),
        Item::Past(_) | Item::Held(_) | Item::Mark(_) => None,
    }
}

fn form_of(item: &Item) -> [u8; 16] {
    digest(&[b"item", &Item::encode(std::slice::from_ref(item))])
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::super::tests::items;
    use super::*;
    use crate::ledger::DeliveryState;

    #[test]
    fn an_increment_holds_what_is_new_or_changed_and_every_document() {
        let (items, mut known) = (items(), KnownItems::default());
        assert!(known.is_empty());
        known.note(&items);
        assert_eq!(known.len(), items.len());
        let documents = |items: &[Item]| {
            items.iter().filter(|item| matches!(item, Item::Document { .. })).count()
        };
        let missing = known.missing(items.clone());
        assert_eq!((missing.len(), documents(&missing)), (documents(&items), missing.len()));
        // A delivery that changes makes its event new, and back again counts too.
        let mut changed = items.clone();
        for item in &mut changed {
            if let Item::Event { deliveries, .. } = item {
                deliveries.iter_mut().for_each(|one| one.state = DeliveryState::Done);
            }
        }
        let missing = known.missing(changed.clone());
        assert!(missing.iter().any(|item| matches!(item, Item::Event { .. })));
        assert!(missing.iter().all(|item| known.has(item)));
        known.note(&missing);
        assert_eq!(known.missing(changed).len(), documents(&items));
        let again = known.missing(items);
        assert!(again.iter().any(|item| matches!(item, Item::Event { .. })));
    }
}
