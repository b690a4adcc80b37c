//! Chromium's own driver, and its protocol (W3C WebDriver): JSON over HTTP, one request a connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::axe;

/// Timeout of a command: these machines are slow and shared.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// The programs that are needed: the driver, and the browser under one of its names.
const DRIVER: &str = "chromedriver";
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn programs() -> Option<&'static (PathBuf, PathBuf)> {
    static FOUND: OnceLock<Option<(PathBuf, PathBuf)>> = OnceLock::new();
    let found = || Some((find(DRIVER)?, BROWSERS.into_iter().find_map(find)?));
    FOUND.get_or_init(found).as_ref()
}

/// Whether the browser and axe-core are installed; prints what is missing.
pub fn is_there() -> bool {
    let says = match (programs(), axe::file().is_file()) {
        (Some(_), true) => return true,
        (None, _) => {
            "Chromium and chromedriver are missing: scripts/setup gets them \
             (Debian: the packages chromium and chromium-driver)"
        }
        (Some(_), false) => "axe-core is missing: scripts/setup gets it",
    };
    assert!(std::env::var_os("CI").is_none(), "{says}");
    // Not `eprintln!`, whose output is hidden if a test passes.
    let mut err = std::io::stderr();
    writeln!(err, "SKIPPED: {says}").unwrap();
    false
}

/// Starts of a driver until one says its port: between choosing one and listening on it, another
/// program may take it.
const STARTS: usize = 5;

/// A driver and its port; `None` if it ended without listening.
fn listening(driver: &Path) -> Option<(Child, u16)> {
    let mut child = Command::new(driver)
        .arg("--port=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| {
        let line = line.unwrap();
        line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
    });
    let Some(port) = port else {
        let _ = child.wait();
        return None;
    };
    // Further output must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Some((child, port))
}

/// A browser with one window, until this is dropped.
pub struct Driver {
    child: Child,
    port: u16,
    session: String,
}

impl Driver {
    /// Starts a browser that requests pages in `lang`.
    pub fn start(lang: &str) -> Self {
        let (driver, browser) = programs().expect("is_there() was asked");
        let (child, port) =
            (0..STARTS).find_map(|_| listening(driver)).expect("a driver that listens");
        let mut driver = Self { child, port, session: String::new() };
        let options = json!({
            "binary": browser,
            // The tests may be root, and in a container with a small /dev/shm.
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1280,900", "--force-device-scale-factor=1"],
            "prefs": { "intl.accept_languages": lang },
        });
        let wanted = json!({ "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        }});
        let made = driver.send("POST", "/session", &json!({ "capabilities": wanted }));
        driver.session = made["sessionId"].as_str().expect("a session").to_owned();
        driver
    }

    /// Sends one command of this session; fails the test on an error.
    pub fn ask(&self, method: &str, command: &str, body: &Value) -> Value {
        self.send(method, &format!("/session/{}{command}", self.session), body)
    }

    /// Sends one command of this session; returns the error of the driver.
    pub fn attempt(&self, method: &str, command: &str, body: &Value) -> Result<Value, Value> {
        self.exchange(method, &format!("/session/{}{command}", self.session), body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        self.exchange(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(COMMAND_TIMEOUT)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.port
        )
        .unwrap();
        // The driver keeps the connection open in any case: the length ends the response.
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.split_once(':') else {
                if line.trim().is_empty() { break } else { continue }
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let value = answer["value"].take();
        if value.get("error").is_some() { Err(value) } else { Ok(value) }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends the browser; errors are ignored because the test may already have failed.
            let _ = self.attempt("DELETE", "", &Value::Null);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
