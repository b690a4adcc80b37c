//! `postern senders`: the platforms whose callbacks can be verified.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::Method;

use super::{ConfigFile, Exit, Screen, columns};
use crate::config::{nearest, show};
use crate::sender::{Catalog, Patience, Sender, Terms};

/// List the known senders, or show one of them
#[derive(Args, Debug)]
#[command(
    long_about = "List the known senders, or show one of them.\n\n\
        A sender is a platform's contract: how it calls, signs, identifies a transaction and wants \
        to be answered. With a NAME the contract is shown; what nobody outside has confirmed is \
        said. Senders of your own are listed where --config names the configuration with them.",
    after_help = "Examples:\n  \
        postern senders\n  \
        postern senders taku\n  \
        postern senders taku --toml > my-sender.toml\n  \
        postern senders --config postern.toml my-sender"
)]
pub(super) struct Senders {
    /// The sender to show.
    name: Option<String>,
    /// Show the sender's file as it is written, to begin one of your own with.
    #[arg(long, requires = "name")]
    toml: bool,
    /// The configuration whose own senders are known too.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Senders {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let catalog = match self.catalog(screen)? {
            Ok(catalog) => catalog,
            Err(exit) => return Ok(exit),
        };
        let Some(name) = &self.name else {
            let row = |s: &Arc<Sender>| vec![s.name().to_owned(), s.title().to_owned()];
            let rows: Vec<_> = catalog.iter().map(row).collect();
            write!(screen.out, "{}", columns(&rows))?;
            return Ok(Exit::Done);
        };
        let Some(sender) = catalog.get(name) else {
            let names: Vec<&str> = catalog.iter().map(|sender| sender.name()).collect();
            let remedy = nearest(name, &names).map(|near| format!("did you mean {near}?"));
            let remedy = remedy.unwrap_or_else(|| String::from("`postern senders` lists them"));
            writeln!(screen.err, "there is no sender {name:?}; {remedy}")?;
            return Ok(Exit::Usage);
        };
        match self.toml {
            true => write!(screen.out, "{}", sender.text())?,
            false => contract(sender, screen)?,
        }
        Ok(Exit::Done)
    }

    fn catalog(&self, screen: &mut Screen<'_>) -> io::Result<Result<Arc<Catalog>, Exit>> {
        if let Some(path) = self.config.clone() {
            let loaded = ConfigFile { path }.load(screen)?;
            return Ok(loaded.map(|loaded| loaded.config.catalog));
        }
        match Catalog::embedded() {
            Ok(catalog) => Ok(Ok(Arc::new(catalog))),
            Err(faults) => {
                for (file, fault) in faults {
                    writeln!(screen.err, "{file}: {fault}")?;
                }
                Ok(Err(Exit::Failed))
            }
        }
    }
}

/// The contract of one sender, for people.
fn contract(sender: &Sender, screen: &mut Screen<'_>) -> io::Result<()> {
    let paint = screen.out_paint;
    writeln!(screen.out, "{}: {}", paint.bold(sender.name()), sender.title())?;
    for link in sender.docs() {
        writeln!(screen.out, "  {}", paint.dim(link))?;
    }
    let parts = [
        ("Not confirmed by anybody outside", listed(sender.unconfirmed())),
        ("Calls with", vec![vec![methods(sender)]]),
        ("Secret", vec![vec![secret(sender)]]),
        ("Public keys", keys(sender)),
        ("Other readings of its signature", readings(sender)),
        ("Set by the app, signed or not", from_client(sender)),
        ("Further keys of a source", settings(sender)),
        ("Published addresses (allow = \"sender\")", listed(sender.addresses())),
        ("Patience", patience(sender.patience())),
    ];
    for (title, rows) in parts.iter().filter(|(_, rows)| !rows.is_empty()) {
        write!(screen.out, "\n{}\n{}", paint.bold(title), columns(rows))?;
    }
    let hint = format!("postern senders {} --toml shows the rules themselves", sender.name());
    writeln!(screen.out, "\n{}", paint.dim(&hint))
}

type Rows = Vec<Vec<String>>;

fn listed(lines: &[String]) -> Rows {
    lines.iter().map(|line| vec![line.clone()]).collect()
}

fn methods(sender: &Sender) -> String {
    sender.methods().iter().map(Method::as_str).collect::<Vec<_>>().join(" or ")
}

fn secret(sender: &Sender) -> String {
    match (sender.secret(), sender.may_be_unsigned()) {
        (Some(secret), false) => secret.to_owned(),
        (Some(secret), true) => format!("{secret}, or unsigned = true"),
        (None, false) => String::from("none: public keys are used, leave `secrets` out"),
        (None, true) => String::from("none: nothing is signed, write unsigned = true"),
    }
}

fn keys(sender: &Sender) -> Rows {
    let Some((url, keep)) = sender.key_set() else { return Vec::new() };
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    vec![
        row("fetched from", url.to_string()),
        row("kept for", format!("{} at most", show(keep))),
        row(Terms::KEY_SET_URL, String::from("takes the place of that URL in a source")),
    ]
}

fn readings(sender: &Sender) -> Rows {
    sender.readings().flatten().map(|why| vec![why.to_owned()]).collect()
}

fn from_client(sender: &Sender) -> Rows {
    sender.from_client().iter().map(|role| vec![role.as_str().to_owned()]).collect()
}

fn settings(sender: &Sender) -> Rows {
    sender.settings().iter().map(|(name, what)| vec![name.clone(), what.clone()]).collect()
}

fn patience(patience: &Patience) -> Rows {
    let Patience { timeout, retries, gaps, horizon, when } = patience;
    let mut rows = Vec::new();
    let mut row = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
    match timeout {
        Some(timeout) => row("waits", show(*timeout)),
        None => row("waits", String::from("unknown")),
    }
    match retries {
        Some(retries) => row("tries again", format!("{retries} times")),
        None => row("tries again", String::from("unknown")),
    }
    if let Some(when) = when {
        row("because of", when.clone());
    }
    if !gaps.is_empty() {
        let gaps: Vec<String> = gaps.iter().copied().map(show).collect();
        row("after", gaps.join(", "));
    }
    if let Some(horizon) = horizon.filter(|horizon| *horizon > Duration::ZERO) {
        row("for", format!("{} in all", show(horizon)));
    }
    rows
}
