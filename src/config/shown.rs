//! A source or a destination as people may see it: its keys as written, secrets masked.

use std::sync::Arc;

use serde_json::{Map, Value};
use toml::de::DeValue;

use super::Shown;
use super::file::Section;
use super::remote::Table;
use crate::sender::Sender;

/// The replacement of a secret.
pub const MASK: &str = "***";

/// Keys of a destination that hold secrets.
const OF_DESTINATIONS: [&str; 2] = ["secret", "headers"];

/// A source of the file.
pub(super) fn source(section: &Section<'_>, sender: &Sender) -> Shown {
    let mut table = written(section);
    mask_source(&mut table, sender);
    Arc::new(table)
}

/// A destination of the file.
pub(super) fn destination(section: &Section<'_>) -> Shown {
    let mut table = written(section);
    mask_destination(&mut table);
    Arc::new(table)
}

/// Masks the secrets of a source of that sender.
pub fn mask_source(table: &mut Table, sender: &Sender) {
    for (key, value) in table {
        if is_secret_of(sender, key) {
            mask(value);
        }
    }
}

/// Masks the secrets of a destination.
pub fn mask_destination(table: &mut Table) {
    for (key, value) in table {
        if OF_DESTINATIONS.contains(&key.as_str()) {
            mask(value);
        }
    }
}

/// Puts back what was masked when `table` was shown, so that it can be sent again with something
/// else changed; `old` is the table that was shown.
///
/// # Errors
/// The keys of all masks that have no value in `old`.
pub fn unmask(table: &mut Table, old: &Table) -> Result<(), Vec<String>> {
    let mut unknown = Vec::new();
    for (key, value) in table {
        if fill(value, old.get(key)).is_err() {
            unknown.push(key.clone());
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(unknown) }
}

/// Whether two URLs lead to one server: scheme, host and port are the same. What was masked stays
/// what it was only there, or it could be sent to any server.
#[must_use]
pub fn is_same_server(one: &str, other: &str) -> bool {
    server_of(one) == server_of(other)
}

fn server_of(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (scheme, authority) = (scheme.to_ascii_lowercase(), rest[..end].to_ascii_lowercase());
    let port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(port).map_or(authority.clone(), str::to_owned);
    Some((scheme, authority))
}

/// All settings of a sender are read as secrets; ids are not secret. The URL of a list of public
/// keys may have to stay private.
fn is_secret_of(sender: &Sender, key: &str) -> bool {
    let is_setting = sender.settings().iter().any(|(name, _)| name == key);
    ["secrets", "key_set_url"].contains(&key) || is_setting && !key.ends_with("_id")
}

fn mask(value: &mut Value) {
    match value {
        // Where a secret is, is none.
        Value::String(text) if text.starts_with("env:") || text.starts_with("file:") => {}
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::Object(table) if table.contains_key("value") => {
            table.get_mut("value").into_iter().for_each(mask);
        }
        Value::Object(table) => table.values_mut().for_each(mask),
        other => *other = Value::from(MASK),
    }
}

fn fill(value: &mut Value, old: Option<&Value>) -> Result<(), ()> {
    match value {
        Value::String(text) if text == MASK => *value = old.cloned().ok_or(())?,
        Value::Object(table) => {
            for (key, value) in table {
                fill(value, old.and_then(|old| old.get(key)))?;
            }
        }
        Value::Array(list) => {
            let old = old.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let (count, masks) = (list.len(), list.iter().filter(|value| *value == MASK).count());
            for (at, value) in list.iter_mut().enumerate() {
                let same = match (value.get("id"), old) {
                    (Some(id), _) => old.iter().find(|old| old.get("id") == Some(id)),
                    (None, [only]) if masks == 1 => Some(only),
                    (None, _) if old.len() == count => old.get(at),
                    (None, _) => None,
                };
                fill(value, same)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn written(section: &Section<'_>) -> Map<String, Value> {
    section.items().map(|(key, item)| (key.to_owned(), json(item.value))).collect()
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(on) => Value::from(*on),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(list) => list.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let pair = |(key, value): (
                &toml::Spanned<std::borrow::Cow<'_, str>>,
                &toml::Spanned<DeValue<'_>>,
            )| { (key.get_ref().to_string(), json(value.get_ref())) };
            Value::Object(table.iter().map(pair).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(value: &Value) -> Table {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_server_is_scheme_host_and_port() {
        for same in ["https://a.example/x", "HTTPS://A.example:443", "https://a.example?u={user}"] {
            assert!(is_same_server("https://a.example/rewards", same), "{same}");
        }
        for other in [
            "http://a.example/rewards",
            "https://a.example:8443/rewards",
            "https://b.example/rewards",
            "https://a.example@evil.example/rewards",
            "https://a.example.evil.example/",
            "https://a.example\\@evil.example/",
            "rewards",
        ] {
            assert_eq!(
                is_same_server("https://a.example/rewards", other),
                other.contains("example\\@"),
                "{other}"
            );
        }
    }

    #[test]
    fn what_was_shown_can_be_sent_again() {
        let old = table(&json!({
            "secret": ["whsec_a", "whsec_b"], "headers": { "X-A": "s" }, "url": "https://a/",
        }));
        let mut shown = old.clone();
        mask_destination(&mut shown);
        let masked =
            json!({ "secret": ["***", "***"], "headers": { "X-A": "***" }, "url": "https://a/" });
        assert_eq!(shown, table(&masked));
        unmask(&mut shown, &old).unwrap();
        assert_eq!(shown, old);
    }

    #[test]
    fn a_mask_stands_for_one_secret_or_for_none() {
        let fill = |new: Value, old: Value| {
            let mut new = table(&json!({ "secrets": new }));
            unmask(&mut new, &table(&json!({ "secrets": old }))).map(|()| new["secrets"].clone())
        };
        let (one, two) = (json!({ "id": "1", "value": "a" }), json!({ "id": "2", "value": "b" }));
        let kept = fill(json!([{ "id": "2", "value": "***" }]), json!([one, two])).unwrap();
        assert_eq!(kept, json!([two]));
        assert_eq!(fill(json!(["new", "***"]), json!(["old"])).unwrap(), json!(["new", "old"]));
        assert!(fill(json!([{ "id": "3", "value": "***" }]), json!([one])).is_err());
        assert!(fill(json!(["***"]), json!(["a", "b"])).is_err());
        assert!(fill(json!("***"), Value::Null).is_ok_and(|value| value.is_null()));
        let mut new = table(&json!({ "secret": "***", "headers": { "X-A": "***" }, "url": "u" }));
        let mut unknown = unmask(&mut new, &Table::new()).unwrap_err();
        unknown.sort();
        assert_eq!(unknown, ["headers", "secret"]);
    }
}
