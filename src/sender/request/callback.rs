//! Callbacks: one request read by a recipe, verified, resolved and replied to.

mod answer;
mod challenge;
mod matching;
mod opening;
mod proven;
mod public;
mod token;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::Method;
use smallvec::SmallVec;

use super::body;
use super::encoding::{self, Plus};
use super::headers::ReadHeaders;
use super::json;
use super::names::Slot;
use super::parameters::{ParameterError, Parameters, Place, Value};
use super::unreplaced;
use crate::sender::acts::evaluate::{Context, EvalError};
use crate::sender::acts::identity::OlderKeys;
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::resolved::Resolved;
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::crypto::digest::Output;
use crate::sender::crypto::key_set::{KeyList, KeySet};
use crate::sender::language::bound::{Bound, Scope};
use crate::sender::language::coverage::Coverage;
use crate::sender::language::definition::{Probes, Reads, Root};
use crate::sender::language::recipe::{Also, EventRow, Events, Kind, Protection, Recipe, WhenBody};
use crate::sender::request::Request;

pub use answer::ReplyKind;
pub(in crate::sender) use matching::{SUPPLIED_MAX, supplied_plus};
pub(in crate::sender) use proven::Proven;
pub(in crate::sender) use public::Message;

/// One request, read by a recipe.
#[derive(Debug)]
pub struct Callback<'a> {
    pub(in crate::sender) recipe: &'a Recipe,
    pub(in crate::sender) request: Request<'a>,
    pub(in crate::sender) now_ms: i64,
    pub(in crate::sender) keys: Option<&'a KeySet>,
    pub(in crate::sender) query: &'a [u8],
    /// The body as its parameters are read from it.
    pub(in crate::sender) body: Cow<'a, [u8]>,
    pub(in crate::sender) parameters: Parameters,
    /// The headers that the sender's file reads.
    pub(in crate::sender) headers: ReadHeaders<'a>,
    pub(in crate::sender) unreadable: Option<ParameterError>,
    pub(in crate::sender) opened: Option<Box<Opened>>,
    pub(in crate::sender) matched: Option<Match>,
    /// The proof of the whole callback, if this is a part of it.
    pub(in crate::sender) inherited: Option<Match>,
    pub(in crate::sender) kind: Option<usize>,
    /// The row of the table of events.
    pub(in crate::sender) row: Option<usize>,
    pub(in crate::sender) nature: CallbackKind,
    pub(in crate::sender) proof: Proof,
    /// Present once the content may be digested.
    proven: Option<Proven>,
    /// The coverage, once it is known.
    pub(in crate::sender) coverage: Coverage,
    pub(in crate::sender) older_keys: OlderKeys,
}

/// A message or an address check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum CallbackKind {
    /// A message.
    Message,
    /// An address check.
    Challenge,
}

/// The basis of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Proof {
    /// Its callback verified.
    Signature,
    /// An operator takes responsibility for it.
    Grant,
}

/// The required content of a sealed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Parameters, in a writing that the sender's file reads.
    Parameters,
    /// Any text, as in an address check.
    Anything,
}

/// A sealed message, opened.
#[derive(Debug)]
pub(in crate::sender) struct Opened {
    pub(in crate::sender) message: Vec<u8>,
    pub(in crate::sender) parameters: Parameters,
    /// The slot of the cipher text, where it is one parameter.
    pub(in crate::sender) slot: Option<Slot>,
}

/// The variant and secret that matched.
#[derive(Clone, Debug)]
pub(in crate::sender) struct Match {
    /// Index into the recipe's variants; `None`: nothing is signed.
    pub(in crate::sender) variant: Option<usize>,
    pub(in crate::sender) secret: Option<usize>,
    /// The output of the signature's chain.
    pub(in crate::sender) output: Option<Output>,
    /// Other signatures that the callback has, and that match too. Few senders have several.
    pub(in crate::sender) further: Vec<FurtherMatch>,
}

/// A signature that matches beside the one that decided.
#[derive(Clone, Debug)]
pub(in crate::sender) struct FurtherMatch {
    /// Index into the recipe's variants.
    pub(in crate::sender) variant: usize,
    /// The output of its chain.
    pub(in crate::sender) output: Output,
}

/// The result of verification.
#[derive(Debug)]
pub enum Judgement<'c, 'a> {
    /// Verified.
    Verified(Verified<'c, 'a>),
    /// One of the sender's unsigned probes: reply with
    /// [`Outcome::Test`](crate::sender::Outcome::Test), store nothing.
    Probe,
    /// The sender's public keys, or its certificate, could not be fetched. Reply
    /// with⏎[`Outcome::Unavailable`](crate::sender::Outcome::Unavailable).
    Undecided,
    /// An unsigned address check: reply with
    /// [`Outcome::Challenge`](crate::sender::Outcome::Challenge), store nothing.
    Challenge,
    /// Rejected.
    Rejected(CallbackError),
}

/// The events of a callback that an operator grants.
#[derive(Debug)]
pub enum Granted {
    /// One event.
    Event(Box<Resolved>),
    /// Several: the bodies of the parts, each to be read by [`Recipe::read_part`] and granted.
    Several(Vec<Bytes>),
}

/// A verified callback. Only [`Callback::verify`] makes one.
#[derive(Debug)]
pub struct Verified<'c, 'a> {
    pub(in crate::sender) callback: &'c mut Callback<'a>,
}

/// The rejection of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackError {
    /// The closed reason.
    pub reason: Reason,
    /// The parameter it is about, where there is one. It comes from the sender's file or the
    /// request: bounded, but not to be trusted as a label.
    pub parameter: Option<String>,
}

/// The resolution of a verified callback.
#[derive(Debug)]
pub enum Resolution {
    /// An event, to be recorded.
    Event(Box<Resolved>),
    /// Several events: the bodies of the parts, each to be read by [`Recipe::read_part`], verified
    /// and resolved like a callback of its own.
    Several(Vec<Bytes>),
    /// Its values are not the only ones that make the signed text, and probably not those that the
    /// provider signed: to be held until a person decides.
    Ambiguous(Box<Resolved>),
    /// An address check: answered with [`Outcome::Challenge`](crate::sender::Outcome::Challenge),
    /// never stored.
    Challenge,
    /// A console's test: answered with [`Outcome::Test`](crate::sender::Outcome::Test), never
    /// stored.
    Test,
    /// Verified, but not acceptable.
    Rejected(CallbackError),
}

impl CallbackError {
    pub(in crate::sender) fn new(reason: Reason) -> Self {
        Self { reason, parameter: None }
    }

    pub(in crate::sender) fn of(reason: Reason, parameter: &str) -> Self {
        Self { reason, parameter: Some(parameter.to_owned()) }
    }
}

impl From<ParameterError> for CallbackError {
    fn from(unreadable: ParameterError) -> Self {
        Self { reason: unreadable.reason, parameter: unreadable.parameter }
    }
}

impl From<EvalError<'_>> for CallbackError {
    fn from(lack: EvalError<'_>) -> Self {
        match lack {
            EvalError::Missing(name) => Self::of(Reason::MissingParameter, name),
            EvalError::Parameter(unreadable) => unreadable.into(),
        }
    }
}

impl<'a> Callback<'a> {
    /// A callback whose parameters [`Self::read`] has still to read.
    #[inline(always)]
    pub(in crate::sender) fn new(recipe: &'a Recipe, request: Request<'a>, now_ms: i64) -> Self {
        let target = request.target;
        let query = memchr::memchr(b'?', target).map_or(&[][..], |at| &target[at + 1..]);
        Self {
            recipe,
            request,
            now_ms,
            keys: recipe.known_keys.as_ref(),
            query,
            body: Cow::Borrowed(request.body),
            parameters: Parameters::new(),
            headers: ReadHeaders::none_of(request.headers),
            unreadable: None,
            opened: None,
            matched: None,
            inherited: None,
            kind: None,
            row: None,
            nature: CallbackKind::Message,
            proof: Proof::Signature,
            proven: None,
            coverage: Coverage::default(),
            older_keys: OlderKeys::Unwanted,
        }
    }

    /// Makes the keys of earlier versions as well, for a store that may have some.
    pub fn look_up(&mut self, wanted: OlderKeys) {
        self.older_keys = wanted;
    }

    /// Reads the headers and the parameters, once, of a callback that [`Recipe::unread`] made.
    pub fn read(&mut self) {
        self.headers.find(&self.recipe.headers, &self.recipe.sender.header_names);
        self.unreadable = self.read_parameters().err();
    }

    fn read_parameters(&mut self) -> Result<(), ParameterError> {
        let recipe = self.recipe;
        if recipe.sender.reads.contains(&Reads::Query) {
            self.parameters.read_pairs(Place::Query, self.query, &recipe.names)?;
        }
        match recipe.body {
            WhenBody::BeforeVerification => self.read_body(),
            WhenBody::AfterVerification => Ok(()),
        }
    }

    pub(in crate::sender) fn read_body(&mut self) -> Result<(), ParameterError> {
        let reads = &self.recipe.sender.reads;
        self.body = body::readable(self.request.headers, self.request.body, reads)?;
        read_body(self.recipe, reads, &self.body, &mut self.parameters)
    }

    /// Verifies the callback: guards, freshness, signature, decryption.
    pub fn verify(&mut self) -> Judgement<'_, 'a> {
        match self.judge() {
            Ok(()) => {
                self.proven = Some(Proven::new());
                Judgement::Verified(Verified { callback: self })
            }
            Err(rejection) => {
                (self.matched, self.proven) = (None, None);
                if self.is_unsigned_challenge(&rejection) {
                    self.nature = CallbackKind::Challenge;
                    return Judgement::Challenge;
                }
                self.not_verified(rejection)
            }
        }
    }

    /// Resolves a callback that does not verify, for an operator who takes responsibility for it.
    /// Nothing is authenticated, and nothing is compared with the source's own ids and rewards.
    /// Its identity is that of a callback whose supplied signature is right, and is known from then
    /// on. The callback was not verified before.
    ///
    /// # Errors
    /// A [`CallbackError`] if it cannot be read, is sealed under another key, or has no transaction.
    pub fn grant(&mut self, event_id: impl fmt::Display) -> Result<Granted, CallbackError> {
        self.proof = Proof::Grant;
        if let Some(unreadable) = &self.unreadable {
            return Err(unreadable.clone().into());
        }
        if self.recipe.body == WhenBody::AfterVerification {
            self.read_body()?;
        }
        if let Some(parts) = self.parts()? {
            return Ok(Granted::Several(parts));
        }
        let supplied = self.supplied_variant();
        self.matched = supplied.map(|_| Match {
            variant: supplied,
            secret: None,
            output: None,
            further: Vec::new(),
        });
        if self.recipe.open.is_some() {
            self.open()?;
        }
        self.find_kind();
        self.proven = Some(Proven::new());
        let (resolved, _) = self.resolved(&event_id)?;
        Ok(Granted::Event(resolved))
    }

    /// Whether an unknown key may be one of its sender: no list was fetched yet, or it is that of a
    /// certificate, which could not be fetched.
    fn may_be_published(&self) -> bool {
        let of_certificate = self.recipe.key_list.as_ref().is_some_and(KeyList::is_of_certificates);
        self.keys.is_none() || of_certificate
    }

    fn not_verified(&self, rejection: CallbackError) -> Judgement<'_, 'a> {
        if rejection.reason == Reason::UnknownKey && self.may_be_published() {
            return Judgement::Undecided;
        }
        let probes = self.recipe.sender.test.probes == Probes::Unsigned;
        let is_readable = self.unreadable.is_none() || self.is_bare();
        if probes && is_readable && self.holds(&self.recipe.test) && !self.is_several() {
            return Judgement::Probe;
        }
        let about_values = matches!(
            rejection.reason,
            Reason::BadSignature | Reason::MissingParameter | Reason::BadEncoding
        );
        match self.first_unreplaced().filter(|_| about_values) {
            Some(name) => Judgement::Rejected(CallbackError::of(
                Reason::UnresolvedPlaceholder,
                &unreplaced::shown(name),
            )),
            None => Judgement::Rejected(self.on_the_wire(rejection)),
        }
    }

    /// The error with the name on the wire: the source's `params` may rename what the file names.
    pub(in crate::sender) fn on_the_wire(&self, error: CallbackError) -> CallbackError {
        let renamed = error.parameter.as_deref().and_then(|name| {
            let (first, rest) = name.split_once('.').unwrap_or((name, ""));
            let wire = self.recipe.renames.get(first)?;
            Some(if rest.is_empty() { wire.clone() } else { format!("{wire}.{rest}") })
        });
        CallbackError { parameter: renamed.or(error.parameter), ..error }
    }

    /// Whether it is a HEAD or an OPTIONS: without a body, at most a probe, and never an event.
    #[inline]
    fn is_bare(&self) -> bool {
        matches!(*self.request.method, Method::HEAD | Method::OPTIONS)
    }

    fn judge(&mut self) -> Result<(), CallbackError> {
        if let Some(unreadable) = &self.unreadable {
            return Err(unreadable.clone().into());
        }
        match self.inherited.take() {
            Some(proof) => self.matched = Some(proof),
            None => self.judge_request()?,
        }
        if self.recipe.body == WhenBody::AfterVerification && !self.recipe.kinds.is_empty() {
            self.read_body()?;
        }
        if self.asks_for_address()? == CallbackKind::Challenge {
            self.nature = CallbackKind::Challenge;
            return Ok(());
        }
        if self.recipe.open.is_some() {
            self.open()?;
        }
        self.find_kind();
        match self.kind_here().map(|kind| &kind.also) {
            Some(Also::Signature(variant)) => self.also(variant),
            Some(Also::Lacking) => Err(CallbackError::new(Reason::BadSignature)),
            Some(Also::None) | None => Ok(()),
        }
    }

    /// Guards, freshness and signature.
    fn judge_request(&mut self) -> Result<(), CallbackError> {
        if !self.recipe.sender.methods.contains(self.request.method) {
            return Err(CallbackError::new(Reason::WrongMethod));
        }
        if self.is_bare() {
            return Err(CallbackError::new(Reason::WrongMethod));
        }
        if !self.recipe.require.is_empty() {
            self.required()?;
        }
        if self.recipe.time.is_some() {
            self.fresh()?;
        }
        self.match_signature().map_err(|rejection| self.or_unreadable(rejection))?;
        if self.recipe.token.is_some() {
            self.claims_hold()?;
        }
        self.time_is_proven()
    }

    /// A compressed body is what is wrong, where the signature of a body does not match.
    #[cold]
    fn or_unreadable(&self, rejection: CallbackError) -> CallbackError {
        let is_about = matches!(rejection.reason, Reason::BadSignature | Reason::MissingParameter);
        let coding = || body::coding(self.request.headers).filter(|_| self.recipe.reads_body());
        match coding().filter(|_| is_about && !self.request.body.is_empty()) {
            Some(coding) => CallbackError::of(Reason::BadBody, &coding),
            None => rejection,
        }
    }

    /// Finds the kind by its conditions, or looks the event up in the provider's table.
    pub(in crate::sender) fn find_kind(&mut self) {
        self.kind = self.recipe.kinds.iter().position(|kind| self.holds(&kind.when));
        let Some(events) = self.recipe.events.as_ref().filter(|_| self.kind.is_none()) else {
            return;
        };
        self.row = self.event_name(events).and_then(|name| events.index.get(&*name).copied());
        self.kind = self.row_here().map(|row| row.kind);
    }

    /// The name of the event: the first value that is present.
    fn event_name(&self, events: &'a Events) -> Option<Cow<'_, [u8]>> {
        let context = Context { plus: self.plus(), ..Context::default() };
        let names = events.by.iter().filter_map(|by| self.value(by, &context).ok().flatten());
        names.into_iter().find(|name| !name.is_empty())
    }

    /// The placeholders read to name the event: up to the first that is present.
    pub(in crate::sender) fn naming_spots(&self) -> &'a [Bound] {
        let by = self.recipe.events.as_ref().map_or(&[][..], |events| &events.by);
        let context = Context { plus: self.plus(), ..Context::default() };
        let is_there =
            |spot: &Bound| matches!(self.value(spot, &context), Ok(Some(name)) if !name.is_empty());
        let named = by.iter().position(is_there).map_or(by.len(), |at| at + 1);
        &by[..named]
    }

    #[inline(never)]
    fn required(&self) -> Result<(), CallbackError> {
        let (parameters, buffers) = self.side(Scope::Outer);
        for slot in &self.recipe.require {
            let there = parameters.get(*slot, buffers).is_some_and(|p| !p.raw.is_empty());
            if !there {
                let name = unreplaced::shown(self.recipe.names.name(*slot));
                return Err(CallbackError::of(Reason::MissingParameter, &name));
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn fresh(&self) -> Result<(), CallbackError> {
        let Some(time) = &self.recipe.time else { return Ok(()) };
        let Some((past, future)) = time.within else { return Ok(()) };
        let mut text: SmallVec<[u8; 32]> = SmallVec::new();
        match self.put(&time.r#in, &Context::default(), &mut text) {
            Ok(()) => {}
            // Nothing is signed, so a missing time proves no less than a present one.
            Err(EvalError::Missing(_)) if self.recipe.protection == Protection::Unsigned => {
                return Ok(());
            }
            Err(lack) => return Err(lack.into()),
        }
        let name = time.r#in.spots().next().map_or("", |spot| &spot.name);
        // A time that can be written in two ways could be re-cut.
        let canonical = Some(()).filter(|()| time.stamp.is_canonical(&text));
        let at_ms = canonical
            .and_then(|()| time.stamp.read(&text, time.zone))
            .ok_or_else(|| CallbackError::of(Reason::BadEncoding, name))?;
        if self.now_ms.saturating_sub(at_ms) > past {
            return Err(CallbackError::of(Reason::Stale, name));
        }
        if at_ms.saturating_sub(self.now_ms) > future {
            return Err(CallbackError::of(Reason::Future, name));
        }
        Ok(())
    }

    /// Whether a supplied signature other than a macro is present: a caller that signs does not
    /// probe.
    pub(in crate::sender) fn has_signature(&self) -> bool {
        self.recipe.variants.iter().any(|variant| {
            let supplied = self.value(&variant.supplied, &Context::default()).ok().flatten();
            supplied.is_some_and(|supplied| {
                !supplied.is_empty() && !self.recipe.macros.is_unreplaced(&supplied)
            })
        })
    }

    /// The first parameter whose value is a macro that the sender left in place.
    pub(in crate::sender) fn first_unreplaced(&self) -> Option<&[u8]> {
        self.unreplaced().next()
    }

    /// The parameters whose value is a macro that the sender left in place.
    pub(in crate::sender) fn unreplaced(&self) -> impl Iterator<Item = &[u8]> {
        let (parameters, buffers) = self.side(Scope::Message);
        let all = if parameters.may_hold_macros(buffers) { usize::MAX } else { 0 };
        parameters.iter(buffers).take(all).filter_map(|parameter| {
            if !unreplaced::may_be_macro(parameter.raw) {
                return None;
            }
            let value = Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
            let text = value.text(Plus::Space).ok()??;
            self.recipe.macros.is_unreplaced(&text).then_some(parameter.name)
        })
    }

    /// The variant that matched.
    pub(in crate::sender) fn matched_variant(&self) -> Option<&'a SignatureVariant> {
        self.recipe.variants.get(self.matched.as_ref()?.variant?)
    }

    /// The row of the table of events.
    pub(in crate::sender) fn row_here(&self) -> Option<&'a EventRow> {
        self.recipe.events.as_ref()?.rows.get(self.row?)
    }

    pub(in crate::sender) fn kind_here(&self) -> Option<&'a Kind> {
        self.recipe.kinds.get(self.kind?)
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// The decoded value of the parameter `name` (its name on the wire), if it came; what is not
    /// UTF-8, percent-encoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let text = self.named(name)?.text(self.plus()).ok()??.into_owned();
        Some(encoding::shown(&text).into_owned())
    }

    /// The same to be searched for in the request: what has no text, such as an element that holds
    /// others, as it came; `null` is empty.
    #[must_use]
    pub fn written_parameter(&self, name: &str) -> Option<String> {
        let value = self.named(name)?;
        let text = value.text(self.plus()).map(Option::unwrap_or_default);
        Some(encoding::shown(&text.unwrap_or(Cow::Borrowed(&*value.raw))).into_owned())
    }

    fn named(&self, name: &str) -> Option<Value<'_>> {
        let (parameters, buffers) = self.side(Scope::Message);
        let parameter = parameters.find(name.as_bytes(), buffers)?;
        Some(Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) })
    }
}

/// Reads `body` in the first of the writings `reads` that it looks like.
pub(in crate::sender) fn read_body(
    recipe: &Recipe,
    reads: &[Reads],
    body: &[u8],
    parameters: &mut Parameters,
) -> Result<(), ParameterError> {
    let reads = |place| reads.contains(&place);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    // An element of a list of events is read by itself.
    let is_bare_list = recipe.sender.root == Root::List && recipe.sender.each.is_none();
    let Some(first) = first else { return Ok(()) };
    match first {
        b'[' if recipe.sender.root == Root::List => {
            let items = json::items(body).ok_or(ParameterError::new(Reason::BadBody))?;
            let all = items.iter().all(|item| json::members(item).is_some());
            if all { Ok(()) } else { Err(ParameterError::new(Reason::BadBody)) }
        }
        b'{' if is_bare_list => Err(ParameterError::new(Reason::BadBody)),
        b'<' if reads(Reads::Xml) => parameters.read_xml(body, &recipe.names),
        b'{' | b'[' if reads(Reads::Json) => parameters.read_json(body, &recipe.names),
        _ if reads(Reads::Form) => parameters.read_pairs(Place::Form, body, &recipe.names),
        _ if reads(Reads::Json) || reads(Reads::Xml) => Err(ParameterError::new(Reason::BadBody)),
        _ => Ok(()),
    }
}
