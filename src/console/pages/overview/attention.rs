//! The things that need attention now, worst first: each with its cause, its age and a remedy.

use std::time::Duration;

use maud::{Markup, html};
use serde_json::Value;

use crate::clock::{UnixMillis, now_ms};
use crate::config::{Config, Origin};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::attempt_error;
use crate::console::components::{notice, time, value};
use crate::console::fields::{self, query};
use crate::console::lang::Lang;
use crate::console::pages::{destinations, sources};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::{ignored, messages};
use crate::delivery::{BreakerState, Condition};
use crate::ledger::{LedgerError, SourceId, Stats, TargetId, TargetStats};
use crate::lifecycle::Phase;
use crate::sender::Outcome;
use crate::telemetry::{History, Span};

/// Sources whose pulse is read: each costs one index lookup a half minute.
const SOURCES_MAX: usize = 100;

/// Items shown; the rest is counted.
const SHOWN_MAX: usize = 20;

/// A share of rejected callbacks is worth a word from this many on.
const REJECTED_MIN: u64 = 5;

/// An overdue delivery of a destination that works is worth a word after this time.
const LATE: Duration = Duration::from_secs(60);

/// Silence of a source that is bad, and not only worth a look.
const SILENCE_BAD: Duration = Duration::from_secs(60 * 60);

/// Time before the end of a secret when it is worth a word.
const ENDS_SOON_MS: UnixMillis = 3 * 24 * 60 * 60 * 1000;

/// Difference of the clocks that is worth a word, in milliseconds.
const CLOCK_MS: u64 = 5_000;

texts! {
    TITLE = "Needs attention", "需要处理";
    WELL = "All is well: nothing needs attention.", "一切正常，无需处理。";
    MORE = "{} more.", "另有 {} 项。";
    NO_SOURCE = "No source exists yet. Create one, paste its URL in the sender's console, and send a test.", "尚无来源。请先创建来源，将其 URL 粘贴到发送方后台，然后发送测试。";
    NO_EVENT = "No callback was accepted yet. Send a test callback with the debug tool.", "尚未接受任何回调。可用调试工具发送测试回调。";
    NOT_READY = "The gateway accepts no callbacks: {}", "网关不接受回调：{}";
    NO_STORE = "The store could not report its contents: {}", "存储无法给出统计：{}";
    DISK = "The disk of the store is short of space: {} MiB may still be written", "存储磁盘空间不足：仅可再写入 {} MiB";
    DAMAGE = "The store found damage in {} places", "存储发现 {} 处损坏";
    CLOCK = "The clocks of gateway and database server differ by {}", "网关与数据库服务器的时钟相差 {}";
    DOWN = "{} does not respond: circuit breaker open", "{} 无响应：已熔断";
    FAILING = "{} fails: failed attempts in a row: {}", "{} 投递失败：连续失败 {} 次";
    HALF_OPEN = "{} is being probed after failures", "{} 失败后正在试探";
    PAUSED = "{} is paused", "{} 已暂停";
    LATE_TEXT = "{} is behind: the oldest delivery is overdue for {}", "{} 投递滞后：最久的已逾期 {}";
    DEAD = "Dead letters of {}: {}", "{} 的死信：{} 个";
    WAITING = "{} waiting for the next attempt", "{} 个等待下次尝试";
    OVERDUE = "{} waiting, the oldest overdue for {}", "{} 个等待，最久已逾期 {}";
    LAST_ERROR = "last error: {}", "最近错误：{}";
    STATUS = "status {}", "状态码 {}";
    NO_ANSWER = "no response", "无响应";
    SILENT = "{} is silent: the last event came {} ago; usual gap {}", "{} 长时间没有事件：最近一次在 {}前，通常间隔 {}";
    REJECTS = "{} rejects {} of {} callbacks of the last hour ({} %)", "{} 最近一小时拒绝了 {} / {} 个回调（{} %）";
    MOSTLY = "mostly: {}", "主要原因：{}";
    HELD = "Callbacks of {} that wait for a decision: {}", "{} 等待决定的回调：{} 个";
    ENDS = "The secret {} of {} expires in {}", "{} 的密钥（来源 {}）将在 {}后失效";
    OPEN_DESTINATION = "Open destination", "查看投递目标";
    PAUSE = "Pause or test it", "暂停或测试";
    RESUME = "Resume it", "恢复";
    OPEN_ISSUES = "Show issues", "查看待处理问题";
    OPEN_SOURCE = "Open source", "查看来源";
    OPEN_REJECTED = "Show rejections", "查看拒绝记录";
    DECIDE = "Decide", "去处理";
    SHOW_HELD = "Show held callbacks", "查看隔离的回调";
    ROTATE = "Rotate secret", "轮换密钥";
    CREATE = "Create source", "创建来源";
    TRY = "Open debug tool", "打开调试工具";
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Bad,
    Warn,
}

impl Level {
    const fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warn => "warn",
        }
    }
}

/// One thing that needs attention.
struct AttentionItem {
    level: Level,
    /// How long it has been so, where that is known: older first.
    age: Duration,
    what: String,
    more: Vec<String>,
    /// The remedies: words and path of each.
    todo: Vec<(Text, String)>,
}

impl AttentionItem {
    fn new(level: Level, what: String) -> Self {
        Self { level, age: Duration::ZERO, what, more: Vec::new(), todo: Vec::new() }
    }

    fn aged(mut self, age: Option<Duration>) -> Self {
        self.age = age.unwrap_or_default();
        self
    }

    fn with(mut self, more: Option<String>) -> Self {
        self.more.extend(more);
        self
    }

    fn helped_by(mut self, words: Text, path: String) -> Self {
        self.todo.push((words, path));
        self
    }
}

/// The section about what needs attention.
pub(super) async fn section(
    console: &Console,
    visit: &Visit,
    stats: &Result<Stats, LedgerError>,
) -> Markup {
    let (lang, config) = (visit.lang, console.config());
    let is_bound = console.view().is_bound();
    let mut needs = Vec::new();
    if !is_bound {
        needs.extend(gateway(console, lang, stats).await);
    }
    if let Ok(stats) = stats {
        if !is_bound {
            needs.extend(deliveries(console, visit, &config, stats).await);
        }
        needs.extend(held(visit, &config, stats));
    }
    needs.extend(callbacks(console, lang, &config).await);
    needs.extend(secrets(visit, &config));
    needs.sort_by_key(|need| (need.level, std::cmp::Reverse(need.age)));
    let begin = match stats {
        _ if is_bound => None,
        _ if config.sources.is_empty() => Some((NO_SOURCE, CREATE, Area::Sources.path())),
        Ok(stats) if stats.events == 0 => Some((NO_EVENT, TRY, Area::Debug.path())),
        _ => None,
    };
    let left = needs.len().saturating_sub(SHOWN_MAX);
    html! {
        section aria-labelledby="attention" {
            h2 #attention { (TITLE.of(lang)) }
            @if needs.is_empty() && begin.is_none() { (notice::notice(notice::Tone::Good, WELL.of(lang))) }
            ul.needs {
                @for need in needs.iter().take(SHOWN_MAX) { (shown(lang, need)) }
                @if let Some((what, words, path)) = begin {
                    li.plain { p { (what.of(lang)) } div.todo { a href=(path) { (words.of(lang)) } } }
                }
            }
            @if left > 0 { p { (MORE.fill(lang, &[&left])) } }
        }
    }
}

fn shown(lang: Lang, need: &AttentionItem) -> Markup {
    html! {
        li.(need.level.class()) {
            p {
                b { (value::whole(&need.what)) }
                @for more in &need.more { " · " (value::whole(more)) }
            }
            div.todo { @for (words, path) in &need.todo { a href=(path) { (words.of(lang)) } } }
        }
    }
}

// === The gateway and its store ===

async fn gateway(
    console: &Console,
    lang: Lang,
    stats: &Result<Stats, LedgerError>,
) -> Vec<AttentionItem> {
    let mut needs = Vec::new();
    let health = console.ledger().health().await;
    let unready = match (console.tools.life.phase(), &health) {
        (Phase::Ready, Ok(health)) => health.unready(),
        (Phase::Ready, Err(error)) => Some(error.to_string()),
        (phase, _) => Some(phase.as_str().to_owned()),
    };
    let bad = |text: String| AttentionItem::new(Level::Bad, text);
    needs.extend(unready.map(|why| bad(NOT_READY.fill(lang, &[&messages::text(lang, &why)]))));
    if let Err(error) = stats {
        let why = messages::text(lang, &error.to_string());
        needs.push(bad(NO_STORE.fill(lang, &[&why])));
    }
    if let Ok(health) = &health {
        if let Some(room) = health.room.as_ref().filter(|room| room.short) {
            needs.push(bad(DISK.fill(lang, &[&(room.free >> 20)])));
        }
        if !health.damage.is_empty() {
            needs.push(bad(DAMAGE.fill(lang, &[&health.damage.len()])));
        }
        let apart = health.server.as_ref().and_then(|server| server.clock_ahead_ms);
        if let Some(apart) = apart.map(i64::unsigned_abs).filter(|apart| *apart > CLOCK_MS) {
            let apart = time::length(lang, Duration::from_millis(apart));
            needs.push(AttentionItem::new(Level::Warn, CLOCK.fill(lang, &[&apart])));
        }
    }
    let state = console.tools.registry.running();
    needs.extend(state.ignored.iter().map(|ignored| bad(ignored::sentence(lang, ignored))));
    needs
}

// === Deliveries ===

async fn deliveries(
    console: &Console,
    visit: &Visit,
    config: &Config,
    stats: &Stats,
) -> Vec<AttentionItem> {
    let lang = visit.lang;
    let mut needs = Vec::new();
    for name in config.destinations.keys() {
        let target = TargetId::from(name.as_str());
        let counts = stats.targets.iter().find(|one| one.target == target);
        if let Some(condition) = console.tools.control.condition(&target).await {
            needs.extend(destination(visit, name, &condition, counts));
        }
    }
    for target in stats.targets.iter().filter(|target| target.dead > 0) {
        let name = target.target.as_str();
        let path = format!("{}{}", Area::Issues.path(), query(&[("destination", name)]));
        let what = DEAD.fill(lang, &[&name, &value::count(target.dead)]);
        needs.push(AttentionItem::new(Level::Warn, what).helped_by(OPEN_ISSUES, path));
    }
    needs
}

/// The problem of a destination, if it has one.
fn destination(
    visit: &Visit,
    name: &str,
    condition: &Condition,
    counts: Option<&TargetStats>,
) -> Option<AttentionItem> {
    let lang = visit.lang;
    let overdue = counts.and_then(|counts| counts.oldest_due);
    let failures = condition.health.failures;
    let need = match (&condition.paused, condition.breaker) {
        (Some(_), _) => AttentionItem::new(Level::Warn, PAUSED.fill(lang, &[&name])),
        (None, BreakerState::Open) => AttentionItem::new(Level::Bad, DOWN.fill(lang, &[&name])),
        (None, BreakerState::HalfOpen) => {
            AttentionItem::new(Level::Warn, HALF_OPEN.fill(lang, &[&name]))
        }
        (None, BreakerState::Closed) if failures > 0 => {
            AttentionItem::new(Level::Bad, FAILING.fill(lang, &[&name, &failures]))
        }
        (None, BreakerState::Closed) => {
            let late = overdue.filter(|overdue| *overdue > LATE)?;
            let late = time::length(lang, late);
            AttentionItem::new(Level::Warn, LATE_TEXT.fill(lang, &[&name, &late]))
        }
    };
    let waiting = counts.filter(|counts| counts.pending > 0).map(|counts| {
        let pending = value::count(counts.pending);
        match overdue {
            Some(overdue) => OVERDUE.fill(lang, &[&pending, &time::length(lang, overdue)]),
            None => WAITING.fill(lang, &[&pending]),
        }
    });
    let error = (failures > 0).then(|| {
        let health = &condition.health;
        let error = health.error.as_deref().map(|error| attempt_error::words(lang, error));
        let status = match health.status {
            Some(status) => STATUS.fill(lang, &[&status]),
            None => NO_ANSWER.of(lang).to_owned(),
        };
        LAST_ERROR.fill(lang, &[&error.unwrap_or(status)])
    });
    let note = condition.paused.as_ref().and_then(|pause| pause.note.clone());
    let help = if condition.paused.is_some() { RESUME } else { PAUSE };
    let path = destinations::path_of(name);
    let need = need.aged(overdue).with(waiting).with(error).with(note);
    let need = need.helped_by(OPEN_DESTINATION, path.clone());
    Some(match visit.viewer.may_change() {
        true => need.helped_by(help, format!("{path}#pause")),
        false => need,
    })
}

// === Callbacks ===

fn held(visit: &Visit, config: &Config, stats: &Stats) -> Vec<AttentionItem> {
    let lang = visit.lang;
    let help = if visit.viewer.may_change() { DECIDE } else { SHOW_HELD };
    let name = |id: &SourceId| {
        let source = config.sources.values().find(|source| source.id == id.as_str());
        source.map_or_else(|| id.as_str().to_owned(), |source| source.name.clone())
    };
    let need = |held: &crate::ledger::HeldStats| {
        let source = name(&held.source);
        let what = HELD.fill(lang, &[&source, &value::count(held.count)]);
        let path = format!("{}{}", Area::Held.path(), query(&[("source", &source)]));
        AttentionItem::new(Level::Warn, what).helped_by(help, path)
    };
    stats.held.iter().filter(|held| held.count > 0).map(need).collect()
}

async fn callbacks(console: &Console, lang: Lang, config: &Config) -> Vec<AttentionItem> {
    let mut needs = Vec::new();
    let enabled = config.sources.values().filter(|source| source.enabled).take(SOURCES_MAX);
    for source in enabled {
        let history = console.tools.metrics.histories.find(&source.label());
        if let Some(history) = &history {
            needs.extend(rejects(lang, &source.name, history));
        }
        let id = SourceId::from(source.id.as_str());
        let Ok(pulse) = console.pulses().of(console.ledger(), &id).await else { continue };
        // A callback of any outcome is a sign of life, and newer than the cached pulse.
        let now = now_ms();
        let seen = history.as_ref().and_then(|history| history.last_ms());
        let pulse = crate::console::pulse::Pulse { last_ms: pulse.last_ms.max(seen), ..pulse };
        let (Some(silence), Some(gap)) = (pulse.silence(now), pulse.gap) else { continue };
        let what =
            SILENT.fill(lang, &[&source.name, &time::length(lang, silence), &time::gap(lang, gap)]);
        // A short silence may be the time between two bursts.
        let level = if silence < SILENCE_BAD { Level::Warn } else { Level::Bad };
        let need = AttentionItem::new(level, what).aged(Some(silence));
        needs.push(need.helped_by(OPEN_SOURCE, sources::path_of(&source.name)));
    }
    needs
}

/// A source that rejects more than a tenth of its callbacks.
fn rejects(lang: Lang, name: &str, history: &History) -> Option<AttentionItem> {
    let now = crate::clock::instant();
    let count = |outcome| history.counts(outcome, Span::Hour, now).iter().sum::<u64>();
    let rejected = count(Outcome::Rejected);
    let all: u64 = Outcome::ALL.iter().map(|outcome| count(*outcome)).sum();
    if rejected < REJECTED_MIN || rejected * 10 < all {
        return None;
    }
    let share = rejected * 100 / all.max(1);
    let what = REJECTS.fill(lang, &[&name, &value::count(rejected), &value::count(all), &share]);
    let mostly = history
        .main_reason(now)
        .map(|reason| MOSTLY.fill(lang, &[&crate::console::words::reason(reason).of(lang)]));
    let path = format!("{}{}", Area::Issues.path(), query(&[("source", name)]));
    let level = if rejected * 2 >= all { Level::Bad } else { Level::Warn };
    Some(AttentionItem::new(level, what).with(mostly).helped_by(OPEN_REJECTED, path))
}

/// Secrets that end soon, of sources that this console may change.
fn secrets(visit: &Visit, config: &Config) -> Vec<AttentionItem> {
    let lang = visit.lang;
    let help = if visit.viewer.may_change() { ROTATE } else { OPEN_SOURCE };
    let now = now_ms();
    let mut needs = Vec::new();
    for source in config.sources.values().filter(|one| one.origin == Origin::Admin) {
        let Some(Value::Array(list)) = source.shown.get("secrets") else { continue };
        let ends = |secret: &Value| secret["until"].as_str().and_then(fields::time);
        // An old secret that ends after a rotation is as it should be.
        let lasting = list.iter().any(|secret| ends(secret).is_none());
        let next = list.iter().filter_map(|secret| Some((ends(secret)?, secret["id"].as_str()?)));
        let Some((until, id)) = next.max().filter(|_| !lasting) else { continue };
        if until < now || until > now + ENDS_SOON_MS {
            continue;
        }
        let left = Duration::from_millis(u64::try_from(until - now).unwrap_or(0));
        let what = ENDS.fill(lang, &[&id, &source.name, &time::length(lang, left)]);
        let path = format!("{}#secrets", sources::path_of(&source.name));
        needs.push(AttentionItem::new(Level::Bad, what).helped_by(help, path));
    }
    needs
}
