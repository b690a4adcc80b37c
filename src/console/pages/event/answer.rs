//! The reply to the sender.

use http::StatusCode;
use maud::{Markup, html};

use crate::config::{Config, Late, Mode, Source};
use crate::console::components::facts::facts;
use crate::console::components::value;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::ledger::{Delivery, EventBody, EventDetail, Rejected, Rejection};
use crate::sender::{Answer, Outcome, Reason, ReplyDraft};
use crate::verdict::{self, Timing, Verdict};

texts! {
    TITLE = "Reply", "应答";
    STATUS = "Status", "状态码";
    TYPE = "Content type", "内容类型";
    EMPTY = "The body is empty.", "应答体为空。";
    SILENCE = "None: the request was left unanswered, because only that makes the sender retry.", "无：请求未被应答，因为只有这样发送方才会重试。";
    KEPT = "Stored with the event. A duplicate gets the same reply.", "随事件保存。重复回调得到相同的应答。";
    FIXED = "The current reply of this source to every accepted callback.", "该来源当前对所有已接受回调的应答。";
    OF_VERDICT = "The current reply of this source for this verdict.", "该来源当前对此判定的应答。";
    VERDICT = "Verdict", "判定";
    VALID = "accepted by the backend", "后端已接受";
    INVALID = "rejected by the backend", "后端已拒绝";
    UNREADABLE = "unreadable", "无法识别";
    TOO_LATE = "too late for the sender", "迟到，发送方已收到应答";
    NO_VERDICT = "none in time", "未及时给出";
    OF_REJECTION = "The current reply of this source to a callback that is rejected for this reason.", "该来源当前对因此原因被拒绝的回调的应答。";
    GONE = "The source no longer exists. The reply was the usual one of the sender; it did not depend on the callback.",
        "来源已不存在。应答为该发送方的常规应答，与回调内容无关。";
}

/// The section about the reply to an event of `source`.
pub(crate) fn section(
    visit: &Visit,
    config: &Config,
    source: Option<&Source>,
    detail: &EventDetail,
    body: &EventBody,
) -> Markup {
    let lang = visit.lang;
    let told = source.and_then(|source| Told::of(config, source, &detail.deliveries));
    let outcome = told.as_ref().map_or(Outcome::Accepted, |told| told.outcome);
    // The reply to an accepted callback is kept; any other is made when it is needed.
    let kept = body.reply.as_ref().filter(|_| outcome == Outcome::Accepted);
    let kept = kept.and_then(|kept| kept.answer().ok());
    let usual = || {
        let headers = body.request.header_map();
        let request = body.request.as_request("", &headers);
        let callback = source?.recipe.read(request, detail.event.received_ms);
        Some(callback.draft_reply(outcome, None, &|| [0; 16]))
    };
    let (reply, note) = match kept {
        Some(answer) => (Some(ReplyDraft::Answer(answer)), KEPT),
        None if outcome == Outcome::Accepted => (usual(), FIXED),
        None => (usual(), OF_VERDICT),
    };
    html! {
        section aria-labelledby="answer" {
            h2 #answer { (TITLE.of(lang)) }
            @if let Some(told) = &told { (facts(lang, &[(VERDICT, html! { (told.verdict.of(lang)) })])) }
            @match &reply {
                Some(ReplyDraft::Answer(answer)) => { p.hint { (note.of(lang)) } (shown(visit, answer)) },
                Some(ReplyDraft::Silence) => p { (SILENCE.of(lang)) },
                None => p { (GONE.of(lang)) },
            }
        }
    }
}

/// How the verdict of an inline backend decided the reply.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    outcome: Outcome,
    verdict: Text,
}

impl Told {
    /// About an event of `source` with these deliveries; `None`: no backend was asked for a verdict.
    fn of(config: &Config, source: &Source, deliveries: &[Delivery]) -> Option<Self> {
        let (name, late) = source.destinations.iter().find_map(|name| {
            match config.destinations.get(name)?.mode {
                Mode::Inline { late } => Some((name.as_str(), late)),
                Mode::Async => None,
            }
        })?;
        let delivery = deliveries.iter().find(|one| one.target.as_str() == name)?;
        Some(Self::by(verdict::recorded(delivery), late))
    }

    fn by(recorded: Option<(Verdict, Timing)>, late: Late) -> Self {
        let when_late = match late {
            Late::Accepted => Outcome::Accepted,
            Late::Rejected => Outcome::Rejected,
            Late::Unavailable => Outcome::Unavailable,
        };
        let (outcome, verdict) = match recorded {
            Some((Verdict::Valid, Timing::InTime)) => (Outcome::Accepted, VALID),
            Some((Verdict::Invalid, Timing::InTime)) => (Outcome::Rejected, INVALID),
            Some((Verdict::Unreadable, Timing::InTime)) => (when_late, UNREADABLE),
            Some((_, Timing::Late)) => (when_late, TOO_LATE),
            None => (when_late, NO_VERDICT),
        };
        Self { outcome, verdict }
    }
}

/// The section about the reply to a rejected callback: what `source` replies now for its reason.
pub(crate) fn rejected(visit: &Visit, source: &Source, kept: &Rejection) -> Markup {
    let lang = visit.lang;
    let Rejected::For(reason) = kept.reason else { return html! {} };
    let headers = kept.request.header_map();
    let callback = source.recipe.read(kept.request.as_request("", &headers), kept.at_ms);
    let outcome = match reason {
        Reason::Disabled => Outcome::Disabled,
        _ => Outcome::Rejected,
    };
    let reply = callback.draft_reply(outcome, Some(reason), &|| [0; 16]);
    html! {
        section aria-labelledby="answer" {
            h2 #answer { (TITLE.of(lang)) }
            p.hint { (OF_REJECTION.of(lang)) }
            @match &reply {
                ReplyDraft::Answer(answer) => (shown(visit, answer)),
                ReplyDraft::Silence => p { (SILENCE.of(lang)) },
            }
        }
    }
}

fn shown(visit: &Visit, answer: &Answer) -> Markup {
    let Answer { status, content_type, body, .. } = answer;
    let content_type = content_type.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()));
    html! {
        (facts(visit.lang, &[
            (STATUS, html! { code { (StatusCode::as_u16(status)) } }),
            (TYPE, value::maybe(content_type.as_deref())),
        ]))
        @if body.is_empty() { p.empty { (EMPTY.of(visit.lang)) } }
        @else { (value::block(&String::from_utf8_lossy(body))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_is_that_of_the_verdict_if_it_was_in_time() {
        let outcome = |recorded, late| Told::by(recorded, late).outcome;
        for late in [Late::Accepted, Late::Rejected, Late::Unavailable] {
            let in_time = |verdict| outcome(Some((verdict, Timing::InTime)), late);
            assert_eq!(in_time(Verdict::Valid), Outcome::Accepted);
            assert_eq!(in_time(Verdict::Invalid), Outcome::Rejected);
            let none = outcome(None, late);
            assert_eq!(in_time(Verdict::Unreadable), none);
            assert_eq!(outcome(Some((Verdict::Invalid, Timing::Late)), late), none);
        }
        let none =
            [Late::Accepted, Late::Rejected, Late::Unavailable].map(|late| outcome(None, late));
        assert_eq!(none, [Outcome::Accepted, Outcome::Rejected, Outcome::Unavailable]);
    }
}
