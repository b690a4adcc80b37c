//! Every outcome gets its sender's own answer, and is counted once.

use super::gateway::{Gateway, PLAIN, taku, taku_for};
use super::wire::{Wire, ask, get, get_bytes, post};

#[test]
fn accepted_duplicate_conflict_and_refused() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    assert_eq!(get(to, &taku("a1")).status, 200);
    assert_eq!(get(to, &taku("a1")).status, 200, "a duplicate gets the same");
    assert_eq!(get(to, &taku_for("u1", "a1", "11")).status, 200, "a conflict too");
    assert_eq!(get(to, &taku("a2").replace("coin", "gold")).status, 601);
    let probe =
        "/callback/level-end?user_id={user_id}&trans_id=%7Btrans_id%7D&sign={sign}&is_test=1";
    assert_eq!(get(to, probe).status, 200);
    for (outcome, count) in
        [("accepted", 1.), ("duplicate", 1.), ("conflict", 1.), ("rejected", 1.), ("test", 1.)]
    {
        gateway.await_metric(&super::gateway::series(outcome), count);
    }
    let reason = "postern_rejections_total{reason=\"bad_signature\",source=\"level-end\"}";
    assert_eq!(gateway.metric(reason), 1.0);
    assert_eq!(gateway.metric("postern_callback_seconds_count"), 5.0);
    assert_eq!(
        gateway.metric("postern_secret_used_total{secret=\"1\",source=\"level-end\"}"),
        3.0,
        "the secret of what verified"
    );
}

#[test]
fn what_belongs_to_no_source_is_not_found() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    for target in
        ["/", "/callback", "/callback/", "/callback/absent", "/metrics", "/admin/v1/events"]
    {
        assert_eq!(get(to, target).status, 404, "{target}");
    }
    assert_eq!(ask(to, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
    assert_eq!(ask(to, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").status, 405);
    let total: f64 =
        ["accepted", "rejected", "unavailable"].iter().map(|o| gateway.outcomes(o)).sum();
    assert_eq!(total, 0.0);
}

#[test]
fn other_methods_are_the_senders_business() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    assert_eq!(post(to, &taku("m1"), "").status, 602, "Taku only calls GET");
    for method in ["PUT", "BREW"] {
        let target = taku("m2");
        let answer =
            ask(to, format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(answer.status, 602, "{method}");
    }
    let reason = "postern_rejections_total{reason=\"wrong_method\",source=\"level-end\"}";
    gateway.await_metric(reason, 3.0);
}

#[test]
fn a_connection_is_kept_and_requests_may_be_pipelined() {
    let gateway = Gateway::start(PLAIN);
    let mut wire = Wire::open(gateway.at.callbacks);
    for round in 0..3 {
        wire.send(get_bytes(&taku(&format!("k{round}"))));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    wire.send(format!("{}{}", get_bytes(&taku("k3")), get_bytes(&taku("k4"))));
    assert_eq!(wire.answer().unwrap().status, 200);
    assert_eq!(wire.answer().unwrap().status, 200);
    wire.send(get_bytes(&taku("k5")).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(wire.answer().unwrap().status, 200);
    assert!(wire.is_closed());
    gateway.await_metric(&super::gateway::series("accepted"), 6.0);
}

#[test]
fn a_sender_that_closes_its_half_is_still_answered() {
    let gateway = Gateway::start(PLAIN);
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(get_bytes(&taku("h1")));
    wire.close_half();
    assert_eq!(wire.answer().unwrap().status, 200);
}

#[test]
fn a_sender_that_hangs_up_is_recorded_all_the_same() {
    let gateway = Gateway::start(PLAIN);
    for round in 0..20 {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(get_bytes(&taku(&format!("g{round}"))));
    }
    gateway.await_metric(&super::gateway::series("accepted"), 20.0);
    assert_eq!(get(gateway.at.callbacks, &taku("g7")).status, 200);
    gateway.await_metric(&super::gateway::series("duplicate"), 1.0);
}

#[test]
fn a_source_that_is_switched_off_says_so_and_a_reload_is_in_force_at_once() {
    let gateway = Gateway::start(PLAIN);
    assert_eq!(get(gateway.at.callbacks, &taku("s1")).status, 200);
    gateway.reload(&format!("{PLAIN}enabled = false\n"));
    super::gateway::eventually("disabled", || get(gateway.at.callbacks, &taku("s2")).status == 602);
    assert!(gateway.outcomes("disabled") >= 1.0);
    assert!(gateway.outcomes("accepted") >= 1.0, "counters outlive a reload");
    gateway.reload(&PLAIN.replace("level-end", "other"));
    super::gateway::eventually("gone", || get(gateway.at.callbacks, &taku("s3")).status == 404);
    let page = get(gateway.at.admin, "/metrics").body;
    assert!(!page.contains("level-end"), "series of a source that is gone");
    assert!(page.contains("source=\"other\""));
}

#[test]
fn a_rate_counts_genuine_callbacks_only() {
    let gateway =
        Gateway::start(&format!("{PLAIN}rate = \"2/h\"\nreply = {{ unavailable = 503 }}\n"));
    let to = gateway.at.callbacks;
    for round in 0..10 {
        assert_eq!(get(to, &format!("{}x", taku(&format!("f{round}")))).status, 601);
    }
    let statuses: Vec<u16> = (0..4).map(|n| get(to, &taku(&format!("r{n}"))).status).collect();
    assert_eq!(statuses, [200, 200, 503, 503]);
    gateway.await_metric(&super::gateway::series("unavailable"), 2.0);
}

#[test]
fn a_full_ledger_is_the_senders_unavailable() {
    let gateway = Gateway::without_room(&format!("{PLAIN}reply = {{ unavailable = 503 }}\n"));
    assert_eq!(get(gateway.at.callbacks, &taku("l1")).status, 503);
    gateway.await_metric(&super::gateway::series("unavailable"), 1.0);
    assert_eq!(gateway.outcomes("accepted"), 0.0);
}
