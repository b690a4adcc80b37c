//! Compilation: a sender's file and the terms of one source make a recipe.

mod derived;

use std::collections::HashMap;
use std::sync::Arc;

use self::derived::{
    echoed, headers, keys_of, masked, protection, setting_in, strangers, unsigned, when_body,
};
use super::keys::known_keys;
use super::{
    Also, Countersign, EventRow, Events, Freshness, Kind, LiveSecret, MaxAge, Opener, Protection,
    Recipe, Terms, Token, Weak, WhenBody,
};
use crate::sender::acts::reply::Rows;
use crate::sender::acts::resolved::Role;
use crate::sender::acts::signature::{self, SignatureVariant};
use crate::sender::crypto::jws::TokenPart;
use crate::sender::language::bound::{Binder, Bound, Gate, Use, file_names};
use crate::sender::language::condition::Condition;
use crate::sender::language::coverage::Shaping;
use crate::sender::language::definition::{
    Cipher, Claim, EventTable, FormerKind, Open, RoleText, Roles, Sender, TokenRule,
};
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::text::{Piece, Strictness, Text, is_key};
use crate::sender::request::names::Slot;
use crate::sender::request::unreplaced::Macros;

/// A compiler of one recipe. Collects the errors of its source.
#[derive(Default)]
pub(super) struct Compiler {
    pub(super) errors: Vec<DefinitionError>,
}

impl Compiler {
    pub(super) fn recipe(
        &mut self,
        sender: &Arc<Sender>,
        binder: &mut Binder<'_>,
    ) -> Option<Recipe> {
        self.secrets(sender, binder.terms);
        self.file_names(sender, binder);
        let file_slots = binder.names.len();
        let lists = self.lists(sender, binder);
        self.confirmed(sender, binder.terms);
        let shaping = Shaping::new(binder);
        let variants = self.variants(sender, binder, &shaping);
        let key_list = sender.key_set.as_ref().and_then(|set| self.key_list(set, binder));
        let open = sender.open.as_ref().and_then(|open| self.opener(open, binder));
        let challenge = self.gate(&sender.challenge.when, binder, Gate::Never);
        let challenge_open = self.challenge_open(sender, binder);
        let test = self.gate(&sender.test.when, binder, Gate::Never);
        let flag = self.gate(&sender.test.flag, binder, Gate::Never);
        let kinds = self.kinds(sender, binder, &shaping);
        let events = sender.events.as_ref().and_then(|events| self.events(events, binder));
        let roles = self.own_roles(sender, binder)?;
        let identity = self.take(binder.identity(&sender.identity), "")?;
        self.pinnable(&roles, binder.terms);
        let template = self.template(binder);
        let own_replies = self.own_replies(binder);
        let replies =
            self.take(sender.replies.bind(&mut |spot| binder.spot(spot, Use::Reply)), "reply")?;
        let supplied_signatures = signature::supplied_slots(&variants);
        let masked = masked(&variants, &kinds, &self.masked(sender, binder));
        let mut recipe = Recipe {
            sender: Arc::clone(sender),
            source: binder.terms.source.clone(),
            renames: binder.renames.clone(),
            file_slots,
            secrets: binder.terms.secrets.clone(),
            protection: protection(sender, binder.terms),
            replay: binder.terms.replayable,
            unsigned: unsigned(&supplied_signatures, key_list.as_ref()),
            supplied_signatures,
            masked,
            variants,
            key_list,
            headers: headers(sender),
            known_keys: known_keys(binder.terms),
            lists,
            time: self.freshness(sender, binder),
            require: self.require(binder),
            body: WhenBody::AfterVerification,
            open,
            token: sender.token.as_ref().and_then(|token| self.token(token, binder)),
            challenge,
            challenge_open,
            echoed: echoed(&own_replies, &replies),
            test,
            flag,
            kinds,
            events,
            roles,
            identity,
            known: self.known(sender, binder),
            template,
            own_replies,
            replies,
            countersign: self.countersign(sender, binder),
            confirmation: self.confirmation(sender, binder),
            macros: Macros::new(sender, binder),
            rewards: binder.terms.rewards.clone(),
            ours: self.ours(sender, binder),
            names: std::mem::take(&mut binder.names),
        };
        recipe.body = when_body(&recipe);
        recipe.names.strangers = strangers(&recipe);
        self.check_coverage(&mut recipe);
        Some(recipe)
    }

    /// Gives every name that the file reads a slot.
    fn file_names(&mut self, sender: &Sender, binder: &mut Binder<'_>) {
        for name in file_names(sender) {
            let reserved = binder.reserve(&name);
            self.take(reserved, "params");
        }
    }

    fn lists(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Vec<Text<Bound>> {
        let texts = sender.lists.iter().map(|list| &list.of);
        texts.filter_map(|text| self.take(binder.text(text, Use::Signed), "lists")).collect()
    }

    fn challenge_open(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Option<Text<Bound>> {
        let text = sender.challenge.open.as_ref()?;
        self.take(binder.text(text, Use::Signed), "challenge.open")
    }

    fn check_coverage(&mut self, recipe: &mut Recipe) {
        self.covered_time(recipe);
        self.covered_kinds(recipe);
    }

    pub(super) fn take<T>(&mut self, result: Result<T, DefinitionError>, key: &str) -> Option<T> {
        result.map_err(|fault| self.errors.push(fault.under(key))).ok()
    }

    pub(super) fn fault(&mut self, key: impl Into<String>, what: &str, remedy: &str) {
        self.errors.push(DefinitionError::new(key, what, remedy));
    }

    fn gate(&mut self, conditions: &[Condition], binder: &mut Binder<'_>, unsaid: Gate) -> Gate {
        if conditions.is_empty() {
            return unsaid;
        }
        self.take(binder.gate(conditions), "when").unwrap_or(Gate::Never)
    }

    fn secrets(&mut self, sender: &Sender, terms: &Terms) {
        if terms.secrets.len() > Terms::SECRETS_MAX {
            self.fault("secrets", "has more than four", "remove the expired ones");
        }
        if terms.secrets.iter().any(|secret| secret.value.expose().is_empty()) {
            self.fault("secrets", "contains an empty value", "write the value");
        }
        let signed = !sender.variants.is_empty() && sender.secret.is_some();
        // Certificates are fetched unless a source pins them.
        let is_needed = signed && sender.certificate_hosts().is_none();
        if is_needed && terms.secrets.is_empty() && !terms.unsigned && terms.keys.is_empty() {
            let about = sender.secret.as_deref().unwrap_or_default();
            let remedy = format!("set it to the {}", without_article(about));
            self.fault("secrets", "is missing", &remedy);
        }
        if terms.unsigned && !terms.secrets.is_empty() {
            self.fault("unsigned", "is set together with a secret", "remove one of the two");
        }
        if terms.unsigned && !sender.may_be_unsigned() {
            self.fault(
                "unsigned",
                "does not apply to this sender: it signs its callbacks",
                "set its secret; if it does not sign for you, use a copy of its file without [signature]",
            );
        }
        if sender.secret.is_none() && !sender.variants.is_empty() && !terms.secrets.is_empty() {
            let what = "do not apply to this sender: it signs with its own private key";
            self.fault("secrets", what, "remove them");
        }
        if let (Some(why), Weak::Rejected) = (&sender.weak, terms.weak) {
            let remedy = "write weak = true, and do not rely on the signature alone";
            self.fault(
                "weak",
                &format!("is missing: this sender's signature is weak ({why})"),
                remedy,
            );
        }
        for name in terms.settings.keys() {
            let of_list = name == Terms::KEY_SET_URL && sender.key_set.is_some();
            if !of_list && !sender.settings.iter().any(|(setting, _)| setting == name) {
                self.fault(name, "is not a setting of this sender", "see `postern senders NAME`");
            }
        }
    }

    fn variants(
        &mut self,
        sender: &Sender,
        binder: &mut Binder<'_>,
        shaping: &Shaping,
    ) -> Vec<SignatureVariant> {
        let mut variants = Vec::new();
        for (index, variant) in sender.variants.iter().enumerate() {
            match signature::compile(index, variant, binder, shaping) {
                Ok(Some(variant)) => variants.push(variant),
                Ok(None) => {}
                Err(fault) => self.errors.push(fault.under("signature")),
            }
        }
        signature::relate(&mut variants, &sender.variants);
        self.separable_secrets(&variants, binder.terms);
        if variants.is_empty() && protection(sender, binder.terms) == Protection::Signed {
            let remedy = "set what its signature needs; see `postern senders NAME`";
            self.fault("signature", "no variant can ever apply", remedy);
        }
        for index in 0..binder.terms.secrets.len() {
            let usable = variants.iter().any(|variant| variant.can_use(index));
            if !usable && !variants.is_empty() {
                let remedy = "check how the sender writes it (prefix, base64)";
                self.fault(secret_key(binder.terms, index), "fits no signature", remedy);
            }
        }
        variants
    }

    /// Checks that no secret begins or ends another one, where a secret separates the values of a
    /// signed text: such a text could be parsed in two ways.
    fn separable_secrets(&mut self, variants: &[SignatureVariant], terms: &Terms) {
        if !variants.iter().any(SignatureVariant::separates_by_secret) {
            return;
        }
        let borders = |long: &LiveSecret| {
            let long = long.value.expose();
            terms.secrets.iter().map(|short| short.value.expose()).any(|short| {
                short.len() < long.len() && (long.starts_with(short) || long.ends_with(short))
            })
        };
        for (index, _) in terms.secrets.iter().enumerate().filter(|(_, long)| borders(long)) {
            let what = "begins or ends with another secret of the source";
            let remedy = "replace one of the two: where they meet, values could be exchanged";
            self.fault(secret_key(terms, index), what, remedy);
        }
    }

    fn own_roles(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Option<Roles<Bound>> {
        let mut roles = self.take(binder.roles(&sender.roles), "")?;
        // The source names the parameter of a role that the file leaves open.
        for (name, wire) in &binder.terms.params.clone() {
            let Some(role) = Role::from_name(name) else { continue };
            if roles.texts.has(role) {
                continue;
            }
            let text = Text::parse(&format!("{{{wire}}}"), Strictness::Lenient);
            let of = text.and_then(|text| binder.text(&text, Use::Fact));
            if let Some(of) = self.take(of, &format!("params.{name}")) {
                let text = RoleText { of, when: Vec::new() };
                roles.texts.insert(role, vec![text]);
            }
        }
        Some(roles)
    }

    /// Checks that the sender names item and amount, if the source pins rewards.
    fn pinnable(&mut self, roles: &Roles<Bound>, terms: &Terms) {
        if terms.rewards.is_empty() {
            return;
        }
        for role in [Role::Item, Role::Amount] {
            if !roles.texts.has(role) {
                let what =
                    format!("need the {0}, and this sender does not name one", role.as_str());
                let remedy =
                    format!("name the parameter: params = {{ {} = \"…\" }}", role.as_str());
                self.fault("rewards", &what, &remedy);
            }
        }
    }

    fn opener(&mut self, open: &Open, binder: &mut Binder<'_>) -> Option<Opener> {
        if matches!(self.take(binder.gate(&open.when), "open.when")?, Gate::Never) {
            return None;
        }
        let of: Option<Vec<_>> = open
            .of
            .iter()
            .map(|text| self.take(binder.text(text, Use::Signed), "open.of"))
            .collect();
        let of = of?;
        let key = self.take(binder.text(&open.key, Use::Key), "open.key")?;
        let keys = keys_of(&key, &open.with, binder.terms);
        if let (None, Some(bytes)) = (&keys, open.with.key_bytes()) {
            let what = format!("is not a key of {bytes} bytes");
            let remedy = match &open.with {
                Cipher::Gcm { .. } => "copy it from the sender's console again, whole",
                _ => "set the sender's EncodingAESKey, 43 characters of base64",
            };
            self.fault(setting_in(&open.key), &what, remedy);
        }
        let frame = match &open.frame {
            None => Vec::new(),
            Some(frame) => self.frame(frame, binder)?,
        };
        let slot = signature::only_slot(of.first()?);
        let reads = match open.reads.as_slice() {
            [] => binder.sender.reads.clone(),
            reads => reads.to_vec(),
        };
        let with = self.cipher(&open.with, binder)?;
        Some(Opener { of, with, keys: keys?, frame, slot, reads })
    }

    fn cipher(&mut self, with: &Cipher, binder: &mut Binder<'_>) -> Option<Cipher<Bound>> {
        Some(match with {
            Cipher::Cbc { key, iv, pad } => Cipher::Cbc { key: *key, iv: *iv, pad: *pad },
            Cipher::Gcm { key, nonce, aad } => Cipher::Gcm {
                key: *key,
                nonce: self.take(binder.text(nonce, Use::Signed), "open.nonce")?,
                aad: self.take(binder.text(aad, Use::Signed), "open.aad")?,
            },
            Cipher::None => Cipher::None,
        })
    }

    fn token(&mut self, token: &TokenRule, binder: &mut Binder<'_>) -> Option<Token> {
        let payload = token.part(TokenPart::Payload);
        let payload = self.take(binder.text(&payload, Use::Signed), "jws.of")?;
        let mut claims = Vec::new();
        for (name, claim) in &token.claims {
            let claim = match claim {
                Claim::Setting(setting) => match binder.terms.settings.get(setting) {
                    Some(value) => {
                        let value = String::from_utf8_lossy(value.expose()).into_owned();
                        Claim::Words(vec![value])
                    }
                    None => {
                        let remedy = "set it: without it, the tokens of others are accepted";
                        self.fault(setting, "is missing", remedy);
                        continue;
                    }
                },
                other => other.clone(),
            };
            claims.push((name.clone(), claim));
        }
        Some(Token { payload, claims })
    }

    /// The ids that a message may end with: an optional one may also be absent.
    fn frame(&mut self, frame: &Text, binder: &mut Binder<'_>) -> Option<Vec<Vec<u8>>> {
        let text = self.take(binder.text(frame, Use::Key), "open.frame")?;
        let is_optional = matches!(text.pieces.as_slice(), [Piece::Optional(_)]);
        let id = signature::fixed(&text, &[]);
        if id.is_none() {
            self.fault(setting_in(frame), "is missing", "set it: sealed messages end with it");
        }
        let mut ids = vec![id?];
        if is_optional && !ids[0].is_empty() {
            ids.push(Vec::new());
        }
        Some(ids)
    }

    fn kinds(&mut self, sender: &Sender, binder: &mut Binder<'_>, shaping: &Shaping) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for kind in &sender.kinds {
            let key = format!("kind[{}]", kind.name);
            let also = match &kind.also {
                None => Also::None,
                Some(also) => match signature::compile(0, also, binder, shaping) {
                    Ok(Some(variant)) => Also::Signature(Box::new(variant)),
                    Ok(None) | Err(_) => Also::Lacking,
                },
            };
            let when = self.gate(&kind.when, binder, Gate::Never);
            let roles = self.take(binder.roles(&kind.roles), &key);
            let replies = kind.replies.bind(&mut |spot| binder.spot(spot, Use::Reply));
            let replies = self.take(replies, &key);
            let transaction = binder.role_texts(&kind.formerly.transaction, "formerly");
            let transaction = self.take(transaction, &key);
            if let (Some(roles), Some(replies), Some(transaction)) = (roles, replies, transaction) {
                let (name, stands) = (kind.name.clone(), kind.stands);
                let formerly = FormerKind { number: kind.formerly.number, transaction };
                kinds.push(Kind { name, when, roles, replies, also, stands, formerly });
            }
        }
        kinds
    }

    fn events(&mut self, events: &EventTable, binder: &mut Binder<'_>) -> Option<Events> {
        let by = events.by.iter().map(|by| self.take(binder.spot(by, Use::Fact), "events.by"));
        let by = by.collect::<Option<Vec<_>>>()?;
        let content = Text::parse("[content]", Strictness::Strict);
        let content = content.and_then(|text| binder.text(&text, Use::Fact));
        let content = self.take(content, "events")?;
        let (mut rows, mut index) = (Vec::new(), HashMap::new());
        for row in &events.rows {
            let key = format!("event[{}]", row.is.first().map_or("", String::as_str));
            let id = self.take(binder.role_texts(&row.id, "id"), &key);
            let roles = self.take(binder.roles(&row.roles), &key);
            let (Some(mut id), Some(roles)) = (id, roles) else { continue };
            id.push(RoleText { of: content.clone(), when: Vec::new() });
            for name in &row.is {
                if index.insert(name.as_bytes().into(), rows.len()).is_some() {
                    self.fault(format!("event[{name}]"), "is in two rows", "keep one of them");
                }
            }
            rows.push(EventRow { kind: row.kind, id, roles, volatile: row.volatile.clone() });
        }
        Some(Events { by, rows, index })
    }

    fn masked(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Vec<Bound> {
        let spots = sender.masked.iter();
        spots.filter_map(|spot| self.take(binder.spot(spot, Use::Fact), "masked")).collect()
    }

    fn known(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Vec<(String, Text<Bound>)> {
        let mut known = Vec::new();
        for (name, text) in &sender.known {
            let text = self.take(binder.text(text, Use::Fact), "known");
            known.extend(text.map(|text| (name.clone(), text)));
        }
        known
    }

    /// Checks that the source confirms only shapes that the file has.
    fn confirmed(&mut self, sender: &Sender, terms: &Terms) {
        for name in &terms.confirmed {
            if !sender.shapes.of.contains_key(name) {
                let known: Vec<&str> = sender.shapes.of.keys().map(String::as_str).collect();
                let remedy = match known.as_slice() {
                    [] => String::from("omit it: the sender's file has no shapes"),
                    _ => format!("use one of {}", known.join(", ")),
                };
                self.fault("confirmed", &format!("`{name}` has no shape"), &remedy);
            }
        }
    }

    fn template(&mut self, binder: &mut Binder<'_>) -> Vec<(String, Text<Bound>)> {
        let Some(template) = &binder.terms.template else { return Vec::new() };
        let mut pairs = Vec::new();
        let mut column = 1;
        for pair in template.split('&') {
            let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
            let offset = column + name.chars().count();
            let bound = Text::parse(text, Strictness::Strict)
                .and_then(|text| binder.text(&text, Use::Template))
                .map_err(|fault| {
                    let at = fault.column.map_or(offset, |at| at + offset);
                    fault.at(at)
                });
            if name.is_empty() || !is_key(name) {
                self.errors.push(
                    DefinitionError::new(
                        "template",
                        "has a pair without a name of letters, digits, `_`, `-` and `.`",
                        "write k=v&k=v",
                    )
                    .at(column),
                );
            }
            if let Some(text) = self.take(bound, "template") {
                pairs.push((name.to_owned(), text));
            }
            column += pair.chars().count() + 1;
        }
        pairs
    }

    fn own_replies(&mut self, binder: &mut Binder<'_>) -> Rows<Bound> {
        let (rows, faults) = Rows::parse(&binder.terms.reply);
        self.errors.extend(faults.into_iter().map(|fault| fault.under("reply")));
        let bound = rows.bind(&mut |spot| binder.spot(spot, Use::Reply));
        self.take(bound, "reply").unwrap_or_default()
    }

    fn freshness(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Option<Freshness> {
        let rule = sender.time.as_ref()?;
        let r#in = self.take(binder.text(&rule.r#in, Use::Fact), "time.in")?;
        let within = match binder.terms.max_age {
            None => rule.within,
            Some(MaxAge::Off) => None,
            Some(MaxAge::Within(age)) => {
                let ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Some((ms, ms))
            }
        };
        Some(Freshness { r#in, stamp: rule.stamp.clone(), zone: rule.zone, within })
    }

    fn require(&mut self, binder: &mut Binder<'_>) -> Vec<Slot> {
        let mut slots = Vec::new();
        for name in &binder.terms.require.clone() {
            slots.extend(self.take(binder.slot(name), "require"));
        }
        slots
    }

    fn countersign(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Option<Countersign> {
        let sign = sender.countersign.as_ref()?;
        let of = self.take(binder.text(&sign.of, Use::Signed), "countersign.of")?;
        let key = sign.key.as_ref().map(|key| binder.text(key, Use::Key)).transpose();
        let key = self.take(key, "countersign.key")?;
        let keyed = signature::keyed(&sign.with, key.as_ref(), &binder.terms.secrets);
        for (index, _) in keyed.iter().enumerate().filter(|(_, keyed)| keyed.is_none()) {
            let remedy = "check how the sender writes it (prefix, base64)";
            self.fault(secret_key(binder.terms, index), "is not a usable signing key", remedy);
        }
        Some(Countersign { of, with: sign.with.clone(), writing: sign.r#as, keyed })
    }
}

/// The key of a secret in its source: its place, where there are several.
fn secret_key(terms: &Terms, index: usize) -> String {
    match terms.secrets.len() {
        1 => String::from("secrets"),
        _ => format!("secrets[{index}]"),
    }
}

/// The name of a secret, without the article that some files write.
fn without_article(about: &str) -> &str {
    let articles = ["the ", "a ", "an ", "its ", "your "];
    articles.into_iter().find_map(|article| about.strip_prefix(article)).unwrap_or(about)
}
