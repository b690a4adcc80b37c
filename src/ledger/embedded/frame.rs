//! A frame while it is being filled.

use std::borrow::Cow;

use super::segment::{FRAME_HEAD, Header, Position, RECORD_HEAD};
use crate::ledger::seal::{self, MasterKey, Nonces};

/// Records that are written and synced together.
pub(super) struct Frame {
    header: Header,
    sealing: Option<(MasterKey, Nonces)>,
    /// The offset where it will begin.
    base: u32,
    bytes: Vec<u8>,
    count: u32,
}

impl Frame {
    /// An empty frame of the segment with that header, whose payloads are sealed with `key`.
    ///
    /// # Errors
    /// If there is a key and the operating system provides no random bytes.
    pub(super) fn new(
        header: Header,
        base: u32,
        key: Option<&MasterKey>,
    ) -> Result<Self, getrandom::Error> {
        let sealing = match key {
            Some(key) => Some((key.clone(), Nonces::new()?)),
            None => None,
        };
        Ok(Self { header, sealing, base, bytes: vec![0; FRAME_HEAD], count: 0 })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn base(&self) -> u32 {
        self.base
    }

    /// Bytes of its records.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - FRAME_HEAD
    }

    /// Where it would end with payloads of that many bytes in `count` more records.
    pub(super) fn end_with(&self, bytes: usize, count: usize) -> usize {
        let sealing = if self.sealing.is_some() { seal::OVERHEAD } else { 0 };
        self.base as usize + self.bytes.len() + bytes + count * (RECORD_HEAD + sealing) + FRAME_HEAD
    }

    /// Adds a record whose payload `put` writes; returns its position.
    pub(super) fn append(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Position {
        let start = self.bytes.len();
        self.bytes.resize(start + RECORD_HEAD, 0);
        put(&mut self.bytes);
        let offset = self.base + start as u32;
        let at = Position::new(&self.header, offset);
        if let Some((key, nonces)) = &mut self.sealing {
            key.seal(nonces, &at.place(), &mut self.bytes, start + RECORD_HEAD);
        }
        let (head, payload) = self.bytes[start..].split_at_mut(RECORD_HEAD);
        head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&self.header.crc(offset, payload).to_le_bytes());
        self.count += 1;
        at
    }

    /// The payload of a record in the frame.
    pub(super) fn peek(&self, at: Position) -> Option<Cow<'_, [u8]>> {
        if !at.is_in(&self.header) {
            return None;
        }
        let record = self.bytes.get(at.offset().checked_sub(self.base)? as usize..)?;
        let len = record.first_chunk().map(|len| u32::from_le_bytes(*len) as usize)?;
        let payload = record.get(RECORD_HEAD..RECORD_HEAD + len)?;
        match &self.sealing {
            Some((key, _)) => key.open(&at.place(), payload).map(Cow::Owned),
            None => Some(Cow::Borrowed(payload)),
        }
    }

    /// The current end, for [`Frame::go_back`].
    pub(super) fn mark(&self) -> (usize, u32) {
        (self.bytes.len(), self.count)
    }

    /// Removes the records added after a mark.
    pub(super) fn go_back(&mut self, len: usize, count: u32) {
        self.bytes.truncate(len);
        self.count = count;
    }

    /// The frame as written, under its sequence.
    pub(super) fn seal(&mut self, seq: u64) -> &[u8] {
        self.header.seal(&mut self.bytes, self.base, self.count, seq);
        &self.bytes
    }

    /// Begins the next frame after this one, which was sealed and written.
    pub(super) fn next(&mut self) {
        self.base += self.bytes.len() as u32;
        self.bytes.truncate(FRAME_HEAD);
        self.count = 0;
    }
}
