//! The release of a group: how each callback was decided, and the outcome of the deliveries.

use maud::{Markup, html};

use super::act::{self, Decisions};
use super::{ALL, RELEASES};
use crate::clock::now_ms;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::outcome::badge;
use crate::console::components::{live, outcome, time};
use crate::console::page_error::PageError;
use crate::console::pages::LIVE;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{EventId, ReleaseId};
use crate::operator::source_id;
use crate::orders::{Account, OpenAccount, OrderState, Outcome};

texts! {
    TITLE = "Release {}", "批量放行 {}";
    AT = "Released at", "放行时间";
    STATE = "State", "状态";
    DEAD = "Dead letters", "成为死信";
    AGAIN = "Refresh", "刷新";
    GONE = "No release with this id is kept. Events that it created are kept.", "没有保留该批量放行任务。已创建的事件会保留。";
}

fn path(id: ReleaseId) -> String {
    format!("{}/{RELEASES}/{id}", Area::Issues.path())
}

/// Keeps the account of a release; returns its path.
pub(super) async fn keep(
    console: &Console,
    source: &str,
    events: &[EventId],
    decisions: &Decisions,
) -> Result<String, PageError> {
    let config = console.config();
    let source = source_id(&config, source);
    let id = ReleaseId::new(now_ms());
    let ledger = console.tools.registry.ledger();
    let mut open = OpenAccount::begin(ledger, id, Account::new(now_ms(), Some(&[source]))).await?;
    open.add(events, None);
    open.count(decisions.numbers());
    open.save(&OrderState::Done).await?;
    Ok(path(id))
}

async fn find(console: &Console, id: &str) -> Result<(ReleaseId, Account, Outcome), PageError> {
    let id: ReleaseId = id.parse().map_err(|_| PageError::Absent)?;
    let ledger = console.tools.registry.ledger();
    let found = Account::with_outcome(ledger, id).await?;
    let found = found.filter(|(account, _)| console.view().sees_account(account));
    let gone = PageError::Gone { why: GONE, list: Area::Issues };
    let (account, outcome) = found.ok_or(gone)?;
    Ok((id, account, outcome))
}

/// The page of a release.
pub(super) async fn page(console: &Console, visit: &Visit, id: &str) -> PageResult {
    let (id, account, outcome) = find(console, id).await?;
    let live = format!("{}/{LIVE}", path(id));
    let middle = html! {
        (live::frame(visit.lang, &live, outcome::EVERY_S, &shown(visit, id, &account, &outcome)))
        p { a href=(Area::Issues.path()) { (ALL.of(visit.lang)) } }
    };
    Ok(Reply::Page(TITLE.fill(visit.lang, &[&id]), middle))
}

/// The part that the script refreshes.
pub(super) async fn part(console: &Console, visit: &Visit, id: &str) -> PageResult {
    let (id, account, outcome) = find(console, id).await?;
    Ok(Reply::Fragment(shown(visit, id, &account, &outcome)))
}

fn shown(visit: &Visit, id: ReleaseId, account: &Account, outcome: &Outcome) -> Markup {
    let lang = visit.lang;
    let state = account.state(now_ms());
    let mut all = vec![(AT, time::time(account.at_ms)), (STATE, badge(visit, &state))];
    all.extend(act::results(account));
    all.extend(outcome::numbers(outcome, DEAD));
    let is_open = state == OrderState::Running || outcome::is_open(Some(outcome));
    html! {
        // `data-ended` stops the script.
        div data-ended[!is_open] data-pace=(outcome::pace_s(Some(outcome))) {
            (facts(lang, &all))
            @if is_open { p { a href=(path(id)) { (AGAIN.of(lang)) } } }
            (outcome::hint(lang, Some(outcome)))
        }
    }
}
