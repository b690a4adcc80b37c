//! Placeholders bound to one source: names become slots, settings become values.

mod spots;

use std::collections::BTreeMap;

use http::HeaderName;

use super::condition::{Condition, Subject};
use super::definition::{
    EffectRule, Formerly, Identity, Reads, Repeats, RoleText, Roles, Sender, Uncovered,
};
use super::definition_error::DefinitionError;
use super::modifier::Modifier;
use super::nearest::nearest;
use super::recipe::{Replay, Terms};
use super::text::{Spot, Text};
use super::url::SURVEY_VALUES;
use crate::sender::acts::resolved::Role;
use crate::sender::crypto::secret::Secret;
use crate::sender::request::names::{Names, Slot};

pub(in crate::sender) use spots::file_names;

/// A placeholder that can be evaluated.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Bound {
    /// Where its value comes from.
    pub(in crate::sender) input: Input,
    /// Transformations, in order.
    pub(in crate::sender) modifiers: Box<[Modifier]>,
    /// The key as written, for error texts.
    pub(in crate::sender) name: Box<str>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(in crate::sender) enum Input {
    /// A parameter, and the steps into it.
    Parameter { slot: Slot, steps: Box<[Box<str>]>, scope: Scope },
    /// An item of a list in a value.
    List { list: usize, item: Box<[u8]> },
    /// A header.
    Header(HeaderName),
    /// A setting of the source.
    Setting(Secret),
    /// A setting that the source does not have.
    Absent,
    /// One of `[known]`.
    Known(Box<Text<Bound>>),
    /// A role of the callback.
    Role(Role),
    /// Something that every gateway knows.
    Gateway(Gateway),
}

/// Which side of a sealed message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Scope {
    /// The message, once it is open.
    Message,
    /// The callback outside the sealed message.
    Outer,
}

/// A value that every gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Gateway {
    Secret,
    PublicKey,
    Body,
    BodySha256,
    Content,
    Query,
    Url,
    Path,
    Method,
    Now,
    Pairs,
    Sorted,
    Signed,
    Reason,
    Code,
    Countersign,
    Message,
    Source,
    EventId,
    ReceivedAt,
}

/// The use of a text: decides what it may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Use {
    /// A signed text, or one that opens a message.
    Signed,
    /// A key.
    Key,
    /// A role, a condition, a time.
    Fact,
    /// A source's template.
    Template,
    /// A reply.
    Reply,
}

impl Use {
    fn may(self, gateway: Gateway) -> bool {
        use Gateway as G;
        match self {
            Self::Signed => {
                !matches!(gateway, G::Reason | G::Code | G::EventId | G::PublicKey | G::Message)
                    && gateway != G::Content
            }
            Self::Key => matches!(gateway, G::Secret | G::PublicKey),
            Self::Fact => {
                matches!(gateway, G::Method | G::BodySha256 | G::Content | G::Signed | G::Source)
            }
            Self::Template => matches!(gateway, G::Source | G::EventId | G::ReceivedAt),
            Self::Reply => {
                matches!(gateway, G::Reason | G::Code | G::Countersign | G::Now | G::Source)
                    || matches!(gateway, G::ReceivedAt | G::Message)
            }
        }
    }

    fn may_read_settings(self) -> bool {
        matches!(self, Self::Signed | Self::Key)
    }
}

impl Bound {
    /// Whether it is the whole URL.
    pub(in crate::sender) fn is_url(&self) -> bool {
        matches!(self.input, Input::Gateway(Gateway::Url))
    }

    /// Whether it is the digest of the content.
    pub(in crate::sender) fn is_content(&self) -> bool {
        matches!(self.input, Input::Gateway(Gateway::Content))
    }

    /// The slot of a placeholder that is one whole parameter, unmodified.
    #[inline]
    pub(in crate::sender) fn plain_slot(&self) -> Option<Slot> {
        match &self.input {
            Input::Parameter { slot, steps, scope: Scope::Message }
                if steps.is_empty() && self.modifiers.is_empty() =>
            {
                Some(*slot)
            }
            _ => None,
        }
    }
}

/// Conditions on settings alone, decided once the source is known.
#[derive(Clone, Debug)]
pub(in crate::sender) enum Gate {
    /// Always true.
    Always,
    /// Never true.
    Never,
    /// True if one of these is.
    Any(Vec<Condition<Bound>>),
}

/// Binds the texts of one sender to one source.
#[derive(Debug)]
pub(in crate::sender) struct Binder<'s> {
    pub(in crate::sender) sender: &'s Sender,
    pub(in crate::sender) terms: &'s Terms,
    pub(in crate::sender) names: Names,
    pub(in crate::sender) renames: BTreeMap<String, String>,
    dots: Dots,
}

/// The meaning of a dot in a name on the wire that the source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dots {
    /// A step into a member of the body: `data.user`.
    Steps,
    /// A part of the name, as in queries and forms.
    Plain,
}

impl<'s> Binder<'s> {
    /// A binder for `sender` under `terms`.
    ///
    /// # Errors
    /// Every name in `terms.params` that the file does not have.
    pub(in crate::sender) fn new(
        sender: &'s Sender,
        terms: &'s Terms,
    ) -> Result<Self, Vec<DefinitionError>> {
        let mut renames = BTreeMap::new();
        let mut faults = Vec::new();
        let known = file_names(sender);
        for (left, wire) in &terms.params {
            let role = Role::from_name(left);
            let own = role.and_then(|role| sender.single_parameter(role));
            if let Some(name) = own {
                renames.insert(name, wire.clone());
            } else if known.contains(left) {
                renames.insert(left.clone(), wire.clone());
            } else if role.is_none_or(|role| sender.roles.texts.has(role)) {
                faults.push(DefinitionError::new(
                    format!("params.{left}"),
                    "is neither a role that is one parameter, nor a name that the sender's file reads",
                    format!("use one of {}", known.join(", ")),
                ));
            }
        }
        let binder = Self { sender, terms, names: Names::default(), renames, dots: Dots::Steps };
        if faults.is_empty() { Ok(binder) } else { Err(faults) }
    }

    /// The name on the wire of what the file calls `name`.
    pub(in crate::sender) fn wire<'n>(&'n self, name: &'n str) -> &'n str {
        self.renames.get(name).map_or(name, String::as_str)
    }

    /// The file's name of the parameter in `slot`.
    pub(in crate::sender) fn file_name(&self, slot: Slot) -> String {
        let wire = String::from_utf8_lossy(self.names.name(slot)).into_owned();
        let renamed = self.renames.iter().find(|(_, own)| **own == wire);
        renamed.map_or(wire, |(name, _)| name.clone())
    }

    /// The slot of what the file calls `name`.
    pub(in crate::sender) fn slot(&mut self, name: &str) -> Result<Slot, DefinitionError> {
        let wire = self.wire(name).to_owned();
        if self.steps_into(&wire) {
            return Err(DefinitionError::new(
                "",
                format!("`params` looks for `{name}` inside `{wire}`, where this cannot be read"),
                "name a member of the top level, or write a sender file of your own",
            ));
        }
        self.slot_of(&wire)
    }

    /// Whether a name on the wire is a path into a body: `data.user`.
    fn steps_into(&self, wire: &str) -> bool {
        let reads = |place| self.sender.reads.contains(&place);
        (reads(Reads::Json) || reads(Reads::Xml))
            && wire.split('.').nth(1).is_some()
            && wire.split('.').all(|step| !step.is_empty())
    }

    /// Whether a name with a dot may also be the plain name of a parameter.
    fn may_be_plain(&self) -> bool {
        self.sender.reads.iter().any(|place| matches!(place, Reads::Query | Reads::Form))
    }

    /// Gives a name of the file a slot, and each meaning of it.
    ///
    /// # Errors
    /// The source reads too many names.
    pub(in crate::sender) fn reserve(&mut self, name: &str) -> Result<(), DefinitionError> {
        let wire = self.wire(name).to_owned();
        let member = wire.split('.').next().unwrap_or_default();
        if !self.steps_into(&wire) {
            return self.slot_of(&wire).map(drop);
        }
        if self.may_be_plain() {
            self.slot_of(&wire)?;
        }
        self.slot_of(member).map(drop)
    }

    fn slot_of(&mut self, wire: &str) -> Result<Slot, DefinitionError> {
        self.names.intern(wire.as_bytes()).ok_or_else(|| {
            DefinitionError::new("", "reads too many parameters", "at most 250 names in one source")
        })
    }

    /// A placeholder, bound.
    pub(in crate::sender) fn spot(
        &mut self,
        spot: &Spot,
        r#use: Use,
    ) -> Result<Bound, DefinitionError> {
        let input = if spot.came() { self.came(spot)? } else { self.known(spot, r#use)? };
        Ok(Bound {
            input,
            modifiers: spot.modifiers.clone().into(),
            name: spot.key.as_str().into(),
        })
    }

    /// A text, bound.
    pub(in crate::sender) fn text(
        &mut self,
        text: &Text,
        r#use: Use,
    ) -> Result<Text<Bound>, DefinitionError> {
        text.bind(&mut |spot| self.spot(spot, r#use).map_err(|fault| fault.at(spot.column)))
    }

    /// Conditions of which one has to hold, bound; those on settings are decided here.
    pub(in crate::sender) fn gate(
        &mut self,
        conditions: &[Condition],
    ) -> Result<Gate, DefinitionError> {
        if conditions.is_empty() {
            return Ok(Gate::Always);
        }
        let mut open = Vec::new();
        for condition in conditions {
            let mut parts = Vec::new();
            let mut possible = true;
            for part in condition.parts() {
                match self.setting_of(part) {
                    Some(is_set) => possible &= is_set != part.negated,
                    None => parts.push(part.bind(&mut |spot| self.spot(spot, Use::Fact))?),
                }
            }
            match (possible, parts.pop()) {
                (false, _) => {}
                (true, None) => return Ok(Gate::Always),
                (true, Some(only)) if parts.is_empty() => open.push(only),
                (true, Some(last)) => {
                    parts.push(last);
                    open.push(Condition::all(parts));
                }
            }
        }
        Ok(if open.is_empty() { Gate::Never } else { Gate::Any(open) })
    }

    /// Whether the setting that `condition` is about is there; `None`: it is about none.
    fn setting_of(&self, condition: &Condition) -> Option<bool> {
        let Subject::There(spot) = &condition.subject else { return None };
        let is_setting = !spot.came() && self.has_setting(&spot.key);
        is_setting.then(|| self.terms.settings.contains_key(&spot.key))
    }

    /// Roles, bound.
    pub(in crate::sender) fn roles(
        &mut self,
        roles: &Roles,
    ) -> Result<Roles<Bound>, DefinitionError> {
        let mut bound = Roles::default();
        for (role, texts) in roles.texts.iter() {
            let texts = self.role_texts(texts, role.as_str())?;
            bound.texts.insert(role, texts);
        }
        for rule in &roles.effects {
            let effect = rule.effect;
            match self.gate(&rule.when)? {
                Gate::Always => bound.effects.push(EffectRule { effect, when: Vec::new() }),
                Gate::Any(when) => bound.effects.push(EffectRule { effect, when }),
                Gate::Never => {}
            }
        }
        bound.amount_unit = roles.amount_unit;
        Ok(bound)
    }

    /// The identity of an event, bound.
    pub(in crate::sender) fn identity(
        &mut self,
        identity: &Identity,
    ) -> Result<Identity<Bound>, DefinitionError> {
        let repeats = match &identity.repeats {
            None => None,
            Some(repeats) => match self.gate(&repeats.when)? {
                Gate::Always => Some(Repeats { why: repeats.why.clone(), when: Vec::new() }),
                Gate::Any(when) => Some(Repeats { why: repeats.why.clone(), when }),
                Gate::Never => None,
            },
        };
        Ok(Identity {
            by: self.role_texts(&identity.by, "identity")?,
            volatile: identity.volatile.clone(),
            repeats,
            uncovered: match (identity.uncovered, self.terms.replayable) {
                (Uncovered::Rejected, Replay::Accepted) => Uncovered::Replayable,
                (uncovered, _) => uncovered,
            },
            formerly: Formerly {
                transaction: self.role_texts(&identity.formerly.transaction, "identity")?,
                replay: self.role_texts(&identity.formerly.replay, "identity")?,
            },
        })
    }

    /// Texts of which the first that can be made counts, bound.
    pub(in crate::sender) fn role_texts(
        &mut self,
        texts: &[RoleText],
        name: &str,
    ) -> Result<Vec<RoleText<Bound>>, DefinitionError> {
        let mut bound = Vec::new();
        for text in texts {
            if self.has_dots(&text.of) {
                self.dots = Dots::Plain;
                let plain = self.role_text(text, name);
                self.dots = Dots::Steps;
                bound.extend(plain?);
            }
            bound.extend(self.role_text(text, name)?);
        }
        Ok(bound)
    }

    /// Whether `text` reads a name in which a dot may mean two things.
    fn has_dots(&self, text: &Text) -> bool {
        self.may_be_plain()
            && text.spots().any(|spot| {
                let wire = self.renames.get(spot.steps().0);
                spot.came() && wire.is_some_and(|wire| self.steps_into(wire))
            })
    }

    fn role_text(
        &mut self,
        text: &RoleText,
        name: &str,
    ) -> Result<Option<RoleText<Bound>>, DefinitionError> {
        let under = |fault: DefinitionError| fault.under(&format!("roles.{name}"));
        let of = self.text(&text.of, Use::Fact).map_err(under)?;
        Ok(match self.gate(&text.when).map_err(under)? {
            Gate::Always => Some(RoleText { of, when: Vec::new() }),
            Gate::Any(when) => Some(RoleText { of, when }),
            Gate::Never => None,
        })
    }

    fn came(&mut self, spot: &Spot) -> Result<Input, DefinitionError> {
        let (first, mut rest) = spot.steps();
        if let Some(list) = self.sender.lists.iter().position(|list| list.name == first) {
            let item = rest.collect::<Vec<_>>().join(".");
            return Ok(Input::List { list, item: item.into_bytes().into() });
        }
        let outer = first == "outer" && self.sender.open.is_some();
        let scope = if outer { Scope::Outer } else { Scope::Message };
        let first = if outer { rest.next().unwrap_or_default() } else { first };
        let wire = self.wire(first).to_owned();
        let steps = self.dots == Dots::Steps && self.renames.contains_key(first);
        if !steps || !self.steps_into(&wire) {
            let slot = self.slot_of(&wire)?;
            return Ok(Input::Parameter { slot, steps: rest.map(Box::from).collect(), scope });
        }
        let (member, inner) = wire.split_once('.').unwrap_or((&wire, ""));
        let slot = self.slot_of(member)?;
        let mut steps: Vec<Box<str>> = inner.split('.').map(Box::from).collect();
        steps.extend(rest.map(Box::from));
        Ok(Input::Parameter { slot, steps: steps.into(), scope })
    }

    fn has_setting(&self, name: &str) -> bool {
        self.sender.settings.iter().any(|(setting, _)| setting == name)
    }

    fn known(&mut self, spot: &Spot, r#use: Use) -> Result<Input, DefinitionError> {
        let key = spot.key.as_str();
        if self.has_setting(key) {
            if !r#use.may_read_settings() {
                return Err(misplaced(key));
            }
            let value = self.terms.settings.get(key).cloned();
            return Ok(value.map_or(Input::Absent, Input::Setting));
        }
        if let Some((_, text)) = self.sender.known.iter().find(|(name, _)| name == key) {
            let text = text.clone();
            return Ok(Input::Known(Box::new(self.text(&text, Use::Fact)?)));
        }
        if let Some(name) = key.strip_prefix("header.") {
            if r#use == Use::Template {
                return Err(misplaced(key));
            }
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                DefinitionError::new(
                    "",
                    format!("`{name}` is not a valid header name"),
                    "name a header",
                )
            })?;
            return Ok(Input::Header(name));
        }
        if key == "transaction" && matches!(r#use, Use::Template | Use::Reply) {
            return Ok(Input::Role(Role::Transaction));
        }
        // Any source's template may ask for one, though its sender does not know it.
        if SURVEY_VALUES.contains(&key) {
            return Ok(Input::Absent);
        }
        match gateway(key) {
            Some(gateway) if r#use.may(gateway) => Ok(Input::Gateway(gateway)),
            Some(_) => Err(misplaced(key)),
            None => Err(unknown(key)),
        }
    }
}

fn misplaced(key: &str) -> DefinitionError {
    DefinitionError::new(
        "",
        format!("`[{key}]` may not be read here"),
        "secrets, settings and the raw request belong to signature texts alone",
    )
}

/// The mistake of a placeholder in square brackets whose name means nothing in any source: neither
/// the gateway knows it, nor is it one of `named`, the names of the file's settings and of `[known]`.
pub(in crate::sender) fn unknown_here(spot: &Spot, named: &[String]) -> Option<DefinitionError> {
    let key = spot.key.as_str();
    let is_known = spot.came()
        || named.iter().any(|name| name == key)
        || key.starts_with("header.")
        || key == "transaction"
        || SURVEY_VALUES.contains(&key)
        || gateway(key).is_some();
    (!is_known).then(|| unknown(key).at(spot.column))
}

fn unknown(key: &str) -> DefinitionError {
    let names = GATEWAY.map(|(name, _)| name);
    // A name that is much longer or shorter is another word: `[sign]` is not `[signed]`.
    let near = nearest(key, &names).filter(|near| near.len().abs_diff(key.len()) <= 1);
    let meant = near.map(|near| format!("did you mean [{near}]? Else ")).unwrap_or_default();
    DefinitionError::new(
        "",
        format!("`[{key}]` is nothing the gateway knows"),
        format!("{meant}write {{{key}}} for a parameter, or [[{key}]] for the plain text"),
    )
}

fn gateway(key: &str) -> Option<Gateway> {
    GATEWAY.iter().find(|(name, _)| *name == key).map(|(_, gateway)| *gateway)
}

/// The names of what every gateway knows.
const GATEWAY: [(&str, Gateway); 20] = [
    ("secret", Gateway::Secret),
    ("public_key", Gateway::PublicKey),
    ("body", Gateway::Body),
    ("body_sha256", Gateway::BodySha256),
    ("content", Gateway::Content),
    ("query", Gateway::Query),
    ("url", Gateway::Url),
    ("path", Gateway::Path),
    ("method", Gateway::Method),
    ("now", Gateway::Now),
    ("pairs", Gateway::Pairs),
    ("sorted", Gateway::Sorted),
    ("signed", Gateway::Signed),
    ("reason", Gateway::Reason),
    ("code", Gateway::Code),
    ("countersign", Gateway::Countersign),
    ("message", Gateway::Message),
    ("source", Gateway::Source),
    ("event_id", Gateway::EventId),
    ("received_at", Gateway::ReceivedAt),
];
