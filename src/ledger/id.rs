//! Ids and names: events, replays, held callbacks, sources, destinations, nodes.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::clock::UnixMillis;

/// Digits of an id.
const DIGITS: usize = 32;
/// The last millisecond that 48 bits hold, in the year 10889.
const MS_MAX: u64 = (1 << 48) - 1;

/// An id that outlasts the process: a version 7 UUID, so ids sort by the time they were created
/// for. Its text is a prefix and 32 lower-case hexadecimal digits, everywhere and always.
macro_rules! lasting_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $error:ident, $text:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        #[doc = concat!("A string that is not a [`", stringify!($name), "`].")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($text)]
        pub struct $error;

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The bytes, which sort as the ids do.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Length of the text.
            pub const TEXT_BYTES: usize = $prefix.len() + DIGITS;

            /// The text, written into `buffer`.
            pub fn encode<'b>(&self, buffer: &'b mut [u8; Self::TEXT_BYTES]) -> &'b str {
                self.put(buffer);
                str::from_utf8(buffer).unwrap_or_default()
            }

            /// Writes the text, which is ASCII.
            pub fn put(&self, buffer: &mut [u8; Self::TEXT_BYTES]) {
                let (prefix, digits) = buffer.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                // The buffer has room for the digits: encoding cannot fail.
                let _ = const_hex::encode_to_slice(self.as_bytes(), digits);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.encode(&mut [0; Self::TEXT_BYTES]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                parse(text, $prefix).map(Self).ok_or($error)
            }
        }
    };
}

lasting_id! {
    /// The id of an event, created for the time of receipt.
    EventId, "evt_", EventIdError, "an event id is `evt_` and 32 lower-case hexadecimal digits"
}

lasting_id! {
    /// The id of one order to replay: repeating the order under the same id changes nothing.
    ReplayId, "rpl_", ReplayIdError, "the id of a replay is `rpl_` and 32 lower-case hexadecimal digits"
}

lasting_id! {
    /// The id of a held callback, created for the time of receipt.
    HeldId, "ref_", HeldIdError,
    "the id of a held callback is `ref_` and 32 lower-case hexadecimal digits"
}

lasting_id! {
    /// The id of one order to release callbacks from quarantine.
    ReleaseId, "rel_", ReleaseIdError,
    "the id of a release is `rel_` and 32 lower-case hexadecimal digits"
}

/// Adds a constructor with random bits after the time.
macro_rules! random_id {
    ($($name:ident)*) => {$(
        impl $name {
            /// A new id for the millisecond `ms`; every call returns another one.
            #[must_use]
            pub fn new(ms: UnixMillis) -> Self {
                Self(uuid_at(ms, random()))
            }
        }
    )*};
}

random_id! { EventId ReplayId ReleaseId }

impl HeldId {
    /// A new id for a callback received at `ms`. Ids of one millisecond sort in order of creation.
    #[must_use]
    pub fn new(ms: UnixMillis) -> Self {
        let mut random = random();
        if let Some(count) = count_within(ms) {
            random[..2].copy_from_slice(&count.to_be_bytes());
        }
        Self(uuid_at(ms, random))
    }

    /// The millisecond that the id was created for.
    #[must_use]
    pub fn ms(&self) -> UnixMillis {
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX)
    }

    /// The id of the event of a released callback: always the same, so a repeated release makes no
    /// second event.
    #[must_use]
    pub const fn event(&self) -> EventId {
        EventId(self.0)
    }
}

/// The number of ids of held callbacks that this process created before in that millisecond; `None`
/// for a past time, or if there are too many.
fn count_within(ms: UnixMillis) -> Option<u16> {
    use std::sync::atomic::{AtomicU64, Ordering};
    const COUNT_BITS: u32 = 12;
    static LAST: AtomicU64 = AtomicU64::new(0);
    let first = u64::try_from(ms).unwrap_or(0).min(MS_MAX) << COUNT_BITS;
    let next = |last: u64| if last < first { Some(first) } else { last.checked_add(1) };
    let of_ms = |next: &u64| next >> COUNT_BITS == first >> COUNT_BITS;
    let last =
        LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| next(last).filter(of_ms));
    let count = next(last.ok()?)? & ((1 << COUNT_BITS) - 1);
    u16::try_from(count).ok()
}

impl EventId {
    /// The smallest id of that millisecond, for ranges of time.
    #[must_use]
    pub fn floor(ms: UnixMillis) -> Self {
        let ms = u64::try_from(ms).unwrap_or(0).min(MS_MAX);
        Self(Uuid::from_u128(u128::from(ms) << 80))
    }

    /// The millisecond that the id was created for.
    #[must_use]
    pub fn ms(&self) -> UnixMillis {
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX)
    }

    /// The id of event `index` of a callback with several, whose first event has this id: always
    /// the same. It differs from this one in its last bits.
    #[must_use]
    pub const fn nth(&self, index: usize) -> Self {
        Self(Uuid::from_u128(self.0.as_u128() ^ index as u128))
    }
}

fn uuid_at(ms: UnixMillis, random: [u8; 10]) -> Uuid {
    let ms = u64::try_from(ms).unwrap_or(0).min(MS_MAX);
    uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid()
}

/// Random bytes of the operating system, fetched for many ids at once: a system call costs more than
/// an id.
fn random() -> [u8; 10] {
    const IDS: usize = 48;
    thread_local! {
        static POOL: RefCell<Vec<[u8; 10]>> = const { RefCell::new(Vec::new()) };
    }
    POOL.with_borrow_mut(|pool| {
        if pool.is_empty() {
            let mut fresh = [0; 10 * IDS];
            if getrandom::fill(&mut fresh).is_err() {
                return fallback();
            }
            pool.extend(fresh.as_chunks().0);
        }
        pool.pop().unwrap_or_else(fallback)
    })
}

/// Distinct ids without random bytes of the operating system: from the random keys of the standard
/// library's maps, and a counter.
fn fallback() -> [u8; 10] {
    use std::hash::BuildHasher;
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let hash = std::hash::RandomState::new().hash_one(count);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&hash.to_le_bytes());
    bytes[8..].copy_from_slice(&count.to_le_bytes()[..2]);
    bytes
}

fn parse(text: &str, prefix: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix)?;
    let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_valid = lower && digits.len() == DIGITS;
    u128::from_str_radix(digits, 16).ok().filter(|_| is_valid).map(Uuid::from_u128)
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The id of a source, which outlives its name: a renamed source keeps its deduplication keys.
    SourceId
}

name! {
    /// The name of a destination.
    TargetId
}

name! {
    /// The name of one gateway process, for leases and operators.
    NodeId
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_text_form_goes_both_ways() {
        let id = EventId::new(1_767_323_045_678);
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert!(text.starts_with("evt_0"));
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(serde_json::from_str::<EventId>(&format!("\"{text}\"")).unwrap(), id);
    }

    #[test]
    fn other_spellings_are_rejected() {
        let text = EventId::new(1).to_string();
        let upper = text.to_uppercase();
        let signed = format!("evt_+{}", &text[5..]);
        for bad in ["", "evt_", &text[4..], &upper, &signed, &format!("{text}0"), "evt_é"] {
            assert_eq!(bad.parse::<EventId>(), Err(EventIdError), "{bad}");
        }
    }

    #[test]
    fn ids_sort_by_time_and_keep_it() {
        let ids: Vec<EventId> = (0..50).map(|ms| EventId::new(ms * 1000)).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[7].ms(), 7000);
        assert!(EventId::floor(7000) <= ids[7] && ids[7] < EventId::floor(7001));
        assert_eq!(EventId::new(-5).ms(), 0);
        assert_eq!(EventId::new(i64::MAX).ms(), (1 << 48) - 1);
    }

    #[test]
    fn ids_of_kept_callbacks_sort_as_they_were_made() {
        // Another test may make one of a later time meanwhile, after which the order is open.
        let sorts = |ms| (0..100).map(|_| HeldId::new(ms)).collect::<Vec<_>>().is_sorted();
        assert!((0..20).any(|round| sorts((1 << 47) + round)));
        assert_eq!(HeldId::new(7000).ms(), 7000);
    }

    #[test]
    fn many_ids_of_one_millisecond_differ() {
        let ids: HashSet<EventId> = (0..10_000).map(|_| EventId::new(1)).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
