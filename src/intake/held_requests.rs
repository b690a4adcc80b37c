//! Silence: requests held past their sender's timeout and then closed, because only a timeout makes
//! that sender retry.

use std::net::IpAddr;
use std::time::Instant;

use crate::wire::{CapacityPart, CloseWithoutReply, SharedCapacity};

/// How many may be held. One client address never has more than three times what is left.
#[derive(Debug)]
pub(super) struct HeldRequests(SharedCapacity);

impl HeldRequests {
    pub(super) fn new(max: usize) -> Self {
        Self(SharedCapacity::new(max))
    }

    /// Holds a request of `client` until `until`. When too many are held already it is closed at
    /// once: a sender that does not try again after that is a smaller loss than a gateway without
    /// memory.
    pub(super) async fn hold(&self, client: IpAddr, until: Instant) -> CloseWithoutReply {
        if let Some(_place) = self.place(client) {
            tokio::time::sleep_until(until.into()).await;
        }
        CloseWithoutReply
    }

    fn place(&self, client: IpAddr) -> Option<CapacityPart<'_>> {
        let mut place = self.0.part(client);
        place.take(1).ok().map(|()| place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_a_request_is_closed_at_once() {
        let held = HeldRequests::new(1);
        let until = clock::instant() + Duration::from_secs(60);
        let client = IpAddr::from([203, 0, 113, 1]);
        let first = held.place(client).unwrap();
        assert_eq!(held.hold(client, until).await, CloseWithoutReply);
        assert!(clock::instant() < until);
        drop(first);
        assert!(held.place(client).is_some());
    }

    #[test]
    fn one_address_leaves_places_for_others() {
        let held = HeldRequests::new(8);
        let client = IpAddr::from([203, 0, 113, 1]);
        let own: Vec<_> = std::iter::from_fn(|| held.place(client)).collect();
        assert_eq!(own.len(), 6);
        // Three others, because two of them may share a cell.
        let others = (1..4).filter_map(|n| held.place([198, 51, 100, n].into()));
        assert!(others.count() > 0);
    }
}
