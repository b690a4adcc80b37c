//! An order that the gateway works on: watched until it has ended, cancelled by Ctrl-C.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::client::AdminApi;
use super::{ConfigFile, Exit, Screen, Where};

/// How often the gateway is asked for the progress at first, and later: each answer counts the
/// deliveries.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const LATER_EVERY: Duration = Duration::from_secs(2);
/// Looks at first.
const FIRST_LOOKS: usize = 20;

/// A kind of orders of the admin API.
pub(super) struct OrderKind {
    /// Its path.
    pub path: &'static str,
    /// The progress in a sentence.
    pub sentence: fn(&Value) -> String,
}

impl OrderKind {
    /// Gives the order, and watches it until it has ended. The inner error is a sentence for people.
    pub(super) async fn run(
        &self,
        api: &AdminApi,
        order: &Value,
        screen: &mut Screen<'_>,
    ) -> io::Result<Result<Value, String>> {
        let mut now = match api.post(self.path, order).await {
            Ok(first) => first,
            Err(sentence) => return Ok(Err(sentence)),
        };
        let path = format!("{}/{}", self.path, now["id"].as_str().unwrap_or_default());
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut looks = 0;
        while now["state"] == "running" {
            looks += 1;
            let rest = if looks < FIRST_LOOKS { LOOK_EVERY } else { LATER_EVERY };
            if screen.err_is == Where::Terminal {
                // Overwritten by the next one.
                write!(screen.err, "\r\x1b[K{}", (self.sentence)(&now))?;
                screen.err.flush()?;
            }
            let looked = tokio::select! {
                Some(()) = interrupt.recv() => api.delete(&path).await,
                () = tokio::time::sleep(rest) => api.get(&path).await,
            };
            match looked {
                Ok(next) => now = next,
                Err(sentence) => return Ok(Err(sentence)),
            }
        }
        if screen.err_is == Where::Terminal {
            write!(screen.err, "\r\x1b[K")?;
        }
        Ok(Ok(now))
    }

    /// Shows the last progress, as JSON or as a sentence. `again` says how to continue an order that
    /// is not complete.
    pub(super) fn show(
        &self,
        last: &Value,
        format: Format,
        again: &str,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        match format {
            Format::Json => writeln!(screen.out, "{last}")?,
            Format::Sentence => writeln!(screen.out, "{}", (self.sentence)(last))?,
        }
        if last["state"] == "done" {
            return Ok(Exit::Done);
        }
        writeln!(screen.err, "{again}")?;
        Ok(Exit::Failed)
    }
}

/// The deliveries of an order by their present state, behind its sentence.
pub(super) fn outcome(progress: &Value) -> String {
    let outcome = &progress["outcome"];
    let count = |key: &str| outcome[key].as_u64().unwrap_or(0);
    match outcome.is_null() {
        true => String::new(),
        false => format!(
            "; so far delivered: {}, dead: {}, waiting: {}",
            count("delivered"),
            count("dead"),
            count("pending")
        ),
    }
}

/// How a result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Sentence,
}

impl Format {
    /// The format that the options of a command ask for.
    pub(super) const fn of(config: &ConfigFile) -> Self {
        if config.json { Self::Json } else { Self::Sentence }
    }
}
