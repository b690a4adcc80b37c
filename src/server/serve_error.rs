//! Reasons for which a gateway does not start.

use std::io;
use std::net::SocketAddr;

use crate::ledger::{LedgerError, PostgresError};
use crate::wire::TlsError;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket is unavailable.
    #[error("server.{which} = {address}: {cause}{}", remedy(which, *address, cause.kind()))]
    Bind {
        /// The key of the configuration.
        which: &'static str,
        /// The address.
        address: SocketAddr,
        /// The reason.
        cause: io::Error,
    },
    /// An inherited socket is unusable.
    #[error("inherited listeners: {0}")]
    Inherited(io::Error),
    /// The service manager passed a socket of an unknown name, or a second one of a name.
    #[error(
        "inherited listeners: there is no use for the socket named {0:?}: name each socket unit callbacks, admin or \
         management (FileDescriptorName=), and give it one ListenStream="
    )]
    InheritedName(String),
    /// The certificate is unusable.
    #[error("server.tls: {0}")]
    Tls(#[from] TlsError),
    /// The operating system provides no thread, event queue, signal handler or random bytes.
    #[error("could not start: {0}")]
    System(#[from] io::Error),
    /// The ledger cannot be opened.
    #[error("store: {0}")]
    Ledger(#[from] LedgerError),
    /// The ledger's server is unusable.
    #[error("store: {0}")]
    Postgres(#[from] PostgresError),
    /// The metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A port that is not `port`: 10,000 above it, or as far below.
const fn other_port(port: u16) -> u16 {
    match port.checked_add(10_000) {
        Some(above) => above,
        None => port - 10_000,
    }
}

/// The remedy where an address is unavailable.
fn remedy(which: &str, address: SocketAddr, kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::AddrInUse => {
            let other = SocketAddr::new(address.ip(), other_port(address.port()));
            format!(
                "; another program listens there, perhaps `postern demo` or another gateway: stop \
                 it, or write another port under [server], such as {which} = \"{other}\""
            )
        }
        io::ErrorKind::PermissionDenied => format!(
            "; only root may use ports below 1024: write a higher one under [server] {which}, or \
             let systemd open it (deploy/systemd/postern.socket)"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "; this machine does not have the address: write 0.0.0.0 or one of its own as {which}"
            )
        }
        _ => String::new(),
    }
}
