//! State shared by the threads of the engine.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use super::EmbeddedOptions;
use super::age::{Age, DAY_MS};
use super::damage::{DamageLog, with_remedy};
use super::deliveries::Deliveries;
use super::documents::{DocumentTable, Written};
use super::files::Files;
use super::held::HeldTable;
use super::index::{Index, IndexedRun, KeyFile};
use super::journal::{Spare, SpareSlot};
use super::keys::{FileLoad, Keys, Loading, Sorted};
use super::lock::Lock;
use super::manifest::Manifest;
use super::open_files::OpenFiles;
use super::poison::Poison;
use super::record::Record;
use super::run::Run;
use super::segment::{Position, Segment};
use super::sweep::LastSweep;
use super::tables::Tables;
use crate::clock::{Occasional, UnixMillis};
use crate::ledger::{DiskSpace, Durability, Health, LedgerError, Revision, SourceId};

/// Segments that must fit on the disk besides the existing ones: the next one, one that retention
/// rewrites, their index, and one more for concurrent writes.
pub(super) const RESERVE: u64 = 4;

/// On a full disk, the part of a segment that is left for the results of attempts in flight. 4 MiB of
/// 64 take two thousand of the largest.
const RESULTS_PART: u64 = 16;

/// The interval of log lines about an unreadable body or a lack of room, which each lease meets
/// again, and about a segment that cannot be closed, which each sweep meets again.
const UNREAD_EVERY: Duration = Duration::from_secs(60);

/// State shared by the threads. Only the committer changes what a commit changes; all threads read.
pub(super) struct Core {
    pub(super) options: EmbeddedOptions,
    pub(super) files: Arc<dyn Files>,
    pub(super) open_files: Arc<OpenFiles>,
    pub(super) index: Arc<Index>,
    /// The runs by the number of their segment.
    pub(super) runs: RwLock<BTreeMap<u32, Run>>,
    retiring: Mutex<Option<Arc<Segment>>>,
    deliveries: Mutex<Deliveries>,
    documents: Mutex<DocumentTable>,
    held: Mutex<HeldTable>,
    /// The state of each segment at its last sweep.
    pub(super) last_sweeps: Mutex<HashMap<u32, LastSweep>>,
    /// Up to when the events of a source in a segment were deleted early.
    pub(super) expired_early: Mutex<HashMap<(u32, SourceId), UnixMillis>>,
    pub(super) revision: watch::Sender<Revision>,
    pub(super) poison: Poison,
    pub(super) spare: SpareSlot,
    /// Repairs, and errors that stopped nothing.
    notices: Mutex<Vec<String>>,
    /// Known damage.
    pub(super) damage: DamageLog,
    manifest: Mutex<Manifest>,
    /// Limits log lines about unreadable bodies of deliveries.
    pub(super) unread: Occasional,
    /// Limits log lines about old segments that cannot be closed.
    pub(super) unrolled: Occasional,
    /// Limits log lines about deliveries that wait for room.
    pub(super) unleased: Occasional,
    pub(super) age: Age,
    /// The last error while indexing a closed segment; `None`: no segment waits for its index.
    pub(super) unindexed: Mutex<Option<LedgerError>>,
    /// Segments whose part of the index is lost, and why it cannot be written again.
    pub(super) lost: Mutex<BTreeMap<u32, LedgerError>>,
    /// Held by the thread that writes to the index.
    pub(super) indexing: Mutex<()>,
    pub(super) sync_ns: AtomicU64,
    /// The number of published keys.
    pub(super) published_keys: AtomicU64,
    /// The keys, those of records that are not synced among them.
    pub(super) keys: Arc<Keys>,
    /// Whether finished deliveries are not written yet.
    pub(super) lazy: AtomicBool,
    /// Whether the ledger is being closed.
    pub(super) closing: AtomicBool,
    /// Whether the disk was short of space at the last check.
    short: AtomicBool,
    /// Whether the last file for a next segment could not be made.
    no_room: AtomicBool,
    pub(super) _lock: Lock,
}

/// State that only the committer needs, loaded at the start.
pub(super) struct CommitterState {
    pub(super) keys: Arc<Keys>,
    /// Nonces and when they end.
    pub(super) nonces: HashMap<[u8; 16], UnixMillis>,
}

/// Everything that is loaded at the start.
pub(super) struct LoadedState {
    pub(super) memory: CommitterState,
    pub(super) runs: BTreeMap<u32, Run>,
    pub(super) deliveries: Deliveries,
    pub(super) documents: DocumentTable,
    held: HeldTable,
    pub(super) notices: Vec<String>,
    /// Damage found at the start.
    pub(super) damage: DamageLog,
    /// Keys that are not in memory yet.
    loading: Loading,
}

impl LoadedState {
    pub(super) fn new() -> Self {
        Self {
            memory: CommitterState { keys: Arc::new(Keys::new()), nonces: HashMap::new() },
            runs: BTreeMap::new(),
            deliveries: Deliveries::default(),
            documents: DocumentTable::default(),
            held: HeldTable::default(),
            notices: Vec::new(),
            damage: DamageLog::default(),
            loading: Loading::default(),
        }
    }

    /// Adds the content of a segment. Segments come in order, and each has its run before the next
    /// comes. `keys` is `None` if a file has them. [`LoadedState::load_keys`] must be called at the end.
    pub(super) fn absorb(
        &mut self,
        segment: &Segment,
        tables: &Tables,
        keys: Option<Sorted>,
        now: UnixMillis,
    ) -> Result<(), LedgerError> {
        if self.loading.is_full() {
            self.load_keys()?;
        }
        keys.into_iter().for_each(|keys| self.loading.add(keys));
        for ((event, target), row) in &tables.deliveries {
            let row = row.map(|row| row.at_start(*event, now));
            self.deliveries.put(*event, target, row);
        }
        let nonces_after = nonces_after(now);
        for nonce in tables.nonces.iter().filter(|nonce| nonce.expires_ms > nonces_after) {
            self.memory.nonces.insert(nonce.key.0, nonce.expires_ms);
        }
        for offset in &tables.documents {
            let payload = segment.read(*offset).map_err(with_remedy)?;
            match Record::read(&payload) {
                Ok(Record::Document(record)) => self.documents.apply(Written::read(&record)),
                Ok(Record::Held(held)) => {
                    self.held.load(&held, Position::new(&segment.header, *offset));
                }
                Ok(Record::Mark(mark)) => self.held.decide(mark),
                Ok(Record::Reason(id, reason)) => {
                    self.held.note_reason(id, reason);
                }
                _ => return Err(with_remedy(segment.damaged(*offset, "no document is here"))),
            }
        }
        Ok(())
    }

    /// Completes the keys of files. The runs of their segments exist.
    pub(super) fn finish_files(
        &mut self,
        files: &[KeyFile],
        load: FileLoad,
    ) -> Result<(), LedgerError> {
        let FileLoad { twins, unreadable } = load;
        self.place_twins(&twins)?;
        if !unreadable.is_empty() {
            let count = unreadable.len();
            self.notices
                .push(format!("damaged files of keys in the index, written again: {count}"));
        }
        for file in unreadable.into_iter().filter_map(|at| files.get(at)) {
            let keys = match self.run(file.segment())? {
                Run::Indexed(run) => keys_of(run)?,
                // It was read from the segment, with its keys.
                Run::Open(_) => continue,
            };
            self.loading.add(keys);
            self.load_keys()?;
        }
        Ok(())
    }

    fn run(&self, segment: u32) -> Result<&Run, LedgerError> {
        let gone = || LedgerError::Corrupt(format!("segment {segment} vanished while it was read"));
        self.runs.get(&segment).ok_or_else(gone)
    }

    /// Loads the gathered keys into memory. The runs of their segments exist.
    pub(super) fn load_keys(&mut self) -> Result<(), LedgerError> {
        let twins = self.memory.keys.load(&std::mem::take(&mut self.loading));
        self.place_twins(&twins)
    }

    /// Adds keys whose first half another key has.
    fn place_twins(&self, twins: &[(u64, Position)]) -> Result<(), LedgerError> {
        for (half, at) in twins.iter().copied() {
            let segment = self.run(at.segment())?.segment();
            let payload = segment.read(at.offset())?;
            let record = Record::read(&payload);
            let head = record.as_ref().ok().and_then(Record::keys);
            let head = head.ok_or_else(|| segment.damaged(at.offset(), "no event is here"))?;
            for key in head.keys().filter(|key| super::keys::half(key) == half) {
                self.memory.keys.insert(&key, at);
            }
        }
        Ok(())
    }
}

/// The keys of a segment without their file, which is written again: from the database, or else from
/// the segment itself.
fn keys_of(run: &IndexedRun) -> Result<Sorted, LedgerError> {
    let segment = &run.segment;
    let keys = match run.load_keys() {
        Ok(Some(keys)) => keys,
        Ok(None) | Err(_) => {
            let (tables, scan) = Tables::read(segment)?;
            segment.check_complete(scan).map_err(with_remedy)?;
            if scan != run.scan() {
                let path = segment.path.display();
                return Err(LedgerError::Corrupt(format!(
                    "{path}: the index has other records; remove `index` in the store's directory: \
                     the next start builds it again"
                )));
            }
            tables.keys
        }
    };
    let keys = Sorted::new(&segment.header, &keys);
    // If it cannot be written now, the next start tries that again.
    let _ = run.write_keys(&keys);
    Ok(keys)
}

impl Core {
    /// A core of the gathered state.
    pub(super) fn new(
        options: EmbeddedOptions,
        open_files: Arc<OpenFiles>,
        index: Arc<Index>,
        lock: Lock,
        manifest: Manifest,
        gathered: LoadedState,
    ) -> (Self, CommitterState) {
        let newest = gathered.runs.values().filter_map(Run::newest_ms).max();
        let age = Age::open(&options.path, newest, options.clock.ms());
        let core = Self {
            age,
            unindexed: Mutex::default(),
            lost: Mutex::default(),
            indexing: Mutex::default(),
            options,
            files: Arc::clone(open_files.files()),
            open_files,
            index,
            runs: RwLock::new(gathered.runs),
            retiring: Mutex::default(),
            last_sweeps: Mutex::default(),
            expired_early: Mutex::default(),
            deliveries: Mutex::new(gathered.deliveries),
            revision: watch::Sender::new(gathered.documents.revision()),
            documents: Mutex::new(gathered.documents),
            held: Mutex::new(gathered.held),
            poison: Poison::default(),
            spare: SpareSlot::default(),
            notices: Mutex::new(gathered.notices),
            damage: gathered.damage,
            manifest: Mutex::new(manifest),
            unread: Occasional::new(UNREAD_EVERY),
            unrolled: Occasional::new(UNREAD_EVERY),
            unleased: Occasional::new(UNREAD_EVERY),
            sync_ns: AtomicU64::new(0),
            published_keys: AtomicU64::new(gathered.memory.keys.len() as u64),
            keys: Arc::clone(&gathered.memory.keys),
            lazy: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            short: AtomicBool::new(false),
            no_room: AtomicBool::new(false),
            _lock: lock,
        };
        (core, gathered.memory)
    }

    pub(super) fn now(&self) -> UnixMillis {
        self.options.clock.ms()
    }

    /// The time by which nonces end. The wall clock has set their ends.
    pub(super) fn nonces_now(&self) -> UnixMillis {
        self.options.clock.earlier_ms()
    }

    /// Nonces that have ended by then are dropped.
    pub(super) fn nonces_after(&self) -> UnixMillis {
        nonces_after(self.nonces_now())
    }

    pub(super) fn journal_dir(&self) -> PathBuf {
        journal_dir(&self.options.path)
    }

    pub(super) fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn documents(&self) -> MutexGuard<'_, DocumentTable> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HeldTable> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All runs, oldest first.
    pub(super) fn all_runs(&self) -> Vec<Run> {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        runs.values().cloned().collect()
    }

    /// Bytes used in the segment that is being written.
    pub(super) fn written_of_last(&self) -> u64 {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        match runs.last_key_value() {
            Some((_, Run::Open(run))) => u64::from(run.published()),
            _ => 0,
        }
    }

    /// Makes the file of a next segment, and notes whether there was room for it. `rest` is called as
    /// [`Spare::make`] says.
    pub(super) fn make_spare(&self, rest: &dyn Fn(u64, Duration)) -> Result<Spare, LedgerError> {
        let size = self.options.segment_bytes;
        let made = Spare::make(&*self.files, &self.journal_dir(), size, rest);
        self.no_room.store(made.is_err(), Ordering::Relaxed);
        made
    }

    /// Whether the results of attempts that begin now can be recorded, as far as is known.
    pub(super) fn has_room_for_results(&self) -> bool {
        !self.no_room.load(Ordering::Relaxed)
            || !self.spare.is_empty()
            || self.left_in_last() >= self.options.segment_bytes / RESULTS_PART
    }

    /// Bytes that are left in the segment that is being written.
    fn left_in_last(&self) -> u64 {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        match runs.last_key_value() {
            Some((_, Run::Open(run))) => {
                run.segment.size.saturating_sub(u64::from(run.published()))
            }
            _ => 0,
        }
    }

    /// The space on the disk: [`RESERVE`] segments must be free.
    pub(super) fn room(&self) -> Option<DiskSpace> {
        let free = self.files.free(&self.options.path).ok()?;
        let reserve = RESERVE * self.options.segment_bytes;
        let was_short = self.short.load(Ordering::Relaxed);
        let short = free < if was_short { reserve + reserve / 4 } else { reserve };
        self.short.store(short, Ordering::Relaxed);
        Some(DiskSpace { free, reserve, short })
    }

    /// The segment that a position is in.
    pub(super) fn segment_at(&self, at: Position) -> Result<Arc<Segment>, LedgerError> {
        let current = self.segment(at.segment()).filter(|segment| at.is_in(&segment.header));
        current
            .or_else(|| self.retiring(at.segment()))
            .ok_or_else(|| LedgerError::Corrupt(format!("segment {} is gone", at.segment())))
    }

    fn retiring(&self, number: u32) -> Option<Arc<Segment>> {
        let retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        retiring.as_ref().filter(|old| old.header.number == number).cloned()
    }

    /// Keeps the old form of a segment readable while positions move to the new one.
    pub(super) fn set_retiring(&self, segment: Option<Arc<Segment>>) {
        *self.retiring.lock().unwrap_or_else(PoisonError::into_inner) = segment;
    }

    pub(super) fn remove_run(&self, number: u32) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    pub(super) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        runs.get(&number).map(|run| Arc::clone(run.segment()))
    }

    /// The run of a segment.
    pub(super) fn run(&self, number: u32) -> Option<Run> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// The manifest. Its holder writes to the disk: the committer waits for it only when it begins
    /// a segment.
    pub(super) fn manifest(&self) -> MutexGuard<'_, Manifest> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the end of the journal to the manifest.
    pub(super) fn note_end(&self) -> Result<(), LedgerError> {
        self.poison.check()?;
        let last = self.all_runs().pop();
        match last {
            Some(run) => self.manifest().reached(run.segment().header.number, run.written()),
            None => Ok(()),
        }
    }

    pub(super) fn put_run(&self, number: u32, run: Run) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).insert(number, run);
    }

    /// Adds a notice for operators; the oldest are dropped first.
    pub(super) fn notice(&self, what: String) {
        const KEPT: usize = 100;
        tracing::warn!(what, "the ledger noticed a problem");
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() >= KEPT {
            notices.remove(0);
        }
        notices.push(what);
    }

    /// The state of the ledger.
    pub(super) fn health(&self) -> Health {
        let segments = self.all_runs().iter().map(|run| run.segment().size).sum::<u64>();
        Health {
            stopped: self.poison.reason().map(str::to_owned),
            durability: Durability::Local,
            bytes: Some(segments + self.index.size()),
            room: self.room(),
            mended: self.notices(),
            server: None,
            damage: self.damage.all(),
            unindexed: self.waits_for_index(),
        }
    }

    fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the duration of a sync: each counts for one eighth, so a single slow one changes
    /// little. Only the committer calls it.
    pub(super) fn note_sync(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / 8);
        let lately = match self.sync_ns.load(Ordering::Relaxed) {
            0 => took,
            lately => lately - lately / 8 + took / 8,
        };
        self.sync_ns.store(lately, Ordering::Relaxed);
    }

    /// The recent duration of a sync; zero before the first.
    pub(super) fn sync_time(&self) -> Duration {
        Duration::from_nanos(self.sync_ns.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(super) fn pretend_sync(&self, took: Duration) {
        self.sync_ns.store(took.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// Nonces that have ended by then are dropped at `now`. A day later than they end: after a clock was
/// ahead and is set back, they have not ended yet.
fn nonces_after(now: UnixMillis) -> UnixMillis {
    now.saturating_sub(DAY_MS)
}

/// The directory of the segments.
pub(super) fn journal_dir(path: &Path) -> PathBuf {
    path.join("journal")
}

/// The directory of the index.
pub(super) fn index_dir(path: &Path) -> PathBuf {
    path.join("index")
}
