//! Upkeep: removes what the configuration no longer keeps, and reads the whole store again and
//! again to find damage. Both go in small steps with rests between them, so that callbacks do not
//! notice.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::{instant, now_ms};
use crate::config::{Config, QUARANTINE_KEEP, Source};
use crate::ledger::{
    HeldRetention, KeepKeys, LedgerError, Retention, ScrubShare, Scrubber, SourceId, Swept,
};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::telemetry::Metrics;

/// From the end of one round to the next: what is kept for days need not go to the minute.
const EVERY: Duration = Duration::from_secs(60);

/// Events and keys of one step. A step is at least one segment of the journal, 64 MiB.
const STEP: usize = 10_000;

/// From one step to the next at least, and as long as the step took: a sweep works for less than
/// half of the time, and removes well over 10,000 keys a second where it has to.
const REST: Duration = Duration::from_millis(100);

/// How long samples of rejected callbacks are kept: a week's holiday, and a day to look.
const KEEP_SAMPLES: Duration = Duration::from_secs(8 * 86_400);

/// The handle of the task that removes what is old and looks for damage.
#[derive(Debug)]
pub(super) struct Upkeep {
    config: watch::Sender<Arc<Config>>,
    share: watch::Sender<Option<ScrubShare>>,
    scrubber: Scrubber,
    task: JoinHandle<()>,
}

impl Upkeep {
    /// Begins, and goes on until the drain.
    pub(super) fn start(
        config: &Arc<Config>,
        registry: Registry,
        metrics: Arc<Metrics>,
        life: Arc<Lifecycle>,
    ) -> Self {
        let (sender, changes) = watch::channel(Arc::clone(config));
        let (share, shares) = watch::channel(config.store.scrub);
        let scrubber = Scrubber::default();
        let (scrub, engine) = (scrubber.clone(), registry.book().engine().clone());
        let work = async move {
            let read = |bytes| metrics.store.scrubbed_bytes.inc_by(bytes);
            tokio::select! {
                () = life.draining() => {}
                ((), ()) = async {
                    tokio::join!(
                        rounds(&changes, &registry, &metrics),
                        scrub.run(engine, shares, read),
                    )
                } => {}
            }
        };
        Self { config: sender, share, scrubber, task: tokio::spawn(work) }
    }

    /// What has it go on under another configuration.
    pub(super) fn applier(&self) -> impl Fn(&Arc<Config>) + Send + Sync + use<> {
        let (changes, share) = (self.config.clone(), self.share.clone());
        move |config| {
            drop(changes.send_replace(Arc::clone(config)));
            share.send_if_modified(|share| {
                let changed = *share != config.store.scrub;
                *share = config.store.scrub;
                changed
            });
        }
    }

    /// The handle of the scrub.
    pub(super) fn scrubber(&self) -> Scrubber {
        self.scrubber.clone()
    }

    /// Waits until it has ended. A step that was begun is not waited for.
    pub(super) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "retention broke down");
        }
    }
}

async fn rounds(changes: &watch::Receiver<Arc<Config>>, registry: &Registry, metrics: &Metrics) {
    loop {
        let mut pause = EVERY;
        let policy = retention(&changes.borrow());
        let began = instant();
        match round(registry, &policy).await {
            Ok(swept) => {
                let Swept { events, keys, bytes, more: _ } = swept;
                metrics.store.swept_events.inc_by(events);
                metrics.store.swept_keys.inc_by(keys);
                metrics.store.swept_bytes.inc_by(bytes);
                if events + keys > 0 {
                    tracing::info!(events, keys, bytes, "removed what is no longer kept");
                }
                if swept.more {
                    pause = began.elapsed().max(REST);
                }
            }
            // What stopped the ledger was said when it did.
            Err(error) if error.is_fatal() => {}
            Err(error) => tracing::warn!(%error, "could not remove what is no longer kept"),
        }
        tokio::time::sleep(pause).await;
    }
}

/// One step: events and keys, and the notes on what is kept no longer.
async fn round(registry: &Registry, policy: &Retention) -> Result<Swept, LedgerError> {
    let swept = registry.book().sweep(policy, STEP).await?;
    registry.forget_resolved(policy.keep_events, policy.now_ms).await?;
    Ok(swept)
}

/// What is kept, and how long. A key outlives every moment at which its callback could be accepted
/// again: where that is at any time, and of a source that is not configured any more, for ever.
fn retention(config: &Config) -> Retention {
    let keep = config.store.keep_transactions;
    let dated = config.sources.values().filter_map(|source| {
        let time = keep.max(source.recipe.acceptable_for()?);
        // One that is released from quarantine is compared with what came before it.
        let time = time + source.quarantine.as_ref().map_or(Duration::ZERO, |held| held.keep);
        Some(KeepKeys { source: SourceId::from(source.id.as_str()), time })
    });
    Retention {
        now_ms: now_ms(),
        keep_events: config.store.keep_events,
        keep_keys: dated.collect(),
        held: HeldRetention { samples: Some(KEEP_SAMPLES), quarantined: quarantined(config) },
    }
}

/// How long the quarantine of each source is kept. Where a source has none any more, what is held
/// of it stays as long as is usual.
fn quarantined(config: &Config) -> Vec<KeepKeys> {
    let keep = |source: &Source| {
        let time = source.quarantine.as_ref().map_or(QUARANTINE_KEEP, |held| held.keep);
        KeepKeys { source: SourceId::from(source.id.as_str()), time }
    };
    config.sources.values().map(|source| keep(source)).collect()
}
