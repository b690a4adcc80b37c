//! Alerts by e-mail. Addresses are checked by the egress guard, and a password is never sent in
//! clear.

use std::net::IpAddr;
use std::time::Duration;

use lettre::message::{Mailbox, Message, header::ContentType};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, CertificateStore, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::extension::ClientId;

use super::channel::SendError;
use crate::config::{MailSecurity, MailServer};
use crate::egress::{self, Guard, Trust};

/// The time limit of the whole conversation: servers delay unknown clients for several seconds.
const TIME: Duration = Duration::from_secs(30);

/// The name by which this client introduces itself.
const HELLO: &str = "postern.localdomain";

/// An e-mail.
pub(super) struct Mail<'m> {
    pub(super) to: &'m [String],
    pub(super) subject: &'m str,
    pub(super) text: String,
    pub(super) id: &'m str,
}

/// Sends an e-mail.
pub(super) async fn send(server: &MailServer, mail: Mail<'_>) -> Result<(), SendError> {
    let message = message(server, mail)?;
    let talked = tokio::time::timeout(TIME, talk(server, &message));
    talked.await.unwrap_or(Err(SendError::Late))
}

fn message(server: &MailServer, mail: Mail<'_>) -> Result<Message, SendError> {
    let mailbox = |address: &str| -> Result<Mailbox, SendError> {
        let address = address.parse();
        Ok(Mailbox::new(None, address.map_err(|_| SendError::Mail("an address is not valid"))?))
    };
    let host = server.from.split_once('@').map_or("localhost", |(_, host)| host);
    let mut builder = Message::builder()
        .from(mailbox(&server.from)?)
        .subject(mail.subject)
        .message_id(Some(format!("<{}@{host}>", mail.id)))
        .header(ContentType::TEXT_PLAIN);
    for address in mail.to {
        builder = builder.to(mailbox(address)?);
    }
    builder.body(mail.text).map_err(|_| SendError::Mail("the text cannot be written"))
}

async fn talk(server: &MailServer, message: &Message) -> Result<(), SendError> {
    let hello = ClientId::Domain(HELLO.to_owned());
    let wrapped = match server.security {
        MailSecurity::Tls => Some(tls(server)?),
        MailSecurity::StartTls => None,
    };
    let mut connection = connect(server, &hello, wrapped).await?;
    if connection.can_starttls() {
        connection.starttls(tls(server)?, &hello).await.map_err(failed)?;
    }
    if let (Some(user), Some(password)) = (&server.user, &server.password) {
        if !connection.is_encrypted() && !is_loopback(&server.host) {
            let what = "the server does not offer STARTTLS; the password is not sent in clear";
            return Err(SendError::Mail(what));
        }
        let password = String::from_utf8_lossy(password.expose()).into_owned();
        let account = Credentials::new(user.clone(), password);
        let known = [Mechanism::Plain, Mechanism::Login];
        connection.auth(&known, &account).await.map_err(failed)?;
    }
    connection.send(message.envelope(), &message.formatted()).await.map_err(failed)?;
    // The server has the message.
    let _ = connection.quit().await;
    Ok(())
}

/// Connects to the first address that answers, of those that the guard admits.
async fn connect(
    server: &MailServer,
    hello: &ClientId,
    tls: Option<TlsParameters>,
) -> Result<AsyncSmtpConnection, SendError> {
    let guard = Guard::new(Trust::File, Vec::new());
    let found = egress::resolve(&guard, &server.host, server.port).await;
    let found = found.map_err(|error| SendError::Unreached(error.to_string()))?;
    let mut last = SendError::Unreached(String::from("the name has no address"));
    for address in found {
        let connected =
            AsyncSmtpConnection::connect_tokio1(address, Some(TIME), hello, tls.clone(), None);
        match connected.await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = failed(error),
        }
    }
    Err(last)
}

fn tls(server: &MailServer) -> Result<TlsParameters, SendError> {
    let name = server.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    // A bare image has no authorities of its own.
    let store = match egress::has_system_roots() {
        true => CertificateStore::Default,
        false => CertificateStore::WebpkiRoots,
    };
    TlsParametersBuilder::new(name).certificate_store(store).build_rustls().map_err(failed)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn failed(error: lettre::transport::smtp::Error) -> SendError {
    SendError::Unreached(egress::error_text(&error))
}
