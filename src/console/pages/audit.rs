//! The audit log: actor, action, object and time of each change.

use maud::{Markup, html};
use serde_json::Value;

use crate::clock::UnixMillis;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{csv, table, time, value};
use crate::console::fields::{self, Fields};
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::console::words;
use crate::registry::{Action, AuditQuery, ENTRIES_MAX, Entry, audit_log};

/// Entries per page.
const PAGE: usize = 50;

texts! {
    WHO = "Actor", "操作者";
    ACTION = "Action", "操作";
    THING = "Object", "对象";
    KIND = "Kind", "类型";
    NAME = "Name contains", "名称包含";
    CHANGES = "Before and after", "变更前后";
    SINCE = "From (UTC)", "起始时间（UTC）";
    UNTIL = "Before (UTC)", "截止时间（UTC）";
    TIME = "Time", "时间";
    ANY = "Any", "不限";
    GO = "Search entries", "搜索记录";
    CLEAR = "Clear filter", "清除筛选";
    CAPTION = "Newest first; up to {} changes are kept", "最新在前；最多保留 {} 次变更";
    NONE_YET = "No changes yet.", "尚无变更记录。";
    EMPTY = "No entry matches. Clear the filter to see all.", "没有匹配的记录。清除筛选可查看全部。";
    ABSENT = "None", "无";
    REPLACED = "replaced", "已替换";
    SECRET_ENDS = "{} (expires {})", "{}（{} 失效）";
    REASON = "Reason", "原因";
    FILE = "Download as CSV", "下载 CSV";
    WHAT_TIME = "Invalid time. Use 2026-01-02T03:04 or a full time such as 2026-01-02T03:04:05Z.",
        "时间无效。请使用 2026-01-02T03:04 或完整时间，如 2026-01-02T03:04:05Z。";
    WHAT_ACTION = "Unknown action.", "操作不存在。";
}

/// The fields of the filter.
const CHOICES: [&str; 6] = ["who", "action", "kind", "name", "since", "until"];

/// A filter of entries; `None` matches all.
#[derive(Debug, Default)]
struct Filter {
    who: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    action: Option<Action>,
    since_ms: Option<UnixMillis>,
    until_ms: Option<UnixMillis>,
}

impl Filter {
    fn read(query: &Fields) -> Result<Self, PageError> {
        let lower = |name| query.text(name).map(str::to_lowercase);
        let at = |name| {
            let read = |text| fields::time(text).ok_or(PageError::Bad(WHAT_TIME));
            query.text(name).map(read).transpose()
        };
        let action = |text: &str| {
            Action::ALL
                .into_iter()
                .find(|one| one.as_str() == text)
                .ok_or(PageError::Bad(WHAT_ACTION))
        };
        Ok(Self {
            who: lower("who"),
            kind: query.text("kind").map(str::to_owned),
            name: lower("name"),
            action: query.text("action").map(action).transpose()?,
            since_ms: at("since")?,
            until_ms: at("until")?,
        })
    }

    /// Whether an entry of the right time is wanted.
    fn wants(&self, entry: &Entry) -> bool {
        let has = |text: &str, part: &Option<String>| {
            part.as_ref().is_none_or(|part| text.to_lowercase().contains(part))
        };
        has(&entry.who, &self.who)
            && has(&entry.name, &self.name)
            && self.kind.as_ref().is_none_or(|kind| *kind == entry.kind)
            && self.action.is_none_or(|action| action == entry.action)
    }

    /// The part that the ledger finds.
    fn query(&self, before: Option<u64>) -> AuditQuery {
        AuditQuery { before, since_ms: self.since_ms, until_ms: self.until_ms }
    }
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    let filter = Filter::read(&visit.query)?;
    match visit.rest().as_slice() {
        [] => page(console, visit, &filter).await,
        [FILE_NAME] => file(console, &filter).await,
        _ => Err(PageError::Absent),
    }
}

async fn page(console: &Console, visit: &Visit, filter: &Filter) -> PageResult {
    let before = visit.query.text("cursor").map(str::parse).transpose();
    let before = before.map_err(|_| PageError::Expired)?;
    let wanted = |entry: &Entry| filter.wants(entry) && console.view().sees_entry(entry);
    let ledger = console.tools.registry.ledger();
    let (entries, next) = audit_log(ledger, filter.query(before), PAGE, wanted).await?;
    let lang = visit.lang;
    let rows: Vec<Vec<Markup>> = entries.iter().map(|entry| row(visit, entry)).collect();
    let caption = CAPTION.fill(lang, &[&value::count(ENTRIES_MAX)]);
    let columns = [TIME, WHO, ACTION, THING, CHANGES];
    let empty = if visit.has_any(&CHOICES) { EMPTY } else { NONE_YET };
    let next = next.map(|next| next.to_string());
    let middle = html! {
        (search(visit, filter))
        (DataTable::new(Caption::Shown(&caption), &columns, empty).show(lang, &rows))
        (table::counted(lang, rows.len(), next.as_deref()))
        (table::pages(visit, next.as_deref()))
        @if !rows.is_empty() {
            p { a href={ (Area::Audit.path()) "/" (FILE_NAME) (visit.query.with("cursor", None)) } download { (FILE.of(lang)) } }
        }
    };
    Ok(Reply::Page(Area::Audit.title().of(lang).to_owned(), middle))
}

fn search(visit: &Visit, filter: &Filter) -> Markup {
    let lang = visit.lang;
    let field = |name| visit.query.text(name).unwrap_or_default();
    let text = |name, label| Field { value: field(name), ..Field::new(name, label) }.show(lang);
    let at = |name, label| {
        Field { value: field(name), kind: "datetime-local", ..Field::new(name, label) }.show(lang)
    };
    let any = [("", ANY.of(lang))];
    let actions = Action::ALL.map(|one| (one.as_str(), words::action(one).of(lang)));
    let actions: Vec<(&str, &str)> = any.into_iter().chain(actions).collect();
    let kinds = words::AUDITED
        .map(|kind| (kind, words::audited_alone(kind).map_or(kind, |text| text.of(lang))));
    let kinds: Vec<(&str, &str)> = any.into_iter().chain(kinds).collect();
    let action = filter.action.map_or("", Action::as_str);
    form::ask(
        Area::Audit.path(),
        &html! {
            (form::filters(visit, &CHOICES, &html! {
                (text("who", WHO))
                (Field { value: action, ..Field::new("action", ACTION) }.show_choice(lang, &actions))
                (Field { value: field("kind"), ..Field::new("kind", KIND) }.show_choice(lang, &kinds))
                (text("name", NAME))
                (at("since", SINCE))
                (at("until", UNTIL))
            }))
            button type="submit" { (GO.of(lang)) }
            a href=(Area::Audit.path()) { (CLEAR.of(lang)) }
        },
    )
}

/// Columns of the CSV file, named as in the admin API in every language.
const FILE_COLUMNS: [&str; 6] = ["at", "who", "action", "kind", "name", "changes"];

/// The name of the CSV file.
const FILE_NAME: &str = "audit.csv";

async fn file(console: &Console, filter: &Filter) -> PageResult {
    let most = usize::try_from(ENTRIES_MAX).unwrap_or(usize::MAX);
    let wanted = |entry: &Entry| filter.wants(entry) && console.view().sees_entry(entry);
    let ledger = console.tools.registry.ledger();
    let (entries, _) = audit_log(ledger, filter.query(None), most, wanted).await?;
    let head = std::iter::once(FILE_COLUMNS.map(str::to_owned).to_vec());
    let rows = entries.into_iter().map(|entry| {
        let changes = match entry.changes.is_empty() {
            true => String::new(),
            false => Value::Object(entry.changes).to_string(),
        };
        let action = entry.action.as_str().to_owned();
        vec![entry.at, entry.who, action, entry.kind, entry.name, changes]
    });
    Ok(Reply::Csv("audit.csv", csv::csv(head.chain(rows))))
}

fn row(visit: &Visit, entry: &Entry) -> Vec<Markup> {
    let lang = visit.lang;
    let at = time::stored(&entry.at);
    let kind = words::audited(&entry.kind).map_or(entry.kind.as_str(), |text| text.of(lang));
    let thing = html! { (kind) " " (value::short(&entry.name)) };
    let changes = html! {
        @if entry.changes.is_empty() { (value::maybe(None)) } @else {
            ul.changes {
                @for (key, pair) in &entry.changes { (change(visit, entry, key, pair)) }
            }
        }
    };
    vec![
        at,
        value::short(&entry.who),
        html! { (words::did(entry.action, &entry.kind).of(lang)) },
        thing,
        changes,
    ]
}

fn change(visit: &Visit, entry: &Entry, key: &str, pair: &Value) -> Markup {
    let side = |at: usize| shown(visit, pair.get(at).unwrap_or(&Value::Null));
    html! {
        li {
            @if key == "reason" { (REASON.of(visit.lang)) } @else { code { (value::short(key)) } }
            (visit.lang.colon())
            // A new or deleted object, and a reason, have one side.
            @match entry.action {
                Action::Changed => { (side(0)) " → " (side(1)) },
                Action::Deleted if entry.kind != "pause" => (side(0)),
                _ => (side(1)),
            }
        }
    }
}

/// One side of a change; the log truncated it when it was written.
fn shown(visit: &Visit, side: &Value) -> Markup {
    let lang = visit.lang;
    match side {
        Value::Null => html! { span.absent { (ABSENT.of(lang)) } },
        Value::String(text) => value::whole(text),
        Value::Array(list) => {
            let ids: Option<Vec<Markup>> = list.iter().map(|one| secret(visit, one)).collect();
            let Some(ids) = ids else { return value::whole(&side.to_string()) };
            html! { @for (at, id) in ids.iter().enumerate() { @if at > 0 { (lang.comma()) } (id) } }
        }
        Value::Object(object) if object.len() == 1 && object.contains_key("replaced") => html! {
            (shown(visit, &side["replaced"])) " (" (REPLACED.of(lang)) ")"
        },
        other => value::whole(&other.to_string()),
    }
}

/// A secret of a source in words: its id, and when it expires.
fn secret(visit: &Visit, one: &Value) -> Option<Markup> {
    one.get("value")?;
    let id = one.get("id")?.as_str()?;
    Some(match one.get("until").and_then(Value::as_str).and_then(fields::time) {
        Some(until) => SECRET_ENDS.fill_with(visit.lang, &[value::short(id), time::time(until)]),
        None => value::short(id),
    })
}
