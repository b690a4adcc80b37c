//! Several events in one callback: it is read as so many callbacks, each with a list of one.
//!
//! What the signature covers as a whole is verified once, and its parts inherit the proof. Where a
//! signature is over one element, each part is verified by itself.

use bytes::Bytes;

use super::outcome::Reason;
use crate::sender::language::bound::{Bound, Input};
use crate::sender::language::definition::EventList;
use crate::sender::language::recipe::Recipe;
use crate::sender::request::Request;
use crate::sender::request::callback::{Callback, CallbackError, Judgement, Match, Resolution};
use crate::sender::request::json;

impl Callback<'_> {
    /// The bodies of the parts, one for each event; `None` if the callback is one event as it is.
    ///
    /// # Errors
    /// `too_large` if there are more than the sender's file allows, `bad_body` if an element is not
    /// an object.
    pub(in crate::sender) fn parts(&self) -> Result<Option<Vec<Bytes>>, CallbackError> {
        let Some(list) = &self.recipe.sender.each else { return Ok(None) };
        let (before, elements, after) = match self.split(list) {
            Some(split) => split,
            None => return Ok(None),
        };
        if elements.len() > list.most {
            return Err(CallbackError::of(Reason::TooLarge, list.name()));
        }
        if let Some(at) = elements.iter().position(|element| json::members(element).is_none()) {
            return Err(CallbackError::of(Reason::BadBody, &format!("{}.{at}", list.name())));
        }
        let part = |element: &&[u8]| Bytes::from([before, element, after].concat());
        Ok(Some(elements.iter().map(part).collect()))
    }

    /// Whether it brings several events. Then a condition on element 0 is asked of each part, and
    /// not of the whole: the first of them may be a test, and the others not.
    pub(in crate::sender) fn is_several(&self) -> bool {
        self.recipe.sender.each.as_ref().is_some_and(|list| self.split(list).is_some())
    }

    /// The elements of the list, and what surrounds each of them in a callback of its own. `None`
    /// if the callback is one already.
    #[expect(clippy::type_complexity, reason = "the three parts of a text")]
    fn split(&self, list: &EventList) -> Option<(&[u8], Vec<&[u8]>, &[u8])> {
        let body = &*self.body;
        let Some(of) = &list.of else {
            return Some((b"", json::items(body)?, b""));
        };
        let members = json::members(body)?;
        let raw = members.iter().find(|member| *member.name == **of)?.raw;
        let elements = json::items(raw).filter(|elements| elements.len() > 1)?;
        let (first, last) = (elements.first()?, elements.last()?);
        let before = json::span(body, first).start();
        let after = json::span(body, last).end();
        Some((body.get(..before)?, elements, body.get(after..)?))
    }
}

impl Recipe {
    /// The part of a verified callback whose body is `body`, to be verified and resolved like any
    /// callback. It is verified by the proof of the whole, unless elements are signed.
    #[must_use]
    pub fn read_part<'a>(&'a self, whole: &Callback<'a>, body: &'a [u8]) -> Callback<'a> {
        let request = Request { body, ..*whole.request() };
        let mut part = self.read(request, whole.now_ms);
        part.keys = whole.keys;
        part.older_keys = whole.older_keys;
        part.inherited = whole.matched.clone().filter(|found| !self.signs_elements(found));
        part
    }

    /// Whether the signature that matched is in an element of the list, or over its members.
    fn signs_elements(&self, found: &Match) -> bool {
        let Some(list) = &self.sender.each else { return false };
        let further = found.further.iter().map(|one| &one.variant);
        let variants = found.variant.iter().chain(further);
        let mut variants = variants.filter_map(|index| self.variants.get(*index));
        variants.any(|variant| {
            let spots = variant.of.spots().chain(variant.key.spots()).chain([&variant.supplied]);
            spots.into_iter().any(|spot| self.is_in_list(spot, list))
        })
    }

    fn is_in_list(&self, spot: &Bound, list: &EventList) -> bool {
        match (&spot.input, &list.of) {
            (Input::Parameter { slot, .. }, Some(of)) => self.names.name(*slot) == of.as_bytes(),
            // The members of an element are the parameters.
            (Input::Parameter { .. }, None) => true,
            _ => false,
        }
    }
}

impl EventList {
    /// The name of the list in errors.
    fn name(&self) -> &str {
        self.of.as_deref().unwrap_or("body")
    }
}

/// The results of the parts of a callback, in order; the first that is rejected ends them. As in
/// the gateway, what is only a test is left out, unless all parts are tests.
pub(in crate::sender) fn resolve_parts(
    whole: &Callback<'_>,
    bodies: &[Bytes],
    event_id: &str,
) -> Vec<Resolution> {
    let (mut all, mut test) = (Vec::new(), None);
    for body in bodies {
        let mut part = whole.recipe.read_part(whole, body);
        let resolution = match part.verify() {
            Judgement::Verified(mut verified) => verified.resolve(event_id),
            Judgement::Rejected(rejection) => Resolution::Rejected(rejection),
            Judgement::Probe => Resolution::Test,
            Judgement::Challenge => Resolution::Challenge,
            Judgement::Undecided => Resolution::Rejected(CallbackError::new(Reason::UnknownKey)),
        };
        match resolution {
            Resolution::Test | Resolution::Challenge => test = Some(resolution),
            Resolution::Event(_) | Resolution::Ambiguous(_) => all.push(resolution),
            // A part has one element.
            Resolution::Rejected(_) | Resolution::Several(_) => {
                all.push(resolution);
                return all;
            }
        }
    }
    all.extend(test.filter(|_| all.is_empty()));
    all
}
