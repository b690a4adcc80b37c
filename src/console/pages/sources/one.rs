//! One source: configuration, the URL to paste, signature coverage, and actions.

use std::sync::Arc;

use maud::{Markup, html};
use serde_json::Value;

use super::form;
use super::{State, path_of, secrets, sender_of, stored};
use crate::clock::{instant, now_ms};
use crate::config::{Origin, Source, Table};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::form as forms;
use crate::console::components::form::FormValues;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::{Fields, query, segment};
use crate::console::ignored;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{self, FormErrors, deletion, foreign};
use crate::console::pages::overview::{Figures, latency};
use crate::console::pages::preview::{self, Choice, Suggested};
use crate::console::pages::senders::contract;
use crate::console::pulse::Pulse;
use crate::console::reply::{PageResult, Reply};
use crate::console::sender_texts;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::ledger::SourceId;
use crate::operator::url_of;
use crate::registry::{Managed, SOURCE as SOURCE_KIND};
use crate::sender::{Contract, Outcome, Sender};
use crate::telemetry::Span;

texts! {
    SENDER = "Sender", "发送方";
    STATE = "State", "状态";
    ORIGIN = "Origin", "定义位置";
    PATH = "Path", "路径";
    ID = "Id", "标识";
    DESTINATIONS = "Destinations", "投递目标";
    CHANGED = "Changed", "最后更改";
    CHANGED_BY = "by {}", "操作者：{}";
    SEEN = "Last callback", "最近一次回调";
    GAP = "Usual gap", "通常间隔";
    RATE = "Callbacks, last hour", "最近一小时的回调";
    REJECTED = "Rejected, last hour", "最近一小时被拒绝";
    LATENCY = "Latency p50, p99", "耗时 p50、p99";
    SILENT = "silent", "没有动静";
    WRITTEN = "Configuration", "配置内容";
    KEY = "Key", "键";
    VALUE = "Value", "值";
    NOTHING = "None.", "无。";
    NO_DESTINATION = "None: events are stored and not delivered", "无：事件只保存，不投递";
    PASTE = "URL for the sender's console", "粘贴到发送方后台的 URL";
    NO_PUBLIC = "server.public_url is not set, so this is the local address of the gateway. Set it to the URL that the sender can reach.",
        "未设置 server.public_url，此处为网关的本地地址。请设置为发送方可访问的 URL。";
    SIGNS_URL = "The whole URL is signed. Paste it unchanged.", "整个 URL 参与签名，请原样粘贴。";
    ADDS_ITSELF = "The sender adds its parameters.", "参数由发送方附加。";
    COPY = "Copy URL", "复制 URL";
    TRY = "Open debug tool", "打开调试工具";
    CALLBACKS = "Show callbacks", "查看回调";
    COVERS = "Signature coverage", "签名覆盖范围";
    ROLE = "Role", "字段";
    WHERE = "Location", "位置";
    COVERED = "Covered", "是否覆盖";
    CARE = "Notes", "注意事项";
    UNCONFIRMED = "Not confirmed by the platform", "未经平台证实";
    CONTRACT = "Contract of this sender", "该发送方的对接约定";
    PAUSE = "Pause source", "暂停来源";
    RESUME = "Resume source", "恢复来源";
    PAUSE_HINT = "A paused source gives its sender the reply for a disabled source, and records nothing.",
        "暂停后按“已停用”应答发送方，不记录任何回调。";
    CHANGE = "Edit", "编辑";
    SAVE = "Save changes", "保存更改";
    DELETE = "Delete source", "删除来源";
    DELETE_HINT = "Its URL then returns 404. Events and known transactions are kept.", "删除后其 URL 返回 404。事件和已知的交易会保留。";
}

/// The input of the page besides the source.
#[derive(Debug, Default)]
pub(super) struct View<'s> {
    pub name: &'s str,
    pub errors: FormErrors,
    /// Submitted values that were rejected, or are previewed.
    pub typed: Option<&'s Fields>,
    /// The values that a typed template makes of an event.
    pub preview: Option<Markup>,
}

impl<'s> View<'s> {
    pub(super) fn of(name: &'s str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// The page of one source.
pub(super) async fn page(console: &Console, visit: &Visit, view: &View<'_>) -> PageResult {
    let View { name, errors, preview, .. } = view;
    let (lang, name) = (visit.lang, *name);
    let events = match console.config().sources.get(name) {
        Some(source) => preview::suggested(console, &[source]).await?,
        None => Vec::new(),
    };
    let state = console.tools.registry.running();
    let shown = state.show(Managed::Source, name).filter(|_| console.view().sees_named(name));
    let shown = shown.ok_or(PageError::Absent)?;
    let source = state.config.sources.get(name);
    let origin = source.map_or(Origin::Admin, |source| source.origin);
    let is_ours = origin == Origin::Admin;
    let version = is_ours.then(|| stored(console, name)).transpose()?.map(|(_, version)| version);
    let middle = html! {
        (managed::done(visit))
        (errors.show(lang))
        @if let Some(preview) = preview { (preview) }
        @if source.is_none() { (ignored::shown(lang, state.ignored(SOURCE_KIND, name))) }
        @if !is_ours { (foreign(lang, origin)) }
        @if let Some(source) = source {
            (facts(lang, &traffic(console, visit, source).await))
            (latencies(console, lang, source))
        }
        (about(visit, &shown, source, origin))
        @if let Some(source) = source {
            @if is_ours { (pause_section(visit, source)) }
            (paste(console, lang, source))
            (secrets::section(console, visit, source, errors, version.filter(|_| visit.viewer.may_change())))
            (contract(lang, source.recipe.sender()))
        }
        @if is_ours { (edit_section(console, visit, view, &events)?) }
    };
    Ok(Reply::Page(managed::title(Area::Sources, lang, name), middle))
}

/// The callbacks of a source: the last one, the last hour.
async fn traffic(console: &Console, visit: &Visit, source: &Source) -> Vec<(Text, Markup)> {
    let (lang, now) = (visit.lang, now_ms());
    let id = SourceId::from(source.id.as_str());
    let pulse = console.pulses().of(console.ledger(), &id).await.unwrap_or_default();
    let history: Vec<_> =
        console.tools.metrics.histories.find(&source.label()).into_iter().collect();
    let seen = history.first().and_then(|history| history.last_ms());
    let pulse = Pulse { last_ms: pulse.last_ms.max(seen), ..pulse };
    let at = instant();
    let all = Figures::of(&history, Outcome::ALL, at);
    let rejected = Figures::of(&history, &[Outcome::Rejected], at);
    let refused = format!(
        "{}{}",
        Area::Callbacks.path(),
        query(&[("source", &source.name), ("outcome", "rejected")])
    );
    vec![
        (
            SEEN,
            html! {
                @match pulse.last_ms {
                    Some(ms) => (time::ago(lang, ms, now)),
                    None => (value::maybe(None)),
                }
                @if pulse.silence(now).is_some() { " " span.badge.bad { (SILENT.of(lang)) } }
            },
        ),
        (GAP, value::maybe(pulse.gap.map(|gap| time::gap(lang, gap)).as_deref())),
        (RATE, html! { (value::count(all.count)) }),
        (REJECTED, html! { a href=(refused) { (rejected.share()) } }),
        (LATENCY, all.latency()),
    ]
}

fn latencies(console: &Console, lang: Lang, source: &Source) -> Markup {
    let history: Vec<_> =
        console.tools.metrics.histories.find(&source.label()).into_iter().collect();
    latency::chart(lang, latency::Of::Callbacks, &history, Span::Days, instant())
}

fn about(visit: &Visit, shown: &Value, source: Option<&Arc<Source>>, origin: Origin) -> Markup {
    let lang = visit.lang;
    let mut all: Vec<(Text, Markup)> =
        vec![(STATE, State::of(source.map(Arc::as_ref)).badge(lang))];
    if let Some(source) = source {
        let sender = source.recipe.sender();
        all.push((SENDER, html! { (value::short(sender.title())) " " code { (sender.name()) } }));
        all.push((PATH, html! { code { (source.path()) } }));
        all.push((ID, html! { code { (source.id) } }));
        all.push((DESTINATIONS, destinations(visit, source)));
    }
    all.push((ORIGIN, html! { (managed::origin(origin).of(lang)) }));
    if let (Some(at), Some(who)) = (shown["changed_at"].as_str(), shown["changed_by"].as_str()) {
        all.push((
            CHANGED,
            html! { (time::stored(at)) (lang.clause()) (CHANGED_BY.fill(lang, &[&who])) },
        ));
    }
    let written = source.map(|source| Table::clone(&source.shown)).unwrap_or_default();
    let rows: Vec<_> = written
        .iter()
        .filter(|(key, _)| {
            !matches!(key.as_str(), "name" | "sender" | "secrets" | "id" | "destinations")
        })
        .map(|(key, member)| {
            let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
            vec![html! { code { (key) } }, value::whole(&text)]
        })
        .collect();
    html! {
        (facts(lang, &all))
        @if !rows.is_empty() { (DataTable::new(Caption::Shown(WRITTEN.of(lang)), &[KEY, VALUE], NOTHING).show(lang, &rows)) }
        p.actions {
            a href={ (Area::Callbacks.path()) (query(&[("source", shown["name"].as_str().unwrap_or_default())])) } { (CALLBACKS.of(lang)) }
            @if source.is_some() {
                a href={ (Area::Debug.path()) (query(&[("source", shown["name"].as_str().unwrap_or_default())])) } { (TRY.of(lang)) }
            }
        }
    }
}

fn destinations(visit: &Visit, source: &Source) -> Markup {
    let lang = visit.lang;
    let has_page = visit.viewer.may_see(Area::Destinations);
    html! {
        @if source.destinations.is_empty() { (NO_DESTINATION.of(lang)) }
        @for (at, name) in source.destinations.iter().enumerate() {
            @if at > 0 { ", " }
            @if has_page { a href={ (Area::Destinations.path()) "/" (segment(name)) } { (value::short(name)) } }
            @else { (value::short(name)) }
        }
    }
}

fn pause_section(visit: &Visit, source: &Source) -> Markup {
    let lang = visit.lang;
    let (verb, word) = if source.enabled { ("pause", PAUSE) } else { ("resume", RESUME) };
    html! {
        div.actions {
            (forms::change(visit, &format!("{}/{verb}", path_of(&source.name)), &html! {
                button.quiet type="submit" { (word.of(lang)) }
            }))
            @if source.enabled && visit.viewer.may_change() { span.hint { (PAUSE_HINT.of(lang)) } }
        }
    }
}

// === The URL to paste ===

fn paste(console: &Console, lang: Lang, source: &Source) -> Markup {
    let config = console.config();
    let url = url_of(&config, console.tools.callbacks, source);
    let recipe = &source.recipe;
    html! {
        section aria-labelledby="paste" {
            h2 #paste { (PASTE.of(lang)) }
            div #url { (value::block(&url)) }
            button.quiet type="button" data-copy="url" hidden { (COPY.of(lang)) }
            @if config.server.public_url.is_none() { p.hint { (NO_PUBLIC.of(lang)) } }
            @if recipe.signs_url() { p.hint { (SIGNS_URL.of(lang)) } }
            @if recipe.paste().is_empty() { p.hint { (ADDS_ITSELF.of(lang)) } }
        }
    }
}

// === Signature coverage ===

fn contract(lang: Lang, sender: &Arc<Sender>) -> Markup {
    let contract = Contract::of(sender);
    let rows = |title: &str| -> Vec<Vec<Markup>> {
        let part = contract.parts.iter().find(|part| part.title == title);
        let rows = part.into_iter().flat_map(|part| part.rows.iter().map(move |row| (part, row)));
        rows.map(|(part, row)| contract::row(lang, part, row)).collect()
    };
    let (roles, cares) = (rows("Callback fields"), rows("Precautions"));
    let more = format!("{}{}", Area::Senders.path(), query(&[("q", sender.name())]));
    html! {
        section aria-labelledby="covers" {
            h2 #covers { (COVERS.of(lang)) }
            (DataTable::new(Caption::Hidden(COVERS.of(lang)), &[ROLE, WHERE, COVERED], NOTHING).show(lang, &roles))
            @if !cares.is_empty() {
                h3 { (CARE.of(lang)) }
                ul { @for care in cares.iter().flatten() { li { (care) } } }
            }
            @if !sender.unconfirmed().is_empty() {
                h3 { (UNCONFIRMED.of(lang)) }
                ul.unconfirmed {
                    @for line in sender.unconfirmed() { li { (sender_texts::shown(lang, line)) } }
                }
            }
            p { a href=(more) { (CONTRACT.of(lang)) } }
        }
    }
}

// === Actions ===

fn edit_section(
    console: &Console,
    visit: &Visit,
    view: &View<'_>,
    events: &[Suggested],
) -> Result<Markup, PageError> {
    let View { name, errors, typed, .. } = view;
    let (name, typed) = (*name, *typed);
    let (lang, config) = (visit.lang, console.config());
    let (table, version) = stored(console, name)?;
    let sender = sender_of(&config, &table).cloned();
    let name_now = typed.and_then(|form| form.text("name")).unwrap_or(name).to_owned();
    // A form of an older version is rejected; the current values are shown.
    let typed = typed.filter(|form| managed::stale_form(lang, form, version).is_none());
    let (stored, form) = (table.clone(), typed);
    let typed = typed.map_or(FormValues::Stored(table), FormValues::Submitted);
    Ok(html! {
        section aria-labelledby="change" {
            h2 #change { (CHANGE.of(lang)) }
            @if let Some(sender) = &sender {
                (forms::change(visit, &path_of(name), &html! {
                    (managed::version_field(version))
                    (form::name_field(lang, &name_now, errors))
                    (form::fields(lang, &config, sender, form::Entered { errors, typed: &typed, stored: &stored }))
                    button type="submit" name="do" value="save" { (SAVE.of(lang)) }
                    (Choice::of_form(events, form, errors).show_in_form(lang))
                }))
            }
            @if visit.viewer.may_change() {
                (deletion(lang, &forms::to(visit, &format!("{}/delete", path_of(name)), &html! {
                    (managed::version_field(version))
                    p.hint { (DELETE_HINT.of(lang)) }
                    button.danger type="submit" { (DELETE.of(lang)) }
                })))
            }
        }
    })
}
