//! Accepting connections: bounded, backing off when the system has no more to give, and to the
//! last one waiting when the gateway drains.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::connection::{Handler, ListenerService};

/// The first and the longest pause after an accept that failed for want of descriptors or memory:
/// trying again at once would burn a core and help nobody.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often idle connections are asked to make room while somebody waits for it.
const RING_EVERY: Duration = Duration::from_millis(100);

/// A connection, and who opened it.
type Accepted = (TcpStream, SocketAddr);

/// Accepts on `listener` until the gateway drains, and serves every connection to its end.
///
/// Dropping the future closes nothing that was accepted; that is the runtime's end.
pub async fn accept<H: Handler>(listener: TcpListener, front: Arc<ListenerService<H>>) {
    // Every connection holds a sender; when all are gone, so are the connections.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let mut pause = PAUSE_FIRST;
    loop {
        let accepted = tokio::select! {
            biased;
            () = front.life().draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(next) => {
                pause = PAUSE_FIRST;
                if let Some(permit) = permit(&front).await {
                    spawn(&front, next, permit, open.clone());
                }
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, pause_ms = pause.as_millis() as u64, "cannot accept");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
    // Those in the kernel's queue have been promised a connection: closing now would reset them.
    for next in waiting(listener) {
        let Ok(permit) = Arc::clone(&front.connections).try_acquire_owned() else { break };
        spawn(&front, next, permit, open.clone());
    }
    drop(open);
    tokio::select! {
        _ = all_closed.recv() => {}
        () = front.life().ended() => {}
    }
}

/// Room for one more connection; `None` if the gateway drains before there is any. At the bound one
/// connection waits here and the others in the kernel's queue: idle ones are asked to make room, and
/// a sender that is refused may never come again.
async fn permit<H: Handler>(front: &ListenerService<H>) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(&front.connections).try_acquire_owned() {
        return Some(permit);
    }
    let room: Arc<Semaphore> = Arc::clone(&front.connections);
    let mut room = std::pin::pin!(room.acquire_owned());
    loop {
        front.crowd.ring();
        tokio::select! {
            permit = &mut room => return permit.ok(),
            () = front.life().draining() => return None,
            () = tokio::time::sleep(RING_EVERY) => {}
        }
    }
}

fn spawn<H: Handler>(
    front: &Arc<ListenerService<H>>,
    (socket, peer): Accepted,
    permit: OwnedSemaphorePermit,
    open: mpsc::Sender<Infallible>,
) {
    let connection = Arc::clone(front).serve(socket, peer);
    tokio::spawn(async move {
        connection.await;
        drop((permit, open));
    });
}

/// The connections that are in the kernel's queue already; then the listener is closed. They are
/// taken from the socket itself: the runtime may not have heard of them yet.
fn waiting(listener: TcpListener) -> impl Iterator<Item = Accepted> {
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || {
        let (socket, peer) = listener.as_ref()?.accept().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(socket).ok()?, peer))
    })
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A thread with a runtime of its own that accepts and serves on its own socket, so that no
/// request ever crosses from one core to another.
#[derive(Debug)]
pub struct Worker(JoinHandle<()>);

impl Worker {
    /// Starts one. It ends when the gateway has drained, or at once when it has stopped.
    ///
    /// # Errors
    /// When the system gives no thread, or no event queue for its runtime.
    pub fn start<H: Handler>(
        name: String,
        listener: std::net::TcpListener,
        front: Arc<ListenerService<H>>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let run = move || runtime.block_on(accept(listener, front));
        Ok(Self(std::thread::Builder::new().name(name).spawn(run)?))
    }

    /// Waits for its end, from a thread that may block.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}
