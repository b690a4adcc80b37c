//! The registry: every metric of the gateway, created at the start with all its label values.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::archive::ArchiveMetrics;
use super::observed::ObservedMetrics;
use super::rejections::RejectionMetrics;
use super::{
    DeliveryMetrics, DeliveryOutcome, DestinationHealths, Histories, History, KeyMetrics,
    ProgramMetrics, Spans, VerdictOutcome,
};
use crate::ledger::{Durability, FaultCode};
use crate::sender::{Outcome, Reason};

/// Seconds: from 50 us, a fifth of a reply from memory, to 10 s, the longest that any known sender
/// waits.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// Seconds of a delivery attempt: its timeout may be set up to a minute.
const ATTEMPT_SECONDS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Events of one commit: powers of two up to the ledger's batch.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Every metric of the gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    callbacks: IntCounterVec,
    rejections: RejectionMetrics,
    secret_used: IntCounterVec,
    shape_misfits: IntCounterVec,
    /// From the request's head to its reply.
    pub callback_seconds: Histogram,
    /// Decoding, verifying and resolving.
    pub verify_seconds: Histogram,
    /// One commit of the ledger.
    pub commit_seconds: Histogram,
    /// Events of one commit.
    pub commit_batch_size: Histogram,
    deliveries: IntCounterVec,
    verdicts: IntCounterVec,
    /// One attempt.
    pub delivery_attempt_seconds: Histogram,
    delivery_backlog: IntGaugeVec,
    /// Age of the oldest overdue delivery.
    pub oldest_due_seconds: OptionalGauge,
    /// The ledger.
    pub store: StoreMetrics,
    /// Key sets of senders, and confirmations to them.
    pub keys: KeyMetrics,
    /// 1 if the gateway accepts callbacks.
    pub ready: IntGauge,
    /// The program itself.
    pub program: ProgramMetrics,
    /// Callbacks over time, for the console and for alerts.
    pub histories: Histories,
    /// Attempts of each destination over time: `accepted` and `unavailable`.
    pub attempts: Histories,
    /// How each destination is.
    pub destination_health: DestinationHealths,
    /// Spans of traces.
    pub spans: Spans,
    /// The archive.
    pub archive: ArchiveMetrics,
    pub(super) observed: ObservedMetrics,
}

impl Metrics {
    /// Requests to paths that belong to no source.
    #[must_use]
    pub fn unknown_paths(&self) -> &IntCounter {
        &self.rejections.unknown_paths
    }

    /// Registers every metric.
    ///
    /// # Errors
    /// If two metrics have one name, which a test prevents in a released program.
    pub fn new() -> Result<Self, prometheus::Error> {
        let family = Family(Registry::new());
        let seconds = |name: &str, help: &str| family.histogram(name, help, SECONDS);
        let [callbacks, secret_used, shape_misfits] = callback_counters(&family)?;
        Ok(Self {
            callbacks,
            rejections: RejectionMetrics::new(&family)?,
            secret_used,
            shape_misfits,
            callback_seconds: seconds(
                "postern_callback_seconds",
                "Time from request head to reply, in seconds",
            )?,
            verify_seconds: seconds(
                "postern_verify_seconds",
                "Time to decode, verify and resolve a callback, in seconds",
            )?,
            commit_seconds: seconds(
                "postern_commit_seconds",
                "Duration of a commit of the store, in seconds",
            )?,
            commit_batch_size: family.histogram(
                "postern_commit_batch_size",
                "Events per commit",
                BATCH,
            )?,
            deliveries: family.counters(
                "postern_deliveries_total",
                "Delivery attempts by outcome",
                &["destination", "outcome"],
            )?,
            verdicts: family.counters(
                "postern_verdicts_total",
                "Verdicts of inline destinations by verdict and timing",
                &["destination", "verdict"],
            )?,
            delivery_attempt_seconds: family.histogram(
                "postern_delivery_attempt_seconds",
                "Duration of a delivery attempt, in seconds",
                ATTEMPT_SECONDS,
            )?,
            delivery_backlog: family.gauges(
                "postern_delivery_backlog",
                "Unsettled deliveries",
                &["destination"],
            )?,
            oldest_due_seconds: family.known(
                "postern_oldest_due_seconds",
                "Age of the oldest overdue delivery, in seconds",
            )?,
            store: StoreMetrics::new(&family)?,
            keys: KeyMetrics::new(&family)?,
            ready: family.gauge("postern_ready", "1 if the gateway accepts callbacks")?,
            program: ProgramMetrics::new(&family.0)?,
            histories: Histories::default(),
            attempts: Histories::default(),
            destination_health: DestinationHealths::default(),
            spans: Spans::new(&family)?,
            archive: ArchiveMetrics::new(&family)?,
            observed: ObservedMetrics::new(&family)?,
            registry: family.0,
        })
    }

    /// The counters of one source, each at zero from the start: `secrets` are the names of its
    /// secrets, `shaped` those of its parameters with a shape.
    #[must_use]
    pub fn source<'a>(
        &self,
        name: &str,
        secrets: impl IntoIterator<Item = &'a str>,
        shaped: impl IntoIterator<Item = &'a str>,
    ) -> SourceMetrics {
        let misfit = |of: &str| self.shape_misfits.with_label_values(&[name, of]);
        let outcome = |of: &Outcome| self.callbacks.with_label_values(&[name, of.as_str()]);
        let reason =
            |of: &Reason| self.rejections.by_reason.with_label_values(&[name, of.as_str()]);
        SourceMetrics {
            outcomes: Outcome::ALL.iter().map(outcome).collect(),
            reasons: Reason::ALL.iter().map(reason).collect(),
            secrets: secrets
                .into_iter()
                .map(|id| (id.to_owned(), self.secret_used.with_label_values(&[name, id])))
                .collect(),
            misfits: shaped.into_iter().map(|of| (of.to_owned(), misfit(of))).collect(),
            released: self.rejections.released.with_label_values(&[name]),
            history: self.histories.of(name),
        }
    }

    /// Removes the series of a source when the source is removed.
    pub fn forget_source(&self, name: &str, of: &SourceMetrics) {
        // An unknown label set is an error of the crate; it means that nothing has to be removed.
        for outcome in Outcome::ALL {
            let _ = self.callbacks.remove_label_values(&[name, outcome.as_str()]);
        }
        for reason in Reason::ALL {
            let _ = self.rejections.by_reason.remove_label_values(&[name, reason.as_str()]);
        }
        let _ = self.rejections.released.remove_label_values(&[name]);
        for (id, _) in &of.secrets {
            self.forget_secret(name, id);
        }
        for (parameter, _) in &of.misfits {
            self.forget_shaped(name, parameter);
        }
        let _ = self.observed.last_callback_seconds.remove_label_values(&[name]);
        self.histories.forget(name);
    }

    /// Removes the series of one parameter when it no longer has a shape.
    pub fn forget_shaped(&self, source: &str, parameter: &str) {
        let _ = self.shape_misfits.remove_label_values(&[source, parameter]);
    }

    /// Removes the series of one secret when its source no longer has it.
    pub fn forget_secret(&self, source: &str, id: &str) {
        let _ = self.secret_used.remove_label_values(&[source, id]);
    }

    /// The counters of one destination, each at zero from the start.
    #[must_use]
    pub fn destination(&self, name: &str) -> DeliveryMetrics {
        let (history, health) = (self.attempts.of(name), self.destination_health.of(name));
        DeliveryMetrics::new(&self.deliveries, &self.verdicts, name, history, health)
    }

    /// Sets the number of unsettled deliveries of the named destinations, and removes all others.
    pub fn set_backlog<'d>(&self, pending: impl Iterator<Item = (&'d str, u64)>) {
        self.delivery_backlog.reset();
        for (destination, count) in pending {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.delivery_backlog.with_label_values(&[destination]).set(count);
        }
    }

    /// Removes the series of a destination when the destination is removed.
    pub fn forget_destination(&self, name: &str) {
        self.attempts.forget(name);
        for outcome in DeliveryOutcome::ALL {
            let _ = self.deliveries.remove_label_values(&[name, outcome.as_str()]);
        }
        for outcome in VerdictOutcome::ALL {
            let _ = self.verdicts.remove_label_values(&[name, outcome.as_str()]);
        }
        // Not its backlog: deliveries may wait for it. Each scrape sets that.
        self.destination_health.forget(name);
    }

    /// The page for the scraper, and its content type.
    ///
    /// # Errors
    /// If a metric cannot be written, which a test prevents.
    pub fn page(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A gauge that is absent while its value is unknown: a zero would mean that all is well.
#[derive(Clone, Debug)]
pub struct OptionalGauge(GaugeVec);

impl OptionalGauge {
    /// Shows a value, or nothing.
    pub fn set(&self, value: Option<f64>) {
        match value {
            Some(value) => self.0.with_label_values(NO_LABELS).set(value),
            None => self.0.reset(),
        }
    }
}

/// The labels of a gauge that has none.
const NO_LABELS: &[&str] = &[];

/// The ledger: its size, the space on its disk, and what retention deleted.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    /// Its size in bytes.
    pub bytes: OptionalGauge,
    /// Bytes that may still be written to its disk.
    pub free_bytes: OptionalGauge,
    /// The minimum of free bytes on its disk.
    pub reserve_bytes: OptionalGauge,
    /// The number of stored events.
    pub events: OptionalGauge,
    /// The number of stored deduplication keys.
    pub keys: OptionalGauge,
    /// Seconds by which its server's clock is ahead of this process's.
    pub clock_offset_seconds: OptionalGauge,
    /// Age of its server's oldest open transaction, in seconds.
    pub oldest_snapshot_seconds: OptionalGauge,
    /// Transactions since its server's oldest unfrozen row.
    pub transaction_age: OptionalGauge,
    /// 1 if a part of it cannot be read.
    pub damaged: IntGauge,
    /// Bytes that scrubs read.
    pub scrubbed_bytes: IntCounter,
    /// End of the last complete scrub, as Unix time in seconds.
    pub scrub_complete_seconds: OptionalGauge,
    /// Events that retention deleted.
    pub swept_events: IntCounter,
    /// Keys that retention deleted.
    pub swept_keys: IntCounter,
    /// Bytes that retention returned to the file system.
    pub swept_bytes: IntCounter,
    durability: IntGaugeVec,
    faults: IntCounterVec,
    held: IntGaugeVec,
}

impl StoreMetrics {
    fn new(family: &Family) -> Result<Self, prometheus::Error> {
        let swept = family.counters(
            "postern_store_swept_total",
            "Events, keys and bytes that retention deleted from the store",
            &["what"],
        )?;
        let faults = family.counters(
            "postern_ledger_faults_total",
            "Failed statements of the store's server by SQLSTATE or class",
            &["code"],
        )?;
        for code in FaultCode::ALL {
            faults.with_label_values(&[code.as_str()]);
        }
        Ok(Self {
            bytes: family.known("postern_store_bytes", "Size of the store, in bytes")?,
            free_bytes: family.known(
                "postern_store_free_bytes",
                "Space left for writing on the store's disk, in bytes",
            )?,
            reserve_bytes: family.known(
                "postern_store_reserve_bytes",
                "Space that must stay free on the store's disk, in bytes",
            )?,
            events: family.known("postern_store_events", "Events in the store")?,
            keys: family.known("postern_store_keys", "Deduplication keys in the store")?,
            damaged: family
                .gauge("postern_store_damaged", "1 if a part of the store cannot be read")?,
            scrubbed_bytes: family.counter(
                "postern_store_scrubbed_bytes_total",
                "Data of the store that scrubs read, in bytes",
            )?,
            scrub_complete_seconds: family.known(
                "postern_store_scrub_complete_timestamp_seconds",
                "End of the last complete scrub, as Unix time in seconds",
            )?,
            clock_offset_seconds: family.known(
                "postern_store_clock_offset_seconds",
                "Time by which the clock of the store's server is ahead of the gateway's, in seconds",
            )?,
            oldest_snapshot_seconds: family.known(
                "postern_store_oldest_snapshot_seconds",
                "Age of the oldest open transaction that keeps dead rows of the store, in seconds",
            )?,
            transaction_age: family.known(
                "postern_store_transaction_age",
                "Transactions since the oldest unfrozen row of the store",
            )?,
            swept_events: swept.with_label_values(&["events"]),
            swept_keys: swept.with_label_values(&["keys"]),
            swept_bytes: swept.with_label_values(&["bytes"]),
            durability: family.gauges(
                "postern_store_durability",
                "1 at the current durability level of accepted callbacks",
                &["level"],
            )?,
            faults,
            held: family.gauges(
                "postern_held_callbacks",
                "Callbacks that wait for a decision in quarantine, by source",
                &["source"],
            )?,
        })
    }

    /// Raises the counter of a code to the ledger's count.
    pub fn set_faults(&self, code: FaultCode, count: u64) {
        let counter = self.faults.with_label_values(&[code.as_str()]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// Sets the number of waiting callbacks of the named sources, and removes all others.
    pub fn set_held<'s>(&self, waiting: impl Iterator<Item = (Cow<'s, str>, u64)>) {
        self.held.reset();
        for (source, count) in waiting {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.held.with_label_values(&[&*source]).set(count);
        }
    }

    /// Sets the current durability level to 1, and the others to 0.
    pub fn set_durability(&self, now: Durability) {
        for level in Durability::ALL {
            let gauge = self.durability.with_label_values(&[level.as_str()]);
            gauge.set(i64::from(level == now));
        }
    }
}

/// The counters of one source, found once: counting is one atomic addition.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    outcomes: Vec<IntCounter>,
    reasons: Vec<IntCounter>,
    secrets: Vec<(String, IntCounter)>,
    misfits: Vec<(String, IntCounter)>,
    /// Events that were released from quarantine.
    pub released: IntCounter,
    history: Arc<History>,
}

impl SourceMetrics {
    /// Counts a callback that began then and took that long.
    pub fn count(&self, outcome: Outcome, reason: Option<Reason>, began: Instant, took: Duration) {
        self.history.count((outcome, reason), began, took);
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
        if let Some(counter) = reason.and_then(|reason| self.reasons.get(reason as usize)) {
            counter.inc();
        }
    }

    /// Counts the use of the secret at `index` of the recipe's secrets.
    pub fn count_secret(&self, index: usize) {
        if let Some((_, counter)) = self.secrets.get(index) {
            counter.inc();
        }
    }

    /// Counts the parameters of a verified callback that contradict the sender's file.
    pub fn count_misfits(&self, parameters: &[String]) {
        for parameter in parameters {
            if let Some((_, counter)) = self.misfits.iter().find(|(name, _)| name == parameter) {
                counter.inc();
            }
        }
    }

    /// The names of the parameters with counted misfits.
    pub fn shaped(&self) -> impl Iterator<Item = &str> {
        self.misfits.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the secret at `index`.
    #[must_use]
    pub fn secret(&self, index: usize) -> Option<&str> {
        self.secrets.get(index).map(|(id, _)| id.as_str())
    }

    /// The names of the counted secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|(id, _)| id.as_str())
    }
}

/// Counters of callbacks: by outcome, by secret, and with misfits.
fn callback_counters(family: &Family) -> Result<[IntCounterVec; 3], prometheus::Error> {
    Ok([
        family.counters(
            "postern_callbacks_total",
            "Callbacks by outcome",
            &["source", "outcome"],
        )?,
        family.counters(
            "postern_secret_used_total",
            "Callbacks by verifying secret",
            &["source", "secret"],
        )?,
        family.counters(
            "postern_shape_misfits_total",
            "Verified callbacks with a value that contradicts the sender's file, by parameter",
            &["source", "parameter"],
        )?,
    ])
}

/// Registers the metrics that it creates.
pub(super) struct Family(Registry);

impl Family {
    fn add<M>(&self, made: Result<M, prometheus::Error>) -> Result<M, prometheus::Error>
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        let made = made?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(Opts::new(name, help)))
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn ages(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(Opts::new(name, help)))
    }

    pub(super) fn known(&self, name: &str, help: &str) -> Result<OptionalGauge, prometheus::Error> {
        self.add(GaugeVec::new(Opts::new(name, help), &[])).map(OptionalGauge)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_series_is_there_at_zero() {
        let metrics = Metrics::new().unwrap();
        let source = metrics.source("level-end", ["sec_key"], ["trans_id"]);
        let page = metrics.page().unwrap();
        for outcome in Outcome::ALL {
            let series =
                format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"level-end\"}} 0");
            assert!(page.contains(&series), "{series} is missing");
        }
        for reason in Reason::ALL {
            assert!(page.contains(&format!("reason=\"{reason}\",source=\"level-end\"}} 0")));
        }
        assert!(
            page.contains("postern_secret_used_total{secret=\"sec_key\",source=\"level-end\"} 0")
        );
        assert!(page.contains(
            "postern_shape_misfits_total{parameter=\"trans_id\",source=\"level-end\"} 0"
        ));
        assert!(page.contains("postern_callback_seconds_bucket{le=\"0.00005\"} 0"));
        assert!(page.contains("postern_ready 0"));
        metrics.forget_source("level-end", &source);
        assert!(!metrics.page().unwrap().contains("level-end"));
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let metrics = Metrics::new().unwrap();
        let shown = || metrics.page().unwrap().contains("postern_store_free_bytes");
        assert!(!shown());
        metrics.store.free_bytes.set(Some(0.0));
        assert!(metrics.page().unwrap().contains("\npostern_store_free_bytes 0\n"));
        metrics.store.free_bytes.set(None);
        assert!(!shown());
        for _ in 0..2 {
            metrics.store.set_faults(FaultCode::DiskFull, 7);
        }
        let faults = "postern_ledger_faults_total{code=\"53100\"} 7\n";
        assert!(metrics.page().unwrap().contains(faults));
        assert!(metrics.page().unwrap().contains("{code=\"not_durable\"} 0\n"));
    }

    #[test]
    fn a_backlog_is_of_the_destinations_that_were_named_last() {
        let metrics = Metrics::new().unwrap();
        metrics.set_backlog([("game", 0), ("old", 8)].into_iter());
        let page = metrics.page().unwrap();
        assert!(page.contains("postern_delivery_backlog{destination=\"game\"} 0\n"));
        assert!(page.contains("postern_delivery_backlog{destination=\"old\"} 8\n"));
        metrics.set_backlog([("game", 1)].into_iter());
        let page = metrics.page().unwrap();
        assert!(page.contains("postern_delivery_backlog{destination=\"game\"} 1\n"));
        assert!(!page.contains("destination=\"old\""));
        metrics.set_backlog(std::iter::empty());
        assert!(!metrics.page().unwrap().contains("postern_delivery_backlog"));
    }

    #[test]
    fn counting_finds_the_right_series() {
        let metrics = Metrics::new().unwrap();
        let source = metrics.source("a", ["k1", "k2"], ["id"]);
        let time = (crate::clock::instant(), Duration::ZERO);
        source.count(Outcome::Rejected, Some(Reason::Stale), time.0, time.1);
        source.count_secret(1);
        source.count_misfits(&["id".to_owned(), "never registered".to_owned()]);
        let page = metrics.page().unwrap();
        assert!(page.contains("postern_callbacks_total{outcome=\"rejected\",source=\"a\"} 1"));
        assert!(page.contains("postern_rejections_total{reason=\"stale\",source=\"a\"} 1"));
        assert!(page.contains("postern_rejections_total{reason=\"future\",source=\"a\"} 0"));
        assert!(page.contains("postern_secret_used_total{secret=\"k2\",source=\"a\"} 1"));
        assert!(page.contains("postern_shape_misfits_total{parameter=\"id\",source=\"a\"} 1"));
        assert!(!page.contains("never registered"));
    }
}
