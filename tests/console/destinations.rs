//! Destinations: created, changed, paused, tested; secrets stay hidden.

use serde_json::json;

use super::axe::{inspect, inspect_without_scripts};
use super::backend::{Backend, status};
use super::browser::LANGUAGES;
use super::gateway::{logged, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::{get, send};

const ALLOW: &str = "\n[egress]\nallow = [\"127.0.0.0/8\"]\n";

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_SECRET: &str = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const HEADER: &str = "Bearer not-for-anybody-to-see";

const HOSTILE: &str = "<script>document.title='x'</script>\u{202e}";

#[test]
fn a_destination_is_created_tested_changed_paused_and_deleted() {
    for (asked, said) in LANGUAGES {
        let backend = Backend::start();
        let Some(gateway) = stage::guarded(ALLOW) else { return };
        let browser = stage::browser(&gateway, asked);
        browser.without_scripts();
        sign_in(&browser, ADMIN_TOKEN, "/console/destinations");
        inspect_without_scripts(&browser, &format!("destinations-none-{said}"));
        browser.leave("main a.button");
        browser.fill("#field-name", "shop");
        browser.fill("#field-url", "http://169.254.169.254/");
        browser.fill("#field-secret", SECRET);
        browser.fill("#field-headers", &format!("Authorization: {HEADER}"));
        browser.leave("main form[method=post] button");
        assert!(browser.has("#field-url[aria-invalid]"), "{}", browser.text("main"));
        let source = browser.run("return document.documentElement.outerHTML", &json!([]));
        let source = source.as_str().unwrap();
        assert!(!source.contains(SECRET) && !source.contains(HEADER), "shown again");
        browser.complaints();
        inspect_without_scripts(&browser, &format!("destination-new-{said}"));
        browser.fill("#field-url", &format!("http://{}/rewards", backend.at));
        browser.fill("#field-secret", SECRET);
        browser.fill("#field-headers", &format!("Authorization: {HEADER}"));
        browser.leave("main form[method=post] button");
        assert_eq!(browser.path(), "/console/destinations/shop");

        browser.fill("#field-user", HOSTILE);
        browser.leave("form[action$='/shop/test'] button");
        assert!(browser.text(".tried").contains("200"), "{}", browser.text("main"));
        let got = &backend.await_count(1)[0];
        assert_eq!((&got.json()["user"], &got.json()["test"]), (&json!(HOSTILE), &json!(true)));
        assert_eq!(got.header("authorization"), HEADER);
        assert!(!got.header("webhook-signature").is_empty());
        inspect_without_scripts(&browser, &format!("destination-tried-{said}"));
        backend.says(status(500));
        browser.leave("form[action$='/shop/test'] button");
        assert!(browser.text(".tried").contains("500"), "{}", browser.text("main"));

        browser.leave("form[action$='/shop/pause'] button");
        assert_eq!(browser.path(), "/console/destinations/shop");
        assert!(browser.has(".badge.paused"));
        browser.leave("form[action$='/shop/resume'] button");
        assert!(browser.has(".badge.active"));

        browser.fill("#field-secret", OTHER_SECRET);
        browser.click("#field-beside");
        browser.fill("[name='retry.attempts']", "3");
        browser.leave("form[action='/console/destinations/shop'] button");
        assert_eq!(browser.path(), "/console/destinations/shop");
        assert!(browser.text("main").contains("2 × ***"), "{}", browser.text("main"));
        browser.leave("form[action$='/shop/test'] button");
        let got = backend.await_count(3);
        assert_eq!(got[2].header("webhook-signature").split(' ').count(), 2);
        assert_eq!(got[2].header("authorization"), HEADER, "it stayed");
        browser.leave("form[action$='/shop/end'] button");
        assert!(browser.text("main").contains("1 × ***"), "{}", browser.text("main"));

        browser.click("details summary");
        browser.leave("form[action$='/shop/delete'] button");
        assert_eq!(browser.path(), "/console/destinations");
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
    for secret in [SECRET, OTHER_SECRET, HEADER] {
        assert!(!logged().contains(secret));
    }
}

#[test]
fn the_backlog_is_shown_and_used_destinations_stay() {
    let at = Backend::nowhere();
    let more = format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{at}/<x>\"\n"
    )
    .replace("<x>", "%3Cscript%3E");
    let Some(gateway) = stage::guarded(&more) else { return };
    let browser = stage::browser(&gateway, "en");
    assert_eq!(get(gateway.at.callbacks, &taku("t1")).status, 200);
    sign_in(&browser, ADMIN_TOKEN, "/console/destinations");
    browser.until("the delivery waits", |browser| {
        browser.reload();
        browser.texts("tbody tr td").get(3).is_some_and(|pending| pending == "1")
    });
    inspect(&browser, "destinations-en");
    browser.follow("game");
    assert!(browser.text("main").contains("configuration file"));
    assert!(!browser.has("form[action='/console/destinations/game']"), "nothing to change");
    // Destinations of the configuration file can be paused, too.
    browser.leave("form[action$='/game/pause'] button");
    assert!(browser.has(".badge.paused"));
    assert!(browser.text("main").contains("by token ops"), "{}", browser.text("main"));
    inspect(&browser, "destination-en");

    let reader = stage::browser(&gateway, "en");
    sign_in(&reader, READ_TOKEN, "/console/destinations/game");
    assert!(reader.text("main").contains("read-only"));
    assert!(!reader.has("main form"));
    let forged_request = "const done = arguments[arguments.length - 1]; \
        const csrf = document.querySelector('[name=csrf]').value; \
        fetch(arguments[0], { method: 'POST', body: new URLSearchParams({ csrf }) }) \
        .then(answer => done(answer.status));";
    for verb in ["resume", "test", "delete"] {
        let path = format!("/console/destinations/game/{verb}");
        assert_eq!(reader.run_async(forged_request, &json!([path])), 403);
    }
    let delete = json!(["/console/destinations/game/delete"]);
    assert_eq!(browser.run_async(forged_request, &delete), 400);
}

#[test]
fn an_outdated_form_changes_nothing() {
    let Some(gateway) = stage::guarded("") else { return };
    let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
    let put = |secrets: serde_json::Value| {
        let table = json!({ "url": "https://shop.example/", "secret": secrets, "rate": "7/s" });
        let line = "PUT /admin/v1/destinations/shop";
        assert!(send(gateway.at.admin, line, &fields, &table.to_string()).status < 300);
    };
    let shown = || send(gateway.at.admin, "GET /admin/v1/destinations/shop", &fields, "").json();
    put(json!([OTHER_SECRET, SECRET]));
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/destinations/shop");
    for path in ["", "/end", "/delete"] {
        browser.go("/console/destinations/shop");
        put(json!([SECRET, OTHER_SECRET]));
        if path.is_empty() {
            browser.fill("#field-rate", "9/s");
        }
        browser.run(
            "document.querySelectorAll('details').forEach(one => one.open = true)",
            &json!([]),
        );
        browser.leave(&format!("form[action='/console/destinations/shop{path}'] button"));
        let page = browser.text("main");
        assert!(page.contains("meanwhile"), "{path}: {page}");
        assert_eq!(shown()["secret"], json!(["***", "***"]), "{path}");
        assert_eq!(shown()["rate"], "7/s", "{path}");
    }
    browser.leave("form[action='/console/destinations/shop/end'] button");
    assert_ne!(shown()["secret"], json!(["***", "***"]));
}
