//! Keeps one key set fresh: one task, and so one fetch at a time.

use std::sync::Arc;
use std::time::Duration;

use super::fetch::{FetchError, Fetched};
use super::key_set_state::KeySetState;
use super::unknown_keys;
use crate::clock::Backoff;

/// The first pause after a failed fetch. It doubles up to the last: a server that recovers is found
/// within a minute.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The name of a key set in the log.
#[derive(Clone, Debug)]
pub(super) struct Label {
    pub(super) sender: String,
    pub(super) host: String,
}

/// Fetches with `fetch` for good: at once, at half of each lifetime, and on request.
pub(super) async fn refresh<F>(state: Arc<KeySetState>, label: Label, fetch: F)
where
    F: AsyncFn() -> Result<Fetched, FetchError>,
{
    let Label { sender, host } = label;
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
    let mut pace = unknown_keys::pace();
    loop {
        state.begin(b"");
        let next = match fetch().await {
            Ok(Fetched { keys, lifetime }) => {
                let (count, left_out) = (keys.len(), keys.left_out());
                tracing::info!(
                    sender,
                    host,
                    keys = count,
                    left_out,
                    lifetime_seconds = lifetime.as_secs(),
                    "public keys fetched"
                );
                state.end(Some((keys, lifetime)));
                backoff.reset();
                lifetime / 2
            }
            Err(why) => {
                let next = backoff.next_pause();
                let age_seconds = state.age().as_secs();
                let why = why.to_string();
                let again_seconds = next.as_secs();
                if state.now().is_some() {
                    tracing::warn!(
                        sender,
                        host,
                        why,
                        age_seconds,
                        again_seconds,
                        "could not fetch public keys, the current ones stay in use"
                    );
                } else {
                    tracing::error!(
                        sender,
                        host,
                        why,
                        again_seconds,
                        "could not fetch public keys, callbacks are unavailable until they are fetched"
                    );
                }
                state.end(None);
                next
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = state.requested(&mut pace) => drop(state.take_wanted()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::clock;
    use crate::sender::{Catalog, KeySet, Recipe, Terms};

    fn keys(ids: &[&str]) -> KeySet {
        let point = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+nzvoGqvDeB9+SzE6igTl7TyK4JBbglwir9oTcQta8N\
                     uG26ZpZFxt+F2NDk7asTE6/2Yc8i1ATcGIqtuS5hv0Q==";
        let entries: Vec<_> =
            ids.iter().map(|id| serde_json::json!({ "keyId": id, "base64": point })).collect();
        let answer = serde_json::json!({ "keys": entries }).to_string();
        let catalog = Catalog::embedded().unwrap();
        let admob = catalog.get("admob").unwrap();
        let recipe = Recipe::compile(admob, &Terms::default()).unwrap();
        recipe.key_list().unwrap().read(answer.as_bytes()).unwrap()
    }

    /// A caller.
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

    fn label() -> Label {
        Label { sender: "admob".into(), host: "keys.example.com".into() }
    }

    type Script = Mutex<VecDeque<Result<(KeySet, u64), FetchError>>>;

    /// A refresher with scripted fetches, and the times of them.
    fn cached(
        script: Vec<Result<(KeySet, u64), FetchError>>,
    ) -> (Arc<KeySetState>, Arc<Mutex<Vec<u64>>>, tokio::task::JoinHandle<()>) {
        let (state, times) = (Arc::new(KeySetState::new()), Arc::new(Mutex::new(Vec::new())));
        let (script, start): (Script, _) = (Mutex::new(script.into()), Instant::now());
        let noted = Arc::clone(&times);
        let fetch = async move || {
            noted.lock().unwrap().push(start.elapsed().as_secs());
            let next = script.lock().unwrap().pop_front();
            let (keys, seconds) = next.unwrap_or(Err(FetchError::Late))?;
            Ok(Fetched { keys, lifetime: Duration::from_secs(seconds) })
        };
        let task = tokio::spawn(refresh(Arc::clone(&state), label(), fetch));
        (state, times, task)
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_at_once_and_at_half_of_each_lifetime() {
        let (state, times, task) = cached(vec![
            Ok((keys(&["1"]), 3600)),
            Ok((keys(&["2"]), 600)),
            Ok((keys(&["3"]), 600)),
        ]);
        tokio::time::sleep(Duration::from_secs(2101)).await;
        assert_eq!(*times.lock().unwrap(), [0, 1800, 2100]);
        assert!(state.now().unwrap().knows(b"3") && !state.now().unwrap().knows(b"1"));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_keeps_the_keys_and_backs_off() {
        let (state, times, task) = cached(vec![Ok((keys(&["1"]), 3600))]);
        tokio::time::sleep(Duration::from_secs(1800 + 200)).await;
        assert!(state.now().unwrap().knows(b"1"), "stale, and still used");
        let seen: Vec<u64> = times.lock().unwrap().clone();
        assert_eq!(seen, [0, 1800, 1801, 1803, 1807, 1815, 1831, 1863, 1923, 1983]);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_fetched_when_a_callback_names_it() {
        let (state, times, task) =
            cached(vec![Ok((keys(&["1"]), 86_400)), Ok((keys(&["1", "2"]), 86_400))]);
        while state.now().is_none() {
            tokio::task::yield_now().await;
        }
        state.look_again(b"2", CLIENT, Duration::from_secs(4)).await;
        assert!(state.now().unwrap().knows(b"2"));
        assert_eq!(*times.lock().unwrap(), [0, 0]);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_keys_cause_a_bounded_number_of_fetches_and_wait_for_nothing_else() {
        let began = clock::instant();
        let list = keys(&["1"]);
        let lists = std::iter::repeat_with(|| Ok((list.clone(), 86_400))).take(500);
        let (state, times, task) = cached(lists.collect());
        while state.now().is_none() {
            tokio::task::yield_now().await;
        }
        for n in 0..5000 {
            state.look_again(n.to_string().as_bytes(), CLIENT, Duration::from_secs(4)).await;
        }
        // One at the start, three for the first keys, and three in 30 s of a slow machine.
        let slow = usize::try_from(began.elapsed().as_secs() / 30).unwrap();
        let count = times.lock().unwrap().len();
        assert!((4..=4 + 3 * slow).contains(&count), "{count}");
        assert!(state.now().unwrap().knows(b"1"));
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_callback_waits_for_the_first_fetch_in_flight() {
        let state = Arc::new(KeySetState::new());
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let gate = Mutex::new(Some(gate));
        let fetch = async move || {
            let gate = gate.lock().unwrap().take();
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            Ok(Fetched { keys: keys(&["1"]), lifetime: Duration::from_secs(3600) })
        };
        let task = tokio::spawn(refresh(Arc::clone(&state), label(), fetch));
        tokio::task::yield_now().await;
        let waiting = state.look_again(b"1", CLIENT, Duration::from_secs(4));
        let opening = async { open.send(()).unwrap() };
        tokio::join!(waiting, opening);
        assert!(state.now().unwrap().knows(b"1"));
        task.abort();
    }
}
