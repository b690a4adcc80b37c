//! Tokens: what is asked of one beside its signature, and tokens inside a message.

use super::{Callback, CallbackError, Opened, read_body};
use crate::sender::acts::evaluate::{Context, EvalError};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::signature::{Keys, SignatureVariant};
use crate::sender::crypto::jws::{Header, JwsAlgorithm, Token};
use crate::sender::language::definition::{Claim, TokenRule};
use crate::sender::request::json;
use crate::sender::request::parameters::{ParameterError, Parameters};

/// Seconds by which the clock of a token's issuer may differ.
const LEEWAY_S: i64 = 60;

impl Callback<'_> {
    /// Whether the header of the token that `variant` verifies names `algorithm`, and the type that
    /// the file asks for.
    pub(super) fn names_algorithm<'r>(
        &self,
        variant: &'r SignatureVariant,
        algorithm: JwsAlgorithm,
    ) -> Result<bool, EvalError<'r>> {
        let mut signed = Vec::new();
        self.put(&variant.of, &Context::default(), &mut signed)?;
        let header = Header::of_signed(&signed);
        let header = header.ok_or(ParameterError::new(Reason::BadEncoding))?;
        Ok(self.is_of_kind(&header) && header.names(algorithm))
    }

    fn is_of_kind(&self, header: &Header) -> bool {
        let kind = self.recipe.sender.token.as_ref().and_then(|token| token.kind.as_deref());
        kind.is_none_or(|kind| header.is_a(kind))
    }

    /// Checks the claims of a verified token.
    ///
    /// # Errors
    /// `not_ours` if one differs, `stale` or `future` by its times, `missing_parameter` if it never
    /// ends although the file asks for claims, `bad_encoding` if it is not a JSON object.
    pub(super) fn claims_hold(&self) -> Result<(), CallbackError> {
        let Some(token) = &self.recipe.token else { return Ok(()) };
        let mut payload = Vec::new();
        self.put(&token.payload, &Context::default(), &mut payload)?;
        let unreadable = || CallbackError::new(Reason::BadEncoding);
        let members = json::members(&payload).ok_or_else(unreadable)?;
        let get = |name: &str| members.iter().find(|member| member.name == name).map(|m| m.raw);
        let repeats = members
            .iter()
            .enumerate()
            .any(|(at, one)| members[..at].iter().any(|other| other.name == one.name));
        if repeats {
            return Err(CallbackError::new(Reason::RepeatedParameter));
        }
        let now_s = self.now_ms.div_euclid(1000);
        let time =
            |name: &str| get(name).map(|raw| seconds(raw).ok_or_else(unreadable)).transpose();
        match time("exp")? {
            Some(end) if now_s > end.saturating_add(LEEWAY_S) => {
                return Err(CallbackError::of(Reason::Stale, "exp"));
            }
            None if !token.claims.is_empty() => {
                return Err(CallbackError::of(Reason::MissingParameter, "exp"));
            }
            _ => {}
        }
        for name in ["nbf", "iat"] {
            if time(name)?.is_some_and(|start| now_s < start.saturating_sub(LEEWAY_S)) {
                return Err(CallbackError::of(Reason::Future, name));
            }
        }
        for (name, claim) in &token.claims {
            if !get(name).is_some_and(|raw| claim.holds(raw)) {
                return Err(CallbackError::of(Reason::NotOurs, name));
            }
        }
        Ok(())
    }

    /// The message with the payloads of its tokens in place of them.
    ///
    /// # Errors
    /// `bad_signature` if one does not verify as the message did.
    pub(super) fn with_tokens(&self, opened: Box<Opened>) -> Result<Box<Opened>, CallbackError> {
        let Some(rule) = self.recipe.sender.token.as_ref().filter(|rule| !rule.also.is_empty())
        else {
            return Ok(opened);
        };
        let mut message = opened.message;
        for path in &rule.also {
            let Some(at) = member_at(&message, path)? else { continue };
            let name = path.join(".");
            let wrong = || CallbackError::of(Reason::BadSignature, &name);
            let text: String = serde_json::from_slice(&message[at.clone()]).map_err(|_| wrong())?;
            let payload = self.payload_of(rule, text.as_bytes()).ok_or_else(wrong)?;
            message.splice(at, payload);
        }
        let mut parameters = Parameters::new();
        let reads = self.recipe.open.as_ref().map_or(&[][..], |open| &open.reads);
        read_body(self.recipe, reads, &message, &mut parameters)?;
        Ok(Box::new(Opened { message, parameters, slot: opened.slot }))
    }

    /// The payload of a token inside the message, if it verifies by the same rule.
    fn payload_of(&self, rule: &TokenRule, text: &[u8]) -> Option<Vec<u8>> {
        let token = Token::read(text)?;
        let header = Header::of_signed(token.signed()).filter(|one| self.is_of_kind(one))?;
        let algorithm = rule.algorithms.iter().find(|algorithm| header.names(**algorithm))?;
        let scheme = algorithm.scheme()?;
        let public = self.matched_variant()?.public.as_ref()?;
        let key = match &public.keys {
            Keys::Certificates(chain) => chain.key(&header.certificates, self.now_ms)?,
            Keys::List => self.keys?.get(header.key_id()?.as_bytes())?.clone(),
            Keys::Secrets(_) => return None,
        };
        let verifies = scheme.verifies(&key, token.signed(), &token.signature()?);
        token.payload().filter(|payload| verifies && json::members(payload).is_some())
    }
}

impl Claim {
    /// Whether a claim, as JSON spells it, is what it has to be. Of a list, one item.
    fn holds(&self, raw: &[u8]) -> bool {
        match self {
            Self::True => raw == b"true",
            Self::Words(words) => {
                let is_one = |raw: &[u8]| {
                    let text: Option<String> = serde_json::from_slice(raw).ok();
                    text.is_some_and(|text| words.contains(&text))
                };
                is_one(raw) || json::items(raw).is_some_and(|items| items.into_iter().any(is_one))
            }
            Self::Setting(_) => false,
        }
    }
}

/// A time of a token, in whole seconds; a fraction is cut.
fn seconds(raw: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(raw).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    whole.parse().ok().filter(|_| digits && !fraction.is_empty())
}

/// Where the member at `path` is in the object `message`.
fn member_at(
    message: &[u8],
    path: &[Box<str>],
) -> Result<Option<std::ops::Range<usize>>, ParameterError> {
    let mut value = message;
    for step in path {
        match json::member(value, step)? {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    let start = (value.as_ptr() as usize).saturating_sub(message.as_ptr() as usize);
    Ok((value != b"null").then(|| start..start + value.len()))
}
