//! Client certificates of callers: each source has its own authorities, and others on the same
//! listener need none.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::gateway::{Gateway, PLAIN, taku};
use super::http2;

/// The certificates and the key that a caller presents.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// An authority of a sender.
struct Authority(Issuer<'static, KeyPair>);

/// The mistake in a certificate, if there is one.
#[derive(Clone, Copy)]
enum Flaw {
    None,
    Expired,
    NotYet,
    ForServers,
}

impl Authority {
    /// A new one, with its certificate in `file`.
    fn create(file: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, file.display().to_string());
        std::fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self(Issuer::new(params, key))
    }

    /// A caller's certificate, through an authority in between.
    fn issue(&self, flaw: Flaw) -> Identity {
        let between = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(rcgen::DnType::CommonName, "between");
        let intermediate = params.signed_by(&between, &self.0).unwrap();
        let between = Issuer::new(params, between);

        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([String::from("caller")]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        match flaw {
            Flaw::None => {}
            Flaw::Expired => params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            Flaw::NotYet => params.not_before = rcgen::date_time_ymd(4000, 1, 1),
            Flaw::ForServers => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
        }
        let own = params.signed_by(&key, &between).unwrap();
        let chain = vec![own.der().clone(), intermediate.der().clone()];
        (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// A listener with TLS, and sources with and without authorities.
struct Scene {
    folder: tempfile::TempDir,
    server: CertificateDer<'static>,
    ours: Authority,
    others: Authority,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let ours = Authority::create(&folder.path().join("ours.pem"));
        let others = Authority::create(&folder.path().join("others.pem"));
        Self { server: made.cert.der().clone(), folder, ours, others }
    }

    /// A configuration where `level-end` has that line.
    fn text(&self, client_ca: &str) -> String {
        let at = |name: &str| self.folder.path().join(name);
        let tls =
            format!("tls = {{ cert = {:?}, key = {:?} }}\ndrain", at("cert.pem"), at("key.pem"));
        let more = ["other", "open"].map(|name| {
            let ca = if name == "other" { "client_ca = \"OTHERS\"\n" } else { "" };
            let own = &PLAIN[PLAIN.find("[[source]]").unwrap()..];
            own.replace("level-end", name) + ca
        });
        let text = format!("{}{client_ca}\n{}", PLAIN.replace("drain", &tls), more.concat());
        let file = |name: &str| at(name).display().to_string();
        text.replace("OURS", &file("ours.pem")).replace("OTHERS", &file("others.pem"))
    }

    fn client(
        &self,
        identity: Option<Identity>,
        protocol: &[u8],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

type Stream = TlsStream<TcpStream>;

async fn connect(gateway: &Gateway, config: &Arc<ClientConfig>) -> Stream {
    let stream = TcpStream::connect(gateway.at.callbacks).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap()
}

/// The answer to one request; `None` if the connection has ended.
async fn try_ask(stream: &mut Stream, target: &str) -> Option<String> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(answer).unwrap())
}

async fn ask(stream: &mut Stream, target: &str) -> String {
    try_ask(stream, target).await.expect("an answer")
}

fn status(answer: &str) -> u16 {
    answer[9..12].parse().unwrap()
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

fn target(source: &str, n: &mut u32) -> String {
    *n += 1;
    taku(&format!("ca{n}")).replace("level-end", source)
}

#[test]
fn a_source_takes_calls_with_a_certificate_of_its_authority_only() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.text("client_ca = \"OURS\""));
    let issue = |by: &Authority, flaw| Some(by.issue(flaw));
    let table = [
        ("right", issue(&scene.ours, Flaw::None), 200, 602),
        ("none", None, 602, 602),
        ("of another source", issue(&scene.others, Flaw::None), 602, 200),
        (
            "of an unknown authority",
            issue(&Authority::create(&scene.folder.path().join("s")), Flaw::None),
            602,
            602,
        ),
        ("expired", issue(&scene.ours, Flaw::Expired), 602, 602),
        ("not valid yet", issue(&scene.ours, Flaw::NotYet), 602, 602),
        ("for servers", issue(&scene.ours, Flaw::ForServers), 602, 602),
    ];
    let mut n = 0;
    let mut refused = 0;
    for (what, identity, at_ours, at_others) in table {
        refused += 2 * u32::from(at_ours == 602);
        let cloned = || identity.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()));
        http2::run(async {
            let mut one = connect(&gateway, &scene.client(cloned(), b"http/1.1", BOTH)).await;
            for (source, expected) in [("open", 200), ("level-end", at_ours), ("other", at_others)]
            {
                let answer = ask(&mut one, &target(source, &mut n)).await;
                assert_eq!(status(&answer), expected, "{what}, {source}");
            }
            let two = connect(&gateway, &scene.client(cloned(), b"h2", BOTH)).await;
            let mut two = http2::Client::over(two).await;
            for (source, expected) in [("other", at_others), ("level-end", at_ours), ("open", 200)]
            {
                let got = two.get(&target(source, &mut n)).await;
                assert_eq!(got, expected, "{what}, {source}, HTTP/2");
            }
        });
    }
    let reason = "postern_rejections_total{reason=\"client_certificate\",source=\"level-end\"}";
    gateway.await_metric(reason, f64::from(refused));
}

/// The head is that of any other rejection, such as that of a forged signature.
#[test]
fn the_reply_is_the_senders_own() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.text("client_ca = \"OURS\""));
    http2::run(async {
        let mut stream = connect(&gateway, &scene.client(None, b"http/1.1", BOTH)).await;
        let without_date = |answer: String| -> Vec<String> {
            answer.lines().filter(|line| !line.starts_with("date")).map(str::to_owned).collect()
        };
        let refused = without_date(ask(&mut stream, &taku("r1")).await);
        let forged = without_date(ask(&mut stream, "/callback/open?sign=00").await);
        assert_eq!(refused, forged);
    });
}

#[test]
fn a_resumed_session_has_the_certificate_of_its_first_connection() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.text("client_ca = \"OURS\""));
    let mut n = 0;
    for version in BOTH {
        for (identity, expected) in [(Some(scene.ours.issue(Flaw::None)), 200), (None, 602)] {
            let config = scene.client(identity, b"http/1.1", &[version]);
            http2::run(async {
                for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                    let mut stream = connect(&gateway, &config).await;
                    for (source, expected) in [("level-end", expected), ("other", 602)] {
                        let answer = ask(&mut stream, &target(source, &mut n)).await;
                        assert_eq!(status(&answer), expected, "{version:?} {kind:?} {source}");
                    }
                    assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
                }
            });
        }
    }
}

/// 1. The source has no authority: a caller with a certificate connects, and is not asked for it.
/// 2. It gets one. The open connection is refused, and ends; the next one is not resumed, so that
///    the caller is asked.
/// 3. It gets another one: a session that is resumed is held against that one.
#[test]
fn what_a_reload_changes_holds_for_open_connections_and_for_sessions() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.text("").replace("client_ca", "# client_ca"));
    let config = scene.client(Some(scene.ours.issue(Flaw::None)), b"http/1.1", BOTH);
    let mut n = 0;
    http2::run(async {
        let mut before = connect(&gateway, &config).await;
        assert_eq!(status(&ask(&mut before, &target("level-end", &mut n)).await), 200);

        gateway.reload(&scene.text("client_ca = \"OURS\""));
        let mut last = String::new();
        while let Some(answer) = try_ask(&mut before, &target("level-end", &mut n)).await {
            last = answer;
        }
        assert!(matches!(status(&last), 200 | 602), "{last}");
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut next = connect(&gateway, &config).await;
            assert_eq!(status(&ask(&mut next, &target("level-end", &mut n)).await), 200);
            assert_eq!(next.get_ref().1.handshake_kind(), Some(kind));
        }

        gateway.reload(&scene.text("client_ca = \"OTHERS\""));
        loop {
            let mut next = connect(&gateway, &config).await;
            let answer = ask(&mut next, &target("level-end", &mut n)).await;
            assert_eq!(next.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
            if status(&answer) == 602 {
                break;
            }
        }
    });
}
