//! One event: the request, its values, its reply and its deliveries.

pub(super) mod answer;
mod deliveries;
mod erase;

pub(super) use deliveries::withheld;

use maud::{Markup, html};

use super::captured::Received;
use super::{captured, resolved as resolution, sources};
use crate::clock::now_ms;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::{badge, notice, time, value};
use crate::console::fields::{Fields, query, segment};
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{Event, EventBody, EventDetail, EventId, LedgerError};
use crate::operator::{Masked, ReplayEventError, replay_event};
use crate::registry::Subject;
use crate::sender::Outcome;

texts! {
    TITLE = "Event {}", "事件 {}";
    REPLAYED = "Replay started.", "已开始重新投递。";
    REPLAYED_PARTLY = "Replay started. Destinations that are not configured were skipped.",
        "已开始重新投递。未配置的投递目标已跳过。";
    UNCONFIGURED = "None of this event's destinations is configured. Configure one under its name again, then replay the event.",
        "该事件的投递目标均未配置。请以原名称重新配置，然后再重新投递该事件。";
    RECEIVED = "Received", "接收时间";
    STATE = "Deliveries", "投递情况";
    SOURCE = "Source", "来源";
    SENDER = "Sender", "发送方";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    ITEM = "Item", "物品";
    AMOUNT = "Amount", "数量";
    CURRENCY = "Currency", "币种";
    CUSTOM = "Custom", "透传内容";
    KIND = "Kind", "类型";
    EFFECT = "Effect", "奖励效果";
    AMOUNT_UNIT = "Unit of the amount", "数量单位";
    RELEASED = "Released", "已放行";
    YES = "Yes", "是";
    ESCAPED = "Percent-encoded (not UTF-8)", "已百分号编码（非 UTF-8）";
    REVERSES = "Revoked transaction", "撤销的交易";
    AUTHENTICATED = "Covered by the signature", "签名覆盖范围";
    UNRESOLVED = "Unresolved placeholders", "未解析的占位符";
    RECUT = "Can be re-cut under the same signature", "同一签名下可重新切分";
    NOTHING = "None", "无";
    RESOLVED = "Resolved template", "模板解析结果";
    TEMPLATE = "Values of the source's template", "来源模板的值";
    ALL_OF = "All callbacks of this transaction", "该交易的全部回调";
    OF_USER = "All callbacks of this user", "该用户的全部回调";
    OPEN_SOURCE = "Open in debug tool", "在调试工具中打开";
    COPY_ID = "Copy event id", "复制事件 ID";
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    let id = match visit.rest().as_slice() {
        [id] => id.parse().map_err(|_| PageError::Absent)?,
        _ => return Err(PageError::Absent),
    };
    let detail = console.ledger().event(id).await?.ok_or(PageError::Absent)?;
    let corrupt = |_| LedgerError::Corrupt(id.to_string());
    let body = EventBody::decode(&detail.event.body).map_err(corrupt)?;
    let event = body.event().map_err(corrupt)?;
    let (config, lang) = (console.config(), visit.lang);
    let by_id =
        |source: &&std::sync::Arc<crate::config::Source>| source.id == detail.event.source.as_str();
    let source = config.sources.values().find(by_id).map(|source| &**source);
    let at_ms = detail.event.received_ms;
    let found = match source {
        Some(source) => {
            Some(captured::explain(console, &config, source, &body.request, at_ms).await?)
        }
        None => None,
    };
    let mut request = Masked::of(&body.request, &config, source, at_ms);
    // The stored parameters were masked while the source existed.
    request.params = Some(event.params.clone().into_owned());
    let unsent = source.map(|source| deliveries::Unsent::of(&config, source, &event, &detail));
    let waiting = deliveries::Waiting::of(console, &detail).await;
    let received = source.map(|source| Received { request: &body.request, source, at_ms });
    let transaction = query(&[("q", &event.transaction)]);
    let path = format!("{}/{id}", Area::Event.path());
    let subject = Subject::Event(id);
    let thing = resolution::Thing { path: &path, subject: &subject };
    let middle = html! {
        @match visit.query.text("done") {
            Some("replayed") => (notice::notice(notice::Tone::Good, REPLAYED.of(lang))),
            Some("partly") => (notice::notice(notice::Tone::Plain, REPLAYED_PARTLY.of(lang))),
            _ => {}
        }
        (about(visit, &detail, &event))
        p.actions {
            a href=(format!("{}{transaction}", Area::Callbacks.path())) { (ALL_OF.of(lang)) }
            @if let Some(user) = &event.user {
                a href={ (Area::Callbacks.path()) (query(&[("q", user)])) } { (OF_USER.of(lang)) }
            }
            @if let Some(source) = source {
                a href={ (Area::Debug.path()) (query(&[("source", &source.name), ("event", &id.to_string())])) } {
                    (OPEN_SOURCE.of(lang))
                }
            }
            button.quiet type="button" data-copy="event-id" hidden { (COPY_ID.of(lang)) }
            span #event-id.unseen { (id) }
        }
        (deliveries::section(visit, &detail, unsent.as_deref().unwrap_or_default(), &waiting))
        (captured::request(console, lang, &request, received))
        (answer::section(visit, &config, source, &detail, &body))
        @if let Some(found) = &found { (captured::explained(lang, found)) }
        (resolved(visit, &event))
        (resolution::section(console, visit, thing))
        (erase::section(visit, id, &event))
    };
    Ok(Reply::Page(TITLE.fill(lang, &[&id]), middle))
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let rest = visit.rest();
    let [id, verb] = rest.as_slice() else { return Err(PageError::Absent) };
    let id: EventId = id.parse().map_err(|_| PageError::Absent)?;
    let path = format!("{}/{id}", Area::Event.path());
    let of_event = resolution::Verb::find(verb);
    if of_event.is_some() || *verb == erase::PATH {
        let detail = console.ledger().event(id).await?.ok_or(PageError::Absent)?;
        let event = EventBody::decode(&detail.event.body).and_then(|body| body.event());
        let event = event.map_err(|_| LedgerError::Corrupt(id.to_string()))?;
        let Some(verb) = of_event else {
            return erase::post(console, visit, &event, form).await;
        };
        let subject = Subject::Event(id);
        let thing = resolution::Thing { path: &path, subject: &subject };
        let order = resolution::Order { thing, source: &event.source, verb };
        return resolution::post(console, visit, order, form).await;
    }
    if *verb != "replay" {
        return Err(PageError::Absent);
    }
    console.ledger().event(id).await?.ok_or(PageError::Absent)?;
    let (registry, control) = (&console.tools.registry, &console.tools.control);
    let replayed = replay_event(registry, control, &visit.viewer.who, id).await;
    let replayed = replayed.map_err(|not| match not {
        ReplayEventError::Ledger(error) => PageError::from(error),
        ReplayEventError::Unconfigured(_) => PageError::Bad(UNCONFIGURED),
    })?;
    let done = match replayed.ok_or(PageError::Absent)?.skipped {
        0 => "replayed",
        _ => "partly",
    };
    Ok(Reply::Redirect(format!("{path}?done={done}")))
}

fn about(visit: &Visit, detail: &EventDetail, event: &Event<'_>) -> Markup {
    let lang = visit.lang;
    let state = html! {
        (badge::event(lang, detail.event.state))
        @if event.test { " " (badge::outcome(lang, Outcome::Test)) }
    };
    let list = |all: &[std::borrow::Cow<'_, str>]| {
        html! {
            @for (at, one) in all.iter().enumerate() {
                @if at > 0 { (lang.comma()) }
                @match words::member(one) {
                    Some(text) => span title=(one) { (text.of(lang)) },
                    None => (value::short(one)),
                }
            }
            @if all.is_empty() { span.absent { (NOTHING.of(lang)) } }
        }
    };
    let mut all: Vec<(Text, Markup)> = vec![
        (
            RECEIVED,
            html! {
                (time::exact(detail.event.received_ms)) ", "
                (time::ago(lang, detail.event.received_ms, now_ms()))
            },
        ),
        (STATE, state),
        (
            SOURCE,
            html! { a href=(sources::path_of(&event.source)) { (value::short(&event.source)) } },
        ),
        (
            SENDER,
            html! { a href={ (Area::Senders.path()) "/" (segment(&event.sender)) } { (value::short(&event.sender)) } },
        ),
        (TRANSACTION, value::whole(&event.transaction)),
    ];
    for (name, role) in [
        (USER, &event.user),
        (ITEM, &event.item),
        (AMOUNT, &event.amount),
        (CURRENCY, &event.currency),
        (CUSTOM, &event.custom),
        (REVERSES, &event.reverses),
        (AMOUNT_UNIT, &event.amount_unit),
    ] {
        if let Some(text) = role {
            all.push((name, value::whole(text)));
        }
    }
    all.push((KIND, value::whole(&event.kind)));
    if let Some(effect) = event.effect() {
        all.push((EFFECT, html! { (words::effect(effect).of(lang)) }));
    }
    if !event.released.is_none() {
        all.push((RELEASED, html! { (YES.of(lang)) }));
    }
    all.push((AUTHENTICATED, list(&event.authenticated)));
    all.push((UNRESOLVED, list(&event.unresolved)));
    if !event.recut.is_empty() {
        all.push((RECUT, list(&event.recut)));
    }
    if !event.escaped.is_empty() {
        all.push((ESCAPED, list(&event.escaped)));
    }
    html! { div data-copies=(captured::copy_word(lang)) { (facts(lang, &all)) } }
}

fn resolved(visit: &Visit, event: &Event<'_>) -> Markup {
    html! {
        section aria-labelledby="resolved" {
            h2 #resolved { (RESOLVED.of(visit.lang)) }
            (captured::pairs(visit.lang, TEMPLATE, &event.resolved))
        }
    }
}
