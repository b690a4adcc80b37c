//! Values from outside: isolated from the surrounding text, truncated, with invisible and
//! direction-changing characters made visible.

use maud::{Markup, html};

/// Longest value in a list, in characters.
const SHORT_CHARACTERS: usize = 80;

/// Longest value on a detail page, in characters: a parameter of 8 KiB fits.
const LONG_CHARACTERS: usize = 16 * 1024;

/// Longest value that a list shows in one line, in characters.
const WORD_CHARACTERS: usize = 24;

/// The size from which GiB say enough: 10 GiB, in bytes.
const LARGE: u64 = 10 << 30;

/// A value in a list, truncated. A short one is not broken at its hyphens.
pub(crate) fn short(text: &str) -> Markup {
    let is_longer = |text: &str| text.chars().nth(WORD_CHARACTERS).is_some();
    // Without a place to break, it would push the other columns off the screen.
    let is_unbroken = text.split_whitespace().any(is_longer);
    html! {
        @match is_longer(text) {
            true => bdi.value.long[is_unbroken] { (pieces(text, SHORT_CHARACTERS)) },
            false => bdi.value.word { (pieces(text, WORD_CHARACTERS)) },
        }
    }
}

/// A value on a detail page.
pub(crate) fn whole(text: &str) -> Markup {
    cut(text, LONG_CHARACTERS)
}

/// A sentence of the gateway's own, in which names stand between backticks.
pub(crate) fn sentence(text: &str) -> Markup {
    // A backtick without a second one is text.
    if text.matches('`').count() % 2 == 1 {
        return whole(text);
    }
    html! {
        bdi.value {
            @for (at, part) in text.split('`').enumerate() {
                @if at % 2 == 1 { code { (pieces(part, LONG_CHARACTERS)) } }
                @else { (pieces(part, LONG_CHARACTERS)) }
            }
        }
    }
}

/// An optional value.
pub(crate) fn maybe(text: Option<&str>) -> Markup {
    match text {
        Some(text) => short(text),
        None => html! { span.absent { "–" } },
    }
}

/// A count with its thousands separated.
pub(crate) fn count(of: u64) -> String {
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

/// A number of bytes: in MiB, and from 10 GiB on in GiB.
pub(crate) fn bytes(of: u64) -> String {
    match of {
        0..LARGE => format!("{} MiB", of >> 20),
        _ => format!("{} GiB", of >> 30),
    }
}

/// A count in a column of counts.
pub(crate) fn number(of: u64) -> Markup {
    html! { span.number { (count(of)) } }
}

/// A text of several lines, with misleading characters made visible.
pub(crate) fn block(text: &str) -> Markup {
    html! { pre.value tabindex="0" { bdi { (pieces(text, LONG_CHARACTERS)) } } }
}

/// A text of several lines, with the part that differs from another text marked.
pub(crate) fn block_beside(text: &str, other: &str) -> Markup {
    let (start, middle, end) = differing(text, other);
    html! {
        pre.value tabindex="0" {
            bdi {
                (pieces(start, LONG_CHARACTERS))
                @if !middle.is_empty() { mark { (pieces(middle, LONG_CHARACTERS)) } }
                (pieces(end, LONG_CHARACTERS))
            }
        }
    }
}

/// `text` in three parts: what it has in common with the start of `other`, what differs, and what
/// it has in common with the end.
fn differing<'t>(text: &'t str, other: &str) -> (&'t str, &'t str, &'t str) {
    let same = |(one, other): &(char, char)| one == other;
    let start = text.chars().zip(other.chars()).take_while(same).map(|(one, _)| one.len_utf8());
    let (start, rest) = text.split_at(start.sum());
    let other = other.get(start.len()..).unwrap_or_default();
    let end = rest.chars().rev().zip(other.chars().rev()).take_while(same);
    let end: usize = end.map(|(one, _)| one.len_utf8()).sum();
    let (middle, end) = rest.split_at(rest.len() - end);
    (start, middle, end)
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
    fn names_in_a_sentence_are_code() {
        let shown = sentence("set `unsigned` and <`a`>").into_string();
        assert_eq!(
            shown,
            r#"<bdi class="value">set <code>unsigned</code> and &lt;<code>a</code>&gt;</bdi>"#
        );
        assert_eq!(sentence("a ` alone").into_string(), whole("a ` alone").into_string());
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
    fn what_differs_is_marked() {
        assert_eq!(differing("a=1&b=22&c=é", "a=1&b=3&c=é"), ("a=1&b=", "22", "&c=é"));
        assert_eq!(differing("a=1", "a=1&b=2"), ("a=1", "", ""));
        assert_eq!(differing("aaa", "aa"), ("aa", "a", ""));
        assert_eq!(differing("é", "è"), ("", "é", ""));
        let shown = block_beside("x<1>y", "x2y").into_string();
        assert!(shown.contains("x<mark>&lt;1&gt;</mark>y"), "{shown}");
    }

    #[test]
    fn only_a_long_run_in_a_list_may_be_broken_anywhere() {
        let is_long = |shown: Markup| shown.into_string().starts_with("<bdi class=\"value long\">");
        let (word, long) = ("x".repeat(WORD_CHARACTERS), "x".repeat(WORD_CHARACTERS + 1));
        assert!(is_long(short(&long)) && is_long(short(&format!("a {long}"))));
        assert!(!is_long(short(&word)) && !is_long(short(&format!("{word} {word}"))));
        assert!(!is_long(whole(&long)));
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn large_sizes_are_in_larger_units() {
        let shown = [0, 5 << 20, LARGE - 1, LARGE, 46_873 << 20].map(bytes);
        assert_eq!(shown, ["0 MiB", "5 MiB", "10239 MiB", "10 GiB", "45 GiB"]);
    }

    #[test]
    fn long_values_are_cut_at_a_character_with_a_mark() {
        let shown = short(&"é".repeat(100)).into_string();
        assert!(shown.contains("+20") && shown.contains(&"é".repeat(80)));
        assert!(!shown.contains(&"é".repeat(81)));
        assert!(!whole(&"x".repeat(8192)).into_string().contains("cut"));
    }
}
