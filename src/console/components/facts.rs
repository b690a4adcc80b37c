//! A list of facts: what, and what about it.

use maud::{Markup, html};

use crate::console::lang::Lang;
use crate::console::text::Text;

/// Facts, in order.
pub fn facts(lang: Lang, all: &[(Text, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in all { div { dt { (name.of(lang)) } dd { (value) } } }
        }
    }
}
