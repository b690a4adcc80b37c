//! Sign: the inverse of verification. Makes a signed callback for any source.
//!
//! Completes a request as its sender would send it: the time, the sealed message, the
//! signature, each where the sender's file reads it. `compose.rs` makes such a request from
//! `key=value` pairs. Nothing here is on the path of a callback; texts are made as verification
//! makes them, so that what is signed here verifies.

mod compose;
mod edit;
mod seal;

#[cfg(test)]
mod tests;

use http::HeaderValue;

use super::evaluate::{Context, EvalError};
use super::signature::{self, Redundancy, SignatureVariant};
use crate::sender::language::bound::{Bound, Gate, Input, Scope};
use crate::sender::language::definition::{First, Reads, Writing};
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::modifier::Modifier;
use crate::sender::language::recipe::{Also, Protection, Recipe, WhenBody};
use crate::sender::language::text::{Piece, Text};
use crate::sender::language::vector::OwnedRequest;
use crate::sender::request::Request;
use crate::sender::request::callback::{self, Callback};
use crate::sender::request::parameters::Place;

pub use compose::{Composing, Field};

/// How a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signing<'s> {
    /// The time to write, if the request has none: Unix time in milliseconds.
    pub now_ms: i64,
    /// Which of the source's secrets; `None`: the first that has not ended.
    pub secret: Option<usize>,
    /// Which variant of the sender's file, from 0; `None`: that of a supplied signature that is
    /// there to be replaced, or the first that applies.
    pub variant: Option<usize>,
    /// Random bytes for what a sender makes up: a nonce, the beginning of a sealed message.
    pub salt: [u8; 16],
    /// Scheme and authority as the sender sees them, for signatures over the whole URL.
    pub base: &'s str,
}

/// A live secret of the source, to sign with.
#[derive(Clone, Copy, Default)]
struct LiveKey<'r> {
    /// Its index among the source's secrets.
    index: usize,
    secret: &'r [u8],
}

impl Signing<'_> {
    /// The usual way, at `now_ms`.
    #[must_use]
    pub fn at(now_ms: i64) -> Self {
        Self { now_ms, secret: None, variant: None, salt: *b"postern-salt-16b", base: "" }
    }
}

impl Recipe {
    /// Signs `request`, as its sender would send it. Its supplied signature may be absent or there
    /// to be replaced; where messages are sealed, what it says is the message.
    ///
    /// # Errors
    /// A [`DefinitionError`] with the names of missing values.
    pub fn sign(
        &self,
        request: &OwnedRequest,
        signing: &Signing<'_>,
    ) -> Result<OwnedRequest, DefinitionError> {
        self.signable()?;
        let mut request = request.clone();
        self.make_up(&mut request, signing)?;
        if !self.is_sealed(&request, signing) {
            self.sign_second(&mut request, signing)?;
            self.seal(&mut request, signing)?;
        }
        if self.protection == Protection::Unsigned {
            return Ok(request);
        }
        let signed = self.first_signature(&request, signing);
        let (variant, signature) =
            signed.map_err(|error| match self.is_sealed_name(&error.key) {
                true => no_message(),
                false => error,
            })?;
        self.put(&mut request, &variant.supplied, &signature)?;
        Ok(request)
    }

    /// Whether the parameter called `name` holds the cipher text, which is made here.
    fn is_sealed_name(&self, name: &str) -> bool {
        let slot = self.open.as_ref().and_then(|opener| opener.slot);
        slot.is_some_and(|slot| self.names.name(slot) == name.as_bytes())
    }

    /// Whether anything can be signed here: a source may have nothing but public keys.
    ///
    /// # Errors
    /// A [`DefinitionError`] if callbacks are signed with a private key.
    pub fn signable(&self) -> Result<(), DefinitionError> {
        let signs = |variant: &SignatureVariant| {
            variant.public.is_none() && (0..self.secrets.len()).any(|at| variant.can_use(at))
        };
        if self.protection == Protection::Unsigned || self.variants.iter().any(signs) {
            return Ok(());
        }
        let what = "is made with a private key, which only the sender has";
        let remedy = "let the sender make a callback; `postern explain` reads a captured one";
        Err(DefinitionError::new("signature", what, remedy))
    }

    /// Whether a signed callback can be shown to one who may not see the secrets: the signature of
    /// some senders is the secret itself.
    ///
    /// # Errors
    /// A [`DefinitionError`] if it cannot.
    pub fn signable_for_others(&self) -> Result<(), DefinitionError> {
        self.signable()?;
        if self.variants.iter().all(|variant| variant.with.first != First::Equal) {
            return Ok(());
        }
        let what = "is the secret itself, which is not shown";
        let remedy = "run `postern sign` where the secret is written";
        Err(DefinitionError::new("signature", what, remedy))
    }

    /// Fills in values that a sender makes up: its time, and a nonce that it signs.
    fn make_up(
        &self,
        request: &mut OwnedRequest,
        signing: &Signing<'_>,
    ) -> Result<(), DefinitionError> {
        if let Some(time) = &self.time
            && let [Piece::Value(spot)] = time.r#in.pieces.as_slice()
            && !self.has(request, spot, signing)
        {
            let value = time.stamp.write(signing.now_ms, time.zone);
            self.put(request, spot, value.as_bytes())?;
        }
        let nonces = self.signed_spots().filter(|spot| is_nonce(&spot.name));
        for spot in nonces {
            if !self.has(request, spot, signing) {
                let nonce = u64::from_be_bytes(std::array::from_fn(|index| signing.salt[index]));
                self.put(request, spot, nonce.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    /// The placeholders of its signatures.
    fn signed_spots(&self) -> impl Iterator<Item = &Bound> {
        let texts = self.variants.iter().flat_map(|one| one.sorted.iter().chain([&one.of]));
        texts.flat_map(Text::spots)
    }

    fn has(&self, request: &OwnedRequest, spot: &Bound, signing: &Signing<'_>) -> bool {
        let callback = self.read_with_body(request, signing);
        matches!(callback.value(spot, &Context::default()), Ok(Some(_)))
    }

    /// The request, read with its body whether or not verification needs it.
    fn read_with_body<'r>(
        &'r self,
        request: &'r OwnedRequest,
        signing: &Signing<'r>,
    ) -> Callback<'r> {
        let base = if request.base.is_empty() { signing.base } else { &request.base };
        let request = Request { base, ..request.borrow() };
        let mut callback = self.read(request, signing.now_ms);
        if self.body == WhenBody::AfterVerification {
            // A body that cannot be read has no parameters.
            let _ = callback::read_body(
                self,
                &self.sender.reads,
                request.body,
                &mut callback.parameters,
            );
        }
        callback
    }

    /// Makes the second signature of the request's kind, where its supplied signature is absent.
    fn sign_second(
        &self,
        request: &mut OwnedRequest,
        signing: &Signing<'_>,
    ) -> Result<(), DefinitionError> {
        let made = {
            let mut callback = self.read_with_body(request, signing);
            callback.find_kind();
            let kind = callback.kind.and_then(|kind| self.kinds.get(kind));
            let Some(Also::Signature(variant)) = kind.map(|kind| &kind.also) else { return Ok(()) };
            if matches!(callback.value(&variant.supplied, &Context::default()), Ok(Some(_))) {
                return Ok(());
            }
            let signature =
                written_signature(&callback, variant, self.secret(signing).unwrap_or_default());
            signature.map_err(lacking)?.map(|signature| (&variant.supplied, signature))
        };
        match made {
            Some((spot, signature)) => self.put(request, spot, &signature),
            None => Ok(()),
        }
    }

    fn secret(&self, signing: &Signing<'_>) -> Option<LiveKey<'_>> {
        let live = |index: &usize| {
            self.secrets[*index].until_ms.is_none_or(|until| until > signing.now_ms)
        };
        let index = signing.secret.or_else(|| (0..self.secrets.len()).find(live))?;
        Some(LiveKey { index, secret: self.secrets.get(index)?.value.expose() })
    }

    /// The variant to sign by, and its signature for the request, as written.
    fn first_signature(
        &self,
        request: &OwnedRequest,
        signing: &Signing<'_>,
    ) -> Result<(&SignatureVariant, Vec<u8>), DefinitionError> {
        let Some(secret) = self.secret(signing) else {
            return Err(DefinitionError::new(
                "secrets",
                "there is no such secret",
                "name another one",
            ));
        };
        let callback = self.read_with_body(request, signing);
        let mut lack = None;
        for variant in self.candidates(&callback, signing) {
            match written_signature(&callback, variant, secret) {
                Ok(Some(signature)) => return Ok((variant, signature)),
                Ok(None) => {}
                Err(lacking) => {
                    lack.get_or_insert(self::lacking(lacking));
                }
            }
        }
        Err(lack.unwrap_or_else(|| {
            DefinitionError::new(
                "signature",
                "no variant of it applies",
                "look at the sender's file",
            )
        }))
    }

    /// The variants that may be signed by: those of a supplied signature that came first.
    fn candidates<'r>(
        &'r self,
        callback: &Callback<'_>,
        signing: &Signing<'_>,
    ) -> Vec<&'r SignatureVariant> {
        let mut variants: Vec<&SignatureVariant> = self
            .variants
            .iter()
            .filter(|variant| match signing.variant {
                _ if variant.public.is_some() => false,
                Some(index) => variant.index == index,
                None => {
                    let holds =
                        matches!(variant.when, Gate::Always) || callback.holds(&variant.when);
                    variant.twin == Redundancy::No && holds
                }
            })
            .collect();
        let came = |variant: &SignatureVariant| {
            matches!(callback.value(&variant.supplied, &Context::default()), Ok(Some(_)))
        };
        variants.sort_by_key(|variant| !came(variant));
        variants
    }

    /// Writes `value` where `spot` reads it.
    fn put(
        &self,
        request: &mut OwnedRequest,
        spot: &Bound,
        value: &[u8],
    ) -> Result<(), DefinitionError> {
        let value = unmodified(value, &spot.modifiers);
        match &spot.input {
            Input::Parameter { slot, steps, .. } => {
                let name = String::from_utf8_lossy(self.names.name(*slot)).into_owned();
                let mut path = vec![name.as_str()];
                path.extend(steps.iter().map(|step| &**step));
                self.put_parameter(request, &path, &value)
            }
            Input::Header(name) => {
                let value = HeaderValue::from_bytes(&value).map_err(|_| {
                    DefinitionError::new(
                        &*spot.name,
                        "is not a header value",
                        "remove control characters",
                    )
                })?;
                let name = self.read(request.borrow(), 0).header_name(name).clone();
                request.headers.insert(name, value);
                Ok(())
            }
            Input::List { list, item } => {
                let of = self.lists.get(*list).and_then(|of| match of.pieces.as_slice() {
                    [Piece::Value(of)] => Some(of),
                    _ => None,
                });
                let of = of.ok_or_else(|| unplaceable(&spot.name))?;
                let old = self.text_of(request, of);
                let shape = &self.sender.lists[*list].shape;
                self.put(request, of, &edit::put_listed(&old, shape, item, &value))
            }
            _ => Err(unplaceable(&spot.name)),
        }
    }

    fn text_of(&self, request: &OwnedRequest, spot: &Bound) -> Vec<u8> {
        let callback = self.read(request.borrow(), 0);
        let value = callback.value(spot, &Context::default()).ok().flatten();
        value.map(std::borrow::Cow::into_owned).unwrap_or_default()
    }

    /// The parameters of `request` whose values a sender chooses freely: none of its signatures, its
    /// time or its nonces.
    pub(in crate::sender::acts) fn drawn_names(
        &self,
        request: &OwnedRequest,
        now_ms: i64,
    ) -> Vec<String> {
        let callback = self.read_with_body(request, &Signing::at(now_ms));
        let (parameters, buffers) = callback.side(Scope::Outer);
        let times: Vec<&Bound> = self.time.iter().flat_map(|time| time.r#in.spots()).collect();
        let is_own = |name: &str| {
            let slot = self.names.find(name.as_bytes());
            let is_time = |spot: &&Bound| match &spot.input {
                Input::Parameter { slot: own, .. } => Some(*own) == slot,
                _ => false,
            };
            is_nonce(name)
                || slot.is_some_and(|slot| self.supplied_signatures.contains(&slot))
                || times.iter().any(is_time)
        };
        let names = parameters.iter(buffers).filter_map(|one| std::str::from_utf8(one.name).ok());
        names.filter(|name| !is_own(name)).map(str::to_owned).collect()
    }

    /// Takes a parameter out of query or body. `None`: it stands where that cannot be done.
    pub(in crate::sender::acts) fn remove_parameter(
        &self,
        request: &mut OwnedRequest,
        name: &str,
    ) -> Option<()> {
        let is_it = |known: &[u8]| known == name.as_bytes();
        match self.place_of(request, &[name]) {
            Reads::Query => {
                let (kept, _) = edit::split_pairs(edit::query(&request.target), is_it);
                request.target = edit::with_query(&request.target, &kept);
            }
            Reads::Form => request.body = edit::split_pairs(&request.body, is_it).0,
            Reads::Json => request.body = edit::split_json(&request.body, |known| known == name)?.0,
            Reads::Xml => return None,
        }
        Some(())
    }

    /// Writes a parameter at its place, or beside its neighbours.
    pub(in crate::sender::acts) fn put_parameter(
        &self,
        request: &mut OwnedRequest,
        path: &[&str],
        value: &[u8],
    ) -> Result<(), DefinitionError> {
        let place = self.place_of(request, path);
        if place == Reads::Query {
            let query = edit::put_pair(edit::query(&request.target), path[0].as_bytes(), value);
            request.target = edit::with_query(&request.target, &query);
            return Ok(());
        }
        let text = String::from_utf8_lossy(value);
        let body = match place {
            Reads::Json if request.body.is_empty() => edit::put_json(b"{}", path, &text),
            Reads::Json => edit::put_json(&request.body, path, &text),
            Reads::Xml if request.body.is_empty() => edit::put_xml(b"<xml></xml>", path, &text),
            Reads::Xml => edit::put_xml(&request.body, path, &text),
            Reads::Form | Reads::Query => {
                Some(edit::put_pair(&request.body, path[0].as_bytes(), value))
            }
        };
        request.body = body.ok_or_else(|| unplaceable(path[0]))?;
        Ok(())
    }

    /// Where the parameter at `path` belongs.
    fn place_of(&self, request: &OwnedRequest, path: &[&str]) -> Reads {
        let reads = &self.sender.reads;
        let body = body_writing(self, &request.body);
        let signing = Signing::at(0);
        let callback = self.read_with_body(request, &signing);
        let (parameters, buffers) = callback.side(Scope::Outer);
        if let Some(known) = parameters.find(path[0].as_bytes(), buffers) {
            return match known.place {
                Place::Query => Reads::Query,
                Place::Form => Reads::Form,
                Place::Json => Reads::Json,
                Place::Xml => Reads::Xml,
            };
        }
        match body {
            Some(body) if path.len() > 1 => body,
            _ if reads.contains(&Reads::Query) => Reads::Query,
            _ => body.or(reads.first().copied()).unwrap_or(Reads::Query),
        }
    }
}

/// The signature of `callback` by `variant` under one secret, as written; `None` if the secret
/// cannot be used with it.
fn written_signature<'r>(
    callback: &Callback<'_>,
    variant: &'r SignatureVariant,
    key: LiveKey<'_>,
) -> Result<Option<Vec<u8>>, EvalError<'r>> {
    let LiveKey { index, secret } = key;
    if variant.writing == Writing::Text {
        let context =
            Context { secret, plus: variant.plus, variant: Some(variant), ..Context::default() };
        let mut text = Vec::new();
        callback.put(&variant.of, &context, &mut text)?;
        return Ok(Some(text));
    }
    let Some(output) = callback.output(variant, index, secret)? else { return Ok(None) };
    let mut signature = signature::written(&output, variant.writing);
    signature.truncate(variant.cut.unwrap_or(signature.len()));
    Ok(Some(signature.into_bytes()))
}

/// The writing that `body` is in, of those that the sender's file reads; `None`: it is empty.
fn body_writing(recipe: &Recipe, body: &[u8]) -> Option<Reads> {
    let reads = |place| recipe.sender.reads.contains(&place);
    match body.iter().find(|byte| !byte.is_ascii_whitespace())? {
        b'<' if reads(Reads::Xml) => Some(Reads::Xml),
        b'{' if reads(Reads::Json) => Some(Reads::Json),
        _ if reads(Reads::Form) => Some(Reads::Form),
        _ => None,
    }
}

fn is_nonce(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("nonce")
}

fn lacking(lack: EvalError<'_>) -> DefinitionError {
    match lack {
        EvalError::Missing(name) => missing(&[name.to_owned()]),
        EvalError::Parameter(unreadable) => {
            let what = format!("cannot be signed: {}", unreadable.reason);
            DefinitionError::new(unreadable.parameter.unwrap_or_default(), what, "change it")
        }
    }
}

/// A message to be sealed has to be given.
fn no_message() -> DefinitionError {
    let what = "is missing: the sender encrypts its messages";
    let remedy = "give the message, as body='{…}' or as its members key=value";
    DefinitionError::new("body", what, remedy)
}

/// Parameters that have to be given.
fn missing(names: &[String]) -> DefinitionError {
    let first = names.first().map_or("name", String::as_str);
    DefinitionError::new(names.join(", "), "is missing", format!("add {first}=value"))
}

fn unplaceable(name: &str) -> DefinitionError {
    DefinitionError::new(
        name,
        "has no place in this request",
        "give the request as its sender writes it",
    )
}

/// The inverse of the modifiers that a supplied signature is read with.
fn unmodified(value: &[u8], modifiers: &[Modifier]) -> Vec<u8> {
    modifiers.iter().rev().fold(value.to_vec(), |value, modifier| match modifier {
        Modifier::After(prefix) => [prefix.as_bytes(), &value].concat(),
        Modifier::Unhex => const_hex::encode(value).into_bytes(),
        Modifier::Unbase64 => crate::sender::request::encoding::base64(&value).into_bytes(),
        _ => value,
    })
}
