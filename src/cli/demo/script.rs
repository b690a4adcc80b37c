//! The demo's callbacks: read from a file, signed afresh, sent over HTTP, and told apart by what
//! the gateway's own metrics say of each.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::cli::client::{AdminResponse, Client};
use crate::clock;
use crate::config::Config;
use crate::sender::{Composing, OwnedRequest, Signing};
use crate::server::Addresses;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    callback: Vec<Step>,
}

/// One callback of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    source: String,
    about: String,
    #[serde(default)]
    send: BTreeMap<String, String>,
    target: Option<String>,
    #[serde(default)]
    body: String,
    change: Option<Change>,
    age: Option<String>,
    #[serde(default)]
    again: bool,
    expect: String,
}

#[derive(Debug, Deserialize)]
struct Change {
    from: String,
    to: String,
}

/// The result of one callback.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) source: String,
    pub(super) about: String,
    pub(super) status: String,
    pub(super) answer: String,
    pub(super) came: String,
    pub(super) reason: String,
    pub(super) expected: String,
    pub(super) took: Duration,
}

impl Row {
    /// Whether the outcome, or the reason of a refusal, is the one in the file.
    pub(super) fn is_as_expected(&self) -> bool {
        self.came == self.expected || self.reason == self.expected
    }
}

impl Script {
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Sends every callback to the gateway, one after the other.
    pub(super) async fn play(&self, config: &Config, at: Addresses) -> io::Result<Vec<Row>> {
        let client = Client::new();
        let mut rows = Vec::new();
        let mut before = counts(&client, at).await?;
        let mut last = None;
        for step in &self.callback {
            let request = step.request(config, last.as_ref())?;
            let began = clock::instant();
            let url =
                format!("http://{}{}", at.callbacks, String::from_utf8_lossy(&request.target));
            let body = Bytes::from(request.body.clone());
            let came = client.send(&request.method, &url, &request.headers, body).await?;
            let took = began.elapsed();
            let after = counts(&client, at).await?;
            rows.push(step.row(&came, took, &grown(&before, &after)));
            (before, last) = (after, Some(request));
        }
        Ok(rows)
    }
}

impl Step {
    fn request(&self, config: &Config, last: Option<&OwnedRequest>) -> io::Result<OwnedRequest> {
        let source = config.sources.get(&self.source);
        let source =
            source.ok_or_else(|| io::Error::other(format!("no source {}", self.source)))?;
        let path = source.path();
        let now_ms = clock::now_ms();
        let mut request = match (&self.target, last) {
            (_, Some(last)) if self.again => last.clone(),
            (Some(target), _) => {
                let method = if self.body.is_empty() { "GET" } else { "POST" };
                let target = target.replace("{now}", &(now_ms / 1000).to_string());
                OwnedRequest::parse(&format!("{method} {path}{target}\n\n{}", self.body))
                    .map_err(|fault| io::Error::other(fault.to_string()))?
            }
            (None, _) => {
                let signing = Signing::at(now_ms - self.age_ms()?);
                let pairs: Vec<_> = self.send.clone().into_iter().collect();
                source
                    .recipe
                    .compose(&pairs, &Composing::to(&path))
                    .and_then(|request| source.recipe.sign(&request, &signing))
                    .map_err(|fault| io::Error::other(format!("{}: {fault}", self.about)))?
            }
        };
        if let Some(Change { from, to }) = &self.change {
            let target = String::from_utf8_lossy(&request.target).replacen(from, to, 1);
            request.target = target.into_bytes();
        }
        Ok(request)
    }

    /// How long ago it was signed, in milliseconds.
    fn age_ms(&self) -> io::Result<i64> {
        let Some(age) = &self.age else { return Ok(0) };
        let (sign, length) = match age.strip_prefix('-') {
            Some(length) => (-1, length),
            None => (1, age.as_str()),
        };
        let length = crate::config::parse_duration(length)
            .ok_or_else(|| io::Error::other(format!("{age} is not a duration")))?;
        Ok(sign * i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
    }

    fn row(&self, came: &AdminResponse, took: Duration, grown: &[String]) -> Row {
        let one = |family: &str| {
            let mut of = grown.iter().filter_map(|series| series.strip_prefix(family));
            of.next().unwrap_or("-").to_owned()
        };
        let text = String::from_utf8_lossy(&came.body).into_owned();
        let mut answer: String = text.chars().take(48).collect();
        if answer.len() < text.len() {
            answer.push('…');
        }
        Row {
            source: self.source.clone(),
            about: self.about.clone(),
            status: came.status.as_u16().to_string(),
            answer,
            came: one("outcome "),
            reason: one("reason "),
            expected: self.expect.clone(),
            took,
        }
    }
}

/// The counters of outcomes and reasons, as the gateway's metrics show them.
async fn counts(client: &Client, at: Addresses) -> io::Result<BTreeMap<String, u64>> {
    let url = format!("http://{}/metrics", at.admin);
    let came = client.send(&http::Method::GET, &url, &http::HeaderMap::new(), Bytes::new()).await?;
    let text = String::from_utf8_lossy(&came.body).into_owned();
    let lines = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    });
    Ok(lines.filter(|(series, _)| is_counted(series)).collect())
}

fn is_counted(series: &str) -> bool {
    series.starts_with("postern_callbacks_total{")
        || series.starts_with("postern_rejections_total{")
}

/// The outcomes and reasons whose counters grew: `outcome accepted`, `reason stale`.
fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<String> {
    let more = after.iter().filter(|(series, value)| before.get(*series) != Some(value));
    more.filter_map(|(series, _)| label(series)).collect()
}

fn label(series: &str) -> Option<String> {
    ["outcome", "reason"].into_iter().find_map(|name| {
        let rest = series.split_once(&format!("{name}=\""))?.1;
        Some(format!("{name} {}", rest.split_once('"')?.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_from_a_series() {
        let series = "postern_callbacks_total{outcome=\"accepted\",source=\"a\"}";
        assert_eq!(label(series).as_deref(), Some("outcome accepted"));
    }
}
