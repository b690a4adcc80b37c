//! Deliveries of an event, attempt by attempt, and the replay button.

use maud::{Markup, html};

use crate::clock::now_ms;
use crate::config::{Config, EventNature, Source, UrlFacts, Withheld};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::attempt_error;
use crate::console::components::{badge, form, json, time, value};
use crate::console::fields::query;
use crate::console::pages::{destinations, preview};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::delivery::{BreakerState, Condition};
use crate::ledger::{Attempt, Delivery, Event, EventDetail, EventId};

texts! {
    TITLE = "Deliveries", "投递";
    NONE = "The source has no destination, so nothing is delivered.", "该来源没有投递目标，因此不投递。";
    OPEN = "Replay event…", "重新投递事件……";
    REPLAY = "Replay to {} destinations", "重新投递到 {} 个目标";
    REPLAY_ONE = "Replay to 1 destination", "重新投递到 1 个目标";
    WHAT = "Delivers the event again, with the same id, to each destination below. A backend that handles the id twice may grant twice.",
        "以相同的 ID 向以下每个目标重新投递该事件。未按 ID 去重的后端可能重复发放。";
    WITHHELD = "Not sent", "不发送";
    TEST = "A test event, and the URL has neither {test} nor {effect}: the backend would grant.",
        "这是测试事件，而 URL 里没有 {test} 或 {effect}：后端会当作发放。";
    REVOKE = "It takes a reward back, and the URL has none of {effect}, {kind} and {reverses}: the backend would grant.",
        "这是撤回奖励，而 URL 里没有 {effect}、{kind} 或 {reverses}：后端会当作发放。";
    NO_EFFECT = "It grants nothing, and the URL has neither {effect} nor {kind}: the backend would grant.",
        "它不发放奖励，而 URL 里没有 {effect} 或 {kind}：后端会当作发放。";
    PREVIEW = "Preview the request as it would be sent now", "预览现在会发送的请求";
    DUE = "Next attempt", "下次尝试";
    DUE_SINCE = "Next attempt: was due", "下次尝试本应在";
    WAITS_BROKEN = "Waits: circuit breaker open", "等待中：已熔断";
    WAITS_PAUSED = "Waits: destination paused", "等待中：已暂停";
    NO_ATTEMPT = "No attempt has finished yet.", "尚无已完成的尝试。";
    ATTEMPT = "Attempt {}", "第 {} 次尝试";
    STATUS = "Status {}", "状态码 {}";
    NO_ANSWER = "No response", "无响应";
    IN = "after {}", "耗时 {}";
}

/// A destination of the event's source that the event is not sent to.
pub(super) struct Unsent<'d> {
    pub destination: &'d str,
    pub why: Withheld,
}

impl<'d> Unsent<'d> {
    /// The destinations of `source` whose URL cannot tell `event` from a grant, and that have no
    /// delivery of it.
    pub(super) fn of(
        config: &Config,
        source: &'d Source,
        event: &Event<'_>,
        detail: &EventDetail,
    ) -> Vec<Self> {
        let nature = EventNature {
            effect: event.effect().unwrap_or_default(),
            kind: &event.kind,
            test: event.test,
            reverses: event.reverses.as_deref(),
        };
        let effects = source.recipe.sender().effects();
        let has = |name: &str| detail.deliveries.iter().any(|one| one.target.as_str() == name);
        let names = source.destinations.iter().filter(|name| !has(name));
        let unsent = names.filter_map(|name| {
            let facts = UrlFacts::of(config.destinations.get(name)?)?;
            Some(Self { destination: name, why: facts.withholds(&nature, &effects)? })
        });
        unsent.collect()
    }

    fn shown(&self, visit: &Visit) -> Markup {
        let why = withheld(self.why);
        html! {
            h3 {
                a href=(destinations::path_of(self.destination)) { (value::short(self.destination)) }
                " · " (WITHHELD.of(visit.lang))
            }
            p { (why.of(visit.lang)) }
        }
    }
}

/// A destination that lets its deliveries wait, whenever they are due.
pub(super) struct Waiting<'d> {
    destination: &'d str,
    why: Text,
}

impl<'d> Waiting<'d> {
    /// Of the destinations of an event.
    pub(super) async fn of(console: &Console, detail: &'d EventDetail) -> Vec<Self> {
        let mut all = Vec::new();
        for delivery in detail.deliveries.iter().filter(|one| one.due_ms.is_some()) {
            let condition = console.tools.control.condition(&delivery.target).await;
            let why = condition.as_ref().and_then(waits);
            let destination = delivery.target.as_str();
            all.extend(why.map(|why| Self { destination, why }));
        }
        all
    }
}

/// Why a destination in this condition lets its deliveries wait.
const fn waits(condition: &Condition) -> Option<Text> {
    match (&condition.paused, condition.breaker) {
        (Some(_), _) => Some(WAITS_PAUSED),
        (None, BreakerState::Open) => Some(WAITS_BROKEN),
        (None, BreakerState::HalfOpen | BreakerState::Closed) => None,
    }
}

/// Why an event is not sent to a URL.
pub(crate) const fn withheld(why: Withheld) -> Text {
    match why {
        Withheld::Test => TEST,
        Withheld::Revoke => REVOKE,
        Withheld::NoEffect => NO_EFFECT,
    }
}

/// The section about the deliveries of an event.
pub(super) fn section(
    visit: &Visit,
    detail: &EventDetail,
    unsent: &[Unsent<'_>],
    waiting: &[Waiting<'_>],
) -> Markup {
    let lang = visit.lang;
    let action = format!("{}/{}/replay", Area::Event.path(), detail.event.id);
    let button = match detail.deliveries.len() {
        1 => REPLAY_ONE.of(lang).to_owned(),
        count => REPLAY.fill(lang, &[&count]),
    };
    html! {
        section aria-labelledby="deliveries" {
            h2 #deliveries { (TITLE.of(lang)) }
            @for one in unsent { (one.shown(visit)) }
            @if detail.deliveries.is_empty() && unsent.is_empty() { p.empty { (NONE.of(lang)) } }
            @for delivery in &detail.deliveries { (one(visit, detail.event.id, delivery, waiting)) }
            @if !detail.deliveries.is_empty() {
                @if visit.viewer.may_support() {
                    details {
                        summary { (OPEN.of(lang)) }
                        p.hint #replay-hint { (WHAT.of(lang)) }
                        (form::to(visit, &action, &html! {
                            button type="submit" aria-describedby="replay-hint" { (button) }
                        }))
                    }
                } @else { (form::support(visit, &action, &html! {})) }
            }
        }
    }
}

fn one(visit: &Visit, id: EventId, delivery: &Delivery, waiting: &[Waiting<'_>]) -> Markup {
    let lang = visit.lang;
    let name = delivery.target.as_str();
    let waits = waiting.iter().find(|one| one.destination == name).map(|one| one.why);
    html! {
        h3 {
            @if visit.viewer.may_see(Area::Destinations) {
                a href=(destinations::path_of(name)) { (value::short(name)) }
            } @else { (value::short(name)) }
            " " (badge::delivery(lang, delivery.state))
        }
        @if visit.viewer.may_see(Area::Destinations) {
            p.actions {
                @let asked = query(&[(preview::FIELD, &id.to_string())]);
                a href={ (destinations::path_of(name)) "/" (preview::PATH) (asked) } {
                    (PREVIEW.of(lang))
                }
            }
        }
        @if delivery.attempts.is_empty() { p.empty { (NO_ATTEMPT.of(lang)) } }
        @if !delivery.attempts.is_empty() || delivery.due_ms.is_some() {
            ol.timeline {
                @for (at, attempt) in delivery.attempts.iter().enumerate() { (tried(visit, at + 1, attempt)) }
                @if let Some(due) = delivery.due_ms {
                    li.next {
                        @let now = now_ms();
                        @let words = if due < now { DUE_SINCE } else { DUE };
                        @match waits.filter(|_| due < now) {
                            Some(why) => p { b { (why.of(lang)) } " · " (time::time(due)) },
                            None => p { (words.of(lang)) " " b { (time::from_now(lang, due, now)) } " · " (time::time(due)) },
                        }
                    }
                }
            }
        }
    }
}

fn tried(visit: &Visit, number: usize, attempt: &Attempt) -> Markup {
    let lang = visit.lang;
    let is_good = attempt.status.is_some_and(|status| (200..300).contains(&status));
    let head = String::from_utf8_lossy(&attempt.head);
    html! {
        li.(if is_good { "good" } else { "bad" }) {
            p {
                (ATTEMPT.fill(lang, &[&number])) " · " (time::exact(attempt.at_ms)) " · "
                b {
                    @match attempt.status {
                        Some(status) => (STATUS.fill(lang, &[&status])),
                        None => (NO_ANSWER.of(lang)),
                    }
                }
                " · " (IN.fill(lang, &[&time::millis(attempt.latency_ms)]))
            }
            @if let Some(error) = &attempt.error { p { (attempt_error::shown(lang, error)) } }
            @if !head.is_empty() { (value::block(json::pretty(&head).as_deref().unwrap_or(&head))) }
        }
    }
}
