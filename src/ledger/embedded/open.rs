//! Opening: what the journal says is read, what a crash tore is cut, what does not add up is
//! refused.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EmbeddedOptions;
use super::core::{Core, Gathered, Memory, index_dir, journal_dir};
use super::files::Files;
use super::index::Index;
use super::journal::{Journal, Spare, new_header, parse_name};
use super::open_files::OpenFiles;
use super::run::{OpenRun, Run};
use super::segment::{Rest, Scan, Segment, VERSION, failed};
use super::tables::Tables;
use crate::clock::UnixMillis;
use crate::ledger::{Keyring, LedgerError};

/// A ledger that was opened.
pub(super) struct Opened {
    pub(super) core: Core,
    pub(super) memory: Memory,
    pub(super) journal: Journal,
    /// Closed segments that the index does not have.
    pub(super) unindexed: Vec<u32>,
}

/// Opens the ledger in `options.path`, or begins one.
pub(super) fn open(options: EmbeddedOptions, files: Arc<dyn Files>) -> Result<Opened, LedgerError> {
    let journal_dir = journal_dir(&options.path);
    make_dir(&*files, &journal_dir)?;
    let lock = lock(&options.path)?;
    let mut reader = Reader {
        files: Arc::clone(&files),
        open_files: OpenFiles::new(files),
        keys: options.keys.clone(),
        index: Arc::new(Index::new(index_dir(&options.path))),
        now: options.clock.ms(),
        gathered: Gathered::new(),
        unindexed: Vec::new(),
    };
    let segments = reader.segments(&journal_dir)?;
    let (run, scan) = if segments.is_empty() {
        reader.begin(&journal_dir, options.segment_bytes)?
    } else {
        reader.read_all(segments)?
    };
    let Reader { index, mut gathered, unindexed, open_files, .. } = reader;
    gathered.load_keys()?;
    gathered.notices.extend(index.notices());
    index.prune(run.segment.header.number);
    let (core, memory) = Core::new(options, open_files, index, lock, gathered);
    Ok(Opened { core, memory, journal: Journal::new(run, scan)?, unindexed })
}

/// Makes a directory with those above it, so that they are there after a crash: a name is durable
/// only when the directory that it stands in is synced.
fn make_dir(files: &dyn Files, dir: &Path) -> Result<(), LedgerError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    make_dir(files, parent)?;
    let made = match fs::create_dir(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    made.and_then(|()| files.sync_dir(parent)).map_err(|error| failed(dir, "create", &error))
}

/// Makes this process the only one that works in the directory.
pub(super) fn lock(path: &Path) -> Result<File, LedgerError> {
    let name = path.join("lock");
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).create(true).truncate(false).open(&name);
    let mut file = opened.map_err(|error| failed(&name, "open", &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&name).unwrap_or_default();
            return Err(LedgerError::InUse(format!(
                "{} belongs to another process{}; one process owns a ledger",
                path.display(),
                if holder.is_empty() { String::new() } else { format!(" ({})", holder.trim()) },
            )));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&name, "lock", &error)),
    }
    // Only for people: the lock itself is what counts.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
    Ok(file)
}

/// Reads segments in their order.
struct Reader {
    files: Arc<dyn Files>,
    open_files: Arc<OpenFiles>,
    keys: Keyring,
    index: Arc<Index>,
    now: UnixMillis,
    gathered: Gathered,
    unindexed: Vec<u32>,
}

impl Reader {
    /// The segments by number, the newest generation of each; what is left over from an
    /// interrupted step is removed.
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
        let open = |(number, (_, path)): (u32, (u32, PathBuf))| {
            let segment = Segment::open(&self.files, &self.keys, &path)?;
            if segment.header.number != number {
                return Err(segment.damaged(0, "the file has another segment's name"));
            }
            Ok((number, segment))
        };
        names.into_iter().map(open).collect()
    }

    /// The first segment of a new ledger.
    fn begin(&mut self, dir: &Path, size: u64) -> Result<(Arc<OpenRun>, Scan), LedgerError> {
        let spare = Spare::make(&*self.files, dir, size, &|_, _| {})?;
        let key = self.keys.current();
        let header = new_header((0, VERSION), 1, self.now, key);
        let segment =
            spare.adopt(&*self.files, header, key).map_err(|error| failed(dir, "begin", &error))?;
        let run = Arc::new(OpenRun::new(Arc::new(segment)));
        self.gathered.runs.insert(0, Run::Open(Arc::clone(&run)));
        let (_, scan) = Tables::read(&run.segment)?;
        Ok((run, scan))
    }

    /// Reads all segments; answers the last one and where it goes on.
    fn read_all(
        &mut self,
        mut segments: BTreeMap<u32, Segment>,
    ) -> Result<(Arc<OpenRun>, Scan), LedgerError> {
        let Some((last, newest)) = segments.pop_last() else {
            return Err(LedgerError::Corrupt("there is no segment".into()));
        };
        let mut next: Option<(u32, u64)> = None;
        for (number, segment) in segments {
            check_order(&segment, next)?;
            let next_seq = self.closed(number, &segment)?;
            next = Some((number + 1, next_seq));
        }
        check_order(&newest, next)?;
        if !self.unindexed.is_empty() {
            let count = self.unindexed.len();
            let what = format!("{count} closed segments were not in the index and were read anew");
            self.gathered.notices.push(what);
        }
        self.last(last, newest)
    }

    /// A segment that nothing more is written to: from the index if that has it, else from its
    /// file. Answers the sequence that the next one begins with.
    fn closed(&mut self, number: u32, segment: &Segment) -> Result<u64, LedgerError> {
        let segment = Arc::new(Segment::at_rest(&self.open_files, segment));
        match self.index.load(&segment) {
            Ok(Some((tables, run))) => {
                self.gathered.absorb(&segment, &tables, self.now)?;
                let next_seq = run.scan().next_seq;
                self.gathered.runs.insert(number, Run::Indexed(Arc::new(run)));
                return Ok(next_seq);
            }
            Ok(None) => {}
            Err(error) => self.gathered.notices.push(format!("segment {number}: {error}")),
        }
        let (tables, scan) = Tables::read(&segment)?;
        if !segment.is_complete(scan)? {
            return Err(segment.damaged(scan.end, "a frame is broken, and others follow"));
        }
        self.gathered.absorb(&segment, &tables, self.now)?;
        let run = OpenRun::new(segment);
        run.extend(tables.events.into_iter(), tables.notes.into_iter());
        run.publish(scan.end);
        self.gathered.runs.insert(number, Run::Open(Arc::new(run)));
        self.unindexed.push(number);
        Ok(scan.next_seq)
    }

    /// The segment that is written on: the only one whose last frame may be torn.
    fn last(&mut self, number: u32, segment: Segment) -> Result<(Arc<OpenRun>, Scan), LedgerError> {
        let (tables, scan) = Tables::read(&segment)?;
        match segment.rest(scan)? {
            Rest::Clean => {}
            Rest::Torn { until } => {
                segment.cut(scan, until)?;
                self.gathered.notices.push(format!(
                    "{}: a torn commit was cut at offset {} ({} bytes); nobody was told of it",
                    segment.path.display(),
                    scan.end,
                    until - scan.end
                ));
            }
            Rest::Damaged { whole_at } => {
                let what = format!("a frame is broken, and a whole one follows at {whole_at}");
                return Err(segment.damaged(scan.end, &what));
            }
        }
        self.gathered.absorb(&segment, &tables, self.now)?;
        let run = Arc::new(OpenRun::new(Arc::new(segment)));
        run.extend(tables.events.into_iter(), tables.notes.into_iter());
        run.publish(scan.end);
        self.gathered.runs.insert(number, Run::Open(Arc::clone(&run)));
        Ok((run, scan))
    }
}

/// Segments have no gaps, neither in their numbers nor in the sequence of their frames.
fn check_order(segment: &Segment, expected: Option<(u32, u64)>) -> Result<(), LedgerError> {
    let header = &segment.header;
    match expected {
        None => Ok(()),
        Some((number, _)) if number != header.number => Err(LedgerError::Corrupt(format!(
            "segment {number} is missing before {}",
            segment.path.display()
        ))),
        Some((_, seq)) if seq != header.first_seq => Err(segment.damaged(
            0,
            &format!("it begins with frame {}, but frame {seq} is the next", header.first_seq),
        )),
        Some(_) => Ok(()),
    }
}
