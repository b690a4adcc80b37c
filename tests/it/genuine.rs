//! Guarantees to a backend: roles before parameters, no header of an unauthenticated caller, and
//! signatures over a delivery's content.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use postern::ledger::{Embedded, EmbeddedOptions};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use sha2::Sha256;

use super::backend::{Backend, Got, status};
use super::deliver::{KEY, OLD_KEY, game, outcomes, whsec, with};
use super::gateway::{Gateway, PLAIN, eventually, taku, taku_for};
use super::wire::{ask, get, send};

/// A key of the gateway, and one from before.
const WHSK: &str = "whsk_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OLD_WHSK: &str = "whsk_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

fn to(backend: &Backend, path: &str, rest: &str) -> String {
    format!("url = \"http://{}{path}\"\n{rest}\n", backend.at)
}

/// A correctly signed Taku callback, with fields that an attacker adds.
fn with_fields(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

#[test]
fn an_unsigned_parameter_never_stands_for_a_role() {
    let backend = Backend::start();
    let path =
        "/tpl/{user}/grant?who={user}&n={amount}&t=[transaction]&p={params.amount}&c={currency}";
    let gateway = Gateway::start(&with(&[("game", to(&backend, path, "format = \"template\""))]));
    let added = "&amount=1000000&user=attacker&transaction=other&currency=USD";
    assert_eq!(get(gateway.at.callbacks, &format!("{}{added}", taku("t1"))).status, 200);
    let got = &backend.await_count(1)[0];
    assert_eq!(got.line, "GET /tpl/u1/grant?who=u1&n=10&t=t1&p=1000000&c= HTTP/1.1");
}

#[test]
fn a_value_that_would_lead_to_another_path_is_not_sent() {
    let backend = Backend::start();
    let rest = "format = \"template\"\nretry = { first = \"20ms\", max = \"20ms\", attempts = 3 }";
    let gateway = Gateway::start(&with(&[("game", to(&backend, "/tpl/{user}/grant", rest))]));
    for (n, user) in ["", "..", "%2e%2E", "a%2F..%2F..%2Fadmin", "."].iter().enumerate() {
        let target = taku_for(user, &format!("d{n}"), "10");
        assert_eq!(get(gateway.at.callbacks, &target).status, 200);
        eventually("dead", || outcomes(&gateway, "dead") == n as f64 + 1.0);
    }
    assert!(backend.got().is_empty(), "{:?}", backend.got());
    let page = get(gateway.at.admin, "/admin/v1/deliveries?state=dead").json();
    let id = page["deliveries"][0]["event"].as_str().unwrap().to_owned();
    let page = get(gateway.at.admin, &format!("/admin/v1/events/{id}")).body;
    assert!(page.contains("dot segment"), "{page}");
}

#[test]
fn what_the_senders_file_does_not_read_is_not_passed_on() {
    let backend = Backend::start();
    let rest = format!("format = \"forward\"\nsecret = \"{}\"", whsec(KEY));
    let gateway = Gateway::start(&with(&[("game", to(&backend, "/old", &rest))]));
    let fields = "webhook-id: evt_SPOOFED\r\nwebhook-signature: v1,AAAA\r\nwebhook-timestamp: 1\r\n\
                  Authorization: Bearer attacker\r\nCookie: session=x\r\nContent-Type: text/x-odd\r\n\
                  X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /admin\r\nUser-Agent: attacker\r\n\
                  Signature: sig1=:AAAA:\r\nSignature-Input: sig1=()\r\nX-Forwarded-For: 10.0.0.1\r\n";
    assert_eq!(ask(gateway.at.callbacks, with_fields(&taku("f1"), fields)).status, 200);
    let got = &backend.await_count(1)[0];
    let mut names: Vec<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "content-type",
        "host",
        "signature",
        "signature-input",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ];
    assert_eq!(names, expected);
    assert_eq!(got.header("content-type"), "text/x-odd");
    assert!(got.header("user-agent").starts_with("postern/"));
    let id = get(gateway.at.admin, "/admin/v1/events").json()["events"][0]["id"].clone();
    assert_eq!(id, got.header("webhook-id"));
    assert_eq!(got.header("webhook-signature"), standard_v1(got, KEY));
    assert_eq!(verified(got), ["v1"]);
}

#[test]
fn a_sender_that_signs_in_these_fields_keeps_its_own() {
    let backend = Backend::start();
    let text = with(&[("game", to(&backend, "/old", "format = \"forward\""))]);
    let text = text
        .replace("\"taku\"", "\"standard-webhooks\"")
        .replace("0123456789abcdefghijklmnopqrstuv", &whsec(KEY));
    let gateway = Gateway::start(&text);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let body = r#"{"type":"x"}"#;
    let signed = v1(KEY, format!("msg_1.{now}.{body}").as_bytes());
    let stamp = now.to_string();
    let fields = [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", &*stamp),
        ("webhook-signature", &*signed),
        ("authorization", "Bearer attacker"),
    ];
    assert_eq!(send(gateway.at.callbacks, "POST /callback/level-end", &fields, body).status, 200);
    let got = &backend.await_count(1)[0];
    assert_eq!(got.header("webhook-id"), "msg_1");
    assert_eq!(got.header("webhook-signature"), signed);
    assert_eq!(got.find("authorization"), None);
    let event = &get(gateway.at.admin, "/admin/v1/events").json()["events"][0];
    assert_eq!((&event["kind"], &event["transaction"]), (&json!("event"), &json!("msg_1")));
}

#[test]
fn an_event_says_its_kind_and_effect_last() {
    let backend = Backend::start();
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    assert_eq!(get(gateway.at.callbacks, &taku("e1")).status, 200);
    let text = String::from_utf8(backend.await_count(1)[0].body.clone()).unwrap();
    assert!(text.ends_with(r#","kind":"event","effect":"grant"}"#), "{text}");
}

#[test]
fn half_a_surrogate_pair_hides_no_event() {
    let backend = Backend::start();
    let text = with(&[
        ("game", game(backend.at)),
        ("old", to(&backend, "/old?n={nick}&u={user}", "format = \"template\"")),
    ]);
    let text = text
        .replace("\"taku\"", "\"unsigned\"\nunsigned = true\nallow = \"127.0.0.1\"")
        .replace("secrets = \"0123456789abcdefghijklmnopqrstuv\"\n", "");
    let gateway = Gateway::start(&text);
    let body = r#"{"transaction":"so2","user":"u","nick":"ab\ud83d","big":1e999}"#;
    let fields = [("Content-Type", "application/json")];
    assert_eq!(send(gateway.at.callbacks, "POST /callback/level-end", &fields, body).status, 200);
    let got = backend.await_count(2);
    let get_of = got.iter().find(|got| got.line.starts_with("GET ")).unwrap();
    assert_eq!(get_of.line, "GET /old?n=ab%25ED%25A0%25BD&u=u HTTP/1.1");
    let posted = got.iter().find(|got| got.line.starts_with("POST ")).unwrap();
    let posted = String::from_utf8(posted.body.clone()).unwrap();
    assert!(posted.contains(r#""nick":"ab%ED%A0%BD""#), "{posted}");
    let list = get(gateway.at.admin, "/admin/v1/events").body;
    assert!(list.contains(r#""nick":"ab%ED%A0%BD""#), "{list}");
    // Every reader takes it, but for the number, which is the sender's own.
    let readable: Value = serde_json::from_str(&list.replace("1e999", "1")).unwrap();
    assert_eq!(readable["events"][0]["params"]["nick"], "ab%ED%A0%BD");
}

// === signatures ===

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn v1(key: &[u8], text: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(hmac(key, text)))
}

fn standard_text(got: &Got) -> Vec<u8> {
    let head = format!("{}.{}.", got.header("webhook-id"), got.header("webhook-timestamp"));
    [head.as_bytes(), &got.body].concat()
}

fn standard_v1(got: &Got, key: &[u8]) -> String {
    v1(key, &standard_text(got))
}

fn public(whpk: &str) -> UnparsedPublicKey<Vec<u8>> {
    UnparsedPublicKey::new(&ED25519, STANDARD.decode(whpk.strip_prefix("whpk_").unwrap()).unwrap())
}

/// Verifies the message signatures of a request as a backend would, from what it got alone; returns
/// the labels of those that verify. It shares no code with what made them.
fn verified(got: &Got) -> Vec<String> {
    verified_in(got, "signature")
}

/// The same, where the signature is in `field`.
fn verified_in(got: &Got, field: &str) -> Vec<String> {
    let mut line = got.line.split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let value_of = |component: &str| match component {
        "@method" => method.to_owned(),
        "@authority" => got.header("host").to_ascii_lowercase(),
        "@path" => path.to_owned(),
        "@query" => format!("?{query}"),
        field => got.header(field).to_owned(),
    };
    let mut labels = Vec::new();
    for input in got.header(&format!("{field}-input")).split(", ") {
        let (label, params) = input.split_once('=').unwrap();
        let inner = params.strip_prefix('(').unwrap().split_once(')').unwrap().0;
        let covered: Vec<&str> = inner.split(' ').map(|name| name.trim_matches('"')).collect();
        for needed in
            ["@method", "@path", "@query", "@authority", "webhook-id", "webhook-timestamp"]
        {
            assert!(covered.contains(&needed), "{needed} in {input}");
        }
        let lines = covered.iter().map(|name| format!("\"{name}\": {}\n", value_of(name)));
        let base = lines.collect::<String>() + &format!("\"@signature-params\": {params}");
        let start = format!("{label}=:");
        let signature = got.header(field).split(", ").find_map(|one| one.strip_prefix(&start));
        let signature = STANDARD.decode(signature.unwrap().strip_suffix(':').unwrap()).unwrap();
        let text =
            |name: &str| params.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next();
        let good = match text("alg").unwrap() {
            "hmac-sha256" => {
                [KEY, OLD_KEY].iter().any(|key| hmac(key, base.as_bytes()) == signature)
            }
            "ed25519" => public(text("keyid").unwrap()).verify(base.as_bytes(), &signature).is_ok(),
            other => panic!("{other}"),
        };
        if good {
            labels.push(label.to_owned());
        }
    }
    labels
}

#[test]
fn a_delivery_without_a_body_is_signed_over_what_it_says() {
    let backend = Backend::start();
    let keys = format!(
        "secret = [\"{}\", \"{}\"]\nsign = [\"v1\", \"v1a\"]\n",
        whsec(KEY),
        whsec(OLD_KEY)
    );
    let egress = format!("[egress]\nsigning_key = [\"{WHSK}\", \"{OLD_WHSK}\"]\n[[destination]]");
    let text = with(&[
        ("game", to(&backend, "/grant/{user}", &format!("format = \"template\"\n{keys}"))),
        ("old", to(&backend, "", &format!("format = \"forward\"\n{keys}"))),
    ]);
    let gateway = Gateway::start(&text.replacen("[[destination]]", &egress, 1));
    assert_eq!(get(gateway.at.callbacks, &taku_for("u%2F1", "w1", "10")).status, 200);
    let got = backend.await_count(2);
    for got in &got {
        assert!(got.line.starts_with("GET /"), "{}", got.line);
        assert_eq!(verified(got), ["v1", "v1-2", "v1a", "v1a-2"], "{}", got.line);
        // Each part of what it says is signed.
        for (from, to) in [("u%2F1", "u%2F2"), ("GET", "POST"), ("user_id", "user_ie")] {
            let altered = Got { line: got.line.replacen(from, to, 1), ..got.clone() };
            assert!(altered.line == got.line || verified(&altered).is_empty(), "{from}");
        }
        for name in ["webhook-id", "webhook-timestamp", "host"] {
            let mut altered = got.clone();
            let field = altered.headers.iter_mut().find(|(known, _)| known == name).unwrap();
            field.1.push('0');
            assert!(verified(&altered).is_empty(), "{name}");
        }
        // The signature of Standard Webhooks is beside it, over an empty body.
        assert!(got.header("webhook-signature").starts_with(&standard_v1(got, KEY)));
    }
    for got in &got {
        let name = if got.line.contains("/grant/") { "game" } else { "old" };
        let published = public_keys(&gateway, &format!("?destination={name}"));
        assert_eq!(published.len(), 2);
        for key in &published {
            assert!(got.header("signature-input").contains(key), "{name}");
        }
        for key in public_keys(&gateway, "") {
            assert!(!got.header("signature-input").contains(&key), "{name}");
        }
    }
}

/// The public keys of the gateway, or of the destination that the query names.
fn public_keys(gateway: &Gateway, query: &str) -> Vec<String> {
    let page = get(gateway.at.admin, &format!("/admin/v1/signing-key{query}")).json();
    let keys = page["public_keys"].as_array().unwrap().clone();
    keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// One source of `sender` under the secret `key`, with these destinations.
fn source_of(sender: &str, key: &str, destinations: &[(&str, String)]) -> String {
    let text = with(destinations);
    let text = text.replace("\"taku\"", &format!("{sender:?}"));
    text.replace("0123456789abcdefghijklmnopqrstuv", key)
}

fn md5(text: &str) -> String {
    use md5::Digest as _;
    const_hex::encode(md5::Md5::digest(text))
}

/// A reversal that nothing signs apart from its grant, a pending state and a test are not grants: a
/// URL that cannot say so is not called for them.
#[test]
fn a_url_that_cannot_tell_is_called_for_grants_alone() {
    let url = "/grant?who={user}&n={amount}&t={transaction}";
    let told = format!("{url}&e=[effect]");
    let run = |sender: &str, key: &str, targets: &[String]| {
        let (plain, telling) = (Backend::start(), Backend::start());
        let template = "format = \"template\"";
        let destinations =
            [("plain", to(&plain, url, template)), ("telling", to(&telling, &told, template))];
        let folder = tempfile::tempdir().unwrap();
        let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
        let gateway = Gateway::over(&source_of(sender, key, &destinations), open());
        for target in targets {
            let answer = get(gateway.at.callbacks, target);
            assert!(answer.status == 200, "{sender}: {} {}", answer.status, answer.body);
        }
        let all = telling.await_count(targets.len());
        // What comes last is a grant: then nothing of what came before is on its way.
        plain.await_count(1);
        let mut lines: Vec<String> = all.iter().map(|got| got.line.clone()).collect();
        lines.sort_unstable();
        assert_eq!(plain.got().len(), 1, "{sender}: {:?}", plain.got());
        let events = get(gateway.at.admin, "/admin/v1/events").json();
        let events = events["events"].as_array().unwrap().clone();
        assert_eq!(events.len(), targets.len());
        for event in &events {
            let id = event["id"].as_str().unwrap();
            let shown = get(gateway.at.admin, &format!("/admin/v1/events/{id}")).json();
            let count = shown["deliveries"].as_array().unwrap().len();
            assert_eq!(count, if event["effect"] == "grant" { 2 } else { 1 }, "{shown}");
        }
        // Nor does a replay, once the URL says it no more.
        gateway.stop();
        let silent = source_of(sender, key, &destinations).replace(&told, url);
        let gateway = Gateway::over(&silent, open());
        for event in events.iter().filter(|event| event["effect"] != "grant") {
            let id = event["id"].as_str().unwrap();
            let again = json!({ "events": [id], "destination": "telling" }).to_string();
            let answer = send(gateway.at.admin, "POST /admin/v1/replay", &[], &again);
            assert!(answer.status < 300, "{}", answer.body);
            eventually("dead", || {
                let shown = get(gateway.at.admin, &format!("/admin/v1/events/{id}")).body;
                shown.contains("not sent: ")
            });
        }
        assert_eq!((plain.got().len(), telling.got().len()), (1, targets.len()), "{sender}");
        lines
    };
    let cpx = |status: u8, user: &str, amount: u32| {
        let hash = md5("o1-cpx-key");
        format!(
            "/callback/level-end?status={status}&trans_id=o1&user_id={user}&amount_local={amount}&hash={hash}"
        )
    };
    let lines = run("cpx", "cpx-key", &[cpx(2, "attacker", 99999), cpx(1, "u1", 1)]);
    assert!(lines[0].starts_with("GET /grant?who=attacker&n=99999&t="), "{lines:?}");
    assert!(lines[0].contains("&e=revoke"), "{lines:?}");
    assert!(lines[1].contains("who=u1&n=1&t=o1&e=grant"), "{lines:?}");

    let levelplay = |rest: &str| {
        let sign = md5("202611300906e1u15levelplay-key");
        format!(
            "/callback/level-end?timestamp=202611300906&eventId=e1&userId=u1&rewards=5&signature={sign}{rest}"
        )
    };
    run("levelplay", "levelplay-key", &[levelplay("&negativeCallback=true"), levelplay("")]);

    let taku = |rest: &str| {
        let text = "trans_id=t1&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin&sec_key=taku-key";
        format!(
            "/callback/level-end?user_id=u1&trans_id=t1&placement_id=p1&adsource_id=9&reward_amount=10\
             &reward_name=coin&sign={}{rest}",
            md5(text)
        )
    };
    run("taku", "taku-key", &[taku("&is_test=1"), taku("")]);
}

/// Two users whose ids are not UTF-8 are two users, in every place where an event shows them.
#[test]
fn ids_that_are_not_utf_8_stay_apart() {
    let backend = Backend::start();
    let url = "/?u={user}&p={user_id}&q=[who]";
    let text = with(&[("game", to(&backend, url, "format = \"template\""))]);
    let text = text.replace("destinations =", "template = \"who={user_id}\"\ndestinations =");
    let gateway = Gateway::start(&text);
    let users = ["%BD%F0", "%bd%f1", "%25BD%25F0", "%EF%BF%BD"];
    let mut lines = Vec::new();
    for (at, user) in users.iter().enumerate() {
        let target = taku_for(user, &format!("u{at}"), "10");
        assert_eq!(get(gateway.at.callbacks, &target).status, 200);
        lines.push(backend.await_count(at + 1)[at].line.clone());
    }
    assert!(lines[0].starts_with("GET /?u=%25BD%25F0&p=%25BD%25F0&q=%25BD%25F0"), "{lines:?}");
    assert!(lines[1].starts_with("GET /?u=%25BD%25F1&p=%25BD%25F1&q=%25BD%25F1"), "{lines:?}");
    let events = get(gateway.at.admin, "/admin/v1/events").json()["events"].clone();
    let shown = |at: usize| {
        let event = &events[users.len() - 1 - at];
        (event["user"].clone(), event["params"]["user_id"].clone(), event["escaped"].clone())
    };
    let odd = |text: &str| (json!(text), json!(text), json!(["user", "params"]));
    assert_eq!((shown(0), shown(1)), (odd("%BD%F0"), odd("%BD%F1")));
    // What is spelled so is another user: nothing of it is escaped.
    assert_eq!(shown(2), (json!("%BD%F0"), json!("%BD%F0"), Value::Null));
    assert_eq!(shown(3), (json!("\u{fffd}"), json!("\u{fffd}"), Value::Null));
}

/// The body of a forwarded callback is its caller's choice, and its destination may be a partner's.
/// What is signed for it is worth nothing elsewhere, not even at the same place in another format.
#[test]
fn what_is_signed_for_one_destination_proves_nothing_to_another() {
    let (game, partner) = (Backend::start(), Backend::start());
    let egress = format!("[egress]\nsigning_key = \"{WHSK}\"\n[[destination]]");
    let text = with(&[
        ("game", to(&game, "/", "sign = \"v1a\"")),
        ("other", to(&partner, "/event", "sign = \"v1a\"")),
        ("partner", to(&partner, "/forward", "sign = \"v1a\"\nformat = \"forward\"")),
    ]);
    let gateway = Gateway::start(&text.replacen("[[destination]]", &egress, 1));
    assert_eq!(get(gateway.at.callbacks, &taku("k1")).status, 200);
    let key_of = |name: &str| public(&public_keys(&gateway, &format!("?destination={name}"))[0]);
    let verifies = |got: &Got, name: &str| {
        let signature = got.header("webhook-signature").strip_prefix("v1a,").unwrap();
        key_of(name).verify(&standard_text(got), &STANDARD.decode(signature).unwrap()).is_ok()
    };
    let mut all = game.await_count(1);
    all.extend(partner.await_count(2));
    for got in &all {
        let own = match &*got.line {
            line if line.contains("/event") => "other",
            line if line.contains("/forward") => "partner",
            _ => "game",
        };
        for name in ["game", "other", "partner"] {
            assert_eq!(verifies(got, name), name == own, "for {own}, at {name}");
        }
    }
    let own = all.iter().find(|got| got.line.contains("/forward")).unwrap();
    assert_eq!(verified(own), ["v1a"]);
    let is_partners = |keys: Vec<String>| own.header("signature-input").contains(&keys[0]);
    assert!(is_partners(public_keys(&gateway, "?destination=partner")));
    assert!(!is_partners(public_keys(&gateway, "?destination=other")));

    // In another format the destination has another key; under its name and format the same again.
    let before =
        ["game", "partner"].map(|name| public_keys(&gateway, &format!("?destination={name}")));
    let after = Gateway::start(
        &text.replacen("[[destination]]", &egress, 1).replace("\nformat = \"forward\"", ""),
    );
    assert_eq!(public_keys(&after, "?destination=game"), before[0]);
    assert_ne!(public_keys(&after, "?destination=partner"), before[1]);
    let absent = get(gateway.at.admin, "/admin/v1/signing-key?destination=absent");
    assert_eq!(absent.status, 404, "{}", absent.body);
    assert_eq!(get(gateway.at.admin, "/admin/v1/signing-key?name=game").status, 400);
}

#[test]
fn users_with_half_of_a_surrogate_pair_stay_apart() {
    let backend = Backend::start();
    let text = with(&[("game", to(&backend, "/", ""))]);
    let text = text
        .replace("\"taku\"", "\"adgem-v3\"")
        .replace("0123456789abcdefghijklmnopqrstuv", "adgem-key");
    let gateway = Gateway::start(&text);
    let call = |user: &str, transaction: &str| {
        let body = format!(
            r#"{{"data":{{"player_id":"{user}","amount":5,"transaction_id":"{transaction}"}}}}"#
        );
        let own = const_hex::encode(hmac(b"adgem-key", body.as_bytes()));
        let fields = [("Content-Type", "application/json"), ("Signature", &*own)];
        send(gateway.at.callbacks, "POST /callback/level-end", &fields, &body)
    };
    assert_eq!(call(r"v\ud83d", "s1").status, 200);
    let event = get(gateway.at.admin, "/admin/v1/events").json()["events"][0].clone();
    assert_eq!((&event["user"], &event["escaped"]), (&json!("v%ED%A0%BD"), &json!(["user"])));
    // The same transaction for another user is a conflict, and waits for a person.
    assert_eq!(call(r"v\ud83e", "s1").status, 200);
    let held = get(gateway.at.admin, "/admin/v1/held").json();
    assert_eq!(
        (held["held"].as_array().unwrap().len(), &held["held"][0]["why"]),
        (1, &json!("conflict"))
    );
    // A transaction has to be a text.
    assert_eq!(call("v", r"s\ud83d").status, 403);
    let rejected = get(gateway.at.admin, "/admin/v1/rejections").json();
    assert_eq!(rejected["rejections"][0]["reason"], "bad_encoding");
}

/// The file of this sender reads the header `Signature`, and nothing signs its query.
#[test]
fn a_forwarded_url_is_signed_whatever_its_sender_signs_in() {
    let backend = Backend::start();
    let rest = format!("format = \"forward\"\nsecret = \"{}\"", whsec(KEY));
    let text = with(&[("game", to(&backend, "/old", &rest))]);
    let text = text
        .replace("\"taku\"", "\"adgem-v3\"")
        .replace("0123456789abcdefghijklmnopqrstuv", "adgem-key");
    let gateway = Gateway::start(&text);
    let body = r#"{"data":{"player_id":"u1","amount":5,"transaction_id":"s1"}}"#;
    let own = const_hex::encode(hmac(b"adgem-key", body.as_bytes()));
    let fields = [
        ("Content-Type", "application/json"),
        ("Signature", &*own),
        ("Signature-Input", "evil=(\"@method\")"),
        ("Postern-Signature", "v1=:AAAA:"),
        ("Postern-Signature-Input", "v1=(\"@method\")"),
    ];
    let line = "POST /callback/level-end?user=evil&x=1";
    assert_eq!(send(gateway.at.callbacks, line, &fields, body).status, 200);
    let got = &backend.await_count(1)[0];
    assert_eq!(got.line, "POST /old?user=evil&x=1 HTTP/1.1");
    assert_eq!((got.header("signature"), got.find("signature-input")), (&*own, None));
    assert_eq!(got.header("webhook-signature"), standard_v1(got, KEY));
    assert_eq!(verified_in(got, "postern-signature"), ["v1"]);
    let altered = Got { line: got.line.replace("evil", "u1"), ..got.clone() };
    assert!(verified_in(&altered, "postern-signature").is_empty());
}

#[test]
fn a_backend_verifies_with_the_public_key_alone() {
    let backend = Backend::start();
    let event = to(&backend, "/", "sign = \"v1a\"");
    let egress = format!("[egress]\nsigning_key = \"{WHSK}\"\n[[destination]]");
    let text = with(&[("game", event)]).replacen("[[destination]]", &egress, 1);
    let gateway = Gateway::start(&text);
    assert_eq!(get(gateway.at.callbacks, &taku("k1")).status, 200);
    let got = &backend.await_count(1)[0];
    let key = public_keys(&gateway, "?destination=game")[0].clone();
    let signature = got.header("webhook-signature").strip_prefix("v1a,").unwrap().to_owned();
    let signature = STANDARD.decode(signature).unwrap();
    let public = public(&key);
    public.verify(&standard_text(got), &signature).unwrap();
    let altered = Got { body: got.json().to_string().replace("k1", "k2").into(), ..got.clone() };
    assert!(public.verify(&standard_text(&altered), &signature).is_err());
    assert_eq!(got.find("signature-input"), None, "an event is signed with its body");

    // A destination made over the API is signed with the same key.
    let table = json!({ "url": "https://a.example/", "sign": ["v1a"] }).to_string();
    let made = send(gateway.at.admin, "PUT /admin/v1/destinations/api", &[], &table);
    assert!([200, 201].contains(&made.status), "{}", made.body);
    let without = Gateway::start(PLAIN);
    let refused = send(without.at.admin, "PUT /admin/v1/destinations/api", &[], &table);
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("signing key"), "{}", refused.body);
    assert_eq!(get(without.at.admin, "/admin/v1/signing-key").json(), json!({ "public_keys": [] }));
}

#[test]
fn a_post_without_a_body_says_so() {
    let backend = Backend::saying([status(200)]);
    let rest = "format = \"template\"\nmethod = \"POST\"";
    let gateway = Gateway::start(&with(&[("game", to(&backend, "/reward/{user}", rest))]));
    assert_eq!(get(gateway.at.callbacks, &taku("p1")).status, 200);
    let got = &backend.await_count(1)[0];
    assert_eq!(got.line, "POST /reward/u1 HTTP/1.1");
    assert_eq!((got.header("content-length"), got.body.len()), ("0", 0));
}

#[test]
fn an_ambiguous_template_is_refused_over_the_api_too() {
    let gateway = Gateway::start(PLAIN);
    let put = |path: &str, table: &Value| {
        send(gateway.at.admin, &format!("PUT /admin/v1/{path}"), &[], &table.to_string())
    };
    let to = json!({ "url": "https://a.example/?t=[user]", "format": "template" });
    assert_eq!(put("destinations/game", &to).status, 201);
    let source = json!({
        "sender": "taku", "secrets": "s", "destinations": ["game"], "template": "user={extra_data}",
    });
    let refused = put("sources/a", &source);
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("ambiguous"), "{}", refused.body);
    let said = json!({ "url": "https://a.example/?t=[event.user]", "format": "template" });
    assert_eq!(put("destinations/game", &said).status, 200);
    assert_eq!(put("sources/a", &source).status, 201);
    let refused = put("destinations/game", &to);
    assert_eq!(refused.status, 422);
    assert!(refused.body.contains("[resolved.user]"), "{}", refused.body);
}
