//! The reference set-up of `docs/high-availability.md`, with its own files: three servers under Patroni, HAProxy before
//! them and before two gateways. The machine of the primary is lost twice, under load.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::cluster::{
    ask, folder, free_port, is_there, processes, programs, schema, signal, skipped, spawn,
    unprivileged, unprivileged_reader,
};
use super::gateways::check;
use super::process::{Backend, Gateway, Load, Setup, eventually, get};

/// The passwords of both roles of the servers.
const PASSWORD: &str = "failover-tests-0123456789";
const SERVERS: usize = 3;

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/high-availability").join(file)
}

fn tool(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(path)
}

/// The programs of the set-up besides PostgreSQL's own.
struct Programs {
    etcd: PathBuf,
    patroni: PathBuf,
    haproxy: PathBuf,
}

impl Programs {
    /// `None`, with a line that says so, if one is missing.
    fn found() -> Option<Self> {
        let own = Self {
            etcd: tool("usr/bin/etcd"),
            patroni: tool("patroni/bin/patroni"),
            haproxy: PathBuf::from("/usr/sbin/haproxy"),
        };
        let missing = [&own.etcd, &own.patroni, &own.haproxy].into_iter().find(|one| !one.exists());
        let Some(missing) = missing else { return Some(own) };
        let says = format!("{} is missing (make setup)", missing.display());
        assert!(std::env::var_os("CI").is_none(), "{says}");
        skipped(&says);
        None
    }
}

/// A program that ends with the test.
struct Daemon(Child);

impl Daemon {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(spawn(command))
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One machine with PostgreSQL and Patroni.
struct Node {
    name: String,
    sql: u16,
    api: u16,
    command: Box<dyn Fn() -> Command>,
    log: PathBuf,
    patroni: Option<Daemon>,
    data: PathBuf,
    _keep: TempDir,
}

impl Node {
    fn new(number: usize, programs_of_test: &Programs, etcd: u16) -> Self {
        let (keep, data) = folder();
        let (sql, api, name) = (free_port(), free_port(), format!("db{number}"));
        let text = fs::read_to_string(deployed("patroni.yml")).unwrap();
        // The unprivileged user may write neither where Debian's sockets are nor into a home.
        let own = "        max_connections: 200\n        unix_socket_directories: \"\"\n";
        let settings = keep.path().join("patroni.yml");
        let edited = text.replace("        max_connections: 200\n", own);
        assert!(edited != text, "patroni.yml sets max_connections");
        fs::write(&settings, edited).unwrap();
        let environment = [
            ("NAME", name.clone()),
            ("ETCD3_HOSTS", format!("127.0.0.1:{etcd}")),
            ("RESTAPI_LISTEN", format!("127.0.0.1:{api}")),
            ("RESTAPI_CONNECT_ADDRESS", format!("127.0.0.1:{api}")),
            ("POSTGRESQL_LISTEN", format!("127.0.0.1:{sql}")),
            ("POSTGRESQL_CONNECT_ADDRESS", format!("127.0.0.1:{sql}")),
            ("POSTGRESQL_DATA_DIR", data.join("pg").display().to_string()),
            ("POSTGRESQL_BIN_DIR", programs().unwrap().display().to_string()),
            ("POSTGRESQL_PGPASS", data.join("pgpass").display().to_string()),
            ("SUPERUSER_USERNAME", "postgres".to_owned()),
            ("SUPERUSER_PASSWORD", PASSWORD.to_owned()),
            ("REPLICATION_USERNAME", "replicator".to_owned()),
            ("REPLICATION_PASSWORD", PASSWORD.to_owned()),
        ];
        let patroni = programs_of_test.patroni.clone();
        let command = Box::new(move || {
            let mut command = unprivileged_reader(&patroni);
            command.arg(&settings);
            for (key, value) in &environment {
                command.env(format!("PATRONI_{key}"), value);
            }
            command
        });
        let log = keep.path().join("log");
        Self { name, sql, api, command, log, patroni: None, data, _keep: keep }
    }

    fn run(&mut self) {
        self.patroni = Some(Daemon::start((self.command)(), &self.log));
    }

    fn api(&self, path: &str) -> u16 {
        get(SocketAddr::from(([127, 0, 0, 1], self.api)), path).0
    }

    /// The machine is gone: no process of it runs on.
    fn lose(&mut self) {
        if let Some(mut patroni) = self.patroni.take() {
            patroni.kill();
        }
        let Ok(text) = fs::read_to_string(self.data.join("pg/postmaster.pid")) else { return };
        let Some(id) = text.lines().next().and_then(|id| id.parse().ok()) else { return };
        let all = processes(id);
        signal(&all, "-9");
        eventually("the server's processes are gone", || {
            all.iter().all(|one| !Path::new("/proc").join(one).exists())
        });
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            skipped(&format!("the rest, because of the failure. {}", self.logs()));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.lose();
    }
}

/// The set-up, until it is dropped.
struct SetUp {
    nodes: Vec<Node>,
    programs: Programs,
    keep: TempDir,
    _etcd: Daemon,
}

impl SetUp {
    fn start(programs: Programs) -> Self {
        let (keep, folder) = folder();
        let (client, peer) = (free_port(), free_port());
        let mut etcd = unprivileged(&programs.etcd);
        etcd.arg("--data-dir").arg(folder.join("etcd"));
        for (flag, port) in [("client", client), ("peer", peer)] {
            let url = format!("http://127.0.0.1:{port}");
            etcd.arg(format!("--listen-{flag}-urls={url}"));
            match flag {
                "client" => etcd.arg(format!("--advertise-client-urls={url}")),
                _ => etcd.arg(format!("--initial-advertise-peer-urls={url}")),
            };
        }
        etcd.arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}"));
        let etcd = Daemon::start(etcd, &keep.path().join("etcd.log"));
        let mut nodes: Vec<Node> =
            (1..=SERVERS).map(|number| Node::new(number, &programs, client)).collect();
        nodes.iter_mut().for_each(Node::run);
        let own = Self { nodes, programs, keep, _etcd: etcd };
        own.is_whole();
        own
    }

    /// The ends of Patroni's logs, for a failure.
    fn logs(&self) -> String {
        let end = |node: &Node| {
            let log = fs::read_to_string(&node.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("{}:\n{}\n", node.name, lines[lines.len().saturating_sub(8)..].join("\n"))
        };
        self.nodes.iter().map(end).collect()
    }

    fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.api("/primary") == 200)
    }

    /// Waits until there are a primary, a synchronous standby and another one.
    fn is_whole(&self) {
        eventually("a primary and its standbys", || {
            let count = |path| self.nodes.iter().filter(|node| node.api(path) == 200).count();
            count("/primary") == 1 && count("/synchronous") == 1 && count("/replica") == SERVERS - 1
        });
    }

    /// Takes the primary's machine away while there is load, and waits for another to take over.
    fn lose_primary(&mut self, load: &Load) -> usize {
        let lost = self.primary().unwrap();
        self.nodes[lost].lose();
        load.go_on(300);
        let now = self.primary().expect("callbacks are answered, so there is a primary");
        assert_ne!(now, lost, "{} was lost", self.nodes[lost].name);
        lost
    }

    /// Starts the balancer in front of the servers and these gateways.
    fn balance(&self, sql: u16, callbacks: u16, gateways: [SocketAddr; 2]) -> Daemon {
        let mut haproxy = unprivileged_reader(&self.programs.haproxy);
        haproxy.arg("-db").arg("-f").arg(deployed("haproxy.cfg"));
        haproxy.env("PRIMARY", format!("127.0.0.1:{sql}"));
        haproxy.env("CALLBACKS", format!("127.0.0.1:{callbacks}"));
        for (number, gateway) in (1..).zip(gateways) {
            haproxy.env(format!("GATEWAY{number}"), gateway.to_string());
        }
        for (number, node) in (1..).zip(&self.nodes) {
            haproxy.env(format!("DB{number}"), format!("127.0.0.1:{}", node.sql));
            haproxy.env(format!("PATRONI{number}"), node.api.to_string());
        }
        Daemon::start(haproxy, &self.keep.path().join("haproxy.log"))
    }
}

/// Whether the server at this address is there, and no standby.
fn takes_writes(url: &str) -> bool {
    let mut psql = unprivileged(&programs().unwrap().join("psql"));
    psql.args(["-d", url, "-AtXqc", "select pg_is_in_recovery()"]).stderr(Stdio::null());
    psql.output().is_ok_and(|output| output.stdout.starts_with(b"f"))
}

/// 1. The primary's machine is lost under load: a standby takes over, and the gateways hold their callbacks until then.
/// 2. A gateway stops, and the balancer sends its callbacks to the other one.
/// 3. The lost machine comes back as a standby, and the second primary is lost as well.
/// 4. Whatever was answered with success is recorded once and delivered under one id.
#[test]
fn two_lost_primaries_and_a_stopped_gateway_lose_and_double_nothing() {
    if !is_there() {
        return;
    }
    let Some(programs) = Programs::found() else { return };
    let mut set_up = SetUp::start(programs);
    let (sql, callbacks) = (free_port(), free_port());
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let only_sql = set_up.balance(sql, free_port(), [nowhere, nowhere]);
    let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{sql}/postgres");
    // A balancer that has just started believes that every server is the primary, until its second check.
    eventually("the primary behind the balancer", || (0..2 * SERVERS).all(|_| takes_writes(&url)));
    let backend = Backend::start();
    let more = "require_replicated = true\n";
    let setup = Setup { url: url.clone(), schema: schema(), backend: Some(backend.at), more };
    setup.migrate();
    let lines = "health_path = \"/healthz\"\nreadiness = \"gateway\"\nlame_duck = \"3s\"\n";
    let first = Gateway::start_with(&setup, lines);
    let second = Gateway::start_with(&setup, lines);
    // The addresses of the gateways are known only now.
    drop(only_sql);
    let _balancer = set_up.balance(sql, callbacks, [first.callbacks, second.callbacks]);
    let balanced = SocketAddr::from(([127, 0, 0, 1], callbacks));
    eventually("the gateways behind the balancer", || get(balanced, "/callback/nowhere").0 == 404);
    let load = Load::start(&[balanced]);
    load.go_on(300);

    let lost = set_up.lose_primary(&load);
    first.terminate();
    load.go_on(300);
    set_up.nodes[lost].run();
    set_up.is_whole();
    set_up.lose_primary(&load);

    let answered = load.end();
    backend.await_once_each(&answered);
    check(&url, &setup.schema, &answered);
    assert_eq!(ask(&url, "show synchronous_commit"), "on");
}
