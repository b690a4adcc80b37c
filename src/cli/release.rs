//! `postern release`: callbacks in quarantine are verified again.

use std::io;

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::event_selector::Times;
use super::names::{self, Named};
use super::order::{Format, OrderKind, TriesGone, outcome, pauses};
use super::{ConfigFile, Exit, Screen};
use crate::config::held_reason;

/// Releases of the admin API.
const RELEASES: OrderKind = OrderKind { path: "/admin/v1/release", sentence, again };

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
    #[arg(long = "reason", value_name = "REASON", value_parser = reason)]
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
        let ended = runtime.block_on(RELEASES.run(&api, &self.order(), screen))?;
        match ended {
            Ok(last) => {
                let exit = RELEASES.show(&last, Format::of(&self.config), screen)?;
                let pauses = runtime.block_on(pauses(&api, &last, None, TriesGone::No));
                pauses.iter().try_for_each(|pause| writeln!(screen.err, "{pause}"))?;
                Ok(exit)
            }
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
}

/// Reads the name of a reason for which callbacks are held.
fn reason(name: &str) -> Result<String, String> {
    let reason = held_reason(name).map_err(|error| format!("{}; {}", error.what, error.remedy))?;
    Ok(reason.as_str().to_owned())
}

/// Released callbacks are in quarantine no more.
fn again(_: &str) -> String {
    "the same command goes on where it was".to_owned()
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
         quarantine {}{}{error}",
        count("seen"),
        count("released"),
        count("duplicates"),
        count("disputed"),
        count("refused"),
        outcome(progress),
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
