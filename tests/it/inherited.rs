//! Listeners that are handed over: a restart refuses no connection.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::wire::{Wire, get, get_bytes};

#[test]
fn a_listener_is_inherited_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    // A caller from before the gateway was there.
    let mut early = Wire::open(at);
    early.send(get_bytes("/healthz"));

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:1\"\n")
        .unwrap();
    let mut gateway = Command::new("sh")
        .arg("-c")
        .arg("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=admin; exec \"$0\" \"$@\"")
        .args([env!("CARGO_BIN_EXE_postern"), "serve", "--log-format", "json", "--config"])
        .arg(&config)
        .current_dir(folder.path())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(gateway.stderr.take().unwrap()).lines();
    let ready = log.find(|line| line.as_ref().unwrap().contains("\"ready\"")).unwrap().unwrap();
    assert!(ready.contains(&at.to_string()), "{ready}");
    assert_eq!(early.answer().unwrap().status, 200, "who waited is served");
    assert_eq!(get(at, "/readyz").status, 200);

    // And SIGTERM ends it well.
    let terminated = Command::new("kill").arg(gateway.id().to_string()).status().unwrap();
    assert!(terminated.success());
    assert!(gateway.wait().unwrap().success());
}
