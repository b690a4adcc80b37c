//! A captured callback as people have it: a URL, a request, a curl command, a line of an access log,
//! a query, or a body.

mod curl;
mod log_line;
mod words;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::clock::UnixMillis;
use crate::config::{Config, Source, nearest};
use crate::sender::OwnedRequest;

/// A captured callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    /// The request. One without a path has an empty target; see [`Capture::to`].
    request: OwnedRequest,
    extent: Extent,
    /// When it came, as an access log says.
    pub(crate) at_ms: Option<UnixMillis>,
}

/// How much of a request was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it, or all that its log has.
    Whole,
    /// The query alone.
    Query,
    /// The body alone.
    Body,
}

const NOTHING: &str = "cannot be read: give a URL, a path, a request, a curl command, a line of an \
                       access log, or a query";

/// Where sources are.
const PREFIX: &str = "/callback/";

/// Bytes of a text that is not understood that are shown again.
const SHOWN_MAX: usize = 40;

impl Capture {
    /// Reads what was captured.
    ///
    /// # Errors
    /// Why it is nothing of all that.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if let Some(arguments) = curl::arguments(text) {
            return curl::request(arguments).map(Self::whole);
        }
        let text = &sent(text);
        if is_request(text) {
            let request = OwnedRequest::parse(&without_version(text));
            return request.map(unpadded).map(Self::whole).map_err(|fault| fault.to_string());
        }
        if let Some(line) = log_line::first(text) {
            let method = Method::from_bytes(line.method.as_bytes()).map_err(|_| "has no method")?;
            let (base, target) = split(&line.target);
            let (headers, body) = (HeaderMap::new(), Vec::new());
            let request = OwnedRequest { method, base, target, headers, body };
            return Ok(Self { at_ms: line.at_ms, ..Self::whole(request) });
        }
        let text = unquoted(text.trim_end());
        if has_path(text) {
            let (base, target) = split(text.as_bytes());
            return Ok(Self::of(Method::GET, base, target));
        }
        let first = text.lines().next().unwrap_or_default();
        if let Some(query) = as_query(text) {
            let target = query.as_bytes().to_vec();
            let capture = Self::of(Method::GET, String::new(), target);
            return Ok(Self { extent: Extent::Query, ..capture });
        }
        if text.starts_with(['{', '<']) {
            let mut capture = Self::of(Method::POST, String::new(), Vec::new());
            capture.request.body = text.as_bytes().to_vec();
            return Ok(Self { extent: Extent::Body, ..capture });
        }
        let shown: String = first.chars().take(SHOWN_MAX).collect();
        Err(format!("{shown:?} {NOTHING}"))
    }

    fn of(method: Method, base: String, target: Vec<u8>) -> Self {
        let (headers, body) = (HeaderMap::new(), Vec::new());
        Self::whole(OwnedRequest { method, base, target, headers, body })
    }

    fn whole(request: OwnedRequest) -> Self {
        Self { request, extent: Extent::Whole, at_ms: None }
    }

    /// The captured request.
    pub(crate) fn request(&self) -> &OwnedRequest {
        &self.request
    }

    /// The name of a source in its path, whether or not there is one of that name.
    pub(crate) fn source_name(&self) -> Option<String> {
        match self.extent {
            Extent::Whole => {
                let path = path_of(&self.request.target);
                name_in(&path).map(|name| name.trim_end_matches('/').to_owned())
            }
            Extent::Query | Extent::Body => None,
        }
    }

    /// The source that its path names.
    ///
    /// # Errors
    /// It has no path, or the path names no source of `config`.
    pub(crate) fn source<'c>(&self, config: &'c Config) -> Result<&'c Arc<Source>, String> {
        match self.extent {
            Extent::Whole => source_at(config, &self.request.target),
            Extent::Query | Extent::Body => Err(String::from(
                "it does not say which source it is for: name the source in front of it",
            )),
        }
    }

    /// The request to `source`: a query or a body alone is completed.
    pub(crate) fn to(self, source: &Source) -> OwnedRequest {
        let mut request = self.request;
        match self.extent {
            Extent::Whole => {}
            Extent::Body => request.target = source.path().into_bytes(),
            Extent::Query if source.recipe.reads_query() => {
                let query = std::mem::take(&mut request.target);
                request.target = [source.path().as_bytes(), b"?", &query].concat();
            }
            // The pairs of a sender that has no query are its form.
            Extent::Query => {
                request.method = Method::POST;
                request.body = std::mem::replace(&mut request.target, source.path().into_bytes());
            }
        }
        request
    }
}

/// Reads a whole request, or a URL.
#[cfg(test)]
fn pasted(text: &str) -> Result<OwnedRequest, String> {
    let capture = Capture::read(text)?;
    match capture.extent {
        Extent::Whole => Ok(capture.request),
        Extent::Query | Extent::Body => Err(String::from("is a part of a request alone")),
    }
}

/// The path of `target`, without its query.
fn path_of(target: &[u8]) -> Cow<'_, str> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    String::from_utf8_lossy(&target[..end])
}

/// The name of a source in `path`. A proxy may have put something in front of it.
fn name_in(path: &str) -> Option<&str> {
    path.split_once(PREFIX).map(|(_, name)| name)
}

/// The source that the path of `target` names.
///
/// # Errors
/// There is none, with the nearest name.
pub(crate) fn source_at<'c>(config: &'c Config, target: &[u8]) -> Result<&'c Arc<Source>, String> {
    let path = path_of(target);
    let Some(name) = name_in(&path) else {
        return Err(format!("the path {path:?} is not /callback/ and the name of a source"));
    };
    let known = config.sources.get(name).or_else(|| config.sources.get(name.trim_end_matches('/')));
    known.ok_or_else(|| {
        let names: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let near = nearest(name, &names).map(|near| format!("; did you mean {near}?"));
        format!(
            "the path names the source {name:?}, which does not exist{}",
            near.unwrap_or_default()
        )
    })
}

/// A request that does not reach the source that it is explained for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misdirected {
    /// Its path ends in a slash, and the gateway answers 404 there.
    Slash {
        /// The path of the source.
        path: String,
    },
    /// Its path is that of another source.
    ToAnother {
        /// The source that it reaches.
        reached: String,
        /// The one that it is explained for.
        explained: String,
    },
}

impl Misdirected {
    /// The reason why a request to `target` does not reach `source`.
    pub(crate) fn of(config: &Config, source: &Source, target: &[u8]) -> Option<Self> {
        let path = path_of(target);
        let name = name_in(&path)?;
        if name == source.name {
            return None;
        }
        if name.trim_end_matches('/') == source.name {
            return Some(Self::Slash { path: source.path() });
        }
        let reached = source_at(config, target).ok()?.name.clone();
        Some(Self::ToAnother { reached, explained: source.name.clone() })
    }

    /// The note in English.
    pub(crate) fn english(&self) -> String {
        match self {
            Self::Slash { path } => format!(
                "the path ends in a slash, and the gateway answers 404 there: the sender has to \
                 call {path}"
            ),
            Self::ToAnother { reached, explained } => {
                format!("its path is that of the source {reached}; explained for {explained}")
            }
        }
    }

    /// The note in Chinese.
    pub(crate) fn chinese(&self) -> String {
        match self {
            Self::Slash { path } => {
                format!("路径以斜杠结尾，网关会返回 404：发送方应调用 {path}")
            }
            Self::ToAnother { reached, explained } => {
                format!("路径属于来源 {reached}，此处按来源 {explained} 诊断")
            }
        }
    }
}

/// Scheme and authority of a URL, and path with query. What has no scheme has no base.
fn split(url: &[u8]) -> (String, Vec<u8>) {
    let authority = memchr::memmem::find(url, b"://").map_or(0, |at| at + 3);
    let path = url[authority..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    let path = path.map_or(url.len(), |at| authority + at);
    let (base, target) = url.split_at(path);
    let base = if authority == 0 { &[] } else { base };
    let root: &[u8] = if target.starts_with(b"/") { b"" } else { b"/" };
    (String::from_utf8_lossy(base).into_owned(), [root, target].concat())
}

/// The lines that `curl -v` sent, where `text` is its output.
fn sent(text: &str) -> String {
    let is_sent = |line: &str| line == ">" || line.starts_with("> ");
    if !text.starts_with("> ") {
        return text.to_owned();
    }
    let lines = text.lines().take_while(|line| is_sent(line));
    lines.map(|line| line.get(2..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether `text` begins with a request line.
fn is_request(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    let (method, target) = line.split_once(' ').unwrap_or_default();
    !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_alphabetic())
        && (target.starts_with('/')
            || target.starts_with("http://")
            || target.starts_with("https://"))
}

/// The request with line ends as they are written down here, and without its version or what a log
/// has behind it.
fn without_version(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let (line, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let line = ["/1.1", "/1.0", "/2.0", "/2", "/3"]
        .iter()
        .find_map(|version| line.trim_end().strip_suffix(version)?.strip_suffix(" HTTP"))
        .unwrap_or(line);
    format!("{}\n{rest}", without_status(line, rest))
}

/// `GET /callback/a?b=c` of `GET /callback/a?b=c 403 5.2 ms - 12`.
fn without_status<'l>(line: &'l str, rest: &str) -> &'l str {
    let mut words = line.split(' ');
    let kept = words.next().map_or(0, str::len) + 1 + words.next().map_or(0, str::len);
    let is_status = |word: &str| word.len() == 3 && word.bytes().all(|b| b.is_ascii_digit());
    let is_log = rest.trim().is_empty()
        && words.next().is_some_and(is_status)
        && line.ends_with(|last: char| last.is_ascii_digit() || last == 's' || last == '-');
    if is_log && words.next().is_some() { &line[..kept] } else { line }
}

/// Without the line end that an editor put behind the body.
fn unpadded(mut request: OwnedRequest) -> OwnedRequest {
    let length = request.headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(length) = length.filter(|length| *length < request.body.len())
        && request.body[length..].iter().all(u8::is_ascii_whitespace)
    {
        request.body.truncate(length);
    }
    request
}

/// Without the quotes or brackets that a text had around it.
fn unquoted(text: &str) -> &str {
    let pairs = [("\"", "\""), ("'", "'"), ("`", "`"), ("<", ">"), ("“", "”")];
    let inner = pairs.iter().find_map(|(start, end)| {
        let inner = text.strip_prefix(start)?.strip_suffix(end)?;
        (has_path(inner) || as_query(inner).is_some()).then_some(inner)
    });
    inner.unwrap_or(text)
}

/// Whether `text` is a URL or a path: one line, with a path. A host without a scheme needs a dot or
/// a port.
fn has_path(text: &str) -> bool {
    if text.lines().count() > 1 {
        return false;
    }
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.contains('/') || rest.contains('?')
        }
        _ => match text.split_once('/') {
            Some(("", _)) => true,
            Some((host, rest)) => {
                let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
                host.contains(['.', ':'])
                    && host.bytes().all(is_host)
                    && rest.starts_with("callback/")
            }
            None => false,
        },
    }
}

/// The pairs of a query, with or without its question mark.
fn as_query(text: &str) -> Option<&str> {
    let query = text.strip_prefix('?').unwrap_or(text);
    let (name, _) = query.split_once('=')?;
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.%[]+:$".contains(&byte);
    let is_query = !name.is_empty() && name.bytes().all(is_of_name) && query.lines().count() == 1;
    is_query.then_some(query)
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
    let same = Capture::read(&text).is_ok_and(|read| read.request == *request);
    same.then_some(text)
}
