//! Retries of accepting and settling.

use std::time::Instant;

use super::operations::rest;
use super::query_error::{Applied, Cause, QueryError};
use super::{ACCEPT_PATIENCE, AGAIN, CHANGE_PATIENCE, Core};
use crate::clock::instant;
use crate::ledger::{Accepted, FaultCode, LedgerError, NewEvent, NodeId, Settled, Settlement};

impl Core {
    pub(super) async fn accept(&self, batch: &[NewEvent]) -> Result<Vec<Accepted>, LedgerError> {
        let commit = self.server_watch.commit();
        let until = instant() + ACCEPT_PATIENCE;
        let (mut applied, mut pause) = (Applied::No, AGAIN);
        loop {
            let fault = match self.accept_once(batch, until, &mut applied).await {
                Ok(accepted) => {
                    commit.ended();
                    return Ok(accepted);
                }
                Err(fault) => fault,
            };
            self.faults.count(&fault);
            commit.failed(&fault);
            self.mend(&fault).await;
            applied.add(&fault);
            if !fault.is_passing() || instant() >= until {
                return Err(fault.into_ledger_error(applied));
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
        applied: &mut Applied,
    ) -> Result<Vec<Accepted>, QueryError> {
        // A missing standby returns, in a failover within the senders' timeout.
        if let Some(why) = self.server_watch.barred() {
            return Err(QueryError::NotDurable(Cause::new(FaultCode::NotDurable, why)));
        }
        if let Some(why) = self.row_cipher.lacking() {
            return Err(QueryError::Refused(Cause::new(FaultCode::Other, why)));
        }
        let mut session = self.accept.session(until).await?;
        let superseded = session.superseded();
        let judging = async {
            self.days_for(&mut session, batch.iter().map(|event| event.id)).await?;
            self.keep_late(&session, batch).await?;
            self.judge(&session, batch, applied).await
        };
        let judged = tokio::select! {
            judged = judging => judged,
            () = superseded => Err(QueryError::lost("the server is an old primary")),
        };
        session.heed(judged)
    }

    pub(super) async fn settle(
        &self,
        who: &NodeId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, LedgerError> {
        let until = instant() + CHANGE_PATIENCE;
        let (pool, waits) = match settlements.iter().all(|one| one.result.may_be_lost()) {
            true => (&self.lazy, None),
            false => (&self.durable, Some(self.server_watch.required())),
        };
        let (mut applied, mut pause) = (Applied::No, AGAIN);
        loop {
            let outcome = match pool.session(until).await {
                Ok(mut session) => {
                    let mut outcome = self.settle_on(&mut session, who, settlements, waits).await;
                    if let (Applied::Maybe, Ok(settled)) = (applied, &mut outcome)
                        && let Err(fault) = self.found_settled(&session, settlements, settled).await
                    {
                        outcome = Err(fault);
                    }
                    session.heed(outcome)
                }
                Err(fault) => Err(fault),
            };
            let fault = match outcome {
                Ok(settled) => return Ok(settled),
                Err(fault) => fault,
            };
            self.faults.count(&fault);
            if !fault.is_passing() || instant() >= until {
                return Err(fault.into_ledger_error(applied));
            }
            self.mend(&fault).await;
            applied.add(&fault);
            rest(&mut pause).await;
        }
    }
}
