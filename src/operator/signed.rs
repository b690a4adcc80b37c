//! A signed callback, as the sender would make it, and what to paste into its console.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::address::{base_of, called, curl, is_plain, listener, url_of};
use crate::clock::UnixMillis;
use crate::config::{Config, Source};
use crate::sender::{Composing, DefinitionError, OwnedRequest, Signing};

/// The URL to paste into a sender's console, and notes about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasteUrl {
    /// The source's name.
    pub source: String,
    /// The URL with the sender's own macros.
    pub url: String,
    /// Sentences for people.
    pub notes: Vec<String>,
}

impl PasteUrl {
    /// The URL of `source`, whose gateway listens at `at`.
    #[must_use]
    pub fn of(config: &Config, at: SocketAddr, source: &Source) -> Self {
        let sender = source.recipe.sender();
        let mut notes = Vec::new();
        if config.server.public_url.is_none() {
            notes.push(format!(
                "server.public_url is not set: the address is this machine's; set it to what {} can \
                 reach",
                sender.title()
            ));
        }
        notes.extend(sender.secret().map(|about| format!("secret: {about}")));
        if source.recipe.signs_url() {
            notes.push(String::from("the whole URL is signed: paste it exactly as it is"));
        }
        if source.recipe.paste().is_empty() {
            notes.push(format!("{} adds its parameters itself", sender.title()));
        }
        notes.extend(sender.unconfirmed().iter().map(|line| format!("unconfirmed: {line}")));
        Self { source: source.name.clone(), url: url_of(config, at, source), notes }
    }
}

/// A signed callback as a URL, where one is enough, and as a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCallback {
    /// The URL, if nothing else is needed to make the call.
    pub url: Option<String>,
    /// The call as a curl command.
    pub curl: String,
    /// The same URL on the gateway's own listener.
    pub local_url: Option<String>,
    /// The same command for the gateway's own listener.
    pub local_curl: String,
}

impl SignedCallback {
    /// A callback of `source` with `parameters`, signed at `at_ms` under its first secret.
    ///
    /// # Errors
    /// The sender cannot be imitated, a parameter is missing or unknown, or there is no randomness.
    pub fn make(
        config: &Config,
        source: &Source,
        parameters: &[(String, String)],
        at_ms: UnixMillis,
    ) -> Result<Self, DefinitionError> {
        let at = config.server.callbacks;
        let (base, local) = (base_of(&config.server, at), listener(&config.server, at));
        let mut salt = [0; 16];
        let random = getrandom::fill(&mut salt);
        random.map_err(|_| {
            let remedy = "check the operating system";
            DefinitionError::new("signature", "needs random bytes, and there are none", remedy)
        })?;
        let signing = Signing { salt, base: &base, ..Signing::at(at_ms) };
        let recipe = &source.recipe;
        recipe.signable()?;
        let request = recipe.compose(parameters, &Composing::to(&source.path()))?;
        let request = recipe.sign(&request, &signing)?;
        Ok(Self::of(&request, &base, &local))
    }

    fn of(request: &OwnedRequest, base: &str, local: &str) -> Self {
        let url = |base: &str| is_plain(request).then(|| called(base, request));
        Self {
            url: url(base),
            curl: curl(base, request),
            local_url: url(local),
            local_curl: curl(local, request),
        }
    }
}
