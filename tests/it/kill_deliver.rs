//! The program, killed while it delivers.
//!
//! 1. Senders call, and a backend counts what it gets.
//! 2. The process is killed with signal 9 in the middle of it, again and again.
//! 3. At last it is left alone until nothing is pending.
//! 4. Every transaction that was answered is at the backend, under one id, in every case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::backend::Backend;
use super::deliver::{game, with};
use super::gateway::eventually;
use super::kill::{Process, send};
use super::wire::get;

/// How often the process is killed.
const CYCLES: usize = 5;

/// Concurrent senders.
const SENDERS: usize = 4;

#[test]
fn nothing_accepted_stays_undelivered_and_no_transaction_has_two_ids() {
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, with(&[("game", game(backend.at))])).unwrap();
    let mut all: BTreeSet<String> = BTreeSet::new();
    for cycle in 0..CYCLES {
        let process = Process::start(&config);
        let answered = Arc::new(Mutex::new(Vec::new()));
        let to = process.callbacks;
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let answered = Arc::clone(&answered);
                thread::spawn(move || send(to, cycle, sender, &answered))
            })
            .collect();
        // Killed after another number of answers each time, and never before some are delivered.
        let (enough, delivered) = (60 + 50 * cycle, backend.got().len());
        while answered.lock().unwrap().len() < enough || backend.got().len() == delivered {
            thread::sleep(Duration::from_millis(1));
        }
        process.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        all.extend(answered.lock().unwrap().iter().cloned());
    }
    let process = Process::start(&config);
    eventually("nothing is pending", || {
        let page = get(process.admin, "/admin/v1/deliveries?state=pending&limit=1").body;
        page.contains("\"deliveries\":[]")
    });
    process.kill();
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for got in backend.got() {
        let transaction = got.json()["transaction"].as_str().unwrap().to_owned();
        ids.entry(transaction).or_default().insert(got.header("webhook-id").to_owned());
    }
    let lost: Vec<_> = all.iter().filter(|one| !ids.contains_key(*one)).collect();
    let torn: Vec<_> = ids.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(lost.is_empty(), "{} of {} were never delivered: {lost:?}", lost.len(), all.len());
    assert!(torn.is_empty(), "under several ids: {torn:?}");
    assert!(all.len() > 300, "{}", all.len());
}
