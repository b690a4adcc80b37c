//! A captured callback as people paste it: a URL, or a whole request.

use crate::sender::OwnedRequest;

/// Reads a URL, a path with its query, or a request: request line, headers, an empty line, the
/// body.
///
/// # Errors
/// Why it is neither.
pub(crate) fn pasted(text: &str) -> Result<OwnedRequest, String> {
    let text = text.trim_start();
    let line = text.lines().next().unwrap_or_default();
    let (method, target) = line.split_once(' ').unwrap_or_default();
    let is_request = !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_alphabetic())
        && (target.starts_with('/') || target.contains("://"));
    let text = match is_request {
        true => without_version(text),
        false => format!("GET {}", with_path(text.trim_end())?),
    };
    OwnedRequest::parse(&text).map_err(|fault| fault.to_string())
}

/// The request with line ends as they are written down here, and without its version.
fn without_version(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let (line, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let line = ["/1.1", "/1.0", "/2", "/3"]
        .iter()
        .find_map(|version| line.trim_end().strip_suffix(version)?.strip_suffix(" HTTP"))
        .unwrap_or(line);
    format!("{line}\n{rest}")
}

/// A URL that has a path, or a path.
fn with_path(url: &str) -> Result<&str, String> {
    let has_path = match url.split_once("://") {
        Some((_, rest)) => rest.contains('/'),
        None => url.starts_with('/'),
    };
    if has_path { Ok(url) } else { Err(format!("{url:?} is no URL and no path")) }
}

/// The request as [`pasted`] reads it; nothing where no text says it.
pub(crate) fn as_text(request: &OwnedRequest) -> Option<String> {
    let target = std::str::from_utf8(&request.target).ok()?;
    let mut text = format!("{} {}{target}\n", request.method, request.base);
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().ok()?));
    }
    if !request.body.is_empty() {
        text.push('\n');
        text.push_str(std::str::from_utf8(&request.body).ok()?);
    }
    let same = pasted(&text).is_ok_and(|read| read == *request);
    same.then_some(text)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn urls_and_requests_are_told_apart() {
        for (text, method, target, body) in [
            (" /callback/a?x=a b \n", "GET", "/callback/a?x=a b", ""),
            ("https://h:8/callback/a?x=1", "GET", "/callback/a?x=1", ""),
            (
                "POST /callback/a HTTP/1.1\r\nHost: h\r\n\r\n{\"a\":\r\n1}",
                "POST",
                "/callback/a",
                "{\"a\":\n1}",
            ),
            ("get /callback/a HTTP/2\n", "get", "/callback/a", ""),
            ("GET /callback/a", "GET", "/callback/a", ""),
        ] {
            let read = pasted(text).unwrap();
            assert_eq!(read.method.as_str(), method, "{text}");
            assert_eq!(String::from_utf8(read.target).unwrap(), target);
            assert_eq!(String::from_utf8(read.body).unwrap(), body);
        }
        for text in ["", "rubbish", "https://h", "GET", "curl -i 'x'"] {
            assert!(pasted(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_no_text_says_is_not_shown_as_one() {
        let mut request = pasted("POST /a\nContent-Type: text/xml\n\n<x/>\n").unwrap();
        let text = as_text(&request).unwrap();
        assert_eq!(pasted(&text).unwrap(), request);
        request.body = b"a\r\nb".to_vec();
        assert_eq!(as_text(&request), None);
        request.body = vec![0xff];
        assert_eq!(as_text(&request), None);
        request = OwnedRequest { method: Method::GET, body: Vec::new(), ..request };
        assert!(as_text(&request).is_some());
    }
}
