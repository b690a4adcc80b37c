//! Events of a gateway that cannot reach this machine: it is asked over its admin listener, on one
//! connection, and its deliveries stay as they are.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::Listen;
use super::show::{Forward, Received, ended};
use crate::cli::client::{AdminApi, CallError};
use crate::cli::webhook::WebhookKey;
use crate::cli::{Exit, Screen};
use crate::clock::{now_ms, rfc3339};

/// How often the gateway is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How far back each question reaches behind the newest known event: an event is listed when it is
/// committed, which may be later than others that were received after it.
const OVERLAP_MS: i64 = 30_000;

/// Known events: many more than a gateway records within the overlap and one page.
const KNOWN_MAX: usize = 100_000;

/// Events of one page.
const PAGE: &str = "200";

/// A remote gateway.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) api: AdminApi,
    pub(super) forward: Option<Forward>,
    /// The key that signs forwarded events.
    pub(super) key: Option<WebhookKey>,
}

impl Remote {
    /// Shows events until Ctrl-C, or until enough came. A gateway that does not answer for a while
    /// is asked again; one that does not accept the token is not.
    pub(super) async fn follow(self, asked: &Listen, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let began_ms = now_ms();
        let mut position = Position::new(asked.since.clone(), began_ms);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (mut seen, mut is_down) = (0, false);
        loop {
            let answered = tokio::select! {
                answered = self.fresh(asked, &mut position) => answered,
                _ = interrupt.recv() => return ended(seen, screen),
            };
            match answered {
                Ok(events) => {
                    if position.is_first() {
                        writeln!(screen.err, "following {}", self.api.base())?;
                    } else if is_down {
                        writeln!(screen.err, "{} answers again", self.api.base())?;
                    }
                    is_down = false;
                    for event in events.into_iter().filter(|event| asked.filter.fits(event)) {
                        seen += 1;
                        self.show(event, asked, screen).await?;
                        if asked.count.is_some_and(|count| seen >= count) {
                            return ended(seen, screen);
                        }
                    }
                }
                // A wrong token does not mend itself, nor does a wrong URL.
                Err(CallError::Token(sentence)) => return screen.fail(&sentence),
                Err(CallError::Other(sentence)) if position.is_first() => {
                    return screen.fail(&sentence);
                }
                Err(CallError::Other(sentence)) if !is_down => {
                    is_down = true;
                    writeln!(screen.err, "{sentence}; asking again")?;
                }
                Err(CallError::Other(_)) => {}
            }
            position.was_asked();
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                _ = interrupt.recv() => return ended(seen, screen),
            }
        }
    }

    async fn show(&self, event: Value, asked: &Listen, screen: &mut Screen<'_>) -> io::Result<()> {
        let forwarded = match &self.forward {
            Some(forward) => {
                let (body, id) = (event.to_string(), event["id"].as_str().unwrap_or_default());
                let seconds = now_ms().div_euclid(1000);
                let key = self.key.as_ref();
                let headers = key.and_then(|key| key.sign(id, seconds, body.as_bytes()));
                Some(forward.send(headers.unwrap_or_default(), body.into()).await)
            }
            None => None,
        };
        let received = Received { event, proof: String::from("recorded"), forwarded };
        received.print(asked, screen)
    }

    /// Events that are not known yet, oldest first.
    async fn fresh(
        &self,
        asked: &Listen,
        position: &mut Position,
    ) -> Result<Vec<Value>, CallError> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut pairs = vec![("limit", PAGE), ("since", position.since.as_str())];
            let filter = [("source", &asked.filter.source), ("user", &asked.filter.user)];
            pairs.extend(filter.iter().filter_map(|(name, one)| Some((*name, one.as_deref()?))));
            pairs.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
            let mut page = self.api.ask(&format!("/admin/v1/events?{query}")).await?;
            let Value::Array(events) = page["events"].take() else {
                let sentence = "the gateway returned a list that cannot be read";
                return Err(CallError::Other(sentence.to_owned()));
            };
            found.extend(events.into_iter().filter(|event| position.is_new(event)));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        // Known only now: an interrupted question is asked again whole.
        found.iter().for_each(|event| position.note(event));
        found.reverse();
        Ok(found)
    }
}

/// How far the gateway was read.
#[derive(Debug)]
struct Position {
    /// The earliest time of receipt that is asked for, RFC 3339.
    since: String,
    newest_ms: i64,
    /// Whether the gateway answered before.
    is_asked: bool,
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Position {
    fn new(since: Option<String>, now_ms: i64) -> Self {
        let since = since.unwrap_or_else(|| rfc3339(now_ms));
        let (known, order) = (HashSet::new(), VecDeque::new());
        Self { since, newest_ms: 0, is_asked: false, known, order }
    }

    fn is_first(&self) -> bool {
        !self.is_asked
    }

    fn was_asked(&mut self) {
        self.is_asked = true;
    }

    fn is_new(&self, event: &Value) -> bool {
        event["id"].as_str().is_some_and(|id| !self.known.contains(id))
    }

    fn note(&mut self, event: &Value) {
        let Some(id) = event["id"].as_str() else { return };
        if self.known.insert(id.to_owned()) {
            self.order.push_back(id.to_owned());
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let at = event["received_at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let at_ms = at.map_or(0, jiff::Timestamp::as_millisecond);
        if at_ms > self.newest_ms {
            self.newest_ms = at_ms;
            let from = rfc3339(at_ms - OVERLAP_MS);
            // Never behind what was asked for: both are UTC to the millisecond, or the user's text.
            if self
                .since
                .parse::<jiff::Timestamp>()
                .is_ok_and(|since| since.as_millisecond() < at_ms - OVERLAP_MS)
            {
                self.since = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_new_once_and_the_question_moves_on() {
        let mut position = Position::new(None, 1_000_000);
        let first = position.since.clone();
        let event = |id: &str, ms: i64| json!({ "id": id, "received_at": rfc3339(ms) });
        let (one, two) = (event("evt_1", 1_010_000), event("evt_2", 1_100_000));
        assert!(position.is_new(&one));
        position.note(&one);
        assert!(!position.is_new(&one) && position.is_new(&two));
        assert_eq!(position.since, first, "within the overlap");
        position.note(&two);
        assert_eq!(position.since, rfc3339(1_070_000));
    }
}
