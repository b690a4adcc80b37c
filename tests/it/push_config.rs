//! The push configuration of an app, as a client of WeChat's interface would set it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use postern::clock::now_ms;
use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::backend::Backend;
use super::gateway::{Gateway, eventually, logged};
use super::wire::{get, post, send};

fn config(game: &Backend, other: &Backend) -> String {
    format!(
        r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
[[source]]
name = "wx"
sender = "wechat-push"
secrets = "gatewaytoken"
app_id = "wx0000000000000001"
destinations = ["game"]
[[destination]]
name = "game"
url = "http://{}/game"
push_apps = ["wx0000000000000001"]
[[destination]]
name = "test-env-6gni9ity244a6ea3"
url = "http://{}/base?x=1"
headers = {{ X-Env = "6gni" }}
push_apps = ["wx0000000000000001"]
push_path = "/"
[[destination]]
name = "accounting"
url = "http://{}/accounting"
headers = {{ Authorization = "Bearer accounting" }}
[manage.push_config]
apps = [{{ app_id = "wx0000000000000001", secret = "app-secret" }}]
"#,
        game.at, other.at, other.at
    )
}

fn token(to: SocketAddr) -> String {
    let query = "grant_type=client_credential&appid=wx0000000000000001&secret=app-secret";
    let answer = get(to, &format!("/cgi-bin/token?{query}")).json();
    assert_eq!(answer["expires_in"], 7200, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

fn tcb(to: SocketAddr, what: &str, token: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = post(to, &format!("/tcb/{what}callbackconfig?access_token={token}"), &body);
    assert_eq!(answer.status, 200);
    answer.json()
}

fn callback(kind: &str, event: &str, function: &str, enable: bool) -> Value {
    json!({ "msgType": kind, "event": event, "env": "e-1", "functionName": function, "enable": enable })
}

/// Pushes a message in plain mode, under a nonce of its own: a signature is that of one message.
fn push(to: SocketAddr, body: &str) -> u16 {
    push_with(to, "", body)
}

/// The same with more in its query.
fn push_with(to: SocketAddr, more: &str, body: &str) -> u16 {
    static PUSHES: AtomicU32 = AtomicU32::new(12345);
    let stamp = (now_ms() / 1000).to_string();
    let nonce = PUSHES.fetch_add(1, Ordering::Relaxed).to_string();
    let mut parts = ["gatewaytoken", &stamp, &nonce];
    parts.sort_unstable();
    let sign = const_hex::encode(Sha1::digest(parts.concat()));
    let query = format!("signature={sign}&timestamp={stamp}&nonce={nonce}{more}");
    post(to, &format!("/callback/wx?{query}"), body).status
}

fn message(kind: &str, event: &str, id: u32) -> String {
    json!({ "ToUserName": "gh_1", "FromUserName": "o1", "CreateTime": id, "MsgType": kind, "Event": event, "MsgId": id }).to_string()
}

#[test]
fn what_was_set_comes_back_as_it_was() {
    let (game, other) = (Backend::start(), Backend::start());
    let gateway = Gateway::start(&config(&game, &other));
    let (admin, token) = (gateway.at.admin, token(gateway.at.admin));
    let first = tcb(admin, "get", &token, &Value::Null);
    let empty = json!({
        "function_config": { "enable": false, "callbacks": [] },
        "container_config": { "enable": false, "qbase_env": "", "qbase_container_path": "", "text_mode": 1 },
    });
    assert_eq!(first, json!({ "errcode": 0, "errmsg": "ok", "data": empty }));

    // The document's own example, its blank included.
    let functions = json!({ "enable": false, "callbacks": [
        callback("event", "user_enter_tempsession", "callback", false),
        callback("image", "", "callback", true),
    ] });
    let container = json!({
        "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
        "qbase_container_path ": "/container-echo", "text_mode": 1,
    });
    let both = json!({ "function_config": functions, "container_config": container });
    assert_eq!(tcb(admin, "set", &token, &both), json!({ "errcode": 0, "errmsg": "ok" }));
    let shown = tcb(admin, "get", &token, &json!({}))["data"].clone();
    assert_eq!(shown["function_config"], functions);
    assert_eq!(shown["container_config"]["qbase_container_path"], "/container-echo");

    // Functions cannot be enabled while a container is; what is left out stays.
    let mut on = functions.clone();
    on["enable"] = json!(true);
    assert_eq!(tcb(admin, "set", &token, &json!({ "function_config": on }))["errcode"], -1000);
    let off = json!({ "container_config": { "enable": false } });
    assert_eq!(tcb(admin, "set", &token, &off)["errcode"], 0);
    assert_eq!(tcb(admin, "set", &token, &json!({ "function_config": on }))["errcode"], 0);
    let shown = tcb(admin, "get", &token, &json!({}))["data"].clone();
    assert_eq!(
        (&shown["function_config"], &shown["container_config"]["enable"]),
        (&on, &json!(false))
    );
}

#[test]
fn messages_go_where_the_configuration_says() {
    let (game, other) = (Backend::start(), Backend::start());
    let gateway = Gateway::start(&config(&game, &other));
    let (admin, wx, token) = (gateway.at.admin, gateway.at.callbacks, token(gateway.at.admin));
    assert_eq!(push(wx, &message("text", "", 1)), 200);
    assert_eq!(game.await_count(1)[0].json()["params"]["MsgType"], "text");

    let functions = json!({ "enable": true, "callbacks": [
        callback("event", "user_enter_tempsession", "callback", false),
        callback("image", "", "game", true),
        callback("voice", "", "not-yet", true),
    ] });
    assert_eq!(tcb(admin, "set", &token, &json!({ "function_config": functions }))["errcode"], 0);
    assert_eq!(push(wx, &message("event", "user_enter_tempsession", 2)), 200, "acknowledged");
    assert_eq!(push(wx, &message("voice", "", 3)), 200);
    assert_eq!(push(wx, &message("image", "", 4)), 200);
    assert_eq!(game.await_count(2)[1].json()["params"]["MsgType"], "image");
    // A message without a destination waits, and is delivered when there is one.
    let waits = "/admin/v1/deliveries?state=pending&destination=push/wx0000000000000001/not-yet";
    let made = |version: &str, settings: Value| {
        let fields = [(version, "*")];
        let line = "PUT /admin/v1/destinations/not-yet";
        let made = send(admin, line, &fields, &settings.to_string());
        assert!(matches!(made.status, 200 | 201), "{}", made.body);
    };
    // The name alone does not give it the app's messages.
    made("If-None-Match", json!({ "url": "https://a.example/" }));
    let voice = get(admin, waits).json();
    assert_eq!(voice["deliveries"].as_array().unwrap().len(), 1, "{voice}");
    let shown = get(admin, "/admin/v1/destinations/not-yet").json();
    assert_eq!(shown["push_refused"], json!(["wx0000000000000001"]), "{shown}");
    made("If-Match", json!({ "url": "https://a.example/", "push_apps": ["wx0000000000000001"] }));
    let shown = get(admin, "/admin/v1/destinations/not-yet").json();
    assert_eq!(shown.get("push_refused"), None, "{shown}");
    let all = get(admin, "/admin/v1/destinations").json().to_string();
    assert!(all.contains("\"push/wx0000000000000001/not-yet\""), "it comes to what waits: {all}");

    for (mode, id) in [(1, 10), (2, 20)] {
        let container = json!({ "function_config": { "enable": false }, "container_config": {
            "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
            "qbase_container_path": "/container-echo", "text_mode": mode,
        } });
        assert_eq!(tcb(admin, "set", &token, &container)["errcode"], 0);
        let xml = format!(
            "<xml><FromUserName><![CDATA[o1]]></FromUserName><CreateTime>{id}</CreateTime><MsgType><![CDATA[image]]></MsgType><MsgId>{id}</MsgId></xml>"
        );
        let before = other.got().len();
        assert_eq!(push(wx, &xml), 200);
        assert_eq!(push(wx, &message("text", "", id + 1)), 200);
        let mut got = other.await_count(before + 2)[before..].to_vec();
        got.sort_by_key(|got| !String::from_utf8_lossy(&got.body).contains("image"));
        for one in &got {
            assert_eq!(one.line, "POST /container-echo HTTP/1.1");
            assert_eq!((one.header("x-env"), one.find("x-wx-source").is_some()), ("6gni", true));
        }
        match mode {
            1 => {
                assert_eq!(got[0].json()["MsgType"], "image");
                assert_eq!(got[0].json()["CreateTime"], "10");
                assert!(got[0].json().get("nonce").is_none(), "{:?}", got[0].json());
                assert_eq!(got[1].body, message("text", "", 11).as_bytes());
            }
            _ => {
                assert_eq!(got[0].body, xml.as_bytes());
                let text = String::from_utf8_lossy(&got[1].body).into_owned();
                assert!(
                    text.starts_with("<xml>")
                        && text.contains("<MsgType><![CDATA[text]]></MsgType>"),
                    "{text}"
                );
                assert!(text.contains("<MsgId>21</MsgId>"), "{text}");
            }
        }
    }
    assert_eq!(game.got().len(), 2, "the container takes them all");
}

#[test]
fn tokens_and_rubbish_get_the_codes_of_the_document() {
    let (game, other) = (Backend::start(), Backend::start());
    let gateway = Gateway::start(&config(&game, &other));
    let admin = gateway.at.admin;
    let code =
        |line: &str, body: &str| send(admin, line, &[], body).json()["errcode"].as_i64().unwrap();
    assert_eq!(code("GET /tcb/getcallbackconfig?access_token=x", ""), 43002);
    assert_eq!(code("POST /tcb/getcallbackconfig", ""), 41001);
    assert_eq!(code("POST /tcb/getcallbackconfig?access_token=", ""), 41001);
    assert_eq!(code("POST /tcb/setcallbackconfig?access_token=nonsense", "{}"), 40014);
    let base = "GET /cgi-bin/token?grant_type=client_credential";
    assert_eq!(code("GET /cgi-bin/token", ""), 40002);
    assert_eq!(code(base, ""), 41002);
    assert_eq!(code(&format!("{base}&appid=wx0000000000000001"), ""), 41004);
    assert_eq!(code(&format!("{base}&appid=wx9&secret=app-secret"), ""), 40013);
    assert_eq!(code(&format!("{base}&appid=wx0000000000000001&secret=x"), ""), 40125);
    assert_eq!(code("POST /cgi-bin/token?grant_type=client_credential", ""), 43001);
    let codes: Vec<i64> =
        (0..10).map(|_| code(&format!("{base}&appid=wx0000000000000001&secret=x"), "")).collect();
    assert!(codes.contains(&45009), "{codes:?}");

    let (old, new) = (token(admin), token(admin));
    assert_ne!(old, new);
    for token in [&old, &new] {
        assert_eq!(tcb(admin, "get", token, &Value::Null)["errcode"], 0);
    }
    let set = format!("POST /tcb/setcallbackconfig?access_token={new}");
    let container = |key: &str, value: Value| {
        let mut container = json!({ "enable": true, "qbase_env": "e", "qbase_container_path": "/p", "text_mode": 1 });
        container[key] = value;
        json!({ "container_config": container }).to_string()
    };
    let functions = |callbacks: Value| {
        json!({ "function_config": { "enable": true, "callbacks": callbacks } }).to_string()
    };
    for body in [
        "",
        "{",
        "[]",
        "{}",
        "{\"function_config\":null}",
        "{\"function_config\":{}}",
        "{\"function_config\":{\"enable\":1}}",
        "{\"function_config\":{\"enable\":true},\"function_config\":{\"enable\":true}}",
        &functions(json!([{}])),
        &functions(json!([callback("", "", "f", true)])),
        &functions(json!([callback("text", "", "reward/1", true)])),
        &functions(json!([callback("text", "", "", true)])),
        &functions(json!([callback("text", "", "f", true), callback("text", "", "g", false)])),
        &container("text_mode", json!(3)),
        &container("qbase_container_path", json!("@evil.example/")),
        &container("qbase_container_path", json!("")),
        &container("qbase_env", json!("a/b")),
        &container("qbase_container_path", json!("/a/../internal")),
        &container("qbase_container_path", json!("/a/%2e%2e/internal")),
        &container("qbase_container_path", json!("/a%2Finternal")),
        &container("qbase_env", json!("accounting")),
        &functions(json!([callback("text", "", "accounting", true)])),
    ] {
        assert_eq!(code(&set, body), 40101, "{body}");
    }
    assert_eq!(code(&format!("{set}&access_token={new}"), "{}"), 40101);
    assert_eq!(code(&format!("{set}&appid=wx0000000000000001"), &functions(json!([]))), 40101);
    let mut wire = super::wire::Wire::open(admin);
    wire.send(format!("{set} HTTP/1.1\r\nHost: a\r\nContent-Length: 10485760\r\n\r\n"));
    assert_eq!(wire.answer().unwrap().json()["errcode"], 40101);
    let data = tcb(admin, "get", &new, &Value::Null)["data"].clone();
    assert_eq!(data["function_config"], json!({ "enable": false, "callbacks": [] }));
}

#[test]
fn tokens_and_configuration_outlive_the_gateway() {
    let (game, other) = (Backend::start(), Backend::start());
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(&config(&game, &other), open());
    let token = token(gateway.at.admin);
    let functions = json!({ "enable": true, "callbacks": [callback("text", "", "absent", false)] });
    tcb(gateway.at.admin, "set", &token, &json!({ "function_config": functions }));
    gateway.stop();
    let gateway = Gateway::over(&config(&game, &other), open());
    let shown = tcb(gateway.at.admin, "get", &token, &Value::Null);
    assert_eq!(shown["data"]["function_config"], functions);
    assert_eq!(push(gateway.at.callbacks, &message("text", "", 1)), 200);
    assert_eq!(push(gateway.at.callbacks, &message("image", "", 2)), 200);
    assert_eq!(game.await_count(1)[0].json()["params"]["MsgType"], "image");
}

/// The contract's own sealed message, whose time is long over: what is inside goes to the
/// container.
#[test]
fn a_sealed_message_comes_open_to_the_container() {
    let (game, other) = (Backend::start(), Backend::start());
    let sealed = "secrets = \"gatewaytoken\"\nmax_age = \"off\"\n\
                  aes_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"";
    let text = config(&game, &other).replacen("secrets = \"gatewaytoken\"", sealed, 1);
    let gateway = Gateway::start(&text);
    let token = token(gateway.at.admin);
    let container = json!({ "container_config": {
        "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
        "qbase_container_path": "/c", "text_mode": 2,
    } });
    assert_eq!(tcb(gateway.at.admin, "set", &token, &container)["errcode"], 0);
    let body = r#"{"ToUserName":"gh_1","Encrypt":"j6vsOpBNQ16EYTy8Pn5HPboD3HE7tAdL4GRfHPwTB7+CBwpIwhTPtyAyOQyi09x7AS1Cn77mFYpmq//GvZTuttjRTtoyoQGqdR7PCTQ6AxpJ+qLVuszzhifD6PrVsar4"}"#;
    let query = "timestamp=1700000001&nonce=12341&encrypt_type=aes\
                 &msg_signature=c8d8f7dc96403a920e4d6b23ea8c797f6f7367fc";
    assert_eq!(post(gateway.at.callbacks, &format!("/callback/wx?{query}"), body).status, 200);
    let got = other.await_count(1)[0].clone();
    let expected =
        "<xml><Event><![CDATA[debug_demo]]></Event><MsgType><![CDATA[event]]></MsgType></xml>";
    assert_eq!(String::from_utf8_lossy(&got.body), expected);
}

/// A captured sealed message, sent again with more around it: another writing of its member's name,
/// the cipher text in the query, forged members, names in the query that the message has too.
#[test]
fn nothing_around_a_sealed_message_reaches_the_container() {
    const SEALED: &str = "j6vsOpBNQ16EYTy8Pn5HPboD3HE7tAdL4GRfHPwTB7+CBwpIwhTPtyAyOQyi09x7AS1Cn77mFYpmq//GvZTuttjRTtoyoQGqdR7PCTQ6AxpJ+qLVuszzhifD6PrVsar4";
    const QUERY: &str = "timestamp=1700000001&nonce=12341&encrypt_type=aes\
                         &msg_signature=c8d8f7dc96403a920e4d6b23ea8c797f6f7367fc";
    let evil = r#""MsgType":"event","Event":"evil","MiniGame":{"OrderId":"forged"}"#;
    let tags = "<MsgType>event</MsgType><Event>evil</Event>";
    let cases = [
        ("", format!(r#"{{{evil},"\u0045ncrypt":"{SEALED}"}}"#)),
        ("", format!(r#"{{"\u0045\u006ecrypt" : "{SEALED}",{evil}}}"#)),
        ("", format!("\u{feff} {{{evil},\"Encrypt\":\"{SEALED}\"}}")),
        ("", format!("<xml>{tags}<Encrypt ><![CDATA[{SEALED}]]></Encrypt></xml>")),
        ("", format!("<xml>{tags}<Encrypt a='b'>{SEALED}</Encrypt ></xml>")),
        ("", format!("<!-- --><x>{tags}<Encrypt>{SEALED}</Encrypt></x>")),
        ("&MsgType=1&%45vent=2", format!(r#"{{"Encrypt":"{SEALED}"}}"#)),
        ("&Encrypt=*", format!("{{{evil}}}")),
        ("&%45ncrypt=*", format!("<xml>{tags}</xml>")),
        ("&Encrypt=*", String::new()),
    ];
    let sealed = "secrets = \"gatewaytoken\"\nmax_age = \"off\"\n\
                  aes_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"";
    for mode in [1, 2] {
        for (query, body) in &cases {
            // Each has a store of its own: the message is the same.
            let (game, other) = (Backend::start(), Backend::start());
            let text = config(&game, &other).replacen("secrets = \"gatewaytoken\"", sealed, 1);
            let gateway = Gateway::start(&text);
            let container = json!({ "container_config": {
                "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
                "qbase_container_path": "/c", "text_mode": mode,
            } });
            let token = token(gateway.at.admin);
            assert_eq!(tcb(gateway.at.admin, "set", &token, &container)["errcode"], 0);
            let escaped = SEALED.replace('+', "%2B").replace('/', "%2F");
            let target = format!("/callback/wx?{QUERY}{}", query.replace('*', &escaped));
            let answer = post(gateway.at.callbacks, &target, body);
            assert_eq!(answer.status, 200, "{query} {body}: {}", answer.body);
            let got = other.await_count(1)[0].clone();
            let expected = match mode {
                1 => r#"{"MsgType":"event","Event":"debug_demo"}"#,
                _ => {
                    "<xml><Event><![CDATA[debug_demo]]></Event><MsgType><![CDATA[event]]></MsgType></xml>"
                }
            };
            assert_eq!(String::from_utf8_lossy(&got.body), expected, "{query} {body}");
        }
    }
}

/// A parameter that anybody adds takes no member of a plain message away.
#[test]
fn a_query_takes_nothing_from_a_plain_message() {
    let (game, other) = (Backend::start(), Backend::start());
    let gateway = Gateway::start(&config(&game, &other));
    let token = token(gateway.at.admin);
    let container = json!({ "container_config": {
        "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
        "qbase_container_path": "/c", "text_mode": 1,
    } });
    assert_eq!(tcb(gateway.at.admin, "set", &token, &container)["errcode"], 0);
    let xml = "<xml><FromUserName><![CDATA[o1]]></FromUserName><MsgType>text</MsgType>\
               <Content><![CDATA[a]]></Content><MsgId>7</MsgId></xml>";
    assert_eq!(push_with(gateway.at.callbacks, "&Content=b&%43ontent=c&x=1", xml), 200);
    let got = other.await_count(1)[0].json();
    let whole = json!({ "FromUserName": "o1", "MsgType": "text", "Content": "a", "MsgId": "7" });
    assert_eq!(got, whole);
}

/// Runs the command that `postern sign` prints, and returns the status.
fn run_curl(command: &str) -> String {
    let command =
        format!("{command} -s -o /dev/null -w '%{{http_code}}'").replace("curl -i", "curl");
    let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Elements in one another are objects, in the event and in the container's message, sealed or not.
#[test]
fn elements_in_one_another_reach_the_container_as_such() {
    let scan = "<ScanCodeInfo><ScanType><![CDATA[qr]]></ScanType><ScanResult>1&amp;2</ScanResult>\
                </ScanCodeInfo>";
    let typed = "<Content><![CDATA[<Admin>1</Admin>]]></Content>";
    let xml = format!(
        "<xml><FromUserName><![CDATA[o1]]></FromUserName><MsgType>text</MsgType>{scan}{typed}\
         <MsgId>7</MsgId></xml>"
    );
    let (game, other) = (Backend::start(), Backend::start());
    let sealed = "secrets = \"gatewaytoken\"\n\
                  aes_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"";
    for (secrets, mode) in [("secrets = \"gatewaytoken\"", 1), (sealed, 1), (sealed, 2)] {
        let text = config(&game, &other).replacen("secrets = \"gatewaytoken\"", secrets, 1);
        let gateway = Gateway::start(&text);
        let token = token(gateway.at.admin);
        let container = json!({ "container_config": {
            "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
            "qbase_container_path": "/c", "text_mode": mode,
        } });
        assert_eq!(tcb(gateway.at.admin, "set", &token, &container)["errcode"], 0);
        let signed = json!({ "source": "wx", "parameters": [format!("body={xml}")] });
        let signed = post(gateway.at.admin, "/admin/v1/sign", &signed.to_string()).json();
        // Such a callback may be a reward, so the audit log says who had it signed.
        let entry = get(gateway.at.admin, "/admin/v1/audit").json()["audit"][0].clone();
        assert_eq!((&entry["action"], &entry["name"]), (&json!("signed"), &json!("wx")), "{entry}");
        let curl = signed["local_curl"].as_str().unwrap();
        let curl = curl.replace("127.0.0.1:0", &gateway.at.callbacks.to_string());
        let before = other.got().len();
        assert_eq!(run_curl(&curl), "200", "{signed}");
        let got = other.await_count(before + 1)[before].clone();
        let info = json!({ "ScanType": "qr", "ScanResult": "1&2" });
        if mode == 1 {
            assert_eq!(got.json()["ScanCodeInfo"], info);
            assert_eq!(got.json()["Content"], "<Admin>1</Admin>");
        } else {
            let body = String::from_utf8_lossy(&got.body).into_owned();
            let parts = [
                "<ScanCodeInfo><ScanResult><![CDATA[1&2]]></ScanResult>",
                "<Content><![CDATA[<Admin>1</Admin>]]></Content>",
            ];
            assert!(parts.iter().all(|part| body.contains(part)), "{body}");
        }
    }
}

/// A configuration of an older version, or of a destination that named the app before: not
/// delivered, said, and listed; and delivered when the destination says so.
#[test]
fn what_is_not_the_apps_waits_until_it_is() {
    let (game, other) = (Backend::start(), Backend::start());
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let named = config(&game, &other);
    let gateway = Gateway::over(&named, open());
    let token = token(gateway.at.admin);
    let container = json!({ "container_config": {
        "enable": true, "qbase_env": "test-env-6gni9ity244a6ea3",
        "qbase_container_path": "/internal/admin/grant-all", "text_mode": 1,
    } });
    assert_eq!(tcb(gateway.at.admin, "set", &token, &container)["errcode"], 0);
    assert_eq!(push(gateway.at.callbacks, &message("text", "", 1)), 200);
    assert_eq!(other.await_count(1)[0].line, "POST /internal/admin/grant-all HTTP/1.1");
    gateway.stop();

    let narrower = named.replace("push_path = \"/\"\n", "push_path = \"/wechat\"\n");
    let gateway = Gateway::over(&narrower, open());
    assert_eq!(push(gateway.at.callbacks, &message("text", "", 2)), 200);
    let waits = "/admin/v1/deliveries?state=pending&destination=push/wx0000000000000001";
    let pending = get(gateway.at.admin, waits).json();
    assert_eq!(pending["deliveries"].as_array().unwrap().len(), 1, "{pending}");
    let shown = get(gateway.at.admin, "/admin/v1/destinations/test-env-6gni9ity244a6ea3").json();
    assert_eq!(shown["push_refused"], json!(["wx0000000000000001"]), "{shown}");
    assert!(logged().contains("names a destination that it may not use"));
    assert_eq!(tcb(gateway.at.admin, "set", &token, &container)["errcode"], 40101);
    assert_eq!(other.got().len(), 1, "not delivered");
    // The same over a reload, which takes effect at once.
    gateway.reload(&named);
    assert_eq!(other.await_count(2)[1].json()["MsgId"], 2);
    gateway.reload(&narrower);
    eventually("the app is out of reach", || {
        let shown = get(gateway.at.admin, "/admin/v1/destinations/test-env-6gni9ity244a6ea3");
        shown.json()["push_refused"] == json!(["wx0000000000000001"])
    });
}
