//! Stopping the gateway over the admin API, as SIGTERM does.

use http::StatusCode;
use serde::Serialize;

use crate::config::Server;
use crate::lifecycle::{Lifecycle, Phase};
use crate::manage::http::json;
use crate::registry::Actor;
use crate::wire::Response;

#[derive(Serialize)]
struct View {
    state: &'static str,
    lame_duck_seconds: f64,
    drain_seconds: f64,
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
