//! `postern events`: what a running gateway has recorded.

use std::io;

use clap::Args;
use serde_json::Value;

use super::client::{AdminApi, runtime};
use super::which::Which;
use super::{ConfigFile, Exit, Screen, columns};

/// List recorded events, or show one: "where is my reward?"
#[derive(Args, Debug)]
#[command(
    long_about = "List recorded events, or show one: \"where is my reward?\"\n\n\
        Asks the gateway that runs with the same configuration. Recorded events are listed, newest \
        first; what was refused is in `postern events --rejected`. With an ID the event is shown \
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
    which: Which,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,
    /// The refused callbacks instead, with their reasons.
    #[arg(long, conflicts_with_all = ["id", "transaction", "user"])]
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
        match runtime()?.block_on(api.get(&self.path())) {
            Ok(answer) => self.show(&answer, screen),
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

    fn show(&self, answer: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.id.is_some() {
            writeln!(screen.out, "{answer:#}")?;
            return Ok(Exit::Done);
        }
        let list = if self.rejected { "rejections" } else { "events" };
        let rows = answer[list].as_array().map(Vec::as_slice).unwrap_or_default();
        if self.json {
            for row in rows {
                writeln!(screen.out, "{row}")?;
            }
            return Ok(Exit::Done);
        }
        let keys: &[&str] = match self.rejected {
            true => &["at", "source", "reason", "parameter", "client"],
            false => &[
                "received_at",
                "source",
                "transaction",
                "user",
                "item",
                "amount",
                "kind",
                "reverses",
                "id",
            ],
        };
        let is_shown =
            |key: &&str| !SELDOM.contains(key) || rows.iter().any(|row| !row[key].is_null());
        let keys: Vec<&str> = keys.iter().copied().filter(is_shown).collect();
        let mut table = vec![keys.iter().map(|key| screen.out_paint.bold(key)).collect()];
        table.extend(rows.iter().map(|row| keys.iter().map(|key| cell(&row[*key])).collect()));
        write!(screen.out, "{}", columns(&table))?;
        if answer["next_cursor"].is_string() {
            writeln!(screen.out, "  … more: raise --limit, or narrow with --since and --until")?;
        }
        Ok(Exit::Done)
    }
}

/// Columns that are left out where no row has them: most senders know no kinds and take nothing back.
const SELDOM: [&str; 2] = ["kind", "reverses"];

/// A value as a cell. Control characters would write over other rows.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
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
        line.events.show(answer, &mut Screen::plain(&mut out, &mut err)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_takes_a_reward_back_says_so_and_others_have_no_empty_columns() {
        let plain = json!({ "id": "evt_1", "transaction": "t1", "user": "u1" });
        let back = json!({
            "id": "evt_2", "transaction": "negative:t1", "user": "u1", "kind": "reversal", "reverses": "t1"
        });
        let text = shown(&json!({ "events": [plain] }));
        assert!(text.contains("evt_1") && !text.contains("reverses"), "{text}");
        let text = shown(&json!({ "events": [back, plain] }));
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        let of = |name| lines[0].iter().position(|column| *column == name).unwrap();
        assert_eq!((lines[1][of("kind")], lines[1][of("reverses")]), ("reversal", "t1"));
        assert_eq!((lines[2][of("kind")], lines[2][of("reverses")]), ("-", "-"));
    }

    #[test]
    fn a_value_cannot_write_over_other_rows() {
        let odd = json!({ "id": "evt_1", "user": "u\u{1b}[2K\r1" });
        assert!(shown(&json!({ "events": [odd] })).contains("u\u{fffd}[2K\u{fffd}1"));
    }
}
