//! The records of deliveries: states, attempts and replays.

use super::{
    ATTEMPT, AttemptRecord, DEAD, DONE, Outcome, REPLAY, RETRY, ReplayRecord, STATE, StateRecord,
    put_targets, read_targets,
};
use crate::clock::UnixMillis;
use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::{Attempt, EventId, ReplayId, TargetId};

// === Deliveries ===

/// Writes the committer's part of a settled attempt; the rest is [`attempt_detail`].
pub(in crate::ledger::embedded) fn put_attempt(
    to: &mut Vec<u8>,
    outcome: Outcome,
    attempt: u32,
    detail: &[u8],
) {
    to.push(ATTEMPT);
    put_outcome(to, outcome, attempt);
    to.extend_from_slice(detail);
}

fn put_outcome(to: &mut Vec<u8>, outcome: Outcome, attempt: u32) {
    let (code, due_ms) = match outcome {
        Outcome::Done => (DONE, 0),
        Outcome::Retry { due_ms } => (RETRY, due_ms),
        Outcome::Dead => (DEAD, 0),
    };
    to.push(code);
    to.put_len(attempt as usize);
    if code == RETRY {
        to.extend_from_slice(&due_ms.to_le_bytes());
    }
}

fn read_outcome(from: &mut Take<'_>) -> Result<(Outcome, u32), DecodeError> {
    let code = from.u8()?;
    let attempt = u32::try_from(from.len()?).or(Err(DecodeError))?;
    let outcome = match code {
        DONE => Outcome::Done,
        RETRY => Outcome::Retry { due_ms: from.i64()? },
        DEAD => Outcome::Dead,
        _ => return Err(DecodeError),
    };
    Ok((outcome, attempt))
}

/// Writes the state of a delivery in another ledger.
pub(in crate::ledger::embedded) fn put_state(to: &mut Vec<u8>, state: &StateRecord<'_>) {
    to.push(STATE);
    put_outcome(to, state.outcome, state.attempt);
    to.extend_from_slice(state.event.as_bytes());
    to.put_bytes(state.target.as_bytes());
}

pub(super) fn read_state(mut from: Take<'_>) -> Result<StateRecord<'_>, DecodeError> {
    let (outcome, attempt) = read_outcome(&mut from)?;
    let event = EventId::from_bytes(from.array()?);
    Ok(StateRecord { outcome, attempt, event, target: from.text()? })
}

/// The caller's part of an attempt.
pub(in crate::ledger::embedded) fn attempt_detail(
    event: EventId,
    target: &TargetId,
    attempt: &Attempt,
) -> Vec<u8> {
    let attempt = attempt.clone().trimmed();
    let mut to = Vec::with_capacity(64 + attempt.head.len());
    to.extend_from_slice(event.as_bytes());
    to.put_bytes(target.as_str().as_bytes());
    attempt.put(&mut to);
    to
}

pub(super) fn read_attempt(mut from: Take<'_>) -> Result<AttemptRecord<'_>, DecodeError> {
    let (outcome, attempt) = read_outcome(&mut from)?;
    let event = EventId::from_bytes(from.array()?);
    Ok(AttemptRecord { outcome, attempt, event, target: from.text()?, detail: from })
}

impl AttemptRecord<'_> {
    /// The attempt itself, which only the log shows.
    pub(in crate::ledger::embedded) fn attempt(mut self) -> Result<Attempt, DecodeError> {
        Attempt::take(&mut self.detail)
    }
}

/// Writes replayed deliveries.
pub(in crate::ledger::embedded) fn put_replay(
    to: &mut Vec<u8>,
    replay: ReplayId,
    event: EventId,
    at_ms: UnixMillis,
    targets: &[TargetId],
) {
    to.push(REPLAY);
    to.extend_from_slice(replay.as_bytes());
    to.extend_from_slice(event.as_bytes());
    to.extend_from_slice(&at_ms.to_le_bytes());
    put_targets(to, targets);
}

pub(super) fn read_replay(mut from: Take<'_>) -> Result<ReplayRecord<'_>, DecodeError> {
    Ok(ReplayRecord {
        replay: ReplayId::from_bytes(from.array()?),
        event: EventId::from_bytes(from.array()?),
        at_ms: from.i64()?,
        targets: read_targets(&mut from)?,
    })
}
