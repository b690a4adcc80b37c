//! The PostgreSQL engine, on private clusters that the tests start themselves.
//!
//! Where the server's programs are missing every test says `SKIPPED` and passes; where CI is set,
//! it fails.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod postgres {
    mod archive;
    mod cluster;
    mod engine;
    mod failover;
    mod faults;
    mod gateways;
    mod growth;
    mod lost;
    mod pooler;
    mod process;
    mod proxy;
    mod races;
    mod release;
    mod sealing;
    mod snapshots;
    mod transfer;
}
