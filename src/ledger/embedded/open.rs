//! Opening: reads the journal, cuts a torn commit, and rejects inconsistencies.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::core::{CommitterState, Core, LoadedState, index_dir, journal_dir};
use super::damage::{REMEDY, with_remedy};
use super::files::Files;
use super::index::{Index, IndexedRun, KeyFile};
use super::journal::{Journal, Spare, new_header, parse_name};
use super::keys::Sorted;
use super::lock::Lock;
use super::manifest::{self, Content, Manifest};
use super::open_files::OpenFiles;
use super::run::{OpenRun, Run};
use super::segment::{HEADER, Rest, Scan, Segment, VERSION, failed};
use super::tables::Tables;
use super::{EmbeddedOptions, OpenProgress, OpenStep};
use crate::clock::UnixMillis;
use crate::ledger::{Keyring, LedgerError};
use crate::private;

/// Threads that look closed segments up at a start, and that load them.
const LOADERS_MAX: usize = 4;

/// Bytes that a key takes in its segment, at least.
const KEY_BYTES: usize = 16;

/// A closed segment, and its run if the index has it.
struct ClosedSegment {
    segment: Arc<Segment>,
    run: Result<Option<Arc<IndexedRun>>, LedgerError>,
    keys_in: KeysIn,
}

/// Where the keys of a closed segment are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeysIn {
    /// In the file beside the database.
    KeyFile,
    /// Where its other tables are: an earlier version wrote no such file, or it is damaged.
    Tables,
}

/// The expected start of a segment.
#[derive(Clone, Copy)]
pub(super) struct NextSegment {
    pub(super) number: u32,
    /// The sequence of its first frame.
    pub(super) first_seq: u64,
}

impl ClosedSegment {
    /// The file of its keys, if that has them.
    fn find_key_file(&mut self) -> Option<KeyFile> {
        let run = self.run.as_ref().ok().and_then(Option::as_ref);
        let file = run.and_then(|run| run.key_file().ok())?;
        self.keys_in = KeysIn::KeyFile;
        Some(file)
    }

    /// The number of its keys; 0 if the index does not know it.
    fn keys(&self) -> usize {
        let run = self.run.as_ref().ok().and_then(Option::as_ref);
        // A damaged index may have any number: no more than the segment has room for.
        run.map_or(0, |run| run.keys().min(self.segment.size as usize / KEY_BYTES))
    }
}

/// The tables of a closed segment.
struct Loaded {
    tables: Tables,
    /// `None` if they are in the file beside the database.
    keys: Option<Sorted>,
    origin: Origin,
}

/// Where the tables of a closed segment were read.
enum Origin {
    Index(Arc<IndexedRun>),
    /// Its file, because the index has none, or cannot be read.
    File(Scan, Option<String>),
}

/// An opened ledger.
pub(super) struct Opened {
    pub(super) core: Core,
    pub(super) memory: CommitterState,
    pub(super) journal: Journal,
    /// Closed segments that are missing in the index.
    pub(super) unindexed: Vec<u32>,
}

/// Opens the ledger in `options.path`, or creates one.
pub(super) fn open(options: EmbeddedOptions, files: Arc<dyn Files>) -> Result<Opened, LedgerError> {
    let path = options.path.clone();
    make_dir(&*files, &path)?;
    let mut lock = Lock::take(&path)?;
    // Closes files that an earlier version left open to others. A file system without modes has
    // none.
    if let Err(error) = private::tighten(&options.path) {
        tracing::warn!(%error, path = %path.display(), "could not close the store to other accounts");
    }
    let found = manifest::read(&*files, &path)?;
    let journal_dir = journal_dir(&path);
    if !journal_dir.is_dir() {
        make_dir(&*files, &journal_dir)?;
        lock.add_journal(&path)?;
    }
    let mut reader = Reader {
        files: Arc::clone(&files),
        open_files: OpenFiles::new(files),
        keys: options.keys.clone(),
        progress: options.progress.clone(),
        index: Arc::new(Index::new(index_dir(&options.path))),
        now: options.clock.ms(),
        gathered: LoadedState::new(),
        unindexed: Vec::new(),
        known: found.as_ref().map(|found| found.content),
    };
    let segments = reader.segments(&journal_dir)?;
    reader.check_all_there(&path, &segments)?;
    let (run, scan) = if segments.is_empty() {
        let begun = reader.begin(&journal_dir, options.segment_bytes)?;
        tracing::warn!(
            path = %path.display(),
            "a new store was created: if one was expected here, stop the gateway, and check that the \
             volume is mounted and that store.path is right"
        );
        begun
    } else {
        reader.read_all(segments)?
    };
    let manifest = reader.manifest(&path, found, &run, scan)?;
    let Reader { index, mut gathered, unindexed, open_files, .. } = reader;
    gathered.load_keys()?;
    gathered.notices.extend(index.notices());
    for what in &gathered.notices {
        tracing::warn!(what, "store repaired");
    }
    index.prune(run.segment.header.number);
    let (core, memory) = Core::new(options, open_files, index, lock, manifest, gathered);
    Ok(Opened { core, memory, journal: Journal::new(run, scan)?, unindexed })
}

/// Creates a directory with its parents, durably: a name is durable only when its directory is
/// synced.
fn make_dir(files: &dyn Files, dir: &Path) -> Result<(), LedgerError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_dir(files, parent)?;
    let made = match private::create_folder(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    made.and_then(|()| files.sync_dir(parent)).map_err(|error| failed(dir, "create", &error))
}

/// Reads segments in order.
struct Reader {
    files: Arc<dyn Files>,
    open_files: Arc<OpenFiles>,
    keys: Keyring,
    progress: OpenProgress,
    index: Arc<Index>,
    now: UnixMillis,
    gathered: LoadedState,
    unindexed: Vec<u32>,
    /// The content of the manifest; `None` if there is none.
    known: Option<Content>,
}

impl Reader {
    /// Rejects a journal with segments missing at its start or end. Missing ones in between are
    /// found while reading.
    fn check_all_there(
        &self,
        path: &Path,
        segments: &BTreeMap<u32, Segment>,
    ) -> Result<(), LedgerError> {
        let journal = journal_dir(path);
        match &self.known {
            Some(known) => known.check(&journal, |number| segments.contains_key(&number)),
            None if segments.is_empty() && has_index(path) => Err(LedgerError::Corrupt(format!(
                "{}: the journal is missing, and there is an index of it; mount the volume, or \
                 restore a backup; to begin an empty store instead, remove `index` beside it",
                journal.display()
            ))),
            None => Ok(()),
        }
    }

    /// The manifest of the found or new journal, with the end of its written part.
    fn manifest(
        &mut self,
        path: &Path,
        found: Option<manifest::Found>,
        run: &OpenRun,
        scan: Scan,
    ) -> Result<Manifest, LedgerError> {
        let last = run.segment.header.number;
        let first = self.gathered.runs.keys().next().copied().unwrap_or(last);
        let content = Content { first, last, segment: last, end: scan.end, created_ms: self.now };
        let Some(found) = found else {
            if scan.records > 0 || first < last {
                self.gathered.notices.push(format!(
                    "the store had no manifest: it is from a version before, or the file was \
                     removed. One was created from the segments that are there, {first} to {last}"
                ));
            }
            return Manifest::create(&*self.files, path, content);
        };
        if found.half {
            let what =
                "one of two copies of the manifest was torn or damaged; it was written again";
            self.gathered.notices.push(what.to_owned());
        }
        let mut manifest = Manifest::open(&*self.files, path, &found)?;
        manifest.set(content)?;
        Ok(manifest)
    }

    /// The segments by number, the newest generation of each; removes leftovers of an interrupted
    /// step.
    fn segments(&self, dir: &Path) -> Result<BTreeMap<u32, Segment>, LedgerError> {
        let mut names: BTreeMap<u32, (u32, PathBuf)> = BTreeMap::new();
        let mut stale = Vec::new();
        for path in self.files.list(dir).map_err(|error| failed(dir, "list", &error))? {
            match parse_name(&path) {
                Some((number, generation)) => {
                    let newest = names.get(&number).map(|(newest, _)| *newest);
                    if newest.is_some_and(|newest| newest > generation) {
                        stale.push(path);
                    } else if let Some((_, old)) = names.insert(number, (generation, path)) {
                        stale.push(old);
                    }
                }
                None if path.extension().is_some_and(|extension| extension == "tmp") => {
                    stale.push(path);
                }
                None => {}
            }
        }
        for path in stale {
            self.files.remove(&path).map_err(|error| failed(&path, "remove", &error))?;
        }
        let last = names.keys().next_back().copied();
        let open = |(number, (_, path)): (u32, (u32, PathBuf))| {
            let segment = Segment::open(&self.files, &self.keys, &path)?;
            if segment.header.number != number {
                return Err(segment.damaged(0, "the file has another segment's name"));
            }
            if Some(number) == last {
                return Ok((number, segment));
            }
            // There may be more segments than a process may have open files.
            Ok((number, Segment::at_rest(&self.open_files, &segment)))
        };
        names.into_iter().map(open).collect()
    }

    /// The first segment of a new ledger.
    fn begin(&mut self, dir: &Path, size: u64) -> Result<(Arc<OpenRun>, Scan), LedgerError> {
        let spare = Spare::make(&*self.files, dir, size, &|_, _| {})?;
        let key = self.keys.current();
        let header = new_header(0, VERSION, 1, self.now, key);
        let segment =
            spare.adopt(&*self.files, header, key).map_err(|error| failed(dir, "begin", &error))?;
        let run = Arc::new(OpenRun::new(Arc::new(segment)));
        self.gathered.runs.insert(0, Run::Open(Arc::clone(&run)));
        let (_, scan) = Tables::read(&run.segment)?;
        Ok((run, scan))
    }

    /// Reads all segments; returns the last one and its end.
    fn read_all(
        &mut self,
        mut segments: BTreeMap<u32, Segment>,
    ) -> Result<(Arc<OpenRun>, Scan), LedgerError> {
        let Some((_, newest)) = segments.pop_last() else {
            return Err(LedgerError::Corrupt("there is no segment".into()));
        };
        let mut closed: Vec<ClosedSegment> = segments
            .into_values()
            .map(Arc::new)
            .map(|segment| ClosedSegment { segment, run: Ok(None), keys_in: KeysIn::Tables })
            .collect();
        let count = closed.len() + 1;
        let progress = self.progress.clone();
        let said = |at| (progress.0)(OpenStep { segment: at + 1, segments: count });
        said(0);
        closed.iter().for_each(|one| self.index.read_ahead(&one.segment));
        find_all(&self.index, &mut closed);
        let files: Vec<KeyFile> =
            closed.iter_mut().filter_map(ClosedSegment::find_key_file).collect();
        let keys = Arc::clone(&self.gathered.memory.keys);
        keys.reserve(closed.iter().map(ClosedSegment::keys).sum());
        let (next, load, of_newest) = thread::scope(|scope| {
            let load = scope.spawn(|| keys.load_files(&files));
            let of_newest = scope.spawn(|| Tables::read(&newest));
            (self.closed_segments(&closed, &said), joined(load), joined(of_newest))
        });
        let next = next?;
        self.gathered.finish_files(&files, load)?;
        said(count - 1);
        check_order(&newest, next)?;
        if !self.unindexed.is_empty() {
            let count = self.unindexed.len();
            let what = format!("{count} closed segments were not in the index and were read again");
            self.gathered.notices.push(what);
        }
        let (tables, scan) = of_newest?;
        self.last(newest, tables, scan)
    }

    /// Adds all closed segments in order. Returns the start of the next one.
    fn closed_segments(
        &mut self,
        closed: &[ClosedSegment],
        said: &dyn Fn(usize),
    ) -> Result<Option<NextSegment>, LedgerError> {
        thread::scope(|scope| {
            let mut next = None;
            for (at, (segment, loaded)) in load_all(scope, closed).enumerate() {
                said(at);
                // The segments of the databases before it are loaded.
                self.index.close_before(segment);
                check_order(segment, next)?;
                let first_seq = self.closed(segment, loaded?)?;
                next = Some(NextSegment { number: segment.header.number + 1, first_seq });
            }
            Ok(next)
        })
    }

    /// Adds a closed segment. Returns the sequence of the next one.
    fn closed(&mut self, segment: &Arc<Segment>, loaded: Loaded) -> Result<u64, LedgerError> {
        let number = segment.header.number;
        let Loaded { tables, keys, origin } = loaded;
        self.gathered.absorb(segment, &tables, keys, self.now)?;
        match origin {
            Origin::Index(run) => {
                let scan = run.scan();
                if segment.size < u64::from(scan.end) {
                    let (from, what) = (segment.size as u32, "the file is too short");
                    self.gathered.damage.add(segment.place(from, scan.end, what));
                }
                self.gathered.runs.insert(number, Run::Indexed(run));
                Ok(scan.next_seq)
            }
            Origin::File(scan, why) => {
                let why = why.map(|error| format!("segment {number}: {error}"));
                self.gathered.notices.extend(why);
                let run = OpenRun::new(Arc::clone(segment));
                run.extend(tables.events.into_iter(), tables.notes.into_iter());
                run.publish(scan.end);
                self.gathered.runs.insert(number, Run::Open(Arc::new(run)));
                self.unindexed.push(number);
                Ok(scan.next_seq)
            }
        }
    }

    /// The segment that is continued: the only one whose last frame may be torn.
    fn last(
        &mut self,
        segment: Segment,
        tables: Tables,
        scan: Scan,
    ) -> Result<(Arc<OpenRun>, Scan), LedgerError> {
        self.cut_torn_end(&segment, scan)?;
        self.write_end_again(&segment, scan)?;
        let keys = Some(Sorted::new(&segment.header, &tables.keys));
        self.gathered.absorb(&segment, &tables, keys, self.now)?;
        let number = segment.header.number;
        let run = Arc::new(OpenRun::new(Arc::new(segment)));
        run.extend(tables.events.into_iter(), tables.notes.into_iter());
        run.publish(scan.end);
        self.gathered.runs.insert(number, Run::Open(Arc::clone(&run)));
        Ok((run, scan))
    }

    /// Cuts a torn commit off the last segment, which ends at `scan`.
    fn cut_torn_end(&mut self, segment: &Segment, scan: Scan) -> Result<(), LedgerError> {
        if let Some(known) = &self.known
            && known.segment == segment.header.number
            && scan.end < known.end
        {
            let end = known.end;
            let what = format!("a frame is broken, and everything before {end} was written");
            return Err(with_remedy(segment.damaged(scan.end, &what)));
        }
        match segment.rest(scan)? {
            Rest::Clean => {}
            Rest::Torn { until } => {
                segment.cut(scan, until)?;
                self.gathered.notices.push(format!(
                    "{}: a torn commit was cut at offset {} ({} bytes); it was not acknowledged",
                    segment.path.display(),
                    scan.end,
                    until - scan.end
                ));
            }
            Rest::Damaged { whole_at } => {
                let what = format!("a frame is broken, and a whole one follows at {whole_at}");
                return Err(with_remedy(segment.damaged(scan.end, &what)));
            }
        }
        Ok(())
    }

    /// Writes the end of the last segment again, and syncs it.
    fn write_end_again(&self, segment: &Segment, scan: Scan) -> Result<(), LedgerError> {
        // What a killed process wrote last, and the name of the segment, may not be on the disk yet.
        // From now on the manifest counts on them, and so do answers to duplicates. After a failed
        // sync, Linux has what was written for synced: another sync alone would write none of it.
        let known = self.known.filter(|known| known.segment == segment.header.number);
        let from = known.map_or(HEADER, |known| known.end);
        let written = segment.write_again(from, scan.end);
        let dir = segment.path.parent().unwrap_or(Path::new("."));
        let synced =
            written.and_then(|()| segment.file.sync_data()).and_then(|()| self.files.sync_dir(dir));
        synced.map_err(|error| failed(&segment.path, "sync", &error))?;
        // The kernel may have dropped what it read before, which was never on the disk.
        if !segment.is_as_scanned(from, scan)? {
            let what = "the disk holds other bytes than were read from it a moment ago";
            return Err(with_remedy(segment.damaged(scan.end, what)));
        }
        Ok(())
    }
}

/// The number of threads that load segments.
fn loaders(segments: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(LOADERS_MAX).min(segments)
}

/// The result of a thread, or its panic.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Looks all segments up in the index. Each thread has segments in a row, and so databases of its
/// own: to open one takes a while, in which it mostly waits for the disk.
fn find_all(index: &Index, segments: &mut [ClosedSegment]) {
    let share = segments.len().div_ceil(LOADERS_MAX).max(1);
    thread::scope(|scope| {
        for own in segments.chunks_mut(share) {
            scope.spawn(move || {
                for one in own {
                    one.run = index.find(&one.segment).map(|run| run.map(Arc::new));
                }
            });
        }
    });
}

/// Each segment in order, with its tables. Several threads load them ahead, up to two segments
/// each.
fn load_all<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    segments: &'env [ClosedSegment],
) -> impl Iterator<Item = (&'env Arc<Segment>, Result<Loaded, LedgerError>)> {
    let loaders = loaders(segments.len());
    let ahead: Vec<Receiver<Result<Loaded, LedgerError>>> = (0..loaders)
        .map(|first| {
            let (to, from) = mpsc::sync_channel(1);
            let own = segments.iter().skip(first).step_by(loaders);
            scope.spawn(move || load_some(own, &to));
            from
        })
        .collect();
    segments.iter().enumerate().map(move |(at, one)| {
        let loaded = ahead[at % loaders].recv();
        // Its loader has panicked: the scope reports that.
        let none = || Err(LedgerError::Corrupt("a segment could not be loaded".to_owned()));
        (&one.segment, loaded.unwrap_or_else(|_| none()))
    })
}

fn load_some<'s>(
    segments: impl Iterator<Item = &'s ClosedSegment>,
    to: &SyncSender<Result<Loaded, LedgerError>>,
) {
    for segment in segments {
        // The start has failed: another segment is damaged.
        if to.send(load(segment)).is_err() {
            return;
        }
    }
}

/// The tables of a closed segment: from the index if it has them, otherwise from its file.
fn load(ClosedSegment { segment, run, keys_in }: &ClosedSegment) -> Result<Loaded, LedgerError> {
    let why = match run {
        Ok(Some(run)) => match load_indexed(run, *keys_in) {
            Ok(Some(loaded)) => return Ok(loaded),
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        },
        Ok(None) => None,
        Err(error) => Some(error.to_string()),
    };
    let (mut tables, scan) = Tables::read(segment)?;
    segment.check_complete(scan).map_err(with_remedy)?;
    // Once is enough: a segment has many.
    let keys = Some(Sorted::new(&segment.header, &std::mem::take(&mut tables.keys)));
    Ok(Loaded { keys, tables, origin: Origin::File(scan, why) })
}

/// The tables of a segment in the index; `None` if they are not complete.
fn load_indexed(run: &Arc<IndexedRun>, keys_in: KeysIn) -> Result<Option<Loaded>, LedgerError> {
    let Some(tables) = run.load()? else { return Ok(None) };
    let mut keys = None;
    if keys_in == KeysIn::Tables {
        let Some(found) = run.load_keys()? else { return Ok(None) };
        let sorted = Sorted::new(&run.segment.header, &found);
        // If it cannot be written now, the next start tries that again.
        let _ = run.write_keys(&sorted);
        keys = Some(sorted);
    }
    Ok(Some(Loaded { tables, keys, origin: Origin::Index(Arc::clone(run)) }))
}

/// Whether there is an index for the store in `path`.
fn has_index(path: &Path) -> bool {
    fs::read_dir(index_dir(path)).is_ok_and(|mut entries| entries.next().is_some())
}

/// Checks that neither segment numbers nor frame sequences have gaps.
fn check_order(segment: &Segment, expected: Option<NextSegment>) -> Result<(), LedgerError> {
    let header = &segment.header;
    match expected {
        None => Ok(()),
        Some(NextSegment { number, .. }) if number != header.number => {
            let path = segment.path.display();
            let what = format!("segment {number} is missing before {path}; {REMEDY}");
            Err(LedgerError::Corrupt(what))
        }
        Some(NextSegment { first_seq, .. }) if first_seq != header.first_seq => {
            let first = header.first_seq;
            let what = format!("it begins with frame {first}, but frame {first_seq} is the next");
            Err(with_remedy(segment.damaged(0, &what)))
        }
        Some(_) => Ok(()),
    }
}
