//! Sealing at rest: XChaCha20-Poly1305 under one master key.
//!
//! Sealed data names its key (a [`KeyId`], which reveals nothing of the key). It is bound to its
//! place: sealed pieces cannot be moved. Nonces are 24 bytes: 16 random ones per run of pieces and
//! a counter, so none repeats.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::sender::Secret;

/// Bytes of a master key.
const KEY: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes that sealing adds to a piece.
pub(super) const OVERHEAD: usize = NONCE + TAG;

/// The id of the master key of sealed data.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

/// A master key.
#[derive(Clone)]
pub struct MasterKey {
    id: KeyId,
    cipher: Arc<XChaCha20Poly1305>,
}

/// The keys that a ledger reads with, and the one that it writes with.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    current: Option<MasterKey>,
    former: Option<MasterKey>,
}

/// Nonces for consecutive pieces.
pub(super) struct Nonces {
    run: [u8; 16],
    count: u64,
}

impl MasterKey {
    /// The key of these 32 bytes.
    #[must_use]
    pub fn new(bytes: &[u8; KEY]) -> Self {
        let mut id = [0; 8];
        let digest = Sha256::new().chain_update("postern master key").chain_update(bytes);
        id.copy_from_slice(&digest.finalize()[..8]);
        Self { id: KeyId(id), cipher: Arc::new(XChaCha20Poly1305::new(bytes.into())) }
    }

    /// The key of a secret; `None` if it is not 32 bytes, which the configuration checks.
    #[must_use]
    pub fn of(secret: &Secret) -> Option<Self> {
        secret.expose().try_into().ok().map(Self::new)
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Seals `buffer` from `start` on, in place, bound to `place`.
    pub(super) fn seal(
        &self,
        nonces: &mut Nonces,
        place: &[u8],
        buffer: &mut Vec<u8>,
        start: usize,
    ) {
        let nonce = nonces.next();
        buffer.splice(start..start, nonce);
        let text = &mut buffer[start + NONCE..];
        let sealed = self.cipher.encrypt_inout_detached(&nonce.into(), place, text.into());
        match sealed {
            Ok(tag) => buffer.extend_from_slice(&tag),
            // Only of more than 256 GB. A piece that cannot be sealed is not written.
            Err(_) => buffer.truncate(start),
        }
    }

    /// The content of `sealed`, if it was sealed with this key for this place.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (text, tag) = rest.split_last_chunk::<TAG>()?;
        let mut text = text.to_vec();
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        let opened =
            self.cipher.decrypt_inout_detached(&nonce, place, text.as_mut_slice().into(), &tag);
        opened.ok().map(|()| text)
    }
}

impl Nonces {
    /// Nonces of a new run.
    ///
    /// # Errors
    /// If the operating system provides no random bytes: without them a nonce could repeat.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut run = [0; 16];
        getrandom::fill(&mut run)?;
        Ok(Self { run, count: 0 })
    }

    fn next(&mut self) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..16].copy_from_slice(&self.run);
        nonce[16..].copy_from_slice(&self.count.to_le_bytes());
        self.count += 1;
        nonce
    }
}

impl Keyring {
    /// Reads and writes with `current`; without one, nothing is sealed.
    #[must_use]
    pub fn new(current: Option<MasterKey>) -> Self {
        Self { current, former: None }
    }

    /// Also reads data sealed with `former`, during a change of the master key.
    #[must_use]
    pub fn with_former(self, former: Option<MasterKey>) -> Self {
        Self { former, ..self }
    }

    /// The key for writing.
    #[must_use]
    pub fn current(&self) -> Option<&MasterKey> {
        self.current.as_ref()
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        [&self.current, &self.former].into_iter().flatten()
    }

    /// The ids of the available keys.
    pub(super) fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.all().map(MasterKey::id)
    }

    /// The key with this id, if it is available.
    pub(super) fn find(&self, id: KeyId) -> Option<&MasterKey> {
        self.all().find(|key| key.id == id)
    }

    /// The error for data sealed with another key, with the remedy.
    pub(super) fn missing(&self, id: KeyId) -> String {
        let held: Vec<String> = self.ids().map(|id| id.to_string()).collect();
        match held.is_empty() {
            true => format!("is sealed (key {id}); set POSTERN_MASTER_KEY to that key"),
            false => format!(
                "is sealed with key {id}, which is not at hand (there is {}); set \
                 POSTERN_MASTER_KEY to it, or POSTERN_OLD_MASTER_KEY if the key was changed",
                held.join(" and ")
            ),
        }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MasterKey").field(&self.id).finish()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_in_its_place_and_with_its_key_alone() {
        let (key, other) = (MasterKey::new(&[1; 32]), MasterKey::new(&[2; 32]));
        let mut nonces = Nonces::new().unwrap();
        let seal = |nonces: &mut Nonces| {
            let mut buffer = b"head".to_vec();
            buffer.extend_from_slice(b"secret");
            key.seal(nonces, b"here", &mut buffer, 4);
            buffer
        };
        let (first, second) = (seal(&mut nonces), seal(&mut nonces));
        assert_eq!(first.len(), 4 + 6 + OVERHEAD);
        assert_ne!(first, second);
        assert_eq!(key.open(b"here", &first[4..]).unwrap(), b"secret");
        assert_eq!(key.open(b"there", &first[4..]), None);
        assert_eq!(other.open(b"here", &first[4..]), None);
        for at in 4..first.len() {
            let mut broken = first.clone();
            broken[at] ^= 1;
            assert_eq!(key.open(b"here", &broken[4..]), None);
        }
        assert_eq!(key.open(b"here", &first[4..30]), None);
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = MasterKey::new(&[0xab; 32]);
        let shown = format!("{key:?} {:?}", Keyring::new(Some(key.clone())));
        assert!(!shown.contains("abab") && shown.contains(&key.id().to_string()), "{shown}");
    }
}
