//! How long a key set may be kept, according to its server.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};

/// The shortest lifetime. A server that allows less, or no caching, is not asked for every
/// callback.
const LIFETIME_MIN: Duration = Duration::from_secs(300);

/// The lifetime of a response: `max-age` less `Age`. `refresh` of the sender's file is the default
/// and the maximum.
pub(super) fn lifetime(headers: &HeaderMap, keep: Duration) -> Duration {
    let stated = max_age(headers).map(|age| age.saturating_sub(seconds(headers)));
    stated.unwrap_or(keep).max(LIFETIME_MIN).min(keep)
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => {
                let seconds = value.trim().trim_matches('"').parse().ok();
                age = age.or(seconds.map(Duration::from_secs));
            }
            _ => {}
        }
    }
    age
}

/// The age of the response in caches.
fn seconds(headers: &HeaderMap) -> Duration {
    let age = headers.get(AGE).and_then(|age| age.to_str().ok());
    Duration::from_secs(age.and_then(|age| age.trim().parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(86_400);

    fn of(fields: &[(&'static str, &'static str)]) -> u64 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        lifetime(&headers, KEEP).as_secs()
    }

    #[test]
    fn a_list_lives_as_long_as_its_server_says_within_bounds() {
        assert_eq!(of(&[("cache-control", "public, max-age=3600, must-revalidate")]), 3600);
        assert_eq!(of(&[("cache-control", "Max-Age=\"3600\""), ("age", "600")]), 3000);
        assert_eq!(of(&[("cache-control", "private"), ("cache-control", "max-age=7200")]), 7200);
        assert_eq!(of(&[("cache-control", "max-age=31536000")]), KEEP.as_secs());
        for little in ["max-age=0", "no-store", "no-cache, max-age=3600", "max-age=1"] {
            assert_eq!(of(&[("cache-control", little)]), LIFETIME_MIN.as_secs(), "{little}");
        }
        assert_eq!(of(&[("cache-control", "max-age=60"), ("age", "900")]), 300);
    }

    #[test]
    fn what_is_not_said_or_cannot_be_read_is_what_the_file_says() {
        for odd in ["", "max-age", "max-age=", "max-age=-1", "max-age=x", "s-maxage=5", ",,"] {
            assert_eq!(of(&[("cache-control", odd)]), KEEP.as_secs(), "{odd}");
        }
        assert_eq!(of(&[]), KEEP.as_secs());
        assert_eq!(of(&[("cache-control", "max-age=3600"), ("age", "soon")]), 3600);
        let short = Duration::from_secs(60);
        assert_eq!(lifetime(&HeaderMap::new(), short), short, "the file has the last word");
    }
}
