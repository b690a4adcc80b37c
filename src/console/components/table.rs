//! Tables and their paging.

use maud::{Markup, html};

use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;

texts! {
    NEXT = "Next page", "下一页";
    FIRST = "First page", "第一页";
    PAGES = "Pages", "分页";
}

/// A table with a caption. The first cell of each row is its header. An empty table is replaced by
/// the text `empty`.
pub fn table(
    lang: Lang,
    caption: &str,
    columns: &[Text],
    rows: &[Vec<Markup>],
    empty: Text,
) -> Markup {
    if rows.is_empty() {
        return html! { p.empty { (empty.of(lang)) } };
    }
    html! {
        div.wide role="region" aria-label=(caption) tabindex="0" {
            table {
                caption { (caption) }
                thead { tr { @for column in columns { th scope="col" { (column.of(lang)) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, cell) in row.iter().enumerate() {
                                @if at == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Links to the first and the next page. `next` is the cursor of the next page; the page reads it
/// from the query field `cursor`.
pub fn pages(visit: &Visit, next: Option<&str>) -> Markup {
    let lang = visit.lang;
    let is_first = visit.query.text("cursor").is_none();
    html! {
        @if next.is_some() || !is_first {
            nav.pages aria-label=(PAGES.of(lang)) {
                @if !is_first { a href=(visit.with("cursor", None)) { (FIRST.of(lang)) } }
                @if let Some(cursor) = next {
                    a rel="next" href=(visit.with("cursor", Some(cursor))) { (NEXT.of(lang)) }
                }
            }
        }
    }
}
