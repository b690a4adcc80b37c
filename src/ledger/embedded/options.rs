//! How an embedded engine is opened, and the steps of opening it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Keyring, StoreClock};

/// Options of an [`Embedded`](super::Embedded).
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The directory, created if missing.
    pub path: PathBuf,
    /// The size of a segment, 64 kB to 1 GB. Larger segments mean fewer files, smaller ones a
    /// faster start: the last segment is read completely.
    pub segment_bytes: u64,
    /// The age at which the next sweep closes a segment that is not full. Its events can then
    /// expire. A small part of the retention time.
    pub segment_age: Duration,
    /// The clock for leases and due times.
    pub clock: StoreClock,
    /// The keys for sealing the journal.
    pub keys: Keyring,
    /// Called with the progress of opening.
    pub progress: OpenProgress,
}

/// How far opening is: which segment of the journal is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenStep {
    /// The segment, from 1.
    pub segment: usize,
    /// All of them.
    pub segments: usize,
}

/// Called with each [`OpenStep`].
#[derive(Clone)]
pub struct OpenProgress(pub(super) Arc<dyn Fn(OpenStep) + Send + Sync>);

impl OpenStep {
    /// Calls `hear` for each step.
    pub fn told(hear: impl Fn(Self) + Send + Sync + 'static) -> OpenProgress {
        OpenProgress(Arc::new(hear))
    }
}

impl fmt::Display for OpenStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading the journal, segment {} of {}", self.segment, self.segments)
    }
}

impl Default for OpenProgress {
    fn default() -> Self {
        OpenStep::told(|_| {})
    }
}

impl fmt::Debug for OpenProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenProgress")
    }
}

impl EmbeddedOptions {
    /// The default options for `path`: segments of 64 MiB, the clock of the process, no sealing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            segment_bytes: 64 << 20,
            segment_age: Duration::from_secs(86_400),
            clock: StoreClock::process(),
            keys: Keyring::default(),
            progress: OpenProgress::default(),
        }
    }
}
