//! A listener that answers before its handler exists.

use std::sync::{Arc, OnceLock};

use http::Request;

use crate::console::{self, ConsoleHandler};
use crate::manage::Starting;
use crate::wire::{CloseWithoutReply, Handler, Peer, RequestBody, Response};

/// Answers with [`Starting`] until there is a handler. Clones share it.
#[derive(Debug)]
pub(super) struct UntilReady<H>(Arc<Inner<H>>);

#[derive(Debug)]
struct Inner<H> {
    starting: Starting,
    handler: OnceLock<H>,
}

impl<H> Clone for UntilReady<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H> UntilReady<H> {
    pub(super) fn new(starting: Starting) -> Self {
        Self(Arc::new(Inner { starting, handler: OnceLock::new() }))
    }

    /// Sets the handler.
    pub(super) fn set(&self, handler: H) {
        // Only the program's one start calls this.
        let _ = self.0.handler.set(handler);
    }
}

impl<H: Handler> Handler for UntilReady<H> {
    async fn handle(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
    ) -> Result<Response, CloseWithoutReply> {
        match self.0.handler.get() {
            Some(handler) => handler.handle(peer, request).await,
            None if ConsoleHandler::serves(request.uri().path()) => {
                let (head, _) = request.into_parts();
                Ok(console::starting(&head, &self.0.starting.why()))
            }
            None => self.0.starting.handle(peer, request).await,
        }
    }
}
