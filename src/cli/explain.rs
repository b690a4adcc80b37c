//! `postern explain`: why a captured callback verifies or does not.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::names::{self, Named};
use super::url::{absent, find};
use super::{ConfigFile, Exit, Screen};
use crate::clock;
use crate::config::{Config, Loaded, Source};
use crate::keys::fetch_once;
use crate::operator::{explained, pasted};
use crate::sender::{KeyList, KeySet, OwnedRequest, Recipe};

/// Explain why a captured callback verifies or does not
#[derive(Args, Debug)]
#[command(
    long_about = "Explain why a captured callback verifies or does not.\n\n\
        Says what was read, the text that was signed with the secret masked, and the verdict; on a \
        mismatch the usual mistakes are tried, each by name. A request that needs more than a URL \
        is read from a file: request line, header fields, an empty line, body. --rejection takes \
        one that a running gateway refused (`postern events --rejected`).",
    after_help = "Examples:\n  \
        postern explain --config postern.toml level-end '/callback/level-end?trans_id=…&sign=…'\n  \
        postern explain --config postern.toml push --request captured.http\n  \
        postern explain --config postern.toml level-end --rejection ref_0190…"
)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The source.
    source: String,
    /// The captured URL, or its path and query.
    url: Option<String>,
    /// A file with the captured request; - reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    request: Option<PathBuf>,
    /// A rejected callback of the running gateway, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["url", "request"])]
    rejection: Option<String>,
    /// When it came, Unix milliseconds, in place of now.
    #[arg(long, value_name = "MS")]
    at_ms: Option<i64>,
}

impl Explain {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = &loaded.config;
        if !config.sources.contains_key(&self.source) {
            return self.ask(&loaded, screen);
        }
        let Some(source) = find(config, &self.source, screen)? else { return Ok(Exit::Usage) };
        if let Some(id) = &self.rejection {
            let api = AdminApi::of(config);
            let question = json!({ "source": self.source, "rejection": id });
            return match runtime()?.block_on(api.post("/admin/v1/explain", &question)) {
                Ok(answer) => self.show(&answer, screen),
                Err(sentence) => {
                    writeln!(screen.err, "{sentence}")?;
                    Ok(Exit::Failed)
                }
            };
        }
        let request = match self.captured() {
            Ok(request) => request,
            Err(sentence) => {
                writeln!(screen.err, "{sentence}")?;
                return Ok(Exit::Usage);
            }
        };
        let at_ms = self.at_ms.unwrap_or_else(clock::now_ms);
        let mut borrowed = request.borrow();
        if borrowed.base.is_empty() {
            borrowed.base = config.server.public_url.as_deref().unwrap_or_default();
        }
        let keys = published(config, source, screen)?;
        let own = source.recipe.key_list().map(KeyList::identity);
        let of = |recipe: &Recipe| {
            let same = recipe.key_list().map(KeyList::identity) == own;
            keys.clone().filter(|_| same)
        };
        let explanation = explained(config, source, &borrowed, at_ms, &of);
        let answer = serde_json::to_value(explanation).map_err(io::Error::other)?;
        self.show(&answer, screen)
    }

    /// Asks the running gateway, which knows the sources that were created over its APIs.
    fn ask(&self, loaded: &Loaded, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let config = &loaded.config;
        let api = AdminApi::of(config);
        let runtime = runtime()?;
        if runtime.block_on(names::check(&api, Named::Source, &self.source)).is_err() {
            let known: Vec<&str> = config.sources.keys().map(String::as_str).collect();
            return absent(loaded, &self.source, &known, screen);
        }
        let question = match (&self.rejection, self.captured()) {
            (Some(id), _) => json!({ "source": self.source, "rejection": id }),
            (None, Ok(request)) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = request.headers.iter();
                let headers =
                    headers.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
                json!({
                    "source": self.source, "method": request.method.as_str(),
                    "target": text(&request.target), "body": text(&request.body),
                    "headers": headers.collect::<std::collections::BTreeMap<_, _>>(),
                })
            }
            (None, Err(sentence)) => {
                writeln!(screen.err, "{sentence}")?;
                return Ok(Exit::Usage);
            }
        };
        match runtime.block_on(api.post("/admin/v1/explain", &question)) {
            Ok(answer) => self.show(&answer, screen),
            Err(sentence) => screen.fail(&sentence),
        }
    }

    /// The captured request.
    fn captured(&self) -> Result<OwnedRequest, String> {
        match (&self.url, &self.request) {
            (Some(url), _) => pasted(url),
            (None, Some(path)) if path.as_os_str() == "-" => {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
                pasted(&text)
            }
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                pasted(&text.map_err(|error| format!("{}: {error}", path.display()))?)
            }
            (None, None) => Err(String::from("give a URL, --request FILE or --rejection ID")),
        }
    }

    fn show(&self, answer: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let verified = answer["verdict"] == "verified";
        let exit = if verified { Exit::Done } else { Exit::Failed };
        if self.config.json {
            writeln!(screen.out, "{answer:#}")?;
            return Ok(exit);
        }
        let line = |out: &mut dyn io::Write, name: &str, value: &Value| match value.as_str() {
            Some(text) => writeln!(out, "{name:<12} {text}"),
            None => Ok(()),
        };
        line(screen.out, "verdict", &answer["verdict"])?;
        if !verified && answer["reason"].is_null() {
            line(screen.out, "outcome", &answer["outcome"])?;
        }
        line(screen.out, "reason", &answer["reason"])?;
        line(screen.out, "parameter", &answer["parameter"])?;
        line(screen.out, "signed text", &answer["signed_text"])?;
        line(screen.out, "reading", &answer["reading"])?;
        for parameter in answer["parameters"].as_array().into_iter().flatten() {
            let text = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
            writeln!(screen.out, "{:<12} {} = {}", text("in"), text("name"), text("value"))?;
        }
        line(screen.out, "mistake", &answer["mistake"]["kind"])?;
        line(screen.out, "about", &answer["mistake"]["parameter"])?;
        line(screen.out, "advice", &answer["mistake"]["advice"])?;
        Ok(exit)
    }
}

/// The public keys of the source's sender, where it has some: fetched once. Says so where they
/// cannot be had.
fn published(
    config: &Config,
    source: &Source,
    screen: &mut Screen<'_>,
) -> io::Result<Option<Arc<KeySet>>> {
    let Some(list) = source.recipe.key_list() else { return Ok(None) };
    match runtime()?.block_on(fetch_once(source, &config.egress.allow)) {
        Ok(keys) => Ok(Some(Arc::new(keys))),
        Err(why) => {
            let (sender, host) = (source.recipe.sender().name(), list.host());
            writeln!(
                screen.err,
                "the public keys of {sender} could not be fetched from {host}: {why}; without \
                 them nobody can say whether the signature is right"
            )?;
            Ok(None)
        }
    }
}
