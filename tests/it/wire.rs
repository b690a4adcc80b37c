//! Bytes on a socket: requests written manually, answers read manually.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Longer than anything takes that ends at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the gateways of this process that have no configured token keep that of the machine.
static TOKENS: Mutex<BTreeMap<SocketAddr, PathBuf>> = Mutex::new(BTreeMap::new());

/// Notes where the gateway whose admin listener is at `admin` keeps its own token.
pub fn remember_token(admin: SocketAddr, file: Option<PathBuf>) {
    let mut tokens = TOKENS.lock().unwrap();
    match file {
        Some(file) => drop(tokens.insert(admin, file)),
        None => drop(tokens.remove(&admin)),
    }
}

/// The token of the machine that the gateway at `admin` created, as the command line finds it.
pub fn local_token(admin: SocketAddr) -> Option<String> {
    let file = TOKENS.lock().unwrap().get(&admin)?.clone();
    super::gateway::eventually("a token", || file.exists());
    Some(std::fs::read_to_string(file).unwrap().trim().to_owned())
}

/// Puts that token where the command line looks for it under a configuration whose store is `data`.
pub fn give_token(admin: SocketAddr, data: &Path) {
    std::fs::create_dir(data).unwrap();
    let file = data.join("admin-token");
    std::fs::write(&file, local_token(admin).unwrap()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A connection.
pub struct Wire(TcpStream, Vec<u8>);

impl Wire {
    pub fn open(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).unwrap())
    }

    /// A connection from `own`, an address of this machine: 127.0.0.2 and on are others.
    pub fn open_from(own: &str, to: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        let own: std::net::IpAddr = own.parse().unwrap();
        socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream, Vec::new())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes that the other side may already refuse to read.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// The next answer; `None` if the connection ends instead.
    pub fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.1.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more() {
                assert!(
                    self.1.is_empty(),
                    "half an answer: {:?}",
                    String::from_utf8_lossy(&self.1)
                );
                return None;
            }
        };
        let head = String::from_utf8(self.1.drain(..end).collect()).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let length = head
            .to_ascii_lowercase()
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok())
            .unwrap_or(0);
        while self.1.len() < length {
            assert!(self.more(), "a body that ends early");
        }
        let body: Vec<u8> = self.1.drain(..length).collect();
        let body = String::from_utf8_lossy(&body).into_owned();
        Some(Answer { status, head, body })
    }

    /// Whether something comes that begins like HTTP; `None` if nothing comes at all.
    pub fn raw_answer(&mut self) -> Option<bool> {
        self.more().then(|| self.1.starts_with(b"HTTP/"))
    }

    /// Whether the other side closes now, without another byte.
    pub fn is_closed(&mut self) -> bool {
        !self.more() && self.1.is_empty()
    }

    /// Whether nothing comes for that long, and the connection stays open.
    pub fn stays_silent(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let read = self.0.read(&mut [0; 1]);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    pub fn close_half(&self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }

    fn more(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.0.read(&mut piece) {
            Ok(0) => false,
            Ok(len) => {
                self.1.extend_from_slice(&piece[..len]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The bytes of a GET.
pub fn get_bytes(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// One GET on a connection of its own. Looking needs no token on this machine, but for exports.
pub fn get(to: SocketAddr, target: &str) -> Answer {
    match target.starts_with("/admin/v1/export") {
        true => send(to, &format!("GET {target}"), &[], ""),
        false => ask(to, get_bytes(target)),
    }
}

/// One request on a connection of its own.
pub fn ask(to: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::open(to);
    wire.send(bytes);
    wire.answer().expect("an answer")
}

/// One POST on a connection of its own.
pub fn post(to: SocketAddr, target: &str, body: &str) -> Answer {
    send(to, &format!("POST {target}"), &[], body)
}

/// The bytes of a POST.
pub fn post_bytes(target: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// One request of any kind on a connection of its own.
pub fn send(to: SocketAddr, line: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    let is_given = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if !is_given && line.contains(" /admin/v1/") {
        let token = local_token(to);
        token
            .iter()
            .for_each(|token| bytes.push_str(&format!("Authorization: Bearer {token}\r\n")));
    }
    for (name, value) in fields {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    ask(to, bytes)
}

impl Answer {
    /// The value of a header.
    pub fn field(&self, name: &str) -> Option<String> {
        let lower = name.to_ascii_lowercase();
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            (known.to_ascii_lowercase() == lower).then(|| value.trim().to_owned())
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}
