//! A request as people may see it: without its supplied signature and without secrets.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde_json::value::RawValue;

use crate::clock::UnixMillis;
use crate::config::{Config, MASK, Source};
use crate::ledger::{RawRequest, Rejection};
use crate::sender::{Recipe, without_secrets};

/// Headers whose values reveal no secret. Any other may be a signature of an unknown sender, and
/// its value is masked.
const HARMLESS: [&str; 10] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "date",
    "forwarded",
    "host",
    "user-agent",
    "via",
    "x-forwarded-for",
];

/// Bytes of a path that are searched for the secrets of all sources, thousands of them: a path that
/// a source has is shorter.
const PATH_BYTES_SEARCHED: usize = 1024;

/// Bytes of a path that are shown. Fewer than are searched: the beginning of a secret that lies across
/// the end of what is searched would not be found.
const PATH_BYTES_SHOWN: usize = 512;

/// A request to a source, its supplied signature masked.
#[derive(Debug)]
pub struct Masked<'r> {
    /// The method.
    pub method: &'r str,
    /// The path, without its query; of a long one the first `PATH_BYTES_SHOWN` and an ellipsis.
    pub path: String,
    /// The parameters as the source's sender reads them, as a JSON object. `None` when the source
    /// is gone: then it is unknown which of them is a signature.
    pub params: Option<Box<RawValue>>,
    /// The headers.
    pub headers: Vec<(&'r str, String)>,
    /// How long the body was.
    pub body_bytes: usize,
}

/// The source that a rejected callback came to, or the one whose name is nearest, if it is there
/// still: its id outlives its name.
#[must_use]
pub fn source_of<'c>(rejection: &Rejection, config: &'c Config) -> Option<&'c Arc<Source>> {
    let id = rejection.source_id.as_str();
    let of_id = || config.sources.values().find(|source| source.id == id);
    match &rejection.nearest {
        Some(name) => config.sources.get(name),
        None => config.sources.get(id).filter(|source| source.id == id).or_else(of_id),
    }
}

/// The recipes of all sources.
pub(super) fn recipes(config: &Config) -> impl Iterator<Item = &Recipe> {
    config.sources.values().map(|source| &source.recipe)
}

/// Masks secrets in what was noted of a rejection: an older version noted them, and more of them may
/// be configured since.
pub(super) fn mask_notes(rejection: &mut Rejection, config: &Config) {
    let source = source_of(rejection, config).filter(|_| rejection.nearest.is_none());
    let notes = [&mut rejection.parameter, &mut rejection.transaction, &mut rejection.user];
    for note in notes.into_iter().flatten().chain([&mut rejection.source]) {
        let shown = match source {
            Some(source) => source.recipe.without_secrets(note),
            None => without_secrets(note, recipes(config)),
        };
        if let Cow::Owned(shown) = shown {
            *note = shown;
        }
    }
}

impl<'r> Masked<'r> {
    /// `request` to `source`, which came at `at_ms`. A path may hold the secret of any source of
    /// `config`: it may be a wrong one.
    #[must_use]
    pub fn of(
        request: &'r RawRequest,
        config: &Config,
        source: Option<&Source>,
        at_ms: UnixMillis,
    ) -> Self {
        let read = |source: &Source| {
            let headers: HeaderMap = request.header_map();
            source.recipe.read(request.as_request("", &headers), at_ms).params()
        };
        let fields = request.headers.iter();
        Self {
            method: request.method.as_str(),
            path: shown_path(&request.target, config),
            params: source.map(read),
            headers: fields
                .map(|(name, value)| (name.as_str(), shown(name.as_str(), value)))
                .collect(),
            body_bytes: request.body.len(),
        }
    }
}

impl Masked<'_> {
    /// The request as text: request line, headers, and the body if it is shown.
    #[must_use]
    pub fn text(&self, shown: &RawShown) -> String {
        let mut text = format!("{} {}\n", self.method, shown.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        if let Some(body) = shown.body.as_deref().filter(|body| !body.is_empty()) {
            text.push_str(&format!("\n{body}"));
        }
        text
    }
}

/// The path of `target` without the secrets of any source.
fn shown_path(target: &[u8], config: &Config) -> String {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let searched = path.get(..PATH_BYTES_SEARCHED).unwrap_or(path);
    let text = String::from_utf8_lossy(searched);
    let mut shown = without_secrets(&text, recipes(config)).into_owned();
    if shown.len() > PATH_BYTES_SHOWN || searched.len() < path.len() {
        shown.truncate(shown.floor_char_boundary(PATH_BYTES_SHOWN));
        shown.push('…');
    }
    shown
}

fn shown(name: &str, value: &HeaderValue) -> String {
    match HARMLESS.contains(&name) {
        true => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        false => String::from(MASK),
    }
}

/// Longest body that is shown, in bytes.
pub(super) const SHOWN_BODY_BYTES: usize = 64 * 1024;

/// Bytes of a supplied signature from which on it is replaced wherever it occurs: a shorter one may
/// be part of other values.
const SIGNATURE_BYTES_MIN: usize = 6;

/// Target and body of a request as they came, with the supplied signature and secrets replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawShown {
    /// Path and query.
    pub target: String,
    /// The body, if it is text and not longer than `SHOWN_BODY_BYTES`.
    pub body: Option<String>,
}

impl RawShown {
    /// `request` to `source`. `None`: a part of it may be a signature that cannot be found in the
    /// text, so the text is not shown.
    #[must_use]
    pub fn of(request: &RawRequest, source: &Source, at_ms: UnixMillis) -> Option<Self> {
        let headers = request.header_map();
        let callback = source.recipe.read(request.as_request("", &headers), at_ms);
        let params: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(callback.params_by_name().get()).ok()?;
        let mut target = String::from_utf8_lossy(&request.target).into_owned();
        let mut body = match std::str::from_utf8(&request.body) {
            Ok(text) if text.len() <= SHOWN_BODY_BYTES => text.to_owned(),
            _ => String::new(),
        };
        let is_whole = body.len() == request.body.len();
        // A signature in a header is in neither text, and in no parameter.
        for (name, _) in params.iter().filter(|(_, value)| is_masked(value)) {
            let value = callback.written_parameter(name)?;
            if value.is_empty() {
                continue;
            }
            let is_there = [&mut target, &mut body].map(|text| replace(text, name, &value));
            if !is_there.contains(&true) {
                return None;
            }
        }
        let shown = |text: &str| source.recipe.without_secrets(text).into_owned();
        Some(Self { target: shown(&target), body: is_whole.then(|| shown(&body)) })
    }
}

/// Whether a value is masked, or one inside of it.
fn is_masked(value: &serde_json::Value) -> bool {
    value.to_string().contains(MASK)
}

/// Replaces the value of the parameter `name` in each form that it may have in a request. Whether
/// there was one.
fn replace(text: &mut String, name: &str, value: &str) -> bool {
    let upper = percent(value, const_hex::encode_upper);
    let lower = percent(value, const_hex::encode);
    let json = serde_json::to_string(value).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let form = upper.replace("%20", "+");
    let forms = [value.to_owned(), upper, form, lower, json, value.replace(' ', "+")];
    let mut is_there = false;
    for form in forms {
        if form.len() < SIGNATURE_BYTES_MIN {
            let pair = format!("{name}={form}");
            is_there |= text.contains(&pair);
            *text = text.replace(&pair, &format!("{name}={MASK}"));
        } else {
            is_there |= text.contains(&form);
            *text = text.replace(&form, MASK);
        }
    }
    is_there
}

fn percent(value: &str, hex: fn([u8; 1]) -> String) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => {
                escaped.push('%');
                escaped.push_str(&hex([other]));
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Machine, load_str};

    #[test]
    fn a_long_path_is_cut_and_no_part_of_a_secret_is_left_at_the_cut() {
        let text = "[[source]]\nname = \"bonus\"\nsender = \"taku\"\n\
                    secrets = \"0123456789abcdefghijklmnopqrstuv\"\n";
        let config = load_str(&Machine, Path::new("postern.toml"), text).unwrap().config;
        let secret = "0123456789abcdefghijklmnopqrstuv";
        let shown = |path: &str| shown_path(format!("{path}?a=1").as_bytes(), &config);
        assert_eq!(shown(&format!("/callback/{secret}")), "/callback/***");
        let filled = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
        assert_eq!(shown(&filled(PATH_BYTES_SHOWN)), filled(PATH_BYTES_SHOWN));
        for before in [PATH_BYTES_SHOWN - 9, PATH_BYTES_SHOWN, PATH_BYTES_SEARCHED - 9] {
            let path = shown(&format!("{}{secret}{}", filled(before), "y".repeat(64 * 1024)));
            assert!(path.len() <= PATH_BYTES_SHOWN + '…'.len_utf8() && path.ends_with('…'));
            assert!(!path.contains("0123"), "{before}: {path}");
        }
    }

    /// A signature may be inside of a JSON object or of an XML element.
    #[test]
    fn a_signature_inside_is_not_shown_and_the_rest_is() {
        let text = "[[source]]\nname = \"push\"\nsender = \"wechat-push\"\n\
                    secrets = \"gatewaytoken\"\npay_key = \"appkey-1\"\n";
        let config = load_str(&Machine, Path::new("postern.toml"), text).unwrap().config;
        let source = config.sources.values().next().unwrap();
        let shown = |body: String| {
            let request = RawRequest {
                method: http::Method::POST,
                target: bytes::Bytes::from_static(
                    b"/callback/push?signature=be4d53cdd56d183a856b22073582ac8e79219493\
                      &timestamp=1700000000&nonce=12345",
                ),
                headers: Vec::new(),
                body: body.into(),
            };
            RawShown::of(&request, source, 1_700_000_000_000).unwrap()
        };
        let supplied = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978";
        for body in [
            format!(
                "<xml><FromUserName>o1</FromUserName><MsgType>event</MsgType><MiniGame>\
                 <Payload>p</Payload><PayEventSig>{supplied}</PayEventSig></MiniGame></xml>"
            ),
            format!(
                "{{\"FromUserName\":\"o1\",\"MsgType\":\"event\",\"MiniGame\":\
                 {{\"Payload\":\"p\",\"PayEventSig\":\"{supplied}\"}}}}"
            ),
        ] {
            let RawShown { target, body } = shown(body);
            let body = body.unwrap();
            assert!(!target.contains("be4d53") && target.contains("nonce=12345"), "{target}");
            assert!(!body.contains("0f1e2d") && body.contains("FromUserName"), "{body}");
        }
        // Where none came, all of it is shown.
        let body = "<xml><FromUserName>o1</FromUserName><MiniGame><a>1</a></MiniGame></xml>";
        assert_eq!(shown(body.to_owned()).body.as_deref(), Some(body));
    }

    #[test]
    fn a_signature_is_replaced_in_every_form() {
        for (text, value) in [
            ("a=1&sign=ab%2Bc%2fdef%3D%3D", "ab+c/def=="),
            ("a=1&sign=abcdef0123", "abcdef0123"),
            ("{\"sign\":\"abc\\/def\\\"0\"}", "abc/def\"0"),
        ] {
            let mut shown = text.replace("%2fdef", "%2Fdef").replace("\\/", "/");
            assert!(replace(&mut shown, "sign", value), "{text}");
            assert!(shown.contains(MASK) && !shown.contains("def"), "{shown}");
        }
        let mut other = String::from("a=1&sign=ABCDEF");
        assert!(!replace(&mut other, "sign", "abcdef"));
        let mut short = String::from("a=12&sign=1");
        assert!(replace(&mut short, "sign", "1"));
        assert_eq!(short, "a=12&sign=***");
    }
}
