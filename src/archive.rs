//! The archive: expired events go to a folder or an object store before retention deletes them, in
//! the format of exports.
//!
//! A file has the events of a window of time. Its name follows from the window's end and the number
//! of the file: a window that is archived again, after a crash, replaces its files.

mod marks;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use self::marks::{Group, Mark, Marks, WAIT_MAX};
use crate::clock::{Occasional, UnixMillis, instant, millis, now_ms, rfc3339};
use crate::config::{ArchivePlace, Config, concealed};
use crate::ledger::{
    BatchedLedger, Delivery, DeliveryState, EarlyExpiry, Engine, EventId, EventWindow, ExportError,
    ExportWriter, Item, Keyring, LedgerError, Retention,
};
use crate::telemetry::{ArchiveDelay, Metrics};

/// The longest interval of rounds, and the rest between two windows.
const EVERY: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_millis(100);

/// The longest window: what a crash in between archives again.
const WINDOW_MAX: Duration = Duration::from_secs(86_400);

/// Windows within the time that events are kept: a file of its own for each second would be many.
const WINDOWS_OF_EVENTS: u32 = 8;

/// How long after its time an event may be recorded: its sender's patience, and a slow disk. A
/// window is archived when nothing can come into it any more.
const LATE: Duration = Duration::from_secs(60);

/// Bytes of events in a file, which is built in memory.
const FILE_BYTES: usize = 16 << 20;

/// Bytes of a page that is read, and of a chunk of a file.
const PAGE_BYTES: usize = 1 << 20;

/// How long a gateway may be silent about its window before another one archives it.
const TAKE_OVER: Duration = Duration::from_secs(10 * 60);

/// The interval at which a gateway says that it still archives its window.
const CLAIM_EVERY: Duration = Duration::from_secs(2 * 60);

/// How far the clock of a database may be ahead of this gateway's, where retention goes by it.
const CLOCK_MARGIN: Duration = Duration::from_secs(60 * 60);

/// How long events may wait for an archive that fails before operators are notified, at most: five
/// days are left then. Events that are kept for a shorter time wait as long as they are kept.
const PATIENCE: Duration = Duration::from_secs(2 * 86_400);

/// The interval of log lines about an archive that cannot be written.
const FAILURES_EVERY: Duration = Duration::from_secs(10 * 60);

/// Why a window is not archived.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Export(#[from] ExportError),
    #[error("{0}")]
    Store(#[from] io::Error),
}

/// Whether there is more to archive at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Idle,
    /// A window was archived.
    Advanced,
    /// A user was erased meanwhile: the window is archived again.
    Interrupted,
}

/// The task that archives.
pub(crate) struct Archiver {
    ledger: BatchedLedger,
    metrics: Arc<Metrics>,
    keys: Keyring,
    /// This gateway.
    who: String,
    /// Wakes retention when a window was archived.
    advanced: Arc<Notify>,
    began: Instant,
    /// When the mark of each group had been written last, when this gateway first saw it.
    seen: Mutex<BTreeMap<String, UnixMillis>>,
    failures: Occasional,
}

impl Archiver {
    pub(crate) fn new(
        ledger: BatchedLedger,
        metrics: Arc<Metrics>,
        keys: Keyring,
        advanced: Arc<Notify>,
    ) -> Self {
        let who = EventId::new(now_ms()).to_string();
        let failures = Occasional::new(FAILURES_EVERY);
        let (began, seen) = (instant(), Mutex::default());
        Self { ledger, metrics, keys, who, advanced, began, seen, failures }
    }

    /// Archives until it is dropped.
    pub(crate) async fn run(self, changes: watch::Receiver<Arc<Config>>) {
        loop {
            let config = Arc::clone(&changes.borrow());
            let mut pause = (config.store.keep_events / 2).clamp(REST, EVERY);
            match self.round(&config).await {
                Ok(Progress::Advanced) => {
                    self.advanced.notify_one();
                    pause = REST;
                }
                Ok(Progress::Interrupted) => pause = REST,
                Ok(Progress::Idle) => {}
                Err(ArchiveError::Ledger(error)) if error.is_fatal() => {}
                Err(error) => {
                    if let Some(others) = self.failures.admit() {
                        let days = WAIT_MAX.as_secs() / 86_400;
                        tracing::warn!(
                            %error, others,
                            "could not archive expired events: they are kept up to {days} days longer"
                        );
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Archives at most one window of each group.
    async fn round(&self, config: &Config) -> Result<Progress, ArchiveError> {
        let Some(place) = &config.archive else {
            self.metrics.archive.set_overdue(None);
            self.metrics.archive.set_late(None);
            return Ok(Progress::Idle);
        };
        let mut marks = Marks::read(&self.ledger).await?;
        let groups = marks.groups(config);
        let mut progress = Ok(Progress::Idle);
        for group in &groups {
            match self.group(place, &mut marks, &groups, group).await {
                Ok(Progress::Idle) => {}
                Ok(other) => progress = progress.map(|_| other),
                // The other groups may still advance.
                Err(error) => progress = Err(error),
            }
        }
        let overdue = marks.overdue(config, now_ms());
        self.metrics.archive.set_overdue(Some(overdue));
        let patience = groups.iter().map(|group| group.keep).fold(PATIENCE, Duration::min);
        let late = ArchiveDelay { overdue, deleted_after: WAIT_MAX };
        // The wait until a window is complete is not a failure.
        let is_late = progress.is_err() && overdue >= patience;
        self.metrics.archive.set_late(is_late.then_some(late));
        progress
    }

    /// Archives the next window of a group, if it has expired and no other gateway does.
    async fn group(
        &self,
        place: &ArchivePlace,
        marks: &mut Marks,
        groups: &[Group],
        group: &Group,
    ) -> Result<Progress, ArchiveError> {
        let now = now_ms();
        let from_ms = marks.until(group);
        let Some(to_ms) = self.next(marks.of(group), group, from_ms, now) else {
            return Ok(Progress::Idle);
        };
        let claim = Mark::new(from_ms, Some(to_ms), &self.who, now);
        match marks.write(&self.ledger, group, claim).await {
            // Another gateway archives it.
            Err(LedgerError::Conflict { .. }) => return Ok(Progress::Idle),
            written => written?,
        }
        let window = EventWindow { from_ms, to_ms };
        let mut files =
            Files { archiver: self, place, group, window, number: 0, claimed: instant() };
        let written = match files.write(marks, groups).await {
            Ok(events) => {
                let done = Mark::new(to_ms, None, &self.who, now_ms());
                marks.write(&self.ledger, group, done).await.map(|()| events).map_err(Into::into)
            }
            Err(error) => Err(error),
        };
        let events = match written {
            Err(ArchiveError::Ledger(LedgerError::Conflict { .. })) => {
                return Ok(Progress::Interrupted);
            }
            written => written?,
        };
        self.metrics.archive.events.inc_by(events);
        if events > 0 {
            let (until, source) = (rfc3339(to_ms), group.source());
            tracing::info!(events, until, source, "archived expired events");
        }
        Ok(Progress::Advanced)
    }

    /// The end of the window that this gateway has to archive now.
    fn next(
        &self,
        mark: Option<&Mark>,
        group: &Group,
        from_ms: UnixMillis,
        now: UnixMillis,
    ) -> Option<UnixMillis> {
        if let Some((mark, next)) = mark.and_then(|mark| Some((mark, mark.next_ms?))) {
            let is_ours = mark.who == self.who || !self.is_shared();
            let is_free = is_ours || now.saturating_sub(mark.at_ms) > millis(TAKE_OVER);
            return is_free.then_some(next);
        }
        let now = mark.map_or(now, |mark| self.believable(group, mark, now));
        let expired = now.saturating_sub(millis(group.keep + group.keep.min(LATE)));
        let least = millis((group.keep / WINDOWS_OF_EVENTS).min(WINDOW_MAX));
        if expired.saturating_sub(from_ms) < least {
            return None;
        }
        // The first window has everything that is older than its end.
        let most = if from_ms == 0 { expired } else { from_ms + millis(WINDOW_MAX) };
        Some(expired.min(most))
    }

    /// The time, as far as it may be ahead of the last mark: a clock that jumps must not make
    /// events that are yet to come pass for archived ones. After a downtime it catches up at double
    /// speed.
    fn believable(&self, group: &Group, mark: &Mark, now: UnixMillis) -> UnixMillis {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let name = group.source().unwrap_or_default().to_owned();
        let written = *seen.entry(name).or_insert(mark.at_ms);
        let ahead = (group.keep / 2).min(WINDOW_MAX).saturating_add(self.began.elapsed() * 2);
        now.min(written.saturating_add(millis(ahead)))
    }

    fn is_shared(&self) -> bool {
        matches!(self.ledger.engine(), Engine::Postgres(_))
    }
}

/// Keeps retention from events that are not archived yet.
///
/// # Errors
/// Of the ledger; then nothing may be deleted.
pub(crate) async fn hold_back(
    ledger: &BatchedLedger,
    config: &Config,
    policy: &mut Retention,
    early: &mut [EarlyExpiry],
) -> Result<(), LedgerError> {
    if config.archive.is_none() {
        return Ok(());
    }
    let margin = match ledger.engine() {
        Engine::Postgres(_) => CLOCK_MARGIN,
        Engine::Embedded(_) => Duration::ZERO,
        #[cfg(any(test, debug_assertions))]
        Engine::Memory(_) => Duration::ZERO,
    };
    Marks::read(ledger).await?.hold_back(config, margin, policy, early);
    Ok(())
}

/// The files of one window.
struct Files<'a> {
    archiver: &'a Archiver,
    place: &'a ArchivePlace,
    group: &'a Group,
    window: EventWindow,
    /// Of the next file.
    number: u32,
    /// When this gateway last said that it archives the window.
    claimed: Instant,
}

impl Files<'_> {
    /// Writes all of them; returns the number of events.
    async fn write(&mut self, marks: &mut Marks, groups: &[Group]) -> Result<u64, ArchiveError> {
        let (mut cursor, mut events) = (None, 0);
        let mut file = self.begin()?;
        let mut size = 0;
        loop {
            let ledger = &self.archiver.ledger;
            let page = ledger.events_in(self.window, cursor.as_ref(), PAGE_BYTES).await?;
            let items: Vec<Item> = page
                .items
                .into_iter()
                .filter_map(|item| self.archived(item, marks, groups))
                .collect();
            events += items.len() as u64;
            size += items.iter().map(Item::size).sum::<usize>();
            file.write(&items)?;
            if size >= FILE_BYTES {
                self.put(std::mem::replace(&mut file, self.begin()?)).await?;
                size = 0;
                self.claim(marks).await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if size > 0 {
            self.put(file).await?;
        }
        // Of an earlier try, which was cut off, and since when a user was erased.
        while self.remove().await? {}
        Ok(events)
    }

    fn begin(&self) -> Result<ExportWriter<Vec<u8>>, ExportError> {
        ExportWriter::begin(Vec::new(), self.archiver.keys.current(), None)
    }

    /// An event as it is archived, if it belongs to the group. What was not delivered is a dead
    /// letter there: an import delivers nothing by itself.
    fn archived(&self, item: Item, marks: &Marks, groups: &[Group]) -> Option<Item> {
        let Item::Event { event, deliveries } = item else { return None };
        let source = event.source.as_str();
        if !marks.belongs(self.group, groups, source, event.id.ms()) {
            return None;
        }
        let ended = |delivery: Delivery| match delivery.state {
            DeliveryState::Pending => {
                Delivery { state: DeliveryState::Dead, due_ms: None, ..delivery }
            }
            DeliveryState::Dead | DeliveryState::Done => delivery,
        };
        Some(Item::Event { event, deliveries: deliveries.into_iter().map(ended).collect() })
    }

    /// `events/20260102T030405678Z-00000.export`, or `sources/NAME/…`.
    fn name(&self) -> String {
        let stamp: String =
            rfc3339(self.window.to_ms).chars().filter(|one| !"-:.".contains(*one)).collect();
        let folder = match self.group.source() {
            // Names made by an API have a slash; no two names become one.
            Some(source) => format!("sources/{}", concealed(source).replace('/', "%2F")),
            None => String::from("events"),
        };
        format!("{folder}/{stamp}-{:05}.export", self.number)
    }

    async fn put(&mut self, file: ExportWriter<Vec<u8>>) -> Result<(), ArchiveError> {
        let bytes = file.end()?;
        let (place, name) = (self.place.clone(), self.name());
        let put = move || store::put(&place, &name, &bytes);
        tokio::task::spawn_blocking(put).await.map_err(io::Error::other)??;
        self.number += 1;
        Ok(())
    }

    /// Removes the next file, if there is one.
    async fn remove(&mut self) -> Result<bool, ArchiveError> {
        let (place, name) = (self.place.clone(), self.name());
        self.number += 1;
        let remove = move || store::remove(&place, &name);
        Ok(tokio::task::spawn_blocking(remove).await.map_err(io::Error::other)??)
    }

    /// Says now and then that this gateway still archives the window.
    async fn claim(&mut self, marks: &mut Marks) -> Result<(), LedgerError> {
        if self.claimed.elapsed() < CLAIM_EVERY {
            return Ok(());
        }
        self.claimed = instant();
        let EventWindow { from_ms, to_ms } = self.window;
        let mark = Mark::new(from_ms, Some(to_ms), &self.archiver.who, now_ms());
        marks.write(&self.archiver.ledger, self.group, mark).await
    }
}
