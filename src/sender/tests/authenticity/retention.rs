//! Keys outlive every moment at which their callback can be accepted: on two gateways whose clocks
//! differ, after a sweep, at every boundary of window, horizon and retention.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::{Came, run};
use super::call::Style;
use super::model::{accept, new_event};
use super::recut::report;
use super::repetition::{message, signed};
use super::world::{Dice, Scene, scenes};
use crate::ledger::{
    Accepted, HeldRetention, KeepKeys, Ledger as _, Memory, Retention, SourceId, StoreClock,
};
use crate::sender::language::recipe::MaxAge;
use crate::sender::language::vector::OwnedRequest;
use crate::sender::{Outcome, Reason};

/// How far the clock of a gateway may be off.
const SKEW_MS: i64 = 5 * 60 * 1000;

const SECOND_MS: i64 = 1000;

/// Long after everything: keys of undated sources are kept.
const YEARS_MS: i64 = 10 * 365 * 86_400 * SECOND_MS;

#[test]
fn no_callback_is_accepted_twice_at_any_time() {
    let (mut wrong, mut dated, mut stale, mut repeated) = (Vec::new(), 0, 0, 0);
    for scene in scenes().iter().flat_map(in_time) {
        dated += usize::from(scene.recipe.acceptable_for().is_some());
        let mut dice = Dice::of(&scene);
        let Some((original, _)) = scene.accepted(&mut dice) else { continue };
        for first_ms in boundaries(&scene).into_iter().filter(|at| at.abs() < YEARS_MS) {
            for skew_ms in [-SKEW_MS, SKEW_MS] {
                let found = after(&scene, &original, Moment { at_ms: first_ms, skew_ms });
                wrong.extend(found.wrong.map(|text| format!("{}: {text}", scene.name)));
                stale += found.stale;
            }
        }
        repeated += restamped(&scene, &mut dice, &mut wrong);
    }
    report(wrong);
    assert!(dated > 15 && stale > 300 && repeated > 100, "{dated}, {stale}, {repeated}");
}

/// The source as its sender has it, and with a window where its callbacks have a time.
fn in_time(scene: &Scene) -> Vec<Scene> {
    let mut all = Vec::new();
    if scene.recipe.time.is_some() {
        let mut terms = scene.terms.clone();
        terms.max_age = Some(MaxAge::Within(Duration::from_secs(3600)));
        all.extend(scene.under(&scene.sender, terms));
    }
    let mut terms = scene.terms.clone();
    terms.max_age = None;
    all.extend(scene.under(&scene.sender, terms));
    all
}

/// A moment by a correct clock, after the stamp of the callback, and the clock of a gateway.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at_ms: i64,
    skew_ms: i64,
}

/// Moments around which the answer to a callback changes, after its stamp.
fn boundaries(scene: &Scene) -> Vec<i64> {
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap();
    let (past, future) = scene.recipe.window().map_or((0, 0), |(p, f)| (ms(p), ms(f)));
    let horizon = ms(scene.sender.retries().horizon.unwrap_or_default());
    let keep = ms(scene.recipe.acceptable_for().unwrap_or_default());
    let of = [-future, 0, past, horizon, horizon + past, keep, keep + past, keep + past + future];
    let around = of
        .into_iter()
        .flat_map(|at| [at - SKEW_MS, at - SECOND_MS, at, at + SECOND_MS, at + SKEW_MS]);
    let mut all: Vec<i64> = around.chain([YEARS_MS]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

struct Found {
    wrong: Option<String>,
    /// Repetitions that were too old.
    stale: usize,
}

/// Takes the callback first at `first`, and again at every later boundary on either gateway, each
/// time after a sweep by the clock that is ahead.
fn after(scene: &Scene, original: &OwnedRequest, first: Moment) -> Found {
    let mut found = Found { wrong: None, stale: 0 };
    let came = at(scene, original, first);
    let ledger = Memory::new(StoreClock::manual(scene.now_ms));
    if !is_event(&came) || !matches!(recorded(&ledger, scene, &came, first), Accepted::New) {
        return found;
    }
    for at_ms in boundaries(scene).into_iter().filter(|at_ms| *at_ms >= first.at_ms) {
        sweep(&ledger, scene, Moment { at_ms, skew_ms: SKEW_MS });
        for skew_ms in [-SKEW_MS, SKEW_MS] {
            let moment = Moment { at_ms, skew_ms };
            let came = at(scene, original, moment);
            let reason = came.rejection.as_ref().map(|rejection| rejection.reason);
            match reason {
                Some(Reason::Stale | Reason::Future) => found.stale += 1,
                _ if is_event(&came) => {
                    if let Accepted::New = recorded(&ledger, scene, &came, moment) {
                        found.wrong = Some(format!("new again: {first:?}, {moment:?}"));
                        return found;
                    }
                }
                _ => found.wrong = Some(format!("{reason:?} at {moment:?}")),
            }
        }
    }
    found
}

/// Repetitions with a new stamp, up to the end of the sender's retries: duplicates on either gateway.
fn restamped(scene: &Scene, dice: &mut Dice, wrong: &mut Vec<String>) -> usize {
    let horizon = scene.sender.retries().horizon.unwrap_or_default().as_secs();
    let horizon = i64::try_from(horizon).unwrap();
    let Some(message) = message(scene) else { return 0 };
    let mut repeated = 0;
    for later in [0, 1, horizon / 2, horizon] {
        let ledger = Memory::new(StoreClock::manual(scene.now_ms));
        let sent =
            |later: i64, dice: &mut Dice| signed(scene, &message, Style::default(), dice, later);
        let Some((first, again)) = sent(0, dice).zip(sent(later, dice)) else { continue };
        let begin = Moment { at_ms: 0, skew_ms: -SKEW_MS };
        let came = at(scene, &first, begin);
        if !is_event(&came) || !matches!(recorded(&ledger, scene, &came, begin), Accepted::New) {
            continue;
        }
        let past = scene.recipe.window().map_or(0, |(past, _)| past.as_millis() as i64);
        for at_ms in [later * SECOND_MS, later * SECOND_MS + past - SECOND_MS] {
            sweep(&ledger, scene, Moment { at_ms, skew_ms: SKEW_MS });
            for skew_ms in [-SKEW_MS, SKEW_MS] {
                let moment = Moment { at_ms, skew_ms };
                let came = at(scene, &again, moment);
                if is_event(&came) {
                    repeated += 1;
                    if let Accepted::New = recorded(&ledger, scene, &came, moment) {
                        wrong.push(format!("{}: stamped again, {moment:?}", scene.name));
                    }
                }
            }
        }
    }
    repeated
}

fn at(scene: &Scene, request: &OwnedRequest, moment: Moment) -> Came {
    run(&scene.recipe, request, clock_at(scene, moment))
}

fn clock_at(scene: &Scene, moment: Moment) -> i64 {
    scene.now_ms + moment.at_ms + moment.skew_ms
}

fn is_event(came: &Came) -> bool {
    came.resolved.is_some() && came.outcome == Outcome::Accepted
}

fn recorded(ledger: &Memory, scene: &Scene, came: &Came, moment: Moment) -> Accepted {
    // Each has an id of its own: the same id again would be the same event.
    static EVENTS: AtomicUsize = AtomicUsize::new(0);
    let number = EVENTS.fetch_add(1, Ordering::Relaxed);
    let mut event = new_event(number, came.resolved.as_ref().unwrap());
    event.received_ms = clock_at(scene, moment);
    accept(ledger, &event)
}

/// Deletes as the gateway of that clock does, if it keeps no longer than it must.
fn sweep(ledger: &Memory, scene: &Scene, moment: Moment) {
    let keep_keys = scene.recipe.acceptable_for();
    let source = SourceId::from("source");
    let policy = Retention {
        now_ms: clock_at(scene, moment),
        keep_events: Duration::ZERO,
        keep_keys: keep_keys.map(|time| KeepKeys { source, time }).into_iter().collect(),
        held: HeldRetention::default(),
    };
    let mut swept = std::pin::pin!(ledger.sweep(&policy, usize::MAX));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(swept.as_mut().poll(&mut context).is_ready(), "the model answers at once");
}
