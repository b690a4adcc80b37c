//! Deliveries over TLS: a private authority, a client certificate, HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;

use super::gateway::{Gateway, PLAIN, await_lines, taku};
use super::kill::Process;
use super::wire::{get, post, send};

/// Writes an authority, and a certificate with its key for a client; gives back how a server for
/// localhost of the same authority talks TLS, and only with that client.
pub fn authority(folder: &Path) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.pem"), own.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let made = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let (client, client_key) = made("postern");
    std::fs::write(folder.join("client.pem"), client.pem()).unwrap();
    std::fs::write(folder.join("client.key"), client_key.serialize_pem()).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(own.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (server, server_key) = made("localhost");
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap()
}

/// A backend that tells the version of each request that it got.
pub fn backend(
    mut tls: ServerConfig,
    protocols: &[&[u8]],
) -> (SocketAddr, mpsc::Receiver<Version>) {
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let (told, versions) = mpsc::channel();
    std::thread::spawn(move || super::http2::run(serve(listener, Arc::new(tls), told)));
    (at, versions)
}

async fn serve(
    listener: std::net::TcpListener,
    tls: Arc<ServerConfig>,
    told: mpsc::Sender<Version>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(stream).await else { continue };
        let told = told.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let _ = told.send(request.version());
            async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
        });
        tokio::spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn text(folder: &Path, at: SocketAddr, with: &[&str]) -> String {
    let port = at.port();
    let files: String = with
        .iter()
        .map(|line| line.replace("FOLDER", &folder.display().to_string()) + "\n")
        .collect();
    format!(
        "{PLAIN}destinations = [\"game\"]\n[[destination]]\nname = \"game\"\n\
         url = \"https://localhost:{port}/\"\n\
         retry = {{ first = \"20ms\", max = \"100ms\", attempts = 2 }}\n{files}"
    )
}

const CA: &str = "ca = \"FOLDER/ca.pem\"";
const IDENTITY: &str = "client_cert = \"FOLDER/client.pem\"\nclient_key = \"FOLDER/client.key\"";

#[test]
fn a_private_authority_a_client_certificate_and_both_versions() {
    let folder = tempfile::tempdir().unwrap();
    let tls = authority(folder.path());
    for (protocols, version) in [
        (&[&b"h2"[..], b"http/1.1"][..], Version::HTTP_2),
        (&[&b"http/1.1"[..]][..], Version::HTTP_11),
    ] {
        let (at, versions) = backend(tls.clone(), protocols);
        let gateway = Gateway::start(&text(folder.path(), at, &[CA, IDENTITY]));
        for n in 0..3 {
            assert_eq!(get(gateway.at.callbacks, &taku(&format!("v{n}"))).status, 200);
            assert_eq!(versions.recv_timeout(Duration::from_secs(10)).unwrap(), version);
        }
    }
}

#[test]
fn without_an_authority_of_its_own_the_systems_are_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let tls = authority(folder.path());
    let (at, versions) = backend(tls, &[b"http/1.1"]);
    let config = folder.path().join("postern.toml");
    std::fs::write(&config, text(folder.path(), at, &[IDENTITY])).unwrap();
    let process = Process::start_with(&config, &[("SSL_CERT_FILE", &folder.path().join("ca.pem"))]);
    assert_eq!(get(process.callbacks, &taku("s1")).status, 200);
    assert_eq!(versions.recv_timeout(Duration::from_secs(60)).unwrap(), Version::HTTP_11);
    process.kill();
}

#[test]
fn who_is_not_trusted_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tls = authority(folder.path());
    for with in [&[CA][..], &[IDENTITY][..]] {
        let (at, versions) = backend(tls.clone(), &[b"http/1.1"]);
        let gateway = Gateway::start(&text(folder.path(), at, with));
        assert_eq!(get(gateway.at.callbacks, &taku("n1")).status, 200);
        let dead = "postern_deliveries_total{destination=\"game\",outcome=\"dead\"}";
        gateway.await_metric(dead, 1.0);
        assert!(versions.try_recv().is_err(), "nothing was sent");
    }
    await_lines("UnknownIssuer", 1);
}

#[test]
fn a_failed_handshake_names_no_names_of_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (at, _versions) = backend(authority(folder.path()), &[b"http/1.1"]);
    let text = text(folder.path(), at, &[CA, IDENTITY]).replace("localhost:", "127.0.0.1:");
    let gateway = Gateway::start(&text);
    let tested = post(gateway.at.admin, "/admin/v1/destinations/game/test", "");
    assert!(tested.body.contains("not valid for this name"), "{}", tested.body);
    assert!(!tested.body.contains("localhost"), "{}", tested.body);
}

/// 1. A renewal replaces the key, and not yet the certificate.
/// 2. A change over the API applies the configuration, which knows only the names of the files.
/// 3. Deliveries go on with the pair of before.
#[test]
fn a_renewal_that_is_not_complete_costs_no_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let (at, versions) = backend(authority(folder.path()), &[b"http/1.1"]);
    let gateway = Gateway::start(&text(folder.path(), at, &[CA, IDENTITY]));
    let key = KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(folder.path().join("client.key"), key).unwrap();
    let other = "{\"url\":\"https://a.example/\"}";
    let made = send(gateway.at.admin, "PUT /admin/v1/destinations/other", &[], other);
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(get(gateway.at.callbacks, &taku("r1")).status, 200);
    versions.recv_timeout(Duration::from_secs(10)).unwrap();
    await_lines("could not read the certificates of a destination", 1);
}
