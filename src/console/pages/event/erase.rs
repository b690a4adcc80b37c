//! Erasure of the data of an event's user.

use maud::{Markup, html};

use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::components::notice::{Tone, notice};
use crate::console::fields::Fields;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::ledger::{Erased, Event, EventId};
use crate::operator::erase_user;

texts! {
    TITLE = "Data of the user", "用户数据";
    OPEN = "Erase the data of this user…", "抹除该用户的数据…";
    ALL = "Deletes all events of this user with their attempts, and kept callbacks, of all sources. Unsettled deliveries are dropped. Transactions stay known. Older exports and backups are not changed.",
        "删除该用户在所有来源的事件、投递尝试和留存的回调，未完成的投递会被放弃。交易号仍会被识别为重复。以前的导出和备份不受影响。";
    OF_SOURCE = "Deletes all events of this user with their attempts, and kept callbacks, of this source. Unsettled deliveries are dropped. Transactions stay known. Older exports and backups are not changed.",
        "删除该用户在本来源的事件、投递尝试和留存的回调，未完成的投递会被放弃。交易号仍会被识别为重复。以前的导出和备份不受影响。";
    AGAIN = "User, to confirm", "再次输入用户以确认";
    ERASE = "Erase the data of 1 user", "抹除 1 个用户的数据";
    DIFFERS = "Nothing was erased: that is not the user of this event.", "未抹除任何数据：输入的不是此事件的用户。";
    ERASED = "Erased events: {}, kept callbacks: {}. Dropped deliveries: {}.",
        "已抹除事件 {} 个、留存的回调 {} 个；放弃投递 {} 个。";
    BACK = "Back to the event", "返回事件";
    AUDIT = "Audit", "审计";
}

/// The last segment of the form's path.
pub(super) const PATH: &str = "erase";

/// The section with the form, if the event has a user.
pub(super) fn section(visit: &Visit, id: EventId, event: &Event<'_>) -> Markup {
    let lang = visit.lang;
    let what = if visit.viewer.scope.is_bound() { OF_SOURCE } else { ALL };
    let field = Field { hint: Some(what), ..Field::new("user", AGAIN) };
    let action = format!("{}/{id}/{PATH}", Area::Event.path());
    html! {
        @if event.user.is_some() && visit.viewer.may_change() {
            section aria-labelledby="user-data" {
                h2 #user-data { (TITLE.of(lang)) }
                details {
                    summary { (OPEN.of(lang)) }
                    (form::change(visit, &action, &html! {
                        (field.show(lang))
                        button.danger type="submit" { (ERASE.of(lang)) }
                    }))
                }
            }
        }
    }
}

/// Erases, if the form names the user of the event.
pub(super) async fn post(
    console: &Console,
    visit: &Visit,
    event: &Event<'_>,
    form: &Fields,
) -> PageResult {
    if !visit.viewer.may_change() {
        return Err(PageError::ReadOnly);
    }
    let lang = visit.lang;
    let named = form.verbatim("user").filter(|user| !user.is_empty());
    let page = |middle| Ok(Reply::Page(TITLE.of(lang).to_owned(), middle));
    let Some(user) = named.filter(|user| event.user.as_deref() == Some(*user)) else {
        return page(html! {
            (notice(Tone::Bad, DIFFERS.of(lang)))
            p { a href=(visit.path.trim_end_matches(&format!("/{PATH}"))) { (BACK.of(lang)) } }
        });
    };
    // A token that is bound to sources erases in one of them.
    let source = visit.viewer.scope.is_bound().then_some(&*event.source);
    let Erased { events, deliveries, held } =
        erase_user(&console.tools.registry, &visit.viewer.who, user, source).await?;
    page(html! {
        (notice(Tone::Good, &ERASED.fill(lang, &[&events, &held, &deliveries])))
        p { a href=(Area::Audit.path()) { (AUDIT.of(lang)) } }
    })
}
