//! `postern verify`: reads the whole store and says what is damaged where.

use std::io;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::client::{AdminApi, runtime};
use super::store::{Progress, check, embedded, gateway_instead};
use super::{ConfigFile, Exit, Screen};
use crate::ledger::{Damage, Embedded, LedgerError, Survey};

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
        let config = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded.config,
            Err(exit) => return Ok(exit),
        };
        let found = embedded(&config.store).and_then(|options| {
            check(&options)?;
            Ok(options)
        });
        let options = match found {
            Ok(options) => options,
            Err(error) => {
                let api = gateway_instead(&config, &runtime()?, &error);
                return match api {
                    Ok(api) => self.ask(&api, screen),
                    Err(sentence) => screen.fail(&sentence),
                };
            }
        };
        match Embedded::verify(&options) {
            Ok(survey) => {
                let (segments, records, events) = (survey.segments, survey.records, survey.events);
                let read = format!("{segments} segments, {records} records, {events} events");
                let counts = json!({ "segments": segments, "records": records, "events": events });
                self.conclude(&Read { read, counts, survey }, screen)
            }
            Err(LedgerError::InUse(_)) => self.ask(&AdminApi::of(&config), screen),
            Err(error) => screen.fail(&error),
        }
    }

    /// Says what was read, and how much of it is damaged.
    fn conclude(&self, found: &Read, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let Read { read, counts, survey } = found;
        let exit = screen.survey(survey)?;
        if self.config.json {
            let mut line = counts.clone();
            line["whole"] = Value::from(survey.damage.is_empty());
            line["damage"] = survey.damage.iter().map(ToString::to_string).collect();
            line["remarks"] = survey.remarks.iter().cloned().collect();
            writeln!(screen.out, "{line}")?;
            return Ok(exit);
        }
        match survey.damage.len() {
            0 => writeln!(screen.out, "{read}: whole")?,
            count => {
                let places = if count == 1 { "1 place" } else { &format!("{count} places") };
                writeln!(
                    screen.out,
                    "{read}, {places} damaged; `postern export --salvage` gets out what is whole"
                )?;
            }
        }
        Ok(exit)
    }

    /// Has the gateway read its store, and waits until it has.
    fn ask(&self, api: &AdminApi, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let runtime = runtime()?;
        let mut progress = Progress::new(screen.err, screen.err_is);
        let read = wait(api, &runtime, &mut progress);
        progress.end();
        let pass = match read {
            Ok(pass) => pass,
            Err(sentence) => return screen.fail(&sentence),
        };
        let list = |name: &str| pass[name].as_array().into_iter().flatten();
        let remarks = list("remarks").filter_map(Value::as_str).map(str::to_owned).collect();
        let damage = list("damage").map(place).collect();
        let survey = Survey { damage, remarks, ..Survey::default() };
        if let Some(error) = pass["error"].as_str() {
            screen.survey(&survey)?;
            return screen.fail(&format!("the gateway could not read the store through: {error}"));
        }
        let read = format!("{} bytes", pass["total_bytes"]);
        let counts = json!({ "bytes": pass["total_bytes"] });
        self.conclude(&Read { read, counts, survey }, screen)
    }
}

/// A store that was read through.
struct Read {
    /// How much it is, for people.
    read: String,
    /// The same for programs.
    counts: Value,
    survey: Survey,
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
