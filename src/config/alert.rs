//! `[[alert]]`: where operators are notified of problems, and of which.

use std::time::Duration;

use http::uri::Authority;

use super::file::{Item, Read, Section, ValueError};
use super::{limits, network, secret, unit};
use crate::sender::Secret;

pub(super) const KEYS: &[&str] =
    &["name", "url", "type", "secret", "to", "on", "language", "remind"];

const TYPES: &[(&str, AlertType)] = &[
    ("webhook", AlertType::Webhook),
    ("email", AlertType::Email),
    ("slack", AlertType::Slack),
    ("feishu", AlertType::Feishu),
    ("dingtalk", AlertType::Dingtalk),
    ("wecom", AlertType::Wecom),
];

const CONDITIONS: &[(&str, AlertCondition)] = &[
    ("refusals", AlertCondition::Refusals),
    ("silent", AlertCondition::Silent),
    ("failing", AlertCondition::Failing),
    ("breaker", AlertCondition::Breaker),
    ("dead", AlertCondition::Dead),
    ("overdue", AlertCondition::Overdue),
    ("quarantine", AlertCondition::Quarantine),
    ("store", AlertCondition::Store),
    ("keys", AlertCondition::Keys),
    ("certificate", AlertCondition::Certificate),
    ("reload", AlertCondition::Reload),
    ("archive", AlertCondition::Archive),
];

const LANGUAGES: &[(&str, AlertLanguage)] =
    &[("en", AlertLanguage::English), ("zh", AlertLanguage::Chinese)];

const SMTP: &str = "\"smtp://user:password@smtp.example.com:587\" or \"smtps://…:465\"";

/// The port of `smtp://`, where STARTTLS is used.
const SUBMISSION_PORT: u16 = 587;
/// The port of `smtps://`, where TLS is used from the first byte.
const SUBMISSIONS_PORT: u16 = 465;

/// One channel to operators.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Where and how it is sent.
    pub channel: AlertChannel,
    /// The conditions that it reports.
    pub on: Vec<AlertCondition>,
    /// The language of its texts.
    pub language: AlertLanguage,
    /// The interval of reminders while a condition lasts.
    pub remind: Duration,
}

/// Where an alert is sent, in the form that the receiver wants.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertChannel {
    /// JSON, signed as events are.
    Webhook(Hook),
    /// An e-mail.
    Email(MailServer, Vec<String>),
    /// An incoming webhook of Slack.
    Slack(Hook),
    /// A custom bot of Feishu or Lark.
    Feishu(Hook),
    /// A custom robot of DingTalk.
    Dingtalk(Hook),
    /// A group robot of WeCom.
    Wecom(Hook),
}

/// A URL that is posted to; it holds a secret, or is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// The URL.
    pub url: Secret,
    /// The secrets that sign, the newest first.
    pub secrets: Vec<Secret>,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq)]
pub struct MailServer {
    /// When TLS begins.
    pub security: MailSecurity,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The account, if it wants one.
    pub user: Option<String>,
    /// The password of the account.
    pub password: Option<Secret>,
    /// The sender's address.
    pub from: String,
}

/// When TLS begins on a connection to a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// From the first byte (`smtps://`).
    Tls,
    /// After STARTTLS (`smtp://`). A server that does not offer it gets no password.
    StartTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AlertType {
    Webhook,
    Email,
    Slack,
    Feishu,
    Dingtalk,
    Wecom,
}

/// Problems that operators are notified of: a closed set, also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertCondition {
    /// A source rejects a larger share of its callbacks than usual.
    Refusals,
    /// A source has had no callback for longer than usual.
    Silent,
    /// Deliveries to a destination fail.
    Failing,
    /// The circuit breaker of a destination is open.
    Breaker,
    /// A destination has dead letters.
    Dead,
    /// Deliveries to a destination are overdue.
    Overdue,
    /// Callbacks wait for a decision in quarantine.
    Quarantine,
    /// The store is nearly full, damaged, unreachable or has stopped.
    Store,
    /// A sender's key set is stale.
    Keys,
    /// A certificate expires soon.
    Certificate,
    /// A changed configuration was not applied.
    Reload,
    /// Expired events wait for an archive that cannot be written.
    Archive,
}

/// The language of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertLanguage {
    /// English.
    English,
    /// Chinese, in simplified characters.
    Chinese,
}

impl AlertChannel {
    /// The name of its type in the configuration.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Email(..) => "email",
            Self::Slack(_) => "slack",
            Self::Feishu(_) => "feishu",
            Self::Dingtalk(_) => "dingtalk",
            Self::Wecom(_) => "wecom",
        }
    }
}

impl AlertCondition {
    /// Every condition.
    pub fn all() -> impl Iterator<Item = Self> {
        CONDITIONS.iter().map(|(_, condition)| *condition)
    }

    /// The name in the configuration, in webhooks and as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        CONDITIONS.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }

    /// The condition of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        CONDITIONS.iter().find(|(known, _)| *known == name).map(|(_, condition)| *condition)
    }
}

/// The tables of `[[alert]]`.
pub(super) fn all(sections: &[Section<'_>]) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    for section in sections {
        let Some(alert) = check(section) else { continue };
        if alerts.iter().any(|other| other.name == alert.name) {
            let is_first = |other: &&Section<'_>| other.peek("name") == Some(alert.name.as_str());
            let first = sections.iter().find(is_first).map(|other| other.place("name"));
            let first = first.unwrap_or_default();
            let what = format!("{} is the name of another alert{first}", alert.name);
            section.fault("name", what, "give each its own name");
        }
        alerts.push(alert);
    }
    alerts
}

fn check(section: &Section<'_>) -> Option<Alert> {
    section.refuse_unknown(KEYS);
    let name = section.need("name", "\"oncall\"", unit::name);
    let kind = section.take_or("type", AlertType::Webhook, unit::word(TYPES));
    let channel = channel(section, kind);
    let on = section.list("on", unit::word(CONDITIONS));
    if on.as_ref().is_some_and(Vec::is_empty) && !section.is_faulty("on") {
        section.fault("on", "is an empty list", "omit it for all conditions, or omit the alert");
    }
    let remind = unit::duration(limits::ALERT_REMIND_BOUND);
    Some(Alert {
        on: on.unwrap_or_else(|| AlertCondition::all().collect()),
        language: section.take_or("language", AlertLanguage::English, unit::word(LANGUAGES)),
        remind: section.take_or("remind", limits::ALERT_REMIND, remind),
        channel: channel?,
        name: name?,
    })
}

fn channel(section: &Section<'_>, kind: AlertType) -> Option<AlertChannel> {
    if kind == AlertType::Email {
        return email(section);
    }
    if section.has("to") {
        section.fault("to", "belongs to type = \"email\"", "omit it: the URL names the receiver");
    }
    let url = section.need("url", "\"env:ALERT_URL\"", network::hook);
    let hook = Hook { secrets: secrets(section, kind), url: url? };
    Some(match kind {
        AlertType::Webhook => AlertChannel::Webhook(hook),
        AlertType::Slack => AlertChannel::Slack(hook),
        AlertType::Feishu => AlertChannel::Feishu(hook),
        AlertType::Dingtalk => AlertChannel::Dingtalk(hook),
        AlertType::Wecom | AlertType::Email => AlertChannel::Wecom(hook),
    })
}

fn secrets(section: &Section<'_>, kind: AlertType) -> Vec<Secret> {
    match kind {
        AlertType::Webhook => {
            if !section.has("secret") {
                let remedy =
                    "write secret = \"env:…\"; make one: echo \"whsec_$(openssl rand -base64 32)\"";
                section.warning(
                    "secret",
                    "is missing: alerts are sent without a signature",
                    remedy,
                );
            }
            section.list("secret", secret::webhook_secret).unwrap_or_default()
        }
        AlertType::Feishu | AlertType::Dingtalk => {
            section.take("secret", secret::secret).into_iter().collect()
        }
        AlertType::Slack | AlertType::Wecom | AlertType::Email => {
            if section.has("secret") {
                let what = "is not used: this type has its secret in the URL";
                section.fault("secret", what, "omit it");
            }
            Vec::new()
        }
    }
}

// === E-mail ===

fn email(section: &Section<'_>) -> Option<AlertChannel> {
    if !cfg!(feature = "email") {
        section.fault(
            "type",
            "is email, which this program was built without",
            "build it with --features email",
        );
    }
    secrets(section, AlertType::Email);
    let server = section.need("url", "\"env:ALERT_SMTP_URL\"", mail_server);
    let to = section.list("to", address).unwrap_or_default();
    if to.is_empty() && !section.is_faulty("to") {
        section.fault("to", "is missing", "write to = [\"ops@example.com\"]");
    }
    Some(AlertChannel::Email(server?, to))
}

fn address(item: &Item<'_>) -> Read<String> {
    let text = item.text("an e-mail address")?;
    match is_address(text) {
        true => Ok(text.to_owned()),
        false => {
            Err(ValueError::new(format!("{text:?} is not an e-mail address"), "write name@host"))
        }
    }
}

fn is_address(text: &str) -> bool {
    let plain =
        text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"<>,;\"".contains(c));
    plain
        && text
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// A mail server as a URL: `smtp://user:password@host:587/?from=name@host`.
fn mail_server(item: &Item<'_>) -> Read<MailServer> {
    let url = secret::secret(item)?;
    let text = std::str::from_utf8(url.expose()).unwrap_or_default();
    read_mail_server(text)
        .ok_or_else(|| ValueError::new("is not the URL of a mail server", format!("write {SMTP}")))
}

fn read_mail_server(text: &str) -> Option<MailServer> {
    let (scheme, rest) = text.split_once("://")?;
    let (security, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "smtp" => (MailSecurity::StartTls, SUBMISSION_PORT),
        "smtps" => (MailSecurity::Tls, SUBMISSIONS_PORT),
        _ => return None,
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = place.strip_suffix('/').unwrap_or(place);
    let (account, authority) = match place.rsplit_once('@') {
        Some((account, authority)) => (Some(account), authority),
        None => (None, place),
    };
    let authority = Authority::try_from(authority).ok()?;
    let host = authority.host().to_owned();
    let port = match authority.as_str().strip_prefix(host.as_str())? {
        "" => default_port,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
    };
    let (user, password) = match account {
        None => (None, None),
        Some(account) => {
            let (user, password) = account.split_once(':')?;
            (Some(decoded(user)?), Some(Secret::new(decoded(password)?)))
        }
    };
    let from = match query.strip_prefix("from=") {
        Some(from) => decoded(from)?,
        None if query.is_empty() => match &user {
            Some(user) if is_address(user) => user.clone(),
            _ => {
                format!("postern@{}", host.strip_prefix('[').map_or(host.as_str(), |_| "localhost"))
            }
        },
        None => return None,
    };
    is_address(&from).then_some(MailServer { security, host, port, user, password, from })
}

/// A text with its percent escapes decoded.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_servers_are_urls() {
        let read = |text| {
            read_mail_server(text).map(|server| {
                let MailServer { host, port, user, from, .. } = server;
                format!("{host} {port} {} {from}", user.unwrap_or_default())
            })
        };
        let known = [
            ("smtp://mail.example", "mail.example 587  postern@mail.example"),
            ("smtps://mail.example/", "mail.example 465  postern@mail.example"),
            ("smtp://a%40b.example:p%3Aw@m.example:25", "m.example 25 a@b.example a@b.example"),
            ("smtp://key:pw@m.example/?from=ops%40b.example", "m.example 587 key ops@b.example"),
            ("smtp://[::1]:2525", "[::1] 2525  postern@localhost"),
        ];
        for (text, expected) in known {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "http://m.example",
            "smtp://",
            "smtp://m:0",
            "smtp://u@m",
            "smtp://m/?x=1",
            "smtp://a%zz:b@m",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_condition_has_its_name() {
        for condition in AlertCondition::all() {
            assert_eq!(AlertCondition::from_name(condition.as_str()), Some(condition));
        }
        assert_eq!(AlertCondition::all().count(), 12);
    }
}
