//! Addresses for connections that are not HTTP.

use std::io;
use std::net::SocketAddr;

use super::guard::{Guard, Scheme};

/// The addresses of `host` that `guard` admits. A literal address is checked as well.
///
/// # Errors
/// If the name cannot be resolved, or the guard rejects every address.
pub async fn resolve(guard: &Guard, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let mut rejected = None;
    let mut admitted = Vec::new();
    for address in tokio::net::lookup_host((bare, port)).await? {
        match guard.check(address.ip(), Scheme::Https) {
            Ok(()) => admitted.push(address),
            Err(why) => rejected = Some(why),
        }
    }
    match rejected {
        Some(why) if admitted.is_empty() => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
        _ => Ok(admitted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Trust;

    #[tokio::test]
    async fn the_guard_is_asked() {
        let guard = Guard::new(Trust::File, Vec::new());
        let found = resolve(&guard, "127.0.0.1", 25).await.unwrap();
        assert_eq!(found, ["127.0.0.1:25".parse().unwrap()]);
        for host in ["169.254.169.254", "[::ffff:169.254.169.254]"] {
            let error = resolve(&guard, host, 25).await.unwrap_err().to_string();
            assert!(error.contains("may not be reached"), "{host}: {error}");
        }
    }
}
