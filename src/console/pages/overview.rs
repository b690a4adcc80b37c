//! The overview: callbacks by source, refreshed automatically.

mod backlog;
mod gateway;
mod rejections;
mod sources;

use std::time::Instant;

use maud::{Markup, html};

use crate::clock::{instant, rfc3339};
use crate::config::Config;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::chart::{self, Series};
use crate::console::components::form::{self, Field};
use crate::console::components::notice;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::LIVE;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::sender::Outcome;
use crate::telemetry::{History, Span};

/// Refresh interval, in seconds.
const EVERY_S: u32 = 5;

texts! {
    PAUSE = "Pause updates", "暂停更新";
    SOURCE = "Source", "来源";
    ALL_SOURCES = "All", "全部";
    SPAN = "Time range", "时间范围";
    HOUR = "last hour, by minute", "最近一小时，按分钟";
    DAYS = "last three days, by hour", "最近三天，按小时";
    SHOW = "Apply filter", "筛选";
    CHART = "Callbacks by outcome", "按结果统计的回调";
    NOW = "now", "现在";
    OWN = "Counts and latencies are those of this gateway since its start on {} UTC.", "计数与耗时仅为本网关自 {} UTC 启动以来的数据。";
}

/// Sources and time range of the overview.
struct Scope<'c> {
    config: &'c Config,
    /// One source, or all.
    source: Option<&'c str>,
    span: Span,
    now: Instant,
}

impl<'c> Scope<'c> {
    fn of(visit: &'c Visit, config: &'c Config) -> Self {
        let span = match visit.query.text("span") {
            Some("days") => Span::Days,
            _ => Span::Hour,
        };
        let named = visit.query.text("source");
        let source = named.filter(|name| config.sources.contains_key(*name));
        Self { config, source, span, now: instant() }
    }

    /// The names of the sources.
    fn names(&self) -> impl Iterator<Item = &'c str> {
        let wanted = self.source;
        let all = self.config.sources.keys().map(String::as_str);
        all.filter(move |name| wanted.is_none_or(|wanted| wanted == *name))
    }

    /// The callbacks of `histories` by outcome.
    fn series<'h>(&self, histories: &(impl Iterator<Item = &'h History> + Clone)) -> Vec<Series> {
        let of = |outcome: &Outcome| {
            let mut values = vec![0; self.span.periods()];
            for history in histories.clone() {
                history.add_to(&mut values, *outcome, self.span, self.now);
            }
            Series { class: outcome.as_str(), name: words::outcome(*outcome), values }
        };
        Outcome::ALL.iter().map(of).collect()
    }

    fn words(&self) -> Text {
        match self.span {
            Span::Hour => HOUR,
            Span::Days => DAYS,
        }
    }
}

pub async fn get(console: &Console, visit: &Visit) -> PageResult {
    let config = console.config();
    let scope = Scope::of(visit, &config);
    // Links of the refreshed part lead to the whole page.
    let page = Visit { path: Area::Overview.path().to_owned(), ..visit.clone() };
    let part = part(console, &page, &scope).await;
    match visit.rest().as_slice() {
        [] => {}
        [last] if *last == LIVE => return Ok(Reply::Fragment(part)),
        _ => return Err(PageError::Absent),
    }
    let lang = visit.lang;
    let again = format!("/console/overview/{LIVE}{}", visit.query.as_query());
    let middle = html! {
        (choose(visit, &scope))
        p { button.quiet type="button" data-pause="live" aria-pressed="false" hidden { (PAUSE.of(lang)) } }
        div #live data-live=(again) data-every=(EVERY_S) { (part) }
    };
    Ok(Reply::Page(Area::Overview.title().of(lang).to_owned(), middle))
}

fn choose(visit: &Visit, scope: &Scope<'_>) -> Markup {
    let lang = visit.lang;
    let names: Vec<&str> = scope.config.sources.keys().map(String::as_str).collect();
    let spans = [("hour", HOUR.of(lang)), ("days", DAYS.of(lang))];
    let span = if scope.span == Span::Days { "days" } else { "hour" };
    let source = scope.source.unwrap_or_default();
    form::ask(
        Area::Overview.path(),
        &html! {
            (Field { value: source, ..Field::new("source", SOURCE) }.show_pick(lang, ALL_SOURCES, &names))
            (Field { value: span, ..Field::new("span", SPAN) }.show_choice(lang, &spans))
            button type="submit" { (SHOW.of(lang)) }
        },
    )
}

/// The part that the script refreshes.
async fn part(console: &Console, visit: &Visit, scope: &Scope<'_>) -> Markup {
    let (lang, histories) = (visit.lang, &console.tools.metrics.histories);
    let since = rfc3339(histories.start().ms());
    let since = since.get(..19).unwrap_or(&since).replace('T', " ");
    let stats = console.ledger().stats().await;
    html! {
        (gateway::section(console, visit, &stats).await)
        (callbacks(console, lang, scope))
        (sources::section(console, visit, scope))
        (rejections::section(console, lang, scope))
        (backlog::section(console, visit, &stats).await)
        (notice::notice(notice::Tone::Plain, &OWN.fill(lang, &[&since])))
    }
}

fn callbacks(console: &Console, lang: Lang, scope: &Scope<'_>) -> Markup {
    let kept = &console.tools.metrics.histories;
    let histories: Vec<_> = scope.names().filter_map(|name| kept.find(name)).collect();
    let series = scope.series(&histories.iter().map(|history| &**history));
    let title = format!("{}: {}", CHART.of(lang), scope.words().of(lang));
    let periods = i64::try_from(scope.span.periods()).unwrap_or(0);
    let first = kept.start().at_ms(scope.now) - (periods - 1) * scope.span.period_ms();
    let stamp = rfc3339(first);
    let begin = stamp.get(..16).unwrap_or(&stamp).replace('T', " ");
    let about = chart::About { title: &title, id: "chart", ends: (&begin, NOW.of(lang)) };
    chart::bars(lang, about, &series)
}
