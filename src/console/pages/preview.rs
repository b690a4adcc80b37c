//! Previews: the request or the values that a template makes of a recorded event. Nothing is
//! delivered.

use maud::{Markup, html};
use serde_json::value::RawValue;

use super::captured;
use super::event::withheld;
use super::managed::FormErrors;
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
pub(super) const PATH: &str = "preview";

/// Sources of a destination whose events are suggested.
const SOURCES_MAX: usize = 20;

/// The query field with the event.
pub(super) const FIELD: &str = "event";

/// The same in a form of other fields.
const IN_FORM: &str = "preview_event";

/// The value of the button that previews a form.
const DO: &str = "preview";

/// The event that is asked for, and the values that it is shown with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'w> {
    /// Empty: the latest.
    pub id: &'w str,
    pub values: Values,
}

/// Whether a form with values that are not saved is previewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Saved,
    Typed,
}

impl Values {
    /// The form field with the event.
    const fn field(self) -> &'static str {
        match self {
            Self::Saved => FIELD,
            Self::Typed => IN_FORM,
        }
    }
}

/// The event that a form is to be previewed with, if it is to be.
pub(super) fn asked(form: &Fields) -> Option<Wanted<'_>> {
    let is_asked = form.text("do") == Some(DO);
    let id = form.text(IN_FORM).unwrap_or_default();
    is_asked.then_some(Wanted { id, values: Values::Typed })
}

/// The label of the button that previews what is saved.
pub(super) const BUTTON: Text = SHOW;

/// A suggested event.
#[derive(Clone, Debug)]
pub(super) struct Suggested {
    id: String,
    about: String,
}

/// The latest events of these sources, or of all.
pub(super) async fn suggested(
    console: &Console,
    sources: &[&Source],
) -> Result<Vec<Suggested>, PageError> {
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
    let suggested = |event: &Logged| Suggested { id: event.id.to_string(), about: about(event) };
    Ok(events.iter().map(suggested).collect())
}

fn about(event: &Logged) -> String {
    let at = time::second(event.received_ms);
    let Ok(body) = EventBody::decode(&event.body) else { return at };
    let Ok(read) = body.event() else { return at };
    format!("{at} UTC · {} · {}", read.transaction, read.user.as_deref().unwrap_or("–"))
}

/// The choice of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'c> {
    pub events: &'c [Suggested],
    /// The submitted id.
    pub id: &'c str,
    pub errors: &'c FormErrors,
}

impl<'c> Choice<'c> {
    /// The choice in a form, as it was submitted.
    pub(super) fn of_form(
        events: &'c [Suggested],
        form: Option<&'c Fields>,
        errors: &'c FormErrors,
    ) -> Self {
        let id = form.and_then(|form| form.text(IN_FORM)).unwrap_or_default();
        Self { events, id, errors }
    }

    /// The field for a preview of what is saved.
    pub(super) fn show(&self, lang: Lang) -> Markup {
        self.field(lang, Values::Saved)
    }

    /// The field, and the button that previews the values of the form around it.
    pub(super) fn show_in_form(&self, lang: Lang) -> Markup {
        html! {
            fieldset.boxes {
                legend { (TITLE.of(lang)) }
                (self.field(lang, Values::Typed))
                button.quiet type="submit" name="do" value=(DO) { (WITH_VALUES.of(lang)) }
            }
        }
    }

    fn field(&self, lang: Lang, values: Values) -> Markup {
        let name = values.field();
        let list = format!("{name}-suggested");
        html! {
            datalist id=(list) {
                @for one in self.events { option value=(one.id) { (one.about) } }
            }
            (Field {
                value: self.id, hint: Some(EVENT_HINT), error: self.errors.of(name),
                list: Some(&list), ..Field::new(name, EVENT)
            }.show(lang))
        }
    }
}

/// The event that is previewed: the one that is `wanted`, or the latest of `sources`, or of all.
async fn event(
    console: &Console,
    lang: Lang,
    sources: &[&Source],
    wanted: Wanted<'_>,
) -> Result<Result<EventDetail, FormErrors>, PageError> {
    let wrong = |text: Text| Ok(Err(FormErrors::one(wanted.values.field(), text.of(lang))));
    let latest = match wanted.id {
        "" => suggested(console, sources).await?.into_iter().next().map(|one| one.id),
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
pub(super) fn users<'c>(config: &'c Config, name: &str) -> Vec<&'c Source> {
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

/// The request that `destination` would get for an event.
pub(super) async fn of_destination(
    console: &Console,
    lang: Lang,
    destination: &Destination,
    wanted: Wanted<'_>,
) -> Result<Result<Markup, FormErrors>, PageError> {
    let config = console.config();
    let detail = match event(console, lang, &users(&config, &destination.name), wanted).await? {
        Ok(detail) => detail,
        Err(errors) => return Ok(Err(errors)),
    };
    let id = detail.event.id;
    let made = Preview::of(destination, &config.catalog, id, &detail.event.body).await;
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
    let more = (wanted.values == Values::Typed).then_some(TYPED_AGAIN);
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

/// The values that the template of `source` makes of an event.
pub(super) async fn of_source(
    console: &Console,
    lang: Lang,
    source: &Source,
    wanted: Wanted<'_>,
) -> Result<Result<Markup, FormErrors>, PageError> {
    let field = wanted.values.field();
    let detail = match event(console, lang, &[source], wanted).await? {
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
