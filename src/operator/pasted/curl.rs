//! A curl command as browsers and the console print it, for a POSIX shell or for `cmd.exe`.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::words::{self, Word};
use crate::sender::OwnedRequest;

/// The arguments of the curl command that `text` is; `None` if it is none.
pub(super) fn arguments(text: &str) -> Option<&str> {
    let text = text.trim_start();
    // A prompt may have been copied along.
    let bare = text.trim_start_matches(['$', '>', '#', '%']).trim_start();
    let rest = ["curl.exe", "curl"].iter().find_map(|name| bare.strip_prefix(name))?;
    rest.starts_with(char::is_whitespace).then_some(rest)
}

/// The request that curl would make of `arguments`.
///
/// # Errors
/// Why it cannot be told.
pub(super) fn request(arguments: &str) -> Result<OwnedRequest, String> {
    let mut command = Command::default();
    let mut words = words::of(arguments)?.into_iter();
    let mut options = Options::Read;
    while let Some(word) = words.next() {
        match word.as_slice() {
            b"--" => options = Options::Over,
            [b'-', b'-', name @ ..] if options == Options::Read => {
                command.long(&text_of(name), &mut words)?;
            }
            [b'-', flags @ ..] if options == Options::Read && !flags.is_empty() => {
                command.short(flags, &mut words)?;
            }
            _ => command.url(word),
        }
    }
    command.request()
}

/// Whether further words may be options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Options {
    Read,
    Over,
}

/// Short options with a value.
const SHORT_WITH_VALUE: &[u8] = b"AbcCdDeEFHKmoPQrtTuUwxXyYz";

/// Long options with a value that say nothing of the request.
const LONG_WITH_VALUE: &[&str] = &[
    "cacert",
    "capath",
    "cert",
    "ciphers",
    "config",
    "connect-timeout",
    "connect-to",
    "cookie-jar",
    "dump-header",
    "interface",
    "keepalive-time",
    "key",
    "limit-rate",
    "local-port",
    "max-filesize",
    "max-redirs",
    "max-time",
    "noproxy",
    "output",
    "output-dir",
    "pass",
    "pinnedpubkey",
    "proto",
    "proxy",
    "proxy-header",
    "proxy-user",
    "range",
    "rate",
    "resolve",
    "retry",
    "retry-delay",
    "retry-max-time",
    "stderr",
    "tls-max",
    "trace",
    "trace-ascii",
    "unix-socket",
    "user",
    "write-out",
    "oauth2-bearer",
    "upload-file",
    "speed-limit",
    "speed-time",
    "time-cond",
];

/// The boundary between the parts of a form that is made here.
const BOUNDARY: &str = "postern-explain";

/// The content of a command so far.
#[derive(Debug, Default)]
struct Command {
    method: Option<Method>,
    url: Option<Word>,
    headers: HeaderMap,
    data: Vec<Word>,
    parts: Vec<Word>,
    query: Vec<Word>,
    is_get: bool,
    is_head: bool,
    content_type: DefaultType,
}

/// Whether a body without a content type gets that of a form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DefaultType {
    #[default]
    Form,
    Removed,
}

fn text_of(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

impl Command {
    fn url(&mut self, word: Word) {
        // A redirection of the output is not a URL: `> file`, `2>&1`.
        let is_url = memchr::memchr2(b'/', b'?', &word).is_some() && !word.starts_with(b">");
        if self.url.is_none() && is_url {
            self.url = Some(word);
        }
    }

    fn short(
        &mut self,
        flags: &[u8],
        words: &mut impl Iterator<Item = Word>,
    ) -> Result<(), String> {
        for (at, flag) in flags.iter().enumerate() {
            if !SHORT_WITH_VALUE.contains(flag) {
                self.is_get |= *flag == b'G';
                self.is_head |= *flag == b'I';
                continue;
            }
            let rest = &flags[at + 1..];
            let value = if rest.is_empty() { words.next() } else { Some(rest.to_vec()) };
            let value = value.unwrap_or_default();
            let name = match flag {
                b'X' => "request",
                b'H' => "header",
                b'd' => "data",
                b'F' => "form",
                b'A' => "user-agent",
                b'e' => "referer",
                b'b' => "cookie",
                _ => return Ok(()),
            };
            return self.option(name, value);
        }
        Ok(())
    }

    fn long(&mut self, name: &str, words: &mut impl Iterator<Item = Word>) -> Result<(), String> {
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.as_bytes().to_vec())),
            None => (name, None),
        };
        match name {
            "get" => self.is_get = true,
            "head" => self.is_head = true,
            "request" | "header" | "data" | "data-raw" | "data-ascii" | "data-binary"
            | "data-urlencode" | "json" | "form" | "form-string" | "url" | "url-query"
            | "user-agent" | "referer" | "cookie" => {
                let value = value.or_else(|| words.next());
                return self.option(name, value.unwrap_or_default());
            }
            _ if value.is_none() && LONG_WITH_VALUE.contains(&name) => drop(words.next()),
            _ => {}
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: Word) -> Result<(), String> {
        let is_file = value.first() == Some(&b'@');
        match name {
            "request" => {
                let method = Method::from_bytes(&value).map_err(|_| "-X has no method")?;
                self.method = Some(method);
            }
            "header" => self.header(&value)?,
            "data" | "data-ascii" | "data-binary" | "json" | "data-urlencode" if is_file => {
                let file = text_of(&value[1..]);
                return Err(format!("the body is in the file {file}: paste a whole request"));
            }
            "json" => {
                self.set_default(header::CONTENT_TYPE, "application/json");
                self.data.push(value);
            }
            "data-urlencode" => self.data.push(encoded(&value)),
            "data" | "data-raw" | "data-ascii" | "data-binary" => self.data.push(value),
            "form" | "form-string" => self.parts.push(value),
            "url" => self.url = Some(value),
            "url-query" => self.query.push(encoded(&value)),
            "user-agent" => self.set_default(header::USER_AGENT, &text_of(&value)),
            "referer" => self.set_default(header::REFERER, &text_of(&value)),
            "cookie" => self.set_default(header::COOKIE, &text_of(&value)),
            _ => {}
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), String> {
        let wrong = || format!("-H {:?} is not a header", text_of(line));
        // `Name;` is a header without a value, and `Name:` takes one away.
        let mark = line.iter().position(|byte| matches!(byte, b':' | b';')).ok_or_else(wrong)?;
        let (name, value) = (&line[..mark], line[mark + 1..].trim_ascii());
        if value.is_empty() && line[mark] == b':' {
            if name.trim_ascii().eq_ignore_ascii_case(b"content-type") {
                self.content_type = DefaultType::Removed;
            }
            return Ok(());
        }
        let name = HeaderName::from_bytes(name.trim_ascii()).map_err(|_| wrong())?;
        let value = HeaderValue::from_bytes(value).map_err(|_| wrong())?;
        self.headers.append(name, value);
        Ok(())
    }

    fn set_default(&mut self, name: HeaderName, value: &str) {
        if let (false, Ok(value)) = (self.headers.contains_key(&name), value.parse()) {
            self.headers.insert(name, value);
        }
    }

    fn request(mut self) -> Result<OwnedRequest, String> {
        let url = self.url.take().ok_or("the curl command has no URL with a path")?;
        let (base, mut target) = super::split(&url);
        if let Some(end) = memchr::memchr(b'#', &target) {
            target.truncate(end); // curl keeps it to itself
        }
        let mut body = self.data.join(&b'&');
        if self.is_get {
            self.query.extend((!body.is_empty()).then(|| std::mem::take(&mut body)));
        }
        for query in std::mem::take(&mut self.query) {
            let mark = if target.contains(&b'?') { b'&' } else { b'?' };
            target.push(mark);
            target.extend_from_slice(&query);
        }
        if !body.is_empty() && self.content_type == DefaultType::Form {
            self.set_default(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if !self.parts.is_empty() {
            let kind = format!("multipart/form-data; boundary={BOUNDARY}");
            self.headers.insert(header::CONTENT_TYPE, kind.parse().map_err(|_| "no boundary")?);
            body = multipart(&self.parts)?;
        }
        let usual = match (self.is_head, body.is_empty()) {
            (true, _) => Method::HEAD,
            (false, true) => Method::GET,
            (false, false) => Method::POST,
        };
        let method = self.method.unwrap_or(usual);
        Ok(OwnedRequest { method, base, target, headers: self.headers, body })
    }
}

/// `--data-urlencode`: `name=content`, of which the content is encoded.
fn encoded(value: &[u8]) -> Word {
    let at = memchr::memchr(b'=', value).map_or(0, |at| at + 1);
    let mut out = value[..at].to_vec();
    if out == b"=" {
        out.clear();
    }
    for byte in &value[at..] {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}

/// The body of a form with these `name=content` parts.
fn multipart(parts: &[Word]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    for part in parts {
        let at = memchr::memchr(b'=', part).ok_or("-F has no name=content")?;
        let (name, content) = (text_of(&part[..at]), &part[at + 1..]);
        if matches!(content.first(), Some(b'@' | b'<')) {
            return Err(format!("the content of {name} is in a file: paste a whole request"));
        }
        let head =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    Ok(body)
}
