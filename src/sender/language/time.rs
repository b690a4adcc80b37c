//! Times in a sender's own writing.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::value_shape::ValueShape;

/// How a time is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Stamp {
    /// Unix seconds.
    Seconds,
    /// Unix milliseconds.
    Millis,
    /// ISO 8601 with a zone: `2015-05-18T15:45:13Z`, perhaps with a fraction, `+02:00` or `+0200`.
    Iso,
    /// A pattern of `yyyyMMddHHmmss` and other characters.
    Pattern(Vec<Field>),
}

/// One field of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Other(u8),
}

const FIELDS: &[(&str, Field)] = &[
    ("yyyy", Field::Year),
    ("MM", Field::Month),
    ("dd", Field::Day),
    ("HH", Field::Hour),
    ("mm", Field::Minute),
    ("ss", Field::Second),
];

impl Field {
    fn width(self) -> usize {
        match self {
            Self::Year => 4,
            Self::Other(_) => 1,
            _ => 2,
        }
    }

    /// The byte of a field that is not part of a time.
    pub(in crate::sender) fn other(self) -> Option<u8> {
        match self {
            Self::Other(byte) => Some(byte),
            _ => None,
        }
    }
}

impl Stamp {
    /// Reads `s`, `ms`, `iso8601` or a pattern that has at least the day; `None` when it is none of them.
    pub(in crate::sender) fn parse(text: &str) -> Option<Self> {
        match text {
            "s" => return Some(Self::Seconds),
            "ms" => return Some(Self::Millis),
            "iso8601" => return Some(Self::Iso),
            _ => {}
        }
        let mut fields = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.bytes().next() {
            if let Some((word, field)) = FIELDS.iter().find(|(word, _)| rest.starts_with(word)) {
                fields.push(*field);
                rest = &rest[word.len()..];
            } else if first.is_ascii_alphanumeric() || !first.is_ascii() {
                return None;
            } else {
                fields.push(Field::Other(first));
                rest = &rest[1..];
            }
        }
        let dated = [Field::Year, Field::Month, Field::Day].iter().all(|f| fields.contains(f));
        dated.then_some(Self::Pattern(fields))
    }

    /// The Unix time in milliseconds of `text`, in `zone` if the pattern has none.
    pub(in crate::sender) fn read(&self, text: &[u8], zone: Offset) -> Option<i64> {
        match self {
            Self::Seconds => number(text)?.checked_mul(1000),
            Self::Millis => number(text),
            Self::Iso => read_iso(text, zone),
            Self::Pattern(fields) => read_fields(fields, text, zone),
        }
    }

    /// Whether `text` is the only way to write its time: no sign, no further zeros, the usual
    /// width.
    pub(in crate::sender) fn is_canonical(&self, text: &[u8]) -> bool {
        ValueShape::of_time(self).fits(text)
    }

    /// The bytes of a time that is written so, where that is a pattern.
    pub(in crate::sender) fn width(&self) -> Option<usize> {
        match self {
            Self::Pattern(fields) => Some(fields.iter().map(|field| field.width()).sum()),
            Self::Seconds | Self::Millis | Self::Iso => None,
        }
    }

    /// `unix_ms` written so.
    pub(in crate::sender) fn write(&self, unix_ms: i64, zone: Offset) -> String {
        match self {
            Self::Seconds => unix_ms.div_euclid(1000).to_string(),
            Self::Millis => unix_ms.to_string(),
            Self::Iso => jiff::Timestamp::from_millisecond(unix_ms)
                .map_or_else(|_| String::new(), |stamp| stamp.to_string()),
            Self::Pattern(fields) => write_fields(fields, unix_ms, zone),
        }
    }
}

/// A number of up to 18 digits, possibly after a minus sign.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let number = digits.iter().try_fold(0_i64, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })?;
    Some(if digits.len() < text.len() { -number } else { number })
}

/// Digits of a fraction of a second that are read.
const FRACTION_MAX: usize = 9;

/// `yyyy-MM-ddTHH:mm:ss`, perhaps a fraction, then `Z`, `+hh:mm` or `+hhmm`; without a zone, it is
/// in `zone`. A leap second counts as the one before.
fn read_iso(text: &[u8], zone: Offset) -> Option<i64> {
    let (head, rest) = text.split_at_checked("yyyy-MM-ddTHH:mm:ss".len())?;
    let at = |from: usize, to: usize| {
        let digits = &head[from..to];
        digits.iter().all(u8::is_ascii_digit).then(|| number(digits)).flatten()
    };
    let small = |from: usize| i8::try_from(at(from, from + 2)?).ok();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(place, mark)| head[*place] != *mark) {
        return None;
    }
    let year = i16::try_from(at(0, 4)?).ok()?;
    let second = small(17).map(|second| if second == 60 { 59 } else { second })?;
    let date = DateTime::new(year, small(5)?, small(8)?, small(11)?, small(14)?, second, 0).ok()?;
    let (fraction_ms, rest) = match rest.strip_prefix(b".") {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=FRACTION_MAX).contains(&digits) {
                return None;
            }
            let (digits, rest) = rest.split_at(digits);
            let mut millis = digits.iter().copied().chain(std::iter::repeat(b'0')).take(3);
            (millis.try_fold(0, |sum, digit| Some(sum * 10 + i64::from(digit - b'0')))?, rest)
        }
    };
    let zone = match rest {
        [] => zone,
        b"Z" => Offset::UTC,
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            let two = |high: &u8, low: &u8| number(&[*high, *low]).filter(|_| *high != b'-');
            let minutes = two(m1, m2).filter(|minutes| *minutes < 60)?;
            let seconds = i32::try_from(two(h1, h2)? * 3600 + minutes * 60).ok()?;
            match sign {
                b'+' => Offset::from_seconds(seconds).ok()?,
                b'-' => Offset::from_seconds(-seconds).ok()?,
                _ => return None,
            }
        }
        _ => return None,
    };
    let zoned = date.to_zoned(TimeZone::fixed(zone)).ok()?;
    Some(zoned.timestamp().as_millisecond() + fraction_ms)
}

fn read_fields(fields: &[Field], text: &[u8], zone: Offset) -> Option<i64> {
    let mut parts = [0_i16, 1, 1, 0, 0, 0];
    let mut rest = text;
    for field in fields {
        let (value, tail) = rest.split_at_checked(field.width())?;
        rest = tail;
        match field {
            Field::Other(byte) if value == [*byte] => {}
            Field::Other(_) => return None,
            _ => parts[position(*field)] = i16::try_from(number(value)?).ok()?,
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let [year, month, day, hour, minute, second] = parts;
    let small = |value: i16| i8::try_from(value).ok();
    let date = DateTime::new(
        year,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    );
    let zoned = date.ok()?.to_zoned(TimeZone::fixed(zone)).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

fn write_fields(fields: &[Field], unix_ms: i64, zone: Offset) -> String {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(unix_ms) else { return String::new() };
    let date = zone.to_datetime(stamp);
    fields
        .iter()
        .map(|field| match field {
            Field::Year => format!("{:04}", date.year()),
            Field::Month => format!("{:02}", date.month()),
            Field::Day => format!("{:02}", date.day()),
            Field::Hour => format!("{:02}", date.hour()),
            Field::Minute => format!("{:02}", date.minute()),
            Field::Second => format!("{:02}", date.second()),
            Field::Other(byte) => char::from(*byte).to_string(),
        })
        .collect()
}

fn position(field: Field) -> usize {
    match field {
        Field::Year => 0,
        Field::Month => 1,
        Field::Day => 2,
        Field::Hour => 3,
        Field::Minute => 4,
        Field::Second | Field::Other(_) => 5,
    }
}

/// Reads an offset such as `+08:00` or `Z`.
pub(in crate::sender) fn offset(text: &str) -> Option<Offset> {
    if text == "Z" {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
    Offset::from_seconds(sign * seconds).ok()
}

/// Reads a length of time such as `500ms`, `22.5s`, `10m`, `24h`, `8d`, in milliseconds.
pub(in crate::sender) fn duration_ms(text: &str) -> Option<i64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let unit_ms = match unit {
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let value: f64 = number.parse().ok()?;
    let ms = value * unit_ms;
    #[expect(clippy::cast_possible_truncation, reason = "bounded on the line above")]
    (value >= 0.0 && ms < 1e15).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_in_their_zone_and_written_back() {
        let stamp = Stamp::parse("yyyyMMddHHmmss").unwrap();
        let zone = offset("+08:00").unwrap();
        assert_eq!(stamp.read(b"20231114221320", zone), Some(1_699_971_200_000));
        assert_eq!(stamp.write(1_699_971_200_999, zone), "20231114221320");
        for text in ["2023111422132", "202311142213200", "20231314221320", "2023111422132x"] {
            assert_eq!(stamp.read(text.as_bytes(), zone), None, "{text}");
        }
    }

    #[test]
    fn iso_8601_with_its_zone() {
        let zone = offset("+08:00").unwrap();
        let read = |text: &str| Stamp::Iso.read(text.as_bytes(), zone);
        assert_eq!(read("2015-05-18T15:45:13Z"), Some(1_431_963_913_000));
        assert_eq!(read("2015-05-18T15:45:13.4019Z"), Some(1_431_963_913_401));
        assert_eq!(read("2015-05-18T23:45:13+08:00"), read("2015-05-18T15:45:13Z"));
        assert_eq!(read("2015-05-18T12:45:13-0300"), read("2015-05-18T15:45:13Z"));
        assert_eq!(read("2015-05-18T23:45:13"), read("2015-05-18T15:45:13Z"));
        assert_eq!(read("2016-12-31T23:59:60Z"), read("2016-12-31T23:59:59Z"));
        assert_eq!(Stamp::Iso.write(1_431_963_913_000, zone), "2015-05-18T15:45:13Z");
        for text in [
            "",
            "2015-05-18",
            "2015-05-18 15:45:13Z",
            "2015-05-18T15:45:13.Z",
            "2015-05-18T15:45:13.1234567890Z",
            "2015-05-18T15:45:13z",
            "2015-05-18T15:45:13+8:00",
            "2015-05-18T15:45:13+08:60",
            "2015-05-18T15:45:13+-8:00",
            "2015-02-30T15:45:13Z",
            "2015-05-18T15:45:13Z ",
            "+015-05-18T15:45:13Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(Stamp::Seconds.read(b"1700000000", Offset::UTC), Some(1_700_000_000_000));
        assert_eq!(Stamp::Seconds.read(b"999999999999999999", Offset::UTC), None);
        assert_eq!(Stamp::Millis.read(b"17e8", Offset::UTC), None);
        assert_eq!(Stamp::Millis.read(b"", Offset::UTC), None);
    }

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration_ms("22.5s"), Some(22_500));
        assert_eq!(duration_ms("8d"), Some(691_200_000));
        assert_eq!(duration_ms("8"), None);
        assert_eq!(duration_ms("-1s"), None);
    }
}
