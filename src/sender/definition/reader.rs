//! Reads a sender file as written into its definition, and collects every mistake.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use jiff::tz::Offset;

use super::{
    Basis, CUT_MAX, CUT_MIN, Chain, Challenge, Countersign, Each, EffectRule, Empty, EventRow,
    EventTable, First, Formerly, Identity, Iv, Kind, List, Open, Order, Pairs, Pasted, Patience,
    Probes, READINGS_MAX, Reading, Reads, Repeats, RoleText, Roles, Sender, Shapes, Stands, Step,
    Test, TimeRule, Uncovered, Which, Writing, reads,
};
use crate::sender::condition::Condition;
use crate::sender::digest::Algorithm;
use crate::sender::encoding::Plus;
use crate::sender::fault::Fault;
use crate::sender::file::{self, File, Many};
use crate::sender::recut::chains::NameOrder;
use crate::sender::reply::Rows;
use crate::sender::resolved::{AmountUnit, Effect, Role};
use crate::sender::shape::Shape;
use crate::sender::text::{Strictness, Text};
use crate::sender::time::{self, Stamp};
use crate::sender::value_shape::ValueShape;
use crate::sender::vector::Vector;

/// Reads a file and collects its mistakes.
pub(super) struct Reader {
    pub(super) faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn sender(&mut self, name: &str, text: &str, file: File) -> Sender {
        let paste = file.paste.as_deref().map(|paste| self.paste(paste)).unwrap_or_default();
        let readings = self.readings(file.signature);
        let kinds = self.kinds(file.kind);
        if file.events.is_none() && !file.event.is_empty() {
            self.fault("events", "is missing", "say what names an event: by = \"{Event}\"");
        }
        let sender = Sender {
            name: name.to_owned(),
            title: file.title,
            docs: file.docs.into_vec(),
            basis: file.basis.and_then(|basis| self.basis(&basis)),
            unconfirmed: file.unconfirmed.into_vec(),
            secret: file.secret,
            methods: self.methods(file.method),
            reads: self.reads(file.reads),
            paste,
            unsigned: file.unsigned,
            from_client: self.client_roles(file.from_client),
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
            open: file.open.and_then(|open| self.open(&open)),
            key_set: file.key_set.and_then(|set| self.key_set(set)),
            countersign: file.countersign.and_then(|sign| self.countersign(sign)),
            patience: self.patience(file.patience),
            readings,
            replies: self.rows("reply", &file.reply),
            vectors: self.vectors(file.vector),
            text: text.to_owned(),
        };
        self.whole(&sender);
        sender
    }

    /// What can only be said of the file as a whole.
    fn whole(&mut self, sender: &Sender) {
        if !sender.roles.texts.has(Role::Transaction) {
            self.fault("roles.transaction", "is not there", "say what identifies a transaction");
        }
        for row in ["accepted", "rejected", "unavailable"] {
            if !sender.replies.has(row) {
                self.fault(format!("reply.{row}"), "is not there", "every file says it");
            }
        }
        if !sender.challenge.when.is_empty() && !sender.replies.has("challenge") {
            self.fault("reply.challenge", "is not there", "say how the address check is answered");
        }
        let listed = sender.readings.iter().any(|reading| reading.reads("public_key"));
        match &sender.key_set {
            None if listed => self.fault("key_set", "is not there", "say where [public_key] is"),
            Some(_) if !listed => {
                self.fault("key_set", "is read by no signature", "write key = \"[public_key]\"");
            }
            _ => {}
        }
        for (name, _) in &sender.ours {
            if !sender.settings.iter().any(|(setting, _)| setting == name) {
                self.fault(format!("ours.{name}"), "is no setting", "name it in [settings]");
            }
        }
        self.client_shapes(sender);
        let accepted = sender.vectors.iter().any(|vector| vector.expects("outcome", "accepted"));
        if !accepted {
            self.fault("vector", "none is accepted", "add one: a file without does not load");
        }
    }

    pub(super) fn fault(&mut self, key: impl Into<String>, what: &str, remedy: &str) {
        self.faults.push(Fault::new(key, what, remedy));
    }

    /// A text at `key`; an empty one when it is none.
    pub(super) fn text(&mut self, key: &str, text: &str, strictness: Strictness) -> Text {
        match Text::parse(text, strictness) {
            Ok(text) => text,
            Err(fault) => {
                self.faults.push(fault.under(key));
                Text::default()
            }
        }
    }

    fn conditions(&mut self, key: &str, texts: Many<String>) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for text in texts.into_vec() {
            match Condition::parse(&text) {
                Ok(condition) => conditions.push(condition),
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
                _ => self.fault("method", &format!("`{method}`"), "use GET, POST or PUT"),
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

    fn client_roles(&mut self, names: Many<String>) -> Vec<Role> {
        let mut roles = Vec::new();
        for name in names.into_vec() {
            match Role::from_name(&name) {
                Some(role) => roles.push(role),
                None => self.fault("from_client", &format!("`{name}` is no role"), ROLES),
            }
        }
        roles
    }

    fn settings(&mut self, settings: toml::Table) -> Vec<(String, String)> {
        let mut known = Vec::new();
        for (name, about) in settings {
            match about.as_str() {
                Some(about) => known.push((name, about.to_owned())),
                None => self.fault(format!("settings.{name}"), "is no text", "say what it is"),
            }
        }
        known
    }

    fn lists(&mut self, lists: BTreeMap<String, file::List>) -> Vec<List> {
        let mut known = Vec::new();
        for (name, list) in lists {
            let key = format!("lists.{name}");
            let of = self.text(&format!("{key}.of"), &list.of, Strictness::Strict);
            match Shape::parse(&list.shape).filter(|shape| shape.within.is_some()) {
                Some(shape) => known.push(List { name, of, shape }),
                None => self.fault(format!("{key}.shape"), "is no example", SHAPES),
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

    fn roles(&mut self, key: &str, mut written: BTreeMap<String, Many<file::RoleText>>) -> Roles {
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
                    let remedy = "say what identifies an event in [identity]: by, repeats";
                    self.fault(key, "is replaced by [identity]", remedy);
                }
                None => self.fault(key, "is not a role", ROLES),
            }
        }
        roles
    }

    /// Takes `effect` out of the texts of roles: its texts are words.
    fn effects(
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
    fn amount_unit(
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

    fn effect(&mut self, key: &str, word: &str) -> Option<Effect> {
        let effect = Effect::from_name(word);
        if effect.is_none() {
            self.fault(key, &format!("`{word}` is not an effect"), "use grant, revoke or none");
        }
        effect
    }

    fn shapes(&mut self, written: toml::Table) -> Shapes {
        let mut shapes = Shapes::default();
        for (name, value) in written {
            let key = format!("shapes.{name}");
            match (name.as_str(), value) {
                (_, toml::Value::String(text)) => match ValueShape::parse(&text) {
                    Ok(shape) => {
                        shapes.of.insert(name, shape);
                    }
                    Err(fault) => self.faults.push(fault.under(&key)),
                },
                ("refuse", toml::Value::Array(names)) => shapes.refuse = words(&names),
                ("together", toml::Value::Array(names)) => shapes.together = words(&names),
                ("ascending", toml::Value::Boolean(true)) => shapes.order = NameOrder::Ascending,
                _ => {
                    let remedy = "write name = \"digits\", refuse = [names], together = [names] or ascending = true";
                    self.fault(key, "is not a shape", remedy);
                }
            }
        }
        for name in shapes.refuse.iter().chain(&shapes.together) {
            if !shapes.of.contains_key(name) {
                self.fault(format!("shapes.{name}"), "is missing", "give the shape of each name");
            }
        }
        shapes
    }

    /// What an app sets is free: the provider signs what it is given.
    fn client_shapes(&mut self, sender: &Sender) {
        let texts = sender.from_client.iter().filter_map(|role| sender.roles.texts.get(*role));
        for spot in texts.flatten().flat_map(|text| text.of.spots()).filter(|spot| spot.came()) {
            if sender.shapes.of.get(&spot.key).is_some_and(|shape| !shape.is_free()) {
                let remedy = "omit it, or omit the role from from_client";
                let key = format!("shapes.{}", spot.key);
                self.fault(key, "is of a value that the app chooses, which has no shape", remedy);
            }
        }
    }

    fn identity(&mut self, written: file::Identity) -> Identity {
        let mut texts = |key: &str, texts: Many<file::RoleText>| -> Vec<RoleText> {
            texts.into_vec().into_iter().map(|text| self.role_text(key, text)).collect()
        };
        let by = texts("identity.by", written.by);
        let formerly = Formerly {
            transaction: texts("identity.formerly.transaction", written.formerly.transaction),
            replay: texts("identity.formerly.replay", written.formerly.replay),
            kinds: written.formerly.kinds,
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

    fn events(
        &mut self,
        events: &file::Events,
        rows: Vec<file::EventRow>,
        kinds: &[Kind],
    ) -> Option<EventTable> {
        let by = self.text("events.by", &events.by, Strictness::Strict);
        let by = by.spots().next().filter(|_| by.pieces.len() == 1).cloned();
        if by.is_none() {
            self.fault("events.by", "is not one placeholder", "say what names an event");
        }
        let rows = rows.into_iter().filter_map(|row| self.event_row(row, kinds)).collect();
        Some(EventTable { by: by?, rows })
    }

    fn event_row(&mut self, row: file::EventRow, kinds: &[Kind]) -> Option<EventRow> {
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

    fn role_text(&mut self, key: &str, text: file::RoleText) -> RoleText {
        let (of, when) = match text {
            file::RoleText::Text(of) => (of, Many::default()),
            file::RoleText::When { of, when } => (of, when),
        };
        let when = self.conditions(&format!("{key}.when"), when);
        RoleText { of: self.text(key, &of, Strictness::Lenient), when }
    }

    fn time(&mut self, time: &file::Time) -> Option<TimeRule> {
        let r#in = self.text("time.in", &time.r#in, Strictness::Strict);
        let stamp = Stamp::parse(&time.r#as);
        if stamp.is_none() {
            self.fault(
                "time.as",
                "is no writing of a time",
                "use s, ms or a yyyyMMddHHmmss pattern",
            );
        }
        let zone = time.zone.as_deref().map_or(Some(Offset::UTC), time::offset);
        if zone.is_none() {
            self.fault("time.zone", "is no offset", "write it as +08:00");
        }
        let bounds: Option<Vec<i64>> =
            time.within.to_vec().iter().map(|text| time::duration_ms(text)).collect();
        let within = match bounds.as_deref() {
            Some([]) => None,
            Some([both]) => Some((*both, *both)),
            Some([past, future]) => Some((*past, *future)),
            _ => {
                self.fault("time.within", "is no age", "write 10m, or [past, future]");
                None
            }
        };
        Some(TimeRule { r#in, stamp: stamp?, zone: zone?, within })
    }

    fn known(&mut self, known: BTreeMap<String, String>) -> Vec<(String, Text)> {
        known
            .into_iter()
            .map(|(name, text)| {
                let text = self.text(&format!("known.{name}"), &text, Strictness::Strict);
                (name, text)
            })
            .collect()
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

    fn kinds(&mut self, kinds: Vec<file::Kind>) -> Vec<Kind> {
        let mut known = Vec::new();
        for kind in kinds {
            let key = format!("kind[{}]", kind.name);
            let also = kind.also.and_then(|also| self.reading(&format!("{key}.also"), also));
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
                stands: match kind.test {
                    Some(true) => Stands::ForTests,
                    Some(false) | None => Stands::ForEvents,
                },
                name: kind.name,
                also,
            });
        }
        known
    }

    fn open(&mut self, open: &file::Open) -> Option<Open> {
        if open.with != "aes256_cbc" {
            self.fault("open.with", &format!("`{}`", open.with), "use aes256_cbc");
        }
        let iv = match open.iv.as_str() {
            "front" => Some(Iv::Front),
            "key" => Some(Iv::Key),
            _ => None,
        };
        if iv.is_none() {
            self.fault("open.iv", "is neither", "use front or key");
        }
        let pad = open.pad.unwrap_or(16);
        if pad != 16 && pad != 32 {
            self.fault("open.pad", "is no block", "use 16 or 32");
        }
        let of: Vec<Text> = open
            .of
            .to_vec()
            .iter()
            .map(|text| self.text("open.of", text, Strictness::Strict))
            .collect();
        Some(Open {
            of,
            key: self.text("open.key", &open.key, Strictness::Strict),
            iv: iv?,
            pad,
            frame: open
                .frame
                .as_ref()
                .map(|frame| self.text("open.frame", frame, Strictness::Strict)),
            when: self.conditions("open.when", open.when.clone()),
            reads: match open.reads.to_vec() {
                reads if reads.is_empty() => Vec::new(),
                _ => self.reads(open.reads.clone()),
            },
        })
    }

    fn countersign(&mut self, sign: file::Countersign) -> Option<Countersign> {
        let with = self.chain("countersign.with", &sign.with.into_vec())?;
        Some(Countersign {
            of: self.text("countersign.of", &sign.of, Strictness::Strict),
            with,
            key: sign.key.as_ref().map(|key| self.text("countersign.key", key, Strictness::Strict)),
            r#as: self.writing("countersign.as", sign.r#as.as_deref()),
        })
    }

    fn patience(&mut self, patience: file::Patience) -> Patience {
        let mut length = |key: &str, text: &str| match time::duration_ms(text) {
            Some(ms) => Some(Duration::from_millis(ms.unsigned_abs())),
            None => {
                self.fault(format!("patience.{key}"), "is no length of time", "write 2s, 5m, 8d");
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
        Patience { timeout, retries, gaps, horizon, when: patience.when }
    }

    fn readings(&mut self, signature: Option<file::Signature>) -> Vec<Reading> {
        let Some(mut base) = signature else { return Vec::new() };
        let others = std::mem::take(&mut base.or);
        if others.len() + 1 > READINGS_MAX {
            self.fault("signature.or", "there are too many", "at most four readings in all");
        }
        let others: Vec<_> = others.into_iter().map(|or| or.over(&base)).collect();
        let mut readings: Vec<_> = self.reading("signature", base).into_iter().collect();
        for (index, or) in others.into_iter().enumerate() {
            let key = format!("signature.or[{index}]");
            if or.why.is_none() {
                self.fault(format!("{key}.why"), "is not there", "say why this reading is there");
            }
            readings.extend(self.reading(&key, or));
        }
        readings
    }

    fn reading(&mut self, key: &str, signature: file::Signature) -> Option<Reading> {
        let at = |name: &str| format!("{key}.{name}");
        let of = signature.of.as_deref().unwrap_or_default();
        if of.is_empty() {
            self.fault(at("of"), "is not there", "say which text is signed");
        }
        let of = self.text(&at("of"), of, Strictness::Strict);
        let with = signature.with.map(Many::into_vec).unwrap_or_default();
        let (public, with) = self.public(&at("with"), &with);
        let claim = signature.r#in.as_deref().unwrap_or_default();
        let claim = self.text(&at("in"), claim, Strictness::Strict);
        let claim = claim.spots().next().filter(|_| claim.pieces.len() == 1).cloned();
        if claim.is_none() {
            self.fault(at("in"), "is not one placeholder", "say where the signature stands");
        }
        let plus = match signature.plus.as_deref() {
            None | Some("blank") => Plus::Blank,
            Some("kept") => Plus::Kept,
            Some(_) => {
                self.fault(at("plus"), "is neither", "use blank or kept");
                Plus::Blank
            }
        };
        let r#as = self.writing(&at("as"), signature.r#as.as_deref());
        let is_equal = with.as_ref().is_some_and(|with| with.first == First::Equal);
        if is_equal != (r#as == Writing::Text) {
            self.fault(at("as"), "and `with` do not fit", "`equal` and `text` go together");
        }
        let key_text = signature.key.as_deref().unwrap_or("[secret]");
        let key = self.text(&at("key"), key_text, Strictness::Strict);
        if public.is_some() && (signature.cut.is_some() || reads(&of, "secret")) {
            let remedy = "sign with a private key what everybody may know, and send it whole";
            self.fault(at("with"), "needs no secret text and no cut", remedy);
        }
        if public.is_none() && reads(&key, "public_key") {
            let remedy = "end `with` in ecdsa_p256, rsa_pss, rsa_pkcs1 or ed25519";
            self.fault(at("key"), "is a public key", remedy);
        }
        let reading = Reading {
            public,
            key,
            r#as,
            cut: signature.cut,
            when: self.conditions(&at("when"), signature.when),
            plus,
            roles: self.roles(&at("roles"), signature.roles),
            sorted: signature
                .sorted
                .map(Many::into_vec)
                .unwrap_or_default()
                .iter()
                .map(|text| self.text(&at("sorted"), text, Strictness::Strict))
                .collect(),
            pairs: signature.pairs.and_then(|pairs| self.pairs(&at("pairs"), pairs)),
            why: signature.why,
            of,
            with: with?,
            r#in: claim?,
        };
        self.guarded(&at, &reading);
        Some(reading)
    }

    /// What nobody but the sender can make has to be in a signature.
    fn guarded(&mut self, at: &dyn Fn(&str) -> String, reading: &Reading) {
        if reading.cut.is_some_and(|cut| !(CUT_MIN..=CUT_MAX).contains(&cut)) {
            let remedy = format!("keep {CUT_MIN} to {CUT_MAX} characters");
            self.fault(at("cut"), "leaves what anybody can guess, or more than there is", &remedy);
        }
        if reading.public.is_some() {
            return;
        }
        let added = reading.pairs.iter().flat_map(|pairs| pairs.add.iter().map(|(_, text)| text));
        let signed = std::iter::once(&reading.of).chain(&reading.sorted).chain(added);
        let keyed = matches!(reading.with.first, First::Keyed(_))
            && reading.key.spots().any(|spot| !spot.came());
        if !keyed && !signed.into_iter().any(|text| reads(text, "secret")) {
            let remedy = "put [secret] into the text, or use an HMAC";
            self.fault(at("of"), "holds no secret, so that anybody can make it", remedy);
        }
    }

    fn pairs(&mut self, key: &str, pairs: file::Pairs) -> Option<Pairs> {
        let at = |name: &str| format!("{key}.{name}");
        let which = match pairs.which.map(Many::into_vec).unwrap_or_default().as_slice() {
            [] => {
                self.fault(at("which"), "is not there", "use names, query, all or pasted");
                return None;
            }
            [one] if one == "query" => Which::Query,
            [one] if one == "all" => Which::All,
            [one] if one == "pasted" => Which::Pasted,
            names => Which::Names(names.to_vec()),
        };
        let shape = pairs.shape.as_deref().and_then(Shape::parse);
        if shape.is_none() {
            self.fault(at("shape"), "is no example", SHAPES);
        }
        let order = self.word(
            &at("order"),
            pairs.order.as_deref(),
            &[("name", Order::Name), ("given", Order::Given), ("macro", Order::Macro)],
        );
        let each = self.word(
            &at("each"),
            pairs.each.as_deref(),
            &[("raw", Each::Raw), ("form", Each::Form), ("percent", Each::Percent)],
        );
        let empty = self.word(
            &at("empty"),
            pairs.empty.as_deref(),
            &[("kept", Empty::Kept), ("dropped", Empty::Dropped)],
        );
        let add = pairs.add.unwrap_or_default();
        let add = add
            .into_iter()
            .map(|(name, text)| {
                let text = self.text(&format!("{key}.add.{name}"), &text, Strictness::Strict);
                (name, text)
            })
            .collect();
        let except = pairs.except.map(Many::into_vec).unwrap_or_default();
        Some(Pairs { which, except, add, order, shape: shape?, each, empty })
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

    fn writing(&mut self, key: &str, text: Option<&str>) -> Writing {
        self.word(
            key,
            text,
            &[
                ("hex", Writing::Hex),
                ("base64", Writing::Base64),
                ("base64url", Writing::Base64Url),
                ("text", Writing::Text),
            ],
        )
    }

    pub(super) fn chain(&mut self, key: &str, steps: &[String]) -> Option<Chain> {
        let mut steps = steps.iter();
        let first = steps.next().map(String::as_str).unwrap_or_default();
        let first = match (first, first.strip_prefix("hmac_")) {
            ("equal", _) => Some(First::Equal),
            (_, Some(name)) => Algorithm::from_name(name).map(First::Keyed),
            (name, None) => Algorithm::from_name(name).map(First::Digest),
        };
        let then: Option<Vec<Step>> = steps
            .map(|step| match step.as_str() {
                "hex" => Some(Step::Hex),
                name => Algorithm::from_name(name).map(Step::Digest),
            })
            .collect();
        if first.is_none() || then.is_none() {
            let remedy = "use md5, sha1, sha256, sha512, hmac_…, hex, or equal";
            self.fault(key, "is no chain of digests", remedy);
        }
        if first == Some(First::Equal) && then.as_ref().is_some_and(|then| !then.is_empty()) {
            self.fault(key, "goes on behind `equal`", "leave the rest out");
        }
        Some(Chain { first: first?, then: then? })
    }

    fn rows(&mut self, key: &str, table: &toml::Table) -> Rows {
        Rows::parse(table).unwrap_or_else(|faults| {
            self.faults.extend(faults.into_iter().map(|fault| fault.under(key)));
            Rows::default()
        })
    }

    fn vectors(&mut self, vectors: Vec<file::Vector>) -> Vec<Vector> {
        let mut known = Vec::new();
        for (index, vector) in vectors.into_iter().enumerate() {
            match Vector::parse(vector) {
                Ok(vector) => known.push(vector),
                Err(fault) => self.faults.push(fault.under(&format!("vector[{index}]"))),
            }
        }
        known
    }
}

fn words(names: &[toml::Value]) -> Vec<String> {
    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

const ROLES: &str = "use transaction, user, item, amount, currency, custom or reverses";
const UNITS: &str = "use fen, cent or micro";
const SHAPES: &str = "show it: k=v&k=v, k=v,k=v, kvkv, vv, k,v k,v";
