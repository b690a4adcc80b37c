//! Erasure of a user's data, and its entry in the audit log.

use sha2::{Digest as _, Sha256};

use super::{source_id, source_name};
use crate::ledger::{Erased, Erasure, LedgerError};
use crate::registry::{Action, Actor, AuditSubject, Registry};

/// The kind of such entries.
const KIND: &str = "user";

/// Bytes of the user's digest in an entry: enough to find it again from the user's name.
const DIGEST_BYTES: usize = 12;

/// Erases what the store holds of `user`, of one source or of all, and notes who did. The audit log
/// holds a digest of the user, because it outlives the erasure.
///
/// # Errors
/// If the store fails. The order may be repeated.
pub async fn erase_user(
    registry: &Registry,
    who: &Actor,
    user: &str,
    source: Option<&str>,
) -> Result<Erased, LedgerError> {
    let config = registry.config();
    let source = source.map(|name| source_id(&config, name));
    let facts = source.as_ref().map(|id| ("source".to_owned(), source_name(&config, id).into()));
    let digest = digest_of_user(user);
    let facts = facts.into_iter().collect();
    registry.note_with(who, Action::Erased, AuditSubject::new(KIND, &digest), facts).await?;
    let erasure = Erasure { user: user.to_owned(), source };
    let erased = registry.ledger().erase(&erasure).await?;
    let Erased { events, deliveries, held } = erased;
    tracing::info!(who = who.as_str(), events, deliveries, held, "erased a user's data");
    Ok(erased)
}

/// The name of a user in the audit log: a part of its SHA-256.
#[must_use]
pub fn digest_of_user(user: &str) -> String {
    let digest = Sha256::digest(user);
    format!("sha256-{}", const_hex::encode(&digest[..DIGEST_BYTES]))
}
