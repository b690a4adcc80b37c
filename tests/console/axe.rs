//! Accessibility of pages: axe-core's rules for WCAG 2.2 AA, in both colour schemes, and
//! on a phone. `scripts/setup` gets the library; it is run in the page.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::browser::{Browser, Scheme};

const TAGS: [&str; 5] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/// Rules besides, which no tag of these has.
const MORE: [&str; 1] = ["landmark-unique"];

/// The width that WCAG 1.4.10 asks for, in pixels.
const PHONE: u32 = 320;
const DESK: u32 = 1280;

/// Other widths of screenshots.
const PICTURED: [u32; 3] = [390, 1024, 1440];

/// Where `scripts/setup` puts the library.
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/axe-core/axe.min.js")
}

fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        std::fs::read_to_string(file()).unwrap_or_else(|error| panic!("axe-core: {error}"))
    })
}

/// Fails if the page violates a rule or the browser logs a complaint. Takes a screenshot in each
/// scheme.
pub fn inspect(browser: &Browser, name: &str) {
    for (scheme, word) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
        browser.prefers(scheme);
        browser.width(PHONE);
        fits(browser, name);
        violates_nothing(browser, &format!("{name}, {word}, on a phone"));
        browser.width(DESK);
        violates_nothing(browser, &format!("{name}, {word}"));
        browser.picture(&format!("{name}-{word}"));
        for pixels in PICTURED {
            browser.width(pixels);
            browser.picture(&format!("{name}-{word}-{pixels}"));
        }
        browser.width(DESK);
    }
    browser.prefers(Scheme::Light);
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{name}: {complaints:#?}");
}

/// Inspects a page in a browser with scripts disabled; the inspection itself enables them.
pub fn inspect_without_scripts(browser: &Browser, name: &str) {
    browser.with_scripts();
    inspect(browser, name);
    browser.without_scripts();
}

/// Nothing but a table or a text in a box of its own is wider than the page.
fn fits(browser: &Browser, name: &str) {
    let wide = browser.run("return document.documentElement.scrollWidth", &json!([]));
    assert!(wide.as_u64().unwrap() <= u64::from(PHONE), "{name} is {wide} pixels wide on a phone");
}

fn violates_nothing(browser: &Browser, name: &str) {
    browser.run(library(), &json!([]));
    let script = "const done = arguments[arguments.length - 1]; \
        const also = Object.fromEntries(arguments[1].map(name => [name, { enabled: true }])); \
        axe.run(document, { runOnly: arguments[0], rules: also, resultTypes: ['violations'] }) \
        .then(found => done(found.violations), error => done(String(error)));";
    let found = browser.run_async(script, &json!([TAGS, MORE]));
    let Some(violations) = found.as_array() else { panic!("{name}: {found}") };
    let described: Vec<String> = violations.iter().map(describe).collect();
    assert!(described.is_empty(), "{name}:\n{}", described.join("\n"));
}

fn describe(violation: &Value) -> String {
    let nodes = violation["nodes"].as_array().into_iter().flatten();
    let places: Vec<String> =
        nodes.map(|node| format!("    {} {}", node["html"], node["failureSummary"])).collect();
    format!("  {}: {}\n{}", violation["id"], violation["help"], places.join("\n"))
}
