//! Calls that the gateway makes to its own callback listener for an operator. What they cause is a
//! test: it grants nothing, and takes no transaction from a real callback.
//!
//! A call is recognized by the address of its connection, which no other client can have while the
//! connection is open. No header or parameter marks it, so no sender can make a test of a callback.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::SourceId;

/// The purpose of a callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CallbackPurpose {
    /// A sender's callback.
    #[default]
    Real,
    /// A call of an operator.
    Test,
}

/// The open connections of test calls.
#[derive(Debug, Default)]
pub(super) struct TestCalls {
    /// The number of them, for callbacks: these take no lock while there is none.
    count: AtomicUsize,
    from: Mutex<HashSet<SocketAddr>>,
}

/// A test call, until this is dropped.
#[derive(Debug)]
pub struct TestCall {
    calls: Arc<TestCalls>,
    from: SocketAddr,
}

impl TestCalls {
    /// Begins a call over the connection whose local address is `from`.
    pub(super) fn begin(self: &Arc<Self>, from: SocketAddr) -> TestCall {
        let from = canonical(from);
        self.lock().insert(from);
        self.count.fetch_add(1, Ordering::SeqCst);
        TestCall { calls: Arc::clone(self), from }
    }

    /// The purpose of a callback over the connection of `peer`.
    pub(super) fn purpose(&self, peer: SocketAddr) -> CallbackPurpose {
        if self.count.load(Ordering::SeqCst) == 0 || !self.lock().contains(&canonical(peer)) {
            return CallbackPurpose::Real;
        }
        CallbackPurpose::Test
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TestCall {
    fn drop(&mut self) {
        self.calls.lock().remove(&self.from);
        self.calls.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The owner of the deduplication keys of test calls to `source`. No source has such an id: a space
/// is not allowed in one. A test call repeats only another test call.
pub(super) fn key_owner(source: &SourceId) -> SourceId {
    SourceId::from(format!("test {}", source.as_str()))
}

fn canonical(of: SocketAddr) -> SocketAddr {
    SocketAddr::new(of.ip().to_canonical(), of.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_call_is_known_by_its_connection_while_that_is_open() {
        let calls = Arc::new(TestCalls::default());
        let [one, other] = ["127.0.0.1:40001", "127.0.0.1:40002"].map(|at| at.parse().unwrap());
        assert_eq!(calls.purpose(one), CallbackPurpose::Real);
        let call = calls.begin(one);
        assert_eq!(calls.purpose(one), CallbackPurpose::Test);
        assert_eq!(
            calls.purpose("[::ffff:127.0.0.1]:40001".parse().unwrap()),
            CallbackPurpose::Test
        );
        assert_eq!(calls.purpose(other), CallbackPurpose::Real);
        drop(call);
        assert_eq!(calls.purpose(one), CallbackPurpose::Real);
    }
}
