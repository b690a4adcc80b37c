//! Callback addresses: set, changed, removed; read-only access.

use serde_json::json;

use super::axe::{inspect, inspect_without_scripts};
use super::browser::LANGUAGES;
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::send;

const CONFIG: &str = r#"
[manage.callback_address]
managers = [{ name = "m1", key = "demo-manager-key", companies = [42, 43] }]
prefixes = ["leaderpro", "rp7"]
"#;

#[test]
fn an_address_is_set_changed_and_removed() {
    for (asked, said) in LANGUAGES {
        let Some(gateway) = stage::guarded(CONFIG) else { return };
        let browser = stage::browser(&gateway, asked);
        browser.without_scripts();
        sign_in(&browser, ADMIN_TOKEN, "/console/addresses");
        inspect_without_scripts(&browser, &format!("addresses-none-{said}"));
        browser.choose("#field-company", "43");
        browser.choose("#field-prefix", "rp7");
        browser.fill("#field-notify_url", "http://169.254.169.254/<script>");
        browser.leave("main form[method=post] button");
        assert!(browser.has("#field-notify_url[aria-invalid]"), "{}", browser.text("main"));
        browser.complaints();
        inspect_without_scripts(&browser, &format!("addresses-mistake-{said}"));
        browser.fill("#field-notify_url", "https://company.example/notify?a=1");
        browser.fill("#field-code_number", "5");
        browser.leave("main form[method=post] button");
        assert_eq!(browser.path(), "/console/addresses/43/rp7");
        inspect_without_scripts(&browser, &format!("address-{said}"));
        // The address is a destination from then on.
        browser.leave("td:last-child a");
        assert_eq!(browser.path(), "/console/destinations/address%2F43%2Frp7");
        assert!(browser.has(".badge.active"), "{}", browser.text("main"));
        browser.leave("form[action$='/pause'] button");
        assert!(browser.has(".badge.paused"));

        browser.go("/console/addresses/43/rp7");
        browser.fill("#field-report_number", "many");
        browser.leave("main form[method=post] button");
        assert!(browser.has("#field-report_number[aria-invalid]"));
        browser.complaints();
        browser.click("details summary");
        browser.leave("form[action$='/clear'] button");
        assert_eq!(browser.path(), "/console/addresses");
        assert!(!browser.text("tbody").contains("company.example"));
        assert!(browser.text("tbody").contains('5'), "the number stays");
        let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
        let audit = send(gateway.at.admin, "GET /admin/v1/audit", &fields, "").json();
        let audit = audit["audit"].as_array().unwrap().clone();
        let kinds: Vec<&str> = audit.iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["callback_address", "pause", "callback_address"]);
        assert_eq!(browser.complaints(), Vec::<String>::new());
    }
}

#[test]
fn only_configured_owners_are_set_and_only_by_admins() {
    let Some(gateway) = stage::guarded(CONFIG) else { return };
    let forged_request = "const done = arguments[arguments.length - 1]; \
        const csrf = document.querySelector('[name=csrf]').value; \
        const form = { csrf, company: arguments[0], prefix: arguments[1] }; \
        fetch('/console/addresses', { method: 'POST', body: new URLSearchParams(form) }) \
        .then(answer => done(answer.status));";
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/addresses");
    for (company, prefix) in [("44", "rp7"), ("42", "other"), ("x", ""), ("42", "../..")] {
        assert_eq!(browser.run_async(forged_request, &json!([company, prefix])), 422);
    }
    let reader = stage::browser(&gateway, "en");
    sign_in(&reader, READ_TOKEN, "/console/addresses");
    assert!(reader.text("main").contains("read-only") && !reader.has("main form"));
    inspect(&reader, "addresses-read-en");
    assert_eq!(reader.run_async(forged_request, &json!(["42", "rp7"])), 403);

    let Some(gateway) = stage::open("") else { return };
    let browser = stage::browser(&gateway, "en");
    browser.go("/console/addresses");
    assert!(browser.text("main").contains("is not configured") && !browser.has("main form"));
}

#[test]
fn an_outdated_form_does_not_overwrite_an_address() {
    let Some(gateway) = stage::guarded(CONFIG) else { return };
    let open = |path: &str| {
        let browser = stage::browser(&gateway, "en");
        sign_in(&browser, ADMIN_TOKEN, path);
        browser
    };
    let set_new = |url: &str| {
        let browser = open("/console/addresses");
        browser.choose("#field-company", "43");
        browser.choose("#field-prefix", "rp7");
        browser.fill("#field-notify_url", url);
        browser.leave("main form[method=post] button");
        browser
    };
    let first = set_new("https://company.example/first");
    assert_eq!(first.path(), "/console/addresses/43/rp7");
    let again = set_new("https://company.example/lost");
    assert!(again.has("#field-prefix[aria-invalid]"), "{}", again.text("main"));
    assert!(again.text("main").contains("change it at /console/addresses/43/rp7"));
    again.go("/console/addresses/43/rp7");
    again.fill("#field-notify_url", "https://company.example/second");
    again.leave("main form[method=post] button");
    assert_eq!(again.path(), "/console/addresses/43/rp7");
    for number in ["many", "7"] {
        first.fill("#field-report_number", number);
        first.fill("#field-notify_url", "https://company.example/third");
        first.leave("main form[method=post] button");
        let page = first.text("main");
        assert!(page.contains("meanwhile") && page.contains("/second"), "{page}");
        first.run("document.querySelector('[name=version]').value = '1'", &json!([]));
    }
    first.run("document.querySelectorAll('details').forEach(one => one.open = true)", &json!([]));
    first.run(
        "document.querySelectorAll('[name=version]').forEach(one => { one.value = '1'; })",
        &json!([]),
    );
    first.leave("form[action$='/clear'] button");
    let page = first.text("main");
    assert!(page.contains("meanwhile") && page.contains("/second"), "{page}");
    first.go("/console/addresses/43/rp7");
    first.fill("#field-notify_url", "https://company.example/third");
    first.leave("main form[method=post] button");
    assert!(first.text("main").contains("/third"));
}
