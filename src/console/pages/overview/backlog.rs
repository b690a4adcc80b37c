//! The backlog of each destination.

use maud::{Markup, html};

use crate::console::app::Console;
use crate::console::components::{table, time, value};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::delivery::{BreakerState, Condition};
use crate::ledger::{LedgerError, Stats, TargetId};

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
    PAUSED = "Paused", "已暂停";
    OPEN = "Open", "已熔断";
    TRYING = "Half-open", "试探中";
    WELL = "Active", "正常";
}

/// The section about destinations.
pub async fn section(
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
        let due = target.and_then(|target| target.oldest_due);
        rows.push(vec![
            value::short(name),
            html! { (target.map_or(0, |target| target.pending)) },
            html! { (target.map_or(0, |target| target.dead)) },
            html! { @match due { Some(due) => (time::length(lang, due)), None => (value::maybe(None)) } },
            html! { @match condition { Some(one) => (word(&one).of(lang)), None => (value::maybe(None)) } },
        ]);
    }
    html! {
        section aria-labelledby="backlog" {
            h2 #backlog { (TITLE.of(lang)) }
            (table::table(lang, CAPTION.of(lang), &[NAME, PENDING, DEAD, OLDEST, STATE], &rows, EMPTY))
        }
    }
}

fn word(condition: &Condition) -> Text {
    match (&condition.paused, condition.breaker) {
        (Some(_), _) => PAUSED,
        (None, BreakerState::Open) => OPEN,
        (None, BreakerState::HalfOpen) => TRYING,
        (None, BreakerState::Closed) => WELL,
    }
}
