//! Held callbacks: the list, both sides of a dispute beside each other, and both decisions.

use serde_json::json;

use super::axe::inspect;
use super::backend::Backend;
use super::browser::{Browser, LANGUAGES};
use super::gateway::{Gateway, taku_for};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

const LIST: &str = "/console/held";

/// A gateway with one event and one held callback of the same transaction for each of `names`.
fn with_held(names: &[&str]) -> Option<(Gateway, Backend)> {
    let game = Backend::start();
    let text = format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n\
         secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n{TOKENS}",
        game.at
    );
    let gateway = stage::open(&text)?;
    for name in names {
        for (user, amount) in [("u1", "10"), ("<b>u2</b>", "70")] {
            let user = user.replace('<', "%3C").replace('>', "%3E");
            assert_eq!(get(gateway.at.callbacks, &taku_for(&user, name, amount)).status, 200);
        }
    }
    game.await_count(names.len());
    Some((gateway, game))
}

/// The rows of the comparison, each with its three cells.
fn sides(browser: &Browser) -> Vec<String> {
    browser.texts("section[aria-labelledby=sides] tbody tr")
}

#[test]
fn both_sides_are_shown_and_each_decision_is_carried_out() {
    let Some((gateway, game)) = with_held(&["en-1", "zh-1"]) else { return };
    for (asked, said) in LANGUAGES {
        let is_english = said.starts_with("en");
        let (name, action) = if is_english { ("en-1", "release") } else { ("zh-1", "drop") };
        let reader = stage::browser(&gateway, asked);
        sign_in(&reader, READ_TOKEN, LIST);
        inspect(&reader, &format!("held-{said}"));
        let row = reader.texts("tbody tr").into_iter().find(|row| row.contains(name)).unwrap();
        let why = if is_english { "Conflict" } else { "冲突" };
        assert!(row.contains(why) && row.contains("<b>u2</b>"), "{row}");
        // Who may not decide is not asked to.
        reader.go("/console");
        let needs = reader.text(".needs");
        let (shows, decides) = if is_english {
            ("Show held callbacks", "Decide")
        } else {
            ("查看隔离的回调", "去处理")
        };
        assert!(needs.contains(shows) && !needs.contains(decides), "{needs}");

        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, LIST);
        let at = browser.texts("tbody tr").iter().position(|row| row.contains(name)).unwrap() + 1;
        browser.leave(&format!("tbody tr:nth-child({at}) a"));
        inspect(&browser, &format!("held-one-{said}"));
        let sides = sides(&browser);
        let of = |role: &str| sides.iter().find(|row| row.starts_with(role)).unwrap();
        let (amount, user) = if is_english { ("Amount", "User") } else { ("数量", "用户") };
        assert_eq!(of(amount).split_whitespace().collect::<Vec<_>>(), [amount, "70", "10"]);
        assert!(of(user).contains("<b>u2</b>") && of(user).ends_with("u1"), "{sides:?}");
        // What differs is marked, and what does not is not.
        let marked = browser.texts("section[aria-labelledby=sides] td b").join(" ");
        assert!(marked.contains("70") && !marked.contains(name), "{marked}");

        browser.fill(&format!("#{action}-reason"), "the provider confirmed it");
        let form = format!("form[action$='/{action}']");
        browser.click(&format!("{form} input[name=sure]"));
        browser.leave(&format!("{form} button[type=submit]"));
        let notice = browser.text("main");
        let told = match (is_english, action) {
            (true, _) => "Released.",
            (false, _) => "已丢弃。",
        };
        assert!(notice.contains(told) && sides_are_gone(&browser), "{notice}");
        assert_eq!(browser.complaints(), Vec::<String>::new());
        browser.go(LIST);
        assert!(!browser.text("main").contains(name), "{}", browser.text("main"));
    }
    // The released one was delivered, the dropped one was not.
    let got = game.await_count(3);
    let last = got.last().unwrap().json();
    assert_eq!((&last["transaction"], &last["amount"]), (&json!("en-1"), &json!("70")));
    assert_eq!(got.len(), 3);
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let audit = send(gateway.at.admin, "GET /admin/v1/audit", &[("Authorization", &bearer)], "");
    assert!(audit.body.contains("the provider confirmed it"), "{}", audit.body);
}

fn sides_are_gone(browser: &Browser) -> bool {
    !browser.has("section[aria-labelledby=sides]")
}

#[test]
fn a_reader_decides_nothing() {
    let Some((gateway, game)) = with_held(&["r-1"]) else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, LIST);
    browser.leave("tbody tr a");
    assert!(!sides(&browser).is_empty());
    for action in ["release", "drop"] {
        let form = format!("form[action$='/{action}']");
        assert!(!browser.has(&format!("{form} button[type=submit]:not([disabled])")), "{action}");
    }
    let path = browser.path();
    let forge = "const form = document.querySelector('.corner form'); form.action = arguments[0]; \
                 form.insertAdjacentHTML('beforeend', '<input name=sure value=yes>'); form.submit()";
    browser.leave_by(|| drop(browser.run(forge, &json!([format!("{path}/release")]))));
    assert!(browser.text("[role=alert]").contains("admin token"), "{}", browser.text("main"));
    browser.go(LIST);
    assert!(browser.text("tbody tr").contains("r-1"));
    assert_eq!(game.got().len(), 1);
}
