//! Dead letters: their last attempts, and replays of some or all.

use postern::clock::now_ms;
use serde_json::{Value, json};

use super::axe::inspect;
use super::backend::{Backend, Say, ok};
use super::browser::{Browser, LANGUAGES};
use super::gateway::{Gateway, eventually, taku_for};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

const LIST: &str = "/console/dead-letters";

fn destination(name: &str, backend: &Backend) -> String {
    format!(
        "[[destination]]\nname = \"{name}\"\nurl = \"http://{}/\"\n\
         secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
         retry = {{ first = \"20ms\", max = \"100ms\", attempts = 1 }}\n",
        backend.at
    )
}

fn no(body: &str) -> Say {
    Say::Status(400, "", body.to_owned())
}

/// A response of the admin API.
fn ask(gateway: &Gateway, path: &str) -> Value {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let line = format!("GET /admin/v1/{path}");
    send(gateway.at.admin, &line, &[("Authorization", &bearer)], "").json()
}

/// The number of dead deliveries.
fn dead(gateway: &Gateway) -> usize {
    let page = ask(gateway, "deliveries?state=dead&limit=1000");
    page["deliveries"].as_array().unwrap().len()
}

/// A gateway with `count` events that are dead at `game`, which now accepts deliveries. The first
/// event is also dead at `other`.
fn with_dead(count: usize) -> Option<(Gateway, Backend, Backend)> {
    let (game, other) = (Backend::start(), Backend::saying([no("full")]));
    game.says(no("<script>alert(1)</script>\u{202e}no coins"));
    let text = format!(
        "destinations = [\"game\", \"other\"]\n{}{}{TOKENS}",
        destination("game", &game),
        destination("other", &other)
    );
    let gateway = stage::open(&text)?;
    for n in 0..count {
        let user = if n == 0 { "%3Cimg%20src%3Dx%3E" } else { "u1" };
        assert_eq!(get(gateway.at.callbacks, &taku_for(user, &format!("d{n}"), "1")).status, 200);
        if n == 0 {
            other.await_count(1);
        }
        // The list is sorted by time: the first and the last get their own milliseconds.
        if n == 0 || n + 2 == count {
            let at = now_ms();
            eventually("the clock goes on", || now_ms() > at);
        }
    }
    eventually("all are dead", || dead(&gateway) == count + 1);
    game.says(ok());
    Some((gateway, game, other))
}

fn until_complete(browser: &Browser) {
    browser.until("the replay is done, and the page has refreshed", |browser| {
        browser.has("#live [data-ended]")
    });
    assert!(
        browser
            .text("#live .badge")
            .contains(["Done", "已完成"][usize::from(browser.has("html[lang=zh-CN]"))])
    );
}

#[test]
fn dead_letters_are_listed_and_filtered() {
    let Some((gateway, ..)) = with_dead(55) else { return };
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, LIST);
        assert_eq!(browser.texts("tbody tr").len(), 50);
        let row = browser.text("tbody tr");
        for shown in
            ["level-end", "d54", "u1", "game", "400", "<script>alert(1)</script>", "U+202E"]
        {
            assert!(row.contains(shown), "{shown} in {row}");
        }
        // A read-only token has no forms.
        assert!(!browser.has("main form[method=post], main input[type=checkbox]"));
        assert!(browser.has(".may-not"));
        browser.leave("a[rel=next]");
        let rows = browser.texts("tbody tr");
        assert_eq!(rows.len(), 5);
        assert!(rows[4].contains("<img src=x>") && rows[4].contains("other"), "{}", rows[4]);
        assert!(!browser.has("main script, main img") && !browser.has("a[rel=next]"));
        inspect(&browser, &format!("dead-letters-read-{said}"));
        let rows = |query: &str| {
            browser.go(&format!("{LIST}?{query}"));
            browser.texts("tbody tr").len()
        };
        assert_eq!(rows("destination=other"), 1);
        assert!(!browser.text("tbody tr").contains("game"));
        assert_eq!(rows("source=level-end"), 50);
        assert_eq!(rows("source=%3Cscript%3E"), 0);
        assert_eq!(rows("since=2020-01-01T00:00&until=2100-01-01T00:00"), 50);
        assert_eq!(rows("until=2020-01-01T00:00"), 0);
        assert_eq!(rows("since=2100-01-01T00:00"), 0);
        inspect(&browser, &format!("dead-letters-none-{said}"));
        for bad in ["since=x", "cursor=x"] {
            browser.go(&format!("{LIST}?{bad}"));
            assert!(browser.has("[role=alert]"), "{bad}");
        }
    }
}

#[test]
fn some_or_all_are_replayed() {
    let Some((gateway, game, other)) = with_dead(6) else { return };
    for (round, (asked, said)) in LANGUAGES.into_iter().enumerate() {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, LIST);
        inspect(&browser, &format!("dead-letters-{said}"));
        browser.leave("button[value=selected]");
        assert_eq!(browser.path(), format!("{LIST}"));
        assert!(browser.has("[role=alert]"));
        // One, by its box: the newest.
        browser.click("tbody input[type=checkbox]");
        browser.leave("button[value=selected]");
        assert!(browser.text("main p").contains('1'), "{}", browser.text("main"));
        inspect(&browser, &format!("replay-question-{said}"));
        browser.leave("button[name=sure]");
        until_complete(&browser);
        assert!(browser.path().starts_with(&format!("{LIST}/replays/rpl_")));
        // The account stays in the page's address.
        let order = browser.path();
        for _ in 0..2 {
            let account = browser.texts(".facts div");
            let said = |text: &str| account.iter().any(|fact| fact.replace('\n', " ") == text);
            let [delivered, dead] = match browser.has("html[lang=zh-CN]") {
                false => ["Delivered 1", "Dead letters again 0"],
                true => ["已投递 1", "再次成为死信 0"],
            };
            assert!(said(delivered) && said(dead), "{account:?}");
            browser.go(&order);
        }
        inspect(&browser, &format!("replay-{said}"));
        game.await_count(6 + round + 1);
        eventually("one less is dead", || dead(&gateway) == 6 - round);
    }
    // All of a filter, without a script: the rest of `game` and nothing else.
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, LIST);
    browser.without_scripts();
    browser.go(&format!("{LIST}?destination=game&source=level-end"));
    assert_eq!(browser.texts("main form[method=post] tbody tr").len(), 4);
    assert!(browser.has("label.check[hidden]"), "without a script nothing checks all");
    browser.leave("button[value=all]");
    // A question first, with the number of events and the filter.
    let question = browser.text("main");
    assert!(
        question.contains("4 events match") && question.contains("destination = game"),
        "{question}"
    );
    assert_eq!(browser.text("button[name=sure]"), "Replay 4 events");
    browser.leave("button[name=sure]");
    let order = browser.path();
    for _ in 0..1200 {
        if browser.has("#live [data-ended]") {
            break;
        }
        browser.follow("Refresh");
    }
    let account = browser.text("#live");
    assert!(account.contains("Done") && account.contains("Delivered"), "{account}");
    game.await_count(6 + 2 + 4);
    eventually("only `other` is left", || dead(&gateway) == 1);
    assert_eq!(other.got().len(), 6);
    // The replay is in the list and in the audit log, with its actor.
    browser.follow("Dead letters");
    assert_eq!(browser.texts("section[aria-labelledby=orders] tbody tr").len(), 3);
    let id = order.rsplit('/').next().unwrap();
    let audit = ask(&gateway, "audit");
    let entry = &audit["audit"][0];
    assert_eq!((&entry["action"], &entry["name"]), (&json!("replayed"), &json!(id)), "{audit}");
    assert_eq!(entry["who"], "token ops");
    browser.go(&format!("{LIST}/replays/rpl_{}", "0".repeat(32)));
    assert!(browser.has("[role=alert]"));
}

#[test]
fn a_forged_form_delivers_nothing() {
    let Some((gateway, game, _)) = with_dead(2) else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, LIST);
    let forge = "const form = document.querySelector('.corner form'); form.action = arguments[0]; \
                 form.insertAdjacentHTML('beforeend', '<input name=which value=all>'); form.submit()";
    browser.leave_by(|| drop(browser.run(forge, &json!([format!("{LIST}/replay")]))));
    assert!(browser.text("[role=alert]").contains("admin token"), "{}", browser.text("main"));
    let admin = stage::browser(&gateway, "en");
    sign_in(&admin, ADMIN_TOKEN, LIST);
    admin.run(
        "document.querySelector('main form[method=post] input[name=csrf]').value = 'x'",
        &json!([]),
    );
    admin.leave("button[value=all]");
    assert!(admin.text("[role=alert]").contains("another session"), "{}", admin.text("main"));
    assert_eq!((dead(&gateway), game.got().len()), (3, 2));
}
