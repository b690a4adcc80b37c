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
    ) -> io::Result<Result<Ended, String>> {
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
        Ok(Ok(Ended { last: now, event: only_event(order) }))
    }

    /// Shows the last progress, as JSON or as a sentence, and how to continue an order that is not
    /// complete.
    pub(super) fn show(
        &self,
        ended: &Ended,
        format: Format,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        let last = &ended.last;
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

/// An order that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The last progress.
    last: Value,
    /// The event that it was given for; `None`: it was given for several, or by a filter.
    event: Option<String>,
}

/// The event that an order is given for, if it is for one.
fn only_event(order: &Value) -> Option<String> {
    match order["events"].as_array()?.as_slice() {
        [event] => event.as_str().map(str::to_owned),
        _ => None,
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

/// Why deliveries of an order may wait: a sentence for each paused destination that it can reach, or
/// for `only` that one. Where these are not known, one sentence with an example. Nothing where none
/// waits. The order is complete without it, so a failed call says nothing.
pub(super) async fn pauses(
    api: &AdminApi,
    ended: &Ended,
    only: Option<&str>,
    tries: TriesGone,
) -> Vec<String> {
    if ended.last["outcome"]["pending"].as_u64().unwrap_or(0) == 0 {
        return Vec::new();
    }
    let Ok(all) = api.get("/admin/v1/destinations").await else { return Vec::new() };
    let reached = match (only, &ended.event) {
        (Some(only), _) => Some(vec![only.to_owned()]),
        (None, Some(event)) => awaited_by(api, event).await,
        (None, None) => None,
    };
    let most = if reached.is_some() { PAUSES_NAMED } else { 1 };
    let mut sentences = Vec::new();
    for name in paused(&all, reached.as_deref()).take(most) {
        let path = format!("/admin/v1/destinations/{}/status", in_path(name));
        let Ok(status) = api.get(&path).await else { continue };
        let pause = &status["paused"];
        // Someone may have resumed it meanwhile.
        if pause.is_object() {
            sentences.push(match reached {
                Some(_) => pause_sentence(name, pause, tries),
                None => example_sentence(name, pause),
            });
        }
    }
    sentences
}

/// The destinations that have not settled an event; `None`: the gateway does not say.
async fn awaited_by(api: &AdminApi, event: &str) -> Option<Vec<String>> {
    let event = api.get(&format!("/admin/v1/events/{}", in_path(event))).await.ok()?;
    let waiting = event["deliveries"].as_array()?.iter().filter(|one| one["state"] == "pending");
    Some(waiting.filter_map(|one| one["destination"].as_str()).map(str::to_owned).collect())
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

/// The meaning of pauses for an order that may have deliveries to `name`, or to others alone.
fn example_sentence(name: &str, pause: &Value) -> String {
    let text = pause_text(pause);
    format!(
        "paused destinations, such as {name} ({text}), keep theirs waiting until postern \
         destinations resume {name}"
    )
}

/// The paused destinations of a list: all, or those of `reached`.
fn paused<'a>(all: &'a Value, reached: Option<&'a [String]>) -> impl Iterator<Item = &'a str> {
    let all = all["destinations"].as_array().into_iter().flatten();
    let names = all.filter(|one| one["state"] == "paused").filter_map(|one| one["name"].as_str());
    names.filter(move |name| reached.is_none_or(|reached| reached.iter().any(|one| one == name)))
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
        let named = |reached: Option<&[&str]>| {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let reached: Option<Vec<String>> = reached.map(owned);
            paused(&all, reached.as_deref()).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(named(None), ["game", "books"]);
        assert_eq!(named(Some(&["books", "shop"])), ["books"]);
        assert!(named(Some(&[])).is_empty());
    }

    #[test]
    fn an_order_for_one_event_is_told_from_others() {
        assert_eq!(only_event(&json!({ "events": ["evt_1"] })).as_deref(), Some("evt_1"));
        for several in [json!({ "events": [] }), json!({ "events": ["a", "b"] }), json!({})] {
            assert_eq!(only_event(&several), None);
        }
    }

    #[test]
    fn where_the_destinations_of_an_order_are_not_known_a_paused_one_is_an_example() {
        let pause = json!({ "why": "operator", "who": "me", "at": "2026-11-29T12:00:00Z" });
        assert_eq!(
            example_sentence("ren", &pause),
            "paused destinations, such as ren (operator, by me at 2026-11-29T12:00:00Z), keep \
             theirs waiting until postern destinations resume ren"
        );
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
