//! A call to the gateway's own callback listener, over the wire, as a sender would make it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::address::reachable;
use crate::clock::instant;
use crate::config::Server;
use crate::intake::CallbackHandler;
use crate::sender::OwnedRequest;

/// How long to wait for a reply: a held request (Taku, 2 s) ends before.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a reply that are read: replies are short.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The listener's response.
#[derive(Debug)]
pub(crate) struct Called {
    pub status: StatusCode,
    pub content_type: Option<String>,
    pub body: Bytes,
    pub took: Duration,
}

/// The purpose of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallPurpose<'g> {
    /// A test, known to the receiving path: it grants nothing.
    Test(&'g CallbackHandler),
    /// A callback like any other.
    Real,
}

/// Why the listener did not respond.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The target has characters in it that no URL may have.
    #[error("the URL has characters in it that have to be escaped")]
    NoUrl,
    /// The connection was closed before a response.
    #[error("the connection was closed without an answer")]
    Closed,
    /// The listener did not respond in time.
    #[error("there was no answer in time")]
    Late,
    /// The listener could not be reached.
    #[error("{0}")]
    Unreached(String),
}

/// Makes `request` to the listener of `server` that is bound to `at`.
///
/// # Errors
/// Why there is no response.
pub(crate) async fn call(
    server: &Server,
    at: SocketAddr,
    request: &OwnedRequest,
    purpose: CallPurpose<'_>,
) -> Result<Called, CallError> {
    let began = instant();
    let answered = async {
        let stream = TcpStream::connect(reachable(at)).await.map_err(unreached)?;
        let from = stream.local_addr().map_err(unreached)?;
        let _test = match purpose {
            CallPurpose::Test(callback_handler) => Some(callback_handler.begin_test_call(from)),
            CallPurpose::Real => None,
        };
        match &server.tls {
            None => exchange(stream, request, at, began).await,
            Some(files) => {
                let config = pinned(&files.cert)?;
                let name = ServerName::from(reachable(at).ip());
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let stream = connector.connect(name, stream).await.map_err(unreached)?;
                exchange(stream, request, at, began).await
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap_or(Err(CallError::Late))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: &OwnedRequest,
    at: SocketAddr,
    began: Instant,
) -> Result<Called, CallError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(unreached)?;
    let driver = tokio::spawn(connection);
    let sent = sender.send_request(written(request, at)?).await;
    let (head, body) = match sent {
        Ok(answer) => answer.into_parts(),
        Err(error) if error.is_incomplete_message() || error.is_closed() => {
            return Err(CallError::Closed);
        }
        Err(error) => return Err(unreached(error)),
    };
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| CallError::Unreached(error.to_string()))?.to_bytes();
    driver.abort();
    let content_type = head.headers.get(header::CONTENT_TYPE);
    Ok(Called {
        status: head.status,
        content_type: content_type.and_then(|value| Some(value.to_str().ok()?.to_owned())),
        body,
        took: began.elapsed(),
    })
}

fn written(request: &OwnedRequest, at: SocketAddr) -> Result<Request<Full<Bytes>>, CallError> {
    let uri = Uri::try_from(request.target.as_slice()).map_err(|_| CallError::NoUrl)?;
    let mut made = Request::new(Full::new(Bytes::from(request.body.clone())));
    *made.method_mut() = request.method.clone();
    *made.uri_mut() = uri;
    *made.headers_mut() = request.headers.clone();
    let headers = made.headers_mut();
    // These belong to this connection, whatever was captured.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    if !headers.contains_key(header::HOST) {
        let host = reachable(at).to_string();
        headers.insert(header::HOST, host.parse().map_err(|_| CallError::NoUrl)?);
    }
    Ok(made)
}

fn unreached(error: impl std::fmt::Display) -> CallError {
    CallError::Unreached(error.to_string())
}

// === The listener's own certificate, and no other ===

/// A client that trusts any server with the certificate in that file. The certificate's name and
/// its issuer do not matter here.
fn pinned(file: &std::path::Path) -> Result<ClientConfig, CallError> {
    let own = CertificateDer::pem_file_iter(file).and_then(|mut chain| chain.next().transpose());
    let own =
        own.map_err(unreached)?.ok_or_else(|| CallError::Unreached(file.display().to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Pinned { own, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unreached)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

#[derive(Debug)]
struct Pinned {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *shown == self.own {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
