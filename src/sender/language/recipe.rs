//! Recipes: a sender bound to one source, compiled once.

mod compile;
mod confirm;
mod cover;
mod keys;
mod likeness;
mod terms;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use zeroize::Zeroizing;

use super::bound::{Binder, Bound, Gate, Gateway, Input};
use super::coverage;
use super::definition::{
    Chain, Cipher, Claim, FormerKind, Identity, KindUse, Reads, RoleText, Roles, Sender, Uncovered,
    Writing,
};
use super::definition_error::DefinitionError;
use super::text::Text;
use super::time::Stamp;
use super::value_shape::ByteSet;
use crate::sender::acts::reply::{Answer, Rows, Spec};
use crate::sender::acts::signature::{SignatureVariant, TimeCover};
use crate::sender::crypto::key_set::{KeyList, KeySet};
use crate::sender::crypto::secret::Secret;
use crate::sender::request::Request;
use crate::sender::request::callback::Callback;
use crate::sender::request::names::{Names, Slot};
use crate::sender::request::parameters::Place;
use crate::sender::request::unreplaced::Macros;
use compile::Compiler;
use confirm::Confirmation;
use keys::Ours;

pub use keys::UnusableValue;
pub use terms::{Confirming, LiveSecret, MaxAge, Replay, Terms, Weak};

/// The largest difference between two clocks: of the sender and of gateways.
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
    pub(in crate::sender) variants: Vec<SignatureVariant>,
    pub(in crate::sender) key_list: Option<KeyList>,
    /// The headers that the sender's file reads, under first and second names.
    pub(in crate::sender) headers: Vec<http::HeaderName>,
    /// Public keys that are known without being fetched.
    pub(in crate::sender) known_keys: Option<KeySet>,
    pub(in crate::sender) lists: Vec<Text<Bound>>,
    pub(in crate::sender) time: Option<Freshness>,
    pub(in crate::sender) require: Vec<Slot>,
    pub(in crate::sender) body: WhenBody,
    pub(in crate::sender) open: Option<Opener>,
    /// The conditions of a token beside its signature.
    pub(in crate::sender) token: Option<Token>,
    pub(in crate::sender) challenge: Gate,
    /// A cipher text that is opened before the challenge's condition is asked.
    pub(in crate::sender) challenge_open: Option<Text<Bound>>,
    /// Values of an address check that its reply repeats.
    pub(in crate::sender) echoed: Vec<Bound>,
    pub(in crate::sender) test: Gate,
    pub(in crate::sender) flag: Gate,
    pub(in crate::sender) kinds: Vec<Kind>,
    pub(in crate::sender) events: Option<Events>,
    pub(in crate::sender) roles: Roles<Bound>,
    pub(in crate::sender) identity: Identity<Bound>,
    /// The named values of the file, bound.
    pub(in crate::sender) known: Vec<(String, Text<Bound>)>,
    pub(in crate::sender) template: Vec<(String, Text<Bound>)>,
    pub(in crate::sender) own_replies: Rows<Bound>,
    pub(in crate::sender) replies: Rows<Bound>,
    pub(in crate::sender) countersign: Option<Countersign>,
    /// The confirmations that its source makes by itself.
    pub(in crate::sender) confirmation: Option<Confirmation>,
    pub(in crate::sender) macros: Macros,
    pub(in crate::sender) rewards: BTreeMap<String, String>,
    /// Values that must belong to the source, and the allowed ones.
    pub(in crate::sender) ours: Vec<Ours>,
    /// Supplied signatures and secrets of the sender: masked wherever parameters are shown.
    pub(in crate::sender) masked: Masked,
    /// Slots of parameters that are a supplied signature, or hold one: where nothing has verified,
    /// they are masked as a whole.
    pub(in crate::sender) supplied_signatures: Vec<Slot>,
    /// Slots that may follow a signed part: supplied signatures, and the id of a public key.
    pub(in crate::sender) unsigned: Vec<Slot>,
}

/// Parameters, and members of others, that are masked wherever parameters are shown.
#[derive(Debug, Default)]
pub(in crate::sender) struct Masked {
    /// Slots whose whole value is masked.
    pub(in crate::sender) whole: ByteSet,
    /// Members of other parameters.
    pub(in crate::sender) members: Vec<MaskedMember>,
}

/// A member of a parameter, which the steps into that lead to.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sender) struct MaskedMember {
    pub(in crate::sender) slot: Slot,
    pub(in crate::sender) steps: Box<[Box<str>]>,
}

/// Whether callbacks have to be signed: decided by the sender and the source, never by a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Protection {
    /// A signature is required.
    Signed,
    /// No signature: something else protects the source.
    Unsigned,
}

/// The time at which the body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum WhenBody {
    /// Verification reads its parameters.
    BeforeVerification,
    /// Nothing that verification reads is a parameter of the body.
    AfterVerification,
}

/// The place of a callback's time, and its allowed age.
#[derive(Debug)]
pub(in crate::sender) struct Freshness {
    pub(in crate::sender) r#in: Text<Bound>,
    pub(in crate::sender) stamp: Stamp,
    pub(in crate::sender) zone: Offset,
    /// Milliseconds of past and future allowed.
    pub(in crate::sender) within: Option<(i64, i64)>,
}

/// Decryption of a sealed message.
#[derive(Debug)]
pub(in crate::sender) struct Opener {
    pub(in crate::sender) of: Vec<Text<Bound>>,
    pub(in crate::sender) with: Cipher<Bound>,
    /// One, or one for each secret where the key depends on the secret; an empty one without a
    /// cipher.
    pub(in crate::sender) keys: Vec<Zeroizing<Vec<u8>>>,
    /// The ids that a message may end with, the usual one first; empty: messages have no frame.
    pub(in crate::sender) frame: Vec<Vec<u8>>,
    /// The slot of the usual cipher text, where it is one parameter.
    pub(in crate::sender) slot: Option<Slot>,
    /// The writings of the message inside.
    pub(in crate::sender) reads: Vec<Reads>,
}

/// The conditions of a token beside its signature.
#[derive(Debug)]
pub(in crate::sender) struct Token {
    /// Its payload.
    pub(in crate::sender) payload: Text<Bound>,
    /// Its claims; a setting by its value.
    pub(in crate::sender) claims: Vec<(String, Claim)>,
}

/// The provider's table of events.
#[derive(Debug)]
pub(in crate::sender) struct Events {
    /// Names of the event: the first that is present counts.
    pub(in crate::sender) by: Vec<Bound>,
    pub(in crate::sender) rows: Vec<EventRow>,
    /// The row of each name.
    pub(in crate::sender) index: HashMap<Box<[u8]>, usize>,
}

/// A row of the provider's table of events.
#[derive(Debug)]
pub(in crate::sender) struct EventRow {
    pub(in crate::sender) kind: usize,
    /// The identity of such an event; the content last.
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
    /// None.
    None,
    /// A second signature.
    Signature(Box<SignatureVariant>),
    /// A second signature, and the source lacks the setting that it needs.
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
    /// All errors in `terms`.
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

    /// Whether every callback must carry a signed time and is rejected when that is too old.
    /// Without it, a callback can be replayed at any time.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        let covered = |variant: &SignatureVariant| variant.time != TimeCover::Never;
        self.protection == Protection::Signed
            && self.time.as_ref().is_some_and(|time| time.within.is_some())
            && self.variants.iter().all(covered)
            && self.kinds.iter().all(|kind| matches!(kind.also, Also::None))
    }

    /// The allowed age of a callback and how far it may lie in the future, if callbacks are dated.
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

    /// Whether `spot` reads a value that changes when a provider repeats a callback, or one of
    /// ours.
    pub(in crate::sender) fn is_volatile(&self, spot: &Bound) -> bool {
        let ours = matches!(
            spot.input,
            Input::Gateway(Gateway::ReceivedAt | Gateway::EventId | Gateway::Now)
        );
        let times = || self.time.iter().flat_map(|time| time.r#in.spots());
        ours || self.identity.volatile.iter().any(|name| **name == *spot.name)
            || times().any(|time| time.name == spot.name)
    }

    /// The time after its receipt in which a callback, or a repetition, can be accepted. A callback
    /// may come early, is fresh for a while after its stamp, and may be re-stamped until its sender
    /// stops retrying. `None`: unlimited.
    #[must_use]
    pub fn acceptable_for(&self) -> Option<Duration> {
        let (past, future) = self.time.as_ref().filter(|_| self.is_dated())?.within?;
        let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let horizon = self.sender.retries().horizon.unwrap_or_default();
        let window = ms(past).saturating_add(ms(future));
        Some(horizon.saturating_add(window).saturating_add(2 * CLOCK_SKEW))
    }

    /// Whether callbacks have to be signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.protection == Protection::Signed
    }

    /// Whether `secret` is one of the source's, expired or not.
    #[must_use]
    pub fn knows(&self, secret: &Secret) -> bool {
        self.secrets.iter().any(|own| own.value == *secret)
    }

    /// Whether the identity of a callback may lie outside the signature.
    #[must_use]
    pub fn takes_unsigned_identity(&self) -> bool {
        self.identity.uncovered != Uncovered::Rejected
    }

    /// Whether the source says `replayable = true`.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.replay == Replay::Accepted
    }

    /// Whether a callback that verifies under one of the two verifies under the other: they share a
    /// key, and nothing in a callback names the source.
    #[must_use]
    pub fn shares_signatures(&self, other: &Self) -> bool {
        let signed = |one: &Self| one.protection == Protection::Signed;
        let list = |one: &Self| one.key_list.as_ref().map(|list| (list.identity, list.url.clone()));
        let secret = || self.secrets.iter().any(|secret| other.knows(&secret.value));
        signed(self)
            && signed(other)
            && (secret() || (self.key_list.is_some() && list(self) == list(other)))
            && self.signs_like(other)
            && !self.names_another(other)
    }

    /// Whether no callback names both sources as its own. A callback may lack an optional name if it
    /// has another of the source: such a name separates two sources only where one of them has no
    /// other that the callback can have.
    fn names_another(&self, other: &Self) -> bool {
        let has_to_differ = |own: &Ours| {
            let mut excluded = other.ours.iter().filter(|their| own.excludes(their));
            excluded.any(|their| !(own.of.is_optional() && their.of.is_optional()))
        };
        let has_no_other = |one: &Self, beside: &Self| {
            let is_excluded = |own: &Ours| beside.ours.iter().any(|their| own.excludes(their));
            !one.ours.is_empty() && one.ours.iter().all(is_excluded)
        };
        self.ours.iter().any(has_to_differ)
            || has_no_other(self, other)
            || has_no_other(other, self)
    }

    /// The ids of the secrets, in the order of [`crate::sender::Resolved::secret`].
    pub fn secret_ids(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(|secret| secret.id.as_str())
    }

    /// The names of parameters that have a shape in a signed text, in order: all that
    /// [`crate::sender::Resolved::misfits`] can ever say.
    #[must_use]
    pub fn shaped(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for signed in self.variants.iter().map(|variant| &variant.signed) {
            let spots = signed.spots.iter().zip(&signed.assumed.shapes).enumerate();
            let shaped = spots.filter(|(value, (_, shape))| {
                !shape.is_free() || !shape.may_be_absent() || signed.together.contains(value)
            });
            names.extend(shaped.filter_map(|(_, (spot, _))| Some(spot.as_ref()?.name.to_string())));
            names.extend(signed.chain.iter().flat_map(coverage::Chain::misfit_names));
        }
        names
    }

    /// Whether the body is read at all. If not, the caller need not wait for one.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.sender.reads.iter().any(|place| *place != Reads::Query)
            || self.variants.iter().any(|variant| variant.signed.reads_body())
    }

    /// Whether parameters are read from the query.
    #[must_use]
    pub fn reads_query(&self) -> bool {
        self.sender.reads.contains(&Reads::Query)
    }

    /// Whether a signature covers scheme and authority, as the sender sees them.
    #[must_use]
    pub fn signs_url(&self) -> bool {
        self.variants.iter().any(SignatureVariant::signs_url)
    }

    /// Reads a request received at `now_ms` (Unix time in milliseconds). Never fails:
    /// [`Callback::verify`] reports what is wrong with the request, and a reply is possible all the
    /// same.
    #[must_use]
    #[inline(always)]
    pub fn read<'a>(&'a self, request: Request<'a>, now_ms: i64) -> Callback<'a> {
        let mut callback = self.unread(request, now_ms);
        callback.read();
        callback
    }

    /// The same, for a caller that calls [`Callback::read`] where the callback stays: it is a kilobyte
    /// long.
    #[must_use]
    #[inline(always)]
    pub fn unread<'a>(&'a self, request: Request<'a>, now_ms: i64) -> Callback<'a> {
        Callback::new(self, request, now_ms)
    }

    /// The reply to [`crate::sender::Outcome::Unavailable`] if it is the same for every callback,
    /// for requests that cannot be read. `None`: it depends on the callback, or there is no reply.
    #[must_use]
    pub fn fixed_unavailable(&self) -> Option<&Answer> {
        let spec = self.own_replies.get("unavailable").or_else(|| self.replies.get("unavailable"));
        match spec {
            Some(Spec::Fixed(answer)) => Some(answer),
            _ => None,
        }
    }

    /// The query to paste into the sender's console after the URL of the source: the sender's
    /// macros under the names of this source.
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
