//! An order that the gateway works on: watched until it has ended, cancelled by Ctrl-C.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::client::AdminApi;
use super::destinations::pause_text;
use super::names::in_path;
use super::{ConfigFile, Exit, Screen, Where};

/// How often the gateway is asked for the progress at first, and later: each answer counts the
/// deliveries.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const LATER_EVERY: Duration = Duration::from_secs(2);
/// Looks at first.
const FIRST_LOOKS: usize = 20;

/// Pauses that are named: each costs a call, and a reader needs to know of one.
const PAUSES_NAMED: usize = 5;

/// A kind of orders of the admin API.
pub(super) struct OrderKind {
    /// Its path.
    pub path: &'static str,
    /// The progress in a sentence.
    pub sentence: fn(&Value) -> String,
    /// How the order of that id goes on.
    pub again: fn(&str) -> String,
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
        let id = now["id"].as_str().unwrap_or_default().to_owned();
        let path = format!("{}/{id}", self.path);
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
                Err(sentence) => return Ok(Err(format!("{sentence}; {}", (self.again)(&id)))),
            }
        }
        if screen.err_is == Where::Terminal {
            write!(screen.err, "\r\x1b[K")?;
        }
        Ok(Ok(now))
    }

    /// Shows the last progress, as JSON or as a sentence, and how to continue an order that is not
    /// complete.
    pub(super) fn show(
        &self,
        last: &Value,
        format: Format,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        match format {
            Format::Json => writeln!(screen.out, "{last}")?,
            Format::Sentence => writeln!(screen.out, "{}", (self.sentence)(last))?,
        }
        if last["state"] == "done" {
            return Ok(Exit::Done);
        }
        writeln!(screen.err, "{}", (self.again)(last["id"].as_str().unwrap_or_default()))?;
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

/// Whether an order makes an attempt at a destination that responded with 410, as a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TriesGone {
    /// A replay does.
    Yes,
    /// A release does not: its deliveries are as all others.
    No,
}

/// Why deliveries of an order may wait: a sentence for each paused destination, or for `only` that
/// one. Nothing where none waits. The order is complete without it, so a failed call says nothing.
pub(super) async fn pauses(
    api: &AdminApi,
    last: &Value,
    only: Option<&str>,
    tries: TriesGone,
) -> Vec<String> {
    if last["outcome"]["pending"].as_u64().unwrap_or(0) == 0 {
        return Vec::new();
    }
    let Ok(all) = api.get("/admin/v1/destinations").await else { return Vec::new() };
    let mut sentences = Vec::new();
    for name in paused(&all, only).take(PAUSES_NAMED) {
        let path = format!("/admin/v1/destinations/{}/status", in_path(name));
        let Ok(status) = api.get(&path).await else { continue };
        // Someone may have resumed it meanwhile.
        if status["paused"].is_object() {
            sentences.push(pause_sentence(name, &status["paused"], tries));
        }
    }
    sentences
}

/// The meaning of a pause for the deliveries of an order.
fn pause_sentence(name: &str, pause: &Value, tries: TriesGone) -> String {
    let text = pause_text(pause);
    let trial = match (pause["why"].as_str(), tries) {
        (Some("gone"), TriesGone::Yes) => {
            "the replay makes one attempt at once, and a 2xx resumes it; otherwise "
        }
        _ => "",
    };
    format!(
        "{name} is paused ({text}): {trial}its deliveries wait until postern destinations resume \
         {name}"
    )
}

/// The paused destinations of a list: all, or `only` that one.
fn paused<'a>(all: &'a Value, only: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let all = all["destinations"].as_array().into_iter().flatten();
    let names = all.filter(|one| one["state"] == "paused").filter_map(|one| one["name"].as_str());
    names.filter(move |name| only.is_none_or(|only| only == *name))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_paused_destinations_of_the_order_are_named() {
        let all = json!({ "destinations": [
            { "name": "game", "state": "paused" }, { "name": "shop", "state": "active" },
            { "name": "books", "state": "paused" },
        ] });
        let named = |only| paused(&all, only).collect::<Vec<_>>();
        assert_eq!(named(None), ["game", "books"]);
        assert_eq!(named(Some("books")), ["books"]);
        assert!(named(Some("shop")).is_empty());
    }

    #[test]
    fn a_replay_tries_a_destination_that_is_gone() {
        let sentence = |why: &str, tries| {
            let pause = json!({ "why": why, "who": "postern", "at": "2026-11-29T12:00:00Z" });
            pause_sentence("game", &pause, tries)
        };
        assert_eq!(
            sentence("gone", TriesGone::Yes),
            "game is paused (gone, by postern at 2026-11-29T12:00:00Z): the replay makes one \
             attempt at once, and a 2xx resumes it; otherwise its deliveries wait until postern \
             destinations resume game"
        );
        for (why, tries) in [("operator", TriesGone::Yes), ("gone", TriesGone::No)] {
            let waits = "): its deliveries wait until postern destinations resume game";
            assert!(sentence(why, tries).ends_with(waits));
        }
    }
}
