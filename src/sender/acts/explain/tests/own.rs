//! An independent signer: reads a sender's file and a request with its own code, so its mistakes
//! are not those of the code under test.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use crate::sender::OwnedRequest;

/// A part of a signed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The separator from the preceding one.
    pub(super) between: String,
    pub(super) label: String,
    pub(super) within: String,
    /// Its name on the wire; `None`: the secret.
    pub(super) name: Option<String>,
    pub(super) raw: Vec<u8>,
    pub(super) decoded: Vec<u8>,
    /// As the rule signs it.
    pub(super) text: Vec<u8>,
    /// Whether it stands as one of many pairs.
    pub(super) listed: bool,
}

/// One way to sign.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The text before the first part.
    pub(super) head: String,
    pub(super) parts: Vec<Part>,
    /// Empty listed parameters that are not signed.
    pub(super) dropped: Vec<Part>,
    pub(super) tail: String,
    pub(super) sorted: bool,
    pub(super) with: Vec<String>,
    pub(super) key: String,
    pub(super) writing: String,
    pub(super) cut: Option<usize>,
    pub(super) each: String,
    pub(super) plus_kept: bool,
    /// The placeholder that the supplied signature is read by.
    pub(super) supplied: String,
    pub(super) empty_dropped: bool,
}

/// Reads the variant at `index` of the file `text`, for `request` under `params`.
pub(super) fn read(
    text: &str,
    index: usize,
    request: &OwnedRequest,
    params: &toml::Table,
) -> Option<Own> {
    let file: toml::Table = toml::from_str(text).unwrap();
    let base = file.get("signature")?.as_table()?.clone();
    let mut signature = base.clone();
    if index > 0 {
        let or = base["or"].as_array().unwrap()[index - 1].as_table().unwrap().clone();
        let mut pairs = table(&base, "pairs");
        pairs.extend(table(&or, "pairs"));
        signature.extend(or);
        if !pairs.is_empty() {
            signature.insert("pairs".into(), toml::Value::Table(pairs));
        }
    }
    let mut reader = Reader {
        request: Wire::of(request),
        params: renames(&file, params),
        lists: table(&file, "lists"),
        paste: string(&file, "paste"),
        pending: String::new(),
        own: Own {
            head: String::new(),
            parts: Vec::new(),
            dropped: Vec::new(),
            tail: String::new(),
            sorted: false,
            with: strings(signature.get("with")),
            key: string_or(&signature, "key", "[secret]"),
            writing: string_or(&signature, "as", "hex"),
            cut: signature.get("cut").and_then(toml::Value::as_integer).map(|n| n as usize),
            each: string(&table(&signature, "pairs"), "each"),
            plus_kept: string(&signature, "plus") == "kept",
            supplied: string(&signature, "in"),
            empty_dropped: string(&table(&signature, "pairs"), "empty") == "dropped",
        },
    };
    reader.text(&string(&signature, "of"), &signature)?;
    let mut own = reader.own;
    own.tail = reader.pending;
    let between = own.parts.get(1).map(|part| part.between.clone()).unwrap_or_default();
    let first = own.parts.first_mut()?;
    if !first.listed {
        own.head = std::mem::replace(&mut first.between, between);
    }
    Some(own)
}

fn table(table: &toml::Table, key: &str) -> toml::Table {
    table.get(key).and_then(toml::Value::as_table).cloned().unwrap_or_default()
}

fn string(table: &toml::Table, key: &str) -> String {
    string_or(table, key, "")
}

fn string_or(table: &toml::Table, key: &str, default: &str) -> String {
    table.get(key).and_then(toml::Value::as_str).unwrap_or(default).to_owned()
}

fn strings(value: Option<&toml::Value>) -> Vec<String> {
    match value {
        Some(toml::Value::String(one)) => vec![one.clone()],
        Some(toml::Value::Array(list)) => {
            list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Name of the file to name on the wire.
fn renames(file: &toml::Table, params: &toml::Table) -> Vec<(String, String)> {
    let roles = table(file, "roles");
    params
        .iter()
        .map(|(name, wire)| {
            let text = string(&roles, name);
            let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}'));
            let name = inner.filter(|t| !t.contains(['{', '}'])).unwrap_or(name);
            (name.to_owned(), wire.as_str().unwrap().to_owned())
        })
        .collect()
}

/// Place, name, raw value, decoded value with `+` as a space, and with `+` kept.
type Value = (&'static str, String, Vec<u8>, Vec<u8>, Vec<u8>);

/// A request, parsed here.
struct Wire {
    url: String,
    values: Vec<Value>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Wire {
    fn of(request: &OwnedRequest) -> Self {
        let target = String::from_utf8(request.target.clone()).unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let mut values = Vec::new();
        let mut pairs = |place, text: &str| {
            for pair in text.split('&').filter(|pair| !pair.is_empty()) {
                let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
                let name = String::from_utf8(decode(name.as_bytes(), true)).unwrap();
                let raw = raw.as_bytes().to_vec();
                let (blank, kept) = (decode(&raw, true), decode(&raw, false));
                values.push((place, name, raw, blank, kept));
            }
        };
        pairs("query", target.split_once('?').map_or("", |(_, query)| query));
        let start = body.trim_start();
        if start.starts_with('{') {
            for (name, value) in serde_json::from_str::<serde_json::Map<_, _>>(start).unwrap() {
                let (raw, text) = spelled(start, &name, &value);
                values.push(("json", name, raw.into_bytes(), text.clone(), text));
            }
        } else if let Some(at) = start.find("<Encrypt><![CDATA[") {
            let rest = &start[at + 18..];
            let text = rest.as_bytes()[..rest.find("]]>").unwrap()].to_vec();
            values.push(("xml", "Encrypt".into(), text.clone(), text.clone(), text));
        } else if !start.starts_with('<') {
            pairs("form", start);
        }
        let headers = request.headers.iter();
        let headers = headers.map(|(k, v)| (k.to_string(), v.to_str().unwrap().to_owned()));
        let url = format!("{}{target}", request.base);
        Self { url, values, headers: headers.collect(), body: request.body.clone() }
    }

    fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// A JSON member as spelled, without quotes, and as text.
fn spelled(document: &str, name: &str, value: &serde_json::Value) -> (String, Vec<u8>) {
    match value {
        serde_json::Value::String(text) => {
            let at = document.find(&format!("\"{name}\":")).unwrap() + name.len() + 3;
            let rest = document[at..].trim_start().strip_prefix('"').unwrap();
            let mut end = 0;
            let bytes = rest.as_bytes();
            while bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            (rest[..end].to_owned(), text.clone().into_bytes())
        }
        other => (other.to_string(), other.to_string().into_bytes()),
    }
}

/// Percent escapes decoded.
pub(super) fn decode(raw: &[u8], plus_is_blank: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < raw.len() {
        let escape = raw.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let escape = escape.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (raw[at], escape) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus_is_blank => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

/// PHP's `urlencode`.
pub(super) fn form(text: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    for byte in text {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'_' | b'.' => out.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(*byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out.into_bytes()
}

/// A URL without a parameter, or the part before it.
fn cut(url: &str, modifier: &str) -> Vec<u8> {
    let Some((word, name)) = modifier.split_once(':') else { return url.into() };
    let (path, query) = url.split_once('?').unwrap();
    let is_it = |pair: &&str| pair.split('=').next() == Some(name);
    let kept: Vec<&str> = match word {
        "before" => query.split('&').take_while(|pair| !is_it(pair)).collect(),
        _ => query.split('&').filter(|pair| !is_it(pair)).collect(),
    };
    format!("{path}?{}", kept.join("&")).into_bytes()
}

struct Reader {
    request: Wire,
    params: Vec<(String, String)>,
    lists: toml::Table,
    paste: String,
    pending: String,
    own: Own,
}

/// A value as received, decoded, and as signed.
struct Written {
    raw: Vec<u8>,
    decoded: Vec<u8>,
    text: Vec<u8>,
}

impl Written {
    /// A value that needs no decoding.
    fn plain(value: Vec<u8>) -> Self {
        Self { raw: value.clone(), decoded: value.clone(), text: value }
    }
}

impl Reader {
    fn text(&mut self, text: &str, signature: &toml::Table) -> Option<()> {
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('(')
                && let Some((inner, after)) = inner.split_once(")?")
            {
                self.optional(inner, signature)?;
                rest = after;
            } else if rest.starts_with(['{', '[']) {
                let end = rest.find(['}', ']']).unwrap();
                self.placeholder(&rest[..=end], signature)?;
                rest = &rest[end + 1..];
            } else {
                let character = rest.chars().next().unwrap();
                self.pending.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
        Some(())
    }

    fn optional(&mut self, inner: &str, signature: &toml::Table) -> Option<()> {
        let open = inner.find('{').filter(|_| !inner.contains(['"', '[']))?;
        let close = inner.find('}').unwrap();
        let name = self.wire(inner[open + 1..close].split('|').next().unwrap());
        let found = self.request.values.iter().find(|value| value.1 == name);
        match found.map(|value| value.3.is_empty()) {
            Some(false) => self.text(inner, signature),
            _ => Some(()),
        }
    }

    fn wire(&self, name: &str) -> String {
        let renamed = self.params.iter().find(|(known, _)| known == name);
        renamed.map_or(name, |(_, wire)| wire).to_owned()
    }

    fn placeholder(&mut self, written: &str, signature: &toml::Table) -> Option<()> {
        let key = &written[1..written.len() - 1];
        match (written.as_bytes()[0], key) {
            (b'[', "pairs") => self.pairs(&table(signature, "pairs")),
            (b'[', "sorted") => {
                self.own.sorted = true;
                for text in strings(signature.get("sorted")) {
                    self.text(&text, signature)?;
                }
            }
            (b'[', "secret") => self.push(None, Written::plain(Vec::new())),
            (b'[', "body") => {
                let body = self.request.body.clone();
                self.push(Some("body"), Written::plain(body));
            }
            (b'[', key) if key.starts_with("url") => {
                let url = cut(&self.request.url, key.strip_prefix("url|").unwrap_or_default());
                self.push(Some("url"), Written::plain(url));
            }
            (b'[', header) => {
                let value = self.request.header(header.strip_prefix("header.")?)?.into_bytes();
                self.push(Some(header), Written::plain(value));
            }
            (_, key) => {
                let (name, modifier) = key.split_once('|').unwrap_or((key, ""));
                let (raw, decoded) = self.value(name)?;
                let text = match modifier {
                    "raw" => raw.clone(),
                    "int" => decoded.split(|byte| *byte == b'.').next().unwrap().to_vec(),
                    _ => decoded.clone(),
                };
                let name = self.wire(name);
                self.push(Some(&name), Written { raw, decoded, text });
            }
        }
        Some(())
    }

    fn value(&self, name: &str) -> Option<(Vec<u8>, Vec<u8>)> {
        if let Some((list, item)) = name.split_once('.')
            && let Some(list) = self.lists.get(list).and_then(toml::Value::as_table)
        {
            let of = string(list, "of");
            let header = of.strip_prefix("[header.")?.strip_suffix(']')?;
            let text = self.request.header(header)?;
            let lead = format!("{item}=");
            let between = if string(list, "shape").contains(';') { ';' } else { ',' };
            let value = text.split(between).find_map(|pair| pair.trim().strip_prefix(&*lead))?;
            return Some((value.into(), value.into()));
        }
        let name = self.wire(name);
        let found = self.request.values.iter().find(|value| value.1 == name)?;
        Some((found.2.clone(), if self.own.plus_kept { found.4.clone() } else { found.3.clone() }))
    }

    fn push(&mut self, name: Option<&str>, written: Written) {
        let Written { raw, decoded, text } = written;
        let literal = std::mem::take(&mut self.pending);
        let start = literal.find(|c: char| c.is_alphanumeric()).unwrap_or(literal.len());
        let (between, rest) = literal.split_at(start);
        let (label, within) = match rest.strip_suffix('=') {
            Some(label) => (label, "="),
            None => (rest, ""),
        };
        self.own.parts.push(Part {
            between: between.into(),
            label: label.into(),
            within: within.into(),
            name: name.map(str::to_owned),
            raw,
            decoded,
            text,
            listed: false,
        });
    }

    /// The names of the parameters in the list: what they are sorted by, and what is sent.
    fn names(&mut self, pairs: &toml::Table) -> Vec<(String, String)> {
        let except = strings(pairs.get("except"));
        let supplied = self.own.supplied.trim_matches(['{', '}']).to_owned();
        let takes = |pattern: &String, name: &str| match pattern.trim_matches('*') {
            inner if pattern.starts_with('*') && pattern.ends_with('*') => {
                name.to_lowercase().contains(&inner.to_lowercase())
            }
            _ => name == pattern,
        };
        let left_out =
            |name: &str| name == supplied || except.iter().any(|pattern| takes(pattern, name));
        let mut names: Vec<(String, String)> = Vec::new();
        let mut all = |places: &[&str]| {
            let all = self.request.values.iter().filter(|value| places.contains(&value.0));
            names.extend(all.map(|value| (value.1.clone(), value.1.clone())));
        };
        let which = strings(pairs.get("which"));
        match which.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["query"] => all(&["query"]),
            ["form"] => all(&["form"]),
            ["all"] => all(&["query", "form"]),
            ["pasted"] => {
                let pasted = self.paste.split('&').map(|pair| pair.trim().split_once('=').unwrap());
                let pasted = pasted.filter(|(name, _)| !left_out(name));
                names.extend(pasted.map(|(name, r#macro)| (r#macro.to_owned(), self.wire(name))));
            }
            list => names.extend(list.iter().map(|name| ((*name).to_owned(), self.wire(name)))),
        }
        names.retain(|(_, name)| !left_out(name));
        names
    }

    fn pairs(&mut self, pairs: &toml::Table) {
        let mut names = self.names(pairs);
        for (name, _) in table(pairs, "add") {
            names.push((name.clone(), format!("\0{name}")));
        }
        if string(pairs, "order") != "given" {
            names.sort();
        }
        let (label, within, between) = match string(pairs, "shape").as_str() {
            "vv" => (false, "", ""),
            "v:v" => (false, "", ":"),
            "kvkv" => (true, "", ""),
            "k=v&k=v" => (true, "=", "&"),
            "k=v,k=v" => (true, "=", ","),
            other => panic!("shape {other}"),
        };
        for (_, name) in names {
            let ours = name.strip_prefix('\0');
            let (raw, decoded) = match ours {
                Some(_) => Default::default(),
                None => match self.value(&name) {
                    Some(value) => value,
                    None => continue,
                },
            };
            let shown = ours.unwrap_or(&name);
            let written = match self.own.each.as_str() {
                "form" => String::from_utf8(form(shown.as_bytes())).unwrap(),
                _ => shown.to_owned(),
            };
            let part = Part {
                between: between.into(),
                label: if label { written } else { String::new() },
                within: within.into(),
                name: ours.is_none().then(|| name.clone()),
                text: self.each(&raw, &decoded),
                listed: true,
                raw,
                decoded,
            };
            if self.own.empty_dropped && part.name.is_some() && part.decoded.is_empty() {
                self.own.dropped.push(part);
            } else {
                self.own.parts.push(part);
            }
        }
    }

    fn each(&self, raw: &[u8], decoded: &[u8]) -> Vec<u8> {
        match self.own.each.as_str() {
            "form" => form(decoded),
            "raw" => raw.to_vec(),
            _ => decoded.to_vec(),
        }
    }
}

impl Own {
    /// The text that is signed.
    pub(super) fn text(&self, secret: &[u8]) -> Vec<u8> {
        let mut parts: Vec<(Vec<u8>, &Part)> = self
            .parts
            .iter()
            .map(|part| {
                let value = if part.name.is_none() { secret } else { &part.text };
                ([part.label.as_bytes(), part.within.as_bytes(), value].concat(), part)
            })
            .collect();
        if self.sorted {
            parts.sort_by(|one, other| one.0.cmp(&other.0));
        }
        let mut out = self.head.clone().into_bytes();
        for (index, (text, part)) in parts.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(part.between.as_bytes());
            }
            out.extend_from_slice(text);
        }
        out.extend_from_slice(self.tail.as_bytes());
        out
    }

    /// The key that `secret` is.
    pub(super) fn key_of(&self, secret: &[u8]) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let spelled = self.key.strip_prefix("[secret")?.strip_suffix(']')?;
        let mut key = secret.to_vec();
        for modifier in spelled.split('|').skip(1) {
            key = match modifier.split_once(':') {
                Some(("after", prefix)) => key.strip_prefix(prefix.as_bytes())?.to_vec(),
                None if modifier == "unhex" => const_hex::decode(&key).ok()?,
                _ => base64::engine::general_purpose::STANDARD.decode(&key).ok()?,
            };
        }
        Some(key)
    }

    /// The digest under `secret`.
    pub(super) fn digest(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let key = if self.is_keyed() { self.key_of(secret)? } else { Vec::new() };
        Some(digest(&self.with, &key, &self.text(secret)))
    }

    pub(super) fn is_keyed(&self) -> bool {
        self.with[0].starts_with("hmac_")
    }

    /// The supplied signature under `secret`, as the sender writes it.
    pub(super) fn supplied(&self, secret: &[u8]) -> Option<String> {
        Some(self.written(&self.digest(secret)?))
    }

    /// A digest as the sender writes it.
    pub(super) fn written(&self, digest: &[u8]) -> String {
        let mut text = match self.writing.as_str() {
            "base64" => base64(digest),
            "base64url" => {
                let text = base64(digest).replace('+', "-").replace('/', "_");
                text.trim_end_matches('=').to_owned()
            }
            "text" => match String::from_utf8(digest.to_vec()) {
                Ok(text) => return text,
                Err(_) => hex(digest),
            },
            _ => hex(digest),
        };
        text.truncate(self.cut.unwrap_or(text.len()));
        text
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A chain of digests.
pub(super) fn digest(with: &[String], key: &[u8], text: &[u8]) -> Vec<u8> {
    fn mac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    }
    with.iter().fold(text.to_vec(), |text, step| match step.as_str() {
        "md5" => Md5::digest(&text).to_vec(),
        "sha1" => Sha1::digest(&text).to_vec(),
        "sha256" => Sha256::digest(&text).to_vec(),
        "sha512" => Sha512::digest(&text).to_vec(),
        "hmac_md5" => mac::<Hmac<Md5>>(key, &text),
        "hmac_sha1" => mac::<Hmac<Sha1>>(key, &text),
        "hmac_sha256" => mac::<Hmac<Sha256>>(key, &text),
        "hmac_sha512" => mac::<Hmac<Sha512>>(key, &text),
        "hex" => hex(&text).into_bytes(),
        "equal" => text,
        other => panic!("step {other}"),
    })
}
