//! Histories over time, with clocks that tests move.

use super::*;

const ACCEPTED: (Outcome, Option<Reason>) = (Outcome::Accepted, None);

fn after(history: &History, seconds: u64) -> Instant {
    history.start.instant + Duration::from_secs(seconds)
}

#[test]
fn a_latency_is_in_the_step_that_begins_below_it() {
    for at in 0..STEPS {
        assert_eq!(step(begin(at).mul_f64(1.01)), at);
        assert_eq!(step(begin(at + 1).mul_f64(0.99)), at);
    }
    assert_eq!((step(Duration::ZERO), step(Duration::MAX)), (0, STEPS - 1));
}

#[test]
fn a_count_is_in_its_minute_and_gone_an_hour_later() {
    let history = History::new(Start::default());
    let ms = Duration::from_millis(1);
    for _ in 0..3 {
        history.count(ACCEPTED, after(&history, 0), ms);
    }
    history.count(ACCEPTED, after(&history, 120), ms);
    history.count((Outcome::Duplicate, None), after(&history, 120), ms);
    let accepted = history.counts(Outcome::Accepted, Span::Hour, after(&history, 120));
    assert_eq!(accepted.len(), MINUTES);
    assert_eq!(accepted[MINUTES - 3..], [3, 0, 1]);
    assert_eq!(
        history.counts(Outcome::Accepted, Span::Days, after(&history, 120)).iter().sum::<u64>(),
        4
    );
    assert_eq!(
        history.counts(Outcome::Duplicate, Span::Hour, after(&history, 120))[MINUTES - 1],
        1
    );
    let later = history.counts(Outcome::Accepted, Span::Hour, after(&history, 3600));
    assert_eq!(later.iter().sum::<u64>(), 1, "the first minute has come round");
    history.count(ACCEPTED, after(&history, 3600), ms);
    let later = history.counts(Outcome::Accepted, Span::Hour, after(&history, 3600));
    assert_eq!(later[MINUTES - 1], 1, "and starts at zero");
    assert_eq!(history.counts(Outcome::Test, Span::Hour, after(&history, 0)), vec![0; MINUTES]);
}

#[test]
fn quantiles_are_within_a_step() {
    let history = History::new(Start::default());
    assert_eq!(history.took(after(&history, 0)), None);
    for _ in 0..98 {
        history.count(ACCEPTED, after(&history, 0), Duration::from_micros(200));
    }
    for _ in 0..2 {
        history.count(ACCEPTED, after(&history, 0), Duration::from_millis(50));
    }
    let Took { p50, p99 } = history.took(after(&history, 0)).unwrap();
    assert!((181..=256).contains(&p50.as_micros()), "{p50:?}");
    assert!((46..=66).contains(&p99.as_millis()), "{p99:?}");
    assert_eq!(history.took(after(&history, 2 * 3600)), None);
    history.count(ACCEPTED, after(&history, 0), Duration::ZERO);
    history.count(ACCEPTED, after(&history, 0), Duration::from_secs(100));
}

#[test]
fn latencies_are_kept_for_an_hour_and_for_three_days() {
    let history = History::new(Start::default());
    let begin = after(&history, 0);
    history.count(ACCEPTED, begin, Duration::from_millis(1));
    history.count(ACCEPTED, after(&history, 4 * 3600), Duration::from_millis(100));
    let over = |span, seconds| Took::over_time([&history], span, after(&history, seconds));
    let hour = over(Span::Hour, 4 * 3600);
    assert_eq!((hour.len(), hour.iter().flatten().count()), (TIMES, 1));
    let days = over(Span::Days, 4 * 3600);
    assert_eq!(days.len(), DAY_TIMES);
    let p50: Vec<u128> = days.iter().flatten().map(|took| took.p50.as_millis()).collect();
    assert!(matches!(p50[..], [0 | 1, 80..128]), "the oldest first: {p50:?}");
    assert_eq!(days.last().unwrap().unwrap().p99, hour.last().unwrap().unwrap().p99);
    assert_eq!(over(Span::Days, 80 * 3600).iter().flatten().count(), 0);
}

#[test]
fn the_main_reason_is_that_of_the_last_rejections() {
    let history = History::new(Start::default());
    let rejected = |reason| (Outcome::Rejected, Some(reason));
    assert_eq!(history.main_reason(after(&history, 0)), None);
    history.count(ACCEPTED, after(&history, 0), Duration::ZERO);
    for _ in 0..5 {
        history.count(rejected(Reason::Stale), after(&history, 0), Duration::ZERO);
    }
    let main = |seconds| history.main_reason(after(&history, seconds));
    assert_eq!((main(0), main(1900)), (Some(Reason::Stale), Some(Reason::Stale)));
    // Fewer, and later.
    history.count(rejected(Reason::Stale), after(&history, 2000), Duration::ZERO);
    for _ in 0..3 {
        history.count(rejected(Reason::BadSignature), after(&history, 2000), Duration::ZERO);
    }
    assert_eq!(main(2000), Some(Reason::BadSignature));
    assert_eq!(main(10_000), None, "an hour later");
}

#[test]
fn counting_at_once_loses_nothing() {
    let history = History::new(Start::default());
    let now = after(&history, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    history.count(ACCEPTED, now, Duration::from_micros(100));
                }
            });
        }
    });
    assert_eq!(history.counts(Outcome::Accepted, Span::Hour, now)[MINUTES - 1], 4000);
}
