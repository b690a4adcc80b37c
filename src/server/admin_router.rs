//! The admin listener: the console, the management APIs and the admin API.

use std::sync::Arc;

use http::Request;

use crate::console::ConsoleHandler;
use crate::manage::Admin;
use crate::partners::Partners;
use crate::wire::{CloseWithoutReply, Handler, Peer, RequestBody, Response};

/// The handler of the admin listener.
#[derive(Debug)]
pub(super) struct AdminRouter {
    pub console: ConsoleHandler,
    pub admin: Admin,
    /// The management APIs, unless they have a listener of their own.
    pub partners: Option<Arc<Partners>>,
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
