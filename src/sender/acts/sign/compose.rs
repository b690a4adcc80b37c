//! Composes the request that a sender would make from `key=value` pairs.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::sender::acts::evaluate::Context;
use crate::sender::acts::resolved::Role;
use crate::sender::acts::sign::{Signing, edit, is_nonce, missing, no_message, unmodified};
use crate::sender::acts::signature::{Redundancy, SignatureVariant};
use crate::sender::language::bound::{Bound, Gate, Gateway, Input, Scope};
use crate::sender::language::definition::{Reads, RoleText};
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::modifier::Modifier;
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::vector::OwnedRequest;
use crate::sender::request::callback::{Callback, Match};
use crate::sender::request::names::Slot;

/// How a request is composed.
#[derive(Clone, Debug)]
pub struct Composing<'c> {
    /// The path, `/callback/<source>`.
    pub path: &'c str,
    /// The method; `None`: the sender's first that can carry what is given.
    pub method: Option<Method>,
}

impl<'c> Composing<'c> {
    /// The usual way, to `path`.
    #[must_use]
    pub fn to(path: &'c str) -> Self {
        Self { path, method: None }
    }
}

/// A field of a source's callback, under a name that [`Recipe::compose`] accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// The macro in the URL that is pasted into the sender's console.
    pub pasted: Option<String>,
    /// The role that consists of this field.
    pub role: Option<Role>,
    /// Whether a callback without it is rejected.
    pub needed: bool,
}

/// Given values, by their place.
#[derive(Debug, Default)]
struct Given {
    /// Parameters under their names on the wire; a dot steps into them.
    parameters: Vec<(String, String)>,
    headers: HeaderMap,
    body: Option<String>,
}

impl Recipe {
    /// The unsigned request that the sender would make of `parameters`. A name is a role, a name of
    /// the sender's file or one on the wire; `header.NAME` is a header, `body` the whole
    /// body; a dot steps into JSON or XML.
    ///
    /// # Errors
    /// Names that are given twice, and missing values that the sender signs or needs.
    pub fn compose(
        &self,
        parameters: &[(String, String)],
        composing: &Composing<'_>,
    ) -> Result<OwnedRequest, DefinitionError> {
        let given = self.given(&self.with_own_values(parameters))?;
        let mut request = self.laid_out(&given, composing, Layout::Usual)?;
        let envelope = self.outer_names();
        let is_message = |name: &str| !envelope.iter().any(|outer| outer == name.as_bytes());
        let brings = given.parameters.iter().any(|(name, _)| is_message(name));
        if brings && composing.method.is_none() && self.asks_for_address(&request) {
            request = self.laid_out(&given, composing, Layout::MessageInBody)?;
        }
        let errand = if brings || !self.asks_for_address(&request) {
            RequestPurpose::Message
        } else {
            RequestPurpose::AddressCheck
        };
        let lacking = self.lacking_in(&request, errand);
        let has_nothing = parameters.is_empty() && self.open.is_some();
        if has_nothing && (!lacking.is_empty() || errand == RequestPurpose::Message) {
            return Err(no_message());
        }
        if lacking.is_empty() { Ok(request) } else { Err(missing(&lacking)) }
    }

    /// The parameters with the source's own values that are not among them: a callback without such a value is
    /// another publisher's.
    fn with_own_values(&self, parameters: &[(String, String)]) -> Vec<(String, String)> {
        let mut all = parameters.to_vec();
        for ours in &self.ours {
            let spots: SmallVec<[&Bound; 2]> = ours.of.spots().collect();
            let ([spot], Some(value)) = (spots.as_slice(), ours.values().next()) else { continue };
            let name = self.shown(spot);
            let is_given = |(given, _): &(String, String)| {
                given == "body" || self.wire(given) == self.wire(&name) || *given == *spot.name
            };
            if can_be_given(spot) && !all.iter().any(is_given) {
                all.push((name, String::from_utf8_lossy(value).into_owned()));
            }
        }
        all
    }

    /// The fields of a callback that the sender's file names, for a form; without those that
    /// [`Self::sign`] makes up.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let roles =
            || Role::ALL.into_iter().filter_map(|role| Some((role, self.roles.texts.get(role)?)));
        let role_spots =
            roles().flat_map(|(_, texts)| texts.iter().take(1)).flat_map(|text| needed(&text.of));
        let pasted: Vec<(String, String)> = self.paste().split('&').filter_map(pair).collect();
        let path = Composing::to("/");
        let empty = self.laid_out(&Given::default(), &path, Layout::Usual);
        let lacking = empty.map(|request| self.lacking_in(&request, RequestPurpose::Message));
        let lacking = lacking.unwrap_or_default();
        let mut names: Vec<String> = pasted.iter().map(|(name, _)| name.clone()).collect();
        names.extend(lacking.iter().cloned());
        names.extend(role_spots.filter(|spot| can_be_given(spot)).map(|spot| self.shown(spot)));
        let mut once: Vec<String> = Vec::new();
        for name in names {
            if !once.contains(&name) && !self.makes_up(&name) {
                once.push(name);
            }
        }
        let role = |name: &str| {
            let says = |texts: &[RoleText<Bound>]| {
                texts.first().is_some_and(|text| self.is_just(&text.of, name))
            };
            roles().find(|(_, texts)| says(texts)).map(|(role, _)| role)
        };
        once.into_iter()
            .map(|name| Field {
                pasted: pasted
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| value.clone()),
                role: role(&name),
                needed: lacking.contains(&name),
                name,
            })
            .collect()
    }

    /// Whether [`Self::sign`] writes what is called so: supplied signatures, the time, nonces.
    #[must_use]
    pub fn makes_up(&self, name: &str) -> bool {
        let signatures = self.variants.iter().map(|variant| &variant.supplied);
        let times = self.time.iter().flat_map(|time| time.r#in.spots());
        is_nonce(name) || signatures.chain(times).any(|spot| self.shown(spot) == name)
    }

    fn is_just(&self, text: &Text<Bound>, name: &str) -> bool {
        matches!(text.pieces.as_slice(), [Piece::Value(spot)] if self.shown(spot) == name)
    }

    /// The name on the wire of what the file calls `name`.
    pub(super) fn wire<'n>(&'n self, name: &'n str) -> &'n str {
        self.renames.get(name).map_or(name, String::as_str)
    }

    fn given(&self, pairs: &[(String, String)]) -> Result<Given, DefinitionError> {
        let mut given = Given::default();
        for (name, value) in pairs {
            let header = name.strip_prefix("header.").filter(|_| !self.reads_parameter(name));
            if name == "body" {
                given.body = Some(value.clone());
            } else if let Some(header) = header {
                given.header(header, value)?;
            } else if let Some(texts) = self.role_texts_of(name) {
                self.give_role(&mut given, name, value, &texts)?;
            } else {
                let (first, rest) = name.split_once('.').unwrap_or((name, ""));
                let dot = if rest.is_empty() { "" } else { "." };
                given.parameter(&format!("{}{dot}{rest}", self.wire(first)), value)?;
            }
        }
        Ok(given)
    }

    /// Whether the file reads a parameter by just that name, steps included: a sender's JSON may
    /// have
    /// a member called `header`.
    fn reads_parameter(&self, name: &str) -> bool {
        self.sender.spots().any(|spot| spot.came() && spot.key == name)
    }

    /// The texts of the role called `name`, where the file has it: those of each callback, then
    /// those of its kinds.
    fn role_texts_of(&self, name: &str) -> Option<Vec<&Text<Bound>>> {
        let role = Role::from_name(name)?;
        let of_kinds = self.kinds.iter().map(|kind| &kind.roles);
        let texts = std::iter::once(&self.roles).chain(of_kinds);
        let texts = texts.filter_map(|roles| roles.texts.get(role)).flatten();
        let texts: Vec<_> = texts.map(|text| &text.of).collect();
        (!texts.is_empty()).then_some(texts)
    }

    /// Gives a role: one value, or one for each part of it.
    fn give_role(
        &self,
        given: &mut Given,
        name: &str,
        value: &str,
        texts: &[&Text<Bound>],
    ) -> Result<(), DefinitionError> {
        let fits = texts.iter().find_map(|text| taken_apart(text, value));
        let Some(parts) = fits else {
            let parts = texts.iter().flat_map(|text| needed(text));
            let parts = parts.filter(|spot| can_be_given(spot));
            let parts: Vec<_> = parts.map(|spot| self.shown(spot)).collect();
            let (what, remedy) = match parts.is_empty() {
                true => ("is a digest of what is sent", String::from("write the body: body='…'")),
                false => {
                    ("is made of several parts", format!("write its parts: {}", parts.join(", ")))
                }
            };
            return Err(DefinitionError::new(name, what, remedy));
        };
        for (spot, value) in parts {
            let value = String::from_utf8_lossy(&unmodified(value.as_bytes(), &spot.modifiers))
                .into_owned();
            match &spot.input {
                Input::Parameter { slot, steps, .. } => {
                    let mut path = self.name_of(*slot);
                    for step in steps {
                        path.push('.');
                        path.push_str(step);
                    }
                    given.parameter(&path, &value)?;
                }
                Input::Header(header) => given.header(header.as_str(), &value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn name_of(&self, slot: Slot) -> String {
        String::from_utf8_lossy(self.names.name(slot)).into_owned()
    }

    /// Writes what was given where the sender writes it.
    fn laid_out(
        &self,
        given: &Given,
        composing: &Composing<'_>,
        layout: Layout,
    ) -> Result<OwnedRequest, DefinitionError> {
        let place = self.place_for(given, composing, layout);
        let carries = if place != Reads::Query || given.body.is_some() {
            self.sender.methods.iter().find(|method| **method != Method::GET)
        } else {
            None
        };
        let usual = carries.or(self.sender.methods.first()).unwrap_or(&Method::GET);
        let method = composing.method.as_ref().unwrap_or(usual).clone();
        let envelope = self.outer_names();
        let outside = |name: &str| {
            layout == Layout::MessageInBody && envelope.iter().any(|outer| outer == name.as_bytes())
        };
        let (query, rest): (Vec<_>, Vec<_>) = given
            .parameters
            .iter()
            .cloned()
            .partition(|(name, _)| place == Reads::Query || outside(name));
        let target = edit::with_query(composing.path.as_bytes(), &edit::as_pairs(&query));
        let mut headers = given.headers.clone();
        let body = match (&given.body, place) {
            (Some(body), Reads::Query) => body.clone().into_bytes(),
            (Some(_), _) if !rest.is_empty() => {
                return Err(DefinitionError::new(
                    "body",
                    "stands beside parameters of its own",
                    "give one",
                ));
            }
            (Some(body), _) => body.clone().into_bytes(),
            (None, Reads::Query) => Vec::new(),
            (None, place) => {
                let (body, kind) = written(&rest, place).ok_or_else(|| {
                    DefinitionError::new("body", "cannot be composed", "write the whole body")
                })?;
                headers.entry(http::header::CONTENT_TYPE).or_insert(kind);
                body
            }
        };
        Ok(OwnedRequest { method, base: String::new(), target, headers, body })
    }

    /// Where the parameters go.
    fn place_for(&self, given: &Given, composing: &Composing<'_>, layout: Layout) -> Reads {
        let reads = &self.sender.reads;
        let bodiless = given.body.is_some() || composing.method == Some(Method::GET);
        if bodiless && reads.contains(&Reads::Query) {
            return Reads::Query;
        }
        let first = reads.first().copied().unwrap_or(Reads::Query);
        match layout {
            Layout::Usual => first,
            Layout::MessageInBody if reads.contains(&Reads::Json) => Reads::Json,
            Layout::MessageInBody => {
                reads.iter().copied().find(|place| *place != Reads::Query).unwrap_or(first)
            }
        }
    }

    /// Whether the request, as far as it is composed, is an address check.
    fn asks_for_address(&self, request: &OwnedRequest) -> bool {
        self.read_with_body(request, &Signing::at(0)).holds(&self.challenge)
    }

    /// Missing values that the sender signs or needs, except those that [`Self::sign`] makes up.
    fn lacking_in(&self, request: &OwnedRequest, errand: RequestPurpose) -> Vec<String> {
        let signing = Signing::at(0);
        let mut callback = self.read_with_body(request, &signing);
        let mut best: Option<(usize, Vec<String>)> = None;
        for (index, variant) in self.variants.iter().enumerate() {
            let holds = matches!(variant.when, Gate::Always) || callback.holds(&variant.when);
            if !holds || variant.twin == Redundancy::OfPlus {
                continue;
            }
            let lacking = self.lacking_for(&callback, variant);
            let better = best.as_ref().is_none_or(|(_, known)| lacking.len() < known.len());
            if better {
                best = Some((index, lacking));
            }
        }
        let (index, lacking) = best.unzip();
        if errand == RequestPurpose::AddressCheck {
            return lacking.unwrap_or_default();
        }
        callback.matched = index.map(|_| Match {
            variant: index,
            secret: None,
            output: None,
            further: Vec::new(),
        });
        callback.find_kind();
        let mut lacking = lacking.unwrap_or_default();
        // The content of a request that is not signed yet is not digested.
        let texts = callback.role_texts(Role::Transaction);
        let mut used = texts.iter().filter(|text| callback.holds_any(&text.when));
        let by_content = used.any(|text| text.of.spots().any(Bound::is_content));
        let has_content = by_content && !callback.body.trim_ascii().is_empty();
        if !has_content && !matches!(callback.role(Role::Transaction), Ok(Some(_))) {
            lacking.extend(self.lacking_for_transaction(&callback));
        }
        let mut once = Vec::new();
        for name in lacking {
            if !once.contains(&name) {
                once.push(name);
            }
        }
        once
    }

    fn lacking_for(&self, callback: &Callback<'_>, variant: &SignatureVariant) -> Vec<String> {
        let time = self.time.as_ref().map(|time| &time.r#in);
        let is_time =
            |spot: &Bound| time.is_some_and(|time| time.spots().any(|time| time.name == spot.name));
        let cipher = self.open.as_ref().and_then(|opener| opener.slot);
        let is_cipher = |spot: &Bound| matches!(spot.input, Input::Parameter { slot, .. } if Some(slot) == cipher);
        let texts = variant.sorted.iter().chain([&variant.of]);
        texts
            .flat_map(needed)
            .filter(|spot| !is_time(spot) && !is_nonce(&spot.name) && !is_cipher(spot))
            .filter(|spot| !is_there(callback, spot))
            .map(|spot| self.shown(spot))
            .collect()
    }

    fn lacking_for_transaction(&self, callback: &Callback<'_>) -> Vec<String> {
        let kind = callback.kind_here().map(|kind| &kind.roles);
        let roles = kind.filter(|roles| roles.texts.has(Role::Transaction));
        let texts = roles.unwrap_or(&self.roles).texts.get(Role::Transaction);
        let first = texts.and_then(|texts| texts.first());
        let needed = first.into_iter().flat_map(|text| needed(&text.of));
        needed.filter(|spot| !is_there(callback, spot)).map(|spot| self.shown(spot)).collect()
    }

    /// A placeholder's name as it is given to [`Self::compose`].
    fn shown(&self, spot: &Bound) -> String {
        match &spot.input {
            Input::Parameter { slot, steps, .. } => {
                steps.iter().fold(self.name_of(*slot), |path, step| format!("{path}.{step}"))
            }
            Input::Header(name) => format!("header.{name}"),
            _ => spot.name.to_string(),
        }
    }
}

/// Where the parameters of a request go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Where the sender's file looks first.
    Usual,
    /// The envelope in the query, the message in the body.
    MessageInBody,
}

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestPurpose {
    /// An address check.
    AddressCheck,
    /// A message.
    Message,
}

impl Given {
    fn parameter(&mut self, name: &str, value: &str) -> Result<(), DefinitionError> {
        match self.parameters.iter().find(|(known, _)| known == name) {
            Some((_, known)) if known != value => {
                Err(DefinitionError::new(name, "is given twice", "write it once"))
            }
            Some(_) => Ok(()),
            None => {
                self.parameters.push((name.to_owned(), value.to_owned()));
                Ok(())
            }
        }
    }

    fn header(&mut self, name: &str, value: &str) -> Result<(), DefinitionError> {
        let wrong = || {
            DefinitionError::new(
                format!("header.{name}"),
                "is not a valid header name",
                "change it",
            )
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        self.headers.insert(key, value);
        Ok(())
    }
}

/// Whether a value of `spot` says what to write: no digest does.
fn can_be_given(spot: &Bound) -> bool {
    let came = matches!(spot.input, Input::Parameter { .. } | Input::Header(_));
    came && !spot.modifiers.iter().any(Modifier::is_one_way)
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

/// The placeholders outside of optional parts.
fn needed(text: &Text<Bound>) -> impl Iterator<Item = &Bound> {
    text.pieces.iter().filter_map(|piece| match piece {
        Piece::Value(spot) => Some(spot),
        _ => None,
    })
}

/// `value`, split into the placeholders of `text`; `None` if it does not fit.
fn taken_apart<'t>(text: &'t Text<Bound>, value: &str) -> Option<Vec<(&'t Bound, String)>> {
    let mut parts = Vec::new();
    let mut rest = value;
    let mut pieces = text.pieces.iter().filter(|p| !matches!(p, Piece::Optional(_))).peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Literal(bytes) => {
                rest = rest.strip_prefix(std::str::from_utf8(bytes).ok()?)?;
            }
            Piece::Value(spot) => {
                if !can_be_given(spot) {
                    return None;
                }
                let end = match pieces.peek() {
                    Some(Piece::Literal(bytes)) => rest.find(std::str::from_utf8(bytes).ok()?)?,
                    Some(_) => return None,
                    None => rest.len(),
                };
                parts.push((spot, rest[..end].to_owned()));
                rest = &rest[end..];
            }
            Piece::Optional(_) => {}
        }
    }
    Some(parts)
}

fn is_there(callback: &Callback<'_>, spot: &Bound) -> bool {
    let composed =
        [Gateway::Pairs, Gateway::Sorted, Gateway::Secret, Gateway::BodySha256, Gateway::Content];
    match &spot.input {
        Input::Gateway(gateway) if composed.contains(gateway) => true,
        Input::Parameter { slot, steps, .. } if steps.is_empty() => {
            let (parameters, buffers) = callback.side(Scope::Outer);
            parameters.get(*slot, buffers).is_some()
        }
        _ => matches!(callback.value(spot, &Context::default()), Ok(Some(_))),
    }
}

/// `pairs` as a body, with its content type.
fn written(pairs: &[(String, String)], place: Reads) -> Option<(Vec<u8>, HeaderValue)> {
    let written = match place {
        Reads::Json => (edit::as_json(pairs)?, "application/json"),
        Reads::Xml => (edit::as_xml(pairs)?, "text/xml"),
        Reads::Form | Reads::Query => (edit::as_pairs(pairs), "application/x-www-form-urlencoded"),
    };
    Some((written.0, HeaderValue::from_static(written.1)))
}
