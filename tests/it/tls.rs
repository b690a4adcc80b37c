//! TLS, and a certificate that changes while the gateway runs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gateway::{Gateway, PLAIN, eventually, taku};
use super::http2;
use super::kill::Process;
use super::wire::{Wire, get_bytes};

/// Writes a new certificate for localhost and gives it back.
pub fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

pub fn text(folder: &Path) -> String {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let limits = "limits = { head_timeout = \"500ms\" }";
    PLAIN.replace("drain", &format!("{limits}\ntls = {{ cert = {cert:?}, key = {key:?} }}\ndrain"))
}

/// A client that trusts `certificate`, and speaks these protocols.
pub fn trusting(certificate: &CertificateDer<'static>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// A connection after its handshake.
pub async fn connect(gateway: &Gateway, config: Arc<ClientConfig>) -> std::io::Result<TlsStream> {
    connect_to(gateway.at.callbacks, config).await
}

async fn connect_to(at: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, stream).await
}

#[test]
fn http1_and_http2_over_tls_and_a_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let gateway = Gateway::start(&text(folder.path()));
    http2::run(async {
        let mut stream = connect(&gateway, trusting(&first, &[])).await.unwrap();
        stream.write_all(get_bytes(&taku("t1")).as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");

        let stream = connect(&gateway, trusting(&first, &[b"h2", b"http/1.1"])).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = http2::Client::over(stream).await;
        assert_eq!(client.get(&taku("t2")).await, 200);
    });
    let second = certificate(folder.path());
    assert_ne!(first, second);
    gateway.reload(&text(folder.path()));
    eventually("the new certificate", || {
        http2::run(connect(&gateway, trusting(&second, &[]))).is_ok()
    });
    assert!(http2::run(connect(&gateway, trusting(&first, &[]))).is_err());
}

/// 1. A renewal replaces the certificate, and not yet its key: a reload changes nothing.
/// 2. `check` and another start say the same.
/// 3. The key comes too: the new pair is active.
#[test]
fn a_certificate_without_its_key_is_refused_by_a_reload_a_check_and_a_start() {
    let (folder, renewed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = certificate(folder.path());
    let second = certificate(renewed.path());
    let renew = |file: &str| {
        std::fs::copy(renewed.path().join(file), folder.path().join(file)).unwrap();
    };
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, text(folder.path())).unwrap();
    let process = Process::start(&config);
    renew("cert.pem");
    process.signal("HUP");
    let said = "does not belong to the certificate in";
    process.await_line(said);
    process.await_line("the old one stays active");
    assert!(http2::run(connect_to(process.callbacks, trusting(&first, &[]))).is_ok());
    for command in ["check", "serve"] {
        let mut postern = Command::new(env!("CARGO_BIN_EXE_postern"));
        let ended = postern.arg(command).arg("--config").arg(&config).output().unwrap();
        let err = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{command}: {err}");
        assert!(err.contains("server.tls.cert") && err.contains(said), "{command}: {err}");
    }
    renew("key.pem");
    eventually("the new certificate", || {
        http2::run(connect_to(process.callbacks, trusting(&second, &[]))).is_ok()
    });
    process.kill();
}

#[test]
fn a_handshake_that_does_not_come_is_cut_off_and_plain_http_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let gateway = Gateway::start(&text(folder.path()));
    let mut silent = Wire::open(gateway.at.callbacks);
    assert!(silent.is_closed());
    let mut plain = Wire::open(gateway.at.callbacks);
    plain.send(get_bytes(&taku("t3")));
    assert!(plain.try_send("") && !matches!(plain.raw_answer(), Some(true)));
}
