//! Where a source is called: the URL to paste, and a call as a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Method;

use crate::config::{Config, Server, Source};
use crate::sender::OwnedRequest;

/// Where a listener that is bound to all addresses can be called from here.
pub(crate) fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Scheme and authority of the callback listener that is bound to `at`, as this machine reaches it.
pub(crate) fn listener(server: &Server, at: SocketAddr) -> String {
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", reachable(at))
}

/// Scheme and authority of the callback listener, as senders see it where that is known.
pub(crate) fn base_of(server: &Server, at: SocketAddr) -> String {
    server.public_url.clone().unwrap_or_else(|| listener(server, at))
}

/// The whole URL of a source, to paste into its sender's console: with the sender's own macros.
pub(crate) fn url_of(config: &Config, at: SocketAddr, source: &Source) -> String {
    let address = format!("{}{}", base_of(&config.server, at), source.path());
    match source.recipe.paste() {
        paste if paste.is_empty() => address,
        paste => format!("{address}?{paste}"),
    }
}

/// Whether nothing but a URL is needed to make that request.
pub(crate) fn is_plain(request: &OwnedRequest) -> bool {
    request.method == Method::GET && request.headers.is_empty() && request.body.is_empty()
}

/// The request as a URL.
pub(crate) fn called(base: &str, request: &OwnedRequest) -> String {
    format!("{base}{}", String::from_utf8_lossy(&request.target))
}

/// The request as a command for a POSIX shell.
pub(crate) fn curl(base: &str, request: &OwnedRequest) -> String {
    let mut line = format!("curl -i -X {}", request.method);
    for (name, value) in &request.headers {
        let field = format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        line.push_str(&format!(" -H {}", quoted(&field)));
    }
    if !request.body.is_empty() {
        let body = String::from_utf8_lossy(&request.body);
        line.push_str(&format!(" --data-binary {}", quoted(&body)));
    }
    format!("{line} {}", quoted(&called(base, request)))
}

/// In single quotes for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for text in ["", "a b", "it's", "$HOME `x` \"y\" \\", "''"] {
            let line = format!("printf %s {}", quoted(text));
            let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_called_on_loopback() {
        let called = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(called("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(called("[::]:9090"), "[::1]:9090");
        assert_eq!(called("10.1.2.3:9090"), "10.1.2.3:9090");
    }
}
