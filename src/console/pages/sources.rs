//! Sources: list, creation, editing, pausing, deletion.

mod form;
mod one;
mod secrets;

use std::sync::Arc;

use maud::{Markup, html};
use serde_json::{Value, json};

use crate::config::{self, Config, Origin, Source, Table};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form as forms;
use crate::console::components::form::{Field, FormValues};
use crate::console::components::notice::{Tone, notice};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::value;
use crate::console::fields::{Fields, segment};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{self, Done, Edit, FormErrors, write_error};
use crate::console::pages::preview;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::registry::{Managed, Precondition, RunningConfig};

texts! {
    INTRODUCTION = "A source is the endpoint of one sender. Sources of the configuration file are changed in the file, all others here.",
        "来源是供一个发送方调用的端点。配置文件中的来源在文件中更改，其余在此更改。";
    ALL = "Sources", "来源";
    NONE = "No sources. Create one below.", "尚无来源，请在下方创建。";
    SENDER = "Sender", "发送方";
    STATE = "State", "状态";
    ORIGIN = "Origin", "定义位置";
    DESTINATIONS = "Destinations", "投递目标";
    UNCONFIRMED = "Unconfirmed", "未经平台证实";
    ACTIVE = "Active", "已启用";
    PAUSED = "Paused", "已暂停";
    INACTIVE = "Inactive", "未运行";
    NEW = "New source", "新建来源";
    NEW_OF = "New source: {}", "新建来源：{}";
    CHOOSE = "Sender", "发送方";
    GO = "Continue", "继续";
    NO_SENDER = "Unknown sender.", "发送方不存在。";
    NO_SOURCE = "No source {}", "没有来源 {}";
}

const PATH: &str = Area::Sources.path();

/// The state of a source, including one that the current configuration check rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Active,
    Paused,
    Inactive,
}

impl State {
    fn of(source: Option<&Source>) -> Self {
        match source {
            Some(source) if source.enabled => Self::Active,
            Some(_) => Self::Paused,
            None => Self::Inactive,
        }
    }

    const fn words(self) -> (&'static str, Text) {
        match self {
            Self::Active => ("on", ACTIVE),
            Self::Paused => ("paused", PAUSED),
            Self::Inactive => ("broken", INACTIVE),
        }
    }

    fn badge(self, lang: Lang) -> Markup {
        let (class, word) = self.words();
        html! { span.badge.(class) { (word.of(lang)) } }
    }
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] if visit.query.text("new").is_some() => new_page(console, visit),
        [] => Ok(all(console, visit)),
        [name] => one::page(console, visit, &one::View::of(name)).await,
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest().as_slice() {
        [] => create(console, visit, form).await,
        [name] => change(console, visit, name, form).await,
        [name, "pause"] => switch(console, visit, name, json!(false), Done::Paused).await,
        [name, "resume"] => switch(console, visit, name, json!(true), Done::Resumed).await,
        [name, "rotate"] => secrets::rotate(console, visit, name, form).await,
        [name, "end"] => secrets::end(console, visit, name, form).await,
        [name, "delete"] => delete(console, visit, name, form).await,
        _ => Err(PageError::Absent),
    }
}

/// The path of a source.
pub(crate) fn path_of(name: &str) -> String {
    format!("{PATH}/{}", segment(name))
}

/// A notice if the query asks for a source that does not exist: nothing can match.
pub(crate) fn unknown(console: &Console, visit: &Visit) -> Markup {
    let asked = visit.query.text("source");
    let unknown = asked.filter(|name| !console.config().sources.contains_key(*name));
    match unknown {
        Some(name) => notice(Tone::Bad, &NO_SOURCE.fill(visit.lang, &[&name])),
        None => html! {},
    }
}

// === The list ===

fn all(console: &Console, visit: &Visit) -> Reply {
    let lang = visit.lang;
    let state = console.tools.registry.running();
    let names = state.list(Managed::Source);
    let rows: Vec<_> = names
        .iter()
        .filter_map(|shown| shown["name"].as_str())
        .filter(|name| console.view().sees_named(name))
        .map(|name| row(lang, &state, name))
        .collect();
    let columns = [managed::NAME_LABEL, SENDER, STATE, DESTINATIONS, ORIGIN, UNCONFIRMED];
    let middle = html! {
        (managed::done(visit))
        p { (INTRODUCTION.of(lang)) }
        (DataTable::new(Caption::Hidden(ALL.of(lang)), &columns, NONE).show(lang, &rows))
        h2 { (NEW.of(lang)) }
        @if visit.viewer.may_change() { (sender_choice(console, lang)) }
        @else { (forms::change(visit, PATH, &html! {})) }
    };
    Reply::Page(Area::Sources.title().of(lang).to_owned(), middle)
}

fn row(lang: Lang, state: &RunningConfig, name: &str) -> Vec<Markup> {
    let source = state.config.sources.get(name);
    let destinations = source.map_or_else(String::new, |source| source.destinations.join(", "));
    let unconfirmed = source.map_or(0, |source| source.recipe.sender().unconfirmed().len());
    let origin = source.map_or(Origin::Admin, |source| source.origin);
    vec![
        html! { a href=(path_of(name)) { (value::short(name)) } },
        value::maybe(source.map(|source| source.recipe.sender().name())),
        State::of(source.map(Arc::as_ref)).badge(lang),
        value::short(&destinations),
        html! { (managed::origin(origin).of(lang)) },
        html! { @if unconfirmed > 0 { (unconfirmed) } },
    ]
}

fn sender_choice(console: &Console, lang: Lang) -> Markup {
    let config = console.config();
    let senders: Vec<(&str, String)> = config
        .catalog
        .iter()
        .map(|sender| (sender.name(), format!("{} – {}", sender.name(), sender.title())))
        .collect();
    let options: Vec<(&str, &str)> =
        senders.iter().map(|(name, title)| (*name, title.as_str())).collect();
    forms::ask(
        PATH,
        &html! {
            (Field::new("new", CHOOSE).show_choice(lang, &options))
            button type="submit" { (GO.of(lang)) }
        },
    )
}

// === Creation ===

fn new_page(console: &Console, visit: &Visit) -> PageResult {
    if !visit.viewer.may_change() {
        return Err(PageError::ReadOnly);
    }
    let sender = visit.query.text("new").unwrap_or_default();
    let (title, middle) =
        form::new(console, visit, sender, &FormErrors::default(), &FormValues::nothing())?;
    Ok(Reply::Page(title, middle))
}

async fn create(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let config = console.config();
    let sender_name = form.text("sender").unwrap_or_default();
    let sender = config.catalog.get(sender_name).ok_or(PageError::Bad(NO_SENDER))?;
    let name = form.text("name").unwrap_or_default();
    let mut start = Table::new();
    start.insert(String::from("sender"), json!(sender_name));
    let (mut table, mut errors) = form::read_all(visit.lang, form, sender, start);
    if let Some(secret) = form.text("secret") {
        table.insert(String::from("secrets"), json!([{ "value": secret }]));
    }
    // All errors are shown together.
    if !errors.is_empty()
        && let Err(issues) = config::check_new_source(&config, "", name, &table)
    {
        errors.extend(FormErrors::of_check(issues));
    }
    let put = match errors.is_empty() {
        true => {
            let put = console.tools.registry.put(
                &visit.viewer.who,
                Managed::Source,
                name,
                &table,
                &Precondition::Absent,
            );
            match put.await {
                Ok(written) => Ok(written),
                Err(error) => Err(managed::creation_error(visit.lang, name, error)?),
            }
        }
        false => Err(errors),
    };
    match put {
        Ok(written) => Ok(Reply::Redirect(Done::Created.at(&path_of(&written.name)))),
        Err(errors) => {
            let typed = FormValues::Submitted(form);
            let (title, middle) = form::new(console, visit, sender_name, &errors, &typed)?;
            Ok(Reply::Invalid(title, middle))
        }
    }
}

// === Changes ===

/// The document of a source that the admin API manages, with its version.
fn stored(console: &Console, name: &str) -> Result<(Table, u64), PageError> {
    let state = console.tools.registry.running();
    if let Some(source) = state.config.sources.get(name).filter(|one| one.origin != Origin::Admin) {
        return Err(managed::not_here(source.origin));
    }
    let stored = state.documents.sources.get(name).ok_or(PageError::Absent)?;
    Ok((Table::clone(&stored.value), stored.version.0))
}

/// Writes an edited source and redirects to its page, or shows the page with the errors.
async fn write(
    console: &Console,
    visit: &Visit,
    edit: Edit<'_>,
    done: Done,
    form: Option<&Fields>,
) -> PageResult {
    let expected = Precondition::OneOf(vec![edit.version]);
    let who = &visit.viewer.who;
    let registry = &console.tools.registry;
    match registry.put(who, Managed::Source, edit.name, edit.table, &expected).await {
        Ok(written) => Ok(Reply::Redirect(done.at(&path_of(&written.name)))),
        Err(error) => {
            // If another user wrote meanwhile, the current values are shown.
            let form = form.filter(|_| !managed::is_stale(&error));
            invalid(console, visit, edit.name, &write_error(visit.lang, error)?, form).await
        }
    }
}

async fn invalid(
    console: &Console,
    visit: &Visit,
    name: &str,
    errors: &FormErrors,
    form: Option<&Fields>,
) -> PageResult {
    let view = one::View { errors: errors.clone(), typed: form, ..one::View::of(name) };
    one::page(console, visit, &view).await.map(Reply::invalid)
}

async fn change(console: &Console, visit: &Visit, name: &str, form: &Fields) -> PageResult {
    let (mut table, version) = stored(console, name)?;
    if let Some(stale) = managed::stale_form(visit.lang, form, version) {
        return invalid(console, visit, name, &stale, None).await;
    }
    let config = console.config();
    let sender = sender_of(&config, &table).ok_or(PageError::Bad(NO_SENDER))?;
    if let Some(wanted) = form.text("name") {
        table.insert(String::from("name"), json!(wanted));
    }
    match form::read(visit.lang, form, sender, table) {
        Ok(table) if let Some(wanted) = preview::asked(form) => {
            let checked = config::check_source(&config, name, &table);
            let shown = match checked {
                Ok(source) => preview::of_source(console, visit.lang, &source, wanted).await?,
                Err(issues) => Err(FormErrors::of_check(issues)),
            };
            match shown {
                Ok(shown) => {
                    let view = one::View {
                        preview: Some(shown),
                        typed: Some(form),
                        ..one::View::of(name)
                    };
                    one::page(console, visit, &view).await
                }
                Err(errors) => invalid(console, visit, name, &errors, Some(form)).await,
            }
        }
        Ok(table) => {
            let edit = Edit { name, version, table: &table };
            write(console, visit, edit, Done::Saved, Some(form)).await
        }
        Err(errors) => invalid(console, visit, name, &errors, Some(form)).await,
    }
}

fn sender_of<'c>(config: &'c Config, table: &Table) -> Option<&'c Arc<crate::sender::Sender>> {
    let name = table.get("sender").and_then(Value::as_str)?;
    config.catalog.get(name)
}

async fn switch(
    console: &Console,
    visit: &Visit,
    name: &str,
    enabled: Value,
    done: Done,
) -> PageResult {
    let (mut table, version) = stored(console, name)?;
    table.insert(String::from("enabled"), enabled);
    write(console, visit, Edit { name, version, table: &table }, done, None).await
}

async fn delete(console: &Console, visit: &Visit, name: &str, form: &Fields) -> PageResult {
    stored(console, name)?;
    let expected = Precondition::OneOf(vec![managed::version_of(form)]);
    let who = &visit.viewer.who;
    match console.tools.registry.remove(who, Managed::Source, name, &expected).await {
        Ok(()) => Ok(Reply::Redirect(Done::Deleted.at(PATH))),
        Err(error) => invalid(console, visit, name, &write_error(visit.lang, error)?, None).await,
    }
}
