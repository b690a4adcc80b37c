//! A callback as a list of named values, written in one of many ways.

use crate::sender::language::vector::OwnedRequest;

use super::world::Dice;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    Query,
    Form,
    Header,
    /// A member of a JSON object: a text.
    Json,
    /// A member of a JSON object, as it is spelled.
    JsonRaw,
    /// A child of the XML root: a text.
    Xml,
    /// A child of the XML root, as it is spelled.
    XmlRaw,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) place: In,
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// A callback, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Call {
    request: OwnedRequest,
    pub(super) fields: Vec<Field>,
    /// Whether the body is written from the fields.
    has_body: bool,
}

/// How a callback is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    /// One in so many characters is escaped without need; 0: none.
    pub(super) escapes: usize,
    /// Hex of escapes in lower case.
    pub(super) lower: bool,
    /// Spaces in a query as `+`.
    pub(super) plus: bool,
    /// White space between the members of a body.
    pub(super) spaces: bool,
    /// Texts of XML with entities and not in CDATA.
    pub(super) entities: bool,
}

impl Style {
    pub(super) fn drawn(dice: &mut Dice) -> Self {
        Self {
            escapes: *dice.pick(&[0, 1, 2, 5]),
            lower: dice.one_in(2),
            plus: dice.one_in(2),
            spaces: dice.one_in(2),
            entities: dice.one_in(2),
        }
    }
}

impl Call {
    /// Takes `request` apart.
    pub(super) fn of(request: &OwnedRequest) -> Self {
        let mut fields = Vec::new();
        let query = request.target.iter().position(|byte| *byte == b'?');
        let query = query.map_or(&[][..], |at| &request.target[at + 1..]);
        take_pairs(In::Query, query, &mut fields);
        for (name, value) in &request.headers {
            if name != http::header::CONTENT_TYPE {
                let (name, value) = (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec());
                fields.push(Field { place: In::Header, name, value });
            }
        }
        let before = fields.len();
        match request.body.trim_ascii().first() {
            Some(b'{') => take_json(&request.body, &mut fields),
            Some(b'<') => take_xml(&request.body, &mut fields),
            Some(_) => take_pairs(In::Form, &request.body, &mut fields),
            None => {}
        }
        let has_body = fields.len() > before;
        Self { request: request.clone(), fields, has_body }
    }

    /// Takes `request` apart with the values of its query as they are spelled.
    pub(super) fn as_spelled(request: &OwnedRequest) -> Self {
        let mut call = Self::of(request);
        let query = request.target.iter().position(|byte| *byte == b'?');
        let query = query.map_or(&[][..], |at| &request.target[at + 1..]);
        let pairs = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let values =
            pairs.map(|pair| pair.splitn(2, |byte| *byte == b'=').nth(1).unwrap_or_default());
        let in_query = call.fields.iter_mut().filter(|field| field.place == In::Query);
        in_query.zip(values).for_each(|(field, value)| field.value = value.to_vec());
        call
    }

    /// The same with each value of the query decoded again.
    pub(super) fn decoded(mut self) -> Self {
        let in_query = self.fields.iter_mut().filter(|field| field.place == In::Query);
        in_query.for_each(|field| field.value = unescaped(&field.value));
        self
    }

    pub(super) fn position(&self, name: &[u8]) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.fields.retain(|field| field.name != name);
    }

    /// Sets a value where it is, or where its neighbours are.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        match self.position(name) {
            Some(at) => self.fields[at].value = value.to_vec(),
            None => {
                let mut place = self.fields.iter().map(|field| field.place);
                let place = place.rfind(|place| *place != In::Header).map(|p| match p {
                    In::JsonRaw => In::Json,
                    In::XmlRaw => In::Xml,
                    place => place,
                });
                let place = place.unwrap_or(In::Query);
                let field = Field { place, name: name.to_vec(), value: value.to_vec() };
                self.fields.push(field);
            }
        }
    }

    /// Writes the callback; `None` where a value cannot stand in its place.
    pub(super) fn request(&self, style: Style, dice: &mut Dice) -> Option<OwnedRequest> {
        let mut request = self.request.clone();
        let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
        let query = self.pairs(In::Query, style, dice);
        request.target =
            if query.is_empty() { path } else { [path.as_slice(), b"?", &query].concat() };
        let kept = request.headers.remove(http::header::CONTENT_TYPE);
        request.headers.clear();
        if let Some(kept) = kept {
            request.headers.insert(http::header::CONTENT_TYPE, kept);
        }
        for field in self.fields.iter().filter(|field| field.place == In::Header) {
            let name = http::HeaderName::from_bytes(&field.name).ok()?;
            request.headers.append(name, http::HeaderValue::from_bytes(&field.value).ok()?);
        }
        let has = |places: &[In]| self.fields.iter().any(|field| places.contains(&field.place));
        if has(&[In::Json, In::JsonRaw]) {
            request.body = self.json(style)?;
        } else if has(&[In::Xml, In::XmlRaw]) {
            request.body = self.xml(style)?;
        } else if has(&[In::Form]) {
            request.body = self.pairs(In::Form, style, dice);
        } else if self.has_body {
            request.body.clear();
        }
        Some(request)
    }

    fn pairs(&self, place: In, style: Style, dice: &mut Dice) -> Vec<u8> {
        let mut out = Vec::new();
        for field in self.fields.iter().filter(|field| field.place == place) {
            if !out.is_empty() {
                out.push(b'&');
            }
            escape(&field.name, Style { escapes: 0, ..style }, dice, &mut out);
            out.push(b'=');
            escape(&field.value, style, dice, &mut out);
        }
        out
    }

    fn json(&self, style: Style) -> Option<Vec<u8>> {
        let mut members = Vec::new();
        for field in &self.fields {
            let value = match field.place {
                In::Json => {
                    let text = std::str::from_utf8(&field.value).ok()?;
                    serde_json::to_string(text).ok()?
                }
                In::JsonRaw => String::from_utf8(field.value.clone()).ok()?,
                _ => continue,
            };
            let name = serde_json::to_string(std::str::from_utf8(&field.name).ok()?).ok()?;
            let gap = if style.spaces { " \n" } else { "" };
            members.push(format!("{name}{gap}:{gap}{value}"));
        }
        let gap = if style.spaces { "\t" } else { "" };
        Some(format!("{{{gap}{}{gap}}}", members.join(",")).into_bytes())
    }

    fn xml(&self, style: Style) -> Option<Vec<u8>> {
        let mut out = String::from("<xml>");
        for field in &self.fields {
            let value = std::str::from_utf8(&field.value).ok();
            let value = match field.place {
                In::Xml if style.entities => entities(value?),
                In::Xml => format!("<![CDATA[{}]]>", value?.replace("]]>", "]]]]><![CDATA[>")),
                In::XmlRaw => value?.to_owned(),
                _ => continue,
            };
            let name = std::str::from_utf8(&field.name).ok()?;
            let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
            if !name.bytes().all(is_name) || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return None;
            }
            let gap = if style.spaces { "\n  " } else { "" };
            out += &format!("{gap}<{name}>{value}</{name}>");
        }
        Some((out + "</xml>").into_bytes())
    }
}

fn entities(text: &str) -> String {
    let one = |c: char| match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '0'..='9' | '\r' | '\n' | '\t' | ' ' => format!("&#{};", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

/// Writes `text` for a query or form.
pub(super) fn escape(text: &[u8], style: Style, dice: &mut Dice, out: &mut Vec<u8>) {
    for byte in text {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
        let odd = style.escapes > 0 && dice.one_in(style.escapes);
        match byte {
            b' ' if style.plus => out.push(b'+'),
            byte if plain && !odd => out.push(*byte),
            byte if style.lower => out.extend(format!("%{byte:02x}").bytes()),
            byte => out.extend(format!("%{byte:02X}").bytes()),
        }
    }
}

fn take_pairs(place: In, text: &[u8], fields: &mut Vec<Field>) {
    for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let mut sides = pair.splitn(2, |byte| *byte == b'=').map(unescaped);
        let (name, value) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
        fields.push(Field { place, name, value });
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (text[at], byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

fn take_json(text: &[u8], fields: &mut Vec<Field>) {
    use serde_json::value::RawValue;
    let members: Vec<(String, Box<RawValue>)> = match serde_json::from_slice::<Members>(text) {
        Ok(Members(members)) => members,
        Err(_) => return,
    };
    for (name, raw) in members {
        let text = serde_json::from_str::<String>(raw.get()).ok();
        let (place, value) = match text {
            Some(text) => (In::Json, text.into_bytes()),
            None => (In::JsonRaw, raw.get().as_bytes().to_vec()),
        };
        fields.push(Field { place, name: name.into_bytes(), value });
    }
}

/// The members of an object in their order.
struct Members(Vec<(String, Box<serde_json::value::RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}

/// The children of the root: texts, or what is spelled in them.
fn take_xml(text: &[u8], fields: &mut Vec<Field>) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Some(mut rest) = text.find('>').map(|at| &text[at + 1..]) else { return };
    while let Some(start) = rest.find('<').map(|at| &rest[at + 1..]) {
        let Some(end) = start.find('>').filter(|_| !start.starts_with('/')) else { return };
        let name = &start[..end];
        let Some(stop) = start.find(&format!("</{name}>")) else { return };
        let inner = &start[end + 1..stop];
        let cdata = inner.strip_prefix("<![CDATA[").and_then(|text| text.strip_suffix("]]>"));
        let (place, value) = match cdata {
            Some(text) if !text.contains("]]>") => (In::Xml, text),
            None if !inner.contains(['<', '&']) => (In::Xml, inner),
            _ => (In::XmlRaw, inner),
        };
        let (name, value) = (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        fields.push(Field { place, name, value });
        rest = &start[stop + name_len(&start[stop..])..];
    }
}

fn name_len(close: &str) -> usize {
    close.find('>').map_or(close.len(), |at| at + 1)
}
