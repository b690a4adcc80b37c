//! Verdicts of inline backends: connects a waiting sender with the delivery that asks.
//!
//! ```text
//! intake    expect ───────────── wait ─────────────▶ Waited ─▶ the sender
//! delivery           attempt ─▶ decide ─▶ settled
//! ```
//!
//! A verdict is recorded before the sender receives it: it is in the attempt in the ledger. A later
//! callback, after a restart too, reads it there ([`recorded`]). This module serves only the
//! callbacks that wait now, in this process.
//!
//! **All callbacks of an event get the same verdict.** If a sender got the configured reply for a
//! late backend, a later verdict is marked as [`LATE`] and changes nothing. Whether a verdict is
//! late is decided once, under one lock. It is in time if the event's first sender still waits, or
//! hung up before its deadline. A sender whose verdict is in time, but not durable when its own time
//! ends, is asked to retry: it gets neither the verdict, which may be lost, nor the reply for a late
//! one, which the verdict may contradict.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::instant;
use crate::config::Late;
use crate::ledger::{Delivery, EventId};

/// The error of an attempt whose verdict reached no sender.
pub const LATE: &str = "the verdict came after the sender was answered";

/// The error of an attempt with a 2xx that settled a delivery without a verdict.
pub const UNREADABLE: &str = "the verdict cannot be read; the sender got the answer for a late one";

/// The prefix that some editors and libraries write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How long a waiter whose deadline has passed waits for a verdict that is decided and not yet
/// durable: a part of the time reserved for the way to the sender.
const GRACE: Duration = Duration::from_millis(50);

/// The number of slots from which slots without waiters are removed. Later sweeps wait until there
/// are twice as many as the last one left: each looks at all of them under the lock.
const SWEEP_AT: usize = 1024;

/// The decision of a backend on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Grant the reward.
    Valid,
    /// Reject the reward.
    Invalid,
    /// No valid verdict: the sender gets the reply for a late backend.
    Unreadable,
}

/// Whether the sender still receives a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// The sender receives it.
    InTime,
    /// The sender has its reply, or has gone.
    Late,
}

/// The end of a callback's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The verdict, which is durable.
    Told(Verdict),
    /// The deadline has passed, and from now on the verdict is late.
    Late,
    /// The deadline has passed, and the verdict is decided but not durable: nothing can be replied
    /// that is sure to stay.
    Unsettled,
}

/// All callbacks that wait for a verdict.
#[derive(Clone, Debug, Default)]
pub struct Verdicts(Arc<Mutex<Slots>>);

#[derive(Debug)]
struct Slots {
    by_event: HashMap<EventId, Slot>,
    /// The number of slots at which they are swept.
    sweep_at: usize,
}

/// An event whose first sender has no reply yet.
#[derive(Debug)]
struct Slot {
    state: watch::Sender<State>,
    /// The deadline.
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    /// Decided, and not yet durable.
    Decided(Verdict),
    /// Durable.
    Told(Verdict),
}

/// A callback that waits for the verdict on one event.
#[derive(Debug)]
pub struct Waiter {
    all: Verdicts,
    event: EventId,
    state: watch::Receiver<State>,
    until: Instant,
    late: Late,
}

impl Verdict {
    /// Reads the whole body of a 2xx: a JSON object with one member `isValid` that is `true` or
    /// `false`; other members are ignored. A byte order mark is skipped. Anything else is
    /// unreadable: to accept it would grant what the backend rejected in another spelling.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        match serde_json::from_slice(body) {
            Ok(Body { is_valid: true }) => Self::Valid,
            Ok(Body { is_valid: false }) => Self::Invalid,
            Err(_) => Self::Unreadable,
        }
    }

    /// Reads a body as an older version did when it recorded a verdict.
    fn read_by_older(body: &[u8]) -> Self {
        let json = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
        match json.get("isValid") {
            None | Some(serde_json::Value::Bool(true)) => Self::Valid,
            Some(_) => Self::Invalid,
        }
    }
}

/// The body of a verdict. A duplicate member is an error.
#[derive(serde::Deserialize)]
struct Body {
    #[serde(rename = "isValid")]
    is_valid: bool,
}

/// The verdict that the ledger holds for a delivery: the first, whatever a replay brought later.
#[must_use]
pub fn recorded(delivery: &Delivery) -> Option<(Verdict, Timing)> {
    delivery.attempts.iter().find_map(|attempt| {
        attempt.status.filter(|status| (200..300).contains(status))?;
        let timing = match attempt.error.as_deref() {
            None => Timing::InTime,
            Some(LATE) => Timing::Late,
            Some(UNREADABLE) => return Some((Verdict::Unreadable, Timing::InTime)),
            // A 2xx with an unreadable body: it was retried.
            Some(_) => return None,
        };
        Some(match Verdict::read(&attempt.head) {
            // This version would not have recorded the verdict.
            Verdict::Unreadable => (Verdict::read_by_older(&attempt.head), timing),
            verdict => (verdict, timing),
        })
    })
}

impl Default for Slots {
    fn default() -> Self {
        Self { by_event: HashMap::new(), sweep_at: SWEEP_AT }
    }
}

impl Slots {
    /// Removes slots without waiters whose time has ended. A verdict that is being settled stays: a
    /// duplicate must not take it for late.
    fn sweep(&mut self, now: Instant) {
        self.by_event.retain(|_, slot| {
            let is_pending = *slot.state.borrow() == State::Pending;
            !is_pending || slot.until > now || slot.state.receiver_count() > 0
        });
        self.sweep_at = SWEEP_AT.max(2 * self.by_event.len());
    }
}

impl Verdicts {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for the verdict on `event` until `until`; then the sender gets the reply of
    /// `late`. Several callbacks may wait.
    #[must_use]
    pub fn expect(&self, event: EventId, until: Instant, late: Late) -> Waiter {
        let mut slots = self.slots();
        if slots.by_event.len() >= slots.sweep_at {
            slots.sweep(instant());
        }
        let fresh = || Slot { state: watch::Sender::new(State::Pending), until };
        let slot = slots.by_event.entry(event).or_insert_with(fresh);
        slot.until = slot.until.max(until);
        self.waiter(event, slot, until, late)
    }

    /// Waits for the verdict on `event` as long as its first sender's time has not ended: `None` if
    /// it has, or if this process never waited for it.
    #[must_use]
    pub fn join(&self, event: EventId, until: Instant, late: Late) -> Option<Waiter> {
        let mut slots = self.slots();
        let slot = slots.by_event.get_mut(&event)?;
        slot.until = slot.until.max(until);
        Some(self.waiter(event, slot, until, late))
    }

    fn waiter(&self, event: EventId, slot: &Slot, until: Instant, late: Late) -> Waiter {
        Waiter { all: self.clone(), event, state: slot.state.subscribe(), until, late }
    }

    /// Drops `event`: it was never recorded.
    pub fn forget(&self, event: EventId) {
        self.slots().by_event.remove(&event);
    }

    /// Decides the verdict on `event`, not yet durable.
    pub(crate) fn decide(&self, event: EventId, verdict: Verdict) -> Timing {
        let mut slots = self.slots();
        let Some(slot) = slots.by_event.get(&event) else { return Timing::Late };
        if *slot.state.borrow() == State::Pending && slot.until <= instant() {
            // A waiter finds out by its own clock.
            slots.by_event.remove(&event);
            return Timing::Late;
        }
        slot.state.send_replace(State::Decided(verdict));
        Timing::InTime
    }

    /// Records that the verdict on `event` is durable.
    pub(crate) fn settled(&self, event: EventId) {
        if let Some(slot) = self.slots().by_event.remove(&event) {
            slot.state.send_if_modified(|state| match *state {
                State::Decided(verdict) => {
                    *state = State::Told(verdict);
                    true
                }
                State::Pending | State::Told(_) => false,
            });
        }
    }

    /// Records that the verdict on `event` was not persisted: the backend will be asked again.
    pub(crate) fn lost(&self, event: EventId) {
        if let Some(slot) = self.slots().by_event.get(&event) {
            slot.state.send_replace(State::Pending);
        }
    }
}

impl Waiter {
    /// Waits for the verdict.
    pub async fn wait(mut self) -> Waited {
        if let Some(told) = self.told_by(self.until).await {
            return Waited::Told(told);
        }
        if !self.is_decided() {
            return Waited::Late;
        }
        self.told_by(self.until + GRACE).await.map_or(Waited::Unsettled, Waited::Told)
    }

    /// As [`Self::wait`], with a deadline that has passed: nothing more is waited for.
    pub async fn give_up(mut self) -> Waited {
        self.until = self.until.min(instant());
        self.wait().await
    }

    /// Whether the verdict is decided. If not, it is late for all waiters, unless late means that
    /// the sender retries: then the retried callbacks go on waiting.
    fn is_decided(&self) -> bool {
        let mut slots = self.all.slots();
        if *self.state.borrow() != State::Pending {
            return true;
        }
        let slot = slots.by_event.get(&self.event);
        let is_last = || slot.is_none_or(|slot| slot.state.receiver_count() == 1);
        if self.late != Late::Unavailable || is_last() {
            slots.by_event.remove(&self.event);
        }
        false
    }

    async fn told_by(&mut self, until: Instant) -> Option<Verdict> {
        let told = self.state.wait_for(|state| matches!(state, State::Told(_)));
        match tokio::time::timeout_at(until.into(), told).await {
            Ok(Ok(state)) => match *state {
                State::Told(verdict) => Some(verdict),
                State::Pending | State::Decided(_) => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Attempt, DeliveryState, TargetId};

    const EVENT: EventId = EventId::from_bytes([7; 16]);

    fn soon() -> Instant {
        instant() + Duration::from_secs(1)
    }

    #[test]
    fn only_is_valid_at_the_top_is_a_verdict() {
        for (body, verdict) in [
            (r#"{"isValid":true}"#, Verdict::Valid),
            (r#" {"code":0, "isValid": false, "data": {"isValid": true}} "#, Verdict::Invalid),
            ("\u{feff}{\"isValid\":false}", Verdict::Invalid),
        ] {
            assert_eq!(Verdict::read(body.as_bytes()), verdict, "{body}");
        }
        // The bytes of a real backend.
        let marked = const_hex::decode("EFBBBF7B22697356616C6964223A66616C73657D").unwrap();
        assert_eq!(Verdict::read(&marked), Verdict::Invalid);
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV\xca,\x0eK\xccILQ\xb2JK\xcc)N\xad\x05\0";
        let utf_16: Vec<u8> =
            "\u{feff}{\"isValid\":false}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let bytes: [&[u8]; 16] = [
            b"",
            b"ok",
            b"{}",
            b"[1]",
            b"false",
            br#"{"code":0}"#,
            br#"{"isvalid":false}"#,
            br#"{"IsValid":false}"#,
            br#"{"is_valid":false}"#,
            br#"{"data":{"isValid":false}}"#,
            br#"[{"isValid":false}]"#,
            br#"{"isValid":"false"}"#,
            br#"{"isValid":0}"#,
            br#"{"isValid":true,"isValid":false}"#,
            br#"{"isValid":false}}"#,
            gzip,
        ];
        for body in bytes.into_iter().chain([&utf_16[..]]) {
            assert_eq!(Verdict::read(body), Verdict::Unreadable, "{}", body.escape_ascii());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiter_gets_the_verdict_when_it_is_durable() {
        let all = Verdicts::default();
        let waiters =
            [all.expect(EVENT, soon(), Late::Accepted), all.expect(EVENT, soon(), Late::Accepted)];
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::InTime);
        all.settled(EVENT);
        for waiter in waiters {
            assert_eq!(waiter.wait().await, Waited::Told(Verdict::Invalid));
        }
        assert!(all.join(EVENT, soon(), Late::Accepted).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_is_late_once_a_sender_got_the_late_reply() {
        let all = Verdicts::default();
        assert_eq!(all.expect(EVENT, soon(), Late::Accepted).wait().await, Waited::Late);
        // A duplicate changes nothing about that.
        assert!(all.join(EVENT, soon(), Late::Accepted).is_none());
        assert_eq!(all.decide(EVENT, Verdict::Valid), Timing::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_makes_the_verdict_late_unless_it_is_decided() {
        let all = Verdicts::default();
        let first = all.expect(EVENT, soon(), Late::Accepted);
        let second = all.join(EVENT, soon(), Late::Accepted).unwrap();
        assert_eq!(second.give_up().await, Waited::Late);
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::Late);
        assert_eq!(first.wait().await, Waited::Late);
        let waiter = all.expect(EVENT, soon(), Late::Accepted);
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::InTime);
        all.settled(EVENT);
        assert_eq!(waiter.give_up().await, Waited::Told(Verdict::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_asked_to_retry_does_not_make_the_verdict_late_for_others() {
        let all = Verdicts::default();
        let first = all.expect(EVENT, instant(), Late::Unavailable);
        let again = all.expect(EVENT, soon(), Late::Unavailable);
        assert_eq!(first.wait().await, Waited::Late);
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::InTime);
        all.settled(EVENT);
        assert_eq!(again.wait().await, Waited::Told(Verdict::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_hangs_up_leaves_its_time_to_the_verdict() {
        let all = Verdicts::default();
        drop(all.expect(EVENT, soon(), Late::Accepted));
        assert_eq!(all.decide(EVENT, Verdict::Valid), Timing::InTime);
        all.settled(EVENT);
        drop(all.expect(EVENT, instant(), Late::Accepted));
        assert_eq!(all.decide(EVENT, Verdict::Valid), Timing::Late);
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_is_not_durable_in_time_is_neither_told_nor_late() {
        let all = Verdicts::default();
        let first = all.expect(EVENT, soon(), Late::Accepted);
        let duplicate = all.join(EVENT, soon() + Duration::from_secs(9), Late::Accepted).unwrap();
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::InTime);
        assert_eq!(first.wait().await, Waited::Unsettled);
        all.settled(EVENT);
        assert_eq!(duplicate.wait().await, Waited::Told(Verdict::Invalid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_is_never_durable_reaches_no_sender() {
        let all = Verdicts::default();
        let waiter = all.expect(EVENT, soon(), Late::Accepted);
        assert_eq!(all.decide(EVENT, Verdict::Valid), Timing::InTime);
        assert_eq!(waiter.wait().await, Waited::Unsettled);
        let waiter = all.expect(EVENT, soon(), Late::Accepted);
        all.lost(EVENT);
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::InTime);
        all.settled(EVENT);
        assert_eq!(waiter.wait().await, Waited::Told(Verdict::Invalid));
    }

    fn numbered(n: usize) -> EventId {
        EventId::new(i64::try_from(n).unwrap())
    }

    #[test]
    fn slots_without_waiters_do_not_pile_up() {
        let all = Verdicts::default();
        drop(all.expect(EVENT, soon(), Late::Accepted));
        assert_eq!(all.decide(EVENT, Verdict::Invalid), Timing::InTime);
        all.slots().by_event.get_mut(&EVENT).unwrap().until = instant();
        for n in 0..3 * SWEEP_AT {
            drop(all.expect(numbered(n), instant(), Late::Accepted));
        }
        assert!(all.slots().by_event.len() <= SWEEP_AT, "{}", all.slots().by_event.len());
        assert!(all.join(EVENT, soon(), Late::Accepted).is_some(), "it is being settled");
    }

    #[test]
    fn slots_with_waiters_are_swept_when_there_are_twice_as_many() {
        let all = Verdicts::default();
        let wait = |n| all.expect(numbered(n), soon(), Late::Accepted);
        let mut waiters: Vec<Waiter> = (0..=SWEEP_AT).map(wait).collect();
        assert_eq!(all.slots().sweep_at, 2 * SWEEP_AT);
        waiters.extend((SWEEP_AT + 1..=2 * SWEEP_AT).map(wait));
        assert_eq!(all.slots().sweep_at, 4 * SWEEP_AT);
        assert_eq!(all.slots().by_event.len(), waiters.len());
    }

    #[test]
    fn the_first_verdict_of_the_ledger_counts() {
        let attempt = |status, head: &'static str, error: Option<&str>| Attempt {
            status: Some(status),
            head: head.into(),
            error: error.map(str::to_owned),
            ..Attempt::default()
        };
        let with = |attempts| Delivery {
            event: EVENT,
            target: TargetId::from("game"),
            state: DeliveryState::Done,
            attempt: 0,
            due_ms: None,
            attempts,
        };
        let no = r#"{"isValid":false}"#;
        let torn = attempt(200, "{\"isVa", Some("torn"));
        let all =
            vec![attempt(500, no, None), torn, attempt(200, no, None), attempt(200, "", None)];
        assert_eq!(recorded(&with(all)), Some((Verdict::Invalid, Timing::InTime)));
        let unread = vec![attempt(200, "ok", Some(UNREADABLE)), attempt(200, no, None)];
        assert_eq!(recorded(&with(unread)), Some((Verdict::Unreadable, Timing::InTime)));
        let of_older = vec![attempt(200, "ok", None)];
        assert_eq!(recorded(&with(of_older)), Some((Verdict::Valid, Timing::InTime)));
        let late = vec![attempt(204, "", Some(LATE))];
        assert_eq!(recorded(&with(late)), Some((Verdict::Valid, Timing::Late)));
        assert_eq!(recorded(&with(vec![attempt(404, no, None)])), None);
    }
}
