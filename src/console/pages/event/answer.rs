//! The reply to the sender.

use http::StatusCode;
use maud::{Markup, html};

use crate::clock::UnixMillis;
use crate::config::Source;
use crate::console::components::facts::facts;
use crate::console::components::value;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{EventBody, Rejected, Rejection};
use crate::sender::{Answer, Outcome, Reason, ReplyDraft};

texts! {
    TITLE = "Reply", "应答";
    STATUS = "Status", "状态码";
    TYPE = "Content type", "内容类型";
    EMPTY = "The body is empty.", "应答体为空。";
    SILENCE = "None: the request was left unanswered, because only that makes the sender retry.", "无：请求未被应答，因为只有这样发送方才会重试。";
    KEPT = "Stored with the event. A duplicate gets the same reply.", "随事件保存。重复回调得到相同的应答。";
    FIXED = "The current reply of this source to every accepted callback. The verdict of an inline destination may have led to another one.",
        "该来源当前对所有已接受回调的应答。若有 inline 目标，其判定可能使实际应答不同。";
    OF_REJECTION = "The current reply of this source to a callback that is rejected for this reason.", "该来源当前对因此原因被拒绝的回调的应答。";
    GONE = "The source no longer exists. The reply was the usual one of the sender; it did not depend on the callback.",
        "来源已不存在。应答为该发送方的常规应答，与回调内容无关。";
}

/// The section about the reply to an event of `source`.
pub(crate) fn section(
    visit: &Visit,
    source: Option<&Source>,
    body: &EventBody,
    at_ms: UnixMillis,
) -> Markup {
    let lang = visit.lang;
    let kept = body.reply.as_ref().and_then(|kept| kept.answer().ok());
    let usual = || {
        let headers = body.request.header_map();
        let callback = source?.recipe.read(body.request.as_request("", &headers), at_ms);
        Some(callback.draft_reply(Outcome::Accepted, None, &|| [0; 16]))
    };
    let (reply, note) = match kept {
        Some(answer) => (Some(ReplyDraft::Answer(answer)), KEPT),
        None => (usual(), FIXED),
    };
    html! {
        section aria-labelledby="answer" {
            h2 #answer { (TITLE.of(lang)) }
            @match &reply {
                Some(ReplyDraft::Answer(answer)) => { p.hint { (note.of(lang)) } (shown(visit, answer)) },
                Some(ReplyDraft::Silence) => p { (SILENCE.of(lang)) },
                None => p { (GONE.of(lang)) },
            }
        }
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
