//! The program, killed under load.
//!
//! 1. Eight senders call at once, each transaction twice.
//! 2. The process is killed with signal 9 while they do.
//! 3. It is started again on the same ledger.
//! 4. Every transaction that was answered is there, and none is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::backend::Backend;
use super::gateway::{PLAIN, eventually, taku};
use super::reward_rule;
use super::wire::{self, get, get_bytes};

/// How often the process is killed.
const CYCLES: usize = 6;

/// Concurrent senders.
const SENDERS: usize = 8;

/// A gateway in a process of its own.
pub struct Process {
    child: Child,
    pub callbacks: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(config: &Path) -> Self {
        Self::start_with::<&str>(config, &[])
    }

    /// A process with these variables in its environment.
    pub fn start_with<V: AsRef<OsStr>>(config: &Path, variables: &[(&str, V)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["serve", "--log-format", "json", "--config"]).arg(config);
        Self::run(command, config, variables).ready()
    }

    /// A process for which a shell did `before` something else.
    pub fn under(before: &str, config: &Path) -> Self {
        let mut command = Command::new("sh");
        let line = format!("{before}; exec \"$0\" serve --log-format json --config \"$1\"");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_postern")]).arg(config);
        Self::run::<&str>(command, config, &[]).ready()
    }

    /// A process that has only begun to start: its listeners answer.
    pub fn begin(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["serve", "--log-format", "json", "--config"]).arg(config);
        Self::run::<&str>(command, config, &[])
    }

    fn ready(self) -> Self {
        self.await_line("\"ready\"");
        self
    }

    fn run<V: AsRef<OsStr>>(mut command: Command, config: &Path, variables: &[(&str, V)]) -> Self {
        let mut child = command
            .env("RUST_LOG", "info,postern::callback=off")
            .env_remove("POSTERN_MASTER_KEY")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let begun = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"starting\""));
        let begun = begun.expect("a gateway that starts");
        // A process that writes to an unread pipe would wait.
        let log = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&log);
        thread::spawn(move || lines.for_each(|line| own.lock().unwrap().extend(line)));
        let begun: serde_json::Value = serde_json::from_str(&begun).unwrap();
        let at = |key: &str| {
            let found = begun.get(key).or_else(|| begun["fields"].get(key));
            found.and_then(|value| value.as_str()).expect("an address").parse().unwrap()
        };
        let admin = at("admin");
        // Some have secrets in their environment, which is not ours.
        if let Ok(loaded) = postern::config::load(config) {
            let admin_of = loaded.config.admin;
            let local = admin_of.tokens.is_empty().then_some(admin_of.token_file);
            wire::remember_token(admin, local);
        }
        Self { callbacks: at("callbacks"), admin, child, log }
    }

    /// Waits until its log has a line with this text.
    pub fn await_line(&self, text: &str) {
        eventually(&format!("a line with {text}"), || {
            self.log.lock().unwrap().iter().any(|line| line.contains(text))
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; its exit code.
    pub fn ended(mut self) -> Option<i32> {
        eventually("its end", || self.has_ended());
        self.child.wait().unwrap().code()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it in good order.
    pub fn stop(mut self) {
        let id = self.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "kill", &id]).status();
        assert!(asked.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that a failed test leaves behind would hold the test's output open.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls until the connection breaks; every transaction that was answered with success.
pub fn send(to: SocketAddr, cycle: usize, sender: usize, answered: &Mutex<Vec<String>>) {
    let Ok(mut stream) = TcpStream::connect(to) else { return };
    stream.set_nodelay(true).unwrap();
    for number in 0.. {
        // Two senders share each transaction: copies race across the kill as well.
        let transaction = format!("tr-{cycle}-{}-{number}", sender / 2);
        if stream.write_all(get_bytes(&taku(&transaction)).as_bytes()).is_err() {
            return;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        answered.lock().unwrap().push(transaction);
    }
}

/// How often each recorded transaction is in the ledger.
pub fn recorded(admin: SocketAddr) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let answer = get(admin, &format!("/admin/v1/events?limit=1000{cursor}"));
        let page: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        for event in page["events"].as_array().unwrap() {
            *found.entry(event["transaction"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[test]
fn nothing_answered_is_lost_and_nothing_is_recorded_twice() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, PLAIN).unwrap();
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
        // Killed after another number of answers each time, not after a time.
        let enough = 150 + 130 * cycle;
        while answered.lock().unwrap().len() < enough {
            thread::sleep(Duration::from_millis(1));
        }
        process.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        all.extend(answered.lock().unwrap().iter().cloned());
    }
    let process = Process::start(&config);
    let found = recorded(process.admin);
    let lost: Vec<_> = all.iter().filter(|one| !found.contains_key(*one)).collect();
    let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
    process.kill();
    assert!(lost.is_empty(), "{} of {} answered are lost: {lost:?}", lost.len(), all.len());
    assert!(twice.is_empty(), "recorded twice: {twice:?}");
    assert!(all.len() > 1000, "{}", all.len());
}

/// Objects made over an API survive a kill right after its answer.
#[test]
fn what_was_made_over_the_apis_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    let text = "[manage.reward_rule]\npublishers = [{ key = \"demo-publisher-key\" }]\n[egress]\nallow = [\"127.0.0.0/8\"]\n";
    std::fs::write(&config, format!("{PLAIN}{text}")).unwrap();
    let backend = Backend::start();
    let rule = |n: usize| {
        let url = format!("http://{}/{n}?t={{trans_id}}", backend.at);
        serde_json::json!({ "rule_name": n.to_string(), "reward_name": "coin", "reward_number": 1, "reward_url": url, "remark": "" })
    };
    let mut made = Vec::new();
    for cycle in 0..3 {
        let process = Process::start(&config);
        let admin = process.admin;
        assert_eq!(reward_rule::list(admin, "").len(), made.len(), "cycle {cycle}");
        for n in 0..3 {
            let items = serde_json::json!({ "items": [rule(n), rule(n + 10)] });
            let answer = reward_rule::call(admin, "POST", &items);
            let ids = answer.json()["items"].as_array().unwrap().clone();
            made.extend(ids.iter().map(|item| item["id"].as_u64().unwrap()));
        }
        let source = serde_json::json!({ "sender": "taku", "secrets": "s", "rate": format!("{}/s", cycle + 1) });
        let put = wire::send(admin, "PUT /admin/v1/sources/bonus", &[], &source.to_string());
        assert!(put.status == 200 || put.status == 201, "{}", put.body);
        process.kill();
    }
    let process = Process::start(&config);
    let found = reward_rule::list(process.admin, "");
    let ids: Vec<u64> = found.iter().map(|rule| rule["id"].as_u64().unwrap()).collect();
    let source = get(process.admin, "/admin/v1/sources/bonus").json();
    let audit = get(process.admin, "/admin/v1/audit?limit=1000").json();
    process.kill();
    assert_eq!(ids, (1..=18).collect::<Vec<u64>>());
    assert_eq!(ids, made);
    assert_eq!(source["rate"], "3/s");
    assert_eq!(audit["audit"].as_array().unwrap().len(), 18 + 3);
}
