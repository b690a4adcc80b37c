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
}

/// A time to the second, with the full time as a tooltip.
pub fn time(ms: UnixMillis) -> Markup {
    let stamp = rfc3339(ms);
    let shown = stamp.get(..19).unwrap_or(&stamp).replace('T', " ");
    html! { time datetime=(stamp) title=(stamp) { (shown) } }
}

/// The time since `ms`, with the full time as a tooltip.
pub fn ago(lang: Lang, ms: UnixMillis, now_ms: UnixMillis) -> Markup {
    let since = Duration::from_millis(u64::try_from(now_ms - ms).unwrap_or(0));
    let stamp = rfc3339(ms);
    html! {
        time datetime=(stamp) title=(stamp) { (AGO.fill(lang, &[&length(lang, since)])) }
    }
}

/// A duration in its largest sensible unit.
pub fn length(lang: Lang, of: Duration) -> String {
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
pub fn took(of: Duration) -> String {
    let micros = of.as_secs_f64() * 1e6;
    match micros {
        ..1e3 => format!("{micros:.0} µs"),
        ..1e4 => format!("{:.2} ms", micros / 1e3),
        ..1e5 => format!("{:.1} ms", micros / 1e3),
        ..1e6 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.1} s", micros / 1e6),
    }
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
        assert!(time(1_767_323_045_678).into_string().contains(">2026-01-02 03:04:05<"));
    }
}
