//! The sockets of a gateway: inherited or bound, not yet accepting.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use super::{ServeError, WORKERS_MAX};
use crate::config;
use crate::wire::{self, Inherited};

/// Bound sockets, not yet accepting.
#[derive(Debug)]
pub struct Listeners {
    pub(super) callbacks: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) management: Option<TcpListener>,
}

/// The addresses of the listeners; port 0 is replaced by the assigned port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The address for senders.
    pub callbacks: SocketAddr,
    /// The address for operators.
    pub admin: SocketAddr,
    /// The address of the management APIs, if they have their own listener.
    pub management: Option<SocketAddr>,
}

impl Listeners {
    /// Takes the `inherited` sockets and binds the others.
    ///
    /// # Errors
    /// If an address is unavailable.
    pub fn bind(server: &config::Server, mut inherited: Inherited) -> Result<Self, ServeError> {
        let count = workers();
        let callbacks = match inherited.remove("callbacks") {
            Some(listener) => share(listener, count).map_err(ServeError::Inherited)?,
            None => wire::bind_shared(server.callbacks, count)
                .map_err(refused("callbacks", server.callbacks))?,
        };
        let admin = match inherited.remove("admin") {
            Some(listener) => listener,
            None => wire::bind(server.admin).map_err(refused("admin", server.admin))?,
        };
        let management = match (inherited.remove("management"), server.management) {
            (Some(listener), _) => Some(listener),
            (None, Some(address)) => {
                Some(wire::bind(address).map_err(refused("management", address))?)
            }
            (None, None) => None,
        };
        // The service manager keeps such a socket open: its callers would wait for an answer.
        if let Some(name) = inherited.unused().next() {
            return Err(ServeError::InheritedName(name.to_owned()));
        }
        Ok(Self { callbacks, admin, management })
    }

    /// The addresses of the sockets.
    ///
    /// # Errors
    /// If the operating system does not report them.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let callbacks = self.callbacks.first().unwrap_or(&self.admin);
        Ok(Addresses {
            callbacks: callbacks.local_addr()?,
            admin: self.admin.local_addr()?,
            management: self.management.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

fn refused(which: &'static str, address: SocketAddr) -> impl FnOnce(io::Error) -> ServeError {
    move |cause| ServeError::Bind { which, address, cause }
}

/// Clones one inherited socket for several threads: they share its queue.
fn share(listener: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut all = Vec::with_capacity(count);
    for _ in 1..count {
        all.push(listener.try_clone()?);
    }
    all.push(listener);
    Ok(all)
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX)
}
