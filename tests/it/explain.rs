//! `postern explain` and `postern check` as processes, as people use them.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::gateway::{Gateway, PLAIN, taku};
use super::wire::{get, post};

const CONFIG: &str = "[server]\npublic_url = \"https://cb.example.com\"\n\
    [[source]]\nname = \"tapjoy\"\nsender = \"tapjoy\"\nsecrets = \"tapjoy-vc-secret\"\n\
    [[source]]\nname = \"bitlabs\"\nsender = \"bitlabs\"\nsecrets = \"bitlabs-app-secret\"\n";

/// Signed by a person who had quotes around the secret.
const QUOTED: &str = "/callback/tapjoy?snuid=u1&currency=25&id=q-1&verifier=";

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("postern.toml"), config).unwrap();
        Self { folder }
    }

    fn run(&self, command: &str, words: &[&str], input: Option<&str>) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg(command)
            .arg("--config")
            .arg(self.folder.path().join("postern.toml"))
            .args(words)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(input) = input {
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    fn explained(&self, words: &[&str], input: Option<&str>) -> Value {
        let all = [&["--json"], words].concat();
        let out = self.run("explain", &all, input);
        let err = String::from_utf8_lossy(&out.stderr);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{words:?}: {err}"))
    }
}

fn md5(text: &str) -> String {
    use md5::{Digest as _, Md5};
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn whatever_was_captured_names_the_source_and_the_mistake() {
    let desk = Desk::with(CONFIG);
    let verifier = md5("q-1:u1:25:\"tapjoy-vc-secret\"");
    let target = format!("{QUOTED}{verifier}");
    let url = format!("https://cb.example.com{target}");
    let line = format!(
        "1.2.3.4 - - [29/Nov/2026:08:00:00 +0000] \"GET {target} HTTP/1.1\" 403 0 \"-\" \"x\"\n"
    );
    let curl = format!("curl '{url}' \\\n  -H 'accept: */*' --compressed");
    let printed = format!("curl -i -X GET '{url}'");
    let cmd = format!("curl ^\"{}^\" ^\n  -H ^\"accept: */*^\"", url.replace('&', "^&"));
    let request = format!("GET {target} HTTP/1.1\r\nHost: cb.example.com\r\n\r\n");
    let query = target.split_once('?').unwrap().1;
    for (words, input) in [
        (vec![url.as_str()], None),
        (vec![target.as_str()], None),
        (vec!["tapjoy", url.as_str()], None),
        (vec![curl.as_str()], None),
        (vec![printed.as_str()], None),
        (vec![cmd.as_str()], None),
        (vec![line.as_str()], None),
        (vec![], Some(line.as_str())),
        (vec!["-"], Some(curl.as_str())),
        (vec!["--request", "-"], Some(request.as_str())),
        (vec!["tapjoy", query], None),
        (vec!["tapjoy"], Some(query)),
    ] {
        let told = desk.explained(&words, input);
        assert_eq!(told["verdict"], "rejected", "{words:?}");
        assert_eq!(told["mistake"]["kind"], "secret_whitespace", "{words:?}: {told}");
        assert_eq!(told["mistake"]["detail"], "secret_quoted", "{words:?}: {told}");
        assert_eq!(told["alternatives"], json!([]));
        assert!(!told.to_string().contains("tapjoy-vc-secret"));
    }
    let out = desk.run("explain", &[query], None);
    assert_eq!(out.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&out.stderr).contains("name the source"), "{out:?}");
    let out = desk.run("explain", &["/callback/tapjoi?x=1"], None);
    assert!(String::from_utf8_lossy(&out.stderr).contains("did you mean tapjoy?"), "{out:?}");
}

#[test]
fn the_base_that_counts_is_the_gateways() {
    let desk = Desk::with(CONFIG);
    let target = "/callback/bitlabs?uid=u1&val=1&tx=s-7&type=COMPLETE&ref=";
    let key = hmac_sha1("bitlabs-app-secret", &format!("https://old.example.com{target}"));
    let told = desk.explained(&[&format!("https://old.example.com{target}&hash={key}")], None);
    assert_eq!(told["mistake"]["detail"], "other_url", "{told}");
    let advice = told["mistake"]["advice"].as_str().unwrap();
    assert!(advice.contains("https://old.example.com/callback/bitlabs"), "{advice}");
    let right = hmac_sha1("bitlabs-app-secret", &format!("https://cb.example.com{target}"));
    let told = desk.explained(&[&format!("http://10.0.0.7{target}&hash={right}")], None);
    assert_eq!(told["verdict"], "verified", "{told}");
}

fn hmac_sha1(key: &str, text: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = <Hmac<sha1::Sha1>>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_api_finds_the_source_too() {
    let gateway = Gateway::start(PLAIN);
    let ask = |question: Value| post(gateway.at.admin, "/admin/v1/explain", &question.to_string());
    let forged = taku("x1").replace("coin", "gold");
    assert_eq!(ask(json!({ "url": taku("x1") })).json()["verdict"], "verified");
    assert_eq!(ask(json!({ "url": forged })).json()["reason"], "bad_signature");
    assert_eq!(ask(json!({ "url": "/callback/absent?a=b" })).status, 404);
    assert_eq!(get(gateway.at.callbacks, &forged).status, 601);
    let list = get(gateway.at.admin, "/admin/v1/rejections").json();
    let id = &list["rejections"][0]["id"];
    assert_eq!(ask(json!({ "rejection": id })).json()["reason"], "bad_signature");
}

/// A large callback has its reason, and no search that would hold up the listener.
#[test]
fn the_api_says_that_a_large_callback_was_not_searched() {
    let gateway = Gateway::start(PLAIN);
    let forged = taku("x1").replace("coin", "gold");
    let url = format!("{forged}&pad={}", "%61+".repeat(200_000));
    let told = post(gateway.at.admin, "/admin/v1/explain", &json!({ "url": url }).to_string());
    assert_eq!(told.status, 200, "{}", told.body);
    let told = told.json();
    assert_eq!(told["reason"], "bad_signature");
    assert_eq!(told["mistake"]["kind"], "unknown");
    assert!(told["mistake"]["advice"].as_str().unwrap().contains("64 KiB"), "{}", told["mistake"]);
}

/// Callers choose the values that an operator reads: none of them may control the terminal.
#[test]
fn a_forged_callback_does_not_control_the_terminal() {
    let desk = Desk::with(CONFIG);
    let odd = "%1b]52;c;eA==%07%c2%9b31m%e2%80%ae%e2%81%a6";
    let url = format!("/callback/tapjoy?snuid={odd}&currency=25&id=q-1&verifier=00");
    let out = desk.run("explain", &[&url], None);
    let shown = String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap();
    assert!(shown.contains("snuid") && shown.contains("]52;c;eA=="), "{shown:?}");
    let controls = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{2066}'];
    assert!(!shown.contains(controls), "{shown:?}");
    let out = desk.run("explain", &["--json", &url], None);
    let json = String::from_utf8(out.stdout).unwrap();
    assert!(!json.contains(controls), "{json:?}");
    let told: Value = serde_json::from_str(&json).unwrap();
    let value = told["parameters"][0]["value"].as_str().unwrap();
    assert_eq!(value, "\u{1b}]52;c;eA==\u{7}\u{9b}31m\u{202e}\u{2066}");
}

/// The API says of a path what the command says on its error output.
#[test]
fn the_api_says_that_a_path_is_lost_too() {
    let gateway = Gateway::start(PLAIN);
    let ask = |question: Value| post(gateway.at.admin, "/admin/v1/explain", &question.to_string());
    let right = ask(json!({ "url": taku("x1") })).json();
    assert_eq!((&right["verdict"], &right["note"]), (&json!("verified"), &Value::Null));
    let slash = ask(json!({ "url": taku("x1").replace("level-end?", "level-end/?") })).json();
    assert_eq!(slash["verdict"], "verified");
    let note = slash["note"].as_str().unwrap();
    assert!(note.contains("404") && note.ends_with("/callback/level-end"), "{note}");
}

#[test]
fn strict_turns_warnings_into_errors() {
    let desk = Desk::with(CONFIG);
    let out = desk.run("check", &[], None);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(err.contains("is a secret in clear, and so are source[bitlabs].secrets"), "{err}");
    assert!(!err.contains("tapjoy-vc-secret"));
    let out = desk.run("check", &["--strict"], None);
    assert_eq!(out.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&out.stderr).contains("--strict"));
    let refused = Desk::with(&CONFIG.replace("\"tapjoy-vc-secret\"", "\"${TAPJOY}\""));
    let out = refused.run("check", &[], None);
    assert_eq!(out.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&out.stderr).contains("write \"env:NAME\""), "{out:?}");
}
