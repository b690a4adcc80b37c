//! Callers that do not wait for each other: the open model of `make load ARGS=--open`.
//!
//! Calls arrive at a fixed rate, whatever the server does, and are timed from their arrival. Each
//! takes a free connection; if none is free it waits, and is dropped after [`PATIENCE`], as
//! senders do. A closed load (wrk) slows down with the server, and so never shows what happens past
//! saturation.
//!
//! ```text
//! open_client ADDRESS FILE RATE SECONDS CONNECTIONS
//! ```

#![allow(clippy::print_stdout, reason = "the program prints one line")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use std::{env, fs, io};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// How long a sender waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arrivals of this time are added together.
const TICK: Duration = Duration::from_millis(1);

/// A response's head and short body.
const BUFFER_BYTES: usize = 4096;

/// State of all connections.
struct Load {
    address: SocketAddr,
    calls: Vec<Vec<u8>>,
    arrivals: RefCell<VecDeque<(Instant, usize)>>,
    waiting: Semaphore,
    /// Milliseconds of the answers with 200, and the number of others by status.
    good: RefCell<Vec<f32>>,
    /// The number of them that came while calls arrived.
    good_meanwhile: Cell<u64>,
    end: Cell<Option<Instant>>,
    others: RefCell<BTreeMap<u16, u64>>,
    unanswered: Cell<u64>,
    never_sent: Cell<u64>,
}

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, address, file, rate, seconds, connections] = &args[..] else {
        return Err(io::Error::other("open_client ADDRESS FILE RATE SECONDS CONNECTIONS"));
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let rate: f64 = rate.parse().map_err(io::Error::other)?;
    let seconds: f64 = seconds.parse().map_err(io::Error::other)?;
    let connections: usize = connections.parse().map_err(io::Error::other)?;
    let load = Rc::new(Load {
        address,
        calls: calls(file, address)?,
        arrivals: RefCell::default(),
        waiting: Semaphore::new(0),
        good: RefCell::default(),
        good_meanwhile: Cell::new(0),
        end: Cell::new(None),
        others: RefCell::default(),
        unanswered: Cell::new(0),
        never_sent: Cell::new(0),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let arrived = LocalSet::new().block_on(&runtime, run(&load, rate, seconds, connections))?;
    load.report(arrived, seconds);
    Ok(())
}

/// The requests of a file, one a line: a target, or target, headers and body between tabs.
fn calls(file: &str, address: SocketAddr) -> io::Result<Vec<Vec<u8>>> {
    let lines = io::BufReader::new(fs::File::open(file)?).lines();
    lines
        .map(|line| {
            let line = line?;
            let mut parts = line.splitn(3, '\t');
            let target = parts.next().unwrap_or_default();
            let request = match (parts.next(), parts.next()) {
                (Some(headers), Some(body)) => format!(
                    "POST {target} HTTP/1.1\r\nHost: {address}\r\n{}\r\nContent-Length: {}\r\n\r\n{body}",
                    headers.replace('\u{1f}', "\r\n"),
                    body.len()
                ),
                _ => format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            };
            Ok(request.into_bytes())
        })
        .collect()
}

/// Lets calls arrive; returns how many did.
async fn run(load: &Rc<Load>, rate: f64, seconds: f64, connections: usize) -> io::Result<usize> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(TcpStream::connect(load.address).await?);
    }
    for stream in open {
        tokio::task::spawn_local(serve(Rc::clone(load), stream));
    }
    let began = Instant::now();
    load.end.set(Some(began + Duration::from_secs_f64(seconds)));
    let mut arrived = 0;
    let mut tick = tokio::time::interval(TICK);
    while began.elapsed().as_secs_f64() < seconds {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64().min(seconds) * rate) as usize;
        for number in arrived..due.min(load.calls.len()) {
            let at = began + Duration::from_secs_f64(number as f64 / rate);
            load.arrivals.borrow_mut().push_back((at, number));
            load.waiting.add_permits(1);
        }
        arrived = due.min(load.calls.len()).max(arrived);
    }
    // Calls in flight may still be answered.
    tokio::time::sleep(PATIENCE + TICK).await;
    let late = load.arrivals.borrow().len() as u64;
    load.never_sent.set(load.never_sent.get() + late);
    Ok(arrived)
}

/// Makes calls over one connection, which is opened again when it breaks.
async fn serve(load: Rc<Load>, stream: TcpStream) {
    let mut stream = Some(stream);
    while let Ok(permit) = load.waiting.acquire().await {
        permit.forget();
        let Some((at, number)) = load.arrivals.borrow_mut().pop_front() else { continue };
        if at.elapsed() > PATIENCE {
            load.never_sent.set(load.never_sent.get() + 1);
            continue;
        }
        let until = at + PATIENCE;
        match tokio::time::timeout_at(until, load.call(&mut stream, number)).await {
            Ok(Ok(200)) => load.count_good(at),
            Ok(Ok(status)) => *load.others.borrow_mut().entry(status).or_default() += 1,
            Ok(Err(_)) | Err(_) => {
                stream = None;
                load.unanswered.set(load.unanswered.get() + 1);
            }
        }
    }
}

impl Load {
    /// The status of one call.
    async fn call(&self, stream: &mut Option<TcpStream>, number: usize) -> io::Result<u16> {
        let open = match stream {
            Some(open) => open,
            None => stream.insert(TcpStream::connect(self.address).await?),
        };
        open.write_all(&self.calls[number]).await?;
        let (mut buffer, mut len) = ([0; BUFFER_BYTES], 0);
        loop {
            let read = open.read(&mut buffer[len..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            len += read;
            if let Some(status) = status(&buffer[..len]) {
                return Ok(status);
            }
        }
    }

    fn count_good(&self, arrived: Instant) {
        let now = Instant::now();
        self.good.borrow_mut().push(now.duration_since(arrived).as_secs_f32() * 1000.0);
        if self.end.get().is_some_and(|end| now <= end) {
            self.good_meanwhile.set(self.good_meanwhile.get() + 1);
        }
    }

    fn report(&self, arrived: usize, seconds: f64) {
        let mut good = self.good.borrow_mut();
        good.sort_by(f32::total_cmp);
        let part =
            |share: f64| good.get((good.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        let others: Vec<String> = self
            .others
            .borrow()
            .iter()
            .map(|(status, count)| format!("\"{status}\": {count}"))
            .collect();
        println!(
            "{{\"arrived\": {arrived}, \"seconds\": {seconds}, \"good\": {}, \"good_meanwhile\": {}, \"others\": {{{}}}, \
             \"unanswered\": {}, \"never_sent\": {}, \"p50_ms\": {:.2}, \"p99_ms\": {:.2}}}",
            good.len(),
            self.good_meanwhile.get(),
            others.join(", "),
            self.unanswered.get(),
            self.never_sent.get(),
            part(0.5),
            part(0.99)
        );
    }
}

/// The status of a response, if it is complete.
fn status(response: &[u8]) -> Option<u16> {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&response[..end]).ok()?.to_ascii_lowercase();
    let length = head.split_once("content-length:").map_or("0", |(_, rest)| rest);
    let length: usize = length.split("\r\n").next()?.trim().parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (response.len() >= end + length).then_some(status)
}
