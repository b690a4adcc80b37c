//! One request, read by a recipe: verified, resolved, answered.

mod answer;
mod opening;
mod public;

use std::borrow::Cow;

use super::bound::{Input, Scope};
use super::definition::{First, Probes, Reads, Writing};
use super::digest::{Feed, Output};
use super::encoding::Plus;
use super::evaluate::{Context, Lack, Nul};
use super::key_set::KeySet;
use super::outcome::Reason;
use super::parameters::{Parameters, Place, Unreadable};
use super::recipe::{Also, Kind, Protection, Recipe, WhenBody};
use super::request::Request;
use super::resolved::Resolved;
use super::shape::Shape;
use super::signature::{self, Public, Reading, Twin, Whole};
use super::unreplaced;

pub(super) use public::Message;

/// One request, read by a recipe.
#[derive(Debug)]
pub struct Callback<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) request: Request<'a>,
    pub(super) now_ms: i64,
    pub(super) keys: Option<&'a KeySet>,
    pub(super) query: &'a [u8],
    pub(super) parameters: Parameters,
    pub(super) unreadable: Option<Unreadable>,
    pub(super) opened: Option<Box<Opened>>,
    pub(super) matched: Option<Match>,
    pub(super) kind: Option<usize>,
    pub(super) nature: Nature,
}

/// Whether a callback brings something or asks for the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    /// It brings something.
    Message,
    /// It checks the address.
    Challenge,
}

/// What has to be inside a sealed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    /// Parameters, in a writing that the sender's file reads.
    Parameters,
    /// Whatever it is: an address check's text.
    Anything,
}

/// A sealed message, opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) message: Vec<u8>,
    pub(super) parameters: Parameters,
}

/// The reading and secret that matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    /// Index into the recipe's readings; `None`: nothing is signed.
    pub(super) reading: Option<usize>,
    pub(super) secret: Option<usize>,
    /// What the signature came to.
    pub(super) output: Option<Output>,
}

/// What a callback claims to be its signature.
#[derive(Debug)]
enum Claim<'c> {
    /// A parameter, which is read when something is to be compared with it.
    Parameter,
    /// A text.
    Text(Cow<'c, [u8]>),
    /// One or several of a list: the list's text, its shape, and what they are called in it.
    List(Cow<'c, [u8]>, &'c Shape, &'c [u8]),
}

/// What verification says.
#[derive(Debug)]
pub enum Judgement<'c, 'a> {
    /// It is genuine.
    Verified(Verified<'c, 'a>),
    /// It is one of the sender's unsigned probes: answer [`Outcome::Test`](super::Outcome::Test), store nothing.
    Probe,
    /// The sender's public keys were never had, so that nobody can say: answer
    /// [`Outcome::Unavailable`](super::Outcome::Unavailable).
    Undecided,
    /// It is an address check that its sender does not sign: answer [`Outcome::Challenge`](super::Outcome::Challenge), store
    /// nothing.
    Challenge,
    /// It is refused.
    Refused(Refusal),
}

/// Under what a signature matched.
#[derive(Clone, Copy, Debug)]
enum Under {
    /// The secret at that place.
    Secret(usize),
    /// A public key that belongs to no secret.
    PublicKey,
}

/// A callback that is genuine. Only [`Callback::verify`] makes one.
#[derive(Debug)]
pub struct Verified<'c, 'a> {
    pub(super) callback: &'c mut Callback<'a>,
}

/// Why a callback is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The closed reason.
    pub reason: Reason,
    /// The parameter it is about, where there is one. It comes from the sender's file or the
    /// request: bounded, but not to be trusted as a label.
    pub parameter: Option<String>,
}

/// What a verified callback turns out to be.
#[derive(Debug)]
pub enum Resolution {
    /// An event, to be recorded.
    Event(Box<Resolved>),
    /// An address check: answered with [`Outcome::Challenge`](super::Outcome::Challenge), never stored.
    Challenge,
    /// A console's test: answered with [`Outcome::Test`](super::Outcome::Test), never stored.
    Test,
    /// Genuine, but it cannot be taken.
    Refused(Refusal),
}

impl Refusal {
    pub(super) fn new(reason: Reason) -> Self {
        Self { reason, parameter: None }
    }

    pub(super) fn of(reason: Reason, parameter: &str) -> Self {
        Self { reason, parameter: Some(parameter.to_owned()) }
    }
}

impl From<Unreadable> for Refusal {
    fn from(unreadable: Unreadable) -> Self {
        Self { reason: unreadable.reason, parameter: unreadable.parameter }
    }
}

impl From<Lack<'_>> for Refusal {
    fn from(lack: Lack<'_>) -> Self {
        match lack {
            Lack::Missing(name) => Self::of(Reason::MissingParameter, name),
            Lack::Unreadable(unreadable) => unreadable.into(),
        }
    }
}

impl<'a> Callback<'a> {
    /// A callback whose parameters [`Self::read`] has still to read. In two steps, so that it is
    /// made where it stays: it is a kilobyte long.
    #[inline(always)]
    pub(super) fn new(recipe: &'a Recipe, request: Request<'a>, now_ms: i64) -> Self {
        let target = request.target;
        let query = memchr::memchr(b'?', target).map_or(&[][..], |at| &target[at + 1..]);
        Self {
            recipe,
            request,
            now_ms,
            keys: recipe.known_keys.as_ref(),
            query,
            parameters: Parameters::new(),
            unreadable: None,
            opened: None,
            matched: None,
            kind: None,
            nature: Nature::Message,
        }
    }

    /// Reads the parameters.
    pub(super) fn read(&mut self) {
        self.unreadable = self.read_parameters().err();
    }

    fn read_parameters(&mut self) -> Result<(), Unreadable> {
        let recipe = self.recipe;
        if recipe.sender.reads.contains(&Reads::Query) {
            self.parameters.read_pairs(Place::Query, self.query, &recipe.names)?;
        }
        match recipe.body {
            WhenBody::BeforeVerification => self.read_body(),
            WhenBody::AfterVerification => Ok(()),
        }
    }

    pub(super) fn read_body(&mut self) -> Result<(), Unreadable> {
        read_body(self.recipe, self.request.body, &mut self.parameters)
    }

    /// Decides whether the callback is genuine: guards, freshness, signature, decryption.
    pub fn verify(&mut self) -> Judgement<'_, 'a> {
        match self.judge() {
            Ok(()) => Judgement::Verified(Verified { callback: self }),
            Err(refusal) => {
                self.matched = None;
                if self.is_unsigned_challenge(&refusal) {
                    self.nature = Nature::Challenge;
                    return Judgement::Challenge;
                }
                self.not_verified(refusal)
            }
        }
    }

    /// Whether it asks for the address, and its sender signs no such question. One that bears a
    /// wrong signature is refused like any other, and so is an open one where they come sealed.
    fn is_unsigned_challenge(&mut self, refusal: &Refusal) -> bool {
        let unsigned = self.recipe.sender.challenge.probes == Probes::Unsigned;
        unsigned
            && self.unreadable.is_none()
            && refusal.reason == Reason::MissingParameter
            && self.asks_for_address()
            && (self.recipe.challenge_open.is_none() || self.opened.is_some())
    }

    /// Whether it asks for the address. What is sealed in it then stays open.
    fn asks_for_address(&mut self) -> bool {
        let recipe = self.recipe;
        if let Some(text) = &recipe.challenge_open {
            self.opened = self.unsealed(text, Inside::Anything).ok();
        }
        let asks = self.holds(&recipe.challenge);
        if !asks {
            self.opened = None;
        }
        asks
    }

    fn not_verified(&self, refusal: Refusal) -> Judgement<'_, 'a> {
        if refusal.reason == Reason::UnknownKey && self.keys.is_none() {
            return Judgement::Undecided;
        }
        let probes = self.recipe.sender.test.probes == Probes::Unsigned;
        if probes && self.unreadable.is_none() && self.holds(&self.recipe.test) {
            return Judgement::Probe;
        }
        let about_values = matches!(
            refusal.reason,
            Reason::BadSignature | Reason::MissingParameter | Reason::BadEncoding
        );
        match self.first_unreplaced().filter(|_| about_values) {
            Some(name) => Judgement::Refused(Refusal::of(
                Reason::UnresolvedPlaceholder,
                &unreplaced::shown(name),
            )),
            None => Judgement::Refused(refusal),
        }
    }

    fn judge(&mut self) -> Result<(), Refusal> {
        if let Some(unreadable) = &self.unreadable {
            return Err(unreadable.clone().into());
        }
        if !self.recipe.sender.methods.contains(self.request.method) {
            return Err(Refusal::new(Reason::WrongMethod));
        }
        if !self.recipe.require.is_empty() {
            self.required()?;
        }
        if self.recipe.time.is_some() {
            self.fresh()?;
        }
        self.match_signature()?;
        self.time_is_proven()?;
        if self.recipe.body == WhenBody::AfterVerification && !self.recipe.kinds.is_empty() {
            self.read_body()?;
        }
        if self.asks_for_address() {
            self.nature = Nature::Challenge;
            return Ok(());
        }
        if self.recipe.open.is_some() {
            self.open()?;
        }
        self.kind = self.recipe.kinds.iter().position(|kind| self.holds(&kind.when));
        match self.kind_here().map(|kind| &kind.also) {
            Some(Also::Reading(reading)) => self.also(reading),
            Some(Also::Lacking) => Err(Refusal::new(Reason::BadSignature)),
            Some(Also::None) | None => Ok(()),
        }
    }

    #[inline(never)]
    fn required(&self) -> Result<(), Refusal> {
        let (parameters, buffers) = self.side(Scope::Outer);
        for slot in &self.recipe.require {
            let there = parameters.get(*slot, buffers).is_some_and(|p| !p.raw.is_empty());
            if !there {
                let name = unreplaced::shown(self.recipe.names.name(*slot));
                return Err(Refusal::of(Reason::MissingParameter, &name));
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn fresh(&self) -> Result<(), Refusal> {
        let Some(time) = &self.recipe.time else { return Ok(()) };
        let Some((past, future)) = time.within else { return Ok(()) };
        let mut text: smallvec::SmallVec<[u8; 32]> = smallvec::SmallVec::new();
        match self.put(&time.r#in, &Context::default(), &mut text) {
            Ok(()) => {}
            // Nothing is signed, so a time that is not there proves no less than one that is.
            Err(Lack::Missing(_)) if self.recipe.protection == Protection::Unsigned => {
                return Ok(());
            }
            Err(lack) => return Err(lack.into()),
        }
        let name = time.r#in.spots().next().map_or("", |spot| &spot.name);
        let at_ms = time
            .stamp
            .read(&text, time.zone)
            .ok_or_else(|| Refusal::of(Reason::BadEncoding, name))?;
        if self.now_ms.saturating_sub(at_ms) > past {
            return Err(Refusal::of(Reason::Stale, name));
        }
        if at_ms.saturating_sub(self.now_ms) > future {
            return Err(Refusal::of(Reason::Future, name));
        }
        Ok(())
    }

    /// Finds the reading and secret that match.
    fn match_signature(&mut self) -> Result<(), Refusal> {
        let mut output = Output::NONE;
        self.matched = Some(match self.recipe.protection {
            Protection::Unsigned => Match { reading: None, secret: None, output: None },
            Protection::Signed => {
                let (reading, under) = self.signature(&mut output)?;
                let secret = match under {
                    Under::Secret(index) => Some(index),
                    Under::PublicKey => None,
                };
                Match { reading: Some(reading), secret, output: Some(output) }
            }
        });
        Ok(())
    }

    /// Finds the reading that matches, and under what; `output` is what they make. The first claim
    /// that is there decides.
    fn signature(&self, output: &mut Output) -> Result<(usize, Under), Refusal> {
        let mut decided = None;
        let mut lacking = None;
        let mut tried = false;
        for (index, reading) in self.recipe.readings.iter().enumerate() {
            let another = decided.is_some_and(|group| group != reading.claim_group);
            let idle = match reading.twin {
                Twin::No => false,
                Twin::OfPlus => !self.parameters.plus,
                Twin::OfEscapes => self.parameters.is_plain(),
            };
            if another || idle || !self.holds(&reading.when) {
                continue;
            }
            let Some(claim) = self.claim(reading)? else {
                lacking.get_or_insert(&*reading.claim.name);
                continue;
            };
            if !self.is_usable(reading) {
                continue;
            }
            decided = Some(reading.claim_group);
            self.refuse_strays(reading)?;
            if self.is_macro_for(reading, &claim) {
                tried = true;
                continue;
            }
            match self.try_reading(reading, &claim, output) {
                Ok(Some(under)) => return Ok((index, under)),
                Ok(None) => tried = true,
                Err(Lack::Missing(name)) => {
                    lacking.get_or_insert(name);
                }
                Err(Lack::Unreadable(unreadable)) => return Err(unreadable.into()),
            }
        }
        match lacking.filter(|_| !tried) {
            Some(name) => Err(Refusal::of(Reason::MissingParameter, name)),
            None => Err(Refusal::new(Reason::BadSignature)),
        }
    }

    /// Whether a claim is a macro that the sender left in place, where a signature is never written
    /// so. Nothing has to be worked out to see that it is wrong, and no public key is needed.
    fn is_macro_for(&self, reading: &Reading, claim: &Claim<'_>) -> bool {
        let Input::Parameter { slot, scope, .. } = &reading.claim.input else { return false };
        if !matches!(claim, Claim::Parameter) || reading.writing == Writing::Text {
            return false;
        }
        let (parameters, buffers) = self.side(*scope);
        let raw = parameters.get(*slot, buffers).map_or(&[][..], |parameter| parameter.raw);
        // One that cannot be read is told of where it is compared.
        unreplaced::may_be_macro(raw)
            && self
                .any_of(claim, reading, |text| self.recipe.macros.is_unreplaced(text))
                .unwrap_or(false)
    }

    /// Whether the source has anything that a claim of `reading` can be checked with. A claim that
    /// cannot be checked at all decides nothing.
    fn is_usable(&self, reading: &Reading) -> bool {
        let secrets = &self.recipe.secrets;
        let listed = reading.public.as_ref().is_some_and(Public::is_listed);
        listed
            || secrets.is_empty()
            || (0..secrets.len()).any(|at| self.is_live(at) && reading.can_use(at))
    }

    /// Whether the secret at `index` has not ended.
    fn is_live(&self, index: usize) -> bool {
        let until = self.recipe.secrets.get(index).and_then(|secret| secret.until_ms);
        until.is_none_or(|until| until > self.now_ms)
    }

    /// Under what a claim of `reading` says what it makes.
    fn try_reading<'r>(
        &self,
        reading: &'r Reading,
        claim: &Claim<'_>,
        output: &mut Output,
    ) -> Result<Option<Under>, Lack<'r>> {
        if let Some(public) = &reading.public {
            return self.try_public(reading, public, output);
        }
        for (index, secret) in self.recipe.secrets.iter().enumerate() {
            if !self.is_live(index) {
                continue;
            }
            let usable = self.put_output(reading, index, secret.value.expose(), output)?;
            let says = |claim: &[u8]| reading.is_claimed(output, claim);
            if usable && self.any_of(claim, reading, says)? {
                return Ok(Some(Under::Secret(index)));
            }
        }
        Ok(None)
    }

    /// What `reading` makes of this callback under one secret; `None` where the secret cannot be
    /// used with it.
    pub(super) fn output<'r>(
        &self,
        reading: &'r Reading,
        index: usize,
        secret: &[u8],
    ) -> Result<Option<Output>, Lack<'r>> {
        let mut output = Output::NONE;
        Ok(self.put_output(reading, index, secret, &mut output)?.then_some(output))
    }

    /// [`Self::output`], put where it stays; whether the secret can be used.
    fn put_output<'r>(
        &self,
        reading: &'r Reading,
        index: usize,
        secret: &[u8],
        output: &mut Output,
    ) -> Result<bool, Lack<'r>> {
        let Some(start) = signature::start(&reading.with, &reading.keyed, index) else {
            return Ok(false);
        };
        let context = Context {
            plus: reading.plus,
            secret,
            reading: Some(reading),
            nul: Nul::Refused,
            said: None,
        };
        let mut feed = Feed::new(start);
        match self.put(&reading.of, &context, &mut feed) {
            Ok(()) => {
                *output = reading.finish(&feed);
                Ok(true)
            }
            Err(Lack::Missing("sorted")) => Err(Lack::Missing(self.lacking(reading, &context))),
            Err(lack) => Err(lack),
        }
    }

    /// The claim of `reading`, if it is there.
    fn claim<'s>(&'s self, reading: &'s Reading) -> Result<Option<Claim<'s>>, Unreadable> {
        let context = Context { plus: claim_plus(reading), ..Context::default() };
        match &reading.claim.input {
            Input::Parameter { slot, steps, scope } if steps.is_empty() => {
                Ok(self.side(*scope).0.has(*slot).then_some(Claim::Parameter))
            }
            Input::List { list, item } => {
                let Some(text) = self.list_text(*list, &context)? else { return Ok(None) };
                let shape = &self.recipe.sender.lists[*list].shape;
                let any = shape.values(&text, item, 1).next().is_some();
                Ok(any.then_some(Claim::List(text, shape, item)))
            }
            _ => Ok(self.value(&reading.claim, &context)?.map(Claim::Text)),
        }
    }

    /// Whether a claim of the callback says `output`.
    pub(super) fn claims(&self, reading: &Reading, output: &Output) -> Result<bool, Unreadable> {
        self.any_claim(reading, |claim| reading.is_claimed(output, claim))
    }

    /// Whether `says` holds of a claim of the callback.
    fn any_claim(
        &self,
        reading: &Reading,
        says: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Unreadable> {
        match self.claim(reading)? {
            Some(claim) => self.any_of(&claim, reading, says),
            None => Ok(false),
        }
    }

    /// Whether `says` holds of `claim`, or of one of several.
    #[inline]
    fn any_of(
        &self,
        claim: &Claim<'_>,
        reading: &Reading,
        says: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, Unreadable> {
        match claim {
            Claim::Text(text) => Ok(says(text)),
            Claim::List(text, shape, item) => {
                let claims = shape.values(text, item, CLAIMS_MAX);
                Ok(claims.fold(false, |any, claim| any | says(claim)))
            }
            Claim::Parameter => {
                let context = Context { plus: claim_plus(reading), ..Context::default() };
                let text = self.value(&reading.claim, &context)?;
                Ok(text.is_some_and(|text| says(&text)))
            }
        }
    }

    /// Refuses a name of ours that the callback brings, and what stands behind a signed part.
    #[inline(never)]
    fn refuse_strays(&self, reading: &Reading) -> Result<(), Refusal> {
        let (parameters, buffers) = self.side(Scope::Outer);
        for slot in reading.pairs.iter().flat_map(|pairs| &pairs.added) {
            if parameters.get(*slot, buffers).is_some() {
                let name = unreplaced::shown(self.recipe.names.name(*slot));
                return Err(Refusal::of(Reason::RepeatedParameter, &name));
            }
        }
        let Some(cut) = &reading.cut_before else { return Ok(()) };
        let behind = parameters
            .iter(buffers)
            .filter(|parameter| parameter.place == Place::Query)
            .skip_while(|parameter| parameter.name != cut.as_bytes());
        for parameter in behind {
            let slot = self.recipe.names.find(parameter.name);
            // Nothing vouches for a value there: only what the signature itself needs has its place.
            if !slot.is_some_and(|slot| self.recipe.unsigned.contains(&slot)) {
                let name = unreplaced::shown(parameter.name);
                return Err(Refusal::of(Reason::UnsignedParameter, &name));
            }
        }
        match reading.whole {
            Whole::Decoded => self.refuse_ambiguity(reading),
            Whole::No => Ok(()),
        }
    }

    fn also(&self, reading: &Reading) -> Result<(), Refusal> {
        let key_is_setting = matches!(reading.with.first, First::Keyed(_));
        let secrets = if key_is_setting { 1 } else { self.recipe.secrets.len() };
        let mut live = (0..secrets).filter(|index| key_is_setting || self.is_live(*index));
        let matches = live.try_fold(false, |any, index| {
            let secret = self.recipe.secrets.get(index);
            let secret = secret.map_or(&[][..], |secret| secret.value.expose());
            match self.output(reading, index, secret)? {
                Some(output) => Ok::<_, Lack<'_>>(any | self.claims(reading, &output)?),
                None => Ok(any),
            }
        });
        if matches? { Ok(()) } else { Err(Refusal::of(Reason::BadSignature, &reading.claim.name)) }
    }

    /// Whether a claim is there that is no macro: whoever signs does not merely probe.
    pub(super) fn bears_claim(&self) -> bool {
        self.recipe.readings.iter().any(|reading| {
            let claim = self.value(&reading.claim, &Context::default()).ok().flatten();
            claim
                .is_some_and(|claim| !claim.is_empty() && !self.recipe.macros.is_unreplaced(&claim))
        })
    }

    /// The first parameter whose value is a macro that the sender left in place.
    pub(super) fn first_unreplaced(&self) -> Option<&[u8]> {
        self.unreplaced().next()
    }

    /// The parameters whose value is a macro that the sender left in place.
    pub(super) fn unreplaced(&self) -> impl Iterator<Item = &[u8]> {
        let (parameters, buffers) = self.side(Scope::Message);
        parameters.iter(buffers).filter_map(|parameter| {
            if !unreplaced::may_be_macro(parameter.raw) {
                return None;
            }
            let value = super::parameters::Value {
                place: parameter.place,
                raw: Cow::Borrowed(parameter.raw),
            };
            let text = value.text(Plus::Blank).ok()??;
            self.recipe.macros.is_unreplaced(&text).then_some(parameter.name)
        })
    }

    /// The reading that matched.
    pub(super) fn matched_reading(&self) -> Option<&'a Reading> {
        self.recipe.readings.get(self.matched.as_ref()?.reading?)
    }

    pub(super) fn kind_here(&self) -> Option<&'a Kind> {
        self.recipe.kinds.get(self.kind?)
    }

    /// The request.
    #[must_use]
    pub fn request(&self) -> &Request<'a> {
        &self.request
    }

    /// The decoded value of the parameter `name` (its name on the wire), if it came.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let (parameters, buffers) = self.side(Scope::Message);
        let parameter = parameters.find(name.as_bytes(), buffers)?;
        let value =
            super::parameters::Value { place: parameter.place, raw: Cow::Borrowed(parameter.raw) };
        let text = value.text(self.plus()).ok()??;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

/// Claims of one list that are looked at.
pub(super) const CLAIMS_MAX: usize = 4;

/// Base64 may stand in a query as it is, so a `+` in a claim is one.
pub(super) fn claim_plus(reading: &Reading) -> Plus {
    match reading.writing {
        Writing::Hex | Writing::Text => reading.plus,
        Writing::Base64 | Writing::Base64Url => Plus::Kept,
    }
}

/// Reads `body` in the first of the sender's writings that it looks like.
pub(super) fn read_body(
    recipe: &Recipe,
    body: &[u8],
    parameters: &mut Parameters,
) -> Result<(), Unreadable> {
    let reads = |place| recipe.sender.reads.contains(&place);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let Some(first) = first else { return Ok(()) };
    match first {
        b'<' if reads(Reads::Xml) => parameters.read_xml(body, &recipe.names),
        b'{' | b'[' if reads(Reads::Json) => parameters.read_json(body, &recipe.names),
        _ if reads(Reads::Form) => parameters.read_pairs(Place::Form, body, &recipe.names),
        _ if reads(Reads::Json) || reads(Reads::Xml) => Err(Unreadable::new(Reason::BadBody)),
        _ => Ok(()),
    }
}
