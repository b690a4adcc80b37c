//! Destinations: state, creation, editing, pausing, tests.

mod form;
mod one;

use std::time::Duration;

use maud::{Markup, html};

use crate::config::{self, Origin, Table};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::FormValues;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{form as forms, time, value};
use crate::console::fields::{Fields, query, segment};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{self, Done, Edit, FormErrors, write_error};
use crate::console::pages::overview::backlog;
use crate::console::pages::preview;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::delivery::{BreakerState, Condition};
use crate::ledger::{Stats, TargetId};
use crate::operator::{self, REASON_BYTES_MAX, TestDeliveryError, TestEvent, try_out};
use crate::registry::{Managed, Precondition};

texts! {
    INTRODUCTION = "A destination is a backend that events are delivered to. Destinations of the configuration file are changed in the file, all others here.",
        "投递目标是接收事件的后端。配置文件中的目标在文件中更改，其余在此更改。";
    ALL = "Destinations", "投递目标";
    NONE = "No destinations. Create one to deliver events.", "尚无投递目标。创建一个即可投递事件。";
    STATE = "State", "状态";
    URL = "URL", "地址";
    FORMAT = "Format", "格式";
    PENDING = "Pending", "待投递";
    DEAD = "Dead", "死信";
    OLDEST = "Oldest due", "最早到期";
    ORIGIN = "Origin", "定义位置";
    ACTIVE = "Active", "正常";
    FAILING = "Failing", "失败";
    PAUSED = "Paused", "已暂停";
    DOWN = "Down", "已熔断";
    PROBED = "Probing", "试探中";
    INACTIVE = "Inactive", "未运行";
    NEW = "Create destination", "创建投递目标";
    FORWARD = "A destination of format forward receives the original request, so a test needs a callback. Send one with the debug tool.",
        "forward 格式转发发送方的原始请求，因此测试需要一个回调。请用调试工具发送。";
    DELIVERIES_OFF = "This gateway runs with --no-deliveries: it sends nothing to any destination.", "本网关以 --no-deliveries 启动：不向任何目的地发送请求。";
    UNWRITTEN = "The payload of the test event could not be written.", "无法生成测试事件的内容。";
}

const PATH: &str = Area::Destinations.path();

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] if visit.query.text("new").is_some() => new_page(console, visit).await,
        [] => all(console, visit).await,
        [name] | [name, preview::PATH] => one::page(console, visit, &one::View::of(name)).await,
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest().as_slice() {
        [] => create(console, visit, form).await,
        [name] => change(console, visit, name, form).await,
        [name, "pause"] => pause(console, visit, name, form.text("reason")).await,
        [name, "resume"] => resume(console, visit, name).await,
        [name, "test"] => test(console, visit, name, form).await,
        [name, "end"] => end_old_secrets(console, visit, name, form).await,
        [name, "delete"] => delete(console, visit, name, form).await,
        _ => Err(PageError::Absent),
    }
}

/// The path of a destination.
pub(crate) fn path_of(name: &str) -> String {
    format!("{PATH}/{}", segment(name))
}

/// The state of a destination as a badge.
pub(crate) fn state(lang: Lang, condition: Option<&Condition>) -> Markup {
    let (class, word): (&str, Text) = match condition {
        None => ("broken", INACTIVE),
        Some(Condition { paused: Some(_), .. }) => ("paused", PAUSED),
        Some(Condition { breaker: BreakerState::Open, .. }) => ("broken", DOWN),
        Some(Condition { breaker: BreakerState::HalfOpen, .. }) => ("paused", PROBED),
        Some(Condition { health, .. }) if health.failures > 0 => ("broken", FAILING),
        Some(Condition { breaker: BreakerState::Closed, .. }) => ("active", ACTIVE),
    };
    html! { span.badge.(class) { (word.of(lang)) } }
}

/// The unsettled deliveries of a destination.
#[derive(Clone, Copy, Default)]
struct Backlog {
    pending: u64,
    dead: u64,
    /// The age of the oldest overdue delivery.
    oldest: Option<Duration>,
}

impl Backlog {
    fn of(stats: &Stats, target: &TargetId) -> Self {
        let found = stats.targets.iter().find(|stats| stats.target == *target);
        found.map_or(Self::default(), |found| Self {
            pending: found.pending,
            dead: found.dead,
            oldest: found.oldest_due,
        })
    }
}

fn due(lang: Lang, oldest: Option<Duration>) -> Markup {
    match oldest {
        Some(oldest) => html! { (time::length(lang, oldest)) },
        None => html! { span.absent { "–" } },
    }
}

// === The list ===

async fn all(console: &Console, visit: &Visit) -> PageResult {
    let lang = visit.lang;
    let stats = console.ledger().stats().await?;
    let listed: Vec<String> = {
        let state = console.tools.registry.running();
        let all = state.list(Managed::Destination);
        all.iter().filter_map(|shown| shown["name"].as_str().map(str::to_owned)).collect()
    };
    let config = console.config();
    let mut rows = Vec::with_capacity(listed.len());
    for name in &listed {
        let target = TargetId::from(name.as_str());
        let condition = console.tools.control.condition(&target).await;
        let found = config.destinations.get(name);
        let Backlog { pending, dead, oldest } = Backlog::of(&stats, &target);
        let origin = found.map_or(Origin::Admin, |found| found.origin);
        rows.push(vec![
            html! { a href=(path_of(name)) { (value::short(name)) } },
            state(lang, condition.as_ref()),
            value::maybe(found.map(|found| found.url.as_str())),
            html! { @if let Some(found) = found { code { (found.format.as_str()) } } },
            backlog::waiting(name, pending),
            backlog::dead(name, dead),
            due(lang, oldest),
            html! { (managed::origin(origin).of(lang)) },
        ]);
    }
    let columns = [managed::NAME_LABEL, STATE, URL, FORMAT, PENDING, DEAD, OLDEST, ORIGIN];
    let middle = html! {
        (managed::done(visit))
        p { (INTRODUCTION.of(lang)) }
        (DataTable::new(Caption::Hidden(ALL.of(lang)), &columns, NONE).show(lang, &rows))
        @if visit.viewer.may_change() {
            p { a.button href={ (PATH) (query(&[("new", "yes")])) } { (NEW.of(lang)) } }
        } @else { (forms::change(visit, PATH, &html! {})) }
    };
    Ok(Reply::Page(Area::Destinations.title().of(lang).to_owned(), middle))
}

// === Creation ===

async fn new_page(console: &Console, visit: &Visit) -> PageResult {
    if !visit.viewer.may_change() {
        return Err(PageError::ReadOnly);
    }
    let events = preview::suggested(console, &[]).await?;
    let middle = form::new(visit, &FormErrors::default(), &FormValues::nothing(), &events);
    Ok(Reply::Page(NEW.of(visit.lang).to_owned(), middle))
}

async fn create(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let name = form.text("name").unwrap_or_default();
    let read = form::read(visit.lang, form, Table::new());
    if let (Ok(table), Some(wanted)) = (&read, preview::asked(form)) {
        let shown = preview_typed(console, visit, Typing { name, table, wanted }).await?;
        let (shown, errors) = match shown {
            Ok(shown) => (shown, FormErrors::default()),
            Err(errors) => (html! {}, errors),
        };
        let events = preview::suggested(console, &[]).await?;
        let middle = html! {
            (shown)
            (form::new(visit, &errors, &FormValues::Submitted(form), &events))
        };
        let title = NEW.of(visit.lang).to_owned();
        return Ok(match errors.is_empty() {
            true => Reply::Page(title, middle),
            false => Reply::Invalid(title, middle),
        });
    }
    let created = match read {
        Err(errors) => Err(errors),
        Ok(table) => {
            let (registry, who) = (&console.tools.registry, &visit.viewer.who);
            let absent = Precondition::Absent;
            match registry.put(who, Managed::Destination, name, &table, &absent).await {
                Ok(written) => Ok(written),
                Err(error) => Err(managed::creation_error(visit.lang, name, error)?),
            }
        }
    };
    match created {
        Ok(written) => Ok(Reply::Redirect(Done::Created.at(&path_of(&written.name)))),
        Err(errors) => {
            let events = preview::suggested(console, &[]).await?;
            let middle = form::new(visit, &errors, &FormValues::Submitted(form), &events);
            Ok(Reply::Invalid(NEW.of(visit.lang).to_owned(), middle))
        }
    }
}

// === Changes ===

/// The document of a destination that the admin API manages, with its version.
fn stored(console: &Console, name: &str) -> Result<(Table, u64), PageError> {
    let state = console.tools.registry.running();
    let known = state.config.destinations.get(name);
    if let Some(known) = known.filter(|one| one.origin != Origin::Admin) {
        return Err(managed::not_here(known.origin));
    }
    let stored = state.documents.destinations.get(name).ok_or(PageError::Absent)?;
    Ok((Table::clone(&stored.value), stored.version.0))
}

async fn invalid(
    console: &Console,
    visit: &Visit,
    name: &str,
    errors: FormErrors,
    typed: Option<&Fields>,
) -> PageResult {
    let view = one::View { errors, typed, ..one::View::of(name) };
    one::page(console, visit, &view).await.map(Reply::invalid)
}

async fn write(
    console: &Console,
    visit: &Visit,
    edit: Edit<'_>,
    form: Option<&Fields>,
) -> PageResult {
    let (who, expected) = (&visit.viewer.who, Precondition::OneOf(vec![edit.version]));
    let registry = &console.tools.registry;
    match registry.put(who, Managed::Destination, edit.name, edit.table, &expected).await {
        Ok(_) => Ok(Reply::Redirect(Done::Saved.at(&path_of(edit.name)))),
        Err(error) => {
            // If another user wrote meanwhile, the current values are shown.
            let form = form.filter(|_| !managed::is_stale(&error));
            invalid(console, visit, edit.name, write_error(visit.lang, error)?, form).await
        }
    }
}

async fn change(console: &Console, visit: &Visit, name: &str, form: &Fields) -> PageResult {
    let (table, version) = stored(console, name)?;
    if let Some(stale) = managed::stale_form(visit.lang, form, version) {
        return invalid(console, visit, name, stale, None).await;
    }
    match (form::read(visit.lang, form, table), preview::asked(form)) {
        (Ok(table), None) => {
            write(console, visit, Edit { name, version, table: &table }, Some(form)).await
        }
        (Ok(table), Some(wanted)) => {
            let shown =
                preview_typed(console, visit, Typing { name, table: &table, wanted }).await?;
            let view = one::View { typed: Some(form), ..one::View::of(name) };
            match shown {
                Ok(shown) => {
                    let view = one::View { preview: Some(shown), ..view };
                    one::page(console, visit, &view).await
                }
                Err(errors) => invalid(console, visit, name, errors, Some(form)).await,
            }
        }
        (Err(errors), _) => invalid(console, visit, name, errors, Some(form)).await,
    }
}

/// A destination as it was typed, and the event to preview it with.
#[derive(Clone, Copy)]
struct Typing<'t> {
    name: &'t str,
    table: &'t Table,
    wanted: preview::Wanted<'t>,
}

/// The request that a destination with these values would get.
async fn preview_typed(
    console: &Console,
    visit: &Visit,
    typing: Typing<'_>,
) -> Result<Result<Markup, FormErrors>, PageError> {
    let Typing { name, table, wanted } = typing;
    match config::check_destination(&console.config(), name, table) {
        Ok(destination) => preview::of_destination(console, visit.lang, &destination, wanted).await,
        Err(issues) => Ok(Err(FormErrors::of_check(issues))),
    }
}

/// Removes all secrets but the newest.
async fn end_old_secrets(
    console: &Console,
    visit: &Visit,
    name: &str,
    form: &Fields,
) -> PageResult {
    let (mut table, _) = stored(console, name)?;
    if let Some(newest) = form::secrets(&table).into_iter().next() {
        table.insert(String::from("secret"), newest);
    }
    let edit = Edit { name, version: managed::version_of(form), table: &table };
    write(console, visit, edit, None).await
}

/// Pauses a destination of any origin; the document does not contain the pause.
async fn pause(console: &Console, visit: &Visit, name: &str, reason: Option<&str>) -> PageResult {
    let (registry, control) = (&console.tools.registry, &console.tools.control);
    let (target, who) = (TargetId::from(name), &visit.viewer.who);
    control.condition(&target).await.ok_or(PageError::Absent)?;
    let reason = reason.map(|text| &text[..text.floor_char_boundary(REASON_BYTES_MAX)]);
    operator::pause(registry, control, who, &target, reason).await?;
    Ok(Reply::Redirect(Done::Paused.at(&path_of(name))))
}

async fn resume(console: &Console, visit: &Visit, name: &str) -> PageResult {
    let (registry, control) = (&console.tools.registry, &console.tools.control);
    let (target, who) = (TargetId::from(name), &visit.viewer.who);
    control.condition(&target).await.ok_or(PageError::Absent)?;
    operator::resume(registry, control, who, &target).await?;
    Ok(Reply::Redirect(Done::Resumed.at(&path_of(name))))
}

async fn test(console: &Console, visit: &Visit, name: &str, form: &Fields) -> PageResult {
    let text = |field: &str| form.text(field).map(str::to_owned);
    let event = TestEvent {
        source: text("source"),
        user: text("user"),
        item: text("item"),
        amount: text("amount"),
        ..TestEvent::default()
    };
    let (registry, control) = (&console.tools.registry, &console.tools.control);
    let tried = try_out(registry, control, &visit.viewer.who, name, event).await;
    let tried = match tried {
        Ok(tried) => tried,
        Err(TestDeliveryError::Absent) => return Err(PageError::Absent),
        Err(TestDeliveryError::Off) => return Err(PageError::Bad(DELIVERIES_OFF)),
        Err(TestDeliveryError::Forward) => return Err(PageError::Bad(FORWARD)),
        Err(TestDeliveryError::Unwritten) => return Err(PageError::Bad(UNWRITTEN)),
        Err(TestDeliveryError::Unnoted(error)) => return Err(error.into()),
    };
    let view = one::View { tried: Some(tried), ..one::View::of(name) };
    one::page(console, visit, &view).await
}

async fn delete(console: &Console, visit: &Visit, name: &str, form: &Fields) -> PageResult {
    stored(console, name)?;
    let expected = Precondition::OneOf(vec![managed::version_of(form)]);
    let who = &visit.viewer.who;
    match console.tools.registry.remove(who, Managed::Destination, name, &expected).await {
        Ok(()) => Ok(Reply::Redirect(Done::Deleted.at(PATH))),
        Err(error) => invalid(console, visit, name, write_error(visit.lang, error)?, None).await,
    }
}
