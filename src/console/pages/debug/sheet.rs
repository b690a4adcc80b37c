//! The forms of the debug tool and their input.

use maud::{Markup, html};
use serde_json::Value;

use super::PATH;
use crate::clock::now_ms;
use crate::config::{MASK, Source};
use crate::console::components::form as forms;
use crate::console::components::form::Field;
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::pages::captured::Received;
use crate::console::pages::managed::FormErrors;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::operator::{Masked, RawShown};
use crate::sender::{self, Role};

texts! {
    FILL = "Sign a callback", "生成签名回调";
    FILL_HINT = "The values that the sender generates (time, nonce) and the signature are added.", "发送方生成的值（时间、随机数）和签名会自动添加。";
    NO_SIGN = "This sender signs with a private key that only the sender has. No callback can be signed here.",
        "该发送方使用只有其自身持有的私钥签名，此处无法签名。";
    MORE = "Other parameters", "其他参数";
    MORE_HINT = "One per line, NAME=VALUE; header.NAME sets a header, body the whole body.",
        "每行一个，格式为“名称=值”；header.名称 设置请求头，body 设置整个请求体。";
    SIGN = "Sign callback", "生成签名回调";
    PASTE = "Explain a callback", "诊断回调";
    REQUEST = "URL, request, curl command or log line", "URL、请求、curl 命令或日志行";
    REQUEST_HINT = "A request consists of the request line, headers, an empty line and the body. A query alone is enough for a GET.",
        "请求由请求行、请求头、空行和请求体组成。GET 回调只需查询字符串。";
    UNNAMED_HINT = "Its path names the source.", "路径中包含来源名称。";
    AT = "Received (UTC)", "接收时间（UTC）";
    AT_HINT = "If empty, the time of the log line, or the current time.", "留空表示日志行中的时间，没有则为当前时间。";
    EXPLAIN = "Explain callback", "诊断回调";
    SEND = "Send as a test", "发送测试回调";
    SEND_HINT = "Recorded and delivered with \"test\": true and without effect: a backend must not grant it. The transaction stays free for a real callback.",
        "以 \"test\": true 记录并投递，不产生奖励效果，后端不应发放。该交易号仍可用于真实回调。";
    REAL = "Send as a real callback…", "作为真实回调发送……";
    REAL_HINT = "For a captured callback that never arrived. If it verifies, it is recorded and delivered like any other: the player gets the reward.",
        "用于已截获但从未到达的回调。若通过验签，将像其他回调一样记录并投递：玩家会得到奖励。";
    REAL_SURE = "Grant the reward of 1 callback", "发放 1 个回调的奖励";
    REAL_SEND = "Send real callback", "发送真实回调";
    NOT_SURE = "Nothing was sent. Confirm the grant first.", "未发送，请先勾选确认。";
    PARAMETER = "Parameter", "参数";
    TRANSACTION = "Transaction", "交易号";
    USER = "User", "用户";
    ITEM = "Item", "物品";
    AMOUNT = "Amount", "数量";
    MASKED_HINT = "*** stands for a signature that is not shown. To explain the callback again, write the signature there.",
        "*** 表示未显示的签名。如需重新诊断，请在该处填入签名。";
    NO_PAIR = "write one NAME=VALUE per line", "每行写一个“名称=值”";
}

/// Values that the forms begin with: those of a callback that was received.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefill {
    /// The request as text, its signature masked.
    request: String,
    /// Parameters by name, without signatures and what signing adds.
    pairs: Vec<(String, String)>,
}

impl Prefill {
    /// The values of a callback, which is also given `masked`.
    pub(super) fn of(received: Received<'_>, masked: &Masked<'_>) -> Self {
        let Received { request, source, at_ms } = received;
        let shown = RawShown::of(request, source, at_ms);
        let params = masked.params.as_ref().map(|params| params.get()).unwrap_or_default();
        let params: Value = serde_json::from_str(params).unwrap_or_default();
        let fields = source.recipe.fields();
        let mut pairs: Vec<(String, String)> = fields
            .iter()
            .filter_map(|field| Some((field.name.clone(), text_at(&params, &field.name)?)))
            .collect();
        // Members of a body cannot be added as parameters.
        if request.body.is_empty() {
            let all = params.as_object().into_iter().flatten();
            let others = all.filter(|(name, _)| !pairs.iter().any(|(known, _)| known == *name));
            let others: Vec<_> = others
                .filter(|(name, _)| !source.recipe.makes_up(name))
                .filter_map(|(name, _)| Some((name.clone(), text_at(&params, name)?)))
                .collect();
            pairs.extend(others);
        }
        Self { request: shown.map(|shown| masked.text(&shown)).unwrap_or_default(), pairs }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The text of a parameter, or of a member of one (`a.b`), unless it is masked or of several lines.
fn text_at(params: &Value, name: &str) -> Option<String> {
    let found = match params.get(name) {
        Some(found) => found,
        None => name.split('.').try_fold(params, |found, part| found.get(part))?,
    };
    let text = match found {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => found.to_string(),
        _ => return None,
    };
    (!text.contains(MASK) && !text.contains('\n')).then_some(text)
}

/// The forms with their values and errors.
#[derive(Debug)]
pub(super) struct Sheet<'s> {
    source: &'s Source,
    /// Submitted values; `None` on a new page.
    form: Option<&'s Fields>,
    /// Values of a new page.
    given: Prefill,
    fields: Vec<sender::Field>,
    /// The pasted or signed request.
    pub request: String,
    /// Time of receipt, as entered.
    pub at: String,
    pub errors: FormErrors,
}

impl<'s> Sheet<'s> {
    pub(super) fn fresh(source: &'s Source) -> Self {
        let (fields, errors) = (source.recipe.fields(), FormErrors::default());
        let given = Prefill::default();
        Self {
            source,
            form: None,
            given,
            fields,
            request: String::new(),
            at: String::new(),
            errors,
        }
    }

    /// A new page with the values of a callback.
    pub(super) fn prefilled(source: &'s Source, given: Prefill) -> Self {
        Self { request: given.request.clone(), given, ..Self::fresh(source) }
    }

    pub(super) fn typed(source: &'s Source, form: &'s Fields) -> Self {
        let typed = |name| form.verbatim(name).unwrap_or_default().to_owned();
        Self {
            form: Some(form),
            request: typed("request"),
            at: typed("at").trim().to_owned(),
            ..Self::fresh(source)
        }
    }

    /// The parameters of the form, without empty ones.
    pub(super) fn pairs(&self, lang: Lang) -> Result<Vec<(String, String)>, FormErrors> {
        let typed = |name: &str| self.form.and_then(|form| form.verbatim(name)).unwrap_or_default();
        let fields = self
            .fields
            .iter()
            .map(|field| (field.name.clone(), typed(&in_form(&field.name)).to_owned()));
        let mut pairs: Vec<_> = fields.filter(|(_, value)| !value.is_empty()).collect();
        for line in typed("more").lines().filter(|line| !line.trim().is_empty()) {
            let pair = line.split_once('=');
            let (name, value) = pair.ok_or_else(|| FormErrors::one("more", NO_PAIR.of(lang)))?;
            pairs.push((name.trim().to_owned(), value.to_owned()));
        }
        Ok(pairs)
    }

    pub(super) fn show(&self, visit: &Visit) -> Markup {
        html! {
            @if visit.viewer.may_change() { (self.filling(visit)) }
            (self.pasting(visit))
        }
    }

    fn filling(&self, visit: &Visit) -> Markup {
        let lang = visit.lang;
        let more = match self.form {
            Some(form) => form.verbatim("more").unwrap_or_default().to_owned(),
            None => self.further(),
        };
        html! {
            section aria-labelledby="fill" {
                h2 #fill { (FILL.of(lang)) }
                @if self.source.recipe.signable().is_err() { p { (NO_SIGN.of(lang)) } }
                @else {
                    p.hint { (FILL_HINT.of(lang)) }
                    (forms::to(visit, PATH, &html! {
                        (self.name())
                        div.fields { @for field in &self.fields { (self.field(lang, field)) } }
                        (Field {
                            value: &more, hint: Some(MORE_HINT), error: self.errors.of("more"),
                            ..Field::new("more", MORE)
                        }.show_area(lang, 2))
                        button type="submit" name="do" value="sign" { (SIGN.of(lang)) }
                    }))
                }
            }
        }
    }

    fn field(&self, lang: Lang, field: &sender::Field) -> Markup {
        let name = in_form(&field.name);
        let typed = self.form.and_then(|form| form.verbatim(&name)).map(str::to_owned);
        let given = || self.given.get(&field.name).map(str::to_owned);
        let text = typed.or_else(given).unwrap_or_else(|| sample(field));
        Field {
            value: &text,
            code: Some(&field.name),
            about: field.pasted.as_deref(),
            error: self.errors.of(&field.name),
            ..Field::new(&name, label(field.role))
        }
        .show(lang)
    }

    /// Given values that have no field.
    fn further(&self) -> String {
        let is_known = |name: &str| self.fields.iter().any(|field| field.name == name);
        let others = self.given.pairs.iter().filter(|(name, _)| !is_known(name));
        others.map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    fn pasting(&self, visit: &Visit) -> Markup {
        let lang = visit.lang;
        let hint = if self.given.request.contains(MASK) { MASKED_HINT } else { REQUEST_HINT };
        html! {
            section aria-labelledby="paste" {
                h2 #paste { (PASTE.of(lang)) }
                (forms::to(visit, PATH, &html! {
                    (self.name())
                    (Field {
                        value: &self.request, hint: Some(hint), error: self.errors.of("request"),
                        ..Field::new("request", REQUEST)
                    }.show_area(lang, 6))
                    (Field {
                        kind: "datetime-local", value: &self.at, hint: Some(AT_HINT), error: self.errors.of("at"),
                        ..Field::new("at", AT)
                    }.show(lang))
                    div.actions {
                        button type="submit" name="do" value="explain" { (EXPLAIN.of(lang)) }
                        @if visit.viewer.may_change() {
                            button.quiet type="submit" name="do" value="send" aria-describedby="send-hint" { (SEND.of(lang)) }
                            span.hint #send-hint { (SEND_HINT.of(lang)) }
                        }
                    }
                    @if visit.viewer.may_change() {
                        details open[self.errors.of("sure").is_some()] {
                            summary { (REAL.of(lang)) }
                            p.hint { (REAL_HINT.of(lang)) }
                            label.check { input type="checkbox" name="sure" value="yes"; (REAL_SURE.of(lang)) }
                            div.actions {
                                button.danger type="submit" name="do" value="deliver" { (REAL_SEND.of(lang)) }
                            }
                        }
                    }
                }))
            }
        }
    }

    /// The error that a real callback was not confirmed, if it was not.
    pub(super) fn unconfirmed(&self, lang: Lang) -> Option<FormErrors> {
        let is_sure = self.form.is_some_and(|form| form.text("sure") == Some("yes"));
        (!is_sure).then(|| FormErrors::one("sure", NOT_SURE.of(lang)))
    }

    fn name(&self) -> Markup {
        html! { input type="hidden" name="source" value=(self.source.name); }
    }
}

/// The form for a captured callback whose path names its source.
pub(super) fn unnamed(visit: &Visit, typed: &str, errors: &FormErrors) -> Markup {
    let lang = visit.lang;
    html! {
        section aria-labelledby="paste" {
            h2 #paste { (PASTE.of(lang)) }
            (forms::to(visit, PATH, &html! {
                (Field {
                    value: typed, hint: Some(UNNAMED_HINT), error: errors.of("request"),
                    ..Field::new("request", REQUEST)
                }.show_area(lang, 6))
                button type="submit" name="do" value="explain" { (EXPLAIN.of(lang)) }
            }))
        }
    }
}

/// The form name of a parameter; the prefix keeps it apart from other fields of the page.
fn in_form(name: &str) -> String {
    format!("p.{name}")
}

/// The initial value of a field.
fn sample(field: &sender::Field) -> String {
    match field.role {
        Some(Role::Transaction) => format!("test-{}", now_ms()),
        Some(Role::User) => String::from("test-user"),
        Some(Role::Item) => String::from("test-item"),
        Some(Role::Amount) => String::from("1"),
        _ if field.needed => String::from("test"),
        _ => String::new(),
    }
}

const fn label(role: Option<Role>) -> Text {
    match role {
        Some(Role::Transaction) => TRANSACTION,
        Some(Role::User) => USER,
        Some(Role::Item) => ITEM,
        Some(Role::Amount) => AMOUNT,
        _ => PARAMETER,
    }
}
