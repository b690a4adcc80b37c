//! Surveys a segment that may be damaged: intact records and unreadable stretches.

use std::path::Path;
use std::sync::Arc;

use super::{
    ALIGN, FRAME_HEAD, FrameHead, HEADER, Header, MARK, RECORD_HEAD, Segment, Window, failed,
    frame_size, u32_at,
};
use crate::ledger::embedded::files::Files;
use crate::ledger::embedded::journal::parse_name;
use crate::ledger::{Keyring, LedgerError};

/// A finding in a segment.
pub(in crate::ledger::embedded) enum Found<'f> {
    /// A whole record.
    Record { offset: u32, payload: &'f [u8] },
    /// An unreadable stretch.
    Broken { from: u32, until: u32, what: &'static str },
}

/// Called with each finding.
type Visit<'v> = &'v mut dyn FnMut(Found<'_>) -> Result<(), LedgerError>;

/// The end of a segment's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger::embedded) struct End {
    /// After the last frame that has a head.
    pub(in crate::ledger::embedded) end: u32,
    /// The sequence of the next frame.
    pub(in crate::ledger::embedded) next_seq: u64,
    /// The end of bytes that belong to no frame; `end` if there are none.
    pub(in crate::ledger::embedded) torn_until: u32,
}

impl Segment {
    /// Visits everything, intact or broken, in order.
    pub(in crate::ledger::embedded) fn survey(&self, visit: Visit<'_>) -> Result<End, LedgerError> {
        let mut window = Window::new(self);
        let mut found = End { end: HEADER, next_seq: self.header.first_seq, torn_until: HEADER };
        let mut offset = HEADER;
        while let Some(bytes) = window.get(offset, ALIGN)? {
            let any = bytes.iter().any(|byte| *byte != 0);
            let head = if any { window.frame_head(offset)? } else { None };
            let Some(head) = head else {
                offset += ALIGN as u32;
                if any {
                    found.torn_until = offset;
                }
                continue;
            };
            if offset > found.end {
                let what = "no frame begins here";
                visit(Found::Broken { from: found.end, until: offset, what })?;
            } else if head.seq != found.next_seq {
                let what = "frames are missing before this one";
                visit(Found::Broken { from: offset, until: offset, what })?;
            }
            self.survey_frame(&mut window, offset, head, visit)?;
            offset = offset.saturating_add(frame_size(head));
            found = End { end: offset, next_seq: head.seq + 1, torn_until: offset };
        }
        if self.header.next_seq > 0 {
            found.next_seq = self.header.next_seq;
        }
        Ok(found)
    }

    fn survey_frame(
        &self,
        window: &mut Window<'_>,
        start: u32,
        head: FrameHead,
        visit: Visit<'_>,
    ) -> Result<(), LedgerError> {
        let mut at = start + FRAME_HEAD as u32;
        let stop = at.saturating_add(head.len);
        let mut broken = None;
        while at < stop {
            let record = window.record(at)?.filter(|record| fits(at, record.len(), stop));
            let Some(payload) = record else {
                broken.get_or_insert(at);
                at += 1;
                continue;
            };
            let next = at + (RECORD_HEAD + payload.len()) as u32;
            if let Some(from) = broken.take() {
                let what = "records are damaged";
                visit(Found::Broken { from, until: at, what })?;
            }
            match self.unsealed(at, payload) {
                Ok(payload) => visit(Found::Record { offset: at, payload: &payload })?,
                Err(_) => {
                    let what = "a record does not unseal";
                    visit(Found::Broken { from: at, until: next, what })?;
                }
            }
            at = next;
        }
        match broken {
            Some(from) => visit(Found::Broken { from, until: stop, what: "records are damaged" }),
            None => Ok(()),
        }
    }

    /// Opens a segment with a possibly damaged header: its fields are trusted as far as the frames
    /// confirm them. The text says what was wrong.
    pub(in crate::ledger::embedded) fn open_damaged(
        files: &Arc<dyn Files>,
        keys: &Keyring,
        path: &Path,
    ) -> Result<(Self, String), LedgerError> {
        match Self::open(files, keys, path) {
            Ok(segment) => Ok((segment, String::new())),
            Err(LedgerError::Corrupt(what)) => {
                let file = files.open(path).map_err(|error| failed(path, "open", &error))?;
                let size = file.len().map_err(|error| failed(path, "measure", &error))?;
                let mut bytes = [0; HEADER as usize + FRAME_HEAD];
                file.read_at(&mut bytes, 0).map_err(|error| failed(path, "read", &error))?;
                let (mut header, frame) = split(&bytes);
                if let Some((number, generation)) = parse_name(path) {
                    (header.number, header.generation) = (number, generation);
                }
                if u32_at(frame, 20) == MARK {
                    header.salt = salt_of(frame);
                }
                let key = header.key.and_then(|id| keys.find(id)).or(keys.current()).cloned();
                header.key = key.as_ref().map(crate::ledger::MasterKey::id);
                Ok((Self { header, path: path.to_owned(), file, size, key }, what))
            }
            Err(error) => Err(error),
        }
    }
}

fn split(bytes: &[u8; HEADER as usize + FRAME_HEAD]) -> (Header, &[u8]) {
    let (header, frame) = bytes.split_at(HEADER as usize);
    let mut whole = [0; HEADER as usize];
    whole.copy_from_slice(header);
    (Header::fields(&whole), frame)
}

fn fits(at: u32, len: usize, stop: u32) -> bool {
    at as u64 + (RECORD_HEAD + len) as u64 <= u64::from(stop)
}

/// The salt that matches the checksum of the first frame's head. A checksum is a linear function of
/// its start value, so its 32 bits determine the salt.
fn salt_of(frame: &[u8]) -> u32 {
    let crc_from = |start: u32| {
        let mut hasher = crc32fast::Hasher::new_with_initial(start);
        hasher.update(&frame[..16]);
        hasher.finalize()
    };
    let base = crc_from(0);
    let mut wanted = u32_at(frame, 16) ^ base;
    // Rows of a system of equations: the effect of each start bit, and the bits that produce it.
    let mut rows: Vec<(u32, u32)> =
        (0..32).map(|bit| (crc_from(1 << bit) ^ base, 1_u32 << bit)).collect();
    let mut start = 0;
    for bit in (0..32).rev() {
        let Some(at) = rows.iter().position(|(sum, _)| sum >> bit & 1 == 1) else { continue };
        let (sum, bits) = rows.swap_remove(at);
        for row in rows.iter_mut().filter(|row| row.0 >> bit & 1 == 1) {
            *row = (row.0 ^ sum, row.1 ^ bits);
        }
        if wanted >> bit & 1 == 1 {
            (wanted, start) = (wanted ^ sum, start ^ bits);
        }
    }
    start.wrapping_sub(HEADER.wrapping_mul(super::SPREAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_salt_is_found_in_the_first_frame() {
        for salt in [0, 1, 0xdead_beef, u32::MAX] {
            let header = Header {
                version: 1,
                number: 1,
                generation: 0,
                salt,
                first_seq: 1,
                created_ms: 0,
                next_seq: 0,
                key: None,
            };
            let mut frame = vec![0; FRAME_HEAD];
            frame.extend_from_slice(b"records");
            header.seal(&mut frame, HEADER, 1, 77);
            assert_eq!(salt_of(&frame), salt);
        }
    }
}
