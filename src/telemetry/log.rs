//! The log: JSON or text, one line per event, through [`Lines`].

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use super::printable::make_printable;
use super::{Lines, LinesGuard, callback_line};
use crate::clock::{self, Occasional};
use crate::sender::JsonObject;

/// The filter without `RUST_LOG`.
const DEFAULT_FILTER: &str = "info";

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, message, fields.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl LogFormat {
    /// The format with that name on the command line.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Whether a line is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Always,
    Never,
}

/// Whether a warning or an error begins with its priority for the journal of systemd, which removes
/// it: `journalctl -p warning` finds such lines. Source: sd-daemon(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Priority {
    Shown,
    Hidden,
}

impl Priority {
    /// The journal names the stream that it reads as `DEVICE:INODE` in `JOURNAL_STREAM`. Children
    /// of a service have the variable too, wherever their standard error goes.
    fn of_stderr(stream: Option<&str>) -> Self {
        let stderr = || std::fs::metadata("/proc/self/fd/2").ok();
        let named = stream.and_then(|stream| stream.split_once(':'));
        match named.zip(stderr()) {
            Some(((device, inode), stderr))
                if device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino()) =>
            {
                Self::Shown
            }
            _ => Self::Hidden,
        }
    }

    /// The bytes before a line of that level. Without any, the journal takes it for information.
    const fn prefix(self, level: tracing::Level) -> &'static [u8] {
        match (self, level) {
            (Self::Shown, tracing::Level::ERROR) => b"<3>",
            (Self::Shown, tracing::Level::WARN) => b"<4>",
            _ => b"",
        }
    }
}

/// Starts the log on standard error, filtered by `RUST_LOG`. Without a `format` it is text on a
/// terminal and JSON elsewhere. The guard writes the rest of the buffer when it is dropped.
///
/// # Errors
/// If a log was started before, or no thread can be started.
pub fn init(format: Option<LogFormat>) -> io::Result<LinesGuard> {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let colour = if terminal { Colour::Always } else { Colour::Never };
    let filter = filter(std::env::var(EnvFilter::DEFAULT_ENV).ok().as_deref());
    let priority = Priority::of_stderr(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let (lines, guard) = Lines::to(std::io::stderr())?;
    let look = Look { format, colour, priority };
    build(look, filter, lines.clone()).try_init().map_err(io::Error::other)?;
    if format == LogFormat::Json {
        callback_line::write_to(lines);
    }
    Ok(guard)
}

/// The filter of `RUST_LOG`. One that cannot be read, or that shows nothing of Postern by mistake,
/// is named on standard error.
fn filter(text: Option<&str>) -> EnvFilter {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return DEFAULT_FILTER.into();
    };
    match EnvFilter::try_new(text) {
        Ok(filter) => {
            if !names_postern(text) {
                complain(&format!(
                    "RUST_LOG={text} shows no line of Postern: name a level (error, warn, info, \
                     debug, trace, off) or postern=LEVEL"
                ));
            }
            filter
        }
        Err(error) => {
            complain(&format!(
                "RUST_LOG={text} cannot be read, lines of info and above are shown: {error}"
            ));
            DEFAULT_FILTER.into()
        }
    }
}

/// Says something about the log itself, which may show nothing.
fn complain(sentence: &str) {
    // It may be closed.
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// Whether one of the directives is a level of its own, or is about a module of Postern. A word
/// that is neither, such as `warning`, is the name of a module that there is not.
fn names_postern(text: &str) -> bool {
    text.split(',').map(str::trim).any(|one| {
        one.starts_with("postern") || one.starts_with('[') || one.parse::<LevelFilter>().is_ok()
    })
}

/// A subscriber that writes to `out` without colours, for tests and embedding.
pub fn subscriber<W>(format: LogFormat, filter: &str, out: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let look = Look { format, colour: Colour::Never, priority: Priority::Hidden };
    build(look, filter.into(), out)
}

/// The look of a line.
#[derive(Clone, Copy)]
struct Look {
    format: LogFormat,
    colour: Colour,
    priority: Priority,
}

fn build<W>(look: Look, filter: EnvFilter, out: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let index = Occasional::new(INDEX_EVERY);
    tracing_subscriber::registry().with(filter).with(LineLayer { look, out, index })
}

/// Writes one line per event. Spans are not used on the callback path and are not shown.
struct LineLayer<W> {
    look: Look,
    out: W,
    index: Occasional,
}

/// Events of libraries that log through `log` have this target.
const BRIDGED: &str = "log";

/// The library of the embedded store's index.
const INDEX: &str = "sled";

/// The interval of that library's lines: while its disk fails it repeats the same error twice a
/// second, and our own lines say what it means.
const INDEX_EVERY: Duration = Duration::from_secs(60);

/// Whether an event that came through `log` is one of [`INDEX`].
#[derive(Default)]
struct OfIndex(bool);

impl Visit for OfIndex {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0 |= field.name() == "log.target" && value.starts_with(INDEX);
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl OfIndex {
    fn is(event: &Event<'_>) -> bool {
        let mut found = Self::default();
        if event.metadata().target() == BRIDGED {
            event.record(&mut found);
        }
        found.0
    }
}

thread_local! {
    /// The line that this thread wrote last: its capacity is used again.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The longest line whose buffer is kept.
const KEPT_BYTES_MAX: usize = 16 * 1024;

impl<S, W> Layer<S> for LineLayer<W>
where
    S: Subscriber,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if OfIndex::is(event) && self.index.admit().is_none() {
            return;
        }
        // A value that logs while it is written finds an empty line, and so does a thread that
        // ends.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.reserve(LINE_BYTES);
        line.extend_from_slice(self.look.priority.prefix(*event.metadata().level()));
        match self.look.format {
            LogFormat::Json => put_json(&mut line, event),
            LogFormat::Text => self.put_text(&mut line, event),
        }
        // A failed write of the log cannot be reported anywhere.
        let _ = self.out.make_writer_for(event.metadata()).write_all(&line);
        line.clear();
        if line.capacity() <= KEPT_BYTES_MAX {
            let _ = LINE.try_with(|kept| kept.set(line));
        }
    }
}

fn put_json(line: &mut Vec<u8>, event: &Event<'_>) {
    let meta = event.metadata();
    let mut object = JsonObject::begin(line);
    object.plain("at", clock::stamp(clock::now_ms()).as_bytes());
    object.plain("level", meta.level().as_str().as_bytes());
    object.plain("target", meta.target().as_bytes());
    let mut fields = JsonFields(object);
    event.record(&mut fields);
    fields.0.end();
    line.push(b'\n');
    make_printable(line);
}

/// Room for a usual value that is formatted.
const DEBUG_BYTES: usize = 64;

/// Initial capacity for a callback's line.
const LINE_BYTES: usize = 384;

impl<W> LineLayer<W> {
    fn put_text(&self, line: &mut Vec<u8>, event: &Event<'_>) {
        let level = self.level(*event.metadata().level());
        let mut fields = TextFields(Utf8(line));
        let _ = write!(fields.0, "{} {level} ", clock::stamp(clock::now_ms()).as_str());
        event.record(&mut fields);
        line.push(b'\n');
    }

    fn level(&self, level: tracing::Level) -> &'static str {
        use tracing::Level;
        match (self.look.colour, level) {
            (Colour::Always, Level::ERROR) => "\x1b[31mERROR\x1b[0m",
            (Colour::Always, Level::WARN) => "\x1b[33m WARN\x1b[0m",
            (Colour::Always, Level::INFO) => "\x1b[32m INFO\x1b[0m",
            (_, Level::ERROR) => "ERROR",
            (_, Level::WARN) => " WARN",
            (_, Level::INFO) => " INFO",
            (_, Level::DEBUG) => "DEBUG",
            (_, Level::TRACE) => "TRACE",
        }
    }
}

/// Fields as members of the line's JSON object. Written for every callback: `serde`'s formatting
/// would cost as much as the callback's verification.
struct JsonFields<'a>(JsonObject<'a>);

impl Visit for JsonFields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.raw(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.raw(field.name(), if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Vec::with_capacity(DEBUG_BYTES);
        let _ = write!(Utf8(&mut text), "{value:?}");
        self.0.text(field.name(), &text);
    }
}

/// Text at the end of a line. A value that cannot be written is cut short; writing it as bytes
/// would panic.
struct Utf8<'l>(&'l mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Fields as `name=value`, the message first and without a name.
struct TextFields<'l>(Utf8<'l>);

impl TextFields<'_> {
    fn pair(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let _ = match field.name() {
            "message" => self.0.write_fmt(value),
            name => write!(self.0, " {name}={value}"),
        };
    }
}

impl Visit for TextFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Escaped unless it is a plain word: a value cannot forge a line or a field.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        if field.name() == "message" || (!value.is_empty() && value.bytes().all(plain)) {
            self.pair(field, format_args!("{value}"));
        } else {
            self.pair(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.pair(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_filter_that_shows_nothing_of_postern_is_noticed() {
        for good in ["info", "WARN", "off", "postern=debug", "hyper=info,postern::delivery=trace"] {
            assert!(names_postern(good), "{good}");
        }
        for bad in ["warning", "hyper=debug", "nonsense"] {
            assert!(!names_postern(bad), "{bad}");
        }
        assert_eq!(filter(Some("nonsense=foo=bar")).to_string(), DEFAULT_FILTER);
        assert_eq!(filter(Some(" ")).to_string(), DEFAULT_FILTER);
        assert_eq!(filter(Some("postern=debug")).to_string(), "postern=debug");
    }

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

    fn logged(format: LogFormat, write: impl FnOnce()) -> String {
        logged_as(format, Priority::Hidden, write)
    }

    fn logged_as(format: LogFormat, priority: Priority, write: impl FnOnce()) -> String {
        let sink = Sink::default();
        let out = sink.clone();
        let look = Look { format, colour: Colour::Never, priority };
        let subscriber = build(look, "info".into(), move || out.clone());
        tracing::subscriber::with_default(subscriber, write);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_json_whatever_the_value() {
        let odd = "a\"b\\c\nd\u{1}é\u{7f}";
        let line = logged(LogFormat::Json, || {
            tracing::info!(transaction = odd, same = ?odd, status = 200_u64, all = u64::MAX, "callback");
        });
        let value: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
        assert_eq!(value["transaction"], odd);
        assert_eq!(value["same"], format!("{odd:?}"));
        assert_eq!(value["status"], 200);
        assert_eq!(value["all"], u64::MAX);
        assert_eq!(value["message"], "callback");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn the_journal_gets_the_priority_of_warnings_and_errors() {
        let text = logged_as(LogFormat::Text, Priority::Shown, || {
            tracing::error!("one");
            tracing::warn!("two");
            tracing::info!("three");
        });
        let marks: Vec<&str> = text.lines().map(|line| &line[..3]).collect();
        assert_eq!(marks[..2], ["<3>", "<4>"]);
        assert!(!marks[2].starts_with('<'), "{text}");
        let stderr = std::fs::metadata("/proc/self/fd/2").unwrap();
        let own = format!("{}:{}", stderr.dev(), stderr.ino());
        assert_eq!(Priority::of_stderr(Some(&own)), Priority::Shown);
        for other in [None, Some("1:2"), Some("text"), Some("")] {
            assert_eq!(Priority::of_stderr(other), Priority::Hidden, "{other:?}");
        }
    }

    /// A value whose writer fails halfway.
    struct Broken;

    impl fmt::Debug for Broken {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_value_that_cannot_be_written_is_cut_short() {
        let text = logged(LogFormat::Text, || tracing::info!(value = ?Broken, next = 1, "odd"));
        assert!(text.ends_with("odd value=half next=1\n"), "{text}");
        let json = logged(LogFormat::Json, || tracing::info!(value = ?Broken, next = 1, "odd"));
        assert!(json.contains(r#""value":"half","next":1"#), "{json}");
    }

    #[test]
    fn the_library_of_the_index_gets_a_line_a_minute_and_no_other_is_held_back() {
        let text = logged(LogFormat::Text, || {
            for n in 0..100 {
                tracing::error!(target: "log", n, log.target = "sled::flusher", "failed to flush");
                tracing::error!(target: "log", n, log.target = "rustls::check", "no certificate");
                tracing::error!(n, "ours");
            }
        });
        assert_eq!(text.matches("failed to flush").count(), 1);
        assert_eq!(text.matches("no certificate").count(), 100);
        assert_eq!(text.matches("ours").count(), 100);
    }

    #[test]
    fn a_text_value_cannot_forge_a_line_or_a_field() {
        let line = logged(LogFormat::Text, || {
            tracing::info!(transaction = "x\nINFO outcome=accepted", source = "a", "callback");
        });
        assert_eq!(line.lines().count(), 1);
        assert!(
            line.contains("callback transaction=\"x\\nINFO outcome=accepted\" source=a"),
            "{line}"
        );
        assert!(!line.contains('\u{1b}'), "colours without a terminal");
    }
}
