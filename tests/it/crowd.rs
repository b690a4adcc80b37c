//! Thousands of destinations, and nothing to do.

use std::fmt::Write as _;
use std::time::Duration;

use postern::ledger::{Embedded, EmbeddedOptions};

use super::backend::Backend;
use super::deliver::{game, outcomes, tries, with};
use super::gateway::{Gateway, PLAIN, TAKU_SECRET, eventually, taku};
use super::kill::Process;
use super::wire::get;

/// Destinations that are down.
const DOWN: usize = 10_000;

#[test]
fn ten_thousand_destinations_that_are_down_do_not_delay_one_that_is_up() {
    let backend = Backend::start();
    let refused = Backend::nowhere();
    let names: Vec<String> = (0..DOWN).map(|n| format!("\"down-{n}\"")).collect();
    let mut text = format!("{PLAIN}destinations = [{}]\n", names.join(", "));
    let _ = write!(
        text,
        "[[source]]\nname = \"other\"\nsender = \"taku\"\nsecrets = \"{TAKU_SECRET}\"\nreplayable = true\n\
         destinations = [\"game\"]\n[[destination]]\nname = \"game\"\n{}\n",
        game(backend.at)
    );
    for n in 0..DOWN {
        let _ = write!(
            text,
            "[[destination]]\nname = \"down-{n}\"\nurl = \"http://{refused}/\"\nformat = \"forward\"\n\
             retry = {{ first = \"30s\", max = \"30s\", attempts = 10000 }}\n"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = Embedded::open(EmbeddedOptions::new(folder.path().join("ledger"))).unwrap();
    let gateway = Gateway::over(&text, engine);
    let t0 = postern::clock::instant();
    let up = |n: usize| {
        let target = taku(&format!("up-{n}")).replace("/level-end", "/other");
        assert_eq!(get(gateway.at.callbacks, &target).status, 200);
        backend.await_count(n + 1);
        eprintln!("up {n} {:?}", t0.elapsed());
    };
    up(0);
    eventually("it is known to be up", || outcomes(&gateway, "done") == 1.0);
    assert_eq!(get(gateway.at.callbacks, &taku("all-down")).status, 200);
    // Each comes while ten thousand others are tried and fail.
    (1..20).for_each(up);
    eventually("settled", || outcomes(&gateway, "done") == 20.0);
    let backlog =
        |n: usize| gateway.metric(&format!("postern_delivery_backlog{{destination=\"down-{n}\"}}"));
    assert_eq!((backlog(0), backlog(DOWN - 1)), (1.0, 1.0), "nothing was dead-lettered for it");
}

/// Sleeps of all threads in a second that indicate polling: the configuration's files are checked
/// once a second, and the index has seven threads that do the same.
const POLLING: u64 = 40;

/// How often the threads of a process went to sleep by themselves so far.
fn sleeps(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}

#[test]
fn a_gateway_that_waits_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    let game = tries(Backend::nowhere(), 100).replace("20ms", "1h").replace("100ms", "1h");
    std::fs::write(&config, with(&[("game", game)])).unwrap();
    let process = Process::start(&config);
    for n in 0..50 {
        assert_eq!(get(process.callbacks, &taku(&format!("i{n}"))).status, 200);
    }
    let tried = || {
        let page = get(process.admin, "/metrics").body;
        page.contains("destination=\"game\",outcome=\"retry\"} 1")
    };
    eventually("the breaker is open", tried);
    // The measurement covers a stretch of time, so time has to pass. Earlier writes may still be on
    // their way to the disk in the first of them.
    let mut calmest = u64::MAX;
    for _ in 0..20 {
        let before = sleeps(process.id());
        std::thread::sleep(Duration::from_secs(1));
        calmest = calmest.min(sleeps(process.id()) - before);
        if calmest < POLLING {
            break;
        }
    }
    process.kill();
    assert!(calmest < POLLING, "{calmest} times in the calmest second: something polls");
}
