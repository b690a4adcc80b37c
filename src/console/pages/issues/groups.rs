//! The groups: each kind is scanned from its newest on, up to a bound.

use std::collections::BTreeMap;

use crate::clock::UnixMillis;
use crate::config::Config;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::fields::Fields;
use crate::console::page_error::PageError;
use crate::console::pages::dead_letters;
use crate::ledger::{EventId, HeldId, HeldQuery, Rejected, Rejection, SourceId};
use crate::operator::source_id;
use crate::registry::Subject;
use crate::sender::Reason;

/// Callbacks of each kind that are grouped.
pub(super) const SCANNED_MAX: usize = 500;

/// Callbacks per read.
const PAGE: usize = 250;

/// Prefix of a cause that is the status of a response.
pub(super) const STATUS: &str = "status ";

/// The cause of a dead letter without an attempt.
pub(super) const NO_ATTEMPT: &str = "no attempt";

/// Characters of an error that tell causes apart.
const CAUSE_CHARACTERS_MAX: usize = 120;

/// A kind of issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IssueKind {
    Dead,
    Held,
    Rejected,
}

impl IssueKind {
    const ALL: [Self; 3] = [Self::Dead, Self::Held, Self::Rejected];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Held => "held",
            Self::Rejected => "rejected",
        }
    }

    /// The colour of its bars.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Dead | Self::Rejected => "rejected",
            Self::Held => "conflict",
        }
    }
}

/// The common properties of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub kind: IssueKind,
    pub source: String,
    pub destination: Option<String>,
    /// The reason of a rejection, why it is held, or the error of the last attempt.
    pub cause: String,
}

impl Key {
    /// The key in a query or a form.
    pub(super) fn read(fields: &Fields) -> Option<Self> {
        let kind = fields.text("kind")?;
        Some(Self {
            kind: IssueKind::ALL.into_iter().find(|one| one.as_str() == kind)?,
            source: fields.text("source")?.to_owned(),
            destination: fields.text("destination").map(str::to_owned),
            cause: fields.verbatim("cause")?.to_owned(),
        })
    }

    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        let own = [("kind", self.kind.as_str()), ("source", &self.source), ("cause", &self.cause)];
        own.into_iter()
            .chain(self.destination.as_deref().map(|name| ("destination", name)))
            .collect()
    }
}

/// The object of a sample.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    Event(EventId),
    Held(HeldId),
    Rejection(HeldId, Subject),
}

/// One callback of a group.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub at_ms: UnixMillis,
    pub thing: Thing,
    pub transaction: Option<String>,
    pub user: Option<String>,
    pub detail: Option<Detail>,
}

/// The detail of a sample besides its cause.
#[derive(Clone, Debug)]
pub(super) enum Detail {
    /// A parameter, a name, or the beginning of a response.
    Text(String),
    /// The reason of a rejection.
    Reason(Reason),
    /// The error of an attempt.
    Error(String),
}

impl Sample {
    pub(super) fn path(&self) -> String {
        match &self.thing {
            Thing::Event(id) => format!("{}/{id}", Area::Event.path()),
            Thing::Held(id) => format!("{}/{id}", Area::Held.path()),
            Thing::Rejection(id, _) => format!("{}/{id}", Area::Rejection.path()),
        }
    }

    /// The subject of a manual resolution; a held callback is decided instead.
    pub(super) fn subject(&self) -> Option<Subject> {
        match &self.thing {
            Thing::Event(id) => Some(Subject::Event(*id)),
            Thing::Held(_) => None,
            Thing::Rejection(_, subject) => Some(subject.clone()),
        }
    }
}

/// Callbacks with one cause, newest first.
#[derive(Debug)]
pub(super) struct Group {
    pub key: Key,
    pub samples: Vec<Sample>,
}

impl Group {
    pub(super) fn first_ms(&self) -> Option<UnixMillis> {
        self.samples.iter().map(|sample| sample.at_ms).min()
    }

    pub(super) fn last_ms(&self) -> Option<UnixMillis> {
        self.samples.iter().map(|sample| sample.at_ms).max()
    }

    /// The number of each of the last `hours`, the oldest first.
    pub(super) fn hours(&self, now_ms: UnixMillis, hours: usize) -> Vec<u64> {
        let mut counts = vec![0; hours];
        for sample in &self.samples {
            let age = usize::try_from((now_ms - sample.at_ms) / 3_600_000).unwrap_or(0);
            if let Some(count) = hours.checked_sub(age + 1).and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        }
        counts
    }
}

/// All groups, the one with the newest callback first.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub all: Vec<Group>,
    /// Whether a kind has more callbacks than were grouped.
    pub is_partial: bool,
}

impl Groups {
    /// The groups of the source and the destination in `query`, if they are there.
    pub(super) async fn of(console: &Console, query: &Fields) -> Result<Self, PageError> {
        let mut found = Found::default();
        let config = console.config();
        let source = wanted_source(&config, query);
        let asked = HeldQuery { source, ..HeldQuery::default() };
        // A destination has dead letters only.
        if query.text("destination").is_none() {
            rejected(console, &asked, &mut found).await?;
            held(console, &asked, &mut found).await?;
        }
        dead(console, query, &mut found).await?;
        let mut all: Vec<Group> =
            found.groups.into_iter().map(|(key, samples)| Group { key, samples }).collect();
        all.sort_by_key(|group| std::cmp::Reverse(group.last_ms()));
        Ok(Self { all, is_partial: found.is_partial })
    }
}

/// The id of the source in `query`, under which callbacks are kept.
fn wanted_source(config: &Config, query: &Fields) -> Option<SourceId> {
    let name = query.text("source")?;
    // The source of such an issue is a path, and all paths have one id.
    if query.verbatim("cause") == Some(Rejected::UNKNOWN_PATH) {
        return Some(SourceId::from(Rejection::UNKNOWN_PATHS));
    }
    Some(source_id(config, name))
}

#[derive(Default)]
struct Found {
    groups: BTreeMap<Key, Vec<Sample>>,
    is_partial: bool,
}

impl Found {
    fn add(&mut self, key: Key, sample: Sample) {
        self.groups.entry(key).or_default().push(sample);
    }
}

async fn rejected(
    console: &Console,
    query: &HeldQuery,
    found: &mut Found,
) -> Result<(), PageError> {
    let mut cursor = None;
    for _ in 0..SCANNED_MAX / PAGE {
        let log = console.rejections();
        let (page, next) = log.list(query, cursor.as_ref(), PAGE).await?;
        for one in page {
            let subject = Subject::rejection(&one.source, &one.request);
            // One in quarantine is listed as held.
            if one.held || console.tools.registry.resolution(&subject).is_some() {
                continue;
            }
            let cause = match one.reason {
                Rejected::For(reason) => reason.as_str().to_owned(),
                Rejected::UnknownPath => one.reason.as_str().to_owned(),
            };
            let key =
                Key { kind: IssueKind::Rejected, source: one.source, destination: None, cause };
            let sample = Sample {
                at_ms: one.at_ms,
                thing: Thing::Rejection(one.id, subject),
                transaction: one.transaction,
                user: one.user,
                detail: one.parameter.or(one.nearest).map(Detail::Text),
            };
            found.add(key, sample);
        }
        cursor = next;
        if cursor.is_none() {
            return Ok(());
        }
    }
    found.is_partial = true;
    Ok(())
}

async fn held(console: &Console, query: &HeldQuery, found: &mut Found) -> Result<(), PageError> {
    let config = console.config();
    let mut cursor = None;
    for _ in 0..SCANNED_MAX / PAGE {
        let page = console.ledger().held(query, cursor.as_ref(), PAGE).await?;
        for one in page.held {
            let id = one.event.source.as_str();
            let source = config.sources.values().find(|source| source.id == id);
            let source = source.map_or_else(|| id.to_owned(), |source| source.name.clone());
            let cause = one.why.as_str().to_owned();
            let key = Key { kind: IssueKind::Held, source, destination: None, cause };
            let sample = Sample {
                at_ms: one.event.received_ms,
                thing: Thing::Held(one.id),
                transaction: Some(one.event.transaction),
                user: one.event.user,
                detail: one.reason.map(Detail::Reason),
            };
            found.add(key, sample);
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
    found.is_partial = true;
    Ok(())
}

async fn dead(console: &Console, query: &Fields, found: &mut Found) -> Result<(), PageError> {
    let (letters, more) = dead_letters::latest(console, query, SCANNED_MAX).await?;
    found.is_partial |= more;
    for letter in letters {
        let subject = Subject::Event(letter.event);
        if console.tools.registry.resolution(&subject).is_some() {
            continue;
        }
        for one in letter.deliveries {
            let last = one.last.as_ref();
            let error = last.and_then(|last| last.error.clone());
            let status =
                last.and_then(|last| last.status).map(|status| format!("{STATUS}{status}"));
            let cause = status.or(error.clone()).unwrap_or_else(|| NO_ATTEMPT.to_owned());
            let key = Key {
                kind: IssueKind::Dead,
                source: letter.source.clone(),
                destination: Some(one.target.as_str().to_owned()),
                cause: cause.trim().chars().take(CAUSE_CHARACTERS_MAX).collect(),
            };
            let head = last.map(|last| String::from_utf8_lossy(&last.head).into_owned());
            let head = head.filter(|text| !text.is_empty()).map(Detail::Text);
            let sample = Sample {
                at_ms: letter.at_ms,
                thing: Thing::Event(letter.event),
                transaction: Some(letter.transaction.clone()),
                user: letter.user.clone(),
                detail: error.map(Detail::Error).or(head),
            };
            found.add(key, sample);
        }
    }
    Ok(())
}
