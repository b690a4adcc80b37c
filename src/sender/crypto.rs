//! Cryptography of senders: digests, public keys and published key sets, ciphers, secrets.

pub(super) mod certificate;
pub(super) mod cipher;
mod der;
pub(super) mod digest;
pub(super) mod fetched_certificate;
pub(super) mod jws;
pub(super) mod key_set;
pub(super) mod pinned_url;
pub(super) mod public_key;
pub(super) mod secret;
