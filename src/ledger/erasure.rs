//! Data that goes before its usual time: that of one user, and the events of a source that keeps them
//! for a shorter time.

use std::time::Duration;

use super::{NewEvent, SourceId};
use crate::clock::{UnixMillis, millis};

/// The data to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// The user, as events name it.
    pub user: String,
    /// Only of this source.
    pub source: Option<SourceId>,
}

/// Events of a source that expire earlier than those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlyExpiry {
    /// The source.
    pub source: SourceId,
    /// How long its events are kept from receipt.
    pub keep: Duration,
    /// The time of reference.
    pub now_ms: UnixMillis,
}

impl EarlyExpiry {
    /// Events that were received before this expire.
    pub(super) fn before(&self) -> UnixMillis {
        self.now_ms.saturating_sub(millis(self.keep))
    }
}

/// The result of an erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events whose content is gone. Their deduplication keys stay.
    pub events: u64,
    /// Unsettled deliveries of those events, which are no longer made.
    pub deliveries: u64,
    /// Kept callbacks: held, in quarantine, or samples of rejected ones.
    pub held: u64,
}

impl Erasure {
    /// Whether data of that source and user is to be erased.
    #[must_use]
    pub fn covers(&self, source: &str, user: Option<&str>) -> bool {
        user == Some(self.user.as_str())
            && self.source.as_ref().is_none_or(|wanted| wanted.as_str() == source)
    }

    /// Whether that event, or the event that a kept callback would be, is to be erased.
    #[must_use]
    pub fn covers_event(&self, event: &NewEvent) -> bool {
        self.covers(event.source.as_str(), event.user.as_deref())
    }
}
