//! Windows of time: their events as an export has them, and no others.

use std::collections::BTreeMap;

use super::{Checked, START_MS, accept, event};
use crate::ledger::{EventId, EventWindow, Item, Ledger, LedgerError, NewEvent, StoreClock};

async fn within(
    ledger: &impl Ledger,
    window: EventWindow,
    page: usize,
) -> Result<Vec<NewEvent>, LedgerError> {
    let (mut events, mut cursor) = (Vec::new(), None);
    loop {
        let page = ledger.events_in(window, cursor.as_ref(), page).await?;
        for item in page.items {
            let Item::Event { event, .. } = item else {
                return Err(LedgerError::Corrupt("an item that is not an event".into()));
            };
            events.push(event);
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(events);
        }
    }
}

pub(super) async fn a_window_has_its_events_and_no_others<L: Ledger>(
    ledger: &L,
    _: &StoreClock,
) -> Checked {
    let all: Vec<NewEvent> = (0..9).map(|n| event(n, &["a"])).collect();
    // Not in the order of their times: one was released late.
    for n in [3, 0, 1, 2, 8, 4, 6, 5, 7] {
        accept(ledger, &all[n]).await?;
    }
    for (from, to) in [(0, 9), (2, 6), (4, 5), (5, 5), (9, 20)] {
        let window = EventWindow { from_ms: START_MS + from, to_ms: START_MS + to };
        let by_id = |events: &[NewEvent]| -> BTreeMap<EventId, NewEvent> {
            events.iter().map(|event| (event.id, event.clone())).collect()
        };
        let inside =
            |event: &&NewEvent| (window.from_ms..window.to_ms).contains(&event.received_ms);
        let expected: Vec<NewEvent> = all.iter().filter(inside).cloned().collect();
        for page in [1, 700, usize::MAX / 2] {
            let found = within(ledger, window, page).await?;
            assert_eq!(found.len(), expected.len(), "{from} to {to} in pages of {page}");
            assert_eq!(by_id(&found), by_id(&expected), "{from} to {to} in pages of {page}");
        }
    }
    Ok(())
}
