//! Listeners that are handed over: a restart refuses no connection.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use super::wire::{Wire, get, get_bytes};

/// A gateway that gets `listener` under that name, as a service manager passes it.
fn gateway_with(name: &str, listener: TcpListener, config: &Path) -> Command {
    let mut gateway = Command::new("sh");
    gateway
        .arg("-c")
        .arg("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"")
        .args([env!("CARGO_BIN_EXE_postern"), "serve", "--log-format", "json", "--config"])
        .arg(config)
        .env("LISTEN_FDNAMES", name)
        .current_dir(config.parent().unwrap())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::piped());
    gateway
}

#[test]
fn a_listener_whose_name_is_wrong_ends_the_start_as_its_callers_would_wait_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n")
        .unwrap();
    let ended = gateway_with("callback", listener, &config).output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success(), "{text}");
    assert!(text.contains("no use for the socket named") && text.contains("callbacks"), "{text}");
}

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
    let mut gateway = gateway_with("admin", listener, &config).spawn().unwrap();
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
