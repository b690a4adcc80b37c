//! Events in a sender file: roles, kinds, the provider's table of events, and their identity.

use std::collections::BTreeMap;

use super::Reader;
use crate::sender::acts::resolved::{AmountUnit, Effect, Role};
use crate::sender::language::definition::{
    EffectRule, EventRow, EventTable, FormerKind, Formerly, Identity, Kind, KindUse, Repeats,
    RoleText, Roles, Uncovered,
};
use crate::sender::language::file::{self, Many};
use crate::sender::language::text::{Spot, Strictness};

const ROLES: &str = "use transaction, user, item, amount, currency, custom or reverses";
const UNITS: &str = "use fen, cent, milli or micro";

impl Reader {
    pub(super) fn roles(
        &mut self,
        key: &str,
        mut written: BTreeMap<String, Many<file::RoleText>>,
    ) -> Roles {
        let effects = self.effects(key, &mut written);
        let amount_unit = self.amount_unit(key, &mut written);
        let mut roles = Roles { effects, amount_unit, ..Roles::default() };
        for (name, texts) in written {
            let key = format!("{key}.{name}");
            let texts: Vec<_> =
                texts.into_vec().into_iter().map(|text| self.role_text(&key, text)).collect();
            match Role::from_name(&name) {
                Some(role) => roles.texts.insert(role, texts),
                None if name == "replay" => {
                    let remedy = "write the identity of an event in [identity]: by, repeats";
                    self.fault(key, "is replaced by [identity]", remedy);
                }
                None => self.fault(key, "is not a role", ROLES),
            }
        }
        roles
    }

    /// Takes `effect` out of the texts of roles: its texts are words.
    pub(super) fn effects(
        &mut self,
        key: &str,
        written: &mut BTreeMap<String, Many<file::RoleText>>,
    ) -> Vec<EffectRule> {
        let key = format!("{key}.effect");
        let texts = written.remove("effect").map(Many::into_vec).unwrap_or_default();
        let mut rules = Vec::new();
        for text in texts {
            let (word, when) = match text {
                file::RoleText::Text(word) => (word, Many::default()),
                file::RoleText::When { of, when } => (of, when),
            };
            let when = self.conditions(&format!("{key}.when"), when);
            let effect = self.effect(&key, &word);
            rules.extend(effect.map(|effect| EffectRule { effect, when }));
        }
        rules
    }

    /// Takes `amount_unit` out of the texts of roles: it is a word.
    pub(super) fn amount_unit(
        &mut self,
        key: &str,
        written: &mut BTreeMap<String, Many<file::RoleText>>,
    ) -> Option<AmountUnit> {
        let word = match written.remove("amount_unit")?.into_vec().pop()? {
            file::RoleText::Text(word) | file::RoleText::When { of: word, .. } => word,
        };
        let unit = AmountUnit::from_name(&word);
        if unit.is_none() {
            self.fault(format!("{key}.amount_unit"), &format!("`{word}` is not a unit"), UNITS);
        }
        unit
    }

    pub(super) fn effect(&mut self, key: &str, word: &str) -> Option<Effect> {
        let effect = Effect::from_name(word);
        if effect.is_none() {
            self.fault(key, &format!("`{word}` is not an effect"), "use grant, revoke or none");
        }
        effect
    }

    fn former_kind(&mut self, key: &str, written: file::FormerKind) -> FormerKind {
        let key = format!("{key}.transaction");
        let texts = written.transaction.into_vec();
        let transaction = texts.into_iter().map(|text| self.role_text(&key, text)).collect();
        FormerKind { number: written.number, transaction }
    }

    pub(super) fn role_text(&mut self, key: &str, text: file::RoleText) -> RoleText {
        let (of, when) = match text {
            file::RoleText::Text(of) => (of, Many::default()),
            file::RoleText::When { of, when } => (of, when),
        };
        let when = self.conditions(&format!("{key}.when"), when);
        RoleText { of: self.text(key, &of, Strictness::Lenient), when }
    }

    pub(super) fn identity(&mut self, written: file::Identity) -> Identity {
        let mut texts = |key: &str, texts: Many<file::RoleText>| -> Vec<RoleText> {
            texts.into_vec().into_iter().map(|text| self.role_text(key, text)).collect()
        };
        let by = texts("identity.by", written.by);
        let formerly = Formerly {
            transaction: texts("identity.formerly.transaction", written.formerly.transaction),
            replay: texts("identity.formerly.replay", written.formerly.replay),
        };
        let repeats = written.repeats.map(|repeats| {
            let (why, when) = match repeats {
                file::Repeats::Why(why) => (why, Many::default()),
                file::Repeats::When { why, when } => (why, when),
            };
            let when = self.conditions("identity.repeats.when", when);
            Repeats { why: why.into(), when }
        });
        let uncovered = match written.signed {
            Some(true) => Uncovered::Rejected,
            Some(false) | None => Uncovered::Accepted,
        };
        Identity { by, volatile: written.volatile.into_vec(), repeats, uncovered, formerly }
    }

    pub(super) fn events(
        &mut self,
        events: &file::Events,
        rows: Vec<file::EventRow>,
        kinds: &[Kind],
    ) -> Option<EventTable> {
        let by = events.by.to_vec();
        let by: Vec<Spot> = by.iter().filter_map(|text| self.spot("events.by", text)).collect();
        if by.is_empty() {
            self.fault(
                "events.by",
                "names no event",
                "write the placeholder of its name: by = \"{Event}\"",
            );
        }
        let rows = rows.into_iter().filter_map(|row| self.event_row(row, kinds)).collect();
        let unsigned = events.unsigned.as_deref().map(Box::from);
        Some(EventTable { by, unsigned, rows })
    }

    pub(super) fn event_row(&mut self, row: file::EventRow, kinds: &[Kind]) -> Option<EventRow> {
        let is = row.is.into_vec();
        let key = format!("event[{}]", is.first().map_or("", String::as_str));
        let kind = kinds.iter().position(|kind| kind.name == row.kind && kind.when.is_empty());
        if kind.is_none() {
            let what = format!("`{}` is not a [[kind]] without `when`", row.kind);
            self.fault(format!("{key}.kind"), &what, "add one: it has the replies");
        }
        let id_key = format!("{key}.id");
        let id = row.id.into_vec().into_iter().map(|text| self.role_text(&id_key, text)).collect();
        let roles = self.roles(&key, row.roles);
        Some(EventRow { is, kind: kind?, id, roles, volatile: row.volatile.into_vec() })
    }

    pub(super) fn kinds(&mut self, kinds: Vec<file::Kind>) -> Vec<Kind> {
        let mut known = Vec::new();
        for kind in kinds {
            let key = format!("kind[{}]", kind.name);
            let also = kind.also.and_then(|also| self.variant(&format!("{key}.also"), also));
            if also.as_ref().is_some_and(|also| also.public.is_some()) {
                self.fault(format!("{key}.also"), "ends in a public key", "use digests");
            }
            let effect = kind.effect.and_then(|word| self.effect(&format!("{key}.effect"), &word));
            let mut roles = self.roles(&format!("{key}.roles"), kind.roles);
            roles.effects.extend(effect.map(|effect| EffectRule { effect, when: Vec::new() }));
            known.push(Kind {
                when: self.conditions(&format!("{key}.when"), kind.when),
                unsigned: kind.unsigned.map(Box::from),
                roles,
                replies: self.rows(&format!("{key}.reply"), &kind.reply),
                formerly: self.former_kind(&format!("{key}.formerly"), kind.formerly),
                stands: match kind.test {
                    Some(true) => KindUse::ForTests,
                    Some(false) | None => KindUse::ForEvents,
                },
                name: kind.name,
                also,
            });
        }
        known
    }

    pub(super) fn client_roles(&mut self, names: Many<String>) -> Vec<Role> {
        let mut roles = Vec::new();
        for name in names.into_vec() {
            match Role::from_name(&name) {
                Some(role) => roles.push(role),
                None => self.fault("from_client", &format!("`{name}` is not a role"), ROLES),
            }
        }
        roles
    }
}
