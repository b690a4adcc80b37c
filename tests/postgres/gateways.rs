//! Several gateways on one server, and what becomes of callbacks when one or the other dies.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;

use super::cluster::{Cluster, ask, is_there, schema, shared};
use super::process::{Backend, Caller, Gateway, Load, Setup, eventually, get, target};

fn setup(cluster: &Cluster, backend: Option<&Backend>) -> Setup {
    let backend = backend.map(|backend| backend.at);
    Setup { url: cluster.url(), schema: schema(), backend, more: "" }
}

/// Every answered transaction is recorded once, with its delivery settled or waiting.
pub fn check(url: &str, schema: &str, answered: &BTreeSet<String>) {
    // A piece in clear: a zero, the length of the transaction, the transaction.
    let recorded = ask(
        url,
        &format!(
            "select convert_from(substring(body from 3 for get_byte(body, 1)), 'UTF8')
            from {schema}.event order by 1"
        ),
    );
    let mut recorded: Vec<&str> = recorded.lines().collect();
    let all = recorded.len();
    recorded.dedup();
    assert_eq!(recorded.len(), all, "recorded twice");
    let recorded: BTreeSet<&str> = recorded.into_iter().collect();
    let lost: Vec<_> = answered.iter().filter(|one| !recorded.contains(one.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} answered are lost: {lost:?}", lost.len(), answered.len());
    let keys = ask(url, &format!("select count(*) from {schema}.dedupe"));
    assert_eq!(keys, all.to_string(), "each event has its key and each key its event");
    let without = ask(
        url,
        &format!(
            "select count(*) from {schema}.event e where cardinality(targets) > 0
            and not exists (select 1 from {schema}.delivery d where d.event_id = e.id)
            and not exists (select 1 from {schema}.attempt a where a.event_id = e.id)"
        ),
    );
    assert_eq!(without, "0", "an event without its delivery");
}

#[test]
fn of_ten_thousand_keys_at_two_gateways_each_is_accepted_once() {
    const KEYS: usize = 10_000;
    const CALLERS: usize = 16;
    let Some(cluster) = shared() else { return };
    let setup = setup(cluster, None);
    setup.migrate();
    let gateways = [Gateway::start(&setup), Gateway::start(&setup)];
    let callers: Vec<_> = (0..CALLERS * 2)
        .map(|number| {
            let to = gateways[number % 2].callbacks;
            thread::spawn(move || {
                let mut caller = Caller::new(to);
                for key in (number / 2..KEYS).step_by(CALLERS) {
                    let answer = caller.call(&target(&format!("race-{key}")));
                    assert_eq!(answer.map(|(status, _)| status), Some(200));
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let sum = |outcome| gateways.iter().map(|gateway| gateway.outcomes(outcome)).sum::<u64>();
    eventually("all are counted", || sum("accepted") + sum("duplicate") == 2 * KEYS as u64);
    assert_eq!((sum("accepted"), sum("duplicate")), (KEYS as u64, KEYS as u64));
    let answered = (0..KEYS).map(|key| format!("race-{key}")).collect();
    check(&cluster.url(), &setup.schema, &answered);
}

#[test]
fn a_dead_gateways_deliveries_are_taken_over() {
    let Some(cluster) = shared() else { return };
    let backend = Backend::start();
    let setup = setup(cluster, Some(&backend));
    setup.migrate();
    let (mut dies, lives) = (Gateway::start(&setup), Gateway::start(&setup));
    backend.silent.store(true, Ordering::Relaxed);
    let answered: BTreeSet<String> = (0..40).map(|number| format!("over-{number}")).collect();
    let mut caller = Caller::new(dies.callbacks);
    for one in &answered {
        assert_eq!(caller.call(&target(one)).map(|(status, _)| status), Some(200));
    }
    let held = format!("select count(*) from {}.delivery where owner is not null", setup.schema);
    eventually("deliveries are leased", || cluster.ask(&held) != "0");
    dies.kill();
    backend.silent.store(false, Ordering::Relaxed);
    backend.await_once_each(&answered);
    eventually("all is settled", || {
        lives.metric("postern_delivery_backlog{destination=\"game\"}") == 0.0
    });
    check(&cluster.url(), &setup.schema, &answered);
}

#[test]
fn gateways_killed_under_load_lose_nothing_and_accept_nothing_twice() {
    let Some(cluster) = shared() else { return };
    let backend = Backend::start();
    let setup = setup(cluster, Some(&backend));
    setup.migrate();
    let lives = Gateway::start(&setup);
    let mut answered = BTreeSet::new();
    for cycle in 0..3 {
        let mut dies = Gateway::start(&setup);
        let load = Load::start(&[dies.callbacks, lives.callbacks]);
        load.go_on(100 + 60 * cycle);
        dies.kill();
        load.go_on(50);
        answered.extend(load.end());
    }
    backend.await_once_each(&answered);
    check(&cluster.url(), &setup.schema, &answered);
}

#[test]
fn a_server_that_dies_is_waited_for_and_costs_nothing() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let backend = Backend::start();
    let setup = setup(&cluster, Some(&backend));
    setup.migrate();
    let gateways = [Gateway::start(&setup), Gateway::start(&setup)];
    let load = Load::start(&[gateways[0].callbacks, gateways[1].callbacks]);
    for _ in 0..2 {
        load.go_on(300);
        cluster.kill();
        eventually("it is not ready", || gateways.iter().all(|gateway| !gateway.is_ready()));
        // Taku retries only after a timeout: the request is held, then closed.
        assert_eq!(Caller::new(gateways[0].callbacks).call(&target("held")), None);
        cluster.run();
        eventually("it is back", || gateways.iter().all(Gateway::is_ready));
    }
    load.go_on(300);
    // A hanging server is as bad as a dead one, and metrics are available all the time.
    cluster.freeze();
    eventually("it is not ready", || gateways.iter().all(|gateway| !gateway.is_ready()));
    assert_eq!(get(gateways[0].admin, "/metrics").0, 200);
    cluster.thaw();
    eventually("it is back", || gateways.iter().all(Gateway::is_ready));
    load.go_on(300);
    let mut answered = load.end();
    assert_eq!(get(gateways[1].callbacks, &target("held")).0, 200);
    answered.insert("held".to_owned());
    backend.await_once_each(&answered);
    check(&cluster.url(), &setup.schema, &answered);
}

/// 1. The server is down while the configuration changes: the documents cannot be read.
/// 2. It is back: the configuration is applied, although no file changes again.
#[test]
fn a_configuration_that_came_while_the_server_was_down_is_applied_later() {
    if !is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let setup = setup(&cluster, None);
    setup.migrate();
    let gateway = Gateway::start(&setup);
    cluster.kill();
    eventually("it is not ready", || !gateway.is_ready());
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), text.replace("level-end", "level-up")).unwrap();
    let is_logged = |line: &str| !gateway.logged(line).is_empty();
    eventually("it is not applied", || is_logged("could not apply the new configuration yet"));
    assert!(!is_logged("applied the configuration"));
    cluster.run();
    eventually("it is applied", || is_logged("applied the configuration"));
    eventually("it is back", || gateway.is_ready());
    let target = target("late").replace("level-end", "level-up");
    assert_eq!(get(gateway.callbacks, &target).0, 200);
}

#[test]
fn a_primary_that_dies_is_replaced_and_costs_nothing() {
    if !is_there() {
        return;
    }
    let primary = Cluster::start(&["synchronous_standby_names=ANY 1 (one, two)"]);
    let (one, two) = (primary.standby("one"), primary.standby("two"));
    let hosts = [&primary, &one, &two].map(Cluster::host).join(",");
    let backend = Backend::start();
    let setup = Setup {
        url: format!("postgres://postern@{hosts}/postgres"),
        schema: schema(),
        backend: Some(backend.at),
        more: "require_replicated = true",
    };
    setup.migrate();
    let gateways = [Gateway::start(&setup), Gateway::start(&setup)];
    let load = Load::start(&[gateways[0].callbacks, gateways[1].callbacks]);
    load.go_on(300);
    primary.kill();
    // What either has is on its disk; the one that has more is what a fail-over chooses.
    let has = |standby: &Cluster| standby.ask("select pg_last_wal_receive_lsn() - '0/0'");
    let number = |standby: &Cluster| has(standby).parse::<u64>().unwrap();
    let (new, other, name) =
        if number(&one) >= number(&two) { (&one, &two, "two") } else { (&two, &one, "one") };
    new.ask(&format!("alter system set synchronous_standby_names = 'ANY 1 ({name})'"));
    let source = format!("{} user=postern application_name={name}", new.conninfo());
    other.ask(&format!("alter system set primary_conninfo = '{source}'"));
    new.promote();
    new.ask("select pg_reload_conf()");
    other.ask("select pg_reload_conf()");
    load.go_on(300);
    let answered = load.end();
    backend.await_once_each(&answered);
    check(&new.url(), &setup.schema, &answered);
    // A server that no longer replicates is unusable with require_replicated.
    let level = "postern_store_durability{level=\"replicated\"}";
    assert_eq!(gateways[0].metric(level), 1.0);
    new.ask("alter system set synchronous_standby_names = ''");
    new.ask("select pg_reload_conf()");
    eventually("it is noticed", || !gateways[0].is_ready() && gateways[0].metric(level) == 0.0);
    assert_eq!(Caller::new(gateways[0].callbacks).call(&target("local")), None);
    let waiting = Gateway::begin(&setup);
    waiting.unready_for("starting: waiting for the store: ");
    waiting.unready_for("require_replicated");
    new.ask("alter system reset synchronous_standby_names");
    let back = format!("alter system set synchronous_standby_names = 'ANY 1 ({name})'");
    new.ask(&back);
    new.ask("select pg_reload_conf()");
    eventually("it is noticed", || gateways[0].is_ready() && waiting.is_ready());
    assert_eq!(get(gateways[0].callbacks, &target("local")).0, 200);
}

#[test]
fn a_start_without_tables_is_refused_and_a_migration_may_be_repeated() {
    let Some(cluster) = shared() else { return };
    let setup = setup(cluster, None);
    let refused = setup.run("serve");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("run `postern migrate --config FILE`"), "{said}");
    // Two concurrent runs, and then another one.
    thread::scope(|scope| {
        let both = [scope.spawn(|| setup.migrate()), scope.spawn(|| setup.migrate())];
        for one in both {
            one.join().unwrap();
        }
    });
    let again = setup.run("migrate");
    assert_eq!(String::from_utf8(again.stdout).unwrap(), "the tables are at version 9\n");
    drop(Gateway::start(&setup));
    // A later version that this gateway works with, and one that it does not work with.
    let schema = &setup.schema;
    cluster.ask(&format!("update {schema}.meta set v = 11 where k = 'version'"));
    drop(Gateway::start(&setup));
    cluster.ask(&format!("update {schema}.meta set v = 10 where k = 'oldest'"));
    let refused = setup.run("serve");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("of version 11 and this gateway knows version 9"), "{said}");
    cluster.ask(&format!("update {schema}.meta set v = 0 where k = 'version'"));
    let said = String::from_utf8(setup.run("serve").stderr).unwrap();
    assert!(said.contains("needs version 9: run `postern migrate --config FILE`"), "{said}");
}

/// 1. The tables were upgraded: gateways of an earlier version may work with them.
/// 2. One is registered: the upgrade cannot be finished.
/// 3. It is gone, and the upgrade is finished: callbacks are stored without the event's JSON.
/// 4. Both forms are delivered.
#[test]
fn callbacks_are_stored_once_after_the_upgrade_is_finished() {
    let Some(cluster) = shared() else { return };
    let backend = Backend::start();
    let setup = setup(cluster, Some(&backend));
    setup.migrate();
    let schema = &setup.schema;
    cluster.ask(&format!("delete from {schema}.meta where k = 'bodies'"));
    cluster.ask(&format!("update {schema}.meta set v = 3 where k = 'oldest'"));
    let gateway = Gateway::start(&setup);
    let mut caller = Caller::new(gateway.callbacks);
    let mut all = BTreeSet::new();
    let mut call = |transaction: &str| {
        all.insert(transaction.to_owned());
        assert_eq!(caller.call(&target(transaction)).map(|(status, _)| status), Some(200));
    };
    let with_json = || {
        let json = "position('\"transaction\":'::bytea in body) > 0";
        cluster.ask(&format!("select count(*) from {schema}.event where {json}"))
    };
    call("before");
    assert_eq!(with_json(), "1");
    cluster.ask(&format!(
        "insert into {schema}.gateway values (99, 'evt_0', 4611686018427387904, '')"
    ));
    let refused = setup.run("migrate --finish");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("gateways of an earlier version are at work: 1"), "{said}");
    cluster.ask(&format!("delete from {schema}.gateway where slot = 99"));
    let done = String::from_utf8(setup.run("migrate --finish").stdout).unwrap();
    assert!(done.contains("the upgrade is finished"), "{done}");
    let oldest = || cluster.ask(&format!("select v from {schema}.meta where k = 'oldest'"));
    assert_eq!(oldest(), "7");
    // An earlier version took that back when it migrated, and later steps do not.
    for taken_back in [7, 3] {
        cluster.ask(&format!(
            "update {schema}.meta set v = case k when 'oldest' then {taken_back} else 8 end
             where k in ('oldest', 'version')"
        ));
        setup.migrate();
        assert_eq!(oldest(), "7");
    }
    let mut number = 0;
    eventually("the gateway heard of it", || {
        number += 1;
        call(&format!("after-{number}"));
        with_json() == number.to_string()
    });
    backend.await_once_each(&all);
    check(&setup.url, schema, &all);
}

#[test]
fn counts_are_the_sum_of_all_gateways_and_outlive_a_kill() {
    let Some(cluster) = shared() else { return };
    let setup = setup(cluster, None);
    setup.migrate();
    let counts = |gateway: &Gateway| -> serde_json::Value {
        let (_, body) = get(gateway.admin, "/admin/v1/sources/level-end");
        let source: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(source["last_callback_at"].is_null(), source["counts"] == serde_json::json!({}));
        source["counts"]["accepted"].clone()
    };
    let (mut dies, lives) = (Gateway::start(&setup), Gateway::start(&setup));
    for (number, gateway) in [&dies, &dies, &dies, &lives].into_iter().enumerate() {
        let answer = Caller::new(gateway.callbacks).call(&target(&format!("sum-{number}")));
        assert_eq!(answer.map(|(status, _)| status), Some(200));
    }
    eventually("each knows what the other counted", || counts(&dies) == 4 && counts(&lives) == 4);
    dies.kill();
    let next = Gateway::start(&setup);
    eventually("the next one knows both", || counts(&next) == 4 && counts(&lives) == 4);
    let rows = cluster.ask(&format!("select count(*) from {}.gateway", setup.schema));
    assert!(["2", "3"].contains(&rows.as_str()), "the slot of the dead one is taken over in time");
    let answer = Caller::new(next.callbacks).call(&target("sum-9"));
    assert_eq!(answer.map(|(status, _)| status), Some(200));
    eventually("the sum goes on", || counts(&next) == 5 && counts(&lives) == 5);
}

/// A server that takes alerts: the bodies so far.
fn operators() -> (std::net::SocketAddr, Arc<Mutex<Vec<serde_json::Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, got) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let own = Arc::clone(&got);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                let head = line.to_ascii_lowercase();
                if let Some(value) = head.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            own.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    (at, got)
}

/// 1. Both gateways deliver to a missing backend: one of them sends one alert.
/// 2. The one that sends is killed: the other goes on, and knows that it was sent.
#[test]
fn one_of_several_gateways_sends_an_alert() {
    let Some(cluster) = shared() else { return };
    let backend = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup { url: cluster.url(), schema: schema(), backend: Some(backend), more: "" };
    setup.migrate();
    let (at, got) = operators();
    let edit = |text: &str| {
        format!("{text}[[alert]]\nname = \"ops\"\nurl = \"http://{at}/\"\non = \"failing\"\n")
    };
    let mut first = Gateway::start_edited(&setup, &edit);
    let open = "postern_alerts_open{alert=\"failing\"}";
    let slots = format!("select count(*) from {}.gateway", setup.schema);
    eventually("the first one leads", || cluster.ask(&slots) == "1");
    let second = Gateway::start_edited(&setup, &edit);
    for number in 0..20 {
        let to = if number % 2 == 0 { first.callbacks } else { second.callbacks };
        let answer = Caller::new(to).call(&target(&format!("alert-{number}")));
        assert_eq!(answer.map(|(status, _)| status), Some(200));
    }
    eventually("an alert is sent", || !got.lock().unwrap().is_empty());
    eventually("it is counted", || first.metric(open) == 1.0);
    // Killed before that is written, the next one would notify again, under the same id.
    let told = format!(
        "select count(*) from {}.document where kind = 'alerts'
         and encode(body, 'escape') ~ '\"open_ms\":[0-9]'",
        setup.schema
    );
    eventually("what was sent is written", || cluster.ask(&told) == "1");
    first.kill();
    eventually("the second one leads", || second.metric(open) == 1.0);
    let got = got.lock().unwrap();
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((&got[0]["state"], &got[0]["destination"]), (&"open".into(), &"game".into()));
}

/// 1. Two gateways; only the second one reads a configuration that it cannot apply.
/// 2. The first one leads: it tells, and tells when the second one has a good one again.
#[test]
fn what_only_another_gateway_sees_is_told_by_the_one_that_leads() {
    let Some(cluster) = shared() else { return };
    let setup = setup(cluster, None);
    setup.migrate();
    let (at, got) = operators();
    let edit = |text: &str| {
        format!("{text}[[alert]]\nname = \"ops\"\nurl = \"http://{at}/\"\non = \"reload\"\n")
    };
    let first = Gateway::start_edited(&setup, &edit);
    let open = "postern_alerts_open{alert=\"reload\"}";
    let slots = format!("select count(*) from {}.gateway", setup.schema);
    eventually("the first one leads", || cluster.ask(&slots) == "1");
    let second = Gateway::start_edited(&setup, &edit);
    eventually("the second one has its slot", || cluster.ask(&slots) == "2");
    let text = std::fs::read_to_string(second.config()).unwrap();
    std::fs::write(second.config(), "[server]\ncallbacks = 1\n").unwrap();
    eventually("an alert is sent", || !got.lock().unwrap().is_empty());
    assert_eq!((first.metric(open), second.metric(open)), (1.0, 0.0));
    std::fs::write(second.config(), text.replace("drain = \"5s\"", "drain = \"6s\"")).unwrap();
    eventually("it is closed", || got.lock().unwrap().len() == 2);
    let got = got.lock().unwrap();
    let states = [&got[0]["state"], &got[1]["state"]];
    assert_eq!(states, [&serde_json::json!("open"), &serde_json::json!("closed")], "{got:?}");
    assert!(got.iter().all(|one| one["alert"] == "reload"), "{got:?}");
}
