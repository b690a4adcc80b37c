//! An IDIP source that takes precedence over the HTTP callbacks of its surveys.

use md5::{Digest as _, Md5};

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::json;

use super::gateway::{Gateway, eventually};
use super::wire::{Answer, get, post};

const BOTH: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"

[[source]]
name = "http"
sender = "imur-http"
secrets = "s3cr3t"

[[source]]
name = "idip-7f9c2e41d8b3a650c4e17f9c2e41d8b3"
sender = "imur-idip"
unsigned = true
sids = ["64b0c0ffee00000000000001"]
"#;

/// A survey's answer, signed: what is signed comes first, in the order of names.
fn answered(gateway: &Gateway, signed: &[(&str, &str)]) -> Answer {
    let text: String = [("appSecret", "s3cr3t")]
        .iter()
        .chain(signed)
        .fold(String::new(), |text, (name, value)| text + name + value);
    let query: String = signed.iter().map(|(name, value)| format!("{name}={value}&")).collect();
    let sign = const_hex::encode(Md5::digest(text));
    let target = format!("/callback/http?{query}effective=true&aid=a1&sign={sign}");
    get(gateway.at.callbacks, &target)
}

fn outcome(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"http\"}}"))
}

#[test]
fn what_idip_stands_before_is_answered_and_not_recorded_however_it_is_cut() {
    let gateway = Gateway::start(BOTH);
    let ours = "64b0c0ffee00000000000001";
    let login = [("uid", "player-7"), ("uid_source", "demo"), ("user_type", "x")];
    let honest = [&[("sid", ours), ("timestamp", "1700000000")], &login[..]].concat();
    let cut = format!("{ours}timestamp1700000000");
    let recut = [&[("sid", &*cut)], &login[..]].concat();
    for signed in [&honest[..], &recut[..]] {
        let answer = answered(&gateway, signed);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{\"status\":\"ok\"}"));
    }
    gateway.await_metric("postern_callbacks_total{outcome=\"superseded\",source=\"http\"}", 2.0);
    assert_eq!(outcome(&gateway, "accepted"), 0.0);

    let another = [("sid", "64b0c0ffee00000000000002"), ("timestamp", "1700000000")];
    assert_eq!(answered(&gateway, &another).status, 200);
    gateway.await_metric("postern_callbacks_total{outcome=\"accepted\",source=\"http\"}", 1.0);
}

#[test]
fn a_release_makes_no_event_of_what_idip_makes() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let quarantined = BOTH.replace(
        "secrets = \"s3cr3t\"",
        "secrets = \"s3cr3t\"\nquarantine = { reasons = [\"bad_signature\"] }",
    );
    let gateway = Gateway::over(&quarantined.replace("s3cr3t", "another one"), open());
    for sid in ["64b0c0ffee00000000000001", "64b0c0ffee00000000000002"] {
        let signed = [("sid", sid), ("timestamp", "1700000000"), ("uid", "player-7")];
        answered(&gateway, &signed);
    }
    let held = |gateway: &Gateway| {
        let page = get(gateway.at.admin, "/admin/v1/held").json();
        page["held"].as_array().map_or(0, Vec::len)
    };
    eventually("both are in quarantine", || held(&gateway) == 2);
    gateway.stop();

    // The secret is mended.
    let gateway = Gateway::over(&quarantined, open());
    for dry_run in [true, false] {
        let order = json!({ "source": "http", "dry_run": dry_run });
        let begun = post(gateway.at.admin, "/admin/v1/release", &order.to_string()).json();
        let path = format!("/admin/v1/release/{}", begun["id"].as_str().unwrap());
        let mut now = begun;
        eventually("the release has ended", || {
            now = get(gateway.at.admin, &path).json();
            now["state"] != "running"
        });
        assert_eq!((&now["released"], &now["refused"]), (&json!(1), &json!(1)), "{now}");
    }
    // It is not lost: an operator knows whether the other source was there at the time.
    assert_eq!(held(&gateway), 1);
    let events = get(gateway.at.admin, "/admin/v1/events?source=http").json();
    assert_eq!(events["events"].as_array().unwrap().len(), 1, "{events}");
}
