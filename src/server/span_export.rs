//! Exports spans to a collector, in batches. A collector that fails costs spans and nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::task::JoinHandle;

use crate::clock::Occasional;
use crate::config::TraceExport;
use crate::egress::{Client, Guard, Trust, Trusted, error_text};
use crate::host;
use crate::lifecycle::Lifecycle;
use crate::telemetry::{Metrics, Sampling, SpanQueue, TraceSpan, otlp};

/// Spans of one request, about 300 KiB.
const BATCH: usize = 512;

/// How long a batch gathers spans: a trace is seen within seconds.
const GATHER: Duration = Duration::from_secs(1);

/// The time limit of one request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Tries of a batch, and the pause before the second; it doubles. Meanwhile the queue fills.
const TRIES: u32 = 3;
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The time limit for the last spans, when the gateway stops.
const LAST_TIME: Duration = Duration::from_secs(2);

/// Bytes of a response that are read: it says how many spans were rejected.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// The interval of log lines about a collector that fails.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The exporter of one collector.
struct Exporter {
    client: Client,
    url: String,
    instance: String,
    metrics: Arc<Metrics>,
    failures: Occasional,
}

/// Why a batch was not taken.
enum Failure {
    /// Another try may help.
    Temporary(String),
    /// The collector rejects the batch itself.
    Final(String),
}

/// The handle of the export.
#[derive(Debug, Default)]
pub(super) struct SpanExport(Option<JoinHandle<()>>);

impl SpanExport {
    /// Waits for the last spans, after the gateway has stopped.
    pub(super) async fn end(self) {
        if let Some(task) = self.0 {
            let _ = task.await;
        }
    }
}

/// Makes spans from now on, and exports them until the gateway stops. Must be called within a
/// runtime.
pub(super) fn start(
    export: Option<&TraceExport>,
    metrics: &Arc<Metrics>,
    life: &Arc<Lifecycle>,
) -> SpanExport {
    let Some(export) = export else { return SpanExport::default() };
    let client = match Client::new(Trusted::default(), 1, Guard::new(Trust::File, Vec::new())) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "could not set up the export of spans");
            return SpanExport::default();
        }
    };
    let Some(queue) = metrics.spans.start(Sampling::share(export.sample)) else {
        return SpanExport::default();
    };
    tracing::info!(collector = export.collector, sample = export.sample, "exporting spans");
    let exporter = Exporter {
        client,
        url: format!("{}{}", export.collector, otlp::PATH),
        instance: host::name().unwrap_or_default(),
        metrics: Arc::clone(metrics),
        failures: Occasional::new(WARN_EVERY),
    };
    SpanExport(Some(tokio::spawn(exporter.run(queue, Arc::clone(life)))))
}

impl Exporter {
    async fn run(self, mut queue: SpanQueue, life: Arc<Lifecycle>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = queue.fill(&mut batch, BATCH, GATHER) => {}
                () = life.ended() => break,
            }
            tokio::select! {
                () = self.export(&batch) => batch.clear(),
                () = life.ended() => break,
            }
        }
        // A batch that was being sent is sent again: a collector knows its spans by their ids.
        queue.rest(&mut batch);
        let last = async {
            for batch in batch.chunks(BATCH) {
                self.export(batch).await;
            }
        };
        let _ = tokio::time::timeout(LAST_TIME, last).await;
    }

    /// Sends a batch, and retries where that may help.
    async fn export(&self, batch: &[TraceSpan]) {
        let body = Bytes::from(otlp::request(batch, &self.instance));
        let mut pause = PAUSE_FIRST;
        for attempt in 1..=TRIES {
            let sent = tokio::time::timeout(REQUEST_TIME, self.send(body.clone())).await;
            let failure = match sent {
                Ok(Ok(rejected)) => {
                    let rejected = rejected.min(batch.len());
                    self.metrics.spans.note_exported(batch.len() - rejected);
                    self.metrics.spans.note_dropped(rejected);
                    return;
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Temporary(String::from("no response in time")),
            };
            let (why, is_last) = match failure {
                Failure::Temporary(why) => (why, attempt == TRIES),
                Failure::Final(why) => (why, true),
            };
            if is_last {
                self.metrics.spans.note_dropped(batch.len());
                if let Some(others) = self.failures.admit() {
                    let spans = batch.len();
                    tracing::warn!(why, spans, others, "the collector did not take spans");
                }
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Sends one request; returns how many spans the collector rejected.
    async fn send(&self, body: Bytes) -> Result<usize, Failure> {
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, otlp::MEDIA_TYPE)
            .header(header::USER_AGENT, concat!("postern/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| Failure::Final(error.to_string()))?;
        let response = self.client.send(request).await;
        let response = response.map_err(|error| Failure::Temporary(error_text(&error)))?;
        let status = response.status();
        match status {
            _ if status.is_success() => {}
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => return Err(Failure::Temporary(status.to_string())),
            _ => return Err(Failure::Final(status.to_string())),
        }
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        Ok(body.map_or(0, |body| otlp::rejected(&body.to_bytes())))
    }
}
