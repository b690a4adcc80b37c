//! What the courier knows of one destination: its places, its health, its counters.

use std::sync::Arc;
use std::time::Instant;

use super::attempt::DestinationClient;
use super::attempt_result::AttemptResult;
use super::breaker::{Breaker, BreakerState, Change, HealthSignal};
use super::forward::ReadFields;
use super::outbound_request::PayloadFormat;
use super::pauses::{Pause, PauseReason};
use crate::clock::instant;
use crate::config::{Destination, Reach};
use crate::egress::{Client, Guard, Trust, Trusted};
use crate::rate_limiter::RateLimiter;
use crate::telemetry::{DeliveryMetrics, Metrics};

/// One destination.
#[derive(Debug)]
pub(super) struct DestinationState {
    pub(super) postal: Arc<DestinationClient>,
    pub(super) metrics: DeliveryMetrics,
    /// Nothing is delivered until somebody resumes it.
    pub(super) paused: Option<Arc<Pause>>,
    /// Somebody wants to know whether a backend that wanted no more wants some again.
    trial: bool,
    /// When it is looked at again without being told.
    pub(super) timer: Option<Instant>,
    /// It is among those that are looked at next.
    pub(super) is_ready: bool,
    in_flight: usize,
    health: Health,
    breaker: Breaker,
    rate: Option<RateLimiter>,
    /// When the rate allows another attempt, unless it does now.
    paced_until: Option<Instant>,
}

/// Whether there are many attempts under way, all destinations together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Normal,
    High,
}

/// Whether it answered its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Unproven,
    Proven,
}

impl DestinationState {
    /// The lane of a destination that is new.
    pub(super) fn new(
        destination: &Arc<Destination>,
        fields: &Arc<ReadFields>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            postal: Arc::new(postal(destination, fields)),
            metrics: metrics.destination(&destination.name),
            paused: None,
            trial: false,
            timer: None,
            is_ready: false,
            in_flight: 0,
            health: Health::Unproven,
            breaker: Breaker::new(destination.retry.first),
            rate: destination.rate.map(|rate| RateLimiter::new(rate, instant())),
            paced_until: None,
        }
    }

    /// Goes on under another configuration. What is under way ends under the old one.
    pub(super) fn apply(&mut self, destination: &Arc<Destination>, fields: &Arc<ReadFields>) {
        let before = &self.postal.destination;
        // A file of the same name may hold another certificate.
        let has_files = destination.ca.is_some() || destination.identity.is_some();
        if **before == **destination && !has_files {
            if self.postal.form.reads_fields() {
                let form = PayloadFormat::of(destination, fields);
                self.postal =
                    Arc::new(DestinationClient { form, ..DestinationClient::clone(&self.postal) });
            }
            return;
        }
        if before.rate != destination.rate {
            self.rate = destination.rate.map(|rate| RateLimiter::new(rate, instant()));
            self.paced_until = None;
        }
        self.breaker.set_first(destination.retry.first);
        self.postal = Arc::new(postal(destination, fields));
    }

    /// How many attempts may begin now.
    pub(super) fn places(&mut self, now: Instant, crowd: Load) -> usize {
        if self.paused.is_some() {
            return usize::from(self.trial && self.in_flight == 0);
        }
        let most = match (crowd, self.health) {
            (Load::High, Health::Unproven) => 1,
            _ => self.postal.destination.concurrency,
        };
        let free = most.saturating_sub(self.in_flight);
        let paced = self.rate.as_ref().map_or(free, |rate| rate.available(now).min(free));
        let until = self.rate.as_ref().map(|rate| rate.next_at(now));
        self.paced_until = until.filter(|next| *next > now);
        self.breaker.places(paced, self.in_flight, now)
    }

    /// When time alone gives it a place; `None`: it has one, or waits for something else.
    pub(super) fn opens_up(&self) -> Option<Instant> {
        if self.paused.is_some() {
            return None;
        }
        self.breaker.opens_up().max(self.paced_until)
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.in_flight += 1;
        if let Some(rate) = &self.rate {
            rate.charge(now);
        }
    }

    /// An attempt has ended; `None`: nobody knows how.
    pub(super) fn end(&mut self, ending: Option<AttemptResult>, now: Instant) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.trial = false;
        let sign = ending?.sign();
        self.health = match sign {
            HealthSignal::Up => Health::Proven,
            HealthSignal::Down => Health::Unproven,
            HealthSignal::Neutral => self.health,
        };
        self.breaker.hear(sign, now)
    }

    /// Lets a probe through if the breaker is open, or if the backend wanted no more.
    pub(super) fn probe(&mut self) {
        self.trial = self.is_gone();
        self.breaker.half_open();
    }

    /// Whether it is paused because the backend wanted no more.
    pub(super) fn is_gone(&self) -> bool {
        self.paused.as_ref().is_some_and(|pause| pause.why == PauseReason::Gone)
    }

    /// The state of its breaker.
    pub(super) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Whether it answered its last attempt.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Attempts under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

fn postal(destination: &Arc<Destination>, fields: &Arc<ReadFields>) -> DestinationClient {
    let guard = match &destination.reach {
        Reach::Private => Guard::new(Trust::File, Vec::new()),
        Reach::Public(allow) => Guard::new(Trust::Api, allow.clone()),
    };
    let trusted =
        Trusted { ca: destination.ca.as_deref(), identity: destination.identity.as_ref() };
    let client = Client::new(trusted, destination.concurrency, guard);
    let client = client.map_err(|fault| fault.to_string());
    if let Err(why) = &client {
        tracing::error!(destination = destination.name, why, "deliveries cannot be made");
    }
    DestinationClient {
        form: PayloadFormat::of(destination, fields),
        client,
        destination: Arc::clone(destination),
    }
}
