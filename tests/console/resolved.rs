//! Manual resolution: a note on an event or a rejected callback, in lists and on pages.

use postern::ledger::{Memory, StoreClock};
use serde_json::json;

use super::axe::inspect;
use super::browser::{Browser, LANGUAGES};
use super::driver;
use super::gateway::{Gateway, PLAIN, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

const SECTION: &str = "section[aria-labelledby=resolution]";
const NOTE: &str = "<script>alert(1)</script> given manually \u{202e}sdnoces";

/// Opens the form, which is folded at first.
fn open(browser: &Browser) {
    if browser.has(&format!("{SECTION} details:not([open])")) {
        browser.click(&format!("{SECTION} summary"));
    }
}

fn mark(browser: &Browser, note: &str) {
    open(browser);
    browser.fill("#field-note", note);
    browser.leave(&format!("{SECTION} button"));
}

#[test]
fn an_event_and_a_rejected_callback_are_resolved_and_reopened() {
    let Some(gateway) = stage::guarded("") else { return };
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let ask = |path: &str| {
        let line = format!("GET /admin/v1/{path}");
        send(gateway.at.admin, &line, &[("Authorization", &bearer)], "").json()
    };
    for (asked, said) in LANGUAGES {
        let word = if said == "en" { "Resolved manually" } else { "已人工处理" };
        let (good, bad) = (format!("r-{said}"), format!("w-{said}"));
        let refused = taku(&bad).replace("reward_name=coin", "reward_name=Coin");
        assert_eq!(get(gateway.at.callbacks, &taku(&good)).status, 200);
        get(gateway.at.callbacks, &refused);
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console/callbacks");
        for (thing, transaction) in [("event", &good), ("refusal", &bad)] {
            browser.go(&format!("/console/callbacks?q={transaction}"));
            assert!(!browser.text("tbody tr").contains(word));
            browser.leave("tbody th a");
            let path = browser.path();
            // An empty note, and one that is too long.
            open(&browser);
            browser.leave(&format!("{SECTION} button"));
            assert!(browser.has("#field-note[aria-invalid]"), "{}", browser.text("main"));
            mark(&browser, &"x".repeat(501));
            assert!(browser.text(".field .error").contains("500"));
            assert_eq!(browser.complaints().len(), 2, "two rejected forms");
            inspect(&browser, &format!("resolve-mistaken-{thing}-{said}"));
            mark(&browser, NOTE);
            assert_eq!(browser.path(), format!("{path}#resolution"));
            let section = browser.text(SECTION);
            for shown in ["token ops", "<script>alert(1)</script> given manually", "U+202E"] {
                assert!(section.contains(shown), "{shown} in {section}");
            }
            assert!(!browser.has("main script"));
            inspect(&browser, &format!("resolved-{thing}-{said}"));
            browser.go(&format!("/console/callbacks?q={transaction}"));
            assert!(browser.text("tbody tr").contains(word));
            if thing == "event" {
                let id = path.rsplit('/').next().unwrap().to_owned();
                let shown = ask(&format!("events/{id}"));
                assert_eq!(shown["resolved_by_hand"]["note"], NOTE, "{shown}");
                assert_eq!(shown["resolved_by_hand"]["who"], "token ops");
            } else {
                // The mark applies to the same request, and to no other.
                get(gateway.at.callbacks, &refused);
                get(gateway.at.callbacks, &refused.replace("Coin", "Gold"));
                browser.go(&format!("/console/callbacks?q={transaction}"));
                let rows = browser.texts("tbody tr");
                assert!(!rows[0].contains(word) && rows[1].contains(word), "{rows:?}");
            }
            let reader = stage::browser(&gateway, asked);
            sign_in(&reader, READ_TOKEN, &path);
            assert!(reader.text(SECTION).contains("given manually"));
            assert!(!reader.has(&format!("{SECTION} form")) && reader.has(".may-not"));
            browser.go(&path);
            browser.leave(&format!("{SECTION} button"));
            assert_eq!(browser.path(), format!("{path}#resolution"));
            assert!(browser.has("#field-note"));
        }
        let audit = ask("audit");
        let entries = audit["audit"].as_array().unwrap();
        let entry = |at: usize| (entries[at]["action"].clone(), entries[at]["kind"].clone());
        assert_eq!(entry(0), (json!("deleted"), json!("resolved")), "{audit}");
        assert_eq!(entry(1), (json!("created"), json!("resolved")));
        assert_eq!(entries[1]["who"], "token ops");
        assert_eq!(entries[1]["changes"]["note"][1], NOTE);
        browser.go("/console/audit?kind=resolved");
        assert!(browser.text("tbody tr").contains("given manually"));
    }
}

#[test]
fn a_note_is_seen_by_every_gateway_and_after_a_restart() {
    if !driver::is_there() {
        return;
    }
    let engine = Memory::new(StoreClock::process());
    let text = format!("{PLAIN}{TOKENS}");
    let (one, other) = (Gateway::over(&text, engine.clone()), Gateway::over(&text, engine.clone()));
    get(one.at.callbacks, &taku("g1"));
    let browser = stage::browser(&one, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/callbacks");
    browser.leave("tbody th a");
    let path = browser.path();
    mark(&browser, "given manually");
    let seen = |gateway: &Gateway| {
        let browser = stage::browser(gateway, "en");
        sign_in(&browser, READ_TOKEN, &path);
        browser.until("the note is there", |browser| {
            browser.reload();
            browser.text(SECTION).contains("given manually")
        });
    };
    seen(&other);
    drop(browser);
    other.stop();
    one.stop();
    seen(&Gateway::over(&text, engine));
}
