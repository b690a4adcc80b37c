//! `postern release`: callbacks in quarantine are verified again.

use std::io;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{AdminApi, runtime};
use super::event_selector::Times;
use super::names::{self, Named};
use super::{ConfigFile, Exit, Screen, Where};

/// How often the gateway is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Release callbacks from the quarantine of a source
#[derive(Args, Debug)]
#[command(
    long_about = "Release callbacks from the quarantine of a source.\n\n\
        Each is verified again, as of the time of its receipt, with the secrets and the sender \
        file of now. What verifies becomes an event with its original time and is delivered; what \
        does not stays in quarantine. The gateway that runs with the same configuration does it; \
        this command watches, and Ctrl-C cancels what is left. Given again it repeats nothing.",
    after_help = "Examples:\n  \
        postern release level-end --dry-run\n  \
        postern release level-end --reason bad_signature\n  \
        postern release level-end --since 2h"
)]
pub(super) struct Release {
    #[command(flatten)]
    config: ConfigFile,
    /// The source
    source: String,
    /// Only those rejected for this reason; repeatable
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    #[command(flatten)]
    times: Times,
    /// Report the outcome, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Release {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let api = AdminApi::of(&loaded.config);
        let runtime = runtime()?;
        if let Err(error) = runtime.block_on(names::check(&api, Named::Source, &self.source)) {
            return error.tell(screen);
        }
        let ended = runtime.block_on(async {
            match api.post("/admin/v1/release", &self.order()).await {
                Ok(first) => watch(&api, first, screen).await,
                Err(sentence) => Ok(Err(sentence)),
            }
        })?;
        match ended {
            Ok(last) => self.show(&last, screen),
            Err(sentence) => {
                writeln!(screen.err, "{sentence}")?;
                Ok(Exit::Failed)
            }
        }
    }

    fn order(&self) -> Value {
        let mut order = json!({
            "source": self.source, "reasons": self.reasons, "dry_run": self.dry_run,
        });
        for (name, value) in self.times.pairs() {
            order[name] = Value::from(value);
        }
        order
    }

    fn show(&self, last: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.config.json {
            writeln!(screen.out, "{last}")?;
        } else {
            writeln!(screen.out, "{}", sentence(last))?;
        }
        if last["state"] == "done" {
            return Ok(Exit::Done);
        }
        writeln!(screen.err, "the same command goes on where it was")?;
        Ok(Exit::Failed)
    }
}

/// Looks until the order has ended, and cancels it on Ctrl-C. The inner error is a sentence for
/// people.
async fn watch(
    api: &AdminApi,
    first: Value,
    screen: &mut Screen<'_>,
) -> io::Result<Result<Value, String>> {
    let path = format!("/admin/v1/release/{}", first["id"].as_str().unwrap_or_default());
    let mut now = first;
    let mut interrupt = signal(SignalKind::interrupt())?;
    while now["state"] == "running" {
        if screen.err_is == Where::Terminal {
            // Overwritten by the next one.
            write!(screen.err, "\r\x1b[K{}", sentence(&now))?;
            screen.err.flush()?;
        }
        let looked = tokio::select! {
            Some(()) = interrupt.recv() => api.delete(&path).await,
            () = tokio::time::sleep(LOOK_EVERY) => api.get(&path).await,
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

/// How far an order is, for people.
fn sentence(progress: &Value) -> String {
    let state = progress["state"].as_str().unwrap_or("?");
    let count = |key: &str| progress[key].as_u64().unwrap_or(0);
    let of = progress["of"].as_u64().map(|of| format!(" of {of}")).unwrap_or_default();
    let dry = if progress["dry_run"] == true { " (dry run: nothing is changed)" } else { "" };
    let error = progress["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "{state}{dry}: looked at {}{of}, released {}, duplicates {}, held as disputed {}, still in \
         quarantine {}{error}",
        count("seen"),
        count("released"),
        count("duplicates"),
        count("disputed"),
        count("refused"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_sentence() {
        let progress = json!({
            "state": "running", "seen": 200, "of": 1000, "released": 190, "duplicates": 4,
            "disputed": 1, "refused": 5, "dry_run": false,
        });
        assert_eq!(
            sentence(&progress),
            "running: looked at 200 of 1000, released 190, duplicates 4, held as disputed 1, still \
             in quarantine 5"
        );
        let dry = json!({ "state": "failed", "dry_run": true, "error": "no disk" });
        let said = sentence(&dry);
        assert!(said.starts_with("failed (dry run: nothing is changed): looked at 0,"), "{said}");
        assert!(said.ends_with(": no disk"));
    }
}
