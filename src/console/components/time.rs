//! Times and durations.

use std::time::Duration;

use maud::{Markup, html};

use crate::clock::{UnixMillis, rfc3339};
use crate::console::lang::Lang;
use crate::console::text::texts;

texts! {
    SECONDS = "{} s", "{} 秒";
    MINUTES = "{} min", "{} 分钟";
    HOURS = "{} h", "{} 小时";
    DAYS = "{} d", "{} 天";
    AGO = "{} ago", "{}前";
    IN = "in {}", "{}后";
}

/// A time to the second in UTC. The script shows it in the time zone of the browser and keeps UTC in
/// the tooltip.
pub(crate) fn time(ms: UnixMillis) -> Markup {
    let stamp = rfc3339(ms);
    html! { time datetime=(stamp) title={ (stamp) " UTC" } data-local="" { (second(ms)) } }
}

/// [`time`] with its milliseconds.
pub(crate) fn exact(ms: UnixMillis) -> Markup {
    let stamp = rfc3339(ms);
    let shown = stamp.trim_end_matches('Z').replace('T', " ");
    html! { time datetime=(stamp) title={ (stamp) " UTC" } data-local="ms" { (shown) } }
}

/// A time in UTC, as `2026-01-02 03:04:05`.
pub(crate) fn second(ms: UnixMillis) -> String {
    let stamp = rfc3339(ms);
    stamp.get(..19).unwrap_or(&stamp).replace('T', " ")
}

/// A stored time in RFC 3339; a text that is none is shown as it is.
pub(crate) fn stored(text: &str) -> Markup {
    match crate::console::fields::time(text) {
        Some(ms) => time(ms),
        None => super::value::short(text),
    }
}

/// The time since `ms`, with the full time as a tooltip.
pub(crate) fn ago(lang: Lang, ms: UnixMillis, now_ms: UnixMillis) -> Markup {
    let since = Duration::from_millis(u64::try_from(now_ms - ms).unwrap_or(0));
    distance(&AGO.fill(lang, &[&length(lang, since)]), ms)
}

/// The time until `ms`, or since then, with the full time as a tooltip.
pub(crate) fn from_now(lang: Lang, ms: UnixMillis, now_ms: UnixMillis) -> Markup {
    match u64::try_from(ms - now_ms) {
        Ok(left) => {
            let left = Duration::from_millis(left);
            distance(&IN.fill(lang, &[&length(lang, left)]), ms)
        }
        Err(_) => ago(lang, ms, now_ms),
    }
}

fn distance(words: &str, ms: UnixMillis) -> Markup {
    let stamp = rfc3339(ms);
    html! { time datetime=(stamp) title={ (stamp) " UTC" } { (words) } }
}

/// The usual time between two events.
pub(crate) fn gap(lang: Lang, of: Duration) -> String {
    match of.as_secs() {
        0 => format!("< {}", length(lang, Duration::from_secs(1))),
        _ => length(lang, of),
    }
}

/// A duration in its largest sensible unit.
pub(crate) fn length(lang: Lang, of: Duration) -> String {
    let seconds = of.as_secs();
    let (text, count) = match seconds {
        0..120 => (SECONDS, seconds),
        120..7200 => (MINUTES, seconds / 60),
        7200..172_800 => (HOURS, seconds / 3600),
        _ => (DAYS, seconds / 86_400),
    };
    text.fill(lang, &[&count])
}

/// A latency, with three digits.
pub(crate) fn took(of: Duration) -> String {
    let micros = of.as_secs_f64() * 1e6;
    match micros {
        ..1.0 => String::from("< 1 µs"),
        ..1e3 => format!("{micros:.0} µs"),
        ..1e4 => format!("{:.2} ms", micros / 1e3),
        ..1e5 => format!("{:.1} ms", micros / 1e3),
        ..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
}

/// A latency of one digit, as the scale of a chart has it.
pub(crate) fn unit(of: Duration) -> String {
    let micros = of.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros} µs"),
        ..1e6 => format!("{} ms", micros / 1e3),
        _ => format!("{} s", micros / 1e6),
    }
}

/// A latency that was measured in whole milliseconds.
pub(crate) fn millis(of: u32) -> String {
    match of {
        0 => String::from("< 1 ms"),
        1..10_000 => format!("{of} ms"),
        _ => format!("{:.1} s", f64::from(of) / 1e3),
    }
}

/// A latency that is estimated from steps, with two digits.
pub(crate) fn about(of: Duration) -> String {
    let micros = of.as_secs_f64() * 1e6;
    let digits = 10_f64.powi((micros.max(1.0).log10().floor() as i32 - 1).max(0));
    format!("≈ {}", took(Duration::from_secs_f64((micros / digits).round() * digits / 1e6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_times() {
        assert_eq!(length(Lang::En, Duration::from_secs(119)), "119 s");
        assert_eq!(length(Lang::Zh, Duration::from_secs(7199)), "119 分钟");
        assert_eq!(length(Lang::En, Duration::from_secs(400_000)), "4 d");
        assert_eq!(took(Duration::from_micros(812)), "812 µs");
        assert_eq!(took(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(took(Duration::from_millis(123)), "123 ms");
        assert_eq!(took(Duration::from_millis(1234)), "1.2 s");
        let units = [50, 500, 2000, 400_000, 1_000_000].map(|us| unit(Duration::from_micros(us)));
        assert_eq!(units, ["50 µs", "500 µs", "2 ms", "400 ms", "1 s"]);
        assert_eq!([millis(0), millis(6), millis(12_345)], ["< 1 ms", "6 ms", "12.3 s"]);
        assert_eq!(about(Duration::from_micros(256)), "≈ 260 µs");
        assert_eq!(about(Duration::from_micros(46_341)), "≈ 46.0 ms");
        assert!(time(1_767_323_045_678).into_string().contains(">2026-01-02 03:04:05<"));
        assert!(exact(1_767_323_045_678).into_string().contains(">2026-01-02 03:04:05.678<"));
        let shown = from_now(Lang::En, 1_767_323_045_678, 1_767_323_000_000).into_string();
        assert!(shown.contains(">in 45 s<"), "{shown}");
    }
}
