//! One event and one rejected callback: request, values, deliveries, replay.

use serde_json::{Value, json};

use super::axe::inspect;
use super::backend::{Backend, body, ok, status};
use super::browser::{Browser, LANGUAGES, Scheme};
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
        on_paper(&browser, &format!("event-paper-{said}"));
        copies(&browser, &path, claim);
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
fn the_reply_is_that_of_the_verdict() {
    let backend = Backend::saying([body(r#"{"isValid":false}"#)]);
    let inline = delivered_to(&backend).replace("retry = ", "mode = \"inline\"\nretry = ");
    let Some(gateway) = stage::open(&inline) else { return };
    let got = get(gateway.at.callbacks, &taku("verdict-1")).status;
    assert_ne!(got, 200);
    let path = format!("/console/events/{}", event_id(&gateway));
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, &path);
        let reply = browser.text("section[aria-labelledby=answer]");
        let verdict = if said == "en" { "rejected by the backend" } else { "后端已拒绝" };
        assert!(reply.contains(verdict) && reply.contains(&got.to_string()), "{reply}");
    }
}

/// On paper there is what was said and done, and nothing to click.
fn on_paper(browser: &Browser, name: &str) {
    browser.width(800);
    browser.on_paper();
    for screen in ["#areas", "#find", ".corner", "section[aria-labelledby=deliveries] summary"] {
        assert!(!browser.is_visible(screen), "{screen} on paper");
    }
    let buttons = "return [...document.querySelectorAll('button, form')]\
                   .filter(one => one.getClientRects().length > 0).length";
    assert_eq!(browser.run(buttons, &json!([])), 0);
    for said in ["h1", ".timeline li", "dl.pairs dd", "#signed + p"] {
        assert!(browser.is_visible(said), "{said} on paper");
    }
    let cut = "return [...document.querySelectorAll('pre.value')]\
               .filter(one => one.scrollHeight > one.clientHeight + 1).length";
    assert_eq!(browser.run(cut, &json!([])), 0, "a text is cut");
    browser.picture(name);
    browser.prefers(Scheme::Light);
    browser.width(1280);
}

/// Copies values and the command of an event, and opens it in the debug tool.
fn copies(browser: &Browser, path: &str, claim: &str) {
    browser.until("there are buttons", |browser| browser.has("dl.facts button.copy"));
    browser.may_copy();
    browser.click("button[data-copy=curl-text]");
    browser.until("it is said", |browser| browser.has("button[data-copy=curl-text].copied"));
    let command = browser.clipboard();
    assert!(!command.contains(claim) && command.contains("sign=***"), "{command}");
    let given = arguments(&command);
    assert_eq!(given[..3], ["-i", "-X", "GET"], "{command}");
    let url = given.last().unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && url.contains("trans_id=e1&"), "{url}");
    let labels = browser.run(
        "return [...document.querySelectorAll('button.copy')].map(one => one.ariaLabel)",
        &json!([]),
    );
    let labels: Vec<&str> = labels.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(labels.len() > 12 && labels.iter().all(|label| label.len() > 5), "{labels:?}");
    let names: Vec<&str> = labels.iter().map(|label| label.rsplit(' ').next().unwrap()).collect();
    assert!(names.contains(&"trans_id") && names.contains(&"who"), "{names:?}");
    let button = "dd:has(button.copy[aria-label$=' trans_id']) button.copy";
    browser.click(button);
    browser.until("it is said", |browser| browser.has("button.copy.copied"));
    assert_eq!(browser.clipboard(), "e1");

    browser.leave("main .actions a[href^='/console/debug']");
    let value = |field: &str| {
        let read = "return document.querySelector(`[name='${arguments[0]}']`).value";
        browser.run(read, &json!([field])).as_str().unwrap().to_owned()
    };
    assert_eq!((value("p.trans_id"), value("p.user_id")), (String::from("e1"), String::from("u1")));
    assert!(value("request").starts_with("GET /callback/level-end?"), "{}", value("request"));
    assert!(value("request").contains("sign=***"), "{}", value("request"));
    // The same callback, signed again.
    browser.leave("button[value=sign]");
    assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
    assert!(value("request").contains(claim), "{}", value("request"));
    browser.go(path);
}

/// The arguments that curl gets, if a shell runs `command`.
fn arguments(command: &str) -> Vec<String> {
    let script = format!("curl() {{ printf '%s\\0' \"$@\"; }}\n{command}");
    let run = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(run.status.success(), "{command}");
    let text = String::from_utf8(run.stdout).unwrap();
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
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
    browser.leave_by(|| drop(browser.run(forge, &json!([action]))));
    assert!(browser.text("[role=alert]").contains("admin token"), "{}", browser.text("main"));
    inspect_forbidden(&browser);

    // An admin without the CSRF token of the page.
    browser.go("/console");
    let admin = stage::browser(&gateway, "en");
    sign_in(&admin, ADMIN_TOKEN, &path);
    let forge = "document.querySelector('section[aria-labelledby=deliveries] input[name=csrf]').value = 'x'";
    admin.run(forge, &json!([]));
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

#[test]
fn the_data_of_its_user_is_erased_when_the_user_is_named_again() {
    let Some(gateway) = stage::guarded("") else { return };
    for (asked, said) in LANGUAGES {
        let is_english = said.starts_with("en");
        let transaction = format!("erase-{said}");
        assert_eq!(get(gateway.at.callbacks, &taku(&transaction)).status, 200);
        let path = format!("/console/events/{}", event_id(&gateway));
        let reader = stage::browser(&gateway, asked);
        sign_in(&reader, READ_TOKEN, &path);
        assert!(!reader.has("section[aria-labelledby=user-data]"));

        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, ADMIN_TOKEN, &path);
        browser.click("section[aria-labelledby=user-data] summary");
        inspect(&browser, &format!("event-erase-{said}"));
        browser.fill("#field-user", "u2");
        browser.leave("section[aria-labelledby=user-data] button");
        assert!(browser.has(".notice.bad"), "{}", browser.text("main"));
        browser.leave("main p a");
        assert_eq!(browser.path(), path);
        browser.click("section[aria-labelledby=user-data] summary");
        browser.fill("#field-user", "u1");
        browser.leave("section[aria-labelledby=user-data] button");
        let told = browser.text(".notice.good");
        assert!(
            told.contains(if is_english { "Erased events: 1," } else { "已抹除事件 1 个" }),
            "{told}"
        );
        browser.go(&path);
        assert!(!browser.text("main").contains(&transaction));
        // The transaction is known: the same callback is a duplicate.
        assert_eq!(get(gateway.at.callbacks, &taku(&transaction)).status, 200);
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let fields = [("Authorization", &*bearer)];
        let left = send(gateway.at.admin, "GET /admin/v1/events?user=u1", &fields, "").json();
        assert_eq!(left["events"], json!([]), "{left}");
        let audit = send(gateway.at.admin, "GET /admin/v1/audit", &fields, "").json();
        assert_eq!(audit["audit"][0]["action"], "erased", "{audit}");
    }
}
