//! Settings that only make sense together apply together. Where one of them waits for a restart,
//! the others stay as they are.

use std::sync::Arc;

use ipnet::IpNet;

use super::Config;

/// The settings that wait for a restart with another one.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    /// Their keys.
    pub(super) keys: Vec<String>,
    /// Proxies that are withdrawn, and trusted until the restart.
    pub(super) still_trusted: Vec<IpNet>,
}

/// Takes from `active` what `config` cannot apply before a restart of the program, which `started`
/// with another configuration.
pub(super) fn hold_back(started: &Config, active: &Config, config: &mut Config) -> HeldBack {
    let mut held = HeldBack::default();
    held.proxies(started, active, config);
    held.bodies(started, active, config);
    held.client_certificates(started, active, config);
    held
}

impl HeldBack {
    /// A proxy that is to name its client in one way is not believed in the other: a balancer that
    /// passes on TCP passes on the headers of callers, too.
    fn proxies(&mut self, started: &Config, active: &Config, config: &mut Config) {
        let (now, new) = (&active.server.trusted_proxies, &config.server.trusted_proxies);
        if started.server.proxy_protocol == config.server.proxy_protocol || now == new {
            return;
        }
        let is_withdrawn = |range: &&IpNet| !new.iter().any(|new| new.contains(*range));
        self.still_trusted = now.iter().filter(is_withdrawn).copied().collect();
        self.keys.push(String::from("server.trusted_proxies"));
        config.server.trusted_proxies.clone_from(now);
    }

    /// A body over the limit of all bodies could never be read.
    fn bodies(&mut self, started: &Config, active: &Config, config: &mut Config) {
        let room = started.server.limits.unverified_body_bytes;
        let limits = &mut config.server.limits;
        if limits.unverified_body_bytes <= room {
            return;
        }
        limits.unverified_body_bytes = room;
        let written = limits.body_bytes;
        if written > room {
            limits.body_bytes = active.server.limits.body_bytes.min(room);
            self.keys.push(String::from("server.limits.body"));
        }
        let usual = limits.body_bytes;
        for (name, source) in &mut config.sources {
            if source.body_bytes <= room {
                continue;
            }
            if source.body_bytes != written {
                self.keys.push(format!("source[{name}].body"));
            }
            let before = active.sources.get(name).map_or(usual, |before| before.body_bytes);
            // Nothing else has a source that was just read.
            if let Some(source) = Arc::get_mut(source) {
                source.body_bytes = before.min(room);
            }
        }
    }

    /// Certificates of callers arrive over TLS alone. A source that had no authorities goes on
    /// without them, and under its `allow`; a new source takes no calls before the restart.
    fn client_certificates(&mut self, started: &Config, active: &Config, config: &mut Config) {
        let has_tls = started.server.tls.is_some();
        if has_tls == config.server.tls.is_some() {
            return;
        }
        for (name, source) in &mut config.sources {
            let before = active.sources.get(name);
            let wants = source.client_ca.is_some();
            let had = before.is_some_and(|before| before.client_ca.is_some());
            let waits = wants || (had && has_tls);
            if !waits {
                continue;
            }
            self.keys.push(format!("source[{name}].client_ca"));
            if wants == had {
                continue;
            }
            // Nothing else has a source that was just read.
            let (Some(before), Some(source)) = (before, Arc::get_mut(source)) else { continue };
            source.client_ca.clone_from(&before.client_ca);
            if source.allow.is_empty() {
                source.allow.clone_from(&before.allow);
            }
        }
    }
}
