//! Latencies over time: p50 and p99 of callbacks or of delivery attempts.

use std::sync::Arc;
use std::time::Instant;

use maud::Markup;

use crate::clock::now_ms;
use crate::console::components::chart::{self, Line};
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::telemetry::{History, Span, Took};

texts! {
    CALLBACKS = "Latency of callbacks", "回调耗时";
    ATTEMPTS = "Latency of delivery attempts", "投递尝试耗时";
    HOUR = "{}: last hour, by ten minutes", "{}：最近一小时，按十分钟";
    DAYS = "{}: last three days, by three hours", "{}：最近三天，按三小时";
    P50 = "p50", "p50";
    P99 = "p99", "p99";
}

/// The calls that are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Callbacks,
    Attempts,
}

impl Of {
    const fn text(self) -> Text {
        match self {
            Self::Callbacks => CALLBACKS,
            Self::Attempts => ATTEMPTS,
        }
    }

    /// The id on the page.
    const fn id(self) -> &'static str {
        match self {
            Self::Callbacks => "latency-of-callbacks",
            Self::Attempts => "latency-of-attempts",
        }
    }
}

/// The chart of the latencies in `histories` over `span`.
pub(crate) fn chart(
    lang: Lang,
    of: Of,
    histories: &[Arc<History>],
    span: Span,
    now: Instant,
) -> Markup {
    let took = Took::over_time(histories.iter().map(|history| &**history), span, now);
    let words = match span {
        Span::Hour => HOUR,
        Span::Days => DAYS,
    };
    let title = words.fill(lang, &[&of.text().of(lang)]);
    let periods = i64::try_from(span.latency_periods()).unwrap_or(1);
    let about = chart::About {
        title: &title,
        id: of.id(),
        first_ms: now_ms() - (periods - 1) * span.latency_period_ms(),
        period_ms: span.latency_period_ms(),
    };
    let line = |class, name, read: fn(&Took) -> std::time::Duration| Line {
        class,
        name,
        values: took.iter().map(|took| took.as_ref().map(read)).collect(),
    };
    let lines = [line("p99", P99, |took| took.p99), line("p50", P50, |took| took.p50)];
    chart::lines(lang, about, &lines)
}
