//! Alerts over HTTP, each receiver's own form: its body, its signature, its sign of success.
//!
//! - Slack: `{"text": …}` to an incoming webhook; a 2xx is success.
//! - Feishu: a custom bot. With a secret, `timestamp` in seconds and `sign` are in the body: the
//!   base64 HMAC-SHA256 of nothing under the key `timestamp \n secret`. Success is `code` 0.
//! - DingTalk: a custom robot. With a secret, `timestamp` in milliseconds and `sign` are in the
//!   query: the base64 HMAC-SHA256 of `timestamp \n secret` under the secret. Success is `errcode` 0.
//! - WeCom: a group robot, whose key is in the URL. At most 2,048 bytes. Success is `errcode` 0.
//! - A webhook of one's own: JSON, signed as events are.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Value, json};
use sha2::Sha256;

use super::board::Notice;
use super::channel::SendError;
use super::incident::Detail;
use super::link::link;
use super::text::sentence;
use crate::clock::{UnixMillis, now_ms, rfc3339};
use crate::config::{AlertLanguage, Hook};
use crate::delivery::SignedMessage;
use crate::egress::{Client, Guard, Trust, Trusted, error_text};
use crate::sender::Secret;

/// The time limit of one call.
const TIME: Duration = Duration::from_secs(10);

/// Bytes of a response that are read: each of them is a few members of JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a text that WeCom takes.
const WECOM_BYTES_MAX: usize = 2048;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION")));

/// A request to a receiver.
#[derive(Debug, PartialEq)]
pub(super) struct Post {
    query: String,
    body: Value,
}

/// Where a receiver says that it took a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Success {
    Status,
    /// This member of the body is zero.
    Member(&'static str),
}

// === Forms ===

pub(super) fn slack(text: &str) -> Post {
    // These three have a meaning in its text.
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Post { query: String::new(), body: json!({ "text": text }) }
}

pub(super) fn feishu(text: &str, secret: Option<&Secret>, now_ms: UnixMillis) -> Post {
    let mut body = json!({ "msg_type": "text", "content": { "text": text } });
    if let (Some(secret), Some(table)) = (secret, body.as_object_mut()) {
        let timestamp = now_ms.div_euclid(1000).to_string();
        let key = [timestamp.as_bytes(), b"\n", secret.expose()].concat();
        table.insert(String::from("sign"), hmac(&key, b"").into());
        table.insert(String::from("timestamp"), timestamp.into());
    }
    Post { query: String::new(), body }
}

pub(super) fn dingtalk(text: &str, secret: Option<&Secret>, now_ms: UnixMillis) -> Post {
    let body = json!({ "msgtype": "text", "text": { "content": text } });
    let query = secret.map(|secret| {
        let signed = [now_ms.to_string().as_bytes(), b"\n", secret.expose()].concat();
        let sign = hmac(secret.expose(), &signed);
        let sign = sign.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("timestamp={now_ms}&sign={sign}")
    });
    Post { query: query.unwrap_or_default(), body }
}

pub(super) fn wecom(text: &str) -> Post {
    let mut end = text.len().min(WECOM_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let body = json!({ "msgtype": "text", "text": { "content": &text[..end] } });
    Post { query: String::new(), body }
}

/// The JSON of a webhook.
pub(super) fn webhook(notice: &Notice, language: AlertLanguage, console: &str) -> Value {
    let condition = notice.key.condition.as_str();
    let alert = if notice.detail == Detail::Test { "test" } else { condition };
    let mut body = json!({
        "alert": alert,
        "state": notice.state(),
        "since": rfc3339(notice.since_ms),
        "text": sentence(notice, language),
        "url": link(console, &notice.key),
    });
    let named = [("source", notice.key.source()), ("destination", notice.key.destination())];
    if let Some(table) = body.as_object_mut() {
        for (member, name) in named {
            if let Some(name) = name {
                table.insert(member.to_owned(), name.into());
            }
        }
    }
    body
}

/// The base64 HMAC-SHA256 of `text`. A key of any length is possible.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mut mac| {
        mac.update(text);
        mac.finalize().into_bytes()
    });
    mac.map_or_else(|_| String::new(), |mac| STANDARD.encode(mac))
}

// === Sending ===

/// Posts a message, and checks whether the receiver took it.
pub(super) async fn post(hook: &Hook, post: Post, success: Success) -> Result<(), SendError> {
    let Post { query, body } = post;
    let request = request(hook, &query, body.to_string().into())?;
    call(request, success).await
}

/// Posts the JSON of a webhook, signed as events are.
pub(super) async fn post_signed(hook: &Hook, id: &str, body: &Value) -> Result<(), SendError> {
    let body = body.to_string();
    let mut request = request(hook, "", Bytes::from(body.clone()))?;
    let message =
        SignedMessage { id, at_ms: now_ms(), secrets: &hook.secrets, body: body.as_bytes() };
    message.put(request.headers_mut());
    call(request, Success::Status).await
}

fn request(hook: &Hook, query: &str, body: Bytes) -> Result<Request<Full<Bytes>>, SendError> {
    let url = std::str::from_utf8(hook.url.expose()).or(Err(SendError::Url))?;
    let url = match (query, url.contains('?')) {
        ("", _) => url.to_owned(),
        (query, true) => format!("{url}&{query}"),
        (query, false) => format!("{url}?{query}"),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse::<Uri>().or(Err(SendError::Url))?;
    request.headers_mut().insert(header::CONTENT_TYPE, JSON);
    request.headers_mut().insert(header::USER_AGENT, AGENT);
    Ok(request)
}

async fn call(request: Request<Full<Bytes>>, success: Success) -> Result<(), SendError> {
    let guard = Guard::new(Trust::File, Vec::new());
    let client = Client::new(Trusted::default(), 0, guard);
    let client = client.map_err(|error| SendError::Unreached(error.to_string()))?;
    let called = async {
        let answer = client.send(request).await;
        let answer = answer.map_err(|error| SendError::Unreached(error_text(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        check(status, &body, success)
    };
    tokio::time::timeout(TIME, called).await.unwrap_or(Err(SendError::Late))
}

fn check(status: StatusCode, body: &[u8], success: Success) -> Result<(), SendError> {
    if !status.is_success() {
        return Err(SendError::Status(status));
    }
    let Success::Member(member) = success else { return Ok(()) };
    let said: Value = serde_json::from_slice(body).or(Err(SendError::Unreadable))?;
    match said.get(member).and_then(Value::as_i64) {
        Some(0) => Ok(()),
        Some(code) => Err(SendError::Code(code)),
        None => Err(SendError::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with the vendors' published samples of code, for these inputs.
    #[test]
    fn signatures_are_those_of_the_vendors() {
        let secret = Secret::new(*b"demo");
        let feishu = feishu("x", Some(&secret), 1_599_360_473_999).body;
        assert_eq!(feishu["timestamp"], "1599360473");
        assert_eq!(feishu["sign"], "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
        let dingtalk = dingtalk("x", Some(&secret), 1_599_360_473_999).query;
        let expected =
            "timestamp=1599360473999&sign=cx1fVbsnbM9Eu4kYv%2BImMXusNl4%2FMIGR7%2B0ODp8JE1E%3D";
        assert_eq!(dingtalk, expected);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let post = wecom(&"告".repeat(1000));
        let text = post.body["text"]["content"].as_str().unwrap();
        assert_eq!(text.len(), 2046);
    }

    #[test]
    fn success_is_what_the_receiver_says() {
        let code = Success::Member("errcode");
        let ok = StatusCode::OK;
        assert!(check(ok, b"{\"errcode\":0,\"errmsg\":\"ok\"}", code).is_ok());
        for refused in [&b"{\"errcode\":310000}"[..], b"{}", b"<html>", b""] {
            assert!(check(ok, refused, code).is_err());
        }
        assert!(check(ok, b"anything", Success::Status).is_ok());
        assert!(check(StatusCode::NOT_FOUND, b"{\"errcode\":0}", code).is_err());
        assert!(check(StatusCode::FOUND, b"", Success::Status).is_err());
    }
}
