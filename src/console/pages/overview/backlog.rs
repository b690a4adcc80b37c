//! The backlog of each destination.

use maud::{Markup, html};

use super::Figures;
use crate::clock::instant;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::query;
use crate::console::pages::destinations;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{LedgerError, Stats, TargetId};
use crate::sender::Outcome;

/// Most destinations shown; with more, only those with a backlog.
const SHOWN_MAX: usize = 50;

texts! {
    TITLE = "Destinations", "投递目标";
    CAPTION = "Unsettled deliveries; with more than 50 destinations, only those with a backlog", "未完成的投递；超过 50 个目标时仅显示有积压的目标";
    EMPTY = "No destinations. Create one under Destinations.", "尚无投递目标。请在“投递目标”页创建。";
    NAME = "Destination", "目标";
    PENDING = "Pending", "待投递";
    DEAD = "Dead", "死信";
    OLDEST = "Oldest due", "最早到期";
    STATE = "State", "状态";
    RATE = "Successful attempts, last hour", "最近一小时成功率";
    LATENCY = "p50, p99", "p50、p99";
}

/// The section about destinations.
pub(super) async fn section(
    console: &Console,
    visit: &Visit,
    stats: &Result<Stats, LedgerError>,
) -> Markup {
    let lang = visit.lang;
    let config = console.config();
    let nothing = Vec::new();
    let known = stats.as_ref().map_or(&nothing, |stats| &stats.targets);
    let of = |name: &str| known.iter().find(|target| target.target.as_str() == name);
    let few = config.destinations.len() <= SHOWN_MAX;
    let own =
        config.destinations.keys().map(String::as_str).filter(|name| few || of(name).is_some());
    // Removed destinations may still have deliveries.
    let gone = known.iter().map(|target| target.target.as_str());
    let gone = gone.filter(|name| !config.destinations.contains_key(*name));
    let names: Vec<&str> = own.chain(gone).take(SHOWN_MAX).collect();
    let mut rows = Vec::with_capacity(names.len());
    for name in names {
        let target = of(name);
        let condition = console.tools.control.condition(&TargetId::from(name)).await;
        let history: Vec<_> = console.tools.metrics.attempts.find(name).into_iter().collect();
        let figures = Figures::of(&history, &[Outcome::Accepted], instant());
        let due = target.and_then(|target| target.oldest_due);
        rows.push(vec![
            html! { a href=(destinations::path_of(name)) { (value::short(name)) } },
            destinations::state(lang, condition.as_ref()),
            waiting(name, target.map_or(0, |target| target.pending)),
            dead(name, target.map_or(0, |target| target.dead)),
            html! { @match due { Some(due) => (time::length(lang, due)), None => (value::maybe(None)) } },
            figures.share(),
            figures.latency_in_ms(),
        ]);
    }
    html! {
        section aria-labelledby="backlog" {
            h2 #backlog { (TITLE.of(lang)) }
            (DataTable::new(Caption::Shown(CAPTION.of(lang)), &[NAME, STATE, PENDING, DEAD, OLDEST, RATE, LATENCY], EMPTY).show(lang, &rows))
        }
    }
}

/// The pending deliveries, with a link to their events.
pub(crate) fn waiting(name: &str, pending: u64) -> Markup {
    match pending {
        0 => value::number(0),
        pending => {
            let asked = query(&[("state", "pending"), ("destination", name)]);
            html! { a href={ (Area::Callbacks.path()) (asked) } { (value::number(pending)) } }
        }
    }
}

/// The dead deliveries, with a link to them.
pub(crate) fn dead(name: &str, dead: u64) -> Markup {
    match dead {
        0 => value::number(0),
        dead => html! {
            a href={ (Area::DeadLetters.path()) (query(&[("destination", name)])) } { (value::number(dead)) }
        },
    }
}
