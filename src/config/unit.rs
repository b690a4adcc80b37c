//! Values with a unit and other small grammars: `15s`, `32KiB`, `500/s`, names, switches, counts.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::file::{Item, Read, ValueError};
use super::limits::NAME_BYTES_MAX;
use super::{Rate, limits};
use crate::sender::MaxAge;

const DURATION: &str = "a duration such as \"15s\", \"10m\" or \"30d\" (ms, s, m, h, d)";
const SIZE: &str = "a size such as \"32KiB\" or \"1MiB\" (B, KiB, MiB, GiB)";
const RATE: &str = "a rate such as \"500/s\" (/s, /m, /h)";

// ---- readers of items ----

/// Any text that is not empty.
pub(crate) fn text(item: &Item<'_>) -> Read<String> {
    match item.text("a text")? {
        "" => Err(ValueError::new("is empty", "write a text, or leave the key out")),
        text => Ok(text.to_owned()),
    }
}

/// `true` or `false`.
pub(crate) fn switch(item: &Item<'_>) -> Read<bool> {
    match item.value {
        DeValue::Boolean(on) => Ok(*on),
        _ => Err(item.expected("true or false, without quotes")),
    }
}

/// A whole number within `bound`.
pub(crate) fn count(bound: RangeInclusive<usize>) -> impl Fn(&Item<'_>) -> Read<usize> {
    move |item| {
        let wanted = format!("a whole number from {} to {}", bound.start(), bound.end());
        let DeValue::Integer(number) = item.value else { return Err(item.expected(&wanted)) };
        match usize::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if bound.contains(&count) => Ok(count),
            _ => Err(ValueError::new(
                format!("{number} is out of bounds"),
                format!("write {wanted}"),
            )),
        }
    }
}

/// A duration within `bound`.
pub(crate) fn duration(bound: RangeInclusive<Duration>) -> impl Fn(&Item<'_>) -> Read<Duration> {
    move |item| {
        let text = item.text(DURATION)?;
        let duration = parse_duration(text).ok_or_else(|| not(text, DURATION))?;
        if bound.contains(&duration) {
            return Ok(duration);
        }
        let bound = format!("{} to {}", show(*bound.start()), show(*bound.end()));
        Err(ValueError::new(format!("{text} is out of bounds"), format!("write {bound}")))
    }
}

/// A number of bytes within `bound`.
pub(crate) fn size(bound: RangeInclusive<usize>) -> impl Fn(&Item<'_>) -> Read<usize> {
    move |item| {
        let text = item.text(SIZE)?;
        let size = parse_size(text).ok_or_else(|| not(text, SIZE))?;
        if bound.contains(&size) {
            return Ok(size);
        }
        let bound = format!("{} to {}", show_size(*bound.start()), show_size(*bound.end()));
        Err(ValueError::new(format!("{text} is out of bounds"), format!("write {bound}")))
    }
}

/// So many over a time.
pub(crate) fn rate(item: &Item<'_>) -> Read<Rate> {
    let text = item.text(RATE)?;
    parse_rate(text).ok_or_else(|| not(text, RATE))
}

/// A duration, or `off`.
pub(crate) fn max_age(item: &Item<'_>) -> Read<MaxAge> {
    match item.text("a duration such as \"10m\", or \"off\"")? {
        "off" => Ok(MaxAge::Off),
        _ => duration(limits::MAX_AGE_BOUND)(item).map(MaxAge::Within),
    }
}

/// A name that can stand in a URL's path as it is.
pub(crate) fn name(item: &Item<'_>) -> Read<String> {
    let text = item.text("a name")?;
    let remedy = "write letters, digits, dots, dashes and underscores";
    match text {
        "" => Err(ValueError::new("is empty", remedy)),
        _ if text.len() > NAME_BYTES_MAX => {
            let what = format!("is {} characters long", text.len());
            Err(ValueError::new(what, format!("write at most {NAME_BYTES_MAX}")))
        }
        _ if text.starts_with("reward/") => Err(ValueError::new(
            "names that begin with reward/ belong to the reward-rule API",
            "choose another name",
        )),
        "." | ".." => Err(ValueError::new("browsers and proxies take it for a folder", remedy)),
        _ if !is_name(text) => {
            Err(ValueError::new(format!("{text:?} does not fit into a path"), remedy))
        }
        _ => Ok(text.to_owned()),
    }
}

/// One of the words of `set`.
pub(crate) fn word<T: Copy>(set: &'static [(&'static str, T)]) -> impl Fn(&Item<'_>) -> Read<T> {
    move |item| {
        let words: Vec<String> = set.iter().map(|(word, _)| format!("{word:?}")).collect();
        let wanted = format!("one of {}", words.join(", "));
        let text = item.text(&wanted)?;
        let found = set.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| not(text, &wanted))
    }
}

/// Whether `text` can stand in a URL's path as it is.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

fn not(text: &str, wanted: &str) -> ValueError {
    ValueError::new(format!("{text:?} cannot be read"), format!("write {wanted}"))
}

// ---- grammars ----

/// `1h30m`: numbers, each with a unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, behind) = split_number(rest)?;
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let unit_ms: u64 = match &behind[..end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = Duration::from_millis(number.checked_mul(unit_ms)?);
        total = total.checked_add(part)?;
        rest = &behind[end..];
    }
    (!text.is_empty()).then_some(total)
}

fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_number(text)?;
    let scale: u64 = match unit.trim_start() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    usize::try_from(number.checked_mul(scale)?).ok()
}

fn parse_rate(text: &str) -> Option<Rate> {
    let (count, unit) = split_number(text)?;
    let per_secs = match unit {
        "/s" => 1,
        "/m" => 60,
        "/h" => 3_600,
        _ => return None,
    };
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(Rate { count, per: Duration::from_secs(per_secs) })
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A duration as it would be written: in the largest unit that it is a whole number of.
#[must_use]
pub fn show(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = duration.as_millis();
    let fits = UNITS.iter().find(|(unit_ms, _)| ms > 0 && ms.is_multiple_of(*unit_ms));
    fits.map_or_else(|| format!("{ms}ms"), |(unit_ms, unit)| format!("{}{unit}", ms / unit_ms))
}

/// A number of bytes as it would be written.
#[must_use]
pub fn show_size(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = UNITS.iter().find(|(size, _)| bytes > 0 && bytes.is_multiple_of(*size));
    fits.map_or_else(|| format!("{bytes}B"), |(size, unit)| format!("{}{unit}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let read = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("15s"), Some(15_000));
        assert_eq!(read("500ms"), Some(500));
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("30d"), Some(30 * 86_400_000));
        for wrong in ["", "15", "s", "1.5s", "-1s", "15 s", "1y", "1S", "99999999999999999999d"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_duration(&format!("{}d", u64::MAX)), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("32KiB"), Some(32_768));
        assert_eq!(parse_size("1 MiB"), Some(1_048_576));
        assert_eq!(parse_size("7B"), Some(7));
        for wrong in ["", "32", "KiB", "32KB", "1.5MiB", "18446744073709551615GiB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        let read = |text| parse_rate(text).map(|rate| (rate.count, rate.per.as_secs()));
        assert_eq!(read("500/s"), Some((500, 1)));
        assert_eq!(read("10/m"), Some((10, 60)));
        assert_eq!(read("7/h"), Some((7, 3600)));
        for wrong in ["", "500", "0/s", "/s", "5/d", "4294967296/s"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(ms in 0_u64..1 << 50, bytes in 0_usize..1 << 50) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show(duration)), Some(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC*") {
            let _ = (parse_duration(&text), parse_size(&text), parse_rate(&text));
        }
    }
}
