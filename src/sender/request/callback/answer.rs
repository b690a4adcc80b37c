//! The reply to a callback: the sender's, by outcome.

use super::Callback;
use crate::sender::acts::evaluate::{Context, ReplyValues};
use crate::sender::acts::outcome::{Outcome, Reason};
use crate::sender::acts::reply::{
    self, Answer, Envelope, RenderText, ReplyDraft, Sealed, Spec, Style,
};
use crate::sender::acts::signature;
use crate::sender::crypto::digest::{Algorithm, Feed};
use crate::sender::language::bound::{Bound, Gateway, Input};
use crate::sender::language::definition::Writing;
use crate::sender::language::recipe::Recipe;
use crate::sender::language::text::{Piece, Text};
use crate::sender::request::encoding;

/// The part of a callback that decides about a reply which is the same for its whole kind.
#[derive(Clone, Copy, Debug)]
pub struct ReplyKind(Option<usize>);

impl Recipe {
    /// The draft of the reply to `outcome` of a verified callback of that kind, if it is the same for
    /// all of them. `None`: [`Callback::draft_reply`] makes it.
    #[must_use]
    pub fn fixed_draft(&self, of: ReplyKind, outcome: Outcome) -> Option<ReplyDraft> {
        if outcome == Outcome::Rejected {
            // It may depend on whether the callback is an address check.
            return None;
        }
        match self.reply_spec(of, reply::names(outcome, None)) {
            Some(Spec::Silence) | None => Some(ReplyDraft::Silence),
            Some(Spec::Fixed(answer)) => Some(ReplyDraft::Answer(answer.clone())),
            Some(Spec::Made(_)) => None,
        }
    }

    /// The first reply that has one of `names`: the source's own, that of the kind, or the file's.
    fn reply_spec(
        &self,
        of: ReplyKind,
        mut names: impl Iterator<Item = &'static str>,
    ) -> Option<&Spec<Bound>> {
        let kind = of.0.and_then(|kind| self.kinds.get(kind));
        names.find_map(|name| {
            let of_kind = || kind.and_then(|kind| kind.replies.get(name));
            self.own_replies.get(name).or_else(of_kind).or_else(|| self.replies.get(name))
        })
    }
}

impl<'a> Callback<'a> {
    fn spec(&self, outcome: Outcome, reason: Option<Reason>) -> Option<&'a Spec<Bound>> {
        // Inside an opened message the condition would read other parameters.
        let rejected = outcome == Outcome::Rejected
            && self.opened.is_none()
            && self.holds(&self.recipe.challenge);
        let challenge = rejected.then_some(reply::CHALLENGE_REJECTED);
        let names = challenge.into_iter().chain(reply::names(outcome, reason));
        self.recipe.reply_spec(self.reply_kind(), names)
    }

    /// The part of it that decides about replies which depend on nothing else.
    #[must_use]
    pub fn reply_kind(&self) -> ReplyKind {
        ReplyKind(self.kind)
    }

    /// Whether the reply to an accepted callback is made from the callback: then it has to be
    /// kept with the event for duplicates to get the same one.
    #[must_use]
    pub fn answer_depends_on_callback(&self) -> bool {
        matches!(self.spec(Outcome::Accepted, None), Some(Spec::Made(_)))
    }

    /// Renders the reply that the sender would receive for `outcome`; `reason` with [`Outcome::Rejected`] or
    /// [`Outcome::Disabled`]. `salt` makes 16 random bytes, asked for only where a reply is sealed.
    pub fn draft_reply(
        &self,
        outcome: Outcome,
        reason: Option<Reason>,
        salt: &dyn Fn() -> [u8; 16],
    ) -> ReplyDraft {
        match self.spec(outcome, reason) {
            Some(Spec::Silence) | None => ReplyDraft::Silence,
            Some(Spec::Fixed(answer)) => ReplyDraft::Answer(answer.clone()),
            Some(Spec::Made(made)) => {
                let countersign = self.countersign();
                let code = self.code(outcome, reason);
                let said = ReplyValues {
                    reason,
                    at_ms: self.now_ms,
                    countersign: &countersign,
                    code: code.and_then(toml::Value::as_str).unwrap_or_default(),
                    event_id: None,
                };
                let answer = made.answer(&CallbackRenderer { callback: self, said: &said, code });
                match &made.sealed {
                    Sealed::LikeTheCallback => ReplyDraft::Answer(self.sealed(answer, None, salt)),
                    Sealed::In(names) => ReplyDraft::Answer(self.sealed(answer, Some(names), salt)),
                    Sealed::Never => ReplyDraft::Answer(answer),
                }
            }
        }
    }

    /// Whether the sender, or the source, has a reply for exactly this outcome: then it is not
    /// given the one that the first callback of its transaction got.
    #[must_use]
    pub fn has_own_answer(&self, outcome: Outcome) -> bool {
        let name = outcome.as_str();
        self.recipe.own_replies.get(name).is_some()
            || self.kind_here().is_some_and(|kind| kind.replies.get(name).is_some())
            || self.recipe.replies.get(name).is_some()
    }

    fn code(&self, outcome: Outcome, reason: Option<Reason>) -> Option<&'a toml::Value> {
        let codes = &self.recipe.sender.codes;
        reply::names(outcome, reason).find_map(|name| codes.get(name))
    }

    /// The gateway's signature. Only for a verified callback: otherwise the gateway would sign
    /// texts of unauthenticated callers.
    fn countersign(&self) -> String {
        let secret = self.matched.as_ref().and_then(|matched| matched.secret);
        secret.map_or_else(String::new, |index| self.countersigned(index))
    }

    /// Our own signature under the secret at `index`.
    pub(in crate::sender) fn countersigned(&self, index: usize) -> String {
        let Some(sign) = &self.recipe.countersign else { return String::new() };
        let Some(secret) = self.recipe.secrets.get(index) else { return String::new() };
        let context = Context { secret: secret.value.expose(), ..Context::default() };
        let Some(start) = signature::start(&sign.with, &sign.keyed, index) else {
            return String::new();
        };
        let mut feed = Feed::new(start);
        match self.put(&sign.of, &context, &mut feed) {
            Ok(()) => {
                let output = signature::chained(feed.finish(), &sign.with.then);
                signature::written(&output, sign.writing)
            }
            Err(_) => String::new(),
        }
    }

    /// The answer in WeChat's envelope, where the callback came in one.
    fn sealed(
        &self,
        answer: Answer,
        names: Option<&Envelope>,
        salt: &dyn Fn() -> [u8; 16],
    ) -> Answer {
        let (Some(_), Some(opener)) = (&self.opened, &self.recipe.open) else { return answer };
        if !opener.with.can_seal() {
            return answer;
        }
        let secret = self.matched.as_ref().and_then(|matched| matched.secret);
        let Some(secret) = secret.and_then(|index| self.recipe.secrets.get(index)) else {
            return answer;
        };
        let salt = salt();
        let index = self.matched.as_ref().and_then(|matched| matched.secret).unwrap_or_default();
        let encrypt = encoding::base64(&opener.seal(&answer.body, salt, index));
        let stamp = self.now_ms.div_euclid(1000).to_string();
        let nonce = u64::from_be_bytes(std::array::from_fn(|i| salt[i])).to_string();
        let token = secret.value.expose();
        let signature =
            msg_signature([token, stamp.as_bytes(), nonce.as_bytes(), encrypt.as_bytes()]);
        let (body, content_type) = match (names, style_of(self.request.body)) {
            (Some(names), _) => {
                let Envelope { encrypt: cipher, signature: digest, time, nonce: salt } = names;
                let members =
                    [(digest, &signature), (time, &stamp), (salt, &nonce), (cipher, &encrypt)];
                let members = members.map(|(name, value)| format!("\"{name}\":\"{value}\""));
                (format!("{{{}}}", members.join(",")), reply::JSON)
            }
            (None, Style::Json) => (
                format!(
                    "{{\"Encrypt\":\"{encrypt}\",\"MsgSignature\":\"{signature}\",\
                     \"TimeStamp\":{stamp},\"Nonce\":\"{nonce}\"}}"
                ),
                reply::JSON,
            ),
            (None, Style::Xml) => (
                format!(
                    "<xml><Encrypt><![CDATA[{encrypt}]]></Encrypt>\
                     <MsgSignature><![CDATA[{signature}]]></MsgSignature>\
                     <TimeStamp>{stamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
                ),
                reply::XML,
            ),
        };
        Answer { body: body.into(), content_type: Some(content_type), ..answer }
    }
}

/// WeChat's signature of an envelope: the parts, sorted as bytes, under SHA-1.
fn msg_signature(mut parts: [&[u8]; 4]) -> String {
    parts.sort_unstable();
    signature::written(&Algorithm::Sha1.of(&parts.concat()), Writing::Hex)
}

fn style_of(body: &[u8]) -> Style {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<') => Style::Xml,
        _ => Style::Json,
    }
}

/// Says a reply's texts from the callback.
struct CallbackRenderer<'s, 'a> {
    callback: &'s Callback<'a>,
    said: &'s ReplyValues<'s>,
    code: Option<&'s toml::Value>,
}

impl RenderText<Bound> for CallbackRenderer<'_, '_> {
    fn text(&self, text: &Text<Bound>) -> Option<String> {
        let context =
            Context { plus: self.callback.plus(), said: Some(self.said), ..Context::default() };
        let mut out = Vec::new();
        for piece in &text.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Value(spot) => {
                    if let Ok(Some(value)) = self.callback.value(spot, &context) {
                        out.extend_from_slice(&value);
                    }
                }
                Piece::Optional(_) => {
                    let one = Text { pieces: vec![piece.clone()] };
                    let _ = self.callback.put(&one, &context, &mut out);
                }
            }
        }
        let left_out = out.is_empty() && matches!(text.pieces.as_slice(), [Piece::Optional(_)]);
        (!left_out).then(|| String::from_utf8_lossy(&out).into_owned())
    }

    fn code(&self, text: &Text<Bound>) -> Option<&toml::Value> {
        let just_code = matches!(
            text.pieces.as_slice(),
            [Piece::Value(Bound { input: Input::Gateway(Gateway::Code), .. })]
        );
        self.code.filter(|_| just_code)
    }

    fn style(&self) -> Style {
        style_of(self.callback.message())
    }
}

#[cfg(test)]
mod tests {
    use super::msg_signature;

    #[test]
    fn an_envelope_is_signed_as_the_published_reply_is() {
        let encrypt = "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ==";
        let parts = ["AAAAA", "1713424427", "415670741", encrypt];
        let signature = msg_signature(parts.map(str::as_bytes));
        assert_eq!(signature, "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1");
    }
}
