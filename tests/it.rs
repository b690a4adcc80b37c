//! The gateway over real sockets. One binary, one module a subject.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod it {
    mod admin;
    mod answers;
    mod backend;
    mod bounds;
    mod crowd;
    mod deliver;
    mod deliver_tls;
    mod destinations;
    mod drain;
    mod gateway;
    mod http2;
    mod inherited;
    mod inline;
    mod keys;
    mod kill;
    mod kill_deliver;
    mod logs;
    mod metrics;
    mod proxies;
    mod race;
    mod replay;
    mod senders;
    mod silence;
    mod standard_webhooks;
    mod store;
    mod superseded;
    mod targets;
    mod tls;
    mod wire;
}
