//! The indexer: a background thread. It prepares the next segment, and writes the tables of closed
//! segments into the index.

use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::core::Core;
use super::journal::Spare;
use super::run::Run;
use super::segment::Segment;
use super::tables::Tables;
use crate::ledger::LedgerError;

/// A job of the indexer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Prepare a file of zeros.
    MakeSpare,
    /// Index this segment: nothing more is written to it.
    Close(u32),
}

/// The rest after each use of the disk, as a multiple of its duration: commits take precedence.
const REST: u32 = 3;
/// The longest rest: where a step takes longer, waiting does not help.
const REST_MAX: Duration = Duration::from_millis(10);
/// The number of unindexed segments, including the one being written, from which it no longer
/// rests.
const BEHIND: usize = 3;
/// The niceness of its thread; 19 would be the lowest priority.
const NICE: i32 = 5;

/// Works until there are no more jobs.
pub(super) fn run(core: &Core, jobs: &Receiver<Job>) {
    // Where that is not allowed it has the usual priority.
    let _ = rustix::process::nice(NICE);
    while let Ok(job) = jobs.recv() {
        let done = match job {
            Job::MakeSpare => make_spare(core),
            Job::Close(number) => close(core, number),
        };
        if let Err(error) = done {
            // Data is safe: a segment is created when needed, and an index at the next start.
            core.notice(format!("{job:?} failed: {error}"));
            if let Job::Close(number) = job {
                core.examine_segment(number);
                *core.unindexed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    }
}

fn make_spare(core: &Core) -> Result<(), LedgerError> {
    if !core.spare.is_empty() {
        return Ok(());
    }
    let rest = |done: u64, took| {
        // Must be ready well before the current segment is full: at half of it.
        if done >= 2 * core.written_of_last() {
            core.rest(took);
        }
    };
    let size = core.options.segment_bytes;
    core.spare.put(Spare::make(&*core.files, &core.journal_dir(), size, &rest)?);
    Ok(())
}

impl Core {
    /// Leaves the disk to the commits after a step of that duration, unless too much work is left
    /// or the ledger is being closed.
    pub(super) fn rest(&self, took: Duration) {
        let behind = self.all_runs().iter().filter(|run| matches!(run, Run::Open(_))).count();
        if behind < BEHIND && !self.closing.load(Ordering::Relaxed) {
            std::thread::sleep((took * REST).min(REST_MAX));
        }
    }
}

/// Reads the segment back, which checks it, cuts off its unused part, and indexes it.
fn close(core: &Core, number: u32) -> Result<(), LedgerError> {
    let Some(Run::Open(written)) = core.run(number) else { return Ok(()) };
    let mut segment = Arc::clone(&written.segment);
    let (tables, scan) = Tables::read(&segment)?;
    if scan.end != written.published() {
        return Err(segment.damaged(scan.end, "it does not read back as it was written"));
    }
    segment.check_complete(scan)?;
    if segment.file.cut(u64::from(scan.end)).is_ok() {
        segment = Arc::new(Segment::open(&core.files, &core.options.keys, &segment.path)?);
    }
    let at_rest = Arc::new(Segment::at_rest(&core.open_files, &segment));
    let run = core.index.write(&at_rest, &tables, scan, &|took| core.rest(took))?;
    core.put_run(number, Run::Indexed(Arc::new(run)));
    Ok(())
}
