//! Deliveries of an event, attempt by attempt, and the replay button.

use std::time::Duration;

use maud::{Markup, html};

use crate::console::area::Area;
use crate::console::components::{badge, form, time, value};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{Attempt, Delivery, EventDetail};

texts! {
    TITLE = "Deliveries", "投递";
    NONE = "The source has no destination, so nothing is delivered.", "该来源没有投递目标，因此不投递。";
    REPLAY = "Replay event", "重新投递事件";
    WHAT = "Delivers the event again, with the same id, to each of these destinations.", "以相同的 ID 向以下每个目标重新投递该事件。";
    DUE = "Next attempt", "下次尝试";
    NO_ATTEMPT = "No attempt has finished yet.", "尚无已完成的尝试。";
    STATUS = "Status {}", "状态码 {}";
    NO_ANSWER = "No response", "无响应";
    IN = "after {}", "耗时 {}";
}

/// The section about the deliveries of an event.
pub fn section(visit: &Visit, detail: &EventDetail) -> Markup {
    let lang = visit.lang;
    let action = format!("{}/{}/replay", Area::Event.path(), detail.event.id);
    html! {
        section aria-labelledby="deliveries" {
            h2 #deliveries { (TITLE.of(lang)) }
            @if detail.deliveries.is_empty() { p.empty { (NONE.of(lang)) } }
            @else {
                p.hint #replay-hint { (WHAT.of(lang)) }
                (form::change(visit, &action, &html! {
                    button type="submit" aria-describedby="replay-hint" { (REPLAY.of(lang)) }
                }))
            }
            @for delivery in &detail.deliveries { (one(visit, delivery)) }
        }
    }
}

fn one(visit: &Visit, delivery: &Delivery) -> Markup {
    let lang = visit.lang;
    html! {
        h3 { (value::short(delivery.target.as_str())) " " (badge::delivery(lang, delivery.state)) }
        @if let Some(due) = delivery.due_ms { p { (DUE.of(lang)) " " (time::time(due)) } }
        @if delivery.attempts.is_empty() { p.empty { (NO_ATTEMPT.of(lang)) } }
        @else {
            ol.timeline { @for attempt in &delivery.attempts { (tried(visit, attempt)) } }
        }
    }
}

fn tried(visit: &Visit, attempt: &Attempt) -> Markup {
    let lang = visit.lang;
    let took = Duration::from_millis(u64::from(attempt.latency_ms));
    let is_good = attempt.status.is_some_and(|status| (200..300).contains(&status));
    html! {
        li.(if is_good { "good" } else { "bad" }) {
            p {
                (time::time(attempt.at_ms)) " · "
                b {
                    @match attempt.status {
                        Some(status) => (STATUS.fill(lang, &[&status])),
                        None => (NO_ANSWER.of(lang)),
                    }
                }
                " · " (IN.fill(lang, &[&time::took(took)]))
            }
            @if let Some(error) = &attempt.error { p lang="en" { (value::whole(error)) } }
            @if !attempt.head.is_empty() { (value::block(&String::from_utf8_lossy(&attempt.head))) }
        }
    }
}
