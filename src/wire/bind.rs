//! Sockets: bound here, or inherited from the service manager.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues until they are accepted; limited by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Names of the listeners in `LISTEN_FDNAMES`, and their order if there are no names.
const LISTENER_NAMES: [&str; 3] = ["callbacks", "admin", "management"];

/// Whether other sockets may bind the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Own,
    Shared,
}

/// Binds `address` for one listener.
///
/// # Errors
/// If the address is unavailable.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    open(address, Port::Own)
}

/// Binds `address` `count` times. The kernel spreads connections over the accepting threads, and
/// none is woken for another's connection.
///
/// # Errors
/// If the address is unavailable, also when another process shares its port: two gateways on one
/// port by mistake would silently split the callbacks.
pub fn bind_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let alone = open(address, Port::Own)?;
    let address = alone.local_addr()?;
    drop(alone);
    (0..count.max(1)).map(|_| open(address, Port::Shared)).collect()
}

fn open(address: SocketAddr, port: Port) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart would wait for the closed connections of the previous process.
    socket.set_reuse_address(true)?;
    if port == Port::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Listeners inherited from the service manager (`LISTEN_FDS`): a restart rejects no connection.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, TcpListener)>);

impl Inherited {
    /// Takes the sockets that the environment names. `LISTEN_FDNAMES` tells them apart; without it
    /// they are callbacks, admin and management, in this order.
    ///
    /// # Errors
    /// If an inherited descriptor is not a listening TCP socket.
    pub fn take() -> io::Result<Self> {
        let mut all = listenfd::ListenFd::from_env();
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut named = names.split(':').filter(|name| !name.is_empty());
        let mut found = Vec::new();
        for index in 0..all.len() {
            let by_order = LISTENER_NAMES.get(index).copied().unwrap_or_default();
            let name = named.next().unwrap_or(by_order);
            if let Some(listener) = all.take_tcp_listener(index)? {
                listener.set_nonblocking(true)?;
                found.push((name.to_owned(), listener));
            }
        }
        Ok(Self(found))
    }

    /// The listener called `name`, if it was inherited.
    pub fn remove(&mut self, name: &str) -> Option<TcpListener> {
        let at = self.0.iter().position(|(found, _)| found == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Names of the unused sockets: an error in the unit file.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_shared_port_is_one_port() {
        let listeners = bind_shared(loopback(), 3).unwrap();
        let ports: Vec<u16> =
            listeners.iter().map(|each| each.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0));
    }

    #[test]
    fn a_second_gateway_on_the_port_is_refused() {
        let first = bind_shared(loopback(), 2).unwrap();
        let reserved = first[0].local_addr().unwrap();
        assert_eq!(bind_shared(reserved, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
