//! `postern verify`: reads the whole store and says what is damaged where.

use std::io;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::client::{AdminApi, runtime};
use super::store::{Progress, is_there};
use super::{ConfigFile, Exit, Screen};
use crate::config::Config;
use crate::ledger::{Damage, Embedded, LedgerError};

/// How often a gateway is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Read the whole store and report damage
#[derive(Args, Debug)]
#[command(
    long_about = "Read the whole store and report damage.\n\n\
        Compares the checksum of every record of the journal, and reads the index. Changes nothing. \
        A running gateway is asked over its admin listener: it reads in small steps and keeps \
        working. Otherwise the store is read directly, and the index is compared with the journal. \
        Exits with 1 if something is damaged.",
    after_help = "Example:\n  postern verify --config postern.toml"
)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigFile,
}

impl Verify {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let (loaded, options) = match self.config.store(screen)? {
            Ok(store) => store,
            Err(exit) => return Ok(exit),
        };
        if let Err(sentence) = is_there(&options) {
            return screen.fail(&sentence);
        }
        let survey = match Embedded::verify(&options) {
            Ok(survey) => survey,
            Err(LedgerError::InUse(_)) => return ask(&loaded.config, screen),
            Err(error) => return screen.fail(&error),
        };
        let exit = screen.survey(&survey)?;
        let (segments, records, events) = (survey.segments, survey.records, survey.events);
        let read = format!("{segments} segments, {records} records, {events} events");
        conclude(screen, &read, survey.damage.len())?;
        Ok(exit)
    }
}

/// Says what was read, and how much of it is damaged.
fn conclude(screen: &mut Screen<'_>, read: &str, places: usize) -> io::Result<()> {
    match places {
        0 => writeln!(screen.out, "{read}: whole"),
        count => writeln!(
            screen.out,
            "{read}, {count} places damaged; `postern export --salvage` gets out what is whole"
        ),
    }
}

/// Has the gateway read its store, and waits until it has.
fn ask(config: &Config, screen: &mut Screen<'_>) -> io::Result<Exit> {
    let runtime = runtime()?;
    let mut progress = Progress::new(screen.err, screen.err_is);
    let read = wait(&AdminApi::of(config), &runtime, &mut progress);
    progress.end();
    let pass = match read {
        Ok(pass) => pass,
        Err(sentence) => return screen.fail(&sentence),
    };
    for remark in pass["remarks"].as_array().into_iter().flatten() {
        writeln!(screen.err, "remark: {}", remark.as_str().unwrap_or_default())?;
    }
    let damage: Vec<Damage> = pass["damage"].as_array().into_iter().flatten().map(place).collect();
    for place in &damage {
        writeln!(screen.err, "damaged: {place}")?;
    }
    if let Some(error) = pass["error"].as_str() {
        return screen.fail(&format!("the gateway could not read the store through: {error}"));
    }
    let read = format!("{} bytes", pass["total_bytes"]);
    conclude(screen, &read, damage.len())?;
    Ok(if damage.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Begins a pass and returns what it came to.
fn wait(api: &AdminApi, runtime: &Runtime, progress: &mut Progress<'_>) -> Result<Value, String> {
    const PATH: &str = "/admin/v1/verify";
    let begun = runtime.block_on(api.post(PATH, &json!({})))?;
    let mut pass = begun.clone();
    while pass["pass"] == begun["pass"] {
        if pass["state"] != "running" {
            return Ok(pass);
        }
        let mib = |name: &str| pass[name].as_u64().unwrap_or(0) >> 20;
        progress.tell(&|| format!("{} of {} MiB", mib("done_bytes"), mib("total_bytes")));
        std::thread::sleep(ASK_EVERY);
        pass = runtime.block_on(api.get(PATH))?;
    }
    Err("the gateway was started again meanwhile; run the command again".to_owned())
}

fn place(place: &Value) -> Damage {
    let number = |name: &str| place[name].as_u64().unwrap_or(0);
    let text = |name: &str| place[name].as_str().unwrap_or_default();
    let (from, until) = (number("from"), number("until"));
    Damage { path: text("path").into(), from, until, what: text("what").to_owned() }
}
