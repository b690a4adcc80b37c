//! Test vectors of senders: a request as on the wire, and its expected result.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::definition_error::DefinitionError;
use super::file;
use super::recipe::{Confirming, LiveSecret, MaxAge, Replay, Terms, Weak};
use super::time;
use crate::sender::crypto::secret::Secret;
use crate::sender::request::Request;

/// One vector.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Vector {
    pub(in crate::sender) about: String,
    pub(in crate::sender) source: toml::Table,
    /// Public keys by id, as written.
    pub(in crate::sender) keys: BTreeMap<String, String>,
    pub(in crate::sender) now_ms: Option<i64>,
    pub(in crate::sender) request: OwnedRequest,
    expect: toml::Table,
}

/// A request with buffers of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRequest {
    /// The method.
    pub method: Method,
    /// Scheme and authority as the sender sees them; empty where they do not matter.
    pub base: String,
    /// Path and query as on the wire.
    pub target: Vec<u8>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl OwnedRequest {
    /// The request, borrowed.
    #[must_use]
    pub fn borrow(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            base: &self.base,
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// Reads a request written as text: request line without version, headers, an empty line, the
    /// body. The target is a path with its query, or the whole URL.
    ///
    /// # Errors
    /// A [`DefinitionError`] if the text is not a request.
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default();
        let wrong = |what: &str| {
            DefinitionError::new("request", what, "write METHOD /target, headers, body")
        };
        let (method, target) = line.split_once(' ').ok_or_else(|| wrong("has no target"))?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong("has no method"))?;
        let whole = target.starts_with("http://") || target.starts_with("https://");
        let authority = target.find("://").filter(|_| whole).map_or(0, |at| at + 3);
        let path = if authority > 0 { target[authority..].find(['/', '?']) } else { Some(0) };
        let path = path.map_or(target.len(), |at| authority + at);
        let (base, target) = target.split_at(path);
        let mut headers = HeaderMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| wrong("has a bad header"))?;
            let name = HeaderName::from_bytes(name.trim().as_bytes());
            let value = HeaderValue::from_str(value.trim());
            match (name, value) {
                (Ok(name), Ok(value)) => headers.append(name, value),
                _ => return Err(wrong("has a bad header")),
            };
        }
        Ok(Self { method, base: base.into(), target: target.into(), headers, body: body.into() })
    }
}

impl Vector {
    pub(in crate::sender) fn parse(vector: file::Vector) -> Result<Self, DefinitionError> {
        let now_ms = match vector.now {
            None => None,
            Some(now) => {
                let stamp: Result<jiff::Timestamp, _> = now.to_string().parse();
                let stamp = stamp.map_err(|_| {
                    DefinitionError::new("now", "is not a point in time", "write it with an offset")
                })?;
                Some(stamp.as_millisecond())
            }
        };
        Ok(Self {
            about: vector.about,
            source: vector.source,
            keys: vector.keys,
            now_ms,
            request: OwnedRequest::parse(&vector.request)?,
            expect: vector.expect,
        })
    }

    /// Whether it expects `key` to be `value`.
    pub(in crate::sender) fn expects(&self, key: &str, value: &str) -> bool {
        self.expected(key) == Some(value)
    }

    /// The keys that it expects something of.
    pub(in crate::sender) fn expectations(&self) -> impl Iterator<Item = &str> {
        self.expect.keys().map(String::as_str)
    }

    /// The expected value of `key`.
    pub(in crate::sender) fn expected(&self, key: &str) -> Option<&str> {
        self.expect.get(key).and_then(toml::Value::as_str)
    }

    /// The terms of the vector's source.
    pub(in crate::sender) fn terms(&self) -> Terms {
        let keys = self.keys.clone();
        let mut terms = Terms { source: "vector".into(), keys, ..Terms::default() };
        for (key, value) in &self.source {
            match (key.as_str(), value) {
                ("secrets", toml::Value::String(secret)) => terms.secrets.push(live(0, secret)),
                ("secrets", toml::Value::Array(list)) => {
                    let texts = list.iter().filter_map(toml::Value::as_str).enumerate();
                    terms.secrets.extend(texts.map(|(index, secret)| live(index, secret)));
                }
                ("params", toml::Value::Table(params)) => {
                    terms.params = params
                        .iter()
                        .filter_map(|(name, wire)| Some((name.clone(), wire.as_str()?.to_owned())))
                        .collect();
                }
                ("require", toml::Value::Array(list)) => {
                    terms.require =
                        list.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
                }
                ("confirmed", toml::Value::Array(list)) => {
                    terms.confirmed =
                        list.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
                }
                ("replayable", toml::Value::Boolean(true)) => terms.replayable = Replay::Accepted,
                ("weak", toml::Value::Boolean(true)) => terms.weak = Weak::Accepted,
                ("confirm", toml::Value::Boolean(true)) => terms.confirm = Confirming::ByGateway,
                ("reply", toml::Value::Table(reply)) => terms.reply = reply.clone(),
                ("unsigned", toml::Value::Boolean(true)) => terms.unsigned = true,
                ("template", toml::Value::String(text)) => terms.template = Some(text.clone()),
                ("max_age", toml::Value::String(text)) => {
                    terms.max_age = Some(max_age(text));
                }
                (name, toml::Value::String(text)) => {
                    terms.settings.insert(name.to_owned(), Secret::new(text.as_bytes()));
                }
                _ => {}
            }
        }
        terms
    }
}

fn live(index: usize, secret: &str) -> LiveSecret {
    LiveSecret {
        id: (index + 1).to_string(),
        value: Secret::new(secret.as_bytes()),
        until_ms: None,
    }
}

fn max_age(text: &str) -> MaxAge {
    match time::duration_ms(text) {
        Some(ms) => MaxAge::Within(std::time::Duration::from_millis(ms.unsigned_abs())),
        None => MaxAge::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_request_keeps_its_body() {
        let request =
            OwnedRequest::parse("POST /?a=1\nContent-Type: text/xml\n\n<xml>\n\n</xml>\n").unwrap();
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.target, b"/?a=1");
        assert_eq!(request.headers["content-type"], "text/xml");
        assert_eq!(request.body, b"<xml>\n\n</xml>\n");
        assert!(OwnedRequest::parse("GET").is_err());
        let request = OwnedRequest::parse("GET https://h:8/callback/a?u=http://x/").unwrap();
        assert_eq!(request.base, "https://h:8");
        assert_eq!(request.target, b"/callback/a?u=http://x/");
        let request = OwnedRequest::parse("GET /?u=http://x/").unwrap();
        assert_eq!((&*request.base, &*request.target), ("", &b"/?u=http://x/"[..]));
    }
}
