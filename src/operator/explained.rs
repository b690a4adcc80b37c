//! Why a callback to a source verifies or does not, with everything else to tell it apart from.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::sync::Semaphore;

use super::pasted::Misdirected;
use crate::clock;
use crate::config::{Config, Source};
use crate::sender::{
    Around, Deadline, Evidence, Explanation, KeySet, Other, OwnedRequest, Recipe, Request, Sender,
    evidence, explain_under,
};

/// The public keys of a source's sender, where it has some.
pub(crate) type KeysOf<'k> = dyn Fn(&Recipe) -> Option<Arc<KeySet>> + 'k;

/// Time for the search of one explanation in a gateway: a usual one takes some milliseconds, and those
/// that wait for it wait for a few seconds at most. A debug build is some thirty times slower.
const SEARCH_TIME: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(30) } else { Duration::from_millis(1000) };

/// Explanations at once. Each takes a processor as a whole, and callbacks need the others.
const AT_ONCE: usize = 2;

/// Further explanations that wait for their turn: the last of them for some eight seconds at most.
const WAITING_MAX: usize = 16;

/// The part of [`WAITING_MAX`] that the admin API may have: a program that asks in a loop leaves the
/// others to the console's pages.
const API_WAITING_MAX: usize = WAITING_MAX / 2;

static PLACES: Places = Places::new();

/// The places of explanations.
#[derive(Debug)]
struct Places {
    turns: Semaphore,
    all: Semaphore,
    of_api: Semaphore,
}

/// The part of the gateway that asks for an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A page of the console.
    Console,
    /// A call of the admin API.
    Api,
}

/// Too many explanations are asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overloaded;

/// A callback to a source of a running gateway, as it was captured, with everything that its
/// explanation reads.
#[derive(Clone, Debug)]
pub(crate) struct ToExplain {
    pub(crate) config: Arc<Config>,
    pub(crate) source: Arc<Source>,
    pub(crate) request: OwnedRequest,
    /// The time of its receipt, in Unix milliseconds.
    pub(crate) at_ms: i64,
}

impl ToExplain {
    /// As [`explained`], on a thread of its own: the listener's threads stay free.
    ///
    /// # Errors
    /// [`Overloaded`] if too many explanations wait already.
    pub(crate) async fn explained(
        self,
        asker: Asker,
        keys: impl Fn(&Recipe) -> Option<Arc<KeySet>> + Send + 'static,
    ) -> Result<Explained, Overloaded> {
        let read = move |deadline| {
            self.within(&keys, deadline).explained(&self.request.borrow(), self.at_ms)
        };
        PLACES.run(asker, read).await
    }

    /// The evidence about the callback for a page of the console, on a thread of its own. `accepted`
    /// are the parameters of an accepted event of the same transaction.
    ///
    /// # Errors
    /// [`Overloaded`] if too many explanations wait already.
    pub(crate) async fn evidence(
        self,
        keys: impl Fn(&Recipe) -> Option<Arc<KeySet>> + Send + 'static,
        accepted: Vec<(String, String)>,
    ) -> Result<Evidence, Overloaded> {
        let read = move |deadline| {
            let recipe = &self.source.recipe;
            let within = self.within(&keys, deadline);
            within.read(&self.request.borrow(), |request, own, around| {
                evidence((recipe, own), (request, self.at_ms), around, &accepted)
            })
        };
        PLACES.run(Asker::Console, read).await
    }

    fn within<'w>(&'w self, keys: &'w KeysOf<'w>, deadline: Deadline) -> Within<'w> {
        Within { config: &self.config, source: &self.source, keys, deadline: Some(deadline) }
    }
}

impl Places {
    const fn new() -> Self {
        Self {
            turns: Semaphore::const_new(AT_ONCE),
            all: Semaphore::const_new(AT_ONCE + WAITING_MAX),
            of_api: Semaphore::const_new(AT_ONCE + API_WAITING_MAX),
        }
    }

    /// The result of `read` on a thread that may block, at its turn.
    async fn run<R: Send + 'static>(
        &'static self,
        asker: Asker,
        read: impl FnOnce(Deadline) -> R + Send + 'static,
    ) -> Result<R, Overloaded> {
        let of_api = match asker {
            Asker::Console => None,
            Asker::Api => Some(self.of_api.try_acquire().map_err(|_| Overloaded)?),
        };
        let place = self.all.try_acquire().map_err(|_| Overloaded)?;
        let turn = self.turns.acquire().await.map_err(|_| Overloaded)?;
        let run = move || {
            // Kept until it ends, also where the caller has left meanwhile.
            let _held = (of_api, place, turn);
            read(Deadline { at: clock::instant() + SEARCH_TIME, clock: clock::instant })
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| Overloaded)
    }
}

/// Why a callback verifies or does not, and whether it reaches its source at all.
#[derive(Debug, Serialize)]
pub(crate) struct Explained {
    /// The explanation, for a callback at the source's own path.
    #[serde(flatten)]
    pub(crate) explanation: Explanation,
    /// The reason why it does not reach that source; in JSON a sentence or `null`.
    #[serde(rename = "note", serialize_with = "sentence")]
    pub(crate) misdirected: Option<Misdirected>,
}

fn sentence<S: Serializer>(of: &Option<Misdirected>, serializer: S) -> Result<S::Ok, S::Error> {
    of.as_ref().map(Misdirected::english).serialize(serializer)
}

/// Explains a request to `source`, with the other sources of `config` and the other senders of its
/// catalog to tell apart from. As at the gateway, scheme and host are those of
/// `server.public_url`; what the request says of them is one more address to try. The search takes
/// as long as it needs: a gateway asks [`ToExplain::explained`].
pub(crate) fn explained(
    config: &Config,
    source: &Source,
    request: &Request<'_>,
    at_ms: i64,
    keys: &KeysOf<'_>,
) -> Explained {
    Within { config, source, keys, deadline: None }.explained(request, at_ms)
}

/// The surroundings of a source, and the time for a search in them.
#[derive(Clone, Copy)]
struct Within<'w> {
    config: &'w Config,
    source: &'w Source,
    keys: &'w KeysOf<'w>,
    deadline: Option<Deadline>,
}

impl Within<'_> {
    fn explained(self, request: &Request<'_>, at_ms: i64) -> Explained {
        let Self { config, source, .. } = self;
        let explanation = self.read(request, |request, own, around| {
            explain_under(&source.recipe, own, request, at_ms, around)
        });
        Explained { explanation, misdirected: Misdirected::of(config, source, request.target) }
    }

    /// The result of `read` for the request as the gateway sees it, with the callbacks to tell it
    /// apart from.
    fn read<R>(
        self,
        request: &Request<'_>,
        read: impl FnOnce(&Request<'_>, Option<&KeySet>, Around<'_>) -> R,
    ) -> R {
        let Self { config, source, keys, deadline } = self;
        let known = |sender: &Arc<Sender>| {
            config.sources.values().any(|other| other.recipe.sender().name() == sender.name())
        };
        let unused = config.catalog.iter().filter(|sender| !known(sender));
        let catalog: Vec<_> = unused.filter_map(|sender| source.recipe.under(sender)).collect();
        let configured = config.sources.values().filter(|other| other.name != source.name);
        let configured: Vec<_> = configured.map(|other| (other, keys(&other.recipe))).collect();
        let others: Vec<Other<'_>> = configured
            .iter()
            .map(|(other, keys)| Other {
                source: &other.name,
                recipe: &other.recipe,
                keys: keys.as_deref(),
            })
            .chain(catalog.iter().map(|recipe| Other {
                source: recipe.sender().name(),
                recipe,
                keys: None,
            }))
            .collect();
        let own = keys(&source.recipe);
        let seen = request.base;
        let base = config.server.public_url.as_deref().unwrap_or(seen);
        let request = Request { base, ..*request };
        let bases = if seen.is_empty() { &[][..] } else { &[seen][..] };
        read(&request, own.as_deref(), Around { others: &others, bases, deadline })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn too_many_explanations_are_refused_until_a_place_is_free() {
        static OWN: Places = Places::new();
        let all = u32::try_from(AT_ONCE + WAITING_MAX).unwrap();
        let taken = OWN.all.acquire_many(all).await.unwrap();
        for asker in [Asker::Console, Asker::Api] {
            assert_eq!(OWN.run(asker, |_| 1).await, Err(Overloaded));
        }
        drop(taken);
        for asker in [Asker::Console, Asker::Api] {
            assert_eq!(OWN.run(asker, |_| 1).await, Ok(1));
        }
    }

    #[tokio::test]
    async fn a_caller_of_the_api_leaves_places_to_the_console() {
        static OWN: Places = Places::new();
        let turns = OWN.turns.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
        let ask = |_| Box::pin(OWN.run(Asker::Api, |_| 1));
        let mut waiting: Vec<_> = (0..AT_ONCE + API_WAITING_MAX).map(ask).collect();
        for one in &mut waiting {
            let waits = poll_fn(|context| Poll::Ready(one.as_mut().poll(context).is_pending()));
            assert!(waits.await);
        }
        assert_eq!(OWN.run(Asker::Api, |_| 1).await, Err(Overloaded));
        let mut page = Box::pin(OWN.run(Asker::Console, |_| 1));
        let waits = poll_fn(|context| Poll::Ready(page.as_mut().poll(context).is_pending()));
        assert!(waits.await, "it has a place");
        drop((waiting, turns));
        assert_eq!(page.await, Ok(1));
    }
}
