//! Rejected callbacks: kept in the store, found by what they claim, and held where a source says
//! so.

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::gateway::{Gateway, PLAIN, await_lines, eventually, logged, taku, taku_for};
use super::wire::{ask, get, post, send};

fn rejections(gateway: &Gateway, query: &str) -> Vec<Value> {
    let answer = get(gateway.at.admin, &format!("/admin/v1/rejections?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["rejections"].as_array().unwrap().clone()
}

fn held(gateway: &Gateway) -> Vec<Value> {
    get(gateway.at.admin, "/admin/v1/held").json()["held"].as_array().unwrap().clone()
}

fn forged(transaction: &str) -> String {
    taku(transaction).replace("coin", "gold")
}

/// `level-end` with a quarantine.
fn with_quarantine(rules: &str) -> String {
    PLAIN.replace("secrets =", &format!("quarantine = {{ {rules} }}\nsecrets ="))
}

#[test]
fn a_rejection_outlives_a_restart_and_is_found_by_what_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(PLAIN, open());
    for (user, transaction) in [("u1", "r1"), ("u2", "r2"), ("u1", "r3")] {
        let forged = taku_for(user, transaction, "10").replace("coin", "gold");
        assert_eq!(get(gateway.at.callbacks, &forged).status, 601);
    }
    let before = rejections(&gateway, "");
    gateway.stop();
    let gateway = Gateway::over(PLAIN, open());
    let after = rejections(&gateway, "");
    assert_eq!(before, after, "the same, under the same ids");
    let ids: Vec<&str> = after.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|one, next| one > next) && ids[0].starts_with("ref_"), "{ids:?}");
    assert_eq!(after[0]["unverified"], json!({ "transaction": "r3", "user": "u1" }));
    assert_eq!((&after[0]["held"], &after[0]["status"]), (&json!(false), &json!(601)));
    let found = |query: &str| {
        let all = rejections(&gateway, query).into_iter();
        all.map(|one| one["unverified"]["transaction"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(found("user=u1"), ["r3", "r1"]);
    assert_eq!(found("transaction=r2"), ["r2"]);
    assert_eq!(found("reason=bad_signature&source=level-end&held=false").len(), 3);
    assert!(found("reason=stale").is_empty() && found("held=true").is_empty());
    assert!(found("since=2999-01-01T00:00:00Z").is_empty());
    for bad in ["held=perhaps", "reason=nonsense", "cursor=zz"] {
        assert_eq!(get(gateway.at.admin, &format!("/admin/v1/rejections?{bad}")).status, 400);
    }
    // Explain accepts an id from the list.
    let explain = |id: &str, source: &str| {
        let question = json!({ "source": source, "rejection": id }).to_string();
        post(gateway.at.admin, "/admin/v1/explain", &question)
    };
    let explained = explain(ids[0], "level-end");
    assert_eq!(explained.status, 200, "{}", explained.body);
    assert_eq!(explained.json()["reason"], "bad_signature");
    assert_eq!(explain("ref_00000000000000000000000000000000", "level-end").status, 404);
    assert_eq!(explain("17", "level-end").status, 404);
}

#[test]
fn a_call_to_a_path_of_no_source_names_the_nearest() {
    let gateway = Gateway::start(PLAIN);
    let target = taku("lost").replace("level-end", "levelend");
    let signature = target.rsplit_once("sign=").unwrap().1.to_owned();
    assert_eq!(get(gateway.at.callbacks, &target).status, 404);
    assert_eq!(get(gateway.at.callbacks, "/wp-login.php").status, 404);
    let all = rejections(&gateway, "reason=unknown_path");
    assert_eq!(all.len(), 2);
    assert_eq!((&all[0]["source"], all[0].get("nearest")), (&json!("/wp-login.php"), None));
    assert_eq!(all[1]["source"], "/callback/levelend");
    assert_eq!(all[1]["nearest"], "level-end");
    assert_eq!(all[1]["unverified"]["transaction"], "lost");
    assert!(!json!(all).to_string().contains(&signature));
    assert_eq!(rejections(&gateway, "").len(), 2);
    assert_eq!(gateway.metric("postern_unknown_paths_total"), 2.0);
    // As a callback of the nearest source, whose path is wrong.
    let id = all[1]["id"].as_str().unwrap();
    let question = json!({ "source": "level-end", "rejection": id }).to_string();
    let explained = post(gateway.at.admin, "/admin/v1/explain", &question);
    assert_eq!(explained.status, 200, "{}", explained.body);
}

/// Two senders that send their secret as it is.
const BARE: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"

[[source]]
name = "hz"
sender = "heyzap"
replayable = true
secrets = "hzSECRETVALUE-111"

[[source]]
name = "mlx"
sender = "monlix"
replayable = true
secrets = "mlxSECRETVALUE-222"
"#;

/// The usual mistakes at the first try, made with the right secret.
#[test]
fn a_secret_in_the_wrong_place_is_shown_nowhere() {
    let gateway = Gateway::start(BARE);
    let (to, admin) = (gateway.at.callbacks, gateway.at.admin);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for body in [
        r#"{"device_id": "d", "tracking_id": "t", "secret_key": "hzSECRETVALUE-111"}"#,
        "<x><secret_key>hzSECRETVALUE-111</secret_key></x>",
    ] {
        assert_eq!(send(to, "POST /callback/hz", &form, body).status, 403, "{body}");
    }
    for query in [
        "userid=u;secret=mlxSECRETVALUE-222",
        "userid=u?secret=mlxSECRETVALUE-222",
        "userid=u%26reward%3D1%26secret%3DmlxSECRETVALUE-222",
        "%75serid%3Du%26secret%3D%6D%6CxSECRETVALUE%2D222",
        "userid=u%253Bsecret%253DmlxSECRETVALUE%252D222",
    ] {
        assert_eq!(get(to, &format!("/callback/mlx?{query}")).status, 403, "{query}");
    }
    for path in ["/callback/mlx/mlxSECRETVALUE-222", "/callback/mlx/mlxSECRETVALUE%2d222/x"] {
        assert_eq!(get(to, path).status, 404, "{path}");
    }
    let all = rejections(&gateway, "");
    assert_eq!(all.len(), 9);
    for one in &all {
        let text = one.to_string();
        assert!(text.contains("***") && !text.contains("SECRETVALUE"), "{text}");
        let id = one["id"].as_str().unwrap();
        let page = get(admin, &format!("/console/refusals/{id}"));
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("SECRETVALUE"), "{}", page.body);
        let question = json!({ "source": one["source"], "rejection": id }).to_string();
        let explained = post(admin, "/admin/v1/explain", &question);
        assert!(!explained.body.contains("SECRETVALUE"), "{}", explained.body);
    }
    assert!(!get(admin, "/console/callbacks").body.contains("SECRETVALUE"));
    let said = |at: usize, member: &str| all[at][member].to_string();
    assert!(said(8, "params").contains("device_id"), "all else is shown: {}", said(8, "params"));
    assert_eq!(all[6]["unverified"]["user"], "u;secret=***");
    for member in ["path", "source"] {
        assert_eq!(all[1][member], "/callback/mlx/***", "{member}");
    }
    await_lines("/callback/mlx/***", 2);
    assert!(!logged().contains("SECRETVALUE"));
}

#[test]
fn a_flood_leaves_the_samples_of_others() {
    let text = PLAIN.replace("[server]", "[server]\ntrusted_proxies = [\"127.0.0.1\"]");
    let gateway = Gateway::start(&text);
    let from = |address: &str, target: &str| {
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n");
        assert_eq!(ask(gateway.at.callbacks, head).status, 601);
    };
    from("198.51.100.7", &forged("first"));
    for n in 0..300 {
        from(&format!("203.0.113.{}", n % 10), &forged(&format!("flood-{n}")));
    }
    from("198.51.100.8", &forged("last"));
    let all = rejections(&gateway, "limit=500");
    let kept =
        |transaction: &str| all.iter().any(|one| one["unverified"]["transaction"] == transaction);
    assert!(kept("first") && kept("last"), "{}", all.len());
    // Each address of the flood is sampled, up to its rate: 20 at once, and one more every few seconds
    // of a slow machine.
    assert!((202..302).contains(&all.len()), "{}", all.len());
    assert_eq!(gateway.outcomes("rejected"), 302.0);
}

#[test]
fn what_is_held_is_recorded_before_it_is_answered_and_listed_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let text = with_quarantine("reasons = [\"bad_signature\"]");
    let gateway = Gateway::over(&text, open());
    let to = gateway.at.callbacks;
    // The sender receives the same reply as without a quarantine, and retries.
    for _ in 0..3 {
        assert_eq!(get(to, &forged("q1")).status, 601);
    }
    assert_eq!(get(to, &forged("q2")).status, 601);
    let missing = taku("q3").split("&sign=").next().unwrap().to_owned();
    assert_eq!(get(to, &missing).status, 602);
    let waiting = held(&gateway);
    assert_eq!(waiting.len(), 2);
    assert_eq!(
        (&waiting[1]["why"], &waiting[1]["reason"]),
        (&json!("quarantine"), &json!("bad_signature"))
    );
    assert_eq!((&waiting[1]["transaction"], &waiting[1]["user"]), (&json!("q1"), &json!("u1")));
    assert_eq!(waiting[1]["source"], "level-end");
    let listed = rejections(&gateway, "held=true");
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["id"], waiting[1]["id"]);
    assert_eq!(rejections(&gateway, "held=false").len(), 1, "of another reason");
    eventually("counted", || gateway.metric("postern_held_callbacks{source=\"level-end\"}") == 2.0);
    assert_eq!(gateway.outcomes("rejected"), 5.0);
    // Neither a restart nor taking the quarantine away loses it.
    gateway.stop();
    let gateway = Gateway::over(PLAIN, open());
    assert_eq!(held(&gateway), waiting);
    let id = waiting[0]["id"].as_str().unwrap();
    let drop = post(gateway.at.admin, &format!("/admin/v1/held/{id}/drop"), "");
    assert_eq!(drop.status, 200, "{}", drop.body);
    assert_eq!(held(&gateway).len(), 1);
}

#[test]
fn who_would_give_up_is_told_that_it_is_accepted_if_there_is_room() {
    let text = with_quarantine("reasons = \"all\", max = \"1MiB\", answer = \"accept\"");
    let unavailable = "reply = { unavailable = { status = 503 } }\nsecrets =";
    let gateway = Gateway::start(&text.replace("secrets =", unavailable));
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &forged("a1")).status, 200);
    assert_eq!(get(to, &forged("a1")).status, 200, "it is known");
    assert_eq!((held(&gateway).len(), gateway.outcomes("accepted")), (1, 0.0));
    assert_eq!(get(gateway.at.admin, "/admin/v1/events").json()["events"], json!([]));
    // Once there is no room, nothing is acknowledged that is not recorded.
    let fill = |n: usize| format!("{}&fill={n}{}", forged("fill"), "x".repeat(7000));
    let statuses: Vec<u16> = (0..160).map(|n| get(to, &fill(n)).status).collect();
    let full = statuses.iter().position(|status| *status != 200).expect("it is full");
    assert!(statuses[full..].iter().all(|status| *status == 503), "{statuses:?}");
    assert!((60..120).contains(&full), "three quarters of a MiB for one caller: {full}");
}
