//! The tables, and their migrations from one version to the next.

use std::time::Duration;

use super::link::Session;
use super::query_error::QueryError;
use super::{Core, PostgresError};

/// A step from one version of the tables to the next.
struct Step {
    version: i64,
    name: &'static str,
    sql: &'static str,
    /// Run in addition where tables of an older version existed.
    upgrade: &'static str,
    index: Option<Index>,
    /// The oldest version of a gateway that works with the tables after this step: gateways are
    /// upgraded one by one.
    oldest: i64,
}

/// An index that a step creates at its end. On existing tables it is created concurrently with running
/// gateways.
struct Index {
    name: &'static str,
    on: &'static str,
    /// The index that is dropped afterwards.
    instead_of: Option<&'static str>,
}

/// Records that keys of an older form may exist.
pub(super) const OLDER_KEYS: &str =
    "insert into meta (k, v) values ('older_keys', 1) on conflict (k) do nothing";

const STEPS: [Step; 9] = [
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
        name: "pieces that may be sealed, shorter keys (the table of keys is rewritten)",
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
        // Gateways of version 3 sweep by `dedupe_seen`: a later version drops it.
        index: Some(Index {
            name: "dedupe_expiry",
            on: "on dedupe (source, seen_ms)",
            instead_of: None,
        }),
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
    Step {
        version: 6,
        name: "what each gateway counted",
        sql: include_str!("migrations/0006_gateways.sql"),
        upgrade: "",
        index: None,
        oldest: 3,
    },
    Step {
        version: 7,
        name: "callbacks that are stored once, when the upgrade is finished",
        // Nothing changes before [`finish`].
        sql: "",
        upgrade: "",
        index: None,
        oldest: 3,
    },
    Step {
        version: 8,
        name: "sums of what is held",
        sql: include_str!("migrations/0007_held_sums.sql"),
        upgrade: "",
        index: None,
        oldest: 3,
    },
    Step {
        version: 9,
        name: "another index of deliveries (waits for open transactions, such as a dump)",
        sql: "",
        // Step 8 took this back from upgrades that were finished.
        upgrade: "update meta set v = greatest(v, 7) where k = 'oldest'
            and exists (select 1 from meta where k = 'bodies')",
        // With the event's id in it, a server that takes the queue for empty looked deliveries up by
        // event in this index, and walked over all dead entries. An index that is larger than the one
        // by event is not used by such a server either, so nothing takes the id's place: those that are
        // due at the same time come in the order of their rows.
        index: Some(Index {
            name: "delivery_queue",
            on: "on delivery (target, due_ms)",
            instead_of: Some("delivery_due"),
        }),
        oldest: 3,
    },
];

/// The version of the tables for this gateway.
pub(super) const VERSION: i64 = STEPS[STEPS.len() - 1].version;

/// Serializes migrations. The only lock that is not a row's.
const LOCK: i64 = 0x0070_6f73_7465_726e;
/// The interval of tries to take it.
const LOCK_AGAIN: Duration = Duration::from_millis(50);
/// How long a step waits for a table: gateways queue behind it.
const STEP_PATIENCE: &str = "set local lock_timeout = '1s'";
/// The pause before a step is retried.
const STEP_AGAIN: Duration = Duration::from_secs(3);

/// Upgrades the tables to this gateway's version; reports each step.
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
        if let (Some(index), 1..) = (&step.index, found.tables) {
            index.beside_gateways(session).await?;
        }
        let mut waits = false;
        while let Err(fault) = step.take(session, found.tables).await {
            if !matches!(fault, QueryError::Again(_)) {
                return Err(fault.into());
            }
            session.batch("rollback").await?;
            if !waits {
                say("waiting for the end of a transaction on these tables, such as a dump".into());
            }
            waits = true;
            tokio::time::sleep(STEP_AGAIN).await;
        }
    }
    if found.tables == 0 {
        // No gateway of an earlier version has worked with them.
        write_derived(session).await?;
    }
    say(format!("the tables are at version {VERSION}"));
    session.rows("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(())
}

/// Ends an upgrade: from now on bodies of version 2 are written, which gateways before version
/// [`FINISHED`] of the tables do not read. They are refused from now on.
pub(super) async fn finish(
    session: &Session,
    say: &mut (dyn FnMut(String) + Send),
) -> Result<(), PostgresError> {
    let older = older_gateways(session).await?;
    if older > 0 {
        return Err(PostgresError::OlderGateways { count: older });
    }
    write_derived(session).await?;
    say("the upgrade is finished: callbacks are stored once, and older gateways are refused".into());
    Ok(())
}

/// The oldest version of a gateway that reads bodies of version 2.
const FINISHED: i64 = 7;

async fn write_derived(session: &Session) -> Result<(), QueryError> {
    // Together: a gateway that finds the second has been refused by the first, if it is older.
    let sql = "insert into meta (k, v) values ('oldest', $1), ($2, 2)
        on conflict (k) do update set v = greatest(meta.v, excluded.v)";
    session.run(sql, &[&FINISHED, &super::row_cipher::BODIES]).await.map(drop)
}

/// The number of gateways at work that are known to be older.
async fn older_gateways(session: &Session) -> Result<i64, QueryError> {
    let sql = "select count(*) from gateway where node not like '%' || $1
        and until_ms > floor(extract(epoch from now()) * 1000)::bigint";
    Ok(session.row(sql, &[&super::gateway::MARK]).await?.get(0))
}

/// Takes the lock of migrations. A waiting session holds no snapshot: a concurrent index creation
/// waits for all older ones.
async fn lock(session: &Session) -> Result<(), QueryError> {
    while !session.row("select pg_try_advisory_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        tokio::time::sleep(LOCK_AGAIN).await;
    }
    Ok(())
}

impl Step {
    /// Takes the step in one transaction, which an error leaves open; `tables` is the version that was
    /// found, 0 for none.
    async fn take(&self, session: &Session, tables: i64) -> Result<(), QueryError> {
        session.batch("begin").await?;
        session.batch(STEP_PATIENCE).await?;
        session.batch(self.sql).await?;
        if let (Some(Index { name, on, instead_of }), 0) = (&self.index, tables) {
            session.batch(&format!("create index {name} {on}")).await?;
            if let Some(old) = instead_of {
                session.batch(&format!("drop index {old}")).await?;
            }
        }
        if tables > 0 {
            session.batch(self.upgrade).await?;
        }
        // An upgrade that was finished refuses more than this step does.
        let sql = "insert into meta (k, v) values ('version', $1), ('oldest', $2)
            on conflict (k) do update set v = greatest(meta.v, excluded.v)";
        session.run(sql, &[&self.version, &self.oldest]).await?;
        session.batch("commit").await
    }
}

impl Index {
    /// Creates it while gateways run, and drops the other one. An unfinished one is created again.
    async fn beside_gateways(&self, session: &Session) -> Result<(), QueryError> {
        let Self { name, on, instead_of } = self;
        let sql = "select indisvalid from pg_index where indexrelid = to_regclass($1)::oid";
        let valid = session.rows(sql, &[name]).await?.first().map(|row| row.get::<_, bool>(0));
        if valid == Some(false) {
            session.batch(&format!("drop index concurrently {name}")).await?;
        }
        if valid != Some(true) {
            session.batch(&format!("create index concurrently {name} {on}")).await?;
        }
        if let Some(old) = instead_of {
            session.batch(&format!("drop index concurrently if exists {old}")).await?;
        }
        Ok(())
    }
}

/// The version of existing tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    tables: i64,
    oldest: i64,
}

impl Version {
    /// Checks whether this gateway can work with them.
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

/// The version of the tables; `None`: no tables.
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

impl Core {
    /// Creates the partitions of the coming days; failures are retried later.
    pub(super) async fn prepare_days(&self) {
        let until = crate::clock::instant() + super::CHANGE_PATIENCE;
        let made = match self.durable.session(until).await {
            Ok(mut session) => self.days_ahead(&mut session).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = made {
            tracing::warn!(?fault, "the partitions of the coming days could not be made");
        }
    }
}
