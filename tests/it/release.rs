//! Quarantine and release: a wrong secret, mended, loses no callback and delivers none that is
//! forged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::backend::{Backend, ok};
use super::deliver::{game, with};
use super::gateway::{Gateway, TAKU_SECRET, eventually, taku, taku_for};
use super::kill::Process;
use super::wire::{get, post, send};

const WRONG: &str = "zyxwvutsrqponmlkjihgfedcba987654";
const QUARANTINE: &str = "quarantine = { reasons = \"all\", max = \"64MiB\" }\n";

/// A source with a quarantine and the backend `game`, under that secret.
fn text(backend: &Backend, secret: &str) -> String {
    let text = with(&[("game", game(backend.at))]);
    text.replace("secrets =", &format!("{QUARANTINE}secrets =")).replace(TAKU_SECRET, secret)
}

fn held(admin: std::net::SocketAddr) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(admin, &format!("/admin/v1/held?limit=1000{cursor}")).json();
        all.extend(page["held"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return all };
        cursor = format!("&cursor={next}");
    }
}

/// Orders a release and waits for its end.
fn release(admin: std::net::SocketAddr, order: &Value) -> Value {
    let begun = post(admin, "/admin/v1/release", &order.to_string());
    assert_eq!(begun.status, 202, "{}", begun.body);
    let mut now = begun.json();
    let id = now["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("rel_") && id.len() == 36, "{id}");
    eventually("the release has ended", || {
        now = get(admin, &format!("/admin/v1/release/{id}")).json();
        now["state"] != "running"
    });
    now
}

fn counts(progress: &Value) -> [u64; 4] {
    ["seen", "released", "duplicates", "refused"].map(|key| progress[key].as_u64().unwrap())
}

#[test]
fn a_mended_secret_releases_what_was_rejected_and_nothing_else() {
    let backend = Backend::saying(std::iter::repeat_with(ok).take(20));
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(&text(&backend, WRONG), open());
    let to = gateway.at.callbacks;
    for n in 0..3 {
        assert_eq!(get(to, &taku_for("u1", &format!("m{n}"), "10")).status, 601);
    }
    // A retry that differs in what is not signed, and a forged one.
    assert_eq!(get(to, &(taku_for("u1", "m0", "10") + "&try=2")).status, 601);
    assert_eq!(get(to, &taku("forged").replace("coin", "gold")).status, 601);
    let before = held(gateway.at.admin);
    assert_eq!(before.len(), 5);
    let order = json!({ "source": "level-end" });
    // Nothing verifies yet.
    assert_eq!(counts(&release(gateway.at.admin, &order)), [5, 0, 0, 5]);
    gateway.stop();

    let gateway = Gateway::over(&text(&backend, TAKU_SECRET), open());
    let admin = gateway.at.admin;
    // A retry came in the meantime, and is recorded.
    assert_eq!(get(gateway.at.callbacks, &taku_for("u1", "m2", "10")).status, 200);
    backend.await_count(1);
    let dry = release(admin, &json!({ "source": "level-end", "dry_run": true }));
    assert_eq!((counts(&dry), &dry["dry_run"]), ([5, 3, 1, 1], &json!(true)));
    assert_eq!(held(admin), before, "and nothing changed");
    let none = json!({ "source": "level-end", "reasons": ["stale"] });
    assert_eq!(counts(&release(admin, &none)), [0, 0, 0, 0]);
    let one = json!({ "source": "level-end", "ids": [before[3]["id"]] });
    assert_eq!(counts(&release(admin, &one)), [1, 1, 0, 0]);
    let done = release(admin, &order);
    assert_eq!((counts(&done), &done["state"]), ([4, 1, 2, 1], &json!("done")));
    // The account has what this order released, and no more.
    let path = format!("/admin/v1/release/{}", done["id"].as_str().unwrap());
    eventually("it is delivered", || {
        let outcome = &get(admin, &path).json()["outcome"];
        (&outcome["delivered"], &outcome["pending"]) == (&json!(1), &json!(0))
    });
    assert_eq!(dry["outcome"], Value::Null);
    assert_eq!(
        counts(&release(admin, &order)),
        [1, 0, 0, 1],
        "what is given again repeats nothing"
    );

    let got = backend.await_count(3);
    let mut events: BTreeMap<String, Value> = BTreeMap::new();
    for one in &got {
        let event = one.json();
        events.insert(event["transaction"].as_str().unwrap().to_owned(), event);
    }
    assert_eq!(events.keys().collect::<Vec<_>>(), ["m0", "m1", "m2"]);
    for transaction in ["m0", "m1"] {
        let event = &events[transaction];
        assert_eq!((&event["released"], &event["user"]), (&json!(true), &json!("u1")));
        let own = |one: &&Value| one["transaction"] == transaction;
        let receipts = before.iter().filter(own).map(|one| &one["received_at"]);
        assert!(receipts.clone().any(|at| *at == event["received_at"]), "{event}");
        assert!(event["authenticated"].as_array().unwrap().contains(&json!("transaction")));
        let members: Vec<&String> = event.as_object().unwrap().keys().collect();
        assert!(members.contains(&&"released".to_owned()), "{members:?}");
    }
    assert_eq!(events["m2"].get("released"), None);
    let left = held(admin);
    assert_eq!((left.len(), &left[0]["transaction"]), (1, &json!("forged")));
    assert_eq!(gateway.metric("postern_released_total{source=\"level-end\"}"), 2.0);
    // The audit log has the orders, and the dry one not.
    let audit = get(admin, "/admin/v1/audit").json();
    let orders = audit["audit"].as_array().unwrap();
    let orders: Vec<&Value> = orders.iter().filter(|entry| entry["kind"] == "release").collect();
    assert_eq!(orders.len(), 5, "{audit}");
    // Newest first: each with its filter.
    assert_eq!(orders[0]["changes"], json!({ "source": [null, "level-end"] }));
    assert_eq!(orders[2]["changes"]["ids"], json!([null, [before[3]["id"]]]));
    assert_eq!(orders[3]["changes"]["reasons"], json!([null, ["stale"]]));
    gateway.stop();
    is_kept(Gateway::over(&text(&backend, TAKU_SECRET), open()).at.admin, &path, &done);
}

/// After a restart a release has its account, and there is nothing to cancel.
fn is_kept(admin: std::net::SocketAddr, path: &str, done: &Value) {
    let after = get(admin, path).json();
    assert_eq!((counts(&after), &after["state"]), (counts(done), &json!("done")));
    assert_eq!((&after["disputed"], &after["outcome"]["delivered"]), (&json!(0), &json!(1)));
    let cancelled = send(admin, &format!("DELETE {path}"), &[], "");
    assert_eq!((cancelled.status, cancelled.json()), (200, after));
}

#[test]
fn what_stays_has_its_new_reason_and_one_is_granted_for_a_reason() {
    let backend = Backend::saying([ok(), ok()]);
    let wrong = text(&backend, WRONG);
    let gateway = Gateway::start(&wrong);
    let (to, admin) = (gateway.at.callbacks, gateway.at.admin);
    assert_eq!(get(to, &taku_for("u1", "g1", "10")).status, 601);
    assert_eq!(get(to, &taku_for("u2", "g2", "10").replace("coin", "gold")).status, 601);
    // The secret is right now, and the reward is not what the table says.
    let pinned =
        text(&backend, TAKU_SECRET).replace("secrets =", "rewards = { coin = 5 }\nsecrets =");
    gateway.reload(&pinned);
    eventually("the source has changed", || get(to, &taku_for("u9", "other", "5")).status == 200);
    // The polling request may have been rejected at first: it is a duplicate now.
    let progress = release(admin, &json!({ "source": "level-end" }));
    let [seen, released, duplicates, refused] = counts(&progress);
    assert_eq!((released, refused, seen - duplicates), (0, 2, 2));
    let waiting = held(admin);
    let by = |transaction: &str| {
        waiting.iter().find(|one| one["transaction"] == transaction).unwrap().clone()
    };
    assert_eq!(by("g1")["reason"], "pinned_reward");
    assert_eq!(by("g2")["reason"], "bad_signature");
    let listed = get(admin, "/admin/v1/rejections?reason=pinned_reward").json();
    assert_eq!(listed["rejections"].as_array().unwrap().len(), 1);

    let id = by("g2")["id"].as_str().unwrap().to_owned();
    let path = format!("/admin/v1/held/{id}/release");
    assert_eq!(post(admin, &path, "").status, 422);
    assert_eq!(post(admin, &path, r#"{"reason":"  "}"#).status, 422);
    let granted = post(admin, &path, r#"{"reason":"the platform confirms g2"}"#);
    assert_eq!((granted.status, &granted.json()["decision"]), (200, &json!("released")));
    assert_eq!(post(admin, &path, r#"{"reason":"again"}"#).json(), granted.json());
    assert_eq!(post(admin, &path.replace("/release", "/drop"), "").status, 409);
    let got = backend.await_count(2);
    let event =
        got.iter().map(super::backend::Got::json).find(|one| one["transaction"] == "g2").unwrap();
    assert_eq!((&event["authenticated"], &event["released"]), (&json!([]), &json!(true)));
    assert_eq!((&event["item"], &event["id"]), (&json!("gold"), &granted.json()["event"]));
    assert_eq!(event["received_at"], by("g2")["received_at"]);
    let audit = get(admin, "/admin/v1/audit").json();
    let entry =
        audit["audit"].as_array().unwrap().iter().find(|entry| entry["name"] == id.as_str());
    let entry = entry.unwrap_or_else(|| panic!("{audit}"));
    assert_eq!(entry["action"], "released");
    assert_eq!(
        entry["changes"],
        json!({
            "reason": [null, "the platform confirms g2"], "why": [null, "quarantine"],
            "rejected_for": [null, "bad_signature"], "source": [null, "level-end"],
            "transaction": [null, "g2"], "user": [null, "u2"],
        })
    );
    // The verified callback's transaction is known, with another item.
    gateway.reload(&text(&backend, TAKU_SECRET));
    eventually("the table is gone", || get(to, &taku_for("u9", "more", "7")).status == 200);
    assert_eq!(get(to, &taku_for("u2", "g2", "10")).status, 200);
    assert_eq!(gateway.outcomes("conflict"), 1.0);
    // A callback that verifies needs no reason.
    let id = by("g1")["id"].as_str().unwrap().to_owned();
    let released = post(admin, &format!("/admin/v1/held/{id}/release"), "");
    assert_eq!((released.status, &released.json()["decision"]), (200, &json!("released")));
}

#[test]
fn an_order_that_makes_no_sense_is_refused() {
    let backend = Backend::saying([]);
    let gateway = Gateway::start(&text(&backend, WRONG));
    let admin = gateway.at.admin;
    for (order, status) in [
        ("{}", 400),
        (r#"{"source":"absent"}"#, 404),
        (r#"{"source":"level-end","reasons":["too_large"]}"#, 400),
        (r#"{"source":"level-end","ids":["17"]}"#, 400),
        (r#"{"source":"level-end","since":"yesterday"}"#, 400),
        (r#"{"source":"level-end","all":true}"#, 400),
    ] {
        assert_eq!(post(admin, "/admin/v1/release", order).status, status, "{order}");
    }
    let gone = "/admin/v1/release/rel_00000000000000000000000000000000";
    assert_eq!(get(admin, gone).status, 404);
    assert_eq!(send(admin, &format!("DELETE {gone}"), &[], "").status, 404);
    assert_eq!(get(admin, "/admin/v1/release/17").status, 400);
}

/// Callbacks of one sender while its secret is wrong, each until it is answered.
fn call_all(to: std::net::SocketAddr, senders: usize, each: usize) -> Vec<String> {
    let sent = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for sender in 0..senders {
            let sent = &sent;
            scope.spawn(move || {
                for n in 0..each {
                    let transaction = format!("c{sender}-{n}");
                    assert_eq!(get(to, &taku(&transaction)).status, 601);
                    sent.lock().unwrap().push(transaction);
                }
            });
        }
    });
    sent.into_inner().unwrap()
}

fn write(path: &Path, backend: &Backend, secret: &str) {
    std::fs::write(path, text(backend, secret)).unwrap();
}

/// The ids of the released events that were delivered, by transaction.
fn ids_of(backend: &Backend) -> BTreeMap<String, Vec<String>> {
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for got in backend.got() {
        let event = got.json();
        assert_eq!(event["released"], true);
        let transaction = event["transaction"].as_str().unwrap().to_owned();
        let of = ids.entry(transaction).or_default();
        of.push(got.header("webhook-id").to_owned());
        of.dedup();
    }
    ids
}

/// The campaign: a wrong secret under load with a forged flood beside it, then the right one, and a
/// release that is killed again and again.
#[test]
fn a_release_that_is_killed_delivers_every_genuine_callback_once_and_no_forged_one() {
    const SENDERS: usize = 8;
    const EACH: usize = 120;
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    write(&config, &backend, WRONG);
    let process = Process::start(&config);
    let to = process.callbacks;
    let (stop, forged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sent = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let n = forged.fetch_add(1, Ordering::Relaxed);
                get(to, &taku(&format!("forged-{n}")).replace("coin", "gold"));
            }
        });
        let sent = call_all(to, SENDERS, EACH);
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        sent
    });
    // An acknowledged callback is in quarantine, in every case.
    process.kill();
    write(&config, &backend, TAKU_SECRET);
    let genuine = |admin| {
        let all = held(admin).into_iter();
        all.filter(|one| one["transaction"].as_str().unwrap().starts_with('c')).count()
    };
    let mut killed = 0;
    for _ in 0..3 {
        let process = Process::start(&config);
        let (admin, before) = (process.admin, backend.got().len());
        if genuine(admin) > 0 {
            // The reply may never come.
            let order = thread::spawn(move || {
                let body = r#"{"source":"level-end"}"#;
                std::panic::catch_unwind(|| post(admin, "/admin/v1/release", body))
            });
            eventually("some are delivered", || backend.got().len() > before);
            process.kill();
            drop(order.join());
        } else {
            process.kill();
        }
        let process = Process::start(&config);
        killed += usize::from(genuine(process.admin) > 0);
        process.kill();
    }
    let process = Process::start(&config);
    let done = release(process.admin, &json!({ "source": "level-end" }));
    assert_eq!(done["state"], "done");
    eventually("nothing is pending", || {
        let page = get(process.admin, "/admin/v1/deliveries?state=pending&limit=1").body;
        page.contains("\"deliveries\":[]")
    });
    assert_eq!(genuine(process.admin), 0);
    process.kill();
    let ids = ids_of(&backend);
    let lost: Vec<_> = sent.iter().filter(|one| !ids.contains_key(*one)).collect();
    let torn: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(lost.is_empty(), "{} of {} were never delivered: {lost:?}", lost.len(), sent.len());
    assert!(torn.is_empty(), "under several ids: {torn:?}");
    assert_eq!(ids.len(), sent.len(), "and nothing else");
    assert!(forged.load(Ordering::Relaxed) > 20, "a flood");
    assert!(killed > 0, "no release was killed while it ran");
}
