//! `postern destinations`: the destinations of a running gateway, paused, resumed and tested.

use std::io;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::names::{self, Named, in_path};
use super::rows::{Columns, Page, printable};
use super::{ConfigFile, Exit, Screen, columns};

/// List, pause, resume or test the destinations of the running gateway
#[derive(Args, Debug)]
#[command(
    long_about = "List, pause, resume or test the destinations of the running gateway.\n\n\
        Without a subcommand all are listed, those of the configuration file and those that were \
        created over an API or in the console. Paused, a destination receives nothing, its \
        deliveries wait and use up no attempts; a pause outlives a restart.",
    after_help = "Examples:\n  \
        postern destinations\n  \
        postern destinations status game\n  \
        postern destinations pause game --reason 'migration until 14:00'\n  \
        postern destinations test game"
)]
pub(super) struct Destinations {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List all destinations
    List,
    /// Show whether a destination works: pause, circuit breaker, backlog, oldest due delivery
    Status {
        /// The destination
        name: String,
    },
    /// Stop delivering to a destination; deliveries wait
    Pause {
        /// The destination
        name: String,
        /// Why, for the audit log and for those who look at the status
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Deliver again what waits
    Resume {
        /// The destination
        name: String,
    },
    /// Send one made-up event, marked as a test, and show the response
    Test {
        /// The destination
        name: String,
    },
}

impl Destinations {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let (name, action) = match &self.act {
            None | Some(Act::List) => return self.list(&api, screen),
            Some(Act::Status { name }) => (name, "status"),
            Some(Act::Pause { name, .. }) => (name, "pause"),
            Some(Act::Resume { name }) => (name, "resume"),
            Some(Act::Test { name }) => (name, "test"),
        };
        let path = format!("/admin/v1/destinations/{}/{action}", in_path(name));
        let runtime = runtime()?;
        if let Err(error) = runtime.block_on(names::check(&api, Named::Destination, name)) {
            return error.tell(screen);
        }
        let answered = runtime.block_on(async {
            match &self.act {
                Some(Act::Status { .. }) => api.get(&path).await,
                Some(Act::Pause { reason: Some(reason), .. }) => {
                    api.post(&path, &json!({ "reason": reason })).await
                }
                _ => api.post(&path, &json!({})).await,
            }
        });
        match answered {
            Ok(answer) if self.config.json => {
                writeln!(screen.out, "{answer}")?;
                Ok(exit(&answer))
            }
            Ok(answer) => {
                write!(screen.out, "{}", columns(&rows(&answer)))?;
                Ok(exit(&answer))
            }
            Err(sentence) => screen.fail(&sentence),
        }
    }

    fn list(&self, api: &AdminApi, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let came = match runtime()?.block_on(api.fetch("/admin/v1/destinations")) {
            Ok(came) => came,
            Err(sentence) => return screen.fail(&sentence),
        };
        let columns = Columns {
            keys: &["name", "state", "format", "url", "origin"],
            seldom: &[],
            nothing: "there is no destination: events are recorded only",
            narrow: "",
            as_json: self.config.json,
        };
        match Page::read(&came.body, "destinations") {
            Some(page) => page.print(&columns, screen),
            None => screen.fail(&"the gateway returned a list that cannot be read"),
        }
    }
}

/// A test that was not delivered is a failure; a status never is.
fn exit(answer: &Value) -> Exit {
    if answer["delivered"] == false { Exit::Failed } else { Exit::Done }
}

fn rows(answer: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => printable(text),
        Value::Null => String::from("-"),
        Value::Object(failure) if failure.contains_key("status") => {
            let part = |key: &str| failure.get(key).filter(|value| !value.is_null());
            let plain = |value: &Value| value.as_str().map_or(value.to_string(), printable);
            let [at, status, error] = ["at", "status", "error"].map(|key| part(key).map(plain));
            let said: Vec<String> = status.into_iter().chain(error).collect();
            format!("{}: {}", at.unwrap_or_default(), said.join(" "))
        }
        pause @ Value::Object(_) => pause_text(pause),
        other => other.to_string(),
    };
    let members = answer.as_object().into_iter().flatten();
    let shown = members.filter(|(_, value)| !value.is_null() && *value != "");
    shown.map(|(key, value)| vec![key.replace('_', " "), text(value)]).collect()
}

/// A pause for people: why, by whom and since when.
pub(super) fn pause_text(pause: &Value) -> String {
    let [why, who, at] = ["why", "who", "at"].map(|key| pause[key].as_str().unwrap_or("?"));
    let reason = pause["reason"].as_str().map(printable);
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{why}, by {who} at {at}{reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_table() {
        let status = json!({
            "destination": "game", "state": "paused", "breaker": "closed", "pending": 3,
            "paused": { "why": "operator", "who": "ops", "at": "2026-11-29T12:00:00Z" },
            "oldest_due_seconds": null,
        });
        let mut noted = status.clone();
        noted["paused"]["reason"] = json!("migration");
        noted["last_failure"] =
            json!({ "at": "2026-11-29T11:59:00Z", "status": 503, "error": null });
        let text = columns(&rows(&noted));
        assert!(text.contains(", by ops at 2026-11-29T12:00:00Z: migration\n"), "{text}");
        assert!(text.contains("  last failure  2026-11-29T11:59:00Z: 503\n"), "{text}");
        let text = columns(&rows(&status));
        assert!(
            text.contains("  paused       operator, by ops at 2026-11-29T12:00:00Z\n"),
            "{text}"
        );
        assert!(text.contains("  pending      3\n") && !text.contains("oldest"), "{text}");
        assert_eq!(exit(&json!({ "delivered": false })), Exit::Failed);
        assert_eq!(exit(&status), Exit::Done);
    }
}
