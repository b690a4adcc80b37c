//! What the courier knows of one destination: its places, its health, its counters.

use std::sync::Arc;
use std::time::Instant;

use super::attempt::Postal;
use super::breaker::{Breaker, Change};
use super::ending::Ending;
use super::parcel::Form;
use super::rate::Pacer;
use crate::config::Destination;
use crate::egress::{Client, Guard, Trust, Trusted};
use crate::ledger::TargetId;
use crate::telemetry::DeliveryMetrics;

/// One destination.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) target: TargetId,
    pub(super) postal: Arc<Postal>,
    pub(super) metrics: DeliveryMetrics,
    /// More is due than it had places for, so it is asked for alone, with as many as it has.
    pub(super) busy: bool,
    in_flight: usize,
    breaker: Breaker,
    pacer: Option<Pacer>,
}

impl Lane {
    /// The lane of a destination that is new.
    pub(super) fn new(destination: &Arc<Destination>, metrics: DeliveryMetrics) -> Self {
        Self {
            target: TargetId::from(destination.name.as_str()),
            postal: Arc::new(postal(destination)),
            metrics,
            busy: false,
            in_flight: 0,
            breaker: Breaker::new(destination.retry.first),
            pacer: destination.rate.map(Pacer::new),
        }
    }

    /// Goes on under another configuration. What is under way ends under the old one.
    pub(super) fn apply(&mut self, destination: &Arc<Destination>) {
        let before = &self.postal.destination;
        // A file of the same name may hold another certificate.
        let has_files = destination.ca.is_some() || destination.identity.is_some();
        if **before == **destination && !has_files {
            return;
        }
        if before.rate != destination.rate {
            self.pacer = destination.rate.map(Pacer::new);
        }
        self.breaker.set_first(destination.retry.first);
        self.postal = Arc::new(postal(destination));
    }

    /// How many attempts may begin now.
    pub(super) fn places(&mut self, now: Instant) -> usize {
        let free = self.postal.destination.concurrency.saturating_sub(self.in_flight);
        let paced = self.pacer.as_mut().map_or(free, |pacer| pacer.places(now).min(free));
        self.breaker.places(paced, self.in_flight, now)
    }

    /// When time alone gives it a place; `None`: it has one, or waits for an attempt to end.
    pub(super) fn opens_up(&self) -> Option<Instant> {
        let paced = self.pacer.as_ref().and_then(Pacer::opens_up);
        self.breaker.opens_up().max(paced)
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.in_flight += 1;
        if let Some(pacer) = &mut self.pacer {
            pacer.take(now);
        }
    }

    /// An attempt has ended; `None`: nobody knows how.
    pub(super) fn end(&mut self, ending: Option<Ending>, now: Instant) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.breaker.hear(ending?.sign(), now)
    }
}

fn postal(destination: &Arc<Destination>) -> Postal {
    // Every destination of today stands in the configuration file.
    let guard = Guard::new(Trust::File, Vec::new());
    let trusted =
        Trusted { ca: destination.ca.as_deref(), identity: destination.identity.as_ref() };
    let client = Client::new(trusted, destination.concurrency, guard);
    let client = client.map_err(|fault| fault.to_string());
    if let Err(why) = &client {
        tracing::error!(destination = destination.name, why, "deliveries cannot be made");
    }
    Postal { form: Form::of(destination), client, destination: Arc::clone(destination) }
}
