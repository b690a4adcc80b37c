//! The gateway: version, readiness, contents and durability of the ledger.

use std::time::Duration;

use maud::{Markup, html};

use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::{notice, time, value};
use crate::console::lang::Lang;
use crate::console::messages;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{Health, LedgerError, Stats};
use crate::lifecycle::Phase;

texts! {
    TITLE = "Gateway", "网关";
    VERSION = "Version", "版本";
    STATE = "State", "状态";
    READY = "Ready", "就绪";
    NOT_READY = "Not ready: {}", "未就绪：{}";
    DURABILITY = "Durability", "持久性";
    EVENTS = "Events stored", "已保存的事件";
    KEYS = "Deduplication keys", "去重键";
    PENDING = "Pending deliveries", "待投递";
    DEAD = "Dead letters", "死信";
    OLDEST = "Oldest due", "最早到期";
    NOTHING_DUE = "None", "无";
    SIZE = "Store on disk", "存储占用磁盘";
    FREE = "{}, {} free", "{}，剩余 {}";
    UNKNOWN = "Unknown", "未知";
    CLOCK = "Clock of the database server", "数据库服务器时钟";
    AHEAD = "{} ahead of this gateway", "比本网关快 {}";
    BEHIND = "{} behind this gateway", "比本网关慢 {}";
    CANNOT = "The store could not report its contents: {}", "存储无法给出统计：{}";
    SINCE = "{} ago", "{}前";
}

/// The section about the gateway.
pub(super) async fn section(
    console: &Console,
    visit: &Visit,
    stats: &Result<Stats, LedgerError>,
) -> Markup {
    let lang = visit.lang;
    let health = console.ledger().health().await;
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
            (EVENTS, html! { (value::count(stats.events)) }),
            (KEYS, html! { (value::count(stats.keys)) }),
            (PENDING, html! { a href={ (Area::Callbacks.path()) "?state=pending" } { (value::count(stats.pending)) } }),
            (DEAD, html! { a href=(Area::DeadLetters.path()) { (value::count(stats.dead)) } }),
            (OLDEST, html! { (oldest) }),
        ]);
    }
    html! {
        section aria-labelledby="gateway" {
            h2 #gateway { (TITLE.of(lang)) }
            @if let Err(error) = stats {
                (notice::notice(notice::Tone::Bad, &CANNOT.fill(lang, &[&messages::text(lang, &error.to_string())])))
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
        Some(why) => {
            html! { span.badge.rejected { (NOT_READY.fill(lang, &[&messages::text(lang, &why)])) } }
        }
    }
}

/// The difference between the clock of the database server and this gateway's.
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
    let Some(size) = health.bytes.map(value::bytes) else { return html! { (UNKNOWN.of(lang)) } };
    match health.room {
        Some(room) => html! { (FREE.fill(lang, &[&size, &value::bytes(room.free)])) },
        None => html! { (size) },
    }
}
