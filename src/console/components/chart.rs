//! Charts: SVG without a script, with axes, and each with its figures as a table.

use std::time::Duration;

use maud::{Markup, html};

use super::time;
use super::value::{count, maybe, number};
use crate::clock::{UnixMillis, rfc3339};
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};

texts! {
    FIGURES = "Figures", "数据";
    AS_TABLE = "Figures as a table", "以表格显示数据";
    PERIOD = "Period", "时段";
    UNTIL_NOW = "now", "现在";
    NO_DATA = "Nothing in this time range.", "该时段内没有数据。";
}

/// Height of a drawing and width of a bar, in SVG units; the page scales them.
const HEIGHT: f64 = 100.0;
const BAR: f64 = 10.0;

/// One series of a stacked bar chart.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// CSS class for the colour.
    pub class: &'static str,
    pub name: Text,
    /// One value for each period.
    pub values: Vec<u64>,
}

/// Title, id and time range of a chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub title: &'a str,
    /// Id on the page.
    pub id: &'a str,
    /// The start of the first period.
    pub first_ms: UnixMillis,
    /// The length of a period.
    pub period_ms: i64,
}

impl About<'_> {
    /// The start of period number `at`.
    fn stamp(&self, at: usize) -> String {
        let ms = self.first_ms + i64::try_from(at).unwrap_or(0) * self.period_ms;
        rfc3339(ms - ms.rem_euclid(self.period_ms.max(1)))
    }

    /// How the script shows such a time: the day too, if a period is an hour.
    const fn format(&self) -> &'static str {
        if self.period_ms < 3_600_000 { "minute" } else { "hour" }
    }

    /// [`Self::stamp`] in UTC, as the axis shows it.
    fn label(&self, at: usize) -> String {
        let stamp = self.stamp(at);
        let part = if self.format() == "minute" { 11..16 } else { 5..16 };
        stamp.get(part).unwrap_or(&stamp).replace('T', " ")
    }

    /// [`Self::label`], which the script shows in the time zone of the browser.
    fn time(&self, at: usize) -> Markup {
        let stamp = self.stamp(at);
        html! { time datetime=(stamp) title={ (stamp) " UTC" } data-local=(self.format()) { (self.label(at)) } }
    }

    /// The tooltip of period number `at`. The script replaces its time.
    fn tooltip(&self, at: usize, values: &[String]) -> Markup {
        html! {
            title data-at=(self.stamp(at)) data-local=(self.format()) {
                (self.label(at)) " UTC: " (values.join(", "))
            }
        }
    }
}

/// One line of a chart of latencies.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// CSS class for the colour and the dashes.
    pub class: &'static str,
    pub name: Text,
    /// One value for each period in which there was one.
    pub values: Vec<Option<Duration>>,
}

/// A chart of latencies over time: in each period a level piece of each line.
pub(crate) fn lines(lang: Lang, about: About<'_>, lines: &[Line]) -> Markup {
    let values = lines.iter().flat_map(|line| &line.values).flatten();
    let micros = |of: &Duration| u64::try_from(of.as_micros()).unwrap_or(u64::MAX);
    let most = values.map(micros).max();
    let top = Duration::from_micros(rounded(most.unwrap_or(1)));
    let periods = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);
    html! {
        figure.chart {
            figcaption { (about.title) }
            @if most.is_none() { p.empty { (NO_DATA.of(lang)) } }
            @else {
                div.plot {
                    div.scale aria-hidden="true" {
                        span { (time::unit(top)) }
                        span { (time::unit(top / 2)) }
                        span { "0" }
                    }
                    (line_drawing(lang, about, lines, periods, top))
                    (axis(lang, about, periods))
                }
                ul.legend aria-label=(FIGURES.of(lang)) {
                    @for line in lines { li { span.key.(line.class) aria-hidden="true" {} (line.name.of(lang)) } }
                }
                (line_figures(lang, about, lines, periods))
            }
        }
    }
}

fn line_drawing(
    lang: Lang,
    about: About<'_>,
    lines: &[Line],
    periods: usize,
    top: Duration,
) -> Markup {
    let width = periods as f64 * BAR;
    let of = |line: &Line, at: usize| line.values.get(at).copied().flatten();
    let said = |at: usize| {
        let values = lines.iter().filter_map(|line| {
            Some(format!("{} {}", line.name.of(lang), time::about(of(line, at)?)))
        });
        about.tooltip(at, &values.collect::<Vec<_>>())
    };
    html! {
        svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img"
            aria-labelledby=(about.id) focusable="false" {
            title id=(about.id) { (about.title) }
            line.grid x1="0" x2=(width) y1="0.5" y2="0.5" {}
            line.grid x1="0" x2=(width) y1="50" y2="50" {}
            @for line in lines { path.line.(line.class) d=(path(&line.values, top)) {} }
            @for at in (0..periods).filter(|at| lines.iter().any(|line| of(line, *at).is_some())) {
                rect.hit x=(at as f64 * BAR) y="0" width=(BAR) height=(HEIGHT) { (said(at)) }
            }
        }
    }
}

/// A level piece for each value, joined where periods follow each other.
fn path(values: &[Option<Duration>], top: Duration) -> String {
    let mut drawn = String::new();
    let mut before = None;
    for (at, value) in values.iter().enumerate() {
        if let Some(value) = value {
            // Lines at the edges would be cut in half.
            let y = 1.0 + (HEIGHT - 2.0) * (1.0 - value.as_secs_f64() / top.as_secs_f64());
            let (from, to) = (at as f64 * BAR, (at + 1) as f64 * BAR);
            let piece = match before {
                Some(()) => format!("V{y:.2}H{to}"),
                None => format!("M{from} {y:.2}H{to}"),
            };
            drawn.push_str(&piece);
        }
        before = value.map(drop);
    }
    drawn
}

/// The latencies of the periods in which there were any, newest first.
fn line_figures(lang: Lang, about: About<'_>, lines: &[Line], periods: usize) -> Markup {
    let of = |line: &Line, at: usize| line.values.get(at).copied().flatten();
    let is_some = |at: &usize| lines.iter().any(|line| of(line, *at).is_some());
    let names: Vec<&Text> = lines.iter().map(|line| &line.name).collect();
    let periods = (0..periods).rev().filter(is_some);
    let cells =
        |at| lines.iter().map(|line| maybe(of(line, at).map(time::about).as_deref())).collect();
    table(lang, about, &names, periods.map(|at| (at, cells(at))).collect())
}

/// The table behind a chart: a row for each period, with a cell for each name.
fn table(lang: Lang, about: About<'_>, names: &[&Text], rows: Vec<(usize, Vec<Markup>)>) -> Markup {
    html! {
        details {
            summary { (AS_TABLE.of(lang)) }
            div.wide role="region" aria-label={ (about.title) ": " (AS_TABLE.of(lang)) } tabindex="0" {
                table.figures {
                    thead { tr {
                        th scope="col" { (PERIOD.of(lang)) }
                        @for name in names { th scope="col" { (name.of(lang)) } }
                    } }
                    tbody {
                        @for (at, cells) in rows {
                            tr {
                                th scope="row" { (about.time(at)) }
                                @for cell in cells { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The labels below a chart.
fn axis(lang: Lang, about: About<'_>, periods: usize) -> Markup {
    html! {
        div.axis aria-hidden="true" {
            @for part in 0..4 { span { (about.time(periods * part / 4)) } }
            span { (UNTIL_NOW.of(lang)) }
        }
    }
}

/// A stacked bar chart, one bar per period, with the sum of each series in the legend. Series
/// without a value are omitted.
pub(crate) fn bars(lang: Lang, about: About<'_>, series: &[Series]) -> Markup {
    let shown: Vec<&Series> =
        series.iter().filter(|one| one.values.iter().any(|value| *value > 0)).collect();
    let sum = |one: &Series| one.values.iter().sum::<u64>();
    let top = rounded(highest(&shown));
    let periods = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    html! {
        figure.chart {
            figcaption { (about.title) }
            div.plot {
                div.scale aria-hidden="true" {
                    span { (count(top)) }
                    @if top > 1 { span { (count(top / 2)) } }
                    span { "0" }
                }
                (drawing(lang, Some(about), &shown, top))
                (axis(lang, about, periods))
            }
            ul.legend aria-label=(FIGURES.of(lang)) {
                @for one in &shown {
                    li { span.key.(one.class) aria-hidden="true" {} (one.name.of(lang)) " " b { (count(sum(one))) } }
                }
                @if shown.is_empty() { li { (NO_DATA.of(lang)) } }
            }
            @if !shown.is_empty() { (figures(lang, about, &shown)) }
        }
    }
}

/// The periods that are not empty, newest first.
fn figures(lang: Lang, about: About<'_>, series: &[&Series]) -> Markup {
    let periods = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    let of = |one: &Series, at: usize| one.values.get(at).copied().unwrap_or(0);
    let names: Vec<&Text> = series.iter().map(|one| &one.name).collect();
    let periods = (0..periods).rev().filter(|at| total(series, *at) > 0);
    let cells = |at| series.iter().map(|one| html! { (number(of(one, at))) }).collect();
    table(lang, about, &names, periods.map(|at| (at, cells(at))).collect())
}

/// A chart as small as a word, for a table cell. The cells next to it contain the figures.
pub(crate) fn spark(series: &[Series]) -> Markup {
    let shown: Vec<&Series> = series.iter().collect();
    html! { span.spark { (drawing(Lang::En, None, &shown, highest(&shown))) } }
}

fn highest(series: &[&Series]) -> u64 {
    let periods = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    (0..periods).map(|at| total(series, at)).max().unwrap_or(0)
}

/// The end of the scale: the least of 1, 2, 4, 10, 20, 40, 100 … that is not below `most`, so that
/// half of it is a whole number too.
fn rounded(most: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for step in [1, 2, 4] {
            let top = unit.saturating_mul(step);
            if top >= most {
                return top.max(1);
            }
        }
        unit = unit.saturating_mul(10);
    }
}

fn total(series: &[&Series], at: usize) -> u64 {
    series.iter().filter_map(|one| one.values.get(at)).sum()
}

fn drawing(lang: Lang, about: Option<About<'_>>, series: &[&Series], top: u64) -> Markup {
    let periods = series.iter().map(|one| one.values.len()).max().unwrap_or(1).max(1);
    let width = periods as f64 * BAR;
    let scale = HEIGHT / (top.max(1) as f64);
    html! {
        svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none"
            role=[about.map(|_| "img")] aria-labelledby=[about.map(|about| about.id)]
            aria-hidden=[about.is_none().then_some("true")] focusable="false" {
            @if let Some(about) = about {
                title id=(about.id) { (about.title) }
                line.grid x1="0" x2=(width) y1="0.5" y2="0.5" {}
                line.grid x1="0" x2=(width) y1="50" y2="50" {}
            }
            @for at in (0..periods).filter(|at| total(series, *at) > 0) {
                g {
                    @if let Some(about) = about { (said(lang, about, series, at)) }
                    (bar(series, at, scale))
                }
            }
        }
    }
}

/// The tooltip of a bar.
fn said(lang: Lang, about: About<'_>, series: &[&Series], at: usize) -> Markup {
    let values = series.iter().filter_map(|one| {
        let value = one.values.get(at).copied().filter(|value| *value > 0)?;
        Some(format!("{} {}", one.name.of(lang), count(value)))
    });
    about.tooltip(at, &values.collect::<Vec<_>>())
}

fn bar(series: &[&Series], at: usize, scale: f64) -> Markup {
    let mut top = HEIGHT;
    html! {
        @for one in series {
            @let value = one.values.get(at).copied().unwrap_or(0);
            @if value > 0 {
                @let high = value as f64 * scale;
                @let from = { top -= high; top };
                rect.(one.class) x=(format!("{:.1}", at as f64 * BAR + 0.5)) y=(format!("{from:.2}"))
                    width=(format!("{:.1}", BAR - 1.0)) height=(format!("{high:.2}")) {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Text = Text::new("accepted", "已接受");

    #[test]
    fn the_highest_bar_fits_the_scale_and_the_figures_are_text() {
        let series = [
            Series { class: "accepted", name: NAME, values: vec![1, 3, 0] },
            Series {
                class: "rejected",
                name: Text::new("rejected", "已拒绝"),
                values: vec![1, 0, 0],
            },
            Series { class: "test", name: Text::new("test", "测试"), values: vec![0, 0, 0] },
        ];
        let first_ms = 1_767_322_980_000;
        let about = About { title: "<Callbacks>", id: "c", first_ms, period_ms: 60_000 };
        let shown = bars(Lang::En, about, &series).into_string();
        assert_eq!(shown.matches("<rect").count(), 3);
        assert!(shown.contains(r#"height="75.00""#), "three of four: {shown}");
        assert!(shown.contains(">03:03 UTC: accepted 1, rejected 1</title>"), "{shown}");
        assert!(shown.contains("accepted <b>4</b>") && shown.contains("rejected <b>1</b>"));
        let stamp = "2026-01-02T03:03:00.000Z";
        let axis = format!(
            "<time datetime=\"{stamp}\" title=\"{stamp} UTC\" data-local=\"minute\">03:03<"
        );
        assert!(
            shown.contains(&axis) && shown.contains(&format!("data-at=\"{stamp}\"")),
            "{shown}"
        );
        assert!(!shown.contains("test <b>") && shown.contains("&lt;Callbacks&gt;"), "{shown}");
        assert!(bars(Lang::Zh, about, &[]).into_string().contains("该时段内没有数据"));
    }

    #[test]
    fn a_line_has_a_gap_where_there_was_nothing() {
        let ms = |of| Some(Duration::from_millis(of));
        let values = vec![ms(10), ms(40), None, ms(20)];
        let line = Line { class: "p99", name: Text::new("p99", "p99"), values };
        let about =
            About { title: "Latency", id: "l", first_ms: 1_767_322_800_000, period_ms: 600_000 };
        let shown = lines(Lang::En, about, &[line]).into_string();
        assert!(shown.contains(r#"d="M0 74.50H10V1.00H20M30 50.00H40""#), "{shown}");
        assert!(shown.contains("<span>40 ms</span><span>20 ms</span><span>0</span>"), "{shown}");
        assert!(shown.contains(">03:10 UTC: p99 ≈ 40.0 ms</title>"), "{shown}");
        assert_eq!(shown.matches("<tr>").count(), 4, "the head, and three periods");
        let nothing = Line { class: "p99", name: Text::new("p99", "p99"), values: vec![None; 4] };
        assert!(lines(Lang::Zh, about, &[nothing]).into_string().contains("该时段内没有数据"));
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let ends = [0, 1, 3, 5, 40, 41, 2816].map(rounded);
        assert_eq!(ends, [1, 1, 4, 10, 40, 100, 4000]);
    }
}
