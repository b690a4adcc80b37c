//! The console as one viewer sees it: the parts of the gateway, without the sources that the viewer's
//! token is not for.

use std::sync::Arc;

use super::app::{Shared, Tools};
use super::findings::Findings;
use super::oidc::SignIns;
use super::pulse::Pulses;
use super::session::Sessions;
use crate::config::{Config, SourceScope};
use crate::operator::{SeenLedger, SeenRejections, View};

/// The console as one viewer sees it.
#[derive(Debug)]
pub(super) struct Console {
    shared: Arc<Shared>,
    view: View,
    ledger: SeenLedger,
    /// The parts of the gateway. What has sources in it is asked for by the methods below.
    pub(super) tools: Tools,
}

impl Console {
    /// The console for a viewer of `scope`.
    pub(super) fn of(shared: &Arc<Shared>, scope: &SourceScope) -> Self {
        let tools = shared.tools.clone();
        let view = View::of(tools.registry.config(), scope);
        let ledger = view.ledger(tools.registry.ledger());
        Self { shared: Arc::clone(shared), view, ledger, tools }
    }

    /// The part of the gateway that the viewer sees.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The running configuration, as far as it is seen.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(self.view.config())
    }

    /// The ledger, as far as it is seen.
    pub(super) fn ledger(&self) -> &SeenLedger {
        &self.ledger
    }

    /// Rejected callbacks, as far as they are seen.
    pub(super) fn rejections(&self) -> SeenRejections {
        self.view.rejections(self.tools.callback_handler.rejections())
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// Sign-ins with an OpenID provider.
    pub(super) fn sign_ins(&self) -> &SignIns {
        &self.shared.provider_sign_ins
    }

    pub(super) fn findings(&self) -> &Findings {
        &self.shared.findings
    }

    pub(super) fn pulses(&self) -> &Pulses {
        &self.shared.pulses
    }
}
