use super::*;

const ON: (&str, &str, &str) = ("on", "on", "");

fn pulse(required: Required) -> ServerWatch {
    let clock = ServerClock::read(instant(), now_ms());
    ServerWatch::new(ServerDurability::new(ON.0, ON.1, ON.2), required, Revision(0), clock)
}

fn stopped(pulse: &ServerWatch, later: Duration) -> Option<String> {
    pulse.seen().stopped(pulse.required, instant() + later)
}

#[test]
fn one_commit_that_hangs_beside_others_that_end_stops_nothing() {
    let pulse = pulse(Required::Synced);
    let hangs = pulse.commit();
    assert_eq!(stopped(&pulse, STUCK / 2), None);
    assert!(stopped(&pulse, 2 * STUCK).unwrap().contains("none has ended"));
    let ends = pulse.commit();
    pulse.seen().commits.insert(hangs.number, instant() - 3 * STUCK);
    ends.ended();
    drop(ends);
    assert_eq!(stopped(&pulse, STUCK / 2), None);
    drop(hangs);
    assert_eq!(stopped(&pulse, 9 * STUCK), None);
}

#[test]
fn what_keeps_callbacks_from_being_recorded_is_said_while_they_wait() {
    let pulse = pulse(Required::Synced);
    let commit = pulse.commit();
    commit.failed(&QueryError::Again(Cause::new(FaultCode::Undone, "others")));
    assert_eq!(stopped(&pulse, 2 * SILENT), None);
    commit.failed(&QueryError::Elsewhere(Cause::new(FaultCode::DiskFull, "no space")));
    assert_eq!(stopped(&pulse, SILENT / 2), None);
    assert_eq!(stopped(&pulse, 2 * SILENT).as_deref(), Some("no space"));
    drop(commit);
    let _next = pulse.commit();
    assert_eq!(stopped(&pulse, 2 * SILENT), None);
    pulse.unwritable("no space");
    assert_eq!(stopped(&pulse, Duration::ZERO).as_deref(), Some("no space"));
    pulse.commit().ended();
    assert_eq!(stopped(&pulse, Duration::ZERO), None);
}

#[test]
fn a_standby_that_is_waited_for_is_said_unless_commits_end() {
    let pulse = pulse(Required::Synced);
    pulse.waits(Some(instant()));
    assert!(stopped(&pulse, Duration::ZERO).unwrap().contains("standby"));
    let began = instant();
    pulse.commit().ended();
    assert_eq!(stopped(&pulse, Duration::ZERO), None);
    pulse.waits(Some(began));
    assert_eq!(stopped(&pulse, Duration::ZERO), None);
    let strict = self::pulse(Required::Replicated);
    assert!(stopped(&strict, Duration::ZERO).unwrap().contains("require_replicated"));
}

#[test]
fn a_question_without_an_answer_counts_only_where_no_commit_ends() {
    let pulse = pulse(Required::Synced);
    let asked = instant();
    pulse.commit().ended();
    pulse.silent(asked);
    assert_eq!(pulse.down(), None);
    pulse.silent(instant() + Duration::from_secs(1));
    assert!(pulse.down().unwrap().contains("does not answer"));
    assert_eq!(pulse.health().1.clock_ahead_ms, None);
}

#[test]
fn the_servers_time_does_not_follow_this_clock() {
    let ahead = 100 * 86_400_000;
    let clock = ServerClock::read(instant(), now_ms() + ahead);
    let shown = clock.ahead_ms.unwrap();
    assert!((shown - ahead).abs() < CLOCK_BOUND_MS, "{shown}");
    let near = ServerClock::read(instant(), now_ms());
    let told = clock.after(&near);
    assert!(told.told.is_some() && near.after(&near).told.is_none());
    assert!(near.after(&told).told.is_none());
    assert!((told.now_ms() - now_ms() - ahead).abs() < CLOCK_BOUND_MS);
}
