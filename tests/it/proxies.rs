//! Whose address counts, over a real connection; the whole table is a unit test.

use super::gateway::{Gateway, PLAIN, taku};
use super::wire::ask;

fn status(gateway: &Gateway, n: usize, header: &str) -> u16 {
    let target = taku(&format!("p{n}"));
    ask(gateway.at.callbacks, format!("GET {target} HTTP/1.1\r\nHost: a\r\n{header}\r\n")).status
}

#[test]
fn an_allow_list_goes_by_the_rightmost_untrusted_hop() {
    let allowed = format!("{PLAIN}allow = [\"198.51.100.0/24\"]\n");
    let trusting = allowed.replace("drain", "trusted_proxies = [\"127.0.0.0/8\"]\ndrain");
    let strict = Gateway::start(&allowed);
    assert_eq!(status(&strict, 1, "X-Forwarded-For: 198.51.100.7\r\n"), 602, "nobody is trusted");
    let reason = "postern_rejections_total{reason=\"forbidden_address\",source=\"level-end\"}";
    strict.await_metric(reason, 1.0);

    let gateway = Gateway::start(&trusting);
    let table = [
        ("X-Forwarded-For: 198.51.100.7\r\n", 200),
        ("X-Forwarded-For: 203.0.113.1, 198.51.100.7\r\n", 200),
        ("X-Forwarded-For: 198.51.100.7, 203.0.113.1\r\n", 602),
        ("X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-For: 203.0.113.1\r\n", 602),
        ("X-Forwarded-For: 198.51.100.7, 127.0.0.9\r\n", 200),
        ("Forwarded: for=198.51.100.7\r\n", 200),
        ("Forwarded: for=198.51.100.7\r\nX-Forwarded-For: 203.0.113.1\r\n", 602),
        ("", 602),
    ];
    for (n, (header, expected)) in table.into_iter().enumerate() {
        assert_eq!(status(&gateway, n, header), expected, "{header:?}");
    }
}

#[test]
fn nobody_passes_for_the_proxy_he_comes_through() {
    let text = PLAIN.replace("drain", "trusted_proxies = [\"127.0.0.0/8\"]\ndrain");
    let gateway = Gateway::start(&format!("{text}allow = [\"127.0.0.0/8\"]\n"));
    let table = [
        ("", 200),
        ("X-Forwarded-For: 127.0.0.9\r\n", 200),
        ("X-Forwarded-For: 203.0.113.9\r\n", 602),
        ("X-Forwarded-For: 203.0.113.9\r\nForwarded: for=1.1.1.1\r\n", 602),
        ("X-Forwarded-For: 203.0.113.9\r\nForwarded: x\r\n", 602),
        ("X-Forwarded-For: unknown\r\n", 602),
    ];
    for (n, (header, expected)) in table.into_iter().enumerate() {
        assert_eq!(status(&gateway, n, header), expected, "{header:?}");
    }
}
