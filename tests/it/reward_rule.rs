//! Reward rules over Taku's open API: as a client of the original would call it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use md5::{Digest, Md5};
use postern::clock::now_ms;
use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::backend::{Backend, status};
use super::gateway::Gateway;
use super::wire::{Answer, get, send};

const KEY: &str = "demo-publisher-key";
const PATH: &str = "/v3/advanced/reward_rule";

const CONFIG: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
[egress]
allow = ["127.0.0.0/8"]
[manage.reward_rule]
publishers = [{ key = "demo-publisher-key" }, { name = "other", key = "other-key" }]
"#;

/// The document's own example.
const SAMPLE: &str = r#"https://topon-billing-sys.oss-accelerate.aliyuncs.com/1613/20231226/1703578680_r0u5ZR1c.pdf?OSSAccessKeyId=LTAI5tKdnC9J6sdUn1SB1ju3&中文=测试&_!@#$%^&*4353*(233223)_+-={]}[]\\|:;\"'23424<,>.?/Expires=1703592649&32`~4355&Signature=05yq2Zb9%2FdCeDnehO277KuV17mk%3D"#;

fn sign(method: &str, key: &str, ts: &str, body: &str) -> String {
    let digest = const_hex::encode_upper(Md5::digest(body));
    let text = format!(
        "{method}\n{digest}\napplication/json\nX-Up-Key:{key}\nX-Up-Timestamp:{ts}\n{PATH}"
    );
    const_hex::encode_upper(Md5::digest(text))
}

fn signed(to: SocketAddr, method: &str, key: &str, query: &str, body: &str) -> Answer {
    // A time of its own for each call: the same one twice is a repetition.
    std::thread::sleep(Duration::from_millis(2));
    let ts = now_ms().to_string();
    let sign = sign(method, key, &ts, body);
    let fields = [
        ("X-Up-Key", key),
        ("X-Up-Timestamp", &ts),
        ("X-Up-Signature", &sign),
        ("Content-Type", "application/json"),
    ];
    send(to, &format!("{method} {PATH}{query}"), &fields, body)
}

pub fn call(to: SocketAddr, method: &str, body: &Value) -> Answer {
    signed(to, method, KEY, "", &body.to_string())
}

pub fn list(to: SocketAddr, query: &str) -> Vec<Value> {
    let answer = signed(to, "GET", KEY, query, "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["items"].as_array().unwrap().clone()
}

fn rule(url: &str) -> Value {
    json!({
        "rule_name": "level", "reward_name": "coin", "reward_number": 10, "reward_url": url,
        "remark": "===",
    })
}

/// The codes of an answer's errors, by index.
fn errs(answer: &Answer) -> Vec<(u64, u64)> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let all = answer.json()["errs"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone();
    all.iter().map(|err| (err["index"].as_u64().unwrap(), err["code"].as_u64().unwrap())).collect()
}

fn reward(id: u64, key: &str, transaction: &str) -> String {
    let text = format!(
        "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin&sec_key={key}"
    );
    let sign = const_hex::encode(Md5::digest(text));
    format!(
        "/callback/reward/{id}?user_id=u%20%261&trans_id={transaction}&placement_id=p1&adsource_id=9\
         &reward_amount=10&reward_name=coin&extra_data=%E4%BD%A0&sign={sign}"
    )
}

#[test]
fn a_rule_is_a_source_and_a_destination_from_its_answer_on() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let (admin, callbacks) = (gateway.at.admin, gateway.at.callbacks);
    let url = format!(
        "http://{}/r/{{user_id}}?t={{trans_id}}&x={{extra_data}}&n={{absent}}&s={{sign}}",
        backend.at
    );
    let made = call(admin, "POST", &json!({ "items": [rule(&url)] }));
    assert_eq!(made.status, 200, "{}", made.body);
    let probe = backend.await_count(1)[0].line.clone();
    assert_eq!(
        probe,
        "GET /r/%7Buser_id%7D?t=%7Btrans_id%7D&x=%7Bextra_data%7D&n=%7Babsent%7D&s=%7Bsign%7D&is_test=1 HTTP/1.1"
    );
    let item = made.json()["items"][0].clone();
    let (id, key) =
        (item["id"].as_u64().unwrap(), item["reward_sec_key"].as_str().unwrap().to_owned());
    assert_eq!((id, key.len()), (1, 32));

    assert_eq!(get(callbacks, &reward(id, &key, "t1")).status, 200);
    let told = backend.await_count(2)[1].clone();
    let sign = reward(id, &key, "t1").rsplit_once("sign=").unwrap().1.to_owned();
    assert_eq!(
        told.line,
        format!("GET /r/u%20%261?t=t1&x=%E4%BD%A0&n=%7Babsent%7D&s={sign} HTTP/1.1")
    );
    assert_eq!(get(callbacks, &reward(id, "another-key", "t2")).status, 601);

    let mut changed = rule(&url);
    changed["id"] = json!(id);
    changed["status"] = json!(1);
    let put = call(admin, "PUT", &json!({ "items": [changed] }));
    assert_eq!((put.status, put.body.as_str()), (200, "{}"));
    assert_eq!(get(callbacks, &reward(id, &key, "t2")).status, 602, "a stopped rule");
    changed["status"] = json!("3");
    call(admin, "PUT", &json!({ "items": [changed] }));
    assert_eq!(get(callbacks, &reward(id, &key, "t2")).status, 200);
    backend.await_count(3);

    assert_eq!(call(admin, "DELETE", &json!({ "ids": [id] })).body, "{}");
    assert_eq!(get(callbacks, &reward(id, &key, "t3")).status, 404);
    let anew = call(admin, "POST", &json!({ "items": [rule(&url)] })).json();
    assert_eq!(anew["items"][0]["id"], 2, "an id is never used again");
    assert_eq!(backend.await_count(4).len(), 4, "nothing was called besides");
}

/// Verification reads names decoded; so does the call of the rule's URL. Otherwise a caller who has
/// one verified callback sends it first in another spelling, and the reward arrives empty.
#[test]
fn a_name_in_another_spelling_is_the_same_name() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let (admin, callbacks) = (gateway.at.admin, gateway.at.callbacks);
    let url = format!(
        "http://{}/r/{{user_id}}?t={{trans_id}}&n={{reward_amount}}&x={{extra_data}}",
        backend.at
    );
    let made = call(admin, "POST", &json!({ "items": [rule(&url)] })).json();
    let (id, key) =
        (made["items"][0]["id"].as_u64().unwrap(), made["items"][0]["reward_sec_key"].clone());
    backend.await_count(1);
    type Spelled = fn(&str) -> String;
    let spellings: [Spelled; 3] = [
        |query| query.replace('_', "%5F"),
        |query| query.replace('_', "%5f").replace("trans", "%74rans").replace("user", "us%65r"),
        |query| query.replace("&trans_id=", "&=&trans%5Fid="),
    ];
    for (at, spell) in spellings.iter().enumerate() {
        let genuine = reward(id, key.as_str().unwrap(), &format!("t{at}"));
        let (path, query) = genuine.split_once('?').unwrap();
        assert_eq!(get(callbacks, &format!("{path}?{}", spell(query))).status, 200);
        let told = backend.await_count(2 + at)[1 + at].line.clone();
        assert_eq!(told, format!("GET /r/u%20%261?t=t{at}&n=10&x=%E4%BD%A0 HTTP/1.1"));
        assert_eq!(get(callbacks, &genuine).status, 200, "a duplicate");
    }
    assert_eq!(backend.got().len(), 1 + spellings.len());
}

#[test]
fn an_address_comes_back_to_the_byte() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let sample: String = serde_json::from_str(&format!("\"{SAMPLE}\"")).unwrap();
    let (_, behind) = sample.split_once(".com").unwrap();
    let url = format!("http://{}{behind}", backend.at);
    let made = call(gateway.at.admin, "POST", &json!({ "items": [rule(&url)] }));
    assert_eq!(made.json()["items"].as_array().unwrap().len(), 1, "{}", made.body);
    assert_eq!(list(gateway.at.admin, "")[0]["reward_url"], json!(url));
    let escaped = SAMPLE.split_once(".com").unwrap().1;
    let whole = signed(gateway.at.admin, "GET", KEY, "?ids=1", "");
    assert!(whole.body.contains(escaped), "{}", whole.body);
}

#[test]
fn what_the_document_shows_is_taken_and_shown() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let url = format!("http://{}/", backend.at);
    let mut item = rule(&url);
    item["rule_name"] = json!("新增加的测试规则零零一");
    item["reward_number"] = json!("4778");
    item["remark"] = json!(222);
    let items = json!({ "items": [item.clone(), item] });
    assert_eq!(call(gateway.at.admin, "POST", &items).status, 200);
    let all = list(gateway.at.admin, "");
    assert_eq!(all.len(), 2);
    let expected = json!({
        "id": 1, "rule_name": "新增加的测试规则零零一", "remark": "222", "reward_number": 4778,
        "reward_name": "coin", "reward_url": url, "status": 3,
        "reward_sec_key": all[0]["reward_sec_key"],
    });
    assert_eq!(all[0], expected);
    assert_ne!(all[0]["reward_sec_key"], all[1]["reward_sec_key"]);
    assert_eq!(list(gateway.at.admin, "?ids=2,77").len(), 1);
    assert_eq!(list(gateway.at.admin, "?ids=77").len(), 0);
    // An address that stays is not called again.
    assert_eq!(backend.await_count(1).len(), 1);
    let mut same = all[0].clone();
    same["remark"] = json!("again");
    assert_eq!(call(gateway.at.admin, "PUT", &json!({ "items": [same] })).body, "{}");
    assert_eq!(backend.got().len(), 1);
}

#[test]
fn one_bad_item_fails_the_whole_call() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let admin = gateway.at.admin;
    let good = rule(&format!("http://{}/", backend.at));
    let bad = |key: &str, value: Value| {
        let mut item = good.clone();
        item[key] = value;
        item
    };
    let answer = call(
        admin,
        "POST",
        &json!({ "items": [
            good.clone(),
            bad("rule_name", json!("")),
            bad("reward_name", json!("名".repeat(31))),
            bad("reward_number", json!(100_000_001)),
            bad("reward_url", json!("http://169.254.169.254/latest")),
        ] }),
    );
    assert_eq!(errs(&answer), [(1, 1003), (2, 1004), (3, 1005), (4, 1006)]);
    assert!(backend.got().is_empty(), "nothing is called for a call that fails anyway");
    assert!(list(admin, "").is_empty());

    call(admin, "POST", &json!({ "items": [good.clone()] }));
    let mut known = good.clone();
    known["id"] = json!(1);
    known["status"] = json!(3);
    let mut unknown = known.clone();
    unknown["id"] = json!(2);
    let mut odd = known.clone();
    odd["status"] = json!(2);
    known["remark"] = json!("changed");
    assert_eq!(errs(&call(admin, "PUT", &json!({ "items": [known, unknown] }))), [(1, 1008)]);
    assert_eq!(errs(&call(admin, "PUT", &json!({ "items": [known, odd] }))), [(1, 1005)]);
    assert_eq!(errs(&call(admin, "PUT", &json!({ "items": [known, known] }))), [(1, 1009)]);
    assert_eq!(errs(&call(admin, "DELETE", &json!({ "ids": [1, 2] }))), [(1, 1008)]);
    assert_eq!(errs(&call(admin, "DELETE", &json!({ "ids": [1, "1"] }))), [(1, 1009)]);
    assert_eq!(list(admin, "")[0]["remark"], "===");
}

#[test]
fn an_address_that_does_not_answer_well_is_an_error_of_its_item() {
    let gateway = Gateway::start(CONFIG);
    let admin = gateway.at.admin;
    let (good, bad) = (Backend::start(), Backend::saying([status(500), status(302)]));
    let items = [
        rule(&format!("http://{}/", good.at)),
        rule(&format!("http://{}/?a=1", bad.at)),
        rule(&format!("http://{}/", Backend::nowhere())),
        rule("https://localhost.invalid/"),
    ];
    let answer = call(admin, "POST", &json!({ "items": items }));
    assert_eq!(errs(&answer), [(1, 1007), (2, 1007), (3, 1007)]);
    assert_eq!(bad.await_count(1)[0].line, "GET /?a=1&is_test=1 HTTP/1.1");
    let redirected = call(admin, "POST", &json!({ "items": [items[1]] }));
    assert_eq!(errs(&redirected), [(0, 1007)], "a redirect is not followed");
    assert!(list(admin, "").is_empty());
    let inside = Gateway::start(&CONFIG.replace("[\"127.0.0.0/8\"]", "[]"));
    let answer = call(inside.at.admin, "POST", &json!({ "items": [items[0]] }));
    assert_eq!(errs(&answer), [(0, 1007)]);
    assert!(answer.body.contains("private"), "{}", answer.body);
    assert_eq!(good.got().len(), 1, "the guard takes precedence over it");
}

/// Addresses that answer only when all of them were called: one after the other, none would.
#[test]
fn addresses_are_tried_out_at_the_same_time() {
    const COUNT: usize = 20;
    let gateway = Gateway::start(CONFIG);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        for stream in listener.incoming().take(COUNT) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            all.push(stream);
        }
        for mut stream in all {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let items: Vec<Value> = (0..COUNT).map(|n| rule(&format!("http://{at}/{n}"))).collect();
    let answer = call(gateway.at.admin, "POST", &json!({ "items": items }));
    assert_eq!(answer.json()["items"].as_array().map(Vec::len), Some(COUNT), "{}", answer.body);
}

#[test]
fn a_call_that_is_not_signed_well_changes_nothing() {
    let gateway = Gateway::start(CONFIG);
    let admin = gateway.at.admin;
    let body = json!({ "items": [rule("https://a.example/")] }).to_string();
    let now = now_ms();
    let raw = |key: &str, ts: &str, sign: &str, body: &str| {
        let fields = [
            ("X-Up-Key", key),
            ("X-Up-Timestamp", ts),
            ("X-Up-Signature", sign),
            ("Content-Type", "application/json"),
        ];
        let answer = send(admin, &format!("POST {PATH}"), &fields, body);
        let code = answer.json()["code"].as_u64().unwrap();
        assert_eq!(u64::from(answer.status), code);
        code
    };
    let ts = now.to_string();
    let good = sign("POST", KEY, &ts, &body);
    assert_eq!(raw(KEY, &ts, &good, &body.replace("coin", "gold")), 601);
    assert_eq!(raw(KEY, &ts, &sign("PUT", KEY, &ts, &body), &body), 601);
    assert_eq!(raw(KEY, &ts, "nonsense", &body), 601);
    assert_eq!(raw(KEY, &(now + 1).to_string(), &good, &body), 601);
    assert_eq!(raw("absent", &ts, &sign("POST", "absent", &ts, &body), &body), 603);
    for off in [-16, 16] {
        let ts = (now + off * 60 * 1000).to_string();
        assert_eq!(raw(KEY, &ts, &sign("POST", KEY, &ts, &body), &body), 600);
    }
    for ts in ["", "now", "99999999999999999999999"] {
        assert_eq!(raw(KEY, ts, &sign("POST", KEY, ts, &body), &body), 600, "{ts}");
    }
    let missing = send(admin, &format!("GET {PATH}"), &[("X-Up-Key", KEY)], "");
    assert_eq!(missing.json()["code"], 600);
    let twice =
        [("X-Up-Key", KEY), ("X-Up-Key", KEY), ("X-Up-Timestamp", &ts), ("X-Up-Signature", &good)];
    assert_eq!(send(admin, &format!("POST {PATH}"), &twice, &body).json()["code"], 600);
    assert!(list(admin, "").is_empty());
}

#[test]
fn rubbish_is_an_error_of_the_parameters() {
    let gateway = Gateway::start(CONFIG);
    let admin = gateway.at.admin;
    let code = |method: &str, query: &str, body: &str| {
        let answer = signed(admin, method, KEY, query, body);
        answer.json()["code"]
            .as_u64()
            .unwrap_or_else(|| panic!("{method} {query} {body}: {}", answer.body))
    };
    let many = json!({ "items": vec![rule("https://a.example/"); 101] }).to_string();
    for body in [
        "",
        "{",
        "[]",
        "{}",
        "{\"items\":[]}",
        "{\"items\":[1]}",
        "{\"items\":{}}",
        &many,
        "{\"items\":[],\"items\":[]}",
        "{\"items\":[{\"id\":1,\"id\":2}]}",
        "\u{0}\u{1}",
    ] {
        assert_eq!(code("POST", "", body), 602, "{body}");
        assert_eq!(code("PUT", "", body), 602, "{body}");
    }
    let ids: Vec<u64> = (0..101).collect();
    for body in ["", "{}", "{\"ids\":[]}", "{\"ids\":1}", &json!({ "ids": ids }).to_string()] {
        assert_eq!(code("DELETE", "", body), 602, "{body}");
    }
    let long: Vec<String> = ids.iter().map(u64::to_string).collect();
    for query in [
        "?ids=a",
        "?ids=",
        "?ids=1&ids=2",
        "?ids=1,,2",
        "?ids=-1",
        &format!("?ids={}", long.join(",")),
    ] {
        assert_eq!(code("GET", query, ""), 602, "{query}");
    }
    assert_eq!(code("PATCH", "", ""), 602);
    let huge = "x".repeat(10 * 1024 * 1024);
    let ts = now_ms().to_string();
    let fields = format!(
        "POST {PATH} HTTP/1.1\r\nHost: a\r\nX-Up-Key: {KEY}\r\nX-Up-Timestamp: {ts}\r\nX-Up-Signature: {}\r\nContent-Length: {}\r\n\r\n",
        sign("POST", KEY, &ts, &huge),
        huge.len()
    );
    let mut wire = super::wire::Wire::open(admin);
    wire.send(fields);
    assert_eq!(wire.answer().unwrap().json()["code"], 602, "what is announced is enough");
}

#[test]
fn the_same_signature_changes_something_once() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let body = json!({ "items": [rule(&format!("http://{}/", backend.at))] }).to_string();
    let ts = now_ms().to_string();
    let sign = sign("POST", KEY, &ts, &body);
    let fields = [
        ("X-Up-Key", KEY),
        ("X-Up-Timestamp", ts.as_str()),
        ("X-Up-Signature", &sign.to_lowercase()),
        ("Content-Type", "application/json"),
    ];
    let line = format!("POST {PATH}");
    assert_eq!(send(gateway.at.admin, &line, &fields, &body).status, 200);
    assert_eq!(send(gateway.at.admin, &line, &fields, &body).json()["code"], 606);
    assert_eq!(list(gateway.at.admin, "").len(), 1);
}

/// A captured call causes no request, whether it was rejected or not.
#[test]
fn a_signature_has_addresses_called_once() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::saying([status(500), status(200)]));
    let url = format!("http://{}/", backend.at);
    let body = json!({ "items": [rule(&url)] }).to_string();
    let ts = now_ms().to_string();
    let sign = sign("POST", KEY, &ts, &body);
    let fields = [
        ("X-Up-Key", KEY),
        ("X-Up-Timestamp", ts.as_str()),
        ("X-Up-Signature", &sign),
        ("Content-Type", "application/json"),
    ];
    let line = format!("POST {PATH}");
    let first = send(gateway.at.admin, &line, &fields, &body);
    assert_eq!(errs(&first), [(0, 1007)]);
    for _ in 0..4 {
        assert_eq!(send(gateway.at.admin, &line, &fields, &body).json()["code"], 606);
    }
    assert_eq!(backend.got().len(), 1, "one address, called once");
    assert!(list(gateway.at.admin, "").is_empty());
    // Signed with another time it is another call, and what is in it goes on.
    let made = call(gateway.at.admin, "POST", &json!({ "items": [rule(&url)] }));
    assert_eq!(made.json()["items"].as_array().map(Vec::len), Some(1), "{}", made.body);
}

#[test]
fn a_call_has_no_other_parameters() {
    let gateway = Gateway::start(CONFIG);
    let code = |method: &str, query: &str, body: &str| {
        signed(gateway.at.admin, method, KEY, query, body).json()["code"].as_u64()
    };
    let body = json!({ "items": [rule("https://a.example/")] }).to_string();
    assert_eq!(code("POST", "?ids=1", &body), Some(602));
    assert_eq!(code("GET", "?ids=1&page=2", ""), Some(602));
    assert_eq!(code("DELETE", "?ids=1", "{\"ids\":[1]}"), Some(602));
}

#[test]
fn a_publisher_sees_its_own_rules_only() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let admin = gateway.at.admin;
    let mut mine = rule(&format!("http://{}/", backend.at));
    call(admin, "POST", &json!({ "items": [mine] }));
    mine["id"] = json!(1);
    mine["status"] = json!(1);
    let other =
        |method: &str, body: Value| signed(admin, method, "other-key", "", &body.to_string());
    assert_eq!(other("PUT", json!({ "items": [mine] })).json()["errs"][0]["code"], 1008);
    assert_eq!(other("DELETE", json!({ "ids": [1] })).json()["errs"][0]["code"], 1008);
    assert_eq!(signed(admin, "GET", "other-key", "", "").json()["items"], json!([]));
    assert_eq!(list(admin, "").len(), 1);
}

#[test]
fn writers_at_once_lose_nothing_and_a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let (gateway, backend) = (Gateway::over(CONFIG, open()), Backend::start());
    let admin = gateway.at.admin;
    let url = format!("http://{}/?t={{trans_id}}", backend.at);
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let url = url.clone();
            std::thread::spawn(move || {
                for m in 0..3 {
                    let mut item = rule(&url);
                    item["rule_name"] = json!(format!("{n}-{m}"));
                    let made = call(admin, "POST", &json!({ "items": [item, item] }));
                    assert_eq!(made.json()["items"].as_array().unwrap().len(), 2, "{}", made.body);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let all = list(admin, "");
    assert_eq!(all.len(), 24);
    let ids: std::collections::BTreeSet<u64> =
        all.iter().map(|r| r["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=24).collect());
    let key = all[4]["reward_sec_key"].as_str().unwrap();
    assert_eq!(get(gateway.at.callbacks, &reward(5, key, "k1")).status, 200);
    call(admin, "DELETE", &json!({ "ids": [24] }));
    gateway.stop();
    let gateway = Gateway::over(CONFIG, open());
    assert_eq!(list(gateway.at.admin, ""), all[..23]);
    assert_eq!(get(gateway.at.callbacks, &reward(5, key, "k1")).status, 200);
    gateway.await_metric("postern_callbacks_total{outcome=\"duplicate\",source=\"reward/5\"}", 1.0);
    let made = call(gateway.at.admin, "POST", &json!({ "items": [rule(&url)] })).json();
    assert_eq!(made["items"][0]["id"], 25);
}

#[test]
fn it_has_a_listener_of_its_own_where_one_is_configured() {
    let config = CONFIG.replace(
        "[egress]",
        "management = \"127.0.0.1:0\"\nmanagement_url = \"https://m.example\"\n[egress]",
    );
    let gateway = Gateway::start(&config);
    assert_eq!(signed(gateway.at.admin, "GET", KEY, "", "").status, 404);
    let own = gateway.at.management.unwrap();
    assert_eq!(signed(own, "GET", KEY, "", "").status, 200);
    assert_eq!(get(own, "/metrics").status, 404);
    assert_eq!(get(own, "/admin/v1/sources").status, 404);
    let without = Gateway::start(super::gateway::PLAIN);
    assert_eq!(signed(without.at.admin, "GET", KEY, "", "").status, 404);
}
