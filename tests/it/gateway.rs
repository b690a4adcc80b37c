//! A gateway of a test's own, on ports of its own, and what it said.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use md5::{Digest, Md5};
use postern::config::{self, Config};
use postern::delivery::Deliveries;
use postern::ledger::{BatchOptions, BatchedLedger, Engine, Memory, StoreClock};
use postern::lifecycle::{Stop, Stopping};
use postern::server::{self, Addresses, Listeners, Observed, Parts};
use postern::telemetry::{self, LogFormat, Metrics};
use postern::wire::Inherited;
use tokio::sync::{oneshot, watch};

/// The secret of every Taku source of the tests. It must never be seen in a log.
pub const TAKU_SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

/// Sockets and one Taku source called `level-end`.
pub const PLAIN: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
drain = "5s"

[[source]]
name = "level-end"
sender = "taku"
replayable = true # tests make other sources with the same secret
secrets = "0123456789abcdefghijklmnopqrstuv"
"#;

/// A gateway that runs until this is dropped.
pub struct Gateway {
    pub at: Addresses,
    config: watch::Sender<Arc<Config>>,
    folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    hurry: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// A gateway with that configuration and a ledger in memory.
    pub fn start(text: &str) -> Self {
        Self::with(text, BatchOptions::default())
    }

    /// A gateway whose ledger has no room for any event.
    pub fn without_room(text: &str) -> Self {
        Self::with(text, BatchOptions { queue_events: 0, ..BatchOptions::default() })
    }

    /// A gateway over a ledger that outlives it.
    pub fn over(text: &str, engine: impl Into<Engine>) -> Self {
        Self::on(text, engine, BatchOptions::default())
    }

    fn with(text: &str, options: BatchOptions) -> Self {
        Self::on(text, Memory::new(StoreClock::process()), options)
    }

    fn on(text: &str, engine: impl Into<Engine>, options: BatchOptions) -> Self {
        capture();
        let folder = tempfile::tempdir().unwrap();
        let loaded = load(&folder, text);
        let (configured, file) = (&loaded.admin.tokens, loaded.admin.token_file.clone());
        let local = configured.is_empty().then_some(file);
        let listeners = Listeners::bind(&loaded.server, Inherited::default()).unwrap();
        let at = listeners.addresses().unwrap();
        super::wire::remember_token(at.admin, local);
        let metrics = Arc::new(Metrics::new().unwrap());
        let observer = Arc::new(Observed::new(&metrics));
        let ledger = BatchedLedger::new(engine, options, observer);
        let (config, changes) = watch::channel(loaded);
        let parts = Parts {
            config: changes,
            store: ledger.into(),
            metrics,
            listeners,
            deliveries: Deliveries::On,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (hurry, hurried) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let drain = async move {
                let _ = stopped.await;
                Stopping::DrainNow
            };
            let now = async move {
                if hurried.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            runtime.block_on(server::run_until(parts, Stop { drain, now })).unwrap();
        });
        eventually("the store is open", || {
            !super::wire::get(at.admin, "/readyz").body.starts_with("starting")
        });
        let (stop, hurry, thread) = (Some(stop), Some(hurry), Some(thread));
        Self { at, config, folder, stop, hurry, thread }
    }

    /// Continues under another configuration.
    pub fn reload(&self, text: &str) {
        self.config.send_replace(load(&self.folder, text));
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Asks for the drain and waits for the end.
    pub fn stop(mut self) {
        self.ask_to_stop();
        self.thread.take().unwrap().join().unwrap();
    }

    /// Asks for the drain.
    pub fn ask_to_stop(&mut self) {
        self.stop.take();
    }

    /// Asks for the drain over the admin API, with the time before it.
    pub fn lame_duck(&self) {
        assert_eq!(super::wire::post(self.at.admin, "/admin/v1/drain", "").status, 202);
    }

    /// Ends it at once.
    pub fn hurry(mut self) {
        self.hurry.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// One value of the metrics' page.
    pub fn metric(&self, series: &str) -> f64 {
        let page = super::wire::get(self.at.admin, "/metrics");
        let value = page.body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series} in {}", page.body)).parse().unwrap()
    }

    /// Waits until a value of the metrics' page is `expected`.
    pub fn await_metric(&self, series: &str, expected: f64) {
        eventually(&format!("{series} is {expected}"), || self.metric(series) == expected);
    }

    /// How many callbacks of `level-end` had that outcome.
    pub fn outcomes(&self, outcome: &str) -> f64 {
        self.metric(&series(outcome))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the gateway panicked");
        }
    }
}

fn load(folder: &tempfile::TempDir, text: &str) -> Arc<Config> {
    let path = folder.path().join("postern.toml");
    std::fs::write(&path, text).unwrap();
    Arc::new(config::load(&path).unwrap_or_else(|faults| panic!("{faults:?}")).config)
}

/// The series of an outcome of `level-end`.
pub fn series(outcome: &str) -> String {
    format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"level-end\"}}")
}

/// Waits until something holds; it has a minute.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    within(Duration::from_secs(60), what, holds);
}

/// Waits until something holds that takes a round of retention, which runs once a minute.
pub fn after_retention(what: &str, holds: impl FnMut() -> bool) {
    within(Duration::from_secs(180), what, holds);
}

fn within(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    const EVERY: Duration = Duration::from_millis(10);
    for _ in 0..time.as_millis() / EVERY.as_millis() {
        if holds() {
            return;
        }
        std::thread::sleep(EVERY);
    }
    panic!("never: {what}");
}

/// A correctly signed Taku callback to `level-end`.
pub fn taku(transaction: &str) -> String {
    taku_for("u1", transaction, "10")
}

/// A correctly signed Taku callback to `level-end`.
pub fn taku_for(user: &str, transaction: &str, amount: &str) -> String {
    let signed = format!(
        "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount={amount}\
         &reward_name=coin&sec_key={TAKU_SECRET}"
    );
    let sign = const_hex::encode(Md5::digest(signed));
    format!(
        "/callback/level-end?user_id={user}&trans_id={transaction}&placement_id=p1&adsource_id=9\
         &reward_amount={amount}&reward_name=coin&sign={sign}"
    )
}

/// Everything that all gateways of this process logged so far.
pub fn logged() -> String {
    String::from_utf8_lossy(&capture().0.lock().unwrap()).into_owned()
}

/// The lines that hold `word`, once there are `count` of them.
pub fn await_lines(word: &str, count: usize) -> Vec<String> {
    let lines = || -> Vec<String> {
        logged().lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
    };
    eventually(&format!("{count} lines with {word}"), || lines().len() >= count);
    lines()
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture() -> &'static Sink {
    static SINK: OnceLock<Sink> = OnceLock::new();
    SINK.get_or_init(|| {
        let sink = Sink::default();
        let out = sink.clone();
        let subscriber = telemetry::subscriber(LogFormat::Json, "trace", move || out.clone());
        tracing::subscriber::set_global_default(subscriber).unwrap();
        sink
    })
}
