//! A pooler between gateway and server: one that hands statements to other sessions is refused, and
//! where a session is not what it was made, nothing is acknowledged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern::ledger::{
    Accepted, DocumentChange, Expect, Item, Kind, LeaseAsk, LeaseResult, Ledger as _, LedgerError,
    Nonce, NonceUse, Postgres, PostgresError, PostgresOptions, ReplayId, ReplayOrder, ReplayWhat,
    Settled, TargetFilter, conformance,
};
use postern::sender::Secret;
use tempfile::TempDir;

use super::cluster::{
    Cluster, folder, free_port, is_root, is_there, schema, shared, skipped, spawn, unprivileged,
};
use super::engine::{opened, options, runtime};
use super::gateways::check;
use super::process::{Backend, Gateway, Load, Setup, eventually};
use super::proxy::Proxy;

/// Debian has it on the path of administrators alone.
const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// PgBouncer, until this is dropped.
struct Pooler {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    /// Whether there is one to test with; says so if not.
    fn is_there() -> bool {
        if Path::new(PGBOUNCER).exists() {
            return true;
        }
        assert!(std::env::var_os("CI").is_none(), "{PGBOUNCER} is missing");
        skipped("/usr/sbin/pgbouncer is missing (make setup)");
        false
    }

    fn start(cluster: &Cluster, mode: &str, size: usize) -> Self {
        let (keep, folder) = folder();
        let (port, server) = (free_port(), cluster.host());
        let (host, server_port) = server.split_once(':').unwrap();
        let users = folder.join("users.txt");
        let settings = folder.join("pgbouncer.ini");
        fs::write(&users, "\"postern\" \"\"\n").unwrap();
        let text = format!(
            "[databases]\npostgres = host={host} port={server_port} user=postern\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = {size}\n",
            users.display()
        );
        fs::write(&settings, text).unwrap();
        for path in [&users, &settings] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
            if is_root() {
                let nobody = Some(super::cluster::NOBODY);
                std::os::unix::fs::chown(path, nobody, nobody).unwrap();
            }
        }
        let mut command = unprivileged(Path::new(PGBOUNCER));
        command.arg("-q").arg(&settings).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn(command);
        let own = Self { child, port, _folder: keep };
        let at = ("127.0.0.1", port);
        eventually("the pooler listens", || std::net::TcpStream::connect(at).is_ok());
        own
    }

    fn url(&self) -> String {
        format!("postgres://postern@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pooler_that_hands_statements_to_other_sessions_is_refused() {
    let Some(cluster) = shared().filter(|_| Pooler::is_there()) else { return };
    let direct = Setup { url: cluster.url(), schema: schema(), backend: None, more: "" };
    direct.migrate();
    for (mode, size) in [("transaction", 1), ("transaction", 8), ("statement", 3)] {
        let pooler = Pooler::start(cluster, mode, size);
        for command in ["serve", "migrate"] {
            let setup = Setup { url: pooler.url(), schema: direct.schema.clone(), ..direct };
            let refused = setup.run(command);
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{mode} {command}: {said}");
            assert!(said.contains("pool_mode = session"), "{mode} {size} {command}: {said}");
        }
    }
}

#[test]
fn a_pooler_in_session_mode_works_and_a_server_that_dies_behind_it_costs_nothing() {
    if !is_there() || !Pooler::is_there() {
        return;
    }
    let cluster = Cluster::start(&[]);
    let pooler = Pooler::start(&cluster, "session", 40);
    let backend = Backend::start();
    let backend_at = Some(backend.at);
    let setup = Setup { url: pooler.url(), schema: schema(), backend: backend_at, more: "" };
    setup.migrate();
    let gateways = [Gateway::start(&setup), Gateway::start(&setup)];
    let load = Load::start(&[gateways[0].callbacks, gateways[1].callbacks]);
    for _ in 0..2 {
        load.go_on(300);
        cluster.kill();
        eventually("it is not ready", || gateways.iter().all(|gateway| !gateway.is_ready()));
        cluster.run();
        eventually("it is back", || gateways.iter().all(Gateway::is_ready));
    }
    load.go_on(300);
    let answered = load.end();
    backend.await_once_each(&answered);
    check(&cluster.url(), &setup.schema, &answered);
}

async fn refused(what: &str, answer: Result<impl std::fmt::Debug, LedgerError>) {
    match answer {
        Err(LedgerError::Unavailable(why)) => assert!(why.contains("survive"), "{what}: {why}"),
        other => panic!("{what}: {other:?}"),
    }
}

/// How many commits were refused because they would not have been durable.
async fn undurable(engine: &Postgres) -> u64 {
    let faults = engine.health().await.unwrap().server.unwrap().faults;
    faults.into_iter().find(|(code, _)| code.as_str() == "not_durable").unwrap().1
}

fn change(n: u64) -> DocumentChange {
    DocumentChange {
        kind: Kind::new("rule"),
        id: format!("{n}"),
        expect: Expect::Absent,
        body: Some("body".into()),
        who: "me".into(),
        at_ms: 7,
    }
}

#[test]
fn where_a_session_waits_for_nothing_nothing_is_promised() {
    let Some(cluster) = shared() else { return };
    let proxy = Proxy::start(&cluster.host());
    runtime().block_on(async {
        let schema = schema();
        let url = format!("postgres://postern@{}/postgres?sslmode=disable", proxy.at);
        let direct = opened(options(cluster, &schema)).await;
        let first = conformance::event(1, &["a"]);
        direct.accept(std::slice::from_ref(&first)).await.unwrap();
        // The sessions of the second one are made when they are first used: all by a leak.
        let through = PostgresOptions { url: Secret::new(url), ..options(cluster, &schema) };
        let engine = opened(through).await;
        engine.release(&conformance::node()).await.unwrap();
        proxy.leaks.store(true, Ordering::Relaxed);
        // A cut closes the earlier connections of the health check.
        proxy.cut_once("update meta set v = v + 1", super::proxy::Cut::Before);
        assert!(engine.change(&change(0)).await.is_err());

        refused("document", engine.change(&change(1)).await).await;
        let replay = ReplayOrder {
            id: ReplayId::new(7),
            what: ReplayWhat::Events(vec![first.id]),
            targets: None,
            only: None,
        };
        refused("replay", engine.replay(&replay, None, 9).await).await;
        let ask = LeaseAsk { targets: TargetFilter::All, max: 9, ttl: Duration::from_secs(60) };
        let node = conformance::node();
        let lease = engine.lease(&node, &ask).await.unwrap().leases.remove(0);
        let dead = [conformance::settlement(&lease, LeaseResult::Dead)];
        let settling = engine.settle(&node, &dead);
        let pending = tokio::time::timeout(Duration::from_secs(1), settling).await;
        assert!(pending.is_err(), "{pending:?}");
        let nonce = Nonce { key: conformance::key(77), expires_ms: i64::MAX };
        let noting = engine.check_nonces(std::slice::from_ref(&nonce));
        assert!(tokio::time::timeout(Duration::from_secs(1), noting).await.is_err());
        let importing = engine.import(vec![Item::Nonce(nonce.clone())]);
        assert!(tokio::time::timeout(Duration::from_secs(1), importing).await.is_err());

        let event = conformance::event(2, &["a"]);
        let own = (engine.clone(), event.clone());
        let accepting = tokio::spawn(async move { own.0.accept(&[own.1]).await });
        let before = undurable(&engine).await;
        while undurable(&engine).await < before + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!accepting.is_finished() && before > 4, "{before}");
        let rows = |table| cluster.ask(&format!("select count(*) from {schema}.{table}"));
        assert_eq!(rows("event"), "1");
        for table in ["nonce", "dead", "replayed", "document"] {
            assert_eq!(rows(table), "0", "{table}");
        }
        // And with sessions that wait, all of it succeeds.
        proxy.leaks.store(false, Ordering::Relaxed);
        assert_eq!(accepting.await.unwrap().unwrap(), [Accepted::New]);
        assert_eq!(engine.settle(&node, &dead).await.unwrap(), [Settled::Applied]);
        assert_eq!(engine.check_nonces(&[nonce]).await.unwrap(), [NonceUse::First]);
        engine.change(&change(1)).await.unwrap();
        assert_eq!(engine.replay(&replay, None, 9).await.unwrap().deliveries, 1);
    });
}

#[test]
fn a_server_that_waits_for_nothing_is_waited_for_all_the_same() {
    let Some(cluster) = shared() else { return };
    runtime().block_on(async {
        let schema = schema();
        cluster.ask(&format!("create role {schema} login superuser"));
        cluster.ask(&format!("alter role {schema} set synchronous_commit = off"));
        let url = cluster.url().replace("postern@", &format!("{schema}@"));
        let engine =
            opened(PostgresOptions { url: Secret::new(url), ..options(cluster, &schema) }).await;
        let answer = engine.accept(&[conformance::event(1, &["a"])]).await.unwrap();
        assert_eq!(answer, [Accepted::New]);
        assert_eq!(engine.health().await.unwrap().durability.as_str(), "local");
    });
    let none = Cluster::start(&["fsync=off"]);
    runtime().block_on(async {
        let strict = PostgresOptions { require_replicated: true, ..options(&none, "strict") };
        Postgres::migrate(&strict, &mut |_| {}).await.unwrap();
        let error = Postgres::open(strict).await.unwrap_err();
        assert!(matches!(error, PostgresError::NotReplicated(_)), "{error}");
    });
}
