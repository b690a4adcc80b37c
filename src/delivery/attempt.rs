//! One HTTP attempt of a delivery.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::attempt_result::AttemptResult;
use super::attempt_trace::AttemptTrace;
use super::outbound_request::{PayloadError, PayloadFormat, RequestParts};
use super::schedule;
use crate::clock;
use crate::config::{Destination, Mode};
use crate::egress::{Client, UnreadResponse, error_text};
use crate::ledger::{Attempt, EventId};
use crate::verdict::{Timing, Verdict};

/// Everything needed to call one destination. Immutable: a new configuration makes a new one.
#[derive(Clone, Debug)]
pub(super) struct DestinationClient {
    pub(super) destination: Arc<Destination>,
    pub(super) format: PayloadFormat,
    pub(super) parts: RequestParts,
    /// The client, or why it could not be built.
    pub(super) client: Result<Client, String>,
}

/// The result of an attempt.
#[derive(Debug)]
pub(super) struct AttemptReport {
    pub(super) attempt: Attempt,
    pub(super) result: AttemptResult,
    /// The recorded verdict of an inline destination; `Some` means that this attempt is a replay.
    pub(super) earlier: Option<(Verdict, Timing)>,
}

impl DestinationClient {
    /// Makes one attempt, within the destination's timeout.
    pub(super) async fn attempt(
        &self,
        event: EventId,
        stored: &Bytes,
        trace: Option<&mut AttemptTrace>,
    ) -> AttemptReport {
        let at_ms = clock::now_ms();
        let began = clock::instant();
        let mut attempt = Attempt { at_ms, ..Attempt::default() };
        let result = self.make(event, stored, &mut attempt, trace).await;
        let took = clock::instant().saturating_duration_since(began).as_millis();
        attempt.latency_ms = u32::try_from(took).unwrap_or(u32::MAX);
        if attempt.error.is_none() {
            attempt.error = result.why().map(str::to_owned);
        }
        AttemptReport { attempt, result, earlier: None }
    }

    async fn make(
        &self,
        event: EventId,
        stored: &Bytes,
        attempt: &mut Attempt,
        trace: Option<&mut AttemptTrace>,
    ) -> AttemptResult {
        let client = match &self.client {
            Ok(client) => client,
            Err(why) => {
                attempt.error = Some(why.clone());
                return AttemptResult::Unable;
            }
        };
        let mut request = match self.format.request(&self.parts, event, stored, attempt.at_ms) {
            Ok(request) => request,
            Err(why) => {
                attempt.error = Some(why.to_string());
                return match why {
                    PayloadError::Stored
                    | PayloadError::Url(_)
                    | PayloadError::Unknown(_)
                    | PayloadError::Withheld(_) => AttemptResult::InvalidPayload,
                    PayloadError::Unusable(_) => AttemptResult::Unable,
                };
            }
        };
        trace.into_iter().for_each(|trace| trace.pass_on(&mut request));
        call(client, &self.destination, request, attempt).await
    }
}

async fn call(
    client: &Client,
    destination: &Destination,
    request: Request<Full<Bytes>>,
    attempt: &mut Attempt,
) -> AttemptResult {
    let until = tokio::time::Instant::from_std(clock::instant() + destination.timeout);
    let mut answer = match tokio::time::timeout_at(until, client.exchange(request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            attempt.error = Some(error_text(&error));
            return AttemptResult::Broken;
        }
        Err(_) => return AttemptResult::Late,
    };
    let status = answer.head.status;
    attempt.status = Some(status.as_u16());
    let asked = schedule::retry_after(&answer.head.headers, attempt.at_ms);
    let mut head = Vec::new();
    let read = tokio::time::timeout_at(until, read_head(&mut answer, &mut head)).await;
    attempt.head = Bytes::from(head);
    let Mode::Inline { late } = destination.mode else {
        // The status alone decides. A late or truncated body does not change the result.
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

/// Whether a body was read to its end.
enum Head {
    Whole,
    /// The body is longer than the part that is kept.
    Long,
    Torn,
}

/// Reads the part of a body that is kept. A longer body is not read to its end, which costs its
/// connection; a shorter one is, and its connection is used again.
async fn read_head(answer: &mut UnreadResponse, head: &mut Vec<u8>) -> Head {
    loop {
        let frame = match answer.frame().await {
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
