//! The counts of a gateway outlive it: an orderly stop, and signal 9.

use super::backend::{self, Backend};
use super::gateway::{Gateway, PLAIN, eventually, logged, taku};
use super::kill::Process;
use super::wire::get;

/// The source as the admin API shows it.
fn source(gateway: &Process) -> serde_json::Value {
    serde_json::from_str(&get(gateway.admin, "/admin/v1/sources/level-end").body).unwrap()
}

#[test]
fn counts_outlive_a_stop_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, PLAIN).unwrap();
    let gateway = Process::start(&config);
    assert_eq!(source(&gateway)["last_callback_at"], serde_json::Value::Null);
    for n in 0..3 {
        assert_eq!(get(gateway.callbacks, &taku(&format!("c{n}"))).status, 200);
    }
    get(gateway.callbacks, &taku("c9").replace("sign=", "sign=0"));
    gateway.stop();

    let gateway = Process::start(&config);
    let expected = serde_json::json!([{ "accepted": 3, "rejected": 1 }, { "bad_signature": 1 }]);
    let counts = |gateway: &Process| {
        let source = source(gateway);
        serde_json::json!([source["counts"], source["rejections"]])
    };
    eventually("the counts go on", || counts(&gateway) == expected);
    let last = source(&gateway)["last_callback_at"].clone();
    let page = get(gateway.admin, "/metrics").body;
    assert!(page.contains("postern_last_callback_seconds{source=\"level-end\"} "), "{page}");
    let overview = get(gateway.admin, "/console/overview/live").body;
    assert!(overview.contains("bad_signature"), "{overview}");

    // After a kill, what was counted up to the last record is there.
    assert_eq!(get(gateway.callbacks, &taku("c3")).status, 200);
    let file = folder.path().join("postern-data/gateway");
    let written = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let before = written();
    eventually("a record is written", || written() > before);
    gateway.kill();
    let gateway = Process::start(&config);
    eventually("the counts go on", || counts(&gateway)[0]["accepted"] == 4);
    assert_ne!(source(&gateway)["last_callback_at"], last);
}

/// 1. The backend answers 401: one warning, with the status and the time of the next attempt.
/// 2. It goes on to, under load: no line for each attempt.
/// 3. It answers 200: one line says so.
#[test]
fn a_destinations_failure_is_logged_when_it_begins_and_when_it_ends() {
    let backend = Backend::start();
    backend.says(backend::status(401));
    let text = format!(
        "{PLAIN}destinations = [\"refuses\"]\n[[destination]]\nname = \"refuses\"\n\
         url = \"http://{}/\"\nretry = {{ first = \"50ms\", max = \"50ms\", attempts = 10000 }}\n\
         secret = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"\n",
        backend.at
    );
    let gateway = Gateway::start(&text);
    for n in 0..5 {
        assert_eq!(get(gateway.at.callbacks, &taku(&format!("w{n}"))).status, 200);
    }
    backend.await_count(40);
    let about = |what: &str| -> Vec<serde_json::Value> {
        let lines = logged();
        let lines = lines.lines().filter(|line| line.contains("\"refuses\""));
        let lines = lines.filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &serde_json::Value| line["message"] == what).collect()
    };
    let begun = about("destination fails");
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!((&begun[0]["level"], &begun[0]["status"]), (&"WARN".into(), &401.into()));
    assert!(begun[0]["next_attempt_ms"].as_u64().unwrap() >= 50, "{begun:?}");
    assert!(about("destination still fails").len() <= 1, "at most one a minute");
    backend.says(backend::ok());
    eventually("it recovers", || !about("destination recovered").is_empty());
    let ended = about("destination recovered");
    assert_eq!((ended.len(), &ended[0]["level"]), (1, &"INFO".into()));
    assert!(ended[0]["failures"].as_u64().unwrap() >= 40, "{ended:?}");
}
