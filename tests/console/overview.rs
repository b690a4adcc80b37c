//! The overview: counts, charts, backlog, refresh.

use super::axe::inspect;
use super::backend::{Backend, status};
use super::browser::LANGUAGES;
use super::gateway::{taku, taku_for};
use super::stage;
use super::wire::get;

fn destination(backend: &Backend) -> String {
    format!(
        "destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n\
         secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n",
        backend.at
    )
}

#[test]
fn the_overview_shows_counts_and_refreshes() {
    let backend = Backend::start();
    backend.says(status(500));
    let Some(gateway) = stage::open(&destination(&backend)) else { return };
    let to = gateway.at.callbacks;
    for n in 0..3 {
        assert_eq!(get(to, &taku(&format!("o{n}"))).status, 200);
    }
    get(to, &taku("o1"));
    get(to, &taku("o2").replace("coin", "gold"));
    gateway.await_metric("postern_delivery_backlog{destination=\"game\"}", 3.0);
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        browser.go("/console");
        let accepted = if said == "en" { "Accepted" } else { "已接受" };
        let legend = browser.text(".legend");
        assert!(legend.contains(&format!("{accepted} 3")), "{legend}");
        let row = browser.text("section[aria-labelledby=sources] tbody tr");
        let timed = [" µs", " ms", " s"].iter().any(|unit| row.contains(unit));
        assert!(row.contains("level-end") && row.contains("taku") && timed, "{row}");
        let refused = browser.text("section[aria-labelledby=rejections] tbody tr");
        assert!(refused.contains('1'), "{refused}");
        let waiting = browser.text("section[aria-labelledby=backlog] tbody tr");
        assert!(waiting.contains("game") && waiting.contains('3'), "{waiting}");
        assert!(browser.text("footer").contains(env!("CARGO_PKG_VERSION")));
        inspect(&browser, &format!("overview-{said}"));
        browser.go("/console?span=days&source=level-end");
        assert!(browser.text(".legend").contains(&format!("{accepted} 3")));
    }

    let browser = stage::browser(&gateway, "en");
    browser.go("/console");
    get(to, &taku_for("u9", "o9", "1"));
    browser.until("the page shows the fourth by itself", |browser| {
        browser.text(".legend").contains("Accepted 4")
    });
    assert!(browser.has("button[data-pause]:not([hidden])"));
    browser.click("button[data-pause]");
    assert!(browser.has("button[data-pause][aria-pressed=true]"));
    assert!(browser.complaints().is_empty());

    browser.without_scripts();
    browser.go("/console");
    assert!(
        browser.has("button[data-pause][hidden]"),
        "without a script there is nothing to pause"
    );
}
