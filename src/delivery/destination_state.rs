//! The dispatcher's state of one destination: its slots, its health, its counters.

use std::sync::Arc;
use std::time::Instant;

use super::attempt::DestinationClient;
use super::attempt_result::AttemptResult;
use super::breaker::{Breaker, BreakerState, Change, HealthSignal};
use super::failure_log::FailureLog;
use super::forward::ReadFields;
use super::outbound_request::{PayloadFormat, RequestParts};
use super::pauses::{Pause, PauseReason};
use crate::clock::{instant, now_ms};
use crate::config::{Destination, Reach};
use crate::egress::{Client, Guard, Trust, Trusted};
use crate::ledger::{Attempt, LeaseResult};
use crate::rate_limiter::RateLimiter;
use crate::telemetry::{DeliveryMetrics, Metrics};

/// The state of one destination.
#[derive(Debug)]
pub(super) struct DestinationState {
    pub(super) client: Arc<DestinationClient>,
    pub(super) metrics: DeliveryMetrics,
    pub(super) log: FailureLog,
    /// Set while the destination is paused.
    paused: Option<Arc<Pause>>,
    /// Whether one attempt is allowed to a backend that answered 410.
    is_trial_due: bool,
    /// The time of the next check, if one is scheduled.
    pub(super) timer: Option<Instant>,
    /// Whether the destination is queued for the next check.
    pub(super) is_ready: bool,
    in_flight: usize,
    health: Health,
    breaker: Breaker,
    rate: Option<RateLimiter>,
    /// When the rate allows another attempt, unless it does now.
    paced_until: Option<Instant>,
    /// Why the files of the certificates are unusable now, while the client of before is kept.
    unusable: Option<String>,
}

/// Whether many attempts are in flight, over all destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Normal,
    High,
}

/// The purpose of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptPurpose {
    Delivery,
    /// Also shows whether a backend that answered 410 takes deliveries again.
    Trial,
}

/// Whether the destination answered its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Unproven,
    Proven,
}

impl DestinationState {
    /// The state of a new destination, or of one that was removed while `in_flight` attempts were
    /// in flight.
    pub(super) fn new(
        destination: &Arc<Destination>,
        fields: &Arc<ReadFields>,
        metrics: &Metrics,
        in_flight: usize,
    ) -> Self {
        let client = connect(destination).inspect_err(|why| log_unusable(destination, why));
        Self {
            client: Arc::new(prepare(destination, fields, client)),
            metrics: metrics.destination(&destination.name),
            log: FailureLog::new(),
            paused: None,
            is_trial_due: false,
            timer: None,
            is_ready: false,
            in_flight,
            health: Health::Unproven,
            breaker: Breaker::new(destination.retry.first),
            rate: destination.rate.map(|rate| RateLimiter::new(rate, instant())),
            paced_until: None,
            unusable: None,
        }
    }

    /// Applies another configuration. Attempts in flight end under the old one.
    pub(super) fn apply(&mut self, destination: &Arc<Destination>, fields: &Arc<ReadFields>) {
        let old = Arc::clone(&self.client);
        let before = &old.destination;
        // A file of the same name may contain another certificate.
        let has_files = destination.ca.is_some() || destination.identity.is_some();
        if **before == **destination && !has_files {
            if self.client.format.reads_fields() {
                let format = PayloadFormat::of(destination, fields);
                self.client = Arc::new(DestinationClient {
                    format,
                    ..DestinationClient::clone(&self.client)
                });
            }
            return;
        }
        if before.rate != destination.rate {
            self.rate = destination.rate.map(|rate| RateLimiter::new(rate, instant()));
            self.paced_until = None;
        }
        self.breaker.set_first(destination.retry.first);
        let client = self.reconnect(&old, destination);
        self.client = Arc::new(prepare(destination, fields, client));
    }

    /// A client for `destination`. Where its files are unusable, the one of before is kept: its
    /// certificates may be old, and deliveries without any would become dead letters.
    fn reconnect(
        &mut self,
        old: &DestinationClient,
        destination: &Destination,
    ) -> Result<Client, String> {
        let why = match connect(destination) {
            Ok(client) => {
                self.unusable = None;
                return Ok(client);
            }
            Err(why) => why,
        };
        let before = &old.destination;
        let has_same_files = before.ca == destination.ca && before.identity == destination.identity;
        match &old.client {
            Ok(working) if has_same_files && before.reach == destination.reach => {
                if self.unusable.as_ref() != Some(&why) {
                    tracing::warn!(
                        destination = destination.name,
                        why,
                        "could not read the certificates of a destination, the old ones stay"
                    );
                    self.unusable = Some(why);
                }
                Ok(working.clone())
            }
            _ => {
                log_unusable(destination, &why);
                Err(why)
            }
        }
    }

    /// The number of attempts that may begin now.
    pub(super) fn slots(&mut self, now: Instant, load: Load) -> usize {
        if self.paused.is_some() {
            return usize::from(self.is_trial_due && self.in_flight == 0);
        }
        let most = match (load, self.health) {
            (Load::High, Health::Unproven) => 1,
            _ => self.client.destination.concurrency,
        };
        let free = most.saturating_sub(self.in_flight);
        let paced = self.rate.as_ref().map_or(free, |rate| rate.available(now).min(free));
        let until = self.rate.as_ref().map(|rate| rate.next_at(now));
        self.paced_until = until.filter(|next| *next > now);
        self.breaker.slots(paced, self.in_flight, now)
    }

    /// When time alone frees a slot; `None`: a slot is free, or something else has to happen.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        if self.paused.is_some() {
            return None;
        }
        self.breaker.opens_at().max(self.paced_until)
    }

    /// Notes in health and log what came of an attempt. What cannot be written in the destination's
    /// format says nothing about the destination.
    pub(super) fn note(&self, result: AttemptResult, attempt: &Attempt, settled: LeaseResult) {
        let (name, health) = (self.client.destination.name.as_str(), &self.metrics.health);
        let now_ms = now_ms();
        match settled {
            _ if result == AttemptResult::InvalidPayload => {}
            LeaseResult::Done | LeaseResult::Decided => {
                if let Some(since_ms) = health.delivered(now_ms) {
                    self.log.delivered(name, since_ms, now_ms);
                }
            }
            LeaseResult::Retry { after } => {
                health.failed(now_ms, attempt);
                self.log.failed(name, attempt, Some(after));
            }
            LeaseResult::Dead => {
                health.failed(now_ms, attempt);
                self.log.failed(name, attempt, None);
            }
            LeaseResult::Postpone { .. } => {}
        }
    }

    /// Records that an attempt begins, and returns what it is for.
    pub(super) fn begin(&mut self, now: Instant) -> AttemptPurpose {
        self.in_flight += 1;
        let is_trial = std::mem::take(&mut self.is_trial_due);
        if let Some(rate) = &self.rate {
            rate.charge(now);
        }
        if is_trial { AttemptPurpose::Trial } else { AttemptPurpose::Delivery }
    }

    /// Records the end of an attempt; `None`: its result is unknown.
    pub(super) fn end(&mut self, result: Option<AttemptResult>, now: Instant) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let signal = result?.signal();
        self.health = match signal {
            HealthSignal::Up => Health::Proven,
            HealthSignal::Down => Health::Unproven,
            HealthSignal::Neutral => self.health,
        };
        self.breaker.record(signal, now)
    }

    /// Records that the destination answered outside of its deliveries.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Change> {
        self.health = Health::Proven;
        self.breaker.record(HealthSignal::Up, now)
    }

    /// Lets a probe through if the breaker is open or the backend answered 410.
    pub(super) fn probe(&mut self) {
        self.is_trial_due = self.is_gone();
        self.breaker.half_open();
    }

    /// Pauses or resumes the destination.
    pub(super) fn pause(&mut self, pause: Option<Arc<Pause>>) {
        let by_operator = pause.as_ref().filter(|pause| pause.why == PauseReason::Operator);
        self.metrics.health.set_paused(by_operator.map(|pause| pause.at_ms));
        self.paused = pause;
        self.is_trial_due &= self.is_gone();
    }

    /// The pause, if it is paused.
    pub(super) fn paused(&self) -> Option<&Arc<Pause>> {
        self.paused.as_ref()
    }

    /// Whether the destination is paused because it answered 410.
    pub(super) fn is_gone(&self) -> bool {
        self.paused.as_ref().is_some_and(|pause| pause.why == PauseReason::Gone)
    }

    /// The state of the breaker.
    pub(super) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Whether the destination answered its last attempt.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Attempts in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

fn connect(destination: &Destination) -> Result<Client, String> {
    let guard = match &destination.reach {
        Reach::Private => Guard::new(Trust::File, Vec::new()),
        Reach::Public(allow) => Guard::new(Trust::Api, allow.clone()),
    };
    let trusted = Trusted {
        ca: destination.ca.as_deref(),
        identity: destination.identity.as_ref(),
        pinned: None,
    };
    // Half of the time is left for the response.
    let connect_time = destination.timeout / 2;
    let idle = destination.concurrency;
    let client = Client::connecting_within(connect_time, trusted, idle, guard);
    client.map_err(|fault| fault.to_string())
}

fn log_unusable(destination: &Destination, why: &str) {
    tracing::error!(
        destination = destination.name,
        why,
        "could not build the client of a destination"
    );
}

fn prepare(
    destination: &Arc<Destination>,
    fields: &Arc<ReadFields>,
    client: Result<Client, String>,
) -> DestinationClient {
    DestinationClient {
        format: PayloadFormat::of(destination, fields),
        parts: RequestParts::of(destination),
        client,
        destination: Arc::clone(destination),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;
    use crate::config::{Config, Machine, load_str};

    const WITH_FILES: &str = "[[destination]]\nname = \"d\"\nformat = \"forward\"\n\
                              url = \"https://h/\"\nclient_cert = \"c.pem\"\n\
                              client_key = \"k.pem\"\n";

    fn renew(folder: &Path) {
        let made = generate_simple_self_signed(["postern".to_owned()]).unwrap();
        fs::write(folder.join("c.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("k.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    fn config(folder: &Path, text: &str) -> Config {
        load_str(&Machine, &folder.join("postern.toml"), text).unwrap().config
    }

    /// 1. A destination presents a certificate. A renewal replaces its key alone, or removes it.
    /// 2. A change of something else applies the configuration again: the client stays.
    /// 3. The renewal is complete: there is another client.
    /// 4. Under other files the old client is not kept.
    #[test]
    fn a_client_that_works_outlives_files_that_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let (at, key) = (folder.path(), folder.path().join("k.pem"));
        renew(at);
        let loaded = config(at, WITH_FILES);
        let to = &loaded.destinations["d"];
        let fields = Arc::new(ReadFields::of(&loaded.catalog));
        let mut state = DestinationState::new(to, &fields, &Metrics::new().unwrap(), 0);
        fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        state.apply(to, &fields);
        let why = state.unusable.clone().unwrap();
        assert!(state.client.client.is_ok() && why.contains("does not belong"), "{why}");
        fs::remove_file(&key).unwrap();
        state.apply(to, &fields);
        assert!(state.client.client.is_ok() && state.unusable.as_ref() != Some(&why));
        renew(at);
        state.apply(to, &fields);
        assert!(state.client.client.is_ok() && state.unusable.is_none());

        fs::copy(&key, at.join("other.pem")).unwrap();
        let other = config(at, &WITH_FILES.replace("k.pem", "other.pem"));
        fs::remove_file(at.join("other.pem")).unwrap();
        state.apply(&other.destinations["d"], &fields);
        assert!(state.client.client.is_err());
    }
}
