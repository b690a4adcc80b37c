//! The line of a callback in the JSON log.
//!
//! Every callback has one. Through `tracing`, field by field, it costs three quarters of what the
//! callback's verification costs; here it is written in place. It says the same.

use std::cell::Cell;
use std::io::Write as _;
use std::sync::OnceLock;

use tracing_subscriber::fmt::MakeWriter as _;

use super::Lines;
use super::printable::make_printable;
use crate::clock::{self, UnixMillis};
use crate::sender::put_json_text;

/// The log of this process, if it is JSON.
static LINES: OnceLock<Log> = OnceLock::new();

/// A log, and the lines that its filter admits.
struct Log {
    lines: Lines,
    info: bool,
    warn: bool,
}

/// Bytes of a usual line.
const LINE_BYTES: usize = 512;

/// The longest line whose buffer is kept.
const KEPT_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// The line that this thread wrote last: its capacity is used again.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The level of a line, with the members that all lines of callbacks begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackLevel {
    /// Any outcome but a rejection.
    Info,
    /// A rejection.
    Warn,
}

impl CallbackLevel {
    const fn head(self) -> &'static str {
        match self {
            Self::Info => {
                r#"","level":"INFO","target":"postern::callback","message":"callback","source":"#
            }
            Self::Warn => {
                r#"","level":"WARN","target":"postern::callback","message":"callback","source":"#
            }
        }
    }
}

/// A line under construction.
#[derive(Debug)]
pub struct CallbackLine(Vec<u8>);

/// The way of a callback into the log.
#[derive(Debug)]
pub enum LineOutput {
    /// As this line, which is written in place.
    Line(CallbackLine),
    /// None: the log's filter does not admit it.
    Off,
    /// Through `tracing`: the log is not JSON.
    Traced,
}

/// Writes the lines of callbacks to `lines` from now on. The log of this process has begun, and its
/// filter stays.
pub(super) fn write_to(lines: Lines) {
    let info = tracing::enabled!(target: "postern::callback", tracing::Level::INFO);
    let warn = tracing::enabled!(target: "postern::callback", tracing::Level::WARN);
    // Only the program's one start calls this.
    let _ = LINES.set(Log { lines, info, warn });
}

impl CallbackLine {
    /// The line of a callback of `source` that ended at `at_ms`.
    #[must_use]
    pub fn begin(level: CallbackLevel, at_ms: UnixMillis, source: &str) -> LineOutput {
        let admits = |log: &Log| match level {
            CallbackLevel::Info => log.info,
            CallbackLevel::Warn => log.warn,
        };
        match LINES.get().map(admits) {
            Some(true) => LineOutput::Line(Self::new(level, at_ms, source)),
            Some(false) => LineOutput::Off,
            None => LineOutput::Traced,
        }
    }

    fn new(level: CallbackLevel, at_ms: UnixMillis, source: &str) -> Self {
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.reserve(LINE_BYTES);
        line.extend_from_slice(b"{\"at\":\"");
        line.extend_from_slice(clock::stamp(at_ms).as_bytes());
        line.extend_from_slice(level.head().as_bytes());
        put_json_text(&mut line, source.as_bytes());
        Self(line)
    }

    /// Adds a text. `lead` is a comma, the name in quotes and a colon.
    pub fn text(&mut self, lead: &'static str, value: &str) {
        self.0.extend_from_slice(lead.as_bytes());
        put_json_text(&mut self.0, value.as_bytes());
    }

    /// Adds a text, if there is one.
    pub fn text_if(&mut self, lead: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(lead, value);
        }
    }

    /// Adds a text of plain ASCII, which JSON does not escape.
    pub fn word(&mut self, lead: &'static str, value: &[u8]) {
        self.0.extend_from_slice(lead.as_bytes());
        self.0.push(b'"');
        self.0.extend_from_slice(value);
        self.0.push(b'"');
    }

    /// Adds a number.
    fn number(&mut self, lead: &'static str, value: u64) {
        let mut digits = itoa::Buffer::new();
        self.0.extend_from_slice(lead.as_bytes());
        self.0.extend_from_slice(digits.format(value).as_bytes());
    }

    /// Adds the status of the reply, if there is one, and the time that the callback took. Writes
    /// the line.
    pub fn end_with(mut self, status: Option<u16>, micros: u64) {
        if let Some(status) = status {
            self.number(r#","status":"#, u64::from(status));
        }
        self.number(r#","micros":"#, micros);
        self.write();
    }

    fn write(self) {
        let line = self.finished();
        if let Some(log) = LINES.get() {
            // A failed write of the log cannot be reported anywhere.
            let _ = log.lines.make_writer().write_all(&line);
        }
        if line.capacity() <= KEPT_BYTES_MAX {
            let mut line = line;
            line.clear();
            let _ = LINE.try_with(|kept| kept.set(line));
        }
    }

    fn finished(self) -> Vec<u8> {
        let Self(mut line) = self;
        line.extend_from_slice(b"}\n");
        make_printable(&mut line);
        line
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::{LogFormat, subscriber};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line that `write` logs through `tracing`, from its level on.
    fn logged(write: impl FnOnce()) -> String {
        let sink = Sink::default();
        let out = sink.clone();
        let subscriber = subscriber(LogFormat::Json, "info", move || out.clone());
        tracing::subscriber::with_default(subscriber, write);
        let bytes = sink.0.lock().unwrap().clone();
        without_time(&String::from_utf8(bytes).unwrap())
    }

    fn without_time(line: &str) -> String {
        line[line.find("\"level\"").unwrap()..].to_owned()
    }

    #[test]
    fn it_says_the_same_as_through_tracing() {
        let odd = ["level-end", "", "a\"b\\c\nd\u{1}é\u{7f}", "\u{9b}31m\u{202e}b\u{1b}é"];
        for odd in odd {
            let mut line = CallbackLine::new(CallbackLevel::Info, 1_767_323_045_678, odd);
            line.text(",\"outcome\":", "accepted");
            line.text_if(",\"transaction\":", Some(odd));
            line.text_if(",\"event\":", None);
            line.number(",\"status\":", 0);
            line.number(",\"micros\":", u64::MAX);
            let written = String::from_utf8(line.finished()).unwrap();
            let expected = logged(|| {
                tracing::info!(
                    target: "postern::callback",
                    message = "callback", source = odd, outcome = "accepted",
                    transaction = Some(odd), event = None::<&str>, status = 0, micros = u64::MAX
                );
            });
            assert!(
                written.starts_with("{\"at\":\"2026-01-02T03:04:05.678Z\",\"level\""),
                "{written}"
            );
            assert_eq!(without_time(&written), expected);
            assert!(!written.contains(['\u{9b}', '\u{202e}']), "{written}");
            let mut line = CallbackLine::new(CallbackLevel::Warn, 0, odd);
            line.text(",\"reason\":", "bad_signature");
            let written = String::from_utf8(line.finished()).unwrap();
            let expected = logged(|| {
                tracing::warn!(
                    target: "postern::callback",
                    message = "callback", source = odd, reason = "bad_signature"
                );
            });
            assert_eq!(without_time(&written), expected);
        }
    }
}
