//! Encrypts the message of a request, for senders that send cipher texts.

use crate::sender::acts::evaluate::Context;
use crate::sender::acts::sign::{Signing, body_writing, edit, unplaceable};
use crate::sender::language::bound::{Bound, Input};
use crate::sender::language::definition::Reads;
use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::Text;
use crate::sender::language::vector::OwnedRequest;
use crate::sender::request::encoding;
use crate::sender::request::names::Slot;

impl Recipe {
    /// Whether the request has a cipher text already, or its sender sends none.
    pub(super) fn is_sealed(&self, request: &OwnedRequest, signing: &Signing<'_>) -> bool {
        let Some(opener) = &self.open else { return false };
        let callback = self.read_with_body(request, signing);
        opener.of.iter().any(|text| {
            let mut sealed = Vec::new();
            callback.put(text, &Context::default(), &mut sealed).is_ok() && !sealed.is_empty()
        })
    }

    /// Seals the message in `request`: its body, or the parameters that are none of the envelope.
    pub(super) fn seal(
        &self,
        request: &mut OwnedRequest,
        signing: &Signing<'_>,
    ) -> Result<(), DefinitionError> {
        let Some(opener) = &self.open else { return Ok(()) };
        if !opener.with.can_seal() {
            let what = "is sealed with a cipher that only its sender seals with";
            let remedy = "sign a captured callback: its sealed message stays as it is";
            return Err(DefinitionError::new("open", what, remedy));
        }
        let Some((message, place)) = self.message_of(request)? else { return Ok(()) };
        let slot = opener.slot.ok_or_else(|| unplaceable("open.of"))?;
        let name = String::from_utf8_lossy(self.names.name(slot)).into_owned();
        let encrypt = encoding::base64(&opener.seal(
            &message,
            signing.salt,
            self.secret(signing).map_or(0, |key| key.index),
        ));
        let sealed = [(name, encrypt.clone())];
        match place {
            Reads::Query => {
                let query = edit::put_pair(
                    edit::query(&request.target),
                    sealed[0].0.as_bytes(),
                    encrypt.as_bytes(),
                );
                request.target = edit::with_query(&request.target, &query);
            }
            Reads::Xml => request.body = edit::as_xml(&sealed).unwrap_or_default(),
            Reads::Form => {
                let kept = std::mem::take(&mut request.body);
                request.body = edit::put_pair(&kept, sealed[0].0.as_bytes(), encrypt.as_bytes());
            }
            Reads::Json => {
                let kept = std::mem::take(&mut request.body);
                let kept = if kept.is_empty() { b"{}".to_vec() } else { kept };
                let body = edit::put_json(&kept, &[sealed[0].0.as_str()], &encrypt);
                request.body = body.ok_or_else(|| unplaceable(&sealed[0].0))?;
            }
        }
        Ok(())
    }

    /// Takes the message out of the request: what is to be sealed, and where it goes.
    fn message_of(
        &self,
        request: &mut OwnedRequest,
    ) -> Result<Option<(Vec<u8>, Reads)>, DefinitionError> {
        let outer = self.outer_names();
        let is_message = |name: &[u8]| !outer.iter().any(|outer| outer.as_slice() == name);
        match body_writing(self, &request.body) {
            Some(Reads::Json) => {
                let split = edit::split_json(&request.body, |name| is_message(name.as_bytes()));
                let (kept, message) = split.ok_or_else(|| unplaceable("body"))?;
                if kept == b"{}" {
                    // The message contains nothing of the envelope: keep its spelling.
                    let message = std::mem::take(&mut request.body);
                    return Ok(Some((message, Reads::Json)));
                }
                if message == b"{}" {
                    return Ok(None);
                }
                request.body = kept;
                Ok(Some((message, Reads::Json)))
            }
            Some(Reads::Form) => {
                let (kept, message) = edit::split_pairs(&request.body, is_message);
                request.body = kept;
                Ok(as_message(&message).map(|message| (message, Reads::Form)))
            }
            Some(place) => Ok(Some((std::mem::take(&mut request.body), place))),
            None => {
                let (kept, message) = edit::split_pairs(edit::query(&request.target), is_message);
                request.target = edit::with_query(&request.target, &kept);
                Ok(as_message(&message).map(|message| (message, Reads::Query)))
            }
        }
    }

    /// The names outside a sealed message: signed values, signatures, the time and echoed values.
    pub(super) fn outer_names(&self) -> Vec<Vec<u8>> {
        let time = self.time.as_ref().map(|time| &time.r#in);
        let texts = self.variants.iter().flat_map(|one| one.sorted.iter().chain([&one.of]));
        let spots = texts.chain(time).flat_map(Text::spots);
        let signatures = self.variants.iter().map(|variant| &variant.supplied);
        let slots = spots.chain(signatures).filter_map(slot);
        let mut names: Vec<_> = slots.map(|slot| self.names.name(slot).to_vec()).collect();
        let echoed = self.sender.replies.texts_of("challenge");
        let echoed = echoed.into_iter().flat_map(Text::spots).filter(|spot| spot.came());
        names.extend(echoed.map(|spot| self.wire(spot.steps().0).as_bytes().to_vec()));
        names
    }
}

fn slot(spot: &Bound) -> Option<Slot> {
    match &spot.input {
        Input::Parameter { slot, .. } => Some(*slot),
        _ => None,
    }
}

fn as_message(pairs: &[(String, String)]) -> Option<Vec<u8>> {
    if pairs.is_empty() { None } else { edit::as_json(pairs) }
}
