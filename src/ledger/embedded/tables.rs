//! The tables of one segment: computed by reading the segment, and kept in the index.
//!
//! Every entry is final for its segment and depends on no other segment: tables can be loaded, or
//! rebuilt, one segment at a time. In the order of the segments, the later entry wins.

use std::collections::BTreeMap;

use super::deliveries::{Row, after};
use super::keys::half;
use super::record::{EventRecord, Record};
use super::segment::{Scan, Segment};
use crate::clock::UnixMillis;
use crate::ledger::{EventId, LedgerError, NewEvent, Nonce, SourceId, TargetId};

/// An event in lists: 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventRow {
    pub(super) id: EventId,
    /// The offset of its record in the segment.
    pub(super) offset: u32,
    /// 31 bits of its source, and the test flag.
    pub(super) tag: u32,
}

/// An event with its lookup hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FullRow {
    pub(super) row: EventRow,
    pub(super) transaction: u32,
    /// `None` if the event has no user.
    pub(super) user: Option<u32>,
}

/// A lookup of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Transaction,
    User,
}

/// An attempt or a replay: half of the event's id, and the offset of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Note {
    pub(super) event: u64,
    pub(super) offset: u32,
}

/// A deduplication key: its first half, and the offset of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyAt {
    pub(super) half: u64,
    pub(super) offset: u32,
}

/// The content of one segment.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// In the order of their records.
    pub(super) keys: Vec<KeyAt>,
    /// Events, by id.
    pub(super) events: Vec<FullRow>,
    pub(super) notes: Vec<Note>,
    pub(super) nonces: Vec<Nonce>,
    /// Deliveries changed in this segment; `None`: done.
    pub(super) deliveries: BTreeMap<(EventId, TargetId), Option<Row>>,
    /// Offsets of records that a start reads again: changes to documents, held callbacks, and marks
    /// of decided ones.
    pub(super) documents: Vec<u32>,
    /// When the newest event was received.
    pub(super) newest_ms: UnixMillis,
}

/// 31 bits of a source's id, and the test flag.
pub(super) fn tag(source: &SourceId, test: bool) -> u32 {
    hash(source.as_str()) << 1 | u32::from(test)
}

/// A short hash for lookups, which are checked against the record.
pub(super) fn hash(text: &str) -> u32 {
    crc32fast::hash(text.as_bytes())
}

/// The half of an id under which notes are found.
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

    /// The sort key of rows: the id as a number, which is faster to compare than bytes.
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
        // Deliveries made and done within the segment do not concern others.
        tables.deliveries.retain(|(event, _), row| row.is_some() || !born.contains(event));
        tables.events.sort_unstable_by_key(FullRow::order);
        tables.notes.sort_unstable();
        Ok((tables, scan))
    }

    fn add(&mut self, offset: u32, record: &Record<'_>) {
        if let Some(head) = record.keys() {
            self.keys.extend(head.keys().map(|key| KeyAt { half: half(&key), offset }));
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

    /// Whether the tables from an index, but for the keys, match `whole`, read from the segment.
    pub(super) fn is_part_of(&self, whole: &Self) -> bool {
        self.nonces == whole.nonces
            && self.deliveries == whole.deliveries
            && self.documents == whole.documents
    }

    fn put_all(&mut self, event: EventId, targets: &[&str], row: Row) {
        for target in targets {
            self.deliveries.insert((event, TargetId::from(*target)), Some(row));
        }
    }
}
