//! The scrubber: reads everything that is stored again and again, at a bounded rate, so that damage
//! is found while there is still a backup to repair it from.
//!
//! A pass begins a day after the one before began. A step of a mebibyte is followed by a rest, so
//! that processor and disk are used for no more than the configured share of the time. A pass that
//! a person asks for takes the place of the one in progress, and rests less.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::{Cursor, Damage, Engine, Ledger as _, LedgerError, ScrubPage};
use crate::clock::{UnixMillis, instant, now_ms};

/// Bytes of a step: a few milliseconds of a disk.
const STEP_BYTES: usize = 1 << 20;
/// From the start of one pass to the start of the next.
const PASS_EVERY: Duration = Duration::from_secs(86_400);
/// From the start of the gateway to the first pass: the start has work of its own.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// The share of the time for a pass that was asked for: a person waits, and callbacks go first.
const ASKED_SHARE: ScrubShare = ScrubShare(25);
/// A rest is never shorter: a store in memory would be read without any.
const REST_MIN: Duration = Duration::from_millis(1);
/// A rest is never longer: a disk that hung once for a minute does not hold up the pass for a day.
const REST_MAX: Duration = Duration::from_secs(60);
/// Places of a pass that are kept: more would not tell people more.
const PLACES_MAX: usize = 1000;

/// How much of the time a scrub may take, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubShare(u8);

/// What a pass came to, or has come to so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubPass {
    /// Its number since the start of the gateway.
    pub number: u64,
    /// Whether it goes on.
    pub state: PassState,
    /// When it began.
    pub began_ms: UnixMillis,
    /// When it ended.
    pub ended_ms: Option<UnixMillis>,
    /// Bytes of the store that it has passed.
    pub done: u64,
    /// Bytes of the store that it passes altogether.
    pub total: u64,
    /// Damaged places.
    pub damage: Vec<Damage>,
    /// What is no damage.
    pub remarks: Vec<String>,
    /// Why it ended early.
    pub error: Option<String>,
}

/// Whether a pass goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassState {
    /// It does.
    Running,
    /// Everything was read.
    Done,
    /// It ended early.
    Failed,
}

/// The handle of the scrub of a gateway. Clones share it.
#[derive(Clone, Default)]
pub struct Scrubber {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A pass was asked for.
    asked: Notify,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// The last pass that has ended.
    ended: Option<ScrubPass>,
    /// When everything was read the last time.
    complete_ms: Option<UnixMillis>,
    count: u64,
}

struct Running {
    pass: ScrubPass,
    cursor: Option<Cursor>,
    origin: Origin,
}

/// Why a pass began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It was its time.
    Schedule,
    /// A person asked.
    Request,
}

/// The step that comes next.
struct Step {
    number: u64,
    cursor: Option<Cursor>,
    share: ScrubShare,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

impl PassState {
    /// Its name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl ScrubShare {
    /// The largest share, in percent: above it callbacks would notice.
    pub const MAX: u8 = 50;

    /// The usual one.
    pub const USUAL: Self = Self(5);

    /// A share of 1 to [`ScrubShare::MAX`] percent.
    #[must_use]
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=Self::MAX).contains(&percent).then_some(Self(percent))
    }

    /// How long to rest after a step that took so long.
    fn rest(self, took: Duration) -> Duration {
        let rest = took * u32::from(100 - self.0) / u32::from(self.0);
        rest.clamp(REST_MIN, REST_MAX)
    }
}

impl ScrubPass {
    fn new(number: u64) -> Self {
        Self {
            number,
            state: PassState::Running,
            began_ms: now_ms(),
            ended_ms: None,
            done: 0,
            total: 0,
            damage: Vec::new(),
            remarks: Vec::new(),
            error: None,
        }
    }
}

impl State {
    fn begin(&mut self, origin: Origin) -> &Running {
        self.count += 1;
        let pass = ScrubPass::new(self.count);
        self.running.insert(Running { pass, cursor: None, origin })
    }

    fn end(&mut self, state: PassState, error: Option<String>) {
        let Some(Running { mut pass, .. }) = self.running.take() else { return };
        let now = now_ms();
        (pass.state, pass.ended_ms, pass.error) = (state, Some(now), error);
        if state == PassState::Done {
            self.complete_ms = Some(now);
        }
        let (places, bytes) = (pass.damage.len(), pass.total);
        if places > 0 {
            tracing::error!(places, bytes, "the store was read, and is damaged");
        } else if state == PassState::Done {
            tracing::info!(bytes, "the store was read, and is whole");
        }
        self.ended = Some(pass);
    }
}

impl Scrubber {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a pass now, in place of the one in progress, unless that was asked for too.
    pub fn begin(&self) -> ScrubPass {
        let mut state = self.state();
        let running = state.running.as_ref();
        if let Some(running) = running.filter(|running| running.origin == Origin::Request) {
            return running.pass.clone();
        }
        let pass = state.begin(Origin::Request).pass.clone();
        self.shared.asked.notify_one();
        pass
    }

    /// The pass in progress, or else the last one.
    #[must_use]
    pub fn pass(&self) -> Option<ScrubPass> {
        let state = self.state();
        let running = state.running.as_ref().map(|running| running.pass.clone());
        running.or_else(|| state.ended.clone())
    }

    /// When everything was read the last time.
    #[must_use]
    pub fn complete_ms(&self) -> Option<UnixMillis> {
        self.state().complete_ms
    }

    /// Works until the future is dropped. `share` is how much of the time a pass may take; `None`:
    /// none begins by itself. `observe` gets the bytes that each step read.
    pub async fn run(
        self,
        engine: Engine,
        mut share: watch::Receiver<Option<ScrubShare>>,
        observe: impl Fn(u64),
    ) {
        if !engine.has_files() {
            return;
        }
        let mut due = instant() + FIRST_AFTER;
        loop {
            let step = self.next(&mut share, &mut due).await;
            let began = instant();
            let page = engine.scrub(step.cursor.as_ref(), STEP_BYTES).await;
            observe(page.as_ref().map_or(0, |page| page.read));
            self.note(step.number, page);
            let rest = step.share.rest(instant().saturating_duration_since(began));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.shared.asked.notified() => {}
            }
        }
    }

    /// Waits until there is something to do, and says what.
    async fn next(
        &self,
        share: &mut watch::Receiver<Option<ScrubShare>>,
        due: &mut Instant,
    ) -> Step {
        loop {
            let configured = *share.borrow_and_update();
            if let Some(step) = self.step(configured, due) {
                return step;
            }
            tokio::select! {
                () = tokio::time::sleep_until((*due).into()), if configured.is_some() => {}
                () = self.shared.asked.notified() => {}
                Ok(()) = share.changed() => {}
                // Neither a schedule nor a change of it: only a request begins a pass.
                else => self.shared.asked.notified().await,
            }
        }
    }

    /// The next step of the pass in progress, or of one that is due.
    fn step(&self, configured: Option<ScrubShare>, due: &mut Instant) -> Option<Step> {
        let mut state = self.state();
        let now = instant();
        if state.running.is_none() && configured.is_some() && *due <= now {
            state.begin(Origin::Schedule);
        }
        let running = state.running.as_ref()?;
        if running.cursor.is_none() {
            *due = now + PASS_EVERY;
        }
        let share = match running.origin {
            Origin::Request => ASKED_SHARE,
            Origin::Schedule => configured?,
        };
        Some(Step { number: running.pass.number, cursor: running.cursor.clone(), share })
    }

    /// Takes down what a step of a pass came to, if that pass is still the one in progress.
    fn note(&self, number: u64, page: Result<ScrubPage, LedgerError>) {
        let mut state = self.state();
        let running = state.running.as_mut().filter(|running| running.pass.number == number);
        let Some(Running { pass, cursor, .. }) = running else { return };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "could not read the store through");
                return state.end(PassState::Failed, Some(error.to_string()));
            }
        };
        (pass.done, pass.total) = (page.done, page.total);
        let room = PLACES_MAX.saturating_sub(pass.damage.len());
        pass.damage.extend(page.damage.into_iter().take(room));
        let room = PLACES_MAX.saturating_sub(pass.remarks.len());
        pass.remarks.extend(page.remarks.into_iter().take(room));
        *cursor = page.next;
        if cursor.is_none() {
            state.end(PassState::Done, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(next: Option<u8>) -> ScrubPage {
        let damage = vec![Damage { path: "f".into(), from: 1, until: 2, what: "broken".into() }];
        let next = next.map(|byte| Cursor(vec![byte]));
        ScrubPage { read: 1, done: 1, total: 2, damage, remarks: vec![], next }
    }

    fn share(percent: u8) -> Option<ScrubShare> {
        ScrubShare::percent(percent)
    }

    #[test]
    fn a_rest_keeps_the_share() {
        assert_eq!((share(0), share(51)), (None, None));
        let ms = Duration::from_millis;
        assert_eq!(share(5).unwrap().rest(ms(10)), ms(190));
        assert_eq!(share(50).unwrap().rest(ms(10)), ms(10));
        assert_eq!(share(1).unwrap().rest(Duration::from_secs(7)), REST_MAX);
        assert_eq!(share(50).unwrap().rest(Duration::ZERO), REST_MIN);
    }

    #[test]
    fn a_pass_begins_when_it_is_due_and_goes_on_where_it_was() {
        let scrubber = Scrubber::default();
        let mut due = instant();
        assert!(scrubber.step(None, &mut due).is_none());
        let step = scrubber.step(share(5), &mut due).unwrap();
        assert_eq!((step.number, step.cursor), (1, None));
        assert!(due > instant() + PASS_EVERY / 2);
        scrubber.note(1, Ok(page(Some(7))));
        // Turned off it stands still, and turned on it goes on.
        assert!(scrubber.step(None, &mut due).is_none());
        let step = scrubber.step(share(5), &mut due).unwrap();
        assert_eq!(step.cursor, Some(Cursor(vec![7])));
        assert_eq!(scrubber.complete_ms(), None);
        scrubber.note(1, Ok(page(None)));
        let pass = scrubber.pass().unwrap();
        assert_eq!((pass.state, pass.damage.len()), (PassState::Done, 2));
        assert!(scrubber.complete_ms().is_some());
        assert!(scrubber.step(share(5), &mut due).is_none(), "the next one is due in a day");
    }

    #[test]
    fn a_request_takes_the_place_of_the_schedule_and_not_of_another_request() {
        let scrubber = Scrubber::default();
        let mut due = instant();
        scrubber.step(share(5), &mut due).unwrap();
        let asked = scrubber.begin();
        assert_eq!((asked.number, scrubber.begin().number), (2, 2));
        // The step of the pass before changes nothing any more.
        scrubber.note(1, Ok(page(None)));
        assert_eq!(scrubber.pass().unwrap().state, PassState::Running);
        let step = scrubber.step(None, &mut due).unwrap();
        assert_eq!((step.number, step.share), (2, ASKED_SHARE));
        scrubber.note(2, Err(LedgerError::BadCursor));
        let pass = scrubber.pass().unwrap();
        assert_eq!((pass.number, pass.state), (2, PassState::Failed));
        assert!(pass.error.is_some() && scrubber.complete_ms().is_none());
    }
}
