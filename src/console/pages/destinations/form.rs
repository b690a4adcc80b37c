//! The form of a destination. Secrets can be entered and are never shown.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::PATH;
use crate::config::{MASK, Table, is_same_server, limits, show};
use crate::console::components::form as forms;
use crate::console::components::form::{Field, FormValues};
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::pages::managed::{FormErrors, NAME_LABEL};
use crate::console::pages::preview::{Choice, Suggested};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::sender::Outcome;

texts! {
    NAME_HINT = "The name cannot be changed later, because deliveries are queued under it.", "名称之后不能更改，投递以此名称排队。";
    URL = "URL", "地址";
    URL_HINT = "For example https://game.example.com/rewards. Private addresses must be listed in egress.allow of the configuration.",
        "例如 https://game.example.com/rewards。内网地址须列入配置的 egress.allow。";
    FORMAT = "Format", "格式";
    FORMAT_HINT = "event: Postern's JSON, signed. forward: the request as the sender sent it. template: the URL with the source's template.",
        "event：Postern 的 JSON，带签名。forward：发送方的原始请求。template：URL 加来源的模板。";
    METHOD = "Method for template", "template 的请求方法";
    SECRET = "Signing secret", "签名密钥";
    SECRET_HINT = "whsec_ followed by base64. It is not shown again. If empty, the secret is not changed.",
        "以 whsec_ 开头，后接 base64。保存后不再显示。留空则不更改。";
    SECRET_OF_NEW = "whsec_ followed by base64. It is not shown again. If empty, deliveries are not signed.",
        "以 whsec_ 开头，后接 base64。保存后不再显示。留空则投递不带签名。";
    BESIDE = "Also sign with the old secrets until you remove them", "同时使用旧密钥签名，直到您移除它们";
    HEADERS = "Additional headers", "附加请求头";
    HEADERS_HINT = "One per line, NAME: VALUE. Values are not shown again; *** keeps the current value.",
        "每行一个，格式为“名称: 值”。保存后不再显示值，*** 表示保留当前值。";
    FIRST = "First retry interval", "首次重试间隔";
    MAX = "Longest retry interval", "最长重试间隔";
    ATTEMPTS = "Attempts", "尝试次数";
    TIMEOUT = "Timeout", "超时";
    CONCURRENCY = "Concurrency limit", "并发上限";
    RATE = "Rate limit", "限速";
    RATE_HINT = "For example 500/s. If empty, there is no limit.", "例如 500/s。留空表示不限。";
    MODE = "Does the sender wait for the verdict of this destination?", "发送方是否等待此目标的判定？";
    MODE_ASYNC = "No: reply once the event is recorded", "否：事件记录后即应答";
    MODE_INLINE = "Yes: inline", "是：同步（inline）";
    LATE = "Reply to the sender on timeout", "超时时对发送方的应答";
    LATE_UNSET = "–", "–";
    DEFAULTS = "Empty fields use the defaults.", "留空的字段使用默认值。";
    CREATE = "Create destination", "创建投递目标";
    NO_NUMBER = "must be a number", "必须是数字";
    OTHER_SERVER = "enter it again: the URL leads to another server, and masked values are not sent there",
        "请重新填写：URL 指向另一台服务器，已隐藏的值不会发送到该服务器";
    NO_LINE = "write one NAME: VALUE per line", "每行写一个“名称: 值”";
}

/// The headers without their values; a submitted value must be entered again.
fn shown_headers(values: &FormValues<'_>) -> String {
    let names: Vec<String> = match values {
        FormValues::Submitted(form) => {
            let lines = form.verbatim("headers").unwrap_or_default().lines();
            let masked = |line: &str| match line.split_once(':') {
                Some((name, value)) if value.trim() == MASK => format!("{name}: {MASK}"),
                Some((name, _)) => format!("{name}: "),
                None => String::new(),
            };
            lines.map(masked).collect()
        }
        FormValues::Stored(table) => {
            let headers = table.get("headers").and_then(Value::as_object);
            headers
                .into_iter()
                .flat_map(Table::keys)
                .map(|name| format!("{name}: {MASK}"))
                .collect()
        }
    };
    names.join("\n")
}

// === Shown ===

/// The destination of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormOf {
    New,
    Stored,
}

/// The page of a new destination.
pub(super) fn new(
    visit: &Visit,
    errors: &FormErrors,
    typed: &FormValues<'_>,
    events: &[Suggested],
) -> Markup {
    let lang = visit.lang;
    let name = typed.text("name");
    let submitted = match typed {
        FormValues::Submitted(form) => Some(*form),
        FormValues::Stored(_) => None,
    };
    html! {
        (errors.show(lang))
        (forms::change(visit, PATH, &html! {
            (Field { value: &name, hint: Some(NAME_HINT), error: errors.of("name"), ..Field::new("name", NAME_LABEL) }.show(lang))
            (fields(lang, FormOf::New, errors, typed))
            button type="submit" name="do" value="save" { (CREATE.of(lang)) }
            (Choice::of_form(events, submitted, errors).show_in_form(lang))
        }))
    }
}

/// The fields of new and stored destinations.
pub(super) fn fields(
    lang: Lang,
    of: FormOf,
    errors: &FormErrors,
    typed: &FormValues<'_>,
) -> Markup {
    let line = |name, label, hint: Option<Text>| {
        let text = typed.text(name);
        let error = errors.of(name);
        Field { value: &text, hint, error, ..Field::new(name, label) }.show(lang)
    };
    let usual = |name, label, default: &str| {
        let text = typed.text(name);
        let (placeholder, error) = (Some(default), errors.of(name));
        Field { value: &text, placeholder, error, ..Field::new(name, label) }.show(lang)
    };
    let choice = |name, label, hint: Option<Text>, options: &[(&str, &str)]| {
        let text = typed.text(name);
        let error = errors.of(name);
        Field { value: &text, hint, error, ..Field::new(name, label) }.show_choice(lang, options)
    };
    let formats = [("event", "event"), ("forward", "forward"), ("template", "template")];
    let modes = [("async", MODE_ASYNC.of(lang)), ("inline", MODE_INLINE.of(lang))];
    let unset = LATE_UNSET.of(lang);
    let lates = [
        ("", unset),
        ("unavailable", words::outcome(Outcome::Unavailable).of(lang)),
        ("accepted", words::outcome(Outcome::Accepted).of(lang)),
        ("rejected", words::outcome(Outcome::Rejected).of(lang)),
    ];
    let headers = shown_headers(typed);
    let has_secret = matches!(typed, FormValues::Stored(table) if table.contains_key("secret"));
    let secret_hint = if of == FormOf::New { SECRET_OF_NEW } else { SECRET_HINT };
    html! {
        (line("url", URL, Some(URL_HINT)))
        (choice("format", FORMAT, Some(FORMAT_HINT), &formats))
        (choice("method", METHOD, None, &[("", unset), ("GET", "GET"), ("POST", "POST")]))
        (Field {
            kind: "password", hint: Some(secret_hint), error: errors.of("secret"),
            ..Field::new("secret", SECRET)
        }.show(lang))
        @if has_secret { (Field::new("beside", BESIDE).show_box(lang)) }
        (Field {
            value: &headers, hint: Some(HEADERS_HINT), error: errors.of("headers"),
            ..Field::new("headers", HEADERS)
        }.show_area(lang, 3))
        p.hint { (DEFAULTS.of(lang)) }
        div.fields {
            (usual("retry.first", FIRST, &show(limits::RETRY_FIRST)))
            (usual("retry.max", MAX, &show(limits::RETRY_MAX)))
            (usual("retry.attempts", ATTEMPTS, &limits::RETRY_ATTEMPTS.to_string()))
            (usual("timeout", TIMEOUT, &show(limits::DELIVERY_TIMEOUT)))
            (usual("concurrency", CONCURRENCY, &limits::DELIVERY_CONCURRENCY.to_string()))
        }
        (line("rate", RATE, Some(RATE_HINT)))
        (choice("mode", MODE, None, &modes))
        (choice("late", LATE, None, &lates))
    }
}

// === Read ===

/// Applies the form to `table`.
pub(super) fn read(lang: Lang, form: &Fields, mut table: Table) -> Result<Table, FormErrors> {
    reject_masked_for_another(lang, form, &table)?;
    for key in ["url", "format", "method", "timeout", "rate", "late"] {
        set(&mut table, key, form.text(key).map(|text| json!(text)));
    }
    let inline = form.text("mode").filter(|mode| *mode != "async");
    set(&mut table, "mode", inline.map(|mode| json!(mode)));
    set(&mut table, "concurrency", number(lang, form, "concurrency")?);
    let mut retry = Table::new();
    for key in ["first", "max"] {
        set(&mut retry, key, form.text(&format!("retry.{key}")).map(|text| json!(text)));
    }
    set(&mut retry, "attempts", number(lang, form, "retry.attempts")?);
    set(&mut table, "retry", (!retry.is_empty()).then_some(Value::Object(retry)));
    if let Some(secret) = form.text("secret") {
        let beside = form.text("beside").is_some();
        let old = if beside { secrets(&table) } else { Vec::new() };
        let all: Vec<Value> = std::iter::once(json!(secret)).chain(old).collect();
        table.insert(String::from("secret"), Value::Array(all));
    }
    let headers = headers(lang, form, table.get("headers"))?;
    set(&mut table, "headers", (!headers.is_empty()).then_some(Value::Object(headers)));
    Ok(table)
}

/// Rejects masked values if the URL leads to another server: an operator who may change a destination
/// must not learn its secrets.
fn reject_masked_for_another(lang: Lang, form: &Fields, table: &Table) -> Result<(), FormErrors> {
    let old = table.get("url").and_then(Value::as_str).unwrap_or_default();
    if is_same_server(old, form.text("url").unwrap_or_default()) || old.is_empty() {
        return Ok(());
    }
    let headers = form.verbatim("headers").unwrap_or_default();
    let is_masked = |line: &str| line.split_once(':').is_some_and(|(_, v)| v.trim() == MASK);
    if headers.lines().any(is_masked) {
        return Err(FormErrors::one("headers", OTHER_SERVER.of(lang)));
    }
    let keeps = form.text("secret").is_none() || form.text("beside").is_some();
    match keeps && table.contains_key("secret") {
        true => Err(FormErrors::one("secret", OTHER_SERVER.of(lang))),
        false => Ok(()),
    }
}

/// The secrets of a table, newest first.
pub(super) fn secrets(table: &Table) -> Vec<Value> {
    match table.get("secret") {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    }
}

fn set(table: &mut Table, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(table.insert(key.to_owned(), value)),
        None => drop(table.remove(key)),
    }
}

fn number(lang: Lang, form: &Fields, name: &str) -> Result<Option<Value>, FormErrors> {
    let read = |text: &str| {
        let number: Result<u32, _> = text.parse();
        number.map(|number| json!(number)).map_err(|_| FormErrors::one(name, NO_NUMBER.of(lang)))
    };
    form.text(name).map(read).transpose()
}

fn headers(lang: Lang, form: &Fields, old: Option<&Value>) -> Result<Table, FormErrors> {
    let mut headers = Table::new();
    let lines = form.verbatim("headers").unwrap_or_default().lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty()) {
        let wrong = || FormErrors::one("headers", NO_LINE.of(lang));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let (name, value) = (name.trim(), value.trim());
        let value = match value {
            MASK => old.and_then(|old| old.get(name)).cloned().ok_or_else(wrong)?,
            "" => return Err(wrong()),
            typed => json!(typed),
        };
        headers.insert(name.to_owned(), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submitted_secrets_are_not_shown_again() {
        let form = Fields::read(b"headers=X-A%3A+s3cret%0AX-B%3A+***&secret=whsec_x");
        let (errors, typed) = (FormErrors::default(), FormValues::Submitted(&form));
        let shown = fields(Lang::En, FormOf::New, &errors, &typed).into_string();
        assert!(!shown.contains("s3cret") && !shown.contains("whsec_x"), "{shown}");
        assert!(shown.contains("X-A: ") && shown.contains("X-B: ***"));
    }

    #[test]
    fn a_new_destination_has_no_secret_to_keep() {
        let (errors, empty) = (FormErrors::default(), FormValues::nothing());
        let shown = |of| fields(Lang::En, of, &errors, &empty).into_string();
        let new = shown(FormOf::New);
        assert!(new.contains("deliveries are not signed") && !new.contains("is not changed"));
        assert!(shown(FormOf::Stored).contains("the secret is not changed"));
        for (name, default) in [("retry.first", "1s"), ("retry.attempts", "84"), ("timeout", "15s")]
        {
            let at = new.find(&format!("name=\"{name}\"")).unwrap();
            let input = new[at..].split('>').next().unwrap();
            assert!(input.contains(&format!("placeholder=\"{default}\"")), "{input}");
        }
    }

    #[test]
    fn masked_values_do_not_move_to_another_server() {
        let old = json!({
            "url": "https://a.example/x", "headers": { "X-B": "old" }, "secret": "whsec_old",
        });
        let old = old.as_object().unwrap();
        let read = |text: &[u8]| read(Lang::En, &Fields::read(text), old.clone());
        assert!(read(b"url=https://a.example/y&headers=X-B%3A+***").is_ok());
        let other = b"url=https://b.example/x&secret=whsec_new";
        assert!(read(&[&other[..], b"&headers=X-B%3A+typed"].concat()).is_ok());
        let masked = read(&[&other[..], b"&headers=X-B%3A+***"].concat()).unwrap_err();
        assert!(masked.of("headers").is_some());
        assert!(read(b"url=https://b.example/x").unwrap_err().of("secret").is_some());
        assert!(read(&[&other[..], b"&beside=yes"].concat()).unwrap_err().of("secret").is_some());
    }

    #[test]
    fn a_mask_keeps_the_stored_value() {
        let old = json!({ "headers": { "X-B": "old" }, "secret": "whsec_old" });
        let old = old.as_object().unwrap();
        let read = |text: &[u8]| read(Lang::En, &Fields::read(text), old.clone());
        let table =
            read(b"url=u&headers=X-B%3A+***%0AX-A%3A+new&secret=whsec_new&beside=yes").unwrap();
        assert_eq!(table["headers"], json!({ "X-B": "old", "X-A": "new" }));
        assert_eq!(table["secret"], json!(["whsec_new", "whsec_old"]));
        assert_eq!(read(b"secret=whsec_new").unwrap()["secret"], json!(["whsec_new"]));
        assert_eq!(read(b"").unwrap()["secret"], json!("whsec_old"));
        assert!(read(b"headers=X-C%3A+***").is_err() && read(b"headers=rubbish").is_err());
        assert!(read(b"retry.attempts=many").unwrap_err().of("retry").is_some());
    }
}
