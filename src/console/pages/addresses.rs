//! Callback addresses of the callback-address API: one destination per company and assessment. Also
//! lists the push configurations, read-only.

use maud::{Markup, html};

use crate::config::Config;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form as forms;
use crate::console::components::form::Field;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::destinations;
use crate::console::pages::managed::{self, Done, Draft, FormErrors, deletion};
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::partners::callback_addresses::document::Address;
use crate::partners::callback_addresses::edit::{
    self as addresses, Change, Expected, Stale, checked_url, is_count, key,
};
use crate::partners::callback_addresses::settings::CallbackAddresses;
use crate::partners::push_configuration::document::Push;
use crate::registry::{ChangeError, RunningConfig, StoredDocument};

texts! {
    INTRODUCTION = "A callback address receives the verified callbacks of the assessment platform about one company and one assessment. Its manager sets it over the callback-address API; you can also set it here.",
        "回调地址接收测评平台关于某公司某项测评的已验证回调。管理方可通过回调地址接口设置，您也可在此设置。";
    UNSERVED = "[manage.callback_address] is not configured. Add it to the configuration to set addresses.",
        "未配置 [manage.callback_address]。请先在配置中添加，再设置地址。";
    ALL = "Callback addresses", "回调地址";
    NONE = "No address is set. Set one below.", "尚未设置地址，请在下方设置。";
    WHOSE = "Company and assessment", "公司与测评";
    COMPANY = "Company", "公司";
    PREFIX = "Assessment", "测评";
    URL = "Address", "地址";
    URL_HINT = "If empty, callbacks are not forwarded.", "留空则不转发回调。";
    CODES = "Codes left", "剩余邀请码";
    REPORTS = "Reports left", "剩余报告";
    COUNT_HINT = "If empty, the number is not changed.", "留空则不更改。";
    CHANGED = "Changed", "最后更改";
    DELIVERY = "Delivery", "投递";
    SHOW = "State, pause, test", "状态、暂停、测试";
    SET = "Set an address", "设置地址";
    SET_ONE = "Save address", "保存地址";
    CHANGE_ONE = "Address of {}", "地址：{}";
    CLEAR = "Remove address", "移除地址";
    CLEAR_HINT = "Removes the address. The numbers are kept.", "仅移除地址，数量保留。";
    NO_COMPANY = "does not belong to a configured manager", "不属于已配置的管理方";
    NO_PREFIX = "is not a configured assessment", "不是已配置的测评";
    IS_SET = "is already set: change it at {}", "已设置，请在 {} 更改";
    NO_COUNT = "must be a number", "必须是数字";
    PUSHES = "Push configurations", "推送配置";
    PUSH_HINT = "Apps set these over the push-configuration API, with the secret of the app.", "由应用使用其密钥通过推送配置接口设置。";
    NO_PUSH = "No app has set a push configuration.", "没有应用设置过推送配置。";
    APP = "App", "应用";
    FUNCTIONS = "Functions", "云函数";
    CONTAINER = "Container", "云托管";
    ON = "On", "开启";
    OFF = "Off", "关闭";
}

const PATH: &str = Area::Addresses.path();

/// The company and the assessment of an address, as the browser sent them.
#[derive(Clone, Copy)]
struct Owner<'o> {
    company: &'o str,
    prefix: &'o str,
}

impl Owner<'_> {
    fn key(self) -> String {
        format!("{}/{}", self.company, self.prefix)
    }
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] => Ok(all(console, visit, &FormErrors::default(), None)),
        [company, prefix] => {
            let errors = &FormErrors::default();
            one(console, visit, &format!("{company}/{prefix}"), Draft { errors, typed: None })
        }
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest().as_slice() {
        [] => {
            let text = |name| form.text(name).unwrap_or_default();
            let owner = Owner { company: text("company"), prefix: text("prefix") };
            match set(console, visit, owner, form, Expected::Unset).await? {
                Ok(key) => Ok(Reply::Redirect(Done::Saved.at(&format!("{PATH}/{key}")))),
                Err(errors) => Ok(all(console, visit, &errors, Some(form)).invalid()),
            }
        }
        [company, prefix] => {
            let owner = Owner { company, prefix };
            match set(console, visit, owner, form, expected_version(form)).await? {
                Ok(key) => Ok(Reply::Redirect(Done::Saved.at(&format!("{PATH}/{key}")))),
                Err(errors) => {
                    let draft = Draft { errors: &errors, typed: Some(form) };
                    invalid(console, visit, &owner.key(), draft)
                }
            }
        }
        [company, prefix, "clear"] => {
            let (owner, empty) = (Owner { company, prefix }, Fields::default());
            match set(console, visit, owner, &empty, expected_version(form)).await? {
                Ok(_) => Ok(Reply::Redirect(Done::Deleted.at(PATH))),
                Err(errors) => {
                    let draft = Draft { errors: &errors, typed: None };
                    invalid(console, visit, &owner.key(), draft)
                }
            }
        }
        _ => Err(PageError::Absent),
    }
}

// === The list ===

fn all(console: &Console, visit: &Visit, errors: &FormErrors, typed: Option<&Fields>) -> Reply {
    let (lang, state) = (visit.lang, console.tools.registry.running());
    let rows: Vec<_> =
        state.documents.addresses.iter().map(|(key, stored)| row(lang, key, stored)).collect();
    let columns = [WHOSE, URL, CODES, REPORTS, CHANGED, DELIVERY];
    let middle = html! {
        (managed::done(visit))
        (errors.show(lang))
        p { (INTRODUCTION.of(lang)) }
        (DataTable::new(Caption::Hidden(ALL.of(lang)), &columns, NONE).show(lang, &rows))
        section aria-labelledby="set" {
            h2 #set { (SET.of(lang)) }
            @match &state.config.manage.callback_address {
                None => (notice(Tone::Plain, UNSERVED.of(lang))),
                Some(api) => (forms::change(visit, PATH, &html! {
                    (choices(lang, api, errors, typed))
                    (fields(lang, errors, typed, None))
                    button type="submit" { (SET_ONE.of(lang)) }
                })),
            }
        }
        (pushes(lang, &state))
    };
    Reply::Page(Area::Addresses.title().of(lang).to_owned(), middle)
}

fn row(lang: Lang, key: &str, stored: &StoredDocument<Address>) -> Vec<Markup> {
    let Address { notify_url, code_number, report_number } = &*stored.value;
    vec![
        html! { a href={ (PATH) "/" (key) } { (value::short(key)) } },
        value::maybe(notify_url.as_deref()),
        value::maybe(code_number.as_deref()),
        value::maybe(report_number.as_deref()),
        html! { (time::time(stored.at_ms)) (lang.clause()) (value::short(&stored.who)) },
        html! { @if notify_url.is_some() { (delivery(lang, key)) } },
    ]
}

/// Link to the destination of an address.
fn delivery(lang: Lang, key: &str) -> Markup {
    html! {
        a href=(destinations::path_of(&format!("address/{key}"))) aria-label={ (SHOW.of(lang)) ": " (key) } {
            (SHOW.of(lang))
        }
    }
}

fn companies(api: &CallbackAddresses) -> Vec<u64> {
    let mut all: Vec<u64> =
        api.managers.iter().flat_map(|manager| manager.companies.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn choices(
    lang: Lang,
    api: &CallbackAddresses,
    errors: &FormErrors,
    typed: Option<&Fields>,
) -> Markup {
    let text = |name| typed.and_then(|form| form.text(name)).unwrap_or_default();
    let all: Vec<String> = companies(api).iter().map(u64::to_string).collect();
    let all: Vec<(&str, &str)> = all.iter().map(|id| (id.as_str(), id.as_str())).collect();
    let prefixes: Vec<(&str, &str)> =
        api.prefixes.iter().map(|prefix| (prefix.as_str(), prefix.as_str())).collect();
    html! {
        (Field { value: text("company"), error: errors.of("company"), ..Field::new("company", COMPANY) }.show_choice(lang, &all))
        (Field { value: text("prefix"), error: errors.of("prefix"), ..Field::new("prefix", PREFIX) }.show_choice(lang, &prefixes))
    }
}

fn fields(
    lang: Lang,
    errors: &FormErrors,
    typed: Option<&Fields>,
    stored: Option<&Address>,
) -> Markup {
    let current = |name: &str, stored: Option<&String>| match typed {
        Some(form) => form.verbatim(name).unwrap_or_default().to_owned(),
        None => stored.cloned().unwrap_or_default(),
    };
    let url = current("notify_url", stored.and_then(|stored| stored.notify_url.as_ref()));
    let codes = current("code_number", stored.and_then(|stored| stored.code_number.as_ref()));
    let reports = current("report_number", stored.and_then(|stored| stored.report_number.as_ref()));
    let line = |name, label, hint, value| {
        let error = errors.of(name);
        Field { value, hint: Some(hint), error, ..Field::new(name, label) }.show(lang)
    };
    html! {
        (line("notify_url", URL, URL_HINT, &url))
        (line("code_number", CODES, COUNT_HINT, &codes))
        (line("report_number", REPORTS, COUNT_HINT, &reports))
    }
}

// === One ===

fn one(console: &Console, visit: &Visit, key: &str, draft: Draft<'_>) -> PageResult {
    let (lang, state) = (visit.lang, console.tools.registry.running());
    let stored = state.documents.addresses.get(key).ok_or(PageError::Absent)?;
    let version = stored.version.0;
    // A form of an older version is rejected; the current values are shown.
    let stale = draft.typed.and_then(|form| managed::stale_form(lang, form, version));
    let typed = draft.typed.filter(|_| stale.is_none());
    let errors = stale.as_ref().unwrap_or(draft.errors);
    let path = format!("{PATH}/{key}");
    let rows = [row(lang, key, stored)];
    let columns = [WHOSE, URL, CODES, REPORTS, CHANGED, DELIVERY];
    let served = state.config.manage.callback_address.is_some();
    let middle = html! {
        (managed::done(visit))
        (errors.show(lang))
        (DataTable::new(Caption::Hidden(ALL.of(lang)), &columns, NONE).show(lang, &rows))
        @if !served { (notice(Tone::Plain, UNSERVED.of(lang))) }
        @else {
            (forms::change(visit, &path, &html! {
                (managed::version_field(version))
                (fields(lang, errors, typed, Some(&stored.value)))
                button type="submit" { (SET_ONE.of(lang)) }
            }))
            @if visit.viewer.may_change() && stored.value.notify_url.is_some() {
                (deletion(lang, &forms::to(visit, &format!("{path}/clear"), &html! {
                    (managed::version_field(version))
                    p.hint { (CLEAR_HINT.of(lang)) }
                    button.danger type="submit" { (CLEAR.of(lang)) }
                })))
            }
        }
    };
    Ok(Reply::Page(CHANGE_ONE.fill(lang, &[&key]), middle))
}

fn invalid(console: &Console, visit: &Visit, key: &str, draft: Draft<'_>) -> PageResult {
    one(console, visit, key, draft).map(Reply::invalid)
}

// === Set ===

/// Sets the address of a company and an assessment from the form; returns its key.
async fn set(
    console: &Console,
    visit: &Visit,
    owner: Owner<'_>,
    form: &Fields,
    expected: Expected,
) -> Result<Result<String, FormErrors>, PageError> {
    let config = console.config();
    let read = known(visit.lang, &config, owner)
        .and_then(|key| Ok((key, change(visit.lang, &config, form)?)));
    let (key, change) = match read {
        Ok(read) => read,
        Err(errors) => return Ok(Err(errors)),
    };
    let (registry, who) = (&console.tools.registry, &visit.viewer.who);
    match addresses::set(registry, who, &key, expected, &change).await {
        Ok(()) => Ok(Ok(key)),
        Err(ChangeError::Refused(Stale)) => Ok(Err(match expected {
            Expected::Unset => {
                FormErrors::one("prefix", IS_SET.fill(visit.lang, &[&format!("{PATH}/{key}")]))
            }
            Expected::Any | Expected::Version(_) => managed::stale(visit.lang),
        })),
        Err(ChangeError::Ledger(error)) => Err(error.into()),
    }
}

/// The version that the form of an existing address was loaded with.
fn expected_version(form: &Fields) -> Expected {
    Expected::Version(managed::version_of(form))
}

/// The key of an owner, if the configuration has it.
fn known(lang: Lang, config: &Config, owner: Owner<'_>) -> Result<String, FormErrors> {
    let api = config.manage.callback_address.as_ref();
    let company: Option<u64> = owner.company.parse().ok();
    let served = api.filter(|api| company.is_some_and(|id| companies(api).contains(&id)));
    let (Some(api), Some(company)) = (served, company) else {
        return Err(FormErrors::one("company", NO_COMPANY.of(lang)));
    };
    match api.prefixes.iter().any(|known| known == owner.prefix) {
        true => Ok(key(company, owner.prefix)),
        false => Err(FormErrors::one("prefix", NO_PREFIX.of(lang))),
    }
}

fn change(lang: Lang, config: &Config, form: &Fields) -> Result<Change, FormErrors> {
    let count = |name: &str| match form.text(name) {
        None => Ok(None),
        Some(text) if is_count(text) => Ok(Some(text.to_owned())),
        Some(_) => Err(FormErrors::one(name, NO_COUNT.of(lang))),
    };
    let url = checked_url(config, form.text("notify_url").unwrap_or_default());
    Ok(Change {
        notify_url: Some(url.map_err(|why| FormErrors::of_field("notify_url", &why))?),
        code_number: count("code_number")?,
        report_number: count("report_number")?,
    })
}

// === Push configurations ===

fn pushes(lang: Lang, state: &RunningConfig) -> Markup {
    let rows: Vec<_> = state
        .documents
        .pushes
        .iter()
        .map(|(app, stored)| {
            let Push { function_config, container_config } = &*stored.value;
            let on = |enabled| if enabled { ON.of(lang) } else { OFF.of(lang) };
            vec![
                value::short(app),
                html! {
                    (on(function_config.enable))
                    ul { @for one in &function_config.callbacks {
                        li {
                            (value::short(&one.msg_type)) " " (value::short(&one.event)) " → "
                            (value::short(&one.function_name)) (lang.colon()) (on(one.enable))
                        }
                    } }
                },
                html! {
                    (on(container_config.enable)) " "
                    (value::short(&container_config.qbase_env)) " "
                    (value::short(&container_config.qbase_container_path))
                },
                html! { (time::time(stored.at_ms)) (lang.clause()) (value::short(&stored.who)) },
            ]
        })
        .collect();
    html! {
        section aria-labelledby="pushes" {
            h2 #pushes { (PUSHES.of(lang)) }
            p.hint { (PUSH_HINT.of(lang)) }
            (DataTable::new(Caption::Shown(PUSHES.of(lang)), &[APP, FUNCTIONS, CONTAINER, CHANGED], NO_PUSH).show(lang, &rows))
        }
    }
}
