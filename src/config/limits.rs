//! Every default and every bound of the configuration: its name, its unit and its reason.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ledger::ScrubShare;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- files ----

/// Bytes of one file that a configuration reads. A thousand sources with everything set are under
/// one MiB; a device or a log given by mistake is not read into memory.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

// ---- [server] ----

/// Where senders call: every address, the port of the documentation.
pub const CALLBACKS: &str = "0.0.0.0:8080";
/// Where operators call: this machine only, so that no token is needed to begin with.
pub const ADMIN: &str = "127.0.0.1:9090";
/// How long a stop may take. The longest reply that a sender waits for is five seconds (WeChat);
/// orchestrators kill after thirty.
pub const DRAIN: Duration = Duration::from_secs(15);
/// Allowed drain times.
pub const DRAIN_BOUND: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// How long callbacks are accepted after readiness has said no. Two looks of a balancer that looks
/// each five seconds; with the drain it stays below the thirty seconds of an orchestrator.
pub const LAME_DUCK: Duration = Duration::from_secs(10);
/// Allowed values: the slowest load balancers check once a minute and need to see it three times.
pub const LAME_DUCK_BOUND: RangeInclusive<Duration> = Duration::ZERO..=HOUR;

/// Bytes of the path on which the callback listener says whether it is ready.
pub const HEALTH_PATH_BYTES_MAX: usize = 128;

// ---- [server.limits] ----

/// Open connections of the callback listener. At about 20 KiB each that is 200 MiB.
pub const CONNECTIONS: usize = 10_000;
/// Allowed numbers of connections; above them the file descriptors of one process run out.
pub const CONNECTIONS_BOUND: RangeInclusive<usize> = 1..=1_000_000;
/// Bytes of one body. The largest of the known senders (a questionnaire with its answers) is a
/// quarter of it.
pub const BODY_BYTES: usize = 256 * KIB;
/// Allowed body sizes; above them a callback is an upload.
pub const BODY_BYTES_BOUND: RangeInclusive<usize> = 1..=64 * MIB;
/// Bytes of all bodies being read before verification, together: 256 of the largest at once.
pub const UNVERIFIED_BODY_BYTES: usize = 64 * MIB;
/// Allowed bytes of all bodies being read, together.
pub const UNVERIFIED_BODY_BYTES_BOUND: RangeInclusive<usize> = 4 * KIB..=4096 * MIB;
/// Bytes of a request's head. A target of 32 KiB (Taku with `ilrd`) and its headers fit. So does
/// the longest target that the `http` crate accepts (65,534 bytes).
pub const HEAD_BYTES: usize = 64 * KIB;
/// Allowed head sizes: hyper needs 8 KiB, and more than 1 MiB is not a callback.
pub const HEAD_BYTES_BOUND: RangeInclusive<usize> = 8 * KIB..=MIB;
/// Time for a head to arrive. Senders wait 1 to 5 s for the whole reply, so a client that needs
/// longer is a slow attacker.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a body to arrive; as for the head.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Allowed values of either time.
pub const ARRIVAL_BOUND: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;
/// Concurrent held requests. Each costs a connection, and a tenth of the connections is left for
/// them.
pub const HELD: usize = 1_000;
/// Allowed numbers of held requests. Zero: they are closed at once.
pub const HELD_BOUND: RangeInclusive<usize> = 0..=1_000_000;

// ---- [admin] ----

/// Open connections of the admin listener: operators, scrapers and probes.
pub const ADMIN_CONNECTIONS: usize = 256;

/// Bytes under which a token that is open to a network gets a warning: 16 random bytes cannot be
/// guessed.
pub const TOKEN_BYTES_GOOD: usize = 16;

// ---- [store] ----

/// The folder of the embedded ledger.
pub const STORE_PATH: &str = "postern-data";
/// The schema of the ledger's tables in PostgreSQL.
pub const STORE_SCHEMA: &str = "postern";
/// Bytes of its name: PostgreSQL cuts names at 63, and the name of a channel adds ten.
pub const STORE_SCHEMA_BYTES_MAX: usize = 48;
/// Connections that record callbacks. Each has one commit in flight. At a latency of 1 ms, two
/// connections are bounded by it and four are not.
pub const STORE_WRITERS: usize = 4;
/// Connections that serve reads of people and scrapers.
pub const STORE_READERS: usize = 2;
/// Allowed values of either. A server has 100 connections for all gateways unless configured
/// otherwise.
pub const STORE_CONNECTIONS_BOUND: RangeInclusive<usize> = 1..=64;
/// How long the server may work on one question: longer than any that an index serves.
pub const STORE_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Allowed read timeouts.
pub const STORE_READ_TIMEOUT_BOUND: RangeInclusive<Duration> = SECOND..=HOUR;
/// How much of the time the store is read for damage: 100 GB at 200 MB/s are read in three hours.
pub const SCRUB: ScrubShare = ScrubShare::USUAL;
/// How long events are kept: a month's disputes.
pub const KEEP_EVENTS: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long transactions are remembered: three times as long as any sender is known to retry or
/// an operator to replay.
pub const KEEP_TRANSACTIONS: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Allowed values of either: a century is for ever.
pub const KEEP_BOUND: RangeInclusive<Duration> =
    SECOND..=Duration::from_secs(100 * 365 * 24 * 60 * 60);

// ---- [[source]] ----

/// Bytes of a source's or destination's name: it is a metric label and a part of every URL.
pub const NAME_BYTES_MAX: usize = 128;
/// Allowed ages.
pub const MAX_AGE_BOUND: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3650 * 86_400);

// ---- [[destination]] ----

/// The first gap between two attempts: long enough for a restart in progress.
pub const RETRY_FIRST: Duration = SECOND;
/// The longest gap: within an hour of a backend's return everything is delivered.
pub const RETRY_MAX: Duration = HOUR;
/// Attempts in all. The gaps double from 1 s to 2,048 s (12 of them, 4,095 s) and are an hour from
/// then on (71 of them), which makes three days: a weekend's outage loses nothing.
pub const RETRY_ATTEMPTS: u32 = 84;
/// Allowed gaps.
pub const RETRY_GAP_BOUND: RangeInclusive<Duration> = Duration::from_millis(10)..=DAY;
/// Allowed numbers of attempts.
pub const RETRY_ATTEMPTS_BOUND: RangeInclusive<usize> = 1..=10_000;
/// Time for one attempt. The documented advice of Standard Webhooks is 15 to 30 s.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Allowed timeouts: an attempt occupies a place of its destination all that time.
pub const DELIVERY_TIMEOUT_BOUND: RangeInclusive<Duration> = Duration::from_millis(10)..=MINUTE;
/// Concurrent attempts. At 50 ms a response, that is 320 a second.
pub const DELIVERY_CONCURRENCY: usize = 16;
/// Allowed concurrency limits.
pub const DELIVERY_CONCURRENCY_BOUND: RangeInclusive<usize> = 1..=10_000;
/// Bytes under which a delivery secret gets a warning: Standard Webhooks asks for 24 to 64.
pub const DELIVERY_SECRET_BYTES_GOOD: usize = 24;

// ---- [[alert]] ----

/// The interval of reminders: twice in a working day, and once in a night's sleep.
pub const ALERT_REMIND: Duration = Duration::from_secs(4 * 60 * 60);
/// Allowed intervals of reminders.
pub const ALERT_REMIND_BOUND: RangeInclusive<Duration> =
    SECOND..=Duration::from_secs(30 * 24 * 60 * 60);

const _: () = assert!(BODY_BYTES <= UNVERIFIED_BODY_BYTES, "one body fits into all bodies");
const _: () = assert!(HELD <= CONNECTIONS, "each held request is a connection");

/// The share of traces that is exported: each shows the whole way of an event, and a hundred are
/// enough to see where time goes.
pub const TRACE_SAMPLE: f64 = 0.01;
/// Certificates in the `client_ca` of a source: a sender's authorities while they change, and few
/// enough that a call which none of them accepts costs little.
pub const CLIENT_CA_CERTIFICATES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_schedule_lasts_three_days() {
        let gaps = (0..RETRY_ATTEMPTS - 1).map(|n| {
            RETRY_FIRST
                .checked_mul(2_u32.saturating_pow(n))
                .map_or(RETRY_MAX, |gap| gap.min(RETRY_MAX))
        });
        let total: Duration = gaps.sum();
        assert!(total >= DAY * 3 && total < DAY * 3 + HOUR, "{total:?}");
    }

    #[test]
    fn every_default_is_within_its_bound() {
        assert!(DRAIN_BOUND.contains(&DRAIN));
        assert!(CONNECTIONS_BOUND.contains(&CONNECTIONS));
        assert!(BODY_BYTES_BOUND.contains(&BODY_BYTES));
        assert!(UNVERIFIED_BODY_BYTES_BOUND.contains(&UNVERIFIED_BODY_BYTES));
        assert!(HEAD_BYTES_BOUND.contains(&HEAD_BYTES));
        assert!(ARRIVAL_BOUND.contains(&HEAD_TIMEOUT) && ARRIVAL_BOUND.contains(&BODY_TIMEOUT));
        assert!(HELD_BOUND.contains(&HELD));
        assert!(KEEP_BOUND.contains(&KEEP_EVENTS) && KEEP_BOUND.contains(&KEEP_TRANSACTIONS));
        assert!(KEEP_TRANSACTIONS >= KEEP_EVENTS);
        assert!(STORE_CONNECTIONS_BOUND.contains(&STORE_WRITERS));
        assert!(STORE_CONNECTIONS_BOUND.contains(&STORE_READERS));
        assert!(STORE_READ_TIMEOUT_BOUND.contains(&STORE_READ_TIMEOUT));
        assert!(STORE_SCHEMA.len() <= STORE_SCHEMA_BYTES_MAX);
        assert!(RETRY_GAP_BOUND.contains(&RETRY_FIRST) && RETRY_GAP_BOUND.contains(&RETRY_MAX));
        assert!(DELIVERY_TIMEOUT_BOUND.contains(&DELIVERY_TIMEOUT));
        assert!(DELIVERY_CONCURRENCY_BOUND.contains(&DELIVERY_CONCURRENCY));
    }
}
