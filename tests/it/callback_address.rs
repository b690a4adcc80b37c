//! Callback addresses, as a client of the assessment platform's back office would manage them.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use postern::clock::now_ms;
use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::backend::Backend;
use super::gateway::{Gateway, logged};
use super::wire::{Answer, send};

const KEY: &str = "demo-manager-key";

const CONFIG: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
[egress]
allow = ["127.0.0.0/8"]
[[source]]
name = "t12"
sender = "renaren"
secrets = "demo-manager-key"
[manage.callback_address]
managers = [{ name = "m1", key = "demo-manager-key", companies = [42, 43] }, { name = "m2", key = "other-key", companies = [44] }]
prefixes = ["leaderpro", "rp7", "motive"]
"#;

/// A time that no other call of these tests has: two calls of one second have one signature, and
/// it is good for one.
fn now() -> String {
    // From one time, or a call a second later has the second of the call before.
    static BEGAN: LazyLock<i64> = LazyLock::new(|| now_ms() / 1000);
    static CALLS: AtomicI64 = AtomicI64::new(0);
    (*BEGAN - CALLS.fetch_add(1, Ordering::Relaxed) % 500).to_string()
}

/// PHP's `http_build_query` of sorted pairs, as the platform signs it.
fn sign(key: &str, pairs: &[(&str, &str)]) -> String {
    let mut all: Vec<(&str, &str)> =
        pairs.iter().copied().filter(|(name, _)| *name != "manager_name").collect();
    all.push(("manager_key", key));
    all.sort_unstable();
    let text = |text: &str| {
        let escape = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            b' ' => String::from("+"),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(escape).collect::<String>()
    };
    let query: Vec<String> = all.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect();
    const_hex::encode(Sha1::digest(query.join("&")))[..10].to_owned()
}

fn query(key: &str, pairs: &[(&str, &str)]) -> String {
    let sign = sign(key, pairs);
    let mut all: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    all.push(format!("manager_sign={sign}"));
    all.join("&")
}

fn get(to: SocketAddr, query: &str) -> Value {
    let answer = send(to, &format!("GET /api/backdoor/callback/get?{query}"), &[], "");
    assert_eq!(answer.status, 200);
    answer.json()
}

fn set(to: SocketAddr, query: &str, form: &str) -> Value {
    let fields = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer: Answer =
        send(to, &format!("POST /api/backdoor/callback/set?{query}"), &fields, form);
    assert_eq!(answer.status, 200);
    answer.json()
}

fn of(company: &str, prefix: &str, stamp: &str) -> String {
    query(
        KEY,
        &[
            ("manager_name", "m1"),
            ("company_id", company),
            ("time_stamp", stamp),
            ("prefix", prefix),
        ],
    )
}

fn all_of(company: &str) -> String {
    query(KEY, &[("manager_name", "m1"), ("company_id", company), ("time_stamp", &now())])
}

/// A verified callback of the platform about a company's assessment.
fn callback(to: SocketAddr, key: &str, company: &str, prefix: &str, number: &str) -> u16 {
    let query = numbered(key, company, prefix, number);
    let fields = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = send(to, &format!("POST /callback/t12?{query}"), &fields, "remark=a");
    assert_eq!(answer.json()["code"], 0, "{}", answer.body);
    answer.status
}

/// The signed query of a callback.
fn numbered(key: &str, company: &str, prefix: &str, number: &str) -> String {
    let pairs = [
        ("company_id", company),
        ("time_stamp", &now()),
        ("prefix", prefix),
        ("report_number", number),
    ];
    query(key, &pairs)
}

/// A manager sets its own address, and calls with a body that reads as an event: what it gets is
/// signed, and no event to anybody who verifies events.
#[test]
fn a_body_of_a_managers_choice_is_no_event_elsewhere() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{ED25519, UnparsedPublicKey};

    let (game, partner) = (Backend::start(), Backend::start());
    let seed = STANDARD.encode([1; 32]);
    let text = CONFIG
        .replace("[egress]", &format!("[egress]\nsigning_key = \"whsk_{seed}\""))
        .replace(
            "[manage.",
            "[[destination]]\nname = \"game\"\nurl = \"http://GAME/\"\nsign = \"v1a\"\n[manage.",
        )
        .replace("GAME", &game.at.to_string());
    let gateway = Gateway::start(&text);
    let form =
        serde_urlencoded::to_string([("notify_url", format!("http://{}/", partner.at))]).unwrap();
    assert_eq!(set(gateway.at.admin, &of("42", "rp7", &now()), &form)["code"], 0);
    let forged = r#"{"id":"evt_1","user":"attacker","amount":"1000000","effect":"grant"}"#;
    let target = format!("POST /callback/t12?{}", numbered(KEY, "42", "rp7", "R-1"));
    let answer =
        send(gateway.at.callbacks, &target, &[("Content-Type", "application/json")], forged);
    assert_eq!(answer.json()["code"], 0, "{}", answer.body);
    let got = partner.await_count(1)[0].clone();
    assert_eq!(got.body, forged.as_bytes());
    let head = format!("{}.{}.", got.header("webhook-id"), got.header("webhook-timestamp"));
    let signed = [head.as_bytes(), &got.body].concat();
    let signature = got.header("webhook-signature").strip_prefix("v1a,").unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    let verifies = |query: &str| {
        let page = super::wire::get(gateway.at.admin, &format!("/admin/v1/signing-key{query}"));
        let key = page.json()["public_keys"][0].as_str().unwrap().replace("whpk_", "");
        let key = UnparsedPublicKey::new(&ED25519, STANDARD.decode(key).unwrap());
        key.verify(&signed, &signature).is_ok()
    };
    assert!(verifies("?destination=address/42/rp7"));
    assert!(!verifies("?destination=game") && !verifies(""));
}

#[test]
fn addresses_are_shown_in_the_configured_order_and_callbacks_go_there() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let admin = gateway.at.admin;
    let empty = get(admin, &all_of("42"));
    let expected = json!({ "code": 0, "msg": "success", "data": [
        { "type": "leaderpro", "notify_url": null },
        { "type": "rp7", "notify_url": null },
        { "type": "motive", "notify_url": null },
    ] });
    assert_eq!(empty, expected);

    let url = format!("http://{}/api/notify/receive?a=1", backend.at);
    let form =
        serde_urlencoded::to_string([("notify_url", url.as_str()), ("code_number", "5")]).unwrap();
    let done = set(admin, &of("42", "rp7", &now()), &form);
    assert_eq!(done, json!({ "code": 0, "msg": "success" }));
    let one = get(admin, &of("42", "rp7", &now()));
    assert_eq!(one["data"], json!([{ "type": "rp7", "notify_url": url }]));
    assert_eq!(get(admin, &all_of("43"))["data"][1]["notify_url"], Value::Null);

    assert_eq!(callback(gateway.at.callbacks, KEY, "42", "motive", "R-0"), 200);
    assert_eq!(callback(gateway.at.callbacks, KEY, "42", "rp7", "R-1"), 200);
    let got = backend.await_count(1);
    assert!(
        got[0].line.starts_with("POST /api/notify/receive?a=1&company_id=42&"),
        "{}",
        got[0].line
    );
    assert_eq!(got[0].body, b"remark=a");

    // Numbers alone are accepted, and leave the address alone.
    assert_eq!(set(admin, &of("42", "rp7", &now()), "report_number=7")["code"], 0);
    assert_eq!(get(admin, &of("42", "rp7", &now()))["data"][0]["notify_url"], json!(url));
    for clear in ["notify_url=", "notify_url=null"] {
        assert_eq!(set(admin, &of("42", "rp7", &now()), clear)["code"], 0);
        assert_eq!(get(admin, &of("42", "rp7", &now()))["data"][0]["notify_url"], Value::Null);
    }
    assert_eq!(callback(gateway.at.callbacks, KEY, "42", "rp7", "R-2"), 200);
    gateway.await_metric("postern_callbacks_total{outcome=\"accepted\",source=\"t12\"}", 3.0);
    assert_eq!(backend.got().len(), 1, "nothing is sent to a cleared address");
}

#[test]
fn a_key_speaks_of_the_companies_of_its_manager_only() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let admin = gateway.at.admin;
    let stamp = now();
    let other = |company| {
        query(
            "other-key",
            &[
                ("manager_name", "m2"),
                ("company_id", company),
                ("time_stamp", &stamp),
                ("prefix", "rp7"),
            ],
        )
    };
    let form = format!("notify_url=http://{}/", backend.at);
    assert_eq!(set(admin, &other("44"), &form)["code"], 0);
    assert_eq!(set(admin, &other("42"), &form)["code"], 1005);
    assert_eq!(get(admin, &other("42"))["code"], 1005);
    assert_eq!(get(admin, &all_of("44"))["code"], 1005);
    // The source knows the key of m1, who manages no company 44.
    assert_eq!(callback(gateway.at.callbacks, KEY, "44", "rp7", "R-1"), 200);
    gateway.await_metric("postern_callbacks_total{outcome=\"accepted\",source=\"t12\"}", 1.0);
    assert!(backend.got().is_empty());
}

#[test]
fn calls_that_are_wrong_get_a_code_and_change_nothing() {
    let gateway = Gateway::start(CONFIG);
    let admin = gateway.at.admin;
    let stamp = now();
    let form = "notify_url=http://127.0.0.1:1/";
    let off = |seconds: i64| (now_ms() / 1000 + seconds).to_string();
    let good = of("42", "rp7", &stamp);
    let (sign, other) =
        (good.rsplit_once('=').unwrap().1, if good.ends_with('0') { "1" } else { "0" });
    let forged = format!("{}{other}", &good[..good.len() - 1]);
    for (query, form, code) in [
        (forged.clone(), form, 1001),
        (good.replace("company_id=42", "company_id=43"), form, 1001),
        (good.replace("manager_name=m1", "manager_name=m9"), form, 1001),
        (good.replace(&format!("&manager_sign={sign}"), ""), form, 1002),
        (
            query(KEY, &[("manager_name", "m1"), ("company_id", "42"), ("prefix", "rp7")]),
            form,
            1002,
        ),
        (
            query(KEY, &[("company_id", "42"), ("time_stamp", &stamp), ("prefix", "rp7")]),
            form,
            1002,
        ),
        (
            query(KEY, &[("manager_name", "m1"), ("time_stamp", &stamp), ("prefix", "rp7")]),
            form,
            1002,
        ),
        (all_of("42"), form, 1002),
        (good.clone(), "", 1002),
        (format!("{good}&company_id=42"), form, 1003),
        (format!("{good}&manager_key=x"), form, 1003),
        (format!("{good}&a.b=1"), form, 1003),
        (format!("{good}&debug_on=1"), form, 1003),
        (format!("{good}&report_number=1"), form, 1003),
        (numbered(KEY, "42", "rp7", "R-1") + "&manager_name=m1", form, 1003),
        (good.clone(), "notify_url=http://127.0.0.1:1/&company_id=43", 1003),
        (
            query(KEY, &[("manager_name", "m1"), ("company_id", "x"), ("time_stamp", &stamp)]),
            form,
            1003,
        ),
        (good.clone(), "notify_url=http://a/&notify_url=http://b/", 1003),
        (good.clone(), "code_number=-1", 1003),
        (of("42", "rp7", &off(-660)), form, 1004),
        (of("42", "rp7", &off(660)), form, 1004),
        (of("42", "nothing", &stamp), form, 1006),
        (good.clone(), "notify_url=ftp://a/", 1008),
        (good.clone(), "notify_url=http://169.254.169.254/", 1008),
        (good.clone(), "notify_url=http://10.0.0.1/", 1008),
        (good.clone(), "notify_url=http://[::ffff:169.254.169.254]/", 1008),
    ] {
        let answer = set(admin, &query, form);
        assert_eq!(answer["code"], code, "{query} {form}: {answer}");
        assert!(answer.get("data").is_none());
    }
    for (line, code) in
        [("GET /api/backdoor/callback/set", 1007), ("POST /api/backdoor/callback/get", 1007)]
    {
        assert_eq!(send(admin, &format!("{line}?{good}"), &[], "").json()["code"], code);
    }
    let mut wire = super::wire::Wire::open(admin);
    wire.send(format!("POST /api/backdoor/callback/set?{good} HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n"));
    assert_eq!(wire.answer().unwrap().json()["code"], 1003);
    let all = get(admin, &all_of("42"));
    assert!(
        all["data"].as_array().unwrap().iter().all(|item| item["notify_url"].is_null()),
        "{all}"
    );
}

#[test]
fn guesses_are_slow_after_ten_and_a_right_signature_passes() {
    let gateway = Gateway::start(CONFIG);
    let admin = gateway.at.admin;
    let good = of("42", "rp7", &now());
    let forged = format!("{}x", &good[..good.len() - 1]);
    let codes: Vec<i64> = (0..11).map(|_| get(admin, &forged)["code"].as_i64().unwrap()).collect();
    assert_eq!((&codes[..10], codes[10]), (&[1001; 10][..], 1009));
    assert_eq!(get(admin, &good)["code"], 0);
    assert!(logged().lines().any(|line| line.contains("calls are slowed") && line.contains("m1")));
    // The guesses of one manager are not another's.
    let other =
        query("wrong", &[("manager_name", "m2"), ("company_id", "44"), ("time_stamp", &now())]);
    assert_eq!(get(admin, &other)["code"], 1001);
}

/// The exact sequence of an attack: a captured callback does not set an address, and a look at
/// addresses does not pass as a callback.
#[test]
fn a_callback_sets_no_address_and_a_look_is_no_callback() {
    let (gateway, backend) = (Gateway::start(CONFIG), Backend::start());
    let (admin, callbacks) = (gateway.at.admin, gateway.at.callbacks);
    let captured = numbered(KEY, "42", "rp7", "N-1") + "&manager_name=m1";
    let first = send(callbacks, &format!("GET /callback/t12?{captured}"), &[], "");
    assert_eq!(first.json()["code"], 0, "{}", first.body);
    let steal = format!("notify_url=http://{}/steal", backend.at);
    for _ in 0..2 {
        assert_eq!(set(admin, &captured, &steal)["code"], 1003);
        assert_eq!(get(admin, &captured)["code"], 1003);
    }
    assert_eq!(get(admin, &of("42", "rp7", &now()))["data"][0]["notify_url"], Value::Null);

    let look = of("42", "rp7", &now());
    for _ in 0..2 {
        assert_eq!(get(admin, &look)["code"], 0, "a look may be repeated");
    }
    assert_eq!(set(admin, &look, &steal)["code"], 1010, "and changes nothing");
    let change = of("42", "motive", &now());
    assert_eq!(set(admin, &change, "notify_url=http://127.0.0.1:1/")["code"], 0);
    assert_eq!(get(admin, &change)["code"], 1010, "what changed something is good for no look");
    let fields = [("Content-Type", "application/x-www-form-urlencoded")];
    for body in ["report_number=FAKE", "code_number=FAKE", "report_number=FAKE&prefix=rp7"] {
        for signed in [&look, &change, &all_of("42")] {
            let line = format!("POST /callback/t12?{signed}");
            assert_eq!(send(callbacks, &line, &fields, body).json()["code"], 1, "{line} {body}");
        }
    }
    gateway.await_metric("postern_callbacks_total{outcome=\"accepted\",source=\"t12\"}", 1.0);
}

/// On an engine of its own, over a restart: each signature changes something once.
#[test]
fn a_signature_sets_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(CONFIG, open());
    let query = of("42", "rp7", &now());
    let (mine, theirs) =
        ("notify_url=http://127.0.0.1:1/mine", "notify_url=http://127.0.0.1:1/theirs");
    assert_eq!(set(gateway.at.admin, &query, "notify_url=ftp://a/")["code"], 1008);
    assert_eq!(set(gateway.at.admin, &query, mine)["code"], 0, "nothing was done with it before");
    assert_eq!(set(gateway.at.admin, &query, theirs)["code"], 1010);
    gateway.stop();
    let gateway = Gateway::over(CONFIG, open());
    assert_eq!(set(gateway.at.admin, &query, theirs)["code"], 1010);
    let (rest, sign) = query.rsplit_once('=').unwrap();
    let upper = format!("{rest}={}", sign.to_uppercase());
    assert_ne!(set(gateway.at.admin, &upper, theirs)["code"], 0, "the same digest");
    let shown = get(gateway.at.admin, &of("42", "rp7", &now()));
    assert_eq!(shown["data"][0]["notify_url"], "http://127.0.0.1:1/mine");
}

/// A source that takes a number outside the signed query would make management calls of callbacks.
#[test]
fn a_replayable_source_has_no_key_of_a_manager() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let path = folder.path().join("postern.toml");
        std::fs::write(&path, text).unwrap();
        postern::config::load(&path).map(drop).map_err(|faults| faults.faults)
    };
    let replayable = |key: &str| {
        CONFIG.replace(
            "secrets = \"demo-manager-key\"",
            &format!("secrets = \"{key}\"\nreplayable = true"),
        )
    };
    let faults = check(&replayable("demo-manager-key")).unwrap_err();
    assert!(faults.iter().any(|fault| fault.key.ends_with("replayable")), "{faults:?}");
    assert_eq!(
        check(&replayable("a-key-of-its-own")).map_err(|faults| format!("{faults:?}")),
        Ok(())
    );
    let gateway = Gateway::start(CONFIG);
    let put = |key: &str| {
        let body = json!({ "sender": "renaren", "secrets": key, "replayable": true });
        let line = "PUT /admin/v1/sources/t13";
        send(gateway.at.admin, line, &[], &body.to_string()).status
    };
    assert_eq!((put("other-key"), put("a-key-of-its-own")), (422, 201));
}
