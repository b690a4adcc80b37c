//! The time between "send no more" and the drain: a balancer looks only now and then.
//!
//! 1. Two gateways, and senders that call the one that the balancer thinks is ready.
//! 2. One receives a stop. The balancer sees that at its next look.
//! 3. Until then, and for what is on its way, it accepts as before.
//! 4. No call failed, and each transaction is recorded once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream as AsyncStream;

use super::gateway::{Gateway, PLAIN, eventually, taku};
use super::http2::{Client, run};
use super::kill::{Process, recorded};
use super::wire::{Wire, get, get_bytes, post};

/// Concurrent senders, half of which keep their connections.
const SENDERS: usize = 8;

fn with(lame_duck: &str) -> String {
    PLAIN.replace("drain", &format!("health_path = \"/up\"\nlame_duck = \"{lame_duck}\"\ndrain"))
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

/// The answers of a lame duck, over an idle connection from before and a new one.
fn is_a_lame_duck(admin: SocketAddr, callbacks: SocketAddr, idle: &mut Wire) {
    eventually("not ready", || get(admin, "/readyz").status == 503);
    assert_eq!(get(admin, "/readyz").body, "lame_duck\n");
    assert_eq!(get(admin, "/livez").status, 200);
    let up = get(callbacks, "/up");
    assert_eq!((up.status, up.body.as_str()), (503, "not ready\n"));
    assert!(get(admin, "/metrics").body.contains("\npostern_ready 0\n"));
    let new = get(callbacks, &taku("new"));
    assert_eq!((new.status, new.field("connection").as_deref()), (200, Some("close")));
    idle.send(get_bytes(&taku("idle")));
    let last = idle.answer().unwrap();
    assert_eq!((last.status, last.field("connection").as_deref()), (200, Some("close")));
    assert!(idle.is_closed());
}

/// A connection that has had an answer.
fn idle(callbacks: SocketAddr) -> Wire {
    let mut idle = Wire::open(callbacks);
    idle.send(get_bytes(&taku("first")));
    let answer = idle.answer().unwrap();
    assert_eq!((answer.status, answer.field("connection")), (200, None));
    idle
}

#[test]
fn a_gateway_that_is_told_to_stop_accepts_until_the_balancer_has_seen_it() {
    let (_folder, config) = file(&with("1h"));
    let process = Process::start(&config);
    assert_eq!(get(process.callbacks, "/up").body, "ready\n");
    assert_eq!(post(process.callbacks, "/up", "").status, 405);
    let mut before = idle(process.callbacks);
    process.signal("TERM");
    is_a_lame_duck(process.admin, process.callbacks, &mut before);
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0), "the second one ends it");
}

#[test]
fn a_person_at_a_terminal_does_not_wait() {
    let (_folder, config) = file(&with("1h"));
    let process = Process::start(&config);
    process.signal("INT");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn the_admin_api_begins_it_too() {
    let token = "[admin]\ntoken = [{ name = \"look\", value = \"looking-0123456789\", right = \"read\" }, { name = \"do\", value = \"doing-0123456789ab\" }]\n";
    let (_folder, config) = file(&format!("{}{token}", with("1h")));
    let process = Process::start(&config);
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", bearer.as_str())];
        super::wire::send(process.admin, "POST /admin/v1/drain", &fields, "")
    };
    assert_eq!(ask("looking-0123456789").status, 403);
    assert_eq!(get(process.admin, "/readyz").status, 200);
    for _ in 0..2 {
        let asked = ask("doing-0123456789ab");
        let expected = serde_json::json!({
            "state": "lame_duck", "lame_duck_seconds": 3600.0, "drain_seconds": 5.0
        });
        assert_eq!((asked.status, asked.json()), (202, expected));
        assert_eq!(get(process.admin, "/readyz").status, 503);
    }
    let bearer = [("Authorization", "Bearer doing-0123456789ab")];
    let log = super::wire::send(process.admin, "GET /admin/v1/audit", &bearer, "").json();
    let entries = log["audit"].as_array().unwrap();
    let drains: Vec<_> = entries.iter().map(|entry| (&entry["action"], &entry["who"])).collect();
    assert_eq!(drains, [(&"drained".into(), &"token do".into())], "once");
    // The orchestrator's signal after its own call is the first signal, not the second.
    process.signal("TERM");
    process.await_line("asked to stop");
    assert_eq!(get(process.callbacks, &taku("t1")).status, 200);
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn http2_connections_are_told_to_go_and_new_ones_get_their_answer() {
    let gateway = Gateway::start(&with("1h"));
    run(async {
        let connect = || async {
            Client::over(AsyncStream::connect(gateway.at.callbacks).await.unwrap()).await
        };
        let mut before = connect().await;
        assert_eq!(before.get(&taku("h1")).await, 200);
        gateway.lame_duck();
        before.closed().await;
        for n in 0..3 {
            let mut new = connect().await;
            assert_eq!(new.get(&taku(&format!("n{n}"))).await, 200);
            new.closed().await;
        }
    });
    gateway.hurry();
}

/// Calls one address or the other; whether the connection may be kept.
fn call(stream: &mut Option<(SocketAddr, TcpStream)>, to: SocketAddr, transaction: &str) {
    let mut open = match stream.take() {
        Some((at, open)) if at == to => open,
        _ => TcpStream::connect(to).unwrap(),
    };
    open.set_nodelay(true).unwrap();
    open.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    open.write_all(get_bytes(&taku(transaction)).as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        open.read_exact(&mut byte).unwrap_or_else(|error| panic!("{transaction}: {error}"));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{transaction}: {head}");
    // The answer has a body that this test need not read where the connection ends.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    open.read_exact(&mut body).unwrap();
    if !head.contains("connection: close") {
        *stream = Some((to, open));
    }
}

#[test]
fn no_call_fails_while_one_of_two_gateways_is_replaced() {
    let files = [file(&with("4s")), file(&with("4s"))];
    let mut first = Process::start(&files[0].1);
    let second = Process::start(&files[1].1);
    let (a, b) = (first.callbacks, second.callbacks);
    let (is_a_ready, stop) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let sent: Arc<Mutex<Vec<String>>> = Arc::default();
    let to_a = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (is_a_ready, stop, sent, to_a) =
                (Arc::clone(&is_a_ready), Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&to_a));
            thread::spawn(move || {
                let mut stream = None;
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let goes_to_a = n % 2 == 0 && is_a_ready.load(Ordering::Relaxed);
                    let transaction = format!("lb-{sender}-{n}");
                    call(&mut stream, if goes_to_a { a } else { b }, &transaction);
                    to_a.fetch_add(usize::from(goes_to_a), Ordering::Relaxed);
                    sent.lock().unwrap().push(transaction);
                    if sender % 2 == 0 {
                        stream = None;
                    }
                }
            })
        })
        .collect();
    let go_on = |more: usize| {
        let enough = sent.lock().unwrap().len() + more;
        eventually("calls are answered", || sent.lock().unwrap().len() >= enough);
    };
    go_on(400);
    first.signal("TERM");
    eventually("the balancer sees it", || get(first.admin, "/readyz").status == 503);
    // The balancer is not the quickest.
    let seen = to_a.load(Ordering::Relaxed);
    eventually("more come", || to_a.load(Ordering::Relaxed) > seen + 100);
    is_a_ready.store(false, Ordering::Relaxed);
    eventually("the end of the first", || first.has_ended());
    go_on(400);
    stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());

    let again = Process::start(&files[0].1);
    let mut found: BTreeMap<String, usize> = recorded(second.admin);
    for (transaction, times) in recorded(again.admin) {
        *found.entry(transaction).or_default() += times;
    }
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    assert!(sent.iter().all(|one| found.get(one) == Some(&1)), "lost or doubled");
    assert_eq!(found.len(), sent.len());
    again.kill();
    second.kill();
}
