//! The answer that the sender got.

use http::StatusCode;
use maud::{Markup, html};

use crate::clock::UnixMillis;
use crate::config::Source;
use crate::console::components::facts::facts;
use crate::console::components::value;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::EventBody;
use crate::sender::{Answer, Outcome, Reply};

texts! {
    TITLE = "The answer", "应答";
    STATUS = "Status", "状态码";
    TYPE = "Content type", "内容类型";
    EMPTY = "Its body was empty.", "应答体为空。";
    SILENCE = "Silence: the sender was left without an answer.", "静默：未向发送方应答。";
    KEPT = "Kept with the event: a duplicate gets the very same.", "随事件保存：重复回调得到完全相同的应答。";
    FIXED = "The same for every accepted callback of this source, as it is set now. An inline destination may have had it answered otherwise.",
        "该来源对每个已接受的回调应答相同（按当前设置）。内联投递目标可能使其不同。";
    GONE = "The source is gone, and the answer was not made from the callback: it was the sender's usual one.",
        "来源已不存在；应答不依赖回调内容，为该发送方的常规应答。";
}

/// The section about the answer to an event of `source`.
pub fn section(
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
        Some(callback.reply(Outcome::Accepted, None, &|| [0; 16]))
    };
    let (reply, note) = match kept {
        Some(answer) => (Some(Reply::Answer(answer)), KEPT),
        None => (usual(), FIXED),
    };
    html! {
        section aria-labelledby="answer" {
            h2 #answer { (TITLE.of(lang)) }
            @match &reply {
                Some(Reply::Answer(answer)) => { p.hint { (note.of(lang)) } (shown(visit, answer)) },
                Some(Reply::Silence) => p { (SILENCE.of(lang)) },
                None => p { (GONE.of(lang)) },
            }
        }
    }
}

fn shown(visit: &Visit, answer: &Answer) -> Markup {
    let Answer { status, content_type, body } = answer;
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
