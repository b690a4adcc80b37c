//! The operations of the ledger: each is run on a session of its pool, repeated and timed by its kind.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::super::{
    Accepted, Cursor, Decided, DeliveryCounts, DeliveryPage, DeliveryQuery, Document,
    DocumentChange, DocumentQuery, Documents, EarlyExpiry, Erased, Erasure, EventDetail, EventId,
    EventWindow, ExportPage, GatewayRecord, GatewayReport, Health, HeldId, HeldOne, HeldOrder,
    HeldPage, HeldQuery, HoldOutcome, Holding, Imported, Item, Kind, LeaseAsk, LeaseBatch, Ledger,
    LedgerError, LogPage, LogQuery, NewEvent, NodeId, Nonce, NonceUse, ReplayOrder, ReplayPage,
    Retention, Revision, ServerHealth, Settled, Settlement, SourceId, Stats, Swept, TargetId,
};
use super::accept::{BODIES_MAX, uses};
use super::counts::count_deliveries_on;
use super::query_error::{Applied, QueryError};
use super::{
    AGAIN, AGAIN_MAX, CHANGE_PATIENCE, CHANGE_TIME, Core, FORGET_TIME, ORDER_PATIENCE, Postgres,
    READ_PATIENCE, STATS_TIME, SWEEP_TIME, held, transfer,
};
use crate::clock::instant;
use crate::sender::Reason;

/// Whether a call may be repeated after its answer was lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// The call is idempotent.
    Harmless,
    /// The caller has to check the outcome.
    No,
}

impl Repeat {
    fn allows(self, fault: &QueryError) -> bool {
        fault.is_passing() && (self == Self::Harmless || !fault.is_doubtful())
    }
}

/// Runs a call on a session of a pool until it succeeds, cannot succeed, or times out.
macro_rules! run {
    ($core:expr, $pool:ident for $patience:expr, $repeat:expr, $session:ident => $call:expr) => {{
        let until = instant() + $patience;
        let mut pause = AGAIN;
        loop {
            let outcome = match $core.$pool.session(until).await {
                Ok(mut $session) => {
                    let outcome = $call.await;
                    $session.heed(outcome)
                }
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(done) => break Ok(done),
                Err(fault) => {
                    $core.faults.count(&fault);
                    if !$repeat.allows(&fault) || instant() >= until {
                        break Err(fault.into_ledger_error(Applied::No));
                    }
                    $core.mend(&fault).await;
                    rest(&mut pause).await;
                }
            }
        }
    }};
}

/// Runs a change.
macro_rules! change {
    ($core:ident, $pool:ident within $time:expr, $repeat:expr, $session:ident => $call:expr) => {
        within($time, LedgerError::Unknown, async {
            run!($core, $pool for CHANGE_PATIENCE, $repeat, $session => $call)
        })
        .await
    };
}

/// Runs a change of an operator, unless the server is known to accept none.
macro_rules! order {
    ($core:ident, $session:ident => $call:expr) => {
        match $core.server_watch.unchangeable() {
            Some(why) => Err(LedgerError::Unavailable(why)),
            None => {
                within(CHANGE_TIME, LedgerError::Unknown, async {
                    run!($core, durable for ORDER_PATIENCE, Repeat::No, $session => $call)
                })
                .await
            }
        }
    };
}

/// Runs a query, unless the server is known to be unreachable.
macro_rules! ask {
    ($core:ident within $time:expr, $session:ident => $call:expr) => {
        match $core.server_watch.down() {
            Some(why) => Err(LedgerError::Unavailable(why)),
            None => {
                let silent = LedgerError::Unavailable("PostgreSQL does not answer".to_owned());
                within($time, silent, async {
                    run!($core, read for READ_PATIENCE, Repeat::Harmless, $session => $call)
                })
                .await
            }
        }
    };
    ($core:ident, $session:ident => $call:expr) => {
        ask!($core within $core.read_time, $session => $call)
    };
}

/// Waits before a retry, longer each time.
pub(super) async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = pause.saturating_mul(2).min(AGAIN_MAX);
}

/// Runs a call with a time limit, and returns the timeout's error after it. Nothing is cancelled:
/// the connection is closed, and the server finishes its statement.
async fn within<T>(
    time: Duration,
    late: LedgerError,
    call: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    tokio::time::timeout(time, call).await.unwrap_or(Err(late))
}

impl Core {
    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        let mut seen = HashSet::new();
        let unique: Vec<&Nonce> = batch.iter().filter(|nonce| seen.insert(nonce.key)).collect();
        let first = within(CHANGE_TIME, LedgerError::Unknown, async {
            run!(self, durable for CHANGE_PATIENCE, Repeat::No, session => {
                self.note_nonces(&session, &unique)
            })
        })
        .await?;
        Ok(uses(batch, first))
    }
}

/// Rejects what is too large for one message of PostgreSQL.
fn check_size(batch: &[NewEvent]) -> Result<(), LedgerError> {
    let size = batch.iter().map(|event| event.body.len()).sum();
    if size > BODIES_MAX { Err(LedgerError::TooLarge { size, max: BODIES_MAX }) } else { Ok(()) }
}

impl Ledger for Postgres {
    /// A commit continues when its caller is gone: it is a separate task.
    async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        check_size(batch)?;
        let (core, batch) = (Arc::clone(&self.core), batch.to_vec());
        let accepting = self.core.dialer.handle.spawn(async move { core.accept(&batch).await });
        accepting.await.unwrap_or(Err(LedgerError::Unknown))
    }

    async fn may_hold_older_keys(&self) -> Result<bool, LedgerError> {
        Ok(self.core.row_cipher.may_hold_older_keys())
    }

    async fn check_nonces(&self, batch: &[Nonce]) -> Result<Vec<NonceUse>, LedgerError> {
        self.core.check_nonces(batch).await
    }

    async fn lease(&self, who: &NodeId, ask: &LeaseAsk) -> Result<LeaseBatch, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::No, session => {
            core.lease_on(&session, who, ask)
        })
    }

    async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        within(CHANGE_TIME, LedgerError::Unknown, self.core.settle(who, settlements)).await
    }

    async fn release(&self, who: &NodeId) -> Result<u64, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::Harmless, session => {
            core.release_on(&session, who)
        })
    }

    async fn replay(
        &self,
        order: &ReplayOrder,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<ReplayPage, LedgerError> {
        let core = &self.core;
        order!(core, session => {
            core.replay_on(&session, order, cursor, limit)
        })
    }

    async fn query(
        &self,
        query: &LogQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<LogPage, LedgerError> {
        let core = &self.core;
        ask!(core, session => {
            core.query_on(&session, query, cursor, limit)
        })
    }

    async fn event(&self, id: EventId) -> Result<Option<EventDetail>, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.event_on(&session, id))
    }

    async fn events(&self, ids: &[EventId]) -> Result<Vec<Option<EventDetail>>, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.events_on(&session, ids))
    }

    async fn count_deliveries(
        &self,
        events: &[EventId],
        targets: Option<&[TargetId]>,
    ) -> Result<DeliveryCounts, LedgerError> {
        let core = &self.core;
        ask!(core, session => count_deliveries_on(&session, events, targets))
    }

    async fn deliveries(
        &self,
        query: &DeliveryQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeliveryPage, LedgerError> {
        let core = &self.core;
        ask!(core, session => {
            core.deliveries_on(&session, query, cursor, limit)
        })
    }

    async fn hold_all(&self, batch: &[Holding]) -> Result<Vec<HoldOutcome>, LedgerError> {
        let size = batch.iter().map(|one| one.held.size()).sum();
        if size > BODIES_MAX {
            return Err(LedgerError::TooLarge { size, max: BODIES_MAX });
        }
        let core = &self.core;
        change!(core, durable within CHANGE_TIME, Repeat::Harmless, session => {
            core.hold_on(&mut session, batch)
        })
    }

    async fn note_reason(&self, id: HeldId, reason: Reason) -> Result<(), LedgerError> {
        let core = &self.core;
        change!(core, durable within CHANGE_TIME, Repeat::Harmless, session => {
            held::note_reason(&session, id, reason)
        })
    }

    async fn held(
        &self,
        query: &HeldQuery,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<HeldPage, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.held_on(&session, query, cursor, limit))
    }

    async fn held_one(&self, id: HeldId) -> Result<Option<HeldOne>, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.held_one_on(&session, id))
    }

    /// When the answer of a commit was lost, the retry finds it decided.
    async fn decide(&self, order: &HeldOrder) -> Result<Decided, LedgerError> {
        let core = &self.core;
        change!(core, durable within CHANGE_TIME, Repeat::Harmless, session => {
            core.decide_on(&mut session, order)
        })
    }

    async fn forget(&self, source: &SourceId) -> Result<u64, LedgerError> {
        let core = &self.core;
        change!(core, durable within FORGET_TIME, Repeat::Harmless, session => {
            core.forget_on(&session, source)
        })
    }

    async fn erase(&self, erasure: &Erasure) -> Result<Erased, LedgerError> {
        let core = &self.core;
        change!(core, durable within FORGET_TIME, Repeat::Harmless, session => {
            core.erase_on(&mut session, erasure)
        })
    }

    async fn expire_early(&self, early: &EarlyExpiry, budget: usize) -> Result<Swept, LedgerError> {
        let core = &self.core;
        change!(core, durable within SWEEP_TIME, Repeat::Harmless, session => {
            core.expire_early_on(&mut session, early, budget)
        })
    }

    async fn stats(&self) -> Result<Stats, LedgerError> {
        let core = &self.core;
        ask!(core within STATS_TIME, session => core.stats_on(&session))
    }

    async fn document(&self, kind: Kind, id: &str) -> Result<Option<Document>, LedgerError> {
        let core = &self.core;
        ask!(core, session => {
            core.document_on(&session, kind.as_str(), id)
        })
    }

    async fn documents(&self, kind: Kind) -> Result<Documents, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.documents_on(&session, kind))
    }

    async fn latest_documents(
        &self,
        query: &DocumentQuery,
        limit: usize,
    ) -> Result<Vec<Document>, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.latest_documents_on(&session, query, limit))
    }

    async fn change_all(&self, changes: &[DocumentChange]) -> Result<Revision, LedgerError> {
        let core = &self.core;
        order!(core, session => {
            core.change_on(&mut session, changes)
        })
    }

    async fn changed(&self, after: Revision, wait: Duration) -> Result<Revision, LedgerError> {
        let mut revisions = self.core.server_watch.revisions();
        let newer = tokio::time::timeout(wait, revisions.wait_for(|one| *one > after)).await;
        // A timeout is not an error: the caller gets the current revision.
        drop(newer);
        let revision = *revisions.borrow();
        Ok(revision)
    }

    async fn join(&self, who: &NodeId, ttl: Duration) -> Result<GatewayRecord, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::No, session => {
            core.join_on(&session, who, ttl)
        })
    }

    async fn report(
        &self,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, LedgerError> {
        let core = &self.core;
        change!(core, lazy within CHANGE_TIME, Repeat::Harmless, session => {
            core.report_on(&session, report)
        })
    }

    async fn sweep(&self, policy: &Retention, budget: usize) -> Result<Swept, LedgerError> {
        let core = &self.core;
        change!(core, durable within SWEEP_TIME, Repeat::Harmless, session => {
            core.sweep_on(&mut session, policy, budget)
        })
    }

    async fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.export_on(&session, cursor, bytes))
    }

    async fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let core = &self.core;
        ask!(core, session => core.events_in_on(&session, window, cursor, bytes))
    }

    async fn import(&self, items: Vec<Item>) -> Result<Imported, LedgerError> {
        let core = &self.core;
        let mut imported = Imported::default();
        for items in transfer::pieces(items)? {
            let some = change!(core, durable within SWEEP_TIME, Repeat::No, session => {
                core.import_on(&mut session, &items)
            })?;
            imported.add(some);
        }
        Ok(imported)
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        let (mut health, server) = self.core.server_watch.health();
        health.stopped = health.stopped.or_else(|| self.core.row_cipher.lacking());
        health.server = Some(ServerHealth { faults: self.core.faults.counts(), ..server });
        Ok(health)
    }
}
