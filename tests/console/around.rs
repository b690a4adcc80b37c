//! The frame of every page: keyboard navigation and languages.

use serde_json::json;

use super::stage;

/// Keys, as the protocol names them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

#[test]
fn a_keyboard_is_enough() {
    let Some(gateway) = stage::open("") else { return };
    let browser = stage::browser(&gateway, "en");
    browser.go("/console");
    assert_eq!(browser.title(), "Overview · Postern");
    assert_eq!(browser.texts("nav a[aria-current=page]"), ["Overview"]);
    let focused =
        |read: &str| browser.run(&format!("return document.activeElement.{read}"), &json!([]));
    browser.press(TAB);
    assert_eq!(focused("textContent"), "Skip to content");
    let seen = "return document.activeElement.getBoundingClientRect().left >= 0";
    assert_eq!(browser.run(seen, &json!([])), true, "the skip link is visible");
    browser.press(ENTER);
    browser.until("the content has the focus", |browser| {
        browser.run("return document.activeElement.id", &json!([])) == "content"
    });
    browser.press(TAB);
    assert_eq!(focused("dataset.pause"), "live");
    let ring = "return getComputedStyle(document.activeElement).outlineWidth";
    assert_eq!(browser.run(ring, &json!([])), "3px");
}

#[test]
fn a_language_is_chosen_and_stays() {
    let Some(gateway) = stage::open("") else { return };
    let browser = stage::browser(&gateway, "en");
    browser.go("/console/callbacks?outcome=test");
    browser.follow("中文");
    assert_eq!(browser.path(), "/console/callbacks?outcome=test&lang=zh-CN");
    assert!(browser.has("html[lang=zh-CN]"));
    browser.go("/console");
    assert_eq!(browser.text("h1"), "总览");
    browser.follow("English");
    assert_eq!(browser.text("h1"), "Overview");
    browser.choose("#field-span", "days");
    browser.leave("form.ask button");
    assert_eq!(browser.path(), "/console?source=&span=days");
    assert!(browser.text("figcaption").contains("three days"));
}
