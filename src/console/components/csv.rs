//! Tables as CSV files for spreadsheets.

/// Writes rows as CSV (RFC 4180), with a byte order mark: spreadsheets then read UTF-8.
pub(crate) fn csv(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = String::from("\u{feff}");
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| quoted(cell)).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// Quotes a cell. An apostrophe precedes a value that a spreadsheet would read as a formula, because
/// any caller of a source can choose the parameters.
fn quoted(cell: &str) -> String {
    let unseen = |one: char| {
        let breaks = matches!(one, '\t' | '\r' | '\n');
        let is_space = one.is_whitespace() || one.is_control();
        (is_space && !breaks) || matches!(one, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let first = cell.trim_start_matches(unseen).chars().next();
    let is_formula = matches!(
        first,
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠' | '|' | '%')
    );
    let guard = if is_formula { "'" } else { "" };
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_no_quote_ends_one() {
        for formula in [
            "=1+1",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            " =1",
            "＝1",
            "\u{3000}=1",
            "\u{200b}=1",
        ] {
            assert!(quoted(formula).starts_with("\"'"), "{formula:?}");
        }
        assert_eq!(quoted("a\"b,\nc"), "\"a\"\"b,\nc\"");
        let text = csv([vec!["a".to_owned(), "1".to_owned()]]);
        assert_eq!(text, "\u{feff}\"a\",\"1\"\r\n");
    }
}
