use super::*;

const ON: (&str, &str, &str) = ("on", "on", "");

fn server_watch(required: Required) -> ServerWatch {
    let clock = ServerClock::read(instant(), now_ms());
    ServerWatch::new(ServerDurability::new(ON.0, ON.1, ON.2), required, Revision(0), clock)
}

fn stopped(server_watch: &ServerWatch, later: Duration) -> Option<String> {
    server_watch.seen().stopped(server_watch.required, instant() + later)
}

#[test]
fn one_commit_that_hangs_beside_others_that_end_stops_nothing() {
    let server_watch = server_watch(Required::Synced);
    let hangs = server_watch.commit();
    assert_eq!(stopped(&server_watch, STUCK / 2), None);
    assert!(stopped(&server_watch, 2 * STUCK).unwrap().contains("none has ended"));
    let ends = server_watch.commit();
    server_watch.seen().commits.insert(hangs.number, instant() - 3 * STUCK);
    ends.ended();
    drop(ends);
    assert_eq!(stopped(&server_watch, STUCK / 2), None);
    drop(hangs);
    assert_eq!(stopped(&server_watch, 9 * STUCK), None);
}

#[test]
fn what_keeps_callbacks_from_being_recorded_is_said_while_they_wait() {
    let server_watch = server_watch(Required::Synced);
    let commit = server_watch.commit();
    commit.failed(&QueryError::Again(Cause::new(FaultCode::Undone, "others")));
    assert_eq!(stopped(&server_watch, 2 * SILENT), None);
    commit.failed(&QueryError::Elsewhere(Cause::new(FaultCode::DiskFull, "no space")));
    assert_eq!(stopped(&server_watch, SILENT / 2), None);
    assert_eq!(stopped(&server_watch, 2 * SILENT).as_deref(), Some("no space"));
    drop(commit);
    let _next = server_watch.commit();
    assert_eq!(stopped(&server_watch, 2 * SILENT), None);
    server_watch.unwritable("no space");
    assert_eq!(stopped(&server_watch, Duration::ZERO).as_deref(), Some("no space"));
    server_watch.commit().ended();
    assert_eq!(stopped(&server_watch, Duration::ZERO), None);
}

#[test]
fn a_standby_that_is_waited_for_is_said_unless_commits_end() {
    let server_watch = server_watch(Required::Synced);
    server_watch.waits(Some(instant()));
    assert!(stopped(&server_watch, Duration::ZERO).unwrap().contains("standby"));
    let began = instant();
    server_watch.commit().ended();
    assert_eq!(stopped(&server_watch, Duration::ZERO), None);
    server_watch.waits(Some(began));
    assert_eq!(stopped(&server_watch, Duration::ZERO), None);
    let strict = self::server_watch(Required::Replicated);
    assert!(stopped(&strict, Duration::ZERO).unwrap().contains("require_replicated"));
}

#[test]
fn a_question_without_an_answer_counts_only_where_no_commit_ends() {
    let server_watch = server_watch(Required::Synced);
    let asked = instant();
    server_watch.commit().ended();
    server_watch.silent(asked);
    assert_eq!(server_watch.down(), None);
    server_watch.silent(instant() + Duration::from_secs(1));
    assert!(server_watch.down().unwrap().contains("does not answer"));
    assert_eq!(server_watch.health().1.clock_ahead_ms, None);
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
