//! What an attacker tried: each test is one of the cases, with the right answer.

use serde_json::json;

use super::gateway::{Gateway, PLAIN, taku};
use super::wire::{Answer, Wire, ask, get, get_bytes, send};

/// A gateway with the source `s` of `sender`.
fn gateway(sender: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"s\"\nsender = {sender:?}\n{rest}\n"
    ))
}

fn outcomes(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"s\"}}"))
}

/// `GET target` with these header lines, byte by byte as given.
fn head(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{fields}\r\n")
}

// === F22: a head says one Host, and once where the body ends ===

#[test]
fn a_request_has_one_host_on_every_listener() {
    let gateway = Gateway::start(PLAIN);
    let status = |to, bytes: String| ask(to, bytes).status;
    let targets = [(gateway.at.callbacks, taku("h1")), (gateway.at.admin, "/healthz".to_owned())];
    for (to, target) in targets {
        assert_eq!(status(to, head(&target, "")), 400, "{target}: none");
        assert_eq!(status(to, head(&target, "Host: localhost\r\nHost: localhost\r\n")), 400);
        assert_eq!(status(to, head(&target, "Host: localhost\r\nhost: evil.example\r\n")), 400);
        assert_eq!(status(to, head(&target, "Host: a b\r\n")), 400);
        assert_eq!(status(to, head(&target, "Host: localhost\r\n")), 200);
        let old = format!("GET {target} HTTP/1.0\r\n\r\n");
        assert_eq!(status(to, old), 200, "HTTP/1.0 has none");
    }
    assert_eq!((gateway.outcomes("accepted"), gateway.outcomes("duplicate")), (1.0, 1.0));
}

#[test]
fn a_request_says_once_where_its_body_ends() {
    let gateway = Gateway::start(PLAIN);
    let target = taku("l1");
    let smuggled = get_bytes(&taku("l2"));
    let lengths = ["Content-Length: 5\r\n", "transfer-encoding: chunked\r\n"];
    for order in [[0, 1], [1, 0]] {
        let fields = format!("Host: a\r\n{}{}", lengths[order[0]], lengths[order[1]]);
        let whole = format!("{}0\r\n\r\n{smuggled}", head(&target, &fields));
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(&whole);
        assert_eq!(wire.answer().map(|answer| answer.status), Some(400));
        assert_eq!(wire.answer(), None, "what follows is not looked at");
        // The same in single bytes, as a slow client sends it.
        let mut wire = Wire::open(gateway.at.callbacks);
        let _ = whole.bytes().all(|byte| wire.try_send([byte]));
        assert_eq!(wire.answer().map(|answer| answer.status), Some(400));
    }
    let series = super::gateway::series("accepted");
    assert_eq!(gateway.metric(&series), 0.0);
}

// === F21: absolute targets with odd bytes ===

#[test]
fn the_authority_of_an_absolute_target_ends_where_rfc_3986_says() {
    let gateway = Gateway::start(PLAIN);
    let to = gateway.at.callbacks;
    let target = taku("abs");
    for odd in ["http://h?\"", "http://h#", "http://h\"", "https://h?<@evil", "http://h?x=\"#"] {
        let answer = ask(to, get_bytes(&format!("{odd}{target}")));
        assert_eq!(answer.status, 404, "{odd}");
    }
    for plain in ["http://h", "https://h:8443", "HTTP://h"] {
        assert_eq!(ask(to, get_bytes(&format!("{plain}{target}"))).status, 200, "{plain}");
    }
    let odd_value = format!("HtTp://h{target}&x=\"<>#");
    assert_eq!(ask(to, get_bytes(&odd_value)).status, 200, "the scheme is read in any case");
    // A stand-in for an odd byte never makes another path of a path.
    let rule = ask(gateway.at.admin, get_bytes("/v3/advanced/reward\"rule"));
    assert_eq!(rule.status, 404, "{}", rule.body);
}

// === F12: address checks ===

const WECOM: &str = "secrets = \"QDG6eK\"\n\
     aes_key = \"jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C\"\n\
     corp_id = \"wx5823bf96d3bd56c7\"\nmax_age = \"off\"";
const CHECK: &str = "/callback/s?msg_signature=cf0bc9a432abb7cc41ea54ce030a18b803b28090&timestamp=1700000000&nonce=n1&echostr=sKqRbbiSUnDhFHOvPjtUMWzf2R8PrpMiTTPaicBgqZlYW%2FWsF6SiFd2z9CriX2YpWYzF1yrNNQ0SomM3ovdnfA%3D%3D";
const SEALED: &str = "P9TP8OO8ZpJE35Ha%2F87%2B5HiSsqDi8HiWpin7CdzIpdnd6okLAszMIDLN6A9er7vvvxeRMgtbll8h5vNUFP7RAEWxVEqOBhK%2Bkn52z7Edt%2F5B1E0utXyJia1N39fkZNyaH%2BalQkekEL8y5hW3%2FWbqHXvp9yYBnm9HmrAQ6qbrwA%2FSXwN%2Fo51sn1Xg6Oc%2B3UL4Fl1C3Ft2k0D6VVyngfC54UvkW3l4xUvnBvQ4JtLL0pcT3tDwrwwai6%2FfrChiJtXQLUuS47AVo%2FCjMeBzkf7rHDTta7VXSUVd5QuaGqjDBWBH%2BQuLMxcNorqNvPzkBS%2BC9dlwOJ3oAvBtqKBYsJoia8BPXKoNUaxc5lggru4w15h4ks%2FDMwLjzpH%2BpM1VNXK7QbsulnWGsnFgXUZLzuhed6zAbE8WXiA35z6dxsVm3fo%3D";

#[test]
fn an_address_check_is_answered_once() {
    let gateway = gateway("wecom", WECOM);
    let first = get(gateway.at.callbacks, CHECK);
    assert_eq!((first.status, first.body.as_str()), (200, "1616140317555161061"));
    for _ in 0..2 {
        let again = get(gateway.at.callbacks, CHECK);
        assert_eq!((again.status, again.body.as_str()), (403, ""));
    }
    assert_eq!(outcomes(&gateway, "challenge"), 1.0);
    let used = "postern_rejections_total{reason=\"used_signature\",source=\"s\"}";
    assert_eq!(gateway.metric(used), 2.0);
}

#[test]
fn a_sealed_message_is_not_opened_for_who_calls_it_an_address_check() {
    let gateway = gateway("wecom", WECOM);
    let captured =
        "msg_signature=2e7471ebb1ff7ac606b38397d542ebd4e3426d42&timestamp=1700000000&nonce=n2";
    let asked = get(gateway.at.callbacks, &format!("/callback/s?{captured}&echostr={SEALED}"));
    assert_eq!((asked.status, asked.body.as_str()), (403, ""));
}

// === F27: mistakes over the API ===

fn put(gateway: &Gateway, what: &str, body: &serde_json::Value) -> Answer {
    send(gateway.at.admin, &format!("PUT /admin/v1/{what}"), &[], &body.to_string())
}

#[test]
fn a_mistake_over_the_api_is_never_without_words() {
    let gateway = Gateway::start(PLAIN);
    let bodies = [
        json!({ "sender": "custom", "recipe": "x.toml", "secrets": "s" }),
        json!({ "sender": "custom", "recipe": "/etc/passwd", "secrets": "s" }),
        json!({ "sender": "custom", "recipe": { "title": "x" }, "secrets": "s" }),
        json!({ "sender": "custom", "secrets": "s" }),
        json!({ "sender": "taku", "recipe": "x.toml", "secrets": "s" }),
    ];
    for body in bodies {
        let answer = put(&gateway, "sources/bonus", &body);
        assert_eq!(answer.status, 422, "{body}: {}", answer.body);
        let told = answer.json();
        assert!(told["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{told}");
        assert!(!told["errors"].as_array().unwrap().is_empty(), "{told}");
    }
}
