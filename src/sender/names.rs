//! The wire names that a recipe reads, each with a slot, found without a hash of the whole name.

/// Names and their slots.
#[derive(Clone, Debug)]
pub(super) struct Names {
    names: Vec<Box<[u8]>>,
    /// For each bucket the first slot plus one; 0 is an empty bucket.
    buckets: [u8; BUCKETS],
    /// For each slot the next one of its bucket, plus one.
    next: Vec<u8>,
}

/// A power of two, several times the names of the longest sender file.
const BUCKETS: usize = 128;

/// Slots fit a byte, with one value to spare.
pub(super) const SLOTS_MAX: usize = 250;

/// A slot: the index of a wire name in its recipe.
pub(super) type Slot = u8;

impl Default for Names {
    fn default() -> Self {
        Self { names: Vec::new(), buckets: [0; BUCKETS], next: Vec::new() }
    }
}

impl Names {
    /// The slot of `name`, made if it has none; `None` when there are [`SLOTS_MAX`] already.
    pub(super) fn intern(&mut self, name: &[u8]) -> Option<Slot> {
        if let Some(slot) = self.find(name) {
            return Some(slot);
        }
        if self.names.len() >= SLOTS_MAX {
            return None;
        }
        let slot = Slot::try_from(self.names.len()).ok()?;
        let bucket = bucket(name);
        self.names.push(name.into());
        self.next.push(self.buckets[bucket]);
        self.buckets[bucket] = slot + 1;
        Some(slot)
    }

    /// The slot of `name`.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<Slot> {
        let mut link = self.buckets[bucket(name)];
        while link != 0 {
            let slot = link - 1;
            if same(&self.names[usize::from(slot)], name) {
                return Some(slot);
            }
            link = self.next[usize::from(slot)];
        }
        None
    }

    /// The name of `slot`.
    pub(super) fn name(&self, slot: Slot) -> &[u8] {
        &self.names[usize::from(slot)]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// Whether two names are equal: most are of 8 to 16 bytes, for which two words do.
#[inline]
fn same(known: &[u8], name: &[u8]) -> bool {
    if known.len() != name.len() {
        return false;
    }
    match (known.first_chunk::<8>(), name.first_chunk::<8>()) {
        (Some(known_head), Some(head)) => {
            known_head == head
                && known.last_chunk::<8>() == name.last_chunk::<8>()
                && (name.len() <= 16 || known == name)
        }
        _ => known.iter().eq(name),
    }
}

/// Names of one sender differ in length, head or tail: that is all that is looked at.
#[inline]
fn bucket(name: &[u8]) -> usize {
    let (first, last) = match name {
        [] => (0, 0),
        [only] => (*only, *only),
        [first, .., last] => (*first, *last),
    };
    let middle = name.get(name.len() / 2).copied().unwrap_or_default();
    let mixed =
        name.len() * 37 + usize::from(first) * 5 + usize::from(middle) * 11 + usize::from(last) * 3;
    mixed & (BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_slot() {
        let mut names = Names::default();
        let words: Vec<String> = (0..SLOTS_MAX).map(|i| format!("n{i}")).collect();
        for word in &words {
            names.intern(word.as_bytes()).unwrap();
        }
        assert_eq!(names.intern(b"n7"), names.find(b"n7"));
        assert_eq!(names.intern(b"one more"), None);
        for (slot, word) in words.iter().enumerate() {
            assert_eq!(names.find(word.as_bytes()).map(usize::from), Some(slot));
            assert_eq!(names.name(Slot::try_from(slot).unwrap()), word.as_bytes());
        }
        assert_eq!(names.find(b""), None);
    }
}
