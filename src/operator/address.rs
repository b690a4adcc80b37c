//! Where a source is called: the URL to paste, and a call as a command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Method;

use super::masked::{Masked, RawShown};
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

/// Headers that curl writes itself.
const OF_CURL: [&str; 3] = ["connection", "content-length", "host"];

/// The request as a command for a POSIX shell.
pub(crate) fn curl(base: &str, request: &OwnedRequest) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.as_str(), text(value.as_bytes())));
    Command {
        method: request.method.as_str(),
        url: &called(base, request),
        headers: headers.collect(),
        body: &text(&request.body),
    }
    .line()
}

/// The request that is shown as a command for a POSIX shell: what is masked stays masked. `None`: its
/// body is not shown.
pub(crate) fn curl_of_shown(base: &str, masked: &Masked<'_>, shown: &RawShown) -> Option<String> {
    let headers = masked.headers.iter().map(|(name, value)| (*name, value.clone()));
    let command = Command {
        method: masked.method,
        url: &format!("{base}{}", shown.target),
        headers: headers.filter(|(name, _)| !OF_CURL.contains(name)).collect(),
        body: shown.body.as_deref()?,
    };
    Some(command.line())
}

/// The parts of a curl command.
struct Command<'c> {
    method: &'c str,
    url: &'c str,
    headers: Vec<(&'c str, String)>,
    body: &'c str,
}

impl Command<'_> {
    fn line(&self) -> String {
        let mut line = format!("curl -i -X {}", self.method);
        // Brackets and braces in a URL are patterns to curl.
        if self.url.contains(['[', ']', '{', '}']) {
            line.push_str(" -g");
        }
        for (name, value) in &self.headers {
            // A header without a value follows the name with a semicolon.
            let field = match value.as_str() {
                "" => format!("{name};"),
                value => format!("{name}: {value}"),
            };
            line.push_str(&format!(" -H {}", quoted(&field)));
        }
        if !self.body.is_empty() {
            if !self.headers.iter().any(|(name, _)| *name == "content-type") {
                line.push_str(" -H 'content-type:'");
            }
            // Not --data-binary: to that, a body that begins with @ names a file to send.
            line.push_str(&format!(" --data-raw {}", quoted(self.body)));
        }
        format!("{line} {}", quoted(self.url))
    }
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
