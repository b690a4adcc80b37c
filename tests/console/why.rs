//! Why a callback was rejected, in full.

use super::axe::inspect;
use super::browser::LANGUAGES;
use super::gateway::{TAKU_SECRET, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::get;

const NEAREST: &str = "section[aria-labelledby=nearest]";
const BESIDE: &str = "section[aria-labelledby=beside]";

/// The signature of a callback.
fn signature(target: &str) -> &str {
    target.rsplit_once("&sign=").unwrap().1
}

#[test]
fn a_changed_amount_is_found_by_the_accepted_event() {
    let Some(gateway) = stage::guarded("") else { return };
    for (asked, said) in LANGUAGES {
        let transaction = format!("why-{said}");
        let right = taku(&transaction);
        get(gateway.at.callbacks, &right);
        get(gateway.at.callbacks, &right.replace("reward_amount=10", "reward_amount=1000"));
        let browser = stage::browser(&gateway, asked);
        let list = format!("/console/callbacks?q={transaction}&outcome=rejected");
        sign_in(&browser, ADMIN_TOKEN, &list);
        browser.leave("tbody th a");
        let page = browser.path();
        let nearest = browser.text(NEAREST);
        assert!(nearest.contains("reward_amount = 10"), "{nearest}");
        let marks = browser.texts(&format!("{NEAREST} mark"));
        assert_eq!(marks, ["00"], "the text for 10 is part of that for 1000");
        // The signature that came, as it came; of the one expected, nothing but the ends.
        let beside = browser.text(BESIDE);
        let came = signature(&right);
        let shown = format!("{}…{}", &came[..4], &came[28..]);
        assert!(beside.contains(&shown), "{shown} in {beside}");
        let tampered = format!(
            "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=1000\
             &reward_name=coin&sec_key={TAKU_SECRET}"
        );
        let expected = const_hex::encode(<md5::Md5 as md5::Digest>::digest(tampered));
        let shown = format!("{}…{}", &expected[..4], &expected[28..]);
        assert!(beside.contains(&shown), "{shown} in {beside}");
        // Without the random tokens of forms, which may have any five digits.
        let html = "const page = document.documentElement.cloneNode(true); \
            page.querySelectorAll('[name=csrf]').forEach(one => one.remove()); \
            return page.outerHTML";
        let html = browser.run(html, &serde_json::json!([]));
        let html = html.as_str().unwrap();
        for hidden in [&expected[..5], &expected[27..], TAKU_SECRET, &came[..5]] {
            assert!(!html.contains(hidden), "{hidden}");
        }
        let marked = browser.texts("section[aria-labelledby=compared] mark");
        assert_eq!(marked, ["1000"]);
        inspect(&browser, &format!("why-{said}"));
        // Others may look, and see neither.
        let reader = stage::browser(&gateway, asked);
        sign_in(&reader, READ_TOKEN, &page);
        assert!(reader.has(NEAREST) && reader.has(&format!("{BESIDE} .may-not")));
        assert!(!reader.text("main").contains(&expected[..4]));
        assert!(!reader.text("main").contains(&came[..4]));
    }
}

#[test]
fn the_text_that_was_signed_is_shown_beside_ours() {
    let Some(gateway) = stage::guarded("") else { return };
    let theirs = format!(
        "trans_id=raw-1&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=gold%20coin\
         &sec_key={TAKU_SECRET}"
    );
    let sign = const_hex::encode(<md5::Md5 as md5::Digest>::digest(&theirs));
    let target = format!(
        "/callback/level-end?user_id=u1&trans_id=raw-1&placement_id=p1&adsource_id=9\
         &reward_amount=10&reward_name=gold%20coin&sign={sign}"
    );
    assert_ne!(get(gateway.at.callbacks, &target).status, 200);
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, ADMIN_TOKEN, "/console/callbacks?q=raw-1&outcome=rejected");
    browser.leave("tbody th a");
    let marks = browser.texts(&format!("{NEAREST} mark"));
    // The second one is a space, which is trimmed.
    assert_eq!(marks, ["%20", ""], "{}", browser.text(NEAREST));
    assert!(browser.text(NEAREST).contains("sec_key=***"));
}
