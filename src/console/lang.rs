//! The languages of the console, and their selection.

use http::request::Parts;
use http::{HeaderMap, header};

use super::fields::{Fields, cookie};

/// The cookie that stores the selected language.
pub(super) const COOKIE: &str = "postern_lang";

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lang {
    /// English.
    En,
    /// Chinese, in simplified characters.
    Zh,
}

impl Lang {
    pub(super) const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// The BCP 47 tag, for pages and cookies.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    /// The name in the language itself.
    pub(super) const fn own_name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Zh => "中文",
        }
    }

    /// The mark between the parts of a list.
    pub(super) const fn comma(self) -> &'static str {
        match self {
            Self::En => ", ",
            Self::Zh => "、",
        }
    }

    /// The mark between the clauses of a sentence.
    pub(super) const fn clause(self) -> &'static str {
        match self {
            Self::En => ", ",
            Self::Zh => "，",
        }
    }

    /// The colon between a name and its value.
    pub(super) const fn colon(self) -> &'static str {
        match self {
            Self::En => ": ",
            Self::Zh => "：",
        }
    }

    fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        Some(match primary.to_ascii_lowercase().as_str() {
            "en" => Self::En,
            "zh" => Self::Zh,
            _ => return None,
        })
    }

    /// The language that the query selects, if any.
    pub(super) fn chosen(query: &Fields) -> Option<Self> {
        query.text("lang").and_then(Self::from_tag)
    }

    /// The language of the response: from the query, the cookie, `Accept-Language`, or English.
    pub(super) fn of(head: &Parts, query: &Fields) -> Self {
        Self::chosen(query)
            .or_else(|| cookie(&head.headers, COOKIE).and_then(Self::from_tag))
            .or_else(|| Self::accepted(&head.headers))
            .unwrap_or(Self::En)
    }

    /// The preferred language of `Accept-Language`.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
        let mut best = None;
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let Some(lang) = parts.next().and_then(Self::from_tag) else { continue };
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |text| {
                    text.parse::<f32>().ok().filter(|quality| (0.0..=1.0).contains(quality))
                });
            let Some(quality) = quality.filter(|quality| *quality > 0.0) else { continue };
            // Of two with the same quality, the first one counts.
            if best.is_none_or(|(_, before)| quality > before) {
                best = Some((lang, quality));
            }
        }
        best.map(|(lang, _)| lang)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Option<Lang> {
        let value = value.parse().unwrap();
        Lang::accepted(&HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, value)]))
    }

    #[test]
    fn the_highest_quality_wins() {
        assert_eq!(accepted("zh-CN,zh;q=0.9,en;q=0.8"), Some(Lang::Zh));
        assert_eq!(accepted("de, en-GB;q=0.7, zh;q=0.8"), Some(Lang::Zh));
        assert_eq!(accepted("en-US,en;q=0.9,zh;q=0.9"), Some(Lang::En));
        assert_eq!(accepted("zh;q=0, en;q=0.1"), Some(Lang::En));
        assert_eq!(accepted("zh;q=x"), None);
        assert_eq!(accepted("fr"), None);
    }
}
