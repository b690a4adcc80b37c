//! The keys of every vector, in a golden file, and those of the version before: a change of form
//! must look the old form up.

use sha2::{Digest as _, Sha256};

use super::super::{each_vector, now};
use super::call::{Call, In};
use super::recut::report;
use crate::ledger::{DedupeKey, EventKeys, SourceId};
use crate::sender::acts::parts::resolve_parts;
use crate::sender::acts::resolved::{KeyForm, KeyRole, Resolved};
use crate::sender::language::recipe::Recipe;
use crate::sender::language::vector::{OwnedRequest, Vector};
use crate::sender::request::callback::Judgement;
use crate::sender::{OlderKeys, Resolution};

/// Vectors of kinds that the version before did not know, each with a reason.
const NEW_KINDS: &[(&str, &str, &str)] = &[
    ("lootably", "reversal", "it was a duplicate of what it takes back"),
    ("torox", "reversal", "it was a duplicate of what it takes back"),
];

/// Vectors that the version before rejected, each with a reason.
const NEW_VECTORS: &[(&str, &str, &str)] = &[
    ("wechat-push", "own; a refund, which names no user", "the key had to have a user"),
    (
        "standard-webhooks",
        "own; under the names that Svix gives them",
        "it read the headers of the standard only",
    ),
];

/// The resolution of an accepted vector, and the message in it.
fn resolved(recipe: &Recipe, vector: &Vector) -> Option<(Box<Resolved>, OwnedRequest)> {
    let mut callback = recipe.read(vector.request.borrow(), now(vector));
    callback.look_up(OlderKeys::Wanted);
    let Judgement::Verified(mut verified) = callback.verify() else { return None };
    let resolution = match verified.resolve("evt_keys") {
        Resolution::Several(parts) => resolve_parts(verified.callback, &parts, "evt_keys").pop()?,
        whole => whole,
    };
    let resolved = match resolution {
        Resolution::Event(resolved) => resolved,
        _ => return None,
    };
    let mut request = vector.request.clone();
    if callback.opened.is_some() {
        request.body = callback.message().to_vec();
    }
    Some((resolved, request))
}

#[test]
fn keys_stay_what_they_are() {
    let source = SourceId::from("source");
    let mut table = String::new();
    each_vector(|sender, vector, recipe| {
        let Some((resolved, _)) = resolved(recipe, vector) else { return };
        let keys = EventKeys::of(&source, &resolved);
        let hex = |key: &DedupeKey| const_hex::encode(key.0);
        let identity: Vec<String> = keys.identity.iter().map(hex).collect();
        table +=
            &format!("{}: {}\n  identity {}\n", sender.name(), vector.about, identity.join(" "));
        for key in &keys.signatures {
            table += &format!("  signature {}\n", hex(key));
        }
        for lookup in &keys.lookups {
            let role = if lookup.role == KeyRole::Identity { "identity" } else { "signature" };
            let form = if lookup.form == KeyForm::Older { "older" } else { "unmarked" };
            table += &format!("  {form} {role} {}\n", hex(&lookup.key));
        }
    });
    let file = "fixtures/senders/keys.txt";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("POSTERN_WRITE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (expected, got)) in written.lines().zip(table.lines()).enumerate() {
        assert_eq!(
            expected,
            got,
            "{file}:{}; a key of another form is another event: look the old form up, then write \
             the file with POSTERN_WRITE=1",
            line + 1
        );
    }
    assert_eq!(written.lines().count(), table.lines().count(), "{file}; POSTERN_WRITE=1 writes it");
}

#[test]
fn keys_of_the_version_before_are_found() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/senders/former.toml");
    let former: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let source = SourceId::from("source");
    let (mut wrong, mut found) = (Vec::new(), 0);
    each_vector(|sender, vector, recipe| {
        let Some(former) = former.get(sender.name()).and_then(toml::Value::as_table) else {
            return;
        };
        let Some((resolved, request)) = resolved(recipe, vector) else { return };
        let is_new = |(name, kind, why): &(&str, &str, &str)| {
            *name == sender.name() && *kind == resolved.kind() && !why.is_empty()
        };
        let is_new_vector = |(name, about, why): &(&str, &str, &str)| {
            *name == sender.name() && *about == vector.about && !why.is_empty()
        };
        if NEW_KINDS.iter().any(is_new) || NEW_VECTORS.iter().any(is_new_vector) {
            return;
        }
        let Some(key) = former_key(former, resolved.kind(), &request, vector) else {
            wrong.push(format!("{}: {}: no key", sender.name(), vector.about));
            return;
        };
        let key = DedupeKey::new(&source, &key);
        let looked_up = EventKeys::of(&source, &resolved).lookups;
        let is_it = |one: &crate::ledger::LookupKey| {
            one.key == key && one.role == KeyRole::Identity && one.form == KeyForm::Older
        };
        match looked_up.iter().any(is_it) {
            true => found += 1,
            false => wrong.push(format!("{}: {}: not found", sender.name(), vector.about)),
        }
    });
    report(wrong);
    assert!(found >= 60, "{found}");
}

/// The key of the transaction as the version before made it: its form, which text, the kind, then
/// for each value its place in the text, its length and itself.
fn former_key(
    former: &toml::Table,
    kind: &str,
    request: &OwnedRequest,
    vector: &Vector,
) -> Option<Vec<u8>> {
    let list = |key: &str| -> Vec<&str> {
        let list = former.get(key).and_then(toml::Value::as_array);
        list.into_iter().flatten().filter_map(toml::Value::as_str).collect()
    };
    let place = list("kinds").iter().position(|name| *name == kind).map_or(0, |at| at + 1);
    let own = list(&format!("kind_{kind}"));
    let texts = if own.is_empty() { list("transaction") } else { own };
    let renames = vector.source.get("params").and_then(toml::Value::as_table);
    let texts: Vec<&str> = texts;
    let wire = |name: &str| {
        let of = |key: &str| renames.and_then(|renames| renames.get(key));
        let is_role = texts.contains(&format!("{{{name}}}").as_str());
        let renamed = of(name).or_else(|| of("transaction").filter(|_| is_role));
        let renamed = renamed.and_then(toml::Value::as_str);
        renamed.unwrap_or(name).to_owned()
    };
    let call = Call::of(request);
    for (index, text) in texts.iter().enumerate() {
        let mut key = vec![0, u8::try_from(index).ok()?, u8::try_from(place).ok()?];
        if put_values(text, &call, request, &wire, &mut key).is_some() {
            return Some(key);
        }
    }
    // A further signature of its own.
    let mut key = vec![0, 0, 0];
    put_values("{etxid}", &call, request, &wire, &mut key).map(|()| key)
}

/// Puts the values of the placeholders of `text`; `None` if one is missing.
fn put_values(
    text: &str,
    call: &Call,
    request: &OwnedRequest,
    wire: &impl Fn(&str) -> String,
    to: &mut Vec<u8>,
) -> Option<()> {
    let (mut rest, mut place, mut is_optional) = (text, 0_u8, false);
    while let Some(at) = rest.find(['{', '[', '(', ')']) {
        let (mark, behind) = (rest.as_bytes()[at], &rest[at + 1..]);
        rest = behind;
        match mark {
            b'(' => is_optional = true,
            b')' => is_optional = false,
            _ => {
                let end = rest.find(['}', ']'])?;
                let value = value(&rest[..end], call, request, wire).filter(|v| !v.is_empty());
                rest = &rest[end + 1..];
                match value {
                    Some(value) => {
                        to.push(place);
                        to.extend(u32::try_from(value.len()).ok()?.to_be_bytes());
                        to.extend(value);
                    }
                    None if is_optional => {}
                    None => return None,
                }
                place += 1;
            }
        }
    }
    Some(())
}

fn value(
    name: &str,
    call: &Call,
    request: &OwnedRequest,
    wire: &impl Fn(&str) -> String,
) -> Option<Vec<u8>> {
    if name == "body_sha256" {
        let is_there = !request.body.is_empty();
        return is_there.then(|| const_hex::encode(Sha256::digest(&request.body)).into_bytes());
    }
    if let Some(header) = name.strip_prefix("header.")
        && let Some(value) = request.headers.get(header)
    {
        return Some(value.as_bytes().to_vec());
    }
    let mut steps = name.split('.');
    let first = wire(steps.next()?);
    let field = &call.fields[call.position(first.as_bytes())?];
    let steps: Vec<&str> = steps.collect();
    if steps.is_empty() && !matches!(field.place, In::JsonRaw | In::XmlRaw) {
        return Some(field.value.clone());
    }
    if field.place == In::XmlRaw {
        let step = steps.first()?;
        let text = std::str::from_utf8(&field.value).ok()?;
        let (_, behind) = text.split_once(&format!("<{step}>"))?;
        let (inner, _) = behind.split_once(&format!("</{step}>"))?;
        let cdata = inner.strip_prefix("<![CDATA[").and_then(|text| text.strip_suffix("]]>"));
        return Some(cdata.unwrap_or(inner).as_bytes().to_vec());
    }
    let mut json: serde_json::Value = serde_json::from_slice(&field.value).ok()?;
    for step in steps {
        if let serde_json::Value::String(inner) = &json {
            json = serde_json::from_str(inner).ok()?;
        }
        json = json.get(step)?.clone();
    }
    match json {
        serde_json::Value::String(text) => Some(text.into_bytes()),
        serde_json::Value::Null => None,
        other => Some(other.to_string().into_bytes()),
    }
}
