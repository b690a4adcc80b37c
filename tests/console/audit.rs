//! The audit log: listed, filtered, paged.

use serde_json::{Value, json};

use super::axe::inspect;
use super::browser::LANGUAGES;
use super::gateway::{Gateway, TAKU_SECRET};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::send;

fn put(gateway: &Gateway, what: &str, body: &Value) {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let line = format!("PUT /admin/v1/{what}");
    let answer = send(gateway.at.admin, &line, &[("Authorization", &bearer)], &body.to_string());
    assert!(answer.status < 300, "{}", answer.body);
}

#[test]
fn changes_are_listed_found_and_paged() {
    let Some(gateway) = stage::guarded("") else { return };
    let shop = |path: &str| json!({ "url": format!("https://shop.example.com/{path}") });
    put(&gateway, "destinations/shop", &shop("first"));
    put(&gateway, "destinations/shop", &shop("%3Cscript%3Ealert(1)%3C/script%3E"));
    let source = |template: &str| json!({ "sender": "taku", "secrets": [TAKU_SECRET], "replayable": true, "destinations": ["shop"], "template": template });
    put(&gateway, "sources/bonus", &source("who={user_id}"));
    put(&gateway, "sources/bonus", &source("who={user_id}&what=<b>\u{202e}bold"));
    for n in 0..60 {
        put(&gateway, &format!("destinations/d{n}"), &shop(&n.to_string()));
    }
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        // A read-only token sees all of it.
        sign_in(&browser, READ_TOKEN, "/console/audit");
        assert_eq!(browser.texts("tbody tr").len(), 50);
        browser.leave("a[rel=next]");
        assert_eq!(browser.texts("tbody tr").len(), 14);
        let page = browser.text("table");
        assert!(page.contains("token ops") && page.contains("shop.example.com/first"), "{page}");
        assert!(page.contains("U+202E") && !page.contains('\u{202e}') && page.contains("<b>"));
        assert!(!page.contains(TAKU_SECRET));
        assert!(!browser.has("main script, main b"));
        inspect(&browser, &format!("audit-{said}"));

        let rows = |path: &str| {
            browser.go(path);
            browser.texts("tbody tr")
        };
        browser.go("/console/audit");
        browser.choose("#field-kind", "source");
        browser.choose("#field-action", "changed");
        browser.leave("form.ask button");
        let found = browser.texts("tbody tr");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("bonus"));
        assert_eq!(rows("/console/audit?name=SHOP").len(), 2);
        assert_eq!(rows("/console/audit?who=ops&name=bonus").len(), 2);
        assert_eq!(rows("/console/audit?who=unknown").len(), 0);
        assert_eq!(rows("/console/audit?until=2020-01-01T00:00").len(), 0);
        assert_eq!(rows("/console/audit?since=2020-01-01T00:00&name=d7").len(), 1);
        for bad in ["since=yesterday", "action=x", "cursor=x"] {
            browser.go(&format!("/console/audit?{bad}"));
            assert!(browser.has("[role=alert]"), "{bad}");
        }
    }
}
