//! Notices.

use maud::{Markup, html};

/// The kind of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Success.
    Good,
    /// Information.
    Plain,
    /// A failure, or a state that needs action.
    Bad,
}

/// A notice. Screen readers announce a failure at once.
pub(crate) fn notice(tone: Tone, sentence: &str) -> Markup {
    with(tone, &html! { (sentence) })
}

/// A notice with more than words in it.
pub(crate) fn with(tone: Tone, sentence: &Markup) -> Markup {
    let (class, role) = match tone {
        Tone::Good => ("good", "status"),
        Tone::Plain => ("plain", "note"),
        Tone::Bad => ("bad", "alert"),
    };
    html! { p.notice.(class) role=(role) { (sentence) } }
}
