//! Open alerts, and which channel was notified of what. A value that is written to the ledger: it
//! outlives the gateway, and the next one that leads goes on with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::incident::{Detail, Incident, Key, Paused};
use crate::clock::{UnixMillis, millis};
use crate::config::{Alert, AlertCondition};

/// Problems that are tracked: more at once have one cause. 1,000 take about 300 kB.
const ENTRIES_MAX: usize = 1_000;

/// How long a problem must be absent before its alert closes. Doubles each time it comes back.
const CLOSE_AFTER: Duration = Duration::from_secs(10);
/// The number of doublings: about an hour.
const DOUBLINGS_MAX: u32 = 8;
/// How long a closed alert is remembered, so that one that comes back closes later.
const REMEMBER: Duration = Duration::from_secs(3600);

/// The first pause after a notice could not be sent. It doubles up to the last.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
const AGAIN_DOUBLINGS: u32 = 6;

/// All alerts that are open or closed lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Board {
    entries: BTreeMap<Key, Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    problem: Incident,
    /// Since when the problem is absent, while the alert is open.
    #[serde(default)]
    absent_ms: Option<UnixMillis>,
    #[serde(default)]
    closed_ms: Option<UnixMillis>,
    /// Why it closed.
    #[serde(default)]
    end: End,
    /// The subject is not configured any more, so nothing is known of it. Beside `end`, of which an
    /// older gateway knows no third value: it would lose the whole board, and send all open alerts
    /// again.
    #[serde(default)]
    removed: bool,
    /// How often it came back within the time that a closed alert is remembered.
    #[serde(default)]
    returns: u32,
    /// By the name of the channel.
    #[serde(default)]
    told: BTreeMap<String, ChannelState>,
}

/// Why an alert closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    /// The problem is over.
    #[default]
    Over,
    /// An operator paused the destination.
    Paused,
}

/// The state of one channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct ChannelState {
    /// When it was last notified that the problem is open; `None`: it knows of no problem.
    open_ms: Option<UnixMillis>,
    /// Notices that failed in a row.
    #[serde(default)]
    failures: u32,
    /// When a failed notice is sent again.
    #[serde(default)]
    again_ms: UnixMillis,
}

/// A notice to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Notice {
    pub(super) key: Key,
    pub(super) kind: NoticeKind,
    pub(super) since_ms: UnixMillis,
    pub(super) detail: Detail,
    /// The same for each try, another for each notice.
    pub(super) id: String,
}

/// The content of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoticeKind {
    Opened,
    /// Still open.
    Reminder,
    Closed,
    /// Closed, because an operator paused the destination.
    Paused,
    /// Closed, because the subject is not configured any more.
    Removed,
}

/// Whether a notice was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    No,
}

impl Board {
    /// The board as it was written; `None`: it cannot be read.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let entries: Vec<Entry> = serde_json::from_slice(bytes).ok()?;
        let keyed = entries.into_iter().map(|entry| (entry.problem.key.clone(), entry));
        Some(Self { entries: keyed.collect() })
    }

    /// The form that is written.
    pub(super) fn write(&self) -> Vec<u8> {
        let entries: Vec<&Entry> = self.entries.values().collect();
        // Texts and numbers are always JSON.
        serde_json::to_vec(&entries).unwrap_or_default()
    }

    /// Whether the same alerts are open, and the same channels were notified. Numbers that change
    /// all the time are not worth a write.
    pub(super) fn is_same_state(&self, other: &Self) -> bool {
        let state = |entry: &Entry| (entry.closed_ms, entry.returns, entry.told.clone());
        let states = |board: &Self| -> Vec<_> {
            board.entries.iter().map(|(key, entry)| (key.clone(), state(entry))).collect()
        };
        states(self) == states(other)
    }

    /// Since when an alert is open; `None`: it is not.
    pub(super) fn open_since(&self, key: &Key) -> Option<UnixMillis> {
        let entry = self.entries.get(key).filter(|entry| entry.closed_ms.is_none())?;
        Some(entry.problem.since_ms)
    }

    /// The open alerts that only the store could tell about.
    pub(super) fn unseen(&self) -> Vec<Incident> {
        let open = self.entries.values().filter(|entry| entry.closed_ms.is_none());
        let of_store = |key: &Key| {
            use AlertCondition::{Dead, Overdue, Quarantine, Refusals, Silent};
            matches!(key.condition, Dead | Overdue | Quarantine | Refusals | Silent)
        };
        let open = open.filter(|entry| of_store(&entry.problem.key));
        open.map(|entry| entry.problem.clone()).collect()
    }

    /// The number of open alerts of a condition.
    pub(super) fn count(&self, condition: AlertCondition) -> usize {
        let open = self.entries.values().filter(|entry| entry.closed_ms.is_none());
        open.filter(|entry| entry.problem.key.condition == condition).count()
    }

    /// The subjects and conditions of the open alerts.
    pub(super) fn open(&self) -> impl Iterator<Item = &Key> {
        let open = self.entries.iter().filter(|(_, entry)| entry.closed_ms.is_none());
        open.map(|(key, _)| key)
    }

    /// Opens, updates and closes alerts; those of `removed` are about what is not configured any
    /// more. Returns the number of problems that have no place.
    pub(super) fn update(
        &mut self,
        problems: Vec<Incident>,
        paused: &Paused,
        removed: &BTreeSet<Key>,
        now_ms: UnixMillis,
    ) -> usize {
        self.entries.values_mut().for_each(|entry| entry.set_back(now_ms));
        let (mut left_out, mut present) = (0, BTreeMap::new());
        for problem in problems.into_iter().filter(|problem| !paused.silences(&problem.key)) {
            // Of two gateways with the same problem the first one counts.
            present.entry(problem.key.clone()).or_insert(problem);
        }
        for (key, entry) in &mut self.entries {
            match present.remove(key) {
                Some(problem) => entry.seen(problem),
                None if removed.contains(key) => entry.gone(now_ms),
                None if paused.silences(key) => entry.absent(End::Paused, now_ms),
                None => entry.absent(End::Over, now_ms),
            }
        }
        self.entries.retain(|_, entry| !entry.is_over(now_ms));
        for (key, problem) in present {
            if self.entries.len() >= ENTRIES_MAX {
                left_out += 1;
                continue;
            }
            let entry = Entry {
                problem,
                absent_ms: None,
                closed_ms: None,
                end: End::Over,
                removed: false,
                returns: 0,
                told: BTreeMap::new(),
            };
            self.entries.insert(key, entry);
        }
        left_out
    }

    /// The notices that `alert` is due.
    pub(super) fn notices(&self, alert: &Alert, now_ms: UnixMillis) -> Vec<Notice> {
        let wanted = self.entries.iter().filter(|(key, _)| alert.on.contains(&key.condition));
        wanted.filter_map(|(key, entry)| entry.notice(key, alert, now_ms)).collect()
    }

    /// Notes whether a notice was sent.
    pub(super) fn note(&mut self, alert: &Alert, notice: &Notice, sent: Sent, now_ms: UnixMillis) {
        let Some(entry) = self.entries.get_mut(&notice.key) else { return };
        let told = entry.told.entry(alert.name.clone()).or_default();
        match (sent, notice.kind) {
            (Sent::Yes, NoticeKind::Opened | NoticeKind::Reminder) => {
                *told = ChannelState { open_ms: Some(now_ms), ..ChannelState::default() };
            }
            (Sent::Yes, NoticeKind::Closed | NoticeKind::Paused | NoticeKind::Removed) => {
                *told = ChannelState::default();
            }
            (Sent::No, _) => {
                let pause = AGAIN_FIRST * 2_u32.pow(told.failures.min(AGAIN_DOUBLINGS));
                told.failures = told.failures.saturating_add(1);
                told.again_ms = now_ms.saturating_add(millis(pause));
            }
        }
    }

    /// Forgets channels that are not configured any more, or that do not report the condition any
    /// more: they get no notice of its end.
    pub(super) fn keep_channels(&mut self, alerts: &[Arc<Alert>]) {
        for (key, entry) in &mut self.entries {
            let reports = |name: &str| {
                let mut named = alerts.iter().filter(|alert| alert.name == name);
                named.any(|alert| alert.on.contains(&key.condition))
            };
            entry.told.retain(|name, _| reports(name));
        }
    }
}

impl Notice {
    /// The state that webhooks and logs show.
    pub(super) fn state(&self) -> &'static str {
        match self.kind {
            NoticeKind::Opened | NoticeKind::Reminder => "open",
            NoticeKind::Closed | NoticeKind::Paused | NoticeKind::Removed => "closed",
        }
    }
}

impl Entry {
    /// Moves times that are still to come to now: they were written by a clock that was ahead, and
    /// nothing would close or be sent before they have come.
    fn set_back(&mut self, now_ms: UnixMillis) {
        let again_max = now_ms.saturating_add(millis(AGAIN_FIRST * 2_u32.pow(AGAIN_DOUBLINGS)));
        self.absent_ms = self.absent_ms.map(|at| at.min(now_ms));
        self.closed_ms = self.closed_ms.map(|at| at.min(now_ms));
        for told in self.told.values_mut() {
            told.open_ms = told.open_ms.map(|at| at.min(now_ms));
            told.again_ms = told.again_ms.min(again_max);
        }
    }

    fn seen(&mut self, problem: Incident) {
        self.absent_ms = None;
        if self.closed_ms.take().is_some() {
            self.returns = self.returns.saturating_add(1);
            self.removed = false;
            self.problem = problem;
            return;
        }
        // The time at which it opened stays, in the notices and in their ids: a condition that is
        // worked out from an age begins a millisecond earlier or later in each round.
        self.problem.detail = problem.detail;
    }

    fn absent(&mut self, end: End, now_ms: UnixMillis) {
        if self.closed_ms.is_some() {
            return;
        }
        let since = *self.absent_ms.get_or_insert(now_ms);
        let after = CLOSE_AFTER * 2_u32.pow(self.returns.min(DOUBLINGS_MAX));
        if now_ms.saturating_sub(since) >= millis(after) {
            (self.closed_ms, self.end) = (Some(now_ms), end);
        }
    }

    /// The subject is not configured any more.
    fn gone(&mut self, now_ms: UnixMillis) {
        let was_open = self.closed_ms.is_none();
        self.absent(End::Over, now_ms);
        self.removed |= was_open && self.closed_ms.is_some();
    }

    /// Whether the entry can be forgotten.
    fn is_over(&self, now_ms: UnixMillis) -> bool {
        let is_told = self.told.values().any(|told| told.open_ms.is_some());
        self.closed_ms
            .is_some_and(|closed| !is_told && now_ms.saturating_sub(closed) >= millis(REMEMBER))
    }

    fn notice(&self, key: &Key, alert: &Alert, now_ms: UnixMillis) -> Option<Notice> {
        let nothing = ChannelState::default();
        let told = self.told.get(&alert.name).unwrap_or(&nothing);
        if told.again_ms > now_ms {
            return None;
        }
        let kind = match (self.closed_ms, told.open_ms) {
            (None, None) => NoticeKind::Opened,
            (None, Some(at)) if now_ms.saturating_sub(at) >= millis(alert.remind) => {
                NoticeKind::Reminder
            }
            (Some(_), Some(_)) => match self.end {
                End::Over if self.removed => NoticeKind::Removed,
                End::Over => NoticeKind::Closed,
                End::Paused => NoticeKind::Paused,
            },
            (None, Some(_)) | (Some(_), None) => return None,
        };
        let id = self.id_of(kind, told);
        let (since_ms, detail) = (self.problem.since_ms, self.problem.detail.clone());
        Some(Notice { key: key.clone(), kind, since_ms, detail, id })
    }

    /// A text that is the same for each try of one notice.
    fn id_of(&self, kind: NoticeKind, told: &ChannelState) -> String {
        let (since, at) = (self.problem.since_ms, told.open_ms.unwrap_or(0));
        let what = match kind {
            NoticeKind::Opened => "open",
            NoticeKind::Reminder => "remind",
            NoticeKind::Closed | NoticeKind::Paused | NoticeKind::Removed => "close",
        };
        let text = format!("{:?} {since} {} {what} {at}", self.problem.key, self.returns);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(text);
        format!("alt_{}", const_hex::encode(&digest[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::incident::Subject;
    use super::*;
    use crate::config::{AlertChannel, AlertLanguage, Hook};
    use crate::sender::Secret;

    const SECOND: i64 = 1000;

    fn alert(name: &str) -> Alert {
        let hook = Hook { url: Secret::new(*b"http://h/"), secrets: Vec::new() };
        Alert {
            name: name.to_owned(),
            channel: AlertChannel::Webhook(hook),
            on: vec![AlertCondition::Dead],
            language: AlertLanguage::English,
            remind: Duration::from_secs(3600),
        }
    }

    fn all() -> Vec<AlertCondition> {
        AlertCondition::all().collect()
    }

    fn dead(count: u64) -> Incident {
        let subject = Subject::Destination(String::from("game"));
        Incident::new(AlertCondition::Dead, subject, 0, Detail::Dead { count })
    }

    fn update(board: &mut Board, problems: Vec<Incident>, now: i64) -> usize {
        board.update(problems, &Paused::default(), &BTreeSet::new(), now)
    }

    fn kinds(board: &mut Board, alert: &Alert, now: i64) -> Vec<NoticeKind> {
        let notices = board.notices(alert, now);
        notices.iter().for_each(|notice| board.note(alert, notice, Sent::Yes, now));
        notices.iter().map(|notice| notice.kind).collect()
    }

    #[test]
    fn an_alert_opens_once_reminds_and_closes_once() {
        let (mut board, channel) = (Board::default(), alert("a"));
        let mut heard = Vec::new();
        for second in (0..=7300).step_by(5) {
            update(&mut board, vec![dead(3)], second * SECOND);
            let kinds = kinds(&mut board, &channel, second * SECOND);
            heard.extend(kinds.into_iter().map(|kind| (second, kind)));
            // It is written and read again at any time.
            board = Board::read(&board.write()).unwrap();
        }
        assert_eq!(board.count(AlertCondition::Dead), 1);
        for second in (7305..20_000).step_by(5) {
            update(&mut board, vec![], second * SECOND);
            let kinds = kinds(&mut board, &channel, second * SECOND);
            heard.extend(kinds.into_iter().map(|kind| (second, kind)));
        }
        let expected = [
            (0, NoticeKind::Opened),
            (3600, NoticeKind::Reminder),
            (7200, NoticeKind::Reminder),
            (7315, NoticeKind::Closed),
        ];
        assert_eq!(heard, expected);
        assert_eq!(board, Board::default(), "and it is forgotten");
    }

    #[test]
    fn an_open_alert_keeps_the_time_at_which_it_began() {
        let (mut board, channel) =
            (Board::default(), Alert { remind: Duration::from_secs(5), ..alert("a") });
        let mut since = Vec::new();
        for (second, jitter) in [(10, 0), (15, -1), (20, 1)] {
            update(
                &mut board,
                vec![Incident { since_ms: 4000 + jitter, ..dead(1) }],
                second * SECOND,
            );
            let notices = board.notices(&channel, second * SECOND);
            notices.iter().for_each(|one| board.note(&channel, one, Sent::Yes, second * SECOND));
            since.extend(notices.iter().map(|one| one.since_ms));
        }
        assert_eq!(since, [4000; 3]);
    }

    #[test]
    fn one_that_comes_and_goes_is_not_a_flood() {
        let (mut board, channel) = (Board::default(), alert("a"));
        let mut count = 0;
        for second in 0..86_400 {
            let flaps = second % 40 < 20;
            update(&mut board, if flaps { vec![dead(1)] } else { vec![] }, second * SECOND);
            count += kinds(&mut board, &channel, second * SECOND).len();
        }
        assert!(count < 30, "{count} notices in a day");
    }

    #[test]
    fn a_notice_that_fails_is_sent_again_and_the_others_are_not() {
        let (mut board, good, bad) = (Board::default(), alert("good"), alert("bad"));
        update(&mut board, vec![dead(1)], 0);
        assert_eq!(kinds(&mut board, &good, 0), [NoticeKind::Opened]);
        let first = board.notices(&bad, 0);
        board.note(&bad, &first[0], Sent::No, 0);
        assert_eq!((board.notices(&bad, 9999).len(), board.notices(&good, 9999).len()), (0, 0));
        assert_eq!(board.notices(&bad, 10_000), first, "under the same id");
        board.note(&bad, &first[0], Sent::No, 10_000);
        assert_eq!(board.notices(&bad, 20_000), []);
        assert_eq!(board.notices(&bad, 30_000).len(), 1);
        // One that is over before it could be told is not told.
        update(&mut board, vec![], 31_000);
        update(&mut board, vec![], 61_000);
        assert_eq!(board.notices(&bad, 100_000), []);
        assert_eq!(kinds(&mut board, &good, 100_000), [NoticeKind::Closed]);
    }

    #[test]
    fn a_pause_is_no_problem_and_closes_those_that_are_open() {
        let (mut board, channel) = (Board::default(), Alert { on: all(), ..alert("a") });
        let game = || Subject::Destination(String::from("game"));
        let breaker = || Incident::new(AlertCondition::Breaker, game(), 0, Detail::Breaker);
        let paused = Paused::from_iter([String::from("game")]);
        board.update(vec![breaker(), dead(1)], &paused, &BTreeSet::new(), 0);
        assert_eq!(kinds(&mut board, &channel, 0), [NoticeKind::Opened], "dead letters stay");
        update(&mut board, vec![breaker(), dead(1)], 1000);
        assert_eq!(kinds(&mut board, &channel, 1000), [NoticeKind::Opened], "resumed");
        for now in [2000, 12_000] {
            board.update(vec![breaker(), dead(1)], &paused, &BTreeSet::new(), now);
            board = Board::read(&board.write()).unwrap();
        }
        assert_eq!(kinds(&mut board, &channel, 12_000), [NoticeKind::Paused]);
        update(&mut board, vec![breaker(), dead(1)], 13_000);
        assert_eq!(kinds(&mut board, &channel, 13_000), [NoticeKind::Opened]);
        for now in [14_000, 34_000] {
            update(&mut board, vec![dead(1)], now);
        }
        assert_eq!(kinds(&mut board, &channel, 34_000), [NoticeKind::Closed]);
    }

    #[test]
    fn a_problem_of_what_is_removed_closes_as_that() {
        let (mut board, channel) = (Board::default(), alert("a"));
        update(&mut board, vec![dead(1)], 0);
        assert_eq!(kinds(&mut board, &channel, 0), [NoticeKind::Opened]);
        let removed: BTreeSet<Key> = board.open().cloned().collect();
        for now in [1000, 11_000] {
            board.update(vec![], &Paused::default(), &removed, now);
            board = Board::read(&board.write()).unwrap();
        }
        let written: serde_json::Value = serde_json::from_slice(&board.write()).unwrap();
        assert_eq!(written[0]["end"], "over", "an older gateway reads it");
        assert_eq!(kinds(&mut board, &channel, 11_000), [NoticeKind::Removed]);
        assert_eq!(kinds(&mut board, &channel, 12_000), []);
        update(&mut board, vec![dead(1)], 13_000);
        assert_eq!(kinds(&mut board, &channel, 13_000), [NoticeKind::Opened]);
        for now in [14_000, 34_000] {
            update(&mut board, vec![], now);
        }
        assert_eq!(kinds(&mut board, &channel, 34_000), [NoticeKind::Closed], "configured again");
    }

    #[test]
    fn a_clock_that_is_set_back_delays_nothing() {
        const YEAR: i64 = 365 * 86_400 * SECOND;
        let (mut board, channel) = (Board::default(), alert("a"));
        update(&mut board, vec![dead(1)], YEAR);
        let first = board.notices(&channel, YEAR);
        board.note(&channel, &first[0], Sent::No, YEAR);
        update(&mut board, vec![dead(1)], 0);
        assert_eq!(kinds(&mut board, &channel, 640 * SECOND), [NoticeKind::Opened]);
        update(&mut board, vec![], YEAR);
        for second in [700, 710] {
            update(&mut board, vec![], second * SECOND);
        }
        assert_eq!(kinds(&mut board, &channel, 710 * SECOND), [NoticeKind::Closed]);
    }

    #[test]
    fn a_channel_that_reports_a_condition_no_more_keeps_no_alert() {
        let (mut board, channel) = (Board::default(), alert("a"));
        update(&mut board, vec![dead(1)], 0);
        assert_eq!(kinds(&mut board, &channel, 0), [NoticeKind::Opened]);
        let other = Alert { on: vec![AlertCondition::Breaker], ..channel };
        board.keep_channels(&[Arc::new(other)]);
        for second in [1, 11, 4000] {
            update(&mut board, vec![], second * SECOND);
        }
        assert_eq!(board, Board::default());
    }

    #[test]
    fn numbers_alone_are_not_written() {
        let (mut board, channel) = (Board::default(), alert("a"));
        update(&mut board, vec![dead(1)], 0);
        let before = board.clone();
        update(&mut board, vec![dead(2)], 5000);
        assert!(board.is_same_state(&before) && board != before);
        kinds(&mut board, &channel, 5000);
        assert!(!board.is_same_state(&before));
    }

    #[test]
    fn there_is_a_bound() {
        let mut board = Board::default();
        let many = (0..ENTRIES_MAX + 7).map(|n| {
            let subject = Subject::Destination(format!("d{n}"));
            Incident::new(AlertCondition::Failing, subject, 0, Detail::Breaker)
        });
        assert_eq!(update(&mut board, many.collect(), 0), 7);
        assert!(board.write().len() < 400_000, "{}", board.write().len());
    }
}
