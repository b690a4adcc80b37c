//! `store.url`: what it may say, and what holds where it says nothing.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;

/// A server that does not answer a connection in this time is passed over for the next one.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// A peer that is silent so long is asked whether it lives, …
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// … so often, …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// … and is given up after so many questions: a machine that vanished is noticed in about 11 s,
/// while one that waits for its standby, and lives, is waited for.
const KEEPALIVE_RETRIES: u32 = 3;

/// The options that libpq's URLs know and that mean something else here.
const OURS: [(&str, &str); 3] = [
    ("sslrootcert", "write the file into store.ca"),
    ("sslcert", "client certificates are not supported; use a password"),
    ("target_session_attrs", "leave it out: writes always go to the server that takes them"),
];

/// Reads a URL; the text of an error never holds the URL, which has a password in it.
pub(super) fn parse(url: &str) -> Result<Config, String> {
    let url = verified(url)?;
    let mut config: Config = url.parse().map_err(|error| reason(&error))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if config.get_user().is_none() {
        return Err("names no user".to_owned());
    }
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIME);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_idle(KEEPALIVE_IDLE);
        config.keepalives_interval(KEEPALIVE_INTERVAL);
        config.keepalives_retries(KEEPALIVE_RETRIES);
    }
    if config.get_application_name().is_none() {
        config.application_name("postern");
    }
    Ok(config)
}

/// Whoever asks for TLS gets it verified, so the modes that ask for that are the same as
/// `require`.
fn verified(url: &str) -> Result<String, String> {
    let Some((head, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Some((_, remedy)) = OURS.iter().find(|(ours, _)| *ours == key) {
            return Err(format!("has the option {key}; {remedy}"));
        }
        match (key, value) {
            ("sslmode", "verify-full" | "verify-ca") => pairs.push("sslmode=require"),
            _ => pairs.push(pair),
        }
    }
    Ok(format!("{head}?{}", pairs.join("&")))
}

fn reason(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("cannot be read: {}", cause.unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn several_hosts_and_the_one_that_takes_writes() {
        let config = parse("postgres://u:p@a:1,b:2/d?sslmode=verify-full").unwrap();
        assert_eq!((config.get_hosts().len(), config.get_ports()), (2, &[1, 2][..]));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_TIME));
        let own = parse("postgres://u@a/d?connect_timeout=9&keepalives_interval=7").unwrap();
        assert_eq!(own.get_connect_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(own.get_keepalives_interval(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        let wrong = [
            ("postgres://u:hidden@h/d?sslrootcert=x", "store.ca"),
            ("postgres://u:hidden@h/d?target_session_attrs=any", "leave it out"),
            ("postgres://u:hidden@h/d?sslmode=perhaps", "sslmode"),
            ("postgres://u:hidden@h/d?colour=red", "colour"),
            ("postgres://u:hidden@h:x/d", "cannot be read"),
            ("postgres:///d?user=u", "no host"),
            ("postgres://h/d", "no user"),
        ];
        for (url, says) in wrong {
            let why = parse(url).unwrap_err();
            assert!(why.contains(says) && !why.contains("hidden"), "{url}: {why}");
        }
    }
}
