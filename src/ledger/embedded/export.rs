//! Export: documents first, then the content of the segments, oldest first.

use super::core::Core;
use super::record::{EventRecord, KeysRecord, Record};
use super::run::Run;
use super::segment::{HEADER, Scan, Segment};
use crate::ledger::codec::{DecodeError, Put, Take};
use crate::ledger::{
    Cursor, Delivery, DeliveryState, EventId, EventKeys, ExportPage, Item, LedgerError, NewEvent,
    NewHeld, PastEvent, Revision, SourceId, TargetId,
};

/// The position of an export.
#[derive(Clone, Copy, Debug)]
enum At {
    /// After the document written at this revision.
    Documents(Revision),
    /// In this segment, in this form, at this frame.
    Segment { number: u32, generation: u32, offset: u32, seq: u64 },
}

impl At {
    fn cursor(&self) -> Cursor {
        let mut to = Vec::new();
        match self {
            Self::Documents(revision) => {
                to.push(0);
                to.extend_from_slice(&revision.0.to_le_bytes());
            }
            Self::Segment { number, generation, offset, seq } => {
                to.push(1);
                for n in [number, generation, offset] {
                    to.put_len(*n as usize);
                }
                to.extend_from_slice(&seq.to_le_bytes());
            }
        }
        Cursor(to)
    }

    fn read(cursor: &Cursor) -> Result<Self, DecodeError> {
        let mut from = Take(&cursor.0);
        let number = |from: &mut Take<'_>| u32::try_from(from.len()?).or(Err(DecodeError));
        let at = match from.u8()? {
            0 => Self::Documents(Revision(from.u64()?)),
            1 => Self::Segment {
                number: number(&mut from)?,
                generation: number(&mut from)?,
                offset: number(&mut from)?,
                seq: from.u64()?,
            },
            _ => return Err(DecodeError),
        };
        from.end().map(|()| at)
    }
}

impl Core {
    /// A page of the export.
    pub(super) fn export(
        &self,
        cursor: Option<&Cursor>,
        bytes: usize,
    ) -> Result<ExportPage, LedgerError> {
        let at = cursor.map_or(Ok(At::Documents(Revision(0))), At::read);
        match at.map_err(|_| LedgerError::BadCursor)? {
            At::Documents(after) => Ok(self.export_documents(after, bytes)),
            at @ At::Segment { .. } => self.export_segment(at, bytes),
        }
    }

    fn export_documents(&self, after: Revision, bytes: usize) -> ExportPage {
        let (mut items, mut last) = (Vec::new(), after);
        let mut size = 0;
        for (kind, document) in self.documents().everything() {
            if document.version <= after {
                continue;
            }
            // Documents of one change share a revision, so a page has all of them.
            if size >= bytes && !items.is_empty() && document.version != last {
                return ExportPage { items, next: Some(At::Documents(last).cursor()) };
            }
            last = document.version;
            let item = Item::Document { kind, document };
            size += item.size();
            items.push(item);
        }
        let first = At::Segment { number: 0, generation: 0, offset: 0, seq: 0 };
        ExportPage { items, next: Some(first.cursor()) }
    }

    fn export_segment(&self, at: At, bytes: usize) -> Result<ExportPage, LedgerError> {
        let At::Segment { number, generation, offset, seq } = at else {
            return Err(LedgerError::BadCursor);
        };
        let runs = self.all_runs();
        let number_of = |run: &Run| run.segment().header.number;
        let last = runs.last().map(number_of);
        let run = runs.into_iter().find(|run| number_of(run) >= number);
        let Some(run) = run else { return Ok(ExportPage::default()) };
        let segment = std::sync::Arc::clone(run.segment());
        let header = &segment.header;
        let same = (header.number, header.generation) == (number, generation) && offset >= HEADER;
        let start = match same {
            true => Scan { end: offset, next_seq: seq, records: 0 },
            false => Scan::start(header),
        };
        let until = run.written();
        let mut exporter = Exporter { core: self, items: Vec::new(), size: 0 };
        let walked = exporter.walk(&segment, start, until, bytes);
        let scan = self.noting(&run, walked)?;
        let whole = scan.end == until;
        let is_last = last <= Some(header.number);
        // A callback that was released meanwhile is passed over here: its event comes behind it.
        let has_grown = is_last && run.written() > until;
        let next = match whole && !has_grown {
            true => At::Segment { number: header.number + 1, generation: 0, offset: 0, seq: 0 },
            false => At::Segment {
                number: header.number,
                generation: header.generation,
                offset: scan.end,
                seq: scan.next_seq,
            },
        };
        // A segment that is begun from now on comes after frames that this page does not have.
        let more = !whole || has_grown || !is_last;
        Ok(ExportPage { items: exporter.items, next: more.then(|| next.cursor()) })
    }
}

/// Makes items of records.
pub(super) struct Exporter<'c> {
    pub(super) core: &'c Core,
    pub(super) items: Vec<Item>,
    pub(super) size: usize,
}

impl Exporter<'_> {
    /// Adds the frames of a segment up to `until`, until there are `bytes` of items; returns the
    /// end.
    ///
    /// # Errors
    /// [`LedgerError::Corrupt`] if the segment is not intact up to `until`: a partial export would
    /// pass for a complete one.
    fn walk(
        &mut self,
        segment: &Segment,
        start: Scan,
        until: u32,
        bytes: usize,
    ) -> Result<Scan, LedgerError> {
        let mut frames = segment.frames(start);
        while frames.scan().end != until && self.size < bytes {
            let whole = frames.next(&mut |offset, payload| {
                let record = Record::read(payload)
                    .map_err(|_| segment.damaged(offset, "the record is of no known form"))?;
                self.add(&record)
            })?;
            if !whole {
                return Err(segment.damaged(frames.scan().end, "a frame is broken"));
            }
        }
        Ok(frames.scan())
    }

    pub(super) fn add(&mut self, record: &Record<'_>) -> Result<(), LedgerError> {
        let item = match record {
            Record::Event(event) => {
                let deliveries = self.deliveries(event)?;
                Item::Event { event: new_event(event), deliveries }
            }
            Record::Keys(keys) => Item::Past(past(keys)),
            Record::Nonce(nonce) if nonce.expires_ms > self.core.nonces_now() => {
                Item::Nonce(nonce.clone())
            }
            Record::Held(held) if self.core.held().is_waiting(held.id) => {
                let reason = self.core.held().reason(held.id);
                Item::Held(Box::new(NewHeld { reason, ..(**held).clone() }))
            }
            Record::Mark(mark) if self.core.held().mark(mark.id).is_some() => {
                Item::Mark(mark.clone())
            }
            // Documents come first; deliveries come with their events.
            _ => return Ok(()),
        };
        self.size += item.size();
        self.items.push(item);
        Ok(())
    }

    /// The deliveries of an event; attempts only of unfinished ones.
    fn deliveries(&self, event: &EventRecord<'_>) -> Result<Vec<Delivery>, LedgerError> {
        let id = event.head.id;
        if self.core.deliveries().is_live(id)
            && let Some(detail) = self.core.detail(id)?
        {
            return Ok(detail.deliveries);
        }
        Ok(event.targets.iter().map(|target| done(id, target)).collect())
    }
}

/// A finished delivery.
pub(super) fn done(event: EventId, target: &str) -> Delivery {
    let (target, state) = (TargetId::from(target), DeliveryState::Done);
    Delivery { event, target, state, attempt: 0, due_ms: None, attempts: Vec::new() }
}

/// An event as it was when it was new.
pub(super) fn new_event(event: &EventRecord<'_>) -> NewEvent {
    NewEvent {
        id: event.head.id,
        source: SourceId::from(event.head.source),
        keys: EventKeys::from_iter(event.head.keys()),
        fingerprint: event.head.fingerprint,
        transaction: event.transaction.to_owned(),
        user: event.user.map(str::to_owned),
        received_ms: event.head.received_ms,
        test: event.test,
        body: bytes::Bytes::copy_from_slice(event.body),
        targets: event.targets.iter().map(|target| TargetId::from(*target)).collect(),
        seal: Default::default(),
    }
}

/// The remaining keys of an expired event.
pub(super) fn past(keys: &KeysRecord<'_>) -> PastEvent {
    PastEvent {
        id: keys.id,
        source: SourceId::from(keys.source),
        keys: keys.keys().collect(),
        fingerprint: keys.fingerprint,
        received_ms: keys.received_ms,
    }
}
