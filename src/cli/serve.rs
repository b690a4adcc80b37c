//! `postern serve`: the gateway.

use std::io;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::{ConfigFile, Exit, Screen};
use crate::config::{Config, Loaded, StoreEngine, Watcher};
use crate::delivery::Deliveries;
use crate::lifecycle::{Signals, Stop, Stopping};
use crate::server::{self, Listeners, Parts, ServeError, Store};
use crate::telemetry::{self, LogFormat, Metrics};
use crate::wire::Inherited;
use crate::{file_descriptors, private};

/// Threads for the admin listener and reloads; callbacks and deliveries have threads of their own.
const SIDE_THREADS: usize = 2;

/// How long whatever still blocks may hold up the end.
const END_TIME: Duration = Duration::from_secs(1);

/// Run the gateway
#[derive(Args, Debug)]
#[command(
    long_about = "Run the gateway.\n\n\
        SIGTERM stops it in two steps: unready while callbacks are still accepted \
        (server.lame_duck), then it finishes requests in flight (server.drain at most). SIGINT \
        begins with the second step, a further signal stops at once, SIGHUP reloads the \
        configuration (so does a change of its files). With --no-deliveries events are recorded and nothing is sent to any \
        destination, so that a restored store can be tried beside the one in production. RUST_LOG \
        filters the log: RUST_LOG=info,postern::delivery=debug.",
    after_help = "Examples:\n  \
        postern serve --config postern.toml\n  \
        postern serve --config postern.toml --log-format json\n  \
        postern serve --config restored.toml --no-deliveries"
)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    /// Format of log lines [default: text on a terminal, else json]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// Receive and record, and deliver nothing: deliveries wait. To try a restored store
    #[arg(long)]
    no_deliveries: bool,
}

impl Serve {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        file_descriptors::raise_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SIDE_THREADS)
            .enable_all()
            .build()?;
        // First of all: a service manager may send one as soon as the process is there.
        let signals = {
            let _within = runtime.enter();
            Signals::install()?
        };
        let loaded = match self.config.load(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        screen.warn(&loaded.warnings)?;
        let json = self.config.json.then_some("json");
        let format = self.log_format.as_deref().or(json).and_then(LogFormat::from_name);
        let _log = telemetry::init(format)?;
        if let Err(sentence) = check_store(&loaded.config) {
            return screen.fail(&sentence);
        }
        stay_private();
        warn_of_few_files(&loaded.config);
        let deliveries = if self.no_deliveries { Deliveries::Off } else { Deliveries::On };
        let ended = runtime.block_on(serve(&self.config, loaded, deliveries, signals));
        // A read from a hanging disk may still block; its result is no longer needed.
        runtime.shutdown_timeout(END_TIME);
        match ended {
            Ok(()) => Ok(Exit::Done),
            Err(error) => {
                writeln!(screen.err, "{error}")?;
                Ok(Exit::Failed)
            }
        }
    }
}

/// Keeps secrets in memory out of core files.
fn stay_private() {
    if let Err(error) = private::forbid_core_dumps() {
        tracing::warn!(%error, "could not disable core dumps");
    }
}

/// Says that the limit of open files has room for fewer connections than are configured.
fn warn_of_few_files(config: &Config) {
    let configured = config.server.limits.connections;
    let connections = file_descriptors::connections_that_fit(configured);
    if let Some(files) = file_descriptors::limit().filter(|_| connections < configured) {
        tracing::warn!(
            files,
            connections,
            configured,
            "the limit of open files has room for fewer connections than server.limits.connections; \
             raise it (LimitNOFILE= of a unit, ulimits of a container, ulimit -Hn of a shell), or \
             lower connections"
        );
    }
}

/// Refuses a store of another account: the gateway of that account could not open what this one
/// writes.
fn check_store(config: &Config) -> Result<(), String> {
    match &config.store.engine {
        StoreEngine::Embedded { path } => private::check_owner(path),
        StoreEngine::Postgres(_) => Ok(()),
    }
}

/// Runs the gateway of a configuration until a signal ends it.
async fn serve(
    at: &ConfigFile,
    loaded: Loaded,
    deliveries: Deliveries,
    mut signals: Signals,
) -> Result<(), ServeError> {
    let listeners =
        Listeners::bind(&loaded.config.server, Inherited::take().map_err(ServeError::Inherited)?)?;
    let metrics = Arc::new(Metrics::new()?);
    let watcher = Watcher::new(at.environment(), at.path(), loaded);
    let config = watcher.changes();
    let (mut refusals, counted) = (watcher.refusals(), Arc::clone(&metrics));
    tokio::spawn(async move {
        while refusals.changed().await.is_ok() {
            counted.program.configuration_refused();
        }
    });
    tokio::spawn(watcher.run(std::future::pending()));

    let (begin, drain) = tokio::sync::oneshot::channel();
    let (hurry, now) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal = signal.as_str(), "asked to stop");
        let _ = begin.send(signal.stopping());
        let signal = signals.next().await;
        tracing::warn!(signal = signal.as_str(), "asked to stop at once");
        let _ = hurry.send(());
        // A third one: whatever it hangs on, it has had its time.
        signals.next().await;
        process::exit(i32::from(Exit::Failed.code()));
    });
    let stop = Stop {
        drain: async { drain.await.unwrap_or(Stopping::DrainNow) },
        now: async {
            let _ = now.await;
        },
    };
    let store = Store::Configured;
    server::run_until(Parts { config, store, metrics, listeners, deliveries }, stop).await
}
