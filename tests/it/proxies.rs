//! Whose address counts, over a real connection; the whole table is a unit test.

use std::io::{Read as _, Write as _};

use super::gateway::{Gateway, PLAIN, eventually, taku};
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
    assert_eq!(status(&strict, 1, "X-Forwarded-For: 198.51.100.7\r\n"), 602, "no proxy is trusted");
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

/// The status of a callback on a connection that begins with `first`, if there is one.
fn call(gateway: &Gateway, n: usize, first: &[u8]) -> Option<String> {
    let target = taku(&format!("pp{n}"));
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut stream = std::net::TcpStream::connect(gateway.at.callbacks).unwrap();
    // A gateway that closes the connection may do so before everything is written.
    let _ = stream.write_all(&[first, request.as_bytes()].concat());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn a_load_balancer_that_is_withdrawn_names_no_client_after_a_reload() {
    let trusting = "trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = true\ndrain";
    let text = format!("{PLAIN}allow = [\"198.51.100.0/24\"]\n").replace("drain", trusting);
    let gateway = Gateway::start(&text);
    let named = b"PROXY TCP4 198.51.100.7 10.0.0.1 51000 80\r\n";
    assert_eq!(call(&gateway, 1, named).as_deref(), Some("200"));
    gateway.reload(&text.replace("127.0.0.0/8", "192.0.2.0/24"));
    eventually("its header is not read", || call(&gateway, 2, named).as_deref() != Some("200"));
    assert_eq!(call(&gateway, 3, b"").as_deref(), Some("602"), "it calls for itself");
}

#[test]
fn a_load_balancer_names_the_client_with_the_proxy_protocol() {
    let trusting = "trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = true\ndrain";
    let text = format!("{PLAIN}allow = [\"198.51.100.0/24\"]\n").replace("drain", trusting);
    let gateway = Gateway::start(&text);
    let binary = |source: [u8; 4]| {
        let addresses = [&source[..], &[10, 0, 0, 1, 0xc7, 0x38, 1, 0xbb]].concat();
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
    };
    let table: [(Vec<u8>, Option<&str>); 6] = [
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 51000 80\r\n".to_vec(), Some("200")),
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 51000 80\r\n".to_vec(), Some("602")),
        (binary([198, 51, 100, 7]), Some("200")),
        (binary([203, 0, 113, 7]), Some("602")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Some("602")),
        (Vec::new(), None),
    ];
    for (n, (first, expected)) in table.into_iter().enumerate() {
        let status = call(&gateway, n, &first);
        assert_eq!(status.as_deref(), expected, "{:?}", String::from_utf8_lossy(&first));
    }
    // A balancer that passes TCP on touches no header: this one is the caller's own.
    let unnamed: [&[u8]; 2] = [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0"];
    for (n, first) in unnamed.into_iter().enumerate() {
        let target = taku(&format!("un{n}"));
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.7\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = super::wire::ask(gateway.at.callbacks, [first, request.as_bytes()].concat());
        assert_eq!(answer.status, 602, "{}", String::from_utf8_lossy(first));
    }
    let elsewhere =
        text.replace("127.0.0.0/8", "192.0.2.0/24").replace("198.51.100.0/24", "127.0.0.0/8");
    let gateway = Gateway::start(&elsewhere);
    assert_eq!(status(&gateway, 9, ""), 200, "others send no header");
}
