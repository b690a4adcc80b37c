//! A PostgreSQL cluster for tests: in a temporary folder, on a free port of this machine, run by an
//! unprivileged user.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use postern::clock;
use tempfile::TempDir;

/// The user of the server where the tests run as root, which PostgreSQL rejects.
pub const NOBODY: u32 = 65_534;

/// The time limit of a server's start: these machines are slow and shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder with the server's programs, if there is one.
pub fn programs() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/lib/postgresql");
        let roots = [PathBuf::from("/usr/lib/postgresql"), tools];
        let versions = roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
        let mut folders: Vec<PathBuf> = versions
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
            .collect();
        folders.sort();
        folders.pop()
    });
    found.as_deref()
}

/// Whether there is a server to test with; says so if not.
pub fn is_there() -> bool {
    if programs().is_some() {
        return true;
    }
    let says = "PostgreSQL's initdb and postgres are missing (Debian: the package postgresql)";
    assert!(std::env::var_os("CI").is_none(), "{says}");
    skipped(says);
    false
}

/// Says that a test is skipped, and why.
pub fn skipped(why: &str) {
    // Not by the macro: what that prints is hidden where a test passes.
    let mut err = std::io::stderr();
    writeln!(err, "SKIPPED: {why}").unwrap();
}

/// A server, until this is dropped.
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    server: Mutex<Option<Child>>,
    _keep: Option<TempDir>,
}

/// A folder that the server's user may use.
pub fn folder() -> (TempDir, PathBuf) {
    let keep = tempfile::tempdir().unwrap();
    fs::set_permissions(keep.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = keep.path().join("data");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    (keep, folder)
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program of the server, as a user that may run it.
fn program(name: &str) -> Command {
    unprivileged(&programs().unwrap().join(name))
}

/// A program, as an unprivileged user.
pub fn unprivileged(path: &Path) -> Command {
    with_capabilities(path, &[])
}

/// The same, but it may read files of this checkout, wherever that is: below `/root`, for one.
pub fn unprivileged_reader(path: &Path) -> Command {
    with_capabilities(path, &["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"])
}

fn with_capabilities(path: &Path, capabilities: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    // Whatever becomes of the tests, no server outlives them.
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        command.args(capabilities);
    }
    command.arg("--").arg(path).current_dir("/").env("LC_ALL", "C");
    command
}

fn done(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn init(folder: &Path) {
    let mut initdb = program("initdb");
    initdb.args(["-U", "postern", "-A", "trust", "-E", "UTF8", "--no-locale", "-D"]);
    initdb.arg(folder);
    done(initdb);
}

/// Starts a child from a thread that lives as long as the tests: a signal at the parent's death is
/// one at the death of the thread.
pub fn spawn(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<Child>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                answer.send(command.spawn().unwrap()).unwrap();
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    spawner.lock().unwrap().send((command, answer)).unwrap();
    child.recv().unwrap()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// A new server with these settings.
    pub fn start(settings: &[&str]) -> Self {
        let (keep, folder) = folder();
        init(&folder);
        Self::begin(keep, folder, settings)
    }

    /// A new server that shows that certificate.
    pub fn start_with_tls(cert: &str, key: &str) -> Self {
        let (keep, folder) = folder();
        init(&folder);
        for (name, text) in [("server.crt", cert), ("server.key", key)] {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if is_root() {
                chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        Self::begin(keep, folder, &["ssl=on"])
    }

    /// A standby of this server, that calls itself `name`.
    pub fn standby(&self, name: &str) -> Self {
        let (keep, folder) = folder();
        let mut backup = program("pg_basebackup");
        let source =
            format!("host=127.0.0.1 port={} user=postern application_name={name}", self.port);
        backup.args(["-R", "-X", "stream", "-c", "fast", "-d", &source, "-D"]).arg(&folder);
        done(backup);
        Self::begin(keep, folder, &[])
    }

    fn begin(keep: TempDir, folder: PathBuf, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&one| one.to_owned()).collect();
        let port = free_port();
        let server = Mutex::new(None);
        let cluster = Self { folder, port, settings, server, _keep: Some(keep) };
        cluster.run();
        cluster
    }

    /// Starts the server (again) and waits until it takes connections.
    pub fn run(&self) {
        let began = clock::instant();
        while began.elapsed() < PATIENCE {
            *self.server.lock().unwrap() = Some(self.spawn());
            while began.elapsed() < PATIENCE {
                if self.answers() {
                    return;
                }
                let mut server = self.server.lock().unwrap();
                if server.as_mut().unwrap().try_wait().unwrap().is_some() {
                    // Processes of one that was killed may still hold on to its memory.
                    break;
                }
                drop(server);
                thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("the server does not start: {}", self.log());
    }

    fn spawn(&self) -> Child {
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(&self.folder).args(["-p", &self.port.to_string()]);
        let sockets = format!("unix_socket_directories={}", self.folder.display());
        let fixed = [
            "listen_addresses=127.0.0.1",
            &sockets,
            "max_connections=200",
            "max_wal_size=2GB",
            "wal_keep_size=256MB",
            "hot_standby=on",
            "max_wal_senders=10",
            "log_min_messages=warning",
        ];
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            postgres.args(["-c", setting]);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        spawn(postgres)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.parent().unwrap().join("log")
    }

    /// The log of the server.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn answers(&self) -> bool {
        let mut ready = program("pg_isready");
        ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        ready.status().is_ok_and(|status| status.success())
    }

    /// Every process of the server, the one that the others are children of first.
    pub fn processes(&self) -> Vec<String> {
        let id = self.server.lock().unwrap().as_ref().unwrap().id();
        processes(id)
    }

    /// Stops every process of the server where it is: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        signal(&self.processes(), "-STOP");
    }

    /// Lets the server go on.
    pub fn thaw(&self) {
        signal(&self.processes(), "-CONT");
    }

    /// Kills every process of the server with signal 9 and waits until all are gone.
    pub fn kill(&self) {
        let Some(mut server) = self.server.lock().unwrap().take() else { return };
        let all = processes(server.id());
        signal(&all, "-9");
        server.wait().unwrap();
        for process in &all[1..] {
            while Path::new("/proc").join(process).exists() {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = fs::remove_file(self.folder.join("postmaster.pid"));
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        let mut promote = program("pg_ctl");
        promote.args(["promote", "-w", "-D"]).arg(&self.folder);
        done(promote);
    }

    /// The one value that a query answers.
    pub fn ask(&self, sql: &str) -> String {
        ask(&self.url(), sql)
    }

    /// Changes a setting of the server, for all sessions.
    pub fn set(&self, setting: &str) {
        self.ask(&format!("alter system set {setting}"));
        self.reload();
    }

    /// Undoes [`Cluster::set`]; the server may be read-only.
    pub fn reset(&self, setting: &str) {
        self.ask(&format!("alter system reset {setting}"));
        self.reload();
    }

    /// Waits until the server has the new settings: only then has it told its sessions of them.
    fn reload(&self) {
        let loaded = || self.ask("select pg_conf_load_time()");
        let before = loaded();
        self.ask("select pg_reload_conf()");
        let end = clock::instant() + PATIENCE;
        while loaded() == before {
            assert!(clock::instant() < end, "the settings are not loaded");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that is in a schema, as a backup would hold it.
    pub fn dump(&self, schema: &str) -> String {
        let mut dump = program("pg_dump");
        let port = self.port.to_string();
        dump.args(["-h", "127.0.0.1", "-p", &port, "-U", "postern", "-n", schema, "postgres"]);
        String::from_utf8(done(dump).stdout).unwrap()
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How a standby finds it.
    pub fn conninfo(&self) -> String {
        format!("host=127.0.0.1 port={}", self.port)
    }

    /// How a gateway finds it.
    pub fn url(&self) -> String {
        format!("postgres://postern@{}/postgres", self.host())
    }
}

/// The one value that a query answers.
pub fn ask(url: &str, sql: &str) -> String {
    let mut psql = program("psql");
    psql.args(["-d", url, "-v", "ON_ERROR_STOP=1", "-AtXqc", sql]);
    String::from_utf8(done(psql).stdout).unwrap().trim().to_owned()
}

/// A process and its children.
pub fn processes(id: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let mut all = vec![id.to_string()];
    all.extend(children.unwrap_or_default().split_whitespace().map(str::to_owned));
    all
}

/// Sends a signal to processes.
pub fn signal(processes: &[String], signal: &str) {
    // The shell's own: a bare machine has no program of that name.
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill \"$@\"", "kill", signal]).args(processes);
    kill.stderr(Stdio::null()).status().unwrap();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The cluster for tests that leave it intact; `None`: no server is installed.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    is_there().then(|| SHARED.get_or_init(|| Cluster::start(&[])))
}

/// A name for a schema that no other test has.
pub fn schema() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", LAST.fetch_add(1, Ordering::Relaxed))
}
