//! Simple requests: what nearly every caller sends, read without hyper.
//!
//! A simple request is a GET or a POST of HTTP/1.1 that came whole in one read, with nothing after
//! it, and of which no two readers could see different ends. Any other is read by hyper, from its
//! first byte on. Both use the same parser, so this one never has to reject anything: what it does
//! not know is not simple.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};
use httparse::{Header, Status};
use memchr::memchr;

use super::request::{Target, WireRequest};
use super::target::{RawTarget, has_odd_byte};

/// Headers of a simple request. Proxies add a dozen to those of a sender.
const HEADERS_MAX: usize = 64;

/// [`read`], for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn simple_request(bytes: &Bytes, head_bytes: usize) -> Option<Box<WireRequest>> {
    read(bytes, head_bytes, &mut HeaderMap::new())
}

/// The request in `bytes`, if it is simple and its head has at most `head_bytes`. Its headers are
/// in `room`, a map that is empty before, and after.
pub(super) fn read(
    bytes: &Bytes,
    head_bytes: usize,
    room: &mut HeaderMap,
) -> Option<Box<WireRequest>> {
    // The first byte decides about most of what is not HTTP/1.
    if !matches!(bytes.first(), Some(b'G' | b'P')) {
        return None;
    }
    let mut parsed = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let Ok(Status::Complete(head_len)) = head.parse_with_uninit_headers(bytes, &mut parsed) else {
        return None;
    };
    if head_len > head_bytes || head.version != Some(1) {
        return None;
    }
    let method = method(head.method?)?;
    let target = target(bytes, head.path?)?;
    let Some(body_len) = fill(room, bytes, head.headers) else {
        room.clear();
        return None;
    };
    let body = bytes.slice(head_len..);
    if body.len() as u64 != body_len {
        room.clear();
        return None;
    }
    let (version, headers, body) = (Version::HTTP_11, std::mem::take(room), body.into());
    Some(Box::new(WireRequest { method, target, version, headers, certificates: None, body }))
}

fn method(name: &str) -> Option<Method> {
    match name {
        "GET" => Some(Method::GET),
        "POST" => Some(Method::POST),
        _ => None,
    }
}

/// A target that hyper takes as it was sent: a path of usual bytes, perhaps with a query.
fn target(bytes: &Bytes, target: &str) -> Option<Target> {
    let target = target.as_bytes();
    let path = &target[..memchr(b'?', target).unwrap_or(target.len())];
    let is_simple = path.starts_with(b"/")
        && path.iter().all(|byte| USUAL[usize::from(*byte)])
        && !has_odd_byte(target);
    is_simple.then(|| Target::Sent(RawTarget(bytes.slice_ref(target))))
}

/// Whether a byte of a path is one that RFC 3986, section 3.3, has there.
const USUAL: [bool; 256] = {
    let mut usual = [false; 256];
    let punctuation = b"/-._~%!$&'()*+,;=:@";
    let mut at = 0;
    while at < 256 {
        usual[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < punctuation.len() {
        usual[punctuation[at] as usize] = true;
        at += 1;
    }
    usual
};

/// Puts the headers into `map`. Returns the length of the body, if no header says that more has to
/// happen.
fn fill(map: &mut HeaderMap, bytes: &Bytes, parsed: &[Header<'_>]) -> Option<u64> {
    map.reserve(parsed.len());
    let mut length = None;
    for one in parsed {
        let name = HeaderName::from_bytes(one.name.as_bytes()).ok()?;
        let is_simple = match name {
            header::CONTENT_LENGTH => length.replace(body_len(one.value)?).is_none(),
            header::CONNECTION => one.value.eq_ignore_ascii_case(b"keep-alive"),
            header::TRANSFER_ENCODING | header::EXPECT | header::UPGRADE => false,
            _ => true,
        };
        if !is_simple {
            return None;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(one.value)).ok()?;
        map.append(name, value);
    }
    Some(length.unwrap_or(0))
}

/// The value of a Content-Length (RFC 9110, section 8.6): digits, and no list.
fn body_len(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::RequestBody;

    const HEAD_BYTES: usize = 8192;

    fn of(text: &str) -> Option<Box<WireRequest>> {
        let mut room = HeaderMap::new();
        let found = read(&Bytes::copy_from_slice(text.as_bytes()), HEAD_BYTES, &mut room);
        assert!(room.is_empty());
        found
    }

    #[test]
    fn a_usual_callback_is_simple() {
        let get = "GET /callback/a?id=1&sign=%20x HTTP/1.1\r\nHost: a\r\nX-Odd: \"<\u{e9}>#\r\n\
                   Connection: Keep-Alive\r\n\r\n";
        let request = of(get).unwrap();
        assert_eq!(request.method, Method::GET);
        assert_eq!(request.target.bytes(), b"/callback/a?id=1&sign=%20x");
        assert_eq!(request.headers.len(), 3);
        assert_eq!(request.headers["x-odd"].as_bytes(), "\"<\u{e9}>#".as_bytes());
        assert!(matches!(request.body, RequestBody::Empty));
        let request = of("POST /a HTTP/1.1\nContent-Length: 3\n\na=1").unwrap();
        assert!(matches!(request.body, RequestBody::Whole(body) if body == "a=1"));
    }

    #[test]
    fn what_two_readers_could_see_differently_is_not_simple() {
        for (what, text) in [
            ("nothing", ""),
            ("half a head", "GET / HTTP/1.1\r\nHost: a\r\n"),
            ("half a body", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na="),
            ("more than a body", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na=12"),
            ("two requests", "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
            ("a body without a length", "POST / HTTP/1.1\r\n\r\na=1"),
            ("two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
            ("a list of lengths", "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\na"),
            ("a length with a sign", "POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na"),
            ("an empty length", "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n"),
            ("chunks", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            ("a question before the body", "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n"),
            ("another protocol", "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n"),
            ("the last request", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"),
            ("an older version", "GET / HTTP/1.0\r\n\r\n"),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            ("another method", "PUT / HTTP/1.1\r\n\r\n"),
            ("a method like POST", "PATCH / HTTP/1.1\r\n\r\n"),
            ("small letters", "get / HTTP/1.1\r\n\r\n"),
            ("an empty line before", "\r\nGET / HTTP/1.1\r\n\r\n"),
            ("a whole URL", "GET http://a/ HTTP/1.1\r\n\r\n"),
            ("a target that hyper rejects", "GET /a?b=\"c\" HTTP/1.1\r\n\r\n"),
            ("a path of unusual bytes", "GET /a`b HTTP/1.1\r\n\r\n"),
            ("a fragment", "GET /a#b HTTP/1.1\r\n\r\n"),
            ("a folded header", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
            ("a space before a colon", "GET / HTTP/1.1\r\nA : b\r\n\r\n"),
        ] {
            assert!(of(text).is_none(), "{what}");
        }
        let many = "A: b\r\n".repeat(HEADERS_MAX + 1);
        assert!(of(&format!("GET / HTTP/1.1\r\n{many}\r\n")).is_none());
        let get = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
        let is_read = |most| read(&get, most, &mut HeaderMap::new()).is_some();
        assert!(is_read(get.len()) && !is_read(get.len() - 1));
    }
}
