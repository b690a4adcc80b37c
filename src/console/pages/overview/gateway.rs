//! The gateway itself: version, whether it serves, what its ledger holds and survives.

use std::time::Duration;

use maud::{Markup, html};

use crate::console::app::Console;
use crate::console::components::facts::facts;
use crate::console::components::{notice, time};
use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{Health, LedgerError, Stats};
use crate::lifecycle::Phase;

texts! {
    TITLE = "Gateway", "网关";
    VERSION = "Version", "版本";
    STATE = "State", "状态";
    READY = "takes callbacks", "正在接收回调";
    NOT_READY = "takes none: {}", "未接收回调：{}";
    DURABILITY = "An answer survives", "应答的持久性";
    EVENTS = "Events kept", "保留的事件";
    KEYS = "Transactions remembered", "记住的交易";
    PENDING = "Deliveries pending", "待投递";
    DEAD = "Dead letters", "死信";
    OLDEST = "Oldest due", "最早到期";
    NOTHING_DUE = "nothing is due", "没有到期的投递";
    SIZE = "Ledger on disk", "账本占用磁盘";
    FREE = "{}, {} free", "{}，剩余 {}";
    UNKNOWN = "not known yet", "尚不可知";
    CLOCK = "Clock of the server", "服务器时钟";
    AHEAD = "{} ahead of this gateway", "比本网关快 {}";
    BEHIND = "{} behind this gateway", "比本网关慢 {}";
    CANNOT = "The ledger cannot say what it holds: {}", "账本无法给出统计：{}";
    SINCE = "{} ago", "{}前";
}

/// The section about the gateway.
pub async fn section(
    console: &Console,
    visit: &Visit,
    stats: &Result<Stats, LedgerError>,
) -> Markup {
    let lang = visit.lang;
    let health = console.book().health().await;
    let mut all: Vec<(Text, Markup)> = vec![
        (VERSION, html! { (env!("CARGO_PKG_VERSION")) }),
        (STATE, state(console, lang, &health)),
    ];
    if let Ok(health) = &health {
        all.push((DURABILITY, html! { (words::durability(health.durability).of(lang)) }));
        all.push((SIZE, size(lang, health)));
        all.extend(clock(lang, health).map(|clock| (CLOCK, clock)));
    }
    if let Ok(stats) = stats {
        let oldest = match stats.oldest_due {
            Some(due) => SINCE.fill(lang, &[&time::length(lang, due)]),
            None => NOTHING_DUE.of(lang).to_owned(),
        };
        all.extend([
            (EVENTS, html! { (stats.events) }),
            (KEYS, html! { (stats.keys) }),
            (PENDING, html! { (stats.pending) }),
            (DEAD, html! { (stats.dead) }),
            (OLDEST, html! { (oldest) }),
        ]);
    }
    html! {
        section aria-labelledby="gateway" {
            h2 #gateway { (TITLE.of(lang)) }
            @if let Err(error) = stats {
                (notice::notice(notice::Tone::Bad, &CANNOT.fill(lang, &[error])))
            }
            (facts(lang, &all))
        }
    }
}

fn state(console: &Console, lang: Lang, health: &Result<Health, LedgerError>) -> Markup {
    let why = match (console.tools.life.phase(), health) {
        (Phase::Ready, Ok(health)) => health.unready(),
        (Phase::Ready, Err(error)) => Some(error.to_string()),
        (phase, _) => Some(phase.as_str().to_owned()),
    };
    match why {
        None => html! { span.badge.ready { (READY.of(lang)) } },
        Some(why) => html! { span.badge.rejected { (NOT_READY.fill(lang, &[&why])) } },
    }
}

/// How far the clock of the ledger's server is from this gateway's, where there is one.
fn clock(lang: Lang, health: &Health) -> Option<Markup> {
    let Some(server) = &health.server else { return None };
    let Some(ahead_ms) = server.clock_ahead_ms else {
        return Some(html! { (UNKNOWN.of(lang)) });
    };
    let text = if ahead_ms < 0 { BEHIND } else { AHEAD };
    let apart = Duration::from_millis(ahead_ms.unsigned_abs());
    Some(html! { (text.fill(lang, &[&time::length(lang, apart)])) })
}

fn size(lang: Lang, health: &Health) -> Markup {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let Some(size) = health.bytes.map(mib) else { return html! { (UNKNOWN.of(lang)) } };
    match health.room {
        Some(room) => html! { (FREE.fill(lang, &[&size, &mib(room.free)])) },
        None => html! { (size) },
    }
}
