//! A backend of a test's own: real sockets, and answers good and bad.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The response of a backend to one request.
#[derive(Clone, Debug)]
pub enum Say {
    /// This status, with header lines and a body.
    Status(u16, &'static str, String),
    /// Raw bytes, and then the connection is closed.
    Bytes(&'static [u8]),
    /// Nothing: the connection is closed.
    Nothing,
    /// Nothing for that long.
    Late(Duration),
    /// The response once the gate is open.
    Once(Gate, Box<Say>),
}

/// Holds answers back until a test opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let (open, opened) = &*self.0;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }

    /// Holds `say` back.
    pub fn before(&self, say: Say) -> Say {
        Say::Once(self.clone(), Box::new(say))
    }
}

/// A request as the backend got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub at: Instant,
    pub connection: usize,
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    /// The value of a header, named in lower case.
    pub fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("{name} in {:?}", self.headers))
    }

    pub fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A backend. It goes on until the test ends.
#[derive(Clone)]
pub struct Backend {
    pub at: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    got: Mutex<Vec<Got>>,
    came: Condvar,
    script: Mutex<Script>,
}

#[derive(Default)]
struct Script {
    next: VecDeque<Say>,
    then: Option<Say>,
}

/// A 200 with that body.
pub fn body(body: &str) -> Say {
    Say::Status(200, "", body.to_owned())
}

pub fn ok() -> Say {
    Say::Status(200, "", String::from("ok"))
}

pub fn status(status: u16) -> Say {
    Say::Status(status, "", String::new())
}

impl Backend {
    /// A backend that accepts every request.
    pub fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let at = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let backend = Self { at, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || shared.serve(stream, number));
            }
        });
        backend
    }

    /// A backend that accepts every request at `at`, where one was before.
    pub fn again(at: SocketAddr) -> Self {
        Self::on(TcpListener::bind(at).unwrap())
    }

    /// A backend that gives these responses in turn, and accepts from then on.
    pub fn saying(says: impl IntoIterator<Item = Say>) -> Self {
        let backend = Self::start();
        backend.shared.script.lock().unwrap().next.extend(says);
        backend
    }

    /// Sets the response from now on.
    pub fn says(&self, say: Say) {
        self.shared.script.lock().unwrap().then = Some(say);
    }

    /// An address without a listener.
    pub fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    /// The requests so far.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// The requests, once there are `count`; waits at most a minute.
    pub fn await_count(&self, count: usize) -> Vec<Got> {
        let got = self.shared.got.lock().unwrap();
        let time = Duration::from_secs(60);
        let (got, late) =
            self.shared.came.wait_timeout_while(got, time, |got| got.len() < count).unwrap();
        assert!(!late.timed_out(), "{} of {count} came: {got:?}", got.len());
        got.clone()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, connection: usize) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        while let Some(got) = read(&mut reader, connection) {
            let say = {
                let mut script = self.script.lock().unwrap();
                let scripted = script.next.pop_front();
                scripted.or_else(|| script.then.clone()).unwrap_or_else(ok)
            };
            self.got.lock().unwrap().push(got);
            self.came.notify_all();
            let say = match say {
                Say::Once(gate, say) => {
                    gate.pass();
                    *say
                }
                say => say,
            };
            match say {
                Say::Status(status, head, body) => {
                    let length = body.len();
                    let text = format!(
                        "HTTP/1.1 {status} X\r\n{head}Content-Length: {length}\r\n\r\n{body}"
                    );
                    if stream.write_all(text.as_bytes()).is_err() {
                        return;
                    }
                }
                Say::Bytes(bytes) => {
                    let _ = stream.write_all(bytes);
                    return;
                }
                Say::Nothing => return,
                Say::Late(time) => std::thread::sleep(time),
                Say::Once(..) => panic!("a gate behind a gate"),
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>, connection: usize) -> Option<Got> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let line = lines.remove(0);
    let headers: Vec<(String, String)> = lines
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Got { at: postern::clock::instant(), connection, line, headers, body })
}
