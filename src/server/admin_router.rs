//! The admin listener: routes browsers to the console and programs to the admin API.

use http::Request;
use hyper::body::Incoming;

use crate::console::Console;
use crate::manage::Admin;
use crate::wire::{CloseWithoutReply, Handler, Peer, Response};

/// Answers requests to the admin listener.
#[derive(Debug)]
pub(super) struct AdminRouter {
    pub console: Console,
    pub admin: Admin,
}

impl Handler for AdminRouter {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<Incoming>,
    ) -> Result<Response, CloseWithoutReply> {
        match Console::serves(request.uri().path()) {
            true => self.console.handle(peer, request).await,
            false => self.admin.handle(peer, request).await,
        }
    }
}
