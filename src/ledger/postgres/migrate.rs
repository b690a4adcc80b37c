//! The tables, and what changes them from one version to the next.

use std::time::Duration;

use super::link::Session;
use super::query_error::QueryError;
use super::{Core, PostgresError};

/// A step from one version of the tables to the next.
struct Step {
    version: i64,
    name: &'static str,
    sql: &'static str,
    /// What is run beside it where tables of an older version were there before.
    upgrade: &'static str,
    /// An index of `dedupe` that is made at the end, by name. Where tables of an older version were
    /// there before, gateways go on meanwhile.
    index: Option<(&'static str, &'static str)>,
    /// The oldest gateway, by the version that it was made for, that works with the tables after
    /// this step: while gateways are upgraded one by one, older ones go on.
    oldest: i64,
}

/// Keys of an older form may be there.
pub(super) const OLDER_KEYS: &str =
    "insert into meta (k, v) values ('older_keys', 1) on conflict (k) do nothing";

const STEPS: [Step; 5] = [
    Step {
        version: 1,
        name: "the ledger's tables",
        sql: include_str!("migrations/0001_ledger.sql"),
        upgrade: "",
        index: None,
        oldest: 1,
    },
    Step {
        version: 2,
        name: "pieces that may be sealed, shorter keys (the table of keys is written anew)",
        sql: include_str!("migrations/0002_sealing.sql"),
        upgrade: "",
        index: None,
        oldest: 2,
    },
    Step {
        version: 3,
        name: "callbacks that wait for a decision; keys of another form",
        sql: include_str!("migrations/0003_keys.sql"),
        upgrade: OLDER_KEYS,
        index: None,
        oldest: 2,
    },
    Step {
        version: 4,
        name: "how far queues and sweeps are, counts (an index is added to the keys)",
        sql: include_str!("migrations/0004_growth.sql"),
        upgrade: "",
        // Gateways of version 3 sweep by `dedupe_seen`: it goes with a later version.
        index: Some(("dedupe_expiry", "on dedupe (source, seen_ms)")),
        oldest: 3,
    },
    Step {
        version: 5,
        name: "rejected callbacks",
        sql: include_str!("migrations/0005_rejections.sql"),
        upgrade: "",
        index: None,
        oldest: 3,
    },
];

/// The version of the tables that this gateway is made for.
pub(super) const VERSION: i64 = STEPS[STEPS.len() - 1].version;

/// Two who migrate at once go one after the other. The one lock that is not a row's.
const LOCK: i64 = 0x0070_6f73_7465_726e;
/// From one try to take it to the next.
const LOCK_AGAIN: Duration = Duration::from_millis(50);

/// Brings the tables to this gateway's version, and says what it does.
pub(super) async fn migrate(
    session: &Session,
    schema: &str,
    say: &mut (dyn FnMut(String) + Send),
) -> Result<(), PostgresError> {
    lock(session).await?;
    session
        .batch(&format!(
            "create schema if not exists \"{schema}\";
             create table if not exists \"{schema}\".meta (k text primary key, v bigint not null)"
        ))
        .await?;
    let found = version(session).await?.unwrap_or(Version { tables: 0, oldest: 0 });
    if found.tables > VERSION {
        found.check()?;
        say(format!("the tables are at version {}, newer than this gateway's", found.tables));
        return Ok(());
    }
    for step in STEPS.iter().filter(|step| step.version > found.tables) {
        say(format!("version {}: {} …", step.version, step.name));
        if let (Some(index), 1..) = (step.index, found.tables) {
            beside_gateways(session, index).await?;
        }
        session.batch("begin").await?;
        session.batch(step.sql).await?;
        if let (Some((name, on)), 0) = (step.index, found.tables) {
            session.batch(&format!("create index {name} {on}")).await?;
        }
        if found.tables > 0 {
            session.batch(step.upgrade).await?;
        }
        let sql = "insert into meta (k, v) values ('version', $1), ('oldest', $2)
            on conflict (k) do update set v = excluded.v";
        session.run(sql, &[&step.version, &step.oldest]).await?;
        session.batch("commit").await?;
    }
    say(format!("the tables are at version {VERSION}"));
    session.rows("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(())
}

/// Takes the lock of migrations. Who waits for it has no snapshot meanwhile: an index that is made
/// beside gateways waits for the end of all older ones.
async fn lock(session: &Session) -> Result<(), QueryError> {
    while !session.row("select pg_try_advisory_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        tokio::time::sleep(LOCK_AGAIN).await;
    }
    Ok(())
}

/// Makes an index while gateways go on. One that was begun and not finished is made again.
async fn beside_gateways(session: &Session, (name, on): (&str, &str)) -> Result<(), QueryError> {
    let sql = "select indisvalid from pg_index where indexrelid = to_regclass($1)::oid";
    match session.rows(sql, &[&name]).await?.first().map(|row| row.get::<_, bool>(0)) {
        Some(true) => return Ok(()),
        Some(false) => session.batch(&format!("drop index concurrently {name}")).await?,
        None => {}
    }
    session.batch(&format!("create index concurrently {name} {on}")).await
}

/// What the tables say they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    tables: i64,
    oldest: i64,
}

impl Version {
    /// Whether this gateway can work with them.
    pub(super) fn check(self) -> Result<(), PostgresError> {
        if self.tables < VERSION {
            return Err(PostgresError::Older { found: self.tables, wanted: VERSION });
        }
        if self.oldest > VERSION {
            return Err(PostgresError::Newer { found: self.tables, wanted: VERSION });
        }
        Ok(())
    }
}

/// The version of the tables; `None`: there are none.
pub(super) async fn version(session: &Session) -> Result<Option<Version>, QueryError> {
    let there = session.row("select to_regclass('meta') is not null", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(None);
    }
    let sql = "select (select v from meta where k = 'version'),
        (select v from meta where k = 'oldest')";
    let row = session.row(sql, &[]).await?;
    let (tables, oldest): (Option<i64>, Option<i64>) = (row.get(0), row.get(1));
    Ok(tables.map(|tables| Version { tables, oldest: oldest.unwrap_or(tables) }))
}

/// Whether keys of an older form may be there.
pub(super) async fn may_hold_older_keys(session: &Session) -> Result<bool, QueryError> {
    let sql = "select exists (select 1 from meta where k = 'older_keys')";
    Ok(session.row(sql, &[]).await?.get(0))
}

impl Core {
    /// Makes the partitions of the coming days; what fails is tried again later.
    pub(super) async fn prepare_days(&self) {
        let until = crate::clock::instant() + super::CHANGE_PATIENCE;
        let made = match self.durable.session(until).await {
            Ok(mut held) => self.days_ahead(&mut held).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = made {
            tracing::warn!(?fault, "the partitions of the coming days could not be made");
        }
    }
}
