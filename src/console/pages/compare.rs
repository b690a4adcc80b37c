//! The values of a callback next to those of the accepted event of the same transaction.

use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::config::Source;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::value;
use crate::console::page_error::PageError;
use crate::console::text::texts;
use crate::console::visit::Visit;
use crate::console::words;
use crate::ledger::{Event, EventBody, EventId, LogQuery, SourceId};
use crate::operator::held_roles;
use crate::sender::{Callback, Role};

texts! {
    TITLE = "Accepted event of this transaction", "该交易已接受的事件";
    SAME = "All values agree with the accepted event.", "所有值与已接受的事件一致。";
    DIFFER = "Values that differ from the accepted event: {}. They are marked.", "有 {} 个值与已接受的事件不同，已标出。";
    NEVER = "No event of transaction {} was accepted from this source.", "该来源没有接受过交易号 {} 的事件。";
    ROLE = "Field", "字段";
    THIS = "This callback", "本回调";
    EVENT = "Accepted event", "已接受的事件";
    NONE = "None.", "无。";
}

/// The roles that a callback claims. Whether it is verified is another question.
#[derive(Debug)]
pub(super) struct Claims(Vec<(Role, Option<String>)>);

impl Claims {
    pub(super) fn of(callback: &Callback<'_>) -> Self {
        Self(Role::ALL.into_iter().map(|role| (role, callback.says(role))).collect())
    }

    pub(super) fn get(&self, wanted: Role) -> Option<&str> {
        let found = self.0.iter().find(|(role, _)| *role == wanted);
        found.and_then(|(_, value)| value.as_deref())
    }
}

/// The accepted event of a transaction.
#[derive(Debug)]
pub(super) struct Accepted {
    id: EventId,
    event: Event<'static>,
}

impl Accepted {
    /// The event of the transaction that `claims` has; `None` if there is none.
    pub(super) async fn find(
        console: &Console,
        source: &Source,
        claims: &Claims,
    ) -> Result<Option<Self>, PageError> {
        let Some(transaction) = claims.get(Role::Transaction) else { return Ok(None) };
        let query = LogQuery {
            source: Some(SourceId::from(source.id.as_str())),
            transaction: Some(transaction.to_owned()),
            ..LogQuery::default()
        };
        let page = console.ledger().query(&query, None, 1).await?;
        Ok(page.events.first().and_then(|logged| {
            let event = EventBody::decode(&logged.body).and_then(|body| body.event());
            Some(Self { id: logged.id, event: event.ok()? })
        }))
    }

    /// Its parameters, signatures masked.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        let members: Map<String, Value> =
            serde_json::from_str(self.event.params.get()).unwrap_or_default();
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        members.into_iter().map(|(name, value)| (name, text(value))).collect()
    }
}

/// The comparison; empty if no transaction is claimed.
pub(super) fn section(visit: &Visit, claims: &Claims, accepted: Option<&Accepted>) -> Markup {
    let Some(transaction) = claims.get(Role::Transaction) else { return html! {} };
    let lang = visit.lang;
    let Some(Accepted { id, event }) = accepted else {
        return html! {
            section aria-labelledby="compared" {
                h2 #compared { (TITLE.of(lang)) }
                p.empty { (NEVER.fill(lang, &[&transaction])) }
            }
        };
    };
    let there = held_roles(event);
    let mut differ = 0;
    let rows = claims.0.iter().filter_map(|(role, own)| {
        let other = there.get(role.as_str()).and_then(|value| value.as_str());
        if own.is_none() && other.is_none() {
            return None;
        }
        let is_same = own.as_deref() == other;
        differ += usize::from(!is_same);
        let shown = value::maybe(own.as_deref());
        let shown = match is_same {
            true => shown,
            false => html! { mark { b { (shown) } } },
        };
        let name = html! { span title=(role.as_str()) { (words::role(*role).of(lang)) } };
        Some(vec![name, shown, value::maybe(other)])
    });
    let rows: Vec<Vec<Markup>> = rows.collect();
    let said = match differ {
        0 => SAME.of(lang).to_owned(),
        count => DIFFER.fill(lang, &[&count]),
    };
    html! {
        section aria-labelledby="compared" {
            h2 #compared { (TITLE.of(lang)) }
            p { a href=(format!("{}/{id}", Area::Event.path())) { code { (id) } } }
            p { (said) }
            (DataTable::new(Caption::Hidden(TITLE.of(lang)), &[ROLE, THIS, EVENT], NONE).show(lang, &rows))
        }
    }
}
