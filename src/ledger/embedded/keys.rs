//! The known deduplication keys, and the positions of their events in the journal.
//!
//! Half of a key (8 bytes) and a position (8 bytes) per key, in maps that fill to 7/8 and grow one
//! by one: 20 to 40 bytes per key, and no growth that stops the committer longer than a sync. The
//! journal has the full key, which a match is checked against. The rare keys that share their first
//! half go to a separate map: correctness does not depend on luck.
//!
//! A start loads keys with several threads; after that only the committer adds and moves them, and
//! every thread may look one up. A key is here before its
//! record is synced: a reader has to check the position.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::index::{KeyFile, PARTS};
use super::segment::{Header, Position};
use super::tables::KeyAt;
use crate::ledger::DedupeKey;

/// Enough that one map of 20 million keys grows by 20,000 at a time, in a millisecond.
pub(super) const SHARDS: usize = 1024;

/// Threads that fill maps during a load, each its own. Some may wait for the disk meanwhile.
const FILLERS_MAX: usize = 4;
/// Bytes of key files that a thread reads before it fills maps with them.
const READ_AHEAD: u64 = 16 << 20;

/// The keys of all segments.
pub(super) struct Keys {
    shards: Vec<Mutex<Shard>>,
    /// Keys whose first half another key has.
    second: Mutex<HashMap<DedupeKey, Position>>,
    /// The number of keys in `second`.
    second_len: AtomicUsize,
    len: AtomicUsize,
}

/// The keys with the same top bits.
type Shard = HashMap<u64, Position, BuildHasherDefault<AsIs>>;

/// The keys of one segment, to be loaded: sorted by shard.
pub(super) struct Sorted {
    keys: Vec<(u64, Position)>,
    /// The end of each shard's keys.
    ends: Vec<u32>,
}

impl Sorted {
    /// Sorts the keys of a segment.
    pub(super) fn new(header: &Header, keys: &[KeyAt]) -> Self {
        let mut ends = vec![0; SHARDS];
        keys.iter().for_each(|key| ends[shard(key.half)] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        let mut sorted = vec![(0, Position::new(header, 0)); keys.len()];
        for KeyAt { half, offset } in keys {
            let end = &mut ends[shard(*half)];
            sorted[*end as usize] = (*half, Position::new(header, *offset));
            *end += 1;
        }
        Self { keys: sorted, ends }
    }

    /// The end of each shard's keys.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub(super) fn of_shard(&self, shard: usize) -> &[(u64, Position)] {
        let start = shard.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start as usize..self.ends[shard] as usize]
    }
}

/// Keys that are loaded together.
#[derive(Default)]
pub(super) struct Loading {
    segments: Vec<Sorted>,
    len: usize,
}

impl Loading {
    /// 64 MiB of them: thousands for each map.
    const MAX: usize = 4 << 20;
    /// For segments that have few keys.
    const MAX_SEGMENTS: usize = 256;

    /// Adds the keys of a segment.
    pub(super) fn add(&mut self, keys: Sorted) {
        self.len += keys.keys.len();
        self.segments.push(keys);
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= Self::MAX || self.segments.len() >= Self::MAX_SEGMENTS
    }
}

/// The result of loading files.
#[derive(Clone, Default)]
pub(super) struct FileLoad {
    /// Keys whose first half another key has.
    pub(super) twins: Vec<(u64, Position)>,
    /// Files that could not be read, by their index: some of their keys are missing.
    pub(super) unreadable: BTreeSet<usize>,
}

/// Keys are digests and need no hashing. The top bits, which choose the shard, are equal within a
/// map; they are rotated to where the map does not look.
#[derive(Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n.rotate_left(32);
    }
}

/// The half of a key that is kept in memory.
pub(super) fn half(key: &DedupeKey) -> u64 {
    key.0.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// The top bits choose the shard.
fn shard(half: u64) -> usize {
    (half >> (64 - SHARDS.ilog2())) as usize
}

impl Keys {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self {
            shards,
            second: Mutex::default(),
            second_len: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    fn shard(&self, half: u64) -> MutexGuard<'_, Shard> {
        self.shards[shard(half)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn second(&self) -> MutexGuard<'_, HashMap<DedupeKey, Position>> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for that many keys in all, so that they are loaded without growth.
    pub(super) fn reserve(&self, keys: usize) {
        let mean = keys / SHARDS;
        // Digests are spread evenly: a share beyond four deviations is rare, and only grows.
        let room = mean + 4 * mean.isqrt();
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).reserve(room);
        }
    }

    /// Inserts many keys, map by map: each fits into the CPU's cache. Returns those whose first
    /// half another key has.
    pub(super) fn load(&self, loading: &Loading) -> Vec<(u64, Position)> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let share = SHARDS.div_ceil(cores.min(FILLERS_MAX));
        let mut twins = vec![Vec::new(); SHARDS.div_ceil(share)];
        thread::scope(|scope| {
            let parts = self.shards.chunks(share).zip(&mut twins).enumerate();
            for (part, (shards, twins)) in parts {
                let segments = &loading.segments;
                scope.spawn(move || *twins = self.load_some(shards, part * share, segments));
            }
        });
        twins.concat()
    }

    /// Inserts the keys of some shards.
    fn load_some(
        &self,
        shards: &[Mutex<Shard>],
        first: usize,
        segments: &[Sorted],
    ) -> Vec<(u64, Position)> {
        let mut twins = Vec::new();
        for (number, shard) in (first..).zip(shards) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            for (half, at) in segments.iter().flat_map(|segment| segment.of_shard(number)) {
                if !insert_into(&mut shard, *half, *at) {
                    twins.push((*half, *at));
                }
            }
            self.len.fetch_add(shard.len() - before, Ordering::Relaxed);
        }
        twins
    }

    /// Inserts the keys of files, some parts of all files at a time: each map is filled once, and
    /// no file is in memory as a whole.
    pub(super) fn load_files(&self, files: &[KeyFile]) -> FileLoad {
        let bytes: u64 = files.iter().map(KeyFile::size).sum();
        let step = (READ_AHEAD / (bytes / PARTS as u64).max(1)).clamp(1, PARTS as u64) as usize;
        let next = AtomicUsize::new(0);
        let work = |load: &mut FileLoad| {
            loop {
                let start = next.fetch_add(step, Ordering::Relaxed);
                if start >= PARTS {
                    return;
                }
                self.load_parts(files, start..(start + step).min(PARTS), load);
            }
        };
        let mut loads = vec![FileLoad::default(); FILLERS_MAX];
        thread::scope(|scope| {
            for load in &mut loads {
                scope.spawn(|| work(load));
            }
        });
        loads.into_iter().fold(FileLoad::default(), |mut all, load| {
            all.twins.extend(load.twins);
            all.unreadable.extend(load.unreadable);
            all
        })
    }

    /// Inserts the keys of some parts of files.
    fn load_parts(&self, files: &[KeyFile], parts: Range<usize>, load: &mut FileLoad) {
        let mut read = vec![Vec::new(); files.len()];
        for (at, (file, bytes)) in files.iter().zip(&mut read).enumerate() {
            if file.read(parts.clone(), bytes).is_err() {
                load.unreadable.insert(at);
            }
        }
        for number in KeyFile::shards(&parts) {
            let mut shard = self.shards[number].lock().unwrap_or_else(PoisonError::into_inner);
            let before = shard.len();
            for (file, bytes) in files.iter().zip(&read) {
                for (half, at) in file.of_shard(number, &parts, bytes) {
                    if !insert_into(&mut shard, half, at) {
                        load.twins.push((half, at));
                    }
                }
            }
            self.len.fetch_add(shard.len() - before, Ordering::Relaxed);
        }
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether the key may be known: another key with its first half is possible.
    pub(super) fn may_have(&self, key: &DedupeKey) -> bool {
        let half = half(key);
        self.shard(half).contains_key(&half)
    }

    /// The possible positions of the key: each has to be checked.
    pub(super) fn find(&self, key: &DedupeKey) -> impl Iterator<Item = Position> + use<> {
        let half = half(key);
        let first = self.shard(half).get(&half).copied();
        let second = match self.second_len.load(Ordering::Relaxed) {
            0 => None,
            _ => self.second().get(key).copied(),
        };
        first.into_iter().chain(second)
    }

    /// Inserts the position of a new key.
    pub(super) fn insert(&self, key: &DedupeKey, at: Position) {
        let half = half(key);
        if !insert_into(&mut self.shard(half), half, at) {
            let mut second = self.second();
            second.insert(*key, at);
            self.second_len.store(second.len(), Ordering::Relaxed);
        }
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Moves a key from one position to another, or deletes it.
    pub(super) fn replace(&self, key: &DedupeKey, from: Position, to: Option<Position>) {
        let half = half(key);
        let mut shard = self.shard(half);
        let first = shard.get_mut(&half).filter(|at| **at == from);
        match (first, to) {
            (Some(at), Some(to)) => *at = to,
            (Some(_), None) => {
                shard.remove(&half);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
            (None, to) => self.replace_second(key, from, to),
        }
    }

    fn replace_second(&self, key: &DedupeKey, from: Position, to: Option<Position>) {
        let mut second = self.second();
        let Some(at) = second.get_mut(key).filter(|at| **at == from) else { return };
        match to {
            Some(to) => *at = to,
            None => {
                second.remove(key);
                self.second_len.store(second.len(), Ordering::Relaxed);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Inserts the position of a key with this first half; `false` if another key has it. The same position
/// twice is the same key: its file could only be read in part.
fn insert_into(shard: &mut Shard, half: u64, at: Position) -> bool {
    match shard.entry(half) {
        std::collections::hash_map::Entry::Occupied(known) => *known.get() == at,
        std::collections::hash_map::Entry::Vacant(place) => {
            place.insert(at);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            version: 1,
            number: 1,
            generation: 0,
            salt: 0,
            first_seq: 1,
            created_ms: 0,
            next_seq: 0,
            key: None,
        }
    }

    fn at(offset: u32) -> Position {
        Position::new(&header(), offset)
    }

    fn key(first: u8, last: u8) -> DedupeKey {
        let mut bytes = [first; 16];
        bytes[15] = last;
        DedupeKey(bytes)
    }

    fn found(keys: &Keys, key: &DedupeKey) -> Vec<u32> {
        keys.find(key).map(Position::offset).collect()
    }

    #[test]
    fn keys_that_share_a_half_are_kept_apart() {
        let keys = Keys::new();
        keys.insert(&key(1, 1), at(10));
        keys.insert(&key(1, 2), at(20));
        assert_eq!(found(&keys, &key(1, 1)), [10]);
        assert_eq!(found(&keys, &key(1, 2)), [10, 20]);
        assert_eq!(found(&keys, &key(1, 3)), [10]);
        assert_eq!(found(&keys, &key(2, 1)), [0; 0]);
        assert_eq!(keys.len(), 2);
        keys.replace(&key(1, 2), at(20), Some(at(21)));
        keys.replace(&key(1, 1), at(10), None);
        assert_eq!(found(&keys, &key(1, 2)), [21]);
        keys.replace(&key(1, 2), at(20), None);
        assert_eq!(keys.len(), 1);
        keys.replace(&key(1, 2), at(21), None);
        assert_eq!(keys.len(), 0);
    }

    fn sorted(keys: impl IntoIterator<Item = (u64, u32)>) -> Sorted {
        let header = header();
        let keys = keys.into_iter().map(|(half, offset)| KeyAt { half, offset });
        Sorted::new(&header, &keys.collect::<Vec<_>>())
    }

    fn room(keys: &Keys) -> Vec<usize> {
        keys.shards.iter().map(|shard| shard.lock().unwrap().capacity()).collect()
    }

    #[test]
    fn keys_that_are_loaded_are_found_and_twins_are_told() {
        let (keys, mut loading) = (Keys::new(), Loading::default());
        let halves = (0..5000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let all: Vec<(u64, u32)> = halves.zip(0..).collect();
        // The first one that is loaded has the half.
        let twin = (all[77].0, 9999);
        loading.add(sorted(all[..3000].iter().copied()));
        loading.add(sorted(all[3000..].iter().copied().chain([twin])));
        assert_eq!(keys.load(&loading), [(twin.0, at(twin.1))]);
        assert_eq!(keys.len(), 5000);
        for (half, offset) in all {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&half.to_le_bytes());
            assert_eq!(keys.find(&DedupeKey(key)).collect::<Vec<_>>(), [at(offset)]);
        }
    }

    #[test]
    fn a_million_keys_take_forty_bytes_each_and_the_maps_do_not_grow() {
        let keys = Keys::new();
        keys.reserve(1_000_000);
        let before = room(&keys);
        for part in 0..4_u64 {
            let mut loading = Loading::default();
            loading.add(sorted((0..250_000_u64).map(|n| {
                let n = 4 * n + part + 1;
                (n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17), n as u32)
            })));
            assert_eq!(keys.load(&loading), []);
        }
        assert_eq!(keys.len(), 1_000_000);
        let after = room(&keys);
        assert!(before.iter().zip(&after).filter(|(before, after)| before < after).count() < 10);
        let bytes = after.iter().map(|room| room * 8 / 7 * 17).sum::<usize>();
        assert!(bytes / keys.len() <= 45, "{}", bytes / keys.len());
    }
}
