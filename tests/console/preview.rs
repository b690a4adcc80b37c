//! Templates previewed on a real event: nothing is delivered and nothing is saved.

use serde_json::{Value, json};

use super::axe::inspect;
use super::backend::Backend;
use super::browser::LANGUAGES;
use super::gateway::{Gateway, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn put(gateway: &Gateway, what: &str, table: &Value) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let line = format!("PUT /admin/v1/{what}");
    let done = send(gateway.at.admin, &line, &[("Authorization", &bearer)], &table.to_string());
    assert!(done.status < 300, "{}", done.body);
}

fn shown(gateway: &Gateway, what: &str) -> Value {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let line = format!("GET /admin/v1/{what}");
    send(gateway.at.admin, &line, &[("Authorization", &bearer)], "").json()
}

#[test]
fn a_destination_is_previewed_on_an_event_before_it_is_saved() {
    let Some(gateway) = stage::guarded("") else { return };
    let url =
        "https://shop.example/grant?user={user}&amount={amount}&event={event_id}&effect={effect}";
    let table = json!({
        "url": url, "format": "template", "secret": SECRET, "headers": { "X-Key": "hidden-key" },
    });
    put(&gateway, "destinations/shop", &table);
    for (n, (asked, said)) in LANGUAGES.into_iter().enumerate() {
        assert_eq!(get(gateway.at.callbacks, &taku(&format!("shop-{n}"))).status, 200);
        let id = shown(&gateway, "events")["events"][0]["id"].as_str().unwrap().to_owned();
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console/destinations/shop");
        // The latest event, unless one is named.
        browser.leave("button[value=preview]");
        let preview = browser.text(".preview");
        assert!(
            preview.contains(&format!("?user=u1&amount=10&event={id}&effect=grant")),
            "{preview}"
        );
        assert!(!preview.contains("hidden-key") && preview.contains("x-key"), "{preview}");
        assert!(
            preview.contains("postern-signature") || preview.contains("signature"),
            "{preview}"
        );
        inspect(&browser, &format!("preview-{said}"));
        browser.choose("#field-format", "event");
        browser.fill("#field-url", "https://shop.example/events");
        browser.fill("#field-preview_event", &id);
        browser.leave("button[value=preview]");
        let preview = browser.text(".preview");
        let transaction = format!("\"transaction\": \"shop-{n}\"");
        assert!(preview.contains(&transaction) && preview.contains("POST"), "{preview}");
        let format =
            browser.run("return document.querySelector('#field-format').value", &json!([]));
        assert_eq!(format, "event", "what was typed stays");
        assert_eq!(shown(&gateway, "destinations/shop")["format"], "template", "nothing is saved");
        assert_eq!(browser.complaints(), Vec::<String>::new());
        browser.fill("#field-preview_event", "evt_none");
        browser.leave("button[value=preview]");
        assert!(browser.has("#field-preview_event[aria-invalid]"), "{}", browser.text("main"));
        browser.complaints();
    }
    // A test event is not sent to a URL that cannot tell it from a grant, and that is said.
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/debug?source=level-end");
    browser.fill("#field-request", &taku("a-test"));
    browser.leave("button[value=send]");
    browser.go("/console/destinations/shop");
    browser.fill("#field-url", "https://shop.example/grant?user={user}");
    browser.leave("button[value=preview]");
    assert!(browser.text(".preview").contains("Not sent"), "{}", browser.text("main"));
}

#[test]
fn a_destination_of_the_file_is_previewed_from_the_page_of_an_event() {
    let backend = Backend::start();
    let more = format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nformat = \"template\"\n\
         url = \"http://{}/?user={{user}}&effect={{effect}}\"\nsecret = \"{SECRET}\"\n{TOKENS}",
        backend.at
    );
    let Some(gateway) = stage::open(&more) else { return };
    assert_eq!(get(gateway.at.callbacks, &taku("file-1")).status, 200);
    backend.await_count(1);
    let id = shown(&gateway, "events")["events"][0]["id"].as_str().unwrap().to_owned();
    // With a read-only token as well.
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, &format!("/console/events/{id}"));
    browser.leave("section[aria-labelledby=deliveries] a[href*=preview]");
    assert!(
        browser.text(".preview").contains("/?user=u1&effect=grant"),
        "{}",
        browser.text("main")
    );
    assert_eq!(backend.got().len(), 1, "nothing is sent");
}

#[test]
fn a_template_of_a_source_is_previewed_on_its_event() {
    let Some(gateway) = stage::guarded("") else { return };
    let secret = super::gateway::TAKU_SECRET;
    let source = json!({ "sender": "taku", "secrets": secret, "replayable": true });
    put(&gateway, "sources/bonus", &source);
    let callback = taku("bonus-1").replace("level-end", "bonus");
    assert_eq!(get(gateway.at.callbacks, &callback).status, 200);
    assert_eq!(get(gateway.at.callbacks, &taku("other-1")).status, 200);
    let other = shown(&gateway, "events")["events"][0]["id"].as_str().unwrap().to_owned();
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console/sources/bonus");
        browser.fill("#field-template", "type=1&who={user_id}&lost={nothing}");
        browser.leave("button[value=preview]");
        let preview = browser.text(".preview");
        for shown in ["type", "who", "u1", "nothing"] {
            assert!(preview.contains(shown), "{shown} in {preview}");
        }
        inspect(&browser, &format!("preview-source-{said}"));
        assert_eq!(shown(&gateway, "sources/bonus")["template"], Value::Null, "nothing is saved");
        browser.fill("#field-preview_event", &other);
        browser.leave("button[value=preview]");
        assert!(browser.has("#field-preview_event[aria-invalid]"), "{}", browser.text("main"));
    }
}
