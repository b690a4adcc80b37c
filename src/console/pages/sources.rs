//! Sources: list, creation, editing, pausing, deletion.

mod form;
mod one;
mod secrets;

use std::sync::Arc;

use maud::{Markup, html};
use serde_json::{Value, json};

use self::form::Typed;
use crate::config::{Config, Origin, Source, Table};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form as forms;
use crate::console::components::form::Field;
use crate::console::components::{table, value};
use crate::console::fields::{Fields, segment};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{self, Done, Edit, FormErrors, refused};
use crate::console::reply::{Reply, Shown};
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
    UNCONFIRMED = "Unconfirmed", "未证实项";
    ON = "Active", "已启用";
    OFF = "Paused", "已暂停";
    LEFT_OUT = "Inactive", "未运行";
    NEW = "New source", "新建来源";
    NEW_OF = "New source: {}", "新建来源：{}";
    CHOOSE = "Sender", "发送方";
    GO = "Continue", "继续";
    NO_SENDER = "Unknown sender.", "发送方不存在。";
}

const PATH: &str = Area::Sources.path();

/// The state of a source, including one that the current configuration check rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    On,
    Off,
    LeftOut,
}

impl State {
    fn of(source: Option<&Source>) -> Self {
        match source {
            Some(source) if source.enabled => Self::On,
            Some(_) => Self::Off,
            None => Self::LeftOut,
        }
    }

    const fn words(self) -> (&'static str, Text) {
        match self {
            Self::On => ("on", ON),
            Self::Off => ("paused", OFF),
            Self::LeftOut => ("broken", LEFT_OUT),
        }
    }

    fn badge(self, lang: Lang) -> Markup {
        let (class, word) = self.words();
        html! { span.badge.(class) { (word.of(lang)) } }
    }
}

pub async fn get(console: &Console, visit: &Visit) -> Shown {
    match visit.rest().as_slice() {
        [] if visit.query.text("new").is_some() => made_new(console, visit),
        [] => Ok(all(console, visit)),
        [name] => one::page(console, visit, name, &FormErrors::default(), None),
        _ => Err(PageError::Absent),
    }
}

pub async fn post(console: &Console, visit: &Visit, form: &Fields) -> Shown {
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
pub fn path_of(name: &str) -> String {
    format!("{PATH}/{}", segment(name))
}

// === The list ===

fn all(console: &Console, visit: &Visit) -> Reply {
    let lang = visit.lang;
    let state = console.tools.registry.in_force();
    let names = state.list(Managed::Source);
    let rows: Vec<_> = names
        .iter()
        .filter_map(|shown| shown["name"].as_str())
        .map(|name| row(lang, &state, name))
        .collect();
    let columns = [managed::NAME_LABEL, SENDER, STATE, DESTINATIONS, ORIGIN, UNCONFIRMED];
    let middle = html! {
        (managed::done(visit))
        p { (INTRODUCTION.of(lang)) }
        (table::table(lang, ALL.of(lang), &columns, &rows, NONE))
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

fn made_new(console: &Console, visit: &Visit) -> Shown {
    if !visit.viewer.may_change() {
        return Err(PageError::OnlyLooks);
    }
    let sender = visit.query.text("new").unwrap_or_default();
    let (title, middle) =
        form::new(console, visit, sender, &FormErrors::default(), &Typed::nothing())?;
    Ok(Reply::Page(title, middle))
}

async fn create(console: &Console, visit: &Visit, form: &Fields) -> Shown {
    let config = console.config();
    let sender_name = form.text("sender").unwrap_or_default();
    let sender = config.catalog.get(sender_name).ok_or(PageError::Bad(NO_SENDER))?;
    let name = form.text("name").unwrap_or_default();
    let mut start = Table::new();
    start.insert(String::from("sender"), json!(sender_name));
    let written = form::read(visit.lang, form, sender, start);
    let put = match written {
        Ok(mut table) => {
            if let Some(secret) = form.text("secret") {
                table.insert(String::from("secrets"), json!([{ "value": secret }]));
            }
            let put = console.tools.registry.put(
                &visit.viewer.who,
                (Managed::Source, name),
                &table,
                &Precondition::Absent,
            );
            match put.await {
                Ok(written) => Ok(written),
                Err(failed) => Err(managed::refused_new(visit.lang, name, failed)?),
            }
        }
        Err(mistakes) => Err(mistakes),
    };
    match put {
        Ok(written) => Ok(Reply::Go(Done::Made.at(&path_of(&written.name)))),
        Err(mistakes) => {
            let typed = Typed::of(form);
            let (title, middle) = form::new(console, visit, sender_name, &mistakes, &typed)?;
            Ok(Reply::Mistaken(title, middle))
        }
    }
}

// === Changes ===

/// The document of a source that the admin API manages, with its version.
fn kept(console: &Console, name: &str) -> Result<(Table, u64), PageError> {
    let state = console.tools.registry.in_force();
    if let Some(source) = state.config.sources.get(name).filter(|one| one.origin != Origin::Admin) {
        return Err(managed::not_here(source.origin));
    }
    let kept = state.documents.sources.get(name).ok_or(PageError::Absent)?;
    Ok((Table::clone(&kept.value), kept.version.0))
}

/// Writes an edited source and redirects to its page, or shows the page with the errors.
async fn write(
    console: &Console,
    visit: &Visit,
    edit: Edit<'_>,
    done: Done,
    form: Option<&Fields>,
) -> Shown {
    let expected = Precondition::OneOf(vec![edit.version]);
    let who = &visit.viewer.who;
    let what = (Managed::Source, edit.name);
    match console.tools.registry.put(who, what, edit.table, &expected).await {
        Ok(written) => Ok(Reply::Go(done.at(&path_of(&written.name)))),
        Err(failed) => {
            // If another user wrote meanwhile, the current values are shown.
            let form = form.filter(|_| !managed::is_stale(&failed));
            mistaken(console, visit, edit.name, &refused(visit.lang, failed)?, form)
        }
    }
}

fn mistaken(
    console: &Console,
    visit: &Visit,
    name: &str,
    mistakes: &FormErrors,
    form: Option<&Fields>,
) -> Shown {
    one::page(console, visit, name, mistakes, form).map(Reply::mistaken)
}

async fn change(console: &Console, visit: &Visit, name: &str, form: &Fields) -> Shown {
    let (mut table, version) = kept(console, name)?;
    if let Some(stale) = managed::stale_form(visit.lang, form, version) {
        return mistaken(console, visit, name, &stale, None);
    }
    let config = console.config();
    let sender = sender_of(&config, &table).ok_or(PageError::Bad(NO_SENDER))?;
    if let Some(wanted) = form.text("name") {
        table.insert(String::from("name"), json!(wanted));
    }
    match form::read(visit.lang, form, sender, table) {
        Ok(table) => {
            let edit = Edit { name, version, table: &table };
            write(console, visit, edit, Done::Saved, Some(form)).await
        }
        Err(mistakes) => mistaken(console, visit, name, &mistakes, Some(form)),
    }
}

fn sender_of<'c>(config: &'c Config, table: &Table) -> Option<&'c Arc<crate::sender::Sender>> {
    let name = table.get("sender").and_then(Value::as_str)?;
    config.catalog.get(name)
}

async fn switch(console: &Console, visit: &Visit, name: &str, enabled: Value, done: Done) -> Shown {
    let (mut table, version) = kept(console, name)?;
    table.insert(String::from("enabled"), enabled);
    write(console, visit, Edit { name, version, table: &table }, done, None).await
}

async fn delete(console: &Console, visit: &Visit, name: &str, form: &Fields) -> Shown {
    kept(console, name)?;
    let expected = Precondition::OneOf(vec![managed::version_of(form)]);
    let who = &visit.viewer.who;
    match console.tools.registry.remove(who, (Managed::Source, name), &expected).await {
        Ok(()) => Ok(Reply::Go(Done::Deleted.at(PATH))),
        Err(failed) => mistaken(console, visit, name, &refused(visit.lang, failed)?, None),
    }
}
