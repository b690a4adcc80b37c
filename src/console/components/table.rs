//! Tables and their paging.

use maud::{Markup, html};

use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;

texts! {
    NEXT = "Next page", "下一页";
    /// A region beside the section of the same heading needs a name of its own.
    REGION = "{} (table)", "{}（表格）";
    ROWS = "Rows: {}", "共 {} 行";
    ROWS_MORE = "Rows on this page: {}; more on the next", "本页 {} 行，下一页还有更多";
    PAGES = "Pages", "分页";
}

/// Words of a link to the first page of a list.
pub(crate) const FIRST: Text = Text::new("First page", "第一页");

/// The caption of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caption<'c> {
    /// Above the table.
    Shown(&'c str),
    /// For screen readers only: a heading above the table says the same.
    Hidden(&'c str),
}

/// A table. The first cell of each row is its header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataTable<'t> {
    caption: Caption<'t>,
    columns: &'t [Text],
    empty: Text,
}

impl<'t> DataTable<'t> {
    /// A table with these columns. Without rows the text `empty` is in its place.
    pub(crate) const fn new(caption: Caption<'t>, columns: &'t [Text], empty: Text) -> Self {
        Self { caption, columns, empty }
    }

    pub(crate) fn show(&self, lang: Lang, rows: &[Vec<Markup>]) -> Markup {
        if rows.is_empty() {
            return html! { p.empty { (self.empty.of(lang)) } };
        }
        // The roles keep it a table for screen readers where the stylesheet makes cards of the rows,
        // and each cell there needs the name of its column.
        let (Caption::Shown(text) | Caption::Hidden(text)) = self.caption;
        let name_of_region = match self.caption {
            Caption::Shown(text) => text.to_owned(),
            Caption::Hidden(text) => region(lang, text),
        };
        let name = |at: usize| self.columns.get(at).map(|column| column.of(lang));
        html! {
            div.wide role="region" aria-label=(name_of_region) tabindex="0" {
                table.cards role="table" {
                    caption.unseen[matches!(self.caption, Caption::Hidden(_))] { (text) }
                    thead role="rowgroup" {
                        tr role="row" {
                            @for column in self.columns {
                                th scope="col" role="columnheader" { (column.of(lang)) }
                            }
                        }
                    }
                    tbody role="rowgroup" {
                        @for row in rows {
                            tr role="row" {
                                @for (at, cell) in row.iter().enumerate() {
                                    @if at == 0 { th scope="row" role="rowheader" { (cell) } }
                                    @else { td role="cell" data-column=[name(at)] { (cell) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The name of the region of a table below a heading with the text `title`.
pub(crate) fn region(lang: Lang, title: &str) -> String {
    REGION.fill(lang, &[&title])
}

/// The number of rows on a page, and whether there are more: `next` is the cursor of the next page.
pub(crate) fn counted(lang: Lang, rows: usize, next: Option<&str>) -> Markup {
    let text = if next.is_some() { ROWS_MORE } else { ROWS };
    html! { p.hint { (text.fill(lang, &[&rows])) } }
}

/// Links to the first and the next page. `next` is the cursor of the next page; the page reads it
/// from the query field `cursor`.
pub(crate) fn pages(visit: &Visit, next: Option<&str>) -> Markup {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_a_table_below_a_heading_has_a_name_of_its_own() {
        let shown = |caption| {
            let table = DataTable::new(caption, &[NEXT], NEXT);
            table.show(Lang::En, &[vec![html! { "x" }]]).into_string()
        };
        assert!(shown(Caption::Hidden("Secrets")).contains("aria-label=\"Secrets (table)\""));
        assert!(shown(Caption::Shown("Newest first")).contains("aria-label=\"Newest first\""));
    }
}
