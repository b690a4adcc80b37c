//! Keeps the certificates of one sender: one task, and so one fetch at a time.
//!
//! Nothing is fetched before a callback names a certificate. The URL comes from an unauthenticated
//! caller: it is pinned by the sender's file, few are fetched in a minute, and few are kept. One
//! that a callback verified with is renewed by itself, and no other one takes its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fetch::FetchError;
use super::key_set_state::KeySetState;
use super::refresher::Label;
use crate::clock;
use crate::sender::{FetchedCertificate, KeySet};

/// Certificates that are kept: a sender has one in each region, and two while it replaces one.
const KEPT_MAX: usize = 16;

/// From one failed renewal of a certificate to the next.
const RENEW_AGAIN: Duration = Duration::from_secs(600);

/// A kept certificate.
#[derive(Debug)]
struct CachedCertificate {
    id: Box<[u8]>,
    /// When it is renewed, or forgotten if no callback verified with it.
    due: Instant,
    /// When it ends.
    end: Instant,
}

/// Fetches with `fetch` for good what callbacks name; `keep` is the longest time without renewal.
pub(super) async fn keep_certificates<F>(
    state: Arc<KeySetState>,
    label: Label,
    keep: Duration,
    fetch: F,
) where
    F: AsyncFn(Box<[u8]>) -> Result<FetchedCertificate, FetchError>,
{
    let mut kept: Vec<CachedCertificate> = Vec::new();
    loop {
        let due = kept.iter().map(|one| one.due).min();
        let wait = due.map_or(keep, |due| due.saturating_duration_since(clock::instant()));
        let id = tokio::select! {
            () = tokio::time::sleep(wait) => match first_due(&state, &mut kept) {
                Some(id) => id,
                None => continue,
            },
            () = state.requested() => match state.take_wanted() {
                Some(id) if has_room(&state, &mut kept) => id,
                _ => {
                    state.end(None);
                    continue;
                }
            },
        };
        state.begin();
        let Label { sender, host } = &label;
        match fetch(id.clone()).await {
            Ok(certificate) => {
                let left = certificate.until_ms().saturating_sub(clock::now_ms());
                let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
                tracing::info!(sender, host, seconds = left.as_secs(), "certificate fetched");
                let now = clock::instant();
                kept.retain(|one| one.id != id);
                let due = now + left.min(keep);
                kept.push(CachedCertificate { id: id.clone(), due, end: now + left });
                let keys = state.now().unwrap_or_default();
                state.end(Some((keys.with_certificate(&id, &certificate), Duration::MAX)));
            }
            Err(why) => {
                let why = why.to_string();
                tracing::warn!(sender, host, why, "could not fetch a certificate");
                postpone(&state, &mut kept, &id);
                state.fail(&id);
                state.end(None);
            }
        }
    }
}

/// The certificate that is due for renewal. One that no callback verified with is forgotten.
fn first_due(state: &KeySetState, kept: &mut Vec<CachedCertificate>) -> Option<Box<[u8]>> {
    let now = clock::instant();
    let due = kept.iter().position(|one| one.due <= now)?;
    let id = kept.get(due)?.id.clone();
    if state.is_proven(&id) {
        return Some(id);
    }
    forget(state, kept, &id);
    None
}

/// Whether another certificate can be kept. The oldest that no callback verified with makes room.
fn has_room(state: &KeySetState, kept: &mut Vec<CachedCertificate>) -> bool {
    if kept.len() < KEPT_MAX {
        return true;
    }
    let unproven = kept.iter().find(|one| !state.is_proven(&one.id)).map(|one| one.id.clone());
    if let Some(id) = &unproven {
        forget(state, kept, id);
    }
    unproven.is_some()
}

/// Keeps a certificate that could not be renewed, until it ends.
fn postpone(state: &KeySetState, kept: &mut Vec<CachedCertificate>, id: &[u8]) {
    let now = clock::instant();
    let Some(one) = kept.iter_mut().find(|one| *one.id == *id) else { return };
    one.due = (now + RENEW_AGAIN).min(one.end);
    if one.end <= now {
        forget(state, kept, id);
    }
}

fn forget(state: &KeySetState, kept: &mut Vec<CachedCertificate>, id: &[u8]) {
    kept.retain(|one| *one.id != *id);
    state.forget_proof(id);
    let keys: Arc<KeySet> = state.now().unwrap_or_default();
    state.store(keys.without(id), Duration::MAX);
}
