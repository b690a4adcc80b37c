//! The wire names that a recipe reads, each with a slot.

use crate::sender::acts::json_object::put_json_text;

/// Names and their slots.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Names {
    entries: Vec<Entry>,
    /// For each bucket the first slot plus one; 0 is an empty bucket.
    buckets: [u8; BUCKETS],
    /// Names that have no slot.
    pub(in crate::sender) strangers: Strangers,
}

/// Whether a name that no text reads may repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Strangers {
    /// No: a signature covers every name.
    #[default]
    Once,
    /// Yes, in a query or a form: nothing depends on it.
    Repeated,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    /// The next slot of the bucket plus one; 0: it is the last.
    next: u8,
    name: Box<[u8]>,
    /// The name as the beginning of a JSON member, `"name":`.
    member: Box<[u8]>,
}

/// A power of two, several times the names of the longest sender file.
const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 7;

/// Slots fit a byte, with one value to spare.
pub(in crate::sender) const SLOTS_MAX: usize = 250;

/// A slot: the index of a wire name in its recipe.
pub(in crate::sender) type Slot = u8;

impl Default for Names {
    fn default() -> Self {
        Self { entries: Vec::new(), buckets: [0; BUCKETS], strangers: Strangers::Once }
    }
}

impl Names {
    /// The slot of `name`, made if it has none; `None` when there are [`SLOTS_MAX`] already.
    pub(in crate::sender) fn intern(&mut self, name: &[u8]) -> Option<Slot> {
        if let Some(slot) = self.find(name) {
            return Some(slot);
        }
        if self.entries.len() >= SLOTS_MAX {
            return None;
        }
        let slot = Slot::try_from(self.entries.len()).ok()?;
        let key = Key::of(name);
        let bucket = &mut self.buckets[key.bucket()];
        let next = std::mem::replace(bucket, slot + 1);
        let mut member = Vec::new();
        put_json_text(&mut member, name);
        member.push(b':');
        self.entries.push(Entry { key, next, name: name.into(), member: member.into() });
        Some(slot)
    }

    /// The slot of `name`.
    #[inline(always)]
    pub(in crate::sender) fn find(&self, name: &[u8]) -> Option<Slot> {
        let key = Key::of(name);
        let mut slot = self.buckets[key.bucket()].checked_sub(1)?;
        loop {
            let entry = self.entries.get(usize::from(slot))?;
            if entry.key == key && (name.len() <= Key::WHOLE || same(&entry.name, name)) {
                return Some(slot);
            }
            slot = entry.next.checked_sub(1)?;
        }
    }

    /// The name of `slot`.
    pub(in crate::sender) fn name(&self, slot: Slot) -> &[u8] {
        &self.entries[usize::from(slot)].name
    }

    /// The name of `slot` as the beginning of a JSON member, `"name":`.
    pub(in crate::sender) fn member(&self, slot: Slot) -> &[u8] {
        &self.entries[usize::from(slot)].member
    }

    /// How many there are.
    pub(in crate::sender) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cold]
fn same(known: &[u8], name: &[u8]) -> bool {
    known == name
}

/// The length, the head and the tail of a name: two names of at most [`Key::WHOLE`] bytes are
/// equal when these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    len: usize,
    head: u64,
    tail: u64,
}

impl Key {
    const WHOLE: usize = 16;

    #[inline]
    fn of(name: &[u8]) -> Self {
        let (head, tail) = if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk())
        {
            (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
        } else if let (Some(head), Some(tail)) = (name.first_chunk(), name.last_chunk()) {
            (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
        } else if let [first, .., last] = name {
            (u64::from(*first) | u64::from(name[name.len() / 2]) << 8, u64::from(*last))
        } else {
            (name.first().copied().map_or(0, u64::from), 0)
        };
        Self { len: name.len(), head, tail }
    }

    #[inline]
    fn bucket(self) -> usize {
        let mixed = (self.head ^ self.tail.rotate_left(23)).wrapping_add(self.len as u64);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BUCKET_BITS)) as usize
    }
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

    #[test]
    fn names_that_differ_in_one_place_are_told_apart() {
        for len in 1..40 {
            let mut names = Names::default();
            let word = vec![b'a'; len];
            let slot = names.intern(&word);
            for at in 0..len {
                let mut other = word.clone();
                other[at] = b'b';
                assert_eq!(names.find(&other), None, "{len} {at}");
            }
            assert_eq!(names.find(&word), slot);
            assert_eq!(names.find(&word[1..]), None);
        }
    }
}
