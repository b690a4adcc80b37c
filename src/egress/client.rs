//! One HTTP client per server: its connections, its TLS, and the guard in front of them.

mod fair_stream;

use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, vec};

use bytes::Bytes;
use http::{Request, Response, Uri, uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tower_service::Service;

use self::fair_stream::FairStream;
use super::address::keep_first;
use super::exchange::{ExchangeError, Exchanges, UnreadResponse};
use super::guard::{Guard, Scheme};
use crate::config::{ClientIdentity, KeyPairError, key_pair};

/// How long an idle connection is kept: less than the 5 s of Node, Apache and uvicorn. A server that
/// closes a connection while a request is on its way to it costs an attempt.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(4);

/// The time to connect, where a caller names none. The addresses of a name share it: one that does
/// not answer leaves the others a part of the time that the whole request has.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// The interval of pings on an HTTP/2 connection.
const PING_EVERY: Duration = Duration::from_secs(15);

/// The time for the answer to a ping. A dead connection is closed then: otherwise every request to
/// the server would time out on it.
const PING_TIME: Duration = Duration::from_secs(10);

/// The buffer of an HTTP/1.1 connection, in bytes. A response head has to fit into it: servers send
/// some KiB. A single read takes hardly more, so that the turns of a [`FairStream`] are short.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// The client of one server. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    pooled: legacy::Client<HttpsConnector<Guarded>, Full<Bytes>>,
    exchanges: Exchanges,
}

/// TLS settings: trusted authorities and the client certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trusted<'t> {
    /// PEM file of the authorities for the server's certificate, instead of the public ones.
    pub ca: Option<&'t Path>,
    /// The client certificate and its key.
    pub identity: Option<&'t ClientIdentity>,
    /// PEM file with the only certificate that the server may have, whatever name it is for: the
    /// program's own, which it reaches under an address.
    pub pinned: Option<&'t Path>,
}

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A file cannot be read or contains no PEM of the kind.
    #[error("{file}: {cause}", file = file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The reason.
        cause: rustls_pki_types::pem::Error,
    },
    /// The client certificate and its key are unusable.
    #[error("certificate or key: {0}")]
    Identity(#[from] KeyPairError),
    /// Certificates are unusable.
    #[error("certificate or key: {0}")]
    Tls(#[from] rustls::Error),
}

impl Client {
    /// A client that keeps up to `idle` idle connections and connects where `guard` allows.
    ///
    /// # Errors
    /// If a file of `trusted` is unusable.
    pub fn new(trusted: Trusted<'_>, idle: usize, guard: Guard) -> Result<Self, ClientError> {
        Self::connecting_within(CONNECT_TIME, trusted, idle, guard)
    }

    /// A client as [`Client::new`] makes it, which takes at most `connect_time` to connect. The first
    /// addresses of a name, two or more, are tried in turn, each for an equal part of it.
    ///
    /// # Errors
    /// If a file of `trusted` is unusable.
    pub fn connecting_within(
        connect_time: Duration,
        trusted: Trusted<'_>,
        idle: usize,
        guard: Guard,
    ) -> Result<Self, ClientError> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(trusted)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Guarded::new(guard, connect_time));
        let client = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(idle)
            .http1_max_buf_size(BUFFER_BYTES)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIME)
            .build(connector.clone());
        Ok(Self { pooled: client, exchanges: Exchanges::new(connector, idle) })
    }

    /// Sends `request` and returns when the response head is complete. Redirects are not followed.
    ///
    /// # Errors
    /// If there is no response; [`error_text`] describes the error.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        self.pooled.request(request).await
    }

    /// Sends `request` as [`Client::send`] does, for many requests to one server: the task that
    /// waits for the response drives the connection. The connection is kept for the next request if
    /// the body is read to its end.
    ///
    /// # Errors
    /// If there is no response; [`error_text`] describes the error.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<UnreadResponse, ExchangeError> {
        let request = match self.exchanges.is_multiplexed() {
            true => request,
            false => match self.exchanges.send(request).await? {
                Ok(reply) => return Ok(reply),
                Err(request) => request,
            },
        };
        // A future of some 5 kB, which the usual exchange does not carry.
        let response = Box::pin(self.pooled.request(request)).await;
        response.map(UnreadResponse::pooled).map_err(ExchangeError::Pooled)
    }
}

/// The description of `error` and its causes, from the outside in, for operators.
#[must_use]
pub fn error_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        // Writing to a string cannot fail. What is below the names repeats them.
        if let Some(said) = names_of_certificate(inner) {
            let _ = write!(text, ": {said}");
            break;
        }
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// The text in place of an error that lists the names in the server's certificate. A caller that
/// tests a URL over an API may learn that the certificate does not fit, but not what else runs
/// there.
fn names_of_certificate(error: &(dyn Error + 'static)) -> Option<&'static str> {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Some("the certificate is not valid for this name")
        }
        _ => None,
    }
}

/// The error of TLS in `error`. One of input and output shows the text of what it wraps, perhaps in
/// several layers, and does not name it as its source.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    let is_tls = error.downcast_ref::<rustls::Error>();
    is_tls.or_else(|| tls_error(error.downcast_ref::<io::Error>()?.get_ref()?))
}

#[cfg(test)]
impl Client {
    pub(super) fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }
}

// === TLS ===

fn tls(trusted: Trusted<'_>) -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    if let Some(file) = trusted.pinned {
        let verifier = Arc::new(Pinned::read(file, &provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        return Ok(builder.with_no_client_auth());
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(trusted.ca)?);
    let Some(identity) = trusted.identity else { return Ok(builder.with_no_client_auth()) };
    let pair = SingleCertAndKey::from(key_pair(&identity.cert, &identity.key)?);
    Ok(builder.with_client_cert_resolver(Arc::new(pair)))
}

/// Accepts one certificate, by its bytes, and checks that the server has its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn read(file: &Path, provider: &CryptoProvider) -> Result<Self, ClientError> {
        let certificate = CertificateDer::from_pem_file(file).map_err(in_file(file))?;
        Ok(Self { certificate, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The authorities of the file, or those of the system, which are read once.
fn roots(ca: Option<&Path>) -> Result<Arc<RootCertStore>, ClientError> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let Some(file) = ca else {
        return Ok(Arc::clone(SYSTEM.get_or_init(|| Arc::new(system_roots()))));
    };
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate)?;
    }
    Ok(Arc::new(store))
}

/// The authorities that TLS trusts where nothing else is said.
#[must_use]
pub fn authorities() -> Arc<RootCertStore> {
    // Without a file nothing can fail.
    roots(None).unwrap_or_else(|_| Arc::new(RootCertStore::empty()))
}

/// Whether the system has certificate authorities: a bare image has none.
#[must_use]
pub fn has_system_roots() -> bool {
    !rustls_native_certs::load_native_certs().certs.is_empty()
}

/// The authorities that the system trusts. A bare image has none: there Mozilla's list of the build
/// is used.
fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = store.add_parsable_certificates(found.certs);
    for error in found.errors {
        tracing::warn!(%error, "could not read an authority of the system");
    }
    tracing::debug!(added, ignored, "authorities of the system");
    if added == 0 {
        tracing::info!("the system has no certificate authorities, using Mozilla's list");
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(in_file(file))
}

fn in_file(file: &Path) -> impl FnOnce(rustls_pki_types::pem::Error) -> ClientError {
    let file = file.to_owned();
    move |cause| ClientError::File { file, cause }
}

// === The guard ===

pub(super) type BoxError = Box<dyn Error + Send + Sync>;
pub(super) type Connection = TokioIo<FairStream<TcpStream>>;

/// Resolves a name, once for each connection.
type Lookup = fn(Name) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// A connector that checks every address with the guard before it connects.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    guard: Arc<Guard>,
    lookup: Lookup,
    connect_time: Duration,
}

/// A resolver that drops addresses that the guard rejects, and those that there is no time for.
#[derive(Clone, Debug)]
struct Resolver {
    guard: Arc<Guard>,
    scheme: Scheme,
    lookup: Lookup,
    connect_time: Duration,
}

impl Guarded {
    fn new(guard: Guard, connect_time: Duration) -> Self {
        Self { guard: Arc::new(guard), lookup: system_lookup, connect_time }
    }
}

/// Resolves with the system, which reads `/etc/hosts`.
fn system_lookup(name: Name) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
    Box::pin(async move { Ok(GaiResolver::new().call(name).await?.collect()) })
}

impl Service<Uri> for Guarded {
    type Response = Connection;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connection, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Self { guard, lookup, connect_time } = self.clone();
        Box::pin(async move {
            let plain = to.scheme() == Some(&uri::Scheme::HTTP);
            let scheme = if plain { Scheme::Http } else { Scheme::Https };
            // A literal address is not resolved: the resolver never sees it.
            if let Some(address) = literal(&to) {
                guard.check(address, scheme)?;
            }
            let resolver = Resolver { guard, scheme, lookup, connect_time };
            let mut http = HttpConnector::new_with_resolver(resolver);
            http.enforce_http(false);
            http.set_nodelay(true);
            // Without it, the system tries the first address longer than any attempt lasts.
            http.set_connect_timeout(Some(connect_time));
            let stream = http.call(to).await?.into_inner();
            // Below TLS: a handshake and records without content are read in turns, too.
            Ok(TokioIo::new(FairStream::new(stream)))
        })
    }
}

fn literal(to: &Uri) -> Option<IpAddr> {
    let host = to.host()?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { guard, scheme, lookup, connect_time } = self.clone();
        Box::pin(async move {
            let found = lookup(name).await?.into_iter();
            let mut refused = None;
            let mut admitted: Vec<SocketAddr> = found
                .filter(|address| match guard.check(address.ip(), scheme) {
                    Ok(()) => true,
                    Err(why) => {
                        refused = Some(why);
                        false
                    }
                })
                .collect();
            keep_first(&mut admitted, connect_time);
            match refused {
                Some(why) if admitted.is_empty() => {
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
                }
                _ => Ok(admitted.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    use proptest::prelude::*;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::egress::Trust;

    fn guarded(trust: Trust, lookup: Lookup) -> Guarded {
        Guarded { lookup, ..Guarded::new(Guard::new(trust, vec![]), CONNECT_TIME) }
    }

    async fn refusal(trust: Trust, url: &str) -> String {
        let error = guarded(trust, system_lookup).call(url.parse().unwrap()).await;
        error_text(error.err().unwrap().as_ref())
    }

    #[tokio::test]
    async fn addresses_are_asked_about_however_they_are_written() {
        for url in [
            "http://169.254.169.254/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]:80/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://0251.0376.0251.0376/",
            "http://0251.254.43518/",
            "http://0.0.0.0:1/",
            "http://0/",
        ] {
            let error_text = refusal(Trust::File, url).await;
            assert!(error_text.contains("may not be reached"), "{url}: {error_text}");
        }
    }

    /// Any IPv4 address that is never reached, as a host in one of the spellings of `inet_aton`.
    fn forbidden_host() -> impl Strategy<Value = String> {
        let heads = prop_oneof![Just([169, 254]), Just([224, 0]), Just([0, 0])];
        let v4 = (heads, any::<[u8; 2]>()).prop_map(|([a, b], [c, d])| [a, b, c, d]);
        (v4, 0..9_u8).prop_map(|([a, b, c, d], form)| {
            let all = u32::from_be_bytes([a, b, c, d]);
            let (low2, low3) = (all & 0xffff, all & 0xff_ffff);
            let v4 = Ipv4Addr::from(all);
            let nat64 = Ipv6Addr::from((0x64_ff9b_u128 << 96) | u128::from(all));
            match form {
                0 => format!("{v4}"),
                1 => format!("{all}"),
                2 => format!("{all:#x}"),
                3 => format!("0{all:o}"),
                4 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
                5 => format!("{a:#x}.{b}.{low2}"),
                6 => format!("{a}.0{low3:o}"),
                7 => format!("[{}]", v4.to_ipv6_mapped()),
                _ => format!("[{nat64}]"),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_spelling_of_a_host_gets_around_the_guard(host in forbidden_host()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let error_text = runtime.unwrap().block_on(refusal(Trust::File, &format!("http://{host}:1/")));
            prop_assert!(error_text.contains("may not be reached"), "{}: {}", host, error_text);
        }
    }

    /// A name that resolves to loopback first, and to a metadata service from then on.
    #[tokio::test]
    async fn a_name_that_answers_differently_the_second_time_is_asked_about_each_time() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static PORT: AtomicU16 = AtomicU16::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        PORT.store(listener.local_addr().unwrap().port(), Ordering::Relaxed);
        let lookup: Lookup = |_| {
            let first = ASKED.fetch_add(1, Ordering::Relaxed) == 0;
            let ip: IpAddr = if first { [127, 0, 0, 1] } else { [169, 254, 169, 254] }.into();
            let port = PORT.load(Ordering::Relaxed);
            Box::pin(async move { Ok(vec![SocketAddr::new(ip, port)]) })
        };
        let mut guarded = guarded(Trust::File, lookup);
        let to: Uri =
            format!("http://rebinding.example:{}/", PORT.load(Ordering::Relaxed)).parse().unwrap();
        // The connection uses the checked address: the name is resolved once.
        guarded.call(to.clone()).await.unwrap();
        listener.accept().await.unwrap();
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        let error_text = error_text(guarded.call(to).await.err().unwrap().as_ref());
        assert!(error_text.contains("169.254.169.254 may not be reached"), "{error_text}");
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
    }

    /// Only the allowed ones of several addresses are tried.
    #[tokio::test]
    async fn a_name_with_good_and_bad_addresses_reaches_the_good_ones() {
        static PORT: AtomicU16 = AtomicU16::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        PORT.store(listener.local_addr().unwrap().port(), Ordering::Relaxed);
        let lookup: Lookup = |_| {
            let port = PORT.load(Ordering::Relaxed);
            let all = [[169, 254, 169, 254], [127, 0, 0, 1]].map(|ip| (ip, port).into());
            Box::pin(async move { Ok(all.to_vec()) })
        };
        let mut guarded = guarded(Trust::File, lookup);
        let to = format!("http://mixed.example:{}/", PORT.load(Ordering::Relaxed));
        guarded.call(to.parse().unwrap()).await.unwrap();
        listener.accept().await.unwrap();
    }

    /// A listener that accepts nothing, and whose queue is full: further connections wait.
    async fn full_listener() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (at, mut queue) = (listener.local_addr().unwrap(), Vec::new());
        let soon = Duration::from_millis(200);
        while let Ok(queued) = tokio::time::timeout(soon, TcpStream::connect(at)).await {
            queue.push(queued.unwrap());
        }
        (listener, queue)
    }

    #[tokio::test]
    async fn an_address_without_an_answer_leaves_time_for_the_next_one() {
        static ADDRESSES: OnceLock<[SocketAddr; 2]> = OnceLock::new();
        let (silent, _queue) = full_listener().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let both = [silent.local_addr().unwrap(), listener.local_addr().unwrap()];
        ADDRESSES.set(both).unwrap();
        let lookup: Lookup = |_| Box::pin(async { Ok(ADDRESSES.get().unwrap().to_vec()) });
        let mut guarded = guarded(Trust::File, lookup);
        guarded.connect_time = Duration::from_secs(1);
        // Without a port in the URL those of the addresses are used.
        guarded.call("http://two.example/".parse().unwrap()).await.unwrap();
        listener.accept().await.unwrap();
    }

    #[tokio::test]
    async fn a_name_is_asked_about_after_it_was_resolved() {
        let error_text = refusal(Trust::Api, "https://localhost:1/").await;
        assert!(error_text.contains("which is private"), "{error_text}");
    }
}
