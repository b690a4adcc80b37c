//! A quick hasher for keys that hold the id of an event.

use std::hash::{BuildHasherDefault, Hasher};

/// The hasher's maker, for a `HashMap`.
pub(super) type HashesEvents = BuildHasherDefault<EventHasher>;

/// Hashes the id of an event, and a number beside it. 62 bits of an id are random, made by a gateway:
/// no caller can choose ids that fall together.
#[derive(Default)]
pub(super) struct EventHasher(u64);

/// An odd number with bits everywhere: a product has the bits of both in its upper half.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

impl EventHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(32) ^ word).wrapping_mul(MIXER);
    }
}

impl Hasher for EventHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.add(u64::from(*byte)));
    }

    fn write_u16(&mut self, number: u16) {
        self.add(u64::from(number));
    }

    fn write_usize(&mut self, length: usize) {
        // The length of an id is always the same.
        self.0 ^= length as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;
    use crate::ledger::EventId;

    #[test]
    fn ids_spread_over_both_ends_of_a_hash() {
        let hashes: Vec<u64> = (0..4096)
            .map(|n| HashesEvents::default().hash_one((EventId::new(7), n % 3_u16)))
            .collect();
        let whole: HashSet<u64> = hashes.iter().copied().collect();
        assert_eq!(whole.len(), hashes.len());
        // hashbrown takes a place from the lower bits and a mark from the seven upper ones.
        for shift in [0, 57] {
            let parts: HashSet<u64> = hashes.iter().map(|hash| hash >> shift & 0x7f).collect();
            assert!(parts.len() > 120, "{} of 128", parts.len());
        }
    }

    #[test]
    fn the_number_beside_an_id_counts() {
        let id = EventId::new(7);
        let hash = |number: u16| HashesEvents::default().hash_one((id, number));
        assert_ne!(hash(0), hash(1));
    }
}
