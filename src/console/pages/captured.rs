//! Parts of several pages about one callback: the masked request, and the result of explain.

use maud::{Markup, html};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::clock::UnixMillis;
use crate::config::{Config, Source};
use crate::console::app::Console;
use crate::console::components::facts::facts;
use crate::console::components::{badge, table, value};
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::ledger::RawRequest;
use crate::operator::{Masked, explained};
use crate::sender::{Explanation, Recipe, Verdict};

texts! {
    REQUEST = "Request", "请求";
    METHOD = "Method", "方法";
    PATH = "Path", "路径";
    BODY = "Body", "请求体";
    BYTES = "{} bytes", "{} 字节";
    FIELDS = "Headers (possible signatures masked)", "请求头（可能是签名的值已隐藏）";
    NAME = "Name", "名称";
    VALUE = "Value", "值";
    PARAMETERS = "Parameters (signatures masked)", "参数（签名已隐藏）";
    NONE = "None.", "无。";
    GONE = "The source no longer exists, so its signature parameters are unknown. No parameters are shown.",
        "来源已不存在，无法判断哪些参数是签名，因此不显示参数。";
    SIGNED = "Signature check", "签名检查";
    SIGNED_NOTE = "Evaluated now, with the current secrets and settings of the source.", "按来源当前的密钥和设置重新检查。";
    VERDICT = "Result", "结果";
    VERIFIED = "Verified", "已验证";
    NOT_VERIFIED = "Not verified", "未通过验证";
    PARAMETER = "Parameter", "参数";
    VARIANT = "Signature variant", "签名方式";
    TEXT = "Signed text (secret masked)", "待签名字符串（密钥已隐藏）";
    MISTAKE = "Possible mistake", "可能的错误";
    NOTHING_SIGNED = "This sender has no signed text to show.", "该发送方没有可显示的待签名字符串。";
}

/// The masked request.
pub fn request(lang: Lang, request: &Masked<'_>) -> Markup {
    let facts = facts(
        lang,
        &[
            (METHOD, html! { code { (request.method) } }),
            (PATH, value::whole(&request.path)),
            (BODY, html! { (BYTES.fill(lang, &[&request.body_bytes])) }),
        ],
    );
    let fields = request.headers.iter();
    let fields: Vec<_> =
        fields.map(|(name, text)| vec![html! { code { (name) } }, value::whole(text)]).collect();
    html! {
        section aria-labelledby="request" {
            h2 #request { (REQUEST.of(lang)) }
            (facts)
            @match &request.params {
                Some(params) => (pairs(lang, PARAMETERS, params)),
                None => p { (GONE.of(lang)) },
            }
            (table::table(lang, FIELDS.of(lang), &[NAME, VALUE], &fields, NONE))
        }
    }
}

/// A JSON object as a table.
pub fn pairs(lang: Lang, caption: Text, object: &RawValue) -> Markup {
    let members: Map<String, Value> = serde_json::from_str(object.get()).unwrap_or_default();
    let rows: Vec<_> = members
        .iter()
        .map(|(name, member)| {
            let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
            vec![value::short(name), value::whole(&text)]
        })
        .collect();
    html! { (table::table(lang, caption.of(lang), &[NAME, VALUE], &rows, NONE)) }
}

/// Explains a request to `source` as of `at_ms`.
pub fn explain(
    console: &Console,
    config: &Config,
    source: &Source,
    request: &RawRequest,
    at_ms: UnixMillis,
) -> Explanation {
    let headers = request.header_map();
    let base = config.server.public_url.as_deref().unwrap_or_default();
    let keys = |recipe: &Recipe| console.tools.keys.of(recipe)?.now();
    explained(config, source, &request.as_request(base, &headers), at_ms, &keys)
}

/// The result of explain.
pub fn explanation(lang: Lang, found: &Explanation) -> Markup {
    let verdict = match found.verdict {
        Verdict::Verified => html! { span.badge.verified { (VERIFIED.of(lang)) } },
        Verdict::Rejected => html! {
            span.badge.rejected { (NOT_VERIFIED.of(lang)) }
            @if let Some(reason) = found.reason { " " (badge::reason(lang, reason)) }
        },
    };
    let mut all = vec![(VERDICT, verdict)];
    if let Some(parameter) = &found.parameter {
        all.push((PARAMETER, value::short(parameter)));
    }
    if let Some(reading) = &found.reading {
        all.push((VARIANT, value::whole(reading)));
    }
    if let Some(mistake) = &found.mistake {
        let advice = html! {
            code { (mistake.kind.as_str()) } " "
            @if let Some(parameter) = &mistake.parameter { (value::short(parameter)) " " }
            span lang="en" { (mistake.advice) }
        };
        all.push((MISTAKE, advice));
    }
    html! {
        section aria-labelledby="signed" {
            h2 #signed { (SIGNED.of(lang)) }
            p.hint { (SIGNED_NOTE.of(lang)) }
            (facts(lang, &all))
            @match &found.signed_text {
                Some(text) => { p { (TEXT.of(lang)) } (value::block(text)) },
                None => p.empty { (NOTHING_SIGNED.of(lang)) },
            }
        }
    }
}
