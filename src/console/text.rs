//! Texts of the console, in all languages side by side. A text without its translation does not
//! compile.

use std::fmt::{Display, Write as _};

use maud::{Markup, html};

use super::lang::Lang;

/// A text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    en: &'static str,
    zh: &'static str,
}

impl Text {
    /// A text in every language, each with the same number of gaps (`{}`). For constants, the
    /// compiler checks this.
    pub(super) const fn new(en: &'static str, zh: &'static str) -> Self {
        assert!(!en.is_empty() && !zh.is_empty(), "a text without its translation");
        assert!(gaps(en) == gaps(zh), "a translation has other gaps");
        Self { en, zh }
    }

    pub(super) const fn of(self, lang: Lang) -> &'static str {
        match lang {
            Lang::En => self.en,
            Lang::Zh => self.zh,
        }
    }

    /// The text with its gaps filled, in their order.
    pub(super) fn fill(self, lang: Lang, values: &[&dyn Display]) -> String {
        let mut pieces = self.of(lang).split("{}");
        let mut filled = String::from(pieces.next().unwrap_or_default());
        let mut values = values.iter();
        for piece in pieces {
            if let Some(value) = values.next() {
                // Writing to a string never fails.
                let _ = write!(filled, "{value}");
            }
            filled.push_str(piece);
        }
        filled
    }

    /// The text with `values` in its gaps, in their order.
    pub(super) fn fill_with(self, lang: Lang, values: &[Markup]) -> Markup {
        html! {
            @for (at, piece) in self.of(lang).split("{}").enumerate() {
                @if let Some(value) = at.checked_sub(1).and_then(|at| values.get(at)) { (value) }
                (piece)
            }
        }
    }
}

/// The number of gaps in a text.
const fn gaps(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut count) = (1, 0);
    while at < bytes.len() {
        if bytes[at - 1] == b'{' && bytes[at] == b'}' {
            count += 1;
        }
        at += 1;
    }
    count
}

/// Texts of a page: `NAME = "English", "中文";`.
macro_rules! texts {
    ($($(#[$meta:meta])* $name:ident = $en:literal, $zh:literal;)+) => {
        $($(#[$meta])* const $name: $crate::console::text::Text =
            $crate::console::text::Text::new($en, $zh);)+
    };
}

pub(super) use texts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_in_order() {
        let text = Text::new("{} of {}", "第 {} 个，共 {} 个");
        assert_eq!(text.fill(Lang::En, &[&1, &"two"]), "1 of two");
        assert_eq!(text.fill(Lang::Zh, &[&1, &2]), "第 1 个，共 2 个");
        assert_eq!(text.fill(Lang::En, &[&"{}"]), "{} of ");
        let bold = |of| html! { b { (of) } };
        let shown = text.fill_with(Lang::Zh, &[bold(1), bold(2)]).into_string();
        assert_eq!(shown, "第 <b>1</b> 个，共 <b>2</b> 个");
    }
}
