//! Retries of accepting and settling.

use std::time::Instant;

use super::operations::rest;
use super::query_error::{Cause, QueryError};
use super::{ACCEPT_PATIENCE, AGAIN, CHANGE_PATIENCE, Core};
use crate::clock::instant;
use crate::ledger::{
    Accepted, FaultCode, LeaseResult, LedgerError, NewEvent, NodeId, Settled, Settlement,
};

impl Core {
    pub(super) async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        let commit = self.server_watch.commit();
        let until = instant() + ACCEPT_PATIENCE;
        let (mut doubt, mut pause) = (false, AGAIN);
        loop {
            let fault = match self.accept_once(batch, until, &mut doubt).await {
                Ok(accepted) => {
                    commit.ended();
                    return Ok(accepted);
                }
                Err(fault) => fault,
            };
            self.faults.count(&fault);
            commit.failed(&fault);
            self.mend(&fault).await;
            doubt |= fault.is_doubtful();
            if !fault.is_passing() || instant() >= until {
                return Err(fault.told(doubt));
            }
            rest(&mut pause).await;
        }
    }

    /// One try. Waits for its commit without a limit, unless another server supersedes its own: the
    /// old server's data is only kept if the new one has it.
    async fn accept_once(
        &self,
        batch: &[NewEvent],
        until: Instant,
        doubt: &mut bool,
    ) -> Result<Vec<Accepted>, QueryError> {
        // A missing standby returns, in a failover within the senders' timeout.
        if let Some(why) = self.server_watch.barred() {
            return Err(QueryError::NotDurable(Cause::new(FaultCode::NotDurable, why)));
        }
        if let Some(why) = self.row_cipher.lacking() {
            return Err(QueryError::Refused(Cause::new(FaultCode::Other, why)));
        }
        let mut held = self.accept.session(until).await?;
        let superseded = held.superseded();
        let judging = async {
            self.days_for(&mut held, batch.iter().map(|event| event.id)).await?;
            self.keep_late(&held, batch).await?;
            self.judge(&held, batch, doubt).await
        };
        let judged = tokio::select! {
            judged = judging => judged,
            () = superseded => Err(QueryError::lost("the server is an old primary")),
        };
        held.heed(judged)
    }

    pub(super) async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        let until = instant() + CHANGE_PATIENCE;
        let lazy = |one: &Settlement| {
            matches!(one.result, LeaseResult::Done | LeaseResult::Postpone { .. })
        };
        let (pool, waits) = match settlements.iter().all(lazy) {
            true => (&self.lazy, None),
            false => (&self.durable, Some(self.server_watch.required())),
        };
        let (mut doubt, mut pause) = (false, AGAIN);
        loop {
            let outcome = match pool.session(until).await {
                Ok(mut held) => {
                    let mut outcome = self.settle_on(&mut held, who, settlements, waits).await;
                    if let (true, Ok(settled)) = (doubt, &mut outcome)
                        && let Err(fault) = self.found_settled(&held, settlements, settled).await
                    {
                        outcome = Err(fault);
                    }
                    held.heed(outcome)
                }
                Err(fault) => Err(fault),
            };
            let fault = match outcome {
                Ok(settled) => return Ok(settled),
                Err(fault) => fault,
            };
            self.faults.count(&fault);
            if !fault.is_passing() || instant() >= until {
                return Err(fault.told(doubt));
            }
            self.mend(&fault).await;
            doubt |= fault.is_doubtful();
            rest(&mut pause).await;
        }
    }
}
