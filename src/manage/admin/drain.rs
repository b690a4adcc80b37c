//! Stopping the gateway over the admin API, as SIGTERM does.

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use crate::config::Server;
use crate::lifecycle::{Lifecycle, Phase};
use crate::manage::http::json;
use crate::registry::{Action, Actor, AuditSubject, Registry};
use crate::wire::Response;

/// How long a drain waits for its entry in the audit log: a store that fails must not keep a gateway up.
const NOTE_TIME: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct View {
    state: &'static str,
    lame_duck_seconds: f64,
    drain_seconds: f64,
}

/// Writes the drain into the audit log, if it is the first and the store can.
pub(super) async fn note(registry: &Registry, life: &Lifecycle, who: &Actor) {
    if life.phase() >= Phase::LameDuck {
        return;
    }
    let subject = AuditSubject::new("gateway", "drain");
    let noted = registry.note(who, Action::Drained, subject);
    let fault = match tokio::time::timeout(NOTE_TIME, noted).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => String::from("the store did not answer in time"),
    };
    tracing::warn!(fault, "the audit log has no entry of the drain");
}

/// Asks for the stop. Readiness says no before the answer is sent; asked again, it changes nothing.
pub(super) fn begin(life: &Lifecycle, server: &Server, who: &Actor) -> Response {
    if life.phase() < Phase::LameDuck {
        tracing::info!(target: "postern::admin", who = who.as_str(), "a drain was requested");
    }
    match life.phase() {
        // Nothing is accepted yet, so there is nothing that a balancer could redirect.
        Phase::Starting => life.drain(),
        _ => life.lame_duck(),
    }
    life.ask_to_stop();
    let mut response = json(&View {
        state: life.phase().as_str(),
        lame_duck_seconds: server.lame_duck.as_secs_f64(),
        drain_seconds: server.drain.as_secs_f64(),
    });
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}
