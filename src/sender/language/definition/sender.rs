//! Properties of a checked sender.

use std::time::Duration;

use http::{Method, Uri};

use super::reader::Reader;
use super::{Basis, Sender, SenderRetries, SenderRouting};
use crate::sender::acts::resolved::Role;
use crate::sender::crypto::key_set::KeyListForm;
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::file::File;
use crate::sender::language::nearest::meant;
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::value_shape::ShapeBasis;
use crate::sender::request::unreplaced::name_of;

impl Sender {
    /// Reads and checks a sender file called `name`.
    ///
    /// # Errors
    /// All errors in the file. A file that is not TOML has one, with its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<DefinitionError>> {
        let file: File = toml::from_str(text).map_err(|error| {
            let place = error.span().map_or(String::new(), |span| {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}")
            });
            let message = error.message().trim();
            vec![unknown_key(&place, message).unwrap_or_else(|| {
                // The errors of `file` have a remedy of their own.
                let (what, remedy) =
                    message.split_once("; ").unwrap_or((message, "see docs/adding-a-sender.md"));
                DefinitionError::new(place, what, remedy)
            })]
        })?;
        let mut reader = Reader::new(&file);
        let sender = reader.sender(name, text, file);
        if reader.faults.is_empty() { Ok(sender) } else { Err(reader.faults) }
    }

    /// Its name: the file's, without `.toml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Other names that people know it by: of its company, its older products, its mediation. A
    /// configuration cannot use them; they help to find the sender.
    #[must_use]
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// Links to its documentation.
    #[must_use]
    pub fn docs(&self) -> &[String] {
        &self.docs
    }

    /// The basis of the facts, where the file names it.
    #[must_use]
    pub fn basis(&self) -> Option<Basis> {
        self.basis
    }

    /// Facts without outside confirmation; shown wherever the sender is.
    #[must_use]
    pub fn unconfirmed(&self) -> &[String] {
        &self.unconfirmed
    }

    /// The sender's name of its secret; `None` if it has none.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// Whether a source may run without a secret.
    #[must_use]
    pub fn may_be_unsigned(&self) -> bool {
        self.unsigned || self.variants.is_empty()
    }

    /// Whether one callback may bring several events.
    #[must_use]
    pub fn brings_several(&self) -> bool {
        self.each.is_some()
    }

    /// The methods it calls with; the first is the usual one.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The names of the sender's own macros, as its console replaces them in a URL.
    pub fn macros(&self) -> impl Iterator<Item = &str> {
        self.paste.iter().filter_map(|pasted| name_of(pasted.value.as_bytes()))
    }

    /// Where it publishes its list of public keys, and the longest time that they are kept.
    #[must_use]
    pub fn key_set(&self) -> Option<(&Uri, Duration)> {
        self.key_set.as_ref().and_then(|set| Some((set.url.as_ref()?, set.keep)))
    }

    /// Whether it publishes its public keys: a list of them, or certificates.
    #[must_use]
    pub fn publishes_keys(&self) -> bool {
        self.key_set.is_some()
    }

    /// The hosts that publish its certificates, if its callbacks name them by URL.
    #[must_use]
    pub fn certificate_hosts(&self) -> Option<Vec<&str>> {
        match &self.key_set.as_ref()?.form {
            KeyListForm::Certificates(rule) => Some(rule.pins.hosts().collect()),
            KeyListForm::Members { .. } | KeyListForm::Jwks { .. } => None,
        }
    }

    /// Further keys that a source of this sender may have: name and what it is.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Settings that name what belongs to the source. A sender that signs for all its customers
    /// with one key needs them: without them, another customer's callbacks are accepted.
    pub fn ours(&self) -> impl Iterator<Item = &str> {
        self.ours.iter().map(|(name, _)| name.as_str())
    }

    /// The timeout and the retries.
    #[must_use]
    pub fn retries(&self) -> &SenderRetries {
        &self.retries
    }

    /// The parameters that its events are routed by.
    #[must_use]
    pub fn routing(&self) -> &SenderRouting {
        &self.routing
    }

    /// Addresses that it publishes, for `allow = "sender"`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Roles whose value an app sets, signed or not.
    #[must_use]
    pub fn from_client(&self) -> &[Role] {
        &self.from_client
    }

    /// Names whose shape is an assumption until a source says `confirmed`.
    pub fn unconfirmed_shapes(&self) -> impl Iterator<Item = &str> {
        let shapes = self.shapes.of.iter();
        let assumed = shapes.filter(|(_, shape)| shape.basis == ShapeBasis::Unconfirmed);
        assumed.map(|(name, _)| name.as_str())
    }

    /// Why each further variant of its signature is there.
    pub fn variants(&self) -> impl Iterator<Item = Option<&str>> {
        self.variants.iter().map(|variant| variant.why.as_deref())
    }

    /// The file as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Sender {
    /// The parameter that `role` is, where it is just one.
    pub(in crate::sender) fn single_parameter(&self, role: Role) -> Option<String> {
        let [text] = self.roles.texts.get(role)?.as_slice() else { return None };
        match text.of.pieces.as_slice() {
            [Piece::Value(spot)] if spot.came() && spot.steps.len() == 1 => Some(spot.key.clone()),
            _ => None,
        }
    }

    /// The parameter without which no event can be made: the transaction, where no kind and no
    /// variant takes another.
    pub(in crate::sender) fn only_transaction(&self) -> Option<String> {
        let others = self.kinds.iter().map(|kind| &kind.roles);
        let others = others.chain(self.variants.iter().map(|variant| &variant.roles));
        let mut overriding = others.filter(|roles| roles.texts.has(Role::Transaction));
        if overriding.next().is_some() || self.open.is_some() || self.events.is_some() {
            return None;
        }
        self.single_parameter(Role::Transaction)
    }

    /// The names of parameters whose value is a sealed message.
    pub(in crate::sender) fn sealed_names(&self) -> Vec<&str> {
        let opened = self.open.iter().flat_map(|open| &open.of).chain(&self.challenge.open);
        opened.flat_map(Text::spots).map(|spot| spot.key.as_str()).collect()
    }
}

/// The error of a key that the language does not have, with the one that was probably meant:
/// "unknown field `replies`, expected one of `title`, `aliases`, …".
fn unknown_key(place: &str, message: &str) -> Option<DefinitionError> {
    let mut names = message.strip_prefix("unknown field `")?.split('`').step_by(2);
    let written = names.next()?;
    let known: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let what = format!("`{written}` is not a known key");
    Some(DefinitionError::new(place, what, meant(written, &known)))
}
