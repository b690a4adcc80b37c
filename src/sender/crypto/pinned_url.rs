//! URLs in callbacks that the gateway may call: their host and path are pinned by the sender's file.
//!
//! A URL is compared as text in its one canonical spelling: `https`, a host in lower case without
//! user, port or escapes, and a path without escapes or dot segments. So no two parsers can
//! understand it differently.

use std::ops::RangeInclusive;

use crate::sender::language::definition_error::DefinitionError;

/// Bytes of a URL that may be called: those of confirmations hold a token of 300 characters.
const PINNED_URL_MAX: usize = 1024;

/// Bytes of the label that a `*` stands for: a region of a cloud.
const LABEL_BYTES: RangeInclusive<usize> = 3..=40;

/// The label of Amazon's cloud. Anybody can have a bucket of any name there, and `sns` is at
/// `sns.s3-us-west-2.amazonaws.com`. So a `*` beside it is a region.
const AMAZON: &str = "amazonaws";

/// Bytes of the first word of a region: `us`, `eusc`.
const AREA_BYTES: RangeInclusive<usize> = 2..=4;

/// Digits of the number of a region.
const NUMBER_BYTES: RangeInclusive<usize> = 1..=2;

/// Bytes that a `*` in a path stands for: the known ones are 32 hexadecimal digits.
const NAME_BYTES: RangeInclusive<usize> = 1..=64;

/// Hosts and paths that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct UrlPins {
    /// Hosts in lower case; a label `*` is any one label, or a region of Amazon's.
    hosts: Vec<Box<str>>,
    path: PathPin,
}

/// The path of a URL that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PathPin {
    /// The start; with a `?` in it, the rest of the query is free.
    Prefix(Box<str>),
    /// The end; there is no query.
    Suffix(Box<str>),
    /// The start and the end, with letters and digits between them; there is no query.
    Around(Box<str>, Box<str>),
}

impl UrlPins {
    /// Reads `hosts` and `path` of a sender file.
    ///
    /// # Errors
    /// A [`DefinitionError`] under `hosts` or `path`.
    pub(in crate::sender) fn parse(hosts: &[String], path: &str) -> Result<Self, DefinitionError> {
        if hosts.is_empty() {
            let remedy = "pin the hosts: hosts = [\"sns.*.amazonaws.com\"]";
            return Err(DefinitionError::new("hosts", "is missing", remedy));
        }
        if let Some(wrong) = hosts.iter().find(|host| !is_host_pattern(host)) {
            let remedy = "write a host in lower case, with at most `*` for whole labels before \
                          the last two";
            return Err(DefinitionError::new("hosts", format!("has {wrong:?}"), remedy));
        }
        let Some(path) = PathPin::parse(path) else {
            let remedy = "write a path with its start, \"/certs/\", its end, \"*.pem\", or both, \
                          \"/certs/*.pem\"";
            return Err(DefinitionError::new("path", "is not a path", remedy));
        };
        Ok(Self { hosts: hosts.iter().map(|host| host.as_str().into()).collect(), path })
    }

    /// Whether `url` may be called.
    pub(in crate::sender) fn allow(&self, url: &[u8]) -> bool {
        let Some((host, rest)) = split(url) else { return false };
        self.hosts.iter().any(|pattern| is_like(host, pattern)) && self.path.allows(rest)
    }

    /// The first host, for a log.
    pub(in crate::sender) fn host(&self) -> &str {
        self.hosts.first().map_or("", |host| host)
    }

    /// The hosts.
    pub(in crate::sender) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(|host| &**host)
    }
}

impl PathPin {
    fn parse(path: &str) -> Option<Self> {
        match path.split_once('*') {
            Some((start, end)) if is_path(start) && is_path(end) && !end.is_empty() => {
                match start {
                    "" => Some(Self::Suffix(end.into())),
                    _ => start.starts_with('/').then(|| Self::Around(start.into(), end.into())),
                }
            }
            // A query may have a `*`, which stands for itself.
            _ => (path.starts_with('/') && is_query(path)).then(|| Self::Prefix(path.into())),
        }
    }

    fn allows(&self, rest: &str) -> bool {
        match self {
            Self::Suffix(end) => is_path(rest) && rest.len() > end.len() && rest.ends_with(&**end),
            Self::Around(start, end) => {
                let name = rest.strip_prefix(&**start).and_then(|rest| rest.strip_suffix(&**end));
                name.is_some_and(|name| {
                    NAME_BYTES.contains(&name.len())
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
                })
            }
            Self::Prefix(start) => {
                let is_right = if start.contains('?') { is_query } else { is_path };
                rest.starts_with(&**start) && is_right(rest)
            }
        }
    }
}

/// Host, and path with query, of a URL in its canonical spelling.
fn split(url: &[u8]) -> Option<(&str, &str)> {
    let url = std::str::from_utf8(url).ok().filter(|url| url.len() <= PINNED_URL_MAX)?;
    let rest = url.strip_prefix("https://")?;
    let (host, _) = rest.split_once('/')?;
    let is_host = host.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_label));
    is_host.then(|| (host, &rest[host.len()..]))
}

fn is_of_label(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Whether `host` has the labels of `pattern`, one for one.
fn is_like(host: &str, pattern: &str) -> bool {
    let is_of_amazon = pattern.split('.').any(|label| label == AMAZON);
    let stands =
        |label: &str| LABEL_BYTES.contains(&label.len()) && (!is_of_amazon || is_region(label));
    let (mut labels, mut wanted) = (host.split('.'), pattern.split('.'));
    loop {
        match (labels.next(), wanted.next()) {
            (None, None) => return true,
            (Some(label), Some("*")) if stands(label) => {}
            (Some(label), Some(word)) if label == word => {}
            _ => return false,
        }
    }
}

/// Whether a label is a region of Amazon's: words of letters, and a number (`us-gov-west-1`).
fn is_region(label: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|one| one.is_ascii_lowercase());
    let Some((words, number)) = label.rsplit_once('-') else { return false };
    let Some((area, places)) = words.split_once('-') else { return false };
    AREA_BYTES.contains(&area.len())
        && is_word(area)
        && places.split('-').all(is_word)
        && NUMBER_BYTES.contains(&number.len())
        && number.bytes().all(|one| one.is_ascii_digit())
}

/// A pattern ends in a registered name: a `*` there would be any host of all.
fn is_host_pattern(host: &str) -> bool {
    let labels: Vec<&str> = host.split('.').collect();
    let is_plain = |label: &&str| !label.is_empty() && label.bytes().all(is_of_label);
    let (front, end) = labels.split_at(labels.len().saturating_sub(2));
    end.len() == 2
        && end.iter().all(&is_plain)
        && front.iter().all(|label| *label == "*" || is_plain(label))
}

/// Whether `text` is a path, without query, escapes or dot segments.
fn is_path(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let has_dots = text.split('/').any(|segment| segment == "." || segment == "..");
    text.bytes().all(is_right) && !has_dots
}

/// Whether `text` is a path, perhaps with a query.
fn is_query(text: &str) -> bool {
    let is_right =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    match text.split_once('?') {
        Some((path, query)) => is_path(path) && query.bytes().all(is_right),
        None => is_path(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(hosts: &[&str], path: &str) -> Result<UrlPins, DefinitionError> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        UrlPins::parse(&hosts, path)
    }

    #[test]
    fn only_the_pinned_host_and_path_are_called() {
        let aws = pins(&["sns.*.amazonaws.com", "sns.*.amazonaws.com.cn"], "*.pem").unwrap();
        for url in [
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/x.pem",
        ] {
            assert!(aws.allow(url.as_bytes()), "{url}");
        }
        for url in [
            "http://sns.us-east-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com.evil.com/x.pem",
            "https://evil.com/sns.us-east-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com@evil.com/x.pem",
            "https://sns.us-east-1.amazonaws.com:444/x.pem",
            "https://sns.us-east-1.amazonaws.com/x.pem?a",
            "https://sns.us-east-1.amazonaws.com/x.pem#.pem",
            "https://sns.us-east-1.amazonaws.com/../x.pem",
            "https://sns.us-east-1.amazonaws.com/a%2f.pem",
            "https://sns.us-east-1.amazonaws.com\\/x.pem",
            "https://SNS.us-east-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com./x.pem",
            "https://sns..amazonaws.com/x.pem",
            "https://sns.a.b.amazonaws.com/x.pem",
            "https://sns.ab.amazonaws.com/x.pem",
            "https://sns.amazonaws.com/x.pem",
            "https://s3.us-east-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com/.pem/x",
            "https://sns.us-east-1.amazonaws.com",
            "",
        ] {
            assert!(!aws.allow(url.as_bytes()), "{url}");
        }
        assert!(!aws.allow(b"https://sns.us-east-1.amazonaws.com/\xff.pem"));
        let long = format!("https://sns.us-east-1.amazonaws.com/{}.pem", "a".repeat(1000));
        assert!(!aws.allow(long.as_bytes()));
    }

    #[test]
    fn at_amazon_a_star_is_a_region_and_never_a_bucket() {
        let pins = pins(&["sns.*.amazonaws.com", "sns.*.amazonaws.com.cn"], "*.pem").unwrap();
        for region in
            ["us-east-1", "us-gov-west-1", "ap-southeast-12", "il-central-1", "cn-north-1"]
        {
            for host in ["amazonaws.com", "amazonaws.com.cn"] {
                let url = format!("https://sns.{region}.{host}/x.pem");
                assert!(pins.allow(url.as_bytes()), "{url}");
            }
        }
        for label in [
            "s3-us-west-2",
            "s3-website-us-east-1",
            "s3-fips-us-gov-west-1",
            "s3-accelerate",
            "compute-1",
            "us-1",
            "us-east",
            "us-east-",
            "us-east-100",
            "us--1",
            "-east-1",
            "us-e4st-1",
            "elastic-east-1",
        ] {
            let url = format!("https://sns.{label}.amazonaws.com/x.pem");
            assert!(!pins.allow(url.as_bytes()), "{url}");
        }
    }

    #[test]
    fn elsewhere_a_star_is_one_label() {
        let pins = pins(&["keys.*.example.com"], "*.pem").unwrap();
        for label in ["eu-1", "s3-eu-1", "europe"] {
            assert!(pins.allow(format!("https://keys.{label}.example.com/x.pem").as_bytes()));
        }
        assert!(!pins.allow(b"https://keys.a.b.example.com/x.pem"));
    }

    #[test]
    fn a_star_within_a_path_is_a_name() {
        let pins = pins(&["a.example.com"], "/Certificate-*.pem").unwrap();
        let may = |path: &str| pins.allow(format!("https://a.example.com{path}").as_bytes());
        assert!(may("/Certificate-0aF.pem"));
        for path in [
            "/Certificate-.pem",
            "/Certificate-a/b.pem",
            "/Certificate-a.b.pem",
            "/Certificate-a-b.pem",
            "/Certificate-a%62.pem",
            "/Certificate-a.pem?x",
            "/Certificate-.pe",
            "/x/Certificate-a.pem",
            "/b1.pem",
        ] {
            assert!(!may(path), "{path}");
        }
        assert!(!may(&format!("/Certificate-{}.pem", "a".repeat(65))));
    }

    #[test]
    fn a_start_with_a_query_leaves_the_rest_of_the_query_free() {
        let confirm = pins(&["sns.*.amazonaws.com"], "/?Action=ConfirmSubscription&").unwrap();
        let url = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-east-1:1:a&Token=2336";
        assert!(confirm.allow(url.as_bytes()));
        for wrong in ["Action=Unsubscribe&", "Action=ConfirmSubscription#&"] {
            let url = url.replace("Action=ConfirmSubscription&", wrong);
            assert!(!confirm.allow(url.as_bytes()), "{url}");
        }
        assert!(!confirm.allow(format!("{url} b").as_bytes()));
        let certs = pins(&["api.paypal.com"], "/v1/notifications/certs/").unwrap();
        assert!(
            certs.allow(b"https://api.paypal.com/v1/notifications/certs/CERT-360caa42-1d93a270")
        );
        assert!(!certs.allow(b"https://api.paypal.com/v1/notifications/certs/../../x"));
        assert!(!certs.allow(b"https://api.paypal.com/v1/notifications/certs/x?y"));
    }

    #[test]
    fn a_pattern_names_its_registered_host() {
        for host in [
            "",
            "com",
            "*",
            "*.com",
            "a.*.com",
            "*.*",
            "A.com",
            "a..com",
            "a.b*.c.com",
            "a.com:443",
        ] {
            assert_eq!(pins(&[host], "/").unwrap_err().key, "hosts", "{host}");
        }
        assert!(pins(&[], "/").is_err());
        for path in ["", "a", "*", "*?", "/a b", "/%2e", "/../", "/a*", "a*b", "/a*b*c", "/*?b"] {
            assert_eq!(pins(&["a.com"], path).unwrap_err().key, "path", "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_allowed_has_the_pinned_host_for_every_parser(rest in "[ -~]{0,60}") {
            let pins = pins(&["sns.*.amazonaws.com"], "*.pem").unwrap();
            let url = format!("https://sns.{rest}");
            if pins.allow(url.as_bytes()) {
                let uri: http::Uri = url.parse().unwrap();
                let host = uri.host().unwrap();
                let is_pinned = host.starts_with("sns.") && host.ends_with(".amazonaws.com");
                proptest::prop_assert!(is_pinned && uri.port().is_none() && uri.query().is_none());
            }
        }
    }
}
