//! Rejected callbacks by reason, since counting began.

use maud::{Markup, html};

use super::Scope;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{badge, time, value};
use crate::console::fields::query;
use crate::console::lang::Lang;
use crate::console::text::texts;
use crate::sender::Reason;

texts! {
    TITLE = "Rejections by reason", "按原因统计的拒绝";
    SINCE = "On all gateways, since {}", "所有网关，自 {} 起";
    EMPTY = "No callback was rejected.", "没有被拒绝的回调。";
    REASON = "Reason", "原因";
    COUNT = "Callbacks", "回调";
}

/// The section about rejected callbacks.
pub(super) fn section(console: &Console, lang: Lang, scope: &Scope<'_>) -> Markup {
    let histories: Vec<_> = scope.histories(console).collect();
    let count = |reason| histories.iter().map(|history| history.rejected(reason)).sum::<u64>();
    let since = time::time(console.tools.metrics.histories.since_ms());
    let mut all: Vec<(u64, Reason)> = Reason::ALL
        .iter()
        .map(|reason| (count(*reason), *reason))
        .filter(|(n, _)| *n > 0)
        .collect();
    all.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let row = |(count, reason): &(u64, Reason)| {
        let mut pairs = vec![("reason", reason.as_str())];
        pairs.extend(scope.source.map(|source| ("source", source)));
        let link = format!("{}{}", Area::Callbacks.path(), query(&pairs));
        vec![html! { a href=(link) { (badge::reason(lang, *reason)) } }, value::number(*count)]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    html! {
        section.narrow aria-labelledby="rejections" {
            h2 #rejections { (TITLE.of(lang)) }
            p.hint { (SINCE.fill_with(lang, &[since])) }
            (DataTable::new(Caption::Hidden(TITLE.of(lang)), &[REASON, COUNT], EMPTY).show(lang, &rows))
        }
    }
}
