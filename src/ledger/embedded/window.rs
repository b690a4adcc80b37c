//! The events of a window of time, newest first, as an export has them.

use super::core::Core;
use super::export::Exporter;
use super::record::Record;
use super::run::Walk;
use crate::ledger::{Cursor, EventId, EventWindow, ExportPage, Item, LedgerError};

impl Core {
    /// A page of them, of about `bytes`.
    pub(super) fn events_in(
        &self,
        window: EventWindow,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let [from, end] = window.ids();
        let before = match cursor {
            Some(Cursor(id)) => {
                EventId::from_bytes(id.as_slice().try_into().or(Err(LedgerError::BadCursor))?)
            }
            None => end,
        };
        let mut walk = Walk::new(&self.all_runs(), before, from)?;
        let mut exporter = Exporter { core: self, items: Vec::new(), size: 0 };
        while exporter.size < bytes {
            let Some((row, segment)) = walk.next()? else {
                return Ok(ExportPage { items: exporter.items, next: None });
            };
            let payload = segment.read(row.offset);
            let payload = payload.map_err(|error| self.unreadable(&segment, row.offset, error))?;
            let record = Record::read(&payload)
                .map_err(|_| segment.damaged(row.offset, "the record is of no known form"))?;
            exporter.add(&record)?;
        }
        let last = exporter.items.last().and_then(|item| match item {
            Item::Event { event, .. } => Some(Cursor(event.id.as_bytes().to_vec())),
            _ => None,
        });
        Ok(ExportPage { items: exporter.items, next: last })
    }
}
