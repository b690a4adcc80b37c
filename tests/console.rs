//! The console in a real Chromium, against the real gateway. One binary, one module a page.
//!
//! Where Chromium or its driver is missing every test says `SKIPPED` and passes; where CI is set,
//! it fails. With `POSTERN_SCREENSHOTS=FOLDER` the tests leave their pictures there.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod console {
    mod axe;
    mod browser;
    mod driver;
    mod recorded;
    mod stage;

    #[expect(dead_code, reason = "shared with the other integration tests")]
    #[path = "../it/backend.rs"]
    mod backend;
    #[expect(dead_code, reason = "shared with the other integration tests")]
    #[path = "../it/gateway.rs"]
    mod gateway;
    #[expect(dead_code, reason = "shared with the other integration tests")]
    #[path = "../it/wire.rs"]
    mod wire;

    mod addresses;
    mod around;
    mod audit;
    mod callbacks;
    mod dead_letters;
    mod debug;
    mod destinations;
    mod event;
    mod held;
    mod jobs;
    mod languages;
    mod oidc;
    mod operator_jobs;
    mod overview;
    mod preview;
    mod resolved;
    mod rules;
    mod senders;
    mod sign_in;
    mod sources;
    mod why;
}
