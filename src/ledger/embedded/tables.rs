//! What one segment adds to what the ledger knows: made by reading the segment, kept in the index
//! so that it need not be read again.
//!
//! Every entry is final for its segment and depends on no other segment, so that tables can be
//! loaded, or made anew, one segment at a time; in the order of the segments, the later wins.

use std::collections::BTreeMap;

use super::deliveries::{Row, after};
use super::keys::half;
use super::record::{EventRecord, Record};
use super::segment::{Scan, Segment};
use crate::clock::UnixMillis;
use crate::ledger::{EventId, LedgerError, NewEvent, Nonce, SourceId, TargetId};

/// An event, as lists find it: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventRow {
    pub(super) id: EventId,
    /// Where its record is in the segment.
    pub(super) offset: u32,
    /// 31 bits of its source, and whether it is a test.
    pub(super) tag: u32,
}

/// An event with what it is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FullRow {
    pub(super) row: EventRow,
    pub(super) transaction: u32,
    /// `None` where the event has no user.
    pub(super) user: Option<u32>,
}

/// What an event is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Transaction,
    User,
}

/// An attempt or a replay: half of the event's id, and where the record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    pub(super) event: u64,
    pub(super) offset: u32,
}

/// What one segment says.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// First halves of de-duplication keys, and where their records are, in their order.
    pub(super) keys: Vec<(u64, u32)>,
    /// Events, by id.
    pub(super) events: Vec<FullRow>,
    pub(super) notes: Vec<Note>,
    pub(super) nonces: Vec<Nonce>,
    /// Deliveries that are not what they were before this segment; `None`: done.
    pub(super) deliveries: BTreeMap<(EventId, TargetId), Option<Row>>,
    /// Where records are that are read again at a start: changes to documents, held callbacks, and
    /// marks of those that are decided.
    pub(super) documents: Vec<u32>,
    /// When the newest event was received.
    pub(super) newest_ms: UnixMillis,
}

/// 31 bits of a source's id, and the mark of a test.
pub(super) fn tag(source: &SourceId, test: bool) -> u32 {
    hash(source.as_str()) << 1 | u32::from(test)
}

/// A short hash for look-ups, which are checked against the record.
pub(super) fn hash(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// The half of an id that notes are found by.
pub(super) fn half_id(id: EventId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

impl FullRow {
    pub(super) fn hash(&self, by: By) -> Option<u32> {
        match by {
            By::Transaction => Some(self.transaction),
            By::User => self.user,
        }
    }

    /// What rows are sorted by: the id, as a number, because that is quicker compared than bytes.
    pub(super) fn order(&self) -> u128 {
        u128::from_be_bytes(*self.row.id.as_bytes())
    }

    /// The row of an event that is recorded at `offset`.
    pub(super) fn of(event: &NewEvent, offset: u32) -> Self {
        let row = EventRow { id: event.id, offset, tag: tag(&event.source, event.test) };
        let user = event.user.as_deref().map(hash);
        Self { row, transaction: hash(&event.transaction), user }
    }

    fn new(event: &EventRecord<'_>, offset: u32) -> Self {
        let tag = hash(event.head.source) << 1 | u32::from(event.test);
        Self {
            row: EventRow { id: event.head.id, offset, tag },
            transaction: hash(event.transaction),
            user: event.user.map(hash),
        }
    }
}

impl Tables {
    /// Reads a whole segment.
    pub(super) fn read(segment: &Segment) -> Result<(Self, Scan), LedgerError> {
        let mut tables = Self { newest_ms: UnixMillis::MIN, ..Self::default() };
        let mut born = std::collections::HashSet::new();
        let scan = segment.scan(&mut |offset, payload| {
            let record = Record::read(payload)
                .map_err(|_| segment.damaged(offset, "the record is of no known form"))?;
            if let Record::Event(event) = &record
                && !event.targets.is_empty()
            {
                born.insert(event.head.id);
            }
            tables.add(offset, &record);
            Ok(())
        })?;
        // What was made and done within the segment was never anything to the others.
        tables.deliveries.retain(|(event, _), row| row.is_some() || !born.contains(event));
        tables.events.sort_unstable_by_key(FullRow::order);
        tables.notes.sort_unstable();
        Ok((tables, scan))
    }

    fn add(&mut self, offset: u32, record: &Record<'_>) {
        if let Some(head) = record.keys() {
            self.keys.extend(head.keys().map(|key| (half(&key), offset)));
            self.newest_ms = self.newest_ms.max(head.received_ms);
        }
        match record {
            Record::Event(event) => {
                self.events.push(FullRow::new(event, offset));
                let row = Row::due(event.head.received_ms);
                self.put_all(event.head.id, &event.targets, row);
            }
            Record::Attempt(attempt) => {
                self.notes.push(Note { event: half_id(attempt.event), offset });
                let row = after(attempt.outcome, attempt.attempt);
                self.deliveries.insert((attempt.event, TargetId::from(attempt.target)), row);
            }
            Record::Replay(replay) => {
                self.notes.push(Note { event: half_id(replay.event), offset });
                self.put_all(replay.event, &replay.targets, Row::due(replay.at_ms));
            }
            Record::State(state) => {
                self.notes.push(Note { event: half_id(state.event), offset });
                let row = after(state.outcome, state.attempt);
                self.deliveries.insert((state.event, TargetId::from(state.target)), row);
            }
            Record::Document(_) | Record::Held(_) | Record::Mark(_) | Record::Reason(..) => {
                self.documents.push(offset);
            }
            Record::Nonce(nonce) => self.nonces.push(nonce.clone()),
            Record::Keys(_) => {}
        }
    }

    /// Whether what an index loads is what `whole`, read from the segment, says.
    pub(super) fn is_part_of(&self, whole: &Self) -> bool {
        self.keys == whole.keys
            && self.nonces == whole.nonces
            && self.deliveries == whole.deliveries
            && self.documents == whole.documents
    }

    fn put_all(&mut self, event: EventId, targets: &[&str], row: Row) {
        for target in targets {
            self.deliveries.insert((event, TargetId::from(*target)), Some(row));
        }
    }
}
