//! Values that are not parameters: headers, lists, and what the gateway knows of the request.

use std::borrow::Cow;

use http::HeaderName;

use super::{Context, EvalError};
use crate::sender::crypto::digest::Algorithm;
use crate::sender::language::bound::{Bound, Gateway, Input};
use crate::sender::language::modifier::Modifier;
use crate::sender::language::text::Piece;
use crate::sender::language::time::Stamp;
use crate::sender::request::callback::Callback;
use crate::sender::request::parameters::ParameterError;

impl Callback<'_> {
    pub(super) fn known<'s>(
        &'s self,
        input: &'s Input,
        spot: &Bound,
        context: &Context<'s>,
    ) -> Result<Option<Cow<'s, [u8]>>, ParameterError> {
        Ok(match input {
            Input::Header(name) => self.header(name)?.map(Cow::Borrowed),
            Input::List { list, item } => self.listed(*list, item, context)?,
            Input::Setting(value) => Some(Cow::Borrowed(value.expose())),
            Input::Absent | Input::Parameter { .. } => None,
            Input::Known(text) => {
                let mut out = Vec::new();
                match self.put(text, context, &mut out) {
                    Ok(()) => Some(Cow::Owned(out)),
                    Err(EvalError::Missing(_)) => None,
                    Err(EvalError::Parameter(unreadable)) => return Err(unreadable),
                }
            }
            Input::Role(role) => self.role(*role)?,
            Input::Gateway(Gateway::Content) => self
                .content_digest()?
                .map(|digest| Cow::Owned(const_hex::encode(digest).into_bytes())),
            Input::Gateway(gateway) => self.gateway(*gateway, spot, context),
        })
    }

    /// The value of a header, which must not come twice.
    pub(super) fn header(&self, name: &HeaderName) -> Result<Option<&[u8]>, ParameterError> {
        self.headers.value(&self.recipe.headers, self.header_name(name))
    }

    /// The callback's name of the header `name`.
    pub(in crate::sender) fn header_name<'s>(&'s self, name: &'s HeaderName) -> &'s HeaderName {
        self.headers.name(&self.recipe.sender.header_names, name)
    }

    /// The first value of `item` in a list.
    fn listed<'s>(
        &'s self,
        list: usize,
        item: &'s [u8],
        context: &Context<'s>,
    ) -> Result<Option<Cow<'s, [u8]>>, ParameterError> {
        let Some(text) = self.list_text(list, context)? else { return Ok(None) };
        let shape = &self.recipe.sender.lists[list].shape;
        Ok(match text {
            Cow::Borrowed(text) => shape.values(text, item, 1).next().map(Cow::Borrowed),
            Cow::Owned(text) => {
                shape.values(&text, item, 1).next().map(|value| Cow::Owned(value.to_vec()))
            }
        })
    }

    /// The text that a list is in.
    pub(in crate::sender) fn list_text<'s>(
        &'s self,
        list: usize,
        context: &Context<'s>,
    ) -> Result<Option<Cow<'s, [u8]>>, ParameterError> {
        let Some(of) = self.recipe.lists.get(list) else { return Ok(None) };
        match of.pieces.as_slice() {
            [Piece::Value(spot)] => self.value(spot, context),
            _ => {
                let mut out = Vec::new();
                match self.put(of, context, &mut out) {
                    Ok(()) => Ok(Some(Cow::Owned(out))),
                    Err(EvalError::Missing(_)) => Ok(None),
                    Err(EvalError::Parameter(unreadable)) => Err(unreadable),
                }
            }
        }
    }

    fn gateway<'s>(
        &'s self,
        gateway: Gateway,
        spot: &Bound,
        context: &Context<'s>,
    ) -> Option<Cow<'s, [u8]>> {
        let text = |text: &'s str| Some(Cow::Borrowed(text.as_bytes()));
        match gateway {
            Gateway::Secret => Some(Cow::Borrowed(context.secret)),
            // Only a key may read the first, and a key is not a text: see `Public`. The second is
            // read in `known`.
            Gateway::PublicKey | Gateway::Content => None,
            Gateway::Body => Some(Cow::Borrowed(self.message())),
            // An empty body does not distinguish callbacks.
            Gateway::BodySha256 if self.message().is_empty() => None,
            Gateway::BodySha256 => {
                let digest = Algorithm::Sha256.of(self.message());
                Some(Cow::Owned(const_hex::encode(digest.bytes()).into_bytes()))
            }
            Gateway::Query => Some(Cow::Borrowed(self.query)),
            Gateway::Url => {
                Some(Cow::Owned([self.request.base.as_bytes(), self.request.target].concat()))
            }
            Gateway::Path => Some(self.path()),
            Gateway::Method => text(self.request.method.as_str()),
            Gateway::Now => Some(Cow::Owned(self.now(spot, context).into_bytes())),
            Gateway::Signed => {
                let output = self.matched.as_ref()?.output.as_ref()?;
                Some(Cow::Owned(const_hex::encode(output.bytes()).into_bytes()))
            }
            Gateway::Source => text(&self.recipe.source),
            Gateway::ReceivedAt => Some(Cow::Owned(self.now_ms.to_string().into_bytes())),
            Gateway::Reason => context.said?.reason.and_then(|reason| text(reason.as_str())),
            Gateway::Code => text(context.said?.code),
            Gateway::Countersign => text(context.said?.countersign),
            Gateway::EventId => Some(Cow::Owned(context.said?.event_id?.to_string().into_bytes())),
            Gateway::Message => {
                self.opened.as_ref().map(|opened| Cow::Borrowed(opened.message.as_slice()))
            }
            Gateway::Pairs | Gateway::Sorted => {
                let mut out = Vec::new();
                let plain =
                    Bound { input: Input::Gateway(gateway), modifiers: [].into(), name: "".into() };
                self.put_spot(&plain, context, &mut out).ok()?;
                Some(Cow::Owned(out))
            }
        }
    }

    /// The path as the sender sees it: that of `public_url`, if it has one, and that of the target.
    fn path(&self) -> Cow<'_, [u8]> {
        let authority = self.request.base.find("://").map_or(0, |at| at + 3);
        let front = self.request.base[authority..]
            .find('/')
            .map_or("", |at| self.request.base[authority + at..].trim_end_matches('/'));
        let target = self.request.target;
        let path = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
        match front {
            "" => Cow::Borrowed(path),
            front => Cow::Owned([front.as_bytes(), path].concat()),
        }
    }

    fn now(&self, spot: &Bound, context: &Context<'_>) -> String {
        let at_ms = context.said.map_or(self.now_ms, |said| said.at_ms);
        let written = spot.modifiers.iter().find_map(|modifier| match modifier {
            Modifier::Time(stamp) => Some(stamp),
            _ => None,
        });
        let usual = self.recipe.time.as_ref();
        let zone = usual.map_or(jiff::tz::Offset::UTC, |time| time.zone);
        let stamp = written.or(usual.map(|time| &time.stamp)).unwrap_or(&Stamp::Seconds);
        stamp.write(at_ms, zone)
    }
}
