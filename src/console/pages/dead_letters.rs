//! Dead letters: deliveries that were given up, why, and delivering them again.

mod filter;
mod find;
mod orders;

use maud::{Markup, html};

use self::filter::Filter;
use self::find::{Found, Letter};
use super::{LIVE, resolved};
use crate::clock::now_ms;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::{notice, table, time, value};
use crate::console::fields::{Fields, query};
use crate::console::page_error::PageError;
use crate::console::reply::{Reply, Shown};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::delivery::{ReplayFilter, ReplayOrderError};
use crate::ledger::{Attempt, DeliveryState, EventId, ReplayId};
use crate::operator::{ReplayError, replay_all};
use crate::registry::Subject;

texts! {
    SOURCE = "Source", "来源";
    DESTINATION = "Destination", "投递目标";
    SINCE = "Received from (UTC)", "接收时间自（UTC）";
    UNTIL = "Received before (UTC)", "接收时间至（UTC）";
    ANY = "any", "不限";
    GO = "Show", "显示";
    CLEAR = "Clear", "清除";
    TIME = "Received (UTC)", "接收时间（UTC）";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    WHY = "Where to, and why it was given up", "投递目标与放弃原因";
    CAPTION = "Newest event first", "最新事件在前";
    TOTAL = "{} deliveries are dead, whatever the filter.", "共有 {} 个死信投递（不计筛选条件）。";
    EMPTY = "No delivery is dead.", "没有死信。";
    EMPTY_HERE = "None of those that are dead is in this filter.", "筛选范围内没有死信。";
    FURTHER = "None was found so far back. Look further with the next page.", "目前查找的范围内没有结果，可在下一页继续查找。";
    SELECT = "Select event {}", "选择事件 {}";
    SELECT_ALL = "Select all of this page", "全选本页";
    REPLAY_SELECTED = "Deliver the selected again", "重新投递所选";
    REPLAY_ALL = "Deliver all of the filter again", "重新投递筛选范围内的全部";
    WHAT = "Each event goes once more to the destinations where it is dead (with a destination in the filter: to that one), under its own id.",
        "每个事件将以原 ID 再次投递到其死信目标（若筛选了投递目标，则仅投递到该目标）。";
    NONE_CHOSEN = "No event was selected.", "未选择任何事件。";
    STATUS = "status {}", "状态码 {}";
    NO_ANSWER = "no answer", "无应答";
    NO_ATTEMPT = "no attempt is known", "无尝试记录";
    LAST_OF = "attempt {}, ", "第 {} 次尝试，";
    WHAT_TIME = "The time cannot be read: write 2026-01-02T03:04 or a full time such as 2026-01-02T03:04:05Z.",
        "无法读取时间：请写成 2026-01-02T03:04 或完整时间，如 2026-01-02T03:04:05Z。";
    WHAT_CURSOR = "There is no such page.", "没有这一页。";
    WHAT_EVENT = "That is no id of an event.", "这不是事件 ID。";
    BUSY = "Four replays are running on this gateway. Wait for one, or cancel it.", "本网关已有四个重新投递任务在运行。请等待或取消其中一个。";
    USED = "This form was used before, for other events. Load the page again.", "此表单已用于其他事件，请重新加载页面。";
}

/// Where forms of the list lead.
const REPLAY: &str = "replay";
/// Where the orders are.
const REPLAYS: &str = "replays";

pub async fn get(console: &Console, visit: &Visit) -> Shown {
    match visit.rest().as_slice() {
        [] => list(console, visit).await,
        [REPLAYS, id] => orders::page(console, visit, id),
        [REPLAYS, id, LIVE] => orders::part(console, visit, id),
        _ => Err(PageError::Absent),
    }
}

pub async fn post(console: &Console, visit: &Visit, form: &Fields) -> Shown {
    match visit.rest().as_slice() {
        [REPLAY] => replay(console, visit, form).await,
        [REPLAYS, id, "cancel"] => orders::cancel(console, visit, id).await,
        _ => Err(PageError::Absent),
    }
}

// === The list ===

async fn list(console: &Console, visit: &Visit) -> Shown {
    let lang = visit.lang;
    let filter = Filter::read(&visit.query)?;
    let cursor = visit.query.text("cursor").map(str::parse).transpose();
    let cursor = cursor.map_err(|_| PageError::Bad(WHAT_CURSOR))?;
    let Found { letters, next } = find::find(console, &filter, cursor).await?;
    let stats = console.book().stats().await?;
    let total: u64 = stats.targets.iter().map(|target| target.dead).sum();
    let empty = match (&next, total) {
        (Some(_), _) => FURTHER,
        (None, 0) => EMPTY,
        (None, _) => EMPTY_HERE,
    };
    let rows: Vec<Vec<Markup>> = letters.iter().map(|letter| row(console, visit, letter)).collect();
    let columns = [TIME, SOURCE, TRANSACTION, USER, WHY];
    let letters = table::table(lang, CAPTION.of(lang), &columns, &rows, empty);
    let next = next.map(|next| next.to_string());
    let middle = html! {
        @if visit.query.text("done") == Some("none") {
            (notice::notice(notice::Tone::Bad, NONE_CHOSEN.of(lang)))
        }
        (search(console, visit, &filter))
        p { (TOTAL.fill(lang, &[&total])) }
        @if rows.is_empty() { (letters) } @else { (replay_form(visit, &filter, &letters)) }
        (table::pages(visit, next.as_deref()))
        (orders::section(console, visit))
    };
    Ok(Reply::Page(Area::DeadLetters.title().of(lang).to_owned(), middle))
}

fn search(console: &Console, visit: &Visit, filter: &Filter) -> Markup {
    let lang = visit.lang;
    let config = console.config();
    let sources: Vec<&str> = config.sources.keys().map(String::as_str).collect();
    let destinations: Vec<&str> = config.destinations.keys().map(String::as_str).collect();
    let field = |name, label| Field { value: filter.given(name), ..Field::new(name, label) };
    let at = |name, label| Field { kind: "datetime-local", ..field(name, label) }.show(lang);
    form::ask(
        Area::DeadLetters.path(),
        &html! {
            (field("destination", DESTINATION).show_pick(lang, ANY, &destinations))
            (field("source", SOURCE).show_pick(lang, ANY, &sources))
            (at("since", SINCE))
            (at("until", UNTIL))
            button type="submit" { (GO.of(lang)) }
            a href=(Area::DeadLetters.path()) { (CLEAR.of(lang)) }
        },
    )
}

/// The list with what may be done about it. Whoever may only look sees the list.
fn replay_form(visit: &Visit, filter: &Filter, letters: &Markup) -> Markup {
    let lang = visit.lang;
    let action = format!("{}/{REPLAY}", Area::DeadLetters.path());
    html! {
        @if !visit.viewer.may_change() { (letters) }
        (form::change(visit, &action, &html! {
            // An order that is sent twice is one order.
            input type="hidden" name="order" value=(ReplayId::new(now_ms()));
            @for (name, value) in filter.pairs() { input type="hidden" name=(name) value=(value); }
            label.check hidden { input type="checkbox" data-check-all="event"; (SELECT_ALL.of(lang)) }
            (letters)
            p.hint #replay-hint { (WHAT.of(lang)) }
            div.fields {
                button type="submit" name="which" value="selected" aria-describedby="replay-hint" {
                    (REPLAY_SELECTED.of(lang))
                }
                button.quiet type="submit" name="which" value="all" aria-describedby="replay-hint" {
                    (REPLAY_ALL.of(lang))
                }
            }
        }))
    }
}

fn row(console: &Console, visit: &Visit, letter: &Letter) -> Vec<Markup> {
    let lang = visit.lang;
    let id = letter.event.to_string();
    let search = |text: &str| {
        html! {
            a href=(format!("{}{}", Area::Callbacks.path(), query(&[("q", text)]))) { (value::short(text)) }
        }
    };
    let sign = html! {
        span.check {
            @if visit.viewer.may_change() {
                input type="checkbox" name="event" value=(id) aria-label=(SELECT.fill(lang, &[&id]));
            }
            a href=(format!("{}/{id}", Area::Event.path())) { (time::time(letter.at_ms)) }
        }
    };
    let user = letter.user.as_deref().map(search);
    let why = html! {
        ul.whys {
            @for dead in &letter.deliveries {
                li {
                    b { (value::short(dead.target.as_str())) } ": "
                    @match &dead.last {
                        Some(last) => (given_up(visit, dead.attempts, last)),
                        None => (NO_ATTEMPT.of(lang)),
                    }
                }
            }
        }
    };
    let transaction = html! {
        (search(&letter.transaction))
        (resolved::badge(console, lang, &Subject::Event(letter.event)))
    };
    vec![
        sign,
        value::short(&letter.source),
        transaction,
        user.unwrap_or_else(|| value::maybe(None)),
        why,
    ]
}

/// What the last attempt came to.
fn given_up(visit: &Visit, attempts: usize, last: &Attempt) -> Markup {
    let lang = visit.lang;
    html! {
        (LAST_OF.fill(lang, &[&attempts]))
        @match last.status {
            Some(status) => (STATUS.fill(lang, &[&status])),
            None => (NO_ANSWER.of(lang)),
        }
        " · " (time::time(last.at_ms))
        @if let Some(error) = &last.error { br; span lang="en" { (value::short(error)) } }
        @if !last.head.is_empty() { br; code { (value::short(&String::from_utf8_lossy(&last.head))) } }
    }
}

// === The order ===

async fn replay(console: &Console, visit: &Visit, form: &Fields) -> Shown {
    let filter = Filter::read(form)?;
    let order = form.text("order").and_then(|id| id.parse::<ReplayId>().ok());
    let id = order.unwrap_or_else(|| ReplayId::new(now_ms()));
    let everything = form.text("which") == Some("all");
    let ids = form.all("event").map(str::parse::<EventId>).collect::<Result<Vec<_>, _>>();
    let ids = ids.map_err(|_| PageError::Bad(WHAT_EVENT))?;
    if !everything && ids.is_empty() {
        let list = filter.query(&[("done", "none")]);
        return Ok(Reply::Go(format!("{}{list}", Area::DeadLetters.path())));
    }
    let (events, log) = match everything {
        true => (Vec::new(), filter.log(&console.config())),
        // Those that were selected are all that is meant.
        false => (ids, crate::ledger::LogQuery::default()),
    };
    let wanted =
        ReplayFilter { events, log, state: Some(DeliveryState::Dead), target: filter.target() };
    let tools = (&console.tools.registry, &console.tools.replays);
    replay_all(tools, &visit.viewer.who, (id, wanted)).await.map_err(|not| match not {
        ReplayError::Ledger(error) => error.into(),
        ReplayError::Refused(ReplayOrderError::Busy) => PageError::Bad(BUSY),
        ReplayError::Refused(ReplayOrderError::Other) => PageError::Bad(USED),
    })?;
    Ok(Reply::Go(orders::path(id)))
}
