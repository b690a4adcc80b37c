//! A callback sent to this gateway, and its outcome.

use maud::{Markup, html};

use crate::clock::{UnixMillis, now_ms};
use crate::config::Source;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::attempt_error;
use crate::console::components::facts::facts;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::{badge, time, value};
use crate::console::lang::Lang;
use crate::console::messages;
use crate::console::page_error::PageError;
use crate::console::text::{Text, texts};
use crate::ledger::{
    EventBody, EventId, HeldId, HeldQuery, LedgerError, LogQuery, Rejected, SourceId,
};
use crate::operator::{CallError, CallPurpose, Called, call};
use crate::sender::{Outcome, OwnedRequest};

texts! {
    SENT = "Reply of this gateway", "本网关的应答";
    STATUS = "Status", "状态码";
    TYPE = "Content type", "内容类型";
    TOOK = "Latency", "耗时";
    OUTCOME = "Outcome", "结果";
    UNKNOWN = "Not found among the latest callbacks of this gateway", "未在本网关最近的回调中找到";
    EVENT = "Event", "事件";
    REJECTION = "Rejected callback", "被拒绝的回调";
    BODY = "Body", "应答内容";
    EMPTY = "The body is empty.", "应答内容为空。";
    CLOSED = "The connection was closed without a reply. For some senders, this is the reply that makes them retry.",
        "连接被关闭，没有应答。对某些发送方，只有这样才会重试。";
    UNREACHED = "No reply: {}", "没有应答：{}";
}

/// Latest callbacks searched for the sent one.
const LATEST: usize = 50;

/// The result of sending a callback.
#[derive(Debug)]
pub(super) struct Sent {
    answer: Result<Called, CallError>,
    recorded: Recorded,
}

/// The outcome in the logs of this gateway.
#[derive(Debug)]
enum Recorded {
    Event(Outcome, EventId),
    UnrecordedCallback(Outcome, Option<EventId>),
    Rejected(Rejected, HeldId),
    Unknown,
    /// The logs cannot be read; the callback was sent all the same.
    Unread(LedgerError),
}

/// The ends of the logs before the callback was sent.
struct Before {
    passed: u64,
    at_ms: UnixMillis,
}

impl Sent {
    /// Sends `request` and looks up its outcome.
    pub(super) async fn to(
        console: &Console,
        source: &Source,
        request: &OwnedRequest,
        purpose: CallPurpose<'_>,
    ) -> Self {
        let (before, config) = (Before::now(console), console.config());
        let answer = call(&config.server, console.tools.callbacks, request, purpose).await;
        let recorded = before.recorded(console, source, request).await;
        Self { answer, recorded: recorded.unwrap_or_else(Recorded::Unread) }
    }

    pub(super) fn show(&self, lang: Lang) -> Markup {
        let mut all: Vec<(Text, Markup)> = Vec::new();
        if let Ok(called) = &self.answer {
            all.push((STATUS, html! { b { (called.status.as_u16()) } }));
            all.push((TYPE, value::maybe(called.content_type.as_deref())));
            all.push((TOOK, html! { (time::took(called.took)) }));
        }
        all.extend(self.recorded.facts(lang));
        html! {
            section.sent aria-labelledby="sent" {
                h2 #sent { (SENT.of(lang)) }
                @match &self.answer {
                    Ok(_) => {}
                    Err(CallError::Closed) => (notice(Tone::Plain, CLOSED.of(lang))),
                    Err(why) => (notice(Tone::Bad, &UNREACHED.fill(lang, &[&attempt_error::words(lang, &messages::text(lang, &why.to_string()))]))),
                }
                (facts(lang, &all))
                @if let Ok(called) = &self.answer {
                    @if called.body.is_empty() { p.empty { (EMPTY.of(lang)) } }
                    @else {
                        p { (BODY.of(lang)) }
                        (value::block(&String::from_utf8_lossy(&called.body)))
                    }
                }
            }
        }
    }
}

impl Before {
    fn now(console: &Console) -> Self {
        let callback_handler = &console.tools.callback_handler;
        let passed = callback_handler.recent().list(None, 1, |_| true).0;
        Self { passed: passed.first().map_or(0, |one| one.number), at_ms: now_ms() }
    }

    /// Finds the outcome; the logs contain a callback before its reply is sent.
    async fn recorded(
        &self,
        console: &Console,
        source: &Source,
        request: &OwnedRequest,
    ) -> Result<Recorded, LedgerError> {
        let callback_handler = &console.tools.callback_handler;
        let of_source = HeldQuery {
            source: Some(SourceId::from(source.id.as_str())),
            since_ms: Some(self.at_ms),
            ..HeldQuery::default()
        };
        let (rejected, _) = console.rejections().list(&of_source, None, LATEST).await?;
        if let Some(one) = rejected.iter().find(|one| one.request.target == request.target) {
            return Ok(Recorded::Rejected(one.reason, one.id));
        }
        let query = LogQuery {
            source: Some(SourceId::from(source.id.as_str())),
            since_ms: Some(self.at_ms),
            ..LogQuery::default()
        };
        let page = console.ledger().query(&query, None, LATEST).await?;
        let is_ours = |body: &EventBody| {
            body.request.target == request.target && body.request.body == request.body
        };
        let found = page
            .events
            .iter()
            .find(|event| EventBody::decode(&event.body).is_ok_and(|body| is_ours(&body)));
        if let Some(event) = found {
            let outcome = if event.test { Outcome::Test } else { Outcome::Accepted };
            return Ok(Recorded::Event(outcome, event.id));
        }
        let newer = |number: u64| number > self.passed;
        let (passed, _) = callback_handler
            .recent()
            .list(None, LATEST, |one| newer(one.number) && one.source == source.name);
        Ok(passed
            .first()
            .map_or(Recorded::Unknown, |one| Recorded::UnrecordedCallback(one.outcome, one.event)))
    }
}

impl Recorded {
    fn facts(&self, lang: Lang) -> Vec<(Text, Markup)> {
        let event = |id: &EventId| {
            let path = format!("{}/{id}", Area::Event.path());
            (EVENT, html! { a href=(path) { code { (id) } } })
        };
        match self {
            Self::Event(outcome, id) => vec![(OUTCOME, badge::outcome(lang, *outcome)), event(id)],
            Self::UnrecordedCallback(outcome, id) => {
                let outcome = (OUTCOME, badge::outcome(lang, *outcome));
                std::iter::once(outcome).chain(id.as_ref().map(event)).collect()
            }
            Self::Rejected(reason, id) => {
                let outcome = html! {
                    (badge::outcome(lang, Outcome::Rejected)) " " (badge::rejected(lang, *reason))
                };
                let path = format!("{}/{id}", Area::Rejection.path());
                vec![(OUTCOME, outcome), (REJECTION, html! { a href=(path) { code { (id) } } })]
            }
            Self::Unknown => vec![(OUTCOME, html! { span.absent { (UNKNOWN.of(lang)) } })],
            Self::Unread(error) => {
                let why = PageError::Ledger(error.clone()).why(lang);
                vec![(OUTCOME, html! { span.absent { (why) } })]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Found, shown};
    use super::*;
    use crate::operator::Overloaded;

    #[test]
    fn a_callback_that_was_sent_is_shown_without_explanation_and_outcome() {
        let recorded = Recorded::Unread(LedgerError::Unknown);
        let sent = Sent { answer: Err(CallError::Closed), recorded };
        let found = Found { explained: Err(Overloaded), command: None, sent: Some(sent) };
        for (lang, parts) in [
            (Lang::En, ["The connection was closed", "The store returned", "is not explained"]),
            (Lang::Zh, ["连接被关闭", "存储返回错误", "未诊断此回调"]),
        ] {
            let page = shown(lang, &found).into_string();
            assert!(parts.iter().all(|part| page.contains(part)), "{page}");
        }
    }
}
