//! The records of the gateways that share the tables. Times are those of the server's clock.

use bytes::Bytes;

use super::Core;
use super::link::Session;
use super::query_error::QueryError;
use super::sql::NOW;
use crate::clock::millis;
use crate::ledger::seal::{KeyId, Keyring};
use crate::ledger::{GatewayRecord, GatewayReport, GatewaySlot, LedgerError, NodeId};

/// Tries to take a slot while others take theirs.
const TRIES: usize = 16;

/// The end of the names of gateways that read bodies of version 2.
pub(super) const MARK: &str = "/7";

/// Between the name of a gateway and the ids of its master keys.
const KEYS: &str = " keys:";

/// The name in the table, with the master keys that the gateway has.
fn name(who: &NodeId, keys: &Keyring) -> String {
    let ids: Vec<String> = keys.ids().map(|id| id.to_string()).collect();
    format!("{who}{KEYS}{}{MARK}", ids.join(","))
}

/// Whether the gateway of this name lacks a master key. One of an earlier version does not tell.
fn lacks(name: &str, key: KeyId) -> bool {
    let keys = name.strip_suffix(MARK).and_then(|name| name.rsplit_once(KEYS));
    keys.is_some_and(|(_, keys)| !keys.split(',').any(|id| id == key.to_string()))
}

/// The number of live gateways that lack a master key.
pub(super) async fn gateways_without(session: &Session, key: KeyId) -> Result<usize, QueryError> {
    let sql = format!("select node from gateway where until_ms > {NOW}");
    let rows = session.rows(&sql, &[&None::<i64>]).await?;
    Ok(rows.iter().filter(|row| lacks(row.get(0), key)).count())
}

impl Core {
    /// Takes the lowest slot without a live gateway.
    pub(super) async fn join_on(
        &self,
        session: &Session,
        who: &NodeId,
        ttl: std::time::Duration,
    ) -> Result<GatewayRecord, QueryError> {
        let (clock, who, ttl) =
            (self.clock.fixed(), name(who, self.row_cipher.keys()), millis(ttl));
        let take = format!(
            "with free as (select slot from gateway where until_ms <= {NOW}
                order by slot limit 1 for update skip locked)
             update gateway g set node = $2, until_ms = {NOW} + $3 from free
                where g.slot = free.slot returning g.slot, g.body"
        );
        let add = format!(
            "insert into gateway (slot, node, until_ms, body)
             select coalesce(max(slot) + 1, 0), $2, {NOW} + $3, '' from gateway
             on conflict (slot) do nothing returning slot, body"
        );
        for _ in 0..TRIES {
            for sql in [&take, &add] {
                if let Some(row) = session.rows(sql, &[&clock, &who, &ttl]).await?.first() {
                    let body: &[u8] = row.get(1);
                    return Ok(record(row.get(0), false, body));
                }
            }
        }
        Err(LedgerError::Unavailable("the table gateway is busy".into()).into())
    }

    /// Writes a record, and returns those of the others; `None` if the slot has another gateway.
    pub(super) async fn report_on(
        &self,
        session: &Session,
        report: &GatewayReport,
    ) -> Result<Option<Vec<GatewayRecord>>, QueryError> {
        let slot = i32::try_from(report.slot.0).unwrap_or(i32::MAX);
        let who = name(&report.who, self.row_cipher.keys());
        let (clock, ttl) = (self.clock.fixed(), millis(report.ttl));
        let body: &[u8] = &report.body;
        let sql = format!(
            "update gateway set until_ms = {NOW} + $3, body = $4
             where slot = $5 and node = $2 returning slot"
        );
        let own = session.rows(&sql, &[&clock, &who, &ttl, &body, &slot]).await?;
        if own.is_empty() {
            return Ok(None);
        }
        let sql = format!(
            "select slot, until_ms > {NOW}, body from gateway where slot <> $2 order by slot"
        );
        let rows = session.rows(&sql, &[&clock, &slot]).await?;
        let others = rows.iter().map(|row| record(row.get(0), row.get(1), row.get(2)));
        Ok(Some(others.collect()))
    }
}

fn record(slot: i32, is_live: bool, body: &[u8]) -> GatewayRecord {
    let slot = GatewaySlot(u32::try_from(slot).unwrap_or(u32::MAX));
    GatewayRecord { slot, is_live, body: Bytes::copy_from_slice(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::seal::MasterKey;

    #[test]
    fn a_name_tells_which_keys_its_gateway_has() {
        let (old, new) = (MasterKey::new(&[1; 32]), MasterKey::new(&[2; 32]));
        let who = NodeId::from("gateway keys:one");
        let both = Keyring::new(Some(new.clone())).with_former(Some(old.clone()));
        let (with_both, with_one) = (name(&who, &both), name(&who, &Keyring::new(Some(old))));
        let without = name(&who, &Keyring::default());
        let lack = [with_both, with_one, without].map(|name| lacks(&name, new.id()));
        assert_eq!(lack, [false, true, true]);
        assert!(!lacks("gateway/7", new.id()), "an earlier version does not tell");
    }
}
