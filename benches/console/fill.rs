//! Fills a ledger for `make bench-console`: `console_fill DIR COUNT` records that many Taku
//! callbacks of the last twenty days. For 5 % of them the delivery is dead-lettered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run says so")]
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::env;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use md5::{Digest as _, Md5};
use postern::clock::{UnixMillis, now_ms, rfc3339};
use postern::ledger::{
    Attempt, DedupeKey, Embedded, EmbeddedOptions, Event, EventBody, EventId, LeaseAsk,
    Ledger as _, NewEvent, NodeId, Release, Settlement, SourceId, TargetFilter, TargetId, Verdict,
};
use postern::sender::{Effect, Request, Resolved};
use serde_json::value::RawValue;

const BATCH: u64 = 1000;
const SPAN_MS: i64 = 20 * 86_400_000;
const USERS: u64 = 50_000;
/// One event in so many is of the source `rare`; one in so many has a destination.
const RARE: u64 = 100;
const DELIVERED: u64 = 20;
const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, count] = args.as_slice() else {
        println!("console_fill DIR COUNT");
        return;
    };
    let count: u64 = count.parse().expect("a number");
    let ledger = Embedded::open(EmbeddedOptions::new(Path::new(dir))).expect("a ledger");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let from_ms = now_ms() - SPAN_MS;
        for first in (0..count).step_by(BATCH as usize) {
            let last = (first + BATCH).min(count);
            let at = |n: u64| from_ms + (SPAN_MS as f64 * (n as f64 / count as f64)) as i64;
            let batch: Vec<NewEvent> = (first..last).map(|n| event(n, at(n))).collect();
            ledger.accept(&batch).await.expect("accepted");
        }
        println!("{count} events, {} dead", give_up(&ledger).await);
    });
}

fn event(n: u64, received_ms: UnixMillis) -> NewEvent {
    let name = if n.is_multiple_of(RARE) { "rare" } else { "level-end" };
    let source = SourceId::from(name);
    let (user, transaction) = (format!("user-{}", n % USERS), format!("tr-{n}"));
    let id = EventId::new(received_ms);
    let mut event = NewEvent::sample(id, &source, n);
    event.keys = [DedupeKey::new(&source, transaction.as_bytes())].into_iter().collect();
    event.body = body((id, name, received_ms), &user, &transaction);
    event.transaction = transaction;
    event.user = Some(user);
    event.targets.extend(n.is_multiple_of(DELIVERED).then(|| TargetId::from("game")));
    event
}

/// A callback as Taku makes it, and the event that it is.
fn body(
    (id, name, received_ms): (EventId, &str, UnixMillis),
    user: &str,
    transaction: &str,
) -> Bytes {
    let signed = format!(
        "trans_id={transaction}&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin\
         &sec_key={SECRET}"
    );
    let sign = const_hex::encode(Md5::digest(signed));
    let target = format!(
        "/callback/{name}?user_id={user}&trans_id={transaction}&placement_id=p1&adsource_id=9\
         &reward_amount=10&reward_name=coin&sign={sign}"
    );
    let params = format!(
        r#"{{"user_id":"{user}","trans_id":"{transaction}","placement_id":"p1","adsource_id":"9","reward_amount":"10","reward_name":"coin"}}"#
    );
    let raw = |text: String| std::borrow::Cow::Owned(RawValue::from_string(text).unwrap());
    let event = Event {
        id,
        source: name.into(),
        sender: "taku".into(),
        transaction: transaction.into(),
        received_at: rfc3339(received_ms),
        user: Some(user.into()),
        item: Some("coin".into()),
        amount: Some("10".into()),
        test: false,
        unresolved: vec![],
        authenticated: vec!["transaction".into(), "item".into(), "amount".into()],
        params: raw(params),
        resolved: raw(String::from("{}")),
        currency: None,
        custom: None,
        reverses: None,
        recut: vec![],
        amount_unit: None,
        escaped: vec![],
        released: Release::None,
        kind: Resolved::PLAIN_KIND.into(),
        effect: Some(Effect::Grant),
    };
    let headers = HeaderMap::new();
    let request = Request {
        method: &Method::GET,
        target: target.as_bytes(),
        base: "",
        headers: &headers,
        body: b"",
    };
    EventBody::encode(&event, &request, None).unwrap()
}

/// Dead-letters every delivery after one attempt. Returns their number.
async fn give_up(ledger: &Embedded) -> u64 {
    let who = NodeId::from("fill");
    let ask =
        LeaseAsk { targets: TargetFilter::All, max: BATCH as usize, ttl: Duration::from_secs(60) };
    let mut dead = 0;
    loop {
        let leases = ledger.lease(&who, &ask).await.expect("leases").leases;
        if leases.is_empty() {
            return dead;
        }
        dead += leases.len() as u64;
        let settled = leases.into_iter().map(|lease| Settlement {
            event: lease.event,
            target: lease.target,
            token: lease.token,
            verdict: Verdict::Dead,
            attempt: Attempt {
                at_ms: now_ms(),
                latency_ms: 12,
                status: Some(422),
                head: Bytes::from_static(b"{\"error\":\"no such player\"}"),
                error: None,
            },
        });
        ledger.settle(&who, &settled.collect::<Vec<_>>()).await.expect("settled");
    }
}
