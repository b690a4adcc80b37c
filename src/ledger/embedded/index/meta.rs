//! The summary of a segment's blocks, and where to search in them.

use super::pack::BLOCK;
use crate::clock::UnixMillis;
use crate::ledger::EventId;
use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::embedded::segment::{Scan, Segment};
use crate::ledger::embedded::tables::Tables;

/// The summary of a segment's blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) salt: u32,
    pub(super) generation: u32,
    pub(super) end: u32,
    pub(super) next_seq: u64,
    pub(super) records: u64,
    pub(super) newest_ms: UnixMillis,
    pub(super) keys: u32,
    pub(super) events: u32,
    pub(super) lookups: u32,
    pub(super) users: u32,
    pub(super) notes: u32,
    pub(super) nonces: u32,
    pub(super) deliveries: u32,
    pub(super) documents: u32,
    /// The first id of each block of events, and the last id.
    pub(super) ids: Vec<EventId>,
    pub(super) last: Option<EventId>,
    /// The first hash, or half of an id, of each block.
    pub(super) transactions: Vec<u32>,
    pub(super) user_fences: Vec<u32>,
    pub(super) note_fences: Vec<u64>,
}

impl Meta {
    pub(super) fn new(segment: &Segment, tables: &Tables, scan: Scan) -> Self {
        let ids = tables.events.iter().step_by(BLOCK).map(|full| full.row.id);
        Self {
            salt: segment.header.salt,
            generation: segment.header.generation,
            end: scan.end,
            next_seq: scan.next_seq,
            records: scan.records,
            newest_ms: tables.newest_ms,
            keys: tables.keys.len() as u32,
            events: tables.events.len() as u32,
            notes: tables.notes.len() as u32,
            nonces: tables.nonces.len() as u32,
            deliveries: tables.deliveries.len() as u32,
            documents: tables.documents.len() as u32,
            ids: ids.collect(),
            last: tables.events.last().map(|full| full.row.id),
            note_fences: tables.notes.iter().step_by(BLOCK).map(|note| note.event).collect(),
            ..Self::default()
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut to = Vec::new();
        for n in [self.salt, self.generation, self.end] {
            to.extend_from_slice(&n.to_le_bytes());
        }
        for n in [self.next_seq, self.records, self.newest_ms as u64] {
            to.extend_from_slice(&n.to_le_bytes());
        }
        for n in self.counts() {
            to.extend_from_slice(&n.to_le_bytes());
        }
        to.put_len(self.ids.len());
        for id in self.ids.iter().chain(&self.last) {
            to.extend_from_slice(id.as_bytes());
        }
        for fences in [&self.transactions, &self.user_fences] {
            to.put_len(fences.len());
            to.extend(fences.iter().flat_map(|fence| fence.to_le_bytes()));
        }
        to.put_len(self.note_fences.len());
        to.extend(self.note_fences.iter().flat_map(|fence| fence.to_le_bytes()));
        let crc = crc32fast::hash(&to);
        to.extend_from_slice(&crc.to_le_bytes());
        to
    }

    fn counts(&self) -> [u32; 8] {
        let Self { keys, events, lookups, users, notes, nonces, deliveries, documents, .. } = *self;
        [keys, events, lookups, users, notes, nonces, deliveries, documents]
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (body, crc) = bytes.split_last_chunk().ok_or(DecodeError)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(DecodeError);
        }
        let from = &mut Take(body);
        let mut meta = Self {
            salt: from.u32()?,
            generation: from.u32()?,
            end: from.u32()?,
            next_seq: from.u64()?,
            records: from.u64()?,
            newest_ms: from.i64()?,
            keys: from.u32()?,
            events: from.u32()?,
            lookups: from.u32()?,
            users: from.u32()?,
            notes: from.u32()?,
            nonces: from.u32()?,
            deliveries: from.u32()?,
            documents: from.u32()?,
            ..Self::default()
        };
        let blocks = from.len()?;
        let id = |from: &mut Take<'_>| from.array().map(EventId::from_bytes);
        meta.ids = (0..blocks).map(|_| id(from)).collect::<Result<_, _>>()?;
        meta.last = if blocks > 0 { Some(id(from)?) } else { None };
        for fences in [&mut meta.transactions, &mut meta.user_fences] {
            let len = from.len()?;
            *fences = (0..len).map(|_| from.u32()).collect::<Result<_, _>>()?;
        }
        let len = from.len()?;
        meta.note_fences = (0..len).map(|_| from.u64()).collect::<Result<_, _>>()?;
        Ok(meta)
    }
}
