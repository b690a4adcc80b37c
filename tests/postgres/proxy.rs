//! A proxy before the server that cuts connections at a chosen moment: when a statement is about to
//! go to the server, or when the server has done it and its answer is on the way.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// When the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never receives the statement.
    Before,
    /// The server has run it and answered; the answer is lost.
    After,
}

/// A proxy, as long as the test lives.
#[derive(Clone)]
pub struct Proxy {
    pub at: SocketAddr,
    plan: Arc<Mutex<Box<Plan>>>,
    /// How many connections were cut.
    pub cuts: Arc<AtomicUsize>,
    /// How many requests to cancel a statement came by.
    pub cancels: Arc<AtomicUsize>,
    /// While it is set, sessions get what another one was told: their commits wait for nothing.
    pub leaks: Arc<AtomicBool>,
}

/// Asked with each statement that is executed.
type Plan = dyn FnMut(&str) -> Option<Cut> + Send;

/// The first bytes of a cancel request.
const CANCEL: u32 = 80_877_102;

impl Proxy {
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            at: listener.local_addr().unwrap(),
            plan: Arc::new(Mutex::new(Box::new(|_| None))),
            cuts: Arc::default(),
            cancels: Arc::default(),
            leaks: Arc::default(),
        };
        let (own, server) = (proxy.clone(), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let own = own.clone();
                thread::spawn(move || own.serve(client, server));
            }
        });
        proxy
    }

    /// Cuts as `plan` says from now on.
    pub fn plan(&self, plan: impl FnMut(&str) -> Option<Cut> + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// Cuts once, at the next statement with this text.
    pub fn cut_once(&self, text: &'static str, cut: Cut) {
        let mut armed = Some(cut);
        self.plan(move |sql| if sql.contains(text) { armed.take() } else { None });
    }

    fn serve(&self, mut client: TcpStream, mut server: TcpStream) -> Option<()> {
        let mute = Arc::new(AtomicBool::new(false));
        let (from, to) = (server.try_clone().ok()?, client.try_clone().ok()?);
        let is_mute = Arc::clone(&mute);
        thread::spawn(move || answers(from, to, &is_mute));
        let hello = frame(&mut client, 0)?;
        if hello[4..8] == CANCEL.to_be_bytes() {
            self.cancels.fetch_add(1, Ordering::Relaxed);
        }
        server.write_all(&hello).ok()?;
        let mut prepared = std::collections::HashMap::new();
        while let Some(mut message) = frame(&mut client, 1) {
            if message[0] == b'Q' && self.leaks.load(Ordering::Relaxed) {
                leak(&mut message);
            }
            let mut texts = message[5..].split(|byte| *byte == 0);
            let mut text =
                || String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned();
            let cut = match message[0] {
                b'P' => {
                    prepared.insert(text(), text());
                    None
                }
                b'B' => {
                    let _portal = text();
                    let sql = prepared.get(&text()).cloned().unwrap_or_default();
                    (self.plan.lock().unwrap())(&sql)
                }
                b'Q' => (self.plan.lock().unwrap())(&text()),
                _ => None,
            };
            self.cuts.fetch_add(usize::from(cut.is_some()), Ordering::Relaxed);
            match cut {
                Some(Cut::Before) => break,
                Some(Cut::After) => mute.store(true, Ordering::Release),
                None => {}
            }
            server.write_all(&message).ok()?;
        }
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
        Some(())
    }
}

/// Replaces the setting that makes a session's commits wait by one that does not.
fn leak(message: &mut [u8]) {
    let text = String::from_utf8_lossy(&message[5..]).into_owned();
    let begin = "select set_config('synchronous_commit'";
    let Some(from) = text.find(begin) else { return };
    let len = text[from..].find(';').expect("the end of a statement");
    let other = format!("{:len$}", "set synchronous_commit = off");
    message[5 + from..5 + from + len].copy_from_slice(other.as_bytes());
}

/// Hands answers on; of a connection that is to be cut none, up to the one that says that the
/// statement is done.
fn answers(mut server: TcpStream, mut client: TcpStream, mute: &AtomicBool) {
    while let Some(message) = frame(&mut server, 1) {
        if mute.load(Ordering::Acquire) {
            if message[0] == b'Z' {
                break;
            }
        } else if client.write_all(&message).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

/// A message: `kind` bytes of its kind, four of its length, and the rest.
fn frame(from: &mut TcpStream, kind: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; kind + 4];
    from.read_exact(&mut message).ok()?;
    let length = u32::from_be_bytes(message[kind..].try_into().ok()?) as usize;
    message.resize(kind + length, 0);
    from.read_exact(&mut message[kind + 4..]).ok()?;
    Some(message)
}
