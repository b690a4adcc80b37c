//! Reads a sender file as written into its definition, and collects all errors.

mod facts;
mod identity;
mod signature;
mod soundness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::{
    Basis, Challenge, Claim, EventList, Pasted, Precedence, Probes, Reads, Root, Sender,
    SenderRetries, SenderRouting, SignatureVariant, Test, TokenRule,
};
use crate::sender::acts::reply::Rows;
use crate::sender::acts::resolved::Role;
use crate::sender::crypto::public_key::Scheme;
use crate::sender::language::bound::unknown_here;
use crate::sender::language::condition::Condition;
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::file::{self, File, Many};
use crate::sender::language::text::{Piece, Spot, Strictness, Text};
use crate::sender::language::time;
use crate::sender::language::vector::Vector;

/// Reads a file and collects its mistakes.
pub(super) struct Reader {
    pub(super) faults: Vec<DefinitionError>,
    /// The names that `[name]` may have besides those of the gateway: settings, and `[known]`.
    named: Vec<String>,
}

impl Reader {
    pub(super) fn new(file: &File) -> Self {
        let named = file.settings.keys().chain(file.known.keys()).cloned().collect();
        Self { faults: Vec::new(), named }
    }

    pub(super) fn sender(&mut self, name: &str, text: &str, file: File) -> Sender {
        let paste = file.paste.as_deref().map(|paste| self.paste(paste)).unwrap_or_default();
        let token = file.jws.and_then(|jws| self.token(&jws));
        if token.is_some() && file.signature.is_some() {
            self.fault("jws", "stands beside [signature]", "write one of the two");
        }
        let mut variants = self.variants(file.signature);
        variants.extend(token.iter().flat_map(TokenRule::variants));
        let opening = token.as_ref().and_then(TokenRule::opening);
        if opening.is_some() && file.open.is_some() {
            self.fault("open", "stands beside a token that is the message", "take one out");
        }
        let kinds = self.kinds(file.kind);
        if file.events.is_none() && !file.event.is_empty() {
            let remedy = "name the placeholder of an event's name: by = \"{Event}\"";
            self.fault("events", "is missing", remedy);
        }
        let root = self.word(
            "root",
            file.root.as_deref(),
            &[("object", Root::Object), ("list", Root::List)],
        );
        let sender = Sender {
            name: name.to_owned(),
            title: file.title,
            aliases: file.aliases.into_vec(),
            docs: file.docs.into_vec(),
            basis: file.basis.and_then(|basis| self.basis(&basis)),
            unconfirmed: file.unconfirmed.into_vec(),
            secret: file.secret,
            weak: file.weak,
            methods: self.methods(file.method),
            reads: self.reads(file.reads),
            root,
            each: file.each.map(|each| EventList::read(self, &each, root)),
            paste,
            appends: file.appends.into_vec(),
            unsigned: file.unsigned,
            from_client: self.client_roles(file.from_client),
            masked: self.masked(file.masked),
            header_names: self.header_names(file.header_names),
            addresses: file.addresses.into_vec(),
            settings: self.settings(file.settings),
            lists: self.lists(file.lists),
            ours: self.ours(file.ours),
            roles: self.roles("roles", file.roles),
            shapes: self.shapes(file.shapes),
            identity: self.identity(file.identity),
            time: file.time.and_then(|time| self.time(&time)),
            known: self.known(file.known),
            codes: file.codes,
            challenge: file.challenge.map(|one| self.challenge(one)).unwrap_or_default(),
            test: file.test.map(|test| self.test(test)).unwrap_or_default(),
            events: file.events.and_then(|events| self.events(&events, file.event, &kinds)),
            kinds,
            open: file.open.and_then(|open| self.open(&open)).or(opening),
            key_set: self.key_list(file.key_set, file.certificate, token.as_ref()),
            token,
            confirm: file.confirm.and_then(|one| self.confirm(&one)),
            countersign: file.countersign.and_then(|sign| self.countersign(sign)),
            retries: self.retries(file.patience),
            routing: self.routing(file.routing),
            variants,
            replies: self.rows("reply", &file.reply),
            vectors: self.vectors(file.vector),
            text: text.to_owned(),
        };
        self.whole(&sender);
        sender
    }

    /// Checks of the file as a whole.
    fn whole(&mut self, sender: &Sender) {
        if !sender.roles.texts.has(Role::Transaction) {
            self.fault("roles.transaction", "is missing", "name what identifies a transaction");
        }
        let asks = [&sender.test.probes, &sender.challenge.probes];
        let is_probed = asks.contains(&&Probes::Unsigned);
        for method in [Method::HEAD, Method::OPTIONS] {
            if sender.methods.contains(&method) && !is_probed {
                let remedy = format!(
                    "{method} is only a probe: [test] when = \"[method] is {method}\", signed = false"
                );
                self.fault("method", &format!("takes {method} as a callback"), &remedy);
            }
        }
        if !sender.challenge.when.is_empty() && !sender.replies.has("challenge") {
            self.fault("reply.challenge", "is missing", "add the reply to an address check");
        }
        let listed = sender.variants.iter().any(|variant| variant.reads("public_key"));
        match &sender.key_set {
            None if listed => {
                self.fault("key_set", "is missing", "name the place of [public_key]");
            }
            Some(_) if !listed => {
                self.fault("key_set", "is read by no signature", "write key = \"[public_key]\"");
            }
            _ => {}
        }
        for alias in &sender.aliases {
            if alias.is_empty() || *alias == sender.name || *alias != alias.to_lowercase() {
                let what = format!("has {alias:?}");
                self.fault("aliases", &what, "list other names than the file's, in small letters");
            }
        }
        let schemes = sender.variants.iter().filter_map(|variant| variant.public);
        let is_weak = schemes.map(|public| public.scheme).any(Scheme::is_weak);
        if is_weak != sender.weak.is_some() {
            let remedy = "write weak = \"why\" where a signature is weak, and only there";
            self.fault("weak", "does not fit the signatures", remedy);
        }
        if let Some(token) = &sender.token {
            for (name, claim) in &token.claims {
                let Claim::Setting(setting) = claim else { continue };
                if !sender.settings.iter().any(|(known, _)| known == setting) {
                    let key = format!("jws.claims.{name}");
                    self.fault(key, "is not a setting", "name it in [settings]");
                }
            }
            if token.is_for_anybody() && sender.ours.is_empty() {
                let remedy =
                    "name what belongs to a source in [ours], or a claim that is a setting";
                self.fault("jws", "verifies for everybody alike", remedy);
            }
        }
        for (name, _) in &sender.ours {
            if !sender.settings.iter().any(|(setting, _)| setting == name) {
                self.fault(format!("ours.{name}"), "is not a setting", "name it in [settings]");
            }
        }
        EventList::check(self, sender);
        if self.faults.is_empty() {
            self.sound(sender); // a text with a mistake of its own reads nothing
        }
        self.required(sender);
    }

    /// Reports what every file needs and this one lacks.
    fn required(&mut self, sender: &Sender) {
        for row in ["accepted", "rejected", "unavailable"] {
            if !sender.replies.has(row) {
                self.fault(format!("reply.{row}"), "is missing", "add it: every file needs it");
            }
        }
        if sender.secret.is_none() && sender.variants.iter().any(SignatureVariant::needs_secret) {
            let remedy = "write secret = \"what the sender calls it\" at the top of the file";
            self.fault("secret", "is missing: the signature needs one", remedy);
        }
        let is_accepted = |vector: &Vector| vector.expects("outcome", "accepted");
        // A vector with a mistake of its own may be the accepted one.
        let is_faulty = self.faults.iter().any(|fault| fault.key.starts_with("vector["));
        if !is_faulty && !sender.vectors.iter().any(is_accepted) {
            self.fault("vector", "none is accepted", "add an accepted vector: it is required");
        }
    }

    pub(super) fn fault(&mut self, key: impl Into<String>, what: &str, remedy: &str) {
        self.faults.push(DefinitionError::new(key, what, remedy));
    }

    /// A text at `key`; an empty one when it is none.
    pub(super) fn text(&mut self, key: &str, text: &str, strictness: Strictness) -> Text {
        match Text::parse(text, strictness) {
            Ok(text) => {
                self.placeholders(key, text.spots());
                text
            }
            Err(fault) => {
                self.faults.push(fault.under(key));
                Text::default()
            }
        }
    }

    /// Reports placeholders in square brackets whose name means nothing, whatever the source.
    fn placeholders<'s>(&mut self, key: &str, spots: impl Iterator<Item = &'s Spot>) {
        let unknown = spots.filter_map(|spot| unknown_here(spot, &self.named));
        self.faults.extend(unknown.map(|fault| fault.under(key)));
    }

    pub(super) fn conditions(
        &mut self,
        key: &str,
        texts: Many<file::ConditionText>,
    ) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for text in texts.into_vec() {
            let read = match &text {
                file::ConditionText::One(text) => Condition::parse(text),
                file::ConditionText::All(several) => Condition::parse_all(&several.all),
            };
            match read {
                Ok(condition) => {
                    self.placeholders(key, condition.spots());
                    conditions.push(condition);
                }
                Err(fault) => self.faults.push(fault.under(key)),
            }
        }
        conditions
    }

    fn basis(&mut self, basis: &str) -> Option<Basis> {
        match basis {
            "documentation" => Some(Basis::Documentation),
            "implementations" => Some(Basis::Implementations),
            _ => {
                self.fault("basis", &format!("`{basis}`"), "use documentation or implementations");
                None
            }
        }
    }

    fn methods(&mut self, methods: Many<String>) -> Vec<Method> {
        let mut known = Vec::new();
        for method in methods.into_vec() {
            match method.as_str() {
                "GET" => known.push(Method::GET),
                "POST" => known.push(Method::POST),
                "PUT" => known.push(Method::PUT),
                "PATCH" => known.push(Method::PATCH),
                "DELETE" => known.push(Method::DELETE),
                "HEAD" => known.push(Method::HEAD),
                "OPTIONS" => known.push(Method::OPTIONS),
                _ => {
                    let remedy =
                        "use GET, POST, PUT, PATCH, DELETE, or for a probe HEAD or OPTIONS";
                    self.fault("method", &format!("`{method}`"), remedy);
                }
            }
        }
        if known.is_empty() { vec![Method::GET] } else { known }
    }

    fn reads(&mut self, reads: Many<String>) -> Vec<Reads> {
        let mut known = Vec::new();
        for place in reads.into_vec() {
            match place.as_str() {
                "query" => known.push(Reads::Query),
                "form" => known.push(Reads::Form),
                "json" => known.push(Reads::Json),
                "xml" => known.push(Reads::Xml),
                _ => self.fault("reads", &format!("`{place}`"), "use query, form, json or xml"),
            }
        }
        if known.is_empty() { vec![Reads::Query] } else { known }
    }

    fn paste(&mut self, paste: &str) -> Vec<Pasted> {
        let mut pairs = Vec::new();
        for pair in paste.split('&') {
            match pair.split_once('=') {
                Some((name, value)) => {
                    pairs.push(Pasted { name: name.to_owned(), value: value.to_owned() });
                }
                None => self.fault("paste", &format!("`{pair}` has no `=`"), "write name=MACRO"),
            }
        }
        pairs
    }

    fn settings(&mut self, settings: toml::Table) -> Vec<(String, String)> {
        let mut known = Vec::new();
        for (name, about) in settings {
            match about.as_str() {
                Some(about) => known.push((name, about.to_owned())),
                None => self.fault(
                    format!("settings.{name}"),
                    "must be a string",
                    "describe the setting",
                ),
            }
        }
        known
    }

    fn ours(&mut self, written: BTreeMap<String, String>) -> Vec<(String, Text)> {
        let read = |(name, text): (String, String)| {
            let text = self.text(&format!("ours.{name}"), &text, Strictness::Strict);
            (name, text)
        };
        written.into_iter().map(read).collect()
    }

    /// A text that is one placeholder.
    pub(super) fn spot(&mut self, key: &str, text: &str) -> Option<Spot> {
        let text = self.text(key, text, Strictness::Strict);
        match text.pieces.as_slice() {
            [Piece::Value(spot)] => Some(spot.clone()),
            _ => {
                self.fault(key, "is not one placeholder", "write one: {name}");
                None
            }
        }
    }

    fn masked(&mut self, texts: Many<String>) -> Vec<Spot> {
        let mut masked = Vec::new();
        for text in texts.into_vec() {
            let spot = self.spot("masked", &text);
            if spot.as_ref().is_some_and(|spot| !spot.came() || !spot.modifiers.is_empty()) {
                self.fault("masked", &format!("`{text}` is not a parameter"), "write {name}");
            }
            masked.extend(spot);
        }
        masked
    }

    fn header_names(&mut self, names: BTreeMap<String, String>) -> Vec<(HeaderName, HeaderName)> {
        let mut known = Vec::new();
        for (name, other) in names {
            match (name.parse(), other.parse()) {
                (Ok(name), Ok(other)) => known.push((name, other)),
                _ => {
                    let what = format!("`{name} = {other}` is not two header names");
                    self.fault("header_names", &what, "write name = \"other name\"");
                }
            }
        }
        known
    }

    fn challenge(&mut self, challenge: file::Challenge) -> Challenge {
        let open = challenge.open.as_deref();
        Challenge {
            when: self.conditions("challenge.when", challenge.when),
            open: open.map(|text| self.text("challenge.open", text, Strictness::Strict)),
            probes: Probes::from_signed(challenge.signed),
        }
    }

    fn test(&mut self, test: file::Test) -> Test {
        Test {
            when: self.conditions("test.when", test.when),
            probes: Probes::from_signed(test.signed),
            flag: self.conditions("test.flag", test.flag),
            unsigned: test.unsigned.map(Box::from),
        }
    }

    fn retries(&mut self, patience: file::RetriesTable) -> SenderRetries {
        let mut length = |key: &str, text: &str| match time::duration_ms(text) {
            Some(ms) => Some(Duration::from_millis(ms.unsigned_abs())),
            None => {
                self.fault(format!("patience.{key}"), "is not a duration", "write 2s, 5m, 8d");
                None
            }
        };
        let timeout = patience.timeout.as_deref().and_then(|text| length("timeout", text));
        let horizon = patience.horizon.as_deref().and_then(|text| length("horizon", text));
        let (retries, gaps) = match patience.retries {
            None => (None, Vec::new()),
            Some(file::Retries::Count(count)) => (Some(count), Vec::new()),
            Some(file::Retries::Gaps(gaps)) => {
                let gaps: Vec<_> = gaps.iter().filter_map(|gap| length("retries", gap)).collect();
                (u32::try_from(gaps.len()).ok(), gaps)
            }
        };
        let horizon = horizon.or_else(|| (!gaps.is_empty()).then(|| gaps.iter().sum()));
        SenderRetries { timeout, retries, gaps, horizon, when: patience.when }
    }

    fn routing(&mut self, routing: file::Routing) -> SenderRouting {
        SenderRouting {
            address: self.pair("routing.address", routing.address),
            message: self.pair("routing.message", routing.message),
            precedes: routing.precedes.map(|precedes| Precedence {
                sender: precedes.sender,
                parameter: self.parameter("routing.precedes.by", &precedes.by),
            }),
        }
    }

    fn pair(&mut self, key: &str, texts: Option<[String; 2]>) -> Option<Arc<[String; 2]>> {
        texts.map(|texts| Arc::new(texts.map(|text| self.parameter(key, &text))))
    }

    /// The name of the parameter that a text is.
    fn parameter(&mut self, key: &str, text: &str) -> String {
        let spot = self.spot(key, text);
        if spot.as_ref().is_some_and(|spot| !spot.came() || !spot.modifiers.is_empty()) {
            self.fault(key, &format!("`{text}` is not a parameter"), "write {name}");
        }
        spot.map(|spot| spot.key).unwrap_or_default()
    }

    fn word<T: Copy + Default>(&mut self, key: &str, text: Option<&str>, words: &[(&str, T)]) -> T {
        let Some(text) = text else { return T::default() };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *value,
            None => {
                let list: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                self.fault(key, &format!("`{text}`"), &format!("use {}", list.join(", ")));
                T::default()
            }
        }
    }

    fn rows(&mut self, key: &str, table: &toml::Table) -> Rows {
        let (rows, faults) = Rows::parse(table);
        self.faults.extend(faults.into_iter().map(|fault| fault.under(key)));
        for name in rows.names() {
            let spots = rows.texts_of(name).into_iter().flat_map(Text::spots);
            self.placeholders(&format!("{key}.{name}"), spots);
        }
        rows
    }

    fn vectors(&mut self, vectors: Vec<file::Vector>) -> Vec<Vector> {
        let mut known = Vec::new();
        for (index, vector) in vectors.into_iter().enumerate() {
            match Vector::parse(vector) {
                Ok(vector) => known.push(vector),
                Err(faults) => {
                    let at = format!("vector[{index}]");
                    self.faults.extend(faults.into_iter().map(|fault| fault.under(&at)));
                }
            }
        }
        known
    }
}
