//! What a template makes of a recorded event. Nothing is delivered.

use maud::{Markup, html};
use serde_json::value::RawValue;

use super::captured;
use super::event::withheld;
use super::managed::FormErrors;
use crate::clock::now_ms;
use crate::config::{Config, Destination, Source};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::Field;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::{json, time, value};
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::text::{Text, texts};
use crate::delivery::{NoPreview, Preview};
use crate::ledger::{EventBody, EventDetail, LedgerError, LogQuery, Logged, SourceId};

texts! {
    TITLE = "Preview", "预览";
    NOT_SENT = "Nothing is sent or saved. Event {}.", "不会发送，也不会保存。事件 {}。";
    EVENT = "Event to preview", "用于预览的事件";
    EVENT_HINT = "The id of a recorded event. If empty, the latest.", "已记录事件的 ID。留空则为最近一个事件。";
    SHOW = "Preview request", "预览请求";
    WITH_VALUES = "Preview with these values", "按当前填写的内容预览";
    TYPED_AGAIN = "Enter new secrets again before you save.", "保存前请重新填写新密钥。";
    NO_EVENT = "no such event", "没有该事件";
    NOTHING_YET = "There is no event to preview yet.", "尚无可用于预览的事件。";
    OTHER_SOURCE = "is an event of another source", "是其他来源的事件";
    PASSES_ON = "This format passes on the original request with its signature, which is not shown. See the request on the event's page.",
        "该格式会转发原始请求及其签名，签名不显示。请在事件页查看请求。";
    WITHHELD = "Not sent to this URL:", "不会发送到该地址：";
    INVALID = "No request can be made:", "无法生成请求：";
    HEADERS = "Headers (signatures and secrets masked)", "请求头（签名和密钥已隐藏）";
    BODY = "Body", "请求体";
    NO_BODY = "There is no body.", "没有请求体。";
    NOT_TEXT = "The body is not text.", "请求体不是文本。";
    VALUES = "Values of the template", "模板的值";
    UNRESOLVED = "Unresolved placeholders", "未解析的占位符";
    NONE = "None", "无";
}

/// Suggested events.
const SUGGESTED_MAX: usize = 10;

/// Path segment of the page of a destination with a preview.
pub const PATH: &str = "preview";

/// Sources of a destination whose events are suggested.
const SOURCES_MAX: usize = 20;

/// The query field with the event.
pub const FIELD: &str = "event";

/// The same in a form of other fields.
const IN_FORM: &str = "preview_event";

/// The value of the button that previews a form.
const DO: &str = "preview";

/// The event that a form is to be previewed with, if it is to be; empty: the latest.
pub fn asked(form: &Fields) -> Option<&str> {
    let is_asked = form.text("do") == Some(DO);
    is_asked.then(|| form.text(IN_FORM).unwrap_or_default())
}

/// The label of the button that previews what is saved.
pub const BUTTON: Text = SHOW;

/// The latest events of these sources, or of all: id, and what it is.
pub async fn suggested(
    console: &Console,
    sources: &[&Source],
) -> Result<Vec<(String, String)>, PageError> {
    let ids = sources.iter().take(SOURCES_MAX).map(|of| SourceId::from(of.id.as_str()));
    let mut asked: Vec<_> = ids.map(Some).collect();
    if asked.is_empty() {
        asked.push(None);
    }
    let mut events = Vec::new();
    for source in asked {
        let query = LogQuery { source, ..LogQuery::default() };
        events.extend(console.ledger().query(&query, None, SUGGESTED_MAX).await?.events);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.received_ms));
    events.truncate(SUGGESTED_MAX);
    Ok(events.iter().map(|event| (event.id.to_string(), about(event))).collect())
}

fn about(event: &Logged) -> String {
    let at = time::second(event.received_ms);
    let Ok(body) = EventBody::decode(&event.body) else { return at };
    let Ok(read) = body.event() else { return at };
    format!("{at} · {} · {}", read.transaction, read.user.as_deref().unwrap_or("–"))
}

/// The field that takes an event.
pub fn field(lang: Lang, events: &[(String, String)], id: &str, errors: &FormErrors) -> Markup {
    field_called(FIELD, lang, events, (id, errors))
}

fn field_called(
    name: &str,
    lang: Lang,
    events: &[(String, String)],
    (id, errors): (&str, &FormErrors),
) -> Markup {
    let list = format!("{name}-suggested");
    html! {
        datalist id=(list) {
            @for (id, about) in events { option value=(id) { (about) } }
        }
        (Field {
            value: id, hint: Some(EVENT_HINT), error: errors.of(name), list: Some(&list),
            ..Field::new(name, EVENT)
        }.show(lang))
    }
}

/// The field, and the button that previews the values of the form around it.
pub fn in_form(
    lang: Lang,
    events: &[(String, String)],
    typed: Option<&Fields>,
    errors: &FormErrors,
) -> Markup {
    let id = typed.and_then(|form| form.text(IN_FORM)).unwrap_or_default();
    html! {
        fieldset.boxes {
            legend { (TITLE.of(lang)) }
            (field_called(IN_FORM, lang, events, (id, errors)))
            button.quiet type="submit" name="do" value=(DO) { (WITH_VALUES.of(lang)) }
        }
    }
}

/// The event that is previewed: the one called `id`, or the latest of `sources`, or of all.
async fn event(
    console: &Console,
    lang: Lang,
    sources: &[&Source],
    (id, field): (&str, &str),
) -> Result<Result<EventDetail, FormErrors>, PageError> {
    let wrong = |text: Text| Ok(Err(FormErrors::one(field, text.of(lang))));
    let latest = match id {
        "" => suggested(console, sources).await?.into_iter().next().map(|(id, _)| id),
        id => Some(id.to_owned()),
    };
    let Some(id) = latest else { return wrong(NOTHING_YET) };
    let detail = match id.parse() {
        Ok(id) => console.ledger().event(id).await?,
        Err(_) => None,
    };
    Ok(match detail {
        None => return wrong(NO_EVENT),
        Some(detail) => Ok(detail),
    })
}

/// The sources that deliver to the destination called `name`.
pub fn users<'c>(config: &'c Config, name: &str) -> Vec<&'c Source> {
    let all = config.sources.values().map(|source| &**source);
    all.filter(|source| source.destinations.iter().any(|to| to == name)).collect()
}

fn section(lang: Lang, id: &str, shown: &Markup, more: Option<Text>) -> Markup {
    let (before, after) = NOT_SENT.of(lang).split_once("{}").unwrap_or_default();
    html! {
        section.preview aria-labelledby="preview" {
            h2 #preview { (TITLE.of(lang)) }
            p {
                (before) a href={ (Area::Event.path()) "/" (id) } { code { (id) } } (after)
                @if let Some(more) = more { " " (more.of(lang)) }
            }
            (shown)
        }
    }
}

/// Whether a form with values that are not saved is previewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    Saved,
    Typed,
}

/// The request that `destination` would get for the event called `id`, or for the latest.
pub async fn of_destination(
    console: &Console,
    lang: Lang,
    destination: &Destination,
    (id, values): (&str, Values),
) -> Result<Result<Markup, FormErrors>, PageError> {
    let config = console.config();
    let of = (id, if values == Values::Typed { IN_FORM } else { FIELD });
    let detail = match event(console, lang, &users(&config, &destination.name), of).await? {
        Ok(detail) => detail,
        Err(errors) => return Ok(Err(errors)),
    };
    let id = detail.event.id;
    let made = Preview::of(destination, &config.catalog, (id, &detail.event.body), now_ms()).await;
    let shown = match &made {
        Ok(made) => request(lang, made),
        Err(NoPreview::PassesOn) => notice(Tone::Plain, PASSES_ON.of(lang)),
        Err(NoPreview::Withheld(why)) => html! {
            (notice(Tone::Bad, &format!("{} {}", WITHHELD.of(lang), withheld(*why).of(lang))))
        },
        Err(NoPreview::Invalid(why)) => html! {
            div.notice.bad { p { (INVALID.of(lang)) } p lang="en" { (value::whole(why)) } }
        },
    };
    let more = (values == Values::Typed).then_some(TYPED_AGAIN);
    Ok(Ok(section(lang, &id.to_string(), &shown, more)))
}

fn request(lang: Lang, made: &Preview) -> Markup {
    let body = std::str::from_utf8(&made.body);
    html! {
        (value::block(&format!("{} {}", made.method, made.url)))
        h3 { (HEADERS.of(lang)) }
        dl.pairs {
            @for (name, text) in &made.headers { dt { code { (name) } } dd { (value::whole(text)) } }
        }
        h3 { (BODY.of(lang)) }
        @match body {
            Ok("") => p.empty { (NO_BODY.of(lang)) },
            Ok(body) => (value::block(json::pretty(body).as_deref().unwrap_or(body))),
            Err(_) => p.empty { (NOT_TEXT.of(lang)) },
        }
    }
}

/// What the template of `source` makes of its event called `id`, or of the latest.
pub async fn of_source(
    console: &Console,
    lang: Lang,
    source: &Source,
    id: &str,
) -> Result<Result<Markup, FormErrors>, PageError> {
    let field = IN_FORM;
    let detail = match event(console, lang, &[source], (id, field)).await? {
        Ok(detail) if source.id == detail.event.source.as_str() => detail,
        Ok(_) => return Ok(Err(FormErrors::one(field, OTHER_SOURCE.of(lang)))),
        Err(errors) => return Ok(Err(errors)),
    };
    let corrupt = |_| LedgerError::Corrupt(detail.event.id.to_string());
    let body = EventBody::decode(&detail.event.body).map_err(corrupt)?;
    let headers = body.request.header_map();
    let request = body.request.as_request("", &headers);
    let mut callback = source.recipe.read(request, detail.event.received_ms);
    let made = callback.preview_template(detail.event.id);
    let values = match made.json.as_str() {
        "" => String::from("{}"),
        _ => made.json,
    };
    let values = RawValue::from_string(values).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let shown = html! {
        (captured::pairs(lang, VALUES, &values))
        h3 { (UNRESOLVED.of(lang)) }
        @if made.unresolved.is_empty() { p.empty { (NONE.of(lang)) } }
        @else {
            p { @for (at, one) in made.unresolved.iter().enumerate() { @if at > 0 { ", " } (value::short(one)) } }
        }
    };
    Ok(Ok(section(lang, &detail.event.id.to_string(), &shown, Some(TYPED_AGAIN))))
}
