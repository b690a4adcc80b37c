//! A sender's whole contract, for people: what `postern senders NAME` and the page in
//! `docs/senders/` show. Everything is read from the sender's file or derived from it, so that
//! neither can drift.

mod attacker;
mod coverage;
mod events;
mod markdown;
mod replies;

pub use markdown::index;

use std::sync::Arc;

use toml::{Table, Value};

use super::resolved::{Fact, Role};
use crate::sender::language::definition::{First, Sender};
use crate::sender::language::recipe::Terms;
use coverage::{Coverage, Proof};

/// A contract: parts with rows, to be put on a screen or a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The sender's name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// Its parts, in the order in which people ask for them; none is empty.
    pub parts: Vec<Part>,
    /// A source of it, as the configuration writes one.
    pub example: String,
}

/// One part of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is about.
    pub title: &'static str,
    /// What stands above its columns; empty where the rows speak for themselves.
    pub head: &'static [&'static str],
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Words.
    Words(String),
    /// Something to be written or read to the letter.
    Code(String),
}

impl Cell {
    fn words(text: impl Into<String>) -> Self {
        Self::Words(text.into())
    }

    fn code(text: impl Into<String>) -> Self {
        Self::Code(text.into())
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Words(text) | Self::Code(text) => text,
        }
    }
}

impl Contract {
    /// The contract of `sender`.
    #[must_use]
    pub fn of(sender: &Arc<Sender>) -> Self {
        // A sender has been read from its text, so that it is TOML.
        let file: Table = sender.text.parse().unwrap_or_default();
        let reader = Reader { sender, file: &file };
        let covers = Coverage::of(sender);
        let parts = [
            part("What this rests on", &[], reader.basis()),
            part("Not confirmed by anybody outside", &[], lines(&sender.unconfirmed)),
            part("How it calls", &[], reader.calls()),
            part("Keys of a source", &["key", "what it is"], reader.keys()),
            part("Paste this behind the URL of the source", &[], reader.paste()),
            part(
                "What a callback says",
                &["role", "where", "covered by the signature"],
                reader.roles(&covers),
            ),
            part("Signature", &["", "signed text", "digest", "found in", "why"], reader.readings()),
            part(attacker::CAN, &[], lines(&attacker::can(sender, &covers))),
            part(attacker::CANNOT, &[], lines(&attacker::cannot(sender, &covers))),
            part("What makes two calls one event", &[], reader.identity(&covers)),
            part("Take care", &[], reader.cares(&covers)),
            part("Sealed messages", &[], reader.open()),
            part("Time", &[], reader.time()),
            part("Checks, tests and kinds", &["what", "when", "what comes of it"], reader.kinds()),
            part("Events", &["event", "kind", "effect", "identified by"], events::rows(&file)),
            part("Answers", &["outcome", "answer"], replies::rows(&file)),
            part("Patience", &[], reader.patience()),
            part("Published addresses (allow = \"sender\")", &[], codes(&sender.addresses)),
        ];
        let parts = parts.into_iter().filter(|part| !part.rows.is_empty()).collect();
        let (name, title) = (sender.name.clone(), sender.title.clone());
        Self { name, title, parts, example: example(sender) }
    }
}

/// A source of `sender`, with the keys that it needs.
fn example(sender: &Sender) -> String {
    let name = &sender.name;
    let upper = name.to_ascii_uppercase().replace('-', "_");
    let mut lines = vec![
        String::from("[[source]]"),
        format!("name    = \"{name}-1\""),
        format!("sender  = \"{name}\""),
    ];
    match (&sender.secret, sender.may_be_unsigned()) {
        (Some(_), _) => lines.push(format!("secrets = \"env:{upper}_SECRET\"")),
        (None, false) => {}
        (None, true) => {
            lines.push(String::from("unsigned = true"));
            lines.push(String::from("allow   = [\"203.0.113.0/24\"]"));
        }
    }
    for (setting, _) in &sender.settings {
        let variable = setting.to_ascii_uppercase();
        lines.push(format!("{setting:<7} = \"env:{upper}_{variable}\""));
    }
    lines.join("\n")
}

type Rows = Vec<Vec<Cell>>;

fn part(title: &'static str, head: &'static [&'static str], rows: Rows) -> Part {
    Part { title, head, rows }
}

fn lines(texts: &[String]) -> Rows {
    texts.iter().map(|text| vec![Cell::words(text)]).collect()
}

fn codes(texts: &[String]) -> Rows {
    texts.iter().map(|text| vec![Cell::code(text)]).collect()
}

/// Reads a sender's file for people.
struct Reader<'s> {
    sender: &'s Sender,
    file: &'s Table,
}

impl Reader<'_> {
    fn basis(&self) -> Rows {
        let basis = self.sender.basis.map(|basis| vec![Cell::words(basis.sentence())]);
        let links = self.sender.docs.iter().map(|link| vec![Cell::words(link)]);
        basis.into_iter().chain(links).collect()
    }

    fn calls(&self) -> Rows {
        let methods: Vec<&str> = self.sender.methods.iter().map(http::Method::as_str).collect();
        let reads = strings(self.file.get("reads"));
        let reads = if reads.is_empty() { String::from("query") } else { reads.join(", ") };
        vec![
            vec![Cell::words("method"), Cell::code(methods.join(" or "))],
            vec![Cell::words("parameters in"), Cell::words(reads)],
        ]
    }

    fn keys(&self) -> Rows {
        let secrets = match (&self.sender.secret, self.sender.may_be_unsigned()) {
            (Some(secret), false) => vec![Cell::code("secrets"), Cell::words(secret)],
            (Some(secret), true) => {
                vec![Cell::code("secrets"), Cell::words(format!("{secret}, or unsigned = true"))]
            }
            (None, false) => {
                vec![Cell::words("no secret"), Cell::words("it signs with keys that it publishes")]
            }
            (None, true) => vec![
                Cell::code("unsigned = true"),
                Cell::words("nothing is signed: give `allow`, or a name that nobody can guess"),
            ],
        };
        let settings = self.sender.settings.iter();
        let settings = settings.map(|(name, what)| vec![Cell::code(name), Cell::words(what)]);
        std::iter::once(secrets).chain(settings).chain(self.key_set()).collect()
    }

    /// Where the public keys come from.
    fn key_set(&self) -> Option<Vec<Cell>> {
        let (url, _) = self.sender.key_set()?;
        let keep = table(self.file, "key_set").get("keep").map(plain).unwrap_or_default();
        let about =
            format!("where its public keys are, in place of {url}; kept for {keep} at most");
        Some(vec![Cell::code(Terms::KEY_SET_URL), Cell::words(about)])
    }

    fn paste(&self) -> Rows {
        let pairs: Vec<String> =
            self.sender.paste.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
        if pairs.is_empty() { Vec::new() } else { vec![vec![Cell::code(pairs.join("&"))]] }
    }

    fn roles(&self, covers: &Coverage) -> Rows {
        let written = table(self.file, "roles");
        let row = |role: &Role| {
            let texts = role_texts(written.get(role.as_str())?);
            let mut proof = covers.role(*role);
            if self.sender.from_client.contains(role) {
                proof.push_str("; an app sets it");
            }
            Some(vec![
                Cell::words(role.as_str()),
                Cell::code(texts.join(", else ")),
                Cell::words(proof),
            ])
        };
        Role::ALL.iter().filter_map(row).chain(self.facts(covers)).collect()
    }

    /// Kind and test flag, where the sender has them.
    fn facts(&self, covers: &Coverage) -> Rows {
        let kinds = self.file.get("kind").and_then(Value::as_array).into_iter().flatten();
        let mut selects: Vec<String> =
            kinds.filter_map(as_table).flat_map(|kind| strings(kind.get("when"))).collect();
        selects.extend(strings(table(self.file, "events").get("by")));
        let flag = strings(table(self.file, "test").get("flag"));
        let row = |(fact, texts): (Fact, Vec<String>)| {
            (!texts.is_empty()).then(|| {
                let texts = Cell::code(texts.join(", or "));
                vec![Cell::words(fact.as_str()), texts, Cell::words(covers.fact(fact))]
            })
        };
        [(Fact::Kind, selects), (Fact::Test, flag)].into_iter().filter_map(row).collect()
    }

    /// What identifies an event, and which other keys guard it.
    fn identity(&self, covers: &Coverage) -> Rows {
        let identity = table(self.file, "identity");
        let by = identity.get("by").map(role_texts);
        let by = by.or_else(|| table(self.file, "roles").get("transaction").map(role_texts));
        let by = by.unwrap_or_default().join(", else ");
        let mut rows = vec![vec![Cell::words("the same kind, and the same"), Cell::code(by)]];
        let mut row = |what: &str, cell: Cell| rows.push(vec![Cell::words(what), cell]);
        if let Some(when) = covers.signature_key() {
            row("a signature makes one event", Cell::words(when));
        }
        if let Some(repeats) = identity.get("repeats") {
            let why = repeats.get("why").unwrap_or(repeats);
            let mut why = plain(why);
            let when = strings(repeats.get("when")).join(", or ");
            if !when.is_empty() {
                why.push_str(&format!(", when {when}"));
            }
            row("a signature makes several events", Cell::words(why));
        }
        let volatile = strings(identity.get("volatile")).join(", ");
        if !volatile.is_empty() {
            row("may differ in a repetition", Cell::code(volatile));
        }
        rows
    }

    fn readings(&self) -> Rows {
        let base = table(self.file, "signature");
        let others = base.get("or").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut rows: Rows = Vec::new();
        let tables = std::iter::once(base.clone()).chain(others.iter().filter_map(as_table));
        for (index, own) in tables.enumerate().filter(|(_, own)| !own.is_empty()) {
            let say = |key: &str| {
                let value = own.get(key).or_else(|| base.get(key));
                strings(value).join(", then ")
            };
            let pairs = merged(&base, &own, "pairs");
            let of = say("of").replace("[pairs]", &format!("‹{}›", pairs_of(&pairs))).replace(
                "[sorted]",
                &format!(
                    "‹sorted: {}›",
                    strings(own.get("sorted").or_else(|| base.get("sorted"))).join(" ")
                ),
            );
            let mut with = say("with");
            let writing = say("as");
            if !writing.is_empty() && writing != "hex" && writing != "text" {
                with.push_str(&format!(", {writing}"));
            }
            if let Some(cut) = own.get("cut").or_else(|| base.get("cut")) {
                with.push_str(&format!(", the first {cut} characters"));
            }
            let mut why: Vec<String> = strings(own.get("why"));
            why.extend(strings(own.get("when")).iter().map(|when| format!("when {when}")));
            let number = (index + 1).to_string();
            rows.push(vec![
                Cell::words(number),
                Cell::code(of),
                Cell::words(with),
                Cell::code(say("in")),
                Cell::words(why.join("; ")),
            ]);
        }
        rows
    }

    /// What to do about it.
    fn cares(&self, covers: &Coverage) -> Rows {
        let mut cares = Vec::new();
        let signed = !self.sender.readings.is_empty();
        if !signed {
            cares.push(
                "Keep the name of the source secret, or accept calls from known addresses alone \
                 (`allow`).",
            );
        }
        if self.sender.readings.iter().any(|reading| reading.with.first == First::Equal) {
            cares.push("Accept calls over HTTPS alone: the secret itself is in them.");
        }
        if self.sender.identity.repeats.is_some() {
            cares.push(
                "Accept calls from the sender's own addresses alone (`allow`), or write \
                 `replayable = true` if that cannot be.",
            );
        }
        if self.sender.unconfirmed_shapes().next().is_some() {
            cares.push(
                "Look at some genuine calls. If their values are as assumed here, write \
                 `confirmed = true`: more roles count as authenticated then.",
            );
        }
        let is_open = |role| signed && covers.proof(role) != Proof::Whole;
        let has = |role: Role| self.sender.roles.texts.has(role);
        if has(Role::Amount) && (is_open(Role::Amount) || self.is_set_by_app(Role::Amount)) {
            cares.push(if has(Role::Item) {
                "Do not rely on the amount: pin it, `rewards = { coin = 10 }`."
            } else {
                "Do not rely on the amount: decide it where the event is used."
            });
        }
        if self.file.get("signature").is_some_and(|one| one.to_string().contains("[url")) {
            cares.push(
                "The whole URL is signed, as the sender calls it: `server.public_url` has to be \
                 set, and no proxy may rewrite path or query.",
            );
        }
        cares.into_iter().map(|care| vec![Cell::words(care)]).collect()
    }

    fn is_set_by_app(&self, role: Role) -> bool {
        self.sender.from_client.contains(&role)
    }

    fn open(&self) -> Rows {
        let open = table(self.file, "open");
        let row = |key: &str, what: &str| {
            let texts = strings(open.get(key));
            (!texts.is_empty()).then(|| vec![Cell::words(what), Cell::code(texts.join(", else "))])
        };
        let rows = [
            row("of", "cipher text"),
            row("with", "cipher"),
            row("key", "key"),
            row("iv", "initialisation vector in"),
            row("frame", "ends with"),
            row("reads", "written in"),
            row("when", "when"),
        ];
        rows.into_iter().flatten().collect()
    }

    fn time(&self) -> Rows {
        let time = table(self.file, "time");
        let Some(place) = time.get("in").and_then(Value::as_str) else { return Vec::new() };
        let within = strings(time.get("within"));
        let within = match within.as_slice() {
            [] => String::from("its age is not checked, unless a source says max_age"),
            [both] => format!("at most {both} away, either way"),
            [past, future, ..] => format!("at most {past} old, {future} ahead"),
        };
        let zone = time.get("zone").and_then(Value::as_str).unwrap_or_default();
        let writing = time.get("as").and_then(Value::as_str).unwrap_or_default();
        vec![vec![
            Cell::code(place),
            Cell::words(format!("{writing} {zone}").trim().to_owned()),
            Cell::words(within),
        ]]
    }

    fn kinds(&self) -> Rows {
        let mut rows = Vec::new();
        let mut add = |what: &str, when: Vec<String>, comes: &str| {
            if !when.is_empty() {
                let when = Cell::code(when.join(", or "));
                rows.push(vec![Cell::words(what), when, Cell::words(comes)]);
            }
        };
        let challenge = table(self.file, "challenge");
        let signed = |table: &Table| table.get("signed").and_then(Value::as_bool) != Some(false);
        let also = if signed(&challenge) { "" } else { ", signed or not" };
        add(
            "address check",
            strings(challenge.get("when")),
            &format!("answered, never stored{also}"),
        );
        let test = table(self.file, "test");
        let also = if signed(&test) { "" } else { ", signed or not" };
        add("test", strings(test.get("when")), &format!("answered, never stored{also}"));
        add("test", strings(test.get("flag")), "an event marked as a test, of no effect");
        let kinds = self.file.get("kind").and_then(Value::as_array);
        for kind in kinds.into_iter().flatten().filter_map(as_table) {
            let name = kind.get("name").and_then(Value::as_str).unwrap_or_default();
            let roles = table(&kind, "roles");
            let reverses = roles.get("reverses").map(role_texts).unwrap_or_default().join(", ");
            let effect = kind.get("effect").map(plain);
            let effect = effect.map_or(String::new(), |effect| format!(", effect {effect}"));
            let comes = match (kind.get("test").and_then(Value::as_bool), reverses.as_str()) {
                (Some(true), _) => String::from("answered, never stored"),
                (_, "") => format!("an event of this kind{effect}"),
                (_, of) => format!("an event of its own, which takes back {of}{effect}"),
            };
            add(name, strings(kind.get("when")), &comes);
        }
        rows
    }

    fn patience(&self) -> Rows {
        let patience = table(self.file, "patience");
        let mut rows = Vec::new();
        let mut row = |what: &str, value: String| {
            rows.push(vec![Cell::words(what), Cell::words(value)]);
        };
        let said = |key: &str| patience.get(key).map(plain);
        row("waits", said("timeout").unwrap_or_else(|| String::from("unknown")));
        let retries = match patience.get("retries") {
            None => String::from("unknown"),
            Some(Value::Array(gaps)) => {
                let gaps: Vec<String> = gaps.iter().map(plain).collect();
                format!("{} times, after {}", gaps.len(), gaps.join(", "))
            }
            Some(count) => format!("{} times", plain(count)),
        };
        row("tries again", retries);
        if let Some(when) = said("when") {
            row("because of", when);
        }
        if let Some(horizon) = said("horizon") {
            row("for", format!("{horizon} in all"));
        }
        rows
    }
}

/// The parameters that are signed as a list, in a few words.
fn pairs_of(pairs: &Table) -> String {
    let which = strings(pairs.get("which"));
    let which = match which.as_slice() {
        [one] if one == "query" => String::from("all of the query"),
        [one] if one == "all" => String::from("all of query and form"),
        [one] if one == "pasted" => String::from("all that is pasted"),
        names => names.join(" "),
    };
    let mut said = which;
    let mut add = |text: String| said.push_str(&format!(", {text}"));
    let except = strings(pairs.get("except"));
    if !except.is_empty() {
        add(format!("but {}", except.join(" ")));
    }
    for (name, value) in table(pairs, "add") {
        add(format!("with {name} = {}", plain(&value)));
    }
    match pairs.get("order").and_then(Value::as_str).unwrap_or("name") {
        "given" => add(String::from("as given")),
        order => add(format!("sorted by {order}")),
    }
    add(format!("written {}", pairs.get("shape").map(plain).unwrap_or_default()));
    if let Some(each) = pairs.get("each") {
        add(format!("each in {} encoding", plain(each)));
    }
    if pairs.get("empty").and_then(Value::as_str) == Some("dropped") {
        add(String::from("empty ones left out"));
    }
    said
}

/// The table `key`; empty where there is none.
fn table(of: &Table, key: &str) -> Table {
    of.get(key).and_then(as_table).unwrap_or_default()
}

fn as_table(value: &Value) -> Option<Table> {
    value.as_table().cloned()
}

/// The table `key` of `own` over that of `base`.
fn merged(base: &Table, own: &Table, key: &str) -> Table {
    let mut both = table(base, key);
    both.extend(table(own, key));
    both
}

/// One text or a list of them.
fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().map(plain).collect(),
        Some(one) => vec![plain(one)],
    }
}

/// The texts of a role: one, a list, or some with conditions.
fn role_texts(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::Table(with) => {
            let when = strings(with.get("when")).join(", or ");
            format!("{} (when {when})", with.get("of").map(plain).unwrap_or_default())
        }
        other => plain(other),
    };
    match value {
        Value::Array(list) => list.iter().map(one).collect(),
        other => vec![one(other)],
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
