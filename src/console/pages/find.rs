//! The box that takes anything: a user, a transaction, an id, a name, a log line, or a callback as
//! URL, command or whole request. A callback is explained, and its event found.

use maud::{Markup, html};

use super::captured::Received;
use super::compare::Claims;
use super::why::{self, Captured};
use super::{captured, destinations, sources};
use crate::clock::now_ms;
use crate::config::{Config, Source};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::notice::{Tone, notice};
use crate::console::components::{time, value};
use crate::console::fields::{Fields, query, segment};
use crate::console::findings::PastedCallback;
use crate::console::messages;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{EventId, HeldId, HeldOne, HeldWhy, LogQuery, RawRequest};
use crate::operator::{Capture, Masked};
use crate::sender::{OwnedRequest, Role};

texts! {
    TITLE = "Pasted callback", "粘贴的回调";
    AT = "Pasted {}. The address of this page can be shared; it is kept until the gateway restarts.", "粘贴于 {}。本页地址可以分享，保留至网关重启。";
    GONE = "This result is no longer kept. Paste the callback again.", "该结果已不再保留，请重新粘贴回调。";
    UNREADABLE = "The text is not a callback: {}", "该文本不是回调：{}";
    SEARCH = "Search for it as user or transaction", "作为用户或交易号搜索";
    OF_PATH = "Source {}, by the path", "来源 {}（按路径识别）";
    CHOSEN = "Source {}, chosen", "来源 {}（手动选择）";
    UNNAMED = "Choose the source to explain the callback for: {}", "请选择用于诊断的来源：{}";
    GONE_SOURCE = "Source {} does not exist.", "来源 {} 不存在。";
    SOURCE = "Source", "来源";
    EXPLAIN = "Explain for this source", "按该来源诊断";
    ALL_OF = "All callbacks of this transaction", "该交易的全部回调";
    OF_USER = "All callbacks of this user", "该用户的全部回调";
    TRY = "Open debug tool", "打开调试工具";
    NO_RANDOM = "No randomness from the operating system.", "操作系统无法提供随机数。";
}

/// A result that is no longer kept.
const IS_GONE: PageError = PageError::Gone { why: GONE, list: Area::Callbacks };

/// Characters of a text that is searched for: longer ones are callbacks.
const WORD_CHARACTERS_MAX: usize = 512;

pub(crate) async fn get(console: &Console, visit: &Visit) -> PageResult {
    match visit.rest().as_slice() {
        [] => find(console, visit.query.text("q").unwrap_or_default()).await,
        [id] => {
            let pasted = console.findings().find(id).ok_or(IS_GONE)?;
            page(console, visit, &pasted).await
        }
        _ => Err(PageError::Absent),
    }
}

pub(crate) async fn post(console: &Console, visit: &Visit, form: &Fields) -> PageResult {
    match visit.rest.is_empty() {
        true => find(console, form.text("q").unwrap_or_default()).await,
        false => Err(PageError::Absent),
    }
}

/// Finds the page about `text`.
async fn find(console: &Console, text: &str) -> PageResult {
    if let Some(path) = by_id(console, text).await? {
        return Ok(Reply::Redirect(path));
    }
    if looks_like_callback(text) {
        let pasted = console.findings().keep(text, now_ms());
        let pasted = pasted.ok_or(PageError::Bad(NO_RANDOM))?;
        return Ok(Reply::Redirect(format!("{}/{}", Area::Find.path(), pasted.id)));
    }
    if let Some(path) = by_name(console, text).await? {
        return Ok(Reply::Redirect(path));
    }
    let pairs: &[(&str, &str)] = if text.is_empty() { &[] } else { &[("q", text)] };
    Ok(Reply::Redirect(format!("{}{}", Area::Callbacks.path(), query(pairs))))
}

/// The page of the first id of an event or a rejected callback in `text`, as in a log line.
async fn by_id(console: &Console, text: &str) -> Result<Option<String>, PageError> {
    let is_part = |one: char| one.is_ascii_alphanumeric() || one == '_';
    for word in text.split(|one| !is_part(one)).filter(|word| word.len() >= 32) {
        let event = word.parse::<EventId>().or_else(|_| format!("evt_{word}").parse());
        if let Ok(id) = event
            && console.ledger().event(id).await?.is_some()
        {
            return Ok(Some(format!("{}/{id}", Area::Event.path())));
        }
        let Ok(id) = word.parse::<HeldId>() else { continue };
        return Ok(match console.ledger().held_one(id).await? {
            Some(HeldOne::Waiting(held)) if held.why != HeldWhy::Rejected => {
                Some(format!("{}/{id}", Area::Held.path()))
            }
            Some(HeldOne::Decided(_)) => Some(format!("{}/{id}", Area::Held.path())),
            _ => Some(format!("{}/{id}", Area::Rejection.path())),
        });
    }
    Ok(None)
}

/// The page of a source, destination or sender, unless a user or transaction has that name.
async fn by_name(console: &Console, text: &str) -> Result<Option<String>, PageError> {
    let config = console.config();
    let path = if config.sources.contains_key(text) {
        sources::path_of(text)
    } else if config.destinations.contains_key(text) && !console.view().is_bound() {
        destinations::path_of(text)
    } else if config.catalog.get(text).is_some() {
        format!("{}/{}", Area::Senders.path(), segment(text))
    } else {
        return Ok(None);
    };
    for query in [
        LogQuery { transaction: Some(text.to_owned()), ..LogQuery::default() },
        LogQuery { user: Some(text.to_owned()), ..LogQuery::default() },
    ] {
        if !console.ledger().query(&query, None, 1).await?.events.is_empty() {
            return Ok(None);
        }
    }
    Ok(Some(path))
}

fn looks_like_callback(text: &str) -> bool {
    let is_command = text.starts_with("curl ") || text.starts_with("curl.exe ");
    let is_query = text.contains('=') && text.contains(['&', '?']);
    is_command
        || is_query
        || text.starts_with(['/', '{'])
        || text.contains("://")
        || text.contains('\n')
        || text.chars().nth(WORD_CHARACTERS_MAX).is_some()
}

async fn page(console: &Console, visit: &Visit, pasted: &PastedCallback) -> PageResult {
    let (lang, config) = (visit.lang, console.config());
    let said = html! { p.hint { (AT.fill_with(lang, &[time::time(pasted.at_ms)])) } };
    let capture = match Capture::read(&pasted.text) {
        Ok(capture) => capture,
        Err(why) => {
            let word: String = pasted.text.chars().take(WORD_CHARACTERS_MAX).collect();
            let middle = html! {
                (notice(Tone::Bad, &UNREADABLE.fill(lang, &[&messages::text(lang, &why)])))
                (value::block(&pasted.text))
                p { a href={ (Area::Callbacks.path()) (query(&[("q", &word)])) } { (SEARCH.of(lang)) } }
            };
            return Ok(Reply::Invalid(TITLE.of(lang).to_owned(), middle));
        }
    };
    let chosen = visit.query.text("source");
    let source = match chosen {
        Some(name) => config.sources.get(name).ok_or_else(|| GONE_SOURCE.fill(lang, &[&name])),
        None => capture
            .source(&config)
            .map_err(|why| UNNAMED.fill(lang, &[&messages::text(lang, &why)])),
    };
    let (source, about) = match source {
        Ok(source) => (Some(source), explained(console, visit, source, &capture.to(source)).await?),
        Err(why) => (None, notice(Tone::Bad, &why)),
    };
    let middle = html! {
        (said)
        @if let Some(source) = source {
            @let text = if chosen.is_some() { CHOSEN } else { OF_PATH };
            p { b { (text.fill(lang, &[&source.name])) } " " a href=(sources::path_of(&source.name)) { (SOURCE.of(lang)) } }
        }
        (about)
        (choice(visit, &config, pasted, source.map(|source| source.name.as_str())))
    };
    Ok(Reply::Page(TITLE.of(lang).to_owned(), middle))
}

/// The choice of another source.
fn choice(visit: &Visit, config: &Config, pasted: &PastedCallback, now: Option<&str>) -> Markup {
    let lang = visit.lang;
    let names: Vec<(&str, &str)> =
        config.sources.keys().map(|name| (name.as_str(), name.as_str())).collect();
    form::ask(
        &format!("{}/{}", Area::Find.path(), pasted.id),
        &html! {
            (Field { value: now.unwrap_or_default(), ..Field::new("source", SOURCE) }.show_choice(lang, &names))
            button.quiet type="submit" { (EXPLAIN.of(lang)) }
        },
    )
}

/// The result for `source`: verified or not, and the event of its transaction.
async fn explained(
    console: &Console,
    visit: &Visit,
    source: &Source,
    request: &OwnedRequest,
) -> Result<Markup, PageError> {
    let (lang, config, at_ms) = (visit.lang, console.config(), now_ms());
    let raw = RawRequest {
        method: request.method.clone(),
        target: request.target.clone().into(),
        headers: request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        body: request.body.clone().into(),
    };
    let found = captured::explain(console, &config, source, &raw, at_ms).await?;
    let claims = Claims::of(&source.recipe.read(request.borrow(), at_ms));
    let captured = Captured { source, request: &raw, at_ms };
    let (why, compared) = why::sections(console, visit, captured, found.as_ref().ok()).await?;
    let masked = Masked::of(&raw, &config, Some(source), at_ms);
    let search = |text: &str| format!("{}{}", Area::Callbacks.path(), query(&[("q", text)]));
    Ok(html! {
        p.actions {
            @if let Some(text) = claims.get(Role::Transaction) { a href=(search(text)) { (ALL_OF.of(lang)) } }
            @if let Some(text) = claims.get(Role::User) { a href=(search(text)) { (OF_USER.of(lang)) } }
            a href={ (Area::Debug.path()) (query(&[("source", &source.name)])) } { (TRY.of(lang)) }
        }
        (captured::explained(lang, &found))
        (why)
        (compared)
        (captured::request(console, lang, &masked, Some(Received { request: &raw, source, at_ms })))
    })
}
