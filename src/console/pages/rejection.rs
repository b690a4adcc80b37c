//! One rejected callback: the request and the reason.

use maud::{Markup, html};

use super::captured::Received;
use super::event::answer;
use super::why::{self, Captured};
use super::{captured, resolved, sources};
use crate::clock::now_ms;
use crate::config::Source;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::{badge, notice, time, value};
use crate::console::fields::{Fields, query};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{HeldId, Rejection};
use crate::operator::{Masked, source_of};
use crate::registry::Subject;

texts! {
    TITLE = "Rejected callback {}", "被拒绝的回调 {}";
    WHEN = "Received", "接收时间";
    OF_USER = "All callbacks of this user", "该用户的全部回调";
    SOURCE = "Source", "来源";
    REASON = "Reason", "原因";
    NEAREST = "Nearest source", "最接近的来源";
    STATUS = "Reply status", "应答状态码";
    HELD = "Held callback: release or drop", "隔离的回调：放行或丢弃";
    PARAMETER = "Parameter", "参数";
    TRANSACTION = "Transaction (unverified)", "交易号（未验证）";
    USER = "User (unverified)", "用户（未验证）";
    CLIENT = "Caller", "调用方地址";
    TOOK = "Latency", "耗时";
    UNVERIFIED = "The content of this callback is not verified.", "此回调的内容未经验证。";
    ALL_OF = "All callbacks of this transaction", "该交易的全部回调";
    TRY = "Open debug tool", "打开调试工具";
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    let id: HeldId = match visit.rest().as_slice() {
        [id] => id.parse().map_err(|_| PageError::Absent)?,
        _ => return Err(PageError::Absent),
    };
    let kept = console.rejections().get(id).await?.ok_or(PageError::Absent)?;
    let (config, lang) = (console.config(), visit.lang);
    let source = source_of(&kept, &config).map(|source| &**source);
    let request = Masked::of(&kept.request, &config, source, kept.at_ms);
    let found = match source {
        Some(source) => {
            Some(captured::explain(console, &config, source, &kept.request, kept.at_ms).await?)
        }
        None => None,
    };
    let received =
        source.map(|source| Received { request: &kept.request, source, at_ms: kept.at_ms });
    let (why, compared) = match (source, &found) {
        (Some(source), Some(found)) => {
            let captured = Captured { source, request: &kept.request, at_ms: kept.at_ms };
            why::sections(console, visit, captured, found.as_ref().ok()).await?
        }
        _ => (html! {}, html! {}),
    };
    let path = format!("{}/{id}", Area::Rejection.path());
    let subject = Subject::rejection(&kept.source, &kept.request);
    let thing = resolved::Thing { path: &path, subject: &subject };
    let name = source.map(|source| source.name.as_str()).unwrap_or_default();
    let middle = html! {
        (notice::notice(notice::Tone::Plain, UNVERIFIED.of(lang)))
        @if kept.held {
            p { a href=(format!("{}/{id}", Area::Held.path())) { (HELD.of(lang)) } }
        }
        div data-copies=(captured::copy_word(lang)) { (summary(lang, &kept, source)) }
        p.actions {
            @if let Some(transaction) = &kept.transaction {
                a href=(format!("{}{}", Area::Callbacks.path(), query(&[("q", transaction)]))) {
                    (ALL_OF.of(lang))
                }
            }
            @if let Some(user) = &kept.user {
                a href=(format!("{}{}", Area::Callbacks.path(), query(&[("q", user)]))) { (OF_USER.of(lang)) }
            }
            @if source.is_some() {
                @let asked = [("source", name), ("rejection", &id.to_string())];
                a href=(format!("{}{}", Area::Debug.path(), query(&asked))) { (TRY.of(lang)) }
            }
        }
        @if let Some(found) = &found { (captured::explained(lang, found)) }
        (why)
        (compared)
        (captured::request(console, lang, &request, received))
        @if let Some(source) = source { (answer::rejected(visit, source, &kept)) }
        (resolved::section(console, visit, thing))
    };
    Ok(Reply::Page(TITLE.fill(lang, &[&id]), middle))
}

/// The facts of a rejection.
fn summary(lang: Lang, kept: &Rejection, source: Option<&Source>) -> Markup {
    let mut all = vec![
        (
            WHEN,
            html! { (time::exact(kept.at_ms)) (lang.clause()) (time::ago(lang, kept.at_ms, now_ms())) },
        ),
        (SOURCE, of_source(kept, source)),
        (REASON, badge::rejected(lang, kept.reason)),
    ];
    // Most rejections have neither.
    for (name, text) in [(NEAREST, &kept.nearest), (PARAMETER, &kept.parameter)] {
        all.extend(text.as_deref().map(|text| (name, value::short(text))));
    }
    all.extend([
        (TRANSACTION, value::maybe(kept.transaction.as_deref())),
        (USER, value::maybe(kept.user.as_deref())),
        (CLIENT, html! { code { (kept.client) } }),
        (STATUS, value::maybe(kept.status.map(|status| status.to_string()).as_deref())),
        (TOOK, html! { (time::took(kept.took)) }),
    ]);
    facts(lang, &all)
}

/// The source that the callback came to; an unknown one has no page.
fn of_source(kept: &Rejection, source: Option<&Source>) -> Markup {
    match source.filter(|_| kept.nearest.is_none()) {
        Some(source) => {
            html! { a href=(sources::path_of(&source.name)) { (value::short(&kept.source)) } }
        }
        None => value::short(&kept.source),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let rest = visit.rest();
    let [id, verb] = rest.as_slice() else { return Err(PageError::Absent) };
    let verb = resolved::Verb::find(verb).ok_or(PageError::Absent)?;
    let id: HeldId = id.parse().map_err(|_| PageError::Absent)?;
    let kept = console.rejections().get(id).await?.ok_or(PageError::Absent)?;
    let path = format!("{}/{id}", Area::Rejection.path());
    let subject = Subject::rejection(&kept.source, &kept.request);
    let thing = resolved::Thing { path: &path, subject: &subject };
    let order = resolved::Order { thing, source: &kept.source, verb };
    resolved::post(console, visit, order, form).await
}
