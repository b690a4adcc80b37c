//! The debug tool: reads, explains, signs and sends a callback.
//!
//! A read-only token may explain; signing and sending need write access. Requests go to the callback
//! listener of this gateway only.

mod sent;
mod sheet;

use std::sync::Arc;

use maud::{Markup, html};

use self::sent::Sent;
use self::sheet::{Prefill, Sheet};
use super::captured::{self, Received};
use crate::clock::{UnixMillis, now_ms};
use crate::config::{Config, Source};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form as forms;
use crate::console::components::form::Field;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::value;
use crate::console::fields::{self, Fields};
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::FormErrors;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{EventBody, Rejection};
use crate::operator::{
    Asker, CallPurpose, Capture, Explained, Masked, Overloaded, as_text, base_of, curl, source_of,
};
use crate::registry::{Action, AuditSubject};
use crate::sender::{Composing, DefinitionError, OwnedRequest, Signing};

texts! {
    INTRODUCTION = "Paste a captured callback, or choose a source and fill one in.", "粘贴抓取到的回调，或选择一个来源并填写回调。";
    SOURCE = "Source", "来源";
    CHOOSE = "Choose source", "选择来源";
    NO_SOURCE = "Source {} does not exist.", "来源 {} 不存在。";
    NONE_YET = "No sources. Create one under Sources.", "尚无来源。请在“来源”页创建。";
    GONE = "This rejected callback is no longer kept.", "该被拒绝的回调已不再保留。";
    REJECTION = "Rejected callback {}, as received", "被拒绝的回调 {}（原样）";
    EVENT = "Event {}, as received", "事件 {}（原样）";
    EVENT_GONE = "This event is not one of this source, or no longer kept.", "该事件不属于此来源，或已不再保留。";
    READ = "Parameters (signatures masked)", "参数（签名已隐藏）";
    NAME = "Name", "名称";
    WHERE = "Location", "位置";
    VALUE = "Value", "值";
    NOTHING_READ = "No parameters.", "没有参数。";
    CURL = "As a command", "等价的命令";
    COPY = "Copy command", "复制命令";
    NO_TEXT = "The signed request contains bytes that cannot be shown as text. Use the command line: postern sign.",
        "签名后的请求含有无法显示为文本的字节，请使用命令行 postern sign。";
    NO_RANDOM = "No randomness from the operating system.", "操作系统无法提供随机数。";
    NOT_DONE = "This cannot be done yet:", "暂时无法执行：";
    UNEXPLAINED = "Could not explain:", "无法诊断：";
    OVERLOADED = "Too many explanations are running, so this callback is not explained. “Explain callback” below explains it later.",
        "诊断请求过多，未诊断此回调。稍后点击下方的“诊断回调”即可。";
    NO_TIME = "must be a time", "必须是时间";
    NOT_HERE = "must have the path of the source, {}", "路径必须是该来源的路径 {}";
}

const PATH: &str = Area::Debug.path();

/// The result for one callback.
#[derive(Debug)]
struct Found {
    explained: Result<Explained, Overloaded>,
    /// The command, if the callback was signed here.
    command: Option<String>,
    /// The result of sending it.
    sent: Option<Sent>,
}

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    if !visit.rest.is_empty() {
        return Err(PageError::Absent);
    }
    let (lang, config) = (visit.lang, console.config());
    let Some(name) = visit.query.text("source") else {
        let errors = FormErrors::default();
        let paste = (!config.sources.is_empty()).then(|| sheet::unnamed(visit, "", &errors));
        return Ok(page(
            lang,
            &html! { (chooser(lang, &config, "")) @if let Some(paste) = paste { (paste) } },
        ));
    };
    let Some(source) = config.sources.get(name) else {
        let middle = html! {
            (notice(Tone::Bad, &NO_SOURCE.fill(lang, &[&name])))
            (chooser(lang, &config, ""))
        };
        return Ok(page(lang, &middle));
    };
    let rejection = match (visit.query.text("rejection"), visit.query.text("event")) {
        (Some(id), _) => Some(rejection(console, lang, &config, source, id).await?),
        (None, Some(id)) => Some(event(console, lang, &config, source, id).await?),
        (None, None) => None,
    };
    let (shown, prefill) = match rejection {
        Some((shown, prefill)) => (shown, prefill),
        None => (html! {}, Prefill::default()),
    };
    let middle = html! {
        (chooser(lang, &config, name))
        (shown)
        (Sheet::prefilled(source, prefill).show(visit))
    };
    Ok(page(lang, &middle))
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    if !visit.rest.is_empty() {
        return Err(PageError::Absent);
    }
    let config = console.config();
    let source = match form.text("source") {
        Some(name) => config.sources.get(name).ok_or(PageError::Absent)?,
        None => match named_by_path(&config, form) {
            Ok(source) => source,
            Err(errors) => return Ok(unfound(visit, &config, form, &errors)),
        },
    };
    let mut sheet = Sheet::typed(source, form);
    let lang = visit.lang;
    let done = match form.text("do") {
        Some("sign") if !visit.viewer.may_change() => return Err(PageError::ReadOnly),
        Some("send" | "deliver") if !visit.viewer.may_change() => return Err(PageError::ReadOnly),
        Some("sign") => sign(console, visit.lang, &config, source, &mut sheet).await?,
        Some("send") => {
            let purpose = CallPurpose::Test(&console.tools.callback_handler);
            send(console, visit, &config, source, &sheet, purpose).await?
        }
        Some("deliver") => match sheet.unconfirmed(visit.lang) {
            Some(errors) => Err(errors),
            None => send(console, visit, &config, source, &sheet, CallPurpose::Real).await?,
        },
        _ => explain(console, visit.lang, &config, source, &sheet).await?,
    };
    match done {
        Ok(found) => Ok(page(
            lang,
            &html! {
                (chooser(lang, &config, &source.name))
                (shown(lang, &found))
                (sheet.show(visit))
            },
        )),
        Err(errors) => {
            sheet.errors = errors;
            let heading = match form.text("do") {
                Some("sign" | "send" | "deliver") => NOT_DONE,
                _ => UNEXPLAINED,
            };
            let middle = html! {
                (sheet.errors.show_under(lang, heading))
                (chooser(lang, &config, &source.name))
                (sheet.show(visit))
            };
            Ok(Reply::Invalid(Area::Debug.title().of(lang).to_owned(), middle))
        }
    }
}

/// The source in the path of the captured callback.
fn named_by_path<'c>(config: &'c Config, form: &Fields) -> Result<&'c Arc<Source>, FormErrors> {
    let typed = form.verbatim("request").unwrap_or_default();
    let found = Capture::read(typed).and_then(|capture| capture.source(config));
    found.map_err(|why| FormErrors::of_field("request", &why))
}

/// The forms again, with the reason why no source was found.
fn unfound(visit: &Visit, config: &Config, form: &Fields, errors: &FormErrors) -> Reply {
    let typed = form.verbatim("request").unwrap_or_default();
    let middle = html! {
        (errors.show_under(visit.lang, UNEXPLAINED))
        (chooser(visit.lang, config, ""))
        (sheet::unnamed(visit, typed, errors))
    };
    Reply::Invalid(Area::Debug.title().of(visit.lang).to_owned(), middle)
}

fn page(lang: Lang, middle: &Markup) -> Reply {
    let middle = html! { p { (INTRODUCTION.of(lang)) } (middle) };
    Reply::Page(Area::Debug.title().of(lang).to_owned(), middle)
}

fn chooser(lang: Lang, config: &Config, chosen: &str) -> Markup {
    let names: Vec<(&str, &str)> =
        config.sources.keys().map(|name| (name.as_str(), name.as_str())).collect();
    if names.is_empty() {
        return notice(Tone::Plain, NONE_YET.of(lang));
    }
    forms::ask(
        PATH,
        &html! {
            (Field { value: chosen, ..Field::new("source", SOURCE) }.show_choice(lang, &names))
            button.quiet type="submit" { (CHOOSE.of(lang)) }
        },
    )
}

// === Explained ===

async fn explaining(
    console: &Console,
    config: &Arc<Config>,
    source: &Source,
    request: OwnedRequest,
    at_ms: UnixMillis,
) -> Result<Result<Explained, Overloaded>, PageError> {
    let asked = captured::to_explain(config, source, request, at_ms)?;
    let keys = captured::keys_of(console.tools.keys.clone());
    Ok(asked.explained(Asker::Console, keys).await)
}

async fn explain(
    console: &Console,
    lang: Lang,
    config: &Arc<Config>,
    source: &Source,
    sheet: &Sheet<'_>,
) -> Result<Result<Found, FormErrors>, PageError> {
    let Pasted { request, at_ms } = match pasted(lang, source, sheet) {
        Ok(pasted) => pasted,
        Err(errors) => return Ok(Err(errors)),
    };
    let explained = explaining(console, config, source, request, at_ms).await?;
    Ok(Ok(Found { explained, command: None, sent: None }))
}

/// A pasted callback, and the time that it is explained for.
struct Pasted {
    request: OwnedRequest,
    at_ms: UnixMillis,
}

fn pasted(lang: Lang, source: &Source, sheet: &Sheet<'_>) -> Result<Pasted, FormErrors> {
    let capture =
        Capture::read(&sheet.request).map_err(|why| FormErrors::of_field("request", &why))?;
    let logged = capture.at_ms;
    let request = capture.to(source);
    let at_ms = match sheet.at.as_str() {
        "" => logged.unwrap_or_else(now_ms),
        text => fields::time(text).ok_or_else(|| FormErrors::one("at", NO_TIME.of(lang)))?,
    };
    Ok(Pasted { request, at_ms })
}

/// A rejected callback, explained as of its receipt, and what of it the forms begin with.
async fn rejection(
    console: &Console,
    lang: Lang,
    config: &Arc<Config>,
    source: &Arc<Source>,
    id: &str,
) -> Result<(Markup, Prefill), PageError> {
    let log = console.rejections();
    let kept = match id.parse() {
        Ok(id) => log.get(id).await?,
        Err(_) => None,
    };
    let is_of = |kept: &Rejection| source_of(kept, config).is_some_and(|of| of.name == source.name);
    let Some(kept) = kept.filter(is_of) else {
        return Ok((notice(Tone::Bad, GONE.of(lang)), Prefill::default()));
    };
    let received = Received { request: &kept.request, source, at_ms: kept.at_ms };
    let about = REJECTION.fill(lang, &[&kept.id]);
    opened(console, lang, config, received, &about).await
}

/// The callback of an event, explained as of its receipt, and what of it the forms begin with.
async fn event(
    console: &Console,
    lang: Lang,
    config: &Arc<Config>,
    source: &Arc<Source>,
    id: &str,
) -> Result<(Markup, Prefill), PageError> {
    let detail = match id.parse() {
        Ok(id) => console.ledger().event(id).await?,
        Err(_) => None,
    };
    let detail = detail.filter(|detail| detail.event.source.as_str() == source.id);
    let body = detail.as_ref().map(|detail| EventBody::decode(&detail.event.body));
    let (Some(detail), Some(Ok(body))) = (&detail, &body) else {
        return Ok((notice(Tone::Bad, EVENT_GONE.of(lang)), Prefill::default()));
    };
    let received = Received { request: &body.request, source, at_ms: detail.event.received_ms };
    let about = EVENT.fill(lang, &[&detail.event.id]);
    opened(console, lang, config, received, &about).await
}

async fn opened(
    console: &Console,
    lang: Lang,
    config: &Arc<Config>,
    received: Received<'_>,
    title: &str,
) -> Result<(Markup, Prefill), PageError> {
    let Received { request, source, at_ms } = received;
    let found = captured::explain(console, config, source, request, at_ms).await?;
    let masked = Masked::of(request, config, Some(source), at_ms);
    let shown = html! {
        p { b { (title) } }
        (captured::request(console, lang, &masked, Some(received)))
        (captured::explained(lang, &found))
    };
    Ok((shown, Prefill::of(received, &masked)))
}

// === Signed ===

async fn sign(
    console: &Console,
    lang: Lang,
    config: &Arc<Config>,
    source: &Source,
    sheet: &mut Sheet<'_>,
) -> Result<Result<Found, FormErrors>, PageError> {
    let now = now_ms();
    let base = base_of(&config.server, console.tools.callbacks);
    let request = match signed(lang, source, sheet, &base, now) {
        Ok(request) => request,
        Err(errors) => return Ok(Err(errors)),
    };
    let command = Some(curl(&base, &request));
    let explained = explaining(console, config, source, request, now).await?;
    Ok(Ok(Found { explained, command, sent: None }))
}

/// The callback that the form describes, signed: the sheet shows it from now on.
fn signed(
    lang: Lang,
    source: &Source,
    sheet: &mut Sheet<'_>,
    base: &str,
    now: UnixMillis,
) -> Result<OwnedRequest, FormErrors> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| FormErrors::one("", NO_RANDOM.of(lang)))?;
    let signing = Signing { salt, base, ..Signing::at(now) };
    let recipe = &source.recipe;
    let pairs = sheet.pairs(lang)?;
    let signed: Result<OwnedRequest, DefinitionError> = recipe
        .signable_for_others()
        .and_then(|()| recipe.compose(&pairs, &Composing::to(&source.path())))
        .and_then(|request| recipe.sign(&request, &signing));
    let signed = signed.map_err(|fault| FormErrors::of_definition(&fault))?;
    let text = as_text(&signed).ok_or_else(|| FormErrors::one("", NO_TEXT.of(lang)))?;
    sheet.request = text;
    Ok(signed)
}

// === Sent ===

async fn send(
    console: &Console,
    visit: &Visit,
    config: &Arc<Config>,
    source: &Source,
    sheet: &Sheet<'_>,
    purpose: CallPurpose<'_>,
) -> Result<Result<Found, FormErrors>, PageError> {
    let lang = visit.lang;
    let request = match Capture::read(&sheet.request) {
        Ok(capture) => capture.to(source),
        Err(why) => return Ok(Err(FormErrors::of_field("request", &why))),
    };
    let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if path != source.path().as_bytes() {
        let what = NOT_HERE.fill(lang, &[&source.path()]);
        return Ok(Err(FormErrors::one("request", what)));
    }
    let kind = match purpose {
        CallPurpose::Test(_) => "test_callback",
        CallPurpose::Real => "real_callback",
    };
    let (who, subject) = (&visit.viewer.who, AuditSubject::new(kind, &source.name));
    console.tools.registry.note(who, Action::Created, subject).await?;
    tracing::info!(target: "postern::console", source = source.name, who = who.as_str(), kind, "sending a callback");
    let sent = Sent::to(console, source, &request, purpose).await;
    // From here on no error may hide that it was sent: an operator would send it again. This one
    // cannot come, as the source is from `config`.
    let explained = explaining(console, config, source, request, now_ms()).await?;
    Ok(Ok(Found { explained, command: None, sent: Some(sent) }))
}

// === Shown ===

fn shown(lang: Lang, found: &Found) -> Markup {
    html! {
        @if let Some(sent) = &found.sent { (sent.show(lang)) }
        @match &found.explained {
            Ok(explained) => (about(lang, explained)),
            Err(Overloaded) => (notice(Tone::Plain, OVERLOADED.of(lang))),
        }
        @if let Some(command) = &found.command {
            section aria-labelledby="curl" {
                h2 #curl { (CURL.of(lang)) }
                div #command { (value::block(command)) }
                button.quiet type="button" data-copy="command" hidden { (COPY.of(lang)) }
            }
        }
    }
}

fn about(lang: Lang, explained: &Explained) -> Markup {
    let Explained { explanation, misdirected } = explained;
    let rows: Vec<_> = explanation
        .parameters
        .iter()
        .map(|one| {
            let place = words::place(one.r#in).map_or(one.r#in, |text| text.of(lang));
            vec![value::short(&one.name), html! { (place) }, value::whole(&one.value)]
        })
        .collect();
    html! {
        @if let Some(note) = misdirected {
            (notice(Tone::Bad, &match lang { Lang::En => note.english(), Lang::Zh => note.chinese() }))
        }
        (captured::explanation(lang, explanation))
        (DataTable::new(Caption::Shown(READ.of(lang)), &[NAME, WHERE, VALUE], NOTHING_READ).show(lang, &rows))
    }
}
