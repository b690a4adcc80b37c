//! Jobs of operators, each with the number of clicks that it takes.

use std::time::Duration;

use serde_json::json;

use super::axe::inspect;
use super::backend::{Backend, Say, ok};
use super::browser::{Browser, LANGUAGES};
use super::gateway::{Gateway, eventually, taku, taku_for};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

const ENTER: &str = "\u{e007}";

fn destination(backend: &Backend, retry: &str) -> String {
    format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n\
         secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\nretry = {retry}\n{TOKENS}",
        backend.at
    )
}

fn ask(gateway: &Gateway, path: &str) -> serde_json::Value {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let line = format!("GET /admin/v1/{path}");
    send(gateway.at.admin, &line, &[("Authorization", &bearer)], "").json()
}

/// Types into the box of every page, which a key goes to, and sends it.
fn find(browser: &Browser, text: &str) {
    browser.press("/");
    assert_eq!(browser.run("return document.activeElement.id", &json!([])), "find");
    // As a paste does: typed line ends would send it.
    browser.run("document.activeElement.value = arguments[0]", &json!([text]));
    browser.leave_by(|| browser.press(ENTER));
}

#[test]
fn a_reward_is_found_by_user_transaction_id_or_pasted_callback_without_a_click() {
    let Some(gateway) = stage::guarded("") else { return };
    let good = taku_for("u1", "job-1", "10");
    assert_eq!(get(gateway.at.callbacks, &good).status, 200);
    let id = ask(&gateway, "events")["events"][0]["id"].as_str().unwrap().to_owned();
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        // A read-only token may look for anything.
        sign_in(&browser, READ_TOKEN, "/console");
        browser.clicks();
        for text in ["u1", "job-1", "job*", "JOB-*"] {
            find(&browser, text);
            let row = browser.text("tbody tr");
            assert!(
                row.contains("u1") && row.contains("coin") && row.contains("10"),
                "{text}: {row}"
            );
        }
        let log = format!("{{\"event\":\"{id}\",\"outcome\":\"accepted\"}}");
        for text in [&id, id.trim_start_matches("evt_"), &log] {
            find(&browser, text);
            assert_eq!(browser.path(), format!("/console/events/{id}"));
        }
        find(&browser, "level-end");
        assert_eq!(browser.path(), "/console/sources/level-end");
        for url in [
            good.clone(),
            format!("https://callbacks.example.com{good}"),
            format!("GET {good} HTTP/1.1\nHost: x"),
        ] {
            find(&browser, &url);
            assert!(browser.path().starts_with("/console/find/"), "{}", browser.path());
            assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
            assert!(browser.text("#compared + p").contains(&id));
            let claim = good.rsplit_once("sign=").unwrap().1;
            assert!(!browser.text("main").contains(claim) && !browser.path().contains("sign"));
        }
        inspect(&browser, &format!("found-{said}"));
        // An amount that was changed on the way is marked beside the accepted one.
        find(&browser, &good.replace("reward_amount=10", "reward_amount=11"));
        assert!(browser.has(".badge.rejected"));
        // First what differs between the signed text and ours, then the amount.
        assert_eq!(browser.texts("mark"), ["0", "1", "11"]);
        assert_eq!(browser.clicks(), 0);
        // The address can be shared.
        let other = stage::browser(&gateway, asked);
        sign_in(&other, READ_TOKEN, &browser.path());
        assert_eq!(other.texts("mark"), ["0", "1", "11"]);
        find(&browser, "a=1&b=2");
        assert!(browser.has("[role=alert]"));
        browser.complaints();
    }
}

#[test]
fn a_destination_that_is_down_is_on_the_first_screen_and_paused_with_a_reason_in_two_clicks() {
    for (asked, said) in LANGUAGES {
        let backend = Backend::start();
        backend.says(Say::Status(500, "", String::new()));
        let retry = "{ first = \"1h\", max = \"1h\", attempts = 3 }";
        let Some(gateway) = stage::open(&destination(&backend, retry)) else { return };
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console");
        assert!(browser.has(".needs li.plain"), "the first step: {}", browser.text(".needs"));
        assert_eq!(get(gateway.at.callbacks, &taku("down-1")).status, 200);
        backend.await_count(1);
        // One attempt failed, and that is said at once, not after ten.
        browser.until("the failure is there", |browser| browser.has(".needs li.bad"));
        let need = browser.text(".needs li.bad");
        assert!(need.contains("game") && need.contains('1') && need.contains("500"), "{need}");
        inspect(&browser, &format!("attention-{said}"));
        browser.clicks();
        browser.leave(".needs li.bad .todo a:last-child");
        assert_eq!(browser.path(), "/console/destinations/game#pause");
        assert!(browser.text(".facts").contains("500"), "the last failure");
        browser.fill("#field-reason", "moving to another host");
        browser.leave("form[action$='/pause'] button");
        assert_eq!(browser.clicks(), 2);
        assert!(browser.text(".facts").contains("moving to another host"));
        inspect(&browser, &format!("destination-paused-{said}"));
        browser.go("/console/audit");
        let row = browser.text("tbody tr");
        let word = if said == "en" { "Paused" } else { "暂停" };
        assert!(row.contains(word) && row.contains("moving to another host"), "{row}");
        browser.go("/console/callbacks?state=pending&destination=game");
        assert_eq!(browser.texts("tbody tr").len(), 1);
    }
}

#[test]
fn dead_letters_of_one_cause_are_replayed_in_four_clicks() {
    for (asked, said) in LANGUAGES {
        let backend = Backend::start();
        backend.says(Say::Status(422, "", String::from("{\"error\":\"unknown user\"}")));
        let retry = "{ first = \"20ms\", max = \"100ms\", attempts = 1 }";
        let Some(gateway) = stage::open(&destination(&backend, retry)) else { return };
        for n in 0..3 {
            assert_eq!(get(gateway.at.callbacks, &taku(&format!("dead-{n}"))).status, 200);
        }
        for n in 0..2 {
            get(gateway.at.callbacks, &taku(&format!("bad-{n}")).replace("coin", "gold"));
        }
        let dead =
            || ask(&gateway, "deliveries?state=dead")["deliveries"].as_array().unwrap().len();
        eventually("all are dead", || dead() == 3);
        backend.says(ok());
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console");
        browser.until("the dead letters are there", |browser| browser.text(".needs").contains('3'));
        browser.clicks();
        browser.leave("#areas a[href='/console/issues']");
        let rows = browser.texts("tbody tr");
        assert_eq!(rows.len(), 2, "{rows:?}");
        inspect(&browser, &format!("issues-{said}"));
        browser.leave("tbody a[href*='kind=dead']");
        assert!(browser.text("main").contains("unknown user"));
        inspect(&browser, &format!("issue-{said}"));
        browser.leave("form[action$='/replay'] button");
        browser.leave("button[name=sure]");
        assert_eq!(browser.clicks(), 4);
        eventually("none is dead", || dead() == 0);
        // The rejected ones are settled with one note.
        browser.go("/console/issues");
        browser.leave("tbody a[href*='kind=rejected']");
        browser.click("summary");
        browser.fill("#field-note", "a test of the sender");
        browser.leave("form[action$='/resolve'] button");
        assert!(browser.text(".facts").contains('2'), "{}", browser.text("main"));
        browser.go("/console/issues");
        assert!(!browser.has("tbody tr"), "{}", browser.text("main"));
    }
}

#[test]
fn a_test_callback_grants_nothing_and_leaves_its_transaction_to_the_real_one() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/debug?source=level-end");
    let captured = taku("late-1");
    browser.fill("#field-request", &captured);
    browser.leave("button[value=send]");
    assert!(browser.has(".sent .badge.test"), "{}", browser.text(".sent"));
    let event = &ask(&gateway, "events")["events"][0];
    assert_eq!(
        (&event["test"], &event["transaction"]),
        (&json!(true), &json!("late-1")),
        "{event}"
    );
    browser.leave(".sent a");
    assert!(browser.text(".facts").contains("None"), "{}", browser.text(".facts"));
    // The real one asks for a confirmation, and is a grant.
    browser.go("/console/debug?source=level-end");
    browser.fill("#field-request", &captured);
    browser.click("section[aria-labelledby=paste] summary");
    browser.leave("button[value=deliver]");
    assert!(browser.has("[role=alert]") && !browser.has(".sent"), "{}", browser.text("main"));
    browser.complaints();
    browser.click("input[name=sure]");
    browser.leave("button[value=deliver]");
    assert!(browser.has(".sent .badge.accepted"), "{}", browser.text(".sent"));
    let events = ask(&gateway, "events")["events"].clone();
    assert_eq!(events.as_array().unwrap().len(), 2);
    assert_eq!(events[0]["test"], false);
    browser.go("/console/audit");
    let page = browser.text("tbody");
    assert!(
        page.contains("Test callback to level-end") && page.contains("Real callback to level-end"),
        "{page}"
    );
}

#[test]
fn the_audit_log_says_what_was_changed_and_nothing_else() {
    let Some(gateway) = stage::guarded("") else { return };
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let put = |body: &serde_json::Value| {
        let line = "PUT /admin/v1/sources/bonus";
        let answer = send(gateway.at.admin, line, &[("Authorization", &bearer)], &body.to_string());
        assert!(answer.status < 300, "{}", answer.body);
    };
    let source = json!({ "sender": "taku", "secrets": ["first-secret-0123"], "replayable": true, "destinations": [] });
    put(&source);
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/sources/bonus");
    browser.leave("form[action$='/pause'] button");
    let entry = ask(&gateway, "audit")["audit"][0].clone();
    assert_eq!(entry["changes"], json!({ "enabled": [null, false] }), "{entry}");
    browser.fill("#field-secret", "second-secret-0123");
    browser.leave("form[action$='/rotate'] button");
    let entry = ask(&gateway, "audit")["audit"][0].clone();
    let keys: Vec<&String> = entry["changes"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["secrets"], "{entry}");
    browser.go("/console/audit?kind=source");
    let row = browser.text("tbody tr");
    assert!(row.contains("secrets") && row.contains("expires") && !row.contains("***"), "{row}");
    let file = send(gateway.at.admin, "GET /console/audit/audit.csv", &[], "");
    assert_eq!(file.status, 303, "sign in first");
}

#[test]
fn a_stopped_gateway_and_an_ended_session_are_noticed_within_two_refreshes() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, "/console");
    let state = "[data-state-of=live]";
    assert!(browser.text(state).contains("live"));
    // A click into a table stops nothing.
    browser.click("section[aria-labelledby=sources] td");
    browser.until("it refreshes after a click", |browser| browser.has("#live[data-refreshed]"));
    browser.click("button[data-pause]");
    assert!(browser.text(state).contains("paused"));
    browser.click("button[data-pause]");
    browser.until("it is live again", |browser| browser.text(state).contains("live"));
    browser.forget_cookies();
    browser.until("the session is over", |browser| browser.text(state).contains("signed out"));
    assert!(browser.text("[data-alarm]").contains("session has ended"));
    sign_in(&browser, READ_TOKEN, "/console");
    gateway.stop();
    browser.until("the loss is said", |browser| browser.text(state).contains("lost"));
    assert!(browser.has("#live.stale[data-missed='2']"), "after two misses");
    assert!(browser.text("[data-alarm]").contains("does not respond"));
}

#[test]
fn a_link_is_followed_though_a_refresh_is_due_while_the_mouse_is_down() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, "/console");
    // What makes a hidden page refresh when it is shown.
    let due = || browser.run("document.dispatchEvent(new Event('visibilitychange'))", &json!([]));
    due();
    browser.until("it refreshes", |browser| browser.has("#live[data-refreshed]"));
    let link = "section[aria-labelledby=sources] tbody a";
    browser.hold(link);
    browser.run("window.held = document.querySelector(arguments[0])", &json!([link]));
    due();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(browser.run("return window.held.isConnected", &json!([])), true);
    browser.leave_by(|| browser.release());
    assert_ne!(browser.path(), "/console");
}

#[test]
fn the_alarm_says_the_latest_reason() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, "/console");
    let state = "[data-state-of=live]";
    browser.forget_cookies();
    browser.until("the session is over", |browser| browser.text(state).contains("signed out"));
    gateway.stop();
    browser.until("the loss is said", |browser| browser.text(state).contains("lost"));
    assert!(browser.text("[data-alarm]").contains("does not respond"));
}

/// A script that returns the words of tables that are broken inside, on the page as it is.
const BROKEN: &str = r"
    const broken = [];
    for (const cell of document.querySelectorAll('td, th')) {
      const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
        for (const found of node.data.matchAll(/[A-Za-z0-9_.]{2,24}/g)) {
          const range = document.createRange();
          range.setStart(node, found.index);
          range.setEnd(node, found.index + found[0].length);
          const lines = new Set([...range.getClientRects()].filter(r => r.width > 0).map(r => Math.round(r.top)));
          if (lines.size > 1) broken.push(found[0]);
        }
      }
    }
    return broken;";

#[test]
fn no_word_of_a_table_is_broken_and_no_page_is_wider_than_its_window() {
    let Some(gateway) = stage::open("") else { return };
    for n in 0..5 {
        get(
            gateway.at.callbacks,
            &taku_for(&format!("user-{n}"), &format!("transaction-{n}"), "10"),
        );
        get(gateway.at.callbacks, &taku(&format!("x{n}")).replace("coin", "documentation"));
    }
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        for path in [
            "",
            "/callbacks",
            "/issues",
            "/sources",
            "/destinations",
            "/senders",
            "/audit",
            "/senders/taku",
        ] {
            for width in [1440, 1024, 390] {
                browser.width(width);
                browser.go(&format!("/console{path}"));
                let broken = browser.run(BROKEN, &json!([]));
                assert_eq!(broken, json!([]), "{path} in {said} at {width}");
                let wide = browser.run("return document.documentElement.scrollWidth", &json!([]));
                assert!(wide.as_u64().unwrap() <= u64::from(width), "{path} at {width}: {wide}");
                browser.picture(&format!("page{}-{said}-{width}", path.replace('/', "-")));
            }
        }
        // On a phone the areas are a menu.
        browser.go("/console");
        assert!(!browser.is_visible("#areas"));
        browser.click("button.menu");
        assert!(browser.is_visible("#areas"));
        inspect(&browser, &format!("menu-{said}"));
    }
}

#[test]
fn what_is_shown_is_there_as_a_file() {
    let Some(gateway) = stage::open("") else { return };
    get(gateway.at.callbacks, &taku_for("u1", "file-1", "10"));
    let file = get(gateway.at.admin, "/console/callbacks/callbacks.csv?q=file-1");
    let head = file.body.lines().next().unwrap();
    assert!(head.contains("\"item\",\"amount\",\"deliveries\""), "{head}");
    assert!(file.body.contains("\"coin\",\"10\",\"done\""), "{}", file.body);
    for (path, column) in
        [("dead-letters/dead-letters.csv", "last_attempt_at"), ("audit/audit.csv", "changes")]
    {
        let file = get(gateway.at.admin, &format!("/console/{path}"));
        assert_eq!(file.field("content-type").unwrap(), "text/csv; charset=utf-8", "{path}");
        assert!(file.body.contains(column), "{}", file.body);
    }
}
