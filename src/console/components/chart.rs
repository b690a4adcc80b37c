//! Charts: SVG without a script, with axes, and each with its figures as a table.

use maud::{Markup, html};

use super::value::{count, number};
use crate::clock::{UnixMillis, rfc3339};
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};

texts! {
    FIGURES = "Figures", "数据";
    AS_TABLE = "Figures as a table (UTC)", "以表格显示数据（UTC）";
    PERIOD = "Period", "时段";
    UNTIL_NOW = "now (UTC)", "现在（UTC）";
    NO_DATA = "Nothing in this time range.", "该时段内没有数据。";
}

/// Height of a drawing and width of a bar, in SVG units; the page scales them.
const HEIGHT: f64 = 100.0;
const BAR: f64 = 10.0;

/// One series of a stacked bar chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// CSS class for the colour.
    pub class: &'static str,
    pub name: Text,
    /// One value for each period.
    pub values: Vec<u64>,
}

/// Title, id and time range of a chart.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub title: &'a str,
    /// Id on the page.
    pub id: &'a str,
    /// The start of the first period.
    pub first_ms: UnixMillis,
    /// The length of a period.
    pub period_ms: i64,
}

impl About<'_> {
    /// The start of period number `at`, as the axis shows it: the day too, if a period is an hour.
    fn label(&self, at: usize) -> String {
        let ms = self.first_ms + i64::try_from(at).unwrap_or(0) * self.period_ms;
        let stamp = rfc3339(ms - ms.rem_euclid(self.period_ms.max(1)));
        let part = if self.period_ms < 3_600_000 { 11..16 } else { 5..16 };
        stamp.get(part).unwrap_or(&stamp).replace('T', " ")
    }
}

/// A stacked bar chart, one bar per period, with the sum of each series in the legend. Series
/// without a value are omitted.
pub fn bars(lang: Lang, about: About<'_>, series: &[Series]) -> Markup {
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
                div.axis aria-hidden="true" {
                    @for part in 0..4 { span { (about.label(periods * part / 4)) } }
                    span { (UNTIL_NOW.of(lang)) }
                }
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
    html! {
        details {
            summary { (AS_TABLE.of(lang)) }
            div.wide role="region" aria-label=(AS_TABLE.of(lang)) tabindex="0" {
                table.figures {
                    thead { tr {
                        th scope="col" { (PERIOD.of(lang)) }
                        @for one in series { th scope="col" { (one.name.of(lang)) } }
                    } }
                    tbody {
                        @for at in (0..periods).rev().filter(|at| total(series, *at) > 0) {
                            tr {
                                th scope="row" { (about.label(at)) }
                                @for one in series { td { (number(of(one, at))) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A chart as small as a word, for a table cell. The cells next to it contain the figures.
pub fn spark(series: &[Series]) -> Markup {
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
                    @if let Some(about) = about { title { (said(lang, about, series, at)) } }
                    (bar(series, at, scale))
                }
            }
        }
    }
}

/// The tooltip of a bar.
fn said(lang: Lang, about: About<'_>, series: &[&Series], at: usize) -> String {
    let values = series.iter().filter_map(|one| {
        let value = one.values.get(at).copied().filter(|value| *value > 0)?;
        Some(format!("{} {}", one.name.of(lang), count(value)))
    });
    format!("{} UTC: {}", about.label(at), values.collect::<Vec<_>>().join(", "))
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
        assert!(shown.contains("<title>03:03 UTC: accepted 1, rejected 1</title>"), "{shown}");
        assert!(shown.contains("accepted <b>4</b>") && shown.contains("rejected <b>1</b>"));
        assert!(!shown.contains("test <b>") && shown.contains("&lt;Callbacks&gt;"), "{shown}");
        assert!(bars(Lang::Zh, about, &[]).into_string().contains("该时段内没有数据"));
    }

    #[test]
    fn a_scale_ends_at_a_round_number() {
        let ends = [0, 1, 3, 5, 40, 41, 2816].map(rounded);
        assert_eq!(ends, [1, 1, 4, 10, 40, 100, 4000]);
    }
}
