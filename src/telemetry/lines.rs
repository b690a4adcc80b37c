//! Log output: a bounded buffer, and one thread that writes it.
//!
//! A callback never waits for a terminal, a pipe or a disk. Lines go into the buffer, and the
//! thread writes them. If a slow reader lets the buffer fill up, lines are dropped, and the next
//! line says how many.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines in the buffer: about 16,000 lines, one second of a busy gateway.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the thread collects lines after the first: a busy gateway costs 50 writes a second, an
/// idle one none.
const GATHER: Duration = Duration::from_millis(20);

/// The buffer.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

/// Writes the rest of the buffer and ends the thread when it is dropped.
#[derive(Debug)]
pub struct LinesGuard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Writes the bytes of one line.
#[derive(Debug)]
pub struct LineWriter<'a>(&'a Shared);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    left_out: u64,
    closed: bool,
}

impl Lines {
    /// A buffer that a dedicated thread writes to `out`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<(Self, LinesGuard)> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.write_all_to(out)
        })?;
        Ok((Self(Arc::clone(&shared)), LinesGuard { shared, thread: Some(thread) }))
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(&self.0)
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() > BUFFER_BYTES_MAX {
            waiting.left_out += 1;
            return Ok(line.len());
        }
        let first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.bell.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let closed = self.gather(&mut batch);
            // A failed write of the log cannot be reported anywhere.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            if closed {
                return;
            }
        }
    }

    /// Moves buffered lines into `batch` as soon as there are any; returns whether they were the
    /// last.
    fn gather(&self, batch: &mut Vec<u8>) -> bool {
        let idle = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.closed;
        let waiting =
            self.bell.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let open = |waiting: &mut Waiting| !waiting.closed;
        let (mut waiting, _) = self
            .bell
            .wait_timeout_while(waiting, GATHER, open)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.bytes, batch);
        let left_out = std::mem::take(&mut waiting.left_out);
        if left_out > 0 {
            // Readable as text and as JSON, whichever format the log has.
            let note = format!(
                "{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"lines\":{left_out}}}\n"
            );
            batch.extend_from_slice(note.as_bytes());
        }
        waiting.closed
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.bell.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_the_guard_is_gone() {
        let sink = Sink::default();
        let (lines, guard) = Lines::to(sink.clone()).unwrap();
        for n in 0..1000 {
            lines.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        drop(guard);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.ends_with("999\n"));
    }

    #[test]
    fn a_full_buffer_leaves_lines_out_and_says_how_many() {
        let sink = Sink::default();
        let held = sink.0.lock().unwrap();
        let (lines, guard) = Lines::to(sink.clone()).unwrap();
        let line = vec![b'x'; BUFFER_BYTES_MAX / 4];
        for _ in 0..20 {
            lines.make_writer().write_all(&line).unwrap();
        }
        drop(held);
        drop(guard);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("log lines dropped"), "nothing was said");
    }
}
