//! The scrubber: reads all stored data repeatedly, at a bounded rate. It finds damage while there
//! is still a backup to repair it from.
//!
//! A pass begins a day after the previous one began. A step reads 1 MiB and is followed by a rest:
//! CPU and disk are used for at most the configured share of the time. A requested pass replaces
//! the scheduled one in progress, and rests less.

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
/// From the start of the gateway to the first pass: the start itself is busy.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// The share of the time of a requested pass: an operator waits, and callbacks take precedence.
const ASKED_SHARE: ScrubShare = ScrubShare(25);
/// The shortest rest: a store in memory would be read without any.
const REST_MIN: Duration = Duration::from_millis(1);
/// The longest rest: a disk that hung for a minute does not delay the pass by a day.
const REST_MAX: Duration = Duration::from_secs(60);
/// Damaged places that a pass keeps: more would not help an operator.
const PLACES_MAX: usize = 1000;

/// How much of the time a scrub may take, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubShare(u8);

/// The result of a pass, so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubPass {
    /// Its number since the start of the gateway.
    pub number: u64,
    /// Its state.
    pub state: PassState,
    /// When it began.
    pub began_ms: UnixMillis,
    /// When it ended.
    pub ended_ms: Option<UnixMillis>,
    /// Bytes of the store that it has covered.
    pub done: u64,
    /// Bytes of the store that it covers in all.
    pub total: u64,
    /// Damaged places.
    pub damage: Vec<Damage>,
    /// Notes that are not damage.
    pub remarks: Vec<String>,
    /// Why it ended early.
    pub error: Option<String>,
}

/// The state of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassState {
    /// In progress.
    Running,
    /// Everything was read.
    Done,
    /// Ended early.
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
    /// Signals a requested pass.
    asked: Notify,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// The last pass that has ended.
    ended: Option<ScrubPass>,
    /// End of the last complete pass.
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
    /// Scheduled.
    Schedule,
    /// Requested by an operator.
    Request,
}

/// The next step.
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
    /// The name in the API.
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
    /// The largest share, in percent: above it callbacks would be delayed.
    pub const MAX: u8 = 50;

    /// The default.
    pub const USUAL: Self = Self(5);

    /// A share of 1 to [`ScrubShare::MAX`] percent.
    #[must_use]
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=Self::MAX).contains(&percent).then_some(Self(percent))
    }

    /// The rest after a step that took this long.
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

    /// Begins a pass now, instead of the one in progress, unless that was requested too.
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

    /// The pass in progress, or the last one.
    #[must_use]
    pub fn pass(&self) -> Option<ScrubPass> {
        let state = self.state();
        let running = state.running.as_ref().map(|running| running.pass.clone());
        running.or_else(|| state.ended.clone())
    }

    /// End of the last complete pass.
    #[must_use]
    pub fn complete_ms(&self) -> Option<UnixMillis> {
        self.state().complete_ms
    }

    /// Works until the future is dropped. `share` is the share of the time for a pass; `None`: no
    /// scheduled passes. `observe` gets the bytes that each step read.
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

    /// Waits until a step is due and returns it.
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

    /// Records the result of a step, if its pass is still the one in progress.
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
        // Without a share it stops, and with one it continues.
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
        // A step of the previous pass changes nothing any more.
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
