//! `postern url`: what to paste into a sender's console.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use clap::Args;
use serde_json::json;

use super::client::{AdminApi, runtime};
use super::names::{self, Named};
use super::{ConfigFile, Exit, Screen, columns};
use crate::config::{Config, ConfigIssue, Loaded, Source};
use crate::operator::PasteUrl;

/// Print the URL to paste into a sender's console
#[derive(Args, Debug)]
#[command(
    long_about = "Print the URL to paste into a sender's console, with the sender's own macros; \
        without a SOURCE those of all sources, each behind its name.\n\n\
        Only the URL goes to standard output; what to know about it goes to standard error. A source \
        that was created over an API or in the console is looked up at the running gateway.",
    after_help = "Examples:\n  postern url level-end\n  postern url"
)]
pub(super) struct Url {
    #[command(flatten)]
    config: ConfigFile,
    /// The source
    source: Option<String>,
}

impl Url {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = &loaded.config;
        let of = |source: &Source| PasteUrl::of(config, config.server.callbacks, source);
        let mut urls: BTreeMap<String, PasteUrl> =
            config.sources.values().map(|source| (source.name.clone(), of(source))).collect();
        if self.source.as_ref().is_none_or(|name| !urls.contains_key(name))
            && let Ok(others) = runtime()?.block_on(of_gateway(config))
        {
            for other in others {
                urls.entry(other.source.clone()).or_insert(other);
            }
        }
        let Some(name) = &self.source else { return self.list(&urls, &loaded, screen) };
        let Some(found) = urls.get(name) else {
            return absent(&loaded, name, urls.keys(), screen);
        };
        if self.config.json {
            writeln!(screen.out, "{}", json!(found))?;
            return Ok(Exit::Done);
        }
        writeln!(screen.out, "{}", found.url)?;
        for note in &found.notes {
            writeln!(screen.err, "{note}")?;
        }
        Ok(Exit::Done)
    }

    fn list(
        &self,
        urls: &BTreeMap<String, PasteUrl>,
        loaded: &Loaded,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        if self.config.json {
            for url in urls.values() {
                writeln!(screen.out, "{}", json!(url))?;
            }
        } else {
            let rows: Vec<_> =
                urls.values().map(|one| vec![one.source.clone(), one.url.clone()]).collect();
            write!(screen.out, "{}", columns(&rows))?;
        }
        // A source without its secret is not in the list, unless the gateway knows it.
        let lacks =
            |issue: &&ConfigIssue| source_of(issue).is_some_and(|name| !urls.contains_key(name));
        let mut exit = Exit::Done;
        for issue in loaded.missing.iter().filter(lacks) {
            writeln!(screen.err, "{}", issue.line_of_text(screen.err_paint))?;
            exit = Exit::Usage;
        }
        if urls.is_empty() && exit == Exit::Done {
            writeln!(screen.err, "there is no source; `postern senders` lists what one can be of")?;
        }
        Ok(exit)
    }
}

/// The URLs of all sources of the running gateway.
async fn of_gateway(config: &Config) -> Result<Vec<PasteUrl>, String> {
    let mut answer = AdminApi::of(config).get("/admin/v1/urls").await?;
    serde_json::from_value(answer["urls"].take()).map_err(|error| error.to_string())
}

/// Says that there is no source called `name`, neither in the file nor at a running gateway, or
/// which secret is missing if the file has it. `others` are the names that the gateway has.
pub(super) fn absent<'n>(
    loaded: &'n Loaded,
    name: &str,
    others: impl IntoIterator<Item = &'n String>,
    screen: &mut Screen<'_>,
) -> io::Result<Exit> {
    if let Some(issue) = missing_of(loaded, name) {
        writeln!(screen.err, "{}", issue.line_of_text(screen.err_paint))?;
        return Ok(Exit::Usage);
    }
    let usable = loaded.config.sources.keys().chain(others).map(String::as_str);
    let names: BTreeSet<&str> = usable.chain(loaded.missing.iter().filter_map(source_of)).collect();
    let names: Vec<&str> = names.into_iter().collect();
    writeln!(screen.err, "{}", names::absent(Named::Source, name, &names))?;
    Ok(Exit::Usage)
}

/// The missing secret of the file's source called `name`.
fn missing_of<'l>(loaded: &'l Loaded, name: &str) -> Option<&'l ConfigIssue> {
    loaded.missing.iter().find(|issue| source_of(issue) == Some(name))
}

/// The source that an issue is about.
fn source_of(issue: &ConfigIssue) -> Option<&str> {
    let (name, _) = issue.key.strip_prefix("source[")?.split_once(']')?;
    Some(name)
}
