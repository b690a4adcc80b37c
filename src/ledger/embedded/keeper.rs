//! The keeper: the thread that does what nobody waits for. It has the next segment ready before it
//! is needed, and puts the tables of closed segments into the index.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};

use super::core::Core;
use super::journal::Spare;
use super::run::Run;
use super::segment::Segment;
use super::tables::Tables;
use crate::ledger::LedgerError;

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Have a file of zeros ready.
    MakeSpare,
    /// Nothing more is written to this segment.
    Close(u32),
}

/// Works until there are no more jobs.
pub(super) fn run(core: &Core, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let done = match job {
            Job::MakeSpare => make_spare(core),
            Job::Close(number) => close(core, number),
        };
        if let Err(error) = done {
            // Data is safe: a segment is made when it is needed, and an index at the next start.
            core.notice(format!("{job:?} failed: {error}"));
            if matches!(job, Job::Close(_)) {
                *core.unindexed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        }
    }
}

fn make_spare(core: &Core) -> Result<(), LedgerError> {
    if !core.spare.is_empty() {
        return Ok(());
    }
    let size = core.options.segment_bytes;
    core.spare.put(Spare::make(&*core.files, &core.journal_dir(), size)?);
    Ok(())
}

/// Reads the segment back, which proves it whole, cuts off what it did not use, and indexes it.
fn close(core: &Core, number: u32) -> Result<(), LedgerError> {
    let Some(mut segment) = core.segment(number) else { return Ok(()) };
    let (tables, scan) = Tables::read(&segment)?;
    if !segment.is_complete(scan)? {
        return Err(segment.damaged(scan.end, "it does not read back as it was written"));
    }
    if segment.file.cut(u64::from(scan.end)).is_ok() {
        segment = Arc::new(Segment::open(&core.files, &core.options.keys, &segment.path)?);
    }
    let at_rest = Arc::new(Segment::at_rest(&core.files, &segment));
    let run = core.index.write(&at_rest, &tables, scan)?;
    core.put_run(number, Run::Indexed(Arc::new(run)));
    Ok(())
}
