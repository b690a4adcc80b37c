//! A sender bound to one source, compiled once: texts, keyed states, replies.

mod compile;
mod cover;
mod keys;
mod terms;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use zeroize::Zeroizing;

use super::bound::{Binder, Bound, Gate, Gateway, Input};
use super::coverage;
use super::definition::{
    Chain, FormerKind, Identity, Iv, KindUse, Reads, RoleText, Roles, Sender, Uncovered, Writing,
};
use super::definition_error::DefinitionError;
use super::text::Text;
use super::time::Stamp;
use crate::sender::acts::reply::{Answer, Rows, Spec};
use crate::sender::acts::signature::{Reading, TimeCover};
use crate::sender::crypto::key_set::{KeyList, KeySet};
use crate::sender::crypto::secret::Secret;
use crate::sender::request::Request;
use crate::sender::request::callback::Callback;
use crate::sender::request::names::{Names, Slot};
use crate::sender::request::parameters::Place;
use crate::sender::request::unreplaced::Macros;
use compile::Compiler;
use keys::Ours;

pub use terms::{LiveSecret, MaxAge, Replay, Terms};

/// How far two clocks may be apart: of the sender and of gateways.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A sender bound to one source, compiled once.
#[derive(Debug)]
pub struct Recipe {
    pub(in crate::sender) sender: Arc<Sender>,
    pub(in crate::sender) source: String,
    /// Names of the file to their names on the wire, where they differ.
    pub(in crate::sender) renames: BTreeMap<String, String>,
    pub(in crate::sender) names: Names,
    /// Slots below this are names that the sender's file reads; above are the source's own.
    pub(in crate::sender) file_slots: usize,
    pub(in crate::sender) secrets: Vec<LiveSecret>,
    pub(in crate::sender) protection: Protection,
    /// Whether the source says `replayable = true`.
    pub(in crate::sender) replay: Replay,
    pub(in crate::sender) readings: Vec<Reading>,
    pub(in crate::sender) key_list: Option<KeyList>,
    /// Public keys that are known without being fetched.
    pub(in crate::sender) known_keys: Option<KeySet>,
    pub(in crate::sender) lists: Vec<Text<Bound>>,
    pub(in crate::sender) time: Option<Freshness>,
    pub(in crate::sender) require: Vec<Slot>,
    pub(in crate::sender) body: WhenBody,
    pub(in crate::sender) open: Option<Opener>,
    pub(in crate::sender) challenge: Gate,
    /// A cipher text that is opened before the challenge's condition is asked.
    pub(in crate::sender) challenge_open: Option<Text<Bound>>,
    /// What the answer to an address check says back of it.
    pub(in crate::sender) echoed: Vec<Bound>,
    pub(in crate::sender) test: Gate,
    pub(in crate::sender) flag: Gate,
    pub(in crate::sender) kinds: Vec<Kind>,
    pub(in crate::sender) events: Option<Events>,
    pub(in crate::sender) roles: Roles<Bound>,
    pub(in crate::sender) identity: Identity<Bound>,
    /// What the file knows by name, bound.
    pub(in crate::sender) known: Vec<(String, Text<Bound>)>,
    pub(in crate::sender) template: Vec<(String, Text<Bound>)>,
    pub(in crate::sender) own_replies: Rows<Bound>,
    pub(in crate::sender) replies: Rows<Bound>,
    pub(in crate::sender) countersign: Option<Countersign>,
    pub(in crate::sender) macros: Macros,
    pub(in crate::sender) rewards: BTreeMap<String, String>,
    /// What has to be the source's own, and which ones are.
    pub(in crate::sender) ours: Vec<Ours>,
    /// What is a secret of the sender: masked like a claim.
    pub(in crate::sender) masked: Vec<Bound>,
    /// Slots of claims: masked wherever parameters are shown.
    pub(in crate::sender) claims: Vec<Slot>,
    /// Slots of what may stand behind a signed part: the claims, and the id of a public key.
    pub(in crate::sender) unsigned: Vec<Slot>,
}

/// Whether callbacks have to be signed. It follows from the sender and from what the source says,
/// never from a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Protection {
    /// They have to.
    Signed,
    /// Nothing signs them: something else protects the source.
    Unsigned,
}

/// When the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum WhenBody {
    /// Verification reads its parameters.
    BeforeVerification,
    /// Nothing that verification reads is a parameter of the body.
    AfterVerification,
}

/// Where a callback's time stands and how old it may be.
#[derive(Debug)]
pub(in crate::sender) struct Freshness {
    pub(in crate::sender) r#in: Text<Bound>,
    pub(in crate::sender) stamp: Stamp,
    pub(in crate::sender) zone: Offset,
    /// Milliseconds of past and future allowed.
    pub(in crate::sender) within: Option<(i64, i64)>,
}

/// How a sealed message is opened.
#[derive(Debug)]
pub(in crate::sender) struct Opener {
    pub(in crate::sender) of: Vec<Text<Bound>>,
    /// One, or one for each secret where the key depends on the secret.
    pub(in crate::sender) keys: Vec<Zeroizing<[u8; 32]>>,
    pub(in crate::sender) iv: Iv,
    pub(in crate::sender) pad: u8,
    /// The ids that a message may end with, the usual one first; empty: messages have no frame.
    pub(in crate::sender) frame: Vec<Vec<u8>>,
    /// The slot of the usual cipher text, where it is one parameter.
    pub(in crate::sender) slot: Option<Slot>,
    /// The writings of the message inside.
    pub(in crate::sender) reads: Vec<Reads>,
}

/// The provider's table of events.
#[derive(Debug)]
pub(in crate::sender) struct Events {
    /// The first that is there names the event.
    pub(in crate::sender) by: Vec<Bound>,
    pub(in crate::sender) rows: Vec<EventRow>,
    /// The row of each name.
    pub(in crate::sender) index: HashMap<Box<[u8]>, usize>,
}

/// A row of the provider's table of events.
#[derive(Debug)]
pub(in crate::sender) struct EventRow {
    pub(in crate::sender) kind: usize,
    /// What identifies such an event; the content last.
    pub(in crate::sender) id: Vec<RoleText<Bound>>,
    pub(in crate::sender) roles: Roles<Bound>,
    pub(in crate::sender) volatile: Vec<String>,
}

/// A kind of event.
#[derive(Debug)]
pub(in crate::sender) struct Kind {
    pub(in crate::sender) name: String,
    /// `Gate::Never` where rows of the table of events name it.
    pub(in crate::sender) when: Gate,
    pub(in crate::sender) roles: Roles<Bound>,
    pub(in crate::sender) replies: Rows<Bound>,
    pub(in crate::sender) also: Also,
    pub(in crate::sender) stands: KindUse,
    pub(in crate::sender) formerly: FormerKind<Bound>,
}

/// The second signature of a kind.
#[derive(Debug)]
pub(in crate::sender) enum Also {
    /// It has none.
    None,
    /// It has one.
    Reading(Box<Reading>),
    /// It has one, and the source lacks the setting that it needs.
    Lacking,
}

/// A signature of ours.
#[derive(Debug)]
pub(in crate::sender) struct Countersign {
    pub(in crate::sender) of: Text<Bound>,
    pub(in crate::sender) with: Chain,
    pub(in crate::sender) writing: Writing,
    /// For each secret the keyed state, where the chain starts with an HMAC.
    pub(in crate::sender) keyed: Vec<Option<crate::sender::crypto::digest::Hasher>>,
}

impl Recipe {
    /// Compiles `sender` under the `terms` of one source.
    ///
    /// # Errors
    /// Every mistake in `terms`, at once.
    pub fn compile(sender: &Arc<Sender>, terms: &Terms) -> Result<Self, Vec<DefinitionError>> {
        let mut binder = Binder::new(sender, terms)?;
        let mut compiler = Compiler::default();
        let recipe = compiler.recipe(sender, &mut binder);
        match recipe {
            Some(recipe) if compiler.errors.is_empty() => Ok(recipe),
            _ => Err(compiler.errors),
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
    pub(in crate::sender) fn is_only_in(&self, places: &[Place]) -> bool {
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
    pub(in crate::sender) fn is_volatile(&self, spot: &Bound) -> bool {
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

    /// The ids of its secrets, in the order of [`crate::sender::Resolved::secret`].
    pub fn secret_ids(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|secret| secret.id.as_str())
    }

    /// The names of parameters that have a shape in a signed text, in order: all that
    /// [`crate::sender::Resolved::misfits`] can ever say.
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

    /// The answer to [`crate::sender::Outcome::Unavailable`] where it is the same for every callback, for
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
