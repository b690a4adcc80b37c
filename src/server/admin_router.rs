//! The admin listener: the console, the management APIs and the admin API.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;

use crate::console::{ConsoleHandler, Tools};
use crate::ledger::Scrubber;
use crate::manage::{Admin, AdminParts};
use crate::partners::Partners;
use crate::wire::{CloseWithoutReply, Handler, Peer, RequestBody, Response};

/// The handler of the admin listener.
#[derive(Debug)]
pub(super) struct AdminRouter {
    console: ConsoleHandler,
    admin: Admin,
    /// The management APIs, unless they have a listener of their own.
    partners: Option<Arc<Partners>>,
}

impl AdminRouter {
    /// The handler of the listener at `address`. `None`: no randomness from the operating system,
    /// which the console needs.
    pub(super) fn new(
        address: IpAddr,
        tools: Tools,
        scrubber: Scrubber,
        partners: Option<Arc<Partners>>,
    ) -> Option<Self> {
        let console = ConsoleHandler::new(address, tools.clone())?;
        let Tools { registry, callback_handler, keys, control, replays, releases, .. } = tools;
        let parts = AdminParts {
            registry,
            callback_handler,
            keys,
            control,
            replays,
            releases,
            scrubber,
            metrics: tools.metrics,
            life: tools.life,
            local: tools.local,
        };
        Some(Self { console, admin: Admin::new(address, parts), partners })
    }
}

impl Handler for AdminRouter {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        let path = request.uri().path();
        match &self.partners {
            _ if ConsoleHandler::serves(path) => self.console.handle(peer, request).await,
            Some(partners) if Partners::serves(path) => partners.handle(peer, request).await,
            _ => self.admin.handle(peer, request).await,
        }
    }
}
