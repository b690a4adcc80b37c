//! File descriptors: their limit, how many connections fit under it, and the error of having none
//! left.
//!
//! A store that cannot open its next file stops for good, so connections never take the last
//! descriptor: the others wait in the kernel's queue.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections of senders. Half of them are attempts of deliveries, which are
/// held back from about as many on. A quarter are connections of the admin and the management
/// listener. The rest is for the store or its database, the threads, key sets and exports.
const RESERVED_FILES: u64 = 2048;

/// Raises the limit of open files as far as this process may. Shells and containers often begin
/// with 1,024 and allow many more.
pub(crate) fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If the system refuses it, the limit stays, and fewer connections fit.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The limit of open files, if there is one.
#[must_use]
pub(crate) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many of `connections` fit under the limit of open files. A low limit leaves half of its
/// files for all else.
#[must_use]
pub(crate) fn connections_that_fit(connections: usize) -> usize {
    fit(connections, limit())
}

/// The same for a listener beside that of the senders, of which there may be two: a sixteenth each.
#[must_use]
pub(crate) fn side_connections_that_fit(connections: usize) -> usize {
    let share = limit().and_then(|files| usize::try_from(files / 16).ok());
    share.map_or(connections, |share| share.clamp(1, connections))
}

/// Whether the process or the system has no file descriptor left.
#[must_use]
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

fn fit(connections: usize, files: Option<u64>) -> usize {
    let Some(files) = files else { return connections };
    let room = files.saturating_sub(RESERVED_FILES).max(files / 2);
    usize::try_from(room).map_or(connections, |room| room.min(connections))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_all_else() {
        for (files, fits) in [
            (None, 10_000),
            (Some(u64::MAX), 10_000),
            (Some(10_000 + RESERVED_FILES), 10_000),
            (Some(10_000), 10_000 - RESERVED_FILES),
            (Some(2 * RESERVED_FILES), RESERVED_FILES),
            (Some(1024), 512),
            (Some(256), 128),
        ] {
            assert_eq!(fit(10_000, files) as u64, fits, "{files:?}");
        }
        assert_eq!(fit(100, Some(1024)), 100);
    }
}
