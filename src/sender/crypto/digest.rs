//! Digests and keyed digests, and the buffer that feeds them.
//!
//! Everything here is RustCrypto's; nothing is allocated, and an HMAC's key blocks are computed
//! when its secret is loaded.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use crate::sender::request::encoding::Sink;

/// A digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(in crate::sender) const ALL: [Self; 4] =
        [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    /// The digest called `name` in a sender file.
    pub(in crate::sender) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a sender file.
    pub(in crate::sender) fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest of `bytes`.
    pub(in crate::sender) fn of(self, bytes: &[u8]) -> Output {
        match self {
            Self::Md5 => Output::new(&Md5::digest(bytes)),
            Self::Sha1 => Output::new(&Sha1::digest(bytes)),
            Self::Sha256 => Output::new(&Sha256::digest(bytes)),
            Self::Sha512 => Output::new(&Sha512::digest(bytes)),
        }
    }

    fn hasher(self) -> Hasher {
        match self {
            Self::Md5 => Hasher::Md5(Md5::new()),
            Self::Sha1 => Hasher::Sha1(Sha1::new()),
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// A hasher keyed with `key`; any length will do.
    pub(in crate::sender) fn keyed(self, key: &[u8]) -> Option<Hasher> {
        Some(match self {
            Self::Md5 => Hasher::HmacMd5(Hmac::new_from_slice(key).ok()?),
            Self::Sha1 => Hasher::HmacSha1(Hmac::new_from_slice(key).ok()?),
            Self::Sha256 => Hasher::HmacSha256(Hmac::new_from_slice(key).ok()?),
            Self::Sha512 => Hasher::HmacSha512(Hmac::new_from_slice(key).ok()?),
        })
    }
}

/// The state of a digest.
#[derive(Clone)]
pub(in crate::sender) enum Hasher {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    HmacMd5(Hmac<Md5>),
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Hmac<Sha512>),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(state) => state.update(bytes),
            Self::Sha1(state) => sha2::Digest::update(state, bytes),
            Self::Sha256(state) => sha2::Digest::update(state, bytes),
            Self::Sha512(state) => sha2::Digest::update(state, bytes),
            Self::HmacMd5(state) => state.update(bytes),
            Self::HmacSha1(state) => state.update(bytes),
            Self::HmacSha256(state) => state.update(bytes),
            Self::HmacSha512(state) => state.update(bytes),
        }
    }

    /// The digest after `rest`.
    fn finish(&self, rest: &[u8]) -> Output {
        match self {
            Self::Md5(state) => Output::new(&state.clone().chain_update(rest).finalize()),
            Self::Sha1(state) => Output::new(&state.clone().chain_update(rest).finalize()),
            Self::Sha256(state) => Output::new(&state.clone().chain_update(rest).finalize()),
            Self::Sha512(state) => Output::new(&state.clone().chain_update(rest).finalize()),
            Self::HmacMd5(state) => keyed_output(state.clone(), rest),
            Self::HmacSha1(state) => keyed_output(state.clone(), rest),
            Self::HmacSha256(state) => keyed_output(state.clone(), rest),
            Self::HmacSha512(state) => keyed_output(state.clone(), rest),
        }
    }
}

fn keyed_output(mut state: impl Mac, rest: &[u8]) -> Output {
    state.update(rest);
    Output::new(&state.finalize().into_bytes())
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher(***)")
    }
}

/// The output of a digest: at most 64 bytes.
#[derive(Clone, Copy)]
pub(in crate::sender) struct Output {
    bytes: [u8; 64],
    len: usize,
}

impl Output {
    /// Nothing yet.
    pub(in crate::sender) const NONE: Self = Self { bytes: [0; 64], len: 0 };

    #[inline]
    fn new(digest: &[u8]) -> Self {
        let mut bytes = [0; 64];
        let len = digest.len().min(64);
        bytes[..len].copy_from_slice(&digest[..len]);
        Self { bytes, len }
    }

    /// The digest's bytes.
    pub(in crate::sender) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Its lower-case hex text, at most 128 characters, in `buffer`.
    pub(in crate::sender) fn hex<'b>(&self, buffer: &'b mut [u8; 128]) -> &'b [u8] {
        let text = &mut buffer[..self.len * 2];
        match const_hex::encode_to_slice(self.bytes(), text) {
            Ok(()) => text,
            Err(_) => &[],
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output(***)")
    }
}

/// Bytes gathered before they are hashed: most signed texts fit, and hashing them at once saves
/// the hasher's own bookkeeping per part.
const GATHERED: usize = 256;

/// Feeds a digest.
pub(in crate::sender) struct Feed<'h> {
    start: Start<'h>,
    /// The running state, when the input exceeds the buffer.
    running: Option<Hasher>,
    len: usize,
    gathered: [u8; GATHERED],
}

/// The initial state of a digest.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) enum Start<'h> {
    /// Nothing.
    Plain(Algorithm),
    /// A keyed state.
    Keyed(&'h Hasher),
}

impl<'h> Feed<'h> {
    /// Feeds a digest that starts from `start`.
    pub(in crate::sender) fn new(start: Start<'h>) -> Self {
        Self { start, running: None, len: 0, gathered: [0; GATHERED] }
    }

    /// The digest of all that was put.
    pub(in crate::sender) fn finish(&self) -> Output {
        let gathered = &self.gathered[..self.len];
        match (&self.running, self.start) {
            (Some(hasher), _) | (None, Start::Keyed(hasher)) => hasher.finish(gathered),
            (None, Start::Plain(algorithm)) => algorithm.of(gathered),
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        let start = self.start;
        let hasher = self.running.get_or_insert_with(|| match start {
            Start::Plain(algorithm) => algorithm.hasher(),
            Start::Keyed(keyed) => keyed.clone(),
        });
        hasher.update(&self.gathered[..self.len]);
        self.len = 0;
        if bytes.len() > GATHERED {
            hasher.update(bytes);
        } else {
            self.gathered[..bytes.len()].copy_from_slice(bytes);
            self.len = bytes.len();
        }
    }
}

impl Sink for Feed<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.gathered.get_mut(self.len..end) {
            Some(space) => {
                copy(space, bytes);
                self.len = end;
            }
            None => self.spill(bytes),
        }
    }
}

/// Copies a part of a text. Most are of a few words, for which two copies that may overlap do
/// without a call.
#[inline]
fn copy(space: &mut [u8], part: &[u8]) {
    if part.len() > 64 {
        space.copy_from_slice(part);
    } else if !copy_ends::<32>(space, part)
        && !copy_ends::<16>(space, part)
        && !copy_ends::<8>(space, part)
        && !copy_ends::<4>(space, part)
    {
        space.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
    }
}

/// Copies the first and the last `N` bytes, if there are so many.
#[inline]
fn copy_ends<const N: usize>(space: &mut [u8], part: &[u8]) -> bool {
    let (Some(head), Some(tail)) = (part.first_chunk::<N>(), part.last_chunk::<N>()) else {
        return false;
    };
    if let Some(space) = space.first_chunk_mut() {
        *space = *head;
    }
    if let Some(space) = space.last_chunk_mut() {
        *space = *tail;
    }
    true
}

/// Compares in time that depends only on the lengths.
#[inline]
pub(in crate::sender) fn same(ours: &[u8], theirs: &[u8]) -> bool {
    constant_time_eq::constant_time_eq(ours, theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_like_the_whole() {
        let text: Vec<u8> = (0..3000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        for algorithm in Algorithm::ALL {
            for cut in [1, 7, 33, GATHERED - 1, GATHERED, GATHERED + 1, 2999] {
                let mut feed = Feed::new(Start::Plain(algorithm));
                text.chunks(cut).for_each(|part| feed.put(part));
                assert_eq!(feed.finish().bytes(), algorithm.of(&text).bytes());
            }
        }
    }

    #[test]
    fn rfc_2104() {
        let keyed = Algorithm::Md5.keyed(b"Jefe").unwrap();
        let mut feed = Feed::new(Start::Keyed(&keyed));
        feed.put(b"what do ya want for nothing?");
        assert_eq!(const_hex::encode(feed.finish().bytes()), "750c783e6ab0b503eaa86e310a5db738");
    }
}
