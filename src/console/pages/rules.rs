//! Reward rules of the reward-rule API: list, creation, editing, pausing, deletion. The console writes
//! the same documents as the API.

mod form;

use std::sync::Arc;

use maud::{Markup, html};

use self::form::Typed;
use crate::config::MASK;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::form as forms;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::{Fields, query};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{self, Done, FormErrors, deletion};
use crate::console::pages::{destinations, sources};
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::console::{attempt_error, ignored};
use crate::operator::url_of;
use crate::partners::reward_rules::document::{REWARD_RULE, Rule, RuleStatus};
use crate::partners::reward_rules::edit::{self as rules, RULES_MAX};
use crate::partners::reward_rules::plan::rule_name;
use crate::registry::{ChangeError, RunningConfig, StoredDocument};

texts! {
    INTRODUCTION = "A reward rule is a source of Taku (TopOn) with its own key; its reward address is the destination. Its publisher manages it over the reward-rule API; you can also manage it here.",
        "奖励规则是使用独立密钥的 Taku（TopOn）来源，奖励地址即投递目标。发布者可通过奖励规则接口管理，您也可在此管理。";
    UNSERVED = "[manage.reward_rule] is not configured. Add it to the configuration to create rules.",
        "未配置 [manage.reward_rule]。请先在配置中添加，再创建规则。";
    ALL = "Reward rules", "奖励规则";
    NONE = "No reward rules. Create one to get an address for Taku.", "尚无奖励规则。创建一条即可得到供 Taku 使用的地址。";
    NUMBER = "Number", "编号";
    NAME = "Name", "名称";
    PUBLISHER = "Publisher", "发布者";
    REWARD = "Reward", "奖励";
    URL = "Reward address", "奖励地址";
    STATE = "State", "状态";
    RUNNING = "Active", "运行中";
    STOPPED = "Paused", "已暂停";
    REMARK = "Remark", "备注";
    KEY = "Key", "密钥";
    CHANGED = "Changed", "最后更改";
    PASTE = "URL for Taku's console", "粘贴到 Taku 后台的 URL";
    BEHIND = "This rule is the source {} and the destination of the same name.", "此规则对应来源 {} 和同名投递目标。";
    TO_SOURCE = "Source", "来源";
    TO_DESTINATION = "Destination", "投递目标";
    NEW = "Create reward rule", "创建奖励规则";
    PAUSE = "Pause rule", "暂停规则";
    RESUME = "Resume rule", "恢复规则";
    CHANGE = "Edit", "编辑";
    SAVE = "Save changes", "保存更改";
    DELETE = "Delete rule", "删除规则";
    DELETE_HINT = "Its URL then returns 404, and its number is not used again.", "删除后其 URL 返回 404，编号不再使用。";
    TOO_MANY = "the limit of reward rules is reached", "奖励规则已达上限";
    NO_PROBE = "The test call to the address failed: {}", "测试调用该地址失败：{}";
}

const PATH: &str = Area::Rules.path();

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] if visit.query.text("new").is_some() => new_page(console, visit),
        [] => Ok(all(console, visit)),
        [number] => one(console, visit, number_of(number)?, &FormErrors::default(), None),
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest().as_slice() {
        [] => create(console, visit, form).await,
        [number] => change(console, visit, number_of(number)?, form).await,
        [number, "pause"] => switch(console, visit, number_of(number)?, RuleStatus::Stopped).await,
        [number, "resume"] => switch(console, visit, number_of(number)?, RuleStatus::Running).await,
        [number, "delete"] => delete(console, visit, number_of(number)?, form).await,
        _ => Err(PageError::Absent),
    }
}

fn number_of(text: &str) -> Result<u64, PageError> {
    text.parse().map_err(|_| PageError::Absent)
}

fn path_of(id: u64) -> String {
    format!("{PATH}/{id}")
}

fn state(lang: Lang, status: RuleStatus) -> Markup {
    let (class, word) = match status {
        RuleStatus::Running => ("on", RUNNING),
        RuleStatus::Stopped => ("paused", STOPPED),
    };
    html! { span.badge.(class) { (word.of(lang)) } }
}

// === The list ===

fn all(console: &Console, visit: &Visit) -> Reply {
    let lang = visit.lang;
    let state_now = console.tools.registry.running();
    let rows: Vec<_> = state_now
        .documents
        .rules
        .iter()
        .map(|(id, StoredDocument { value: rule, .. })| {
            vec![
                html! { a href=(path_of(*id)) { (id) } },
                value::short(&rule.rule_name),
                state(lang, rule.status),
                html! { (rule.reward_number) " × " (value::short(&rule.reward_name)) },
                value::short(&rule.reward_url),
                value::short(&rule.publisher),
            ]
        })
        .collect();
    let columns = [NUMBER, NAME, STATE, REWARD, URL, PUBLISHER];
    let served = state_now.config.manage.reward_rule.is_some();
    let middle = html! {
        (managed::done(visit))
        p { (INTRODUCTION.of(lang)) }
        @if !served { (notice(Tone::Plain, UNSERVED.of(lang))) }
        (DataTable::new(Caption::Hidden(ALL.of(lang)), &columns, NONE).show(lang, &rows))
        @if !visit.viewer.may_change() { (forms::change(visit, PATH, &html! {})) }
        @else if served { p { a.button href={ (PATH) (query(&[("new", "yes")])) } { (NEW.of(lang)) } } }
    };
    Reply::Page(Area::Rules.title().of(lang).to_owned(), middle)
}

// === Creation ===

fn new_page(console: &Console, visit: &Visit) -> PageResult {
    if !visit.viewer.may_change() {
        return Err(PageError::ReadOnly);
    }
    let middle = form::new(console, visit, &FormErrors::default(), &Typed::Nothing)?;
    Ok(Reply::Page(NEW.of(visit.lang).to_owned(), middle))
}

async fn create(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    let lang = visit.lang;
    match tried_create(console, visit, form).await? {
        Ok(id) => Ok(Reply::Redirect(Done::Created.at(&path_of(id)))),
        Err(errors) => {
            let middle = form::new(console, visit, &errors, &Typed::Form(form))?;
            Ok(Reply::Invalid(NEW.of(lang).to_owned(), middle))
        }
    }
}

async fn tried_create(
    console: &Console,
    visit: &Visit,
    form: &Fields,
) -> Result<Result<u64, FormErrors>, PageError> {
    let read = form::read_new(visit.lang, &console.config(), form);
    let rule = match read {
        Ok(rule) => rule,
        Err(errors) => return Ok(Err(errors)),
    };
    if let Err(errors) = try_out(console, visit.lang, &rule.reward_url).await? {
        return Ok(Err(errors));
    }
    let written = console.tools.registry.write(&visit.viewer.who, |state, draft| {
        if state.documents.rules.len() >= RULES_MAX {
            return Err(ChangeError::Refused(FormErrors::one("", TOO_MANY.of(visit.lang))));
        }
        let id = draft.rule_number();
        rules::put(draft, id, None, &rule)?;
        Ok(id)
    });
    form_result(written.await)
}

/// Makes the test call to the address of a rule, as Taku does when a rule is saved.
async fn try_out(
    console: &Console,
    lang: Lang,
    url: &str,
) -> Result<Result<(), FormErrors>, PageError> {
    let config = console.config();
    let failures = rules::try_out(&config, vec![url]).await;
    let failures = failures.map_err(|why| PageError::BadBecause(NO_PROBE.fill(lang, &[&why])))?;
    Ok(match failures.get(url).cloned().flatten() {
        Some(why) => {
            let why = attempt_error::words(lang, &why);
            Err(FormErrors::one("reward_url", NO_PROBE.fill(lang, &[&why])))
        }
        None => Ok(()),
    })
}

fn form_result<T>(
    written: Result<T, ChangeError<FormErrors>>,
) -> Result<Result<T, FormErrors>, PageError> {
    match written {
        Ok(done) => Ok(Ok(done)),
        Err(ChangeError::Refused(errors)) => Ok(Err(errors)),
        Err(ChangeError::Ledger(error)) => Err(error.into()),
    }
}

// === One ===

fn one(
    console: &Console,
    visit: &Visit,
    id: u64,
    errors: &FormErrors,
    typed: Option<&Fields>,
) -> PageResult {
    let lang = visit.lang;
    let state_now = console.tools.registry.running();
    let stored = state_now.documents.rules.get(&id).ok_or(PageError::Absent)?;
    let rule = &stored.value;
    let all = [
        (STATE, state(lang, rule.status)),
        (NAME, value::whole(&rule.rule_name)),
        (REWARD, html! { (rule.reward_number) " × " (value::whole(&rule.reward_name)) }),
        (URL, value::whole(&rule.reward_url)),
        (REMARK, value::whole(&rule.remark)),
        (PUBLISHER, value::whole(&rule.publisher)),
        (KEY, html! { code { (MASK) } }),
        (CHANGED, html! { (time::time(stored.at_ms)) (lang.clause()) (value::short(&stored.who)) }),
    ];
    let version = stored.version.0;
    // A form of an older version is rejected; the current values are shown.
    let typed = typed.filter(|form| managed::stale_form(lang, form, version).is_none());
    let typed = typed.map_or(Typed::Rule(rule), Typed::Form);
    let middle = html! {
        (managed::done(visit))
        (errors.show(lang))
        (facts(lang, &all))
        (pause_section(visit, id, rule))
        (paste(console, lang, &state_now, id))
        section aria-labelledby="change" {
            h2 #change { (CHANGE.of(lang)) }
            (forms::change(visit, &path_of(id), &html! {
                (managed::version_field(version))
                (form::fields(lang, errors, &typed))
                button type="submit" { (SAVE.of(lang)) }
            }))
            @if visit.viewer.may_change() {
                (deletion(lang, &forms::to(visit, &format!("{}/delete", path_of(id)), &html! {
                    (managed::version_field(version))
                    p.hint { (DELETE_HINT.of(lang)) }
                    button.danger type="submit" { (DELETE.of(lang)) }
                })))
            }
        }
    };
    Ok(Reply::Page(managed::title(Area::Rules, lang, &id.to_string()), middle))
}

fn pause_section(visit: &Visit, id: u64, rule: &Rule) -> Markup {
    let (verb, word) = match rule.status {
        RuleStatus::Running => ("pause", PAUSE),
        RuleStatus::Stopped => ("resume", RESUME),
    };
    html! {
        div.actions {
            (forms::change(visit, &format!("{}/{verb}", path_of(id)), &html! {
                button.quiet type="submit" { (word.of(visit.lang)) }
            }))
        }
    }
}

fn paste(console: &Console, lang: Lang, state: &RunningConfig, id: u64) -> Markup {
    let name = rule_name(id);
    let Some(source) = state.config.sources.get(&name) else {
        return ignored::shown(lang, state.ignored(REWARD_RULE, &id.to_string()));
    };
    html! {
        section aria-labelledby="paste" {
            h2 #paste { (PASTE.of(lang)) }
            div { (value::block(&url_of(&state.config, console.tools.callbacks, source))) }
            p {
                (BEHIND.fill(lang, &[&name])) " "
                a href=(sources::path_of(&name)) { (TO_SOURCE.of(lang)) } (lang.comma())
                a href=(destinations::path_of(&name)) { (TO_DESTINATION.of(lang)) }
            }
        }
    }
}

// === Changes ===

/// Applies `change` to a rule, if its version is still `version`.
async fn write(
    console: &Console,
    visit: &Visit,
    id: u64,
    version: Option<u64>,
    change: impl Fn(&Rule) -> Rule + Send + Sync,
) -> Result<Result<(), FormErrors>, PageError> {
    let written = console.tools.registry.write(&visit.viewer.who, |state, draft| {
        let gone = || ChangeError::Refused(managed::stale(visit.lang));
        let old = state.documents.rules.get(&id).ok_or_else(gone)?;
        if version.is_some_and(|version| version != old.version.0) {
            return Err(gone());
        }
        let rule = change(&old.value);
        if rule != *old.value {
            rules::put(draft, id, Some(old), &rule)?;
        }
        Ok(())
    });
    form_result(written.await)
}

/// A rule with its version.
fn known(console: &Console, id: u64) -> Result<(Arc<Rule>, u64), PageError> {
    let state = console.tools.registry.running();
    let stored = state.documents.rules.get(&id).ok_or(PageError::Absent)?;
    Ok((Arc::clone(&stored.value), stored.version.0))
}

async fn change(console: &Console, visit: &Visit, id: u64, form: &Fields) -> PageResult {
    let (old, version) = known(console, id)?;
    if let Some(stale) = managed::stale_form(visit.lang, form, version) {
        return invalid(console, visit, id, &stale, None);
    }
    let done = match form::read(form) {
        Err(errors) => Err(errors),
        Ok(wanted) => {
            let tried = match wanted.reward_url == old.reward_url {
                true => Ok(()),
                false => try_out(console, visit.lang, &wanted.reward_url).await?,
            };
            match tried {
                Err(errors) => Err(errors),
                Ok(()) => {
                    let changed = |old: &Rule| form::changed(old, &wanted);
                    write(console, visit, id, Some(version), changed).await?
                }
            }
        }
    };
    match done {
        Ok(()) => Ok(Reply::Redirect(Done::Saved.at(&path_of(id)))),
        Err(errors) => invalid(console, visit, id, &errors, Some(form)),
    }
}

fn invalid(
    console: &Console,
    visit: &Visit,
    id: u64,
    errors: &FormErrors,
    typed: Option<&Fields>,
) -> PageResult {
    one(console, visit, id, errors, typed).map(Reply::invalid)
}

async fn switch(console: &Console, visit: &Visit, id: u64, status: RuleStatus) -> PageResult {
    known(console, id)?;
    let changed = |old: &Rule| Rule { status, ..old.clone() };
    match write(console, visit, id, None, changed).await? {
        Ok(()) => {
            let done = if status == RuleStatus::Running { Done::Resumed } else { Done::Paused };
            Ok(Reply::Redirect(done.at(&path_of(id))))
        }
        Err(errors) => invalid(console, visit, id, &errors, None),
    }
}

async fn delete(console: &Console, visit: &Visit, id: u64, form: &Fields) -> PageResult {
    known(console, id)?;
    let written = console.tools.registry.write(&visit.viewer.who, |state, draft| {
        if let Some(old) = state.documents.rules.get(&id) {
            match managed::stale_form(visit.lang, form, old.version.0) {
                Some(stale) => return Err(ChangeError::Refused(stale)),
                None => rules::delete(draft, id, old),
            }
        }
        Ok(())
    });
    match form_result(written.await)? {
        Ok(()) => Ok(Reply::Redirect(Done::Deleted.at(PATH))),
        Err(errors) => invalid(console, visit, id, &errors, None),
    }
}
