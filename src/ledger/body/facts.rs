//! The facts of a resolved callback, read from a stored body, and the JSON that is derived from them.

use smallvec::SmallVec;

use crate::clock::{self, UnixMillis};
use crate::ledger::EventId;
use crate::ledger::codec::DecodeError;
use crate::ledger::surrogates::mend;
use crate::sender::{AmountUnit, Effect, Resolved, Role, StoredParams, put_json_text};

/// The facts of a recorded callback. Its JSON follows from them and the request alone, whatever the
/// sender's file says by then.
#[derive(Debug)]
pub(super) struct Facts<'b> {
    pub(super) id: EventId,
    pub(super) received_ms: UnixMillis,
    pub(super) source: &'b str,
    pub(super) sender: &'b str,
    pub(super) roles: [Option<&'b str>; Role::ALL.len()],
    pub(super) test: bool,
    pub(super) released: bool,
    pub(super) unresolved: Texts<'b>,
    /// The names of roles and facts that the signature covers.
    pub(super) authenticated: Texts<'static>,
    pub(super) recut: Texts<'b>,
    pub(super) escaped: Texts<'static>,
    pub(super) unit: Option<AmountUnit>,
    /// Empty: [`Resolved::PLAIN_KIND`].
    pub(super) kind: &'b str,
    pub(super) effect: Effect,
    /// Empty: the source had none.
    pub(super) template: &'b str,
    pub(super) params: StoredParams<'b>,
}

/// A short list of texts.
pub(super) type Texts<'b> = SmallVec<[&'b str; 4]>;

/// About how long the JSON is beyond parameters and template.
const MEMBERS_BYTES: usize = 512;

impl Facts<'_> {
    fn role(&self, role: Role) -> Option<&str> {
        self.roles[role as usize]
    }

    /// The JSON, with the members of [`crate::ledger::Event`].
    pub(super) fn json(&self) -> Result<Vec<u8>, DecodeError> {
        let StoredParams { target, body, .. } = self.params;
        let size = MEMBERS_BYTES + 2 * target.len() + body.len() + self.template.len();
        let mut json = Vec::with_capacity(size);
        let to = &mut json;
        put(to, "{\"id\":\"", self.id.encode(&mut [0; EventId::TEXT_BYTES]));
        put_text(to, "\",\"source\":", self.source);
        put_text(to, ",\"sender\":", self.sender);
        put_text(to, ",\"transaction\":", self.role(Role::Transaction).unwrap_or_default());
        to.extend_from_slice(b",\"received_at\":\"");
        to.extend_from_slice(clock::stamp(self.received_ms).as_bytes());
        put_or_null(to, "\",\"user\":", self.role(Role::User));
        put_or_null(to, ",\"item\":", self.role(Role::Item));
        put_or_null(to, ",\"amount\":", self.role(Role::Amount));
        put(to, ",\"test\":", if self.test { "true" } else { "false" });
        put_list(to, ",\"unresolved\":", &self.unresolved);
        put_list(to, ",\"authenticated\":", &self.authenticated);
        let params_at = to.len();
        put(to, ",\"params\":", "");
        self.params.put_json(to).or(Err(DecodeError))?;
        mend(&mut to[params_at..]);
        put(to, ",\"resolved\":", if self.template.is_empty() { "{}" } else { self.template });
        let later = [
            (",\"currency\":", self.role(Role::Currency)),
            (",\"custom\":", self.role(Role::Custom)),
            (",\"reverses\":", self.role(Role::Reverses)),
        ];
        for (name, value) in later {
            if let Some(value) = value {
                put_text(to, name, value);
            }
        }
        if !self.recut.is_empty() {
            put_list(to, ",\"recut\":", &self.recut);
        }
        if let Some(unit) = self.unit {
            put_text(to, ",\"amount_unit\":", unit.as_str());
        }
        if !self.escaped.is_empty() {
            put_list(to, ",\"escaped\":", &self.escaped);
        }
        if self.released {
            put(to, ",\"released\":", "true");
        }
        let kind = if self.kind.is_empty() { Resolved::PLAIN_KIND } else { self.kind };
        put_text(to, ",\"kind\":", kind);
        put_text(to, ",\"effect\":", self.effect.as_str());
        to.push(b'}');
        Ok(json)
    }
}

/// Appends `json` after `lead`, which is JSON too.
#[inline]
fn put(to: &mut Vec<u8>, lead: &'static str, json: &str) {
    to.extend_from_slice(lead.as_bytes());
    to.extend_from_slice(json.as_bytes());
}

#[inline]
fn put_text(to: &mut Vec<u8>, lead: &'static str, text: &str) {
    to.extend_from_slice(lead.as_bytes());
    put_json_text(to, text.as_bytes());
}

fn put_or_null(to: &mut Vec<u8>, lead: &'static str, text: Option<&str>) {
    match text {
        Some(text) => put_text(to, lead, text),
        None => put(to, lead, "null"),
    }
}

fn put_list(to: &mut Vec<u8>, lead: &'static str, texts: &[&str]) {
    let Some((first, rest)) = texts.split_first() else { return put(to, lead, "[]") };
    put(to, lead, "[");
    put_json_text(to, first.as_bytes());
    for text in rest {
        put_text(to, ",", text);
    }
    to.push(b']');
}
