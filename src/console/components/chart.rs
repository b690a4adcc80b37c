//! Charts: SVG without a script, each with its figures as text.

use maud::{Markup, html};

use crate::console::lang::Lang;
use crate::console::text::{Text, texts};

texts! {
    FIGURES = "Figures", "数据";
    SCALE = "Maximum: {}", "最大值：{}";
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
    /// Labels of the first and the last period.
    pub ends: (&'a str, &'a str),
}

/// A stacked bar chart, one bar per period, with the sum of each series in the legend. Series
/// without a value are omitted.
pub fn bars(lang: Lang, about: About<'_>, series: &[Series]) -> Markup {
    let shown: Vec<&Series> =
        series.iter().filter(|one| one.values.iter().any(|value| *value > 0)).collect();
    let sum = |one: &Series| one.values.iter().sum::<u64>();
    html! {
        figure.chart {
            figcaption { (about.title) }
            (drawing(about, &shown))
            div.axis aria-hidden="true" {
                span { (about.ends.0) }
                span { (SCALE.fill(lang, &[&highest(&shown)])) }
                span { (about.ends.1) }
            }
            ul.legend aria-label=(FIGURES.of(lang)) {
                @for one in &shown {
                    li { span.key.(one.class) aria-hidden="true" {} (one.name.of(lang)) " " b { (sum(one)) } }
                }
                @if shown.is_empty() { li { "0" } }
            }
        }
    }
}

/// A chart as small as a word, for a table cell. The cells next to it contain the figures.
pub fn spark(series: &[Series]) -> Markup {
    let shown: Vec<&Series> = series.iter().collect();
    let about = About { title: "", id: "", ends: ("", "") };
    html! { span.spark { (drawing(about, &shown)) } }
}

fn highest(series: &[&Series]) -> u64 {
    let periods = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
    (0..periods).map(|at| total(series, at)).max().unwrap_or(0)
}

fn total(series: &[&Series], at: usize) -> u64 {
    series.iter().filter_map(|one| one.values.get(at)).sum()
}

fn drawing(about: About<'_>, series: &[&Series]) -> Markup {
    let periods = series.iter().map(|one| one.values.len()).max().unwrap_or(1).max(1);
    let width = periods as f64 * BAR;
    let scale = HEIGHT / (highest(series).max(1) as f64);
    let named = !about.id.is_empty();
    html! {
        svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none"
            role=[named.then_some("img")] aria-labelledby=[named.then_some(about.id)]
            aria-hidden=[(!named).then_some("true")] focusable="false" {
            @if named { title id=(about.id) { (about.title) } }
            @for at in 0..periods { (bar(series, at, scale)) }
        }
    }
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
    fn the_highest_bar_fills_the_drawing_and_the_figures_are_text() {
        let series = [
            Series { class: "accepted", name: NAME, values: vec![1, 3, 0] },
            Series {
                class: "rejected",
                name: Text::new("rejected", "已拒绝"),
                values: vec![1, 0, 0],
            },
            Series { class: "test", name: Text::new("test", "测试"), values: vec![0, 0, 0] },
        ];
        let about = About { title: "<Callbacks>", id: "c", ends: ("a", "b") };
        let shown = bars(Lang::En, about, &series).into_string();
        assert_eq!(shown.matches("<rect").count(), 3);
        assert!(shown.contains(r#"height="100.00""#), "{shown}");
        assert!(shown.contains("accepted <b>4</b>") && shown.contains("rejected <b>1</b>"));
        assert!(!shown.contains("test <b>"), "{shown}");
        assert!(shown.contains("Maximum: 3") && shown.contains("&lt;Callbacks&gt;"));
        assert!(bars(Lang::Zh, about, &[]).into_string().contains("最大值：0"));
    }
}
