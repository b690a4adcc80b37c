//! `postern sign`: a signed callback for any source.

use std::io;

use clap::Args;
use serde_json::json;

use super::client::{AdminApi, runtime};
use super::names::{self, NameError, Named};
use super::url::absent;
use super::{ConfigFile, Exit, Screen};
use crate::clock;
use crate::config::{Config, Source, nearest};
use crate::operator::SignedCallback;
use crate::sender::Role;

/// Print a signed callback, as the sender would make it
#[derive(Args, Debug)]
#[command(
    long_about = "Print a signed callback, as the sender would make it.\n\n\
        Prints the full signed URL, or a curl command where the sender posts. A KEY is a role \
        (transaction, user, item, amount …), one of the sender's parameters, header.NAME or body; \
        a dot steps into JSON. Time and nonce are filled in where the sender's file says which \
        they are; a note names what else its callbacks always have. A source \
        that was created over an API or in the console is signed for by the running gateway.",
    after_help = "Examples:\n  \
        postern sign level-end transaction=tr-1 user=u1 item=coin amount=10 placement_id=b1 adsource_id=9\n  \
        curl -i \"$(postern sign --local level-end transaction=tr-1 …)\""
)]
pub(super) struct Sign {
    #[command(flatten)]
    config: ConfigFile,
    /// The source
    source: String,
    /// Parameters
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// Time of the callback in Unix milliseconds [default: now]
    #[arg(long, value_name = "MS")]
    at_ms: Option<i64>,
    /// Print a curl command, also where a URL is enough
    #[arg(long)]
    curl: bool,
    /// Address this machine's listener instead of server.public_url; the signature stays the same
    #[arg(long)]
    local: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Sign {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = &loaded.config;
        let Some(source) = config.sources.get(&self.source) else {
            return match runtime()?.block_on(self.ask(config)) {
                Ok(signed) => self.show(&signed, screen),
                Err(Asked::Absent(error)) => absent(&loaded, &self.source, error.known(), screen),
                Err(Asked::Failed(sentence)) => {
                    writeln!(screen.err, "{sentence}")?;
                    Ok(Exit::Usage)
                }
            };
        };
        let at_ms = self.at_ms.unwrap_or_else(clock::now_ms);
        match SignedCallback::make(config, source, &self.parameters, at_ms) {
            Ok(signed) => {
                self.tell_unread(source, screen)?;
                self.tell_left_out(source, screen)?;
                self.show(&signed, screen)
            }
            Err(error) => {
                writeln!(screen.err, "{}: {error}", source.name)?;
                Ok(Exit::Usage)
            }
        }
    }

    /// Names the keys that the sender's file does not read: they are sent, and mean nothing.
    fn tell_unread(&self, source: &Source, screen: &mut Screen<'_>) -> io::Result<()> {
        let read = source.recipe.parameter_names();
        let roles = Role::ALL.iter().map(|role| role.as_str());
        let known: Vec<&str> = read.iter().map(String::as_str).chain(roles).collect();
        for (key, _) in &self.parameters {
            let first = key.split('.').next().unwrap_or_default();
            let is_read = |name: &&str| *name == key || name.split('.').next() == Some(first);
            if key == "body" || first == "header" || known.iter().any(is_read) {
                continue;
            }
            let sender = source.recipe.sender().name();
            let near = nearest(key, &known).map(|near| format!("; did you mean {near}?"));
            let near = near.unwrap_or_default();
            writeln!(screen.err, "note: {sender} has no {key}, and it is sent all the same{near}")?;
        }
        Ok(())
    }

    /// Names what the sender signs with every callback and this one lacks: two callbacks that only
    /// differ in unsigned values then have one signature, and the second is held.
    fn tell_left_out(&self, source: &Source, screen: &mut Screen<'_>) -> io::Result<()> {
        let given: Vec<&str> = self.parameters.iter().map(|(key, _)| key.as_str()).collect();
        let lacking = source.recipe.left_out(&given);
        if lacking.is_empty() {
            return Ok(());
        }
        let sender = source.recipe.sender().name();
        let names = lacking.join(", ");
        writeln!(
            screen.err,
            "note: {sender} signs {names} in every such callback; without, another one may get the \
             same signature, and is held"
        )
    }

    /// Has the running gateway sign: it knows the sources that were created over its APIs.
    async fn ask(&self, config: &Config) -> Result<SignedCallback, Asked> {
        let api = AdminApi::of(config);
        let known = names::check(&api, Named::Source, &self.source).await;
        known.map_err(Asked::Absent)?;
        let parameters: Vec<String> =
            self.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let question =
            json!({ "source": self.source, "parameters": parameters, "at_ms": self.at_ms });
        let answer = api.post("/admin/v1/sign", &question).await.map_err(Asked::Failed)?;
        serde_json::from_value(answer).map_err(|error| Asked::Failed(error.to_string()))
    }

    fn show(&self, signed: &SignedCallback, screen: &mut Screen<'_>) -> io::Result<Exit> {
        if self.config.json {
            writeln!(screen.out, "{}", json!(signed))?;
            return Ok(Exit::Done);
        }
        let (url, curl) = match self.local {
            true => (&signed.local_url, &signed.local_curl),
            false => (&signed.url, &signed.curl),
        };
        writeln!(screen.out, "{}", url.as_ref().filter(|_| !self.curl).unwrap_or(curl))?;
        Ok(Exit::Done)
    }
}

/// Why the gateway did not sign.
enum Asked {
    /// No gateway answers, or it has no such source.
    Absent(NameError),
    /// The gateway's objection.
    Failed(String),
}
