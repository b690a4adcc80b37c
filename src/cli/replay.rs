//! `postern replay`: recorded events are delivered again.

use std::io;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::event_selector::EventSelector;
use super::names::{self, NameError, Named};
use super::order::{Format, OrderKind, TriesGone, outcome, pauses};
use super::{ConfigFile, Exit, Screen};

/// Replays of the admin API.
const REPLAYS: OrderKind = OrderKind { path: "/admin/v1/replay", sentence, again };

/// Deliver recorded events again: one, some, or all that are dead
#[derive(Args, Debug)]
#[command(
    long_about = "Deliver recorded events again: one, some, or all that are dead.\n\n\
        The gateway that runs with the same configuration does it; this command watches, and \
        Ctrl-C cancels what is left. An event keeps its id, so a backend that has it can tell. An \
        order has an id as well: given again with --id it goes on and repeats nothing. --dry-run \
        says how much would be delivered, and delivers nothing.",
    after_help = "Examples:\n  \
        postern replay --state dead --destination game --dry-run\n  \
        postern replay --state dead --destination game\n  \
        postern replay --source level-end --since 2h\n  \
        postern replay evt_0190…"
)]
pub(super) struct Replay {
    #[command(flatten)]
    config: ConfigFile,
    /// Events with these ids
    #[arg(value_name = "ID", conflicts_with_all = ["source", "transaction", "user", "since", "until"])]
    events: Vec<String>,
    /// Only deliveries in this state
    #[arg(long)]
    state: Option<State>,
    /// Only to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    #[command(flatten)]
    which: EventSelector,
    /// Every event, if nothing else selects
    #[arg(long)]
    all: bool,
    /// Id of an order that did not finish
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Count the deliveries that would be made, and make none
    #[arg(long, conflicts_with = "id")]
    dry_run: bool,
}

/// The state of a delivery.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum State {
    Dead,
    Pending,
    Done,
}

impl State {
    /// The name in the admin API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Pending => "pending",
            Self::Done => "done",
        }
    }
}

/// The objection to an order that says nothing.
const SELECTS_NOTHING: &str = "this would deliver every event again; give the ids of events, or \
    narrow with --state, --destination, --source, --transaction, --user, --since or --until; every \
    event is --all";

impl Replay {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if let Err(sentence) = self.check_selection() {
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let runtime = runtime()?;
        if let Err(error) = runtime.block_on(self.check(&api)) {
            return error.tell(screen);
        }
        if let Err(sentence) = runtime.block_on(self.check_events(&api)) {
            return screen.fail(&sentence);
        }
        let ended = runtime.block_on(REPLAYS.run(&api, &self.order(), screen))?;
        match ended {
            Ok(last) => {
                let exit = REPLAYS.show(&last, Format::of(&self.config), screen)?;
                let only = self.destination.as_deref();
                let pauses = runtime.block_on(pauses(&api, &last, only, TriesGone::Yes));
                pauses.iter().try_for_each(|pause| writeln!(screen.err, "{pause}"))?;
                Ok(exit)
            }
            Err(sentence) => screen.fail(&sentence),
        }
    }

    /// Checks that the order selects something, and that its ids can be those of events.
    fn check_selection(&self) -> Result<(), String> {
        let selects = self.all
            || !self.events.is_empty()
            || self.state.is_some()
            || self.destination.is_some()
            || self.which.pairs().next().is_some();
        if !selects {
            return Err(SELECTS_NOTHING.to_owned());
        }
        self.events.iter().try_for_each(|id| names::check_event(id))
    }

    /// Checks the events that are named one by one. The gateway omits one that it does not have,
    /// as it may have expired between two pages of an order.
    async fn check_events(&self, api: &AdminApi) -> Result<(), String> {
        for id in &self.events {
            api.get(&format!("/admin/v1/events/{}", names::in_path(id))).await?;
        }
        Ok(())
    }

    /// Checks the names: a misspelled one must not look like "all is well".
    async fn check(&self, api: &AdminApi) -> Result<(), NameError> {
        self.which.check(api).await?;
        match &self.destination {
            Some(name) => names::check(api, Named::Destination, name).await,
            None => Ok(()),
        }
    }

    fn order(&self) -> Value {
        let mut order = json!({
            "id": self.id, "events": self.events, "state": self.state.map(State::as_str),
            "destination": self.destination, "all": self.all, "dry_run": self.dry_run,
        });
        for (name, value) in self.which.pairs() {
            order[name] = Value::from(value);
        }
        order
    }
}

/// Without its id, the order would be another one that delivers all of it again.
fn again(id: &str) -> String {
    format!("the same order with --id {id} goes on where it was")
}

/// How far an order is, for people.
fn sentence(progress: &Value) -> String {
    let state = progress["state"].as_str().unwrap_or("?");
    let dry = if progress["dry_run"] == true { " (dry run: nothing is delivered)" } else { "" };
    let count = |key: &str| progress[key].as_u64().unwrap_or(0);
    let (seen, events, deliveries) = (count("seen"), count("events"), count("deliveries"));
    let of = progress["of"].as_u64().map(|of| format!(" of {of}")).unwrap_or_default();
    let error = progress["error"].as_str().map(|error| format!(": {error}")).unwrap_or_default();
    let skipped = match count("skipped") {
        0 if state == "done" && deliveries == 0 => {
            return format!("nothing matches: no delivery is made{dry}");
        }
        0 => String::new(),
        skipped => format!(", skipped (destination not configured): {skipped}"),
    };
    format!(
        "{state}{dry}: events looked at: {seen}{of}, to be delivered again: {events}, deliveries: \
         {deliveries}{skipped}{}{error}",
        outcome(progress)
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        replay: Replay,
    }

    #[test]
    fn an_order_that_selects_nothing_names_the_options() {
        let checked = |args: &[&str]| {
            let line = Line::try_parse_from([&["postern"][..], args].concat()).unwrap();
            line.replay.check_selection()
        };
        for nothing in [&[][..], &["--dry-run"], &["--id", "rpl_1"]] {
            let objection = checked(nothing).unwrap_err();
            assert!(objection.contains("--state") && objection.contains("--all"), "{objection}");
        }
        let event = format!("evt_{}", "0".repeat(32));
        for some in [&["--all"][..], &["--state", "dead"], &["--since", "1h"], &[event.as_str()]] {
            assert_eq!(checked(some), Ok(()), "{some:?}");
        }
        assert!(checked(&["tr-1"]).unwrap_err().contains("--transaction"));
    }

    #[test]
    fn progress_is_a_sentence() {
        let progress =
            json!({ "state": "running", "seen": 200, "of": 1000, "events": 3, "deliveries": 4 });
        assert_eq!(
            sentence(&progress),
            "running: events looked at: 200 of 1000, to be delivered again: 3, deliveries: 4"
        );
        let mut done = json!({ "state": "done", "seen": 4, "events": 3, "deliveries": 4 });
        done["outcome"] = json!({ "delivered": 1, "dead": 0, "pending": 3 });
        assert!(
            sentence(&done).ends_with("deliveries: 4; so far delivered: 1, dead: 0, waiting: 3")
        );
        let dry = json!({ "state": "done", "dry_run": true, "events": 3, "deliveries": 4 });
        assert!(sentence(&dry).starts_with("done (dry run: nothing is delivered): events"));
        let none = json!({ "state": "done", "seen": 0, "deliveries": 0, "skipped": 0 });
        assert_eq!(sentence(&none), "nothing matches: no delivery is made");
        let skipped = json!({ "state": "done", "seen": 2, "deliveries": 0, "skipped": 2 });
        let end = "deliveries: 0, skipped (destination not configured): 2";
        assert!(sentence(&skipped).ends_with(end));
        let failed = json!({ "state": "failed", "seen": 1, "of": null, "error": "no disk" });
        assert!(
            sentence(&failed).starts_with("failed: events looked at: 1, to be delivered again: 0,")
        );
        assert!(sentence(&failed).ends_with(": no disk"));
    }
}
