//! Callbacks of all outcomes in one list, found by user, transaction or event id.

mod filter;
mod lines;
mod position;

use maud::{Markup, html};

use self::filter::Filter;
use self::lines::{Line, Lines, Thing};
use self::position::Position;
use super::{LIVE, resolved, sources};
use crate::clock::rfc3339;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{badge, csv, live, notice, span, table, time, value};
use crate::console::fields::query;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{EventState, Rejected};
use crate::sender::{Effect, Outcome, Reason, Resolved};

/// Lines per page.
const PAGE: usize = 50;

/// Most lines of a CSV file: about 2 MB.
const FILE_LINES_MAX: usize = 10_000;

/// Lines per lookup for a CSV file.
const FILE_PAGE: usize = 500;

/// Most lookups for a CSV file: twice as many as a full file needs. Bounds filters with few matches
/// among millions of events.
const FILE_PAGES_MAX: usize = 2 * FILE_LINES_MAX / FILE_PAGE;

texts! {
    SEARCH = "User, transaction or event id; begins with: u1*", "用户、交易号或事件 ID；前缀匹配：u1*";
    STATE = "Deliveries", "投递情况";
    DESTINATION = "Destination", "投递目标";
    ITEM = "Item", "物品";
    AMOUNT = "Amount", "数量";
    FIRST = "Show first event", "查看首个事件";
    FOLLOW = "Follow live", "实时跟踪";
    UNFOLLOW = "Stop following", "停止跟踪";
    BEGINNING = "Search for what begins with it", "按前缀搜索";
    SOURCE = "Source", "来源";
    OUTCOME = "Outcome", "结果";
    REASON = "Reason", "原因";
    SINCE = "From (UTC)", "起始时间（UTC）";
    UNTIL = "Before (UTC)", "截止时间（UTC）";
    ANY = "Any", "不限";
    GO = "Search callbacks", "搜索回调";
    CLEAR = "Clear filter", "清除筛选";
    FILE = "Download as CSV", "下载 CSV";
    TIME = "Time", "时间";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    MORE = "Deliveries or reason", "投递情况或原因";
    TOOK = "Latency", "耗时";
    CAPTION = "Newest first", "最新在前";
    EMPTY = "No callback matches. Clear the filter to see all.", "没有匹配的回调。清除筛选可查看全部。";
    NONE_YET = "No callbacks yet. Send one with the debug tool.", "尚无回调，可用调试工具发送一个。";
    FURTHER = "No match so far. Continue on the next page.", "目前没有匹配的结果，请在下一页继续查找。";
    OWN = "Accepted and rejected callbacks come from the store and are those of all gateways. Of the rejected ones, samples are kept; their content is not verified. Duplicates, conflicts and other outcomes are the latest of this gateway since its start on {}.",
        "已接受和被拒绝的回调来自存储，包含所有网关。被拒绝的回调仅保留样本，其内容未经验证。重复、冲突等其他结果仅为本网关自 {} 启动以来的最新记录。";
    WHAT_TIME = "Invalid time. Use 2026-01-02T03:04 or a full time such as 2026-01-02T03:04:05Z.",
        "时间无效。请使用 2026-01-02T03:04 或完整时间，如 2026-01-02T03:04:05Z。";
    WHAT_WORD = "Unknown outcome or reason.", "结果或原因不存在。";
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    let filter = Filter::read(&visit.query)?;
    match visit.rest().as_slice() {
        [] => list(console, visit, &filter).await,
        [last] if *last == LIVE => {
            let page = Visit { path: Area::Callbacks.path().to_owned(), ..visit.clone() };
            Ok(Reply::Fragment(part(console, &page, &filter).await?))
        }
        ["callbacks.csv"] => file(console, &filter).await,
        _ => Err(PageError::Absent),
    }
}

/// Refresh interval of the list, in seconds.
const EVERY_S: u32 = 2;

async fn list(console: &Console, visit: &Visit, filter: &Filter) -> PageResult {
    let lang = visit.lang;
    let since = time::time(console.tools.metrics.histories.start().ms());
    let download = format!("{}/callbacks.csv{}", Area::Callbacks.path(), filter.query());
    let part = part(console, visit, filter).await?;
    let follows = visit.query.text("live").is_some();
    let is_first = visit.query.text("cursor").is_none();
    let again = format!("{}/{LIVE}{}", Area::Callbacks.path(), filter.query());
    let middle = html! {
        (search(console, visit, filter))
        (sources::unknown(console, visit))
        (span::links(visit))
        @if follows && is_first { (live::frame(lang, &again, EVERY_S, &part)) } @else { (part) }
        p.actions {
            a href=(download) download { (FILE.of(lang)) }
            @if follows { a href=(visit.with("live", None)) { (UNFOLLOW.of(lang)) } }
            @else if is_first { a href=(visit.with("live", Some("on"))) { (FOLLOW.of(lang)) } }
        }
        (notice::with(notice::Tone::Plain, &OWN.fill_with(lang, &[since])))
    };
    Ok(Reply::Page(Area::Callbacks.title().of(lang).to_owned(), middle))
}

/// The table and its paging.
async fn part(console: &Console, visit: &Visit, filter: &Filter) -> Result<Markup, PageError> {
    let position = match visit.query.text("cursor") {
        None => Position::default(),
        Some(text) => text.parse().map_err(|_| PageError::Expired)?,
    };
    let Lines { lines, next } = lines::find(console, filter, &position, PAGE).await?;
    let lang = visit.lang;
    let rows: Vec<Vec<Markup>> = lines.iter().map(|line| row(console, visit, line)).collect();
    let is_filtered = visit.has_any(&filter::CHOICES) || visit.has_any(&["q", "cursor"]);
    let empty = match next {
        Some(_) => FURTHER,
        None if is_filtered => EMPTY,
        None => NONE_YET,
    };
    let columns = [TIME, OUTCOME, SOURCE, TRANSACTION, USER, ITEM, AMOUNT, MORE, TOOK];
    let beginning = filter.as_beginning().filter(|_| rows.is_empty());
    let next = next.map(|next| next.to_string());
    Ok(html! {
        (DataTable::new(Caption::Shown(CAPTION.of(lang)), &columns, empty).show(lang, &rows))
        @if !rows.is_empty() { (table::counted(lang, rows.len(), next.as_deref())) }
        @if let Some(beginning) = beginning {
            p { a href={ (Area::Callbacks.path()) (beginning) } { (BEGINNING.of(lang)) } }
        }
        (table::pages(visit, next.as_deref()))
    })
}

fn search(console: &Console, visit: &Visit, filter: &Filter) -> Markup {
    let lang = visit.lang;
    let any = |word| (String::new(), Text::of(word, lang).to_owned());
    let config = console.config();
    let sources: Vec<&str> = config.sources.keys().map(String::as_str).collect();
    let outcomes =
        Outcome::ALL.iter().map(|one| (one.as_str().into(), words::outcome(*one).of(lang).into()));
    let reasons =
        Reason::ALL.iter().map(|one| (one.as_str().into(), words::reason(*one).of(lang).into()));
    let choice = |name, label, options: Vec<(String, String)>, value: &str| {
        let options: Vec<(&str, &str)> =
            options.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        Field { value, ..Field::new(name, label) }.show_choice(lang, &options)
    };
    let field = |name| visit.query.text(name).unwrap_or_default();
    let at = |name, label| {
        Field { value: field(name), kind: "datetime-local", ..Field::new(name, label) }.show(lang)
    };
    let all = |rest: &mut dyn Iterator<Item = (String, String)>| -> Vec<_> {
        std::iter::once(any(ANY)).chain(rest).collect()
    };
    let states = [EventState::Pending, EventState::Dead, EventState::Done]
        .map(|one| (one.as_str().into(), words::event(one).of(lang).into()));
    let state = filter.state.map_or("", EventState::as_str);
    let destinations: Vec<&str> = config.destinations.keys().map(String::as_str).collect();
    let outcome = filter.outcome.map_or("", Outcome::as_str);
    let reason = filter.reason.map_or("", Reason::as_str);
    form::ask(
        Area::Callbacks.path(),
        &html! {
            div.grow {
                (Field { value: field("q"), kind: "search", ..Field::new("q", SEARCH) }.show(lang))
            }
            button type="submit" { (GO.of(lang)) }
            a href=(Area::Callbacks.path()) { (CLEAR.of(lang)) }
            (form::filters(visit, &filter::CHOICES, &html! {
                (Field { value: field("source"), ..Field::new("source", SOURCE) }.show_pick(lang, ANY, &sources))
                (choice("outcome", OUTCOME, all(&mut outcomes.into_iter()), outcome))
                (choice("reason", REASON, all(&mut reasons.into_iter()), reason))
                (choice("state", STATE, all(&mut states.into_iter()), state))
                (Field { value: field("destination"), ..Field::new("destination", DESTINATION) }.show_pick(lang, ANY, &destinations))
                (at("since", SINCE))
                (at("until", UNTIL))
            }))
        },
    )
}

fn row(console: &Console, visit: &Visit, line: &Line) -> Vec<Markup> {
    let lang = visit.lang;
    let at = match line.thing {
        Thing::Event(id) => Some(format!("{}/{id}", Area::Event.path())),
        Thing::Rejection(id) => Some(format!("{}/{id}", Area::Rejection.path())),
        Thing::Nothing => None,
    };
    let sign = html! {
        @match &at {
            Some(path) => a href=(path) { (time::time(line.at_ms)) },
            None => (time::time(line.at_ms)),
        }
    };
    let search = |text: &Option<String>| {
        html! {
            @match text {
                Some(text) => a href=(format!("{}{}", Area::Callbacks.path(), query(&[("q", text)]))) {
                    (value::short(text))
                },
                None => (value::maybe(None)),
            }
        }
    };
    let more = html! {
        @if let Some(state) = line.state { (badge::event(lang, state)) }
        // Most events are plain grants; only other kinds and effects are shown.
        @if let Some(kind) = line.kind.as_deref().filter(|kind| *kind != Resolved::PLAIN_KIND) {
            " " (value::short(kind))
        }
        @if let Some(effect) = line.effect.filter(|effect| *effect != Effect::Grant) {
            " " (badge::effect(lang, effect))
        }
        @if let Some(reason) = line.reason { (badge::rejected(lang, reason)) }
        @if let Some(near) = &line.nearest { " → " (value::short(near)) }
        @if let Some(parameter) = &line.parameter { (lang.colon()) code { (value::short(parameter)) } }
        @if line.is_repeated() { a href=[&at] { (FIRST.of(lang)) } }
    };
    let outcome = html! {
        (badge::outcome(lang, line.outcome))
        @if line.is_test { " " (badge::outcome(lang, Outcome::Test)) }
        @if let Some(subject) = &line.subject { (resolved::badge(console, lang, subject)) }
    };
    let took = html! { @match line.took { Some(took) => (time::took(took)), None => (value::maybe(None)) } };
    let (transaction, user) = (search(&line.transaction), search(&line.user));
    let source = match console.config().sources.contains_key(&line.source) {
        true => html! { a href=(sources::path_of(&line.source)) { (value::short(&line.source)) } },
        false => value::short(&line.source),
    };
    let (item, amount) = (value::maybe(line.item.as_deref()), value::maybe(line.amount.as_deref()));
    vec![sign, outcome, source, transaction, user, item, amount, more, took]
}

/// Columns of the CSV file, named as in the admin API in every language.
const FILE_COLUMNS: [&str; 15] = [
    "received_at",
    "outcome",
    "reason",
    "parameter",
    "source",
    "transaction",
    "user",
    "event",
    "test",
    "millis",
    "kind",
    "effect",
    "item",
    "amount",
    "deliveries",
];

async fn file(console: &Console, filter: &Filter) -> PageResult {
    let mut rows = vec![FILE_COLUMNS.map(str::to_owned).to_vec()];
    let mut position = Some(Position::default());
    for _ in 0..FILE_PAGES_MAX {
        let room = (FILE_LINES_MAX + 1 - rows.len()).min(FILE_PAGE);
        let Some(from) = position.filter(|_| room > 0) else { break };
        let Lines { lines, next } = lines::find(console, filter, &from, room).await?;
        rows.extend(lines.into_iter().map(cells));
        position = next;
    }
    Ok(Reply::Csv("callbacks.csv", csv::csv(rows)))
}

fn cells(line: Line) -> Vec<String> {
    let event = match line.thing {
        Thing::Event(id) => id.to_string(),
        Thing::Rejection(_) | Thing::Nothing => String::new(),
    };
    vec![
        rfc3339(line.at_ms),
        line.outcome.as_str().to_owned(),
        line.reason.map_or("", Rejected::as_str).to_owned(),
        line.parameter.unwrap_or_default(),
        line.source,
        line.transaction.unwrap_or_default(),
        line.user.unwrap_or_default(),
        event,
        line.is_test.to_string(),
        line.took.map_or_else(String::new, |took| format!("{:.3}", took.as_secs_f64() * 1e3)),
        line.kind.unwrap_or_default(),
        line.effect.map_or("", Effect::as_str).to_owned(),
        line.item.unwrap_or_default(),
        line.amount.unwrap_or_default(),
        line.state.map_or("", EventState::as_str).to_owned(),
    ]
}
