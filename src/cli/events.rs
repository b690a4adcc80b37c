//! `postern events`: what a running gateway has recorded.

use std::collections::BTreeMap;
use std::io;

use clap::Args;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{AdminApi, runtime};
use super::event_selector::EventSelector;
use super::{ConfigFile, Exit, Screen, columns};

/// List recorded events, or show one: "where is my reward?"
#[derive(Args, Debug)]
#[command(
    long_about = "List recorded events, or show one: \"where is my reward?\"\n\n\
        Asks the gateway that runs with the same configuration. Recorded events are listed, newest \
        first; what was rejected is in `postern events --rejected`. With an ID the event is shown \
        with its deliveries and their attempts.",
    after_help = "Examples:\n  \
        postern events --config postern.toml --user player-7\n  \
        postern events --config postern.toml --source level-end --since 2026-01-02T00:00:00Z\n  \
        postern events --config postern.toml --rejected\n  \
        postern events --config postern.toml evt_0190… | jq .deliveries"
)]
pub(super) struct Events {
    #[command(flatten)]
    config: ConfigFile,
    /// The event to show.
    id: Option<String>,
    #[command(flatten)]
    which: EventSelector,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,
    /// The rejected callbacks instead, with their reasons. What they say is not verified.
    #[arg(long, conflicts_with = "id")]
    rejected: bool,
    /// JSON, one object a line.
    #[arg(long)]
    json: bool,
}

impl Events {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let api = AdminApi::of(&loaded.config);
        match runtime()?.block_on(api.fetch(&self.path())) {
            Ok(came) => self.show(&came.body, screen),
            Err(sentence) => {
                writeln!(screen.err, "{sentence}")?;
                Ok(Exit::Failed)
            }
        }
    }

    fn path(&self) -> String {
        if let Some(id) = &self.id {
            return format!("/admin/v1/events/{id}");
        }
        let list = if self.rejected { "rejections" } else { "events" };
        let limit = self.limit.to_string();
        let pairs: Vec<_> = self.which.pairs().chain([("limit", limit.as_str())]).collect();
        let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
        format!("/admin/v1/{list}?{query}")
    }

    /// Rows are read member by member: one event with a number that no reader can hold must not hide
    /// the others.
    fn show(&self, answer: &[u8], screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.id.is_some() {
            match serde_json::from_slice::<Value>(answer) {
                Ok(event) => writeln!(screen.out, "{event:#}")?,
                Err(_) => writeln!(screen.out, "{}", String::from_utf8_lossy(answer))?,
            }
            return Ok(Exit::Done);
        }
        let list = if self.rejected { "rejections" } else { "events" };
        let Some((rows, next)) = page(answer, list) else {
            writeln!(screen.err, "the gateway returned a list that cannot be read")?;
            return Ok(Exit::Failed);
        };
        if self.json {
            for (row, _) in rows {
                writeln!(screen.out, "{row}")?;
            }
            return Ok(Exit::Done);
        }
        let keys: &[&str] = match self.rejected {
            true => &["at", "source", "reason", "parameter", "client", "held", "id"],
            false => &[
                "received_at",
                "source",
                "transaction",
                "user",
                "item",
                "amount",
                "kind",
                "effect",
                "reverses",
                "id",
            ],
        };
        let has = |row: &Row<'_>, key: &str| row.1.get(key).is_some_and(|one| one.get() != "null");
        let is_shown = |key: &&str| !SELDOM.contains(key) || rows.iter().any(|row| has(row, key));
        let keys: Vec<&str> = keys.iter().copied().filter(is_shown).collect();
        let mut table = vec![keys.iter().map(|key| screen.out_paint.bold(key)).collect()];
        let cells = |row: &Row<'_>| keys.iter().map(|key| cell(row.1.get(*key))).collect();
        table.extend(rows.iter().map(cells));
        write!(screen.out, "{}", columns(&table))?;
        if next == Next::More {
            writeln!(screen.out, "  … more: raise --limit, or narrow with --since and --until")?;
        }
        Ok(Exit::Done)
    }
}

/// A row as it came, and its members.
type Row<'a> = (&'a str, BTreeMap<String, &'a RawValue>);

/// Whether there are further rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    End,
}

/// The rows of `answer`, a page of a list.
fn page<'a>(answer: &'a [u8], list: &str) -> Option<(Vec<Row<'a>>, Next)> {
    let page: BTreeMap<String, &RawValue> = serde_json::from_slice(answer).ok()?;
    let rows: Vec<&RawValue> = serde_json::from_str(page.get(list)?.get()).ok()?;
    let row = |row: &'a RawValue| Some((row.get(), serde_json::from_str(row.get()).ok()?));
    let is_more = page.get("next_cursor").is_some_and(|cursor| cursor.get().starts_with('"'));
    let next = if is_more { Next::More } else { Next::End };
    Some((rows.into_iter().map(row).collect::<Option<_>>()?, next))
}

/// Columns that are left out where no row has them: most senders take nothing back, and rows of older
/// versions may lack an effect.
const SELDOM: [&str; 3] = ["kind", "effect", "reverses"];

/// A value as a cell. Control characters would write over other rows.
fn cell(value: Option<&&RawValue>) -> String {
    let text = match value.map(|value| value.get()) {
        None | Some("null") => String::from("-"),
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
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
    fn a_number_that_no_reader_can_hold_hides_no_row() {
        let line = Line::try_parse_from(["postern"]).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let answer = br#"{"events":[{"id":"evt_1","params":{"n":1e999}},{"id":"evt_2"}],"next_cursor":null}"#;
        line.events.show(answer, &mut Screen::plain(&mut out, &mut err)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("evt_1") && text.contains("evt_2"), "{text}");
    }

    #[test]
    fn a_value_cannot_write_over_other_rows() {
        let odd = json!({ "id": "evt_1", "user": "u\u{1b}[2K\r1" });
        assert!(shown(&json!({ "events": [odd] })).contains("u\u{fffd}[2K\u{fffd}1"));
    }
}
