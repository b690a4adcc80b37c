//! Headers of replies to address checks: names of a closed list, values of the callback.

use http::{HeaderName, HeaderValue};

use super::{RenderText, leaf};
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::text::{Spot, Text};

/// The headers that a reply may have: those of the webhook handshake of CloudEvents. No other one
/// may be set, because a value can come from an unauthenticated caller.
const NAMES: [&str; 2] = ["webhook-allowed-origin", "webhook-allowed-rate"];

/// Bytes of a value: the name of a host.
const VALUE_BYTES_MAX: usize = 256;

/// The headers of one reply.
#[derive(Clone, Debug)]
pub(super) struct ReplyHeaders<K>(Vec<(HeaderName, Text<K>)>);

impl<K> Default for ReplyHeaders<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl ReplyHeaders<Spot> {
    /// Reads `headers` of a reply.
    pub(super) fn parse(table: &toml::Table) -> Result<Self, DefinitionError> {
        let mut headers = Vec::new();
        for (name, value) in table {
            let key = format!("headers.{name}");
            let wrong = |what: &str, remedy: &str| DefinitionError::new(&*key, what, remedy);
            let lower = name.to_ascii_lowercase();
            let known = NAMES.into_iter().find(|known| *known == lower);
            let Some(known) = known else {
                let remedy = "use WebHook-Allowed-Origin or WebHook-Allowed-Rate";
                return Err(wrong("is not a header of a reply", remedy));
            };
            let toml::Value::String(text) = value else {
                return Err(wrong("is not a text", "write \"[header.WebHook-Request-Origin]\""));
            };
            headers.push((HeaderName::from_static(known), leaf(&key, text)?));
        }
        Ok(Self(headers))
    }

    /// The same under other keys.
    pub(super) fn bind<L>(
        &self,
        bind: &mut impl FnMut(&Spot) -> Result<L, DefinitionError>,
    ) -> Result<ReplyHeaders<L>, DefinitionError> {
        let bound = self.0.iter().map(|(name, text)| Ok((name.clone(), text.bind(bind)?)));
        Ok(ReplyHeaders(bound.collect::<Result<_, DefinitionError>>()?))
    }
}

impl<K> ReplyHeaders<K> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &Text<K>> {
        self.0.iter().map(|(_, text)| text)
    }

    /// The headers, rendered by `voice`. One without a value, or with a value that is too long or
    /// not a header's, is omitted.
    pub(super) fn values(&self, voice: &impl RenderText<K>) -> Box<[(HeaderName, HeaderValue)]> {
        let value = |text: &Text<K>| {
            let text = voice.text(text)?;
            let fits = !text.is_empty() && text.len() <= VALUE_BYTES_MAX;
            HeaderValue::from_str(&text).ok().filter(|_| fits)
        };
        let values = self.0.iter().filter_map(|(name, text)| Some((name.clone(), value(text)?)));
        values.collect()
    }
}
