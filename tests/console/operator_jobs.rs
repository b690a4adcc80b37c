//! Jobs of operators who set up, rotate and watch, each with the number of clicks that it takes.

use postern::clock::now_ms;
use postern::ledger::{Ledger as _, Memory, NewEvent, StoreClock};
use serde_json::{Value, json};

use super::axe::inspect;
use super::backend::Backend;
use super::browser::{Browser, LANGUAGES};
use super::driver;
use super::gateway::{Gateway, PLAIN, taku};
use super::recorded::Recorded;
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

/// A secret of a destination, as its configuration has it.
const KEY: &str = "secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n";

fn ask(gateway: &Gateway, path: &str) -> Value {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let line = format!("GET /admin/v1/{path}");
    send(gateway.at.admin, &line, &[("Authorization", &bearer)], "").json()
}

#[test]
fn a_source_of_levelplay_is_created_and_tested_in_seven_clicks() {
    for (asked, said) in LANGUAGES {
        let Some(gateway) = stage::guarded("") else { return };
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console");
        browser.clicks();
        browser.leave("#areas a[href='/console/sources']");
        browser.choose("#field-new", "levelplay");
        browser.leave("form.ask button");
        browser.fill("#field-name", "lp-android");
        browser.fill("#field-secret", "private-key-of-the-app");
        browser.leave("main form[method=post] button");
        assert_eq!(browser.path(), "/console/sources/lp-android", "{}", browser.text("main"));
        browser.leave("main .actions a[href^='/console/debug']");
        browser.leave("button[value=sign]");
        assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
        browser.leave("button[value=send]");
        // Choosing the sender is a click as well.
        assert_eq!(browser.clicks(), 7);
        assert!(browser.has(".sent .badge.test"), "{}", browser.text(".sent"));
        inspect(&browser, &format!("levelplay-tested-{said}"));
        let event = &ask(&gateway, "events")["events"][0];
        assert_eq!((&event["source"], &event["test"]), (&json!("lp-android"), &json!(true)));
    }
}

#[test]
fn a_secret_is_rotated_in_three_clicks_and_the_use_of_the_old_one_is_shown() {
    for (asked, said) in LANGUAGES {
        let Some(gateway) = stage::guarded("") else { return };
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let table = json!({
            "sender": "taku", "secrets": super::gateway::TAKU_SECRET, "replayable": true,
        });
        let line = "PUT /admin/v1/sources/bonus";
        let put = send(gateway.at.admin, line, &[("Authorization", &bearer)], &table.to_string());
        assert!(put.status < 300, "{}", put.body);
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console");
        browser.clicks();
        browser.leave("#areas a[href='/console/sources']");
        browser.leave("tbody a[href='/console/sources/bonus']");
        browser.fill("form[action$='/rotate'] #field-secret", "another-secret-of-32-characters!");
        browser.leave("form[action$='/rotate'] button");
        assert_eq!(browser.clicks(), 3);
        let used = || browser.texts("section[aria-labelledby=secrets] tbody td:nth-child(4)");
        assert_eq!(used(), ["–", "–"], "{}", browser.text("main"));
        // The sender still signs with the old secret, and that is seen without a click.
        let callback = taku("rotated-1").replace("level-end", "bonus");
        assert_eq!(get(gateway.at.callbacks, &callback).status, 200);
        browser.reload();
        let used = used();
        assert!(used[0] == "–" && used[1] != "–", "{used:?}");
        inspect(&browser, &format!("source-rotated-used-{said}"));
    }
}

/// The number of drawn elements, which have no text.
fn drawn(browser: &Browser, css: &str) -> Value {
    browser.run("return document.querySelectorAll(arguments[0]).length", &json!([css]))
}

#[test]
fn latencies_are_on_the_first_screen_as_charts_with_their_figures() {
    let Some(gateway) = stage::guarded("") else { return };
    for n in 0..5 {
        get(gateway.at.callbacks, &taku(&format!("p99-{n}")));
    }
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, "/console");
        browser.clicks();
        let chart = "figure:has(#latency-of-callbacks)";
        for name in ["p50", "p99"] {
            assert_eq!(drawn(&browser, &format!("{chart} path.{name}")), 1, "{name}");
        }
        let scale = browser.texts(&format!("{chart} .scale span"));
        assert!(scale.len() == 3 && scale[0].ends_with('s') && scale[2] == "0", "{scale:?}");
        let now = if said == "en" { "now" } else { "现在" };
        assert!(browser.text(&format!("{chart} .axis")).contains(now));
        assert_eq!(browser.clicks(), 0);
        browser.click(&format!("{chart} summary"));
        let row = browser.text(&format!("{chart} tbody tr"));
        assert!(row.matches('≈').count() == 2, "{row}");
        inspect(&browser, &format!("latencies-{said}"));
        browser.go("/console?span=days");
        let words = if said == "en" { "three hours" } else { "三小时" };
        assert!(browser.text(&format!("{chart} figcaption")).contains(words));
        assert_eq!(drawn(&browser, &format!("{chart} path.p99")), 1);
    }
}

#[test]
fn a_silent_source_is_on_the_first_screen_after_a_restart() {
    if !driver::is_there() {
        return;
    }
    // One a minute, and nothing for 40 minutes: twice as long as is worth a word.
    let ledger = Memory::new(StoreClock::process());
    let last_ms = now_ms() - 40 * 60_000;
    let event = |n: u32| {
        let (transaction, received_ms) = (format!("old-{n}"), last_ms - i64::from(n) * 60_000);
        let (source, secret) = ("level-end", super::gateway::TAKU_SECRET);
        Recorded { source, secret, user: "u1", transaction: &transaction, received_ms }
            .event(n.into())
    };
    let old: Vec<NewEvent> = (0..30).map(event).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ledger.accept(&old)).unwrap();
    let gateway = Gateway::over(&format!("{PLAIN}{TOKENS}"), ledger);
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, "/console");
        browser.clicks();
        let need = browser.text(".needs li.bad, .needs li.warn");
        assert!(need.contains("level-end") && need.contains("40"), "{need}");
        let usual = if said == "en" { "60 s" } else { "60 秒" };
        assert!(need.contains(usual), "{need}");
        assert!(browser.has("section[aria-labelledby=sources] .badge.bad"));
        assert_eq!(browser.clicks(), 0);
        inspect(&browser, &format!("silent-{said}"));
    }
}

#[test]
fn a_file_of_what_is_shown_is_two_clicks_away_and_the_last_change_one() {
    let Some(gateway) = stage::guarded("") else { return };
    get(gateway.at.callbacks, &taku("csv-1"));
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let table = json!({ "sender": "taku", "secrets": "a-secret-0123456", "rate": "7/s" });
    let line = "PUT /admin/v1/sources/bonus";
    send(gateway.at.admin, line, &[("Authorization", &bearer)], &table.to_string());
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, "/console");
        browser.clicks();
        browser.leave("#areas a[href='/console/callbacks']");
        let file = "const done = arguments[arguments.length - 1]; \
            fetch(document.querySelector('a[href*=\"callbacks.csv\"]').href) \
            .then(answer => answer.text()).then(done);";
        let file = browser.run_async(file, &json!([]));
        assert!(file.as_str().unwrap().contains("\"csv-1\""), "{file}");
        browser.click("a[href*='callbacks.csv']");
        assert_eq!(browser.clicks(), 2);
        browser.leave("#areas a[href='/console/audit']");
        assert_eq!(browser.clicks(), 1);
        let row = browser.text("tbody tr");
        let word = if said == "en" { "Created" } else { "新建" };
        assert!(row.contains("token ops") && row.contains("bonus") && row.contains(word), "{row}");
    }
}

/// The page of a release has an account of its two deliveries, also when it is read again.
fn released_and_delivered(browser: &Browser, game: &Backend) {
    let path = browser.path();
    assert!(path.starts_with("/console/issues/releases/rel_"), "{path}");
    game.await_count(2);
    browser.until("nothing waits", |browser| browser.has("#live [data-ended]"));
    browser.go(&path);
    let account: Vec<String> =
        browser.texts(".facts div").iter().map(|fact| fact.replace('\n', " ")).collect();
    let expected = match browser.has("html[lang=zh-CN]") {
        true => ["状态 已完成", "已放行 2", "已投递 2", "成为死信 0", "待投递 0"],
        false => ["State Done", "Released 2", "Delivered 2", "Dead letters 0", "Still waiting 0"],
    };
    assert_eq!(account[1..], expected);
}

#[test]
fn held_callbacks_of_one_cause_are_released_or_dropped_in_four_clicks() {
    for (asked, said) in LANGUAGES {
        if !driver::is_there() {
            return;
        }
        let rules = "quarantine = { reasons = [\"bad_signature\"], keep = \"14d\" }\nsecrets =";
        let game = Backend::start();
        let text = format!(
            "{}[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n{KEY}{TOKENS}",
            PLAIN.replace("secrets =", &format!("destinations = \"game\"\n{rules}")),
            game.at
        );
        let gateway = Gateway::start(&text);
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, "/console");
        for (verb, events) in [("release", 2), ("drop", 2)] {
            for n in 0..2 {
                let forged = taku(&format!("{verb}-{n}")).replace("sign=", "sign=0");
                get(gateway.at.callbacks, &forged);
            }
            browser.go("/console");
            browser.clicks();
            browser.leave("#areas a[href='/console/issues']");
            browser.leave("tbody a[href*='kind=held']");
            if verb == "release" {
                inspect(&browser, &format!("issue-held-{said}"));
            }
            let form = format!("form[action='/console/issues/{verb}']");
            browser.click(&format!("details:has({form}) summary"));
            // The number is in the question and on the button.
            let button = browser.text(&format!("{form} button"));
            assert!(button.contains('2'), "{button}");
            browser.fill(&format!("{form} [name=reason]"), "the sender signs wrongly since noon");
            browser.leave(&format!("{form} button"));
            assert_eq!(browser.clicks(), 4, "{verb}");
            assert!(browser.text(".facts").contains('2'), "{}", browser.text("main"));
            if verb == "release" {
                released_and_delivered(&browser, &game);
                inspect(&browser, &format!("issue-released-{said}"));
            }
            assert_eq!(ask(&gateway, "events")["events"].as_array().unwrap().len(), events);
            browser.go("/console/issues");
            assert!(!browser.has("tbody a[href*='kind=held']"), "{}", browser.text("main"));
        }
        let held = ask(&gateway, "held")["held"].as_array().unwrap().len();
        assert_eq!(held, 0);
    }
}

#[test]
fn a_bad_signature_is_explained_for_a_pasted_command_or_log_line_without_a_click() {
    let Some(gateway) = stage::guarded("") else { return };
    let forged = taku("why-1").replace("sign=", "sign=0");
    for (asked, _) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, "/console");
        browser.clicks();
        for text in [
            format!("curl -i 'https://callbacks.example.com{forged}'"),
            format!(
                "10.0.0.7 - - [29/Nov/2026:08:00:00 +0000] \"GET {forged} HTTP/1.1\" 601 7 \"-\" \"x\""
            ),
            format!("POST {forged} HTTP/1.1\nHost: x\n\nbody"),
        ] {
            browser.press("/");
            browser.run("document.activeElement.value = arguments[0]", &json!([text]));
            browser.leave_by(|| browser.press("\u{e007}"));
            assert!(browser.has(".badge.rejected"), "{text}: {}", browser.text("main"));
            assert!(browser.has("#signed"), "{text}: {}", browser.text("main"));
        }
        assert_eq!(browser.clicks(), 0);
    }
}
