//! The debug tool: fill in, sign, send, paste, explain.

use serde_json::json;

use super::axe::{inspect, inspect_without_scripts};
use super::browser::{Browser, LANGUAGES};
use super::gateway::{TAKU_SECRET, logged, taku};
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};
use super::wire::{get, send};

const HOSTILE: &str = "<script>document.title='x'</script>\u{202e}";

#[test]
fn a_callback_is_filled_in_signed_and_sent() {
    for (asked, said) in LANGUAGES {
        let Some(gateway) = stage::guarded("") else { return };
        let browser = stage::browser(&gateway, asked);
        browser.without_scripts();
        sign_in(&browser, ADMIN_TOKEN, "/console/debug");
        browser.choose("#field-source", "level-end");
        browser.leave("form.ask button");
        assert_eq!(browser.path(), "/console/debug?source=level-end");
        inspect_without_scripts(&browser, &format!("debug-{said}"));
        browser.fill("[name='p.user_id']", HOSTILE);
        browser.fill("[name='p.trans_id']", "debug-1");
        browser.leave("button[value=sign]");
        assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
        let page = browser.text("main");
        assert!(page.contains("curl -i -X GET") && page.contains("debug-1"), "{page}");
        assert!(!page.contains(TAKU_SECRET));
        inspect_without_scripts(&browser, &format!("debug-signed-{said}"));
        browser.leave("button[value=send]");
        let sent = browser.text(".sent");
        assert!(sent.contains("200") && browser.has(".sent .badge.test"), "{sent}");
        inspect_without_scripts(&browser, &format!("debug-sent-{said}"));
        // The same request again, as after a reload.
        browser.leave("button[value=send]");
        assert!(browser.has(".sent .badge.duplicate"), "{}", browser.text(".sent"));
        browser.leave(".sent a");
        assert!(browser.path().starts_with("/console/events/evt_"), "{}", browser.path());

        // Something is missing, and is named.
        browser.go("/console/debug?source=level-end");
        browser.fill("[name='p.trans_id']", "");
        browser.leave("button[value=sign]");
        assert!(browser.text("main .notice.bad").contains("trans_id"));
        browser.complaints();
    }
    assert!(!logged().contains(TAKU_SECRET));
}

/// The advice on what is shown, and the note about a path, in the language of the page.
fn advice_and_note(browser: &Browser, said: &str) {
    let is_chinese = usize::from(said == "zh-CN");
    let advice = browser.text("main .notice.plain");
    let expected = ["Nothing usual explains it", "常见错误都无法解释"];
    assert!(advice.contains(expected[is_chinese]), "{advice}");
    assert!(!browser.has("main .notice.plain [lang=en]"), "advice is in the page's language");

    // A slash behind the path: the signature is right, and the gateway answers 404.
    browser.fill("#field-request", &taku("t1").replace("level-end?", "level-end/?"));
    browser.leave("button[value=explain]");
    assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
    let note = browser.text("main .notice.bad");
    let expected =
        ["the sender has to call /callback/level-end", "发送方应调用 /callback/level-end"];
    assert!(note.contains(expected[is_chinese]), "{note}");
}

#[test]
fn a_callback_is_pasted_and_explained() {
    let Some(gateway) = stage::guarded("") else { return };
    for (asked, said) in LANGUAGES {
        // A read-only token may explain, but not sign or send.
        let browser = stage::browser(&gateway, asked);
        sign_in(&browser, READ_TOKEN, "/console/debug?source=level-end");
        assert!(!browser.has("button[value=sign]") && !browser.has("button[value=send]"));
        let verified = format!("https://callbacks.example.com{}", taku("t1"));
        browser.fill("#field-request", &verified);
        browser.leave("button[value=explain]");
        assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
        assert_eq!(
            get(gateway.at.callbacks, &taku("t0")).status,
            200,
            "explaining recorded nothing"
        );

        // Without a source, the path names it.
        browser.go("/console/debug");
        inspect(&browser, &format!("debug-unnamed-{said}"));
        browser.fill("#field-request", &format!("curl -i -X GET '{verified}'"));
        browser.leave("button[value=explain]");
        assert!(browser.has(".badge.verified"), "{}", browser.text("main"));
        browser.go("/console/debug");
        browser.fill("#field-request", "/callback/level-edn?a=b");
        browser.leave("button[value=explain]");
        assert!(browser.text("main").contains("level-end?"), "{}", browser.text("main"));
        // The browser complains of the 422.
        browser.complaints();
        browser.go("/console/debug?source=level-end");

        let forged = taku("t1").replace("reward_amount=10", "reward_amount=11");
        let raw = format!("GET {forged}&evil=%3Cscript%3E%ff HTTP/1.1\nHost: x\nX-Sign: s3cret");
        browser.fill("#field-request", &raw);
        browser.leave("button[value=explain]");
        assert!(browser.has(".badge.rejected"), "{}", browser.text("main"));
        assert!(browser.text("main").contains("<script>"), "as text");
        inspect(&browser, &format!("debug-explained-{said}"));
        advice_and_note(&browser, said);
        browser.fill("#field-request", "rubbish");
        browser.leave("button[value=explain]");
        assert!(browser.has("#field-request[aria-invalid]"));
        browser.complaints();

        // From a rejected callback: the supplied signature stays masked.
        let padded = forged.clone() + &format!("&long={}", "x".repeat(6000));
        get(gateway.at.callbacks, &padded);
        let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
        let list = "GET /admin/v1/rejections?limit=1";
        let listed = send(gateway.at.admin, list, &fields, "").json();
        let id = listed["rejections"][0]["id"].as_str().unwrap();
        browser.go(&format!("/console/debug?source=level-end&rejection={id}"));
        let page = browser.text("main");
        let claim = forged.split("sign=").nth(1).unwrap();
        assert!(!page.contains(claim), "{page}");
        assert!(browser.has(".badge.rejected"), "{page}");
        inspect(&browser, &format!("debug-refusal-{said}"));

        let forged_request = "const done = arguments[arguments.length - 1]; \
            const csrf = document.querySelector('[name=csrf]').value; \
            const form = { csrf, source: 'level-end', do: arguments[0], request: arguments[1] }; \
            fetch('/console/debug', { method: 'POST', body: new URLSearchParams(form) }) \
            .then(answer => done(answer.status));";
        for act in ["sign", "send"] {
            assert_eq!(browser.run_async(forged_request, &json!([act, taku("t2")])), 403);
        }
    }
    let fields = [("Authorization", &*format!("Bearer {ADMIN_TOKEN}"))];
    let audit = send(gateway.at.admin, "GET /admin/v1/audit", &fields, "").json();
    assert_eq!(audit["audit"], json!([]));
}

#[test]
fn only_the_source_itself_is_called() {
    let Some(gateway) = stage::open("") else { return };
    let browser = stage::browser(&gateway, "en");
    browser.go("/console/debug?source=level-end");
    for elsewhere in ["/callback/other?x=1", "/metrics", "https://127.0.0.1:1/"] {
        browser.fill("#field-request", elsewhere);
        browser.leave("button[value=send]");
        assert!(browser.has("#field-request[aria-invalid]"), "{elsewhere}");
    }
    browser.complaints();
    let forged = taku("t1").replace("sign=", "sign=0");
    browser.fill("#field-request", &forged);
    browser.leave("button[value=send]");
    assert!(browser.has(".sent .badge.rejected"), "{}", browser.text("main"));
    assert!(browser.text(".sent").contains("601"));
    browser.leave(".sent a");
    assert!(browser.path().starts_with("/console/refusals/ref_"), "{}", browser.path());
    browser.go("/console/debug?source=unknown%3Cscript%3E");
    assert!(browser.text("main .notice").contains("unknown<script>"));
    browser.go("/console/debug?source=level-end&rejection=99");
    assert!(browser.text("main .notice").contains("no longer"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
