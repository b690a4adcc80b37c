//! The addresses of a name.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::guard::{Guard, Scheme};

/// The part of the time to connect for which one more address is tried: with many addresses each
/// would have less time than a distant server needs to answer.
const ADDRESS_TIME: Duration = Duration::from_secs(1);

/// Addresses of one family that are tried in any case: behind a server that is down is another one.
const ADDRESSES_MIN: usize = 2;

/// The addresses of `host` that `guard` admits, for connections that are not HTTP. A literal address
/// is checked as well.
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

/// Keeps the first addresses of each family: the connector gives both families the whole time, and
/// divides it among the addresses of one.
pub(super) fn keep_first(addresses: &mut Vec<SocketAddr>, connect_time: Duration) {
    let max = connect_time.as_millis() / ADDRESS_TIME.as_millis();
    let max = usize::try_from(max).unwrap_or(usize::MAX).max(ADDRESSES_MIN);
    let (mut v4, mut v6) = (0, 0);
    addresses.retain(|address| {
        let count = if address.is_ipv4() { &mut v4 } else { &mut v6 };
        *count += 1;
        *count <= max
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Trust;

    #[test]
    fn each_address_that_is_tried_has_time_to_answer() {
        let both =
            |n: u16| -> [SocketAddr; 2] { [([0_u8; 16], n).into(), ([127_u8, 0, 0, 1], n).into()] };
        let all: Vec<SocketAddr> = (1..=8).flat_map(both).collect();
        for (millis, of_each) in [(5, 2), (1000, 2), (2999, 2), (3000, 3), (7500, 7), (30_000, 8)] {
            let mut kept = all.clone();
            keep_first(&mut kept, Duration::from_millis(millis));
            assert_eq!(kept, all[..2 * of_each], "{millis} ms");
        }
    }

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
