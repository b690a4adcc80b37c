//! `postern demo`: the gateway, its senders and a backend in one process, with something to see.

mod backend;
mod rule;
mod script;

use std::io;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use self::backend::Backend;
use self::script::{Row, Script};
use super::{ConfigFile, Exit, Screen, columns};
use crate::config::{self, Config, Machine, StoreEngine};
use crate::delivery::Deliveries;
use crate::lifecycle::{Signals, Stop};
use crate::server::{self, Addresses, Listeners, Parts, ServeError};
use crate::telemetry::Metrics;
use crate::wire::Inherited;

/// The demo's configuration and its callbacks: the files of `fixtures/demo`.
const CONFIG: &str = include_str!("../../fixtures/demo/postern.toml");
const CALLBACKS: &str = include_str!("../../fixtures/demo/callbacks.toml");

/// How long the backend may take to get what was accepted.
const DELIVERY_TIME: Duration = Duration::from_secs(10);

/// Run everything at once: a gateway, its senders and a backend
#[derive(Args, Debug)]
#[command(
    long_about = "Run everything at once: a gateway, its senders and a backend.\n\n\
        The gateway has a source for each of several senders, and an embedded store in a temporary \
        directory. Signed callbacks are sent to it over HTTP: valid, repeated, forged, stale, test \
        requests, address checks. A reward rule is created over the API and called. A table shows \
        each reply; then everything keeps running until Ctrl-C.",
    after_help = "Examples:\n  postern demo\n  postern demo --once"
)]
pub(super) struct Demo {
    #[command(flatten)]
    common: ConfigFile,
    /// Exit after the table; fail if an outcome differs from the expected one
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let folder = std::env::temp_dir().join(format!("postern-demo-{}", process::id()));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let ended = runtime.block_on(self.play(&folder, screen));
        drop(runtime);
        // Nothing in it is of use to anybody once the demo is over.
        let _ = std::fs::remove_dir_all(&folder);
        ended
    }

    async fn play(&self, folder: &Path, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let backend = Backend::start().await?;
        let config = match configuration(folder, &backend) {
            Ok(config) => config,
            Err(sentence) => return failed(screen, &sentence),
        };
        let running = match Running::start(config).await {
            Ok(running) => running,
            Err(error) => return failed(screen, &error.to_string()),
        };
        let script = Script::parse(CALLBACKS).map_err(io::Error::other)?;
        let mut rows = script.play(&running.config, running.at).await?;
        rows.extend(rule::play(running.at, &backend).await?);
        let wanted = rows.iter().filter(|row| row.came == "accepted").count();
        let delivered = backend.wait_for(wanted, DELIVERY_TIME).await;
        let wrong = rows.iter().filter(|row| !row.is_as_expected()).count();
        // With --json only the rows go to standard output.
        let notes: &mut dyn io::Write = match self.common.json {
            true => {
                show_json(&rows, screen)?;
                &mut *screen.err
            }
            false => {
                show(&rows, screen)?;
                &mut *screen.out
            }
        };
        writeln!(
            notes,
            "\n{} callbacks, {wrong} had an unexpected outcome; {wanted} accepted, {delivered} \
             delivered to the backend, each under a signature that verifies",
            rows.len(),
        )?;
        let exit = if wrong == 0 && delivered == wanted { Exit::Done } else { Exit::Failed };
        if !self.once {
            what_to_try(running.at, &running.config.admin.token_file, notes)?;
            Signals::install()?.next().await;
        }
        running.end().await;
        Ok(exit)
    }
}

fn failed(screen: &mut Screen<'_>, sentence: &str) -> io::Result<Exit> {
    writeln!(screen.err, "{sentence}")?;
    Ok(Exit::Failed)
}

/// The configuration of the fixtures, with its ledger in `folder` and its events for `backend`.
fn configuration(folder: &Path, backend: &Backend) -> Result<Config, String> {
    let text = CONFIG.replace("127.0.0.1:7000", &backend.at().to_string());
    let loaded = config::load_str(&Machine, Path::new("fixtures/demo/postern.toml"), &text);
    let mut config = loaded.map_err(|faults| faults.to_string())?.config;
    config.store.engine = StoreEngine::Embedded { path: folder.to_owned() };
    config.admin.token_file = folder.join("admin-token");
    Ok(config)
}

/// The gateway, running.
struct Running {
    config: Arc<Config>,
    at: Addresses,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), ServeError>>,
    /// Held so that the gateway does not take its configuration for abandoned.
    _config: watch::Sender<Arc<Config>>,
}

impl Running {
    /// On the usual ports, or on free ones where those are taken.
    async fn start(mut config: Config) -> Result<Self, ServeError> {
        let listeners = match Listeners::bind(&config.server, Inherited::default()) {
            Ok(listeners) => listeners,
            Err(_) => {
                config.server.callbacks.set_port(0);
                config.server.admin.set_port(0);
                Listeners::bind(&config.server, Inherited::default())?
            }
        };
        let at = listeners.addresses()?;
        config.server.callbacks = at.callbacks;
        config.server.admin = at.admin;
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new()?);
        let (store, opening) = (config.store.clone(), Arc::clone(&metrics));
        let ledger = tokio::task::spawn_blocking(move || server::open_ledger(&store, &opening));
        let ledger = ledger.await.map_err(io::Error::other)??;
        let (sender, receiver) = watch::channel(Arc::clone(&config));
        let (stop, stopped) = oneshot::channel::<()>();
        let parts = Parts {
            config: receiver,
            store: ledger.into(),
            metrics,
            listeners,
            deliveries: Deliveries::On,
        };
        let task = tokio::spawn(server::run_until(
            parts,
            Stop::when(async {
                let _ = stopped.await;
            }),
        ));
        Ok(Self { config, at, stop, task, _config: sender })
    }

    async fn end(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

fn show(rows: &[Row], screen: &mut Screen<'_>) -> io::Result<()> {
    let title = ["source", "callback", "status", "answer", "outcome", "reason", "ms"];
    let mut table = vec![title.iter().map(|cell| screen.out_paint.bold(cell)).collect::<Vec<_>>()];
    for row in rows {
        let outcome = match row.is_as_expected() {
            true => row.came.clone(),
            false => format!("{} (not {})", row.came, row.expected),
        };
        table.push(vec![
            row.source.clone(),
            row.about.clone(),
            row.status.clone(),
            row.answer.clone(),
            outcome,
            row.reason.clone(),
            format!("{:.1}", row.took.as_secs_f64() * 1000.0),
        ]);
    }
    write!(screen.out, "{}", columns(&table))
}

/// One object for each callback.
fn show_json(rows: &[Row], screen: &mut Screen<'_>) -> io::Result<()> {
    for row in rows {
        let line = json!({
            "source": row.source, "callback": row.about, "status": row.status, "answer": row.answer,
            "outcome": row.came, "expected": row.expected, "reason": row.reason,
            "millis": row.took.as_secs_f64() * 1000.0,
        });
        writeln!(screen.out, "{line}")?;
    }
    Ok(())
}

fn what_to_try(at: Addresses, token: &Path, out: &mut dyn io::Write) -> io::Result<()> {
    let Addresses { callbacks, admin, .. } = at;
    writeln!(
        out,
        "\nStill running; Ctrl-C ends it. The console: http://{admin}/\nTo try:\n\
         \x20 curl -i  'http://{callbacks}/callback/level-end?trans_id=tr-9&sign=00'\n\
         \x20 curl -s  'http://{admin}/admin/v1/events?limit=3'\n\
         \x20 curl -s  'http://{admin}/admin/v1/events?user=player-7'\n\
         \x20 curl -s  'http://{admin}/admin/v1/rejections?source=level-end'\n\
         \x20 curl -s  'http://{admin}/admin/v1/sources/reward/1'\n\
         \x20 curl -s  'http://{admin}/admin/v1/audit'\n\
         \x20 curl -s  -d '{{\"source\":\"level-end\",\"rejection\":1}}' 'http://{admin}/admin/v1/explain'\n\
         \x20 curl -s  'http://{admin}/metrics' | grep ^postern_callbacks\n\
         \x20 curl -s  'http://{admin}/readyz'\n\
         \x20 curl -s  -H \"Authorization: Bearer $(cat {token})\" -X POST \
         'http://{admin}/admin/v1/destinations/game/pause'\n\
         Looking needs no token here; changing does, and the console asks for it: cat {token}",
        token = token.display(),
    )?;
    out.flush()
}
