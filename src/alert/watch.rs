//! The task that looks for problems and notifies operators.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::board::{Board, Notice, Sent};
use super::channel::{SendError, at_once, send};
use super::survey::{self, Survey};
use crate::clock::{Occasional, UnixMillis, now_ms};
use crate::config::{Alert, AlertCondition, Config};
use crate::keys::Keys;
use crate::ledger::{DocumentChange, Expect, Kind, LedgerError, Revision};
use crate::lifecycle::Lifecycle;
use crate::registry::Registry;
use crate::telemetry::{Metrics, Peers};

/// The interval of rounds: operators are notified within seconds, and a round asks the store once.
const EVERY: Duration = Duration::from_secs(5);

/// The interval without any `[[alert]]`, for the metric alone.
const EVERY_ALONE: Duration = Duration::from_secs(30);

/// Messages to one channel in a round; the others follow in the next.
const MESSAGES_MAX: usize = 20;

/// The interval of log lines about a channel or a ledger that does not work.
const FAILURES_EVERY: Duration = Duration::from_secs(60);

/// The kind of the document with the open alerts, and the channels that know of them.
const BOARD: Kind = Kind::new("alerts");
const BOARD_ID: &str = "board";

/// Dependencies of the alerts.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The running configuration and the ledger.
    pub registry: Registry,
    /// Counts, and the health of destinations.
    pub metrics: Arc<Metrics>,
    /// Key sets.
    pub keys: Keys,
    /// The life cycle of the process.
    pub life: Arc<Lifecycle>,
    /// Where the console is, for links.
    pub console: String,
}

/// The handle of the alerts.
#[derive(Debug)]
pub struct Alerts {
    task: JoinHandle<()>,
}

impl Alerts {
    /// The problems that only this gateway sees, for its record in the ledger.
    pub fn own_problems(
        tools: &Tools,
        peers: watch::Receiver<Peers>,
    ) -> impl Fn() -> Bytes + Send + Sync + use<> {
        let survey = tools.survey();
        move || survey::written(&survey.own(&peers.borrow()))
    }

    /// Starts the task, which runs until the drain.
    #[must_use]
    pub fn start(tools: Tools, peers: watch::Receiver<Peers>) -> Self {
        let round = Round {
            survey: tools.survey(),
            peers,
            board: None,
            away_ms: None,
            failures: Occasional::new(FAILURES_EVERY),
            tools,
        };
        Self { task: tokio::spawn(round.run()) }
    }

    /// Waits until the task has ended. A message that is being sent is not awaited.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "alerts stopped unexpectedly");
        }
    }
}

impl Tools {
    fn survey(&self) -> Survey {
        Survey {
            metrics: Arc::clone(&self.metrics),
            keys: self.keys.clone(),
            ledger: self.registry.ledger().clone(),
        }
    }
}

/// The state of the task.
struct Round {
    tools: Tools,
    survey: Survey,
    peers: watch::Receiver<Peers>,
    /// The board, and its version in the ledger; `None`: to be read.
    board: Option<(Board, Option<Revision>)>,
    /// Since when the store has been away.
    away_ms: Option<UnixMillis>,
    failures: Occasional,
}

impl Round {
    async fn run(mut self) {
        AlertCondition::all().for_each(|condition| self.show(condition, 0));
        let life = Arc::clone(&self.tools.life);
        let work = async {
            loop {
                let config = self.tools.registry.config();
                let every = if config.alerts.is_empty() { EVERY_ALONE } else { EVERY };
                tokio::time::sleep(every).await;
                let peers = self.peers.borrow().clone();
                if peers.leads {
                    self.round(&config, &peers).await;
                } else {
                    self.follow();
                }
            }
        };
        tokio::select! {
            () = life.draining() => {}
            () = work => {}
        }
    }

    /// Another gateway sends. Its board is read again when this one leads.
    fn follow(&mut self) {
        if self.board.take().is_some() {
            AlertCondition::all().for_each(|condition| self.show(condition, 0));
        }
    }

    fn show(&self, condition: AlertCondition, count: usize) {
        self.tools.metrics.set_alerts_open(condition.as_str(), count);
    }

    async fn round(&mut self, config: &Arc<Config>, peers: &Peers) {
        let store = self.survey.ask().await;
        let is_away = store.health.as_ref().is_none_or(|health| !health.is_writable());
        self.away_ms = is_away.then(|| self.away_ms.unwrap_or_else(now_ms));
        let Some((mut board, version)) = self.load().await else { return };
        let before = board.clone();
        let mut problems = self.survey.own(peers);
        problems.extend(survey::of_peers(peers));
        problems.extend(Survey::store(&store, self.away_ms));
        match &store.stats {
            Some(_) => problems.extend(self.survey.shared(config, &store, &board)),
            // What cannot be looked at stays as it is.
            None => problems.extend(board.unseen()),
        }
        let removed = survey::removed(config, &board);
        let left_out = board.update(problems, &self.survey.paused(), &removed, now_ms());
        if left_out > 0 && self.failures.admit().is_some() {
            tracing::warn!(left_out, "too many problems at once, some have no alert");
        }
        board.keep_channels(&config.alerts);
        AlertCondition::all().for_each(|condition| self.show(condition, board.count(condition)));
        let Some(version) = self.save(&before, &board, version).await else { return };
        let opened = board.clone();
        self.notify(config, &mut board).await;
        if let Some(version) = self.save(&opened, &board, version).await {
            self.board = Some((board, version));
        }
    }

    /// Sends what is due, to all channels at the same time.
    async fn notify(&self, config: &Arc<Config>, board: &mut Board) {
        let mut sending = JoinSet::new();
        for alert in &config.alerts {
            let notices = board.notices(alert, now_ms());
            if !notices.is_empty() {
                let (alert, console) = (Arc::clone(alert), self.tools.console.clone());
                let console = config.admin.public_url.clone().unwrap_or(console);
                sending.spawn(async move {
                    let results = send_all(&alert, notices, &console).await;
                    (alert, results)
                });
            }
        }
        while let Some(ended) = sending.join_next().await {
            let Ok((alert, results)) = ended else { continue };
            for (notice, result) in results {
                let sent = match &result {
                    Ok(()) => Sent::Yes,
                    Err(_) => Sent::No,
                };
                self.log(&alert, &notice, result);
                board.note(&alert, &notice, sent, now_ms());
            }
        }
    }

    fn log(&self, alert: &Alert, notice: &Notice, result: Result<(), SendError>) {
        let (channel, condition) = (alert.name.as_str(), notice.key.condition.as_str());
        let (source, destination) = (notice.key.source(), notice.key.destination());
        match result {
            Ok(()) => {
                let state = notice.state();
                tracing::info!(channel, condition, source, destination, state, "alert sent");
            }
            Err(error) => {
                if let Some(others) = self.failures.admit() {
                    tracing::warn!(channel, condition, %error, others, "could not send alert");
                }
            }
        }
    }

    /// The board. Without the ledger the last one is used, or an empty one that is written later.
    async fn load(&mut self) -> Option<(Board, Option<Revision>)> {
        if let Some(known) = self.board.take() {
            return Some(known);
        }
        match self.survey.ledger.document(BOARD, BOARD_ID).await {
            Ok(Some(document)) => {
                let board = Board::read(&document.body).unwrap_or_default();
                Some((board, Some(document.version)))
            }
            Ok(None) => Some((Board::default(), None)),
            Err(error) => {
                self.note_failure(&error);
                None
            }
        }
    }

    /// Writes the board if it changed. `None`: another gateway wrote it, and it is read again.
    async fn save(
        &self,
        before: &Board,
        board: &Board,
        version: Option<Revision>,
    ) -> Option<Option<Revision>> {
        if board.is_same_state(before) {
            return Some(version);
        }
        let change = DocumentChange {
            kind: BOARD,
            id: BOARD_ID.to_owned(),
            expect: version.map_or(Expect::Absent, Expect::Version),
            body: Some(board.write().into()),
            who: String::from("postern"),
            at_ms: now_ms(),
        };
        match self.survey.ledger.change(&change).await {
            Ok(version) => Some(Some(version)),
            Err(LedgerError::Conflict { .. }) => None,
            Err(error) => {
                self.note_failure(&error);
                // Operators are notified all the same. It is written with the next change.
                Some(version)
            }
        }
    }

    fn note_failure(&self, error: &LedgerError) {
        if let Some(others) = self.failures.admit() {
            tracing::warn!(%error, others, "could not keep the state of alerts");
        }
    }
}

/// Sends notices to one channel until one fails: the others would fail as well.
async fn send_all(
    alert: &Alert,
    notices: Vec<Notice>,
    console: &str,
) -> Vec<(Notice, Result<(), SendError>)> {
    let mut results = Vec::new();
    let size = at_once(alert).min(notices.len()).max(1);
    for some in notices.chunks(size).take(MESSAGES_MAX) {
        let result = send(alert, some, console).await;
        let failed = result.is_err();
        results.extend(some.iter().map(|notice| (notice.clone(), result.clone())));
        if failed {
            break;
        }
    }
    results
}
