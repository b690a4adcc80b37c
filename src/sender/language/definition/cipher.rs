//! Sealed messages in a sender file.

use super::Reads;
use crate::sender::language::condition::Condition;
use crate::sender::language::text::{Spot, Text};

/// How a sealed message is opened.
#[derive(Debug)]
pub(in crate::sender) struct Open {
    pub(in crate::sender) of: Vec<Text>,
    pub(in crate::sender) with: Cipher,
    /// The key; empty where there is no cipher.
    pub(in crate::sender) key: Text,
    pub(in crate::sender) frame: Option<Text>,
    pub(in crate::sender) when: Vec<Condition>,
    /// The formats of the message inside; by default those of `reads` other than the query.
    pub(in crate::sender) reads: Vec<Reads>,
}

/// The cipher of a sealed message.
#[derive(Clone, Debug)]
pub(in crate::sender) enum Cipher<K = Spot> {
    /// AES in CBC, with the padding of PKCS #7 on blocks of `pad` bytes.
    Cbc { key: AesKey, iv: Iv, pad: u8 },
    /// AES in GCM; the tag is the last 16 bytes.
    Gcm { key: AesKey, nonce: Text<K>, aad: Text<K> },
    /// None: the text is the message.
    None,
}

/// The size of an AES key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum AesKey {
    /// 16 bytes.
    Bits128,
    /// 32 bytes.
    Bits256,
}

impl AesKey {
    /// Its length in bytes.
    pub(in crate::sender) const fn bytes(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits256 => 32,
        }
    }
}

impl<K> Cipher<K> {
    /// The bytes of its key; `None` if there is no cipher.
    pub(in crate::sender) fn key_bytes(&self) -> Option<usize> {
        match self {
            Self::Cbc { key, .. } | Self::Gcm { key, .. } => Some(key.bytes()),
            Self::None => None,
        }
    }

    /// Whether there is a cipher.
    pub(in crate::sender) fn is_sealed(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether the gateway seals with it. GCM breaks if a nonce repeats, so it only opens.
    pub(in crate::sender) fn can_seal(&self) -> bool {
        matches!(self, Self::Cbc { .. })
    }
}

/// Where the initialisation vector of a sealed message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Iv {
    /// The first 16 bytes of the text.
    Prefix,
    /// The first 16 bytes of the key.
    Key,
}
