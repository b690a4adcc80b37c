//! Each source: last callback, callbacks by outcome, latency.

use maud::{Markup, html};

use super::Scope;
use crate::clock::now_ms;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::chart::{self, Series};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{badge, table, time, value};
use crate::console::fields::query;
use crate::console::pages::sources;
use crate::console::pulse::Pulse;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::SourceId;
use crate::sender::Outcome;

/// Sources per page.
const PAGE: usize = 25;

texts! {
    TITLE = "Sources", "来源";
    CAPTION = "Callbacks by source, {}; latencies of the last hour", "各来源的回调，{}；耗时为最近一小时";
    EMPTY = "No sources. Create one under Sources.", "尚无来源。请在“来源”页创建。";
    NAME = "Source", "来源";
    SENDER = "Sender", "发送方";
    SEEN = "Last callback", "最近一次回调";
    GAP = "Usual gap", "通常间隔";
    COUNTS = "Callbacks", "回调";
    NONE = "None", "无";
    P50 = "p50", "p50";
    P99 = "p99", "p99";
    COURSE = "Trend", "走势";
}

/// The section about the sources, paged by name.
pub(super) async fn section(console: &Console, visit: &Visit, scope: &Scope<'_>) -> Markup {
    let lang = visit.lang;
    let behind = visit.query.text("cursor");
    let mut names = scope.names().filter(|name| behind.is_none_or(|last| *name > last));
    let page: Vec<&str> = names.by_ref().take(PAGE).collect();
    let next = names.next().and_then(|_| page.last().copied());
    let mut rows = Vec::with_capacity(page.len());
    for name in &page {
        rows.push(row(console, visit, scope, name).await);
    }
    let columns = [NAME, SENDER, SEEN, GAP, COUNTS, P50, P99, COURSE];
    let caption = CAPTION.fill(lang, &[&scope.words().of(lang)]);
    html! {
        section aria-labelledby="sources" {
            h2 #sources { (TITLE.of(lang)) }
            (DataTable::new(Caption::Shown(&caption), &columns, EMPTY).show(lang, &rows))
            (table::pages(visit, next))
        }
    }
}

async fn row(console: &Console, visit: &Visit, scope: &Scope<'_>, name: &str) -> Vec<Markup> {
    let lang = visit.lang;
    let histories = &console.tools.metrics.histories;
    let label = scope.config.sources.get(name).map_or(name.into(), |source| source.label());
    let history = histories.find(&label);
    let series = scope.series(&history.iter().map(|history| &**history));
    let took = history.as_ref().and_then(|history| history.took(scope.now));
    let seen = history.as_ref().and_then(|history| history.last_ms());
    let pulse = match scope.config.sources.get(name) {
        Some(source) => {
            let id = SourceId::from(source.id.as_str());
            console.pulses().of(console.ledger(), &id).await.unwrap_or_default()
        }
        None => Pulse::default(),
    };
    // The store remembers the last event of all gateways, this one its last callback.
    let pulse = Pulse { last_ms: pulse.last_ms.max(seen), ..pulse };
    let now_ms = now_ms();
    let is_silent = pulse.silence(now_ms).is_some();
    let source = scope.config.sources.get(name);
    let link = sources::path_of(name);
    let listed = format!("{}{}", Area::Callbacks.path(), query(&[("source", name)]));
    let sender = source.map(|source| source.recipe.sender().name());
    let time_of = |took: Option<std::time::Duration>| {
        html! {
            @match took { Some(took) => span.nowrap { (time::about(took)) }, None => (value::maybe(None)) }
        }
    };
    vec![
        html! { a href=(link) { (value::short(name)) } },
        value::maybe(sender),
        html! {
            @match pulse.last_ms {
                Some(ms) if is_silent => b.badge.bad { (time::ago(lang, ms, now_ms)) },
                Some(ms) => (time::ago(lang, ms, now_ms)),
                None => (value::maybe(None)),
            }
        },
        html! { @match pulse.gap { Some(gap) => (time::gap(lang, gap)), None => (value::maybe(None)) } },
        html! { a href=(listed) { (counts(visit, &series)) } },
        time_of(took.map(|took| took.p50)),
        time_of(took.map(|took| took.p99)),
        chart::spark(&series),
    ]
}

fn counts(visit: &Visit, series: &[Series]) -> Markup {
    let sums =
        series.iter().zip(Outcome::ALL).map(|(one, of)| (one.values.iter().sum::<u64>(), *of));
    let some: Vec<_> = sums.filter(|(sum, _)| *sum > 0).collect();
    html! {
        @for (sum, outcome) in &some { (badge::outcomes(visit.lang, *outcome, *sum)) " " }
        @if some.is_empty() { span.absent { (NONE.of(visit.lang)) } }
    }
}
