//! `postern explain`: why a captured callback verifies or does not.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::client::{AdminApi, runtime};
use super::names::{self, Named};
use super::rows::{printable, printable_json};
use super::url::absent;
use super::{ConfigFile, Exit, Screen};
use crate::clock;
use crate::config::{Config, Loaded, Source};
use crate::keys::{fetch_certificate_once, fetch_once};
use crate::operator::{Capture, Misdirected, explained};
use crate::sender::{KeyList, KeySet, Recipe};

/// Bytes that are read from standard input: the largest body, and a head.
const CAPTURED_BYTES_MAX: u64 = 65 * 1024 * 1024;

/// Explain why a captured callback verifies or does not
#[derive(Args, Debug)]
#[command(
    long_about = "Explain why a captured callback verifies or does not.\n\n\
        Says what was read, the text that was signed with the secret masked, and the verdict; on a \
        mismatch the usual mistakes are tried, each by name. What was captured is a URL, a curl \
        command, a line of an access log, a request (request line, headers, an empty line, body) \
        or a query. It is an argument, in a file, or on standard input, and its path names the \
        source; in front of a query the source has to be named. --rejection takes one that a \
        running gateway refused (`postern events --rejected`).",
    after_help = "Examples:\n  \
        postern explain --config postern.toml 'https://cb.example.com/callback/level-end?…'\n  \
        postern explain --config postern.toml level-end 'trans_id=…&sign=…'\n  \
        postern explain --config postern.toml \"curl 'https://cb.example.com/…' -H '…'\"\n  \
        tail -1 access.log | postern explain --config postern.toml\n  \
        postern explain --config postern.toml --request captured.http\n  \
        postern explain --config postern.toml --rejection ref_0190…"
)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The source; the one that the path names unless given.
    source: Option<String>,
    /// The captured callback; - reads standard input.
    captured: Option<String>,
    /// A file with what was captured; - reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "captured")]
    request: Option<PathBuf>,
    /// A rejected callback of the running gateway, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["captured", "request"])]
    rejection: Option<String>,
    /// When it came, Unix milliseconds, in place of now.
    #[arg(long, value_name = "MS")]
    at_ms: Option<i64>,
}

/// The words of the command line, by what they are.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    source: Option<&'a str>,
    captured: Option<&'a str>,
}

impl Explain {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if let Some(Err(sentence)) = self.rejection.as_deref().map(names::check_rejection) {
            writeln!(screen.err, "{sentence}")?;
            return Ok(Exit::Usage);
        }
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = &loaded.config;
        let asked = self.asked(config);
        if let Some(name) = asked.source
            && !config.sources.contains_key(name)
        {
            return self.ask_named(&loaded, name, asked.captured, screen);
        }
        if let Some(id) = &self.rejection {
            return self.rejection(config, asked.source, id, screen);
        }
        let captured = self.text(asked.captured).and_then(|text| Capture::read(&text));
        let capture = match captured {
            Ok(capture) => capture,
            Err(sentence) => {
                writeln!(screen.err, "{}", printable(&sentence))?;
                return Ok(Exit::Usage);
            }
        };
        let named = asked.source.and_then(|name| config.sources.get(name));
        match named.map_or_else(|| capture.source(config), Ok) {
            Ok(source) => self.explain(config, source, capture, screen),
            Err(sentence) => {
                let Some(name) = capture.source_name() else {
                    writeln!(screen.err, "{}", printable(&sentence))?;
                    return Ok(Exit::Usage);
                };
                // The gateway may have it from an API.
                match ask(config, None, &capture) {
                    Ok(answer) => self.show(&answer, screen),
                    Err(_) => absent(&loaded, &name, [], screen),
                }
            }
        }
    }

    /// One word alone is a source if there is one of that name, or if nothing could be captured so.
    fn asked(&self, config: &Config) -> Asked<'_> {
        let (first, second) = (self.source.as_deref(), self.captured.as_deref());
        let is_captured = |word: &str| {
            !config.sources.contains_key(word)
                && (word == "-" || word.contains(['/', '?', '=', ' ', '{', '<']))
        };
        match (first, second) {
            (Some(word), None) if is_captured(word) => Asked { source: None, captured: first },
            _ => Asked { source: first, captured: second },
        }
    }

    fn explain(
        &self,
        config: &Config,
        source: &Source,
        capture: Capture,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        let at_ms = self.at_ms.or(capture.at_ms).unwrap_or_else(clock::now_ms);
        let request = capture.to(source);
        let named = source.recipe.read(request.borrow(), at_ms);
        let named = named.key_id().map(std::borrow::Cow::into_owned);
        let keys = published(config, source, named.as_deref(), screen)?;
        let own = source.recipe.key_list().map(KeyList::identity);
        let of = |recipe: &Recipe| {
            let same = recipe.key_list().map(KeyList::identity) == own;
            keys.clone().filter(|_| same)
        };
        let found = explained(config, source, &request.borrow(), at_ms, &of);
        let answer = serde_json::to_value(&found).map_err(io::Error::other)?;
        let exit = self.show(&answer, screen)?;
        // Whatever its signature: the gateway answers it with 404.
        let is_lost = matches!(found.misdirected, Some(Misdirected::Slash { .. }));
        Ok(if is_lost { Exit::Failed } else { exit })
    }

    /// Asks the running gateway, which knows the sources that were created over its APIs.
    fn ask_named(
        &self,
        loaded: &Loaded,
        name: &str,
        captured: Option<&str>,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        let config = &loaded.config;
        let api = AdminApi::of(config);
        if let Err(error) = runtime()?.block_on(names::check(&api, Named::Source, name)) {
            return absent(loaded, name, error.known(), screen);
        }
        if let Some(id) = &self.rejection {
            return self.rejection(config, Some(name), id, screen);
        }
        let capture = self.text(captured).and_then(|text| Capture::read(&text));
        let answer = capture.and_then(|capture| ask(config, Some(name), &capture));
        self.answer(answer, screen)
    }

    fn answer(&self, answer: Result<Value, String>, screen: &mut Screen<'_>) -> io::Result<Exit> {
        match answer {
            Ok(answer) => self.show(&answer, screen),
            Err(sentence) => screen.fail(&sentence),
        }
    }

    /// The explanation of the running gateway for a callback that it rejected.
    fn rejection(
        &self,
        config: &Config,
        source: Option<&str>,
        id: &str,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        let mut question = json!({ "rejection": id });
        if let Some(source) = source {
            question["source"] = source.into();
        }
        let api = AdminApi::of(config);
        let answer = runtime()?.block_on(api.post("/admin/v1/explain", &question));
        self.answer(answer, screen)
    }

    /// The text that was captured: the argument, a file, or standard input.
    fn text(&self, captured: Option<&str>) -> Result<String, String> {
        let standard_input = || {
            let mut bytes = Vec::new();
            let read = io::stdin().take(CAPTURED_BYTES_MAX).read_to_end(&mut bytes);
            read.map_err(|error| error.to_string())?;
            String::from_utf8(bytes).map_err(|_| String::from("standard input is not UTF-8"))
        };
        match (captured, &self.request) {
            (Some("-"), _) => standard_input(),
            (Some(text), _) => Ok(text.to_owned()),
            (None, Some(path)) if path.as_os_str() == "-" => standard_input(),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path);
                text.map_err(|error| format!("{}: {error}", path.display()))
            }
            (None, None) if !io::stdin().is_terminal() => standard_input(),
            (None, None) => Err(String::from(
                "give what was captured (a URL, a curl command, a line of a log, a request), \
                 --request FILE or --rejection ID",
            )),
        }
    }

    fn show(&self, answer: &Value, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let verified = answer["verdict"] == "verified";
        let exit = if verified { Exit::Done } else { Exit::Failed };
        if let Some(note) = answer["note"].as_str() {
            writeln!(screen.err, "{}", printable(note))?;
        }
        if self.config.json {
            writeln!(screen.out, "{}", printable_json(&format!("{answer:#}")))?;
            return Ok(exit);
        }
        // What came is in the texts: a forged callback must not control the terminal.
        let line = |out: &mut dyn io::Write, name: &str, value: &Value| match value.as_str() {
            Some(text) => writeln!(out, "{name:<12} {}", printable(text)),
            None => Ok(()),
        };
        line(screen.out, "verdict", &answer["verdict"])?;
        let outcome = answer["outcome"].as_str().unwrap_or_default();
        if !matches!(outcome, "accepted" | "rejected") {
            line(screen.out, "outcome", &answer["outcome"])?;
        }
        if outcome == "ambiguous" {
            let text =
                "it can be read in two ways: recorded, acknowledged, and held for an operator";
            writeln!(screen.out, "{:<12} {text}", "")?;
        }
        line(screen.out, "reason", &answer["reason"])?;
        line(screen.out, "parameter", &answer["parameter"])?;
        line(screen.out, "advice", &answer["advice"])?;
        line(screen.out, "signed text", &answer["signed_text"])?;
        line(screen.out, "reading", &answer["reading"])?;
        for parameter in answer["parameters"].as_array().into_iter().flatten() {
            let text = |key: &str| parameter[key].as_str().map(printable).unwrap_or_default();
            writeln!(screen.out, "{:<12} {} = {}", text("in"), text("name"), text("value"))?;
        }
        let others = answer["alternatives"].as_array().into_iter().flatten();
        for (at, mistake) in std::iter::once(&answer["mistake"]).chain(others).enumerate() {
            let name = if at == 0 { "mistake" } else { "or mistake" };
            let kind = if mistake["detail"].is_null() { "kind" } else { "detail" };
            line(screen.out, name, &mistake[kind])?;
            line(screen.out, "about", &mistake["parameter"])?;
            line(screen.out, "advice", &mistake["advice"])?;
        }
        Ok(exit)
    }
}

/// The explanation of the running gateway for what was captured.
fn ask(config: &Config, source: Option<&str>, capture: &Capture) -> Result<Value, String> {
    let request = capture.request();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = request.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    let mut question = json!({
        "method": request.method.as_str(),
        "target": text(&request.target), "body": text(&request.body),
        "headers": headers.collect::<BTreeMap<_, _>>(),
    });
    if let Some(source) = source {
        question["source"] = source.into();
    }
    let runtime = runtime().map_err(|error| error.to_string())?;
    runtime.block_on(AdminApi::of(config).post("/admin/v1/explain", &question))
}

/// The public keys of the source's sender, where it has some, or the key that the callback names:
/// fetched once. Says so where they cannot be had.
fn published(
    config: &Config,
    source: &Source,
    named: Option<&[u8]>,
    screen: &mut Screen<'_>,
) -> io::Result<Option<Arc<KeySet>>> {
    let Some(list) = source.recipe.key_list() else { return Ok(None) };
    let allow = &config.egress.allow;
    let fetched = match (list.is_of_certificates(), named) {
        (false, _) => runtime()?.block_on(fetch_once(source, allow)),
        (true, Some(id)) => runtime()?.block_on(fetch_certificate_once(source, id, allow)),
        (true, None) => return Ok(None),
    };
    match fetched {
        Ok(keys) => Ok(Some(Arc::new(keys))),
        Err(why) => {
            let (sender, host) = (source.recipe.sender().name(), list.host());
            writeln!(
                screen.err,
                "the public keys of {sender} could not be fetched from {host}: {why}; without \
                 them the signature cannot be checked"
            )?;
            Ok(None)
        }
    }
}
