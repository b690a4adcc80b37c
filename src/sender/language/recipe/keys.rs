//! Public keys of one source's sender: their list, those that are known, and what is the source's
//! own.

use super::compile::Compiler;
use super::{Recipe, Terms};
use crate::sender::crypto::key_set::{self, KeyList, KeyListForm, KeySet, UrlOrigin};
use crate::sender::crypto::secret::Secret;
use crate::sender::language::bound::{Binder, Bound, Input, Use};
use crate::sender::language::definition::{KeySet as KeySetRule, Sender};
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::value_shape::ValueShape;
use crate::sender::request::names::Slot;

/// Something that a callback names and that has to be the source's own.
#[derive(Debug)]
pub(in crate::sender) struct Ours {
    /// The setting that names them.
    pub(in crate::sender) setting: String,
    pub(in crate::sender) of: Text<Bound>,
    /// The values, separated by spaces or commas.
    pub(in crate::sender) own: Secret,
    /// The values that the provider can send, where the file says so.
    shape: Option<ValueShape>,
}

/// A setting with a value that no callback can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusableValue<'r> {
    /// The setting.
    pub setting: &'r str,
    /// The change that makes it usable.
    pub remedy: &'static str,
}

impl Ours {
    /// Its values.
    pub(in crate::sender) fn values(&self) -> impl Iterator<Item = &[u8]> {
        let split = |byte: &u8| matches!(byte, b' ' | b',' | b'\t' | b'\n');
        self.own.expose().split(split).filter(|value| !value.is_empty())
    }

    /// Its first value that no callback can hold.
    fn unusable(&self) -> Option<UnusableValue<'_>> {
        let shape = self.shape.as_ref()?;
        let value = self.values().find(|value| !shape.fits(value))?;
        let behind = value.rsplit(|byte| *byte == b'/').next().filter(|last| shape.fits(last));
        let remedy = match behind {
            Some(_) => "write only the part after the slash",
            None => "compare it with the sender's callbacks: they hold no such value",
        };
        Some(UnusableValue { setting: &self.setting, remedy })
    }

    /// Whether nothing is both its own and that of `other`.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.setting == other.setting
            && !self.values().any(|own| other.values().any(|their| own == their))
    }
}

impl Recipe {
    /// A setting of the source with a value that no callback can hold: every callback would be
    /// rejected as not the source's own.
    #[must_use]
    pub fn unusable_value(&self) -> Option<UnusableValue<'_>> {
        self.ours.iter().find_map(Ours::unusable)
    }
}

impl Compiler {
    pub(super) fn ours(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Vec<Ours> {
        let mut all = Vec::new();
        for (name, text) in &sender.ours {
            let Some(own) = binder.terms.settings.get(name).cloned() else { continue };
            let of = self.take(binder.text(text, Use::Fact), "ours");
            let setting = name.clone();
            let shape = parameter(text).and_then(|name| sender.shapes.of.get(name)).cloned();
            all.extend(of.map(|of| Ours { setting, of, own, shape }));
        }
        all
    }

    pub(super) fn key_list(
        &mut self,
        set: &KeySetRule,
        binder: &mut Binder<'_>,
    ) -> Option<KeyList> {
        let is_pinned = !binder.terms.secrets.is_empty();
        if is_pinned && matches!(set.form, KeyListForm::Certificates(_)) {
            return None; // nothing is fetched: the certificates are the source's secrets
        }
        let pick = self.take(binder.spot(&set.pick, Use::Fact), "key_set.pick")?;
        let mut headers = Vec::new();
        for (name, text) in &set.headers {
            let text = self.take(binder.text(text, Use::Signed), "key_set.headers")?;
            self.lacking_settings(&text, binder.terms);
            headers.push((name.clone(), text));
        }
        let own = binder.terms.settings.get(Terms::KEY_SET_URL);
        let (url, origin) = match own {
            None => (set.url.clone(), UrlOrigin::Sender),
            Some(own) => match http::Uri::try_from(own.expose()).ok().filter(is_web) {
                Some(url) => (Some(url), UrlOrigin::Source),
                None => {
                    let remedy = "write https://host/path";
                    self.fault(Terms::KEY_SET_URL, "is not an http or https URL", remedy);
                    return None;
                }
            },
        };
        let sender = binder.sender;
        let settings = &binder.terms.settings;
        let parts = [sender.name.as_bytes(), sender.text.as_bytes()];
        let own = |name: &str| sender.ours.iter().any(|(ours, _)| ours == name);
        let settings = settings.iter().filter(|(name, _)| !own(name));
        let settings = settings.flat_map(|(name, value)| [name.as_bytes(), value.expose()]);
        let schemes = sender.variants.iter().filter_map(|variant| variant.public);
        Some(KeyList {
            url,
            origin,
            headers,
            form: set.form.clone(),
            keep: set.keep,
            pick,
            kinds: schemes.map(|public| public.scheme.kind()).collect(),
            identity: key_set::identity(parts.into_iter().chain(settings)),
        })
    }

    /// Settings that the request for a list needs and the source does not have.
    fn lacking_settings(&mut self, text: &Text<Bound>, terms: &Terms) {
        if !terms.keys.is_empty() {
            return; // nothing is asked for
        }
        for spot in text.spots().filter(|spot| matches!(spot.input, Input::Absent)) {
            self.fault(&*spot.name, "is missing: the sender's keys cannot be fetched", "set it");
        }
    }
}

/// The parameter that `text` is, if it is just that.
fn parameter(text: &Text) -> Option<&str> {
    match text.pieces.as_slice() {
        [Piece::Value(spot)] if spot.came() && spot.modifiers.is_empty() => Some(&spot.key),
        _ => None,
    }
}

pub(super) fn known_keys(terms: &Terms) -> Option<KeySet> {
    let keys = terms.keys.iter().map(|(id, key)| (id.as_str(), key.as_str()));
    (!terms.keys.is_empty()).then(|| KeySet::of(keys))
}

pub(super) fn pick_slot(list: Option<&KeyList>) -> Option<Slot> {
    match list?.pick.input {
        Input::Parameter { slot, .. } => Some(slot),
        _ => None,
    }
}

/// Whether a URL is one of http or https, with a host.
fn is_web(url: &http::Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
}
