//! The gateway over real sockets. One binary, one module a subject.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

mod it {
    mod accounts;
    mod admin;
    mod alert_conditions;
    mod alerts;
    mod answers;
    mod architecture;
    mod archive;
    mod attacks;
    mod authentic;
    mod backend;
    mod background_check;
    mod bounds;
    mod callback_address;
    mod certificates;
    mod client_ca;
    mod commands;
    mod console;
    mod counters;
    mod crowd;
    mod deliver;
    mod deliver_tls;
    mod destinations;
    mod drain;
    mod erase;
    mod explain;
    mod forms;
    mod fuzz;
    mod gateway;
    mod genuine;
    mod held;
    mod held_command;
    mod http2;
    mod inherited;
    mod inline;
    mod keys;
    mod kill;
    mod kill_deliver;
    mod lame_duck;
    mod logs;
    mod managed;
    mod metrics;
    mod openapi;
    mod pages;
    mod proxies;
    mod push_config;
    mod race;
    mod rejections;
    mod release;
    mod replay;
    mod restore;
    mod retention;
    mod reward_rule;
    mod routes;
    mod senders;
    mod several;
    mod shares;
    mod silence;
    mod standard_webhooks;
    mod starting;
    mod store;
    mod superseded;
    mod targets;
    mod tenants;
    mod tls;
    mod traces;
    mod usage;
    mod wire;
}
