//! Secrets that a rule decodes before they are the key: `whsec_` and base64.

use crate::sender::acts::explain::advice::Advice;
use crate::sender::acts::explain::case::Case;
use crate::sender::language::bound::{Bound, Gateway, Input};
use crate::sender::language::modifier::Modifier;

/// The rule's way from the text of the secret to the bytes of the key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoding<'c> {
    /// The text in front of what is decoded; empty for none.
    prefix: &'c str,
    /// The name of the encoding, in both languages.
    encoding: &'static str,
}

impl<'c> Decoding<'c> {
    /// `None` where the rule does not decode the secret.
    pub(super) fn of(case: &Case<'c>) -> Option<Self> {
        let is_secret = |spot: &&Bound| matches!(spot.input, Input::Gateway(Gateway::Secret));
        let spot = case.variant.key.spots().find(is_secret)?;
        let prefix = spot.modifiers.iter().find_map(|modifier| match modifier {
            Modifier::After(prefix) => Some(prefix.as_str()),
            _ => None,
        });
        let encoding = spot.modifiers.iter().find_map(|modifier| match modifier {
            Modifier::Unbase64 => Some("base64"),
            Modifier::Unhex => Some("hex"),
            _ => None,
        })?;
        Some(Self { prefix: prefix.unwrap_or_default(), encoding })
    }

    /// Whether `used` is the text of the secret `own`, with its prefix or without: not decoded.
    pub(super) fn leaves(&self, own: &[u8], used: &[u8]) -> bool {
        used == own || own.strip_prefix(self.prefix.as_bytes()) == Some(used)
    }

    /// The advice to decode.
    pub(super) fn advice(self) -> Advice {
        let Self { prefix, encoding } = self;
        if prefix.is_empty() {
            return Advice::new(
                format!("The text of the secret was used as the key: {encoding}-decode it first."),
                format!("把密钥的文本直接当成了密钥：请先对它做 {encoding} 解码。"),
            );
        }
        Advice::new(
            format!(
                "The text of the secret was used as the key: {encoding}-decode what follows \
                 `{prefix}`, and use these bytes."
            ),
            format!(
                "把密钥的文本直接当成了密钥：请对 `{prefix}` 之后的部分做 {encoding} 解码，以得到的字节为密钥。"
            ),
        )
    }
}
