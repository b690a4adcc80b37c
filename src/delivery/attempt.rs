//! One HTTP try of a delivery.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use super::attempt_result::AttemptResult;
use super::outbound_request::{PayloadError, PayloadFormat};
use super::schedule;
use crate::clock;
use crate::config::{Destination, Mode};
use crate::egress::{Client, told};
use crate::ledger::{Attempt, EventId};
use crate::verdict::{Timing, Verdict};

/// What is needed to call one destination. It does not change: a new configuration makes a new one.
#[derive(Clone, Debug)]
pub(super) struct DestinationClient {
    pub(super) destination: Arc<Destination>,
    pub(super) form: PayloadFormat,
    /// The client, or why there is none.
    pub(super) client: Result<Client, String>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct AttemptReport {
    pub(super) attempt: Attempt,
    pub(super) ending: AttemptResult,
    /// What was recorded of an inline destination's verdict before: this was a replay.
    pub(super) earlier: Option<(Verdict, Timing)>,
}

impl DestinationClient {
    /// Makes one attempt; it takes as long as the destination's time-out at most.
    pub(super) async fn attempt(&self, event: EventId, stored: &Bytes) -> AttemptReport {
        let at_ms = clock::now_ms();
        let began = clock::instant();
        let mut attempt = Attempt { at_ms, ..Attempt::default() };
        let ending = self.make((event, stored), &mut attempt).await;
        let took = clock::instant().saturating_duration_since(began).as_millis();
        attempt.latency_ms = u32::try_from(took).unwrap_or(u32::MAX);
        if attempt.error.is_none() {
            attempt.error = ending.why().map(str::to_owned);
        }
        AttemptReport { attempt, ending, earlier: None }
    }

    async fn make(&self, parcel: (EventId, &Bytes), attempt: &mut Attempt) -> AttemptResult {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => {
                attempt.error = Some(why.clone());
                return AttemptResult::Unable;
            }
        };
        let request = match self.form.request(&self.destination, parcel, attempt.at_ms) {
            Ok(request) => request,
            Err(why) => {
                attempt.error = Some(why.to_string());
                return match why {
                    PayloadError::Stored | PayloadError::Url(_) => AttemptResult::Unwritable,
                    PayloadError::Unusable(_) => AttemptResult::Unable,
                };
            }
        };
        let Destination { timeout, mode, .. } = *self.destination;
        call(client, request, (timeout, mode), attempt).await
    }
}

async fn call(
    client: &Client,
    request: Request<Full<Bytes>>,
    (time, mode): (Duration, Mode),
    attempt: &mut Attempt,
) -> AttemptResult {
    let until = tokio::time::Instant::from_std(clock::instant() + time);
    let answer = match tokio::time::timeout_at(until, client.send(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            attempt.error = Some(told(&error));
            return AttemptResult::Broken;
        }
        Err(_) => return AttemptResult::Late,
    };
    let status = answer.status();
    attempt.status = Some(status.as_u16());
    let asked = schedule::retry_after(answer.headers(), attempt.at_ms);
    let mut head = Vec::new();
    let read = tokio::time::timeout_at(until, read_head(answer, &mut head)).await;
    attempt.head = Bytes::from(head);
    let Mode::Inline { late } = mode else {
        // The status is the answer. A body that is late or torn changes nothing about it.
        return AttemptResult::Answered(status, asked);
    };
    match read {
        _ if !status.is_success() => AttemptResult::Answered(status, asked),
        Ok(Head::Torn) | Err(_) => AttemptResult::Unclear,
        Ok(Head::Long) => AttemptResult::Unreadable(late),
        Ok(Head::Whole) => match Verdict::read(&attempt.head) {
            Verdict::Valid | Verdict::Invalid => AttemptResult::Answered(status, asked),
            Verdict::Unreadable => AttemptResult::Unreadable(late),
        },
    }
}

/// Whether a body is known to its end.
enum Head {
    Whole,
    /// There is more than is kept.
    Long,
    Torn,
}

/// Reads as much of a body as is kept. What is longer is not read at all, which costs its
/// connection; what is shorter is read to its end, so that the connection can be used again.
async fn read_head(answer: Response<Incoming>, head: &mut Vec<u8>) -> Head {
    let mut body = answer.into_body();
    loop {
        let frame = match body.frame().await {
            None => return Head::Whole,
            Some(Err(_)) => return Head::Torn,
            Some(Ok(frame)) => frame,
        };
        let Some(data) = frame.data_ref() else { continue };
        let left = Attempt::HEAD_MAX - head.len();
        head.extend_from_slice(&data[..data.len().min(left)]);
        if data.len() > left {
            return Head::Long;
        }
    }
}
