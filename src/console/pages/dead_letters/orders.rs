//! Orders to deliver again: how far each is, and its end.

use maud::{Markup, html};

use super::{LIVE, REPLAYS};
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::{form, notice, table, time};
use crate::console::page_error::PageError;
use crate::console::reply::{Reply, Shown};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::delivery::{ReplayProgress, ReplayState};
use crate::ledger::ReplayId;
use crate::operator::cancel_replay;

/// Orders that the list shows.
const SHOWN_MAX: usize = 10;

/// Seconds from one look of the script to the next.
const EVERY_S: u64 = 1;

texts! {
    TITLE = "Replay {}", "重新投递任务 {}";
    ORDERS = "Replays", "重新投递任务";
    CAPTION = "The latest of this gateway, since its start", "本网关启动以来的最新任务";
    NONE = "None since this gateway's start.", "本网关启动以来没有。";
    GIVEN = "Ordered (UTC)", "下达时间（UTC）";
    STATE = "State", "状态";
    SEEN = "Looked at", "已查看";
    OF = "{} of about {}", "{} / 约 {}";
    EVENTS = "Events", "事件数";
    DELIVERIES = "Deliveries made anew", "重新生成的投递";
    FAILED = "The ledger failed: {} Give the order again from the list.", "账本出错：{} 请从列表重新下达。";
    NEXT = "What was made anew is being delivered. What is given up again comes back to the list of dead letters.",
        "重新生成的投递正在进行。再次被放弃的投递会回到死信列表。";
    AGAIN = "Look again", "刷新";
    CANCEL = "Cancel", "取消任务";
    CANCEL_WHAT = "What it has made stays made.", "已生成的投递会保留。";
    LIST = "Dead letters", "死信";
    GONE = "This gateway knows no replay of that id (any more): it was ordered on another one, or before a restart. What it made stays made.",
        "本网关没有该任务：它可能在其他网关下达，或在重启之前。已生成的投递会保留。";
}

pub(super) fn path(id: ReplayId) -> String {
    format!("{}/{REPLAYS}/{id}", Area::DeadLetters.path())
}

fn progress(console: &Console, id: &str) -> Result<ReplayProgress, PageError> {
    let id = id.parse().map_err(|_| PageError::Absent)?;
    console.tools.replays.progress(id).ok_or(PageError::Bad(GONE))
}

/// The page of one order.
pub(super) fn page(console: &Console, visit: &Visit, id: &str) -> Shown {
    let progress = progress(console, id)?;
    let live = format!("{}/{LIVE}", path(progress.id));
    let middle = html! {
        div #live data-live=(live) data-every=(EVERY_S) { (shown(visit, &progress)) }
        p { a href=(Area::DeadLetters.path()) { (LIST.of(visit.lang)) } }
    };
    Ok(Reply::Page(TITLE.fill(visit.lang, &[&progress.id]), middle))
}

/// What the script asks for.
pub(super) fn part(console: &Console, visit: &Visit, id: &str) -> Shown {
    Ok(Reply::Fragment(shown(visit, &progress(console, id)?)))
}

pub(super) async fn cancel(console: &Console, visit: &Visit, id: &str) -> Shown {
    let id: ReplayId = id.parse().map_err(|_| PageError::Absent)?;
    let tools = (&console.tools.registry, &console.tools.replays);
    cancel_replay(tools, &visit.viewer.who, id).await?.ok_or(PageError::Bad(GONE))?;
    Ok(Reply::Go(path(id)))
}

/// How far it is.
fn shown(visit: &Visit, progress: &ReplayProgress) -> Markup {
    let lang = visit.lang;
    let runs = progress.state == ReplayState::Running;
    let all = facts(
        lang,
        &[
            (STATE, badge(visit, &progress.state)),
            (GIVEN, time::time(progress.at_ms)),
            (SEEN, seen(visit, progress)),
            (EVENTS, html! { (progress.events) }),
            (DELIVERIES, html! { (progress.deliveries) }),
        ],
    );
    let action = format!("{}/cancel", path(progress.id));
    html! {
        // The script looks no further where this is said.
        div data-ended[!runs] {
            @if let (Some(of), true) = (progress.of, runs) {
                progress value=(progress.seen) max=(of.max(progress.seen).max(1)) aria-label=(SEEN.of(lang)) {}
            }
            (all)
            @if runs {
                p { a href=(path(progress.id)) { (AGAIN.of(lang)) } }
                (form::change(visit, &action, &html! {
                    p.hint #cancel-hint { (CANCEL_WHAT.of(lang)) }
                    button.danger type="submit" aria-describedby="cancel-hint" { (CANCEL.of(lang)) }
                }))
            }
            @if let ReplayState::Failed(error) = &progress.state {
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

fn badge(visit: &Visit, state: &ReplayState) -> Markup {
    let (class, word) = match state {
        ReplayState::Running => ("pending", Text::new("running", "进行中")),
        ReplayState::Done => ("done", Text::new("complete", "已完成")),
        ReplayState::Cancelled => ("conflict", Text::new("cancelled", "已取消")),
        ReplayState::Failed(_) => ("dead", Text::new("failed", "失败")),
    };
    html! { span.badge.(class) title=(state.as_str()) { (word.of(visit.lang)) } }
}

/// The latest orders.
pub(super) fn section(console: &Console, visit: &Visit) -> Markup {
    let lang = visit.lang;
    let all = console.tools.replays.all();
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
    use crate::config::AdminRight;
    use crate::console::fields::Fields;
    use crate::console::lang::Lang;
    use crate::console::session::{SignIn, Viewer};
    use crate::registry::Actor;

    fn visit(right: AdminRight) -> Visit {
        let viewer =
            Viewer { who: Actor::local(), right, csrf: String::from("c"), entry: SignIn::SignedIn };
        Visit {
            lang: Lang::En,
            viewer,
            area: Area::DeadLetters,
            path: String::new(),
            rest: Vec::new(),
            query: Fields::default(),
            came_by_tls: false,
        }
    }

    fn seen(right: AdminRight, state: ReplayState) -> String {
        let id = ReplayId::new(1);
        let (seen, of, events, deliveries) = (200, Some(1000), 190, 190);
        let progress = ReplayProgress { id, at_ms: 0, state, seen, of, events, deliveries };
        shown(&visit(right), &progress).into_string()
    }

    #[test]
    fn what_runs_can_be_watched_and_cancelled_until_it_has_ended() {
        let running = seen(AdminRight::Admin, ReplayState::Running);
        assert!(running.contains(r#"<progress value="200" max="1000""#), "{running}");
        assert!(running.contains("/cancel") && running.contains(AGAIN.of(Lang::En)));
        assert!(!running.contains("data-ended") && running.contains("200 of about 1000"));
        let watched = seen(AdminRight::Read, ReplayState::Running);
        assert!(!watched.contains("/cancel") && watched.contains(AGAIN.of(Lang::En)));
        for ended in [ReplayState::Done, ReplayState::Cancelled] {
            let ended = seen(AdminRight::Admin, ended);
            assert!(ended.contains("data-ended") && !ended.contains("/cancel"), "{ended}");
            assert!(!ended.contains("<progress"));
        }
        let error = crate::ledger::LedgerError::Overloaded;
        assert!(seen(AdminRight::Admin, ReplayState::Failed(error)).contains("alert"));
    }
}
