//! Replays as people order them: recorded in the audit log first, then done.

use serde_json::{Map, Value};

use super::source_name;
use crate::clock::{now_ms, rfc3339};
use crate::config::Config;
use crate::delivery::{
    Control, ReplayFilter, ReplayMode, ReplayOrderError, ReplayProgress, Replays,
};
use crate::ledger::{
    BatchedLedger, EventId, LedgerError, LogQuery, ReplayId, ReplayOrder, ReplayPage, ReplayWhat,
    TargetId,
};
use crate::orders::OrderState;
use crate::registry::{Action, Actor, AuditSubject, Registry};

/// Ids that the audit log has of an order for named events: as many as one of its values can hold.
pub(super) const IDS_NOTED: usize = 5;

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The order is not accepted.
    #[error(transparent)]
    Refused(#[from] ReplayOrderError),
}

/// Why one event is not delivered again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayEventError {
    /// The ledger fails.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The configuration has none of its destinations, which are named.
    #[error(
        "none of this event's destinations is configured: {}; configure one under its name again, \
         and replay the event then",
        .0.join(", ")
    )]
    Unconfigured(Vec<String>),
}

/// The result of a replay of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayedEvent {
    /// Events with new deliveries: one, or none.
    pub events: u64,
    /// New deliveries.
    pub deliveries: u64,
    /// Deliveries that are skipped: the configuration does not have their destinations.
    pub skipped: u64,
}

/// Delivers one event again, to every destination that it has and that is configured. `None`: there
/// is no such event.
///
/// # Errors
/// The ledger fails, or none of its destinations is configured.
pub async fn replay_event(
    registry: &Registry,
    control: &Control,
    who: &Actor,
    id: EventId,
) -> Result<Option<ReplayedEvent>, ReplayEventError> {
    let ledger: &BatchedLedger = registry.ledger();
    let Some(known) = ledger.event(id).await? else { return Ok(None) };
    let config = registry.config();
    let targets = known.deliveries.into_iter().map(|delivery| delivery.target);
    let (targets, absent): (Vec<TargetId>, Vec<TargetId>) =
        targets.partition(|target| config.destinations.contains_key(target.as_str()));
    if targets.is_empty() && !absent.is_empty() {
        let names = absent.iter().map(TargetId::to_string).collect();
        return Err(ReplayEventError::Unconfigured(names));
    }
    let source = Value::from(source_name(&config, &known.event.source));
    let facts = Map::from_iter([(String::from("source"), source)]);
    let subject = id.to_string();
    let subject = AuditSubject::new("event", &subject);
    registry.note_with(who, Action::Replayed, subject, facts).await?;
    let order = ReplayOrder {
        id: ReplayId::new(now_ms()),
        what: ReplayWhat::Events(vec![id]),
        targets: Some(targets.clone()),
        only: None,
    };
    let ReplayPage { events, deliveries, .. } = ledger.replay(&order, None, 1).await?;
    // A manual replay is a probe.
    control.probe(Some(targets));
    let skipped = absent.len() as u64;
    tracing::info!(event = %id, who = who.as_str(), deliveries, skipped, "to be delivered again");
    Ok(Some(ReplayedEvent { events, deliveries, skipped }))
}

/// Facts about an order for the audit log: its filter.
fn facts(config: &Config, filter: &ReplayFilter) -> Map<String, Value> {
    let ReplayFilter { events, log, state, target, mode: _ } = filter;
    let LogQuery { source, among, transaction, user, since_ms, until_ms, .. } = log;
    let listed = |all: Vec<String>| (!all.is_empty()).then(|| Value::from(all));
    let among = among.iter().flat_map(|all| all.iter());
    let all = [
        ("state", state.map(|state| Value::from(state.as_str()))),
        ("destination", target.as_ref().map(|target| Value::from(target.as_str()))),
        ("source", source.as_ref().map(|id| Value::from(source_name(config, id)))),
        ("transaction", transaction.as_deref().map(Value::from)),
        ("user", user.as_deref().map(Value::from)),
        ("since", since_ms.map(|ms| Value::from(rfc3339(ms)))),
        ("until", until_ms.map(|ms| Value::from(rfc3339(ms)))),
        ("events", (!events.is_empty()).then(|| Value::from(events.len()))),
        ("ids", listed(events.iter().take(IDS_NOTED).map(EventId::to_string).collect())),
        // The sources that the token of the actor is bound to.
        ("among", listed(among.map(|id| source_name(config, id).to_owned()).collect())),
    ];
    let mut facts: Map<String, Value> =
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if facts.is_empty() {
        facts.insert(String::from("all"), Value::Bool(true));
    }
    facts
}

/// Begins to deliver all events again that `filter` finds, as the order `id`. A dry run changes
/// nothing, so the audit log has no entry of it.
///
/// # Errors
/// The order is not accepted, or the ledger fails.
pub async fn replay_all(
    registry: &Registry,
    replays: &Replays,
    who: &Actor,
    id: ReplayId,
    filter: ReplayFilter,
) -> Result<(), ReplayError> {
    // An order that is refused is not in the audit log.
    replays.check(id, &filter).await??;
    let mode = filter.mode;
    if mode == ReplayMode::Deliver {
        let facts = facts(&registry.config(), &filter);
        let id = id.to_string();
        let subject = AuditSubject::new("replay", &id);
        registry.note_with(who, Action::Replayed, subject, facts).await?;
    }
    replays.begin(id, filter, now_ms())?;
    match mode {
        ReplayMode::Deliver => {
            tracing::info!(replay = %id, who = who.as_str(), "a replay was ordered");
        }
        ReplayMode::DryRun => {
            tracing::info!(replay = %id, who = who.as_str(), "a dry run of a replay was ordered");
        }
    }
    Ok(())
}

/// Cancels the order `id`; it ends with its present page. `None`: there is none of that id.
///
/// # Errors
/// The ledger cannot write it down; the order is cancelled all the same.
pub async fn cancel_replay(
    registry: &Registry,
    replays: &Replays,
    who: &Actor,
    id: ReplayId,
) -> Result<Option<ReplayProgress>, LedgerError> {
    let Some(progress) = replays.cancel(id).await else { return Ok(None) };
    // An order that ended before is not cancelled, and a dry run changes nothing.
    let is_cancelled = matches!(progress.state, OrderState::Running | OrderState::Cancelled);
    if is_cancelled && progress.mode == ReplayMode::Deliver {
        tracing::info!(replay = %id, who = who.as_str(), "a replay was cancelled");
        let id = id.to_string();
        registry.note(who, Action::Cancelled, AuditSubject::new("replay", &id)).await?;
    }
    Ok(Some(progress))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::config::{Machine, load_str};
    use crate::ledger::{DeliveryState, SourceId};

    fn noted(filter: &ReplayFilter) -> Value {
        let loaded = load_str(&Machine, std::path::Path::new("postern.toml"), "").unwrap();
        Value::Object(facts(&loaded.config, filter))
    }

    #[test]
    fn the_audit_log_has_the_filter_of_an_order() {
        let log = LogQuery {
            source: Some(SourceId::from("gone")),
            user: Some(String::from("u1")),
            since_ms: Some(0),
            among: Some(Arc::from([SourceId::from("gone")])),
            ..LogQuery::default()
        };
        let (state, target) = (Some(DeliveryState::Dead), Some(TargetId::from("game")));
        let filter = ReplayFilter { log, state, target, ..ReplayFilter::default() };
        let told = json!({
            "state": "dead", "destination": "game", "source": "gone", "user": "u1",
            "since": rfc3339(0), "among": ["gone"],
        });
        assert_eq!(noted(&filter), told);
        let events: Vec<EventId> = (1..=7).map(EventId::new).collect();
        let named = noted(&ReplayFilter { events, ..ReplayFilter::default() });
        assert_eq!((&named["events"], named["ids"].as_array().unwrap().len()), (&json!(7), 5));
        assert_eq!(noted(&ReplayFilter::default()), json!({ "all": true }));
    }
}
