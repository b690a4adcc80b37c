//! The tables of a sender file as they are written, read back as text.

use toml::{Table, Value};

use super::Cell;

/// The row of a token.
pub(super) fn token_row(jws: &Table) -> Vec<Cell> {
    let say = |key: &str| strings(jws.get(key)).join(" or ");
    let of = say("of");
    let key = match say("key").as_str() {
        "x5c" => String::from("certificates in its header that lead to a pinned root"),
        "list" => String::from("a key of the sender's list"),
        key => key.to_owned(),
    };
    let mut why = vec![format!("key: {key}")];
    for (name, claim) in table(jws, "claims") {
        why.push(format!("{name} is {}", strings(Some(&claim)).join(" or ")));
    }
    vec![
        Cell::words("1"),
        Cell::code(format!("{of}, a JSON Web Signature")),
        Cell::words(say("alg")),
        Cell::code(of),
        Cell::words(why.join("; ")),
    ]
}

/// The parameters that are signed as a list, in brief.
pub(super) fn pairs_of(pairs: &Table) -> String {
    let which = strings(pairs.get("which"));
    let which = match which.as_slice() {
        [one] if one == "query" => String::from("all of the query"),
        [one] if one == "form" => String::from("all of the form"),
        [one] if one == "all" => String::from("all of query and form"),
        [one] if one == "pasted" => String::from("the pasted parameters"),
        names => names.join(" "),
    };
    let mut said = which;
    let mut add = |text: String| said.push_str(&format!(", {text}"));
    let except = strings(pairs.get("except"));
    if !except.is_empty() {
        add(format!("except {}", except.join(" ")));
    }
    for (name, value) in table(pairs, "add") {
        add(format!("with {name} = {}", plain(&value)));
    }
    match pairs.get("order").and_then(Value::as_str).unwrap_or("name") {
        "given" => add(String::from("as given")),
        order => add(format!("sorted by {order}")),
    }
    add(format!("written as {}", pairs.get("shape").map(plain).unwrap_or_default()));
    if let Some(each) = pairs.get("each") {
        add(format!("each in {} encoding", plain(each)));
    }
    if pairs.get("empty").and_then(Value::as_str) == Some("dropped") {
        add(String::from("empty ones omitted"));
    }
    said
}

/// The table `key`; empty where there is none.
pub(super) fn table(of: &Table, key: &str) -> Table {
    of.get(key).and_then(as_table).unwrap_or_default()
}

pub(super) fn as_table(value: &Value) -> Option<Table> {
    value.as_table().cloned()
}

/// The table `key` of `own` over that of `base`.
pub(super) fn merged(base: &Table, own: &Table, key: &str) -> Table {
    let mut both = table(base, key);
    both.extend(table(own, key));
    both
}

/// One text or a list of them.
pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(plain).collect(),
        Some(one) => vec![plain(one)],
    }
}

/// The texts of a role: one, a list, or some with conditions.
pub(super) fn role_texts(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::Table(with) => {
            let when = strings(with.get("when")).join(", or ");
            format!("{} (when {when})", with.get("of").map(plain).unwrap_or_default())
        }
        other => plain(other),
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        other => vec![one(other)],
    }
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // Conditions that all have to hold.
        Value::Table(table) if table.contains_key("all") => strings(table.get("all")).join(" and "),
        other => other.to_string(),
    }
}
