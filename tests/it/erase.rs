//! A user's data is erased: it is in no file of the store, and the transactions stay known.

use std::path::Path;
use std::{fs, process::Command};

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::backend::Backend;
use super::deliver::{tries, with};
use super::gateway::{Gateway, eventually, taku_for};
use super::wire::{get, give_token, post};

/// The user whose data is erased. No other text holds it.
const GONE: &str = "user-to-be-erased-7f3a";

/// Files below `folder` that hold `text`.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn an_erased_user_is_in_no_file_and_the_transactions_stay_known() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let backend = Backend::start();
    let mut options = EmbeddedOptions::new(&data);
    options.segment_bytes = 256 << 10;
    let text = with(&[("game", tries(backend.at, 3))]);
    let gateway = Gateway::over(&text, Embedded::open(options).unwrap());
    let call = |user: &str, transaction: &str| {
        get(gateway.at.callbacks, &taku_for(user, transaction, "10")).status
    };
    for n in 0..40 {
        assert_eq!(call(GONE, &format!("g{n}")), 200);
        assert_eq!(call("another-user", &format!("s{n}")), 200);
    }
    // Its rejected callbacks are samples.
    let forged = taku_for(GONE, "f1", "10").replace("coin", "gold");
    assert_eq!(get(gateway.at.callbacks, &forged).status, 601);
    backend.await_count(80);
    eventually("settled", || {
        gateway.metric("postern_delivery_backlog{destination=\"game\"}") == 0.0
    });
    eventually("a sample", || {
        let listed = get(gateway.at.admin, "/admin/v1/rejections").json();
        listed["rejections"].as_array().is_some_and(|all| all.len() == 1)
    });
    assert!(!files_with(&data, GONE).is_empty(), "the test looks in the right place");

    let of_one = json!({ "user": "of-none", "source": "level-end" }).to_string();
    assert_eq!(post(gateway.at.admin, "/admin/v1/erase", &of_one).status, 200);
    let entry = get(gateway.at.admin, "/admin/v1/audit").json()["audit"][0].clone();
    assert_eq!(entry["changes"]["source"], json!([null, "level-end"]), "{entry}");
    let order = json!({ "user": GONE }).to_string();
    let answer = post(gateway.at.admin, "/admin/v1/erase", &order);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let erased = answer.json();
    assert_eq!((&erased["events"], &erased["deliveries"]), (&json!(40), &json!(0)), "{erased}");
    assert_eq!(erased["held"], 1, "{erased}");
    let listed = |path: &str| get(gateway.at.admin, path).json();
    let of_user = format!("/admin/v1/events?user={GONE}");
    assert_eq!(listed(&of_user)["events"], json!([]));
    assert_eq!(
        listed("/admin/v1/events?user=another-user&limit=100")["events"].as_array().unwrap().len(),
        40
    );
    assert_eq!(listed("/admin/v1/rejections")["rejections"], json!([]));
    let entry = &listed("/admin/v1/audit")["audit"][0];
    assert_eq!((&entry["action"], &entry["kind"]), (&json!("erased"), &json!("user")));
    assert!(entry["name"].as_str().unwrap().starts_with("sha256-"), "{entry}");
    eventually("no file holds it", || files_with(&data, GONE).is_empty());

    // A repetition is a duplicate, and makes no event.
    assert_eq!(call(GONE, "g0"), 200);
    assert_eq!(gateway.outcomes("duplicate"), 1.0);
    assert_eq!(listed(&of_user)["events"], json!([]));
    let again = post(gateway.at.admin, "/admin/v1/erase", &order).json();
    assert_eq!(again["events"], 0);
    let bad = post(gateway.at.admin, "/admin/v1/erase", r#"{"user":""}"#);
    assert_eq!(bad.status, 400, "{}", bad.body);
    let array = post(gateway.at.admin, "/admin/v1/erase", &json!([GONE, null]).to_string());
    assert_eq!(array.status, 400, "{}", array.body);
    gateway.stop();
    let gateway = Gateway::over(&text, Embedded::open(EmbeddedOptions::new(&data)).unwrap());
    assert_eq!(get(gateway.at.callbacks, &taku_for(GONE, "g1", "10")).status, 200);
    assert_eq!(gateway.outcomes("duplicate"), 1.0, "also after a restart");
}

#[test]
fn the_command_erases_at_a_gateway_and_in_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    let data = folder.path().join("postern-data");
    let gateway =
        Gateway::over(super::gateway::PLAIN, Embedded::open(EmbeddedOptions::new(&data)).unwrap());
    for n in 0..3 {
        get(gateway.at.callbacks, &taku_for(GONE, &format!("c{n}"), "10"));
    }
    let admin = format!("admin = \"{}\"", gateway.at.admin);
    let text = super::gateway::PLAIN.replace("admin = \"127.0.0.1:0\"", &admin);
    fs::write(&config, text).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["erase", "--config"])
            .arg(&config)
            .args(["--user", GONE, "--yes"])
            .args(args)
            .output()
            .unwrap();
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    give_token_in(gateway.at.admin, &data);
    let (code, said) = run(&["--source", "level-end"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said, "erased: 3 events, 0 kept callbacks; 0 unsettled deliveries dropped\n");
    let (code, said) = run(&["--source", "levle-end"]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("did you mean level-end?"), "{said}");
    get(gateway.at.callbacks, &taku_for(GONE, "c9", "10"));
    gateway.stop();
    let (code, said) = run(&["--json"]);
    assert_eq!(code, Some(0), "{said}");
    let erased: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(erased, json!({ "events": 1, "deliveries": 0, "held": 0 }));
    assert_eq!(files_with(&data, GONE), Vec::<String>::new());
}

/// As [`give_token`], into a folder that exists.
fn give_token_in(admin: std::net::SocketAddr, data: &Path) {
    let other = data.with_extension("token");
    give_token(admin, &other);
    fs::rename(other.join("admin-token"), data.join("admin-token")).unwrap();
}
