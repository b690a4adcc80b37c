//! Counts of the deliveries that an order made, by their present state.

use maud::{Markup, html};

use super::value;
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::orders::{OrderState, Outcome};

texts! {
    DELIVERED = "Delivered", "已投递";
    WAITING = "Still waiting", "待投递";
    GONE = "Events no longer kept", "不再保留的事件";
    OPEN = "Deliveries are in progress. Those that fail for good become dead letters.", "投递正在进行。最终失败的会成为死信。";
    FURTHER = "Events that are not counted", "未计入的事件";
}

/// The numbers, for a list of facts. `dead` names those that were dead-lettered.
pub(crate) fn numbers(outcome: &Outcome, dead: Text) -> Vec<(Text, Markup)> {
    let Outcome { counts, further } = outcome;
    let always = [(DELIVERED, counts.done), (dead, counts.dead), (WAITING, counts.pending)];
    let seldom = [(GONE, counts.gone), (FURTHER, *further)];
    let seldom = seldom.into_iter().filter(|(_, count)| *count > 0);
    let all = always.into_iter().chain(seldom);
    all.map(|(name, count)| (name, html! { b { (value::count(count)) } })).collect()
}

/// Whether a delivery still waits, so the numbers will change.
pub(crate) fn is_open(outcome: Option<&Outcome>) -> bool {
    outcome.is_some_and(|outcome| outcome.counts.pending > 0)
}

/// Refresh interval of the script on the page of an order, in seconds.
pub(crate) const EVERY_S: u32 = 1;

/// The least seconds between two refreshes with these counts: counting 10,000 events costs the store
/// some tens of milliseconds.
pub(crate) fn pace_s(outcome: Option<&Outcome>) -> u64 {
    const DELIVERIES_A_SECOND: u64 = 2_000;
    let counted = outcome.map_or(0, |Outcome { counts, .. }| {
        counts.done + counts.dead + counts.pending + counts.gone
    });
    u64::from(EVERY_S) + counted / DELIVERIES_A_SECOND
}

/// Why the numbers change while the page is open.
pub(crate) fn hint(lang: Lang, outcome: Option<&Outcome>) -> Markup {
    html! { @if is_open(outcome) { p { (OPEN.of(lang)) } } }
}

/// The state of an order.
pub(crate) fn badge(visit: &Visit, state: &OrderState) -> Markup {
    let (class, word) = match state {
        OrderState::Running => ("pending", Text::new("Running", "进行中")),
        OrderState::Done => ("done", Text::new("Done", "已完成")),
        OrderState::Cancelled => ("conflict", Text::new("Cancelled", "已取消")),
        OrderState::Failed(_) => ("dead", Text::new("Failed", "失败")),
        OrderState::Interrupted => ("dead", Text::new("Interrupted", "已中断")),
    };
    html! { span.badge.(class) title=(state.as_str()) { (word.of(visit.lang)) } }
}
