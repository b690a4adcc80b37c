//! Issues: what was rejected, what is held and what is dead, grouped by cause.

mod act;
mod groups;
mod release;

use maud::{Markup, html};

use self::groups::{Detail, Groups, IssueKind, Key};
use super::{LIVE, destinations, resolved, sources};
use crate::clock::now_ms;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::attempt_error;
use crate::console::components::chart::{self, Series};
use crate::console::components::facts::facts;
use crate::console::components::form::{self, Field};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::{Fields, query};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::HeldWhy;
use crate::sender::Reason;

texts! {
    RESPONSE = "Status {}", "状态码 {}";
    NO_ATTEMPT = "No attempt recorded", "没有尝试记录";
    INTRODUCTION = "Rejected, held and dead-lettered callbacks by cause, newest first. Those that were resolved manually are left out.",
        "被拒绝、被隔离和成为死信的回调，按原因分组，最新在前。已人工处理的不再列出。";
    KIND = "Kind", "类型";
    WHERE = "Source, destination", "来源、投递目标";
    CAUSE = "Cause", "原因";
    COUNT = "Count", "数量";
    FIRST = "First", "首次";
    LAST = "Last", "最近";
    COURSE = "Last 24 h", "最近 24 小时";
    CAPTION = "Newest first", "最新在前";
    EMPTY = "No issues. Nothing was rejected, held or dead-lettered.", "没有待处理问题：没有被拒绝、被隔离或成为死信的回调。";
    PARTLY = "Of many callbacks, the latest {} of each kind are grouped.", "数量较多时，每类仅对最近 {} 个分组。";
    SOURCE = "Source", "来源";
    DESTINATION = "Destination", "投递目标";
    ANY = "Any", "不限";
    GO = "Apply filter", "筛选";
    CLEAR = "Clear filter", "清除筛选";
    ONE = "Issue", "待处理问题";
    SAMPLES = "Samples", "样本";
    TIME = "Time", "时间";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    DETAIL = "Detail", "详情";
    GONE = "This issue has no callback any more: it was settled or is no longer kept.", "该问题已没有回调：已处理，或不再保留。";
    ALL = "All issues", "全部待处理问题";
    AT_LEAST = "{} or more", "{} 个或更多";
}

/// An issue without callbacks.
const IS_GONE: PageError = PageError::Gone { why: GONE, list: Area::Issues };

/// Samples on the page of an issue.
const SAMPLES_MAX: usize = 20;

/// Path segment of the releases of groups.
const RELEASES: &str = "releases";

/// Hours of the small chart.
const HOURS: usize = 24;

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] => list(console, visit).await,
        ["one"] => one(console, visit).await,
        [RELEASES, id] => release::page(console, visit, id).await,
        [RELEASES, id, LIVE] => release::part(console, visit, id).await,
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let key = Key::read(form).ok_or(PageError::Absent)?;
    match visit.rest().as_slice() {
        ["release" | "drop"] if !visit.viewer.may_change() => Err(PageError::ReadOnly),
        ["release" | "drop" | "resolve"] => act::all(console, visit, &key, form).await,
        _ => Err(PageError::Absent),
    }
}

/// The path of the page of an issue.
fn path_of(key: &Key) -> String {
    format!("{}/one{}", Area::Issues.path(), query(&key.pairs()))
}

/// The cause in words.
fn cause(lang: Lang, key: &Key) -> Markup {
    let status = key.cause.strip_prefix(groups::STATUS).filter(|_| key.kind == IssueKind::Dead);
    if let Some(status) = status {
        return html! { (RESPONSE.fill(lang, &[&status])) };
    }
    let known = match key.kind {
        IssueKind::Rejected => {
            Some(Reason::from_name(&key.cause).map_or(words::UNKNOWN_PATH, words::reason))
        }
        IssueKind::Held => HeldWhy::from_name(&key.cause).map(words::held),
        IssueKind::Dead if key.cause == groups::NO_ATTEMPT => Some(NO_ATTEMPT),
        IssueKind::Dead => return attempt_error::shown(lang, &key.cause),
    };
    match known {
        Some(text) => html! { span title=(key.cause) { (text.of(lang)) } },
        None => value::short(&key.cause),
    }
}

fn detail(lang: Lang, detail: Option<&Detail>) -> Markup {
    match detail {
        None => value::maybe(None),
        Some(Detail::Text(text)) => value::short(text),
        Some(Detail::Reason(reason)) => html! { (words::reason(*reason).of(lang)) },
        Some(Detail::Error(error)) => attempt_error::shown(lang, error),
    }
}

fn badge(lang: Lang, kind: IssueKind) -> Markup {
    let (class, text): (&str, Text) = match kind {
        IssueKind::Rejected => ("rejected", Text::new("Rejected", "已拒绝")),
        IssueKind::Held => ("conflict", Text::new("Held", "待决定")),
        IssueKind::Dead => ("dead", Text::new("Dead letter", "死信")),
    };
    html! { span.badge.(class) { (text.of(lang)) } }
}

// === The list ===

async fn list(console: &Console, visit: &Visit) -> PageResult {
    let lang = visit.lang;
    let groups = Groups::of(console, &visit.query).await?;
    let rows: Vec<Vec<Markup>> = groups.all.iter().map(|group| row(lang, group)).collect();
    let columns = [CAUSE, KIND, WHERE, COUNT, FIRST, LAST, COURSE];
    let middle = html! {
        p { (INTRODUCTION.of(lang)) }
        (search(console, visit))
        (sources::unknown(console, visit))
        (DataTable::new(Caption::Shown(CAPTION.of(lang)), &columns, EMPTY).show(lang, &rows))
        @if groups.is_partial { p.hint { (PARTLY.fill(lang, &[&value::count(groups::SCANNED_MAX as u64)])) } }
    };
    Ok(Reply::Page(Area::Issues.title().of(lang).to_owned(), middle))
}

fn search(console: &Console, visit: &Visit) -> Markup {
    let (lang, config) = (visit.lang, console.config());
    let names: Vec<&str> = config.sources.keys().map(String::as_str).collect();
    let targets: Vec<&str> = config.destinations.keys().map(String::as_str).collect();
    let field = |name, label| Field {
        value: visit.query.text(name).unwrap_or_default(),
        ..Field::new(name, label)
    };
    form::ask(
        Area::Issues.path(),
        &html! {
            (field("source", SOURCE).show_pick(lang, ANY, &names))
            (field("destination", DESTINATION).show_pick(lang, ANY, &targets))
            button type="submit" { (GO.of(lang)) }
            a href=(Area::Issues.path()) { (CLEAR.of(lang)) }
        },
    )
}

fn row(lang: Lang, group: &groups::Group) -> Vec<Markup> {
    let now = now_ms();
    let bars = Series { class: group.key.kind.class(), name: ONE, values: group.hours(now, HOURS) };
    vec![
        html! { a href=(path_of(&group.key)) { (cause(lang, &group.key)) } },
        badge(lang, group.key.kind),
        html! {
            (value::short(&group.key.source))
            @if let Some(name) = &group.key.destination { " → " (value::short(name)) }
        },
        value::number(group.samples.len() as u64),
        html! { (group.first_ms().map_or_else(|| value::maybe(None), |ms| time::ago(lang, ms, now))) },
        html! { (group.last_ms().map_or_else(|| value::maybe(None), |ms| time::ago(lang, ms, now))) },
        chart::spark(&[bars]),
    ]
}

// === One ===

/// The name of a source, linked unless none has it.
fn source(console: &Console, name: &str) -> Markup {
    match console.config().sources.contains_key(name) {
        true => html! { a href=(sources::path_of(name)) { (value::short(name)) } },
        false => value::short(name),
    }
}

async fn one(console: &Console, visit: &Visit) -> PageResult {
    let lang = visit.lang;
    let key = Key::read(&visit.query).ok_or(PageError::Absent)?;
    let groups = Groups::of(console, &visit.query).await?;
    let group = groups.all.iter().find(|group| group.key == key).ok_or(IS_GONE)?;
    let count = value::count(group.samples.len() as u64);
    let count = if groups.is_partial { AT_LEAST.fill(lang, &[&count]) } else { count };
    let shown = |ms: Option<i64>| ms.map_or_else(|| value::maybe(None), time::time);
    let mut all = vec![
        (KIND, badge(lang, key.kind)),
        (CAUSE, cause(lang, &key)),
        (SOURCE, source(console, &key.source)),
    ];
    if let Some(name) = &key.destination {
        all.push((
            DESTINATION,
            match visit.viewer.may_see(Area::Destinations) {
                true => html! { a href=(destinations::path_of(name)) { (value::short(name)) } },
                false => value::short(name),
            },
        ));
    }
    all.extend([
        (COUNT, html! { b { (count) } }),
        (FIRST, shown(group.first_ms())),
        (LAST, shown(group.last_ms())),
    ]);
    let rows = group.samples.iter().take(SAMPLES_MAX).map(|sample| {
        let subject = sample.subject();
        vec![
            html! { a href=(sample.path()) { (time::time(sample.at_ms)) } },
            html! {
                (value::maybe(sample.transaction.as_deref()))
                @if let Some(subject) = &subject { (resolved::badge(console, lang, subject)) }
            },
            value::maybe(sample.user.as_deref()),
            detail(lang, sample.detail.as_ref()),
        ]
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    let columns = [TIME, TRANSACTION, USER, DETAIL];
    let middle = html! {
        (facts(lang, &all))
        (act::section(visit, group))
        h2 { (SAMPLES.of(lang)) }
        (DataTable::new(Caption::Shown(CAPTION.of(lang)), &columns, GONE).show(lang, &rows))
        p { a href=(Area::Issues.path()) { (ALL.of(lang)) } }
    };
    Ok(Reply::Page(ONE.of(lang).to_owned(), middle))
}
