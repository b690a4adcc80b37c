//! A reply to a simple request, as bytes: the same that hyper would send.
//!
//! Nothing here makes a reply of status 1xx, one with `Transfer-Encoding`, or a `Connection` with
//! more than one word: hyper would change these.

use std::cell::Cell;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, StatusCode, header};
use http_body_util::Full;
use hyper::body::Body as _;
use tokio::io::AsyncWrite;

use super::connection::{CLOSE, Response};
use crate::clock;

/// Bytes of a body that are copied behind the head: less work than a second piece.
const COPIED_BYTES_MAX: usize = 1024;

/// Room for a head with a few headers.
const HEAD_BYTES: usize = 192;

/// Headers for which the map of a reply has room, if it is kept for the next request.
const HEADERS_KEPT_MAX: usize = 32;

/// The part of a reply that is not written yet.
#[derive(Debug)]
pub(super) struct Reply {
    head: Vec<u8>,
    /// How much of `head` is written.
    written: usize,
    body: Bytes,
    /// The step after the reply.
    pub(super) then: Then,
    /// An empty map.
    room: HeaderMap,
}

/// The step after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
    Next,
    /// The end of the connection.
    End,
}

/// The headers that a response has already.
#[derive(Default)]
struct Says {
    length: bool,
    date: bool,
}

impl Reply {
    /// `response` as bytes; after the last one of a connection comes its end.
    pub(super) fn new(mut response: Response, then: Then) -> Self {
        if then == Then::End {
            response.headers_mut().insert(header::CONNECTION, CLOSE);
        }
        let status = response.status();
        let mut body = whole(std::mem::take(response.body_mut()));
        let room = std::mem::take(response.headers_mut());
        let copied = if body.len() <= COPIED_BYTES_MAX { body.len() } else { 0 };
        let mut reply = Self {
            head: Vec::with_capacity(HEAD_BYTES + copied),
            written: 0,
            body: Bytes::new(),
            then,
            room,
        };
        reply.status_line(status);
        let says = reply.headers();
        if !may_have_body(status) {
            body = Bytes::new();
        } else if !says.length {
            let mut digits = itoa::Buffer::new();
            line(&mut reply.head, "content-length", digits.format(body.len()).as_bytes());
        }
        if !says.date {
            line(&mut reply.head, "date", &date());
        }
        reply.head.extend_from_slice(b"\r\n");
        match copied {
            0 => reply.body = body,
            _ => reply.head.extend_from_slice(&body),
        }
        reply
    }

    fn status_line(&mut self, status: StatusCode) {
        let reason = status.canonical_reason().unwrap_or("<none>");
        for piece in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            self.head.extend_from_slice(piece.as_bytes());
        }
    }

    /// Writes the headers, and empties their map.
    fn headers(&mut self) -> Says {
        let mut says = Says::default();
        for (name, value) in &self.room {
            match *name {
                header::CONTENT_LENGTH => says.length = true,
                header::DATE => says.date = true,
                header::TRANSFER_ENCODING => debug_assert!(false, "replies are whole"),
                header::CONNECTION if value.as_bytes().eq_ignore_ascii_case(b"close") => {
                    self.then = Then::End;
                }
                _ => {}
            }
            line(&mut self.head, name.as_str(), value.as_bytes());
        }
        match self.room.capacity() > HEADERS_KEPT_MAX {
            true => self.room = HeaderMap::new(),
            false => self.room.clear(),
        }
        says
    }

    /// Room for the headers of the next request: an empty map.
    pub(super) fn take_room(&mut self) -> HeaderMap {
        std::mem::take(&mut self.room)
    }

    /// Writes what is left to `socket`.
    pub(super) fn poll_write(
        &mut self,
        socket: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let head = &self.head[self.written..];
            let mut socket = Pin::new(&mut *socket);
            let written = match (head, &*self.body) {
                ([], []) => return socket.poll_flush(cx),
                ([], body) => ready!(socket.as_mut().poll_write(cx, body))?,
                (head, body) if !body.is_empty() && socket.is_write_vectored() => {
                    let pieces = [IoSlice::new(head), IoSlice::new(body)];
                    ready!(socket.as_mut().poll_write_vectored(cx, &pieces))?
                }
                (head, _) => ready!(socket.as_mut().poll_write(cx, head))?,
            };
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(head.len());
            self.written += of_head;
            self.body.advance(written - of_head);
        }
    }
}

/// A reply's body: it is always there.
fn whole(mut body: Full<Bytes>) -> Bytes {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    match Pin::new(&mut body).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}

/// RFC 9110, section 6.4.1.
fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    head.extend_from_slice(name.as_bytes());
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// Bytes of a date: `Sun, 06 Nov 1994 08:49:37 GMT`.
const DATE_BYTES: usize = 29;

thread_local! {
    /// The second that was written last, and how.
    static DATE: Cell<(i64, [u8; DATE_BYTES])> = const { Cell::new((i64::MIN, [0; DATE_BYTES])) };
}

/// The time in the format of RFC 9110, section 5.6.7. A thread writes it once a second.
fn date() -> [u8; DATE_BYTES] {
    let second = clock::now_ms().div_euclid(1000);
    let (last, text) = DATE.get();
    if last == second {
        return text;
    }
    let text = date_of(second);
    DATE.set((second, text));
    text
}

fn date_of(second: i64) -> [u8; DATE_BYTES] {
    let stamp = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let written = printer.timestamp_to_rfc9110_string(&stamp).ok();
    written.and_then(|text| text.as_bytes().try_into().ok()).unwrap_or(*EPOCH)
}

/// Written for a year of five digits.
const EPOCH: &[u8; DATE_BYTES] = b"Thu, 01 Jan 1970 00:00:00 GMT";

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http::HeaderValue;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// The bytes of a reply that is written a few at a time.
    async fn written(mut reply: Reply) -> String {
        let (mut socket, mut reader) = tokio::io::duplex(7);
        let writes = async move {
            poll_fn(|cx| reply.poll_write(&mut socket, cx)).await.unwrap();
        };
        let mut all = String::new();
        let (_, read) = tokio::join!(writes, reader.read_to_string(&mut all));
        read.unwrap();
        all
    }

    #[tokio::test]
    async fn a_reply_is_written_whole_however_slowly() {
        for len in [0, 1, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 5000] {
            let mut response = Response::new(Full::new(Bytes::from("x".repeat(len))));
            response.headers_mut().insert(header::DATE, HeaderValue::from_static("now"));
            let all = written(Reply::new(response, Then::End)).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n"
            );
            assert_eq!(all, head + &"x".repeat(len));
        }
    }

    #[test]
    fn a_large_map_of_headers_is_not_kept() {
        let room = |count: usize| {
            let mut response = Response::new(Full::new(Bytes::new()));
            for n in 0..count {
                let name: header::HeaderName = format!("x-{n}").parse().unwrap();
                response.headers_mut().insert(name, HeaderValue::from_static("a"));
            }
            Reply::new(response, Then::Next).take_room()
        };
        let (small, large) = (room(6), room(100));
        assert!(small.is_empty() && small.capacity() >= 6);
        assert_eq!((large.len(), large.capacity()), (0, 0));
    }

    #[test]
    fn a_date_is_that_of_its_second() {
        assert_eq!(date_of(0), *EPOCH);
        assert_eq!(&date_of(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&date_of(4_102_444_799), b"Thu, 31 Dec 2099 23:59:59 GMT");
        assert_eq!(date_of(i64::MAX), *EPOCH, "out of range");
    }
}
