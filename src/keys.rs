//! Public-key sets of senders, handed to `sender` as values.

use std::future::Future;
use std::pin::Pin;

use crate::config::Source;
use crate::sender::PublicKey;

/// What is known of a public key that a callback names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAnswer {
    /// Here it is.
    Found(PublicKey),
    /// The sender does not publish it.
    Unknown,
    /// The set could not be fetched and no older one is there: nobody knows.
    Unavailable,
}

/// Finds public keys.
pub trait KeySets: Send + Sync + std::fmt::Debug {
    /// The key called `id` in the set of that source's sender.
    fn find<'a>(
        &'a self,
        source: &'a Source,
        id: &'a str,
    ) -> Pin<Box<dyn Future<Output = KeyAnswer> + Send + 'a>>;
}

/// No sets at all: every key is unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKeySets;

impl KeySets for NoKeySets {
    fn find<'a>(
        &'a self,
        _: &'a Source,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = KeyAnswer> + Send + 'a>> {
        Box::pin(std::future::ready(KeyAnswer::Unknown))
    }
}
