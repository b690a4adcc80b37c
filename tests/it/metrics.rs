//! The number of series is a function of the configuration.

use super::gateway::{Gateway, PLAIN, taku};
use super::wire::{ask, get};

fn series(gateway: &Gateway) -> Vec<String> {
    let page = get(gateway.at.admin, "/metrics");
    assert_eq!(page.status, 200);
    let named = page.body.lines().filter(|line| !line.starts_with('#'));
    named.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

#[test]
fn random_input_makes_no_series() {
    let gateway = Gateway::start(PLAIN);
    get(gateway.at.callbacks, &taku("m0"));
    let before = series(&gateway);
    for outcome in ["accepted", "rejected", "unavailable"] {
        assert!(before.iter().any(|name| name.contains(&format!("\"{outcome}\""))), "{outcome}");
    }
    let mut noise = 0x1234_5678_u64;
    let mut random = move || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise >> 33
    };
    for _ in 0..200 {
        let (a, b, c) = (random(), random(), random());
        let method = ["GET", "POST", "PUT", "X"][usize::try_from(a % 4).unwrap()];
        let path = ["level-end", &format!("s{b}")][usize::try_from(c % 2).unwrap()].to_owned();
        let target = format!("/callback/{path}?{a}={b}&trans_id={c}&sign={a}&user_id={{user_{b}}}");
        ask(
            gateway.at.callbacks,
            format!("{method} {target} HTTP/1.1\r\nHost: h{c}\r\nContent-Length: 0\r\n\r\n"),
        );
    }
    get(gateway.at.callbacks, &taku("m1"));
    assert_eq!(series(&gateway), before);
}

#[test]
fn the_names_are_those_that_dashboards_know() {
    let gateway = Gateway::start(&format!(
        "{PLAIN}destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://127.0.0.1:9/\"\nsecret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n"
    ));
    get(gateway.at.callbacks, &taku("n1"));
    let all = series(&gateway).join("\n");
    for name in [
        "postern_callbacks_total{",
        "postern_rejections_total{",
        "postern_callback_seconds_bucket{",
        "postern_verify_seconds_bucket{",
        "postern_commit_seconds_bucket{",
        "postern_commit_batch_size_bucket{",
        "postern_secret_used_total{",
        "postern_shape_misfits_total{",
        "postern_delivery_attempt_seconds_bucket{",
        "postern_delivery_backlog{destination=\"game\"}",
        "postern_oldest_due_seconds",
        "postern_store_bytes",
        "postern_ready",
        "postern_last_callback_seconds{source=\"level-end\"}",
    ] {
        assert!(all.contains(name), "{name}");
    }
    assert_eq!(gateway.metric("postern_delivery_backlog{destination=\"game\"}"), 1.0);
    assert_eq!(gateway.metric("postern_ready"), 1.0);
    assert_eq!(gateway.metric("postern_commit_seconds_count"), 1.0);
}
