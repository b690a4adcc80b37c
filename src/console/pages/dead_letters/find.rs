//! Dead deliveries of a page by event, newest first, each with its last attempt. The ledger lists
//! them by destination and time; each event is read for its content.

use super::Filter;
use crate::clock::UnixMillis;
use crate::console::app::Console;
use crate::console::page_error::PageError;
use crate::ledger::{
    Attempt, Cursor, Delivery, DeliveryState, EventBody, EventDetail, EventId, LedgerError,
    TargetId,
};

/// Events per page.
pub(super) const PAGE: usize = 50;

/// Reads of the list for one page. With a rare source, the next page continues the search.
const READS_MAX: usize = 5;

/// Deliveries that are listed beyond the wanted events: some events have several.
const LISTED_MORE: usize = 14;

/// Events that are read together, with their bodies.
const TOGETHER: usize = 100;

/// An event with dead deliveries.
#[derive(Debug)]
pub(in crate::console::pages) struct Letter {
    pub event: EventId,
    pub at_ms: UnixMillis,
    pub source: String,
    pub transaction: String,
    pub user: Option<String>,
    pub item: Option<String>,
    pub amount: Option<String>,
    pub deliveries: Vec<Dead>,
}

/// A dead delivery.
#[derive(Debug)]
pub(in crate::console::pages) struct Dead {
    pub target: TargetId,
    /// Number of attempts.
    pub attempts: usize,
    pub last: Option<Attempt>,
}

/// A page of dead letters, and the cursor of the next.
#[derive(Debug)]
pub(super) struct Found {
    pub letters: Vec<Letter>,
    pub next: Option<Cursor>,
}

/// Finds at most `most` events with dead letters that match `filter`, from `cursor` on.
pub(super) async fn find(
    console: &Console,
    filter: &Filter,
    cursor: Option<Cursor>,
    most: usize,
) -> Result<Found, PageError> {
    let log = filter.log(&console.config());
    let wanted = filter.deliveries(&log);
    let mut next = cursor.or_else(|| filter.until_ms.map(Cursor::deliveries_before));
    let mut letters = Vec::new();
    for _ in 0..READS_MAX {
        let listed = most - letters.len() + LISTED_MORE;
        let page = console.ledger().deliveries(&wanted, next.as_ref(), listed).await?;
        let is_full = page.deliveries.len() >= listed;
        let more = if is_full && page.next.is_some() { More::Yes } else { More::No };
        let groups = whole_events(&page.deliveries, more);
        let ends: Vec<&Delivery> = groups.filter_map(<[Delivery]>::last).collect();
        let mut rest = ends.as_slice();
        while !rest.is_empty() && letters.len() < most {
            let count = rest.len().min(TOGETHER).min(most - letters.len());
            let (together, later) = rest.split_at(count);
            rest = later;
            let ids: Vec<EventId> = together.iter().map(|last| last.event).collect();
            let details = console.ledger().events(&ids).await?;
            for (last, detail) in together.iter().zip(details) {
                if log.since_ms.is_some_and(|since| last.event.ms() < since) {
                    return Ok(Found { letters, next: None });
                }
                next = Some(Cursor::behind(last));
                if let Some(detail) = detail.filter(|_| log.in_time(last.event.ms())) {
                    letters.extend(letter(detail, wanted.target.as_ref())?);
                }
            }
        }
        if page.next.is_none() && rest.is_empty() {
            return Ok(Found { letters, next: None });
        }
        if letters.len() >= most {
            return Ok(Found { letters, next });
        }
        if !is_full {
            next = page.next;
        }
    }
    Ok(Found { letters, next })
}

/// The number of events with matching dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub events: u64,
    /// Whether there are more: counting stopped at a bound.
    pub more: bool,
}

/// Deliveries per read of a count.
const COUNTED: usize = 1_000;

/// Most reads of a count.
const COUNTS_MAX: usize = 20;

/// Counts the events that `filter` matches.
pub(super) async fn count(console: &Console, filter: &Filter) -> Result<Counted, PageError> {
    let log = filter.log(&console.config());
    let wanted = filter.deliveries(&log);
    let mut next = filter.until_ms.map(Cursor::deliveries_before);
    let (mut events, mut last) = (0, None);
    for _ in 0..COUNTS_MAX {
        let page = console.ledger().deliveries(&wanted, next.as_ref(), COUNTED).await?;
        for delivery in &page.deliveries {
            if log.since_ms.is_some_and(|since| delivery.event.ms() < since) {
                return Ok(Counted { events, more: false });
            }
            if last == Some(delivery.event) || !log.in_time(delivery.event.ms()) {
                continue;
            }
            last = Some(delivery.event);
            events += 1;
        }
        if page.next.is_none() {
            return Ok(Counted { events, more: false });
        }
        next = page.next;
    }
    Ok(Counted { events, more: true })
}

/// Whether a list continues behind a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum More {
    Yes,
    No,
}

/// Groups deliveries by event. If the list continues, its last event may have more deliveries, so it
/// is left for the next read, unless it is the only one.
fn whole_events(deliveries: &[Delivery], more: More) -> impl Iterator<Item = &[Delivery]> {
    let groups: Vec<&[Delivery]> = deliveries.chunk_by(|a, b| a.event == b.event).collect();
    let left = usize::from(more == More::Yes && groups.len() > 1);
    let whole = groups.len() - left;
    groups.into_iter().take(whole)
}

/// `None`: no delivery is dead any more.
fn letter(detail: EventDetail, target: Option<&TargetId>) -> Result<Option<Letter>, LedgerError> {
    let id = detail.event.id;
    let corrupt = |_| LedgerError::Corrupt(id.to_string());
    let body = EventBody::decode(&detail.event.body).map_err(corrupt)?;
    let event = body.event().map_err(corrupt)?;
    let dead = detail.deliveries.into_iter().filter(|delivery| {
        delivery.state == DeliveryState::Dead && target.is_none_or(|only| *only == delivery.target)
    });
    let deliveries: Vec<Dead> = dead
        .map(|mut delivery| Dead {
            target: delivery.target,
            attempts: delivery.attempts.len(),
            last: delivery.attempts.pop(),
        })
        .collect();
    Ok((!deliveries.is_empty()).then(|| Letter {
        event: id,
        at_ms: detail.event.received_ms,
        source: event.source.into_owned(),
        transaction: event.transaction.into_owned(),
        user: event.user.map(std::borrow::Cow::into_owned),
        item: event.item.map(std::borrow::Cow::into_owned),
        amount: event.amount.map(std::borrow::Cow::into_owned),
        deliveries,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(event: u8, target: &str) -> Delivery {
        Delivery {
            event: EventId::from_bytes([event; 16]),
            target: TargetId::from(target),
            state: DeliveryState::Dead,
            attempt: 1,
            due_ms: None,
            attempts: Vec::new(),
        }
    }

    #[test]
    fn an_event_is_split_only_if_it_is_alone() {
        let all = [dead(9, "a"), dead(9, "b"), dead(8, "a"), dead(7, "a"), dead(7, "b")];
        let sizes = |more| whole_events(&all, more).map(<[Delivery]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(More::No), [2, 1, 2]);
        assert_eq!(sizes(More::Yes), [2, 1]);
        assert_eq!(whole_events(&all[..2], More::Yes).count(), 1);
    }
}
