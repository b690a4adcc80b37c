//! Held callbacks: the list, both sides of a dispute, and the decision.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::sources;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{notice, table, time, value};
use crate::console::fields::{Fields, query};
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{Cursor, Decision, HeldId, HeldOne, HeldQuery, HeldWhy};
use crate::operator::{
    DecideError, HeldDecision, HeldShown, REASON_BYTES_MAX, decide_held, held_roles, show_held,
    source_id,
};

texts! {
    SOURCE = "Source", "来源";
    WHY = "Why", "原因";
    ANY = "Any", "不限";
    GO = "Apply filter", "筛选";
    CLEAR = "Clear filter", "清除筛选";
    TIME = "Received", "接收时间";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    FIRST = "Existing event", "已有事件";
    CAPTION = "Newest first", "最新在前";
    EMPTY = "No callback waits for a decision.", "没有等待决定的回调。";
    NOTHING = "This callback was never verified: there is nothing to compare.", "此回调从未通过验签，没有可对比的内容。";
    REJECTED = "Show the rejected callback", "查看被拒绝的回调";
    WHAT = "Conflicts and ambiguous callbacks got the reply for an accepted callback. Quarantined ones got a rejection, unless the source has answer = \"accept\". None is delivered before its release.",
        "冲突和有歧义的回调，发送方已收到“已接受”的应答；被隔离的回调，发送方收到的是拒绝（来源设置 answer = \"accept\" 时除外）。放行之后才会投递。";
    ONE = "Held callback {}", "隔离的回调 {}";
    ROLE = "Field", "字段";
    THIS = "This callback", "本回调";
    SIDES = "Comparison", "对比";
    GONE = "The existing event is no longer kept.", "已有事件已不再保留。";
    RELEASE = "Release callback", "放行回调";
    DROP = "Drop callback", "丢弃回调";
    RELEASE_WHAT = "Creates an event with the original time of receipt, and delivers it to the destinations of the source. The existing event is not changed.",
        "以原接收时间创建事件，并投递到该来源的投递目标。已有事件不变。";
    DROP_WHAT = "Nothing is delivered. If this callback is sent again, it is recognized and not held again.",
        "不会投递。若再次收到此回调，会被识别，不再隔离。";
    SURE_RELEASE = "Deliver 1 callback", "投递 1 个回调";
    SURE_DROP = "Drop 1 callback without delivery", "丢弃 1 个回调，不投递";
    NOT_SURE = "Nothing was decided. Confirm the decision first.", "未作决定，请先勾选确认。";
    REASON = "Reason, for the audit log", "原因（记入审计日志）";
    RELEASED = "Released.", "已放行。";
    DROPPED = "Dropped.", "已丢弃。";
    EVENT = "Show event", "查看事件";
    LIST = "Held callbacks", "隔离的回调";
    WHAT_WHY = "Unknown reason.", "原因不存在。";
    UNKNOWN = "No held callback has this id.", "没有该 ID 的隔离回调。";
    ALREADY = "This callback was already decided. Reload the page.", "此回调已有决定，请重新加载页面。";
    UNREADABLE = "No event can be created: the content of this callback cannot be read.", "无法创建事件：此回调的内容无法读取。";
    FULL = "This callback disputes an event. First decide the callbacks that are already held for that event.",
        "此回调与已有事件冲突，请先处理因该事件而隔离的回调。";
    NO_REASON = "This callback was never verified. Give a reason for its release.", "此回调从未通过验签，放行须填写原因。";
}

/// A held callback that is no longer kept, or never was.
const IS_UNKNOWN: PageError = PageError::Gone { why: UNKNOWN, list: Area::Held };

/// Entries per page; each may need a read of its existing event.
const PAGE: usize = 50;

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] => list(console, visit).await,
        [id] => one(console, visit, id, None).await,
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest().as_slice() {
        [id, "release"] => decide(console, visit, id, Decision::Release, form).await,
        [id, "drop"] => decide(console, visit, id, Decision::Drop, form).await,
        _ => Err(PageError::Absent),
    }
}

fn path(id: HeldId) -> String {
    format!("{}/{id}", Area::Held.path())
}

// === The list ===

async fn list(console: &Console, visit: &Visit) -> PageResult {
    let lang = visit.lang;
    let why = visit.query.text("why").map(|name| HeldWhy::from_name(name).ok_or(WHAT_WHY));
    let why = why.transpose().map_err(PageError::Bad)?;
    let config = console.config();
    let source = visit.query.text("source").map(|name| source_id(&config, name));
    let cursor = visit.query.text("cursor").map(str::parse::<Cursor>).transpose();
    let cursor = cursor.map_err(|_| PageError::Expired)?;
    let page = console
        .ledger()
        .held(&HeldQuery { source, why, ..HeldQuery::default() }, cursor.as_ref(), PAGE)
        .await?;
    // Each reads the event that it disputes.
    let shown = page.held.into_iter().map(|held| show_held(console.ledger(), held));
    let shown = futures_util::future::try_join_all(shown).await?;
    let rows: Vec<Vec<Markup>> = shown.iter().map(|shown| row(visit, shown)).collect();
    let columns = [TIME, SOURCE, WHY, TRANSACTION, USER, FIRST];
    let next = page.next.map(|next| next.to_string());
    let middle = html! {
        (search(console, visit))
        (sources::unknown(console, visit))
        p { (WHAT.of(lang)) }
        (DataTable::new(Caption::Shown(CAPTION.of(lang)), &columns, EMPTY).show(lang, &rows))
        (table::pages(visit, next.as_deref()))
    };
    Ok(Reply::Page(Area::Held.title().of(lang).to_owned(), middle))
}

fn search(console: &Console, visit: &Visit) -> Markup {
    let lang = visit.lang;
    let config = console.config();
    let sources: Vec<&str> = config.sources.keys().map(String::as_str).collect();
    let any = [("", ANY.of(lang))];
    let reasons = HeldWhy::ALL.map(|why| (why.as_str(), words::held(why).of(lang)));
    let reasons: Vec<(&str, &str)> = any.into_iter().chain(reasons).collect();
    let field = |name, label| Field {
        value: visit.query.text(name).unwrap_or_default(),
        ..Field::new(name, label)
    };
    form::ask(
        Area::Held.path(),
        &html! {
            (field("source", SOURCE).show_pick(lang, ANY, &sources))
            (field("why", WHY).show_choice(lang, &reasons))
            button type="submit" { (GO.of(lang)) }
            a href=(Area::Held.path()) { (CLEAR.of(lang)) }
        },
    )
}

fn row(visit: &Visit, shown: &HeldShown) -> Vec<Markup> {
    let lang = visit.lang;
    let held = &shown.held;
    let search = |text: &str| {
        html! {
            a href=(format!("{}{}", Area::Callbacks.path(), query(&[("q", text)]))) { (value::short(text)) }
        }
    };
    vec![
        html! { a href=(path(held.id)) { (time::time(held.event.received_ms)) } },
        value::short(source(shown)),
        html! { span.badge.(held.why.as_str()) { (words::held(held.why).of(lang)) } },
        search(&held.event.transaction),
        held.event.user.as_deref().map_or_else(|| value::maybe(None), search),
        first(shown),
    ]
}

fn source(shown: &HeldShown) -> &str {
    let named = shown.event.as_ref().map(|event| event.source.as_ref());
    named.unwrap_or_else(|| shown.held.event.source.as_str())
}

fn first(shown: &HeldShown) -> Markup {
    match shown.held.first {
        Some(id) => html! {
            a href=(format!("{}/{id}", Area::Event.path())) { (value::short(&id.to_string())) }
        },
        None => value::maybe(None),
    }
}

// === One ===

async fn one(console: &Console, visit: &Visit, id: &str, told: Option<Text>) -> PageResult {
    let lang = visit.lang;
    let id: HeldId = id.parse().map_err(|_| PageError::Absent)?;
    let middle = match console.ledger().held_one(id).await?.ok_or(IS_UNKNOWN)? {
        HeldOne::Waiting(held) => {
            let shown = show_held(console.ledger(), *held).await?;
            html! {
                @if let Some(told) = told { (notice::notice(notice::Tone::Bad, told.of(lang))) }
                p {
                    span.badge.(shown.held.why.as_str()) { (words::held(shown.held.why).of(lang)) }
                    " " (value::short(source(&shown)))
                    " · " (time::time(shown.held.event.received_ms))
                    @if let Some(reason) = shown.held.reason { " · " (words::reason(reason).of(lang)) }
                }
                (sides(visit, &shown))
                (order(visit, id, Decision::Release))
                (order(visit, id, Decision::Drop))
            }
        }
        HeldOne::Decided(mark) => html! {
            @let told = if mark.decision == Decision::Release { RELEASED } else { DROPPED };
            (notice::notice(notice::Tone::Good, told.of(lang)))
            p { (time::time(mark.at_ms)) }
            @if let Some(event) = mark.event {
                p { a href=(format!("{}/{event}", Area::Event.path())) { (EVENT.of(lang)) } }
            }
        },
    };
    let middle = html! {
        (middle)
        p { a href=(Area::Held.path()) { (LIST.of(lang)) } }
    };
    Ok(Reply::Page(ONE.fill(lang, &[&id]), middle))
}

/// The values of the held callback next to those of the existing event.
fn sides(visit: &Visit, shown: &HeldShown) -> Markup {
    let lang = visit.lang;
    let own = shown.event.as_ref().map(held_roles).unwrap_or_default();
    let there = shown.first.as_ref().map(held_roles).unwrap_or_default();
    let mut names: Vec<&String> = own.keys().chain(there.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let cell =
        |of: &Map<String, Value>, name: &str| value::maybe(of.get(name).and_then(Value::as_str));
    let rows: Vec<Vec<Markup>> = names
        .into_iter()
        .map(|name| {
            let differs = shown.first.is_some() && own.get(name) != there.get(name);
            let own = cell(&own, name);
            let own = if differs {
                html! { b { (own) } }
            } else {
                own
            };
            let shown = words::member(name).map_or(name.as_str(), |text| text.of(lang));
            vec![html! { span title=(name) { (shown) } }, own, cell(&there, name)]
        })
        .collect();
    html! {
        section aria-labelledby="sides" {
            h2 #sides { (SIDES.of(lang)) }
            @if shown.held.first.is_some() {
                p { (FIRST.of(lang)) (lang.colon()) (first(shown)) }
                @if shown.first.is_none() { p { (GONE.of(lang)) } }
            }
            (DataTable::new(Caption::Hidden(SIDES.of(lang)), &[ROLE, THIS, FIRST], NOTHING).show(lang, &rows))
            @if shown.held.why == HeldWhy::Quarantine {
                p { a href={ (Area::Rejection.path()) "/" (shown.held.id) } { (REJECTED.of(lang)) } }
            }
        }
    }
}

/// The form of a decision, with its confirmation.
fn order(visit: &Visit, id: HeldId, decision: Decision) -> Markup {
    let lang = visit.lang;
    let (action, name, what, sure) = match decision {
        Decision::Release | Decision::Settle => ("release", RELEASE, RELEASE_WHAT, SURE_RELEASE),
        Decision::Drop => ("drop", DROP, DROP_WHAT, SURE_DROP),
    };
    let (hint, reason) = (format!("{action}-hint"), format!("{action}-reason"));
    form::change(
        visit,
        &format!("{}/{action}", path(id)),
        &html! {
            h2 { (name.of(lang)) }
            p.hint id=(hint) { (what.of(lang)) }
            div.field {
                label for=(reason) { (REASON.of(lang)) }
                input id=(reason) name="reason" maxlength=(REASON_BYTES_MAX);
            }
            label.check { input type="checkbox" name="sure" value="yes" required; (sure.of(lang)) }
            div.actions {
                button.danger[decision == Decision::Drop] type="submit" aria-describedby=(hint) { (name.of(lang)) }
            }
        },
    )
}

async fn decide(
    console: &Console,
    visit: &Visit,
    text: &str,
    decision: Decision,
    form: &Fields,
) -> PageResult {
    let id: HeldId = text.parse().map_err(|_| PageError::Absent)?;
    if form.text("sure") != Some("yes") {
        return one(console, visit, text, Some(NOT_SURE)).await;
    }
    console.ledger().held_one(id).await?.ok_or(IS_UNKNOWN)?;
    let (registry, handler) = (&console.tools.registry, &console.tools.callback_handler);
    let wanted = HeldDecision { id, decision, reason: form.text("reason") };
    match decide_held(registry, handler, &visit.viewer.who, wanted).await {
        Ok(_) => Ok(Reply::Redirect(path(id))),
        Err(DecideError::Ledger(error)) => Err(error.into()),
        Err(DecideError::Unknown) => Err(IS_UNKNOWN),
        Err(DecideError::Already(_)) => Err(PageError::Bad(ALREADY)),
        Err(DecideError::Unreadable(_)) => one(console, visit, text, Some(UNREADABLE)).await,
        Err(DecideError::Full) => one(console, visit, text, Some(FULL)).await,
        Err(DecideError::NoReason) => one(console, visit, text, Some(NO_REASON)).await,
    }
}
