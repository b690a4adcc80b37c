//! Keeps the certificates of one sender: one task, and so one fetch at a time.
//!
//! Nothing is fetched before a callback names a certificate. The URL comes from an unauthenticated
//! caller: it is pinned by the sender's file, few are fetched in a minute, each network of callers
//! has its turn, and few are kept. One that a callback verified with is renewed by itself, and no
//! other one takes its place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fetch::FetchError;
use super::key_set_state::KeySetState;
use super::refresher::Label;
use super::unknown_keys;
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
    let mut pace = unknown_keys::pace();
    loop {
        let due = kept.iter().map(|one| one.due).min();
        let wait = due.map_or(keep, |due| due.saturating_duration_since(clock::instant()));
        let id = tokio::select! {
            () = tokio::time::sleep(wait) => match first_due(&state, &mut kept) {
                Some(id) => id,
                None => continue,
            },
            () = state.requested(&mut pace) => match state.take_wanted() {
                Some(id) if has_room(&state, &mut kept) => id,
                Some(id) => {
                    state.fail(&id);
                    state.end(None);
                    continue;
                }
                None => continue,
            },
        };
        state.begin(&id);
        let Label { sender, host } = &label;
        match fetch(id.clone()).await {
            Ok(certificate) => {
                let left = clock::between(clock::now_ms(), certificate.until_ms());
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use tokio::task::JoinHandle;

    use super::*;

    const LOUD: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    const PATIENCE: Duration = Duration::from_secs(4);

    /// Certificates that cannot be fetched, and the URLs that were tried.
    fn failing() -> (Arc<KeySetState>, Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
        let (state, tried) = (Arc::new(KeySetState::of_certificates()), Arc::default());
        let noted: Arc<Mutex<Vec<String>>> = Arc::clone(&tried);
        let fetch = async move |id: Box<[u8]>| {
            noted.lock().unwrap().push(String::from_utf8(id.into_vec()).unwrap());
            Err::<FetchedCertificate, _>(FetchError::Late)
        };
        let label = Label { sender: "sns".into(), host: "sns.us-east-1.amazonaws.com".into() };
        let keep = Duration::from_secs(86_400);
        let task = tokio::spawn(keep_certificates(Arc::clone(&state), label, keep, fetch));
        (state, tried, task)
    }

    fn flood(state: &Arc<KeySetState>, count: usize) -> Vec<JoinHandle<()>> {
        let call = |n| {
            let state = Arc::clone(state);
            let id = format!("x{n}");
            tokio::spawn(async move { state.look_again(id.as_bytes(), LOUD, PATIENCE).await })
        };
        (0..count).map(call).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_network_delays_the_certificate_of_another_by_one_fetch() {
        let (state, tried, task) = failing();
        let flood = flood(&state, 200);
        // In this clock, which stands still, all of them have asked.
        tokio::time::sleep(Duration::from_millis(10)).await;
        state.look_again(b"right", OTHER, PATIENCE).await;
        let so_far = tried.lock().unwrap().clone();
        assert_eq!((so_far.len(), so_far.last().map(String::as_str)), (2, Some("right")));
        for one in flood {
            one.await.unwrap();
        }
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_callback_that_waited_for_the_fetch_of_another_asks_for_its_own() {
        let (state, tried, task) = failing();
        for one in flood(&state, 2) {
            one.await.unwrap();
        }
        assert_eq!(*tried.lock().unwrap(), ["x0", "x1"]);
        // Both failed, which is remembered.
        state.look_again(b"x0", OTHER, PATIENCE).await;
        assert_eq!(tried.lock().unwrap().len(), 2);
        task.abort();
    }
}
