//! The overview: callbacks by source, refreshed automatically.

mod attention;
pub(super) mod backlog;
mod gateway;
pub(super) mod latency;
mod rejections;
mod sources;

use std::sync::Arc;
use std::time::{Duration, Instant};

use maud::{Markup, html};

use crate::clock::instant;
use crate::config::Config;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::chart::{self, Series};
use crate::console::components::facts::facts;
use crate::console::components::form::{self, Field};
use crate::console::components::{live, notice, time, value};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::LIVE;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::sender::Outcome;
use crate::telemetry::{History, Span, Took};

/// Refresh interval, in seconds.
const EVERY_S: u32 = 5;

texts! {
    TRAFFIC = "Traffic", "流量";
    ALL_CALLBACKS = "Callbacks of the last hour", "最近一小时的回调";
    SHARE = "Accepted or duplicate", "已接受或重复";
    LATENCY = "Latency p50, p99", "耗时 p50、p99";
    ATTEMPTS = "Delivery attempts of the last hour", "最近一小时的投递尝试";
    SUCCESS = "Successful", "成功率";
    DELIVERY_LATENCY = "Delivery latency p50, p99", "投递耗时 p50、p99";
    SOURCE = "Source", "来源";
    ALL_SOURCES = "All", "全部";
    SPAN = "Time range", "时间范围";
    HOUR = "last hour, by minute", "最近一小时，按分钟";
    DAYS = "last three days, by hour", "最近三天，按小时";
    SHOW = "Apply filter", "筛选";
    CHART = "Callbacks by outcome: {}", "按结果统计的回调：{}";
    OWN = "Counts and latencies are those of all gateways since {}. Those of other gateways are up to 10 s old.", "计数与耗时为所有网关自 {} 以来的数据，其他网关的数据最多有 10 秒延迟。";
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

    /// The histories of the sources.
    fn histories<'a>(&'a self, console: &'a Console) -> impl Iterator<Item = Arc<History>> + 'a {
        let kept = &console.tools.metrics.histories;
        self.names().filter_map(move |name| {
            let label = self.config.sources.get(name)?.label();
            kept.find(&label)
        })
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

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
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
        (live::frame(lang, &again, EVERY_S, &part))
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
    let lang = visit.lang;
    let since = time::time(console.tools.metrics.histories.since_ms());
    let stats = console.ledger().stats().await;
    html! {
        (attention::section(console, visit, &stats).await)
        (traffic(console, visit, scope))
        (sources::section(console, visit, scope).await)
        @if !console.view().is_bound() { (backlog::section(console, visit, &stats).await) }
        (rejections::section(console, lang, scope))
        @if !console.view().is_bound() { (gateway::section(console, visit, &stats).await) }
        (notice::with(notice::Tone::Plain, &OWN.fill_with(lang, &[since])))
    }
}

/// The last hour in figures, and the chart.
fn traffic(console: &Console, visit: &Visit, scope: &Scope<'_>) -> Markup {
    let lang = visit.lang;
    let histories: Vec<_> = scope.histories(console).collect();
    let attempts = &console.tools.metrics.attempts;
    let attempts: Vec<_> =
        scope.config.destinations.keys().filter_map(|name| attempts.find(name)).collect();
    let good = [Outcome::Accepted, Outcome::Duplicate];
    let calls = Figures::of(&histories, &good, scope.now);
    let mut all = vec![
        (ALL_CALLBACKS, html! { b { (value::count(calls.count)) } }),
        (SHARE, calls.share()),
        (LATENCY, calls.latency()),
    ];
    let chart =
        |of, histories: &[Arc<History>]| latency::chart(lang, of, histories, scope.span, scope.now);
    // Attempts belong to destinations: a filter by source leaves them out.
    let has_attempts = scope.source.is_none() && !console.view().is_bound();
    if has_attempts {
        let tries = Figures::of(&attempts, &[Outcome::Accepted], scope.now);
        all.extend([
            (ATTEMPTS, html! { b { (value::count(tries.count)) } }),
            (SUCCESS, tries.share()),
            (DELIVERY_LATENCY, tries.latency_in_ms()),
        ]);
    }
    html! {
        section aria-labelledby="traffic" {
            h2 #traffic { (TRAFFIC.of(lang)) }
            (choose(visit, scope))
            (super::sources::unknown(console, visit))
            div.figures-of-hour { (facts(lang, &all)) }
            (callbacks(console, lang, scope, &histories))
            div.sides {
                (chart(latency::Of::Callbacks, &histories))
                @if has_attempts { (chart(latency::Of::Attempts, &attempts)) }
            }
        }
    }
}

/// Counts and latencies of the last hour.
pub(super) struct Figures {
    pub count: u64,
    good: u64,
    took: Option<Took>,
}

impl Figures {
    pub(super) fn of(histories: &[Arc<History>], good: &[Outcome], now: Instant) -> Self {
        let sum = |outcome: Outcome| -> u64 {
            let counts = histories.iter().map(|one| one.counts(outcome, Span::Hour, now));
            counts.flatten().sum()
        };
        Self {
            count: Outcome::ALL.iter().map(|outcome| sum(*outcome)).sum(),
            good: good.iter().map(|outcome| sum(*outcome)).sum(),
            took: Took::over(histories.iter().map(|history| &**history), now),
        }
    }

    /// The share of good ones. Rounded down: 100 % means all.
    pub(super) fn share(&self) -> Markup {
        let tenths = self.good * 1000 / self.count.max(1);
        html! {
            @if self.count == 0 { (value::maybe(None)) } @else { b { (tenths / 10) "." (tenths % 10) " %" } }
        }
    }

    pub(super) fn latency(&self) -> Markup {
        self.latency_as(time::about)
    }

    /// Latencies of attempts, which are measured in whole milliseconds.
    pub(super) fn latency_in_ms(&self) -> Markup {
        self.latency_as(|took| match took.as_millis() {
            0 => time::millis(0),
            _ => time::about(took),
        })
    }

    fn latency_as(&self, shown: fn(Duration) -> String) -> Markup {
        html! {
            @match self.took {
                Some(took) => { b { (shown(took.p50)) ", " (shown(took.p99)) } },
                None => (value::maybe(None)),
            }
        }
    }
}

fn callbacks(
    console: &Console,
    lang: Lang,
    scope: &Scope<'_>,
    histories: &[Arc<History>],
) -> Markup {
    let kept = &console.tools.metrics.histories;
    let series = scope.series(&histories.iter().map(|history| &**history));
    let title = CHART.fill(lang, &[&scope.words().of(lang)]);
    let periods = i64::try_from(scope.span.periods()).unwrap_or(0);
    let first = kept.start().at_ms(scope.now) - (periods - 1) * scope.span.period_ms();
    let about = chart::About {
        title: &title,
        id: "chart",
        first_ms: first,
        period_ms: scope.span.period_ms(),
    };
    chart::bars(lang, about, &series)
}
