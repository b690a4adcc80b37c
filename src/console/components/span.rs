//! Time ranges that end now, as links beside a filter.

use maud::{Markup, html};

use crate::clock::UnixMillis;
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;

texts! {
    LAST = "Received in the last", "接收于最近";
    ANY = "Any time", "不限时间";
}

/// The query field.
pub(crate) const FIELD: &str = "span";

/// A time range that ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    Quarter,
    Hour,
    Day,
    Week,
}

impl Preset {
    const ALL: [Self; 4] = [Self::Quarter, Self::Hour, Self::Day, Self::Week];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Quarter => "15m",
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::Week => "7d",
        }
    }

    const fn text(self) -> Text {
        match self {
            Self::Quarter => Text::new("15 min", "15 分钟"),
            Self::Hour => Text::new("1 h", "1 小时"),
            Self::Day => Text::new("24 h", "24 小时"),
            Self::Week => Text::new("7 d", "7 天"),
        }
    }

    /// The preset of that name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// The start of the range that ends at `now_ms`.
    pub(crate) const fn since_ms(self, now_ms: UnixMillis) -> UnixMillis {
        let minutes = match self {
            Self::Quarter => 15,
            Self::Hour => 60,
            Self::Day => 24 * 60,
            Self::Week => 7 * 24 * 60,
        };
        now_ms - minutes * 60_000
    }
}

/// The links, with the other fields of the query kept. A range of its own replaces `since`.
pub(crate) fn links(visit: &Visit) -> Markup {
    let lang: Lang = visit.lang;
    let chosen = visit.query.text(FIELD);
    let rest = Visit {
        query: visit.query.without(&["since", "until", "cursor", "done"]),
        ..visit.clone()
    };
    html! {
        p.presets {
            span.hint { (LAST.of(lang)) }
            @for one in Preset::ALL {
                a href=(rest.with(FIELD, Some(one.as_str())))
                    aria-current=[(chosen == Some(one.as_str())).then_some("true")] { (one.text().of(lang)) }
            }
            @if chosen.is_some() { a href=(rest.with(FIELD, None)) { (ANY.of(lang)) } }
        }
    }
}
