//! Confirmations of subscriptions: a request to the sender, after its callback was answered.
//!
//! Only for a verified callback that is recorded as new, of a source that says `confirm = true`, at
//! the hosts that the sender's file pins. The response is not read, and no redirect is followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use ipnet::IpNet;
use tokio::sync::Semaphore;

use super::cache::Keys;
use crate::config::Origin;
use crate::egress::{Client, Guard, Trust, Trusted, error_text};
use crate::sender::{KeyRequest, UrlOrigin};
use crate::telemetry::Metrics;

/// The time for one request.
const CONFIRM_TIME: Duration = Duration::from_secs(5);

/// The pauses before a request: three within ten minutes.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(30), Duration::from_secs(300)];

/// Confirmations in progress: a source has a few subscriptions.
pub(super) const CONFIRMING_MAX: usize = 16;

/// A subscription to be confirmed.
#[derive(Debug)]
pub struct Subscription {
    /// The source, as logs name it.
    pub source: String,
    /// Its sender.
    pub sender: String,
    /// The request that confirms it.
    pub request: KeyRequest,
    /// The writer of the host.
    pub host_from: UrlOrigin,
    /// Where the source is from.
    pub source_from: Origin,
}

impl Keys {
    /// Confirms a subscription in the background.
    pub fn confirm(&self, subscription: Subscription) {
        let (metrics, allow, places) = self.confirming();
        tokio::spawn(confirm(subscription, Confirming { metrics, allow, places }));
    }
}

struct Confirming {
    metrics: Arc<Metrics>,
    allow: Vec<IpNet>,
    places: Arc<Semaphore>,
}

async fn confirm(subscription: Subscription, with: Confirming) {
    let Subscription { source, sender, .. } = &subscription;
    let count = |outcome: &str| {
        with.metrics.keys.confirmations.with_label_values(&[sender.as_str(), outcome]).inc();
    };
    let Ok(_place) = with.places.try_acquire() else {
        tracing::warn!(source, "too many confirmations at once: confirm the subscription manually");
        return count("failed");
    };
    let host = subscription.request.url.host().unwrap_or_default();
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        match send(&subscription, with.allow.clone()).await {
            Ok(()) => {
                tracing::info!(source, host, "subscription confirmed");
                return count("confirmed");
            }
            Err(why) => tracing::warn!(source, host, why, "could not confirm a subscription"),
        }
    }
    tracing::error!(source, host, "the subscription is not confirmed: open the URL of its event");
    count("failed");
}

async fn send(subscription: &Subscription, allow: Vec<IpNet>) -> Result<(), String> {
    let guard = match (subscription.host_from, subscription.source_from) {
        (UrlOrigin::Source, Origin::File) => Guard::new(Trust::File, Vec::new()),
        (UrlOrigin::Source | UrlOrigin::Sender, _) => Guard::new(Trust::Api, allow),
    };
    let client = Client::new(Trusted::default(), 0, guard).map_err(|error| error.to_string())?;
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = subscription.request.url.clone();
    match tokio::time::timeout(CONFIRM_TIME, client.send(request)).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(format!("the response has status {}", response.status())),
        Ok(Err(error)) => Err(error_text(&error)),
        Err(_) => Err(String::from("no response within 5 s")),
    }
}
