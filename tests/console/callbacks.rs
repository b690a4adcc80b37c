//! The list of callbacks: search, paging, CSV.

use serde_json::json;

use super::axe::inspect;
use super::browser::LANGUAGES;
use super::gateway::taku_for;
use super::stage;
use super::wire::get;

/// Hostile parameter values.
pub const HOSTILE: [&str; 4] = [
    "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "%E2%80%AEgnp.exe",
    "%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    "%3D1%2B1",
];

#[test]
fn all_outcomes_are_in_one_list() {
    let Some(gateway) = stage::open("") else { return };
    let to = gateway.at.callbacks;
    for callback in [
        taku_for("u1", "c1", "10"),
        taku_for("u1", "c1", "10"),
        taku_for("u2", "c1", "10"),
        taku_for("u1", "c2", "10").replace("coin", "gold"),
        taku_for("u3", "c3", "10"),
    ] {
        get(to, &callback);
        // The list is sorted by time: each callback gets its own millisecond.
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        let outcomes = |path: &str| {
            browser.go(path);
            browser.texts("tbody tr td:nth-child(2)")
        };
        let words = match said {
            "en" => ["Accepted", "Rejected", "Conflict", "Duplicate", "Accepted"],
            _ => ["已接受", "已拒绝", "冲突", "重复", "已接受"],
        };
        assert_eq!(outcomes("/console/callbacks"), words);
        inspect(&browser, &format!("callbacks-{said}"));
        browser.fill("#field-q", "u1");
        browser.leave("form.ask button");
        assert_eq!(
            browser.path(),
            "/console/callbacks?q=u1&source=&outcome=&reason=&state=&destination=&since=&until="
        );
        assert_eq!(browser.texts("tbody tr").len(), 3);
        assert_eq!(outcomes("/console/callbacks?q=c1"), [words[2], words[3], words[4]]);
        assert_eq!(outcomes("/console/callbacks?outcome=duplicate"), [words[3]]);
        assert_eq!(outcomes("/console/callbacks?reason=bad_signature"), [words[1]]);
        assert_eq!(outcomes("/console/callbacks?until=2020-01-01T00:00").len(), 0);
        assert_eq!(outcomes("/console/callbacks?source=nothing").len(), 0);
        inspect(&browser, &format!("callbacks-empty-{said}"));
        browser.go("/console/callbacks?q=c3");
        browser.leave("tbody th a");
        assert!(browser.text("h1").contains("evt_"));
        let id = browser.text("h1").split_whitespace().last().unwrap().to_owned();
        assert_eq!(outcomes(&format!("/console/callbacks?q={id}")), [words[0]]);
        browser.go("/console/callbacks?outcome=nonsense");
        assert!(browser.has("[role=alert]"));
    }
}

#[test]
fn a_long_path_widens_no_list_and_its_issue_opens() {
    let Some(gateway) = stage::open("") else { return };
    get(gateway.at.callbacks, &format!("/callback/{}", "n".repeat(300)));
    let left = "const box = document.querySelector('main div.wide');\
                return box.scrollWidth - box.clientWidth";
    for (asked, _) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        browser.width(1440);
        for list in ["/console/callbacks", "/console/issues"] {
            browser.go(list);
            assert!(browser.text("tbody").contains("nnn"), "{}", browser.text("main"));
            assert_eq!(browser.run(left, &json!([])), 0, "{list}");
        }
        browser.leave("tbody a[href*='cause=unknown_path']");
        assert!(browser.has("tbody a[href^='/console/refusals/']"), "{}", browser.text("main"));
    }
}

#[test]
fn a_list_says_why_it_is_empty() {
    let Some(gateway) = stage::open("") else { return };
    let page = |path: &str| get(gateway.at.admin, &format!("/console/{path}"));
    for (path, said) in [
        ("callbacks", "No callbacks yet."),
        ("callbacks?q=u1", "No callback matches."),
        ("audit", "No changes yet."),
        ("audit?who=u1", "No entry matches."),
        ("callbacks?source=nope", "No source nope"),
        ("issues?source=nope", "No source nope"),
        ("held?source=nope", "No source nope"),
        ("dead-letters?source=nope", "No source nope"),
    ] {
        let shown = page(path).body;
        assert!(shown.contains(said), "{path}: {shown}");
    }
    assert!(!page("callbacks?source=level-end").body.contains("No source"));
    for list in ["callbacks", "audit", "held", "dead-letters"] {
        let expired = page(&format!("{list}?cursor=x"));
        assert_eq!(expired.status, 400, "{list}");
        let first = format!("<a href=\"/console/{list}\">First page</a>");
        assert!(expired.body.contains("Page expired") && expired.body.contains(&first), "{list}");
    }
}

#[test]
fn what_is_gone_is_not_found_and_leads_to_its_list() {
    let Some(gateway) = stage::open("") else { return };
    for (path, list) in [
        ("issues/one?kind=dead&source=s&cause=status+500", "issues"),
        ("held/ref_00000000000000000000000000000000", "held"),
        ("find/unknown", "callbacks"),
    ] {
        let gone = get(gateway.at.admin, &format!("/console/{path}"));
        assert_eq!(gone.status, 404, "{path}");
        assert!(gone.body.contains("Not found"), "{path}: {}", gone.body);
        assert!(gone.body.contains(&format!("<p><a href=\"/console/{list}\">")), "{path}");
    }
}

#[test]
fn pages_and_the_file_hold_each_callback_once() {
    let Some(gateway) = stage::open("") else { return };
    let to = gateway.at.callbacks;
    for n in 0..70 {
        // One is found as a user and as a transaction.
        let user = if n == 7 { "p7" } else { "u1" };
        assert_eq!(get(to, &taku_for(user, &format!("p{n}"), "1")).status, 200);
        // Fewer than one address is logged with at once.
        if n % 9 == 0 {
            get(to, &taku_for(user, &format!("p{n}"), "1"));
        }
        if n % 7 == 0 {
            get(to, &taku_for("u1", &format!("x{n}"), "1").replace("coin", "gold"));
        }
    }
    let browser = stage::browser(&gateway, "en");
    let mut lines = Vec::new();
    browser.go("/console/callbacks");
    loop {
        lines.extend(browser.texts("tbody tr").into_iter().map(|row| row.replace('\t', " ")));
        if !browser.has("a[rel=next]") {
            break;
        }
        browser.leave("a[rel=next]");
    }
    assert_eq!(lines.len(), 70 + 8 + 10, "{}", lines.join("\n"));
    for n in 0..70 {
        let accepted = lines.iter().filter(|line| {
            line.contains("Accepted") && line.split_whitespace().any(|word| word == format!("p{n}"))
        });
        assert_eq!(accepted.count(), 1, "p{n}");
    }
    browser.go("/console/callbacks?q=p7&outcome=accepted");
    assert_eq!(browser.texts("tbody tr").len(), 1);

    let file = get(gateway.at.admin, "/console/callbacks/callbacks.csv");
    assert_eq!(file.field("content-type").unwrap(), "text/csv; charset=utf-8");
    assert_eq!(file.body.lines().count(), 1 + 70 + 8 + 10);
    let file = get(gateway.at.admin, "/console/callbacks/callbacks.csv?q=p7");
    assert_eq!(file.body.lines().count(), 2, "{}", file.body);
}

#[test]
fn hostile_values_are_only_text() {
    let Some(gateway) = stage::open("") else { return };
    let to = gateway.at.callbacks;
    let long = "x".repeat(7000);
    for (n, user) in HOSTILE.into_iter().chain([long.as_str(), "%ff%fe"]).enumerate() {
        get(to, &taku_for(user, &format!("h{n}"), "1"));
        get(to, &taku_for(user, &format!("f{n}"), "1").replace("coin", "gold"));
    }
    let file = get(gateway.at.admin, "/console/callbacks/callbacks.csv");
    assert!(file.body.contains("\"'=1+1\"") && !file.body.contains("\"=1"), "{}", file.body);
    let browser = stage::browser(&gateway, "zh-CN");
    browser.go("/console/callbacks");
    let shown = browser.text("table");
    assert!(shown.contains("<script>alert(1)</script>") && shown.contains("U+202E"), "{shown}");
    assert!(!shown.contains('\u{202e}'));
    inspect(&browser, "callbacks-hostile");
    // Each on its own page, whatever its outcome.
    let links = browser.run(
        "return [...document.querySelectorAll('tbody th a')].map(a => a.getAttribute('href'))",
        &serde_json::json!([]),
    );
    assert!(links.as_array().unwrap().len() >= 10, "{links}");
    for link in links.as_array().unwrap() {
        browser.go(link.as_str().unwrap());
        assert!(browser.has("#request"), "{}", browser.text("main"));
        assert_eq!(
            browser.run(
                "return document.querySelectorAll('main script, main img').length",
                &serde_json::json!([])
            ),
            0
        );
    }
    inspect(&browser, "event-hostile");
}
