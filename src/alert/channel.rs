//! The channels: notices become one message, or one each, in the form of the receiver.

use http::StatusCode;

use super::board::{Notice, NoticeKind};
use super::hook::{self, Success};
use super::incident::{Detail, Incident, Subject};
use super::link::link;
use super::text;
use crate::clock::now_ms;
use crate::config::{Alert, AlertChannel, AlertCondition, MailServer};

/// Notices in one message; a phone shows no more.
const LINES_MAX: usize = 20;

/// Why an alert was not sent. Shows no URL: it is a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The URL is not valid.
    #[error("the URL is not valid")]
    Url,
    /// The receiver is unreachable, or the guard rejects its address.
    #[error("not reachable: {0}")]
    Unreached(String),
    /// No answer in time.
    #[error("no answer in time")]
    Late,
    /// The receiver answered with this status.
    #[error("answered with status {0}")]
    Status(StatusCode),
    /// The receiver refused the message with this code of its own.
    #[error("refused the message with code {0}; look it up in the receiver's documentation")]
    Code(i64),
    /// The answer is not of the receiver's form: the URL may be that of another service.
    #[error("answered in another form than expected; check type and url")]
    Unreadable,
    /// The e-mail cannot be sent.
    #[error("{0}")]
    Mail(&'static str),
}

/// Sends a test to a channel. `console` is where its link leads.
///
/// # Errors
/// Why it was not sent.
pub async fn send_test(alert: &Alert, console: &str) -> Result<(), SendError> {
    let now_ms = now_ms();
    let problem = Incident::new(AlertCondition::Reload, Subject::Gateway, now_ms, Detail::Test);
    let notice = Notice {
        key: problem.key,
        kind: NoticeKind::Opened,
        since_ms: now_ms,
        detail: problem.detail,
        id: format!("alt_test_{now_ms}"),
    };
    send(alert, &[notice], console).await
}

/// Sends notices: a webhook gets one message, and the caller calls again for the rest. Others get
/// one message with all of them.
pub(super) async fn send(
    alert: &Alert,
    notices: &[Notice],
    console: &str,
) -> Result<(), SendError> {
    let Some(first) = notices.first() else { return Ok(()) };
    let now_ms = now_ms();
    let errcode = Success::Member("errcode");
    match &alert.channel {
        AlertChannel::Webhook(to) => {
            let body = hook::webhook(first, alert.language, console);
            hook::post_signed(to, &first.id, &body).await
        }
        AlertChannel::Email(server, to) => mail(alert, server, to, notices, console).await,
        AlertChannel::Slack(to) => {
            let post = hook::slack(&message(alert, notices, console));
            hook::post(to, post, Success::Status).await
        }
        AlertChannel::Feishu(to) => {
            let text = message(alert, notices, console);
            let post = hook::feishu(&text, to.secrets.first(), now_ms);
            hook::post(to, post, Success::Member("code")).await
        }
        AlertChannel::Dingtalk(to) => {
            let text = message(alert, notices, console);
            hook::post(to, hook::dingtalk(&text, to.secrets.first(), now_ms), errcode).await
        }
        AlertChannel::Wecom(to) => {
            hook::post(to, hook::wecom(&message(alert, notices, console)), errcode).await
        }
    }
}

/// How many notices one message of the channel has.
pub(super) fn at_once(alert: &Alert) -> usize {
    match alert.channel {
        AlertChannel::Webhook(_) => 1,
        _ => usize::MAX,
    }
}

#[cfg(feature = "email")]
async fn mail(
    alert: &Alert,
    server: &MailServer,
    to: &[String],
    notices: &[Notice],
    console: &str,
) -> Result<(), SendError> {
    let subject = text::title(notices, alert.language);
    let text = message(alert, notices, console);
    let id = notices.first().map_or("", |notice| notice.id.as_str());
    super::email::send(server, super::email::Mail { to, subject: &subject, text, id }).await
}

#[cfg(not(feature = "email"))]
async fn mail(
    _: &Alert,
    _: &MailServer,
    _: &[String],
    _: &[Notice],
    _: &str,
) -> Result<(), SendError> {
    Err(SendError::Mail("this program was built without e-mail"))
}

/// The text of one message: a line for each notice, with its link.
fn message(alert: &Alert, notices: &[Notice], console: &str) -> String {
    let line = |notice: &Notice| {
        let sentence = text::sentence(notice, alert.language);
        format!("[Postern] {sentence}\n{}", link(console, &notice.key))
    };
    let mut lines: Vec<String> = notices.iter().take(LINES_MAX).map(line).collect();
    if notices.len() > LINES_MAX {
        lines.push(text::more(notices.len() - LINES_MAX, alert.language));
    }
    lines.join("\n\n")
}
