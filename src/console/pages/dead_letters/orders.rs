//! Replays: their progress, and their cancellation.

use maud::{Markup, html};

use super::{LIVE, REPLAYS};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::outcome::badge;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{form, live, notice, outcome, time, value};
use crate::console::messages;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::delivery::{FoundReplay, KnownBy, ReplayProgress};
use crate::ledger::ReplayId;
use crate::operator::cancel_replay;
use crate::orders::OrderState;

/// Replays in the list.
const SHOWN_MAX: usize = 10;

/// Replays that are read for it: a token that is bound to sources sees some of them.
const LISTED_MAX: usize = 20;

texts! {
    TITLE = "Replay {}", "重新投递任务 {}";
    ORDERS = "Replays", "重新投递任务";
    CAPTION = "Latest first", "最新在前";
    NONE = "No replays yet.", "还没有重新投递任务。";
    GIVEN = "Started", "开始时间";
    STATE = "State", "状态";
    SEEN = "Events checked", "已检查的事件";
    OF = "{} of about {}", "{} / 约 {}";
    EVENTS = "Events replayed", "重新投递的事件";
    DELIVERIES = "Deliveries created", "新建的投递";
    SKIPPED = "Deliveries skipped", "已跳过的投递";
    SKIPPED_WHY = "Deliveries are skipped if their destination is not configured. Configure it under its name again, then start another replay.",
        "投递目标未配置时，其投递会被跳过。请以原名称重新配置，然后再次重新投递。";
    FAILED = "The store returned an error: {}. Start the replay again from the list of dead letters.", "存储返回错误：{}。请从死信列表重新开始。";
    DEAD = "Dead letters again", "再次成为死信";
    ELSEWHERE = "Another gateway runs this replay.", "该任务在其他网关上运行。";
    INTERRUPTED = "The gateway that ran this replay stopped before the end, or cannot reach the store. Start the replay again: it repeats no delivery that is done.",
        "运行该任务的网关在完成之前已停止，或无法访问存储。请重新开始；已完成的投递不会重复。";
    AGAIN = "Refresh", "刷新";
    CANCEL = "Cancel replay", "取消任务";
    CANCEL_WHAT = "Deliveries that were already created are kept.", "已新建的投递会保留。";
    LIST = "Dead letters", "死信";
    GONE = "No replay with this id is kept. Deliveries that it created are kept.", "没有保留该任务。已新建的投递会保留。";
    THERE = "This replay does not run on this gateway, so it cannot be cancelled here.", "该任务不在本网关上运行，无法在此取消。";
}

pub(super) fn path(id: ReplayId) -> String {
    format!("{}/{REPLAYS}/{id}", Area::DeadLetters.path())
}

async fn find(console: &Console, id: &str) -> Result<FoundReplay, PageError> {
    let id = id.parse().map_err(|_| PageError::Absent)?;
    let found = console.tools.replays.find(id).await?;
    let gone = PageError::Gone { why: GONE, list: Area::DeadLetters };
    found.filter(|found| console.view().sees_replay(&found.progress)).ok_or(gone)
}

/// The page of one replay.
pub(super) async fn page(console: &Console, visit: &Visit, id: &str) -> PageResult {
    let found = find(console, id).await?;
    let id = found.progress.id;
    let live = format!("{}/{LIVE}", path(id));
    let middle = html! {
        (live::frame(visit.lang, &live, outcome::EVERY_S, &shown(visit, &found)))
        p { a href=(Area::DeadLetters.path()) { (LIST.of(visit.lang)) } }
    };
    Ok(Reply::Page(TITLE.fill(visit.lang, &[&id]), middle))
}

/// The part that the script refreshes.
pub(super) async fn part(console: &Console, visit: &Visit, id: &str) -> PageResult {
    Ok(Reply::Fragment(shown(visit, &find(console, id).await?)))
}

pub(super) async fn cancel(console: &Console, visit: &Visit, id: &str) -> PageResult {
    let ReplayProgress { id, .. } = find(console, id).await?.progress;
    let (registry, replays) = (&console.tools.registry, &console.tools.replays);
    cancel_replay(registry, replays, &visit.viewer.who, id).await?.ok_or(PageError::Bad(THERE))?;
    Ok(Reply::Redirect(path(id)))
}

/// The progress of a replay, and the outcome of its deliveries.
fn shown(visit: &Visit, found: &FoundReplay) -> Markup {
    let lang = visit.lang;
    let FoundReplay { progress, outcome, known } = found;
    let runs = progress.state == OrderState::Running;
    let is_here = *known == KnownBy::Process;
    let is_open = runs || outcome::is_open(outcome.as_ref());
    let mut all = vec![
        (STATE, badge(visit, &progress.state)),
        (GIVEN, time::time(progress.at_ms)),
        (SEEN, seen(visit, progress)),
        (EVENTS, html! { (value::count(progress.events)) }),
        (DELIVERIES, html! { (value::count(progress.deliveries)) }),
    ];
    let skips = progress.skipped > 0;
    all.extend(skips.then(|| (SKIPPED, html! { (value::count(progress.skipped)) })));
    all.extend(outcome.iter().flat_map(|outcome| outcome::numbers(outcome, DEAD)));
    let action = format!("{}/cancel", path(progress.id));
    html! {
        // `data-ended` stops the script.
        div data-ended[!is_open] data-pace=(outcome::pace_s(outcome.as_ref())) {
            @if let (Some(of), true) = (progress.of, runs) {
                progress value=(progress.seen) max=(of.max(progress.seen).max(1)) aria-label=(SEEN.of(lang)) {}
            }
            (facts(lang, &all))
            @if skips { p { (SKIPPED_WHY.of(lang)) } }
            @if is_open { p { a href=(path(progress.id)) { (AGAIN.of(lang)) } } }
            @if runs && !is_here { p { (ELSEWHERE.of(lang)) } }
            @if runs && is_here {
                (form::support(visit, &action, &html! {
                    p.hint #cancel-hint { (CANCEL_WHAT.of(lang)) }
                    button.danger type="submit" aria-describedby="cancel-hint" { (CANCEL.of(lang)) }
                }))
            }
            @if progress.state == OrderState::Interrupted {
                (notice::notice(notice::Tone::Bad, INTERRUPTED.of(lang)))
            }
            @if let OrderState::Failed(error) = &progress.state {
                (notice::notice(notice::Tone::Bad, &FAILED.fill(lang, &[&messages::text(lang, &error.to_string())])))
            }
            (outcome::hint(lang, outcome.as_ref()))
        }
    }
}

fn seen(visit: &Visit, progress: &ReplayProgress) -> Markup {
    html! {
        @match progress.of.filter(|_| progress.state == OrderState::Running) {
            Some(of) => (OF.fill(visit.lang, &[&value::count(progress.seen), &value::count(of)])),
            None => (value::count(progress.seen)),
        }
    }
}

/// The latest replays.
pub(super) async fn section(console: &Console, visit: &Visit) -> Result<Markup, PageError> {
    let lang = visit.lang;
    let mut all = console.tools.replays.latest(LISTED_MAX).await?;
    all.retain(|progress| console.view().sees_replay(progress));
    let row = |one: &ReplayProgress| {
        vec![
            html! { a href=(path(one.id)) { (time::time(one.at_ms)) } },
            badge(visit, &one.state),
            seen(visit, one),
            value::number(one.events),
            value::number(one.deliveries),
        ]
    };
    let rows: Vec<Vec<Markup>> = all.iter().take(SHOWN_MAX).map(row).collect();
    let columns = [GIVEN, STATE, SEEN, EVENTS, DELIVERIES];
    Ok(html! {
        section aria-labelledby="orders" {
            h2 #orders { (ORDERS.of(lang)) }
            (DataTable::new(Caption::Shown(CAPTION.of(lang)), &columns, NONE).show(lang, &rows))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AdminRight, SourceScope};
    use crate::console::fields::Fields;
    use crate::console::lang::Lang;
    use crate::console::session::{SignIn, Viewer};
    use crate::console::visit::Connection;
    use crate::delivery::ReplayMode;
    use crate::ledger::DeliveryCounts;
    use crate::orders::Outcome;
    use crate::registry::Actor;

    fn visit(right: AdminRight) -> Visit {
        let viewer = Viewer {
            who: Actor::local(),
            right,
            scope: SourceScope::All,
            csrf: String::from("c"),
            entry: SignIn::SignedIn,
        };
        Visit {
            lang: Lang::En,
            viewer,
            area: Area::DeadLetters,
            path: String::new(),
            rest: Vec::new(),
            query: Fields::default(),
            connection: Connection::Plain,
        }
    }

    fn seen(right: AdminRight, state: OrderState) -> String {
        let counts = DeliveryCounts { done: 150, dead: 40, pending: 0, gone: 0 };
        seen_with(right, state, counts)
    }

    fn seen_with(right: AdminRight, state: OrderState, counts: DeliveryCounts) -> String {
        let id = ReplayId::new(1);
        let (seen, of, events, deliveries, skipped) = (200, Some(1000), 190, 190, 10);
        let progress = ReplayProgress {
            id,
            at_ms: 0,
            mode: ReplayMode::Deliver,
            among: None,
            state,
            seen,
            of,
            events,
            deliveries,
            skipped,
        };
        let outcome = Some(Outcome { counts, further: 0 });
        let found = FoundReplay { progress, outcome, known: KnownBy::Process };
        shown(&visit(right), &found).into_string()
    }

    #[test]
    fn a_running_replay_can_be_watched_and_cancelled() {
        let running = seen(AdminRight::Admin, OrderState::Running);
        assert!(running.contains(r#"<progress value="200" max="1000""#), "{running}");
        assert!(running.contains("/cancel") && running.contains(AGAIN.of(Lang::En)));
        assert!(!running.contains("data-ended") && running.contains("200 of about 1,000"));
        assert!(running.contains("<dt>Deliveries skipped</dt><dd>10</dd>"), "{running}");
        assert!(running.contains(SKIPPED_WHY.of(Lang::En)), "{running}");
        let watched = seen(AdminRight::Read, OrderState::Running);
        assert!(!watched.contains("/cancel") && watched.contains(AGAIN.of(Lang::En)));
        for ended in [OrderState::Done, OrderState::Cancelled] {
            let ended = seen(AdminRight::Admin, ended);
            assert!(ended.contains("data-ended") && !ended.contains("/cancel"), "{ended}");
            assert!(!ended.contains("<progress") && !ended.contains("of about"));
        }
        let interrupted = seen(AdminRight::Admin, OrderState::Interrupted);
        assert!(interrupted.contains(INTERRUPTED.of(Lang::En)), "{interrupted}");
        let waits = DeliveryCounts { pending: 7, ..DeliveryCounts::default() };
        let waits = seen_with(AdminRight::Admin, OrderState::Done, waits);
        assert!(!waits.contains("data-ended") && waits.contains(AGAIN.of(Lang::En)), "{waits}");
        let error = crate::ledger::LedgerError::Overloaded;
        assert!(seen(AdminRight::Admin, OrderState::Failed(error)).contains("alert"));
    }
}
