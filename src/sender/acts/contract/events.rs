//! The provider's table of events, as rows of a contract.

use toml::{Table, Value};

use super::{Cell, Rows, as_table, plain, role_texts, strings, table};

/// A line for each row of the table: names, kind, effect and identity.
pub(super) fn rows(file: &Table) -> Rows {
    let events = file.get("event").and_then(Value::as_array);
    events.into_iter().flatten().filter_map(as_table).map(|row| line(file, &row)).collect()
}

fn line(file: &Table, row: &Table) -> Vec<Cell> {
    let kind = row.get("kind").map(plain).unwrap_or_default();
    let effect = row.get("effect").map(|effect| role_texts(effect).join(", else "));
    let effect = effect.or_else(|| effect_of(file, &kind));
    let id = match row.get("id").map(role_texts) {
        Some(texts) => Cell::code(texts.join(", or ")),
        None => Cell::words("its content"),
    };
    vec![
        Cell::code(strings(row.get("is")).join(", ")),
        Cell::words(kind),
        Cell::words(effect.unwrap_or_default()),
        id,
    ]
}

/// The effect of events of `kind`, if the file names one.
fn effect_of(file: &Table, kind: &str) -> Option<String> {
    let kinds = file.get("kind").and_then(Value::as_array)?;
    let named = |one: &Table| one.get("name").and_then(Value::as_str) == Some(kind);
    let of_kind = kinds.iter().filter_map(as_table).find(named)?;
    let of_file = || Some(plain(table(file, "roles").get("effect")?));
    of_kind.get("effect").map(plain).or_else(of_file)
}
