//! A sender's whole contract, for people: the content of `postern senders NAME` and of the page in
//! `docs/senders/`. Everything is read or derived from the sender's file.

mod attacker;
mod coverage;
mod events;
mod markdown;
mod replies;
mod routing;
mod written;

pub use markdown::index;

use std::sync::Arc;

use toml::{Table, Value};

use self::written::{as_table, merged, pairs_of, plain, role_texts, strings, table, token_row};
use super::resolved::{Fact, Role};
use crate::sender::language::definition::{First, Sender};
use crate::sender::language::modifier::Modifier;
use crate::sender::language::recipe::Terms;
use crate::sender::language::text::Spot;
use coverage::{Coverage, Proof};

/// A contract: parts with rows, for a screen or a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// The sender's name.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The parts, the most wanted first; none is empty.
    pub parts: Vec<Part>,
    /// An example source, as in the configuration.
    pub example: String,
    /// Who can make a test callback.
    pub test_callback: TestCallback,
}

/// Who can make a test callback of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestCallback {
    /// A holder of the source's secret.
    Signed,
    /// Only the sender: it signs with a private key.
    OfTheSender,
}

/// One part of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The title.
    pub title: &'static str,
    /// The column titles; empty if the rows need none.
    pub head: &'static [&'static str],
    /// Its rows.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Words.
    Words(String),
    /// Text to be read or written literally.
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
        // The sender was parsed from this text, so it is TOML.
        let file: Table = sender.text.parse().unwrap_or_default();
        let reader = Reader { sender, file: &file };
        let covers = Coverage::of(sender);
        let parts = [
            part("Basis", &[], reader.basis()),
            part("Without outside confirmation", &[], lines(&sender.unconfirmed)),
            part("Requests", &[], reader.calls()),
            part("Source settings", &["key", "meaning"], reader.keys()),
            part("Append to the URL of the source", &[], reader.paste()),
            part(
                "Callback fields",
                &["role", "location", "covered by the signature"],
                reader.roles(&covers),
            ),
            part(
                "Signature",
                &["", "signed text", "digest", "signature in", "why"],
                reader.variants(),
            ),
            part(attacker::CAN, &[], lines(&attacker::can(sender, &covers))),
            part(attacker::CANNOT, &[], lines(&attacker::cannot(sender, &covers))),
            part("Deduplication", &[], reader.identity(&covers)),
            part("Precautions", &[], reader.precautions(&covers)),
            part("Encrypted messages", &[], reader.open()),
            part("Time", &[], reader.time()),
            part(
                "Address checks, tests and kinds",
                &["callback", "condition", "result"],
                reader.kinds(),
            ),
            part("Events", &["event", "kind", "effect", "deduplicated by"], events::rows(&file)),
            part("Replies", &["outcome", "reply"], replies::rows(&file)),
            part("Timeout and retries", &[], reader.retries()),
            part("Routing", &[], routing::rows(sender)),
            part("Published addresses (allow = \"sender\")", &[], codes(&sender.addresses)),
        ];
        let parts = parts.into_iter().filter(|part| !part.rows.is_empty()).collect();
        let (name, title) = (sender.name.clone(), sender.title.clone());
        let test_callback = match covers.recipe().is_none_or(|recipe| recipe.signable().is_ok()) {
            true => TestCallback::Signed,
            false => TestCallback::OfTheSender,
        };
        Self { name, title, parts, example: example(sender), test_callback }
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
        (Some(_), _) if sender.certificate_hosts().is_none() => {
            lines.push(format!("secrets = \"env:{upper}_SECRET\""));
        }
        (Some(_), _) | (None, false) => {}
        (None, true) => {
            lines.push(String::from("unsigned = true"));
            lines.push(String::from("allow   = [\"203.0.113.0/24\"]"));
        }
    }
    for (setting, _) in &sender.settings {
        let variable = setting.to_ascii_uppercase();
        lines.push(format!("{setting:<7} = \"env:{upper}_{variable}\""));
    }
    if sender.weak.is_some() {
        lines.push(String::from("weak    = true"));
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

/// A reader of a sender's file.
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
        let aliases = self.sender.aliases.join(", ");
        let aliases =
            (!aliases.is_empty()).then(|| vec![Cell::words("also known as"), Cell::words(aliases)]);
        let rows = [
            vec![Cell::words("method"), Cell::code(methods.join(" or "))],
            vec![Cell::words("parameters in"), Cell::words(reads)],
        ];
        let several = self.sender.each.as_ref().map(|list| {
            let of = list.of.as_ref().map_or(String::from("the body"), |of| format!("`{of}`"));
            let text = format!("one for each element of {of}, at most {}", list.most);
            vec![Cell::words("events in one callback"), Cell::words(text)]
        });
        rows.into_iter().chain(several).chain(aliases).collect()
    }

    fn keys(&self) -> Rows {
        let secrets = match (&self.sender.secret, self.sender.may_be_unsigned()) {
            (Some(secret), false) => vec![Cell::code("secrets"), Cell::words(secret)],
            (Some(secret), true) => {
                vec![Cell::code("secrets"), Cell::words(format!("{secret}, or unsigned = true"))]
            }
            (None, false) => {
                vec![Cell::words("no secret"), Cell::words("signs with published keys")]
            }
            (None, true) => vec![
                Cell::code("unsigned = true"),
                Cell::words("no signature: set `allow`, or choose an unguessable source name"),
            ],
        };
        let settings = self.sender.settings.iter();
        let settings = settings.map(|(name, what)| vec![Cell::code(name), Cell::words(what)]);
        let weak = self.sender.weak.iter();
        let settings =
            settings.chain(weak.map(|why| vec![Cell::code("weak = true"), Cell::words(why)]));
        std::iter::once(secrets).chain(settings).chain(self.key_set()).collect()
    }

    /// The URL of the public keys.
    fn key_set(&self) -> Option<Vec<Cell>> {
        if let Some(hosts) = self.sender.certificate_hosts() {
            let about = format!(
                "URL of a mirror, in place of {}: the path of a certificate follows it; without \
                 `secrets`, certificates are fetched when a callback names one, and kept for 24h",
                hosts.join(" and ")
            );
            return Some(vec![Cell::code(Terms::KEY_SET_URL), Cell::words(about)]);
        }
        let (url, _) = self.sender.key_set()?;
        let keep = table(self.file, "key_set").get("keep").map(plain).unwrap_or_default();
        let about = format!("URL of the public keys, in place of {url}; cached for {keep} at most");
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
                proof.push_str("; set by the app");
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

    /// The identity of an event, and its other deduplication keys.
    fn identity(&self, covers: &Coverage) -> Rows {
        let identity = table(self.file, "identity");
        let by = identity.get("by").map(role_texts);
        let by = by.or_else(|| table(self.file, "roles").get("transaction").map(role_texts));
        let by = by.unwrap_or_default().join(", else ");
        let mut rows = vec![vec![Cell::words("same kind and same"), Cell::code(by)]];
        let mut row = |what: &str, cell: Cell| rows.push(vec![Cell::words(what), cell]);
        if let Some(when) = covers.signature_key() {
            row("one event per signature", Cell::words(when));
        }
        if let Some(repeats) = identity.get("repeats") {
            let why = repeats.get("why").unwrap_or(repeats);
            let mut why = plain(why);
            let when = strings(repeats.get("when")).join(", or ");
            if !when.is_empty() {
                why.push_str(&format!(", when {when}"));
            }
            row("several events per signature", Cell::words(why));
        }
        let volatile = strings(identity.get("volatile")).join(", ");
        if !volatile.is_empty() {
            row("may differ in a repeated callback", Cell::code(volatile));
        }
        rows
    }

    fn variants(&self) -> Rows {
        if let Some(jws) = self.file.get("jws").and_then(as_table) {
            return vec![token_row(&jws)];
        }
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

    /// Precautions.
    fn precautions(&self, covers: &Coverage) -> Rows {
        let mut cares = Vec::new();
        let signed = !self.sender.variants.is_empty();
        if !signed {
            cares.push(
                "Keep the source name secret, or accept callbacks only from known addresses \
                 (`allow`).",
            );
        }
        if self.sender.weak.is_some() {
            cares.push("The signature is weak: set `weak = true`, and do not rely on it alone.");
        }
        if self.sender.variants.iter().any(|variant| variant.with.first == First::Equal) {
            cares.push("Accept callbacks only over HTTPS: they contain the secret itself.");
        }
        if self.sender.identity.repeats.is_some() {
            cares.push(
                "Accept callbacks only from the sender's addresses (`allow`), or set \
                 `replayable = true` if that is not possible.",
            );
        }
        if self.sender.unconfirmed_shapes().next().is_some() {
            cares.push(
                "Check some verified callbacks. If their values match the assumptions here, set \
                 `confirmed = true`: more roles then count as authenticated.",
            );
        }
        let is_open = |role| signed && covers.proof(role) != Proof::Whole;
        let has = |role: Role| self.sender.roles.texts.has(role);
        if has(Role::Amount) && (is_open(Role::Amount) || self.is_set_by_app(Role::Amount)) {
            cares.push(if has(Role::Item) {
                "Do not rely on the amount: pin it, `rewards = { coin = 10 }`."
            } else {
                "Do not rely on the amount: decide it in the backend."
            });
        }
        if self.file.get("signature").is_some_and(|one| one.to_string().contains("[url")) {
            cares.push(
                "The signature covers the whole URL as called: set `server.public_url`, and let no \
                 proxy rewrite path or query.",
            );
        }
        if self.signs_decoded_query() {
            cares.push(
                "A value may hold a query of its own (`type=coins&user_id=7`, escaped): it is one \
                 value. A callback that could be read in two ways is quarantined as `ambiguous`.",
            );
        }
        cares.into_iter().map(|care| vec![Cell::words(care)]).collect()
    }

    /// Whether a signature covers the query as a whole, decoded.
    fn signs_decoded_query(&self) -> bool {
        let spots = self.sender.variants.iter().flat_map(|variant| variant.of.spots());
        let is_decoded = |spot: &Spot| spot.modifiers.contains(&Modifier::Unpercent);
        let mut queries = spots.filter(|spot| !spot.came() && spot.key == "query");
        queries.any(is_decoded)
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
            row("nonce", "nonce"),
            row("aad", "authenticated beside it"),
            row("frame", "ends with"),
            row("reads", "format"),
            row("when", "condition"),
        ];
        rows.into_iter().flatten().collect()
    }

    fn time(&self) -> Rows {
        let time = table(self.file, "time");
        let Some(place) = time.get("in").and_then(Value::as_str) else { return Vec::new() };
        let within = strings(time.get("within"));
        let within = match within.as_slice() {
            [] => String::from("age not checked, unless the source sets max_age"),
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
        let also = if signed(&challenge) { "" } else { ", signed or unsigned" };
        add(
            "address check",
            strings(challenge.get("when")),
            &format!("replied to, not stored{also}"),
        );
        let test = table(self.file, "test");
        let also = if signed(&test) { "" } else { ", signed or unsigned" };
        add("test", strings(test.get("when")), &format!("replied to, not stored{also}"));
        add("test", strings(test.get("flag")), "a test event, without effect");
        let kinds = self.file.get("kind").and_then(Value::as_array);
        for kind in kinds.into_iter().flatten().filter_map(as_table) {
            let name = kind.get("name").and_then(Value::as_str).unwrap_or_default();
            let roles = table(&kind, "roles");
            let reverses = roles.get("reverses").map(role_texts).unwrap_or_default().join(", ");
            let effect = kind.get("effect").map(plain);
            let effect = effect.map_or(String::new(), |effect| format!(", effect {effect}"));
            let comes = match (kind.get("test").and_then(Value::as_bool), reverses.as_str()) {
                (Some(true), _) => String::from("replied to, not stored"),
                (_, "") => format!("an event of this kind{effect}"),
                (_, of) => format!("a separate event that reverses {of}{effect}"),
            };
            add(name, strings(kind.get("when")), &comes);
        }
        rows
    }

    fn retries(&self) -> Rows {
        let patience = table(self.file, "patience");
        let mut rows = Vec::new();
        let mut row = |what: &str, value: String| {
            rows.push(vec![Cell::words(what), Cell::words(value)]);
        };
        let said = |key: &str| patience.get(key).map(plain);
        row("timeout", said("timeout").unwrap_or_else(|| String::from("unknown")));
        let retries = match patience.get("retries") {
            None if patience.contains_key("horizon") => {
                String::from("number unknown, within the retry period")
            }
            None => String::from("unknown"),
            Some(Value::Array(gaps)) => {
                let gaps: Vec<String> = gaps.iter().map(plain).collect();
                format!("{} times, after {}", gaps.len(), gaps.join(", "))
            }
            Some(count) => format!("{} times", plain(count)),
        };
        row("retries", retries);
        if let Some(when) = said("when") {
            row("retry condition", when);
        }
        if let Some(horizon) = said("horizon") {
            row("retry period", format!("{horizon} in total"));
        }
        rows
    }
}
