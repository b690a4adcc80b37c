//! `postern route`: which destinations an event goes to, and why.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::client::runtime;
use super::url::absent;
use super::{ConfigFile, Exit, Screen, columns};
use crate::config::{Destination, EventNature, Source, UrlFacts, Withheld};
use crate::sender::{Effect, Operand, Role};

/// Show which destinations an event goes to, and why
#[derive(Args, Debug)]
#[command(
    long_about = "Show which destinations an event goes to, and why.\n\n\
        The event is a recorded one, by its id, or JSON as `postern events ID --json` and `listen` \
        print it. The routes are those of the configuration file as it is now, so a change can be \
        tried before it is applied; --env-file names what has the secrets of its sources. Nothing is \
        delivered.",
    after_help = "Examples:\n  \
        postern route evt_0190…\n  \
        postern route --event event.json\n  \
        postern events evt_0190… --json | postern route -c new.toml --event -"
)]
pub(super) struct Route {
    #[command(flatten)]
    config: ConfigFile,
    /// Recorded event
    #[arg(required_unless_present = "event")]
    id: Option<String>,
    /// File with an event's JSON, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "id")]
    event: Option<PathBuf>,
}

/// One destination, and whether the event goes to it.
struct Row {
    destination: String,
    goes: Goes,
    why: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    There,
    Elsewhere,
}

impl Route {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let event = match &self.event {
            Some(file) => read(file),
            None => {
                let api = super::client::AdminApi::of(&loaded.config);
                let id = self.id.as_deref().unwrap_or_default();
                runtime()?.block_on(api.get(&format!("/admin/v1/events/{id}")))
            }
        };
        let event = match event {
            Ok(event) => event,
            Err(sentence) => return screen.fail(&sentence),
        };
        let name = event["source"].as_str().unwrap_or_default();
        let Some(source) = loaded.config.sources.get(name) else {
            return absent(&loaded, name, std::iter::empty(), screen);
        };
        let mut rows = rows(source, &event);
        for row in rows.iter_mut().filter(|row| row.goes == Goes::There) {
            let to = loaded.config.destinations.get(&row.destination);
            if let Some(why) = to.and_then(|to| withheld(source, to, &event)) {
                row.goes = Goes::Elsewhere;
                row.why = why.sentence().to_owned();
            }
        }
        if self.config.json {
            for Row { destination, goes, why } in &rows {
                let goes = *goes == Goes::There;
                let row = json!({ "destination": destination, "delivered": goes, "why": why });
                writeln!(screen.out, "{row}")?;
            }
            return Ok(Exit::Done);
        }
        if rows.is_empty() {
            writeln!(
                screen.err,
                "{name} has no destination and no route: events are recorded only"
            )?;
        }
        let cells = |row: &Row| {
            let mark = if row.goes == Goes::There { "yes" } else { "no" };
            vec![row.destination.clone(), mark.to_owned(), row.why.clone()]
        };
        write!(screen.out, "{}", columns(&rows.iter().map(cells).collect::<Vec<_>>()))?;
        Ok(Exit::Done)
    }
}

fn read(file: &Path) -> Result<Value, String> {
    let mut text = String::new();
    let shown = file.display();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| format!("{shown}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{shown}: is not an event's JSON: {error}"))
}

/// The destinations of a source and of its routes, for `event`.
fn rows(source: &Source, event: &Value) -> Vec<Row> {
    let own = source.destinations.iter().map(|name| Row {
        destination: name.clone(),
        goes: Goes::There,
        why: String::from("a destination of the source"),
    });
    let routed = source.routes.iter().zip(1..).flat_map(|(route, number)| {
        let failed = route.when.iter().find(|one| !one.holds(&|operand| value(event, operand)));
        let (goes, why) = match failed {
            None => {
                let all: Vec<String> = route.when.iter().map(ToString::to_string).collect();
                (Goes::There, format!("route {number}: {}", all.join(", ")))
            }
            Some(one) => (Goes::Elsewhere, format!("route {number}: `{one}` does not hold")),
        };
        route.to.iter().map(move |name| Row { destination: name.clone(), goes, why: why.clone() })
    });
    own.chain(routed).collect()
}

/// Why `event` is not sent to a destination of `source`.
fn withheld(source: &Source, to: &Destination, event: &Value) -> Option<Withheld> {
    let effect = event["effect"].as_str().and_then(Effect::from_name);
    let reverses = event["reverses"].as_str();
    let by_default = if reverses.is_some() { Effect::Revoke } else { Effect::Grant };
    let nature = EventNature {
        effect: effect.unwrap_or(by_default),
        kind: event["kind"].as_str().unwrap_or_default(),
        test: event["test"] == true,
        reverses,
    };
    UrlFacts::of(to)?.withholds(&nature, &source.recipe.sender().effects())
}

/// A value of an event's JSON, as the gateway sees it when it records.
fn value<'e>(event: &'e Value, operand: Operand<'_>) -> Option<Cow<'e, str>> {
    let found = match operand {
        Operand::Fact("test") => return (event["test"] == true).then_some(Cow::Borrowed("1")),
        Operand::Fact(name) => &event[name],
        Operand::Value(name) if Role::from_name(name).is_some() => &event[name],
        Operand::Value(name) => &event["params"][name],
    };
    match found {
        Value::Null => None,
        Value::String(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}
