//! Cryptography of senders: digests, public keys and published key sets, ciphers, secrets.

pub(super) mod cipher;
pub(super) mod digest;
pub(super) mod key_set;
pub(super) mod public_key;
pub(super) mod secret;
