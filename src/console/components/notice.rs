//! A sentence that stands out.

use maud::{Markup, html};

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It is worth knowing.
    Plain,
    /// It did not work, or needs somebody.
    Bad,
}

/// A notice. A bad one is said by screen readers at once.
pub fn notice(tone: Tone, sentence: &str) -> Markup {
    let (class, role) = match tone {
        Tone::Good => ("good", "status"),
        Tone::Plain => ("plain", "note"),
        Tone::Bad => ("bad", "alert"),
    };
    html! { p.notice.(class) role=(role) { (sentence) } }
}
