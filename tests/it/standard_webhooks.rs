//! Deliveries to backends, verified by the library of the Standard Webhooks project.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::backend::{Backend, Got};
use super::deliver::{KEY, OLD_KEY, game, whsec, with};
use super::gateway::{Gateway, taku_for};
use super::wire::get;

/// Reads secrets, headers and bodies, one JSON a line, and says what the library thinks of each.
const VERIFY: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
for line in sys.stdin:
    asked = json.loads(line)
    try:
        print("verified", Webhook(asked["secret"]).verify(asked["body"], asked["headers"])["id"])
    except WebhookVerificationError as error:
        print("refused", error)
"#;

/// The Python that has the library; `scripts/setup` sees to it.
fn python() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/tools/webhooks/bin/python");
    let has_it = || {
        let asked = Command::new(&python).args(["-c", "import standardwebhooks"]).output();
        asked.is_ok_and(|asked| asked.status.success())
    };
    if !has_it() {
        let setup = Command::new(root.join("scripts/setup")).arg("webhooks").output().unwrap();
        assert!(has_it(), "{}", String::from_utf8_lossy(&setup.stderr));
    }
    python
}

fn verified(asked: &[Value]) -> Vec<String> {
    let mut child = Command::new(python())
        .args(["-c", VERIFY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for one in asked {
        writeln!(input, "{one}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn asked(got: &Got, key: &[u8]) -> Value {
    let field = |name: &str| (name.to_owned(), json!(got.header(name)));
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: serde_json::Map<_, _> = names.into_iter().map(field).collect();
    json!({ "secret": whsec(key), "headers": headers, "body": String::from_utf8(got.body.clone()).unwrap() })
}

#[test]
fn the_library_of_the_standard_takes_what_is_sent_and_nothing_else() {
    let backend = Backend::start();
    let both = format!("secret = [\"{}\", \"{}\"]", whsec(KEY), whsec(OLD_KEY));
    let one = format!("secret = \"{}\"", whsec(KEY));
    let gateway = Gateway::start(&with(&[("game", game(backend.at).replace(&one, &both))]));
    let target = taku_for("%C3%A9%22%5C%0A", "w1", "10");
    assert_eq!(get(gateway.at.callbacks, &target).status, 200);
    let got = &backend.await_count(1)[0];
    let id = got.header("webhook-id");

    let genuine = asked(got, KEY);
    let mut altered = genuine.clone();
    altered["body"] = json!(genuine["body"].as_str().unwrap().replace("\"10\"", "\"11\""));
    let mut another_time = genuine.clone();
    another_time["headers"]["webhook-timestamp"] = json!("1700000000");
    let mut another_id = genuine.clone();
    another_id["headers"]["webhook-id"] = json!("evt_00000000000000000000000000000000");
    let stranger = asked(got, b"a key that was given to no one");
    let old = asked(got, OLD_KEY);

    let said = verified(&[genuine, old, altered, another_time, another_id, stranger]);
    assert_eq!(said.len(), 6, "{said:?}");
    assert_eq!(said[..2], [format!("verified {id}"), format!("verified {id}")]);
    assert!(said[2..].iter().all(|word| word.starts_with("refused")), "{said:?}");
}
