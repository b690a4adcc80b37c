//! A contract on a page: the same parts as `postern senders NAME`.

use std::sync::Arc;

use maud::{Markup, html};

use super::phrases::{self, phrase};
use super::{EXAMPLE, PASTE_TOOLS};
use crate::console::components::{table, value};
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
    let title = phrase(part.title).map_or(part.title, |text| text.of(lang));
    html! {
        div.wide role="region" aria-label=(table::region(lang, title)) tabindex="0" {
            table {
                @if !part.head.is_empty() {
                    thead { tr { @for title in part.head {
                        @if title.is_empty() { td {} } @else { th scope="col" { (words(lang, title)) } }
                    } } }
                }
                tbody {
                    @for cells in &part.rows {
                        tr {
                            @let shown = row(lang, part, cells);
                            @for at in 0..columns {
                                @let shown = shown.get(at).cloned().unwrap_or_default();
                                @if at == 0 { th scope="row" { (shown) } } @else { td { (shown) } }
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

/// The cells of a row. The first may be a member of a closed set.
pub(in crate::console) fn row(lang: Lang, part: &Part, row: &[Cell]) -> Vec<Markup> {
    let shown = |(at, one): (usize, &Cell)| {
        let member = match lang {
            Lang::Zh if at == 0 => phrases::member(part.title, one.text()),
            Lang::Zh | Lang::En => None,
        };
        match member {
            Some(text) => html! { span title=(one.text()) { (text) } },
            None => cell(lang, one),
        }
    };
    row.iter().enumerate().map(shown).collect()
}

fn cell(lang: Lang, one: &Cell) -> Markup {
    match one {
        Cell::Code(text) if text.is_empty() => html! {},
        Cell::Code(text) => {
            let translated = phrases::literal(text).filter(|_| lang == Lang::Zh);
            html! { code { (value::whole(translated.as_deref().unwrap_or(text))) } }
        }
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
