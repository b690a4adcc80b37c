//! The command line: one file a command.

mod alert;
mod audit;
mod check;
mod client;
mod completions;
mod config_file;
mod deliveries;
mod demo;
mod destinations;
mod erase;
mod event_selector;
mod events;
mod explain;
mod export;
mod forget;
mod held;
mod import;
mod init;
mod listen;
mod man;
mod migrate;
mod names;
mod order;
mod place;
mod rebuild;
#[cfg(test)]
mod reference;
mod rekey;
mod release;
mod replay;
mod restore;
mod route;
mod rows;
mod senders;
mod serve;
mod sign;
mod sources;
mod store;
mod url;
mod verify;
mod webhook;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::LazyLock;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::config_file::ConfigFile;
use crate::config::{ConfigErrors, ConfigIssue, Paint};
use crate::private;

/// The command line of `postern`.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version = version(),
    about = "A webhook gateway: verifies, records and delivers each callback once",
    long_about = "A webhook gateway: verifies, records and delivers each callback once.\n\n\
        Ad networks, survey platforms, payment providers and push services (senders) call it. \
        Postern verifies each callback, records it once per transaction, replies in the format \
        that the sender expects, and delivers every verified event to your backend.",
    after_help = "Start here:\n  \
        postern demo                 a gateway, its senders and a backend, to look at\n  \
        postern senders              platforms whose callbacks can be verified\n  \
        postern init taku stripe     write a configuration for these senders\n  \
        postern check                errors of a configuration, and what it would run\n  \
        postern serve                run the gateway\n  \
        postern listen               receive its events on this machine\n\n\
        Commands about a running gateway (events, replay, destinations …) find it, and the token for \
        it, through the configuration.\n\n\
        Environment: POSTERN_CONFIG names the configuration, POSTERN_MASTER_KEY seals the store, \
        NO_COLOR turns colours off.\n\
        Exit codes: 0 success, 1 failure, 64 bad usage or configuration, also a name that does not \
        exist.",
    arg_required_else_help = true
)]
struct CommandLine {
    #[command(flatten)]
    _common: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

/// Version and commit, as `--version` prints them.
fn version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let version = env!("CARGO_PKG_VERSION");
        match env!("POSTERN_COMMIT") {
            "unknown" => version.to_owned(),
            commit => format!("{version} ({commit})"),
        }
    });
    &TEXT
}

/// The definition of the command line, for completions and manual pages.
fn command() -> clap::Command {
    CommandLine::command()
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Init(init::Init),
    Check(check::Check),
    Listen(listen::Listen),
    Demo(demo::Demo),
    Alert(alert::Alert),
    Senders(senders::Senders),
    Url(url::Url),
    Sign(sign::Sign),
    Explain(explain::Explain),
    Route(route::Route),
    Events(events::Events),
    Held(held::Held),
    Sources(sources::Sources),
    Destinations(destinations::Destinations),
    Deliveries(deliveries::Deliveries),
    Replay(replay::Replay),
    Release(release::Release),
    Audit(audit::Audit),
    Migrate(migrate::Migrate),
    Export(export::Export),
    Import(import::Import),
    Restore(restore::Restore),
    Verify(verify::Verify),
    Rebuild(rebuild::Rebuild),
    Rekey(rekey::Rekey),
    Forget(forget::Forget),
    Erase(erase::Erase),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    /// Whether the command writes data that only its own account may read.
    fn writes_data(&self) -> bool {
        matches!(
            self,
            Self::Serve(_)
                | Self::Demo(_)
                | Self::Export(_)
                | Self::Import(_)
                | Self::Verify(_)
                | Self::Rebuild(_)
                | Self::Rekey(_)
                | Self::Forget(_)
                | Self::Erase(_)
        )
    }

    fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        match self {
            Self::Serve(command) => command.run(screen),
            Self::Demo(command) => command.run(screen),
            Self::Check(command) => command.run(screen),
            Self::Migrate(command) => command.run(screen),
            Self::Alert(command) => command.run(screen),
            Self::Senders(command) => command.run(screen),
            Self::Url(command) => command.run(screen),
            Self::Sign(command) => command.run(screen),
            Self::Explain(command) => command.run(screen),
            Self::Events(command) => command.run(screen),
            Self::Held(command) => command.run(screen),
            Self::Export(command) => command.run(screen),
            Self::Import(command) => command.run(screen),
            Self::Restore(command) => command.run(screen),
            Self::Verify(command) => command.run(screen),
            Self::Rebuild(command) => command.run(screen),
            Self::Rekey(command) => command.run(screen),
            Self::Route(command) => command.run(screen),
            Self::Erase(command) => command.run(screen),
            Self::Forget(command) => command.run(screen),
            Self::Replay(command) => command.run(screen),
            Self::Release(command) => command.run(screen),
            Self::Init(command) => command.run(screen),
            Self::Listen(command) => command.run(screen),
            Self::Sources(command) => command.run(screen),
            Self::Destinations(command) => command.run(screen),
            Self::Deliveries(command) => command.run(screen),
            Self::Audit(command) => command.run(screen),
            Self::Completions(command) => command.run(screen),
            Self::Man(command) => command.run(screen),
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded.
    Done,
    /// The command failed.
    Failed,
    /// The command line is wrong, or the configuration has errors.
    Usage,
}

impl Exit {
    /// The exit code of the process.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 64,
        }
    }
}

/// Where a command writes.
pub struct Screen<'a> {
    /// The requested output.
    out: &'a mut dyn Write,
    /// Errors and diagnostics.
    err: &'a mut dyn Write,
    out_paint: Paint,
    err_paint: Paint,
    out_is: Where,
    err_is: Where,
}

/// The kind of reader of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// A person at a terminal.
    Terminal,
    /// A file or a program.
    Elsewhere,
}

impl fmt::Debug for Screen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("out_paint", &self.out_paint).finish_non_exhaustive()
    }
}

impl<'a> Screen<'a> {
    /// The process's own output, in colour where it is a terminal and `NO_COLOR` is not set.
    pub fn of_process(out: &'a mut io::Stdout, err: &'a mut io::Stderr) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let paint = |terminal| if wanted && terminal { Paint::Coloured } else { Paint::Plain };
        let (out_paint, err_paint) = (paint(out.is_terminal()), paint(err.is_terminal()));
        let is = |terminal| if terminal { Where::Terminal } else { Where::Elsewhere };
        let (out_is, err_is) = (is(out.is_terminal()), is(err.is_terminal()));
        Self { out, err, out_paint, err_paint, out_is, err_is }
    }

    /// Output without colours, for tests.
    pub fn plain(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let (plain, elsewhere) = (Paint::Plain, Where::Elsewhere);
        Self { out, err, out_paint: plain, err_paint: plain, out_is: elsewhere, err_is: elsewhere }
    }

    fn warn(&mut self, warnings: &[ConfigIssue]) -> io::Result<()> {
        let word = self.err_paint.yellow("warning:");
        for warning in warnings {
            writeln!(self.err, "{word} {}", warning.line_of_text(self.err_paint))?;
        }
        Ok(())
    }

    fn refuse(&mut self, faults: &ConfigErrors) -> io::Result<Exit> {
        for fault in &faults.faults {
            writeln!(self.err, "{}", fault.line_of_text(self.err_paint))?;
        }
        self.warn(&faults.warnings)?;
        writeln!(self.err, "{}", faults.count(self.err_paint))?;
        Ok(Exit::Usage)
    }
}

/// Runs the command that `args` (the program's name first) ask for.
pub fn run(args: impl IntoIterator<Item = OsString>, screen: &mut Screen<'_>) -> Exit {
    let ended = match CommandLine::try_parse_from(args) {
        Ok(CommandLine { command, .. }) => {
            if command.writes_data() {
                private::mask_new_files();
            }
            command.run(screen)
        }
        Err(error) => explain_usage(&error, screen),
    };
    match ended {
        Ok(exit) => exit,
        // The reader has enough and closed the pipe: `postern senders | head -3`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

/// Explains a usage error. Help and version are requested and not errors; everything else is.
fn explain_usage(error: &clap::Error, screen: &mut Screen<'_>) -> io::Result<Exit> {
    let (to, paint, exit) = match error.use_stderr() {
        true => (&mut *screen.err, screen.err_paint, Exit::Usage),
        false => (&mut *screen.out, screen.out_paint, Exit::Done),
    };
    let text = error.render();
    match paint {
        Paint::Plain => write!(to, "{text}")?,
        Paint::Coloured => write!(to, "{}", text.ansi())?,
    }
    Ok(exit)
}

/// Rows with their columns under one another, indented by two.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..count).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(args: &[&str]) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = std::iter::once("postern").chain(args.iter().copied()).map(OsString::from);
        let exit = run(args, &mut Screen::plain(&mut out, &mut err));
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn help_is_an_answer_and_bad_usage_is_not() {
        let (exit, out, err) = ran(&["--help"]);
        assert_eq!((exit.code(), err.as_str()), (0, ""));
        assert!(out.contains("check") && out.contains("Exit codes"));
        assert_eq!(ran(&["--version"]).0.code(), 0);
        for usage in [&[][..], &["chekc"], &["check", "--confg", "x"]] {
            let (exit, out, err) = ran(usage);
            assert_eq!((exit.code(), out.as_str()), (64, ""), "{usage:?}");
            assert!(!err.is_empty());
        }
    }

    #[test]
    fn a_configuration_that_is_not_there_is_bad_usage() {
        let (exit, _, err) = ran(&["check", "--config", "/nowhere/postern.toml"]);
        assert_eq!(exit.code(), 64);
        assert!(err.starts_with("/nowhere/postern.toml: cannot be read: "), "{err}");
    }

    fn written(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postern.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path.display().to_string())
    }

    #[test]
    fn check_lists_all_mistakes_and_counts_them() {
        let (_folder, path) = written("[server]\ndrain = 1\ncalbacks = 2\n");
        let (exit, out, err) = ran(&["check", "--config", &path]);
        assert_eq!((exit.code(), out.as_str()), (64, ""));
        let lines: Vec<&str> = err.lines().collect();
        assert!(lines[0].starts_with(&format!("{path}:2: server.drain: is a number; ")), "{err}");
        assert!(lines[1].ends_with("did you mean callbacks?"), "{err}");
        assert_eq!(lines[2], "2 errors");
    }

    #[test]
    fn check_says_what_would_run() {
        let (_folder, path) = written(
            "[server]\npublic_url = \"https://cb.example.com\"\n\
             [[source]]\nname = \"level-end\"\nsender = \"taku\"\nsecrets = \"hidden\"\ndestinations = \"game\"\n\
             [[destination]]\nname = \"game\"\nurl = \"http://127.0.0.1:7000/\"\n",
        );
        let (exit, out, err) = ran(&["check", "--config", &path]);
        assert_eq!(exit.code(), 0, "{err}");
        assert!(err.starts_with("warning: ") && err.contains("destination[game].secret"), "{err}");
        assert!(err.contains("source[level-end].secrets: is a secret in clear"), "{err}");
        assert!(out.starts_with(&format!("{path}: OK, 2 warnings\n")), "{out}");
        let (exit, out, err) = ran(&["check", "--strict", "--config", &path]);
        assert_eq!((exit.code(), out.as_str()), (64, ""));
        assert!(err.ends_with("2 warnings, and --strict treats warnings as errors\n"), "{err}");
        let (_, out, err) = ran(&["check", "--config", &path]);
        let source = "  level-end  taku  https://cb.example.com/callback/level-end  to game\n";
        assert!(
            out.contains(source) && out.contains("this machine only; changes want the token in "),
            "{out}"
        );
        assert!(!out.contains("hidden") && !err.contains("hidden"));
    }

    #[test]
    fn a_signed_callback_goes_to_the_public_address_or_to_this_machine() {
        let (_folder, path) = written(
            "[server]\ncallbacks = \"0.0.0.0:8080\"\npublic_url = \"https://cb.example.com\"\n\
             [[source]]\nname = \"level-end\"\nsender = \"taku\"\nsecrets = \"hidden\"\n",
        );
        let sign = |more: &[&str]| {
            let mut args = vec!["sign", "--config", &path];
            args.extend_from_slice(more);
            args.extend(["level-end", "transaction=t1", "placement_id=p", "adsource_id=9"]);
            args.extend(["amount=1", "item=coin"]);
            let (exit, out, err) = ran(&args);
            assert_eq!((exit.code(), err.as_str()), (0, ""));
            out
        };
        let public = sign(&[]);
        assert!(public.starts_with("https://cb.example.com/callback/level-end?"), "{public}");
        let local = sign(&["--local"]);
        assert_eq!(local, public.replace("https://cb.example.com", "http://127.0.0.1:8080"));
    }

    #[test]
    fn senders_are_listed_shown_and_copied() {
        let (exit, out, _) = ran(&["senders"]);
        assert_eq!(exit.code(), 0);
        assert!(out.contains("  taku "), "{out}");
        let (exit, out, _) = ran(&["senders", "taku"]);
        assert_eq!(exit.code(), 0);
        for part in ["Taku / TopOn", "reward_sec_key", "a 5xx is final", "2s, 4s, 8s"] {
            assert!(out.contains(part), "{part}: {out}");
        }
        let (_, toml, _) = ran(&["senders", "taku", "--toml"]);
        assert!(crate::sender::Sender::parse("taku", &toml).is_ok());
        let (exit, _, err) = ran(&["senders", "takoo"]);
        assert_eq!(
            (exit.code(), err.as_str()),
            (64, "there is no sender \"takoo\"; did you mean taku?\n")
        );
        let (exit, out, err) = ran(&["senders", "TopOn"]);
        assert_eq!((exit.code(), err.as_str()), (0, "TopOn is called taku here\n"));
        assert!(out.starts_with("taku: Taku / TopOn"), "{out}");
        let (exit, _, err) = ran(&["senders", "studios"]);
        assert_eq!((exit.code(), err.contains("did you mean ayet?")), (64, true), "{err}");
    }

    #[test]
    fn senders_of_ones_own_are_known_where_the_configuration_is() {
        let (folder, path) = written("senders = \"own.toml\"");
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/config/senders/my-sender.toml");
        std::fs::copy(own, folder.path().join("own.toml")).unwrap();
        let (exit, out, err) = ran(&["senders", "own", "--config", &path]);
        assert_eq!((exit.code(), err.as_str()), (0, ""));
        assert!(out.starts_with("own: A platform of our own\n"), "{out}");
    }
}
