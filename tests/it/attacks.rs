//! Attacks: each test is one case, with the right answer.

use serde_json::{Value, json};
use sha1::Digest as _;

use super::backend::Backend;
use super::gateway::{Gateway, PLAIN, taku};
use super::kill::Process;
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

/// The target of a callback of WeChat: its signature covers neither a check nor a message.
fn signed_target(nonce: &str) -> String {
    let time = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().to_string();
    let mut parts = ["gatewaytoken", &time, nonce];
    parts.sort_unstable();
    let signature = const_hex::encode(sha1::Sha1::digest(parts.concat()));
    format!("/callback/s?signature={signature}&timestamp={time}&nonce={nonce}")
}

fn push(gateway: &Gateway, target: &str, message: &Value) -> Answer {
    let fields = [("content-type", "application/json")];
    send(gateway.at.callbacks, &format!("POST {target}"), &fields, &message.to_string())
}

/// A check and a message of WeChat under one signature, which covers neither.
fn under_one_signature(nonce: &str) -> (String, impl Fn(&Gateway, &str) -> Answer) {
    let target = signed_target(nonce);
    let check = format!("{target}&echostr=hello");
    let message = move |gateway: &Gateway, order: &str| {
        let gift = json!({ "OrderId": order, "ToUserOpenid": "u", "Zone": 0, "GiftTypeId": 1,
            "GiftId": "g", "SendTime": 1, "IsPreview": 0 });
        let message = json!({ "FromUserName": "oX", "CreateTime": 1, "MsgType": "event",
            "Event": "minigame_deliver_goods", "MiniGame": gift });
        push(gateway, &target, &message)
    };
    (check, message)
}

/// Goods that any caller can invent in plain mode.
fn forged(order: &str) -> Value {
    json!({ "FromUserName": "oX", "CreateTime": 1, "MsgType": "event",
        "Event": "xpay_goods_deliver_notify", "OpenId": "mallory", "OutTradeNo": order,
        "GoodsInfo": { "ProductId": "gem", "Quantity": 9999 } })
}

/// A payment, with the second signature of its kind.
fn payment(order: &str) -> Value {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let event = "minigame_coin_deliver_completed";
    let payload = json!({ "OpenId": "u1", "OutTradeNo": order }).to_string();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"pk").unwrap();
    mac.update(format!("{event}&{payload}").as_bytes());
    let signature = const_hex::encode(mac.finalize().into_bytes());
    json!({ "FromUserName": "o1", "CreateTime": 1, "MsgType": "event", "Event": event,
        "MiniGame": { "Payload": payload, "PayEventSig": signature, "IsMock": false } })
}

#[test]
fn a_captured_address_check_makes_no_event_and_a_message_no_check() {
    let gateway = gateway("wechat-push", "secrets = \"gatewaytoken\"");
    let events = || {
        let page = get(gateway.at.admin, "/admin/v1/events").json();
        page["events"].as_array().unwrap().len()
    };
    let (check, message) = under_one_signature("n1");
    assert_eq!(get(gateway.at.callbacks, &check).body, "hello");
    for _ in 0..3 {
        assert_eq!(message(&gateway, "forged").status, 200);
    }
    assert_eq!((events(), outcomes(&gateway, "ambiguous")), (0, 3.0), "held, and never an event");

    let (check, message) = under_one_signature("n2");
    for _ in 0..2 {
        assert_eq!(message(&gateway, "verified").status, 200);
    }
    assert_eq!((events(), outcomes(&gateway, "duplicate")), (1, 1.0));
    assert_eq!(get(gateway.at.callbacks, &check).status, 403);
}

/// A message of another kind can have the text of a known transaction, and is not that one.
#[test]
fn a_known_transaction_lends_its_text_to_no_other_message() {
    let gateway = gateway("wechat-push", "secrets = \"gatewaytoken\"");
    let (first, check) = (signed_target("11"), signed_target("22"));
    let text = json!({ "FromUserName": "oX", "CreateTime": 1, "MsgType": "text", "Content": "hi",
        "MsgId": 77 });
    assert_eq!(push(&gateway, &first, &text).status, 200);
    assert_eq!(get(gateway.at.callbacks, &format!("{check}&echostr=hello")).body, "hello");
    for target in [&check, &first] {
        assert_eq!(push(&gateway, target, &forged("oX:77")).status, 200);
    }
    assert_eq!((outcomes(&gateway, "accepted"), outcomes(&gateway, "ambiguous")), (1.0, 2.0));
    assert_eq!(push(&gateway, &first, &text).status, 200);
    assert_eq!(outcomes(&gateway, "duplicate"), 1.0);
}

/// The signature of a payment covers nothing of it, and its second signature nothing else.
#[test]
fn the_signature_of_a_payment_makes_no_other_event() {
    let gateway = gateway("wechat-push", "secrets = \"gatewaytoken\"\npay_key = \"pk\"");
    let (first, check, used) = (signed_target("11"), signed_target("22"), signed_target("33"));
    assert_eq!(push(&gateway, &first, &payment("p1")).status, 200);
    for _ in 0..2 {
        assert_eq!(push(&gateway, &first, &forged("f1")).status, 200);
    }
    assert_eq!((outcomes(&gateway, "accepted"), outcomes(&gateway, "ambiguous")), (1.0, 2.0));
    assert_eq!(push(&gateway, &first, &payment("p1")).status, 200);
    assert_eq!(outcomes(&gateway, "duplicate"), 1.0);
    // Whatever came under its first signature before, its second one says that it is a payment.
    assert_eq!(get(gateway.at.callbacks, &format!("{check}&echostr=hello")).body, "hello");
    assert_eq!(push(&gateway, &check, &payment("p2")).status, 200);
    assert_eq!(push(&gateway, &used, &forged("f2")).status, 200);
    assert_eq!(push(&gateway, &used, &payment("p3")).status, 200);
    assert_eq!((outcomes(&gateway, "accepted"), outcomes(&gateway, "ambiguous")), (4.0, 2.0));
}

// === F11: masked values ===

#[test]
fn a_masked_secret_stays_with_its_sender_and_its_server() {
    let gateway = Gateway::start(PLAIN);
    let secret = "MASKED-SECRET-99";
    let taku = json!({ "sender": "taku", "secrets": [secret] });
    assert_eq!(put(&gateway, "sources/x", &taku).status, 201);
    // This one sends the bare secret, and so would show it.
    let shown = json!({ "sender": "heyzap", "secrets": "***", "replayable": true });
    let refused = put(&gateway, "sources/x", &shown);
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("another server or sender"), "{}", refused.body);
    let kept = json!({ "sender": "taku", "secrets": "***", "rate": "5/s" });
    assert_eq!(put(&gateway, "sources/x", &kept).status, 200);

    let huawei =
        json!({ "sender": "huawei", "secrets": ["key"], "developer_id": "d1", "ad_ids": "a1" });
    assert_eq!(put(&gateway, "sources/h", &huawei).status, 201);
    let elsewhere = json!({ "sender": "huawei", "secrets": "***", "developer_id": "d1", "ad_ids": "***",
        "key_set_url": "https://attacker.example/keys" });
    assert_eq!(put(&gateway, "sources/h", &elsewhere).status, 422);

    let bare = json!({ "sender": "heyzap", "secrets": [secret], "replayable": true });
    assert_eq!(put(&gateway, "sources/y", &bare).status, 201);
    let body = json!({ "source": "y", "parameters": ["tracking_id=t1", "device_id=u1"] });
    let signed = send(gateway.at.admin, "POST /admin/v1/sign", &[], &body.to_string());
    assert_eq!(signed.status, 400);
    assert!(!signed.body.contains(secret), "{}", signed.body);
}

// === F9: a name that is a protection ===

#[test]
fn what_is_nearly_a_secret_name_is_shown_to_nobody_without_a_token() {
    let name = "survey-9f3b71c0e2d84a5566778899aabbccdd";
    let gateway = Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"{name}\"\nsender = \"unsigned\"\nunsigned = true\n\
         params = {{ transaction = \"tid\", user = \"uid\" }}\n"
    ));
    for near in [&name[..38], &name.to_uppercase(), &format!("{name}x"), &name[..24]] {
        assert_eq!(get(gateway.at.callbacks, &format!("/callback/{near}?tid=1")).status, 404);
    }
    let without = [("authorization", "")];
    let tokenless = |line: &str, body: &str| send(gateway.at.admin, line, &without, body).body;
    let explain = json!({ "target": format!("/callback/{}?tid=1", &name[..30]) }).to_string();
    super::gateway::eventually("they are kept", || {
        tokenless("GET /admin/v1/rejections", "").matches("unknown_path").count() == 4
    });
    for (line, body) in [
        ("GET /admin/v1/rejections", ""),
        ("GET /console/callbacks", ""),
        ("GET /admin/v1/sources", ""),
        ("POST /admin/v1/explain", &*explain),
    ] {
        let said = tokenless(line, body).to_lowercase();
        assert!(!said.contains("9f3b71c0"), "{line}: {said}");
    }
    let logged = super::gateway::logged().to_lowercase();
    assert!(!logged.contains("9f3b71c0e2d84a5566778899aabbccd"), "the log has it");
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

// === F9, F10, F17: what is seen and done without a token ===

const SECRET_NAME: &str = "survey-9f3b71c0e2d84a5566778899aabbccdd";

/// A gateway whose one source is protected by its name alone.
fn hidden(admin: &str, more: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"{admin}:0\"\n{more}\n\
         [[source]]\nname = \"{SECRET_NAME}\"\nsender = \"unsigned\"\nunsigned = true\n\
         params = {{ transaction = \"tid\" }}\n"
    ))
}

#[test]
fn a_name_that_protects_a_source_is_seen_by_no_one_without_a_token() {
    let gateway = hidden("127.0.0.1", "");
    let (callbacks, admin) = (gateway.at.callbacks, gateway.at.admin);
    assert_eq!(get(callbacks, &format!("/callback/{SECRET_NAME}?tid=t-hidden-1")).status, 200);
    assert_eq!(get(callbacks, &format!("/callback/{SECRET_NAME}/?tid=t")).status, 404);
    let label = postern::config::digest_of(SECRET_NAME);
    let series = format!("postern_callbacks_total{{outcome=\"accepted\",source=\"{label}\"}}");
    gateway.await_metric(&series, 1.0);
    super::gateway::await_lines(&label, 2);
    assert!(!super::gateway::logged().contains(SECRET_NAME), "{}", super::gateway::logged());
    for path in [
        "/metrics",
        "/admin/v1/events",
        "/admin/v1/sources",
        "/admin/v1/rejections",
        "/admin/v1/audit",
        "/console",
        "/console/callbacks",
        "/console/sources",
    ] {
        let page = get(admin, path);
        assert!(page.status == 200 && !page.body.contains(SECRET_NAME), "{path}: {}", page.body);
    }
    assert!(get(admin, "/admin/v1/events").body.contains(&label));
    let own = send(admin, "GET /admin/v1/events", &[], "");
    assert!(own.body.contains(SECRET_NAME), "the token's owner sees it: {}", own.body);
}

#[test]
fn off_loopback_the_metrics_want_a_token() {
    let tokens = "[admin]\ntoken = [{ name = \"ops\", value = \"ops-token-0123456789\" }, \
                  { name = \"wall\", value = \"wall-token-0123456789\", right = \"read\" }]";
    let gateway = hidden("0.0.0.0", tokens);
    let metrics = |fields: &[(&str, &str)]| send(gateway.at.admin, "GET /metrics", fields, "");
    assert_eq!(metrics(&[]).status, 401);
    assert_eq!(metrics(&[("Authorization", "Bearer nonsense")]).status, 401);
    let read = metrics(&[("Authorization", "Bearer wall-token-0123456789")]);
    assert_eq!(read.status, 200);
    assert!(read.body.contains("postern_ready") && !read.body.contains(SECRET_NAME));
    assert_eq!(send(gateway.at.admin, "GET /readyz", &[], "").status, 200);

    let open = hidden("0.0.0.0", &format!("{tokens}\nopen_metrics = true"));
    let page = send(open.at.admin, "GET /metrics", &[], "");
    assert!(page.status == 200 && !page.body.contains(SECRET_NAME), "{}", page.body);
    assert_eq!(send(open.at.admin, "GET /admin/v1/events", &[], "").status, 401);
}

#[test]
fn without_a_token_nothing_is_changed_or_read_out_on_loopback_either() {
    let gateway = Gateway::start(PLAIN);
    let admin = gateway.at.admin;
    let bare = |line: &str, body: &str| {
        let length = body.len();
        let host = "Host: localhost";
        ask(admin, format!("{line} HTTP/1.1\r\n{host}\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    for line in [
        "GET /admin/v1/export",
        "POST /admin/v1/replay",
        "PUT /admin/v1/destinations/shop",
        "DELETE /admin/v1/sources/level-end",
        "POST /admin/v1/destinations/shop/test",
        "POST /admin/v1/destinations/shop/pause",
        "POST /admin/v1/verify",
        "POST /admin/v1/held/ref_1/drop",
    ] {
        let answer = bare(line, "{\"url\":\"http://127.0.0.1:9/\"}");
        assert_eq!(answer.status, 401, "{line}: {}", answer.body);
        assert!(answer.body.contains("admin-token"), "it says where: {}", answer.body);
    }
    assert_eq!(bare("GET /admin/v1/events", "").status, 200, "looking is free");
    let token = super::wire::local_token(admin).unwrap();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(send(admin, "GET /admin/v1/export", &[], "").status, 200);
    // Over the console too.
    let page = get(admin, "/console/sources/new");
    assert!(page.status != 200 || !page.body.contains("name=\"sender\""), "{}", page.body);
}

#[test]
fn a_copied_token_of_the_machine_ends_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (config, data) = (folder.path().join("postern.toml"), folder.path().join("data"));
    let more = "[admin]\ntoken = \"ops-token-9876543210\"\n[store]\npath = \"data\"\n";
    std::fs::write(&config, format!("{PLAIN}\n{more}")).unwrap();
    let token = || std::fs::read_to_string(data.join("admin-token")).unwrap().trim().to_owned();
    let ask = |process: &Process, token: &str| {
        let token = format!("Bearer {token}");
        send(process.admin, "GET /admin/v1/events", &[("Authorization", &token)], "").status
    };
    let process = Process::start(&config);
    let first = token();
    assert_eq!(ask(&process, &first), 200);
    process.kill();
    let process = Process::start(&config);
    assert_eq!(ask(&process, &first), 200);
    process.kill();
    std::fs::remove_file(data.join("admin-token")).unwrap();
    let process = Process::start(&config);
    assert_eq!(ask(&process, &first), 401);
    assert_eq!(ask(&process, &token()), 200);
    process.kill();
}

// === F28: guesses ===

#[test]
fn guesses_at_tokens_are_slow_and_leave_a_trace() {
    let gateway = Gateway::start(&format!("{PLAIN}\n[admin]\ntoken = \"ops-token-9876543210\"\n"));
    let admin = gateway.at.admin;
    let guess = |n: usize| {
        let token = format!("Bearer guess-{n}");
        send(admin, "GET /admin/v1/events", &[("Authorization", &token)], "").status
    };
    let said: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..24).map(|n| scope.spawn(move || guess(n))).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let told = |status| said.iter().filter(|said| **said == status).count();
    assert!(told(401) <= 11 && told(429) >= 13, "{said:?}");
    assert_eq!(told(401) + told(429), said.len(), "{said:?}");
    super::gateway::await_lines("calls are slowed", 1);
    assert!(!super::gateway::logged().contains("guess-1"));
}

// === F11: masked secrets ===

#[test]
fn a_masked_secret_goes_to_no_other_server() {
    let (own, other) = (Backend::start(), Backend::start());
    let gateway = Gateway::start(&format!("{PLAIN}\n[egress]\nallow = [\"127.0.0.0/8\"]\n"));
    let to = |backend: &Backend, path: &str| format!("http://{}/{path}", backend.at);
    let secret = json!({ "Authorization": "Bearer TOPSECRET-DEST" });
    let made = json!({ "url": to(&own, "a"), "headers": secret });
    assert_eq!(put(&gateway, "destinations/shop", &made).status, 201);
    let masked = json!({ "Authorization": "***" });
    let moved = json!({ "url": to(&other, "a"), "headers": masked });
    let refused = put(&gateway, "destinations/shop", &moved);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body.contains("another server"), "{}", refused.body);
    for disguised in [
        format!("http://{}@{}/a", own.at, other.at),
        format!("http://{}.evil.example/a", own.at.ip()),
        format!("https://{}/a", own.at),
    ] {
        let body = json!({ "url": disguised, "headers": masked });
        assert_eq!(put(&gateway, "destinations/shop", &body).status, 422, "{disguised}");
    }
    let kept = json!({ "url": to(&own, "another-path"), "headers": masked });
    assert_eq!(put(&gateway, "destinations/shop", &kept).status, 200);
    assert_eq!(
        send(gateway.at.admin, "POST /admin/v1/destinations/shop/test", &[], "").status,
        200
    );
    let told = own.await_count(1)[0].clone();
    assert_eq!(told.header("authorization"), "Bearer TOPSECRET-DEST");
    assert_eq!(other.got().len(), 0);
}

// === F16, F30: what lies on the disk, and in a core file ===

fn modes(folder: &std::path::Path, found: &mut Vec<(String, u32)>) {
    use std::os::unix::fs::MetadataExt as _;
    let known = std::fs::metadata(folder).unwrap();
    found.push((folder.display().to_string(), known.mode() & 0o777));
    if known.is_dir() {
        for entry in std::fs::read_dir(folder).unwrap() {
            modes(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn what_is_written_is_private_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let (config, data) = (folder.path().join("postern.toml"), folder.path().join("data"));
    std::fs::write(&config, format!("{PLAIN}\n[store]\npath = \"data\"\n")).unwrap();
    let process = Process::under("umask 000", &config);
    assert_eq!(get(process.callbacks, &taku("umask-1")).status, 200);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    // The command line reads the token of the gateway by itself.
    std::fs::write(&config, format!("{}\n[store]\npath = \"data\"\n", at(&process))).unwrap();
    let run = |words: &str| {
        let line = format!("umask 000; exec {} {words}", env!("CARGO_BIN_EXE_postern"));
        let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let output = folder.path().join("x.export");
    let words = format!("export --config {} --output {}", config.display(), output.display());
    assert_eq!(run(&words).0, Some(0), "{}", run(&words).1);
    let mut found = Vec::new();
    modes(&data, &mut found);
    modes(&output, &mut found);
    assert!(found.iter().any(|(path, _)| path.ends_with("admin-token")), "{found:?}");
    let open: Vec<_> = found.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "{open:?}");
    process.kill();

    // Root would leave files that the service could not open.
    if std::os::unix::fs::chown(&data, Some(4242), Some(4242)).is_ok() {
        let (code, said) = run(&format!("verify --config {}", config.display()));
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("run: sudo -u '#4242'") && said.contains("verify --config"),
            "{said}"
        );
    }
}

/// [`PLAIN`] with the addresses that a gateway was given.
fn at(process: &Process) -> String {
    PLAIN
        .replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", process.admin))
        .replace("callbacks = \"127.0.0.1:0\"", &format!("callbacks = \"{}\"", process.callbacks))
}
