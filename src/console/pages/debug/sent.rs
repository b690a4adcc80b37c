//! A callback sent to this gateway, and its outcome.

use maud::{Markup, html};

use crate::clock::{UnixMillis, now_ms};
use crate::config::{Config, Source};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::{badge, time, value};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::text::{Text, texts};
use crate::intake::RejectionQuery;
use crate::ledger::{EventBody, EventId, LogQuery, SourceId};
use crate::operator::{CallError, Called, call};
use crate::sender::{Outcome, OwnedRequest, Reason};

texts! {
    SENT = "Reply of this gateway", "本网关的应答";
    STATUS = "Status", "状态码";
    TYPE = "Content type", "内容类型";
    TOOK = "Latency", "耗时";
    OUTCOME = "Outcome", "结果";
    UNKNOWN = "Not found among the latest callbacks of this gateway", "未在本网关最近的回调中找到";
    EVENT = "Event", "事件";
    REFUSAL = "Rejected callback", "被拒绝的回调";
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
pub struct Sent {
    answer: Result<Called, CallError>,
    became: Became,
}

/// The outcome in the logs of this gateway.
#[derive(Debug)]
enum Became {
    Event(Outcome, EventId),
    Passed(Outcome, Option<EventId>),
    Refused(Reason, u64),
    Unknown,
}

/// The ends of the logs before the callback was sent.
struct Before {
    refused: u64,
    passed: u64,
    at_ms: UnixMillis,
}

impl Sent {
    /// Sends `request` and looks up its outcome.
    pub async fn to(
        console: &Console,
        config: &Config,
        source: &Source,
        request: &OwnedRequest,
    ) -> Result<Self, PageError> {
        let before = Before::now(console);
        let answer = call(&config.server, console.tools.callbacks, request).await;
        let became = before.became(console, source, request).await?;
        Ok(Self { answer, became })
    }

    pub fn show(&self, lang: Lang) -> Markup {
        let mut all: Vec<(Text, Markup)> = Vec::new();
        if let Ok(called) = &self.answer {
            all.push((STATUS, html! { b { (called.status.as_u16()) } }));
            all.push((TYPE, value::maybe(called.content_type.as_deref())));
            all.push((TOOK, html! { (time::took(called.took)) }));
        }
        all.extend(self.became.facts(lang));
        html! {
            section.sent aria-labelledby="sent" {
                h2 #sent { (SENT.of(lang)) }
                @match &self.answer {
                    Ok(_) => {}
                    Err(CallError::Closed) => (notice(Tone::Plain, CLOSED.of(lang))),
                    Err(why) => (notice(Tone::Bad, &UNREACHED.fill(lang, &[why]))),
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
        let gate = &console.tools.gate;
        let refused = gate.rejections().list(&RejectionQuery::default(), 1).0;
        let passed = gate.recent().list(None, 1, |_| true).0;
        Self {
            refused: refused.first().map_or(0, |one| one.number),
            passed: passed.first().map_or(0, |one| one.number),
            at_ms: now_ms(),
        }
    }

    /// Finds the outcome; the logs contain a callback before its reply is sent.
    async fn became(
        &self,
        console: &Console,
        source: &Source,
        request: &OwnedRequest,
    ) -> Result<Became, PageError> {
        let gate = &console.tools.gate;
        let of_source =
            RejectionQuery { source: Some(source.name.clone()), ..RejectionQuery::default() };
        let (refused, _) = gate.rejections().list(&of_source, LATEST);
        let ours = refused.iter().filter(|one| one.number > self.refused);
        let mut ours = ours.filter(|one| one.request.target == request.target);
        if let Some(one) = ours.next() {
            return Ok(Became::Refused(one.reason, one.number));
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
            return Ok(Became::Event(outcome, event.id));
        }
        let newer = |number: u64| number > self.passed;
        let (passed, _) =
            gate.recent().list(None, LATEST, |one| newer(one.number) && one.source == source.name);
        Ok(passed.first().map_or(Became::Unknown, |one| Became::Passed(one.outcome, one.event)))
    }
}

impl Became {
    fn facts(&self, lang: Lang) -> Vec<(Text, Markup)> {
        let event = |id: &EventId| {
            let path = format!("{}/{id}", Area::Event.path());
            (EVENT, html! { a href=(path) { code { (id) } } })
        };
        match self {
            Self::Event(outcome, id) => vec![(OUTCOME, badge::outcome(lang, *outcome)), event(id)],
            Self::Passed(outcome, id) => {
                let outcome = (OUTCOME, badge::outcome(lang, *outcome));
                std::iter::once(outcome).chain(id.as_ref().map(event)).collect()
            }
            Self::Refused(reason, number) => {
                let outcome = html! {
                    (badge::outcome(lang, Outcome::Rejected)) " " (badge::reason(lang, *reason))
                };
                let path = format!("{}/{number}", Area::Rejection.path());
                vec![(OUTCOME, outcome), (REFUSAL, html! { a href=(path) { (number) } })]
            }
            Self::Unknown => vec![(OUTCOME, html! { span.absent { (UNKNOWN.of(lang)) } })],
        }
    }
}
