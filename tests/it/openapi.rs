//! The description of the admin API, held against what is really answered.

use serde_json::{Value, json};

use super::gateway::{Gateway, PLAIN, TAKU_SECRET, taku};
use super::wire::{Answer, get, post, send};

/// Whether `value` is what `schema` says; the path of the first place where it is not.
pub fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.strip_prefix('#').unwrap());
        return check(document, schema.unwrap_or_else(|| panic!("{name}")), value, at);
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let wanted = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => vec![kind],
    };
    assert!(wanted.contains(&kind), "{at}: {value} is {kind}, told {wanted:?}");
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, &format!("{at}[]"));
    }
    let Some(object) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(object.contains_key(name.as_str().unwrap()), "{at}: {name} is missing in {value}");
    }
    for (name, member) in object {
        match schema["properties"].get(name) {
            Some(schema) => check(document, schema, member, &format!("{at}.{name}")),
            None => {
                assert_ne!(
                    schema["additionalProperties"],
                    json!(false),
                    "{at}: {name} is not told"
                );
            }
        }
    }
}

/// A gateway, and what it says of itself.
struct Told {
    gateway: Gateway,
    document: Value,
}

impl Told {
    fn start() -> Self {
        let destination = "[[destination]]\nname = \"game\"\nurl = \"http://127.0.0.1:9/\"\nheaders = { X-A = \"hidden\" }\n[[source]]";
        let text = PLAIN.replace("secrets =", "destinations = \"game\"\nsecrets =");
        let gateway = Gateway::start(&text.replace("[[source]]", destination));
        let document = get(gateway.at.admin, "/admin/v1/openapi.json").json();
        assert_eq!(document["openapi"], "3.1.0");
        Self { gateway, document }
    }

    /// Holds an answer against what is said of that path and method.
    fn check(&self, path: &str, method: &str, answer: &Answer) {
        let responses = &self.document["paths"][path][method]["responses"];
        let response = &responses[answer.status.to_string()];
        assert!(!response.is_null(), "{method} {path}: {} {}", answer.status, answer.body);
        let Some(content) = response["content"].as_object() else {
            assert!(answer.body.is_empty());
            return;
        };
        let (kind, content) = content.iter().next().unwrap();
        let is = answer.field("content-type").unwrap();
        assert!(is.starts_with(kind.as_str()), "{path}: {is}");
        if kind.ends_with("json") {
            check(&self.document, &content["schema"], &answer.json(), path);
        }
    }
}

#[test]
fn what_is_looked_at_is_as_the_document_says() {
    let told = Told::start();
    let (admin, callbacks) = (told.gateway.at.admin, told.gateway.at.callbacks);
    get(callbacks, &taku("o1"));
    get(callbacks, &taku("o2").replace("coin", "gold"));
    let listed = get(admin, "/admin/v1/events");
    let id = listed.json()["events"][0]["id"].as_str().unwrap().to_owned();
    told.check("/admin/v1/events", "get", &listed);
    let event = "/admin/v1/events/{id}";
    told.check(event, "get", &get(admin, &format!("/admin/v1/events/{id}")));
    told.check(event, "get", &get(admin, "/admin/v1/events/evt_0"));
    let again = post(admin, &format!("/admin/v1/events/{id}/replay"), "");
    told.check("/admin/v1/events/{id}/replay", "post", &again);
    for path in [
        "/metrics",
        "/livez",
        "/healthz",
        "/readyz",
        "/admin/v1/rejections",
        "/admin/v1/senders",
        "/admin/v1/signing-key",
        "/admin/v1/urls",
        "/admin/v1/sources",
        "/admin/v1/destinations",
        "/admin/v1/audit",
        "/admin/v1/openapi.json",
        "/admin/v1/event.schema.json",
    ] {
        told.check(path, "get", &get(admin, path));
    }
    for query in ["?state=pending", ""] {
        let answer = get(admin, &format!("/admin/v1/deliveries{query}"));
        told.check("/admin/v1/deliveries", "get", &answer);
    }
    let begun = post(admin, "/admin/v1/release", r#"{"source":"level-end","dry_run":true}"#);
    told.check("/admin/v1/release", "post", &begun);
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let release = "/admin/v1/release/{id}";
    told.check(release, "get", &get(admin, &format!("/admin/v1/release/{id}")));
    told.check(release, "get", &get(admin, "/admin/v1/release/rel_0"));
    told.check(release, "delete", &send(admin, &format!("DELETE /admin/v1/release/{id}"), &[], ""));
    let question = json!({ "source": "level-end", "url": taku("o3") }).to_string();
    told.check("/admin/v1/explain", "post", &post(admin, "/admin/v1/explain", &question));
    let keys = ["transaction=o4", "item=coin", "amount=1", "placement_id=p", "adsource_id=9"];
    for (source, parameters) in
        [("level-end", &keys[..]), ("level-end", &["nonsense"]), ("none", &keys)]
    {
        let wanted = json!({ "source": source, "parameters": parameters }).to_string();
        told.check("/admin/v1/sign", "post", &post(admin, "/admin/v1/sign", &wanted));
    }
}

#[test]
fn what_is_changed_is_as_the_document_says() {
    let told = Told::start();
    let admin = told.gateway.at.admin;
    let source =
        json!({ "sender": "taku", "secrets": TAKU_SECRET, "replayable": true }).to_string();
    let destination = json!({ "url": "https://a.example/", "headers": { "X-A": "hidden" } });
    for (word, body) in [("sources", &source), ("destinations", &destination.to_string())] {
        let path = format!("/admin/v1/{word}/{{name}}");
        let ask = |method: &str, fields: &[(&str, &str)], body: &str| {
            let answer = send(admin, &format!("{method} /admin/v1/{word}/x"), fields, body);
            assert!(!answer.body.contains("hidden") && !answer.body.contains(TAKU_SECRET));
            told.check(&path, &method.to_lowercase(), &answer);
            answer.status
        };
        assert_eq!(ask("GET", &[], ""), 404);
        assert_eq!(ask("PUT", &[], "{"), 400);
        assert_eq!(ask("PUT", &[], "{}"), 422);
        assert_eq!(ask("PUT", &[], body), 201);
        assert_eq!(ask("PUT", &[], body), 200);
        assert_eq!(ask("PUT", &[("If-Match", "\"0\"")], body), 412);
        assert_eq!(ask("GET", &[], ""), 200);
        assert_eq!(ask("DELETE", &[], ""), 204);
    }
    let foreign = send(admin, "DELETE /admin/v1/sources/level-end", &[], "");
    told.check("/admin/v1/sources/{name}", "delete", &foreign);
    told.check("/admin/v1/audit", "get", &get(admin, "/admin/v1/audit"));
}

#[test]
fn what_is_done_with_destinations_is_as_the_document_says() {
    let told = Told::start();
    let admin = told.gateway.at.admin;
    for name in ["game", "absent"] {
        let at = |action: &str| format!("/admin/v1/destinations/{name}/{action}");
        let path = |action: &str| format!("/admin/v1/destinations/{{name}}/{action}");
        told.check(&path("status"), "get", &get(admin, &at("status")));
        for action in ["pause", "resume", "test"] {
            told.check(&path(action), "post", &post(admin, &at(action), ""));
        }
    }
    let begun = post(admin, "/admin/v1/replay", "{\"all\": true}");
    told.check("/admin/v1/replay", "post", &begun);
    told.check("/admin/v1/replay", "post", &post(admin, "/admin/v1/replay", "{}"));
    let order = format!("/admin/v1/replay/{}", begun.json()["id"].as_str().unwrap());
    told.check("/admin/v1/replay/{id}", "get", &get(admin, &order));
    let cancelled = send(admin, &format!("DELETE {order}"), &[], "");
    told.check("/admin/v1/replay/{id}", "delete", &cancelled);
}

#[test]
fn a_drain_is_as_the_document_says() {
    let told = Told::start();
    let asked = post(told.gateway.at.admin, "/admin/v1/drain", "");
    assert_eq!(asked.status, 202);
    told.check("/admin/v1/drain", "post", &asked);
    told.gateway.hurry();
}
