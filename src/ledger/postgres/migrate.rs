//! The tables, and what changes them from one version to the next.

use super::fault::Fault;
use super::link::Session;
use super::{Core, PostgresError};

/// A step from one version of the tables to the next.
struct Step {
    version: i64,
    name: &'static str,
    sql: &'static str,
    /// What is run beside it where tables of an older version were there before.
    upgrade: &'static str,
    /// The oldest gateway, by the version that it was made for, that works with the tables after
    /// this step: while gateways are upgraded one by one, older ones go on.
    oldest: i64,
}

/// Keys of an older form may be there.
pub(super) const OLDER_KEYS: &str =
    "insert into meta (k, v) values ('older_keys', 1) on conflict (k) do nothing";

const STEPS: [Step; 4] = [
    Step {
        version: 1,
        name: "the ledger's tables",
        sql: include_str!("migrations/0001_ledger.sql"),
        upgrade: "",
        oldest: 1,
    },
    Step {
        version: 2,
        name: "pieces that may be sealed, shorter keys (the table of keys is written anew)",
        sql: include_str!("migrations/0002_sealing.sql"),
        upgrade: "",
        oldest: 2,
    },
    Step {
        version: 3,
        name: "callbacks that wait for a decision; keys of another form",
        sql: include_str!("migrations/0003_keys.sql"),
        upgrade: OLDER_KEYS,
        oldest: 2,
    },
    Step {
        version: 4,
        name: "rejected callbacks",
        sql: include_str!("migrations/0004_rejections.sql"),
        upgrade: "",
        oldest: 2,
    },
];

/// The version of the tables that this gateway is made for.
pub(super) const VERSION: i64 = STEPS[STEPS.len() - 1].version;

/// Two who migrate at once go one after the other. The one lock that is not a row's.
const LOCK: i64 = 0x0070_6f73_7465_726e;

/// Brings the tables to this gateway's version, and says what it does.
pub(super) async fn migrate(
    session: &Session,
    schema: &str,
    say: &mut (dyn FnMut(String) + Send),
) -> Result<(), PostgresError> {
    session.rows("select pg_advisory_lock($1)", &[&LOCK]).await?;
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
        session.batch("begin").await?;
        session.batch(step.sql).await?;
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
pub(super) async fn version(session: &Session) -> Result<Option<Version>, Fault> {
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
pub(super) async fn may_hold_older_keys(session: &Session) -> Result<bool, Fault> {
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
