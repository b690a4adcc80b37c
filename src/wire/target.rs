//! Request targets as senders actually write them.
//!
//! Some senders put values into a URL unescaped: JSON with its `"`, a name in GBK. hyper rejects
//! `"`, `<`, `>` and bytes that are not UTF-8 in a target, and cuts it at a `#`; the signature
//! covers exactly these bytes. So the [`Scan`] keeps the original target while a head moves from
//! the socket to hyper, and replaces each byte that hyper rejects by a harmless one. Lengths stay
//! the same, and delimiters between requests are not touched.
//!
//! The scan runs only where a head certainly starts: on the first request that hyper reads from a
//! connection, and after requests that were not pipelined and had no body, or one whose length
//! their head says. Elsewhere hyper's rejection stands.
//!
//! The scan also notes a head with both Content-Length and Transfer-Encoding, of which hyper keeps
//! only the second: proxies disagree about where such a request ends.

use bytes::Bytes;
use http::request::Parts;
use memchr::{memchr, memchr_iter, memchr2, memchr3};
use smallvec::SmallVec;

/// Replaces a byte that hyper would reject.
const STAND_IN: u8 = b'_';

/// Bytes of a header name that are compared: the longest known name with its colon.
const NAME_BYTES: usize = 18;

/// The target on the wire, where hyper saw another. An extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTarget(pub Bytes);

/// How a head delimits its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// In one way, or there is no body.
    #[default]
    Clear,
    /// By Content-Length and by Transfer-Encoding: two readers may disagree.
    Conflicting,
}

impl RawTarget {
    /// Whether the path of a request is as its sender wrote it. A replaced byte could name another
    /// path, which must not be looked up.
    #[must_use]
    pub fn is_path_as_sent(head: &Parts) -> bool {
        let raw = head.extensions.get::<Self>();
        raw.is_none_or(|raw| raw.path() == head.uri.path().as_bytes())
    }

    /// Path and query. An absolute target (`http://host/path?query`) loses its scheme and
    /// authority, which ends at the first `/`, `?` or `#` (RFC 3986, section 3.2). The path is `/`
    /// if it has none, or if its authority contains an invalid byte.
    #[must_use]
    pub fn origin_form(&self) -> &[u8] {
        if self.0.starts_with(b"/") {
            return &self.0;
        }
        let Some(rest) = without_scheme(&self.0) else { return &self.0 };
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if is_odd(authority) || !rest.starts_with(b"/") { b"/" } else { rest }
    }

    /// The path, up to the query.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        let target = self.origin_form();
        &target[..memchr(b'?', target).unwrap_or(target.len())]
    }

    /// The query, after the `?`.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        let target = self.origin_form();
        memchr(b'?', target).map_or(&[], |at| &target[at + 1..])
    }
}

/// Rewrites `bytes`, the first of a connection, as they would come in pieces that end at `cuts`.
/// Returns the target of the head, if hyper would see another. For the fuzz targets.
#[doc(hidden)]
pub fn rewrite_head(bytes: &mut [u8], cuts: &[usize]) -> Option<RawTarget> {
    let mut scan = Scan::default();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        if let Some(piece) = bytes.get_mut(from..cut) {
            scan.bytes(piece);
            from = cut;
        }
    }
    scan.take_raw()
}

/// The text after `http://` or `https://`, in any case.
fn without_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Scans the heads of one connection.
#[derive(Debug, Default)]
pub(super) struct Scan {
    at: At,
    /// Bytes since the end of the head.
    after_end: u64,
    /// The target so far, once a read cuts it or it contains an odd byte.
    target: Vec<u8>,
    has_odd: bool,
    /// The target of the last complete head, if hyper saw another.
    raw: Option<RawTarget>,
    /// Consecutive line ends, to find the empty line.
    line_ends: u8,
    /// The first bytes of a line that a read cut in two.
    line: SmallVec<[u8; NAME_BYTES]>,
    lengths: Lengths,
    /// How the last complete head delimits its body.
    framing: Framing,
}

/// Which length headers a head has.
#[derive(Clone, Copy, Debug, Default)]
struct Lengths {
    content_length: bool,
    transfer_encoding: bool,
}

/// The position of the next byte in a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a request.
    #[default]
    Start,
    Method,
    Target,
    Rest,
    /// After the empty line, and perhaps in what follows it.
    End,
    /// Unknown.
    Lost,
}

impl Scan {
    /// Begins another head, after a complete one.
    pub(super) fn begin(&mut self) {
        self.at = if self.at == At::End { At::Start } else { At::Lost };
        self.after_end = 0;
        self.target.clear();
        self.has_odd = false;
        self.line_ends = 0;
        self.line.clear();
        self.lengths = Lengths::default();
    }

    /// Stops the scan: the start of the next head is unknown.
    pub(super) fn stop(&mut self) {
        self.at = At::Lost;
    }

    /// The target of the last complete head, once, if hyper saw another.
    pub(super) fn take_raw(&mut self) -> Option<RawTarget> {
        self.raw.take()
    }

    /// How the last complete head delimits its body, once.
    pub(super) fn take_framing(&mut self) -> Framing {
        std::mem::take(&mut self.framing)
    }

    /// Whether a head is complete.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == At::End
    }

    /// How many bytes have come since the end of the head.
    pub(super) fn after_end(&self) -> u64 {
        self.after_end
    }

    /// Scans `bytes` of a head and makes its target acceptable to hyper.
    pub(super) fn bytes(&mut self, bytes: &mut [u8]) {
        if self.at == At::Start && is_plain_head(bytes) {
            self.at = At::End;
            return;
        }
        let mut next = 0;
        while next < bytes.len() {
            let rest = &mut bytes[next..];
            next += match self.at {
                At::Start => self.start(rest),
                At::Method => self.method(rest),
                At::Target => self.target(rest),
                At::Rest => self.rest(rest),
                At::End => {
                    self.after_end += rest.len() as u64;
                    return;
                }
                At::Lost => return,
            };
        }
    }

    fn start(&mut self, bytes: &[u8]) -> usize {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank < bytes.len() {
            self.at = At::Method;
        }
        blank
    }

    fn method(&mut self, bytes: &[u8]) -> usize {
        match memchr2(b' ', b'\n', bytes) {
            Some(end) => {
                self.at = if bytes[end] == b' ' { At::Target } else { At::Lost };
                end + 1
            }
            None => bytes.len(),
        }
    }

    fn target(&mut self, bytes: &mut [u8]) -> usize {
        let end = memchr3(b' ', b'\r', b'\n', bytes);
        let piece_len = end.unwrap_or(bytes.len());
        let piece = &mut bytes[..piece_len];
        let has_odd = is_odd(piece);
        if has_odd || end.is_none() || !self.target.is_empty() {
            self.target.extend_from_slice(piece);
        }
        if has_odd {
            self.has_odd = true;
            piece.iter_mut().filter(|byte| is_odd_byte(**byte)).for_each(|byte| *byte = STAND_IN);
        }
        if end.is_some() {
            self.at = At::Rest;
        }
        piece.len()
    }

    /// Continues to the empty line.
    fn rest(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for line_end in memchr_iter(b'\n', bytes) {
            let line = &bytes[done..line_end];
            let empty = self.line.is_empty() && matches!(line, b"" | b"\r")
                || self.line.as_slice() == b"\r" && line.is_empty();
            self.note(line);
            self.line_ends = if empty { self.line_ends + 1 } else { 1 };
            done = line_end + 1;
            if self.line_ends == 2 {
                self.end();
                return done;
            }
        }
        let tail = &bytes[done..];
        let permits = NAME_BYTES - self.line.len();
        self.line.extend_from_slice(&tail[..tail.len().min(permits)]);
        bytes.len()
    }

    /// Evaluates a complete line, whose last part is `line`.
    fn note(&mut self, line: &[u8]) {
        if self.line.is_empty() {
            self.lengths.note(line);
            return;
        }
        let permits = NAME_BYTES - self.line.len();
        self.line.extend_from_slice(&line[..line.len().min(permits)]);
        self.lengths.note(&self.line);
        self.line.clear();
    }

    fn end(&mut self) {
        self.at = At::End;
        self.framing = self.lengths.framing();
        if std::mem::take(&mut self.has_odd) {
            self.raw = Some(RawTarget(Bytes::from(std::mem::take(&mut self.target))));
        }
    }
}

impl Lengths {
    fn note(&mut self, line: &[u8]) {
        let is_named = |name: &[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        self.content_length |= is_named(b"content-length:");
        self.transfer_encoding |= is_named(b"transfer-encoding:");
    }

    fn framing(self) -> Framing {
        match self {
            Self { content_length: true, transfer_encoding: true } => Framing::Conflicting,
            _ => Framing::Clear,
        }
    }
}

/// Whether `bytes` are one whole head in which nothing has to be replaced or noted, as nearly all
/// are: it has no odd byte, no empty line but the last, and no Transfer-Encoding.
fn is_plain_head(bytes: &[u8]) -> bool {
    let Some(head) = bytes.strip_suffix(b"\r\n\r\n") else { return false };
    let is_begun = head.first().is_some_and(u8::is_ascii_uppercase)
        && memchr2(b' ', b'\n', head).is_some_and(|at| head[at] == b' ');
    is_begun
        && memchr_iter(b'\n', head)
            .all(|at| !matches!(bytes.get(at + 1), Some(b'\r' | b'\n' | b't' | b'T')))
        && !has_odd_byte(head)
}

/// Bytes that are looked at together.
const BLOCK: usize = 32;

/// Whether hyper rejects a byte of a target, searched in vectors.
pub(super) fn has_odd_byte(bytes: &[u8]) -> bool {
    let mut any = [0; BLOCK];
    let mut look = |block: &[u8; BLOCK]| {
        for (any, byte) in any.iter_mut().zip(block) {
            // `"` and `#` differ in one bit, and so do `<` and `>`.
            let is_odd = byte | 1 == b'#' || byte | 2 == b'>';
            *any |= u8::from(is_odd) | byte & 0x80;
        }
    };
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    blocks.iter().for_each(&mut look);
    match bytes.last_chunk::<BLOCK>() {
        Some(last) => look(last),
        None => {
            let mut short = [b' '; BLOCK];
            short[..rest.len()].copy_from_slice(rest);
            look(&short);
        }
    }
    any != [0; BLOCK]
}

fn is_odd(piece: &[u8]) -> bool {
    memchr3(b'"', b'<', b'>', piece).is_some() || memchr(b'#', piece).is_some() || !piece.is_ascii()
}

fn is_odd_byte(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'#') || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(pieces: &[&[u8]]) -> (Scan, Vec<u8>) {
        let mut scan = Scan::default();
        let mut shown = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            scan.bytes(&mut piece);
            shown.extend(piece);
        }
        (scan, shown)
    }

    const ODD: &[u8] = b"GET /callback/a?x={\"k\":1}&y=<b>#\xc4\xe3 HTTP/1.1\r\nA: \"#<>\r\n\r\n";

    #[test]
    fn odd_bytes_are_replaced_in_the_target_only() {
        let (mut scan, shown) = scan(&[ODD]);
        assert_eq!(shown, b"GET /callback/a?x={_k_:1}&y=_b____ HTTP/1.1\r\nA: \"#<>\r\n\r\n");
        let raw = scan.take_raw().unwrap();
        assert_eq!(&raw.0[..], b"/callback/a?x={\"k\":1}&y=<b>#\xc4\xe3");
        assert_eq!(scan.at, At::End);
        assert_eq!(scan.take_raw(), None);
    }

    #[test]
    fn a_plain_head_is_left_alone_and_kept_nowhere() {
        let plain = b"\r\nGET /callback/a?x=%22&y=|^`\\{} HTTP/1.1\r\nA: \"#<>\r\n\r\n";
        let (mut scan, shown) = scan(&[plain]);
        assert_eq!(shown, plain);
        assert_eq!(scan.target.capacity(), 0);
        assert_eq!(scan.take_raw(), None);
    }

    #[test]
    fn what_follows_a_head_is_never_touched() {
        let two = [ODD, ODD].concat();
        let (mut scan, shown) = scan(&[&two]);
        assert_eq!(&shown[ODD.len()..], ODD);
        assert!(scan.take_raw().is_some(), "the first is still known");
        assert_eq!((scan.at, scan.after_end()), (At::End, ODD.len() as u64));
        scan.bytes(&mut ODD.to_vec());
        assert_eq!(scan.after_end(), 2 * ODD.len() as u64);
        scan.stop();
        scan.begin();
        assert_eq!(scan.at, At::Lost, "once lost, lost for good");
    }

    #[test]
    fn a_head_that_ends_otherwise_is_not_followed_by_a_guess() {
        let (mut scan, _) = scan(&[b"GET /a HTTP/1.1\r\nA: b"]);
        scan.begin();
        assert_eq!(scan.at, At::Lost);
        let (scan, shown) = self::scan(&[b"GET\n\"x\" \"y\" "]);
        assert_eq!(shown, b"GET\n\"x\" \"y\" ");
        assert_eq!(scan.at, At::Lost);
    }

    #[test]
    fn odd_bytes_are_found_wherever_they_stand() {
        for len in 0..100 {
            assert!(!has_odd_byte(&vec![b'a'; len]));
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = byte;
                    assert_eq!(has_odd_byte(&bytes), is_odd(&bytes), "{byte:#x} at {at} of {len}");
                }
            }
        }
    }

    /// Scans `bytes` in two pieces, the first of one byte: never a whole head at once.
    fn scan_slowly(bytes: &[u8]) -> (Scan, Vec<u8>) {
        scan(&[&bytes[..1], &bytes[1..]])
    }

    proptest! {
        #[test]
        fn a_plain_head_is_scanned_to_the_same_end(
            head in "(GET|POST|get|\r\n|) ?[/a?\"#<>\u{e9}]{0,6} ?(HTTP/1.1)?(\r?\n(A: b|Te: x|transfer-encoding: c|Content-Length: 0|T|\"|))*",
            end in "(\r\n\r\n|\n\n|\r\n|)[a]?",
        ) {
            let head = format!("{head}{end}");
            if head.is_empty() {
                return Ok(());
            }
            let (mut whole, shown) = scan(&[head.as_bytes()]);
            let (mut slow, same) = scan_slowly(head.as_bytes());
            prop_assert_eq!(shown, same);
            prop_assert_eq!(whole.at, slow.at);
            prop_assert_eq!(whole.take_framing(), slow.take_framing());
            prop_assert_eq!(whole.take_raw(), slow.take_raw());
            whole.begin();
            slow.begin();
            prop_assert_eq!(whole.at, slow.at);
        }

        #[test]
        fn it_does_not_matter_how_a_head_is_cut(cuts in proptest::collection::vec(0..ODD.len(), 0..6)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&ODD[from..cut]);
                from = cut;
            }
            pieces.push(&ODD[from..]);
            let (mut whole, shown) = scan(&[ODD]);
            let (mut cut, same) = scan(&pieces);
            prop_assert_eq!(shown, same);
            prop_assert_eq!(whole.take_raw(), cut.take_raw());
            prop_assert_eq!(cut.at, At::End);
        }
    }
}
