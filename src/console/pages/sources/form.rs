//! The form of a source: the keys that its sender supports.

use std::sync::Arc;

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{NEW_OF, NO_SENDER, PATH, SENDER};
use crate::config::{Config, Origin, Table};
use crate::console::app::Console;
use crate::console::components::form as forms;
use crate::console::components::form::{Field, FormValues};
use crate::console::components::notice::{Tone, notice};
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{FormErrors, NAME_LABEL};
use crate::console::sender_texts;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::sender::{Sender, Terms};

texts! {
    NAME_HINT = "The last part of the URL: /callback/NAME. Letters, digits, dots, dashes and underscores.",
        "URL 的末段：/callback/名称。可用字母、数字、点、短横线和下划线。";
    RENAME_HINT = "A new name changes the URL: paste it into the sender's console again. Known transactions are kept.",
        "改名后 URL 随之改变，请重新粘贴到发送方后台。已知的交易会保留。";
    SECRET = "Secret", "密钥";
    SECRET_HINT = "Not shown again. Surrounding spaces are removed.", "保存后不再显示。首尾空格会被去除。";
    SETTING = "Setting", "设置";
    KEPT = "If empty, the value is not changed.", "留空则不更改。";
    FORGET = "Remove", "移除";
    BOTH = "has a new value and is marked for removal: choose one", "既填写了新值又标记为移除，请二选一";
    TEMPLATE = "Template of custom parameters", "自定义参数模板";
    TEMPLATE_HINT = "For example type=1&who={user_id}. The event carries the resolved values.", "例如 type=1&who={user_id}。事件会携带解析后的值。";
    ALLOW = "Allowed addresses", "允许的地址";
    ALLOW_HINT = "Addresses or ranges, separated by spaces. sender stands for the addresses that the sender publishes. If empty, all are allowed.",
        "地址或网段，以空格分隔。sender 表示发送方公布的地址。留空表示不限。";
    MAX_AGE = "Maximum age", "最大时效";
    MAX_AGE_HINT = "For example 10m, or off. If empty, the sender's contract applies.", "例如 10m 或 off。留空则按发送方的对接约定。";
    RATE = "Rate limit", "限速";
    RATE_HINT = "For example 500/s. If empty, there is no limit.", "例如 500/s。留空表示不限。";
    REQUIRE = "Required parameters", "必需参数";
    REQUIRE_HINT = "Names, separated by spaces.", "名称，以空格分隔。";
    UNSIGNED = "Accept callbacks without a signature", "接受无签名的回调";
    UNSIGNED_HINT = "If you accept them, limit the allowed addresses, or choose a name that cannot be guessed.",
        "启用后请限制允许的地址，或使用无法猜到的名称。";
    DESTINATIONS = "Destinations", "投递目标";
    FURTHER = "Other keys, as JSON", "其他键（JSON）";
    FURTHER_HINT = "params, rewards, reply, body and id, as in the configuration file.", "params、rewards、reply、body 和 id，含义与配置文件相同。";
    OWN_FIELD = "has its own field above", "在上方有单独的字段";
    NO_JSON = "must be a JSON object", "必须是 JSON 对象";
    CREATE = "Create source", "创建来源";
    UNCONFIRMED = "Not confirmed by the platform: {}", "未经平台证实：{}";
}

/// Keys with their own field, or that are set elsewhere.
const OWN: [&str; 12] = [
    "name",
    "sender",
    "secrets",
    "destinations",
    "template",
    "allow",
    "max_age",
    "rate",
    "require",
    "unsigned",
    "enabled",
    Terms::KEY_SET_URL,
];

fn shown_destinations(values: &FormValues<'_>) -> Vec<String> {
    match values {
        FormValues::Submitted(form) => form.all("destinations").map(str::to_owned).collect(),
        FormValues::Stored(table) => {
            let texts = |value: &Value| value.as_str().map(str::to_owned);
            match table.get("destinations") {
                Some(Value::Array(list)) => list.iter().filter_map(texts).collect(),
                Some(one) => texts(one).into_iter().collect(),
                None => Vec::new(),
            }
        }
    }
}

fn shown_further(values: &FormValues<'_>, sender: &Sender) -> String {
    match values {
        FormValues::Submitted(form) => form.verbatim("further").unwrap_or_default().to_owned(),
        FormValues::Stored(table) => {
            let mut rest = table.clone();
            rest.retain(|key, _| !has_field(sender, key) && key != "id");
            if rest.is_empty() {
                String::new()
            } else {
                serde_json::to_string_pretty(&rest).unwrap_or_default()
            }
        }
    }
}

fn has_field(sender: &Sender, key: &str) -> bool {
    OWN.contains(&key) || sender.settings().iter().any(|(name, _)| name == key)
}

fn is_secret(name: &str) -> bool {
    !name.ends_with("_id")
}

/// The checkbox that removes a hidden setting; without it, an empty field keeps the value.
fn forget(name: &str) -> String {
    format!("forget_{name}")
}

// === Shown ===

/// The page of a new source of `sender`.
pub(super) fn new(
    console: &Console,
    visit: &Visit,
    sender: &str,
    errors: &FormErrors,
    typed: &FormValues<'_>,
) -> Result<(String, Markup), PageError> {
    let (lang, config) = (visit.lang, console.config());
    let sender = config.catalog.get(sender).ok_or(PageError::Bad(NO_SENDER))?;
    let title = NEW_OF.fill(lang, &[&sender.title()]);
    let name = typed.text("name");
    let middle = html! {
        (errors.show(lang))
        @for line in sender.unconfirmed() {
            @let line = sender_texts::translated(lang, line).unwrap_or(line);
            (notice(Tone::Plain, &UNCONFIRMED.fill(lang, &[&line])))
        }
        (forms::change(visit, PATH, &html! {
            input type="hidden" name="sender" value=(sender.name());
            p { (SENDER.of(lang)) (lang.colon()) code { (sender.name()) } }
            (Field { value: &name, hint: Some(NAME_HINT), error: errors.of("name"), ..Field::new("name", NAME_LABEL) }.show(lang))
            @if let Some(about) = sender.secret() {
                (Field {
                    kind: "password", hint: Some(SECRET_HINT), about: Some(about),
                    error: errors.of("secrets"), ..Field::new("secret", SECRET)
                }.show(lang))
            }
            (fields(lang, &config, sender, Entered { errors, typed, stored: &Table::new() }))
            button type="submit" { (CREATE.of(lang)) }
        }))
    };
    Ok((title, middle))
}

/// The name field of a stored source.
pub(super) fn name_field(lang: Lang, name: &str, errors: &FormErrors) -> Markup {
    let error = errors.of("name");
    Field { value: name, hint: Some(RENAME_HINT), error, ..Field::new("name", NAME_LABEL) }
        .show(lang)
}

/// The content of a form: submitted values, errors, and the stored source.
#[derive(Clone, Copy)]
pub(super) struct Entered<'e> {
    pub errors: &'e FormErrors,
    pub typed: &'e FormValues<'e>,
    pub stored: &'e Table,
}

/// The fields of new and stored sources.
pub(super) fn fields(
    lang: Lang,
    config: &Config,
    sender: &Arc<Sender>,
    entered: Entered<'_>,
) -> Markup {
    let Entered { errors, typed, .. } = entered;
    let line = |name, label, hint| {
        let text = typed.text(name);
        Field { value: &text, hint: Some(hint), error: errors.of(name), ..Field::new(name, label) }
            .show(lang)
    };
    let usable = |origin| matches!(origin, Origin::File | Origin::Admin);
    let known = config.destinations.values().filter(|one| usable(one.origin));
    let known: Vec<&str> = known.map(|destination| destination.name.as_str()).collect();
    let chosen = shown_destinations(typed);
    let chosen: Vec<&str> = chosen.iter().map(String::as_str).collect();
    let (unsigned, further) = (typed.text("unsigned"), shown_further(typed, sender));
    html! {
        @for (name, about) in sender.settings() { (setting(lang, name, about, entered)) }
        @if sender.publishes_keys() { (setting(lang, Terms::KEY_SET_URL, "", entered)) }
        @if !known.is_empty() { (forms::boxes(lang, "destinations", DESTINATIONS, &known, &chosen)) }
        (line("template", TEMPLATE, TEMPLATE_HINT))
        (line("allow", ALLOW, ALLOW_HINT))
        (line("max_age", MAX_AGE, MAX_AGE_HINT))
        (line("rate", RATE, RATE_HINT))
        (line("require", REQUIRE, REQUIRE_HINT))
        @if sender.may_be_unsigned() {
            (Field { value: &unsigned, hint: Some(UNSIGNED_HINT), ..Field::new("unsigned", UNSIGNED) }.show_box(lang))
        }
        (Field {
            value: &further, hint: Some(FURTHER_HINT), error: errors.of("further"),
            ..Field::new("further", FURTHER)
        }.show_area(lang, 4))
    }
}

/// A setting of the sender; secret ones are never shown.
fn setting(lang: Lang, name: &str, about: &str, entered: Entered<'_>) -> Markup {
    let Entered { errors, typed, stored } = entered;
    let (secret, error) = (is_secret(name), errors.of(name));
    let text = if secret { String::new() } else { typed.text(name) };
    let (there, forget) = (stored.contains_key(name), forget(name));
    let forgotten = typed.text(&forget);
    let kind = if secret { "password" } else { "text" };
    let hint = (there && secret).then_some(KEPT);
    let about = (!about.is_empty()).then_some(about);
    html! {
        (Field { value: &text, code: Some(name), kind, hint, about, error, ..Field::new(name, SETTING) }.show(lang))
        @if there && secret {
            (Field { value: &forgotten, code: Some(name), ..Field::new(&forget, FORGET) }.show_box(lang))
        }
    }
}

// === Read ===

/// Applies the form to `table`.
pub(super) fn read(
    lang: Lang,
    form: &Fields,
    sender: &Sender,
    table: Table,
) -> Result<Table, FormErrors> {
    let (table, errors) = read_all(lang, form, sender, table);
    if errors.is_empty() { Ok(table) } else { Err(errors) }
}

/// The fields without an error, applied to `table`, and the errors of the others.
pub(super) fn read_all(
    lang: Lang,
    form: &Fields,
    sender: &Sender,
    mut table: Table,
) -> (Table, FormErrors) {
    let mut errors = FormErrors::default();
    for key in ["template", "max_age", "rate"] {
        set(&mut table, key, form.text(key).map(|text| json!(text)));
    }
    for key in ["allow", "require"] {
        let words: Vec<&str> = form
            .text(key)
            .unwrap_or_default()
            .split(|character: char| character.is_whitespace() || character == ',')
            .filter(|word| !word.is_empty())
            .collect();
        set(&mut table, key, (!words.is_empty()).then(|| json!(words)));
    }
    let destinations: Vec<&str> = form.all("destinations").collect();
    set(&mut table, "destinations", (!destinations.is_empty()).then(|| json!(destinations)));
    set(&mut table, "unsigned", form.text("unsigned").map(|_| json!(true)));
    let settings = sender.settings().iter().map(|(name, _)| name.as_str());
    for name in settings.chain(sender.publishes_keys().then_some(Terms::KEY_SET_URL)) {
        match (form.text(name), form.text(&forget(name))) {
            (Some(_), Some(_)) => errors.extend(FormErrors::one(name, BOTH.of(lang))),
            (Some(text), None) => set(&mut table, name, Some(json!(text))),
            (None, None) if is_secret(name) => {}
            (None, _) => set(&mut table, name, None),
        }
    }
    table.retain(|key, _| has_field(sender, key) || key == "id");
    match further(lang, form, sender) {
        Ok(further) => table.extend(further),
        Err(error) => errors.extend(error),
    }
    (table, errors)
}

fn set(table: &mut Table, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(table.insert(key.to_owned(), value)),
        None => drop(table.remove(key)),
    }
}

fn further(lang: Lang, form: &Fields, sender: &Sender) -> Result<Table, FormErrors> {
    let Some(text) = form.text("further") else { return Ok(Table::new()) };
    let read: Table = serde_json::from_str(text)
        .map_err(|error| FormErrors::one("further", format!("{}: {error}", NO_JSON.of(lang))))?;
    match read.keys().find(|key| has_field(sender, key)) {
        Some(key) => Err(FormErrors::one("further", format!("{key} {}", OWN_FIELD.of(lang)))),
        None => Ok(read),
    }
}
