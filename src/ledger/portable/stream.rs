//! The export file.
//!
//! ```text
//! file    head (44 bytes) · chunk · chunk · … · end
//!         with flag 2: head · id of the export that it follows (16) · crc32 · chunk · …
//! head    magic "POSTERNX" · version u16 · flags u16 · stream id (16) · key id (8) · zeros u32 · crc32
//! chunk   length u32 · crc32 · payload: items (never empty)
//! end     0 u32 · crc32 · count of items u64
//! ```
//!
//! A checksum covers the stream id, the number of the chunk, and its content: a missing, duplicate
//! or foreign chunk is detected, and so is a file that ends early. With flag 1 each payload is
//! sealed under the master key that the key id names. Numbers are little-endian.

use std::fmt;
use std::io::{self, Read, Write};

use super::Item;
use crate::ledger::LedgerError;
use crate::ledger::seal::{KeyId, Keyring, MasterKey, Nonces};

const MAGIC: &[u8; 8] = b"POSTERNX";
/// The format that this version writes, and the newest that it reads. Version 2 added callbacks
/// that wait for a decision, version 3 increments, version 4 bodies from which the JSON is derived.
const VERSION: u16 = 4;
const SEALED: u16 = 1;
const INCREMENT: u16 = 2;
const HEAD: usize = 44;
/// A longer chunk is invalid: the maximum is the largest event of a ledger and its sealing.
const CHUNK_MAX: u32 = 64 << 20;

/// Why an export cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The file or stream.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// Not an export, or incomplete. The text names the position.
    #[error("{0}")]
    Damaged(String),
    /// Sealed with an unavailable key. The text names the remedy.
    #[error("the export {0}")]
    Sealed(String),
}

/// The id of an export, by which an increment names the export that it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExportId([u8; 16]);

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

/// Writes an export.
pub struct ExportWriter<W> {
    to: W,
    frame: Frame,
    sealing: Option<(MasterKey, Nonces)>,
    items: u64,
}

/// Reads an export, chunk by chunk.
pub struct ExportReader<R> {
    from: R,
    frame: Frame,
    key: Option<MasterKey>,
    follows: Option<ExportId>,
    items: u64,
}

/// Binds a chunk to its place.
struct Frame {
    stream: [u8; 16],
    chunk: u64,
}

impl Frame {
    fn place(&self) -> [u8; 30] {
        let mut place = [0; 30];
        place[..6].copy_from_slice(b"export");
        place[6..22].copy_from_slice(&self.stream);
        place[22..].copy_from_slice(&self.chunk.to_le_bytes());
        place
    }

    fn crc(&self, length: u32, payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.place());
        hasher.update(&length.to_le_bytes());
        hasher.update(payload);
        hasher.finalize()
    }
}

impl<W> fmt::Debug for ExportWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportWriter").field("items", &self.items).finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for ExportReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportReader").field("items", &self.items).finish_non_exhaustive()
    }
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export, sealed with `key` if there is one; an increment, if it follows another.
    ///
    /// # Errors
    /// Of the writer, or if the operating system provides no random bytes.
    pub fn begin(
        mut to: W,
        key: Option<&MasterKey>,
        follows: Option<ExportId>,
    ) -> Result<Self, ExportError> {
        let random = |error: getrandom::Error| io::Error::other(error.to_string());
        let mut stream = [0; 16];
        getrandom::fill(&mut stream).map_err(random)?;
        let sealing = match key {
            Some(key) => Some((key.clone(), Nonces::new().map_err(random)?)),
            None => None,
        };
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let flags = flag(key.is_some(), SEALED) | flag(follows.is_some(), INCREMENT);
        head.extend_from_slice(&flags.to_le_bytes());
        head.extend_from_slice(&stream);
        head.extend_from_slice(&key.map_or([0; 8], |key| key.id().0));
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
        if let Some(ExportId(follows)) = follows {
            head.extend_from_slice(&follows);
            head.extend_from_slice(&follows_crc(&stream, &follows).to_le_bytes());
        }
        to.write_all(&head)?;
        Ok(Self { to, frame: Frame { stream, chunk: 0 }, sealing, items: 0 })
    }

    /// Writes a chunk of items.
    ///
    /// # Errors
    /// Of the writer.
    pub fn write(&mut self, items: &[Item]) -> Result<(), ExportError> {
        if items.is_empty() {
            return Ok(());
        }
        let mut payload = Item::encode(items);
        if let Some((key, nonces)) = &mut self.sealing {
            key.seal(nonces, &self.frame.place(), &mut payload, 0);
        }
        let length = u32::try_from(payload.len()).ok().filter(|length| *length <= CHUNK_MAX);
        let length = length.ok_or_else(|| io::Error::other("a chunk is too large"))?;
        self.put(length, &payload)?;
        self.items += items.len() as u64;
        Ok(())
    }

    fn put(&mut self, length: u32, payload: &[u8]) -> io::Result<()> {
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&self.frame.crc(length, payload).to_le_bytes())?;
        self.frame.chunk += 1;
        self.to.write_all(payload)
    }

    /// The number of items written.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Writes the end, without which an export is incomplete.
    ///
    /// # Errors
    /// Of the writer.
    pub fn end(mut self) -> Result<W, ExportError> {
        self.put(0, &self.items.to_le_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl<R: Read> ExportReader<R> {
    /// Begins to read an export.
    ///
    /// # Errors
    /// If it is not an export, or sealed with a key that is not in `keys`.
    pub fn begin(mut from: R, keys: &Keyring) -> Result<Self, ExportError> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head).map_err(|error| early(error, "within its head"))?;
        if &head[..8] != MAGIC {
            return Err(ExportError::Damaged("not an export of Postern".into()));
        }
        let version = u16::from_le_bytes([head[8], head[9]]);
        if !(1..=VERSION).contains(&version) {
            return Err(ExportError::Damaged(format!(
                "the export is written in version {version}; this program reads 1 to {VERSION}"
            )));
        }
        let crc = crc32fast::hash(&head[..HEAD - 4]);
        if crc.to_le_bytes() != head[HEAD - 4..] {
            return Err(ExportError::Damaged("the head of the export is damaged".into()));
        }
        let (mut stream, mut id) = ([0; 16], [0; 8]);
        stream.copy_from_slice(&head[12..28]);
        id.copy_from_slice(&head[28..36]);
        let flags = u16::from_le_bytes([head[10], head[11]]);
        let follows = match flags & INCREMENT {
            0 => None,
            _ => Some(read_follows(&mut from, &stream)?),
        };
        let key = match flags & SEALED {
            0 => None,
            _ => {
                let key = keys.find(KeyId(id));
                let missing = || ExportError::Sealed(keys.missing(KeyId(id)));
                Some(key.cloned().ok_or_else(missing)?)
            }
        };
        Ok(Self { from, frame: Frame { stream, chunk: 0 }, key, follows, items: 0 })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ExportId {
        ExportId(self.frame.stream)
    }

    /// The export that it is an increment to; `None`: it is a whole one.
    #[must_use]
    pub fn follows(&self) -> Option<ExportId> {
        self.follows
    }

    /// How many items were read.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The underlying reader.
    #[must_use]
    pub fn source(&self) -> &R {
        &self.from
    }

    /// The items of the next chunk; `None` at the end.
    ///
    /// # Errors
    /// If the export is damaged or ends early. Chunks read before are complete.
    pub fn chunk(&mut self) -> Result<Option<Vec<Item>>, ExportError> {
        let at = self.frame.chunk;
        let mut head = [0; 8];
        let within = format!("after {} items: its end is missing", self.items);
        self.from.read_exact(&mut head).map_err(|error| early(error, &within))?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let damaged = |what: &str| ExportError::Damaged(format!("chunk {at} of the export {what}"));
        if length > CHUNK_MAX {
            return Err(damaged("is damaged"));
        }
        let mut payload = vec![0; if length == 0 { 8 } else { length as usize }];
        self.from.read_exact(&mut payload).map_err(|error| early(error, &within))?;
        if self.frame.crc(length, &payload).to_le_bytes() != head[4..] {
            return Err(damaged("is damaged"));
        }
        if length == 0 {
            return match payload == self.items.to_le_bytes() {
                true => self.ended(),
                false => Err(damaged("counts other items than there are")),
            };
        }
        if let Some(key) = &self.key {
            let opened = key.open(&self.frame.place(), &payload);
            payload = opened.ok_or_else(|| damaged("does not unseal"))?;
        }
        let items = Item::decode(&payload).map_err(|_| damaged("is of no known form"))?;
        self.frame.chunk += 1;
        self.items += items.len() as u64;
        Ok(Some(items))
    }

    /// Nothing follows the end: of two exports in one file, the second would go unnoticed.
    fn ended(&mut self) -> Result<Option<Vec<Item>>, ExportError> {
        let more = self.from.by_ref().take(1).read_to_end(&mut Vec::new())?;
        match more {
            0 => Ok(None),
            _ => Err(ExportError::Damaged(
                "something follows the end of the export, such as a second export in the same \
                 file; give each a file of its own"
                    .into(),
            )),
        }
    }
}

/// Binds the id of the export that an increment follows to the increment.
fn follows_crc(stream: &[u8; 16], follows: &[u8; 16]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(stream);
    hasher.update(follows);
    hasher.finalize()
}

fn read_follows(from: &mut impl Read, stream: &[u8; 16]) -> Result<ExportId, ExportError> {
    let (mut follows, mut crc) = ([0; 16], [0; 4]);
    let within = "within its head";
    from.read_exact(&mut follows).map_err(|error| early(error, within))?;
    from.read_exact(&mut crc).map_err(|error| early(error, within))?;
    match follows_crc(stream, &follows).to_le_bytes() == crc {
        true => Ok(ExportId(follows)),
        false => Err(ExportError::Damaged("the head of the export is damaged".into())),
    }
}

fn early(error: io::Error, where_: &str) -> ExportError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            ExportError::Damaged(format!("the export ends early, {where_}"))
        }
        _ => ExportError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::items;
    use super::*;

    fn written(items: &[Item], key: Option<&MasterKey>) -> Vec<u8> {
        following(items, key, None)
    }

    fn following(items: &[Item], key: Option<&MasterKey>, follows: Option<ExportId>) -> Vec<u8> {
        let mut writer = ExportWriter::begin(Vec::new(), key, follows).unwrap();
        for chunk in items.chunks(2) {
            writer.write(chunk).unwrap();
        }
        writer.write(&[]).unwrap();
        writer.end().unwrap()
    }

    fn read(bytes: &[u8], keys: &Keyring) -> Result<Vec<Item>, ExportError> {
        let mut reader = ExportReader::begin(bytes, keys)?;
        let mut all = Vec::new();
        while let Some(items) = reader.chunk()? {
            all.extend(items);
        }
        Ok(all)
    }

    #[test]
    fn an_export_comes_back_plain_or_sealed() {
        let (items, key) = (items(), MasterKey::new(&[3; 32]));
        assert_eq!(read(&written(&items, None), &Keyring::default()).unwrap(), items);
        let sealed = written(&items, Some(&key));
        assert!(!sealed.windows(4).any(|four| four == b"rule"));
        assert_eq!(read(&sealed, &Keyring::new(Some(key.clone()))).unwrap(), items);
        let other = Keyring::new(Some(MasterKey::new(&[4; 32])));
        for keys in [&Keyring::default(), &other] {
            let error = read(&sealed, keys).unwrap_err().to_string();
            assert!(error.contains("POSTERN_MASTER_KEY"), "{error}");
        }
        assert!(read(&sealed, &other.with_former(Some(key))).is_ok());
    }

    #[test]
    fn no_cut_and_no_changed_byte_goes_unnoticed() {
        let key = MasterKey::new(&[3; 32]);
        for (bytes, keys) in [
            (written(&items(), None), Keyring::default()),
            (written(&items(), Some(&key)), Keyring::new(Some(key.clone()))),
            (following(&items(), None, Some(ExportId([7; 16]))), Keyring::default()),
        ] {
            for at in 0..bytes.len() {
                assert!(read(&bytes[..at], &keys).is_err(), "cut at {at}");
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                assert!(read(&damaged, &keys).is_err(), "damaged at {at}");
            }
        }
    }

    #[test]
    fn an_increment_names_what_it_follows() {
        let base = written(&items(), None);
        let base = ExportReader::begin(&base[..], &Keyring::default()).unwrap();
        assert_eq!(base.follows(), None);
        let next = following(&items(), None, Some(base.id()));
        let next = ExportReader::begin(&next[..], &Keyring::default()).unwrap();
        assert_eq!(next.follows(), Some(base.id()));
        assert_ne!(next.id(), base.id());
    }

    #[test]
    fn a_second_export_in_the_same_file_is_noticed() {
        let mut both = written(&items(), None);
        both.extend(written(&items(), None));
        let error = read(&both, &Keyring::default()).unwrap_err().to_string();
        assert!(error.contains("follows the end"), "{error}");
    }

    #[test]
    fn chunks_of_another_export_do_not_fit() {
        let (one, other) = (written(&items(), None), written(&items(), None));
        let mut mixed = one[..HEAD].to_vec();
        mixed.extend_from_slice(&other[HEAD..]);
        assert!(read(&mixed, &Keyring::default()).is_err());
    }
}
