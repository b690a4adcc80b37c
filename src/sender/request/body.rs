//! The body as it can be read: without its byte order mark, and a multipart form as an ordinary one.
//!
//! Signatures over the body cover it as received; only its parameters are read here.

use std::borrow::Cow;

use http::{HeaderMap, header};

use super::encoding;
use super::parameters::{PARAMETERS_MAX, ParameterError};
use crate::sender::acts::outcome::Reason;
use crate::sender::language::definition::Reads;

/// The byte order mark of UTF-8.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first bytes of bodies that are not UTF-8 text, with what they are: marks, the longer ones first,
/// and the magic number of gzip.
const STARTS: [(&[u8], &str); 5] = [
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"\x1f\x8b", "gzip"),
];

/// Characters of an encoding that a rejection names.
const NAMED_MAX: usize = 32;

/// `body` as the parsers of `reads` can read it.
///
/// # Errors
/// `bad_body` with what cannot be read: a compressed body, UTF-16 or UTF-32, a broken multipart form.
pub(in crate::sender) fn readable<'b>(
    headers: &HeaderMap,
    body: &'b [u8],
    reads: &[Reads],
) -> Result<Cow<'b, [u8]>, ParameterError> {
    if body.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    if let Some(coding) = coding(headers) {
        return Err(bad_body(coding));
    }
    if let Some(form) = other_form(body) {
        return Err(bad_body(form.to_owned()));
    }
    let body = body.strip_prefix(UTF8_MARK).unwrap_or(body);
    match boundary(headers).filter(|_| reads.contains(&Reads::Form)) {
        None => Ok(Cow::Borrowed(body)),
        Some(boundary) => match form(body, &boundary) {
            Some(form) => Ok(Cow::Owned(form)),
            None => Err(bad_body(String::from("multipart/form-data"))),
        },
    }
}

/// The form of a body that is not UTF-8 text, by its first bytes. Without a mark, every second byte, or
/// three of four, are zero: no text that a sender's file reads begins so.
fn other_form(body: &[u8]) -> Option<&'static str> {
    if let Some((_, form)) = STARTS.iter().find(|(start, _)| body.starts_with(start)) {
        return Some(form);
    }
    let [a, b, c, d, ..] = *body else { return None };
    match [a, b, c, d].map(|byte| byte == 0) {
        [false, true, false, true] | [true, false, true, false] => Some("UTF-16"),
        [false, true, true, true] | [true, true, true, false] => Some("UTF-32"),
        _ => None,
    }
}

/// The content coding of a body that came compressed: no sender is known to send one, and what is
/// unpacked has no bound of its own.
pub(in crate::sender) fn coding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut values =
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_lowercase());
    let value = values.find(|value| !value.is_empty() && value != "identity")?;
    Some(format!("content-encoding: {value}").chars().take(NAMED_MAX).collect())
}

fn bad_body(what: String) -> ParameterError {
    ParameterError { reason: Reason::BadBody, parameter: Some(what) }
}

/// The separator of the parts of a multipart form.
fn boundary(headers: &HeaderMap) -> Option<Vec<u8>> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let (name, parameters) = kind.split_once(';')?;
    if !name.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_it = name.trim().eq_ignore_ascii_case("boundary");
        let value = value.trim().trim_matches('"');
        (is_it && !value.is_empty()).then(|| value.as_bytes().to_vec())
    })
}

/// The parts of a multipart form as `k=v&k=v`, percent-encoded. Files are left out. `None` if it is
/// none.
fn form(body: &[u8], boundary: &[u8]) -> Option<Vec<u8>> {
    let delimiter = [b"--", boundary].concat();
    let mut out = Vec::new();
    let mut rest = &body[memchr::memmem::find(body, &delimiter)? + delimiter.len()..];
    for _ in 0..=PARAMETERS_MAX {
        if rest.starts_with(b"--") {
            return Some(out);
        }
        rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"))?;
        let end = memchr::memmem::find(rest, &delimiter)?;
        let part = &rest[..end];
        let part = part.strip_suffix(b"\r\n").or_else(|| part.strip_suffix(b"\n"))?;
        if let Some((name, value)) = field(part)? {
            out.extend((!out.is_empty()).then_some(b'&'));
            encoding::percent(name.as_bytes(), &mut out);
            out.push(b'=');
            encoding::percent(value, &mut out);
        }
        rest = &rest[end + delimiter.len()..];
    }
    // More parts than a callback may have: the count is checked where they are read.
    Some(out)
}

/// Name and value of one part; `Some(None)` for a file.
fn field(part: &[u8]) -> Option<Option<(String, &[u8])>> {
    let (at, gap) = match memchr::memmem::find(part, b"\r\n\r\n") {
        Some(at) => (at, 4),
        None => (memchr::memmem::find(part, b"\n\n")?, 2),
    };
    let head = std::str::from_utf8(&part[..at]).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let value_of = |wanted: &str| {
        disposition.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let is_it = name.trim().eq_ignore_ascii_case(wanted);
            is_it.then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    if value_of("filename").is_some() || value_of("filename*").is_some() {
        return Some(None);
    }
    Some(Some((value_of("name")?, &part[at + gap..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn read(pairs: &[(&'static str, &str)], body: &str) -> Result<String, Option<String>> {
        match readable(&headers(pairs), body.as_bytes(), &[Reads::Form, Reads::Json]) {
            Ok(body) => Ok(String::from_utf8(body.into_owned()).unwrap()),
            Err(error) => {
                assert_eq!(error.reason, Reason::BadBody);
                Err(error.parameter)
            }
        }
    }

    #[test]
    fn a_multipart_form_is_read_as_pairs() {
        let kind = [("content-type", "multipart/form-data; boundary=\"B\"")];
        let body = "preamble\r\n--B\r\nContent-Disposition: form-data; name=\"sub Id\"\r\n\r\nu 1&=\r\n\
                    --B\r\ncontent-disposition: form-data; name=file; filename=\"a\"\r\n\r\nx\r\n\
                    --B\r\nContent-Disposition: form-data; name=\"b\"\r\nContent-Type: text/plain\r\n\r\n\r\n\
                    --B--\r\n";
        assert_eq!(read(&kind, body).unwrap(), "sub%20Id=u%201%26%3D&b=");
        let lines = "--B\nContent-Disposition: form-data; name=\"a\"\n\n1\n--B--";
        assert_eq!(read(&kind, lines).unwrap(), "a=1");
        for broken in ["", "--B", "--B\r\n", "--B\r\nx\r\n--B--", "--C--"] {
            let expected = if broken.is_empty() {
                Ok(String::new())
            } else {
                Err(Some(String::from("multipart/form-data")))
            };
            assert_eq!(read(&kind, broken), expected, "{broken}");
        }
        let kind = headers(&kind);
        let json = readable(&kind, b"{}", &[Reads::Json]).unwrap();
        assert_eq!(&*json, b"{}", "a sender without forms reads what it is");
    }

    #[test]
    fn marks_and_codings_are_named() {
        assert_eq!(read(&[], "\u{feff}{}").unwrap(), "{}");
        assert_eq!(read(&[("content-encoding", "identity")], "{}").unwrap(), "{}");
        let gzip = read(&[("content-encoding", "GZIP")], "{}");
        assert_eq!(gzip, Err(Some(String::from("content-encoding: gzip"))));
        for (body, form) in [
            (&b"\xff\xfe{\0}\0"[..], "UTF-16"),
            (b"\xfe\xff\0{\0}", "UTF-16"),
            (b"{\0}\0", "UTF-16"),
            (b"\0a\0=\0b", "UTF-16"),
            (b"\xff\xfe\0\0{\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0{", "UTF-32"),
            (b"{\0\0\0}\0\0\0", "UTF-32"),
            (b"\0\0\0<\0\0\0a", "UTF-32"),
            (b"\x1f\x8b\x08\0\0", "gzip"),
        ] {
            let error = readable(&HeaderMap::new(), body, &[Reads::Json]).unwrap_err();
            assert_eq!(error.parameter.as_deref(), Some(form), "{body:?}");
        }
        for text in [&b"{}"[..], b"a=\0b", b"\0\0\0\0", b"a", "人=1".as_bytes()] {
            assert_eq!(other_form(text), None, "{text:?}");
        }
        let mut twice = headers(&[("content-encoding", "identity")]);
        twice.append("content-encoding", "br".parse().unwrap());
        assert_eq!(coding(&twice).as_deref(), Some("content-encoding: br"));
        twice.insert("content-encoding", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(coding(&twice).is_some(), "what is not text is not plain either");
    }

    proptest::proptest! {
        #[test]
        fn any_multipart_body_is_read_or_refused(body in "(--B|\r\n|\n|name=\"a\"|Content-Disposition: form-data;|x){0,20}") {
            let _ = form(body.as_bytes(), b"B");
        }
    }
}
