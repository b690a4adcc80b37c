//! `postern events`: what a running gateway has recorded.

use std::io;

use clap::Args;
use serde_json::Value;

use super::client::{AdminApi, runtime};
use super::event_selector::EventSelector;
use super::names::{self, NameError};
use super::rows::{Columns, Next, Page, printable, printable_json, rows_of_a_page};
use super::{ConfigFile, Exit, Screen, columns};

/// List recorded events, or show one: "where is my reward?"
#[derive(Args, Debug)]
#[command(
    long_about = "List recorded events, or show one: \"where is my reward?\"\n\n\
        Asks the gateway that runs with the same configuration. Recorded events are listed, newest \
        first, each with the state of its deliveries: pending, done (also where there are none) or \
        dead. What was rejected is in `postern events --rejected`, and what waits for a decision in \
        `postern held`; where no event has the --user or --transaction, both are counted. With an \
        ID the event is shown with its deliveries and their attempts.",
    after_help = "Examples:\n  \
        postern events --user player-7\n  \
        postern events --source level-end --since 1h\n  \
        postern events --rejected --since 2026-01-02\n  \
        postern events evt_0190…\n  \
        postern events evt_0190… --json | jq .deliveries"
)]
pub(super) struct Events {
    #[command(flatten)]
    config: ConfigFile,
    /// Event to show
    id: Option<String>,
    #[command(flatten)]
    which: EventSelector,
    /// Maximum number of rows
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = rows_of_a_page())]
    limit: u32,
    /// List rejected callbacks instead, with their reasons; what they claim is not verified
    #[arg(long, conflicts_with = "id")]
    rejected: bool,
}

impl Events {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if let Some(id) = &self.id
            && let Err(sentence) = names::check_event(id)
        {
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let answered: Result<_, QueryError> = runtime()?.block_on(async {
            let came = api.fetch(&self.path()).await?;
            if self.id.is_some() || !is_empty(&came.body) {
                return Ok((came, Vec::new()));
            }
            // A misspelled name must not look like "nothing happened".
            self.which.check(&api).await.map_err(QueryError::Name)?;
            Ok((came, self.claims_elsewhere(&api).await))
        });
        match answered {
            Ok((came, elsewhere)) => {
                let exit = self.show(&came.body, screen)?;
                elsewhere.iter().try_for_each(|line| writeln!(screen.err, "{line}"))?;
                Ok(exit)
            }
            Err(QueryError::Name(error)) => error.tell(screen),
            Err(QueryError::Failed(sentence)) => screen.fail(&sentence),
        }
    }

    fn path(&self) -> String {
        if let Some(id) = &self.id {
            return format!("/admin/v1/events/{id}");
        }
        let limit = self.limit.to_string();
        let pairs: Vec<_> = self.which.pairs().chain([("limit", limit.as_str())]).collect();
        let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
        format!("/admin/v1/{}?{query}", self.list())
    }

    /// Where no event has a user or a transaction: the callbacks that claim it and have no event,
    /// counted, with the commands that show them.
    async fn claims_elsewhere(&self, api: &AdminApi) -> Vec<String> {
        let Some(subject) = self.which.subject() else { return Vec::new() };
        let held = Claims { list: "held", word: "held", command: "postern held" };
        let rejected =
            Claims { list: "rejections", word: "rejected", command: "postern events --rejected" };
        let lists = if self.rejected { vec![held] } else { vec![held, rejected] };
        let mut lines = Vec::new();
        for claims in lists {
            match claims.find(api, &self.which, subject).await {
                Ok(line) => lines.extend(line),
                // The list itself was read: it is the answer.
                Err(sentence) => lines.push(format!("{} callbacks: {sentence}", claims.word)),
            }
        }
        lines
    }

    const fn list(&self) -> &'static str {
        if self.rejected { "rejections" } else { "events" }
    }

    fn show(&self, answer: &[u8], screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.id.is_some() {
            return match serde_json::from_slice::<Value>(answer) {
                Ok(event) if self.config.json => {
                    writeln!(screen.out, "{}", printable_json(&format!("{event:#}")))?;
                    Ok(Exit::Done)
                }
                Ok(event) => one(&event, screen),
                Err(_) => {
                    writeln!(screen.out, "{}", printable(&String::from_utf8_lossy(answer)))?;
                    Ok(Exit::Done)
                }
            };
        }
        let Some(page) = Page::read(answer, self.list()) else {
            return screen.fail(&"the gateway returned a list that cannot be read");
        };
        let columns = Columns {
            keys: if self.rejected { REJECTED } else { RECORDED },
            seldom: &SELDOM,
            nothing: "nothing matches",
            narrow: "raise --limit, or narrow with --since and --until",
            as_json: self.config.json,
        };
        page.print(&columns, screen)
    }
}

/// A list of callbacks without an event.
struct Claims {
    /// Its name in the admin API.
    list: &'static str,
    /// Its callbacks in a sentence.
    word: &'static str,
    /// The command that shows it.
    command: &'static str,
}

/// Callbacks that are counted: beyond that the number says no more.
const COUNTED_MAX: usize = 100;

impl Claims {
    /// Says how many of the list `which` finds; nothing if there are none.
    async fn find(
        &self,
        api: &AdminApi,
        which: &EventSelector,
        subject: &str,
    ) -> Result<Option<String>, String> {
        let limit = COUNTED_MAX.to_string();
        let pairs: Vec<_> = which.pairs().chain([("limit", limit.as_str())]).collect();
        let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
        let came = api.fetch(&format!("/admin/v1/{}?{query}", self.list)).await?;
        let Some(page) = Page::read(&came.body, self.list) else {
            return Err(String::from("the gateway returned a list that cannot be read"));
        };
        Ok(self.sentence(page.rows.len(), page.next, which, subject))
    }

    fn sentence(
        &self,
        count: usize,
        next: Next,
        which: &EventSelector,
        subject: &str,
    ) -> Option<String> {
        let Self { word, command, .. } = self;
        let found = match (count, next) {
            (0, Next::End) => return None,
            (1, Next::End) => format!("1 {word} callback claims"),
            (count, Next::End) => format!("{count} {word} callbacks claim"),
            (count, Next::More) => format!("{count} {word} callbacks or more claim"),
        };
        Some(format!("{found} {subject}: {command}{}", which.options()))
    }
}

/// Why there is no answer.
enum QueryError {
    /// The gateway could not be asked, or objected.
    Failed(String),
    /// The name of a source.
    Name(NameError),
}

impl From<String> for QueryError {
    fn from(sentence: String) -> Self {
        Self::Failed(sentence)
    }
}

const RECORDED: &[&str] = &[
    "received_at",
    "source",
    "transaction",
    "user",
    "item",
    "amount",
    "kind",
    "effect",
    "reverses",
    "delivery_state",
    "id",
];

const REJECTED: &[&str] = &["at", "source", "reason", "parameter", "client", "held", "id"];

/// Columns that are omitted where no row has them: most senders take nothing back, and rows of older
/// versions may lack an effect.
const SELDOM: [&str; 4] = ["kind", "effect", "reverses", "delivery_state"];

fn is_empty(list: &[u8]) -> bool {
    let list = serde_json::from_slice::<Value>(list).ok();
    let rows =
        |list: &Value| Some(list.as_object()?.values().find_map(Value::as_array)?.is_empty());
    list.as_ref().and_then(rows).unwrap_or(false)
}

/// One event with its deliveries, for people.
fn one(event: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
    print_members(event, &["deliveries", "resolved_by_hand"], screen)?;
    let deliveries = event["deliveries"].as_array().into_iter().flatten();
    let rows: Vec<_> = deliveries.flat_map(delivery).collect();
    match rows.is_empty() {
        true => writeln!(screen.out, "\nno deliveries: the source has no destination")?,
        false => {
            let title = screen.out_paint.bold("deliveries");
            write!(screen.out, "\n{title}\n{}", columns(&rows))?;
        }
    }
    let by_hand = &event["resolved_by_hand"];
    if by_hand.is_object() {
        let [at, who, note] = ["at", "who", "note"].map(|name| text(&by_hand[name]));
        writeln!(screen.out, "\nresolved manually at {at} by {who}: {note}")?;
    }
    Ok(Exit::Done)
}

/// The members of `object` for people, a row each, without the blank ones and those that are
/// `shown_otherwise`; then each member that is an object, under its name.
pub(super) fn print_members(
    object: &Value,
    shown_otherwise: &[&str],
    screen: &mut Screen<'_>,
) -> io::Result<()> {
    let members = object.as_object().into_iter().flatten();
    let members = members.filter(|(name, _)| !shown_otherwise.contains(&name.as_str()));
    let (tables, plain): (Vec<_>, Vec<_>) = members.partition(|(_, value)| value.is_object());
    let row = |(name, value): (&String, &Value)| vec![printable(name), text(value)];
    let plain = plain.into_iter().filter(|(_, value)| !is_blank(value));
    write!(screen.out, "{}", columns(&plain.map(row).collect::<Vec<_>>()))?;
    for (name, table) in tables {
        let rows: Vec<_> = table.as_object().into_iter().flatten().map(row).collect();
        if !rows.is_empty() {
            write!(screen.out, "\n{}\n{}", screen.out_paint.bold(name), columns(&rows))?;
        }
    }
    Ok(())
}

/// A delivery and its attempts, a row each.
fn delivery(delivery: &Value) -> Vec<Vec<String>> {
    let due = match &delivery["due_at"] {
        Value::String(at) if delivery["state"] == "pending" => format!("next attempt {at}"),
        _ => String::new(),
    };
    let mut rows = vec![vec![text(&delivery["destination"]), text(&delivery["state"]), due]];
    for attempt in delivery["attempts"].as_array().into_iter().flatten() {
        let result = match (&attempt["status"], attempt["error"].as_str()) {
            (Value::Null, Some(error)) => error.to_owned(),
            (status, None) => {
                format!("{status} {}", attempt["answer"].as_str().unwrap_or_default())
            }
            (status, Some(error)) => format!("{status} {error}"),
        };
        let first = result.lines().next().unwrap_or_default();
        let took = format!("{} ms", attempt["millis"]);
        rows.push(vec![format!("  {}", text(&attempt["at"])), took, printable(first)]);
    }
    rows
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A value for people: text as it is, a list with commas, other JSON as written.
pub(super) fn text(value: &Value) -> String {
    let listed = |all: &Vec<Value>| all.iter().map(text).collect::<Vec<_>>().join(", ");
    match value {
        Value::String(text) => printable(text),
        Value::Null => String::from("-"),
        Value::Array(all) => listed(all),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        events: Events,
    }

    #[test]
    fn one_event_is_shown_with_its_attempts() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let event = json!({
            "id": "evt_1", "source": "level-end", "user": null, "unresolved": [], "amount": "10",
            "authenticated": ["transaction", "user"], "params": { "who": "u\u{1b}1" }, "resolved": {},
            "deliveries": [{
                "destination": "game", "state": "pending", "due_at": "2026-11-29T12:00:00Z",
                "attempts": [
                    { "at": "2026-11-29T11:00:00Z", "status": 401, "millis": 3, "answer": "no\nmore",
                      "error": null },
                    { "at": "2026-11-29T11:00:01Z", "status": null, "millis": 0, "answer": "",
                      "error": "connection refused" },
                ],
            }],
        });
        one(&event, &mut Screen::plain(&mut out, &mut err)).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "  authenticated  transaction, user\n",
            "\nparams\n  who  u\u{fffd}1\n",
            "game                    pending  next attempt 2026-11-29T12:00:00Z\n",
            "2026-11-29T11:00:00Z  3 ms     401 no\n",
            "2026-11-29T11:00:01Z  0 ms     connection refused\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("unresolved") && !text.contains("resolved\n"), "{text}");
    }

    fn shown(answer: &Value) -> String {
        let line = Line::try_parse_from(["postern"]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        line.events
            .show(answer.to_string().as_bytes(), &mut Screen::plain(&mut out, &mut err))
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_takes_a_reward_back_says_so_and_others_have_no_empty_columns() {
        let plain = json!({
            "id": "evt_1", "transaction": "t1", "user": "u1", "kind": "event", "effect": "grant"
        });
        let back = json!({
            "id": "evt_2", "transaction": "negative:t1", "user": "u1", "kind": "reversal",
            "effect": "revoke", "reverses": "t1"
        });
        let text = shown(&json!({ "events": [plain] }));
        assert!(text.contains("evt_1") && !text.contains("reverses"), "{text}");
        let text = shown(&json!({ "events": [back, plain] }));
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        let of = |name| lines[0].iter().position(|column| *column == name).unwrap();
        assert_eq!((lines[1][of("kind")], lines[1][of("reverses")]), ("reversal", "t1"));
        assert_eq!((lines[2][of("kind")], lines[2][of("reverses")]), ("event", "-"));
        assert_eq!((lines[1][of("effect")], lines[2][of("effect")]), ("revoke", "grant"));
    }

    #[test]
    fn a_row_says_how_far_its_deliveries_are() {
        let row = |id: &str, state: &str| json!({ "id": id, "delivery_state": state });
        let text = shown(&json!({ "events": [row("evt_1", "pending"), row("evt_2", "done")] }));
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        let at = lines[0].iter().position(|column| *column == "delivery_state").unwrap();
        assert_eq!((lines[1][at], lines[2][at]), ("pending", "done"));
    }

    #[test]
    fn a_number_that_no_reader_can_hold_hides_no_row() {
        let line = Line::try_parse_from(["postern"]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let answer = br#"{"events":[{"id":"evt_1","params":{"n":1e999}},{"id":"evt_2"}],"next_cursor":null}"#;
        line.events.show(answer, &mut Screen::plain(&mut out, &mut err)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("evt_1") && text.contains("evt_2"), "{text}");
    }

    #[test]
    fn callbacks_without_an_event_are_counted_with_the_command_that_shows_them() {
        let line = |args: &[&str]| {
            Line::try_parse_from([&["postern"][..], args].concat()).unwrap().events.which
        };
        let held = Claims { list: "held", word: "held", command: "postern held" };
        let one = line(&["--transaction", "11:33"]);
        let subject = one.subject().unwrap();
        let said = |count, next| held.sentence(count, next, &one, subject);
        assert_eq!(said(0, Next::End), None);
        assert_eq!(
            said(1, Next::End).unwrap(),
            "1 held callback claims this transaction: postern held --transaction 11:33"
        );
        assert!(said(2, Next::End).unwrap().starts_with("2 held callbacks claim this transaction"));
        assert!(said(100, Next::More).unwrap().starts_with("100 held callbacks or more claim"));
        // A reader pastes the command into a shell.
        let odd = line(&["--user", "it's $1", "--source", "level-end"]);
        let (subject, options) = (odd.subject().unwrap(), odd.options());
        assert_eq!(subject, "this user");
        assert_eq!(options, r" --source level-end --user 'it'\''s $1'");
        assert_eq!(line(&["--transaction=-1"]).options(), " --transaction=-1");
        assert_eq!(line(&["--source", "level-end"]).subject(), None);
    }

    #[test]
    fn a_value_cannot_write_over_other_rows() {
        let odd = json!({ "id": "evt_1", "user": "u\u{1b}[2K\r1" });
        assert!(shown(&json!({ "events": [odd] })).contains("u\u{fffd}[2K\u{fffd}1"));
    }
}
