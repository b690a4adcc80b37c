//! Gateways in processes of their own, senders that call them, and a backend that is delivered to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use md5::{Digest, Md5};
use postern::clock;
use tempfile::TempDir;

/// Longer than anything takes that ends at all.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

/// A gateway, until it is dropped.
pub struct Gateway {
    child: Child,
    pub callbacks: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    folder: TempDir,
}

/// The token of the admin API.
pub const TOKEN: &str = "postgres-tests-0123456789";

/// A configuration on a server.
pub struct Setup {
    pub url: String,
    pub schema: String,
    pub backend: Option<SocketAddr>,
    pub more: &'static str,
}

impl Setup {
    fn text(&self) -> String {
        let Self { url, schema, backend, more } = self;
        let mut text = format!(
            "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"5s\"\n\
             [admin]\ntoken = \"{TOKEN}\"\n[store]\nengine = \"postgres\"\nurl = \"{url}\"\nschema = \"{schema}\"\n{more}\n\
             [[source]]\nname = \"level-end\"\nsender = \"taku\"\nsecrets = \"{SECRET}\"\n"
        );
        if let Some(backend) = backend {
            text.push_str("destinations = [\"game\"]\n[[destination]]\nname = \"game\"\n");
            text.push_str("timeout = \"1s\"\nconcurrency = 64\n");
            text.push_str(&format!("url = \"http://{backend}/\"\n"));
        }
        text
    }

    fn file(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postern.toml");
        std::fs::write(&path, self.text()).unwrap();
        (folder, path)
    }

    /// A command, and the folder that its configuration is in.
    pub fn command(&self, command: &str) -> (TempDir, Command) {
        let (folder, path) = self.file();
        let mut program = postern();
        program.args(command.split(' ')).arg("--config").arg(path);
        (folder, program)
    }

    /// Runs a command to its end.
    pub fn run(&self, command: &str) -> Output {
        let (_folder, mut program) = self.command(command);
        program.output().unwrap()
    }

    pub fn migrate(&self) -> &Self {
        let output = self.run("migrate");
        assert!(output.status.success(), "{output:?}");
        self
    }
}

fn postern() -> Command {
    Command::new(env!("CARGO_BIN_EXE_postern"))
}

impl Gateway {
    pub fn start(setup: &Setup) -> Self {
        Self::start_with(setup, "")
    }

    /// One with these lines in its `[server]`.
    pub fn start_with(setup: &Setup, lines: &str) -> Self {
        let (folder, path) = setup.file();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("drain", &format!("{lines}drain"))).unwrap();
        let gateway = Self::begin_from(folder, path);
        eventually("a gateway that gets ready", || !gateway.logged("\"ready\"").is_empty());
        gateway
    }

    /// One whose configuration is changed first.
    pub fn start_edited(setup: &Setup, edit: &dyn Fn(&str) -> String) -> Self {
        let (folder, path) = setup.file();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, edit(&text)).unwrap();
        let gateway = Self::begin_from(folder, path);
        eventually("a gateway that gets ready", || !gateway.logged("\"ready\"").is_empty());
        gateway
    }

    /// One that has only begun to start: its listeners answer.
    pub fn begin(setup: &Setup) -> Self {
        let (folder, path) = setup.file();
        Self::begin_from(folder, path)
    }

    fn begin_from(folder: TempDir, path: PathBuf) -> Self {
        let mut child = postern()
            .args(["serve", "--log-format", "json", "--config"])
            .arg(path)
            .env("RUST_LOG", "info,postern::callback=off")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let begun = lines.by_ref().map(Result::unwrap).find(|line| {
            said.push(line.clone());
            line.contains("\"starting\"")
        });
        let begun = begun.unwrap_or_else(|| panic!("a gateway that starts: {said:#?}"));
        // A write to a full pipe without a reader would block.
        let log = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&log);
        thread::spawn(move || lines.for_each(|line| own.lock().unwrap().extend(line)));
        let begun: serde_json::Value = serde_json::from_str(&begun).unwrap();
        let at = |key: &str| {
            let found = begun.get(key).or_else(|| begun["fields"].get(key));
            found.and_then(|value| value.as_str()).expect("an address").parse().unwrap()
        };
        Self { callbacks: at("callbacks"), admin: at("admin"), child, log, folder }
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("postern.toml")
    }

    /// Signal 9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Signal 15, and waits for its end.
    pub fn terminate(mut self) {
        super::cluster::signal(&[self.child.id().to_string()], "-TERM");
        assert!(self.child.wait().unwrap().success());
    }

    /// One value of the metrics' page.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, page) = get(self.admin, "/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn outcomes(&self, outcome: &str) -> u64 {
        let series =
            format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"level-end\"}}");
        self.metric(&series) as u64
    }

    /// Whether the page has the metric at all.
    pub fn shows(&self, metric: &str) -> bool {
        let (_, page) = get(self.admin, "/metrics");
        let is_it = |rest: &str| rest.starts_with([' ', '{']);
        page.lines().any(|line| line.strip_prefix(metric).is_some_and(is_it))
    }

    /// Lines of the log since the start that have this text.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Waits until it says that it is not ready, for this reason.
    pub fn unready_for(&self, reason: &str) {
        eventually(reason, || {
            let (status, said) = get(self.admin, "/readyz");
            status == 503 && said.contains(reason)
        });
    }

    pub fn is_ready(&self) -> bool {
        get(self.admin, "/readyz").0 == 200
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = clock::instant();
    while began.elapsed() < PATIENCE {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("never: {what}");
}

/// The target of a valid callback.
pub fn target(transaction: &str) -> String {
    let signed = format!(
        "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10\
         &reward_name=coin&sec_key={SECRET}"
    );
    let sign = const_hex::encode(Md5::digest(signed));
    format!(
        "/callback/level-end?user_id=u1&trans_id={transaction}&placement_id=p1&adsource_id=9\
         &reward_amount=10&reward_name=coin&sign={sign}"
    )
}

/// A connection to a gateway; each answer's status, or nothing where it is closed.
pub struct Caller(Option<TcpStream>, SocketAddr);

impl Caller {
    pub fn new(to: SocketAddr) -> Self {
        Self(None, to)
    }

    pub fn call(&mut self, target: &str) -> Option<(u16, String)> {
        let answer = self.try_call(target);
        if answer.is_none() {
            self.0 = None;
        }
        answer
    }

    /// A POST without a body.
    pub fn post(&mut self, target: &str) -> Option<(u16, String)> {
        self.exchange("POST", target)
    }

    fn try_call(&mut self, target: &str) -> Option<(u16, String)> {
        self.exchange("GET", target)
    }

    fn exchange(&mut self, method: &str, target: &str) -> Option<(u16, String)> {
        if self.0.is_none() {
            let stream = TcpStream::connect(self.1).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            self.0 = Some(stream);
        }
        let stream = self.0.as_mut()?;
        let token = match target.starts_with("/admin/") {
            true => format!("Authorization: Bearer {TOKEN}\r\n"),
            false => String::new(),
        };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut read = Vec::new();
        let mut piece = [0; 16_384];
        loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())
                    .unwrap_or(0);
                if read.len() >= end + 4 + length {
                    let body = String::from_utf8_lossy(&read[end + 4..]).into_owned();
                    return Some((head[9..12].parse().ok()?, body));
                }
            }
            match stream.read(&mut piece) {
                Ok(len) if len > 0 => read.extend_from_slice(&piece[..len]),
                _ => return None,
            }
        }
    }
}

/// One GET on a connection of its own.
pub fn get(to: SocketAddr, target: &str) -> (u16, String) {
    Caller::new(to).call(target).unwrap_or_default()
}

/// Senders that call again and again, each transaction until it is answered with success, as real
/// ones do.
pub struct Load {
    answered: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    senders: Vec<thread::JoinHandle<()>>,
}

impl Load {
    /// Eight senders, and for each a double at the next gateway that sends the same.
    pub fn start(gateways: &[SocketAddr]) -> Self {
        let answered = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let sender = |number: usize| {
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            let gateways: Vec<SocketAddr> =
                (0..gateways.len()).map(|at| gateways[(number + at) % gateways.len()]).collect();
            thread::spawn(move || send(&gateways, number / 2, &answered, &stop))
        };
        let senders = (0..16).map(sender).collect();
        Self { answered, stop, senders }
    }

    pub fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    /// Waits until so many more are answered.
    pub fn go_on(&self, more: usize) {
        let enough = self.count() + more;
        eventually("callbacks are answered", || self.count() >= enough);
    }

    /// Ends it; every transaction that was answered with success.
    pub fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.into_iter().for_each(|sender| sender.join().unwrap());
        std::mem::take(&mut *self.answered.lock().unwrap())
    }
}

fn send(
    gateways: &[SocketAddr],
    pair: usize,
    answered: &Mutex<BTreeSet<String>>,
    stop: &AtomicBool,
) {
    let mut callers: Vec<Caller> = gateways.iter().copied().map(Caller::new).collect();
    let mut turn = 0;
    for number in 0.. {
        let transaction = format!("tr-{pair}-{number}");
        let target = target(&transaction);
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let caller = turn % callers.len();
            match callers[caller].call(&target) {
                Some((200, _)) => break,
                Some((status, body)) => panic!("{status} {body}"),
                // Not answered: the same again, elsewhere.
                None => {
                    turn += 1;
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
        answered.lock().unwrap().insert(transaction);
    }
}

/// A backend that says yes, and which event ids it got for each transaction.
#[derive(Clone)]
pub struct Backend {
    pub at: SocketAddr,
    got: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
    /// While it is set nothing is answered.
    pub silent: Arc<AtomicBool>,
}

impl Backend {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let backend = Self { at, got: Arc::default(), silent: Arc::default() };
        let own = backend.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (own, stream) = (own.clone(), stream.unwrap());
                thread::spawn(move || own.serve(&stream));
            }
        });
        backend
    }

    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                let line = line.trim().to_ascii_lowercase();
                if let Some(text) = line.strip_prefix("content-length: ") {
                    length = text.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            while self.silent.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            self.got.lock().unwrap().entry(text("transaction")).or_default().insert(text("id"));
            let mut to = stream;
            if to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    }

    pub fn got(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until all of these were delivered, and checks that none was under two ids: it would
    /// have been accepted twice.
    pub fn await_once_each(&self, transactions: &BTreeSet<String>) {
        eventually("everything that was answered is delivered", || {
            let got = self.got.lock().unwrap();
            transactions.iter().all(|one| got.contains_key(one))
        });
        let twice: Vec<_> = self.got().into_iter().filter(|(_, ids)| ids.len() > 1).collect();
        assert!(twice.is_empty(), "accepted twice: {twice:?}");
    }
}
