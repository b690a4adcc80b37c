//! Sources: created, changed, paused; secret rotation; the URL to paste.

use serde_json::{Value, json};

use super::axe::{inspect, inspect_without_scripts};
use super::backend::Backend;
use super::browser::{Browser, LANGUAGES};
use super::gateway::{Gateway, logged, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::{get, send};

/// A hostile value, which must always be shown as text.
const HOSTILE: &str = "<script>document.title='x'</script>\u{202e}";

/// The secret of `bonus` alone.
const SECRET: &str = "the-secret-of-bonus-32-characters";

const OTHER_SECRET: &str = "another-secret-of-32-characters!";

/// A Taku callback to `bonus`, signed with `secret`.
fn bonus(transaction: &str, secret: &str) -> String {
    use md5::{Digest, Md5};
    let signed = format!(
        "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin\
         &sec_key={secret}"
    );
    let sign = const_hex::encode(Md5::digest(signed));
    format!(
        "/callback/bonus?user_id=u1&trans_id={transaction}&placement_id=p1&adsource_id=9\
         &reward_amount=10&reward_name=coin&sign={sign}"
    )
}

fn status(gateway: &Gateway, target: &str) -> u16 {
    get(gateway.at.callbacks, target).status
}

fn audited(gateway: &Gateway) -> Vec<Value> {
    let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
    let page = send(gateway.at.admin, "GET /admin/v1/audit", &fields, "");
    page.json()["audit"].as_array().unwrap().clone()
}

fn create_bonus(browser: &Browser) {
    browser.go("/console/sources");
    browser.choose("#field-new", "taku");
    browser.leave("form.ask button");
    browser.fill("#field-name", "bonus");
    browser.fill("#field-secret", SECRET);
    browser.leave("main form[method=post] button");
}

#[test]
fn a_source_is_created_changed_paused_and_deleted() {
    for (asked, said) in LANGUAGES {
        let backend = Backend::start();
        let destination =
            format!("[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n", backend.at);
        let Some(gateway) = stage::guarded(&destination) else { return };
        let browser = stage::browser(&gateway, asked);
        browser.without_scripts();
        sign_in(&browser, ADMIN_TOKEN, "/console/sources");
        inspect_without_scripts(&browser, &format!("sources-{said}"));

        browser.choose("#field-new", "taku");
        browser.leave("form.ask button");
        browser.fill("#field-name", "bo nus");
        browser.fill("#field-template", HOSTILE);
        browser.fill("#field-secret", SECRET);
        browser.leave("main form[method=post] button");
        assert!(browser.has("#field-name[aria-invalid]"), "{}", browser.text("main"));
        assert_eq!(
            browser.run("return document.querySelector('#field-secret').value", &json!([])),
            ""
        );
        assert_eq!(browser.complaints().len(), 1);
        inspect_without_scripts(&browser, &format!("source-new-{said}"));
        browser.fill("#field-name", "bonus");
        browser.fill("#field-secret", SECRET);
        browser.fill("#field-template", "who={user_id}");
        browser.click("input[name=destinations][value=game]");
        browser.leave("main form[method=post] button");
        assert_eq!(browser.path(), "/console/sources/bonus");
        inspect_without_scripts(&browser, &format!("source-{said}"));
        let page = browser.text("main");
        assert!(page.contains("trans_id={trans_id}"), "the URL to paste: {page}");
        assert!(!page.contains(SECRET) && page.contains("***"));
        assert_eq!(status(&gateway, &bonus("t1", SECRET)), 200);
        let event = &backend.await_count(1)[0].json();
        assert_eq!(event["resolved"], json!({ "who": "u1" }), "{event}");

        browser.leave("form[action='/console/sources/bonus/pause'] button");
        assert_eq!(browser.path(), "/console/sources/bonus");
        assert_eq!(status(&gateway, &bonus("t2", SECRET)), 602);
        browser.leave("form[action='/console/sources/bonus/resume'] button");
        assert_eq!(status(&gateway, &bonus("t2", SECRET)), 200);

        browser.fill("#field-rate", "rubbish");
        browser.leave("form[action='/console/sources/bonus'] button");
        assert!(browser.has("#field-rate[aria-invalid]"), "{}", browser.text("main"));
        browser.complaints();
        browser.fill("#field-rate", "500/s");
        browser.fill("#field-further", r#"{"rewards": {"coin": "10"}}"#);
        browser.fill("#field-name", "renamed");
        browser.leave("form[action='/console/sources/bonus'] button");
        assert_eq!(browser.path(), "/console/sources/renamed");
        assert!(browser.text("main").contains("500/s"));
        let renamed = bonus("t3", SECRET).replace("/bonus", "/renamed");
        assert_eq!(status(&gateway, &renamed), 200, "its secret stayed");
        let twice = bonus("t1", SECRET).replace("/bonus", "/renamed");
        assert_eq!(status(&gateway, &twice), 200);

        browser.click("section[aria-labelledby=change] details summary");
        browser.leave("form[action='/console/sources/renamed/delete'] button");
        assert_eq!(browser.path(), "/console/sources");
        assert_eq!(status(&gateway, &renamed), 404);
        assert!(audited(&gateway).iter().all(|entry| entry["who"] == "token ops"));
        assert!(audited(&gateway).len() >= 6, "{:?}", audited(&gateway));
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
    assert!(!logged().contains(SECRET));
}

#[test]
fn a_secret_is_rotated_with_an_overlap() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/sources");
    create_bonus(&browser);
    browser.fill("form[action$='/rotate'] #field-secret", OTHER_SECRET);
    browser.leave("form[action$='/rotate'] button");
    assert_eq!(browser.path(), "/console/sources/bonus");
    inspect(&browser, "source-rotated-en");
    let rows = browser.texts("section[aria-labelledby=secrets] tbody tr");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].contains("Never") && rows[1].contains("20"), "{rows:?}");
    assert_eq!(status(&gateway, &bonus("t1", SECRET)), 200, "the old one still matches");
    assert_eq!(status(&gateway, &bonus("t2", OTHER_SECRET)), 200);
    browser.click("section[aria-labelledby=secrets] tbody tr:nth-child(2) summary");
    browser.leave("section[aria-labelledby=secrets] tbody tr:nth-child(2) button");
    assert_eq!(status(&gateway, &bonus("t3", SECRET)), 601);
    assert_eq!(status(&gateway, &bonus("t3", OTHER_SECRET)), 200);
    assert_eq!(browser.texts("section[aria-labelledby=secrets] tbody tr").len(), 1);
    for secret in [SECRET, OTHER_SECRET] {
        assert!(!logged().contains(secret));
        assert!(audited(&gateway).iter().all(|entry| !entry.to_string().contains(secret)));
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn sources_of_the_file_and_read_only_tokens_change_nothing() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/sources/level-end");
    assert!(browser.text("main .notice").contains("configuration file"));
    assert!(!browser.has("main form"), "nothing is offered");
    inspect(&browser, "source-of-file-en");
    create_bonus(&browser);
    let csrf = browser.run("return document.querySelector('[name=csrf]').value", &json!([]));

    let reader = stage::browser(&gateway, "en");
    sign_in(&reader, READ_TOKEN, "/console/sources/bonus");
    assert!(reader.text("main").contains("read-only"));
    assert!(!reader.has("main form"));
    reader.go("/console/sources?new=taku");
    assert!(!reader.has("main form"), "{}", reader.text("main"));
    reader.complaints();
    // Forged forms.
    let forged_request = "const done = arguments[arguments.length - 1]; \
        fetch(arguments[0], { method: 'POST', body: new URLSearchParams({ csrf: arguments[1] }) }) \
        .then(answer => done(answer.status));";
    let own = reader.run("return document.querySelector('[name=csrf]').value", &json!([]));
    for path in ["/console/sources/bonus/pause", "/console/sources/bonus/delete"] {
        assert_eq!(reader.run_async(forged_request, &json!([path, own])), 403);
        assert_eq!(reader.run_async(forged_request, &json!([path, csrf])), 403);
    }
    // Admins cannot change sources of the configuration file either.
    for path in ["/console/sources/level-end/pause", "/console/sources/level-end/delete"] {
        assert_eq!(browser.run_async(forged_request, &json!([path, csrf])), 400);
    }
    assert_eq!(status(&gateway, &taku("t1")), 200);
    assert_eq!(status(&gateway, &bonus("t1", SECRET)), 200);
}

#[test]
fn an_outdated_form_overwrites_nothing() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/sources");
    create_bonus(&browser);
    let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
    let shown = || send(gateway.at.admin, "GET /admin/v1/sources/bonus", &fields, "").json();
    // A valid value, one that the form rejects, and one that the registry rejects.
    for (field, typed) in [("rate", "9/s"), ("further", "{"), ("rate", "rubbish")] {
        browser.go("/console/sources/bonus");
        let table =
            json!({ "sender": "taku", "secrets": SECRET, "replayable": true, "rate": "7/s" });
        let line = "PUT /admin/v1/sources/bonus";
        assert_eq!(send(gateway.at.admin, line, &fields, &table.to_string()).status, 200);
        browser.fill(&format!("#field-{field}"), typed);
        browser.leave("form[action='/console/sources/bonus'] button");
        let page = browser.text("main .notice");
        assert!(page.contains("meanwhile"), "{typed}: {page}");
        let now = browser.run("return document.querySelector('#field-rate').value", &json!([]));
        assert_eq!((now, shown()["rate"].clone()), (json!("7/s"), json!("7/s")), "{typed}");
    }
}

#[test]
fn a_name_in_use_is_an_error_of_the_field() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/sources");
    for name in ["bonus", "bonus", "level-end"] {
        browser.go("/console/sources?new=taku");
        browser.fill("#field-name", name);
        browser.fill("#field-secret", SECRET);
        browser.leave("main form[method=post] button");
        if browser.path() == "/console/sources/bonus" {
            continue;
        }
        let page = browser.text("main");
        assert!(browser.has("#field-name[aria-invalid]"), "{page}");
        assert!(page.contains("already in use") && !page.contains("meanwhile"), "{page}");
    }
    assert_eq!(audited(&gateway).len(), 1);
}

#[test]
fn a_hidden_setting_can_be_removed() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/sources");
    browser.go("/console/sources?new=wechat-push");
    assert!(!browser.has("[name^=forget]"), "there is nothing yet");
    browser.fill("#field-name", "push");
    browser.fill("#field-secret", "a-token");
    browser.fill("#field-aes_key", &"A".repeat(43));
    browser.fill("#field-app_id", "wx1");
    browser.leave("main form[method=post] button");
    assert_eq!(browser.path(), "/console/sources/push", "{}", browser.text("main"));
    inspect(&browser, "source-with-settings-en");
    let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
    let shown = || send(gateway.at.admin, "GET /admin/v1/sources/push", &fields, "").json();
    browser.leave("form[action='/console/sources/push'] button");
    assert_eq!(shown()["aes_key"], "***", "an empty field keeps the value");
    browser.click("#field-forget_aes_key");
    browser.fill("#field-aes_key", &"B".repeat(43));
    browser.leave("form[action='/console/sources/push'] button");
    assert!(browser.text("main").contains("choose one"), "{}", browser.text("main"));
    browser.fill("#field-further", "{");
    browser.leave("form[action='/console/sources/push'] button");
    assert!(browser.has("#field-further[aria-invalid]"), "{}", browser.text("main"));
    assert!(browser.has("#field-forget_aes_key:checked"), "another error does not uncheck it");
    assert_eq!(shown()["aes_key"], "***");
    browser.fill("#field-further", "");
    browser.leave("form[action='/console/sources/push'] button");
    assert_eq!(shown()["aes_key"], Value::Null, "{}", browser.text("main"));
    assert_eq!(shown()["app_id"], "wx1");
    assert!(!browser.has("[name=forget_aes_key]"));
}

#[test]
fn an_outdated_form_removes_no_other_secret_and_deletes_nothing() {
    let Some(gateway) = stage::guarded("") else { return };
    let one = stage::browser(&gateway, "en");
    sign_in(&one, ADMIN_TOKEN, "/console/sources");
    create_bonus(&one);
    let rotate = |browser: &Browser, secret: &str| {
        browser.fill("form[action$='/rotate'] #field-secret", secret);
        browser.leave("form[action$='/rotate'] button");
        assert_eq!(browser.path(), "/console/sources/bonus");
    };
    rotate(&one, OTHER_SECRET);
    let other = stage::browser(&gateway, "en");
    sign_in(&other, ADMIN_TOKEN, "/console/sources/bonus");
    // The old secret is removed, and a new one gets its id.
    other.click("section[aria-labelledby=secrets] tbody tr:nth-child(2) summary");
    other.leave("section[aria-labelledby=secrets] tbody tr:nth-child(2) button");
    rotate(&other, "the-newest-secret-of-the-source!");
    one.click("section[aria-labelledby=secrets] tbody tr:nth-child(2) summary");
    one.leave("section[aria-labelledby=secrets] tbody tr:nth-child(2) button");
    assert!(one.text("main .notice").contains("meanwhile"), "{}", one.text("main"));
    assert_eq!(one.texts("section[aria-labelledby=secrets] tbody tr").len(), 2);
    assert_eq!(status(&gateway, &bonus("t1", "the-newest-secret-of-the-source!")), 200);
    other.fill("#field-rate", "7/s");
    other.leave("form[action='/console/sources/bonus'] button");
    one.fill("form[action$='/rotate'] #field-secret", SECRET);
    one.leave("form[action$='/rotate'] button");
    assert!(one.text("main .notice").contains("meanwhile"), "{}", one.text("main"));
    assert_eq!(status(&gateway, &bonus("t2", SECRET)), 601);
    other.fill("#field-rate", "8/s");
    other.leave("form[action='/console/sources/bonus'] button");
    one.click("section[aria-labelledby=change] details summary");
    one.leave("form[action='/console/sources/bonus/delete'] button");
    assert!(one.text("main .notice").contains("meanwhile"), "{}", one.text("main"));
    assert_eq!(status(&gateway, &bonus("t2", OTHER_SECRET)), 200);
}
