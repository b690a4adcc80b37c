//! Rejected callbacks by reason, since the start.

use maud::{Markup, html};

use super::Scope;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::{badge, table, value};
use crate::console::fields::query;
use crate::console::lang::Lang;
use crate::console::text::texts;
use crate::sender::Reason;

texts! {
    TITLE = "Rejections by reason", "按原因统计的拒绝";
    CAPTION = "Since the start of this gateway", "自本网关启动以来";
    EMPTY = "No callback was rejected.", "没有被拒绝的回调。";
    REASON = "Reason", "原因";
    COUNT = "Callbacks", "回调";
}

/// The section about rejected callbacks.
pub fn section(console: &Console, lang: Lang, scope: &Scope<'_>) -> Markup {
    let gate = &console.tools.gate;
    let count = |reason| scope.names().map(|name| gate.refused(name, reason)).sum::<u64>();
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
        section aria-labelledby="rejections" {
            h2 #rejections { (TITLE.of(lang)) }
            (table::table(lang, CAPTION.of(lang), &[REASON, COUNT], &rows, EMPTY))
        }
    }
}
