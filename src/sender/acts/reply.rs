//! Replies to senders: a table by outcome, of fixed trees whose leaves are texts.
//!
//! The tree of a JSON, form or XML reply is fixed when the file is loaded and its leaves are
//! escaped by the writer, so that no value can break or extend it.

mod headers;
mod mistakes;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use self::headers::ReplyHeaders;
use self::mistakes::{no_part, no_status};
use super::outcome::{Outcome, Reason};
use crate::sender::language::definition::status;
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::nearest::{meant, nearest};
use crate::sender::language::text::{Piece, Spot, Strictness, Text};
use crate::sender::request::encoding;

/// The text of a reply to a sender. It is not one yet: rendering it promises nothing. The intake
/// makes replies of drafts, and an acknowledgement only with the proof that something is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyDraft {
    /// An HTTP answer.
    Answer(Answer),
    /// No reply: the request is held past the sender's timeout and the connection closed, because
    /// only a timeout makes this sender retry.
    Silence,
}

/// An HTTP answer, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status; senders have some of their own, such as 601.
    pub status: StatusCode,
    /// The content type; none where there is no body.
    pub content_type: Option<HeaderValue>,
    /// Further headers, of replies to address checks and tests alone: those are never stored.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// The body.
    pub body: Bytes,
}

/// The replies of a file, a kind or a source, by the name of the outcome or reason.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Rows<K = Spot>(Vec<(String, Spec<K>)>);

impl<K> Default for Rows<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// One reply.
#[derive(Clone, Debug)]
pub(in crate::sender) enum Spec<K = Spot> {
    /// No answer.
    Silence,
    /// An answer that is the same every time.
    Fixed(Answer),
    /// An answer made from the callback.
    Made(Made<K>),
}

/// An answer made from the callback.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Made<K = Spot> {
    status: StatusCode,
    content_type: Option<HeaderValue>,
    headers: ReplyHeaders<K>,
    body: Body<K>,
    pub(in crate::sender) sealed: Sealed,
}

/// Whether a reply is sealed when the callback was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sender) enum Sealed {
    #[default]
    Never,
    /// In WeChat's envelope, JSON or XML as the callback was.
    LikeTheCallback,
    /// In a JSON object with members of these names.
    In(Arc<Envelope>),
}

/// Member names of an envelope.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Envelope {
    /// The cipher text.
    pub(in crate::sender) encrypt: String,
    /// The signature of it with time and nonce.
    pub(in crate::sender) signature: String,
    /// When it was sealed, Unix seconds.
    pub(in crate::sender) time: String,
    /// The name of the nonce.
    pub(in crate::sender) nonce: String,
}

#[derive(Clone, Debug)]
enum Body<K> {
    Plain(Text<K>),
    Json(Tree<K>),
    Form(Vec<(String, Tree<K>)>),
    Xml(Tree<K>),
    Alike(Tree<K>),
}

#[derive(Clone, Debug)]
enum Tree<K> {
    Object(Vec<(String, Tree<K>)>),
    List(Vec<Tree<K>>),
    Text(Text<K>),
    /// A number or a boolean, as JSON spells it.
    Literal(String),
}

/// In which writing an `alike` reply is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Style {
    Json,
    Xml,
}

/// Says the texts of a reply: the callback, its outcome and the time.
pub(in crate::sender) trait RenderText<K> {
    /// A text; `None` when it is one optional part that is left out.
    fn text(&self, text: &Text<K>) -> Option<String>;
    /// The sender's code for this outcome, when `text` is nothing but `[code]`.
    fn code(&self, text: &Text<K>) -> Option<&toml::Value>;
    /// How the callback's own body was written.
    fn style(&self) -> Style;
}

/// The reply to an address check that is rejected, where it differs from that to a callback.
pub(in crate::sender) const CHALLENGE_REJECTED: &str = "challenge_rejected";

/// The names under which the answer to `outcome` is looked for, the most fitting first.
pub(in crate::sender) fn names(
    outcome: Outcome,
    reason: Option<Reason>,
) -> impl Iterator<Item = &'static str> {
    let first = reason.filter(|_| outcome == Outcome::Rejected).map(Reason::as_str);
    let rest: &'static [&'static str] = match outcome {
        Outcome::Accepted => &["accepted"],
        Outcome::Duplicate => &["duplicate", "accepted"],
        // Held callbacks are acknowledged like accepted ones.
        Outcome::Conflict => &["conflict", "accepted"],
        Outcome::Ambiguous => &["ambiguous", "accepted"],
        Outcome::Test => &["test", "accepted"],
        Outcome::Superseded => &["superseded", "accepted"],
        Outcome::Challenge => &["challenge"],
        Outcome::Disabled => &["disabled", "rejected"],
        Outcome::Rejected => &["rejected"],
        Outcome::Unavailable => &["unavailable"],
    };
    first.into_iter().chain(rest.iter().copied())
}

impl Rows {
    /// Reads a `[reply]` table: its replies, and all errors in it. A reply with an error is there
    /// as silence, and one under a misspelled name under the name that was meant: one mistake is
    /// one error. The rows of a table with errors are for further checks alone.
    pub(in crate::sender) fn parse(table: &toml::Table) -> (Self, Vec<DefinitionError>) {
        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.as_str());
        let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
        let known: Vec<&str> = outcomes.chain(reasons).chain([CHALLENGE_REJECTED]).collect();
        let mut rows = BTreeMap::new();
        let mut faults = Vec::new();
        for (name, value) in table {
            let mut row = name.as_str();
            if !known.contains(&row) {
                let what = "is neither an outcome nor a reason";
                faults.push(DefinitionError::new(name, what, meant(name, &known)));
                row = nearest(name, &known).unwrap_or(row);
            }
            let is_stored = !["challenge", "test"].contains(&row);
            let spec = match Spec::parse(value) {
                Ok(Spec::Made(made)) if is_stored && !made.headers.is_empty() => {
                    let remedy = "only the replies to address checks and tests have some";
                    Err(DefinitionError::new("headers", "does not belong here", remedy))
                }
                read => read,
            };
            let spec = spec.unwrap_or_else(|fault| {
                faults.push(fault.under(name));
                Spec::Silence
            });
            rows.insert(row.to_owned(), spec);
        }
        (Self(rows.into_iter().collect()), faults)
    }

    /// Every text of the table, for the names it reads.
    pub(in crate::sender) fn texts(&self) -> Vec<&Text> {
        let mut texts = Vec::new();
        for (_, spec) in &self.0 {
            if let Spec::Made(made) = spec {
                made.collect(&mut texts);
            }
        }
        texts
    }

    /// The same table under other keys.
    ///
    /// # Errors
    /// The error of `bind` for a placeholder, under the name of the row.
    pub(in crate::sender) fn bind<L>(
        &self,
        bind: &mut impl FnMut(&Spot) -> Result<L, DefinitionError>,
    ) -> Result<Rows<L>, DefinitionError> {
        let mut rows = Vec::with_capacity(self.0.len());
        for (name, spec) in &self.0 {
            let spec = match spec {
                Spec::Silence => Spec::Silence,
                Spec::Fixed(answer) => Spec::Fixed(answer.clone()),
                Spec::Made(made) => Spec::Made(made.bind(bind).map_err(|fault| fault.under(name))?),
            };
            rows.push((name.clone(), spec));
        }
        Ok(Rows(rows))
    }
}

impl<K> Rows<K> {
    /// Whether the table has a row `name`.
    pub(in crate::sender) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The names of the replies.
    pub(in crate::sender) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The texts of the reply called `name`.
    pub(in crate::sender) fn texts_of(&self, name: &str) -> Vec<&Text<K>> {
        let mut texts = Vec::new();
        if let Some(Spec::Made(made)) = self.get(name) {
            made.collect(&mut texts);
        }
        texts
    }

    /// The reply called `name`.
    pub(in crate::sender) fn get(&self, name: &str) -> Option<&Spec<K>> {
        // They are few: to compare lengths is faster than to search a map.
        self.0.iter().find(|(known, _)| known == name).map(|(_, spec)| spec)
    }
}

impl Spec {
    fn parse(value: &toml::Value) -> Result<Self, DefinitionError> {
        match value {
            toml::Value::Integer(number) => Ok(Self::Fixed(Answer {
                status: status(*number).ok_or_else(no_status)?,
                content_type: None,
                headers: Box::default(),
                body: Bytes::new(),
            })),
            toml::Value::String(word) if word == "silence" => Ok(Self::Silence),
            toml::Value::Table(table) => Made::parse(table).map(Made::settled),
            _ => Err(DefinitionError::new(
                "",
                "is not a reply",
                "use a status, \"silence\" or a table",
            )),
        }
    }
}

impl Made {
    fn parse(table: &toml::Table) -> Result<Self, DefinitionError> {
        let mut made = None;
        let mut answer = (StatusCode::OK, None, Sealed::Never);
        let mut headers = ReplyHeaders::default();
        for (key, value) in table {
            let body = match (key.as_str(), value) {
                ("status", toml::Value::Integer(number)) => {
                    answer.0 = status(*number).ok_or_else(no_status)?;
                    continue;
                }
                ("type", toml::Value::String(text)) => {
                    let value = HeaderValue::from_str(text).map_err(|_| {
                        DefinitionError::new("type", "is not a content type", "write text/plain")
                    })?;
                    answer.1 = Some(value);
                    continue;
                }
                ("headers", toml::Value::Table(table)) => {
                    headers = ReplyHeaders::parse(table)?;
                    continue;
                }
                ("sealed", toml::Value::Boolean(true)) => {
                    answer.2 = Sealed::LikeTheCallback;
                    continue;
                }
                ("sealed", toml::Value::Boolean(false)) => continue,
                ("sealed", names @ toml::Value::Table(_)) => {
                    let names = names.clone().try_into::<Envelope>().map_err(|error| {
                        let remedy = "name its members: encrypt, signature, time, nonce";
                        DefinitionError::new("sealed", error.message(), remedy)
                    })?;
                    answer.2 = Sealed::In(Arc::new(names));
                    continue;
                }
                ("body", toml::Value::String(text)) => Body::Plain(leaf(key, text)?),
                ("json", value) => Body::Json(tree(key, value)?),
                ("form", toml::Value::Table(table)) => Body::Form(members(key, table)?),
                ("xml", value @ toml::Value::Table(_)) => Body::Xml(tree(key, value)?),
                ("alike", value @ toml::Value::Table(_)) => Body::Alike(tree(key, value)?),
                _ => return Err(no_part(key)),
            };
            if made.replace(body).is_some() {
                return Err(DefinitionError::new(key, "is a second body", "write one"));
            }
        }
        let (status, content_type, sealed) = answer;
        let body = made.unwrap_or(Body::Plain(Text::default()));
        Ok(Self { status, content_type, headers, body, sealed })
    }

    /// Made once and for all, where nothing in it depends on the callback.
    fn settled(self) -> Spec {
        let mut texts = Vec::new();
        self.collect(&mut texts);
        let fixed = self.headers.is_empty()
            && texts.iter().all(|text| text.is_literal())
            && self.sealed == Sealed::Never
            && !matches!(self.body, Body::Alike(_));
        if fixed { Spec::Fixed(self.answer(&Plainly)) } else { Spec::Made(self) }
    }

    fn bind<L>(
        &self,
        bind: &mut impl FnMut(&Spot) -> Result<L, DefinitionError>,
    ) -> Result<Made<L>, DefinitionError> {
        let body = match &self.body {
            Body::Plain(text) => Body::Plain(text.bind(bind)?),
            Body::Json(tree) => Body::Json(tree.bind(bind)?),
            Body::Form(members) => Body::Form(bind_members(members, bind)?),
            Body::Xml(tree) => Body::Xml(tree.bind(bind)?),
            Body::Alike(tree) => Body::Alike(tree.bind(bind)?),
        };
        Ok(Made {
            status: self.status,
            content_type: self.content_type.clone(),
            headers: self.headers.bind(bind)?,
            body,
            sealed: self.sealed.clone(),
        })
    }
}

/// Says literal texts: a reply that depends on nothing needs no other voice.
struct Plainly;

impl RenderText<Spot> for Plainly {
    fn text(&self, text: &Text) -> Option<String> {
        let mut out = String::new();
        for piece in &text.pieces {
            if let Piece::Literal(bytes) = piece {
                out.push_str(&String::from_utf8_lossy(bytes));
            }
        }
        Some(out)
    }

    fn code(&self, _: &Text) -> Option<&toml::Value> {
        None
    }

    fn style(&self) -> Style {
        Style::Json
    }
}

fn leaf(key: &str, text: &str) -> Result<Text, DefinitionError> {
    Text::parse(text, Strictness::Markup).map_err(|fault| fault.under(key))
}

fn members(key: &str, table: &toml::Table) -> Result<Vec<(String, Tree<Spot>)>, DefinitionError> {
    table
        .iter()
        .map(|(name, value)| Ok((name.clone(), tree(&format!("{key}.{name}"), value)?)))
        .collect()
}

fn tree(key: &str, value: &toml::Value) -> Result<Tree<Spot>, DefinitionError> {
    Ok(match value {
        toml::Value::Table(table) => Tree::Object(members(key, table)?),
        toml::Value::Array(list) => {
            Tree::List(list.iter().map(|value| tree(key, value)).collect::<Result<_, _>>()?)
        }
        toml::Value::String(text) => Tree::Text(leaf(key, text)?),
        toml::Value::Integer(number) => Tree::Literal(number.to_string()),
        toml::Value::Float(number) => Tree::Literal(number.to_string()),
        toml::Value::Boolean(truth) => Tree::Literal(truth.to_string()),
        toml::Value::Datetime(date) => Tree::Text(leaf(key, &date.to_string())?),
    })
}

fn bind_members<K, L>(
    members: &[(String, Tree<K>)],
    bind: &mut impl FnMut(&K) -> Result<L, DefinitionError>,
) -> Result<Vec<(String, Tree<L>)>, DefinitionError> {
    members.iter().map(|(name, tree)| Ok((name.clone(), tree.bind(bind)?))).collect()
}

impl<K> Tree<K> {
    fn bind<L>(
        &self,
        bind: &mut impl FnMut(&K) -> Result<L, DefinitionError>,
    ) -> Result<Tree<L>, DefinitionError> {
        Ok(match self {
            Self::Object(members) => Tree::Object(bind_members(members, bind)?),
            Self::List(list) => {
                Tree::List(list.iter().map(|tree| tree.bind(bind)).collect::<Result<_, _>>()?)
            }
            Self::Text(text) => Tree::Text(text.bind(bind)?),
            Self::Literal(text) => Tree::Literal(text.clone()),
        })
    }

    fn collect<'t>(&'t self, texts: &mut Vec<&'t Text<K>>) {
        match self {
            Self::Object(members) => members.iter().for_each(|(_, tree)| tree.collect(texts)),
            Self::List(list) => list.iter().for_each(|tree| tree.collect(texts)),
            Self::Text(text) => texts.push(text),
            Self::Literal(_) => {}
        }
    }

    /// Writes JSON; `false`: it is left out.
    fn json(&self, voice: &impl RenderText<K>, out: &mut String) -> bool {
        match self {
            Self::Literal(text) => out.push_str(text),
            Self::Text(text) => match (voice.code(text), voice.text(text)) {
                (Some(toml::Value::String(code)), _) => out.push_str(&encoding::json_string(code)),
                (Some(code), _) => out.push_str(&code.to_string()),
                (None, Some(text)) => out.push_str(&encoding::json_string(&text)),
                (None, None) => return false,
            },
            Self::List(list) => {
                out.push('[');
                let mut first = true;
                for tree in list {
                    let before = out.len();
                    out.push_str(if first { "" } else { "," });
                    if tree.json(voice, out) { first = false } else { out.truncate(before) }
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                let mut first = true;
                for (name, tree) in members {
                    let before = out.len();
                    out.push_str(if first { "" } else { "," });
                    out.push_str(&encoding::json_string(name));
                    out.push(':');
                    if tree.json(voice, out) { first = false } else { out.truncate(before) }
                }
                out.push('}');
            }
        }
        true
    }

    /// Writes the element `name`, or nothing where it is left out.
    fn xml(&self, name: &str, voice: &impl RenderText<K>, out: &mut String) {
        let Some(inner) = self.xml_inner(voice) else { return };
        let _ = write!(out, "<{name}>{inner}</{name}>");
    }

    fn xml_inner(&self, voice: &impl RenderText<K>) -> Option<String> {
        Some(match self {
            Self::Literal(text) => text.clone(),
            Self::Text(text) => match voice.code(text) {
                Some(toml::Value::String(code)) => cdata(code),
                Some(code) => code.to_string(),
                None => cdata(&voice.text(text)?),
            },
            Self::List(list) => {
                let mut out = String::new();
                list.iter().for_each(|tree| tree.xml("item", voice, &mut out));
                out
            }
            Self::Object(members) => {
                let mut out = String::new();
                members.iter().for_each(|(name, tree)| tree.xml(name, voice, &mut out));
                out
            }
        })
    }

    /// The text of a form's leaf; `None`: it is left out.
    fn form(&self, voice: &impl RenderText<K>) -> Option<String> {
        let text = match self {
            Self::Literal(text) => text.clone(),
            Self::Text(text) => match voice.code(text) {
                Some(toml::Value::String(code)) => code.clone(),
                Some(code) => code.to_string(),
                None => voice.text(text)?,
            },
            Self::Object(_) | Self::List(_) => return None,
        };
        let mut encoded = Vec::with_capacity(text.len());
        encoding::form(text.as_bytes(), &mut encoded);
        Some(String::from_utf8_lossy(&encoded).into_owned())
    }
}

fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

impl<K> Body<K> {
    fn collect<'t>(&'t self, texts: &mut Vec<&'t Text<K>>) {
        match self {
            Self::Plain(text) => texts.push(text),
            Self::Json(tree) | Self::Xml(tree) | Self::Alike(tree) => tree.collect(texts),
            Self::Form(members) => members.iter().for_each(|(_, tree)| tree.collect(texts)),
        }
    }
}

pub(in crate::sender) const JSON: HeaderValue =
    HeaderValue::from_static("application/json; charset=utf-8");
pub(in crate::sender) const XML: HeaderValue = HeaderValue::from_static("text/xml; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

impl<K> Made<K> {
    fn collect<'t>(&'t self, texts: &mut Vec<&'t Text<K>>) {
        texts.extend(self.headers.texts());
        self.body.collect(texts);
    }

    /// The reply, rendered by `voice`.
    pub(in crate::sender) fn answer(&self, voice: &impl RenderText<K>) -> Answer {
        let (body, usual) = match &self.body {
            Body::Plain(text) => (voice.text(text).unwrap_or_default(), PLAIN),
            Body::Json(tree) => (json(tree, voice), JSON),
            Body::Xml(tree) => (xml(tree, voice), XML),
            Body::Alike(tree) => match voice.style() {
                Style::Json => (json(tree, voice), JSON),
                Style::Xml => (xml(tree, voice), XML),
            },
            Body::Form(members) => (form(members, voice), FORM),
        };
        let content_type = if body.is_empty() { None } else { Some(usual) };
        Answer {
            status: self.status,
            content_type: self.content_type.clone().or(content_type),
            headers: self.headers.values(voice),
            body: Bytes::from(body),
        }
    }
}

fn json<K>(tree: &Tree<K>, voice: &impl RenderText<K>) -> String {
    let mut out = String::new();
    tree.json(voice, &mut out);
    out
}

fn xml<K>(tree: &Tree<K>, voice: &impl RenderText<K>) -> String {
    let mut out = String::new();
    tree.xml("xml", voice, &mut out);
    out
}

fn form<K>(members: &[(String, Tree<K>)], voice: &impl RenderText<K>) -> String {
    let pairs: Vec<String> = members
        .iter()
        .filter_map(|(name, tree)| Some(format!("{name}={}", tree.form(voice)?)))
        .collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests;
