//! The scrub: reads all stored data, step by step, and records damage.
//!
//! A pass reads the manifest, and for each segment its header, its frames, the bytes after them,
//! and its part of the index. Each step takes a few ms and holds no lock that the committer waits
//! for. Data is read from the disk, not from memory, as far as the system allows.

use std::path::Path;
use std::sync::Arc;

use super::core::Core;
use super::manifest;
use super::record::Record;
use super::run::Run;
use super::segment::{HEADER, Header, Scan, Segment};
use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::{Cursor, LedgerError, ScrubPage};

/// The niceness of its thread: the lowest priority.
pub(super) const NICE: i32 = 19;

/// The position of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    part: Part,
    number: u32,
    generation: u32,
    /// In the segment: the offset of the next frame, and its sequence.
    offset: u32,
    seq: u64,
    /// The journal's end when the pass began. Later records belong to the next pass: otherwise a
    /// pass might never end.
    limit: JournalEnd,
}

/// The end of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct JournalEnd {
    /// The last segment.
    number: u32,
    offset: u32,
}

/// The next part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Frames = 0,
    Index = 1,
}

impl At {
    /// The first frame of a segment, in whatever form that segment is.
    fn segment(number: u32, limit: JournalEnd) -> Self {
        Self { part: Part::Frames, number, generation: 0, offset: 0, seq: 0, limit }
    }

    /// The frame after `scan`, in the same pass.
    fn behind(self, header: &Header, scan: Scan) -> Self {
        let Header { number, generation, .. } = *header;
        Self {
            part: Part::Frames,
            number,
            generation,
            offset: scan.end,
            seq: scan.next_seq,
            ..self
        }
    }

    /// The end of a run in this pass.
    fn until(self, run: &Run) -> u32 {
        let header = &run.segment().header;
        match header.number == self.limit.number && header.generation == 0 {
            true => run.written().min(self.limit.offset),
            false => run.written(),
        }
    }

    fn cursor(self) -> Cursor {
        let mut to = vec![self.part as u8];
        let Self { number, generation, offset, limit, .. } = self;
        for n in [number, generation, offset, limit.number, limit.offset] {
            to.put_len(n as usize);
        }
        to.extend_from_slice(&self.seq.to_le_bytes());
        Cursor(to)
    }

    fn read(cursor: &Cursor) -> Result<Self, DecodeError> {
        let mut from = Take(&cursor.0);
        let part = match from.u8()? {
            0 => Part::Frames,
            1 => Part::Index,
            _ => return Err(DecodeError),
        };
        let number = |from: &mut Take<'_>| u32::try_from(from.len()?).or(Err(DecodeError));
        let at = Self {
            part,
            number: number(&mut from)?,
            generation: number(&mut from)?,
            offset: number(&mut from)?,
            limit: JournalEnd { number: number(&mut from)?, offset: number(&mut from)? },
            seq: from.u64()?,
        };
        from.end().map(|()| at)
    }

    /// Whether the position is in the form of a segment with this header.
    fn is_in(self, header: &Header) -> bool {
        (self.number, self.generation) == (header.number, header.generation)
            && self.offset >= HEADER
    }
}

impl Core {
    /// A step of a scrub: reads about `bytes` from `cursor` on.
    pub(super) fn scrub(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ScrubPage, LedgerError> {
        let mut page = ScrubPage::default();
        let mut runs = self.all_runs();
        let at = match cursor {
            Some(cursor) => At::read(cursor).map_err(|_| LedgerError::BadCursor)?,
            None => {
                self.scrub_manifest(&mut page);
                let end = runs.last().map(|run| {
                    let number = run.segment().header.number;
                    JournalEnd { number, offset: run.written() }
                });
                At::segment(0, end.unwrap_or_default())
            }
        };
        runs.retain(|run| run.segment().header.number <= at.limit.number);
        let found = runs.iter().position(|run| run.segment().header.number >= at.number);
        let mut next = None;
        if let Some(found) = found {
            let run = &runs[found];
            page.done = runs[..found].iter().map(|run| run.segment().size).sum();
            match at.part {
                Part::Index if at.is_in(&run.segment().header) => {
                    self.scrub_index(run, &mut page);
                }
                Part::Frames | Part::Index => {
                    next = self.scrub_frames(run, at, bytes, &mut page)?;
                }
            }
            let following = runs.get(found + 1).map(|run| run.segment().header.number);
            next = next.or_else(|| following.map(|number| At::segment(number, at.limit)));
        }
        page.total = runs.iter().map(|run| run.segment().size).sum();
        page.next = next.map(At::cursor);
        if page.next.is_none() {
            page.done = page.total;
            let manifest = manifest::path(&self.options.path);
            let runs = self.all_runs();
            let used = |path: &Path| runs.iter().any(|run| run.segment().path == path);
            self.damage.retain(|path| used(path) || path == manifest);
        }
        Ok(page)
    }

    /// Compares the manifest on the disk with its content in memory, and rewrites a broken copy.
    fn scrub_manifest(&self, page: &mut ScrubPage) {
        let mut manifest = self.manifest();
        page.read += manifest::Manifest::BYTES;
        let Err(error) = manifest.verify() else { return };
        let what = match manifest.mend() {
            Ok(()) => format!("{error}; it was written again"),
            Err(failed) => format!("{error}, and {failed}"),
        };
        drop(manifest);
        self.notice(what.clone());
        page.remarks.push(what);
    }

    /// Reads frames of a run; returns the next position in it, or `None` at its end.
    fn scrub_frames(
        &self,
        run: &Run,
        at: At,
        bytes: usize,
        page: &mut ScrubPage,
    ) -> Result<Option<At>, LedgerError> {
        let segment = run.segment();
        let (header, until) = (&segment.header, at.until(run));
        let start = match at.is_in(header) {
            true => Scan { end: at.offset, next_seq: at.seq, records: 0 },
            false => Scan::start(header),
        };
        if matches!(run, Run::Indexed(_)) {
            segment.file.forget(start.end.into(), bytes as u64);
        }
        let walked = self.read_frames(run, start, until, bytes);
        page.done += u64::from(start.end);
        match walked {
            Ok(scan) => {
                page.read += u64::from(scan.end - start.end);
                if scan.end < until {
                    return Ok(Some(at.behind(header, scan)));
                }
                if self.damage.of(&segment.path).is_some() {
                    // An earlier read failed: either it succeeds now, or the damage is located.
                    page.damage.extend(self.examine(run));
                }
                let index = At { part: Part::Index, ..at.behind(header, scan) };
                Ok(matches!(run, Run::Indexed(_)).then_some(index))
            }
            Err(LedgerError::Corrupt(what)) => {
                page.read += segment.size;
                let mut found = self.examine(run);
                if found.is_empty() {
                    let place = segment.place(start.end, start.end, &what);
                    self.damage.add(place.clone());
                    found.push(place);
                }
                page.damage.extend(found);
                Ok(None)
            }
            // An error of the system, not of the file: the pass ends, and another follows.
            Err(error) => Err(error),
        }
    }

    /// Reads intact frames from `start` on, `bytes` of them or up to `until`, and then the bytes
    /// after the end of a closed segment.
    fn read_frames(
        &self,
        run: &Run,
        start: Scan,
        until: u32,
        bytes: usize,
    ) -> Result<Scan, LedgerError> {
        let segment = run.segment();
        if start.end == HEADER {
            self.check_header(segment)?;
        }
        let mut frames = segment.frames(start);
        while frames.scan().end < until && ((frames.scan().end - start.end) as usize) < bytes {
            let whole = frames.next(&mut |offset, payload| {
                let record = Record::read(payload).map(|_| ());
                record.map_err(|_| segment.damaged(offset, "the record is of no known form"))
            })?;
            if !whole {
                return Err(segment.damaged(frames.scan().end, "a frame is broken"));
            }
        }
        let scan = frames.scan();
        if scan.end >= run.written() && matches!(run, Run::Indexed(_)) {
            segment.check_complete(scan)?;
        }
        Ok(scan)
    }

    /// Checks that the header on the disk is the one read when the segment was opened.
    fn check_header(&self, segment: &Arc<Segment>) -> Result<(), LedgerError> {
        segment.file.forget(0, HEADER.into());
        let opened = Segment::open(&self.files, &self.options.keys, &segment.path)?;
        match opened.header == segment.header {
            true => Ok(()),
            false => Err(segment.damaged(0, "the header is another segment's")),
        }
    }

    /// Reads the index of a run. It contains nothing that the journal has not.
    fn scrub_index(&self, run: &Run, page: &mut ScrubPage) {
        let Run::Indexed(indexed) = run else { return };
        page.done += indexed.segment.size;
        match indexed.verify() {
            Ok(bytes) => page.read += bytes,
            // Its database is written again; the next pass reads it.
            Err(LedgerError::Unavailable(why)) => {
                let segment = indexed.segment.header.number;
                tracing::info!(segment, why, "the scrub skips a segment's index");
            }
            Err(error) => {
                let number = indexed.segment.header.number;
                let what = format!(
                    "segment {number}: {error}; no event is lost, but lists may fail until the \
                     gateway is started again"
                );
                self.notice(what.clone());
                page.remarks.push(what);
            }
        }
    }
}
