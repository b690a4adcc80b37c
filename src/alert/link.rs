//! Links to the console page that helps.

use std::net::SocketAddr;

use super::incident::{Key, Subject};
use crate::config::{AlertCondition, Config};
use crate::host;
use crate::sender::path_segment;

/// Where the console is: as configured, or at the admin listener, which has a certificate or none.
#[must_use]
pub fn console_at(config: &Config, admin: SocketAddr) -> String {
    if let Some(url) = &config.admin.public_url {
        return url.clone();
    }
    let scheme = if config.server.admin_tls.is_some() { "https" } else { "http" };
    if admin.ip().is_unspecified() {
        // A listener on all addresses is reached by the name of its machine.
        let name = host::name().unwrap_or_else(|| String::from("localhost"));
        return format!("{scheme}://{name}:{}", admin.port());
    }
    format!("{scheme}://{admin}")
}

/// The page about a problem.
pub(super) fn link(console: &str, key: &Key) -> String {
    let path = match (key.condition, &key.subject) {
        (AlertCondition::Refusals, Subject::Source(name)) => {
            format!("callbacks?source={}&outcome=rejected", path_segment(name))
        }
        (AlertCondition::Quarantine, Subject::Source(name)) => {
            format!("held?source={}", path_segment(name))
        }
        (AlertCondition::Dead, Subject::Destination(name)) => {
            format!("dead-letters?destination={}", path_segment(name))
        }
        (_, Subject::Source(name)) => format!("callbacks?source={}", path_segment(name)),
        (_, Subject::Destination(name)) => format!("destinations/{}", path_segment(name)),
        (_, Subject::Sender(name)) => format!("senders/{}", path_segment(name)),
        (_, Subject::Gateway | Subject::Listener(_)) => String::from("overview"),
    };
    format!("{console}/console/{path}")
}
