//! The replies of a sender's file, as on the wire.

use toml::{Table, Value};

use super::{Cell, Rows, as_table, plain, table};

/// The replies of a file and of its kinds: name and reply.
pub(super) fn rows(file: &Table) -> Rows {
    let row = |name: String, value: &Value| vec![Cell::words(name), answer(value)];
    let mut rows: Rows = table(file, "reply").iter().map(|(n, v)| row(n.clone(), v)).collect();
    let kinds = file.get("kind").and_then(Value::as_array);
    for kind in kinds.into_iter().flatten().filter_map(as_table) {
        let of = kind.get("name").map(plain).unwrap_or_default();
        let replies = table(&kind, "reply");
        rows.extend(replies.iter().map(|(name, value)| row(format!("{name}, {of}"), value)));
    }
    rows
}

/// A reply as written: status, body.
fn answer(value: &Value) -> Cell {
    let Value::Table(reply) = value else {
        return match value.as_str() {
            Some("silence") => Cell::words("no reply: held until the sender times out"),
            _ => Cell::code(plain(value)),
        };
    };
    let status = reply.get("status").map_or_else(|| String::from("200"), plain);
    let sealed = reply.get("sealed").is_some_and(|sealed| sealed.as_bool() != Some(false));
    let mut said = format!("{status} {}", body(reply)).trim_end().to_owned();
    for (name, value) in table(reply, "headers") {
        said.push_str(&format!(", {name}: {}", plain(&value)));
    }
    if sealed {
        said.push_str(" (encrypted like the callback)");
    }
    Cell::code(said)
}

fn body(reply: &Table) -> String {
    let json = |value: &Value| serde_json::to_string(value).unwrap_or_default();
    let bodies = reply.iter().filter_map(|(key, value)| {
        Some(match key.as_str() {
            "body" => plain(value),
            "json" => json(value),
            "form" => pairs(value),
            "xml" => format!("XML of {}", json(value)),
            "alike" => format!("{} or the same in XML", json(value)),
            _ => return None,
        })
    });
    bodies.collect()
}

fn pairs(value: &Value) -> String {
    let pairs = value.as_table().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", plain(value))).collect();
    pairs.join("&")
}
