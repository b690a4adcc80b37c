//! One event and one rejected callback: request, values, deliveries, replay.

use super::axe::inspect;
use super::backend::{Backend, ok, status};
use super::browser::LANGUAGES;
use super::gateway::{TAKU_SECRET, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

fn delivered_to(backend: &Backend) -> String {
    format!(
        "template = \"who={{user_id}}&left={{nothing}}\"\ndestinations = [\"game\"]\n[[destination]]\nname = \"game\"\n\
         url = \"http://{}/\"\nsecret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
         retry = {{ first = \"1h\", max = \"1h\", attempts = 3 }}\n{TOKENS}",
        backend.at
    )
}

fn event_id(gateway: &super::gateway::Gateway) -> String {
    let list = send(
        gateway.at.admin,
        "GET /admin/v1/events",
        &[("Authorization", &format!("Bearer {ADMIN_TOKEN}"))],
        "",
    );
    list.json()["events"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn an_event_is_shown_whole_and_delivered_again() {
    let backend = Backend::saying([status(503), ok(), ok()]);
    let Some(gateway) = stage::open(&delivered_to(&backend)) else { return };
    let callback = taku("e1");
    assert_eq!(get(gateway.at.callbacks, &callback).status, 200);
    backend.await_count(1);
    let path = format!("/console/events/{}", event_id(&gateway));
    for (round, (asked, said)) in LANGUAGES.into_iter().enumerate() {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, &path);
        browser.until("the first attempt is shown", |browser| {
            browser.reload();
            browser.has(".timeline li.bad")
        });
        assert!(browser.text(".timeline").contains("503"));
        let page = browser.text("main");
        let claim = callback.rsplit_once("sign=").unwrap().1;
        assert!(!page.contains(claim) && !page.contains(TAKU_SECRET), "{page}");
        for shown in
            ["e1", "u1", "coin", "reward_amount=10", "sec_key=***", "/callback/level-end", "who"]
        {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        assert!(browser.has(".badge.verified"));
        inspect(&browser, &format!("event-{said}"));
        // A question first, that names the number of destinations.
        browser.click("section[aria-labelledby=deliveries] summary");
        let button = browser.text("section[aria-labelledby=deliveries] button");
        assert!(button.contains('1'), "{button}");
        browser.leave("section[aria-labelledby=deliveries] button");
        assert_eq!(browser.path(), path);
        assert!(browser.has(".notice.good[role=status]"));
        browser.reload();
        assert!(!browser.has(".notice.good[role=status]"));
        backend.await_count(2 + round);
        browser.until("the replay is shown", |browser| {
            browser.reload();
            browser.texts(".timeline li.good").len() == 1 + round
        });
    }
    let got = backend.await_count(3);
    assert_eq!(got[0].header("webhook-id"), got[2].header("webhook-id"));
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let audit =
        send(gateway.at.admin, "GET /admin/v1/audit", &[("Authorization", &bearer)], "").json();
    assert_eq!(audit["audit"][0]["action"], "replayed", "{audit}");
    assert_eq!(audit["audit"][0]["who"], "token ops");
}

#[test]
fn a_read_only_token_changes_nothing() {
    let backend = Backend::saying([ok()]);
    let Some(gateway) = stage::open(&delivered_to(&backend)) else { return };
    get(gateway.at.callbacks, &taku("r1"));
    backend.await_count(1);
    let path = format!("/console/events/{}", event_id(&gateway));
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, &path);
    assert!(!browser.has("section[aria-labelledby=deliveries] button"));
    assert!(browser.text(".may-not").contains("read-only"));
    // A forged form with the CSRF token of the page.
    let forge = "const form = document.querySelector('.corner form'); form.action = arguments[0]; form.submit()";
    let action = format!("{path}/replay");
    browser.leave_by(|| drop(browser.run(forge, &serde_json::json!([action]))));
    assert!(browser.text("[role=alert]").contains("admin token"), "{}", browser.text("main"));
    inspect_forbidden(&browser);

    // An admin without the CSRF token of the page.
    browser.go("/console");
    let admin = stage::browser(&gateway, "en");
    sign_in(&admin, ADMIN_TOKEN, &path);
    let forge = "document.querySelector('section[aria-labelledby=deliveries] input[name=csrf]').value = 'x'";
    admin.run(forge, &serde_json::json!([]));
    admin.click("section[aria-labelledby=deliveries] summary");
    admin.leave("section[aria-labelledby=deliveries] button");
    assert!(admin.text("[role=alert]").contains("another session"), "{}", admin.text("main"));
    assert_eq!(backend.got().len(), 1);
}

/// Inspects a page with status 403, which the browser logs.
fn inspect_forbidden(browser: &super::browser::Browser) {
    let complaints = browser.complaints();
    assert!(complaints.iter().all(|one| one.contains("403")), "{complaints:?}");
    inspect(browser, "refused-en");
}

#[test]
fn a_rejected_callback_shows_reason_and_possible_mistake() {
    let Some(gateway) = stage::open("") else { return };
    get(gateway.at.callbacks, &taku("w1").replace("reward_name=coin", "reward_name=Coin"));
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        browser.go("/console/callbacks?q=w1");
        browser.leave("tbody th a");
        assert!(browser.path().starts_with("/console/refusals/ref_"), "{}", browser.path());
        let page = browser.text("main");
        for shown in ["w1", "u1", "Coin", "value_reformatted", "sec_key=***", "127.0.0.1"] {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        assert!(!page.contains(TAKU_SECRET));
        inspect(&browser, &format!("refusal-{said}"));
        browser.go("/console/refusals/ref_00000000000000000000000000000099");
        assert!(browser.has("[role=alert]"));
    }
}
