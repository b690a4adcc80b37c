//! A sender bound to one source, compiled once: texts, keyed states, replies.

mod keys;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use zeroize::Zeroizing;

use super::bound::{Binder, Bound, Gate, Gateway, Input, Scope, Use, file_names};
use super::callback::Callback;
use super::condition::Condition;
use super::coverage::{self, Shaping};
use super::definition::{
    Chain, EventTable, FormerKind, Identity, Iv, KindUse, Open, Probes, Reads, RoleText, Roles,
    Sender, Uncovered, Writing,
};
use super::definition_error::DefinitionError;
use super::key_set::{KeyList, KeySet};
use super::names::{Names, Slot};
use super::parameters::Place;
use super::reply::{Answer, Rows, Spec};
use super::request::Request;
use super::secret::Secret;
use super::signature::{self, Reading, TimeCover};
use super::text::{Piece, Strictness, Text, is_key};
use super::time::Stamp;
use super::unreplaced::Macros;
use keys::{Ours, known_keys, pick_slot};

/// How far two clocks may be apart: of the sender and of gateways.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// What a source says to its sender: the keys of a `[[source]]` that the sender reads.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The source's name, for `[source]` in its template.
    pub source: String,
    /// Its secrets; any that is still valid may match. At most [`Terms::SECRETS_MAX`].
    pub secrets: Vec<LiveSecret>,
    /// Public keys by id, as written, that are known without being fetched: vectors have some.
    pub keys: BTreeMap<String, String>,
    /// The sender's own settings: `aes_key`, `app_id`, …; and [`Terms::KEY_SET_URL`].
    pub settings: BTreeMap<String, Secret>,
    /// Renamed parameters: role or name of the file to the name on the wire.
    pub params: BTreeMap<String, String>,
    /// Custom parameters, `type=1&who={user_id}`.
    pub template: Option<String>,
    /// The age allowed, in place of the sender's own.
    pub max_age: Option<MaxAge>,
    /// Parameters or claims that must be there.
    pub require: Vec<String>,
    /// The source says `unsigned = true`: callbacks are taken without a signature.
    pub unsigned: bool,
    /// Replies in place of the sender's own, by outcome or reason, as written.
    pub reply: toml::Table,
    /// Item to amount: another amount is refused.
    pub rewards: BTreeMap<String, String>,
    /// The source says `replayable = true`.
    pub replayable: Replay,
    /// Names of the file whose unconfirmed shape the source has seen to be right.
    pub confirmed: Vec<String>,
}

impl Terms {
    /// Live secrets a source may have: with four readings that bounds the digests of one callback.
    pub const SECRETS_MAX: usize = 4;

    /// The setting of every sender that publishes public keys: where they are, in place of its own
    /// URL.
    pub const KEY_SET_URL: &str = "key_set_url";
}

/// Whether a source accepts what its sender's signatures do not tell apart from a replay attack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replay {
    /// It does not.
    #[default]
    Refused,
    /// It does: something else protects it, or nothing of worth comes.
    Accepted,
}

/// A secret with the name that the metrics show and the date it ends.
#[derive(Clone, Debug)]
pub struct LiveSecret {
    /// Its name in metrics and events; never its value.
    pub id: String,
    /// The secret.
    pub value: Secret,
    /// From this Unix time in milliseconds on it is no longer accepted.
    pub until_ms: Option<i64>,
}

/// How old a callback may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    /// Its age is not checked.
    Off,
    /// At most that far in the past or in the future.
    Within(Duration),
}

/// A sender bound to one source, compiled once.
#[derive(Debug)]
pub struct Recipe {
    pub(super) sender: Arc<Sender>,
    pub(super) source: String,
    /// Names of the file to their names on the wire, where they differ.
    pub(super) renames: BTreeMap<String, String>,
    pub(super) names: Names,
    /// Slots below this are names that the sender's file reads; above are the source's own.
    pub(super) file_slots: usize,
    pub(super) secrets: Vec<LiveSecret>,
    pub(super) protection: Protection,
    /// Whether the source says `replayable = true`.
    pub(super) replay: Replay,
    pub(super) readings: Vec<Reading>,
    pub(super) key_list: Option<KeyList>,
    /// Public keys that are known without being fetched.
    pub(super) known_keys: Option<KeySet>,
    pub(super) lists: Vec<Text<Bound>>,
    pub(super) time: Option<Freshness>,
    pub(super) require: Vec<Slot>,
    pub(super) body: WhenBody,
    pub(super) open: Option<Opener>,
    pub(super) challenge: Gate,
    /// A cipher text that is opened before the challenge's condition is asked.
    pub(super) challenge_open: Option<Text<Bound>>,
    /// What the answer to an address check says back of it.
    pub(super) echoed: Vec<Bound>,
    pub(super) test: Gate,
    pub(super) flag: Gate,
    pub(super) kinds: Vec<Kind>,
    pub(super) events: Option<Events>,
    pub(super) roles: Roles<Bound>,
    pub(super) identity: Identity<Bound>,
    /// What the file knows by name, bound.
    pub(super) known: Vec<(String, Text<Bound>)>,
    pub(super) template: Vec<(String, Text<Bound>)>,
    pub(super) own_replies: Rows<Bound>,
    pub(super) replies: Rows<Bound>,
    pub(super) countersign: Option<Countersign>,
    pub(super) macros: Macros,
    pub(super) rewards: BTreeMap<String, String>,
    /// What has to be the source's own, and which ones are.
    pub(super) ours: Vec<Ours>,
    /// What is a secret of the sender: masked like a claim.
    pub(super) masked: Vec<Bound>,
    /// Slots of claims: masked wherever parameters are shown.
    pub(super) claims: Vec<Slot>,
    /// Slots of what may stand behind a signed part: the claims, and the id of a public key.
    pub(super) unsigned: Vec<Slot>,
}

/// Whether callbacks have to be signed. It follows from the sender and from what the source says,
/// never from a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// They have to.
    Signed,
    /// Nothing signs them: something else protects the source.
    Unsigned,
}

/// When the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenBody {
    /// Verification reads its parameters.
    BeforeVerification,
    /// Nothing that verification reads is a parameter of the body.
    AfterVerification,
}

/// Where a callback's time stands and how old it may be.
#[derive(Debug)]
pub(super) struct Freshness {
    pub(super) r#in: Text<Bound>,
    pub(super) stamp: Stamp,
    pub(super) zone: Offset,
    /// Milliseconds of past and future allowed.
    pub(super) within: Option<(i64, i64)>,
}

/// How a sealed message is opened.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) of: Vec<Text<Bound>>,
    /// One, or one for each secret where the key depends on the secret.
    pub(super) keys: Vec<Zeroizing<[u8; 32]>>,
    pub(super) iv: Iv,
    pub(super) pad: u8,
    /// The ids that a message may end with, the usual one first; empty: messages have no frame.
    pub(super) frame: Vec<Vec<u8>>,
    /// The slot of the usual cipher text, where it is one parameter.
    pub(super) slot: Option<Slot>,
    /// The writings of the message inside.
    pub(super) reads: Vec<Reads>,
}

/// The provider's table of events.
#[derive(Debug)]
pub(super) struct Events {
    /// The first that is there names the event.
    pub(super) by: Vec<Bound>,
    pub(super) rows: Vec<EventRow>,
    /// The row of each name.
    pub(super) index: HashMap<Box<[u8]>, usize>,
}

/// A row of the provider's table of events.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) kind: usize,
    /// What identifies such an event; the content last.
    pub(super) id: Vec<RoleText<Bound>>,
    pub(super) roles: Roles<Bound>,
    pub(super) volatile: Vec<String>,
}

/// A kind of event.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    /// `Gate::Never` where rows of the table of events name it.
    pub(super) when: Gate,
    pub(super) roles: Roles<Bound>,
    pub(super) replies: Rows<Bound>,
    pub(super) also: Also,
    pub(super) stands: KindUse,
    pub(super) formerly: FormerKind<Bound>,
}

/// The second signature of a kind.
#[derive(Debug)]
pub(super) enum Also {
    /// It has none.
    None,
    /// It has one.
    Reading(Box<Reading>),
    /// It has one, and the source lacks the setting that it needs.
    Lacking,
}

/// A signature of ours.
#[derive(Debug)]
pub(super) struct Countersign {
    pub(super) of: Text<Bound>,
    pub(super) with: Chain,
    pub(super) writing: Writing,
    /// For each secret the keyed state, where the chain starts with an HMAC.
    pub(super) keyed: Vec<Option<super::digest::Hasher>>,
}

impl Recipe {
    /// Compiles `sender` under the `terms` of one source.
    ///
    /// # Errors
    /// Every mistake in `terms`, at once.
    pub fn compile(sender: &Arc<Sender>, terms: &Terms) -> Result<Self, Vec<DefinitionError>> {
        let mut binder = Binder::new(sender, terms)?;
        let mut compiler = Compiler { faults: Vec::new() };
        let recipe = compiler.recipe(sender, &mut binder);
        match recipe {
            Some(recipe) if compiler.faults.is_empty() => Ok(recipe),
            _ => Err(compiler.faults),
        }
    }

    /// The sender.
    #[must_use]
    pub fn sender(&self) -> &Arc<Sender> {
        &self.sender
    }

    /// Whether every callback must bring a time that its signature covers, and is rejected when
    /// that is too old. A callback of another source can be sent again at any time.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        let covered = |reading: &Reading| reading.time != TimeCover::Never;
        self.protection == Protection::Signed
            && self.time.as_ref().is_some_and(|time| time.within.is_some())
            && self.readings.iter().all(covered)
            && self.kinds.iter().all(|kind| matches!(kind.also, Also::None))
    }

    /// How far the time of a callback may be from ours, in the past and in the future, where
    /// callbacks are dated.
    #[must_use]
    pub fn window(&self) -> Option<(Duration, Duration)> {
        let (past, future) = self.time.as_ref()?.within.filter(|_| self.is_dated())?;
        let length = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        Some((length(past), length(future)))
    }

    /// Whether parameters of a callback come in one of `places` and nowhere else.
    pub(super) fn is_only_in(&self, places: &[Place]) -> bool {
        self.sender.reads.iter().all(|reads| {
            places.contains(&match reads {
                Reads::Query => Place::Query,
                Reads::Form => Place::Form,
                Reads::Json => Place::Json,
                Reads::Xml => Place::Xml,
            })
        })
    }

    /// Whether `spot` reads what a provider changes when it repeats a callback, or what we say.
    pub(super) fn is_volatile(&self, spot: &Bound) -> bool {
        let ours = matches!(
            spot.input,
            Input::Gateway(Gateway::ReceivedAt | Gateway::EventId | Gateway::Now)
        );
        let times = || self.time.iter().flat_map(|time| time.r#in.spots());
        ours || self.identity.volatile.iter().any(|name| **name == *spot.name)
            || times().any(|time| time.name == spot.name)
    }

    /// For how long after its receipt a callback, or a repetition of it, can be accepted: it may
    /// come early, is fresh for a while after its stamp, and may be stamped again until its sender
    /// gives up. `None`: at any time.
    #[must_use]
    pub fn acceptable_for(&self) -> Option<Duration> {
        let (past, future) = self.time.as_ref().filter(|_| self.is_dated())?.within?;
        let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let horizon = self.sender.patience().horizon.unwrap_or_default();
        let window = ms(past).saturating_add(ms(future));
        Some(horizon.saturating_add(window).saturating_add(2 * CLOCK_SKEW))
    }

    /// Whether `secret` is one of its own, ended or not.
    #[must_use]
    pub fn knows(&self, secret: &Secret) -> bool {
        self.secrets.iter().any(|own| own.value == *secret)
    }

    /// Whether a callback may bring its identity where the signature does not cover it.
    #[must_use]
    pub fn takes_unsigned_identity(&self) -> bool {
        self.identity.uncovered != Uncovered::Rejected
    }

    /// Whether its source says `replayable = true`.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.replay == Replay::Accepted
    }

    /// Whether a callback that is genuine for one of the two is genuine for the other too: they have
    /// a key in common, and nothing in a callback says whose it is.
    #[must_use]
    pub fn shares_signatures(&self, other: &Self) -> bool {
        let signed = |one: &Self| one.protection == Protection::Signed;
        let list = |one: &Self| one.key_list.as_ref().map(|list| (list.identity, list.url.clone()));
        let secret = || self.secrets.iter().any(|secret| other.knows(&secret.value));
        // The path of a source is in its URL.
        let by_url = |reading: &Reading| reading.signs_url();
        self.sender.name == other.sender.name
            && signed(self)
            && signed(other)
            && (secret() || (self.key_list.is_some() && list(self) == list(other)))
            && !self.readings.iter().all(by_url)
            && !self.ours.iter().any(|own| other.ours.iter().any(|their| own.excludes(their)))
    }

    /// The ids of its secrets, in the order of [`super::Resolved::secret`].
    pub fn secret_ids(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|secret| secret.id.as_str())
    }

    /// The names of parameters that have a shape in a signed text, in order: all that
    /// [`super::Resolved::misfits`] can ever say.
    #[must_use]
    pub fn shaped(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for signed in self.readings.iter().map(|reading| &reading.signed) {
            let spots = signed.spots.iter().zip(&signed.assumed.shapes).enumerate();
            let shaped = spots.filter(|(value, (_, shape))| {
                !shape.is_free() || !shape.may_be_absent() || signed.together.contains(value)
            });
            names.extend(shaped.filter_map(|(_, (spot, _))| Some(spot.as_ref()?.name.to_string())));
            names.extend(signed.chain.iter().flat_map(coverage::Chain::misfit_names));
        }
        names
    }

    /// Whether it looks at the body at all: where it does not, nobody has to wait for one.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.sender.reads.iter().any(|place| *place != Reads::Query)
            || self.readings.iter().any(|reading| reading.signed.reads_body())
    }

    /// Whether a signature covers scheme and authority, as the sender sees them.
    #[must_use]
    pub fn signs_url(&self) -> bool {
        self.readings.iter().any(Reading::signs_url)
    }

    /// Reads a request that came at `now_ms` (Unix time in milliseconds). It cannot fail: what is
    /// wrong with the request is said by [`Callback::verify`], and it can be answered all the same.
    #[must_use]
    #[inline(always)]
    pub fn read<'a>(&'a self, request: Request<'a>, now_ms: i64) -> Callback<'a> {
        let mut callback = Callback::new(self, request, now_ms);
        callback.read();
        callback
    }

    /// The answer to [`super::Outcome::Unavailable`] where it is the same for every callback, for
    /// the moments when a request cannot be read. `None`: it has to be made, or it is silence.
    #[must_use]
    pub fn fixed_unavailable(&self) -> Option<&Answer> {
        let spec = self.own_replies.get("unavailable").or_else(|| self.replies.get("unavailable"));
        match spec {
            Some(Spec::Fixed(answer)) => Some(answer),
            _ => None,
        }
    }

    /// What is to be pasted into the sender's console behind the URL of the source: its own macros
    /// under the names of this source, cut to the names that the file reads.
    #[must_use]
    pub fn paste(&self) -> String {
        let pairs: Vec<String> = self
            .sender
            .paste
            .iter()
            .enumerate()
            .map(|(index, pasted)| {
                let name = self.macros.wire(index).unwrap_or(&pasted.name);
                format!("{name}={}", pasted.value)
            })
            .collect();
        pairs.join("&")
    }
}

/// Compiles a recipe and collects the mistakes of its source.
struct Compiler {
    faults: Vec<DefinitionError>,
}

impl Compiler {
    fn recipe(&mut self, sender: &Arc<Sender>, binder: &mut Binder<'_>) -> Option<Recipe> {
        self.secrets(sender, binder.terms);
        self.file_names(sender, binder);
        let file_slots = binder.names.len();
        let lists = self.lists(sender, binder);
        self.confirmed(sender, binder.terms);
        let shaping = Shaping::new(binder);
        let readings = self.readings(sender, binder, &shaping);
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
        let echoed = echoed(&own_replies, &replies);
        let claims = signature::claim_slots(&readings);
        let mut recipe = Recipe {
            sender: Arc::clone(sender),
            source: binder.terms.source.clone(),
            renames: binder.renames.clone(),
            file_slots,
            secrets: binder.terms.secrets.clone(),
            protection: protection(sender, binder.terms),
            replay: binder.terms.replayable,
            unsigned: claims.iter().copied().chain(pick_slot(key_list.as_ref())).collect(),
            claims,
            masked: self.masked(sender, binder),
            readings,
            key_list,
            known_keys: known_keys(binder.terms),
            lists,
            time: self.freshness(sender, binder),
            require: self.require(binder),
            body: WhenBody::AfterVerification,
            open,
            challenge,
            challenge_open,
            echoed,
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
            macros: Macros::new(sender, binder),
            rewards: binder.terms.rewards.clone(),
            ours: self.ours(sender, binder),
            names: std::mem::take(&mut binder.names),
        };
        recipe.body = when_body(&recipe);
        self.check_coverage(&mut recipe);
        Some(recipe)
    }

    /// Gives every name that the file reads a slot.
    fn file_names(&mut self, sender: &Sender, binder: &mut Binder<'_>) {
        for name in file_names(sender) {
            let slot = binder.slot(&name);
            self.take(slot, "params");
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

    fn take<T>(&mut self, result: Result<T, DefinitionError>, key: &str) -> Option<T> {
        result.map_err(|fault| self.faults.push(fault.under(key))).ok()
    }

    fn fault(&mut self, key: impl Into<String>, what: &str, remedy: &str) {
        self.faults.push(DefinitionError::new(key, what, remedy));
    }

    fn gate(
        &mut self,
        conditions: &[super::condition::Condition],
        binder: &mut Binder<'_>,
        unsaid: Gate,
    ) -> Gate {
        if conditions.is_empty() {
            return unsaid;
        }
        self.take(binder.gate(conditions), "when").unwrap_or(Gate::Never)
    }

    fn secrets(&mut self, sender: &Sender, terms: &Terms) {
        if terms.secrets.len() > Terms::SECRETS_MAX {
            self.fault("secrets", "are too many", "at most four; take out those that ended");
        }
        if terms.secrets.iter().any(|secret| secret.value.expose().is_empty()) {
            self.fault("secrets", "one is empty", "give its value");
        }
        let signed = !sender.readings.is_empty() && sender.secret.is_some();
        if signed && terms.secrets.is_empty() && !terms.unsigned && terms.keys.is_empty() {
            let about = sender.secret.as_deref().unwrap_or_default();
            let remedy = format!("set it to the {about}");
            self.fault("secrets", "is not there", &remedy);
        }
        if terms.unsigned && !terms.secrets.is_empty() {
            self.fault("unsigned", "stands beside a secret", "take one of the two out");
        }
        if terms.unsigned && !sender.may_be_unsigned() {
            self.fault("unsigned", "is not for this sender: it signs", "give its secret");
        }
        if sender.secret.is_none() && !sender.readings.is_empty() && !terms.secrets.is_empty() {
            let what = "are not for this sender: it signs with a private key of its own";
            self.fault("secrets", what, "take them out");
        }
        for name in terms.settings.keys() {
            let of_list = name == Terms::KEY_SET_URL && sender.key_set.is_some();
            if !of_list && !sender.settings.iter().any(|(setting, _)| setting == name) {
                self.fault(name, "is no setting of this sender", "see `postern senders`");
            }
        }
    }

    fn readings(
        &mut self,
        sender: &Sender,
        binder: &mut Binder<'_>,
        shaping: &Shaping,
    ) -> Vec<Reading> {
        let mut readings = Vec::new();
        for (index, reading) in sender.readings.iter().enumerate() {
            match signature::compile(index, reading, binder, shaping) {
                Ok(Some(reading)) => readings.push(reading),
                Ok(None) => {}
                Err(fault) => self.faults.push(fault.under("signature")),
            }
        }
        signature::relate(&mut readings, &sender.readings);
        self.separable_secrets(&readings, binder.terms);
        if readings.is_empty() && protection(sender, binder.terms) == Protection::Signed {
            let remedy = "set what its signature needs; see `postern senders`";
            self.fault("signature", "no reading of it can ever apply", remedy);
        }
        for (index, secret) in binder.terms.secrets.iter().enumerate() {
            let usable = readings.iter().any(|reading| reading.can_use(index));
            if !usable && !readings.is_empty() {
                let remedy = "look at how the sender writes it (prefix, base64)";
                self.fault(format!("secrets[{}]", secret.id), "fits no signature", remedy);
            }
        }
        readings
    }

    /// A secret inside a signed text separates its values. Where one begins or ends another, one
    /// text can be read as two.
    fn separable_secrets(&mut self, readings: &[Reading], terms: &Terms) {
        if !readings.iter().any(Reading::separates_by_secret) {
            return;
        }
        let all = terms.secrets.iter();
        let borders = |long: &&LiveSecret| {
            let long = long.value.expose();
            terms.secrets.iter().map(|short| short.value.expose()).any(|short| {
                short.len() < long.len() && (long.starts_with(short) || long.ends_with(short))
            })
        };
        for long in all.filter(borders) {
            let what = "begins or ends with another secret of the source";
            let remedy = "replace one of the two: where they meet, values could be exchanged";
            self.fault(format!("secrets[{}]", long.id), what, remedy);
        }
    }

    fn own_roles(&mut self, sender: &Sender, binder: &mut Binder<'_>) -> Option<Roles<Bound>> {
        let mut roles = self.take(binder.roles(&sender.roles), "")?;
        // A role that the file leaves open is whatever parameter the source says.
        for (name, wire) in &binder.terms.params.clone() {
            let Some(role) = super::Role::from_name(name) else { continue };
            if roles.texts.has(role) {
                continue;
            }
            let text = Text::parse(&format!("{{{wire}}}"), Strictness::Lenient);
            let of = text.and_then(|text| binder.text(&text, Use::Fact));
            if let Some(of) = self.take(of, &format!("params.{name}")) {
                let text = super::definition::RoleText { of, when: Vec::new() };
                roles.texts.insert(role, vec![text]);
            }
        }
        Some(roles)
    }

    /// A source can pin rewards only where it is told what is given, and how much.
    fn pinnable(&mut self, roles: &Roles<Bound>, terms: &Terms) {
        if terms.rewards.is_empty() {
            return;
        }
        for role in [super::Role::Item, super::Role::Amount] {
            if !roles.texts.has(role) {
                let what = format!("pin the {0}, and this sender names no {0}", role.as_str());
                let remedy =
                    format!("say which parameter it is: params = {{ {} = \"…\" }}", role.as_str());
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
        let keys = keys_of(&key, binder.terms);
        if keys.is_none() {
            let remedy = "set the sender's EncodingAESKey, 43 characters of base64";
            self.fault(setting_in(&open.key), "is no key of 32 bytes", remedy);
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
        Some(Opener { of, keys: keys?, iv: open.iv, pad: open.pad, frame, slot, reads })
    }

    /// The ids that a message may end with: an optional one may also be absent.
    fn frame(&mut self, frame: &Text, binder: &mut Binder<'_>) -> Option<Vec<Vec<u8>>> {
        let text = self.take(binder.text(frame, Use::Key), "open.frame")?;
        let is_optional = matches!(text.pieces.as_slice(), [Piece::Optional(_)]);
        let id = signature::fixed(&text, &[]);
        if id.is_none() {
            self.fault(setting_in(frame), "is missing", "sealed messages end with it");
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
                    Ok(Some(reading)) => Also::Reading(Box::new(reading)),
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

    /// A source can confirm only shapes that the file has.
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

    /// A kind or a flag that nothing signs is chosen by anybody: its file has to say so.
    fn covered_kinds(&mut self, recipe: &Recipe) {
        if recipe.protection == Protection::Unsigned {
            return;
        }
        let sender = Arc::clone(&recipe.sender);
        let open = |gate: &Gate| match gate {
            Gate::Always | Gate::Never => false,
            Gate::Any(conditions) => conditions.iter().any(|one| !recipe.may_cover_condition(one)),
        };
        for (kind, of_file) in recipe.kinds.iter().zip(&sender.kinds) {
            let for_events = kind.stands == KindUse::ForEvents;
            if for_events && of_file.unsigned.is_none() && open(&kind.when) {
                let remedy = "say why in unsigned = \"…\": anybody with one callback can choose it";
                self.fault(format!("kind[{}].when", kind.name), "is not signed", remedy);
            }
        }
        let by = recipe.events.iter().flat_map(|events| &events.by);
        let said = sender.events.as_ref().is_some_and(|events| events.unsigned.is_some());
        if !said && by.into_iter().any(|spot| !recipe.may_cover_spot(spot)) {
            let remedy = "say why in unsigned = \"…\": anybody with one callback can choose it";
            self.fault("events.by", "is not signed", remedy);
        }
        if sender.test.unsigned.is_none() && open(&recipe.flag) {
            let remedy = "say why in unsigned = \"…\": anybody with one callback can set it";
            self.fault("test.flag", "is not signed", remedy);
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
                self.faults.push(
                    DefinitionError::new(
                        "template",
                        "has a pair without a plain name",
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
        match Rows::parse(&binder.terms.reply) {
            Ok(rows) => self
                .take(rows.bind(&mut |spot| binder.spot(spot, Use::Reply)), "reply")
                .unwrap_or_default(),
            Err(faults) => {
                self.faults.extend(faults.into_iter().map(|fault| fault.under("reply")));
                Rows::default()
            }
        }
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
        for (secret, keyed) in binder.terms.secrets.iter().zip(&keyed) {
            if keyed.is_none() {
                let remedy = "look at how the sender writes it (prefix, base64)";
                self.fault(format!("secrets[{}]", secret.id), "is no key to sign with", remedy);
            }
        }
        Some(Countersign { of, with: sign.with.clone(), writing: sign.r#as, keyed })
    }

    /// A time that is checked has to be signed, or anybody can make it fresh again.
    fn covered_time(&mut self, recipe: &mut Recipe) {
        let Some(time) = recipe.time.as_ref().filter(|time| time.within.is_some()) else { return };
        let spots: Vec<&Bound> = time.r#in.spots().collect();
        let covers: Vec<Option<TimeCover>> = recipe
            .readings
            .iter()
            .map(|reading| {
                let signed = &reading.signed;
                let may = spots.iter().all(|spot| signed.may_cover(spot, recipe));
                let always = spots.iter().all(|spot| signed.always_covers(spot, recipe));
                let by_callback = spots.iter().all(|spot| signed.covers_somewhere(spot, recipe));
                may.then_some(match (always, by_callback) {
                    (true, _) => TimeCover::Always,
                    (false, true) => TimeCover::ByCallback,
                    (false, false) => TimeCover::Never,
                })
            })
            .collect();
        if covers.iter().any(Option::is_none) {
            let remedy = "sign it, or leave `within` out and set max_age = \"off\"";
            self.fault("time.within", "is checked on a time that is not signed", remedy);
        }
        for (reading, cover) in recipe.readings.iter_mut().zip(covers) {
            reading.time = cover.unwrap_or(TimeCover::Never);
        }
    }
}

impl Recipe {
    /// Whether every reading may cover what `condition` is about.
    fn may_cover_condition(&self, condition: &Condition<Bound>) -> bool {
        condition.spot().is_some_and(|spot| self.may_cover_spot(spot))
    }

    /// Whether `reading` applies to address checks alone.
    fn is_of_challenges(&self, reading: &Reading) -> bool {
        let when = self.sender.readings.get(reading.index).map_or(&[][..], |one| &one.when);
        !when.is_empty() && when.iter().all(|one| self.sender.challenge.when.contains(one))
    }

    /// Whether every reading of messages may cover the value of `spot`.
    fn may_cover_spot(&self, spot: &Bound) -> bool {
        let in_seal = matches!(spot.input, Input::Parameter { scope: Scope::Message, .. });
        let sealed = || self.open.iter().flat_map(|opener| &opener.of);
        let of_messages = self.readings.iter().filter(|reading| !self.is_of_challenges(reading));
        of_messages.into_iter().all(|reading| {
            let mut slots = sealed().filter_map(signature::only_slot);
            (in_seal && slots.any(|slot| reading.signed.reads_slot(slot)))
                || reading.signed.may_cover(spot, self)
        })
    }
}

/// What the answer to an address check says back of it: of a source's own answer, or of the file's.
fn echoed(own: &Rows<Bound>, of_file: &Rows<Bound>) -> Vec<Bound> {
    let rows = if own.has("challenge") { own } else { of_file };
    let spots = rows.texts_of("challenge").into_iter().flat_map(Text::spots);
    let comes = |spot: &&Bound| {
        matches!(spot.input, Input::Parameter { .. } | Input::Gateway(Gateway::Message))
    };
    spots.filter(comes).cloned().collect()
}

fn protection(sender: &Sender, terms: &Terms) -> Protection {
    if terms.unsigned || sender.readings.is_empty() {
        Protection::Unsigned
    } else {
        Protection::Signed
    }
}

/// The keys that open messages: one, or one for each secret.
fn keys_of(key: &Text<Bound>, terms: &Terms) -> Option<Vec<Zeroizing<[u8; 32]>>> {
    let of = |secret: &[u8]| -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(signature::fixed(key, secret)?.as_slice().try_into().ok()?))
    };
    if signature::reads_secret(key) {
        terms.secrets.iter().map(|secret| of(secret.value.expose())).collect()
    } else {
        Some(vec![of(&[])?])
    }
}

fn setting_in(text: &Text) -> String {
    text.spots().next().map_or_else(|| "open".to_owned(), |spot| spot.key.clone())
}

/// Whether verification reads anything that could be a parameter of the body.
fn when_body(recipe: &Recipe) -> WhenBody {
    let bodies = recipe.sender.reads.iter().any(|place| *place != Reads::Query);
    let reads = recipe.open.is_some()
        || !recipe.require.is_empty()
        || recipe.sender.test.probes == Probes::Unsigned
        || recipe.sender.challenge.probes == Probes::Unsigned
        || recipe.time.as_ref().is_some_and(|time| signature::reads_parameters(&time.r#in))
        || matches!(recipe.challenge, Gate::Any(_))
        || pick_slot(recipe.key_list.as_ref()).is_some()
        || recipe.readings.iter().any(Reading::reads_parameters);
    if bodies && reads { WhenBody::BeforeVerification } else { WhenBody::AfterVerification }
}
