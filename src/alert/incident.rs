//! An incident: a condition, its subject, since when it holds, and the numbers that the text shows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::config::AlertCondition;

/// A condition that holds now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Incident {
    pub(super) key: Key,
    pub(super) since_ms: UnixMillis,
    pub(super) detail: Detail,
}

/// The identity of a problem: it is open once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Key {
    #[serde(with = "named")]
    pub(super) condition: AlertCondition,
    pub(super) subject: Subject,
}

/// The subject of a problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    Gateway,
    Source(String),
    Destination(String),
    Sender(String),
    Listener(String),
}

/// The facts behind a problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Detail {
    /// Of `all` callbacks `rejected` were rejected, most of them for `reason`.
    Refusals {
        rejected: u64,
        all: u64,
        usual_percent: u64,
        #[serde(default)]
        reason: Option<String>,
    },
    /// The longest usual gap.
    Silent {
        usual_seconds: u64,
    },
    /// The status of the last attempt; `None`: no response. `Never`: nothing was ever delivered.
    Failing {
        status: Option<u16>,
        past: Past,
    },
    Breaker,
    Dead {
        count: u64,
    },
    Overdue {
        seconds: u64,
        pending: u64,
    },
    Quarantine {
        count: u64,
    },
    StoreNearlyFull {
        free_mib: u64,
        reserve_mib: u64,
    },
    StoreDamaged {
        places: u64,
    },
    StoreStopped {
        why: String,
    },
    /// A closed segment waits for its index, and retention with it.
    StoreUnindexed {
        why: String,
    },
    Keys {
        seconds: u64,
    },
    Certificate {
        expires_ms: UnixMillis,
    },
    Reload,
    /// For how long expired events have waited, and after how many days they are deleted all the same.
    Archive {
        seconds: u64,
        days: u64,
    },
    /// Not a problem: a test of the channel.
    Test,
}

/// Whether a destination ever took a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Past {
    Never,
    Delivered,
}

/// The destinations that an operator has paused.
#[derive(Clone, Debug, Default)]
pub(super) struct Paused(BTreeSet<String>);

impl FromIterator<String> for Paused {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl Paused {
    /// Whether the condition says nothing: a pause is deliberate, and deliveries wait for its end.
    pub(super) fn silences(&self, key: &Key) -> bool {
        use AlertCondition::{Breaker, Failing, Overdue};
        let is_about_deliveries = matches!(key.condition, Failing | Breaker | Overdue);
        is_about_deliveries && key.destination().is_some_and(|name| self.0.contains(name))
    }
}

impl Incident {
    pub(super) fn new(
        condition: AlertCondition,
        subject: Subject,
        since_ms: UnixMillis,
        detail: Detail,
    ) -> Self {
        Self { key: Key { condition, subject }, since_ms, detail }
    }
}

impl Key {
    /// The source, if the problem is about one.
    pub(super) fn source(&self) -> Option<&str> {
        match &self.subject {
            Subject::Source(name) => Some(name),
            _ => None,
        }
    }

    /// The destination, if the problem is about one.
    pub(super) fn destination(&self) -> Option<&str> {
        match &self.subject {
            Subject::Destination(name) => Some(name),
            _ => None,
        }
    }
}

/// A condition by its name.
mod named {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::config::AlertCondition;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        condition: &AlertCondition,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(condition.as_str())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<AlertCondition, D::Error> {
        let name = String::deserialize(from)?;
        AlertCondition::from_name(&name).ok_or_else(|| D::Error::custom("an unknown condition"))
    }
}
