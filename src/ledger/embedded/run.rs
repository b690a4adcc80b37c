//! Runs: the searchable events of one segment. In memory while the segment is young, in the index
//! afterwards.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::index::{IndexedRun, Rows as IndexedRows};
use super::segment::{HEADER, Segment};
use super::tables::{By, EventRow, FullRow, Note, half_id};
use crate::clock::UnixMillis;
use crate::ledger::{EventId, LedgerError};

/// Readers get rows in chunks of this size: they block the committer only while one is copied.
const CHUNK: usize = 4096;

/// The events of a segment that is not indexed yet.
pub(super) struct OpenRun {
    pub(super) segment: Arc<Segment>,
    rows: Mutex<Rows>,
    /// The end of the published part of the segment.
    published: AtomicU32,
}

#[derive(Default)]
struct Rows {
    chunks: Vec<Arc<Chunk>>,
    /// The newest, in order of arrival.
    tail: Vec<FullRow>,
    notes: Vec<Note>,
}

/// [`CHUNK`] rows in order of arrival; sorted at the first read.
struct Chunk {
    rows: Vec<FullRow>,
    by_id: OnceLock<Arc<[FullRow]>>,
}

impl Chunk {
    fn by_id(&self) -> Arc<[FullRow]> {
        Arc::clone(self.by_id.get_or_init(|| sorted(self.rows.clone())))
    }
}

fn sorted(mut rows: Vec<FullRow>) -> Arc<[FullRow]> {
    rows.sort_unstable_by_key(FullRow::order);
    rows.into()
}

impl OpenRun {
    pub(super) fn new(segment: Arc<Segment>) -> Self {
        Self { segment, rows: Mutex::default(), published: AtomicU32::new(HEADER) }
    }

    /// Publishes everything before `end`, which is synced.
    pub(super) fn publish(&self, end: u32) {
        self.published.store(end, Ordering::Release);
    }

    /// The argument of the last [`OpenRun::publish`].
    pub(super) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds committed rows.
    pub(super) fn extend(
        &self,
        events: impl Iterator<Item = FullRow>,
        notes: impl Iterator<Item = Note>,
    ) {
        let mut rows = self.rows();
        for row in events {
            rows.tail.push(row);
            if rows.tail.len() == CHUNK {
                let full = std::mem::replace(&mut rows.tail, Vec::with_capacity(CHUNK));
                rows.chunks.push(Arc::new(Chunk { rows: full, by_id: OnceLock::new() }));
            }
        }
        rows.notes.extend(notes);
    }

    /// The number of events.
    pub(super) fn len(&self) -> usize {
        let rows = self.rows();
        rows.chunks.len() * CHUNK + rows.tail.len()
    }

    /// All rows, each chunk by id. Sorting is done outside of the lock.
    fn chunks(&self) -> Vec<Arc<[FullRow]>> {
        let (chunks, tail) = {
            let rows = self.rows();
            (rows.chunks.clone(), rows.tail.clone())
        };
        let full = chunks.iter().map(|chunk| chunk.by_id());
        full.chain([sorted(tail)]).collect()
    }

    /// The event with that id.
    fn find(&self, id: EventId) -> Option<EventRow> {
        let chunks = {
            let rows = self.rows();
            if let Some(full) = rows.tail.iter().rev().find(|full| full.row.id == id) {
                return Some(full.row);
            }
            rows.chunks.clone()
        };
        chunks.iter().rev().find_map(|chunk| {
            let rows = chunk.by_id();
            let at = rows.binary_search_by_key(&id, |full| full.row.id).ok()?;
            rows.get(at).map(|full| full.row)
        })
    }

    fn notes(&self, half: u64) -> Vec<u32> {
        let rows = self.rows();
        rows.notes.iter().filter(|note| note.event == half).map(|note| note.offset).collect()
    }
}

/// The run of one segment.
#[derive(Clone)]
pub(super) enum Run {
    Open(Arc<OpenRun>),
    Indexed(Arc<IndexedRun>),
}

impl Run {
    pub(super) fn segment(&self) -> &Arc<Segment> {
        match self {
            Self::Open(run) => &run.segment,
            Self::Indexed(run) => &run.segment,
        }
    }

    /// The number of events.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Open(run) => run.len(),
            Self::Indexed(run) => run.len(),
        }
    }

    /// When the newest event was received, according to its id; `None` without events.
    pub(super) fn newest_ms(&self) -> Option<UnixMillis> {
        match self {
            Self::Open(run) => {
                let chunks = run.chunks();
                chunks.iter().filter_map(|chunk| chunk.last()).map(|full| full.row.id.ms()).max()
            }
            Self::Indexed(run) => Some(run.newest_ms()),
        }
    }

    fn views(&self) -> Vec<View> {
        match self {
            Self::Open(run) => run.chunks().into_iter().map(View::Chunk).collect(),
            Self::Indexed(run) => vec![View::Indexed(Arc::clone(run))],
        }
    }

    /// The records about the deliveries of an event, in the order they were written. Records of
    /// other events may be among them.
    pub(super) fn notes(&self, event: EventId) -> Result<Vec<u32>, LedgerError> {
        let half = half_id(event);
        let mut offsets = match self {
            Self::Open(run) => run.notes(half),
            Self::Indexed(run) => run.notes(half)?,
        };
        offsets.sort_unstable();
        Ok(offsets)
    }

    /// Events that may have that hash, in no order.
    pub(super) fn find_by(&self, by: By, hash: u32) -> Result<Vec<EventRow>, LedgerError> {
        match self {
            Self::Open(run) => {
                let hit = |row: &&FullRow| row.hash(by) == Some(hash);
                let chunks = run.chunks();
                let rows = chunks.iter().flat_map(|chunk| chunk.iter().filter(hit));
                Ok(rows.map(|full| full.row).collect())
            }
            Self::Indexed(run) => run.find_by(by, hash),
        }
    }
}

/// Looks up events by their ids. What is read for one serves the next, so the ids of a list are
/// best looked up in order.
pub(super) struct Finder {
    /// The newest last, each with the block that was read last.
    runs: Vec<(Run, Option<IndexedRows>)>,
}

impl Finder {
    pub(super) fn new(runs: Vec<Run>) -> Self {
        Self { runs: runs.into_iter().map(|run| (run, None)).collect() }
    }

    /// The event with that id, and its segment.
    pub(super) fn find(
        &mut self,
        id: EventId,
    ) -> Result<Option<(EventRow, Arc<Segment>)>, LedgerError> {
        for (run, read) in self.runs.iter_mut().rev() {
            let row = match run {
                Run::Open(run) => run.find(id),
                Run::Indexed(run) => run.find(id, read)?,
            };
            if let Some(row) = row {
                return Ok(Some((row, Arc::clone(run.segment()))));
            }
        }
        Ok(None)
    }
}

/// Rows sorted by id, to be searched.
enum View {
    Chunk(Arc<[FullRow]>),
    Indexed(Arc<IndexedRun>),
}

impl View {
    fn len(&self) -> usize {
        match self {
            Self::Chunk(rows) => rows.len(),
            Self::Indexed(run) => run.len(),
        }
    }

    /// The number of rows with a smaller id.
    fn lower(&self, id: EventId) -> Result<usize, LedgerError> {
        match self {
            Self::Chunk(rows) => Ok(rows.partition_point(|full| full.row.id < id)),
            Self::Indexed(run) => run.lower(id),
        }
    }
}

/// Walks a view from its newest row to its oldest.
struct Cursor {
    view: View,
    segment: Arc<Segment>,
    /// Remaining rows.
    left: usize,
    /// The block read last.
    read: Option<IndexedRows>,
}

impl Cursor {
    fn new(view: View, segment: Arc<Segment>) -> Self {
        let left = view.len();
        Self { view, segment, left, read: None }
    }

    fn row(&mut self, at: usize) -> Result<EventRow, LedgerError> {
        match &self.view {
            View::Chunk(rows) => {
                let row = rows.get(at).map(|full| full.row);
                row.ok_or_else(|| LedgerError::Corrupt("a row is missing in memory".into()))
            }
            View::Indexed(run) => run.row(at, &mut self.read),
        }
    }

    /// The largest id that may still come.
    fn newest(&mut self) -> Result<Option<EventId>, LedgerError> {
        if self.left == 0 { Ok(None) } else { self.row(self.left - 1).map(|row| Some(row.id)) }
    }
}

/// Merges the events of many runs, newest id first. Runs are opened only when needed.
pub(super) struct Walk {
    cursors: Vec<Cursor>,
    heap: BinaryHeap<(EventId, usize)>,
    from: EventId,
}

impl Walk {
    /// Events below `before` and not below `from`.
    pub(super) fn new(runs: &[Run], before: EventId, from: EventId) -> Result<Self, LedgerError> {
        let mut walk = Self { cursors: Vec::new(), heap: BinaryHeap::new(), from };
        for run in runs {
            if let Run::Indexed(run) = run
                && (run.newest() < from || run.oldest() >= before)
            {
                continue;
            }
            for view in run.views() {
                let mut cursor = Cursor::new(view, Arc::clone(run.segment()));
                let newest = match run {
                    // Known without reading a block.
                    Run::Indexed(run) if run.newest() < before => Some(run.newest()),
                    _ => {
                        cursor.left = cursor.view.lower(before)?;
                        cursor.newest()?
                    }
                };
                if let Some(newest) = newest.filter(|newest| *newest >= from) {
                    walk.heap.push((newest, walk.cursors.len()));
                    walk.cursors.push(cursor);
                }
            }
        }
        Ok(walk)
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Result<Option<(EventRow, Arc<Segment>)>, LedgerError> {
        let Some((_, at)) = self.heap.pop() else { return Ok(None) };
        let Some(cursor) = self.cursors.get_mut(at) else { return Ok(None) };
        cursor.left -= 1;
        let row = cursor.row(cursor.left)?;
        let segment = Arc::clone(&cursor.segment);
        if let Some(newest) = cursor.newest()?.filter(|newest| *newest >= self.from) {
            self.heap.push((newest, at));
        }
        Ok(Some((row, segment)))
    }
}
