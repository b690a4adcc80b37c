//! Values from outside: isolated from the surrounding text, truncated, with invisible and
//! direction-changing characters made visible.

use maud::{Markup, html};

/// Longest value in a list, in characters.
const SHORT_CHARACTERS: usize = 80;

/// Longest value on a detail page, in characters: a parameter of 8 KiB fits.
const LONG_CHARACTERS: usize = 16 * 1024;

/// A value in a list, truncated.
pub fn short(text: &str) -> Markup {
    cut(text, SHORT_CHARACTERS)
}

/// A value on a detail page.
pub fn whole(text: &str) -> Markup {
    cut(text, LONG_CHARACTERS)
}

/// An optional value.
pub fn maybe(text: Option<&str>) -> Markup {
    match text {
        Some(text) => short(text),
        None => html! { span.absent { "–" } },
    }
}

/// A count with its thousands separated.
pub fn count(of: u64) -> String {
    let digits = of.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A count in a column of counts.
pub fn number(of: u64) -> Markup {
    html! { span.number { (count(of)) } }
}

/// A text of several lines, with misleading characters made visible.
pub fn block(text: &str) -> Markup {
    html! { pre.value tabindex="0" { bdi { (pieces(text, LONG_CHARACTERS)) } } }
}

fn cut(text: &str, most: usize) -> Markup {
    html! { bdi.value { (pieces(text, most)) } }
}

fn pieces(text: &str, most: usize) -> Markup {
    let end = text.char_indices().nth(most).map_or(text.len(), |(at, _)| at);
    let (shown, left) = text.split_at(end);
    html! {
        @for piece in shown.split_inclusive(is_trick) {
            @match piece.chars().next_back().filter(|last| is_trick(*last)) {
                Some(trick) => {
                    (piece.strip_suffix(trick).unwrap_or(piece))
                    span.trick { (format!("U+{:04X}", u32::from(trick))) }
                }
                None => (piece),
            }
        }
        @if !left.is_empty() { span.cut { "… +" (left.chars().count()) } }
    }
}

/// Whether a character is invisible or changes the display of others: controls, direction marks,
/// zero-width spaces.
fn is_trick(character: char) -> bool {
    let is_line = matches!(character, '\n' | '\t');
    character.is_control() && !is_line
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text() {
        let shown = short("<script>alert('1')</script>&\"").into_string();
        assert!(!shown.contains("<script"), "{shown}");
        assert!(shown.contains("&lt;script&gt;alert('1')&lt;/script&gt;&amp;&quot;"), "{shown}");
    }

    #[test]
    fn misleading_characters_are_visible() {
        let shown = short("a\u{202e}b\u{0}c\u{200f}").into_string();
        for (trick, name) in [('\u{202e}', "U+202E"), ('\u{0}', "U+0000"), ('\u{200f}', "U+200F")] {
            assert!(!shown.contains(trick) && shown.contains(name), "{shown}");
        }
        assert!(short("中文 é 🙂").into_string().contains("中文 é 🙂"));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn long_values_are_cut_at_a_character_with_a_mark() {
        let shown = short(&"é".repeat(100)).into_string();
        assert!(shown.contains("+20") && shown.contains(&"é".repeat(80)));
        assert!(!shown.contains(&"é".repeat(81)));
        assert!(!whole(&"x".repeat(8192)).into_string().contains("cut"));
    }
}
