//! The log of refused callbacks: the latest, in bounded memory, of this gateway only.
//!
//! Refused callbacks never reach the ledger: nobody unauthenticated may fill it. What is kept here
//! answers "why was it refused?"; the requests are as they came, so whoever shows them masks them.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::UnixMillis;
use crate::ledger::RawRequest;
use crate::sender::Reason;

/// Refused callbacks that are kept: a page of an operator's patience times ten.
const KEPT_MAX: usize = 1000;

/// Bytes that they may take together.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of one; a longer request is kept without its body.
const ONE_BYTES_MAX: usize = 128 * 1024;

/// A refused callback.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Its number on this gateway, growing.
    pub number: u64,
    /// When it came.
    pub at_ms: UnixMillis,
    /// The source it came to.
    pub source: String,
    /// Why it was refused.
    pub reason: Reason,
    /// The parameter that the reason is about.
    pub parameter: Option<String>,
    /// The transaction that it claims to be.
    pub transaction: Option<String>,
    /// Who it claims to be for.
    pub user: Option<String>,
    /// How long it took to refuse it.
    pub took: Duration,
    /// Who called.
    pub client: IpAddr,
    /// The request as it came; without its body where that was too large.
    pub request: RawRequest,
}

/// Which refused callbacks to list. Everything that is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct RejectionQuery {
    /// Of this source.
    pub source: Option<String>,
    /// For this reason.
    pub reason: Option<Reason>,
    /// Refused at this time or later.
    pub since_ms: Option<UnixMillis>,
    /// Refused before this time.
    pub until_ms: Option<UnixMillis>,
    /// With a number below this one: where the page before ended.
    pub below: Option<u64>,
}

/// The log.
#[derive(Debug, Default)]
pub struct Rejections(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    next: u64,
    bytes: usize,
    kept: VecDeque<Arc<Rejection>>,
}

impl Rejections {
    /// Keeps `rejection` under the next number, and lets the oldest go.
    pub(super) fn keep(&self, mut rejection: Rejection) {
        if size(&rejection) > ONE_BYTES_MAX {
            rejection.request.body.clear();
        }
        let mut ring = self.lock();
        ring.next += 1;
        rejection.number = ring.next;
        ring.bytes += size(&rejection);
        ring.kept.push_back(Arc::new(rejection));
        while ring.kept.len() > KEPT_MAX || ring.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = ring.kept.pop_front() else { break };
            ring.bytes -= size(&oldest);
        }
    }

    /// The latest that `query` wants, newest first, `limit` at most, and whether there are more.
    #[must_use]
    pub fn list(&self, query: &RejectionQuery, limit: usize) -> (Vec<Arc<Rejection>>, bool) {
        self.list_where(limit, |kept| query.wants(kept))
    }

    /// The latest that are `wanted`, in the same way.
    #[must_use]
    pub fn list_where(
        &self,
        limit: usize,
        wanted: impl Fn(&Rejection) -> bool,
    ) -> (Vec<Arc<Rejection>>, bool) {
        let ring = self.lock();
        let mut wanted = ring.kept.iter().rev().filter(|kept| wanted(kept));
        let page = wanted.by_ref().take(limit).cloned().collect();
        (page, wanted.next().is_some())
    }

    /// The one with that number, if it is still kept.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Arc<Rejection>> {
        self.lock().kept.iter().find(|kept| kept.number == number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RejectionQuery {
    fn wants(&self, one: &Rejection) -> bool {
        self.source.as_ref().is_none_or(|source| *source == one.source)
            && self.reason.is_none_or(|reason| reason == one.reason)
            && self.since_ms.is_none_or(|since| one.at_ms >= since)
            && self.until_ms.is_none_or(|until| one.at_ms < until)
            && self.below.is_none_or(|below| one.number < below)
    }
}

fn size(rejection: &Rejection) -> usize {
    let RawRequest { target, headers, body, .. } = &rejection.request;
    let headers: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    size_of::<Rejection>() + target.len() + headers + body.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn rejection(at_ms: UnixMillis, body: usize) -> Rejection {
        Rejection {
            number: 0,
            at_ms,
            source: "a".to_owned(),
            reason: Reason::Stale,
            parameter: None,
            transaction: None,
            user: None,
            took: Duration::ZERO,
            client: IpAddr::from([127, 0, 0, 1]),
            request: RawRequest { body: Bytes::from(vec![0; body]), ..RawRequest::default() },
        }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_too_much() {
        let log = Rejections::default();
        for at in 0..2000 {
            log.keep(rejection(at, 0));
        }
        let (all, more) = log.list(&RejectionQuery::default(), 5000);
        assert_eq!((all.len(), more), (KEPT_MAX, false));
        assert_eq!(all.first().unwrap().at_ms, 1999);
        for at in 0..500 {
            log.keep(rejection(at, 100_000));
        }
        let ring = log.lock();
        assert!(ring.bytes <= KEPT_BYTES_MAX && ring.kept.len() < 100);
    }

    #[test]
    fn a_huge_request_is_kept_without_its_body() {
        let log = Rejections::default();
        log.keep(rejection(1, ONE_BYTES_MAX + 1));
        let (all, _) = log.list(&RejectionQuery::default(), 1);
        assert!(all[0].request.body.is_empty());
    }

    #[test]
    fn pages_go_back_in_time_without_a_gap() {
        let log = Rejections::default();
        for at in 0..10 {
            log.keep(rejection(at, 0));
        }
        let (first, more) = log.list(&RejectionQuery::default(), 4);
        assert!(more);
        let below = Some(first[3].number);
        let (rest, more) = log.list(&RejectionQuery { below, ..RejectionQuery::default() }, 100);
        assert!(!more);
        let times: Vec<i64> = first.iter().chain(&rest).map(|one| one.at_ms).collect();
        assert_eq!(times, (0..10).rev().collect::<Vec<_>>());
    }
}
