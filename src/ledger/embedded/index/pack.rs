//! Entries of tables as bytes.

use crate::ledger::codec::{Malformed, Put, Take};
use crate::ledger::embedded::deliveries::Row;
use crate::ledger::embedded::tables::{By, EventRow, FullRow, Note};
use crate::ledger::{EventId, Nonce, TargetId};

pub(super) const KEY: usize = 12;
pub(super) const EVENT: usize = 24;
pub(super) const LOOKUP: usize = 8;
pub(super) const NOTE: usize = 12;
pub(super) const NONCE: usize = 24;

pub(super) fn pack_keys(keys: &[(u64, u32)]) -> Vec<u8> {
    let mut to = Vec::with_capacity(keys.len() * KEY);
    for (half, offset) in keys {
        to.extend_from_slice(&half.to_le_bytes());
        to.extend_from_slice(&offset.to_le_bytes());
    }
    to
}

pub(super) fn pack_event(full: &FullRow) -> [u8; EVENT] {
    let mut bytes = [0; EVENT];
    bytes[..16].copy_from_slice(full.row.id.as_bytes());
    bytes[16..20].copy_from_slice(&full.row.offset.to_le_bytes());
    bytes[20..].copy_from_slice(&full.row.tag.to_le_bytes());
    bytes
}

/// Hashes and the numbers of their rows, sorted.
pub(super) fn lookups(events: &[FullRow], by: By) -> Vec<(u32, u32)> {
    let hashes = (0..).zip(events).filter_map(|(at, full)| full.hash(by).map(|hash| (hash, at)));
    let mut lookups: Vec<(u32, u32)> = hashes.collect();
    lookups.sort_unstable();
    lookups
}

pub(super) fn pack_lookups(lookups: &[(u32, u32)]) -> Vec<u8> {
    let mut to = Vec::with_capacity(lookups.len() * LOOKUP);
    for (hash, row) in lookups {
        to.extend_from_slice(&hash.to_le_bytes());
        to.extend_from_slice(&row.to_le_bytes());
    }
    to
}

pub(super) fn pack_notes(notes: &[Note]) -> Vec<u8> {
    let mut to = Vec::with_capacity(notes.len() * NOTE);
    for note in notes {
        to.extend_from_slice(&note.event.to_le_bytes());
        to.extend_from_slice(&note.offset.to_le_bytes());
    }
    to
}

pub(super) fn pack_nonces(nonces: &[Nonce]) -> Vec<u8> {
    let mut to = Vec::with_capacity(nonces.len() * NONCE);
    for nonce in nonces {
        to.extend_from_slice(&nonce.key.0);
        to.extend_from_slice(&nonce.expires_ms.to_le_bytes());
    }
    to
}

const PENDING: u8 = 0;
const DEAD: u8 = 1;
const DONE: u8 = 2;

pub(super) fn put_delivery(to: &mut Vec<u8>, event: EventId, target: &TargetId, row: Option<Row>) {
    to.extend_from_slice(event.as_bytes());
    to.put_bytes(target.as_str().as_bytes());
    to.push(row.map_or(DONE, |row| if row.dead { DEAD } else { PENDING }));
    if let Some(row) = row {
        to.put_len(row.attempt as usize);
        to.extend_from_slice(&row.due_ms.to_le_bytes());
    }
}

pub(super) type DeliveryEntry = ((EventId, TargetId), Option<Row>);

pub(super) fn take_delivery(from: &mut Take<'_>) -> Result<DeliveryEntry, Malformed> {
    let key = (EventId::from_bytes(from.array()?), TargetId::from(from.text()?));
    let dead = match from.u8()? {
        DONE => return Ok((key, None)),
        state => state == DEAD,
    };
    let attempt = u32::try_from(from.len()?).or(Err(Malformed))?;
    Ok((key, Some(Row { dead, attempt, due_ms: from.i64()? })))
}

pub(super) fn read_event(bytes: &[u8; EVENT]) -> EventRow {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[..16]);
    EventRow {
        id: EventId::from_bytes(id),
        offset: u32_of(&bytes[16..]),
        tag: u32_of(&bytes[20..]),
    }
}

pub(super) fn u32_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

pub(super) fn u64_of(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
