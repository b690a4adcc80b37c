//! Dead letters: the list with the last attempt of each, and replays.

mod filter;
pub(super) mod find;
mod orders;

use maud::{Markup, html};

use self::filter::Filter;
use self::find::{Counted, Found, Letter};
use super::{LIVE, resolved, sources};
use crate::clock::{now_ms, rfc3339};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::attempt_error;
use crate::console::components::form::{self, Field};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{csv, notice, span, table, time, value};
use crate::console::fields::{Fields, query};
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
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
    ANY = "Any", "不限";
    GO = "Apply filter", "筛选";
    CLEAR = "Clear filter", "清除筛选";
    TIME = "Received", "接收时间";
    FILE = "Download as CSV", "下载 CSV";
    SURE = "Replay dead letters", "重新投递死信";
    SURE_COUNT = "{} events match. Each is delivered again, with the same id, to the destinations where it is dead.", "共有 {} 个事件匹配，将以原 ID 分别重新投递到其死信目标。";
    SURE_MORE = "More than {} events match. Each is delivered again, with the same id, to the destinations where it is dead.", "匹配的事件超过 {} 个，将以原 ID 分别重新投递到其死信目标。";
    SURE_NONE = "No event matches any more. Nothing to replay.", "已没有匹配的事件，无需重新投递。";
    SURE_CARE = "A backend that does not deduplicate by event id may grant twice.", "未按事件 ID 去重的后端可能重复发放。";
    SURE_FILTER = "Filter", "筛选条件";
    NO_FILTER = "None: all dead letters", "无：全部死信";
    DO = "Replay {} events", "重新投递 {} 个事件";
    DO_MORE = "Replay more than {} events", "重新投递超过 {} 个事件";
    BACK = "Back to the list", "返回列表";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    WHY = "Destination and last attempt", "投递目标与最后一次尝试";
    CAPTION = "Newest event first", "最新事件在前";
    TOTAL = "{} dead deliveries in total, regardless of the filter.", "共有 {} 个死信投递（不受筛选影响）。";
    EMPTY = "No dead letters.", "没有死信。";
    EMPTY_HERE = "No dead letter matches. Clear the filter to see all.", "没有匹配的死信。清除筛选可查看全部。";
    FURTHER = "No match so far. Continue on the next page.", "目前没有匹配的结果，请在下一页继续查找。";
    SELECT = "Select event {}", "选择事件 {}";
    SELECT_ALL = "Select all on this page", "全选本页";
    REPLAY_SELECTED = "Replay selected events", "重新投递所选事件";
    REPLAY_ALL = "Replay all matching events", "重新投递所有匹配的事件";
    WHAT = "Each event is delivered again, with the same id, to the destinations where it is dead. A destination in the filter limits the replay to that one.",
        "每个事件以原 ID 重新投递到其死信目标。若筛选了投递目标，则仅投递到该目标。";
    NONE_CHOSEN = "No event is selected. Select at least one.", "未选择事件，请至少选择一个。";
    STATUS = "status {}", "状态码 {}";
    NO_ANSWER = "no response", "无响应";
    NO_ATTEMPT = "no attempt recorded", "无尝试记录";
    LAST_OF = "attempt {}, ", "第 {} 次尝试，";
    WHAT_TIME = "Invalid time. Use 2026-01-02T03:04 or a full time such as 2026-01-02T03:04:05Z.",
        "时间无效。请使用 2026-01-02T03:04 或完整时间，如 2026-01-02T03:04:05Z。";
    WHAT_EVENT = "Invalid event id.", "事件 ID 无效。";
    BUSY = "Four replays are already running on this gateway. Wait for one to end, or cancel it.",
        "本网关已有四个重新投递任务在运行。请等待其中一个结束，或将其取消。";
    USED = "This form was already used for other events. Reload the page.", "此表单已用于其他事件，请重新加载页面。";
}

/// Path segment of the replay form.
const REPLAY: &str = "replay";
/// Path segment of the replays.
const REPLAYS: &str = "replays";

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] => list(console, visit).await,
        [FILE_NAME] => file(console, visit).await,
        [REPLAYS, id] => orders::page(console, visit, id).await,
        [REPLAYS, id, LIVE] => orders::part(console, visit, id).await,
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest().as_slice() {
        [REPLAY] => replay(console, visit, form).await,
        [REPLAYS, id, "cancel"] => orders::cancel(console, visit, id).await,
        _ => Err(PageError::Absent),
    }
}

// === The list ===

async fn list(console: &Console, visit: &Visit) -> PageResult {
    let lang = visit.lang;
    let filter = Filter::read(&visit.query)?;
    let cursor = visit.query.text("cursor").map(str::parse).transpose();
    let cursor = cursor.map_err(|_| PageError::Expired)?;
    let Found { letters, next } = find::find(console, &filter, cursor, find::PAGE).await?;
    let stats = console.ledger().stats().await?;
    let total: u64 = stats.targets.iter().map(|target| target.dead).sum();
    // They are counted by destination, and so not for some sources.
    let total = (!console.view().is_bound()).then_some(total);
    let empty = match (&next, total) {
        (Some(_), _) => FURTHER,
        (None, Some(0)) => EMPTY,
        (None, _) => EMPTY_HERE,
    };
    let rows: Vec<Vec<Markup>> = letters.iter().map(|letter| row(console, visit, letter)).collect();
    let columns = [TIME, SOURCE, TRANSACTION, USER, WHY];
    let letters =
        DataTable::new(Caption::Shown(CAPTION.of(lang)), &columns, empty).show(lang, &rows);
    let next = next.map(|next| next.to_string());
    let replays = orders::section(console, visit).await?;
    let middle = html! {
        @if visit.query.text("done") == Some("none") {
            (notice::notice(notice::Tone::Bad, NONE_CHOSEN.of(lang)))
        }
        (search(console, visit, &filter))
        (sources::unknown(console, visit))
        (span::links(visit))
        @if let Some(total) = total { p { (TOTAL.fill(lang, &[&value::count(total)])) } }
        @if rows.is_empty() { (letters) } @else { (replay_form(visit, &filter, &letters)) }
        @if !rows.is_empty() { (table::counted(lang, rows.len(), next.as_deref())) }
        (table::pages(visit, next.as_deref()))
        @if !rows.is_empty() {
            p { a href={ (Area::DeadLetters.path()) "/" (FILE_NAME) (filter.query(&[])) } download { (FILE.of(lang)) } }
        }
        (replays)
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
            (form::filters(visit, &["destination", "source", "since", "until"], &html! {
                (field("destination", DESTINATION).show_pick(lang, ANY, &destinations))
                (field("source", SOURCE).show_pick(lang, ANY, &sources))
                (at("since", SINCE))
                (at("until", UNTIL))
            }))
            button type="submit" { (GO.of(lang)) }
            a href=(Area::DeadLetters.path()) { (CLEAR.of(lang)) }
        },
    )
}

/// The list with the replay buttons; with a read-only token, the list alone.
fn replay_form(visit: &Visit, filter: &Filter, letters: &Markup) -> Markup {
    let lang = visit.lang;
    let action = format!("{}/{REPLAY}", Area::DeadLetters.path());
    html! {
        @if !visit.viewer.may_support() { (letters) }
        (form::support(visit, &action, &html! {
            // A form that is sent twice starts one replay.
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
            @if visit.viewer.may_support() {
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
                    b { (value::short(dead.target.as_str())) } (lang.colon())
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

/// The result of the last attempt.
fn given_up(visit: &Visit, attempts: usize, last: &Attempt) -> Markup {
    let lang = visit.lang;
    html! {
        (LAST_OF.fill(lang, &[&attempts]))
        @match last.status {
            Some(status) => (STATUS.fill(lang, &[&status])),
            None => (NO_ANSWER.of(lang)),
        }
        " · " (time::time(last.at_ms))
        @if let Some(error) = &last.error { br; (attempt_error::shown(lang, error)) }
        @if !last.head.is_empty() { br; code { (value::short(&String::from_utf8_lossy(&last.head))) } }
    }
}

// === The file ===

/// The name of the CSV file.
const FILE_NAME: &str = "dead-letters.csv";

/// Most events of the file.
const FILE_LINES_MAX: usize = 5_000;

/// Columns of the CSV file, named as in the admin API in every language.
const FILE_COLUMNS: [&str; 12] = [
    "received_at",
    "source",
    "transaction",
    "user",
    "item",
    "amount",
    "event",
    "destination",
    "attempts",
    "last_attempt_at",
    "status",
    "error",
];

async fn file(console: &Console, visit: &Visit) -> PageResult {
    let filter = Filter::read(&visit.query)?;
    let mut rows = vec![FILE_COLUMNS.map(str::to_owned).to_vec()];
    let mut cursor = None;
    while rows.len() <= FILE_LINES_MAX {
        let Found { letters, next } = find::find(console, &filter, cursor, find::PAGE).await?;
        rows.extend(letters.iter().flat_map(lines));
        if next.is_none() {
            break;
        }
        cursor = next;
    }
    Ok(Reply::Csv(FILE_NAME, csv::csv(rows)))
}

/// A line for each dead delivery of an event.
fn lines(letter: &Letter) -> Vec<Vec<String>> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let line = |dead: &find::Dead| {
        let last = dead.last.as_ref();
        let status = last.and_then(|last| last.status);
        vec![
            rfc3339(letter.at_ms),
            letter.source.clone(),
            letter.transaction.clone(),
            text(&letter.user),
            text(&letter.item),
            text(&letter.amount),
            letter.event.to_string(),
            dead.target.as_str().to_owned(),
            dead.attempts.to_string(),
            last.map_or_else(String::new, |last| rfc3339(last.at_ms)),
            status.map_or_else(String::new, |status| status.to_string()),
            last.and_then(|last| last.error.clone()).unwrap_or_default(),
        ]
    };
    letter.deliveries.iter().map(line).collect()
}

// === The order ===

/// The question before a replay: how many events, and which.
fn question(visit: &Visit, filter: &Filter, form: &Fields, counted: Counted) -> Reply {
    let lang = visit.lang;
    let Counted { events, more } = counted;
    let shown = value::count(events);
    let (text, button) = match more {
        true => (SURE_MORE, DO_MORE),
        false => (SURE_COUNT, DO),
    };
    let action = format!("{}/{REPLAY}", Area::DeadLetters.path());
    let back = format!("{}{}", Area::DeadLetters.path(), filter.query(&[]));
    let pairs: Vec<String> =
        filter.pairs().map(|(name, value)| format!("{name} = {value}")).collect();
    let middle = html! {
        @if events == 0 && !more { p { (SURE_NONE.of(lang)) } }
        @else {
            p { b { (text.fill(lang, &[&shown])) } }
            @if form.text("which") == Some("all") {
                p { (SURE_FILTER.of(lang)) (lang.colon())
                    @if pairs.is_empty() { (NO_FILTER.of(lang)) } @else { code { (value::whole(&pairs.join(", "))) } }
                }
            }
            p.hint { (SURE_CARE.of(lang)) }
            (form::support(visit, &action, &html! {
                @for name in ["order", "which"] {
                    input type="hidden" name=(name) value=(form.text(name).unwrap_or_default());
                }
                @for (name, value) in filter.pairs() { input type="hidden" name=(name) value=(value); }
                @for id in form.all("event") { input type="hidden" name="event" value=(id); }
                button type="submit" name="sure" value="yes" { (button.fill(lang, &[&shown])) }
            }))
        }
        p { a href=(back) { (BACK.of(lang)) } }
    };
    Reply::Page(SURE.of(lang).to_owned(), middle)
}

async fn replay(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let filter = Filter::read(form)?;
    let order = form.text("order").and_then(|id| id.parse::<ReplayId>().ok());
    let id = order.unwrap_or_else(|| ReplayId::new(now_ms()));
    let everything = form.text("which") == Some("all");
    let ids = form.all("event").map(str::parse::<EventId>).collect::<Result<Vec<_>, _>>();
    let ids = ids.map_err(|_| PageError::Bad(WHAT_EVENT))?;
    if !everything && ids.is_empty() {
        let list = filter.query(&[("done", "none")]);
        return Ok(Reply::Redirect(format!("{}{list}", Area::DeadLetters.path())));
    }
    if form.text("sure") != Some("yes") {
        let counted = match everything {
            true => find::count(console, &filter).await?,
            false => Counted { events: ids.len() as u64, more: false },
        };
        return Ok(question(visit, &filter, form, counted));
    }
    let (events, log) = match everything {
        true => (Vec::new(), filter.log(&console.config())),
        // The selection replaces the filter.
        false => (ids, crate::ledger::LogQuery::default()),
    };
    let wanted = ReplayFilter {
        events,
        log: crate::ledger::LogQuery { among: console.view().among(), ..log },
        state: Some(DeliveryState::Dead),
        target: filter.target(),
        ..ReplayFilter::default()
    };
    let (registry, replays) = (&console.tools.registry, &console.tools.replays);
    replay_all(registry, replays, &visit.viewer.who, id, wanted).await.map_err(
        |not| match not {
            ReplayError::Ledger(error) => error.into(),
            ReplayError::Refused(ReplayOrderError::Busy) => PageError::Bad(BUSY),
            ReplayError::Refused(ReplayOrderError::Other) => PageError::Bad(USED),
        },
    )?;
    Ok(Reply::Redirect(orders::path(id)))
}

// === For other pages ===

/// The latest `most` events with dead letters that match the filter in `query`, and whether there
/// are more.
pub(super) async fn latest(
    console: &Console,
    query: &Fields,
    most: usize,
) -> Result<(Vec<Letter>, bool), PageError> {
    let filter = Filter::read(query)?;
    let Found { letters, next } = find::find(console, &filter, None, most).await?;
    Ok((letters, next.is_some()))
}
