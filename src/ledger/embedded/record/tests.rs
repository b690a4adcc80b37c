use smallvec::smallvec;

use super::*;
use crate::ledger::{
    Attempt, DocumentChange, EventKeys, Expect, Kind, LeaseResult, Settlement, SourceId,
};

fn event() -> NewEvent {
    NewEvent {
        id: EventId::new(5),
        source: SourceId::from("s"),
        keys: EventKeys::from_iter([DedupeKey([1; 16]), DedupeKey([2; 16])]),
        fingerprint: Fingerprint(9),
        transaction: "t:1".into(),
        user: Some("ü".into()),
        received_ms: 5,
        test: true,
        body: Bytes::from_static(b"body"),
        targets: smallvec![TargetId::from("a"), TargetId::from("b")],
        seal: Default::default(),
    }
}

#[test]
fn an_event_comes_back_and_so_do_its_keys_alone() {
    let event = event();
    let mut payload = Vec::new();
    put_event(&mut payload, &event, &mut Gaps::default());
    assert!(payload.len() <= event.size());
    let Ok(Record::Event(read)) = Record::read(&payload) else { panic!() };
    assert_eq!((read.head.id, read.head.received_ms), (event.id, 5));
    for key in &event.keys.identity {
        assert_eq!(owner_of(key, &payload), Some(read.head.owner()));
    }
    assert_eq!(owner_of(&DedupeKey([9; 16]), &payload), None);
    assert!(read.head.keys().eq(event.keys.written()));
    assert_eq!((read.test, read.transaction, read.user), (true, "t:1", Some("ü")));
    assert_eq!((read.targets.as_slice(), read.body), (&["a", "b"][..], &b"body"[..]));
    let mut alone = Vec::new();
    read.head.put(&mut alone);
    let Ok(Record::Keys(keys)) = Record::read(&alone) else { panic!() };
    assert_eq!(keys, read.head);
    assert_eq!(owner_of(&event.keys.identity[1], &alone), Some(read.head.owner()));
}

#[test]
fn what_the_body_says_is_written_once() {
    let far = "x".repeat(128);
    let bodies = [
        r#"{"id":"1","source":"source-1","transaction":"transaction-0001","user":"user-0001"}"#,
        r#"{"source":"source-1","transaction":"transaction-0001","user":"user-0001"#,
        r#""user-0001" "transaction-0001" "source-1""#,
        "source-1 transaction-0001 user-0001",
        &format!("{far}\"source-1\""),
        "\"",
        "",
    ];
    let mut gaps = Gaps::default();
    for (body, room) in bodies.into_iter().zip([50, 50, 72, 80, 80, 80, 80]) {
        let event = NewEvent {
            source: SourceId::from("source-1"),
            keys: EventKeys::from_iter([DedupeKey([1; 16])]),
            transaction: "transaction-0001".into(),
            user: Some("user-0001".into()),
            targets: smallvec![],
            body: Bytes::copy_from_slice(body.as_bytes()),
            ..event()
        };
        let mut payload = Vec::new();
        put_event(&mut payload, &event, &mut gaps);
        assert!(payload.len() <= event.size());
        let beyond = payload.len() - event.body.len();
        assert!(beyond <= room, "{beyond}");
        let Ok(Record::Event(read)) = Record::read(&payload) else { panic!() };
        assert_eq!((read.head.source, read.transaction), ("source-1", "transaction-0001"));
        assert_eq!((read.user, read.body), (Some("user-0001"), &event.body[..]));
    }
}

#[test]
fn a_time_that_is_not_the_ids_comes_back() {
    for received_ms in [UnixMillis::MIN, -1, 4, UnixMillis::MAX] {
        let mut payload = Vec::new();
        put_event(&mut payload, &NewEvent { received_ms, ..event() }, &mut Gaps::default());
        let Ok(Record::Event(read)) = Record::read(&payload) else { panic!() };
        assert_eq!(read.head.received_ms, received_ms);
    }
}

#[test]
fn a_part_behind_the_body_is_refused() {
    let body = Bytes::from_static(b"\"transaction");
    let event = NewEvent { transaction: "transaction".into(), body, ..event() };
    let mut payload = Vec::new();
    put_event(&mut payload, &event, &mut Gaps::default());
    assert!(Record::read(&payload).is_ok());
    payload.pop();
    assert!(Record::read(&payload).is_err());
}

#[test]
fn an_attempt_comes_back() {
    let settlement = Settlement {
        event: EventId::new(1),
        target: TargetId::from("game"),
        token: 3,
        result: LeaseResult::Dead,
        attempt: Attempt {
            at_ms: 77,
            latency_ms: 300,
            status: Some(503),
            head: Bytes::from_static(b"no"),
            error: Some("closed".into()),
        },
    };
    for outcome in [Outcome::Done, Outcome::Retry { due_ms: -1 }, Outcome::Dead] {
        let mut payload = Vec::new();
        let Settlement { event, target, attempt, .. } = &settlement;
        put_attempt(&mut payload, outcome, 300, &attempt_detail(*event, target, attempt));
        let Ok(Record::Attempt(read)) = Record::read(&payload) else { panic!() };
        assert_eq!((read.outcome, read.attempt), (outcome, 300));
        assert_eq!((read.event, read.target), (settlement.event, "game"));
        assert_eq!(read.attempt().unwrap(), settlement.attempt);
    }
}

#[test]
fn a_state_comes_back() {
    for outcome in [Outcome::Done, Outcome::Retry { due_ms: -1 }, Outcome::Dead] {
        let state = StateRecord { outcome, attempt: 3, event: EventId::new(1), target: "game" };
        let mut payload = Vec::new();
        put_state(&mut payload, &state);
        let Ok(Record::State(read)) = Record::read(&payload) else { panic!() };
        assert_eq!((read.outcome, read.attempt), (outcome, 3));
        assert_eq!((read.event, read.target), (state.event, "game"));
    }
}

#[test]
fn documents_nonces_and_replays_come_back() {
    let change = DocumentChange {
        kind: Kind::new("rule"),
        id: "7".into(),
        expect: Expect::Absent,
        body: Some(Bytes::from_static(b"{}")),
        who: "me".into(),
        at_ms: 3,
    };
    for body in [None, Some(Bytes::new()), Some(Bytes::from_static(b"{}"))] {
        let change = DocumentChange { body: body.clone(), ..change.clone() };
        let mut payload = Vec::new();
        put_document(&mut payload, &Written::new(Revision(4), change));
        let Ok(Record::Document(read)) = Record::read(&payload) else { panic!() };
        assert_eq!((read.revision, read.kind, read.id), (Revision(4), "rule", "7"));
        assert_eq!((read.who, read.at_ms, read.body), ("me", 3, body.as_deref()));
    }
    let mut payload = Vec::new();
    let (replay, event) = (ReplayId::new(1), EventId::new(2));
    put_replay(&mut payload, replay, event, 9, &[TargetId::from("a")]);
    let Ok(Record::Replay(read)) = Record::read(&payload) else { panic!() };
    assert_eq!((read.replay, read.event, read.at_ms), (replay, event, 9));
    let nonce = Nonce { key: DedupeKey([4; 16]), expires_ms: 11 };
    let mut payload = Vec::new();
    put_nonce(&mut payload, &nonce);
    assert!(matches!(Record::read(&payload), Ok(Record::Nonce(read)) if read == nonce));
}

#[test]
fn nonsense_is_refused_and_never_panics() {
    let mut payload = Vec::new();
    put_event(&mut payload, &event(), &mut Gaps::default());
    for cut in 0..payload.len() - 4 {
        assert!(Record::read(&payload[..cut]).is_err());
    }
    assert!(Record::read(&[99]).is_err());
    assert!(Record::read(&[]).is_err());
}
