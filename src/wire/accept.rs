//! Accepts connections: bounded, with backoff when the system has no resources left, and up to the
//! last waiting one when the gateway drains.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::activity::ConnectionActivity;
use super::connection::{ListenerService, WireHandler};
use super::places::PeerKind;
use crate::clock::Backoff;
use crate::file_descriptors;

/// The first and the longest pause after an accept that failed for lack of descriptors or memory.
/// An immediate retry would only burn a core.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often room is made while another connection waits.
const RECLAIM_INTERVAL: Duration = Duration::from_millis(100);

/// A connection and the address of its peer.
type Accepted = (TcpStream, SocketAddr);

/// Accepts on `listener` until the gateway drains, and serves every connection to its end.
///
/// Dropping the future closes no accepted connection; that is the runtime's job.
pub async fn accept<H: WireHandler>(listener: TcpListener, service: Arc<ListenerService<H>>) {
    // Every connection holds a clone of `open`; when all are gone, so are the connections.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX);
    loop {
        let accepted = tokio::select! {
            biased;
            () = service.life().draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(next) => {
                backoff.reset();
                if let Some(permit) = permit(&service).await {
                    spawn(&service, next, permit, open.clone());
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                if file_descriptors::is_exhausted(&error) {
                    // Only a connection that ends frees one.
                    service.places.make_room(Instant::now());
                }
                let pause = backoff.next_pause();
                tracing::error!(%error, pause_ms = pause.as_millis() as u64, "could not accept a connection");
                tokio::time::sleep(pause).await;
            }
        }
    }
    // Connections in the kernel's queue are established: closing now would reset them.
    for next in waiting(listener) {
        let Ok(permit) = Arc::clone(&service.connections).try_acquire_owned() else { break };
        spawn(&service, next, permit, open.clone());
    }
    drop(open);
    tokio::select! {
        _ = all_closed.recv() => {}
        () = service.life().ended() => {}
    }
}

/// A permit for one more connection; `None` if the gateway drains first. At the limit one
/// connection waits here and the others in the kernel's queue. Connections that owe a head or idle
/// make room: a sender that is rejected may never retry.
async fn permit<H: WireHandler>(service: &ListenerService<H>) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(&service.connections).try_acquire_owned() {
        return Some(permit);
    }
    let permits: Arc<Semaphore> = Arc::clone(&service.connections);
    let mut permits = std::pin::pin!(permits.acquire_owned());
    loop {
        let ended = service.places.make_room(Instant::now());
        if ended > 0 {
            tracing::debug!(ended, "closed connections that owed a head, to make room for others");
        }
        tokio::select! {
            permit = &mut permits => return permit.ok(),
            () = service.life().draining() => return None,
            () = tokio::time::sleep(RECLAIM_INTERVAL) => {}
        }
    }
}

fn spawn<H: WireHandler>(
    service: &Arc<ListenerService<H>>,
    (socket, peer): Accepted,
    permit: OwnedSemaphorePermit,
    open: mpsc::Sender<Infallible>,
) {
    let address = peer.ip().to_canonical();
    let kind = match service.handler().is_proxy(address) {
        true => PeerKind::Proxy,
        false => PeerKind::Caller,
    };
    let activity = Arc::new(ConnectionActivity::new());
    // Boxed: each future that awaits it has room for it twice.
    let connection = Box::pin(Arc::clone(service).serve(socket, peer, Arc::clone(&activity)));
    service.places.spawn(address, kind, activity, async move {
        connection.await;
        drop((permit, open));
    });
}

/// The connections that are in the kernel's queue; then closes the listener. Reads the socket
/// itself: the runtime may not know of them yet.
fn waiting(listener: TcpListener) -> impl Iterator<Item = Accepted> {
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || {
        let (socket, peer) = listener.as_ref()?.accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(socket).ok()?, peer))
    })
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A thread with its own runtime that accepts and serves on its own socket: a request never moves
/// from one core to another.
#[derive(Debug)]
pub struct Worker(JoinHandle<()>);

impl Worker {
    /// Starts a worker. It ends when the gateway has drained, or at once when it has stopped.
    ///
    /// # Errors
    /// If the system provides no thread, or no event queue for its runtime.
    pub fn start<H: WireHandler>(
        name: String,
        listener: std::net::TcpListener,
        service: Arc<ListenerService<H>>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let run = move || runtime.block_on(accept(listener, service));
        Ok(Self(std::thread::Builder::new().name(name).spawn(run)?))
    }

    /// Waits for the end of the worker, from a thread that may block.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}
