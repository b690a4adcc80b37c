//! Building blocks of the ledger's binary forms: little-endian numbers, and bytes after a
//! variable-length number.

use bytes::Bytes;

/// Writes to the end of a buffer.
pub(super) trait Put {
    /// Seven bits per byte, lowest first; the top bit says that more follow.
    fn put_len(&mut self, n: usize);
    /// A signed number: small ones of either sign take few bytes.
    fn put_signed(&mut self, n: i64);
    /// Bytes after their length.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// One byte that says whether a text follows, then the text.
    fn put_opt(&mut self, text: Option<&str>);
}

impl Put for Vec<u8> {
    fn put_len(&mut self, n: usize) {
        put_varint(self, n as u64);
    }

    fn put_signed(&mut self, n: i64) {
        put_varint(self, (n << 1 ^ n >> 63) as u64);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_len(bytes.len());
        self.extend_from_slice(bytes);
    }

    fn put_opt(&mut self, text: Option<&str>) {
        self.push(u8::from(text.is_some()));
        if let Some(text) = text {
            self.put_bytes(text.as_bytes());
        }
    }
}

fn put_varint(to: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        to.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

/// Bytes that are not of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the expected form")]
pub struct DecodeError;

/// Reads from the front of a slice. Everything is checked; nothing panics.
#[derive(Debug)]
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    /// The next `n` bytes.
    pub(super) fn raw(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(DecodeError)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(DecodeError)?;
        self.0 = rest;
        Ok(*head)
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A 32-bit number.
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A signed 64-bit number.
    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number of [`Put::put_len`].
    pub(super) fn len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.varint(35)?).or(Err(DecodeError))
    }

    /// A number of [`Put::put_signed`].
    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let n = self.varint(64)?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn varint(&mut self, bits: u32) -> Result<u64, DecodeError> {
        let mut n = 0_u64;
        for shift in (0..bits).step_by(7) {
            let byte = self.u8()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(DecodeError)
    }

    /// Bytes of [`Put::put_bytes`].
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = self.len()?;
        self.raw(n)
    }

    /// Bytes of [`Put::put_bytes`], as text.
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).or(Err(DecodeError))
    }

    /// A text of [`Put::put_opt`].
    pub(super) fn opt(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.text().map(Some),
            _ => Err(DecodeError),
        }
    }

    /// Fails if anything is left.
    pub(super) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError) }
    }
}

/// The part of `whole` that `part`, a slice of it, covers, without copying.
pub(super) fn share(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() { Bytes::new() } else { whole.slice_ref(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_size_come_back() {
        for n in [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 28, (1 << 32) - 1] {
            let mut buffer = Vec::new();
            buffer.put_len(n);
            let mut take = Take(&buffer);
            assert_eq!(take.len(), Ok(n));
            assert_eq!(take.end(), Ok(()));
        }
    }

    #[test]
    fn numbers_of_either_sign_come_back_and_small_ones_are_short() {
        for (n, len) in
            [(0, 1), (-1, 1), (63, 1), (-64, 1), (64, 2), (i64::MAX, 10), (i64::MIN, 10)]
        {
            let mut buffer = Vec::new();
            buffer.put_signed(n);
            assert_eq!(buffer.len(), len);
            let mut take = Take(&buffer);
            assert_eq!(take.signed(), Ok(n));
            assert_eq!(take.end(), Ok(()));
        }
        assert_eq!(Take(&[0xff; 11]).signed(), Err(DecodeError));
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let mut buffer = Vec::new();
        buffer.put_bytes(b"hello");
        buffer.put_opt(Some("x"));
        buffer.put_opt(None);
        for cut in 0..buffer.len() {
            let mut take = Take(&buffer[..cut]);
            let read = take.bytes().and_then(|_| take.opt()).and_then(|_| take.opt());
            assert_eq!(read, Err(DecodeError));
        }
        assert_eq!(Take(&[0xff; 9]).len(), Err(DecodeError));
        assert_eq!(Take(&[2]).opt(), Err(DecodeError));
    }
}
