//! Servers that are there and of no use: readiness says why, also without traffic, and one that is
//! of use is not called otherwise.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postern::clock;
use postern::ledger::{
    Accepted, EventId, KeepKeys, LeaseAsk, Ledger as _, NewEvent, Postgres, PostgresOptions,
    Retention, SourceId, TargetFilter, conformance,
};
use postern::sender::Secret;
use tempfile::TempDir;

use super::cluster::{Cluster, NOBODY, is_root, is_there, schema, shared, signal, skipped};
use super::engine::{opened, options, runtime};
use super::process::{Backend, Caller, Gateway, Load, Setup, eventually, get, target};

const DAY_MS: i64 = 86_400_000;

fn setup(url: String) -> Setup {
    Setup { url, schema: schema(), backend: None, more: "" }
}

/// 1. The database is down, and a gateway is started.
/// 2. It answers health checks, verifies callbacks, and lets its sender time out.
/// 3. The database comes up: the gateway is ready, and what came before is recorded once.
#[test]
fn a_start_waits_for_a_database_that_is_down_and_answers_meanwhile() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let setup = setup(cluster.url());
    setup.migrate();
    cluster.kill();
    let gateway = Gateway::begin(&setup);
    gateway.unready_for("starting: waiting for the store: ");
    gateway.unready_for("cannot be reached");
    assert_eq!(get(gateway.admin, "/livez").0, 200);
    assert_eq!(get(gateway.admin, "/healthz").0, 200);
    assert_eq!(gateway.metric("postern_ready"), 0.0);
    assert_eq!(get(gateway.admin, "/admin/v1/events").0, 503);
    assert_eq!(get(gateway.callbacks, "/callback/unknown").0, 503);
    let forged = target("early").replace("coin", "gold");
    assert_eq!(get(gateway.callbacks, &forged).0, 601);
    // Taku retries only after a timeout.
    assert_eq!(Caller::new(gateway.callbacks).call(&target("early")), None);
    let load = Load::start(&[gateway.callbacks]);
    cluster.run();
    eventually("it is ready", || gateway.is_ready());
    load.go_on(50);
    let answered = load.end();
    assert_eq!(get(gateway.callbacks, "/callback/unknown").0, 404);
    assert_eq!(get(gateway.callbacks, &target("early")).0, 200);
    let accepted = gateway.outcomes("accepted");
    assert_eq!(accepted, answered.len() as u64 + 1, "each once");
    assert!(gateway.logged("waiting for the store").len() < 20);
}

#[test]
fn a_database_that_lets_nobody_in_ends_the_start() {
    let Some(cluster) = shared() else { return };
    let url = format!("{}_that_is_not_there", cluster.url());
    let ended = setup(url).run("serve");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(1) && said.contains("SQLSTATE 3D000"), "{said}");
}

#[test]
fn readiness_of_the_gateway_alone_does_not_empty_a_balancer() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let setup = setup(cluster.url());
    setup.migrate();
    let gateway = Gateway::start_with(&setup, "readiness = \"gateway\"\nhealth_path = \"/up\"\n");
    cluster.set("default_transaction_read_only = on");
    eventually("it is reported", || get(gateway.admin, "/readyz").1.starts_with("ready, but "));
    assert_eq!(get(gateway.admin, "/readyz").0, 200);
    assert_eq!(get(gateway.callbacks, "/up"), (200, "ready\n".into()));
    assert_eq!(gateway.metric("postern_ready"), 0.0, "operators see it");
    cluster.reset("default_transaction_read_only");
    eventually("it is back", || get(gateway.admin, "/readyz") == (200, "ready\n".into()));
}

#[test]
fn a_read_only_server_is_told_of_without_traffic() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let backend = Backend::start();
    let setup = Setup { backend: Some(backend.at), ..setup(cluster.url()) };
    setup.migrate();
    let gateway = Gateway::start(&setup);
    for gauge in ["postern_store_events", "postern_oldest_due_seconds"] {
        assert!(gateway.shows(gauge), "{gauge}");
    }
    assert!(!gateway.shows("postern_store_free_bytes"), "it is not known");
    cluster.set("default_transaction_read_only = on");
    gateway.unready_for("default_transaction_read_only is on");
    // People still see what there is.
    assert!(gateway.shows("postern_store_events"));
    assert!(gateway.metric("postern_ledger_faults_total{code=\"25006\"}") >= 1.0);
    let paused = Caller::new(gateway.admin).post("/admin/v1/destinations/game/pause");
    let (status, said) = paused.unwrap();
    assert!(status == 503 && said.contains("default_transaction_read_only"), "{status} {said}");
    // Callbacks that come all the same add no line each.
    thread::scope(|scope| {
        for number in 0..20 {
            let to = gateway.callbacks;
            let call = move || Caller::new(to).call(&target(&format!("{number}")));
            scope.spawn(move || assert_eq!(call(), None));
        }
    });
    let lines = gateway.logged("PostgreSQL failed a statement").len();
    assert!((1..20).contains(&lines), "{lines}");
    cluster.reset("default_transaction_read_only");
    eventually("it is back", || gateway.is_ready());
    assert_eq!(get(gateway.callbacks, &target("0")).0, 200);
}

/// A file system of a few megabytes, until this is dropped.
struct Small(TempDir);

impl Small {
    /// `None`, and says so, where this process may not mount one.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs"]).arg(folder.path());
        if is_root() && mount.output().is_ok_and(|output| output.status.success()) {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            return Some(Self(folder));
        }
        skipped("a file system cannot be mounted here");
        None
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        while filler.write(&[0; 4096]).is_ok_and(|len| len > 0) {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_of_without_traffic() {
    if !is_there() {
        return;
    }
    let Some(small) = Small::mount() else { return };
    let cluster = Cluster::start(&[]);
    let location = small.0.path().display();
    cluster.ask(&format!("create tablespace small location '{location}'"));
    cluster.ask("alter database postgres set default_tablespace = small");
    let setup = setup(cluster.url());
    setup.migrate();
    let gateway = Gateway::start(&setup);
    assert_eq!(get(gateway.callbacks, &target("before")).0, 200);
    small.fill();
    gateway.unready_for("SQLSTATE 53100");
    assert!(gateway.metric("postern_ledger_faults_total{code=\"53100\"}") >= 1.0);
    eventually("it is logged", || !gateway.logged("53100").is_empty());
    // People still see what there is.
    assert!(gateway.shows("postern_store_events"));
    fs::remove_file(small.filler()).unwrap();
    eventually("it is back", || gateway.is_ready());
    assert_eq!(get(gateway.callbacks, &target("after")).0, 200);
    drop((gateway, cluster));
}

#[test]
fn one_connection_that_hangs_does_not_turn_a_working_gateway_unready() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let setup = setup(cluster.url());
    setup.migrate();
    let gateway = &Gateway::start(&setup);
    thread::scope(|scope| {
        for number in 0..16 {
            let warm = target(&format!("warm-{number}"));
            scope.spawn(move || assert_eq!(get(gateway.callbacks, &warm).0, 200));
        }
    });
    // The one that was used last is used next. It is idle: one that is stopped within a commit may
    // hold what all others need.
    let last = "select pid from pg_stat_activity where query like '%insert into dedupe%'
        and application_name = 'postern' and state = 'idle' order by state_change desc limit 1";
    let hung = [cluster.ask(last)];
    signal(&hung, "-STOP");
    assert_eq!(Caller::new(gateway.callbacks).call(&target("hung")), None);
    let load = Load::start(&[gateway.callbacks]);
    // Longer than commits count as stuck after, with traffic and then without.
    let began = clock::instant();
    while began.elapsed() < Duration::from_secs(14) {
        load.go_on(20);
        assert!(gateway.is_ready(), "{:?}", get(gateway.admin, "/readyz"));
    }
    let mut answered = load.end();
    while began.elapsed() < Duration::from_secs(28) {
        assert!(gateway.is_ready(), "{:?}", get(gateway.admin, "/readyz"));
        thread::sleep(Duration::from_millis(100));
    }
    // Its sender retries, and the ledger recognizes the second try as the first.
    assert_eq!(get(gateway.callbacks, &target("hung")).0, 200);
    answered.insert("hung".to_owned());
    signal(&hung, "-CONT");
    eventually("its first try is over", || {
        cluster.ask("select count(*) from pg_stat_activity where state = 'active'") == "1"
    });
    super::gateways::check(&cluster.url(), &setup.schema, &answered);
}

#[test]
fn a_standby_that_is_missing_is_told_of_without_traffic() {
    if !is_there() {
        return;
    }
    let primary = Cluster::start(&["synchronous_standby_names=ANY 1 (one)"]);
    let setup = setup(primary.url());
    // Made before there is anything to wait for.
    primary.set("synchronous_standby_names = ''");
    let standby = primary.standby("one");
    setup.migrate();
    let gateway = Gateway::start(&setup);
    standby.kill();
    gateway.unready_for("waits for a synchronous standby");
    standby.run();
    eventually("it is back", || gateway.is_ready());
    assert_eq!(get(gateway.callbacks, &target("back")).0, 200);
}

#[test]
fn what_is_not_replicated_yet_is_held_and_accepted_when_it_is() {
    if !is_there() {
        return;
    }
    let primary = Cluster::start(&[]);
    primary.set("synchronous_standby_names = 'ANY 1 (one)'");
    let _standby = primary.standby("one");
    runtime().block_on(async {
        let schema = schema();
        let strict = PostgresOptions { require_replicated: true, ..options(&primary, &schema) };
        let engine = opened(strict).await;
        primary.set("synchronous_standby_names = ''");
        // Within the beat the statement itself refuses, and afterwards the pulse knows.
        for number in 0..2 {
            let own = engine.clone();
            let accepting =
                tokio::spawn(async move { own.accept(&[conformance::event(number, &[])]).await });
            loop {
                let health = engine.health().await.unwrap();
                if health.stopped.is_some_and(|why| why.contains("require_replicated")) {
                    break;
                }
                assert!(!accepting.is_finished(), "accepted, or refused at once");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let recorded = format!("select count(*) from {schema}.event where received_ms > 0");
            assert_eq!(primary.ask(&recorded), number.to_string());
            assert!(!accepting.is_finished());
            primary.set("synchronous_standby_names = 'ANY 1 (one)'");
            assert_eq!(accepting.await.unwrap().unwrap(), [Accepted::New]);
            primary.set("synchronous_standby_names = ''");
        }
        primary.reset("synchronous_standby_names");
    });
}

#[test]
fn what_no_standby_has_is_neither_delivered_nor_acknowledged_as_a_duplicate() {
    if !is_there() {
        return;
    }
    let primary = Cluster::start(&[]);
    runtime().block_on(async {
        let schema = schema();
        let engine = opened(options(&primary, &schema)).await;
        // As what a dying primary shows: others see it, and no standby has it.
        let event = conformance::event(1, &["a"]);
        assert_eq!(engine.accept(std::slice::from_ref(&event)).await.unwrap(), [Accepted::New]);
        primary.set("synchronous_standby_names = 'ANY 1 (one)'");
        let mut again = event;
        again.id = EventId::new(again.received_ms);
        let (first, second) = (engine.clone(), engine.clone());
        let accepting = tokio::spawn(async move { first.accept(&[again]).await });
        let leasing = tokio::spawn(async move {
            let (targets, ttl) = (TargetFilter::All, Duration::from_secs(60));
            let ask = LeaseAsk { targets, max: 10, ttl };
            second.lease(&conformance::node(), &ask).await
        });
        for table in ["dedupe", "delivery"] {
            let waiting = format!(
                "select count(*) from pg_stat_activity
                 where wait_event = 'SyncRep' and query like '%{table}%'"
            );
            eventually(table, || primary.ask(&waiting) != "0");
        }
        assert!(!accepting.is_finished() && !leasing.is_finished());
        primary.set("synchronous_standby_names = ''");
        assert!(matches!(accepting.await.unwrap().unwrap()[..], [Accepted::Duplicate { .. }]));
        assert_eq!(leasing.await.unwrap().unwrap().leases.len(), 1);
        primary.reset("synchronous_standby_names");
    });
}

#[test]
fn a_cancelled_wait_for_a_standby_acknowledges_nothing() {
    if !is_there() {
        return;
    }
    let primary = Cluster::start(&[]);
    runtime().block_on(async {
        let schema = schema();
        let engine = opened(options(&primary, &schema)).await;
        // Makes the tables of the day.
        engine.accept(&[conformance::event(0, &[])]).await.unwrap();
        primary.set("synchronous_standby_names = 'ANY 1 (one)'");
        let own = engine.clone();
        let accepting =
            tokio::spawn(async move { own.accept(&[conformance::event(1, &["a"])]).await });
        let waiting = "select coalesce(max(pid), 0) from pg_stat_activity
            where wait_event = 'SyncRep' and query like '%dedupe%'";
        // The first commit, and that of each retry.
        let mut last = "0".to_owned();
        for _ in 0..3 {
            eventually("another session waits", || {
                let pid = primary.ask(waiting);
                pid != "0" && pid != last
            });
            last = primary.ask(waiting);
            assert!(!accepting.is_finished());
            primary.ask(&format!("select pg_cancel_backend({last})"));
        }
        primary.set("synchronous_standby_names = ''");
        assert_eq!(accepting.await.unwrap().unwrap(), [Accepted::New]);
        primary.reset("synchronous_standby_names");
    });
}

#[test]
fn of_two_servers_that_take_writes_the_one_on_the_newer_timeline_is_used() {
    if !is_there() {
        return;
    }
    let old = Cluster::start(&[]);
    let new = old.standby("one");
    let url = format!("postgres://postern@{},{}/postgres", old.host(), new.host());
    let setup = setup(url.clone());
    setup.migrate();
    let before = Gateway::start(&setup);
    assert_eq!(get(before.callbacks, &target("first")).0, 200);
    runtime().block_on(async {
        // A commit hangs on the old one, which waits for a standby that will never come back.
        let schema = setup.schema.clone();
        let options = PostgresOptions { url: Secret::new(url), ..options(&old, &schema) };
        let engine = Postgres::open(options).await.unwrap();
        let first = conformance::event(1, &["a"]);
        assert_eq!(engine.accept(&[first]).await.unwrap(), [Accepted::New]);
        let caught_up = format!("select count(*) from {schema}.event");
        eventually("the standby has it", || new.ask(&caught_up) == "2");
        old.set("synchronous_standby_names = 'missing'");
        let own = engine.clone();
        let hangs = tokio::spawn(async move { own.accept(&[conformance::event(2, &["a"])]).await });
        eventually("it waits for a standby", || {
            old.ask("select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'") == "t"
        });
        assert!(!hangs.is_finished());
        new.promote();
        assert_eq!(hangs.await.unwrap().unwrap(), [Accepted::New]);
        let found = format!("select count(*) from {schema}.dedupe");
        assert_eq!(new.ask(&found), "3");
    });
    // The old one takes writes again, and gets none.
    old.set("synchronous_standby_names = ''");
    eventually("it is ready", || before.is_ready());
    let after = Gateway::start(&setup);
    for (number, gateway) in [&before, &after].into_iter().enumerate() {
        let mut caller = Caller::new(gateway.callbacks);
        eventually("it is accepted", || {
            caller.call(&target(&format!("t-{number}"))).is_some_and(|(status, _)| status == 200)
        });
    }
    let keys = format!("select count(*) from {}.dedupe", setup.schema);
    assert_eq!(new.ask(&keys), "5");
    // The commit that hung there was its own alone.
    assert_eq!(old.ask(&keys), "3");
    eventually("it is logged", || !before.logged("PostgreSQL has failed over").is_empty());
    // With the new one gone the old one is no way out.
    new.kill();
    after.unready_for("is an old primary");
}

#[test]
fn a_gateway_whose_clock_is_behind_loses_nothing_early() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        let engine = opened(options(cluster, &schema)).await;
        let now = clock::now_ms();
        let behind = |number: u64, ms: i64| {
            let mut event: NewEvent = conformance::event(number, &[]);
            event.received_ms = now - ms;
            event.id = EventId::new(event.received_ms);
            event
        };
        let late = [behind(1, 100 * DAY_MS), behind(2, 31 * DAY_MS)];
        assert_eq!(engine.accept(&late).await.unwrap(), [Accepted::New, Accepted::New]);
        let day = Duration::from_millis(DAY_MS as u64);
        // The clock of the one that sweeps is wrong as well.
        let policy = Retention {
            now_ms: now + 400 * DAY_MS,
            keep_events: 30 * day,
            keep_keys: vec![KeepKeys { source: SourceId::from("s"), time: 90 * day }],
            held: postern::ledger::HeldRetention::default(),
        };
        let other = Postgres::open(options(cluster, &schema)).await.unwrap();
        for _ in 0..2 {
            let swept = other.sweep(&policy, 1000).await.unwrap();
            assert_eq!((swept.events, swept.keys), (0, 0));
        }
        for event in &late {
            assert!(other.event(event.id).await.unwrap().is_some());
        }
        // When nothing came in for such a day for as long as events are kept, it goes; keys stay.
        cluster.ask(&format!(
            "update {schema}.meta set v = v - 31 * {DAY_MS}::bigint where k like 'late %'"
        ));
        let swept = other.sweep(&policy, 1000).await.unwrap();
        assert_eq!((swept.events, swept.keys), (2, 0));
        assert_eq!(
            cluster.ask(&format!("select count(*) from {schema}.meta where k like 'late %'")),
            "0"
        );
        let mut again = behind(3, 0);
        again.keys.clone_from(&late[0].keys);
        again.fingerprint = late[0].fingerprint;
        let answer = other.accept(&[again]).await.unwrap();
        assert!(
            matches!(answer[0], Accepted::Duplicate { first, .. } if first == late[0].id),
            "{answer:?}"
        );
        let ahead = engine.health().await.unwrap().server.unwrap().clock_ahead_ms.unwrap();
        assert!(ahead.abs() < DAY_MS, "{ahead}");
    });
}

#[test]
fn metrics_are_to_be_had_while_a_server_comes_and_goes() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let setup = setup(cluster.url());
    setup.migrate();
    let gateway = Gateway::start(&setup);
    let stop = Arc::new(AtomicBool::new(false));
    let (own, admin) = (Arc::clone(&stop), gateway.admin);
    let scraper = thread::spawn(move || {
        while !own.load(Ordering::Relaxed) {
            assert_eq!(get(admin, "/metrics").0, 200);
        }
    });
    cluster.kill();
    gateway.unready_for("cannot be reached");
    // What is not known is not zero.
    for gauge in ["postern_store_keys", "postern_oldest_due_seconds", "postern_delivery_backlog"] {
        assert!(!gateway.shows(gauge), "{gauge}");
    }
    assert!(
        !gateway.shows("postern_store_events")
            && !gateway.shows("postern_store_clock_offset_seconds")
    );
    assert!(gateway.metric("postern_ledger_faults_total{code=\"08\"}") >= 1.0);
    cluster.run();
    eventually("it is back", || gateway.is_ready());
    eventually("its clock is known", || gateway.shows("postern_store_clock_offset_seconds"));
    stop.store(true, Ordering::Relaxed);
    scraper.join().unwrap();
}
