//! Parts of several pages about one callback: the masked request, and the result of explain.

use std::sync::Arc;

use maud::{Markup, html};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::clock::UnixMillis;
use crate::config::{Config, Source};
use crate::console::app::Console;
use crate::console::components::facts::facts;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::{badge, json, value};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::sender_texts;
use crate::console::text::{Text, texts};
use crate::keys::Keys;
use crate::ledger::RawRequest;
use crate::operator::{Asker, Masked, Overloaded, RawShown, ToExplain, base_of, curl_of_shown};
use crate::sender::{Advice, Explanation, KeySet, OwnedRequest, Reason, Recipe, Verification};

texts! {
    REQUEST = "Request", "请求";
    METHOD = "Method", "方法";
    PATH = "Path", "路径";
    BODY = "Body", "请求体";
    BYTES = "{} bytes", "{} 字节";
    FIELDS = "Headers (possible signatures masked)", "请求头（可能是签名的值已隐藏）";
    PARAMETERS = "Parameters (signatures masked)", "参数（签名已隐藏）";
    NONE = "None.", "无。";
    GONE = "The source no longer exists, so its signature parameters are unknown. No parameters are shown.",
        "来源已不存在，无法判断哪些参数是签名，因此不显示参数。";
    RAW = "As received (signatures masked)", "原始内容（签名已隐藏）";
    NOT_RAW = "The text is not shown: the supplied signature cannot be told from it.", "不显示原文：无法从中分辨签名值。";
    NOT_TEXT = "The body is not text, or too long to be shown.", "请求体不是文本，或过长，无法显示。";
    COPY = "Copy request", "复制请求";
    COPY_BODY = "Copy body", "复制请求体";
    COPY_VALUE = "Copy {}", "复制 {}";
    CURL = "As a curl command (signatures masked)", "curl 命令（签名已隐藏）";
    CURL_HINT = "*** stands for a value that is not shown. To send the callback, sign it again in the debug tool.",
        "*** 表示未显示的值。如需发送该回调，请在调试工具中重新签名。";
    COPY_CURL = "Copy as curl", "复制为 curl";
    SIGNED = "Signature check", "签名检查";
    SIGNED_NOTE = "Evaluated now, with the current secrets and settings of the source.", "按来源当前的密钥和设置重新检查。";
    OVERLOADED = "Too many explanations are running: reload the page for this part.", "诊断请求过多，刷新页面可重新加载此部分。";
    VERDICT = "Result", "结果";
    VERIFIED = "Verified", "已验证";
    NOT_VERIFIED = "Not verified", "未通过验证";
    PARAMETER = "Parameter", "参数";
    VARIANT = "Signature variant", "签名方式";
    TEXT = "Signed text (secret masked)", "待签名字符串（密钥已隐藏）";
    MISTAKE = "Possible mistake", "可能的错误";
    OTHER_MISTAKE = "Or this mistake", "也可能是";
    NOTHING_SIGNED = "This sender has no signed text to show.", "该发送方没有可显示的待签名字符串。";
    NOT_ALL_THERE = "The signed text is incomplete: the parameter {} is missing.", "待签名字符串不完整：缺少参数 {}。";
}

/// A request as it was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received<'r> {
    pub request: &'r RawRequest,
    pub source: &'r Source,
    pub at_ms: UnixMillis,
}

/// The masked request, and where it was `received` its text as it came.
pub(super) fn request(
    console: &Console,
    lang: Lang,
    request: &Masked<'_>,
    received: Option<Received<'_>>,
) -> Markup {
    let shown = received.map(|of| RawShown::of(of.request, of.source, of.at_ms));
    let facts = facts(
        lang,
        &[
            (METHOD, html! { code { (request.method) } }),
            (PATH, value::whole(&request.path)),
            (BODY, html! { (BYTES.fill(lang, &[&request.body_bytes])) }),
        ],
    );
    html! {
        section aria-labelledby="request" {
            h2 #request { (REQUEST.of(lang)) }
            (facts)
            @match &request.params {
                Some(params) => (pairs(lang, PARAMETERS, params)),
                None => p { (GONE.of(lang)) },
            }
            @match &shown {
                Some(Some(shown)) => (text(console, lang, request, shown)),
                Some(None) => p.empty { (NOT_RAW.of(lang)) },
                None => {}
            }
            h3 { (FIELDS.of(lang)) }
            @if request.headers.is_empty() { p.empty { (NONE.of(lang)) } }
            @else {
                dl.pairs data-copies=(copy_word(lang)) {
                    @for (name, text) in &request.headers {
                        dt { code { (name) } } dd { (value::whole(text)) }
                    }
                }
            }
        }
    }
}

/// The label of the buttons that the script adds to copy single values; `{}` becomes the name.
pub(super) fn copy_word(lang: Lang) -> &'static str {
    COPY_VALUE.of(lang)
}

/// The request as it came: its body laid out, its text, and a command that makes it.
fn text(console: &Console, lang: Lang, request: &Masked<'_>, shown: &RawShown) -> Markup {
    let (raw, body) = (request.text(shown), shown.body.as_deref().unwrap_or_default());
    let base = base_of(&console.config().server, console.tools.callbacks);
    let command = curl_of_shown(&base, request, shown);
    html! {
        @if request.body_bytes > 0 {
            h3 { (BODY.of(lang)) }
            @if body.is_empty() { p.empty { (NOT_TEXT.of(lang)) } }
            @else {
                div #body-text { (value::block(json::pretty(body).as_deref().unwrap_or(body))) }
                button.quiet type="button" data-copy="body-text" hidden { (COPY_BODY.of(lang)) }
            }
        }
        div.copying {
            details {
                summary { (RAW.of(lang)) }
                div #raw-text { (value::block(&raw)) }
            }
            button.quiet type="button" data-copy="raw-text" hidden { (COPY.of(lang)) }
        }
        @if let Some(command) = &command {
            div.copying {
                details {
                    summary { (CURL.of(lang)) }
                    div #curl-text { (value::block(command)) }
                    p.hint { (CURL_HINT.of(lang)) }
                }
                button.quiet type="button" data-copy="curl-text" hidden { (COPY_CURL.of(lang)) }
            }
        }
    }
}

/// A JSON object as a list of names and values. Values that are JSON themselves are laid out.
pub(super) fn pairs(lang: Lang, caption: Text, object: &RawValue) -> Markup {
    let members: Map<String, Value> = serde_json::from_str(object.get()).unwrap_or_default();
    html! {
        h3 { (caption.of(lang)) }
        @if members.is_empty() { p.empty { (NONE.of(lang)) } }
        @else {
            dl.pairs data-copies=(copy_word(lang)) {
                @for (name, member) in &members {
                    @let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
                    dt { (value::whole(name)) }
                    dd {
                        @match json::pretty(&text) {
                            Some(pretty) => (value::block(&pretty)),
                            None => (value::whole(&text)),
                        }
                    }
                }
            }
        }
    }
}

/// Explains a request to `source` as of `at_ms`. The inner error: too many explanations are running.
pub(super) async fn explain(
    console: &Console,
    config: &Arc<Config>,
    source: &Source,
    request: &RawRequest,
    at_ms: UnixMillis,
) -> Result<Result<Explanation, Overloaded>, PageError> {
    let asked = to_explain(config, source, owned(request), at_ms)?;
    let explained = asked.explained(Asker::Console, keys_of(console.tools.keys.clone())).await;
    Ok(explained.map(|explained| explained.explanation))
}

/// A request to `source` of `config`, to be explained as of `at_ms`.
pub(super) fn to_explain(
    config: &Arc<Config>,
    source: &Source,
    request: OwnedRequest,
    at_ms: UnixMillis,
) -> Result<ToExplain, PageError> {
    let source = config.sources.get(&source.name).ok_or(PageError::Absent)?;
    Ok(ToExplain { config: Arc::clone(config), source: Arc::clone(source), request, at_ms })
}

/// A request as it was received, to be moved to another thread.
pub(super) fn owned(request: &RawRequest) -> OwnedRequest {
    OwnedRequest {
        method: request.method.clone(),
        base: String::new(),
        target: request.target.to_vec(),
        headers: request.header_map(),
        body: request.body.to_vec(),
    }
}

/// The public keys of senders, as explanations ask for them.
pub(super) fn keys_of(keys: Keys) -> impl Fn(&Recipe) -> Option<Arc<KeySet>> + Send + 'static {
    move |recipe| keys.of(recipe)?.now()
}

/// The part of a page about the explanation, also where there is none: the rest of the page does not
/// need it.
pub(super) fn explained(lang: Lang, found: &Result<Explanation, Overloaded>) -> Markup {
    match found {
        Ok(found) => explanation(lang, found),
        Err(Overloaded) => html! {
            section aria-labelledby="signed" {
                h2 #signed { (SIGNED.of(lang)) }
                (overloaded(lang))
            }
        },
    }
}

/// The line in place of what too many explanations leave out.
pub(super) fn overloaded(lang: Lang) -> Markup {
    notice(Tone::Plain, OVERLOADED.of(lang))
}

/// The result of explain.
pub(super) fn explanation(lang: Lang, found: &Explanation) -> Markup {
    let verdict = match found.verdict {
        Verification::Verified => html! { span.badge.verified { (VERIFIED.of(lang)) } },
        Verification::Rejected => html! {
            span.badge.rejected { (NOT_VERIFIED.of(lang)) }
            @if let Some(reason) = found.reason { " " (badge::reason(lang, reason)) }
        },
    };
    let mut all = vec![(VERDICT, verdict)];
    if let Some(parameter) = &found.parameter {
        all.push((PARAMETER, value::short(parameter)));
    }
    if let Some(reading) = &found.reading {
        all.push((VARIANT, sender_texts::shown(lang, reading)));
    }
    let missing = found.parameter.as_deref();
    let missing = missing.filter(|_| found.reason == Some(Reason::MissingParameter));
    html! {
        section aria-labelledby="signed" {
            h2 #signed { (SIGNED.of(lang)) }
            p.hint { (SIGNED_NOTE.of(lang)) }
            (facts(lang, &all))
            @if let Some(advice) = &found.advice { p.advice { (sentence(lang, advice)) } }
            @for (at, mistake) in found.mistake.iter().chain(&found.alternatives).enumerate() {
                div.notice.plain role="note" {
                    b { (if at == 0 { MISTAKE } else { OTHER_MISTAKE }.of(lang)) } " " code { (mistake.kind.detail().unwrap_or(mistake.kind.as_str())) }
                    @if let Some(parameter) = &mistake.parameter { " " (value::short(parameter)) }
                    br;
                    (sentence(lang, &mistake.advice))
                }
            }
            @match (&found.signed_text, missing) {
                (Some(text), _) => { p { (TEXT.of(lang)) } (value::block(text)) },
                (None, Some(missing)) => p.empty { (NOT_ALL_THERE.fill(lang, &[&missing])) },
                (None, None) => p.empty { (NOTHING_SIGNED.of(lang)) },
            }
        }
    }
}

fn sentence(lang: Lang, advice: &Advice) -> Markup {
    value::sentence(match lang {
        Lang::En => advice.english(),
        Lang::Zh => advice.chinese(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_an_explanation_says_so() {
        let line = |lang| explained(lang, &Err(Overloaded)).into_string();
        assert!(line(Lang::En).contains("Too many explanations are running: reload the page"));
        assert!(line(Lang::Zh).contains("诊断请求过多"));
    }
}
