//! A sender file, checked: every text read, every name known, nothing bound to a source yet.

mod public;

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode, Uri};
use jiff::tz::Offset;

use super::condition::Condition;
use super::digest::Algorithm;
use super::encoding::Plus;
use super::fault::Fault;
use super::file::{self, File, Many};
use super::reply::Rows;
use super::resolved::{ByRole, Role};
use super::shape::Shape;
use super::text::{Origin, Spot, Strictness, Text};
use super::time::{self, Stamp};
use super::unreplaced::name_of;
use super::vector::Vector;

pub(super) use public::{KeySet, Public, Signs};

/// A sender: one file of the catalog, checked.
#[derive(Debug)]
pub struct Sender {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) docs: Vec<String>,
    pub(super) basis: Option<Basis>,
    pub(super) unconfirmed: Vec<String>,
    pub(super) secret: Option<String>,
    pub(super) methods: Vec<Method>,
    pub(super) reads: Vec<Reads>,
    pub(super) paste: Vec<Pasted>,
    pub(super) unsigned: bool,
    pub(super) from_client: Vec<Role>,
    pub(super) addresses: Vec<String>,
    pub(super) settings: Vec<(String, String)>,
    pub(super) lists: Vec<List>,
    /// Settings that say what is the source's own, each with where a callback names it.
    pub(super) ours: Vec<(String, Text)>,
    pub(super) roles: Roles,
    pub(super) time: Option<TimeRule>,
    pub(super) known: Vec<(String, Text)>,
    pub(super) codes: BTreeMap<String, toml::Value>,
    pub(super) challenge: Challenge,
    pub(super) test: Test,
    pub(super) kinds: Vec<Kind>,
    pub(super) open: Option<Open>,
    pub(super) key_set: Option<KeySet>,
    pub(super) countersign: Option<Countersign>,
    pub(super) patience: Patience,
    pub(super) readings: Vec<Reading>,
    pub(super) replies: Rows,
    pub(super) vectors: Vec<Vector>,
    pub(super) text: String,
}

/// What a file's facts rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The sender's own documentation says so.
    Documentation,
    /// Public implementations do so; the sender's own word has not been seen.
    Implementations,
}

impl Basis {
    /// A sentence for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Documentation => "confirmed by the sender's own documentation",
            Self::Implementations => "taken from public implementations, not from the sender",
        }
    }
}

/// Readings of a signature that a file may have: with four live secrets that bounds the digests
/// of one callback at sixteen.
pub(super) const READINGS_MAX: usize = 4;

/// Characters of a claim that may be kept: fewer than eight of hex are guessed within hours, and a
/// SHA-512 has no more.
const CUT_MIN: usize = 8;
const CUT_MAX: usize = 128;

/// Where `{…}` is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Query,
    Form,
    Json,
    Xml,
}

/// One pair of the query to paste: our name and the sender's macro.
#[derive(Clone, Debug)]
pub(super) struct Pasted {
    pub(super) name: String,
    pub(super) value: String,
}

/// A list inside a value, read by its shape.
#[derive(Debug)]
pub(super) struct List {
    pub(super) name: String,
    pub(super) of: Text,
    pub(super) shape: Shape,
}

/// The texts of the roles; each role takes the first that can be made.
#[derive(Clone, Debug)]
pub(super) struct Roles<K = Spot> {
    /// By role.
    pub(super) texts: ByRole<Vec<RoleText<K>>>,
    /// The second de-duplication key.
    pub(super) replay: Vec<RoleText<K>>,
}

impl<K> Default for Roles<K> {
    fn default() -> Self {
        Self { texts: ByRole::default(), replay: Vec::new() }
    }
}

/// One text of a role.
#[derive(Clone, Debug)]
pub(super) struct RoleText<K = Spot> {
    pub(super) of: Text<K>,
    pub(super) when: Vec<Condition<K>>,
}

/// Where a callback's time stands and how old it may be.
#[derive(Debug)]
pub(super) struct TimeRule {
    pub(super) r#in: Text,
    pub(super) stamp: Stamp,
    pub(super) zone: Offset,
    /// Milliseconds of past and future allowed; `None`: not checked.
    pub(super) within: Option<(i64, i64)>,
}

/// What asks for the address.
#[derive(Debug, Default)]
pub(super) struct Challenge {
    pub(super) when: Vec<Condition>,
    /// A cipher text that is opened before `when` is asked.
    pub(super) open: Option<Text>,
    pub(super) probes: Probes,
}

/// What is a test.
#[derive(Debug, Default)]
pub(super) struct Test {
    pub(super) when: Vec<Condition>,
    pub(super) probes: Probes,
    pub(super) flag: Vec<Condition>,
}

/// Whether a test or an address check has to verify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Probes {
    /// It has to.
    #[default]
    Signed,
    /// It is one also when no reading verifies.
    Unsigned,
}

impl Probes {
    fn from_signed(signed: Option<bool>) -> Self {
        if signed == Some(false) { Self::Unsigned } else { Self::Signed }
    }
}

/// A kind of event.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    pub(super) when: Vec<Condition>,
    pub(super) roles: Roles,
    pub(super) replies: Rows,
    pub(super) also: Option<Reading>,
    pub(super) stands: Stands,
}

/// What callbacks of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// Events.
    ForEvents,
    /// A console's tests: answered, never stored.
    ForTests,
}

/// How a sealed message is opened.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) of: Vec<Text>,
    pub(super) key: Text,
    pub(super) iv: Iv,
    pub(super) pad: u8,
    pub(super) frame: Option<Text>,
    pub(super) when: Vec<Condition>,
}

/// Where the initialisation vector of a sealed message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Iv {
    /// The first 16 bytes of the text.
    Front,
    /// The first 16 bytes of the key.
    Key,
}

/// A signature of ours.
#[derive(Debug)]
pub(super) struct Countersign {
    pub(super) of: Text,
    pub(super) with: Chain,
    pub(super) key: Option<Text>,
    pub(super) r#as: Writing,
}

/// A chain of digests, left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) first: First,
    pub(super) then: Vec<Step>,
}

/// The first step of a chain: it takes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Digest(Algorithm),
    Keyed(Algorithm),
    /// The text itself: a bare secret is all that proves the callback. Inside it is a SHA-256 on
    /// both sides, so that a comparison takes the same time whatever the lengths.
    Equal,
}

/// A further step: it takes what the one before made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Digest(Algorithm),
    Hex,
}

/// How a claim is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Writing {
    /// Hex in either case.
    #[default]
    Hex,
    /// Base64 of the standard alphabet.
    Base64,
    /// Base64 of the URL-safe alphabet.
    Base64Url,
    /// The text itself; only with `equal`.
    Text,
}

/// One reading of a signature.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) why: Option<String>,
    pub(super) of: Text,
    pub(super) with: Chain,
    pub(super) public: Option<Public>,
    pub(super) key: Text,
    pub(super) r#in: Spot,
    pub(super) r#as: Writing,
    pub(super) cut: Option<usize>,
    pub(super) when: Vec<Condition>,
    pub(super) plus: Plus,
    pub(super) roles: Roles,
    pub(super) sorted: Vec<Text>,
    pub(super) pairs: Option<Pairs>,
}

/// The parameters that a reading signs as a list.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    pub(super) which: Which,
    pub(super) except: Vec<String>,
    pub(super) add: Vec<(String, Text)>,
    pub(super) order: Order,
    pub(super) shape: Shape,
    pub(super) each: Each,
    pub(super) empty: Empty,
}

/// Which parameters are in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// These.
    Names(Vec<String>),
    /// All of the query.
    Query,
    /// All of query and form.
    All,
    /// Those of `paste`.
    Pasted,
}

/// In which order they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// By name, as bytes.
    #[default]
    Name,
    /// As the file or the callback gives them.
    Given,
    /// By the sender's macro in `paste`.
    Macro,
}

/// How each name and value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Each {
    /// Decoded.
    #[default]
    Decoded,
    /// As on the wire.
    Raw,
    /// Encoded as PHP does.
    Form,
    /// Percent-encoded.
    Percent,
}

/// What becomes of empty values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Empty {
    /// They are signed as empty.
    #[default]
    Kept,
    /// They are left out.
    Dropped,
}

/// How long a sender waits, and how it tries again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// How long it waits for an answer.
    pub timeout: Option<Duration>,
    /// How often it tries again.
    pub retries: Option<u32>,
    /// The gaps between its tries, where they are known.
    pub gaps: Vec<Duration>,
    /// From the first try to the last.
    pub horizon: Option<Duration>,
    /// What makes it try again, in its own words.
    pub when: Option<String>,
}

impl Sender {
    /// Reads and checks a sender file called `name`.
    ///
    /// # Errors
    /// Every mistake in the file, at once; a file that is no TOML has one, with its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Fault>> {
        let file: File = toml::from_str(text).map_err(|error| {
            let place = error.span().map_or(String::new(), |span| {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!("line {line}")
            });
            vec![Fault::new(place, error.message().trim(), "see the sender language")]
        })?;
        let mut reader = Reader { faults: Vec::new() };
        let sender = reader.sender(name, text, file);
        if reader.faults.is_empty() { Ok(sender) } else { Err(reader.faults) }
    }

    /// Its name: the file's, without `.toml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its title, for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Links to its documentation.
    #[must_use]
    pub fn docs(&self) -> &[String] {
        &self.docs
    }

    /// What its facts rest on, where its file says so.
    #[must_use]
    pub fn basis(&self) -> Option<Basis> {
        self.basis
    }

    /// What nobody outside has confirmed; shown wherever the sender is.
    #[must_use]
    pub fn unconfirmed(&self) -> &[String] {
        &self.unconfirmed
    }

    /// What the sender calls its secret; `None`: it has none.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// Whether a source may run without a secret.
    #[must_use]
    pub fn may_be_unsigned(&self) -> bool {
        self.unsigned || self.readings.is_empty()
    }

    /// The methods it calls with; the first is the usual one.
    #[must_use]
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The names of the sender's own macros, as its console replaces them in a URL.
    pub fn macros(&self) -> impl Iterator<Item = &str> {
        self.paste.iter().filter_map(|pasted| name_of(pasted.value.as_bytes()))
    }

    /// Where it publishes its public keys, and the longest time that they are kept.
    #[must_use]
    pub fn key_set(&self) -> Option<(&Uri, Duration)> {
        self.key_set.as_ref().map(|set| (&set.url, set.keep))
    }

    /// Further keys that a source of this sender may have: name and what it is.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Settings that say what is the source's own. A sender that signs for everybody alike has
    /// some: without them, anybody's callbacks are taken.
    pub fn ours(&self) -> impl Iterator<Item = &str> {
        self.ours.iter().map(|(name, _)| name.as_str())
    }

    /// Its patience.
    #[must_use]
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Addresses that it publishes, for `allow = "sender"`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Roles whose value an app sets, signed or not.
    #[must_use]
    pub fn from_client(&self) -> &[Role] {
        &self.from_client
    }

    /// Why each further reading of its signature is there.
    pub fn readings(&self) -> impl Iterator<Item = Option<&str>> {
        self.readings.iter().map(|reading| reading.why.as_deref())
    }

    /// The file as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Reads a file and collects its mistakes.
struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    fn sender(&mut self, name: &str, text: &str, file: File) -> Sender {
        let paste = file.paste.as_deref().map(|paste| self.paste(paste)).unwrap_or_default();
        let readings = self.readings(file.signature);
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
            time: file.time.and_then(|time| self.time(&time)),
            known: self.known(file.known),
            codes: file.codes,
            challenge: file.challenge.map(|one| self.challenge(one)).unwrap_or_default(),
            test: file.test.map(|test| self.test(test)).unwrap_or_default(),
            kinds: self.kinds(file.kind),
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
        let accepted = sender.vectors.iter().any(|vector| vector.expects("outcome", "accepted"));
        if !accepted {
            self.fault("vector", "none is accepted", "add one: a file without does not load");
        }
    }

    fn fault(&mut self, key: impl Into<String>, what: &str, remedy: &str) {
        self.faults.push(Fault::new(key, what, remedy));
    }

    /// A text at `key`; an empty one when it is none.
    fn text(&mut self, key: &str, text: &str, strictness: Strictness) -> Text {
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

    fn roles(&mut self, key: &str, written: BTreeMap<String, Many<file::RoleText>>) -> Roles {
        let mut roles = Roles::default();
        for (name, texts) in written {
            let key = format!("{key}.{name}");
            let texts: Vec<_> =
                texts.into_vec().into_iter().map(|text| self.role_text(&key, text)).collect();
            match (Role::from_name(&name), name.as_str()) {
                (Some(role), _) => {
                    roles.texts.insert(role, texts);
                }
                (None, "replay") => roles.replay = texts,
                _ => self.fault(key, "is no role", ROLES),
            }
        }
        roles
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
            known.push(Kind {
                when: self.conditions(&format!("{key}.when"), kind.when),
                roles: self.roles(&format!("{key}.roles"), kind.roles),
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

    fn chain(&mut self, key: &str, steps: &[String]) -> Option<Chain> {
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

const ROLES: &str = "use transaction, user, item, amount, currency, custom, reverses or replay";
const SHAPES: &str = "show it: k=v&k=v, k=v,k=v, kvkv, vv, k,v k,v";

/// The status that a number in a file stands for.
pub(super) fn status(number: i64) -> Option<StatusCode> {
    let number = u16::try_from(number).ok().filter(|number| *number >= 200)?;
    StatusCode::from_u16(number).ok()
}

/// Whether `text` reads what is known here as `key`.
fn reads(text: &Text, key: &str) -> bool {
    text.spots().any(|spot| !spot.came() && spot.key == key)
}

impl Reading {
    /// Whether its key reads what is known here as `key`.
    pub(super) fn reads(&self, key: &str) -> bool {
        reads(&self.key, key)
    }
}

impl Spot {
    /// The first step of its key, and the rest.
    pub(super) fn steps(&self) -> (&str, impl Iterator<Item = &str>) {
        let mut steps = self.key.split('.');
        (steps.next().unwrap_or_default(), steps)
    }

    /// Whether it came with the callback.
    pub(super) fn came(&self) -> bool {
        self.origin == Origin::Callback
    }
}
