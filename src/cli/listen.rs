//! `postern listen`: the events of a gateway on a developer's machine.

mod direct;
mod remote;
mod show;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use self::show::{Filter, Forward};
use super::client::{AdminApi, runtime};
use super::event_selector::since;
use super::names::{self, Named};
use super::webhook::WebhookKey;
use super::{ConfigFile, Exit, Screen};
use crate::config::{Environment, Input as _, Loaded};
use crate::sender::Secret;

/// The variable with the token of a remote gateway.
const TOKEN: &str = "POSTERN_TOKEN";

/// The value of --remote without a URL: the gateway of the configuration.
const CONFIGURED: &str = "configured";

/// Receive events on this machine: verify, print, filter, forward
#[derive(Args, Debug)]
#[command(
    long_about = "Receive events on this machine: verify, print, filter, forward.\n\n\
        Directly: the gateway delivers to http://127.0.0.1:7000/, and --secret or --destination says \
        how deliveries are signed. What is not signed so is answered with 401. --secret takes a \
        secret (v1) or a public key (v1a); for a destination the public keys are those of the \
        configuration, or of the running gateway.\n\n\
        From a remote gateway, with --remote: this command calls the gateway's admin listener, so \
        nothing has to reach this machine. It prints a copy of each event that is recorded from now \
        on (or since --since); the gateway's own deliveries are not touched. The token (read is \
        enough) is taken from POSTERN_TOKEN, or from --token env:NAME or file:PATH.\n\n\
        With --forward-to each event is sent on to a local URL. Directly, the gateway gets the \
        response of that URL, so a failure is retried; from a remote gateway, the event is signed \
        again with --secret, if there is one.",
    after_help = "Examples:\n  \
        postern listen --secret env:GAME_SECRET\n  \
        postern listen --destination game --forward-to http://127.0.0.1:3000/webhooks\n  \
        POSTERN_TOKEN=… postern listen --remote https://postern.example.com --source level-end\n  \
        postern listen --remote --since 10m --json"
)]
pub(super) struct Listen {
    #[command(flatten)]
    config: ConfigFile,
    /// Address to listen on
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7000",
        conflicts_with = "remote"
    )]
    at: SocketAddr,
    /// Signing secret or public key: env:NAME, file:PATH, whsec_… or whpk_…; may be repeated
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// Destination whose secrets and keys sign the deliveries
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Take events from this gateway's admin listener; without a URL, from the configured gateway
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = CONFIGURED)]
    remote: Option<String>,
    /// Token for --remote URL: env:NAME or file:PATH [default: env:POSTERN_TOKEN]
    #[arg(long, value_name = "TOKEN", requires = "remote")]
    token: Option<String>,
    /// PEM file of the authorities for the certificate of --remote URL
    #[arg(long, value_name = "FILE", requires = "remote")]
    ca: Option<PathBuf>,
    /// With --remote: also events received since then: 1h (ago), 2026-11-29, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = since, requires = "remote")]
    since: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Send each event on to this URL
    #[arg(long, value_name = "URL")]
    forward_to: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
}

impl Listen {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let keys = match self.keys(screen)? {
            Ok(keys) => keys,
            Err(exit) => return Ok(exit),
        };
        let forward = match self.forward_to.as_deref().map(Forward::to).transpose() {
            Ok(forward) => forward,
            Err(sentence) => return usage(screen, &sentence),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Some(remote) = &self.remote else {
            let direct = direct::Direct { keys, forward, filter: self.filter.clone() };
            return runtime.block_on(direct.serve(self, screen));
        };
        let api = match self.api(remote, screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let key = keys.into_iter().find(|key| matches!(key, WebhookKey::Shared(_)));
        let remote = remote::Remote { api, forward, key };
        runtime.block_on(remote.follow(self, screen))
    }

    /// The keys that deliveries are signed with: those given, and those of a destination.
    fn keys(&self, screen: &mut Screen<'_>) -> io::Result<Result<Vec<WebhookKey>, Exit>> {
        let environment = self.config.environment();
        let mut keys = Vec::new();
        for text in &self.secrets {
            let key = value_of(&environment, text).and_then(|text| WebhookKey::parse(&text));
            match key {
                Ok(key) => keys.push(key),
                Err(sentence) => return usage(screen, &format!("--secret: {sentence}")).map(Err),
            }
        }
        let Some(name) = &self.destination else { return Ok(Ok(keys)) };
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(Err(exit)),
        };
        match keys_of(&loaded, name) {
            Ok(own) => keys.extend(own),
            // The gateway publishes its public keys, and knows the destinations of its APIs.
            Err(sentence) => match published(&loaded, name) {
                Ok(own) if !own.is_empty() => keys.extend(own),
                _ => return usage(screen, &sentence).map(Err),
            },
        }
        Ok(Ok(keys))
    }

    fn api(&self, remote: &str, screen: &mut Screen<'_>) -> io::Result<Result<AdminApi, Exit>> {
        if remote == CONFIGURED {
            return self.config.api(screen);
        }
        if !remote.starts_with("https://") && !remote.starts_with("http://") {
            let sentence = format!("--remote {remote}: is not an http(s) URL");
            return usage(screen, &sentence).map(Err);
        }
        let reference = self.token.clone().unwrap_or_else(|| format!("env:{TOKEN}"));
        let is_reference = reference.starts_with("env:") || reference.starts_with("file:");
        let token = match is_reference {
            true => value_of(&self.config.environment(), &reference),
            false => Err(String::from("write env:NAME or file:PATH: others see a command line")),
        };
        let api = token.map_err(|sentence| format!("--token: {sentence}"));
        let api = api
            .and_then(|token| AdminApi::at(remote, &Secret::new(token.trim()), self.ca.as_deref()));
        match api {
            Ok(api) => Ok(Ok(api)),
            Err(sentence) => usage(screen, &sentence).map(Err),
        }
    }
}

/// The public keys of a destination, as the running gateway publishes them.
fn published(loaded: &Loaded, name: &str) -> Result<Vec<WebhookKey>, String> {
    let query = serde_urlencoded::to_string([("destination", name)]);
    let path = format!("/admin/v1/signing-key?{}", query.map_err(|error| error.to_string())?);
    let runtime = runtime().map_err(|error| error.to_string())?;
    let answer = runtime.block_on(AdminApi::of(&loaded.config).get(&path))?;
    let keys = answer["public_keys"].as_array().into_iter().flatten();
    keys.filter_map(|key| key.as_str()).map(WebhookKey::parse).collect()
}

/// The secrets and public keys of a destination of the configuration.
fn keys_of(loaded: &Loaded, name: &str) -> Result<Vec<WebhookKey>, String> {
    let of_destination = format!("destination[{name}]");
    if let Some(missing) = loaded.missing.iter().find(|one| one.key.starts_with(&of_destination)) {
        return Err(missing.to_string());
    }
    let Some(destination) = loaded.config.destinations.get(name) else {
        let names: Vec<&str> = loaded.config.destinations.keys().map(String::as_str).collect();
        return Err(names::absent(Named::Destination, name, &names));
    };
    let shared = destination.secrets.iter().map(WebhookKey::shared);
    let public = destination.signing_keys.iter().map(WebhookKey::public);
    let keys: Vec<WebhookKey> = shared.chain(public).collect();
    match keys.is_empty() {
        true => Err(format!("the destination {name} has no secret: write secret = \"env:…\"")),
        false => Ok(keys),
    }
}

/// The text that a reference means: a variable, a file, or itself.
fn value_of(environment: &Arc<Environment>, text: &str) -> Result<String, String> {
    let bytes = if let Some(name) = text.strip_prefix("env:") {
        environment.variable(name).ok_or_else(|| format!("the variable {name} is not set"))?
    } else if let Some(path) = text.strip_prefix("file:") {
        std::fs::read(path).map_err(|error| format!("{path}: {error}"))?
    } else {
        return Ok(text.to_owned());
    };
    let text = String::from_utf8(bytes).map_err(|_| String::from("is not text"))?;
    Ok(text.trim_end().to_owned())
}

fn usage(screen: &mut Screen<'_>, sentence: &str) -> io::Result<Exit> {
    writeln!(screen.err, "{sentence}")?;
    Ok(Exit::Usage)
}
