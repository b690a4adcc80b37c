//! `postern url`: what to paste into a sender's console.

use std::io;
use std::sync::Arc;

use clap::Args;

use super::{ConfigFile, Exit, Screen, columns};
use crate::config::{Config, Source, nearest};
use crate::operator::url_of;

/// Print the URL to paste into a sender's console
#[derive(Args, Debug)]
#[command(
    long_about = "Print the URL to paste into a sender's console, with the sender's own macros; \
        without a SOURCE those of all sources, each behind its name.\n\n\
        Only the URL goes to standard output; what to know about it goes to standard error.",
    after_help = "Examples:\n  \
        postern url --config postern.toml level-end\n  \
        postern url --config postern.toml"
)]
pub(super) struct Url {
    #[command(flatten)]
    config: ConfigFile,
    /// The source.
    source: Option<String>,
}

impl Url {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = &loaded.config;
        let at = config.server.callbacks;
        let Some(name) = &self.source else {
            let row = |source: &Arc<Source>| vec![source.name.clone(), url_of(config, at, source)];
            let rows: Vec<_> = config.sources.values().map(row).collect();
            write!(screen.out, "{}", columns(&rows))?;
            return Ok(Exit::Done);
        };
        let Some(source) = find(config, name, screen)? else { return Ok(Exit::Usage) };
        writeln!(screen.out, "{}", url_of(config, at, source))?;
        let sender = source.recipe.sender();
        if config.server.public_url.is_none() {
            writeln!(
                screen.err,
                "server.public_url is not set: the address is this machine's; set it to what \
                 {} can reach",
                sender.title()
            )?;
        }
        if let Some(about) = sender.secret() {
            writeln!(screen.err, "secret: {about}")?;
        }
        if source.recipe.signs_url() {
            writeln!(screen.err, "the whole URL is signed: paste it just so")?;
        }
        if source.recipe.paste().is_empty() {
            writeln!(screen.err, "{} adds its parameters itself", sender.title())?;
        }
        for line in sender.unconfirmed() {
            writeln!(screen.err, "unconfirmed: {line}")?;
        }
        Ok(Exit::Done)
    }
}

/// The source called `name`; says so where there is none.
pub(super) fn find<'c>(
    config: &'c Config,
    name: &str,
    screen: &mut Screen<'_>,
) -> io::Result<Option<&'c Source>> {
    let found = config.sources.get(name).map(AsRef::as_ref);
    if found.is_none() {
        let names: Vec<&str> = config.sources.keys().map(String::as_str).collect();
        let remedy = nearest(name, &names).map(|near| format!("did you mean {near}?"));
        let remedy = remedy.unwrap_or_else(|| format!("there are: {}", names.join(", ")));
        writeln!(screen.err, "there is no source {name:?}; {remedy}")?;
    }
    Ok(found)
}
