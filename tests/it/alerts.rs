//! Alerts: each channel against a server of its kind, and each condition once.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::backend::{self, Backend, Got};
use super::deliver::whsec;
use super::gateway::{Gateway, PLAIN, eventually, taku};
use super::wire::get;

const KEY: &[u8; 32] = b"alerts-key-0123456789-0123456789";

fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// Runs `postern alert test` with a configuration that has one alert called `oncall`.
fn test(alert: &str, variables: &[(&str, &Path)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, format!("{PLAIN}[[alert]]\nname = \"oncall\"\n{alert}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.args(["alert", "test", "--config"]).arg(&config).arg("oncall");
    command.envs(variables.iter().map(|(name, value)| (name, value))).output().unwrap()
}

/// The one request of a test alert that was sent.
fn sent(alert: &str, to: &Backend) -> Got {
    let output = test(alert, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let got = to.got();
    assert_eq!(got.len(), 1);
    assert!(got[0].header("content-type").starts_with("application/json"));
    got[0].clone()
}

/// The error of a test alert that was not sent.
fn refused(alert: &str) -> String {
    let output = test(alert, &[]);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn slack_gets_a_text() {
    let slack = Backend::start();
    let alert = format!("type = \"slack\"\nurl = \"http://{}/services/T0/B0/x\"\n", slack.at);
    let got = sent(&alert, &slack);
    assert_eq!(got.line, "POST /services/T0/B0/x HTTP/1.1");
    let text = got.json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("[Postern] ") && text.contains("/console"), "{text}");
    assert_eq!(got.json().as_object().unwrap().len(), 1);
    slack.says(backend::Say::Status(403, "", String::from("invalid_token")));
    let said = refused(&alert);
    assert!(said.contains("403") && !said.contains("services"), "{said}");
}

#[test]
fn feishu_gets_a_text_with_time_and_signature_in_the_body() {
    let feishu = Backend::saying([backend::body(r#"{"code":0,"msg":"success","data":{}}"#)]);
    let url = format!("type = \"feishu\"\nurl = \"http://{}/hook/1\"\n", feishu.at);
    let alert = format!("{url}secret = \"bot-secret\"\nlanguage = \"zh\"\n");
    let got = sent(&alert, &feishu).json();
    assert_eq!(got["msg_type"], "text");
    assert!(got["content"]["text"].as_str().unwrap().contains("测试消息"), "{got}");
    let timestamp = got["timestamp"].as_str().unwrap();
    assert_eq!(timestamp.len(), 10, "seconds");
    assert_eq!(got["sign"], hmac(format!("{timestamp}\nbot-secret").as_bytes(), b""));
    feishu.says(backend::body(r#"{"code":19021,"msg":"sign match fail"}"#));
    assert!(refused(&alert).contains("19021"));
}

#[test]
fn dingtalk_gets_a_text_with_time_and_signature_in_the_query() {
    let dingtalk = Backend::saying([backend::body(r#"{"errcode":0,"errmsg":"ok"}"#)]);
    let url = format!("http://{}/robot/send?access_token=t0", dingtalk.at);
    let alert = format!("type = \"dingtalk\"\nurl = \"{url}\"\nsecret = \"SEC0\"\n");
    let got = sent(&alert, &dingtalk);
    let body = got.json();
    assert_eq!(body["msgtype"], "text");
    assert!(body["text"]["content"].as_str().unwrap().contains("this is a test"), "{body}");
    let target = got.line.split(' ').nth(1).unwrap().to_owned();
    let query = target.strip_prefix("/robot/send?access_token=t0&timestamp=").unwrap();
    let (timestamp, sign) = query.split_once("&sign=").unwrap();
    assert_eq!(timestamp.len(), 13, "milliseconds");
    let sign = sign.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
    assert_eq!(sign, hmac(b"SEC0", format!("{timestamp}\nSEC0").as_bytes()));
    dingtalk.says(backend::body(r#"{"errcode":310000,"errmsg":"sign not match"}"#));
    let said = refused(&alert);
    assert!(said.contains("310000") && !said.contains("t0"), "{said}");
}

#[test]
fn wecom_gets_a_text() {
    let wecom = Backend::saying([backend::body(r#"{"errcode":0,"errmsg":"ok"}"#)]);
    let url = format!("http://{}/cgi-bin/webhook/send?key=k0", wecom.at);
    let alert = format!("type = \"wecom\"\nurl = \"{url}\"\nlanguage = \"zh\"\n");
    let got = sent(&alert, &wecom);
    assert_eq!(got.line, "POST /cgi-bin/webhook/send?key=k0 HTTP/1.1");
    assert_eq!(got.json()["msgtype"], "text");
    assert!(got.json()["text"]["content"].as_str().unwrap().contains("测试消息"));
    wecom.says(backend::body("<html>"));
    assert!(refused(&alert).contains("another form"));
}

/// The signature of a webhook, as Standard Webhooks defines it.
fn check_signature(got: &Got) {
    let id = got.header("webhook-id");
    let stamp = got.header("webhook-timestamp");
    let signed = [id.as_bytes(), b".", stamp.as_bytes(), b".", &got.body].concat();
    assert_eq!(got.header("webhook-signature"), format!("v1,{}", hmac(KEY, &signed)));
    assert!(id.starts_with("alt_"), "{id}");
}

#[test]
fn a_webhook_is_signed_as_events_are() {
    let webhook = Backend::start();
    let alert = format!("url = \"http://{}/\"\nsecret = \"{}\"\n", webhook.at, whsec(KEY));
    let got = sent(&alert, &webhook);
    check_signature(&got);
    assert_eq!(got.json()["alert"], "test");
    let nowhere =
        format!("url = \"http://{}/secret\"\nsecret = \"{}\"\n", Backend::nowhere(), whsec(KEY));
    let said = refused(&nowhere);
    assert!(said.contains("not reachable") && !said.contains("secret"), "{said}");
}

// === E-mail ===

struct MailServer {
    child: Child,
    port: String,
    messages: std::io::Lines<BufReader<std::process::ChildStdout>>,
    folder: tempfile::TempDir,
}

/// The Python that has aiosmtpd; `scripts/setup` sees to it.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/tools/smtp/bin/python");
    let has_it = || {
        let asked = Command::new(&python).args(["-c", "import aiosmtpd"]).output();
        asked.is_ok_and(|asked| asked.status.success())
    };
    if !has_it() {
        let setup = Command::new(root.join("scripts/setup")).arg("smtp").output().unwrap();
        assert!(has_it(), "{}", String::from_utf8_lossy(&setup.stderr));
    }
    python
}

impl MailServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec![String::from("localhost")]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/smtp_server.py");
        let mut command = Command::new(python());
        command.arg(script).arg(cert).arg(key).args(["ops", "p:w/d"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut messages = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = messages.next().unwrap().unwrap();
        Self { child, port, messages, folder }
    }

    fn alert(&self, account: &str) -> String {
        let url = format!("smtp://{account}localhost:{}/?from=postern%40game.example", self.port);
        format!(
            "type = \"email\"\nurl = \"{url}\"\nto = [\"a@game.example\", \"b@game.example\"]\n"
        )
    }

    fn trusted(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_email_is_sent_over_tls_with_the_account() {
    let mut server = MailServer::start();
    let cert = server.trusted();
    let trusted = [("SSL_CERT_FILE", cert.as_path())];
    let alert = server.alert("ops:p%3Aw%2Fd@") + "language = \"zh\"\n";
    let output = test(&alert, &trusted);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mail: Value = serde_json::from_str(&server.messages.next().unwrap().unwrap()).unwrap();
    assert_eq!(mail["to"], json!(["a@game.example", "b@game.example"]));
    assert_eq!((&mail["tls"], &mail["authenticated"]), (&json!(true), &json!(true)));
    assert_eq!(mail["from"], "postern@game.example");
    assert!(mail["subject"].as_str().unwrap().contains("测试消息"), "{mail}");
    assert!(mail["text"].as_str().unwrap().contains("/console"), "{mail}");
    assert!(mail["date"].is_string() && mail["id"].as_str().unwrap().starts_with("<alt_"));

    let wrong = test(&server.alert("ops:wrong@"), &trusted);
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("535") && !said.contains("wrong"), "{said}");
    // A certificate of an unknown authority is not accepted.
    let outsider = refused(&server.alert("ops:p%3Aw%2Fd@"));
    assert!(outsider.contains("ertificate"), "{outsider}");
}

// === Conditions ===

/// 1. The backend answers 401 from the first delivery on: an alert opens, once.
/// 2. The event is dead-lettered: another opens.
/// 3. The backend takes deliveries again: the first one closes, once.
#[test]
fn a_destination_that_fails_is_told_once_and_its_recovery_once() {
    let (backend, operators) = (Backend::start(), Backend::start());
    backend.says(backend::status(401));
    let text = format!(
        "{PLAIN}destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n\
         secret = \"{}\"\nretry = {{ first = \"50ms\", max = \"50ms\", attempts = 3 }}\n\
         [[alert]]\nname = \"oncall\"\nurl = \"http://{}/hook\"\nsecret = \"{}\"\n\
         on = [\"failing\", \"dead\"]\nremind = \"30d\"\n",
        backend.at,
        whsec(KEY),
        operators.at,
        whsec(KEY),
    );
    let gateway = Gateway::start(&text);
    assert_eq!(get(gateway.at.callbacks, &taku("a1")).status, 200);
    let got = operators.await_count(2);
    let of = |got: &[Got], alert: &str| -> Vec<Value> {
        let all = got.iter().map(Got::json);
        all.filter(|one| one["alert"] == alert).collect()
    };
    got.iter().for_each(check_signature);
    let failing = &of(&got, "failing")[0];
    assert_eq!((&failing["state"], &failing["destination"]), (&json!("open"), &json!("game")));
    assert!(failing["text"].as_str().unwrap().contains("status 401"), "{failing}");
    assert!(failing["since"].as_str().unwrap().ends_with('Z'), "{failing}");
    assert_eq!(of(&got, "dead")[0]["destination"], "game");
    for one in &got {
        let one = one.json();
        let base = format!("http://{}", gateway.at.admin);
        let page = one["url"].as_str().unwrap().strip_prefix(&base).unwrap().to_owned();
        assert_eq!(get(gateway.at.admin, &page).status, 200, "{page}");
    }
    gateway.await_metric("postern_alerts_open{alert=\"failing\"}", 1.0);
    backend.says(backend::ok());
    assert_eq!(get(gateway.at.callbacks, &taku("a2")).status, 200);
    let got = operators.await_count(3);
    let closed = &got[2].json();
    assert_eq!((&closed["alert"], &closed["state"]), (&json!("failing"), &json!("closed")));
    assert_eq!(closed["since"], failing["since"]);
    gateway.await_metric("postern_alerts_open{alert=\"failing\"}", 0.0);
    let ids: std::collections::BTreeSet<&str> =
        got.iter().map(|one| one.header("webhook-id")).collect();
    assert_eq!((ids.len(), operators.got().len()), (3, 3), "each once");
}

/// An alert stays open over a restart, and is not told again.
#[test]
fn a_wrong_secret_is_told_and_a_restart_does_not_tell_it_again() {
    use postern::ledger::{Memory, StoreClock};
    let operators = Backend::start();
    operators.says(backend::status(500));
    let text = format!(
        "{PLAIN}[[alert]]\nname = \"restarted\"\ntype = \"slack\"\nurl = \"http://{}/\"\n\
         on = \"refusals\"\n",
        operators.at
    );
    let ledger = Memory::new(StoreClock::process());
    let gateway = Gateway::over(&text, ledger.clone());
    for n in 0..12 {
        let forged = taku(&format!("r{n}")).replace("sign=", "sign=0");
        get(gateway.at.callbacks, &forged);
    }
    // The channel is down at first: the alert is sent when it is back, by the next gateway.
    operators.await_count(1);
    gateway.stop();
    operators.says(backend::ok());
    let gateway = Gateway::over(&text, ledger.clone());
    let got = operators.await_count(2);
    let text_of = |got: &Got| got.json()["text"].as_str().unwrap().to_owned();
    assert!(text_of(&got[1]).contains("rejected 12 of 12 callbacks"), "{:?}", text_of(&got[1]));
    assert!(text_of(&got[1]).contains("callbacks?source=level-end&amp;outcome=rejected"));
    eventually("it is noted", || {
        let lines = super::gateway::logged();
        lines.lines().any(|line| line.contains("\"alert sent\"") && line.contains("\"restarted\""))
    });
    gateway.stop();
    let gateway = Gateway::over(&text, ledger);
    gateway.await_metric("postern_alerts_open{alert=\"refusals\"}", 1.0);
    assert_eq!(operators.got().len(), 2, "told once");
}
