//! Confirmations of subscriptions: the request that a verified callback asks for.

use http::{HeaderMap, Uri};

use super::compile::Compiler;
use super::{Confirming, Recipe, Terms};
use crate::sender::acts::evaluate::Context;
use crate::sender::crypto::key_set::{KeyRequest, UrlOrigin};
use crate::sender::crypto::pinned_url::UrlPins;
use crate::sender::language::bound::{Binder, Bound, Gate, Use};
use crate::sender::language::definition::Sender;
use crate::sender::request::callback::Callback;

/// Which callbacks ask for a confirmation, for one source that confirms by itself.
#[derive(Debug)]
pub(in crate::sender) struct Confirmation {
    when: Gate,
    url: Bound,
    pins: UrlPins,
    /// A mirror of the sender's hosts.
    mirror: Option<Uri>,
}

impl Compiler {
    pub(super) fn confirmation(
        &mut self,
        sender: &Sender,
        binder: &mut Binder<'_>,
    ) -> Option<Confirmation> {
        if binder.terms.confirm == Confirming::ByOperator {
            return None;
        }
        let Some(confirm) = &sender.confirm else {
            let remedy = "remove it: this sender asks for no confirmation";
            self.fault("confirm", "does not apply to this sender", remedy);
            return None;
        };
        let when = self.take(binder.gate(&confirm.when), "confirm.when")?;
        let url = self.take(binder.spot(&confirm.url, Use::Fact), "confirm.url")?;
        let mirror = binder.terms.settings.get(Terms::KEY_SET_URL);
        let mirror = mirror.and_then(|url| Uri::try_from(url.expose()).ok());
        Some(Confirmation { when, url, pins: confirm.pins.clone(), mirror })
    }
}

impl Recipe {
    /// Whether its source confirms subscriptions by itself.
    #[must_use]
    pub fn confirms(&self) -> bool {
        self.confirmation.is_some()
    }

    /// Who wrote the host that confirms: the sender's file, or the source with a mirror.
    #[must_use]
    pub fn confirmation_origin(&self) -> UrlOrigin {
        match self.confirmation.as_ref().and_then(|one| one.mirror.as_ref()) {
            Some(_) => UrlOrigin::Source,
            None => UrlOrigin::Sender,
        }
    }
}

impl Callback<'_> {
    /// The request that confirms the subscription which this callback, verified, asks for. `None`:
    /// it asks for none, or for one at another host.
    #[must_use]
    pub fn confirmation(&self) -> Option<KeyRequest> {
        let rule = self.recipe.confirmation.as_ref()?;
        self.matched.as_ref()?;
        if !self.holds(&rule.when) {
            return None;
        }
        let url = self.value(&rule.url, &Context::default()).ok()??;
        let named = std::str::from_utf8(&url).ok().filter(|_| rule.pins.allow(&url))?;
        let named: Uri = named.parse().ok()?;
        let url = match &rule.mirror {
            None => named,
            Some(mirror) => {
                let base = mirror.to_string();
                let rest = named.path_and_query().map_or("/", |rest| rest.as_str());
                format!("{}{rest}", base.trim_end_matches('/')).parse().ok()?
            }
        };
        Some(KeyRequest { url, headers: HeaderMap::new() })
    }
}
