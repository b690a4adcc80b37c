//! A contract on a page: the same parts as `postern senders NAME`.

use std::sync::Arc;

use maud::{Markup, html};

use super::phrases::{self, phrase};
use super::{EXAMPLE, PASTE_TOOLS};
use crate::console::components::value;
use crate::console::lang::Lang;
use crate::console::sender_texts;
use crate::sender::{Cell, Contract, Part, Sender};

/// The whole contract of `sender`.
pub(super) fn parts(lang: Lang, sender: &Arc<Sender>) -> Markup {
    let contract = Contract::of(sender);
    html! {
        @for (at, part) in contract.parts.iter().enumerate() {
            @let id = format!("part-{at}");
            section aria-labelledby=(id) {
                h2 id=(id) { (words(lang, part.title)) }
                (body(lang, part))
            }
        }
        section aria-labelledby="example" {
            h2 #example { (EXAMPLE.of(lang)) }
            (value::block(&contract.example))
            p { (PASTE_TOOLS.of(lang)) }
        }
    }
}

fn body(lang: Lang, part: &Part) -> Markup {
    let columns = part.rows.iter().map(Vec::len).max().unwrap_or_default();
    if columns > 1 || !part.head.is_empty() {
        return rows(lang, part, columns);
    }
    match part.rows.as_slice() {
        [only] if matches!(only.as_slice(), [Cell::Code(_)]) => value::block(only[0].text()),
        many => html! { ul { @for one in many.iter().flatten() { li { (item(lang, one)) } } } },
    }
}

fn rows(lang: Lang, part: &Part, columns: usize) -> Markup {
    html! {
        div.wide role="region" aria-label=(phrase(part.title).map_or(part.title, |text| text.of(lang))) tabindex="0" {
            table {
                @if !part.head.is_empty() {
                    thead { tr { @for title in part.head {
                        @if title.is_empty() { td {} } @else { th scope="col" { (words(lang, title)) } }
                    } } }
                }
                tbody {
                    @for row in &part.rows {
                        tr {
                            @for at in 0..columns {
                                @let shown = row.get(at).map(|one| cell(lang, one));
                                @if at == 0 { th scope="row" { (shown.unwrap_or_default()) } }
                                @else { td { (shown.unwrap_or_default()) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// An item of a list; URLs of documentation become links.
fn item(lang: Lang, one: &Cell) -> Markup {
    match one {
        Cell::Words(text) if text.starts_with("https://") => html! {
            a href=(text) rel="noopener noreferrer" { (value::whole(text)) }
        },
        other => cell(lang, other),
    }
}

pub(in crate::console) fn cell(lang: Lang, one: &Cell) -> Markup {
    match one {
        Cell::Code(text) if text.is_empty() => html! {},
        Cell::Code(text) => html! { code { (value::whole(text)) } },
        Cell::Words(text) => words(lang, text),
    }
}

/// Translates the fixed phrases of contracts and the texts of the catalog's files.
fn words(lang: Lang, text: &str) -> Markup {
    match (phrase(text), lang) {
        (Some(known), _) => value::sentence(known.of(lang)),
        (None, Lang::En) => value::sentence(text),
        (None, Lang::Zh) => match phrases::made(text) {
            Some(known) => value::sentence(&known),
            None => sender_texts::shown(lang, text),
        },
    }
}
