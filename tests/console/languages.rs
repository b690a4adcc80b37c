//! Chinese pages are Chinese: no text of the console is left in English, and the reasons of errors
//! stand in Chinese beside their English details.

use serde_json::json;

use super::browser::Browser;
use super::driver;
use super::gateway::{Gateway, PLAIN, eventually, taku, taku_for};
use super::stage::{self, ADMIN_TOKEN, TOKENS, sign_in};
use super::wire::{get, send};

/// A script that returns the texts of the page without a Chinese character: neither marked as
/// English, nor values, nor names and units that are the same in both languages.
const ENGLISH: &str = r"
    const same = /\b(?:Postern|English|OpenAPI|UTC|URL|JSON|XML|CSV|GET|POST|HTTP|TLS|KiB|MiB|ms|min|p50|p99|curl|id|SHA-256)\b|µs/g;
    const isLeft = text => /[A-Za-z]{2,}/.test(text.replace(same, '')) && !/[\u3400-\u9fff]/.test(text);
    const outside = '[lang=en], code, pre, bdi, small.detail, .value, .reason code, script, datalist, textarea, h1, .unseen, .brand, time, .who, li > label';
    const left = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
      const holder = node.parentElement;
      if (holder.closest(outside) !== null) continue;
      // Options that are names stand for themselves.
      if (holder.matches('option') && node.data.includes(holder.value) && holder.value !== '') continue;
      if (isLeft(node.data)) left.push(node.data.trim());
    }
    for (const named of document.querySelectorAll('[aria-label], [placeholder]')) {
      if (named.closest('[lang=en]') !== null) continue;
      for (const text of [named.ariaLabel, named.getAttribute('placeholder')]) {
        if (text !== null && isLeft(text)) left.push(text);
      }
    }
    return left;";

fn is_chinese(browser: &Browser, page: &str) {
    let left = browser.run(ENGLISH, &json!([]));
    assert_eq!(left, json!([]), "{page}");
}

/// A destination where nothing listens, and one attempt.
const CLOSED: &str = "destinations = [\"game\"]\nquarantine = { reasons = [\"stale\"], keep = \"14d\" }\n\
    [[destination]]\nname = \"game\"\nurl = \"http://127.0.0.1:1/rewards\"\n\
    secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n\
    retry = { first = \"20ms\", max = \"100ms\", attempts = 1 }\n";

#[test]
fn no_text_of_a_chinese_page_is_left_in_english() {
    if !driver::is_there() {
        return;
    }
    let gateway = Gateway::start(&format!("{PLAIN}{CLOSED}{TOKENS}"));
    let admin = |line: &str, body: &str| {
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        send(gateway.at.admin, line, &[("Authorization", &bearer)], body)
    };
    let table = json!({ "sender": "taku", "secrets": "a-secret-0123456", "rate": "7/s" });
    assert!(admin("PUT /admin/v1/sources/bonus", &table.to_string()).status < 300);
    let table = json!({ "url": "https://game.example.com/", "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" });
    assert!(admin("PUT /admin/v1/destinations/shop", &table.to_string()).status < 300);
    assert_eq!(get(gateway.at.callbacks, &taku_for("u1", "zh-1", "10")).status, 200);
    get(gateway.at.callbacks, &taku_for("u1", "zh-1", "11"));
    get(gateway.at.callbacks, &taku("zh-2").replace("coin", "gold"));
    get(gateway.at.callbacks, "/callback/nowhere?a=1");
    let events = || admin("GET /admin/v1/events", "").json()["events"].clone();
    let dead = || admin("GET /admin/v1/deliveries?state=dead", "").json()["deliveries"].clone();
    eventually("the delivery is dead", || dead().as_array().is_some_and(|all| all.len() == 1));
    let event = format!("/console/events/{}", events()[0]["id"].as_str().unwrap());

    let browser = stage::browser(&gateway, "zh-CN,zh");
    is_chinese_at(&browser, "/console/sign-in");
    sign_in(&browser, ADMIN_TOKEN, "/console");
    for path in [
        "/console",
        "/console?span=days",
        "/console/issues",
        "/console/callbacks",
        &event,
        "/console/dead-letters",
        "/console/held",
        "/console/debug",
        "/console/debug?source=level-end",
        "/console/sources",
        "/console/sources?new=levelplay",
        "/console/sources/level-end",
        "/console/sources/bonus",
        "/console/destinations",
        "/console/destinations?new=yes",
        "/console/destinations/game",
        "/console/destinations/shop",
        &format!("/console/destinations/game/preview?event={}", event.rsplit_once('/').unwrap().1),
        "/console/rules",
        "/console/addresses",
        "/console/senders",
        "/console/senders/taku",
        "/console/audit",
        "/console/nowhere",
        "/console/callbacks?since=never",
        "/console/callbacks?cursor=x",
    ] {
        is_chinese_at(&browser, path);
    }
    // Pages behind lists: rejected and held callbacks, issues of each kind.
    for (list, link) in [
        ("/console/callbacks?outcome=rejected", "tbody a[href^='/console/refusals/']"),
        ("/console/held", "tbody a[href^='/console/held/']"),
        ("/console/issues", "tbody a[href*='kind=dead']"),
        ("/console/issues", "tbody a[href*='kind=rejected']"),
        ("/console/issues", "tbody a[href*='kind=held']"),
    ] {
        browser.go(list);
        browser.leave(link);
        is_chinese(&browser, link);
    }
    browser.go("/console/issues");
    browser.leave("tbody a[href*='kind=dead']");
    let text = browser.text("main");
    assert!(text.contains("连接被拒绝") && text.contains("Connection refused"), "{text}");
}

fn is_chinese_at(browser: &Browser, path: &str) {
    browser.go(path);
    is_chinese(browser, path);
}

#[test]
fn errors_of_forms_are_chinese_with_their_english_details() {
    let Some(gateway) = stage::guarded("") else { return };
    let browser = stage::browser(&gateway, "zh-CN,zh");
    sign_in(&browser, ADMIN_TOKEN, "/console/destinations?new=yes");
    browser.fill("#field-name", "a b");
    browser.fill("#field-url", "ftp://game.example.com/");
    browser.fill("#field-timeout", "soon");
    browser.leave("main form[method=post] button[value=save]");
    is_chinese(&browser, "a new destination");
    let said = browser.text("[role=alert]");
    for part in ["不是 http 或 https 的 URL", "无法识别 \"soon\"", "is not a URL of http or https"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let beside = browser.text("#field-timeout-error");
    assert!(beside.contains("时长") && !beside.contains("write a duration"), "{beside}");
    browser.complaints();
    // The error of a text that is not a callback is in Chinese too.
    browser.go("/console/debug?source=level-end");
    browser.fill("#field-request", "what is this");
    browser.leave("button[value=explain]");
    is_chinese(&browser, "the debug tool");
    assert!(browser.text("[role=alert]").contains("无法识别"), "{}", browser.text("main"));
    browser.complaints();
}
