//! Places of callbacks that wait for a fetch: few, and one network never has all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::unknown_keys::CallerNetwork;

/// Callbacks that wait for the fetches of one set: enough for a rotation in a busy hour, and few
/// enough that made-up keys delay no other callback. The others are decided at once. Four thirds of
/// the 64 that a sender needs which calls from one network.
const WAITING_MAX: usize = 85;

/// One network has up to so many times the places that are left, as elsewhere: alone 64.
const SHARE: usize = 3;

/// The places of one set, each with the network that has it.
#[derive(Debug, Default)]
pub(super) struct WaitingPlaces(Mutex<Vec<CallerNetwork>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct WaitingPlace<'p> {
    places: &'p WaitingPlaces,
    caller: CallerNetwork,
}

impl WaitingPlaces {
    /// A place for a callback of `caller`, if it may have one.
    pub(super) fn take(&self, caller: CallerNetwork) -> Option<WaitingPlace<'_>> {
        let mut taken = self.taken();
        let own = taken.iter().filter(|one| **one == caller).count();
        let left = WAITING_MAX.saturating_sub(taken.len());
        if own >= SHARE * left {
            return None;
        }
        taken.push(caller);
        Some(WaitingPlace { places: self, caller })
    }

    fn taken(&self) -> MutexGuard<'_, Vec<CallerNetwork>> {
        // No holder of the lock can panic in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(at) = taken.iter().position(|one| *one == self.caller) {
            taken.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_leaves_places_for_others() {
        let network = |last: u8| CallerNetwork::of([198, 51, last, 1].into());
        let places = WaitingPlaces::default();
        let of_one: Vec<_> = std::iter::from_fn(|| places.take(network(1))).collect();
        assert_eq!(of_one.len(), 64);
        let of_another: Vec<_> = std::iter::from_fn(|| places.take(network(2))).collect();
        assert_eq!(of_another.len(), 16);
        assert!(places.take(network(1)).is_none() && places.take(network(3)).is_some());
        drop(of_one);
        assert!(places.take(network(1)).is_some(), "a place that is left is free");
        drop(of_another);
        assert!(places.taken().is_empty());
    }
}
