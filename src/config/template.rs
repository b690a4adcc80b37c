//! Templates of a destination's URL, held against the sources that deliver to it.
//!
//! `{user}` is the event's user, whatever its sender calls the parameter. Where a sender has a
//! parameter `user` that is something else, the URL does not say which is meant, and the
//! configuration has to.
//!
//! A URL also says what it is called for, or does not: a backend that is called with a user and an
//! amount alone takes every call for a grant. So it gets no others.

use super::file::Section;
use super::{Destination, Format, Source};
use crate::sender::{
    Bracket, Effect, Placeholder, Role, SURVEY_VALUES, SenderEffects, UrlTemplate, Written,
};

/// Facts that the URL of a destination states of an event, besides the values of a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UrlFacts {
    /// `{effect}`: all that matters here.
    effect: bool,
    /// `{kind}`.
    kind: bool,
    /// `{test}`.
    test: bool,
    /// `{reverses}`.
    reverses: bool,
}

/// Facts that decide whether an event can be taken for a grant.
#[derive(Clone, Copy, Debug)]
pub struct EventNature<'e> {
    /// Its effect.
    pub effect: Effect,
    /// Its kind.
    pub kind: &'e str,
    /// Whether it is a test.
    pub test: bool,
    /// The transaction that it takes back.
    pub reverses: Option<&'e str>,
}

/// Why an event is not sent to a destination: its URL does not say so, and the backend would take
/// the event for a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// A test.
    Test,
    /// A reversal of a grant.
    Revoke,
    /// An event without effect, such as a pending state, of a sender that also grants.
    NoEffect,
}

impl Withheld {
    /// A sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Test => "a test event, and the URL has neither {test} nor {effect}",
            Self::Revoke => {
                "takes a reward back, and the URL has none of {effect}, {kind} and {reverses}"
            }
            Self::NoEffect => "grants nothing, and the URL has neither {effect} nor {kind}",
        }
    }
}

impl UrlFacts {
    /// The facts that the URL of `destination` states; `None`: it gets the event or the callback.
    #[must_use]
    pub fn of(destination: &Destination) -> Option<Self> {
        match destination.format {
            Format::Event | Format::Forward | Format::Message(_) => None,
            // A test is marked in every URL of a reward rule.
            Format::Macros => Some(Self { test: true, ..Self::default() }),
            // A URL that cannot be read is called for nothing.
            Format::Template => {
                UrlTemplate::parse(&destination.url).ok().map(|url| Self::in_url(&url))
            }
        }
    }

    fn in_url(url: &UrlTemplate) -> Self {
        let mut facts = Self::default();
        for Written { key, bracket, .. } in url.placeholders() {
            match Placeholder::of(bracket, key) {
                Placeholder::Member("effect") => facts.effect = true,
                Placeholder::Member("kind") => facts.kind = true,
                Placeholder::Member("test") => facts.test = true,
                Placeholder::Member("reverses") => facts.reverses = true,
                _ => {}
            }
        }
        facts
    }

    /// Why an event of a sender with these `effects` is withheld; `None`: it is sent.
    #[must_use]
    pub fn withholds(self, event: &EventNature<'_>, effects: &SenderEffects) -> Option<Withheld> {
        // A test has the kind of what it tests.
        if event.test {
            return (!self.effect && !self.test).then_some(Withheld::Test);
        }
        let is_told =
            self.effect || (self.kind && effects.of_kinds.get(event.kind) == Some(&event.effect));
        let names_it = self.reverses && event.reverses.is_some_and(|of| !of.is_empty());
        match event.effect {
            Effect::Revoke if !is_told && !names_it => Some(Withheld::Revoke),
            Effect::None if !is_told && effects.mixes_grants => Some(Withheld::NoEffect),
            Effect::Grant | Effect::Revoke | Effect::None => None,
        }
    }

    /// The reasons for which events of `source` are withheld, as far as its sender's file has such
    /// events.
    pub(super) fn withheld_of(self, source: &Source) -> Vec<Withheld> {
        let sender = source.recipe.sender();
        let effects = sender.effects();
        let mut all = Vec::new();
        let mut try_out = |effect, test| {
            let event = EventNature { effect, kind: "", test, reverses: None };
            all.extend(self.withholds(&event, &effects));
        };
        if sender.has_tests() {
            try_out(Effect::None, true);
        }
        let of_kinds = |wanted| effects.of_kinds.values().any(|effect| *effect == wanted);
        if sender.revokes() && !(self.reverses || (self.kind && of_kinds(Effect::Revoke))) {
            try_out(Effect::Revoke, false);
        }
        if !(self.kind && of_kinds(Effect::None)) {
            try_out(Effect::None, false);
        }
        all
    }
}

/// Notes every placeholder of the URL of `to` that is ambiguous for events of `source`, at `key` of
/// `section`.
pub(super) fn check(section: &Section<'_>, key: &str, source: &Source, to: &Destination) {
    if to.format != Format::Template {
        return;
    }
    // A URL that cannot be read was reported where the URL was read.
    let Ok(template) = UrlTemplate::parse(&to.url) else { return };
    for written in template.placeholders() {
        if let Some((what, remedy)) = ambiguity(source, written) {
            section.fault(key, what, remedy);
        }
    }
}

/// Names in `[…]` that only signature texts read, and `header.NAME`.
const OF_SIGNATURES: [&str; 5] = ["secret", "body", "query", "url", "method"];

/// Notes every `[key]` of the URL of `to` that is nothing for any of `sources`, those that deliver
/// to it, at `key` of `section`.
pub(super) fn check_known(section: &Section<'_>, key: &str, sources: &[&Source], to: &Destination) {
    if to.format != Format::Template || sources.is_empty() {
        return;
    }
    let Ok(template) = UrlTemplate::parse(&to.url) else { return };
    for written in template.placeholders() {
        let Placeholder::Known(name) = Placeholder::of(written.bracket, written.key) else {
            continue;
        };
        let is_made = |source: &&Source| source.recipe.template_names().contains(&name);
        if name != "reason" && !SURVEY_VALUES.contains(&name) && !sources.iter().any(is_made) {
            let is_theirs = OF_SIGNATURES.contains(&name) || name.starts_with("header.");
            let what = match is_theirs {
                true => "may not be read here: only signature texts read it",
                false => "is not a value that is known here, nor a pair of a source's template",
            };
            let what =
                format!("`[{name}]` (column {} of the path of {}) {what}", written.column, to.name);
            let remedy = format!("write {{{name}}} for a parameter, or [[{name}]] for plain text");
            section.fault(key, what, remedy);
        }
    }
}

/// The ambiguity of a placeholder, and how to write what is meant.
fn ambiguity(source: &Source, written: Written<'_>) -> Option<(String, String)> {
    let Written { key, bracket, column } = written;
    // A name with its prefix says what it is.
    let Placeholder::Member(name) = Placeholder::of(bracket, key) else { return None };
    if name != key {
        return None;
    }
    let role = Role::from_name(name);
    let (shown, other, spelling) = match bracket {
        Bracket::Came if source.recipe.reads_apart(name, role) => {
            let sender = source.recipe.sender().name();
            let other = format!("a parameter of {sender} with another meaning");
            (format!("{{{name}}}"), other, format!("{{params.{name}}} is the parameter"))
        }
        Bracket::Known if source.recipe.makes_apart(name) => {
            let other = String::from("a pair of the source's template with another value");
            (format!("[{name}]"), other, format!("[resolved.{name}] is the pair"))
        }
        _ => return None,
    };
    let what = format!(
        "`{shown}` (column {column} of the path) is ambiguous for the source {}: a member of the \
         event, and {other}",
        source.name
    );
    Some((what, format!("write {{event.{name}}} for the member; {spelling}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Catalog;

    fn withheld(url: &str, sender: &str, event: &EventNature<'_>) -> Option<Withheld> {
        let facts = UrlFacts::in_url(&UrlTemplate::parse(url).unwrap());
        facts.withholds(event, &Catalog::embedded().unwrap().get(sender).unwrap().effects())
    }

    /// The table of docs/configuration.md.
    #[test]
    fn a_url_gets_what_it_can_tell_from_a_grant() {
        use Withheld::{NoEffect, Revoke, Test};
        let grant =
            EventNature { effect: Effect::Grant, kind: "event", test: false, reverses: None };
        let test = EventNature { effect: Effect::None, test: true, ..grant };
        let revoke =
            EventNature { effect: Effect::Revoke, kind: "reversal", reverses: Some("t"), ..grant };
        let pending = EventNature { effect: Effect::None, kind: "pending", ..grant };
        for (placeholders, expected) in [
            (
                "u={user}&n={amount}&t={transaction}",
                [None, Some(Test), Some(Revoke), Some(NoEffect)],
            ),
            ("e={params.effect}&t={params.test}", [None, Some(Test), Some(Revoke), Some(NoEffect)]),
            ("e={effect}", [None; 4]),
            ("e=[effect]", [None; 4]),
            ("(e={event.effect})?", [None; 4]),
            ("t={test}", [None, None, Some(Revoke), Some(NoEffect)]),
            ("k=[kind]", [None, Some(Test), None, None]),
            ("r={reverses}", [None, Some(Test), None, Some(NoEffect)]),
        ] {
            let url = format!("https://a.example/{{user}}?{placeholders}");
            let found =
                [grant, test, revoke, pending].map(|event| withheld(&url, "bitlabs", &event));
            assert_eq!(found, expected, "{placeholders}");
        }
    }

    #[test]
    fn a_kind_tells_only_what_it_always_means() {
        let url = "https://a.example/?k={kind}";
        let plain =
            EventNature { effect: Effect::None, kind: "event", test: false, reverses: None };
        // Of IMUR's events some are grants and some are not, all of one kind.
        assert_eq!(withheld(url, "imur-idip", &plain), Some(Withheld::NoEffect));
        let order = EventNature { kind: "payment", ..plain };
        assert_eq!(withheld(url, "kuaishou-pay", &order), Some(Withheld::NoEffect));
        // A refund that failed takes nothing back, and names what it would have taken.
        let failed = EventNature { kind: "refund", reverses: Some("o1"), ..plain };
        for url in [url, "https://a.example/?r={reverses}"] {
            assert_eq!(withheld(url, "kuaishou-pay", &failed), Some(Withheld::NoEffect), "{url}");
        }
        // Where nothing is a grant, nothing is taken for one.
        assert_eq!(withheld("https://a.example/", "github", &plain), None);
        assert_eq!(withheld("https://a.example/", "unsigned", &plain), None);
    }
}
