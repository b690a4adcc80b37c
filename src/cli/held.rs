//! `postern held`: callbacks that wait for a person, shown and decided.

use std::collections::BTreeSet;
use std::io;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::event_selector::EventSelector;
use super::events::{print_members, text};
use super::names;
use super::rows::{Columns, Page, printable, printable_json, rows_of_a_page};
use super::{ConfigFile, Exit, Screen, columns};

/// List callbacks that wait for a decision, show one, release or drop one
#[derive(Args, Debug)]
#[command(
    long_about = "List callbacks that wait for a decision, show one, release or drop one.\n\n\
        Held are verified callbacks that dispute an event (conflict, ambiguous), and rejected ones \
        in the quarantine of their source. None is delivered before its release. With an ID one is \
        shown, next to the event that it disputes. A release makes an event of it, with its \
        original time; one that never verified needs a --reason. What is dropped is never \
        delivered. Both are in the audit log. `postern release` releases all of a source's \
        quarantine that verify by now, and `postern explain --rejection ID` says why one does not.",
    after_help = "Examples:\n  \
        postern held\n  \
        postern held --transaction 11:33\n  \
        postern held ref_0190…\n  \
        postern held release ref_0190… --reason 'confirmed by the platform'\n  \
        postern held drop ref_0190… --reason 'paid already'"
)]
pub(super) struct Held {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    act: Option<Act>,
    /// Held callback to show
    #[arg(conflicts_with_all = ["source", "transaction", "user", "since", "until", "why"])]
    id: Option<String>,
    #[command(flatten)]
    which: EventSelector,
    /// Only those that are held for this
    #[arg(long)]
    why: Option<Why>,
    /// Maximum number of rows
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = rows_of_a_page())]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Make an event of a held callback and deliver it; --reason says why
    Release(Decision),
    /// Never deliver a held callback; --reason says why
    Drop(Decision),
}

#[derive(Args, Debug)]
struct Decision {
    /// The held callback
    id: String,
    /// Why, for the audit log; required to release a callback that never verified
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Why a callback is held.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Why {
    Quarantine,
    Ambiguous,
    Conflict,
}

impl Why {
    /// The name in the admin API.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Ambiguous => "ambiguous",
            Self::Conflict => "conflict",
        }
    }
}

impl Held {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if let Err(sentence) = self.check() {
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        match (&self.act, &self.id) {
            (Some(act), _) => self.decide(&api, act, screen),
            (None, Some(id)) => self.show(&api, id, screen),
            (None, None) => self.list(&api, screen),
        }
    }

    /// Checks what the parser of the command line cannot.
    fn check(&self) -> Result<(), String> {
        let Some(Act::Release(order) | Act::Drop(order)) = &self.act else {
            return self.id.as_deref().map_or(Ok(()), names::check_held);
        };
        let is_narrowed = self.why.is_some() || self.which.pairs().next().is_some();
        if self.id.is_some() || is_narrowed {
            return Err(String::from(
                "release and drop decide about one callback: give its id, and no filter",
            ));
        }
        names::check_held(&order.id)
    }

    fn decide(&self, api: &AdminApi, act: &Act, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let (order, action) = match act {
            Act::Release(order) => (order, "release"),
            Act::Drop(order) => (order, "drop"),
        };
        let path = format!("/admin/v1/held/{}/{action}", order.id);
        let question = order.reason.as_ref().map_or(json!({}), |why| json!({ "reason": why }));
        match runtime()?.block_on(api.post(&path, &question)) {
            Ok(answer) if self.config.json => writeln!(screen.out, "{answer}")?,
            Ok(answer) => writeln!(screen.out, "{}", decided(&answer))?,
            Err(sentence) => return screen.fail(&sentence),
        }
        Ok(Exit::Done)
    }

    fn show(&self, api: &AdminApi, id: &str, screen: &mut Screen<'_>) -> io::Result<Exit> {
        match runtime()?.block_on(api.get(&format!("/admin/v1/held/{id}"))) {
            Ok(one) if self.config.json => {
                writeln!(screen.out, "{}", printable_json(&format!("{one:#}")))?;
            }
            Ok(one) => {
                print_members(&one, &["roles", "first_roles"], screen)?;
                print_sides(&one, screen)?;
            }
            Err(sentence) => return screen.fail(&sentence),
        }
        Ok(Exit::Done)
    }

    fn list(&self, api: &AdminApi, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let runtime = runtime()?;
        let limit = self.limit.to_string();
        let why = self.why.map(|why| ("why", why.as_str()));
        let pairs: Vec<_> = self.which.pairs().chain(why).chain([("limit", &*limit)]).collect();
        let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
        let came = match runtime.block_on(api.fetch(&format!("/admin/v1/held?{query}"))) {
            Ok(came) => came,
            Err(sentence) => return screen.fail(&sentence),
        };
        let Some(page) = Page::read(&came.body, "held") else {
            return screen.fail(&"the gateway returned a list that cannot be read");
        };
        // A misspelled name must not look like "nothing is held".
        if page.rows.is_empty()
            && let Err(error) = runtime.block_on(self.which.check(api))
        {
            return error.tell(screen);
        }
        let columns = Columns {
            keys: &["received_at", "why", "source", "reason", "transaction", "user", "first", "id"],
            seldom: &["reason", "user", "first"],
            nothing: "no held callback matches",
            narrow: "raise --limit, or narrow with --source, --why, --since and --until",
            as_json: self.config.json,
        };
        page.print(&columns, screen)
    }
}

/// The result of a decision, for people.
fn decided(answer: &Value) -> String {
    let [decision, id] = ["decision", "id"].map(|name| text(&answer[name]));
    match answer["event"].as_str() {
        Some(event) => format!("{decision}: {id}, event {event}"),
        None => format!("{decision}: {id}"),
    }
}

/// The values of a held callback next to those of the event that it disputes.
fn print_sides(one: &Value, screen: &mut Screen<'_>) -> io::Result<()> {
    let sides = ["roles", "first_roles"].map(|name| one[name].as_object());
    let names: BTreeSet<&String> = sides.iter().flatten().flat_map(|side| side.keys()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let head = ["role", "this callback", "existing event"];
    let mut rows = vec![head.map(|title| screen.out_paint.bold(title)).to_vec()];
    for name in names {
        let value = |side: &Option<&serde_json::Map<String, Value>>| {
            side.and_then(|side| side.get(name)).map_or_else(|| String::from("-"), text)
        };
        rows.push([vec![printable(name)], sides.iter().map(value).collect()].concat());
    }
    write!(screen.out, "\n{}", columns(&rows))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        held: Held,
    }

    fn held(args: &[&str]) -> Held {
        Line::try_parse_from([&["postern"][..], args].concat()).unwrap().held
    }

    const ID: &str = "ref_00000000000000000000000000000001";

    #[test]
    fn an_argument_is_an_id_unless_it_is_an_action() {
        assert_eq!(held(&[ID]).id.as_deref(), Some(ID));
        let order = held(&["--json", "release", ID, "--reason", "confirmed"]);
        assert!(
            matches!(&order.act, Some(Act::Release(one)) if one.id == ID && order.id.is_none())
        );
        assert_eq!(order.check(), Ok(()));
        assert_eq!(held(&["--user", "u1"]).check(), Ok(()));
        for wrong in [&["tr-1"][..], &["drop", "tr-1"], &["--user", "u1", "drop", ID]] {
            assert!(held(wrong).check().is_err(), "{wrong:?}");
        }
        assert!(Line::try_parse_from(["postern", ID, "--user", "u1"]).is_err());
    }

    #[test]
    fn both_sides_of_a_dispute_are_next_to_each_other() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let one = json!({
            "roles": { "amount": "70", "user": "u2" },
            "first_roles": { "amount": "10", "item": "coin" },
        });
        print_sides(&one, &mut Screen::plain(&mut out, &mut err)).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\n  role    this callback  existing event\n  \
             amount  70             10\n  \
             item    -              coin\n  \
             user    u2             -\n"
        );
    }

    #[test]
    fn a_decision_names_its_event() {
        let released = json!({ "id": "ref_1", "decision": "released", "event": "evt_1" });
        assert_eq!(decided(&released), "released: ref_1, event evt_1");
        let dropped = json!({ "id": "ref_1", "decision": "dropped" });
        assert_eq!(decided(&dropped), "dropped: ref_1");
    }
}
