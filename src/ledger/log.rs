//! Queries of recorded events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

use super::{Delivery, DeliveryState, EventId, LedgerError, SourceId, TargetId};
use crate::clock::UnixMillis;

/// A filter for events. `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Of this source.
    pub source: Option<SourceId>,
    /// Of one of these sources: those that the viewer may see.
    pub among: Option<Arc<[SourceId]>>,
    /// With this transaction, as text.
    pub transaction: Option<String>,
    /// For this user.
    pub user: Option<String>,
    /// In this state.
    pub state: Option<EventState>,
    /// Marked as a test, or not.
    pub test: Option<bool>,
    /// Received at this time or later.
    pub since_ms: Option<UnixMillis>,
    /// Received before this time.
    pub until_ms: Option<UnixMillis>,
}

/// The state of an event's deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventState {
    /// At least one is pending.
    Pending,
    /// None is pending, at least one is dead.
    Dead,
    /// Nothing is left to deliver.
    Done,
}

/// A recorded event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its id.
    pub id: EventId,
    /// Its source.
    pub source: SourceId,
    /// When it was received.
    pub received_ms: UnixMillis,
    /// Whether the sender marks it as a test.
    pub test: bool,
    /// The state of its deliveries.
    pub state: EventState,
    /// Its encoded [`super::EventBody`].
    pub body: Bytes,
}

/// An event with its deliveries, by destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDetail {
    /// The event.
    pub event: Logged,
    /// Its deliveries with their attempts.
    pub deliveries: Vec<Delivery>,
}

/// A page of events, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// The events.
    pub events: Vec<Logged>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<Cursor>,
}

/// The end of a page. Opaque: callers only return it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) Vec<u8>);

/// A string that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct CursorError;

/// Cursors contain an id and possibly a name; a longer text is not a cursor.
const CURSOR_TEXT_MAX: usize = 1024;

/// The place of a delivery in lists.
#[derive(Clone, Debug)]
pub(super) struct DeliveryKey {
    pub(super) event: EventId,
    pub(super) target: TargetId,
}

impl EventState {
    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    /// The state of an event with those deliveries.
    #[must_use]
    pub fn of(deliveries: impl IntoIterator<Item = DeliveryState>) -> Self {
        let worst = deliveries.into_iter().min().unwrap_or(DeliveryState::Done);
        match worst {
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Dead => Self::Dead,
            DeliveryState::Done => Self::Done,
        }
    }
}

impl LogQuery {
    /// Whether events of `source` match the query.
    #[must_use]
    pub fn is_of(&self, source: &str) -> bool {
        self.source.as_ref().is_none_or(|wanted| wanted.as_str() == source)
            && self.among.as_ref().is_none_or(|all| all.iter().any(|one| one.as_str() == source))
    }

    /// Whether an event received at `ms` is in the query's range of time.
    #[must_use]
    pub fn in_time(&self, ms: UnixMillis) -> bool {
        self.since_ms.is_none_or(|since| ms >= since)
            && self.until_ms.is_none_or(|until| ms < until)
    }
}

impl Cursor {
    /// After an event in any list of events: events with smaller ids follow.
    #[must_use]
    pub fn after(id: EventId) -> Self {
        Self(id.as_bytes().to_vec())
    }

    /// Before the deliveries of every event received before `ms`.
    #[must_use]
    pub fn deliveries_before(ms: UnixMillis) -> Self {
        Self(EventId::floor(ms).as_bytes().to_vec())
    }

    /// After a delivery: later names of its event, then smaller ids, follow.
    #[must_use]
    pub fn behind(delivery: &Delivery) -> Self {
        let mut bytes = delivery.event.as_bytes().to_vec();
        bytes.extend_from_slice(delivery.target.as_str().as_bytes());
        Self(bytes)
    }

    /// The id in a cursor of [`Cursor::after`].
    pub(super) fn event(&self) -> Result<EventId, LedgerError> {
        let bytes = self.0.as_slice().try_into().or(Err(LedgerError::BadCursor))?;
        Ok(EventId::from_bytes(bytes))
    }

    /// The delivery in a cursor of [`Cursor::behind`].
    pub(super) fn delivery(&self) -> Result<DeliveryKey, LedgerError> {
        let (id, name) = self.0.split_first_chunk().ok_or(LedgerError::BadCursor)?;
        let name = std::str::from_utf8(name).or(Err(LedgerError::BadCursor))?;
        Ok(DeliveryKey { event: EventId::from_bytes(*id), target: TargetId::from(name) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(&self.0))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if text.len() > CURSOR_TEXT_MAX {
            return Err(CursorError);
        }
        const_hex::decode(text).map(Self).or(Err(CursorError))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_goes_out_and_comes_back() {
        let cursor = Cursor(vec![1, 2, 255]);
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert_eq!("0g".parse::<Cursor>(), Err(CursorError));
        assert_eq!("00".repeat(513).parse::<Cursor>(), Err(CursorError));
    }

    #[test]
    fn one_pending_delivery_makes_an_event_pending() {
        use DeliveryState::{Dead, Done, Pending};
        assert_eq!(EventState::of([Done, Dead, Pending]), EventState::Pending);
        assert_eq!(EventState::of([Done, Dead]), EventState::Dead);
        assert_eq!(EventState::of([Done]), EventState::Done);
        assert_eq!(EventState::of([]), EventState::Done);
    }
}
