//! Reward rules: created with a key that is shown once, changed, paused, deleted.

use serde_json::json;

use super::axe::{inspect, inspect_without_scripts};
use super::backend::{Backend, ok, status};
use super::browser::LANGUAGES;
use super::gateway::logged;
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::get;

const CONFIG: &str = r#"
[egress]
allow = ["127.0.0.0/8"]
[manage.reward_rule]
publishers = [{ name = "studio", key = "demo-publisher-key" }]
"#;

const HOSTILE: &str = "<b>\u{202e}level";

/// A signed Taku callback to the rule `id`.
fn reward(id: &str, key: &str, transaction: &str) -> String {
    use md5::{Digest, Md5};
    let text = format!(
        "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin&sec_key={key}"
    );
    let sign = const_hex::encode(Md5::digest(text));
    format!(
        "/callback/reward/{id}?user_id=u1&trans_id={transaction}&placement_id=p1&adsource_id=9\
         &reward_amount=10&reward_name=coin&sign={sign}"
    )
}

#[test]
fn a_rule_is_created_changed_paused_and_deleted() {
    for (asked, said) in LANGUAGES {
        let backend = Backend::start();
        let Some(gateway) = stage::guarded(CONFIG) else { return };
        let browser = stage::browser(&gateway, asked);
        browser.without_scripts();
        sign_in(&browser, ADMIN_TOKEN, "/console/rules");
        inspect_without_scripts(&browser, &format!("rules-none-{said}"));
        browser.leave("main a.button");
        browser.fill("#field-rule_name", HOSTILE);
        browser.fill("#field-reward_name", "coin");
        browser.fill("#field-reward_number", "none");
        browser.fill("#field-reward_url", &format!("http://{}/give?to={{user_id}}", backend.at));
        browser.leave("main form[method=post] button");
        assert!(browser.has("#field-reward_number[aria-invalid]"), "{}", browser.text("main"));
        browser.complaints();
        inspect_without_scripts(&browser, &format!("rule-new-{said}"));
        let read = "return document.querySelector('#field-key').value";
        let key = browser.run(read, &json!([])).as_str().unwrap().to_owned();
        browser.fill("#field-reward_number", "10");
        browser.leave("main form[method=post] button");
        assert_eq!(browser.path(), "/console/rules/1");
        let probe = &backend.await_count(1)[0];
        assert!(probe.line.contains("is_test=1"), "{}", probe.line);
        let source = browser.run("return document.documentElement.outerHTML", &json!([]));
        assert!(!source.as_str().unwrap().contains(&key), "it is not shown again");
        assert!(browser.text("main").contains("/callback/reward/1?"), "{}", browser.text("main"));
        inspect_without_scripts(&browser, &format!("rule-{said}"));
        assert_eq!(get(gateway.at.callbacks, &reward("1", &key, "t1")).status, 200);
        assert!(backend.await_count(2)[1].line.contains("to=u1"));

        browser.leave("form[action='/console/rules/1/pause'] button");
        assert_eq!(browser.path(), "/console/rules/1");
        assert_eq!(get(gateway.at.callbacks, &reward("1", &key, "t2")).status, 602);
        browser.leave("form[action='/console/rules/1/resume'] button");
        assert_eq!(get(gateway.at.callbacks, &reward("1", &key, "t2")).status, 200);
        backend.await_count(3);

        // A new address is tested before it is saved.
        backend.says(status(500));
        browser.fill("#field-reward_url", &format!("http://{}/other", backend.at));
        browser.leave("form[action='/console/rules/1'] button");
        assert!(browser.has("#field-reward_url[aria-invalid]"), "{}", browser.text("main"));
        browser.complaints();
        backend.says(ok());
        browser.leave("form[action='/console/rules/1'] button");
        assert_eq!(browser.path(), "/console/rules/1");
        browser.go("/console/rules");
        assert!(browser.text("tbody tr").contains("/other"));
        inspect_without_scripts(&browser, &format!("rules-{said}"));
        browser.leave("tbody a");
        browser.click("details summary");
        browser.leave("form[action='/console/rules/1/delete'] button");
        assert_eq!(browser.path(), "/console/rules");
        assert_eq!(get(gateway.at.callbacks, &reward("1", &key, "t3")).status, 404);
        assert!(!logged().contains(&key));
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}

#[test]
fn a_read_only_token_changes_no_rule() {
    let backend = Backend::start();
    let Some(gateway) = stage::guarded(CONFIG) else { return };
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/rules?new=yes");
    browser.fill("#field-rule_name", "level");
    browser.fill("#field-reward_name", "coin");
    browser.fill("#field-reward_number", "10");
    browser.fill("#field-reward_url", &format!("http://{}/", backend.at));
    browser.leave("main form[method=post] button");
    let reader = stage::browser(&gateway, "en");
    sign_in(&reader, READ_TOKEN, "/console/rules/1");
    assert!(reader.text("main").contains("read-only") && !reader.has("main form"));
    inspect(&reader, "rule-read-en");
    let forged_request = "const done = arguments[arguments.length - 1]; \
        const csrf = document.querySelector('[name=csrf]').value; \
        fetch(arguments[0], { method: 'POST', body: new URLSearchParams({ csrf }) }) \
        .then(answer => done(answer.status));";
    for path in ["/console/rules", "/console/rules/1", "/console/rules/1/delete"] {
        assert_eq!(reader.run_async(forged_request, &json!([path])), 403);
    }
    reader.complaints();
    reader.go("/console/rules?new=yes");
    assert!(!reader.has("#field-key"));
    for nothing in ["/console/rules/2", "/console/rules/x", "/console/rules/1/2/3"] {
        reader.go(nothing);
        assert!(reader.has("main .notice.bad"), "{nothing}");
    }
}

#[test]
fn an_outdated_form_changes_no_rule() {
    let backend = Backend::start();
    let Some(gateway) = stage::guarded(CONFIG) else { return };
    let open = |path: &str| {
        let browser = stage::browser(&gateway, "en");
        sign_in(&browser, ADMIN_TOKEN, path);
        browser
    };
    let one = open("/console/rules?new=yes");
    one.fill("#field-rule_name", "first");
    one.fill("#field-reward_name", "coin");
    one.fill("#field-reward_number", "10");
    one.fill("#field-reward_url", &format!("http://{}/give?to={{user_id}}", backend.at));
    one.leave("main form[method=post] button");
    assert_eq!(one.path(), "/console/rules/1", "{}", one.text("main"));
    let other = open("/console/rules/1");
    for (path, name) in [("", "second"), ("/delete", "third")] {
        other.fill("#field-rule_name", name);
        other.leave("form[action='/console/rules/1'] button");
        assert_eq!(other.path(), "/console/rules/1");
        one.fill("#field-rule_name", "mine");
        one.run("document.querySelectorAll('details').forEach(one => one.open = true)", &json!([]));
        one.leave(&format!("form[action='/console/rules/1{path}'] button"));
        let page = one.text("main");
        assert!(page.contains("meanwhile") && page.contains(name), "{path}: {page}");
    }
}
