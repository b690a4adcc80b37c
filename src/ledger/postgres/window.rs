//! The events of a window of time, oldest first, as an export has them.

use super::Core;
use super::link::Session;
use super::query_error::QueryError;
use crate::ledger::{Cursor, EventWindow, ExportPage, Item};

impl Core {
    /// A page of them, of about `bytes`.
    pub(super) async fn events_in_on(
        &self,
        session: &Session,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, QueryError> {
        let [from, end] = window.ids();
        // No event has the smallest id of a millisecond: ids have bits of their version.
        let after = cursor.map_or_else(|| from.as_bytes().to_vec(), |cursor| cursor.0.clone());
        let (mut items, next) = self.events(session, Some(after.as_slice()), bytes).await?;
        let read = items.len();
        items.retain(|item| matches!(item, Item::Event { event, .. } if event.id < end));
        let next = next.filter(|_| items.len() == read).map(Cursor);
        Ok(ExportPage { items, next })
    }
}
