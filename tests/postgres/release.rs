//! A wrong secret on two gateways, repaired, and a release that is killed with signal 9.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::cluster::{schema, shared};
use super::engine::sums_of_held;
use super::process::{Backend, Caller, Gateway, SECRET, Setup, TOKEN, eventually, get, target};

const WRONG: &str = "zyxwvutsrqponmlkjihgfedcba987654";
const CALLERS: usize = 4;
const EACH: usize = 120;

fn with_quarantine(text: &str) -> String {
    text.replace("secrets =", "quarantine = { reasons = \"all\" }\nsecrets =")
}

/// Orders a release; nothing if the gateway dies meanwhile.
fn order(admin: SocketAddr) -> Option<serde_json::Value> {
    let body = "{\"source\":\"level-end\"}";
    let head = format!(
        "POST /admin/v1/release HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.write_all((head + body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Every sender is rejected until the end, and a flood of forged callbacks beside them.
fn call_all(gateways: &[Gateway; 2]) -> (BTreeSet<String>, usize) {
    let (stop, forged) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut caller = Caller::new(gateways[0].callbacks);
            while !stop.load(Ordering::Relaxed) {
                let n = forged.fetch_add(1, Ordering::Relaxed);
                caller.call(&target(&format!("forged-{n}")).replace("coin", "gold"));
            }
        });
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let mut caller = Caller::new(gateways[number % 2].callbacks);
                scope.spawn(move || {
                    for n in 0..EACH {
                        let answer = caller.call(&target(&format!("c{number}-{n}")));
                        assert_eq!(answer.map(|(status, _)| status), Some(601));
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        flood.join().unwrap();
    });
    let all = (0..CALLERS).flat_map(|number| (0..EACH).map(move |n| format!("c{number}-{n}")));
    (all.collect(), forged.into_inner())
}

/// The body of an order to replay every event; the answer's id.
fn replay(admin: SocketAddr) -> String {
    let body = "{\"all\":true}";
    let head = format!(
        "POST /admin/v1/replay HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let begun: serde_json::Value = serde_json::from_str(body).unwrap();
    begun["id"].as_str().unwrap().to_owned()
}

#[test]
fn every_gateway_has_the_account_of_a_replay() {
    let Some(cluster) = shared() else { return };
    let backend = Backend::start();
    let url = cluster.url();
    let setup = Setup { url, schema: schema(), backend: Some(backend.at), more: "" };
    setup.migrate();
    let (mut dies, lives) = (Gateway::start(&setup), Gateway::start(&setup));
    let answered: BTreeSet<String> = (0..20).map(|number| format!("again-{number}")).collect();
    let mut caller = Caller::new(dies.callbacks);
    for one in &answered {
        assert_eq!(caller.call(&target(one)).map(|(status, _)| status), Some(200));
    }
    backend.await_once_each(&answered);
    let id = replay(dies.admin);
    let path = format!("/admin/v1/replay/{id}");
    let kept = || -> serde_json::Value {
        let (status, body) = get(lives.admin, &path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    eventually("it is complete", || kept()["state"] == "done");
    dies.kill();
    eventually("all is delivered again", || {
        let outcome = &kept()["outcome"];
        (&outcome["delivered"], &outcome["pending"]) == (&20.into(), &0.into())
    });
}

#[test]
fn a_release_that_is_killed_delivers_every_genuine_callback_once_and_no_forged_one() {
    let Some(cluster) = shared() else { return };
    let backend = Backend::start();
    let url = cluster.url();
    let setup = Setup { url, schema: schema(), backend: Some(backend.at), more: "" };
    setup.migrate();
    let wrong = |text: &str| with_quarantine(&text.replace(SECRET, WRONG));
    let gateways = [Gateway::start_edited(&setup, &wrong), Gateway::start_edited(&setup, &wrong)];
    let (genuine, forged) = call_all(&gateways);
    // What was answered is in quarantine, whatever happens to the gateways.
    for mut gateway in gateways {
        gateway.kill();
    }
    let waiting =
        format!("select count(*) from {}.held where why = 0 and decision is null", setup.schema);
    let before: usize = cluster.ask(&waiting).parse().unwrap();
    assert!(sums_of_held(cluster, &setup.schema) > 0);
    assert!(before >= genuine.len(), "{before} of {} and {forged} forged", genuine.len());

    let mut dies = Gateway::start_edited(&setup, &with_quarantine);
    let admin = dies.admin;
    let ordered = thread::spawn(move || order(admin));
    eventually("some are delivered", || !backend.got().is_empty());
    dies.kill();
    drop(ordered.join());

    let lives = Gateway::start_edited(&setup, &with_quarantine);
    let begun = order(lives.admin).unwrap();
    let path = format!("/admin/v1/release/{}", begun["id"].as_str().unwrap());
    eventually("the release is done", || get(lives.admin, &path).1.contains("\"state\":\"done\""));
    backend.await_once_each(&genuine);
    eventually("all is settled", || {
        lives.metric("postern_delivery_backlog{destination=\"game\"}") == 0.0
    });
    let got: BTreeSet<String> = backend.got().into_keys().collect();
    assert_eq!(got, genuine, "and nothing that is forged");
    let left: usize = cluster.ask(&waiting).parse().unwrap();
    assert_eq!(left, before - genuine.len(), "what is forged stays");
    sums_of_held(cluster, &setup.schema);
    // As before the tables had sums: an upgrade counts what is there.
    let schema = &setup.schema;
    drop(lives);
    cluster.ask(&format!(
        "set search_path to {schema}; drop table held_sum; drop function held_count() cascade;
         update meta set v = 7 where k = 'version'"
    ));
    setup.migrate();
    assert!(sums_of_held(cluster, schema) > 0);
}
