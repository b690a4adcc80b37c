//! Hash maps by destination.
//!
//! Names of destinations come from operators. A hash that resists chosen names would cost more
//! than the rest of a lookup, and each delivery makes several.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map with quick lookups.
pub(super) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// A set with quick lookups.
pub(super) type QuickSet<K> = HashSet<K, BuildHasherDefault<QuickHasher>>;

/// The multiplier: 2^64 divided by the golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Eight bytes at a time: rotate, add, multiply.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QuickHasher(u64);

impl QuickHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(SPREAD);
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn finish(&self) -> u64 {
        // A map takes its place from the low bits and a tag from the high ones; a product mixes
        // only upwards.
        let folded = (self.0 ^ self.0 >> 32).wrapping_mul(SPREAD);
        folded ^ folded >> 29
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use super::*;
    use crate::ledger::TargetId;

    #[test]
    fn names_that_differ_in_a_digit_are_spread() {
        let hashes = (0..65_536).map(|n| {
            BuildHasherDefault::<QuickHasher>::default()
                .hash_one(TargetId::from(format!("game-{n}")))
        });
        let hashes: Vec<u64> = hashes.collect();
        let mut low = vec![0_u32; 1024];
        let mut high = vec![0_u32; 128];
        for hash in &hashes {
            low[(hash & 1023) as usize] += 1;
            high[(hash >> 57) as usize] += 1;
        }
        // 64 and 512 on average.
        assert!(low.iter().all(|count| (16..=160).contains(count)), "{low:?}");
        assert!(high.iter().all(|count| (256..=1024).contains(count)), "{high:?}");
    }
}
