//! An independent signer: reads a sender's file and a request with its own code, so its mistakes
//! are not those of the code under test.

pub(super) use super::encodings::{base64, digest, form, hex};
use super::encodings::{is_unreserved, percent};
use super::wire::Wire;
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
    /// Digests of the secret that are signed in its place.
    pub(super) steps: Vec<String>,
}

/// One way to sign.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The text before the first part.
    pub(super) head: String,
    pub(super) parts: Vec<Part>,
    /// Empty listed parameters that are not signed, and where they would stand.
    pub(super) dropped: Vec<(usize, Part)>,
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
    /// Whether the list of pairs is escaped as a whole.
    pub(super) escaped: bool,
    /// The settings of the source that the key may be made of.
    pub(super) settings: Vec<(String, String)>,
}

/// Reads the variant at `index` of a sender's `file`, for `request` to a source with these keys.
pub(super) fn read(
    file: &toml::Table,
    index: usize,
    request: &OwnedRequest,
    source: &toml::Table,
) -> Option<Own> {
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
        params: renames(file, &table(source, "params")),
        lists: table(file, "lists"),
        paste: string(file, "paste"),
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
            escaped: string(&signature, "of").contains("[pairs|percent]"),
            settings: source
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
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

/// A name that is quoted because it holds a dot.
fn unquoted(name: &str) -> &str {
    name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name)
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
        let open = inner.find(['{', '['])?;
        let close = inner.find(['}', ']']).unwrap();
        let key = inner[open + 1..close].split('|').next().unwrap();
        let value = match key.strip_prefix("header.") {
            Some(header) if inner[open..].starts_with('[') => {
                self.request.header(header).map(String::into_bytes)
            }
            _ => {
                let name = self.wire(unquoted(key));
                let found = self.request.values.iter().find(|value| value.1 == name);
                found.map(|value| value.3.clone())
            }
        };
        match value.is_some_and(|value| !value.is_empty()) {
            true => self.text(inner, signature),
            false => Some(()),
        }
    }

    fn wire(&self, name: &str) -> String {
        let renamed = self.params.iter().find(|(known, _)| known == name);
        renamed.map_or(name, |(_, wire)| wire).to_owned()
    }

    fn placeholder(&mut self, written: &str, signature: &toml::Table) -> Option<()> {
        let key = &written[1..written.len() - 1];
        match (written.as_bytes()[0], key) {
            (b'[', "pairs" | "pairs|percent") => {
                let before = self.own.parts.len();
                self.pairs(&table(signature, "pairs"));
                // The literal in front of a list that something precedes.
                if let Some(first) = self.own.parts.get_mut(before).filter(|_| before > 0) {
                    first.between = std::mem::take(&mut self.pending);
                }
            }
            (b'[', "method") => {
                let method = self.request.method.clone().into_bytes();
                self.push(Some("method"), Written::plain(method));
            }
            (b'[', "path|percent") => {
                let path = self.request.path.clone().into_bytes();
                let text = percent(&path, is_unreserved);
                let written = Written { raw: path.clone(), decoded: path, text };
                self.push(Some("path"), written);
            }
            (b'[', "sorted") => {
                self.own.sorted = true;
                for text in strings(signature.get("sorted")) {
                    self.text(&text, signature)?;
                }
            }
            (b'[', secret) if secret == "secret" || secret.starts_with("secret|") => {
                self.push(None, Written::plain(Vec::new()));
                let steps = secret.split('|').skip(1).map(str::to_owned).collect();
                self.own.parts.last_mut().unwrap().steps = steps;
            }
            (b'[', "body") => {
                let body = self.request.body.clone();
                self.push(Some("body"), Written::plain(body));
            }
            (b'[', key) if key.starts_with("url") => {
                let url = cut(&self.request.url, key.strip_prefix("url|").unwrap_or_default());
                self.push(Some("url"), Written::plain(url));
            }
            (b'[', setting) if self.own.setting(setting).is_some() => {
                let value = self.own.setting(setting)?.as_bytes().to_vec();
                self.push(Some(setting), Written::plain(value));
            }
            (b'[', header) => {
                let value = self.request.header(header.strip_prefix("header.")?)?.into_bytes();
                self.push(Some(header), Written::plain(value));
            }
            (_, key) => {
                let (name, modifier) = key.split_once('|').unwrap_or((key, ""));
                let name = unquoted(name);
                let (raw, decoded) = self.value(name)?;
                let text = match modifier {
                    "raw" => raw.clone(),
                    "lower" => decoded.to_ascii_lowercase(),
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
        let end = rest.strip_suffix(['=', ':']).map_or(rest.len(), str::len);
        let (label, within) = rest.split_at(end);
        self.own.parts.push(Part {
            between: between.into(),
            label: label.into(),
            within: within.into(),
            name: name.map(str::to_owned),
            raw,
            decoded,
            text,
            listed: false,
            steps: Vec::new(),
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
                steps: Vec::new(),
                raw,
                decoded,
            };
            if self.own.empty_dropped && part.name.is_some() && part.decoded.is_empty() {
                self.own.dropped.push((self.own.parts.len(), part));
            } else {
                self.own.parts.push(part);
            }
        }
    }

    fn each(&self, raw: &[u8], decoded: &[u8]) -> Vec<u8> {
        match self.own.each.as_str() {
            "raw" => raw.to_vec(),
            _ => self.own.encoded(decoded),
        }
    }
}

impl Own {
    /// A decoded value as the list of pairs writes it.
    pub(super) fn encoded(&self, decoded: &[u8]) -> Vec<u8> {
        match (self.each.as_str(), self.each.strip_prefix("percent:")) {
            ("form", _) => form(decoded),
            ("percent", _) => percent(decoded, is_unreserved),
            (_, Some(stays)) => percent(decoded, |byte| stays.as_bytes().contains(&byte)),
            _ => decoded.to_vec(),
        }
    }

    /// The text that is signed.
    pub(super) fn text(&self, secret: &[u8]) -> Vec<u8> {
        let mut parts: Vec<(Vec<u8>, &Part)> = self
            .parts
            .iter()
            .map(|part| {
                let of_secret = match part.steps.as_slice() {
                    [] => secret.to_vec(),
                    steps => digest(steps, b"", secret),
                };
                let value = if part.name.is_none() { &of_secret } else { &part.text };
                ([part.label.as_bytes(), part.within.as_bytes(), value].concat(), part)
            })
            .collect();
        if self.sorted {
            parts.sort_by(|one, other| one.0.cmp(&other.0));
        }
        let mut out = self.head.clone().into_bytes();
        for (index, (text, part)) in parts.iter().enumerate() {
            let inside = self.escaped && part.listed;
            let written = |text: &[u8], inside| match inside {
                true => percent(text, is_unreserved),
                false => text.to_vec(),
            };
            if index > 0 {
                let follows = inside && parts[index - 1].1.listed;
                out.extend(written(part.between.as_bytes(), follows));
            }
            out.extend(written(text, inside));
        }
        out.extend_from_slice(self.tail.as_bytes());
        out
    }

    /// The key that `secret` is.
    pub(super) fn key_of(&self, secret: &[u8]) -> Option<Vec<u8>> {
        let (mut key, mut rest) = (Vec::new(), self.key.as_str());
        while !rest.is_empty() {
            let Some((inner, after)) = rest.strip_prefix('[').and_then(|it| it.split_once(']'))
            else {
                let end = rest.find('[').unwrap_or(rest.len());
                key.extend_from_slice(&rest.as_bytes()[..end]);
                rest = &rest[end..];
                continue;
            };
            key.extend(self.of_key(inner, secret)?);
            rest = after;
        }
        Some(key)
    }

    /// The value of a placeholder of the key.
    fn of_key(&self, placeholder: &str, secret: &[u8]) -> Option<Vec<u8>> {
        use base64::Engine as _;
        if let Some(setting) = self.setting(placeholder) {
            return Some(setting.as_bytes().to_vec());
        }
        let mut words = placeholder.split('|');
        let mut key = words.next().filter(|word| *word == "secret").map(|_| secret.to_vec())?;
        for modifier in words {
            key = match modifier.split_once(':') {
                Some(("after", prefix)) => key.strip_prefix(prefix.as_bytes())?.to_vec(),
                None if modifier == "unhex" => const_hex::decode(&key).ok()?,
                _ => base64::engine::general_purpose::STANDARD.decode(&key).ok()?,
            };
        }
        Some(key)
    }

    /// Whether the secret is decoded before it is the key.
    pub(super) fn decodes_secret(&self) -> bool {
        self.key.contains('|')
    }

    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(known, _)| known == name && known != "secrets");
        found.map(|(_, value)| value.as_str())
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
