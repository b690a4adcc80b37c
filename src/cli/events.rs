//! `postern events`: what a running gateway has recorded.

use std::io;

use clap::Args;
use serde_json::Value;

use super::client::{AdminApi, runtime};
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
    /// Of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// With this transaction.
    #[arg(long, value_name = "ID")]
    transaction: Option<String>,
    /// For this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Received at this time or later, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before this time, RFC 3339.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
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
        let given = [
            ("source", self.source.as_deref()),
            ("transaction", self.transaction.as_deref()),
            ("user", self.user.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("limit", Some(limit.as_str())),
        ];
        let pairs: Vec<_> =
            given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
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
            false => &["received_at", "source", "transaction", "user", "item", "amount", "id"],
        };
        let mut table = vec![keys.iter().map(|key| screen.out_paint.bold(key)).collect()];
        table.extend(rows.iter().map(|row| keys.iter().map(|key| cell(&row[*key])).collect()));
        write!(screen.out, "{}", columns(&table))?;
        if answer["next_cursor"].is_string() {
            writeln!(screen.out, "  … more: raise --limit, or narrow with --since and --until")?;
        }
        Ok(Exit::Done)
    }
}

/// A value as a cell. Control characters would write over other rows.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
