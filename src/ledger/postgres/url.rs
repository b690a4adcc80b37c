//! `store.url`: its options and their defaults.

use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The port of a host that names none.
const PORT: u16 = 5432;
/// A server that accepts no connection in this time is skipped for the next one.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Idle time before a peer is probed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// Interval of the probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// Number of probes until the peer counts as dead: a vanished machine is noticed in about 11 s,
/// while one that is alive and waits for its standby is waited for.
const KEEPALIVE_RETRIES: u32 = 3;

/// libpq options that have another form here.
const OURS: [(&str, &str); 3] = [
    ("sslrootcert", "write the file into store.ca"),
    ("sslcert", "client certificates are not supported; use a password"),
    ("target_session_attrs", "omit it: writes always go to the server that accepts them"),
];

/// Parses a URL; the text of an error never contains the URL, which has a password.
pub(super) fn parse(url: &str) -> Result<Config, String> {
    let url = verified(url)?;
    let mut config: Config = url.parse().map_err(|error| reason(&error))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if config.get_user().is_none() {
        return Err("names no user".to_owned());
    }
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

/// Each host of `config`, with its name for operators.
pub(super) fn hosts(config: &Config) -> Vec<(String, Config)> {
    let (names, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let port = |at: usize| match config.get_ports() {
        [] => PORT,
        [one] => *one,
        each => each.get(at).copied().unwrap_or(PORT),
    };
    (0..names.len().max(addresses.len()))
        .map(|at| {
            let mut one = alone(config);
            let mut name = String::new();
            if let Some(address) = addresses.get(at) {
                one.hostaddr(*address);
                name = address.to_string();
            }
            match names.get(at) {
                Some(Host::Tcp(host)) => {
                    one.host(host);
                    name.clone_from(host);
                }
                Some(Host::Unix(path)) => {
                    one.host_path(path);
                    name = path.display().to_string();
                }
                None => {}
            }
            one.port(port(at));
            (format!("{name}:{}", port(at)), one)
        })
        .collect()
}

/// The settings of `config` without its hosts.
fn alone(config: &Config) -> Config {
    let mut one = Config::new();
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle());
    config.get_user().map(|user| one.user(user));
    config.get_password().map(|password| one.password(password));
    config.get_dbname().map(|name| one.dbname(name));
    config.get_options().map(|options| one.options(options));
    config.get_application_name().map(|name| one.application_name(name));
    config.get_connect_timeout().map(|time| one.connect_timeout(*time));
    config.get_tcp_user_timeout().map(|time| one.tcp_user_timeout(*time));
    config.get_keepalives_interval().map(|time| one.keepalives_interval(time));
    config.get_keepalives_retries().map(|count| one.keepalives_retries(count));
    one
}

/// Replaces the verifying modes by `require`: TLS is always verified.
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
        let each = hosts(&config);
        let names: Vec<&str> = each.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a:1", "b:2"]);
        assert_eq!((each[1].1.get_hosts().len(), each[1].1.get_ports()), (1, &[2][..]));
        assert_eq!(each[1].1.get_password(), Some(&b"p"[..]));
        assert_eq!(each[1].1.get_dbname(), Some("d"));
        assert_eq!(each[1].1.get_connect_timeout(), Some(&CONNECT_TIME));
        assert_eq!(each[1].1.get_ssl_mode(), SslMode::Require);
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
            ("postgres://u:hidden@h/d?target_session_attrs=any", "omit it"),
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
