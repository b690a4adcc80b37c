//! The frame of a part that the script refreshes: when it was read, whether it still is, and a
//! button to pause.

use maud::{Markup, html};

use super::time;
use crate::clock::now_ms;
use crate::console::lang::Lang;
use crate::console::text::texts;

texts! {
    PAUSE = "Pause updates", "暂停更新";
    READ_AT = "Read at {} UTC", "读取于 {} UTC";
    LIVE = "Updated {} · live", "更新于 {} · 实时";
    PAUSED = "Updated {} · paused", "更新于 {} · 已暂停";
    LOST = "Updated {} · lost: the gateway does not respond", "更新于 {} · 已断开：网关无响应";
    OUT = "Updated {} · signed out", "更新于 {} · 登录已失效";
    LOST_ALARM = "The gateway does not respond. What is shown below is out of date.", "网关无响应，以下内容已过时。";
    OUT_ALARM = "Your session has ended. Reload the page to sign in. What is shown below is out of date.", "会话已结束。请重新加载页面并登录。以下内容已过时。";
}

/// `part`, read again from `path` every `seconds`.
pub(crate) fn frame(lang: Lang, path: &str, seconds: u32, part: &Markup) -> Markup {
    let now = time::second(now_ms());
    html! {
        div.live {
            p data-state-of="live" data-live-text=(LIVE.of(lang)) data-paused-text=(PAUSED.of(lang))
                data-lost-text=(LOST.of(lang)) data-out-text=(OUT.of(lang))
                data-lost-alarm=(LOST_ALARM.of(lang)) data-out-alarm=(OUT_ALARM.of(lang)) {
                (READ_AT.fill(lang, &[&now.get(11..).unwrap_or_default()]))
            }
            button.quiet type="button" data-pause="live" aria-pressed="false" hidden { (PAUSE.of(lang)) }
        }
        p.notice.bad role="alert" data-alarm="live" hidden {}
        div #live data-live=(path) data-every=(seconds) { (part) }
    }
}
