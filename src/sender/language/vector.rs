//! Test vectors of senders: a request as on the wire, and its expected result.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::definition_error::DefinitionError;
use super::file;
use super::nearest::meant;
use super::recipe::{Confirming, LiveSecret, MaxAge, Replay, Terms, Weak};
use super::time;
use crate::sender::acts::outcome::{Outcome, Reason};
use crate::sender::acts::resolved::{Effect, Fact, Role};
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
    expect: BTreeMap<String, String>,
}

/// The names that a vector can expect something of, besides the roles.
const EXPECTED: [&str; 11] = [
    "outcome",
    "reason",
    "reply",
    "kind",
    "effect",
    "authenticated",
    "events",
    "misfits",
    "recut",
    "test",
    "unresolved",
];

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
    /// Reads a vector as written.
    ///
    /// # Errors
    /// All errors in it.
    pub(in crate::sender) fn parse(vector: file::Vector) -> Result<Self, Vec<DefinitionError>> {
        let now_ms = vector.now.as_ref().map(point_in_time).transpose();
        let request = OwnedRequest::parse(&vector.request);
        match (now_ms, request, expectations(vector.expect)) {
            (Ok(now_ms), Ok(request), Ok(expect)) => Ok(Self {
                about: vector.about,
                source: vector.source,
                keys: vector.keys,
                now_ms,
                request,
                expect,
            }),
            (now_ms, request, expect) => {
                let mut faults: Vec<_> = now_ms.err().into_iter().chain(request.err()).collect();
                faults.extend(expect.err().unwrap_or_default());
                Err(faults)
            }
        }
    }

    /// Whether it expects `key` to be `value`.
    pub(in crate::sender) fn expects(&self, key: &str, value: &str) -> bool {
        self.expected(key) == Some(value)
    }

    /// The keys that it expects something of.
    pub(in crate::sender) fn expectations(&self) -> impl Iterator<Item = &str> {
        self.expect.keys().map(String::as_str)
    }

    /// The expected value of `key`, as a text.
    pub(in crate::sender) fn expected(&self, key: &str) -> Option<&str> {
        self.expect.get(key).map(String::as_str)
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

fn point_in_time(now: &toml::value::Datetime) -> Result<i64, DefinitionError> {
    let stamp: Result<jiff::Timestamp, _> = now.to_string().parse();
    let wrong =
        |_| DefinitionError::new("now", "is not a point in time", "write it with an offset");
    stamp.map(jiff::Timestamp::as_millisecond).map_err(wrong)
}

/// The expectations, each as text. A misspelled one would expect nothing.
fn expectations(written: toml::Table) -> Result<BTreeMap<String, String>, Vec<DefinitionError>> {
    let (mut expected, mut faults) = (BTreeMap::new(), Vec::new());
    for (key, value) in written {
        let text = match value {
            toml::Value::String(text) => Ok(text),
            toml::Value::Integer(number) => Ok(number.to_string()),
            toml::Value::Boolean(truth) => Ok(truth.to_string()),
            _ => Err(DefinitionError::new(&*key, "is not a text", "write it in quotes")),
        };
        match text.and_then(|text| expectable(&key, text)) {
            Ok(text) => drop(expected.insert(key, text)),
            Err(fault) => faults.push(fault.under("expect")),
        }
    }
    if faults.is_empty() { Ok(expected) } else { Err(faults) }
}

/// `text` as the expected value of `key`, if a callback can have it.
fn expectable(key: &str, text: String) -> Result<String, DefinitionError> {
    let roles = Role::ALL.map(Role::as_str);
    let check = |what: &str, words: &[&str]| match text.split(' ').find(|w| !words.contains(w)) {
        Some(word) => {
            Err(DefinitionError::new(key, format!("`{word}` is {what}"), meant(word, words)))
        }
        None => Ok(()),
    };
    let checked = match key {
        "outcome" => check(
            "not an outcome",
            &Outcome::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>(),
        ),
        // Empty: it expects no reason, and nothing authenticated.
        "reason" | "authenticated" if text.is_empty() => Ok(()),
        "reason" => {
            check("not a reason", &Reason::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>())
        }
        "effect" => check("not an effect", &Effect::ALL.map(Effect::as_str)),
        "authenticated" => {
            let facts = [Fact::Kind, Fact::Test].map(Fact::as_str);
            check("neither a role nor kind or test", &[&roles[..], &facts].concat())
        }
        "test" => check("neither true nor false", &["true", "false"]),
        _ if EXPECTED.contains(&key) || Role::from_name(key).is_some() => Ok(()),
        _ => {
            let what = "is nothing that a vector can expect";
            Err(DefinitionError::new(key, what, meant(key, &[&EXPECTED[..], &roles].concat())))
        }
    };
    checked.map(|()| text)
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
