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
        Self {
            client: Arc::new(client(destination, fields)),
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
        }
    }

    /// Applies another configuration. Attempts in flight end under the old one.
    pub(super) fn apply(&mut self, destination: &Arc<Destination>, fields: &Arc<ReadFields>) {
        let before = &self.client.destination;
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
        self.client = Arc::new(client(destination, fields));
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

fn client(destination: &Arc<Destination>, fields: &Arc<ReadFields>) -> DestinationClient {
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
    let client = client.map_err(|fault| fault.to_string());
    if let Err(why) = &client {
        tracing::error!(
            destination = destination.name,
            why,
            "could not build the client of a destination"
        );
    }
    DestinationClient {
        format: PayloadFormat::of(destination, fields),
        parts: RequestParts::of(destination),
        client,
        destination: Arc::clone(destination),
    }
}
