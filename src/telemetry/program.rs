//! Metrics of the program itself: its build, its process, its configuration, its certificates.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{Counter, Gauge, GaugeVec, Opts, Registry};

use crate::clock::{UnixMillis, now_ms};

/// Ticks of the processor times in `/proc`: fixed in what Linux shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Metrics of the program itself. Some are measured when [`ProgramMetrics::observe`] is called.
#[derive(Debug)]
pub struct ProgramMetrics {
    reload_success: Gauge,
    reload_timestamp_seconds: Gauge,
    certificate_expiry_seconds: GaugeVec,
    cpu_seconds: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    virtual_bytes: Gauge,
    resident_bytes: Gauge,
    threads: Gauge,
    /// When the certificate of a listener ends, in milliseconds since 1970.
    certificates: Mutex<BTreeMap<&'static str, UnixMillis>>,
    /// Since when the configuration that was read last is not applied; zero: it is.
    reload_failed_ms: AtomicI64,
    /// Whether the file that was read last has errors.
    is_file_refused: AtomicBool,
}

impl ProgramMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When two metrics have one name.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| add(registry, Gauge::with_opts(Opts::new(name, help)));
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            add(registry, GaugeVec::new(Opts::new(name, help), labels))
        };
        let build = gauges(
            "postern_build_info",
            "1, with the version and the commit of the program",
            &["version", "commit"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION"), env!("POSTERN_COMMIT")]).set(1.0);
        let start = gauge(
            "process_start_time_seconds",
            "Start time of the process, as Unix time in seconds",
        )?;
        start.set(seconds(now_ms()));
        let metrics = Self {
            reload_success: gauge(
                "postern_reload_success",
                "1 if the configuration was applied when it was last read",
            )?,
            reload_timestamp_seconds: gauge(
                "postern_reload_timestamp_seconds",
                "Time at which a configuration was last applied, as Unix time in seconds",
            )?,
            certificate_expiry_seconds: gauges(
                "postern_certificate_expiry_seconds",
                "Time until the listener's certificate expires, in seconds, negative afterwards",
                &["listener"],
            )?,
            cpu_seconds: add(
                registry,
                Counter::new(
                    "process_cpu_seconds_total",
                    "Processor time of the process, in seconds",
                ),
            )?,
            open_fds: gauge("process_open_fds", "Open file descriptors")?,
            max_fds: gauge("process_max_fds", "Limit of open file descriptors")?,
            virtual_bytes: gauge("process_virtual_memory_bytes", "Virtual memory, in bytes")?,
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory, in bytes")?,
            threads: gauge("process_threads", "Threads of the process")?,
            certificates: Mutex::default(),
            reload_failed_ms: AtomicI64::new(0),
            is_file_refused: AtomicBool::new(false),
        };
        metrics.reloaded();
        Ok(metrics)
    }

    /// A configuration was applied.
    pub fn reloaded(&self) {
        self.reload_timestamp_seconds.set(seconds(now_ms()));
        // An earlier one is applied late, and the file has errors by now.
        if !self.is_file_refused.load(Ordering::Relaxed) {
            self.reload_success.set(1.0);
            self.reload_failed_ms.store(0, Ordering::Relaxed);
        }
    }

    /// The file was read, and is to be applied.
    pub fn configuration_read(&self) {
        self.is_file_refused.store(false, Ordering::Relaxed);
    }

    /// The file was read, and has errors.
    pub fn configuration_refused(&self) {
        self.is_file_refused.store(true, Ordering::Relaxed);
        self.reload_failed();
    }

    /// A configuration was read and not applied.
    pub fn reload_failed(&self) {
        self.reload_success.set(0.0);
        // The first failure counts until a configuration is applied.
        let _ = self.reload_failed_ms.compare_exchange(
            0,
            now_ms(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// Since when the configuration that was read last is not applied.
    #[must_use]
    pub fn reload_failed_ms(&self) -> Option<UnixMillis> {
        Some(self.reload_failed_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    /// When the certificate of each listener expires.
    #[must_use]
    pub fn certificates(&self) -> Vec<(&'static str, UnixMillis)> {
        let certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.iter().map(|(listener, expires_ms)| (*listener, *expires_ms)).collect()
    }

    /// Notes when the certificate of a listener expires.
    pub fn set_certificate(&self, listener: &'static str, expires_ms: UnixMillis) {
        let mut certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        certificates.insert(listener, expires_ms);
    }

    /// Measures what is measured for a scrape. A value that the system does not tell stays.
    pub fn observe(&self) {
        let now = now_ms();
        let certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        for (listener, expires_ms) in &*certificates {
            let left = seconds(expires_ms.saturating_sub(now));
            self.certificate_expiry_seconds.with_label_values(&[*listener]).set(left);
        }
        self.observe_process(Path::new("/proc/self"));
    }

    fn observe_process(&self, proc: &Path) {
        let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let set =
            |gauge: &Gauge, value: Option<f64>| value.into_iter().for_each(|it| gauge.set(it));
        if let Some(seconds) = cpu_seconds(&read("stat")) {
            self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        }
        let status = read("status");
        let kib = |key| field(&status, key).map(|kib| kib * 1024.0);
        set(&self.virtual_bytes, kib("VmSize:"));
        set(&self.resident_bytes, kib("VmRSS:"));
        set(&self.threads, field(&status, "Threads:"));
        set(&self.max_fds, field(&read("limits"), "Max open files"));
        let open = fs::read_dir(proc.join("fd")).map(|entries| entries.count() as f64);
        set(&self.open_fds, open.ok());
    }
}

fn add<M: Collector + Clone + 'static>(
    registry: &Registry,
    made: Result<M, prometheus::Error>,
) -> Result<M, prometheus::Error> {
    let made = made?;
    registry.register(Box::new(made.clone()))?;
    Ok(made)
}

fn seconds(ms: UnixMillis) -> f64 {
    ms as f64 / 1000.0
}

/// Time in user space and in the kernel, of a line of `stat`. The name in it may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    Some((ticks.next()?.ok()? + ticks.next()?.ok()?) / TICKS_PER_SECOND)
}

/// The first number behind `key` at the beginning of a line.
fn field(text: &str, key: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_configuration_that_is_applied_late_hides_no_error_of_the_file() {
        let metrics = ProgramMetrics::new(&Registry::new()).unwrap();
        metrics.configuration_read();
        metrics.configuration_refused();
        metrics.reloaded();
        assert_eq!(metrics.reload_success.get(), 0.0);
        assert!(metrics.reload_failed_ms().is_some());
        metrics.configuration_read();
        metrics.reloaded();
        assert_eq!(metrics.reload_success.get(), 1.0);
        assert_eq!(metrics.reload_failed_ms(), None);
    }

    #[test]
    fn the_process_is_measured() {
        let registry = Registry::new();
        let metrics = ProgramMetrics::new(&registry).unwrap();
        metrics.set_certificate("callbacks", now_ms() + 3_600_000);
        metrics.observe();
        assert!(metrics.resident_bytes.get() > 1e6);
        assert!(metrics.virtual_bytes.get() >= metrics.resident_bytes.get());
        assert!(metrics.open_fds.get() >= 3.0 && metrics.max_fds.get() >= metrics.open_fds.get());
        assert!(metrics.threads.get() >= 1.0);
        let left = metrics.certificate_expiry_seconds.with_label_values(&["callbacks"]).get();
        assert!((3500.0..=3600.0).contains(&left), "{left}");
        metrics.reload_failed();
        assert_eq!(metrics.reload_success.get(), 0.0);
    }

    #[test]
    fn a_name_with_blanks_and_brackets_is_no_number() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
