//! Macros that a sender left in place of values: the commonest setup error in this field.

use std::borrow::Cow;

use crate::sender::language::bound::{Binder, file_names};
use crate::sender::language::definition::Sender;
use crate::sender::language::text::is_key;

/// The macros of one sender, as they would arrive if they were not replaced.
#[derive(Clone, Debug, Default)]
pub(in crate::sender) struct Macros {
    /// The names in the brackets of `paste`, each with the bracket; empty where the file has none.
    macros: Vec<(u8, String)>,
    /// The macros whose names are not valid keys, as in `paste`.
    odd: Vec<String>,
    /// The names that the file reads, for senders without `paste`.
    names: Vec<String>,
    /// The wire name of each pair of `paste`.
    wires: Vec<String>,
}

impl Macros {
    pub(in crate::sender) fn new(sender: &Sender, binder: &Binder<'_>) -> Self {
        let macros = sender.paste.iter().filter_map(|pasted| {
            let value = pasted.value.as_bytes();
            Some((*value.first()?, name_of(value)?.to_owned()))
        });
        Self {
            macros: macros.collect(),
            odd: sender
                .paste
                .iter()
                .map(|pasted| &pasted.value)
                .filter(|value| may_be_macro(value.as_bytes()))
                .filter(|value| name_of(value.as_bytes()).is_none())
                .cloned()
                .collect(),
            names: if sender.paste.is_empty() { names(sender, binder) } else { Vec::new() },
            wires: sender.paste.iter().map(|p| binder.wire(&p.name).to_owned()).collect(),
        }
    }

    /// The wire name of the pair at `index` of `paste`.
    pub(in crate::sender) fn wire(&self, index: usize) -> Option<&str> {
        self.wires.get(index).map(String::as_str)
    }

    /// Whether the decoded `value` is nothing but one of the sender's own macros, in any brackets.
    /// In the sender's brackets, its name may be spelled with other cases, `_` and `-`.
    ///
    /// Without `paste` it has to be a name of the file or of the source: a player may be called
    /// `[PRO]`, and a report `{ABCDEF00-8B86}`.
    #[inline]
    pub(in crate::sender) fn is_unreplaced(&self, value: &[u8]) -> bool {
        may_be_macro(value) && self.is_macro(value)
    }

    fn is_macro(&self, value: &[u8]) -> bool {
        let Some(name) = name_of(value) else {
            return self.odd.iter().any(|known| known.as_bytes() == value);
        };
        if !self.macros.is_empty() {
            return self.macros.iter().any(|(bracket, known)| {
                known == name || (value.first() == Some(bracket) && is_respelled(known, name))
            });
        }
        self.names.iter().any(|known| known == name)
    }
}

/// Whether two names differ in the case of letters, `_` and `-` alone: `user_id`, `userId`.
fn is_respelled(known: &str, name: &str) -> bool {
    fn plain(name: &str) -> impl Iterator<Item = u8> {
        let bytes = name.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
        bytes.map(|byte| byte.to_ascii_lowercase())
    }
    plain(known).eq(plain(name))
}

/// The names that a source of a sender without `paste` may have written in brackets.
fn names(sender: &Sender, binder: &Binder<'_>) -> Vec<String> {
    let mut names = file_names(sender);
    names.extend(binder.terms.params.iter().flat_map(|(name, wire)| [name, wire]).cloned());
    let template = binder.terms.template.as_deref().unwrap_or_default();
    let keys = template.split(['{', '<', '[']).skip(1);
    names
        .extend(keys.filter_map(|rest| rest.split(['}', '>', ']', '|']).next().map(str::to_owned)));
    names
}

/// Bytes that a macro begins with: a bracket, or a quote before one.
pub(in crate::sender) const MAY_BEGIN: [u8; 5] = *b"{[<%\"";

/// Whether a value as on the wire could start with a bracket: all others need no decoding.
#[inline]
pub(in crate::sender) fn may_be_macro(raw: &[u8]) -> bool {
    match raw.first() {
        Some(b'{' | b'[' | b'<' | b'%') => true,
        Some(b'"') => may_be_quoted_macro(raw),
        _ => false,
    }
}

fn may_be_quoted_macro(raw: &[u8]) -> bool {
    let first = raw.iter().find(|byte| **byte != b'"').copied().unwrap_or_default();
    matches!(first, b'{' | b'[' | b'<' | b'%')
}

/// The key in the brackets of `{x}`, `{{x}}`, `[x]`, `<x>` or `%x%`.
pub(in crate::sender) fn name_of(value: &[u8]) -> Option<&str> {
    let inside = |(open, close): (&[u8], &[u8])| value.strip_prefix(open)?.strip_suffix(close);
    let brackets: [(&[u8], &[u8]); 5] =
        [(b"{{", b"}}"), (b"{", b"}"), (b"[", b"]"), (b"<", b">"), (b"%", b"%")];
    let name = brackets.into_iter().filter_map(inside).find(|name| is_key(name))?;
    std::str::from_utf8(name).ok()
}

/// The name, shortened for refusals.
pub(in crate::sender) fn shown(name: &[u8]) -> String {
    let text: Cow<'_, str> = String::from_utf8_lossy(name);
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn macros(names: &[&str]) -> Macros {
        let macros = names.iter().map(|name| (b'{', (*name).to_owned()));
        Macros { macros: macros.collect(), ..Macros::default() }
    }

    #[test]
    fn own_macros_in_any_brackets() {
        let taku = macros(&["user_id", "trans_id"]);
        for value in ["{user_id}", "{{user_id}}", "[user_id]", "<user_id>", "%user_id%"] {
            assert!(taku.is_unreplaced(value.as_bytes()), "{value}");
        }
        let bitlabs = Macros { odd: vec!["[%TX%]".into()], ..macros(&[]) };
        assert!(bitlabs.is_unreplaced(b"[%TX%]") && !bitlabs.is_unreplaced(b"[%TY%]"));
        for value in ["[PRO]", "{other}", "x{user_id}", "user_id", "", "{user id}"] {
            assert!(!taku.is_unreplaced(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn a_misspelled_macro_is_one_in_the_brackets_of_the_sender() {
        let taku = macros(&["user_id", "trans_id"]);
        for value in ["{userid}", "{userId}", "{USER-ID}", "{{UserID}}"] {
            assert!(taku.is_unreplaced(value.as_bytes()), "{value}");
        }
        for value in ["[userid]", "%UserId%", "{user}", "{user_ids}", "{_}", "{user.id}"] {
            assert!(!taku.is_unreplaced(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn without_macros_the_name_has_to_be_known() {
        let survey = Macros { names: vec!["uid_info".into()], ..Macros::default() };
        for value in ["{uid_info}", "[uid_info]", "<uid_info>", "%uid_info%"] {
            assert!(survey.is_unreplaced(value.as_bytes()), "{value}");
        }
        for value in ["{anything}", "[PRO]", "{ABCDEF00-8B86}", "%bob%"] {
            assert!(!survey.is_unreplaced(value.as_bytes()), "{value}");
        }
    }
}
