//! The catalog: search, and the contract of each sender.

use super::axe::inspect;
use super::browser::LANGUAGES;
use super::stage;
use super::wire::get;

#[test]
fn the_catalog_is_searched_and_each_contract_is_shown_whole() {
    let Some(gateway) = stage::open("") else { return };
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        browser.go("/console/senders");
        let all = browser.texts("tbody tr").len();
        assert!(all >= 44, "{all} senders");
        inspect(&browser, &format!("senders-{said}"));

        browser.fill("#field-q", "taku");
        browser.leave("form.ask button");
        assert_eq!(browser.path(), "/console/senders?q=taku");
        let first = browser.text("tbody tr");
        assert!(first.contains("taku") && first.contains("level-end"), "{first}");
        // A parameter, and a word of the title in the other case.
        browser.go("/console/senders?q=reward_amount");
        let rows = browser.texts("tbody tr");
        assert!(!rows.is_empty() && rows.len() < all);
        assert!(rows.iter().all(|row| row.to_lowercase().contains("reward_amount")), "{rows:?}");
        browser.go("/console/senders?q=TOPON+rewarded");
        assert!(browser.text("tbody tr").contains("taku"));
        browser.go("/console/senders?q=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE");
        assert!(browser.has("p.empty") && !browser.has("main script"));

        browser.go("/console/senders?q=taku");
        browser.leave("tbody th a");
        assert_eq!(browser.path(), "/console/senders/taku");
        let page = browser.text("main");
        for shown in
            ["{reward_amount}", "sec_key=[secret]", "md5", "601", "TAKU_SECRET", "level-end", "2s"]
        {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        // Unconfirmed points, and the file.
        let (care, title, unconfirmed) = match said {
            "en" => ("With one captured callback, an attacker can", "Signature", "a 5xx is final"),
            _ => ("攻击者截获一次回调后能做到", "签名", "5xx 是否不再重试"),
        };
        assert!(page.contains(unconfirmed), "{page}");
        assert!(page.contains(care), "{page}");
        assert!(browser.texts("h2").contains(&title.to_owned()));
        browser.click("summary");
        assert!(browser.text("details").contains("[[vector]]"));
        inspect(&browser, &format!("sender-{said}"));
        browser.go("/console/senders/unknown");
        assert!(browser.has("[role=alert]"));
    }
}

#[test]
fn the_page_has_the_parts_of_the_command() {
    let Some(gateway) = stage::open("") else { return };
    let browser = stage::browser(&gateway, "en");
    let senders = get(gateway.at.admin, "/admin/v1/senders").json();
    for sender in senders["senders"].as_array().unwrap() {
        let name = sender["name"].as_str().unwrap();
        let page = get(gateway.at.admin, &format!("/console/senders/{name}"));
        assert_eq!(page.status, 200, "{name}");
        let titles = page.body.matches("<h2").count();
        let file = format!("{}/docs/senders/{name}.md", env!("CARGO_MANIFEST_DIR"));
        let written = std::fs::read_to_string(file).unwrap();
        assert_eq!(titles, written.matches("\n## ").count(), "{name}");
        assert_eq!(page.body.matches("<h1").count(), 1);
    }
    // The one with the most of everything.
    browser.go("/console/senders/wechat-push");
    inspect(&browser, "sender-wechat-push");
}
