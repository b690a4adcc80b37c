//! The form of a reward rule.

use maud::{Markup, html};
use serde_json::json;

use super::PATH;
use crate::config::Config;
use crate::console::app::Console;
use crate::console::components::form as forms;
use crate::console::components::form::Field;
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{FormErrors, NAME_LABEL};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::partners::reward_rules::document::{Rule, RuleStatus};
use crate::partners::reward_rules::edit::sec_key;
use crate::partners::reward_rules::item::{self, Wanted};

texts! {
    PUBLISHER = "Publisher", "发布者";
    NO_PUBLISHER = "is not a configured publisher", "不是已配置的发布者";
    REWARD_NAME = "Reward name", "奖励名称";
    REWARD_NUMBER = "Reward amount", "奖励数量";
    URL = "Reward address", "奖励地址";
    URL_HINT = "Taku's macros are expanded, for example {user_id}. Saving calls the address once, as a test.",
        "其中的 Taku 宏（如 {user_id}）会被替换。保存时会测试调用一次。";
    REMARK = "Remark", "备注";
    KEY = "Key", "密钥";
    KEY_HINT = "Copy the key into Taku's console before you create the rule. It is not shown again, and each new form has another key.",
        "请在创建前将密钥复制到 Taku 后台。之后不再显示，且每次打开此表单都会生成新的密钥。";
    BAD_KEY = "must be 1 to 256 printable characters without spaces", "必须是 1 到 256 个可打印字符，不含空格";
    CREATE = "Create rule", "创建规则";
    NO_RANDOM = "No randomness from the operating system.", "操作系统无法提供随机数。";
}

/// Longest key, in characters.
const KEY_MAX: usize = 256;

/// The values of the fields.
#[derive(Debug)]
pub(super) enum Typed<'t> {
    Nothing,
    Form(&'t Fields),
    Rule(&'t Rule),
}

impl Typed<'_> {
    fn text(&self, name: &str) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Form(form) => form.verbatim(name).unwrap_or_default().to_owned(),
            Self::Rule(rule) => match name {
                "rule_name" => rule.rule_name.clone(),
                "reward_name" => rule.reward_name.clone(),
                "reward_number" => rule.reward_number.to_string(),
                "reward_url" => rule.reward_url.clone(),
                "remark" => rule.remark.clone(),
                _ => String::new(),
            },
        }
    }
}

/// The page of a new rule, with a generated key.
pub(super) fn new(
    console: &Console,
    visit: &Visit,
    errors: &FormErrors,
    typed: &Typed<'_>,
) -> Result<Markup, PageError> {
    let (lang, config) = (visit.lang, console.config());
    let names = publishers(&config);
    let names: Vec<(&str, &str)> = names.iter().map(|name| (*name, *name)).collect();
    let key = sec_key().ok_or(PageError::Bad(NO_RANDOM))?;
    let publisher = typed.text("publisher");
    Ok(html! {
        (errors.show(lang))
        (forms::change(visit, PATH, &html! {
            (Field { value: &publisher, error: errors.of("publisher"), ..Field::new("publisher", PUBLISHER) }.show_choice(lang, &names))
            (fields(lang, errors, typed))
            (Field { value: &key, hint: Some(KEY_HINT), error: errors.of("key"), ..Field::new("key", KEY) }.show(lang))
            button type="submit" { (CREATE.of(lang)) }
        }))
    })
}

/// The fields of new and stored rules.
pub(super) fn fields(lang: Lang, errors: &FormErrors, typed: &Typed<'_>) -> Markup {
    let line = |name, label, hint| {
        let text = typed.text(name);
        let error = errors.of(name);
        Field { value: &text, hint, error, ..Field::new(name, label) }.show(lang)
    };
    html! {
        (line("rule_name", NAME_LABEL, None))
        (line("reward_name", REWARD_NAME, None))
        (line("reward_number", REWARD_NUMBER, None))
        (line("reward_url", URL, Some(URL_HINT)))
        (line("remark", REMARK, None))
    }
}

fn publishers(config: &Config) -> Vec<&str> {
    let api = config.manage.reward_rule.iter();
    api.flat_map(|api| &api.publishers).map(|publisher| publisher.name.as_str()).collect()
}

/// Reads the form with the checks of the API.
pub(super) fn read(form: &Fields) -> Result<Wanted, FormErrors> {
    let text = |name| Some(json!(form.verbatim(name).unwrap_or_default().trim()));
    let fields = item::Fields {
        rule_name: text("rule_name"),
        reward_name: text("reward_name"),
        reward_number: text("reward_number"),
        reward_url: text("reward_url"),
        remark: text("remark"),
        ..item::Fields::default()
    };
    fields.new_rule().map_err(|error| {
        // Its place says which field it is about.
        let what = error.msg.strip_prefix(error.field).unwrap_or(&error.msg);
        FormErrors::of_field(error.field, what.trim_start())
    })
}

/// Reads a new rule.
pub(super) fn read_new(lang: Lang, config: &Config, form: &Fields) -> Result<Rule, FormErrors> {
    let publisher = form.text("publisher").unwrap_or_default();
    if !publishers(config).contains(&publisher) {
        return Err(FormErrors::one("publisher", NO_PUBLISHER.of(lang)));
    }
    let key = form.text("key").unwrap_or_default();
    let is_key = (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    let Wanted { rule_name, reward_name, reward_number, reward_url, remark } = read(form)?;
    if !is_key {
        return Err(FormErrors::one("key", BAD_KEY.of(lang)));
    }
    Ok(Rule {
        publisher: publisher.to_owned(),
        rule_name,
        reward_name,
        reward_number,
        reward_url,
        reward_sec_key: key.to_owned(),
        remark,
        status: RuleStatus::Running,
    })
}

/// Applies the form to `old`.
pub(super) fn changed(old: &Rule, wanted: &Wanted) -> Rule {
    let Wanted { rule_name, reward_name, reward_number, reward_url, remark } = wanted.clone();
    Rule { rule_name, reward_name, reward_number, reward_url, remark, ..old.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::messages;

    #[test]
    fn errors_do_not_repeat_the_field_and_are_translated() {
        let long = "x".repeat(2000);
        let good = [
            ("rule_name", "r"),
            ("reward_name", "coin"),
            ("reward_number", "1"),
            ("reward_url", "https://a.example/"),
            ("remark", ""),
        ];
        let bad = [
            ("rule_name", "", "为空"),
            ("reward_name", long.as_str(), "过长：最多 30 个字符"),
            ("reward_number", "none", "类型不符：应为 1 到 100000000 的整数"),
            ("reward_number", "0", "超出范围：应为 1 到 100000000 的整数"),
            ("reward_url", "ftp://a.example/", "无法调用：不是 http 或 https 的 URL"),
            ("remark", long.as_str(), "过长：最多 1000 个字符"),
        ];
        for (name, value, wanted) in bad {
            let given = good.map(|(key, usual)| (key, if key == name { value } else { usual }));
            let query = crate::console::fields::query(&given);
            let form = Fields::read(query.trim_start_matches('?').as_bytes());
            let errors = read(&form).unwrap_err();
            let error = errors.of(name).unwrap();
            assert!(!error.contains(name), "{error}");
            assert_eq!(messages::text(Lang::Zh, error), wanted);
        }
    }
}
