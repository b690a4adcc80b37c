//! Entries of tables as bytes.

use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::embedded::deliveries::Row;
use crate::ledger::embedded::tables::{By, EventRow, FullRow, KeyAt, Note};
use crate::ledger::{DedupeKey, EventId, Nonce, TargetId};

/// Entries per block: most blocks have 1 to 4 kB.
pub(super) const BLOCK: usize = 256;
/// Bits of a hash that lookups keep; the record has the full value.
const HASH_BITS: u32 = 24;

/// The part of a hash that a lookup keeps.
pub(super) fn short(hash: u32) -> u32 {
    hash >> (32 - HASH_BITS)
}

/// Writes each number as the difference to the previous one: most take few bytes.
#[derive(Default)]
struct Steps(i64);

impl Steps {
    fn put(&mut self, to: &mut Vec<u8>, n: i64) {
        to.put_signed(n.wrapping_sub(self.0));
        self.0 = n;
    }

    fn take(&mut self, from: &mut Take<'_>) -> Result<i64, DecodeError> {
        self.0 = self.0.wrapping_add(from.signed()?);
        Ok(self.0)
    }

    fn take_u32(&mut self, from: &mut Take<'_>) -> Result<u32, DecodeError> {
        u32::try_from(self.take(from)?).or(Err(DecodeError))
    }
}

pub(super) fn put_keys(to: &mut Vec<u8>, keys: &[KeyAt]) {
    let mut offsets = Steps::default();
    for KeyAt { half, offset } in keys {
        to.extend_from_slice(&half.to_le_bytes());
        offsets.put(to, i64::from(*offset));
    }
}

pub(super) fn take_keys(block: &[u8], to: &mut Vec<KeyAt>) -> Result<(), DecodeError> {
    let (from, mut offsets) = (&mut Take(block), Steps::default());
    while !from.0.is_empty() {
        to.push(KeyAt { half: from.u64()?, offset: offsets.take_u32(from)? });
    }
    Ok(())
}

/// Bytes of an id that contain its time; the others are random.
const ID_TIME: usize = 6;

/// Tags first, each once: most segments have few sources.
pub(super) fn put_events(to: &mut Vec<u8>, events: &[FullRow]) {
    let mut tags: Vec<u32> = events.iter().map(|full| full.row.tag).collect();
    tags.sort_unstable();
    tags.dedup();
    to.put_len(tags.len());
    to.extend(tags.iter().flat_map(|tag| tag.to_le_bytes()));
    let (mut times, mut offsets) = (Steps::default(), Steps::default());
    for FullRow { row, .. } in events {
        times.put(to, row.id.ms());
        to.extend_from_slice(&row.id.as_bytes()[ID_TIME..]);
        offsets.put(to, i64::from(row.offset));
        if tags.len() > 1 {
            to.put_len(tags.partition_point(|tag| *tag < row.tag));
        }
    }
}

pub(super) fn take_events(block: &[u8]) -> Result<Vec<EventRow>, DecodeError> {
    let from = &mut Take(block);
    let count = from.len()?;
    let tags = (0..count.min(BLOCK)).map(|_| from.u32()).collect::<Result<Vec<u32>, _>>()?;
    let (mut times, mut offsets) = (Steps::default(), Steps::default());
    let mut rows = Vec::with_capacity(BLOCK);
    while !from.0.is_empty() {
        let mut id = [0; 16];
        id[..ID_TIME].copy_from_slice(&times.take(from)?.to_be_bytes()[8 - ID_TIME..]);
        id[ID_TIME..].copy_from_slice(from.raw(16 - ID_TIME)?);
        let offset = offsets.take_u32(from)?;
        let tag = if tags.len() > 1 { from.len()? } else { 0 };
        let tag = *tags.get(tag).ok_or(DecodeError)?;
        rows.push(EventRow { id: EventId::from_bytes(id), offset, tag });
    }
    Ok(rows)
}

/// Short hashes and the numbers of their rows, sorted.
pub(super) fn lookups(events: &[FullRow], by: By) -> Vec<(u32, u32)> {
    let hashes = (0..).zip(events).filter_map(|(at, full)| Some((short(full.hash(by)?), at)));
    let mut lookups: Vec<(u32, u32)> = hashes.collect();
    lookups.sort_unstable();
    lookups
}

pub(super) fn put_lookups(to: &mut Vec<u8>, lookups: &[(u32, u32)]) {
    let mut hashes = Steps::default();
    for (hash, row) in lookups {
        hashes.put(to, i64::from(*hash));
        to.put_len(*row as usize);
    }
}

pub(super) fn take_lookups(block: &[u8]) -> Result<Vec<(u32, u32)>, DecodeError> {
    let (from, mut hashes) = (&mut Take(block), Steps::default());
    let mut lookups = Vec::with_capacity(BLOCK);
    while !from.0.is_empty() {
        let hash = hashes.take_u32(from)?;
        lookups.push((hash, u32::try_from(from.len()?).or(Err(DecodeError))?));
    }
    Ok(lookups)
}

pub(super) fn put_notes(to: &mut Vec<u8>, notes: &[Note]) {
    for note in notes {
        to.extend_from_slice(&note.event.to_le_bytes());
        to.extend_from_slice(&note.offset.to_le_bytes());
    }
}

pub(super) fn take_notes(block: &[u8]) -> Result<Vec<Note>, DecodeError> {
    let from = &mut Take(block);
    let mut notes = Vec::with_capacity(BLOCK);
    while !from.0.is_empty() {
        notes.push(Note { event: from.u64()?, offset: from.u32()? });
    }
    Ok(notes)
}

pub(super) fn put_nonces(to: &mut Vec<u8>, nonces: &[Nonce]) {
    for nonce in nonces {
        to.extend_from_slice(&nonce.key.0);
        to.extend_from_slice(&nonce.expires_ms.to_le_bytes());
    }
}

pub(super) fn take_nonces(block: &[u8], to: &mut Vec<Nonce>) -> Result<(), DecodeError> {
    let from = &mut Take(block);
    while !from.0.is_empty() {
        to.push(Nonce { key: DedupeKey(from.array()?), expires_ms: from.i64()? });
    }
    Ok(())
}

pub(super) fn put_documents(to: &mut Vec<u8>, documents: &[u32]) {
    to.extend(documents.iter().flat_map(|at| at.to_le_bytes()));
}

pub(super) fn take_documents(block: &[u8], to: &mut Vec<u32>) -> Result<(), DecodeError> {
    let from = &mut Take(block);
    while !from.0.is_empty() {
        to.push(from.u32()?);
    }
    Ok(())
}

const PENDING: u8 = 0;
const DEAD: u8 = 1;
const DONE: u8 = 2;

pub(super) type DeliveryEntry = ((EventId, TargetId), Option<Row>);

pub(super) fn put_deliveries(to: &mut Vec<u8>, deliveries: &[DeliveryEntry]) {
    for ((event, target), row) in deliveries {
        to.extend_from_slice(event.as_bytes());
        to.put_bytes(target.as_str().as_bytes());
        to.push(row.map_or(DONE, |row| if row.dead { DEAD } else { PENDING }));
        if let Some(row) = row {
            to.put_len(row.attempt as usize);
            to.extend_from_slice(&row.due_ms.to_le_bytes());
        }
    }
}

pub(super) fn take_deliveries(
    block: &[u8],
    to: &mut Vec<DeliveryEntry>,
) -> Result<(), DecodeError> {
    let from = &mut Take(block);
    while !from.0.is_empty() {
        to.push(take_delivery(from)?);
    }
    Ok(())
}

fn take_delivery(from: &mut Take<'_>) -> Result<DeliveryEntry, DecodeError> {
    let key = (EventId::from_bytes(from.array()?), TargetId::from(from.text()?));
    let dead = match from.u8()? {
        DONE => return Ok((key, None)),
        state => state == DEAD,
    };
    let attempt = u32::try_from(from.len()?).or(Err(DecodeError))?;
    Ok((key, Some(Row { dead, attempt, due_ms: from.i64()? })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::embedded::tables::EventRow;

    fn rows(tags: &[u32]) -> Vec<FullRow> {
        let row = |n: u32| FullRow {
            row: EventRow {
                id: EventId::new(1_767_323_045_000 + i64::from(n / 3)),
                offset: (n ^ 5) * 700,
                tag: tags[n as usize % tags.len()],
            },
            transaction: n.wrapping_mul(0x9e37_79b9),
            user: n.is_multiple_of(2).then_some(n % 7),
        };
        let mut rows: Vec<FullRow> = (0..200).map(row).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn events_of_one_source_and_of_many_come_back() {
        for (tags, most) in [(&[7][..], 14), (&[7, 1, u32::MAX], 15)] {
            let rows = rows(tags);
            let mut block = Vec::new();
            put_events(&mut block, &rows);
            assert!(block.len() <= 32 + most * rows.len(), "{}", block.len());
            let expected: Vec<EventRow> = rows.iter().map(|full| full.row).collect();
            assert_eq!(take_events(&block).unwrap(), expected);
        }
        assert_eq!(take_events(&[0]).unwrap(), []);
    }

    #[test]
    fn ids_of_any_bytes_come_back() {
        let row = |id| EventRow { id: EventId::from_bytes(id), offset: u32::MAX, tag: 0 };
        let full = |id| FullRow { row: row(id), transaction: 0, user: None };
        let rows = [full([0; 16]), full([0x80; 16]), full([0xff; 16])];
        let mut block = Vec::new();
        put_events(&mut block, &rows);
        assert_eq!(take_events(&block).unwrap(), rows.map(|full| full.row));
    }

    #[test]
    fn lookups_keep_the_front_of_a_hash_and_the_row() {
        let rows = rows(&[1]);
        for (by, some) in [(By::Transaction, rows.len()), (By::User, rows.len() / 2)] {
            let lookups = lookups(&rows, by);
            assert_eq!(lookups.len(), some);
            let mut block = Vec::new();
            put_lookups(&mut block, &lookups);
            assert_eq!(take_lookups(&block).unwrap(), lookups);
            for (hash, row) in lookups {
                assert_eq!(rows[row as usize].hash(by).map(short), Some(hash));
            }
        }
    }

    #[test]
    fn keys_come_back_and_no_cut_is_read() {
        let key = |n: u64| KeyAt { half: u64::MAX / (n + 1), offset: n as u32 * 770 };
        let keys: Vec<KeyAt> = (0..256).map(key).collect();
        let mut block = Vec::new();
        put_keys(&mut block, &keys);
        assert!(block.len() <= 10 * keys.len() + 2, "{}", block.len());
        let mut back = Vec::new();
        take_keys(&block, &mut back).unwrap();
        assert_eq!(back, keys);
        for cut in 1..9 {
            assert_eq!(take_keys(&block[..cut], &mut Vec::new()), Err(DecodeError));
        }
    }
}
