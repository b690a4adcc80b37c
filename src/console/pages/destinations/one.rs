//! One destination: state, configuration and actions.

use maud::{Markup, html};

use super::form;
use super::{Backlog, due, path_of, state, stored};
use crate::clock::{instant, now_ms};
use crate::config::{Config, Destination, Origin, Table};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::attempt_error;
use crate::console::components::facts::facts;
use crate::console::components::form as forms;
use crate::console::components::form::{Field, FormValues};
use crate::console::components::notice::{Tone, notice};
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::{Fields, query};
use crate::console::ignored;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::pages::managed::{self, FormErrors, deletion, foreign};
use crate::console::pages::overview::{Figures, latency};
use crate::console::pages::preview::{self, Choice, Suggested, Values, Wanted};
use crate::console::pages::sources;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::delivery::{Condition, PauseReason};
use crate::ledger::TargetId;
use crate::operator::Tried;
use crate::registry::{DESTINATION as DESTINATION_KIND, Managed};
use crate::sender::Outcome;
use crate::telemetry::{HealthView, Span};

texts! {
    STATE = "State", "状态";
    URL = "URL", "地址";
    FORMAT = "Format", "格式";
    PENDING = "Pending", "待投递";
    DEAD = "Dead", "死信";
    OLDEST = "Oldest due", "最早到期";
    IN_FLIGHT = "Attempts in flight", "进行中的尝试";
    ORIGIN = "Origin", "定义位置";
    CHANGED = "Changed", "最后更改";
    CHANGED_BY = "by {}", "操作者：{}";
    USED = "Sources", "来源";
    PAUSED_SINCE = "Paused", "暂停时间";
    BY_OPERATOR = "by {}", "由 {} 暂停";
    GONE = "the destination responded with 410", "投递目标返回了 410";
    SECRETS = "Signing secrets", "签名密钥";
    UNSIGNED = "None: deliveries are not signed", "无：投递不签名";
    WRITTEN = "Configuration", "配置内容";
    KEY = "Key", "键";
    VALUE = "Value", "值";
    NOTHING = "None.", "无。";
    REASON = "Reason for the pause", "暂停原因";
    NOTE = "Reason", "原因";
    LAST_SUCCESS = "Last success", "最近成功";
    LAST_FAILURE = "Last failure", "最近失败";
    FAILURES = "Failures in a row", "连续失败";
    RATE = "Successful attempts, last hour", "最近一小时成功率";
    LATENCIES = "Latency p50, p99", "耗时 p50、p99";
    NO_ANSWER = "no response", "无响应";
    PAUSE = "Pause destination", "暂停投递目标";
    RESUME = "Resume destination", "恢复投递目标";
    PAUSE_HINT = "A paused destination receives nothing. Events are still recorded and wait.", "暂停后不再投递；事件照常记录并等待。";
    TEST = "Test delivery", "测试投递";
    TESTED = "Result of the test", "测试结果";
    TEST_HINT = "Makes one attempt with a test event, even if the destination is paused. The event is not stored; the audit log records the test.",
        "使用测试事件尝试投递一次，暂停时也可进行。该事件不会保存，测试会记入审计日志。";
    TEST_SOURCE = "Source", "来源";
    TEST_USER = "User", "用户";
    TEST_ITEM = "Item", "物品";
    TEST_AMOUNT = "Amount", "数量";
    SEND = "Send test event", "发送测试事件";
    DELIVERED = "Delivered.", "已送达。";
    NOT_DELIVERED = "Not delivered.", "未送达。";
    STATUS = "Status", "状态码";
    TOOK = "Latency", "耗时";
    ANSWER = "Response (first KiB)", "响应（前 1 KiB）";
    ERROR = "Error", "错误";
    EVENT_ID = "Event id", "事件 ID";
    CHANGE = "Edit", "编辑";
    SAVE = "Save changes", "保存更改";
    END = "Remove old secrets", "移除旧密钥";
    DELETE = "Delete destination", "删除投递目标";
    DELETE_HINT = "A destination can be deleted if no source delivers to it.", "没有来源使用此目标时才能删除。";
    PREVIEW = "Preview a delivery", "预览投递";
    PREVIEW_HINT = "Shows the request that this destination would get for a recorded event. Nothing is sent.", "显示该目标会收到的请求，不会发送。";
    NO_PREVIEW = "There is no preview:", "无法预览：";
}

/// The input of the page besides the destination.
#[derive(Debug)]
pub(super) struct View<'s> {
    pub name: &'s str,
    pub errors: FormErrors,
    /// Submitted values that were rejected.
    pub typed: Option<&'s Fields>,
    /// The result of a test.
    pub tried: Option<Tried>,
    /// The request that typed values make of an event.
    pub preview: Option<Markup>,
}

impl<'s> View<'s> {
    pub(super) fn of(name: &'s str) -> Self {
        Self { name, errors: FormErrors::default(), typed: None, tried: None, preview: None }
    }
}

/// The page of one destination.
pub(super) async fn page(console: &Console, visit: &Visit, view: &View<'_>) -> PageResult {
    let (lang, name) = (visit.lang, view.name);
    let stats = console.ledger().stats().await?;
    let target = TargetId::from(name);
    let condition = console.tools.control.condition(&target).await;
    let (preview, errors) = saved_preview(console, visit, view).await?;
    let events = preview::suggested(console, &preview::users(&console.config(), name)).await?;
    let state = console.tools.registry.running();
    let shown = state.show(Managed::Destination, name).ok_or(PageError::Absent)?;
    let found = state.config.destinations.get(name).map(AsRef::as_ref);
    let origin = found.map_or(Origin::Admin, |found| found.origin);
    let is_ours = origin == Origin::Admin;
    let changed = shown["changed_at"].as_str().zip(shown["changed_by"].as_str());
    let mut facts_of = health(lang, condition.as_ref(), Backlog::of(&stats, &target), name);
    let history: Vec<_> = console.tools.metrics.attempts.find(name).into_iter().collect();
    let figures = Figures::of(&history, &[Outcome::Accepted], instant());
    facts_of.extend([(RATE, figures.share()), (LATENCIES, figures.latency_in_ms())]);
    let middle = html! {
        (managed::done(visit))
        (view.errors.show(lang))
        (errors.show_under(lang, NO_PREVIEW))
        @if let Some(tried) = &view.tried { (outcome(lang, tried)) }
        @if let Some(preview) = view.preview.as_ref().or(preview.as_ref()) { (preview) }
        @if found.is_none() { (ignored::shown(lang, state.ignored(DESTINATION_KIND, name))) }
        @if !is_ours { (foreign(lang, origin)) }
        (facts(lang, &facts_of))
        (latency::chart(lang, latency::Of::Attempts, &history, Span::Days, instant()))
        @if let Some(found) = found { (about(lang, &state.config, found, changed)) }
        @if let Some(condition) = &condition { (pause_section(visit, name, condition)) (test_section(visit, name)) }
        @if found.is_some() && visit.viewer.may_change() && !is_ours {
            @let id = visit.query.text(preview::FIELD).unwrap_or_default();
            (preview_section(visit, name, Choice { events: &events, id, errors: &errors }))
        }
        @if is_ours { (edit_section(console, visit, view, &events)?) }
    };
    Ok(Reply::Page(managed::title(Area::Destinations, lang, name), middle))
}

/// The request of the event in the query, if that is asked for, and why not.
async fn saved_preview(
    console: &Console,
    visit: &Visit,
    view: &View<'_>,
) -> Result<(Option<Markup>, FormErrors), PageError> {
    let config = console.config();
    let found = config.destinations.get(view.name);
    let is_asked = visit.rest().get(1) == Some(&preview::PATH);
    let Some(found) = found.filter(|_| is_asked) else {
        return Ok((None, FormErrors::default()));
    };
    let id = visit.query.text(preview::FIELD).unwrap_or_default();
    let wanted = Wanted { id, values: Values::Saved };
    Ok(match preview::of_destination(console, visit.lang, found, wanted).await? {
        Ok(shown) => (Some(shown), FormErrors::default()),
        Err(errors) => (None, errors),
    })
}

/// The form that asks for a preview of what is saved.
fn preview_section(visit: &Visit, name: &str, choice: Choice<'_>) -> Markup {
    let lang = visit.lang;
    html! {
        section aria-labelledby="ask-preview" {
            h2 #ask-preview { (PREVIEW.of(lang)) }
            p.hint { (PREVIEW_HINT.of(lang)) }
            (forms::ask(&format!("{}/{}", path_of(name), preview::PATH), &html! {
                (choice.show(lang))
                button.quiet type="submit" { (preview::BUTTON.of(lang)) }
            }))
        }
    }
}

// === State ===

fn health(
    lang: Lang,
    condition: Option<&Condition>,
    backlog: Backlog,
    name: &str,
) -> Vec<(Text, Markup)> {
    let Backlog { pending, dead, oldest } = backlog;
    let mut all = vec![(STATE, state(lang, condition))];
    if let Some(pause) = condition.and_then(|condition| condition.paused.as_ref()) {
        let why = match pause.why {
            PauseReason::Operator => BY_OPERATOR.fill(lang, &[&pause.who]),
            PauseReason::Gone => GONE.of(lang).to_owned(),
        };
        all.push((PAUSED_SINCE, html! { (time::time(pause.at_ms)) (lang.clause()) (why) }));
        if let Some(note) = &pause.note {
            all.push((NOTE, value::whole(note)));
        }
    }
    let letters = format!("{}{}", Area::DeadLetters.path(), query(&[("destination", name)]));
    let waiting = format!(
        "{}{}",
        Area::Callbacks.path(),
        query(&[("state", "pending"), ("destination", name)])
    );
    all.push((
        PENDING,
        html! { @if pending > 0 { a href=(waiting) { (value::count(pending)) } } @else { "0" } },
    ));
    all.push((
        DEAD,
        html! { @if dead > 0 { a href=(letters) { (value::count(dead)) } } @else { "0" } },
    ));
    all.push((OLDEST, due(lang, oldest)));
    if let Some(condition) = condition {
        all.push((IN_FLIGHT, html! { (condition.in_flight) }));
        all.extend(last(lang, &condition.health));
    }
    all
}

/// The last attempts.
fn last(lang: Lang, health: &HealthView) -> Vec<(Text, Markup)> {
    let mut all = Vec::new();
    let success = health.delivered_ms.map(|ms| time::ago(lang, ms, now_ms()));
    all.push((LAST_SUCCESS, success.unwrap_or_else(|| value::maybe(None))));
    if let Some(failed_ms) = health.failed_ms {
        let shown = html! {
            (time::ago(lang, failed_ms, now_ms())) (lang.colon())
            @if let Some(status) = health.status { (STATUS.of(lang)) " " (status) " " }
            @match (&health.error, health.status) {
                (Some(error), _) => (attempt_error::shown(lang, error)),
                (None, None) => (NO_ANSWER.of(lang)),
                (None, Some(_)) => {}
            }
        };
        all.push((LAST_FAILURE, shown));
    }
    if health.failures > 0 {
        all.push((FAILURES, html! { b { (health.failures) } }));
    }
    all
}

fn about(
    lang: Lang,
    config: &Config,
    found: &Destination,
    changed: Option<(&str, &str)>,
) -> Markup {
    let all = config.sources.values();
    let users = all.filter(|source| source.destinations.contains(&found.name));
    let users: Vec<&str> = users.map(|source| source.name.as_str()).collect();
    let count = found.secrets.len();
    let mut all = vec![
        (URL, value::whole(&found.url)),
        (FORMAT, html! { code { (found.format.as_str()) } }),
        (
            SECRETS,
            html! { @if count == 0 { (UNSIGNED.of(lang)) } @else { (count) " × " code { (crate::config::MASK) } } },
        ),
        (
            USED,
            html! {
                @if users.is_empty() { span.absent { "–" } }
                @for (at, name) in users.iter().enumerate() {
                    @if at > 0 { ", " }
                    a href=(sources::path_of(name)) { (value::short(name)) }
                }
            },
        ),
        (ORIGIN, html! { (managed::origin(found.origin).of(lang)) }),
    ];
    if let Some((at, who)) = changed {
        all.push((
            CHANGED,
            html! { (time::stored(at)) (lang.clause()) (CHANGED_BY.fill(lang, &[&who])) },
        ));
    }
    let written = Table::clone(&found.shown);
    let rows: Vec<_> = written
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "name" | "url" | "format" | "secret"))
        .map(|(key, member)| {
            let text = member.as_str().map_or_else(|| member.to_string(), str::to_owned);
            vec![html! { code { (key) } }, value::whole(&text)]
        })
        .collect();
    html! {
        (facts(lang, &all))
        @if !rows.is_empty() { (DataTable::new(Caption::Shown(WRITTEN.of(lang)), &[KEY, VALUE], NOTHING).show(lang, &rows)) }
    }
}

// === Actions ===

fn pause_section(visit: &Visit, name: &str, condition: &Condition) -> Markup {
    let lang = visit.lang;
    let is_paused = condition.paused.is_some();
    let (verb, word) = if is_paused { ("resume", RESUME) } else { ("pause", PAUSE) };
    html! {
        div.actions #pause {
            (forms::change(visit, &format!("{}/{verb}", path_of(name)), &html! {
                @if !is_paused { (Field { hint: Some(PAUSE_HINT), ..Field::new("reason", REASON) }.show(lang)) }
                button.quiet type="submit" { (word.of(lang)) }
            }))
        }
    }
}

fn test_section(visit: &Visit, name: &str) -> Markup {
    let lang = visit.lang;
    html! {
        @if visit.viewer.may_change() {
            section aria-labelledby="try" {
                h2 #try { (TEST.of(lang)) }
                p.hint { (TEST_HINT.of(lang)) }
                (forms::change(visit, &format!("{}/test", path_of(name)), &html! {
                    div.fields {
                        (Field::new("source", TEST_SOURCE).show(lang))
                        (Field::new("user", TEST_USER).show(lang))
                        (Field::new("item", TEST_ITEM).show(lang))
                        (Field::new("amount", TEST_AMOUNT).show(lang))
                    }
                    button type="submit" { (SEND.of(lang)) }
                }))
            }
        }
    }
}

fn outcome(lang: Lang, tried: &Tried) -> Markup {
    let attempt = &tried.attempt;
    let (tone, sentence) = match tried.is_delivered() {
        true => (Tone::Good, DELIVERED),
        false => (Tone::Bad, NOT_DELIVERED),
    };
    let status = attempt.status.map(|status| status.to_string());
    let mut all = vec![
        (STATUS, value::maybe(status.as_deref())),
        (TOOK, html! { (time::millis(attempt.latency_ms)) }),
        (EVENT_ID, html! { code { (tried.event) } }),
    ];
    if let Some(error) = &attempt.error {
        all.push((ERROR, attempt_error::shown(lang, error)));
    }
    html! {
        section.tried aria-labelledby="tried" {
            h2 #tried { (TESTED.of(lang)) }
            (notice(tone, sentence.of(lang)))
            (facts(lang, &all))
            @if !attempt.head.is_empty() {
                p { (ANSWER.of(lang)) }
                (value::block(&String::from_utf8_lossy(&attempt.head)))
            }
        }
    }
}

fn edit_section(
    console: &Console,
    visit: &Visit,
    view: &View<'_>,
    events: &[Suggested],
) -> Result<Markup, PageError> {
    let (lang, name) = (visit.lang, view.name);
    let (now, version) = stored(console, name)?;
    let secrets = form::secrets(&now).len();
    // A form of an older version is rejected; the current values are shown.
    let typed = view.typed.filter(|form| managed::stale_form(lang, form, version).is_none());
    let typed = typed.map_or(FormValues::Stored(now), FormValues::Submitted);
    Ok(html! {
        section aria-labelledby="change" {
            h2 #change { (CHANGE.of(lang)) }
            (forms::change(visit, &path_of(name), &html! {
                (managed::version_field(version))
                (form::fields(lang, form::FormOf::Stored, &view.errors, &typed))
                button type="submit" name="do" value="save" { (SAVE.of(lang)) }
                (Choice::of_form(events, view.typed, &view.errors).show_in_form(lang))
            }))
            @if visit.viewer.may_change() {
                @if secrets > 1 {
                    (forms::to(visit, &format!("{}/end", path_of(name)), &html! {
                        (managed::version_field(version))
                        button.quiet type="submit" { (END.of(lang)) }
                    }))
                }
                (deletion(lang, &forms::to(visit, &format!("{}/delete", path_of(name)), &html! {
                    (managed::version_field(version))
                    p.hint { (DELETE_HINT.of(lang)) }
                    button.danger type="submit" { (DELETE.of(lang)) }
                })))
            }
        }
    })
}
