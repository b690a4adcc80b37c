//! Any text as a cursor of every list: it is one of the list or it is rejected, and nothing panics.

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use postern::ledger::{
    Cursor, DeliveryQuery, DeliveryState, HeldQuery, Ledger, LedgerError, LogQuery, Memory,
    StoreClock, conformance,
};

/// Events, and kept callbacks, in the ledger whose lists are asked for.
const EVENTS: u64 = 3;

static LEDGER: LazyLock<Memory> = LazyLock::new(|| {
    let ledger = Memory::new(StoreClock::process());
    let events: Vec<_> = (0..EVENTS).map(|n| conformance::event(n, &["a", "b"])).collect();
    assert_eq!(now(ledger.accept(&events)).map(|accepted| accepted.len()), Ok(events.len()));
    ledger
});

/// The result of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a ledger in memory waits for something"),
    }
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(cursor) = text.parse::<Cursor>() else { return };
    assert_eq!(cursor.to_string().parse(), Ok(cursor.clone()));
    let at = Some(&cursor);
    let pending = DeliveryQuery::of(DeliveryState::Pending);
    fn count<T>(found: Result<T, LedgerError>, rows: fn(&T) -> usize) {
        match found {
            Ok(page) => assert!(rows(&page) as u64 <= 2 * EVENTS),
            Err(error) => assert_eq!(error, LedgerError::BadCursor),
        }
    }
    count(now(LEDGER.query(&LogQuery::default(), at, 100)), |page| page.events.len());
    count(now(LEDGER.deliveries(&pending, at, 100)), |page| page.deliveries.len());
    count(now(LEDGER.held(&HeldQuery::default(), at, 100)), |page| page.held.len());
    count(now(LEDGER.export(at, 1 << 20)), |page| page.items.len());
}
