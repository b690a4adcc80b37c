//! The admin listener: who may ask, and what is answered.

use serde_json::{Value, json};

use super::bounds::with_form;
use super::gateway::{Gateway, PLAIN, TAKU_SECRET, eventually, logged, taku, taku_for};
use super::wire::{Answer, ask, get, post};

const TOKENS: &str = r#"
[admin]
token = [{ name = "ops", value = "ops-token-0123456789" }, { name = "wall", value = "wall-token-0123456789", right = "read" }]
"#;

fn value(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

fn list(gateway: &Gateway, query: &str) -> Value {
    let answer = get(gateway.at.admin, &format!("/admin/v1/{query}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    value(&answer)
}

fn transactions(page: &Value) -> Vec<String> {
    let all = page["events"].as_array().unwrap().iter();
    all.map(|event| event["transaction"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_answer_is_taken_for_a_page_by_a_browser() {
    let gateway = Gateway::start(PLAIN);
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/admin/v1/events",
        "/admin/v1/rejections",
        "/admin/v1/openapi.json",
        "/admin/v1/export",
        "/admin/v1/none",
    ] {
        let answer = get(gateway.at.admin, path);
        assert_eq!(answer.field("x-content-type-options").as_deref(), Some("nosniff"), "{path}");
    }
}

#[test]
fn a_replay_of_one_event_takes_no_destination_and_no_dry_run() {
    let gateway = Gateway::start(PLAIN);
    assert_eq!(get(gateway.at.callbacks, &taku("one")).status, 200);
    let id = list(&gateway, "events")["events"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/admin/v1/events/{id}/replay");
    for (query, body) in [
        ("", r#"{"destination":"game"}"#),
        ("", r#"{"dry_run":true}"#),
        ("", "garbage{"),
        ("?destination=game", ""),
    ] {
        let answer = post(gateway.at.admin, &format!("{path}{query}"), body);
        assert_eq!(answer.status, 400, "{query} {body}");
        assert!(answer.body.contains("POST /admin/v1/replay"), "{}", answer.body);
    }
    for body in ["", "{}"] {
        assert_eq!(post(gateway.at.admin, &path, body).status, 202, "{body}");
    }
}

#[test]
fn the_audit_log_has_an_export_once() {
    let gateway = Gateway::start(PLAIN);
    let actions = || -> Vec<String> {
        let log = list(&gateway, "audit");
        let all = log["audit"].as_array().unwrap().iter();
        all.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(get(gateway.at.callbacks, &taku("one")).status, 200);
    let first = get(gateway.at.admin, "/admin/v1/export");
    assert_eq!(first.status, 200);
    assert_eq!(actions(), ["exported"]);
    if let Some(next) = first.field("postern-next") {
        assert_eq!(get(gateway.at.admin, &format!("/admin/v1/export?cursor={next}")).status, 200);
    }
    assert_eq!(actions(), ["exported"], "its pages are one export");
    assert_eq!(get(gateway.at.admin, "/admin/v1/export").status, 200);
    assert_eq!(actions(), ["exported", "exported"]);
}

#[test]
fn events_are_listed_newest_first_by_page_and_by_filter() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    for n in 0..5 {
        assert_eq!(get(to, &taku_for(&format!("u{}", n % 2), &format!("e{n}"), "1")).status, 200);
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    get(to, &taku_for("u0", "e0", "1"));
    let page = list(&gateway, "events?limit=3");
    assert_eq!(transactions(&page), ["e4", "e3", "e2"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = list(&gateway, &format!("events?limit=3&cursor={cursor}"));
    assert_eq!(transactions(&page), ["e1", "e0"]);
    assert_eq!(page["next_cursor"], Value::Null);
    assert_eq!(transactions(&list(&gateway, "events?user=u1")), ["e3", "e1"]);
    assert_eq!(transactions(&list(&gateway, "events?transaction=e2")), ["e2"]);
    assert_eq!(transactions(&list(&gateway, "events?source=level-end&outcome=accepted")).len(), 5);
    assert!(transactions(&list(&gateway, "events?source=other")).is_empty());
    assert!(transactions(&list(&gateway, "events?outcome=duplicate")).is_empty());
    assert!(transactions(&list(&gateway, "events?since=2999-01-01T00:00:00Z")).is_empty());
    for bad in [
        "events?outcome=nonsense",
        "events?limit=x",
        "events?sorce=a",
        "events?cursor=zz",
        "events?since=x",
    ] {
        let answer = get(gateway.at.admin, &format!("/admin/v1/{bad}"));
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.head.contains("application/problem+json"));
        assert_eq!(value(&answer)["status"], 400);
    }
}

#[test]
fn an_event_is_shown_with_its_deliveries() {
    let text = format!(
        "{PLAIN}destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://127.0.0.1:9/\"\nsecret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n"
    );
    let gateway = Gateway::start(&text);
    get(gateway.at.callbacks, &taku("d1"));
    let page = list(&gateway, "events");
    let id = page["events"][0]["id"].as_str().unwrap().to_owned();
    let event = list(&gateway, &format!("events/{id}"));
    assert_eq!(event["id"], page["events"][0]["id"]);
    assert_eq!(event["transaction"], "d1");
    assert_eq!(event["deliveries"][0]["destination"], "game");
    assert_eq!(event["deliveries"][0]["state"], "pending");
    assert_eq!(event["params"]["sign"], "***");
    for absent in ["evt_nonsense", "evt_00000000000000000000000000000000"] {
        assert_eq!(get(gateway.at.admin, &format!("/admin/v1/events/{absent}")).status, 404);
    }
}

#[test]
fn rejections_say_why_and_show_no_claim() {
    let gateway = Gateway::start(PLAIN);
    let good = taku("x1");
    let claim = good.rsplit_once("sign=").unwrap().1.to_owned();
    get(gateway.at.callbacks, &good.replace("coin", "gold"));
    ask(
        gateway.at.callbacks,
        format!("GET {good}&user_id=2 HTTP/1.1\r\nHost: a\r\nX-Signature: {claim}\r\n\r\n"),
    );
    let page = list(&gateway, "rejections");
    let [second, first] = page["rejections"].as_array().unwrap().as_slice() else {
        panic!("{page}")
    };
    assert_eq!(first["reason"], "bad_signature");
    assert_eq!(first["source"], "level-end");
    assert_eq!(first["client"], "127.0.0.1");
    assert_eq!(first["path"], "/callback/level-end");
    assert_eq!(first["params"]["reward_name"], "gold");
    assert_eq!(first["params"]["sign"], "***");
    assert_eq!(second["reason"], "repeated_parameter");
    assert_eq!(second["parameter"], "user_id");
    let text = page.to_string();
    assert!(!text.contains(&claim) && !text.contains(TAKU_SECRET), "{text}");
    let some = list(&gateway, "rejections?reason=repeated_parameter&source=level-end&limit=1");
    assert_eq!(some["rejections"].as_array().unwrap().len(), 1);
    let first = list(&gateway, "rejections?limit=1");
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = list(&gateway, &format!("rejections?cursor={cursor}"));
    assert_eq!(rest["rejections"][0]["reason"], "bad_signature");
    assert_eq!(rest["next_cursor"], Value::Null);
}

#[test]
fn senders_are_listed_with_their_sources() {
    let gateway = Gateway::start(&with_form(PLAIN));
    let page = list(&gateway, "senders");
    let all = page["senders"].as_array().unwrap();
    let taku = all.iter().find(|sender| sender["name"] == "taku").unwrap();
    assert_eq!(taku["sources"], json!(["level-end"]));
    assert_eq!(taku["timeout_ms"], 2000);
    assert!(all.iter().any(|sender| sender["name"] == "form"));
}

#[test]
fn explain_takes_a_url_or_a_request() {
    let gateway = Gateway::start(PLAIN);
    let ask = |question: Value| post(gateway.at.admin, "/admin/v1/explain", &question.to_string());
    let url = taku("y1");
    let good = ask(json!({ "source": "level-end", "url": url }));
    assert_eq!(value(&good)["verdict"], "verified");
    assert_eq!(value(&good)["reason"], Value::Null);
    let whole = ask(json!({ "source": "level-end", "url": format!("https://cb.example{url}") }));
    assert_eq!(value(&whole)["verdict"], "verified");
    let bad = ask(
        json!({ "source": "level-end", "method": "GET", "target": url.replace("coin", "x"), "headers": {}, "body": "" }),
    );
    assert_eq!(value(&bad)["verdict"], "rejected");
    assert_eq!(value(&bad)["reason"], "bad_signature");
    assert!(gateway.outcomes("accepted") == 0.0, "nothing is recorded");
    assert_eq!(ask(json!({ "source": "absent", "url": "/" })).status, 404);
    assert_eq!(ask(json!({ "source": "level-end" })).status, 400);
    assert_eq!(ask(json!({ "source": "level-end", "url": "nonsense" })).status, 400);
    assert_eq!(post(gateway.at.admin, "/admin/v1/explain", "{").status, 400);
    assert_eq!(get(gateway.at.admin, "/admin/v1/explain").status, 405);
}

#[test]
fn a_rebound_name_is_misdirected() {
    let gateway = Gateway::start(PLAIN);
    for path in ["/metrics", "/admin/v1/events", "/healthz"] {
        let named = |host: &str| {
            ask(gateway.at.admin, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).status
        };
        assert_eq!(named("evil.example"), 421, "{path}");
        assert_eq!(named(&gateway.at.admin.to_string()), 200, "{path}");
    }
}

#[test]
fn a_token_is_needed_where_one_is_configured() {
    let gateway = Gateway::start(&format!("{PLAIN}{TOKENS}"));
    let with = |token: &str, path: &str| {
        let bytes =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n");
        ask(gateway.at.admin, bytes).status
    };
    assert_eq!(with("Bearer ops-token-0123456789", "/admin/v1/events"), 200);
    assert_eq!(with("Bearer wall-token-0123456789", "/admin/v1/events"), 200);
    // Ten in a minute are answered at once; attacks.rs has more of them.
    for _ in 0..10 {
        assert_eq!(with("Bearer ops-token-012345678", "/admin/v1/events"), 401);
    }
    // Wrong tokens are logged, without the token and within a bound.
    let is_notice = |line: &&str| {
        line.contains("\"postern::admin\"") && line.contains("a token that is not known")
    };
    let noticed = || logged().lines().filter(is_notice).count();
    eventually("noticed", || noticed() >= 1);
    assert!(noticed() < 10 && !logged().contains("ops-token-012345678\""), "{}", noticed());
    let none = get(gateway.at.admin, "/admin/v1/events");
    assert_eq!(none.status, 401);
    assert!(none.head.to_ascii_lowercase().contains("www-authenticate: bearer"));
    for open in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(gateway.at.admin, open).status, 200, "{open}");
    }
    assert_eq!(get(gateway.at.admin, "/admin/v1/nothing").status, 404);
}

#[test]
fn a_page_of_another_site_is_refused() {
    let gateway = Gateway::start(PLAIN);
    for field in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site", "Origin: null"] {
        let bytes = format!(
            "POST /admin/v1/explain HTTP/1.1\r\nHost: localhost\r\n{field}\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(super::wire::ask(gateway.at.admin, bytes).status, 403, "{field}");
    }
    let own = "GET /admin/v1/events HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n\r\n";
    assert_eq!(super::wire::ask(gateway.at.admin, own).status, 200);
}
