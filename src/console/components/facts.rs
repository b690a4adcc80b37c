//! Lists of names and values.

use maud::{Markup, html};

use crate::console::lang::Lang;
use crate::console::text::Text;

/// Names with their values, in order.
pub(crate) fn facts(lang: Lang, all: &[(Text, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in all { div { dt { (name.of(lang)) } dd { (value) } } }
        }
    }
}
