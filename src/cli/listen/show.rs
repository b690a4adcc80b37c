//! Which events are shown, how, and where they are forwarded to.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::Listen;
use crate::cli::client::Client;
use crate::cli::rows::{printable, printable_json};
use crate::cli::{Exit, Screen};
use crate::clock::instant;

/// Events by what they say; all of it has to fit.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only events of this source
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Only events for this user
    #[arg(long, value_name = "ID")]
    pub(super) user: Option<String>,
    /// Only events of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only events with this effect
    #[arg(long, value_name = "EFFECT", value_parser = ["grant", "revoke", "none"])]
    effect: Option<String>,
}

impl Filter {
    /// Whether `event` fits.
    pub(super) fn fits(&self, event: &Value) -> bool {
        let all = [
            ("source", &self.source),
            ("user", &self.user),
            ("kind", &self.kind),
            ("effect", &self.effect),
        ];
        all.into_iter()
            .all(|(name, wanted)| wanted.as_deref().is_none_or(|wanted| event[name] == wanted))
    }
}

/// A received event, and where it was forwarded.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) event: Value,
    /// Whether it is verified.
    pub(super) proof: String,
    pub(super) forwarded: Option<Forwarded>,
}

/// The result of forwarding an event.
#[derive(Debug)]
pub(super) enum Forwarded {
    /// The local backend responded.
    Response { status: StatusCode, took: Duration },
    /// The local backend did not.
    Failed(String),
}

impl Forwarded {
    fn text(&self) -> String {
        match self {
            Self::Response { status, took } => {
                format!("-> {} in {} ms", status.as_u16(), took.as_millis())
            }
            Self::Failed(error) => format!("-> {error}"),
        }
    }
}

impl Received {
    /// Prints the event: one line for people, or itself as JSON.
    pub(super) fn print(&self, asked: &Listen, screen: &mut Screen<'_>) -> io::Result<()> {
        if asked.config.json {
            writeln!(screen.out, "{}", printable_json(&self.event.to_string()))?;
            if let Some(forwarded) = &self.forwarded {
                writeln!(screen.err, "{} {}", text(&self.event, "id"), forwarded.text())?;
            }
            return screen.out.flush();
        }
        let test = if self.event["test"] == true { "test " } else { "" };
        let names =
            ["received_at", "id", "source", "effect", "transaction", "user", "item", "amount"];
        let [at, id, source, effect, transaction, user, item, amount] =
            names.map(|name| text(&self.event, name));
        let id = screen.out_paint.bold(&id);
        write!(
            screen.out,
            "{at}  {id}  {source}  {test}{effect}  {transaction}  user {user}  {amount} {item}  {}",
            self.proof
        )?;
        if let Some(forwarded) = &self.forwarded {
            write!(screen.out, "  {}", forwarded.text())?;
        }
        writeln!(screen.out)?;
        screen.out.flush()
    }
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().map_or_else(|| String::from("-"), printable)
}

/// A local URL that events are sent on to.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    client: Client,
    url: String,
}

impl Forward {
    /// Forwards to `url`.
    ///
    /// # Errors
    /// A sentence: it is not a URL.
    pub(super) fn to(url: &str) -> Result<Self, String> {
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        match url.parse::<http::Uri>() {
            Ok(uri) if is_http && uri.host().is_some() => {
                Ok(Self { client: Client::secure(None)?, url: url.to_owned() })
            }
            _ => Err(format!("--forward-to {url}: is not an http(s) URL")),
        }
    }

    /// Sends `body` on with `headers`.
    pub(super) async fn send(&self, mut headers: HeaderMap, body: Bytes) -> Forwarded {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        let began = instant();
        match self.client.send(&Method::POST, &self.url, &headers, body).await {
            Ok(came) => {
                let took = instant().saturating_duration_since(began);
                Forwarded::Response { status: came.status, took }
            }
            Err(error) => Forwarded::Failed(error.to_string()),
        }
    }
}

/// The end of the command after `seen` events.
pub(super) fn ended(seen: u64, screen: &mut Screen<'_>) -> io::Result<Exit> {
    let word = if seen == 1 { "event" } else { "events" };
    writeln!(screen.err, "{seen} {word}")?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        listen: Listen,
    }

    #[test]
    fn every_filter_has_to_fit() {
        let event = json!({ "source": "s", "user": "u", "kind": "event", "effect": "grant" });
        let of = |source: &str, effect: Option<&str>| Filter {
            source: Some(source.to_owned()),
            effect: effect.map(str::to_owned),
            ..Filter::default()
        };
        assert!(Filter::default().fits(&event));
        assert!(of("s", None).fits(&event) && of("s", Some("grant")).fits(&event));
        assert!(!of("t", None).fits(&event) && !of("s", Some("revoke")).fits(&event));
    }

    #[test]
    fn an_event_is_one_line() {
        let event = json!({
            "id": "evt_1", "source": "s", "effect": "grant", "transaction": "t\n1", "user": null,
            "item": "coin", "amount": "10", "test": true, "received_at": "2026-11-29T12:00:00.000Z",
        });
        let forwarded = Forwarded::Failed(String::from("connection refused"));
        let received =
            Received { event, proof: String::from("verified"), forwarded: Some(forwarded) };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let line = Line::try_parse_from(["postern"]).unwrap();
        received.print(&line.listen, &mut Screen::plain(&mut out, &mut err)).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2026-11-29T12:00:00.000Z  evt_1  s  test grant  t\u{fffd}1  user -  10 coin  verified  \
             -> connection refused\n"
        );
    }
}
