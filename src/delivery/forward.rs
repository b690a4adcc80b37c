//! The sender's own request, forwarded: method, query, body, and the headers of its contract.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Uri};

use super::outbound_request::PayloadError;
use crate::sender::{Catalog, SenderEffects};

/// Facts of senders' files, by the sender's name: the headers that each reads, and the effects of
/// its events. No other header is forwarded: any caller can add headers to a callback, and backends
/// obey some of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReadFields(BTreeMap<String, OfSender>);

/// Headers that the file of one sender reads.
#[derive(Debug, PartialEq, Eq)]
struct OfSender {
    read: Vec<HeaderName>,
    /// Headers with their aliases.
    names: Vec<(HeaderName, HeaderName)>,
    effects: SenderEffects,
}

impl OfSender {
    /// The headers that were read in a callback with `fields`. An alias is not read beside its
    /// header: it was not verified.
    fn read_in(&self, fields: &[(HeaderName, HeaderValue)]) -> Vec<&HeaderName> {
        let is_first = |name: &HeaderName| self.names.iter().any(|(first, _)| first == name);
        let is_second = |name: &HeaderName| self.names.iter().any(|(_, second)| second == name);
        let first_came = fields.iter().any(|(name, _)| is_first(name));
        self.read.iter().filter(|name| !(first_came && is_second(name))).collect()
    }
}

/// Headers of one connection: never forwarded, even where a sender's file reads them.
const OF_THE_CONNECTION: [HeaderName; 6] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
];

impl ReadFields {
    /// The headers of all senders of `catalog`.
    pub(super) fn of(catalog: &Catalog) -> Self {
        let of_one = |sender: &std::sync::Arc<crate::sender::Sender>| {
            let mut fields = sender.headers();
            fields.retain(|name| !OF_THE_CONNECTION.contains(name));
            let names = sender.header_names().to_vec();
            let effects = sender.effects();
            (sender.name().to_owned(), OfSender { read: fields, names, effects })
        };
        Self(catalog.iter().map(of_one).collect())
    }

    /// The effects of the events of `sender`, if its file is known.
    pub(super) fn effects(&self, sender: &str) -> Option<&SenderEffects> {
        self.0.get(sender).map(|one| &one.effects)
    }

    /// The forwarded headers of a callback of `sender`: those that its file reads, and the content
    /// type.
    pub(super) fn kept(&self, sender: &str, fields: Vec<(HeaderName, HeaderValue)>) -> HeaderMap {
        let read = self.0.get(sender).map_or_else(Vec::new, |one| one.read_in(&fields));
        let is_kept = |name: &HeaderName| *name == header::CONTENT_TYPE || read.contains(&name);
        let mut kept = HeaderMap::new();
        for (name, value) in fields.into_iter().filter(|(name, _)| is_kept(name)) {
            kept.append(name, value);
        }
        kept
    }
}

/// The URL with `query` after its own. Bytes that a URL must not contain are escaped; everything
/// else stays as the sender wrote it.
pub(super) fn with_query(to: &Uri, query: &[u8]) -> Result<Uri, PayloadError> {
    if query.is_empty() {
        return Ok(to.clone());
    }
    let mut text = to.to_string();
    text.push(if to.query().is_some() { '&' } else { '?' });
    for byte in query {
        match byte {
            b'"' | b'<' | b'>' | b'#' | 0..=b' ' | 0x7f.. => {
                // Writing to a string cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text.parse().map_err(|error| PayloadError::Url(format!("{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_forwarded_unchanged() {
        let with = |to: &'static str, query: &[u8]| {
            with_query(&Uri::from_static(to), query).unwrap().to_string()
        };
        assert_eq!(with("http://a/x", b"a=1&b=%7B+c"), "http://a/x?a=1&b=%7B+c");
        assert_eq!(with("http://a/x?k=v", b"a=1"), "http://a/x?k=v&a=1");
        assert_eq!(with("http://a", b"a=1"), "http://a/?a=1");
        assert_eq!(with("http://a/x?k=v", b""), "http://a/x?k=v");
        assert_eq!(with("http://a/", b"n={\"k\":<\xe4#>}"), "http://a/?n={%22k%22:%3C%E4%23%3E}");
    }

    #[test]
    fn only_headers_that_the_file_reads_are_forwarded() {
        let fields = ReadFields::of(&Catalog::embedded().unwrap());
        let came = [
            "content-type",
            "x-hub-signature-256",
            "x-github-delivery",
            "authorization",
            "cookie",
            "x-http-method-override",
            "x-original-url",
            "x-forwarded-for",
            "webhook-id",
            "webhook-signature",
            "svix-id",
            "host",
            "signature",
        ];
        let kept = |sender: &str| -> Vec<String> {
            let value = HeaderValue::from_static("v");
            let came = came.iter().map(|name| (HeaderName::from_static(name), value.clone()));
            let kept = fields.kept(sender, came.collect());
            kept.keys().map(|name| name.as_str().to_owned()).collect()
        };
        assert_eq!(kept("taku"), ["content-type"]);
        assert!(kept("github").contains(&"x-hub-signature-256".to_owned()));
        assert!(!kept("github").contains(&"webhook-id".to_owned()));
        assert_eq!(kept("standard-webhooks"), ["content-type", "webhook-id", "webhook-signature"]);
        assert_eq!(kept("a sender that is gone"), ["content-type"]);
        let second = HeaderName::from_static("svix-id");
        let alone = vec![(second.clone(), HeaderValue::from_static("v"))];
        assert!(fields.kept("standard-webhooks", alone).contains_key(second));
    }
}
