//! Replays: their progress, and their cancellation.

use maud::{Markup, html};

use super::{LIVE, REPLAYS};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::{form, live, notice, table, time, value};
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::delivery::ReplayProgress;
use crate::ledger::ReplayId;
use crate::operator::cancel_replay;
use crate::orders::OrderState;

/// Replays in the list.
const SHOWN_MAX: usize = 10;

/// Refresh interval of the script, in seconds.
const EVERY_S: u32 = 1;

texts! {
    TITLE = "Replay {}", "重新投递任务 {}";
    ORDERS = "Replays", "重新投递任务";
    CAPTION = "Latest first, since the start of this gateway", "最新在前，自本网关启动以来";
    NONE = "No replays since the start of this gateway.", "自本网关启动以来没有重新投递任务。";
    GIVEN = "Started", "开始时间";
    STATE = "State", "状态";
    SEEN = "Events checked", "已检查的事件";
    OF = "{} of about {}", "{} / 约 {}";
    EVENTS = "Events replayed", "重新投递的事件";
    DELIVERIES = "Deliveries created", "新建的投递";
    FAILED = "The store returned an error: {}. Start the replay again from the list of dead letters.", "存储返回错误：{}。请从死信列表重新开始。";
    NEXT = "The new deliveries are in progress. If they fail again, they return to the dead letters.",
        "新的投递正在进行。若再次失败，会回到死信列表。";
    AGAIN = "Refresh", "刷新";
    CANCEL = "Cancel replay", "取消任务";
    CANCEL_WHAT = "Deliveries that were already created are kept.", "已新建的投递会保留。";
    LIST = "Dead letters", "死信";
    GONE = "This gateway has no replay with this id: it was started on another gateway or before a restart. Deliveries that it created are kept.",
        "本网关没有该任务：它在其他网关上启动，或在重启之前启动。已新建的投递会保留。";
}

pub(super) fn path(id: ReplayId) -> String {
    format!("{}/{REPLAYS}/{id}", Area::DeadLetters.path())
}

fn progress(console: &Console, id: &str) -> Result<ReplayProgress, PageError> {
    let id = id.parse().map_err(|_| PageError::Absent)?;
    let progress = console.tools.replays.progress(id);
    progress.filter(|progress| console.view().sees_replay(progress)).ok_or(PageError::Bad(GONE))
}

/// The page of one replay.
pub(super) fn page(console: &Console, visit: &Visit, id: &str) -> PageResult {
    let progress = progress(console, id)?;
    let live = format!("{}/{LIVE}", path(progress.id));
    let middle = html! {
        (live::frame(visit.lang, &live, EVERY_S, &shown(visit, &progress)))
        p { a href=(Area::DeadLetters.path()) { (LIST.of(visit.lang)) } }
    };
    Ok(Reply::Page(TITLE.fill(visit.lang, &[&progress.id]), middle))
}

/// The part that the script refreshes.
pub(super) fn part(console: &Console, visit: &Visit, id: &str) -> PageResult {
    Ok(Reply::Fragment(shown(visit, &progress(console, id)?)))
}

pub(super) async fn cancel(console: &Console, visit: &Visit, id: &str) -> PageResult {
    let ReplayProgress { id, .. } = progress(console, id)?;
    let (registry, replays) = (&console.tools.registry, &console.tools.replays);
    cancel_replay(registry, replays, &visit.viewer.who, id).await?.ok_or(PageError::Bad(GONE))?;
    Ok(Reply::Redirect(path(id)))
}

/// The progress of a replay.
fn shown(visit: &Visit, progress: &ReplayProgress) -> Markup {
    let lang = visit.lang;
    let runs = progress.state == OrderState::Running;
    let all = facts(
        lang,
        &[
            (STATE, badge(visit, &progress.state)),
            (GIVEN, time::time(progress.at_ms)),
            (SEEN, seen(visit, progress)),
            (EVENTS, html! { (value::count(progress.events)) }),
            (DELIVERIES, html! { (value::count(progress.deliveries)) }),
        ],
    );
    let action = format!("{}/cancel", path(progress.id));
    html! {
        // `data-ended` stops the script.
        div data-ended[!runs] {
            @if let (Some(of), true) = (progress.of, runs) {
                progress value=(progress.seen) max=(of.max(progress.seen).max(1)) aria-label=(SEEN.of(lang)) {}
            }
            (all)
            @if runs {
                p { a href=(path(progress.id)) { (AGAIN.of(lang)) } }
                (form::support(visit, &action, &html! {
                    p.hint #cancel-hint { (CANCEL_WHAT.of(lang)) }
                    button.danger type="submit" aria-describedby="cancel-hint" { (CANCEL.of(lang)) }
                }))
            }
            @if let OrderState::Failed(error) = &progress.state {
                (notice::notice(notice::Tone::Bad, &FAILED.fill(lang, &[error])))
            }
            @if progress.deliveries > 0 { p { (NEXT.of(lang)) } }
        }
    }
}

fn seen(visit: &Visit, progress: &ReplayProgress) -> Markup {
    html! {
        @match progress.of {
            Some(of) => (OF.fill(visit.lang, &[&progress.seen, &of])),
            None => (progress.seen),
        }
    }
}

fn badge(visit: &Visit, state: &OrderState) -> Markup {
    let (class, word) = match state {
        OrderState::Running => ("pending", Text::new("Running", "进行中")),
        OrderState::Done => ("done", Text::new("Done", "已完成")),
        OrderState::Cancelled => ("conflict", Text::new("Cancelled", "已取消")),
        OrderState::Failed(_) => ("dead", Text::new("Failed", "失败")),
    };
    html! { span.badge.(class) title=(state.as_str()) { (word.of(visit.lang)) } }
}

/// The latest replays.
pub(super) fn section(console: &Console, visit: &Visit) -> Markup {
    let lang = visit.lang;
    let mut all = console.tools.replays.all();
    all.retain(|progress| console.view().sees_replay(progress));
    let row = |one: &ReplayProgress| {
        vec![
            html! { a href=(path(one.id)) { (time::time(one.at_ms)) } },
            badge(visit, &one.state),
            seen(visit, one),
            html! { (one.events) },
            html! { (one.deliveries) },
        ]
    };
    let rows: Vec<Vec<Markup>> = all.iter().take(SHOWN_MAX).map(row).collect();
    let columns = [GIVEN, STATE, SEEN, EVENTS, DELIVERIES];
    html! {
        section aria-labelledby="orders" {
            h2 #orders { (ORDERS.of(lang)) }
            (table::table(lang, CAPTION.of(lang), &columns, &rows, NONE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AdminRight, SourceScope};
    use crate::console::fields::Fields;
    use crate::console::lang::Lang;
    use crate::console::session::{SignIn, Viewer};
    use crate::delivery::ReplayMode;
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
            is_over_tls: false,
        }
    }

    fn seen(right: AdminRight, state: OrderState) -> String {
        let id = ReplayId::new(1);
        let (seen, of, events, deliveries) = (200, Some(1000), 190, 190);
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
        };
        shown(&visit(right), &progress).into_string()
    }

    #[test]
    fn a_running_replay_can_be_watched_and_cancelled() {
        let running = seen(AdminRight::Admin, OrderState::Running);
        assert!(running.contains(r#"<progress value="200" max="1000""#), "{running}");
        assert!(running.contains("/cancel") && running.contains(AGAIN.of(Lang::En)));
        assert!(!running.contains("data-ended") && running.contains("200 of about 1000"));
        let watched = seen(AdminRight::Read, OrderState::Running);
        assert!(!watched.contains("/cancel") && watched.contains(AGAIN.of(Lang::En)));
        for ended in [OrderState::Done, OrderState::Cancelled] {
            let ended = seen(AdminRight::Admin, ended);
            assert!(ended.contains("data-ended") && !ended.contains("/cancel"), "{ended}");
            assert!(!ended.contains("<progress"));
        }
        let error = crate::ledger::LedgerError::Overloaded;
        assert!(seen(AdminRight::Admin, OrderState::Failed(error)).contains("alert"));
    }
}
