//! The files of a first configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::secrets::{Form, Generated};
use crate::clock::UnixMillis;
use crate::config::{
    self, ConfigErrors, ConfigIssue, Contents, Input, Machine, PLACEHOLDER, placeholder_digest,
};
use crate::sender::Sender;

/// The variable with the token of the admin API.
const TOKEN: &str = "POSTERN_ADMIN_TOKEN";

/// The variable with the secret of the backend.
const BACKEND: &str = "BACKEND_SECRET";

/// The choices of a configuration.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) callbacks: SocketAddr,
    pub(super) admin: SocketAddr,
    /// The directory of the store.
    pub(super) store: &'a str,
    pub(super) backend: &'a str,
    pub(super) public_url: Option<&'a str>,
    pub(super) senders: &'a [Arc<Sender>],
}

/// The files.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) configuration: String,
    pub(super) variables: String,
    /// Variables whose values are placeholders.
    pub(super) to_replace: Vec<String>,
}

/// The needs of the senders besides secrets.
#[derive(Debug, Default)]
struct Needs {
    /// A sender signs the whole URL.
    public_url: bool,
    /// Sources of senders whose signatures repeat.
    replayable: BTreeSet<String>,
    /// Sources of senders whose signatures are weak.
    weak: BTreeSet<String>,
}

impl Needs {
    /// Learns from what the check says; whether there was something new.
    fn learn(&mut self, faults: &[ConfigIssue]) -> bool {
        let mut is_new = false;
        for fault in faults {
            if fault.what.contains("server.public_url is not set") {
                is_new |= !std::mem::replace(&mut self.public_url, true);
            } else if fault.remedy.contains("replayable = true")
                && let Some((name, _)) =
                    fault.key.strip_prefix("source[").and_then(|k| k.split_once(']'))
            {
                is_new |= self.replayable.insert(name.to_owned());
            } else if fault.remedy.contains("weak = true")
                && let Some((name, _)) =
                    fault.key.strip_prefix("source[").and_then(|k| k.split_once(']'))
            {
                is_new |= self.weak.insert(name.to_owned());
            }
        }
        is_new
    }
}

/// A variable of a source.
#[derive(Debug)]
struct Variable {
    name: String,
    /// Its key in the configuration, as an issue names it.
    key: String,
    about: String,
    form: Form,
    value: String,
}

/// Variables, in place of the environment.
#[derive(Debug)]
struct Variables(BTreeMap<String, String>);

impl Input for Variables {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        self.0.get(name).map(|value| value.clone().into_bytes())
    }

    fn read(&self, path: &Path) -> io::Result<Contents> {
        Machine.read(path)
    }

    fn now_ms(&self) -> UnixMillis {
        Machine.now_ms()
    }
}

impl Draft<'_> {
    /// Writes a configuration that stands at `path` and passes the check.
    ///
    /// # Errors
    /// The issues that the check finds: a URL that was given is wrong, or a sender needs more.
    pub(super) fn write(&self, path: &Path, generated: &Generated) -> Result<Files, ConfigErrors> {
        let no_random = |error: io::Error| ConfigErrors {
            faults: vec![ConfigIssue { what: error.to_string(), ..ConfigIssue::default() }],
            ..ConfigErrors::default()
        };
        let token = generated.token().map_err(no_random)?;
        let backend = generated.secret(Form::Webhook).map_err(no_random)?;
        let unguessable = generated.secret(Form::Hex).map_err(no_random)?;
        let mut needs = Needs::default();
        let mut variables = Vec::new();
        let mut configuration = self.configuration(&unguessable, &needs, &mut variables);
        for variable in &mut variables {
            variable.value = generated.secret(variable.form).map_err(no_random)?;
        }
        loop {
            let own = [(TOKEN, &token), (BACKEND, &backend)];
            let own = own.map(|(name, value)| (name.to_owned(), value.clone()));
            let of_sources = variables.iter().map(|one| (one.name.clone(), one.value.clone()));
            let input = Variables(of_sources.chain(own).collect());
            let Err(faults) = config::load_str(&input, path, &configuration) else { break };
            let mut changed = needs.learn(&faults.faults);
            if changed {
                configuration = self.configuration(&unguessable, &needs, &mut Vec::new());
            }
            // A sender wants another form of a secret: the next one is tried.
            for variable in &mut variables {
                let is_wrong =
                    faults.faults.iter().any(|fault| fault.key.starts_with(&variable.key));
                let Some(next) = variable.form.next().filter(|_| is_wrong) else { continue };
                variable.form = next;
                variable.value = generated.secret(next).map_err(no_random)?;
                changed = true;
            }
            if !changed {
                return Err(faults);
            }
        }
        let to_replace = variables.iter().map(|variable| variable.name.clone()).collect();
        Ok(Files {
            configuration,
            variables: variables_file(path, [&token, &backend], &variables),
            to_replace,
        })
    }

    fn configuration(
        &self,
        unguessable: &str,
        needs: &Needs,
        variables: &mut Vec<Variable>,
    ) -> String {
        let Self { callbacks, admin, store, backend, public_url, senders } = self;
        let public_url = match public_url {
            Some(url) => format!("public_url = \"{url}\""),
            None if needs.public_url => String::from(
                "public_url = \"https://callbacks.example.com\"   # REPLACE: how senders reach it; it \
                 is signed",
            ),
            None => String::from(
                "# public_url = \"https://callbacks.example.com\"   # how senders reach it",
            ),
        };
        let sources: String =
            senders.iter().map(|sender| source(sender, unguessable, needs, variables)).collect();
        format!(
            "# A configuration of Postern, written by `postern init`. Every key: docs/configuration.md\n\
             #\n\
             # Check it after each change; a running gateway applies it by itself.\n\
             #     postern check --env-file postern.env postern.toml\n\
             \n\
             [server]\n\
             callbacks = \"{callbacks}\"          # for senders: /callback/<source>, and nothing else\n\
             admin     = \"{admin}\"        # for you: console, /admin/v1, /metrics, /readyz\n\
             {public_url}\n\
             \n\
             [admin]\n\
             token = \"env:{TOKEN}\"   # for the console and scripts; commands on this machine need none\n\
             \n\
             [store]\n\
             path              = \"{store}\"  # one process owns it; a local disk\n\
             keep_events       = \"30d\"           # bodies and attempts, for replay and disputes\n\
             keep_transactions = \"90d\"           # how long a repeated callback is a duplicate\n\
             \n\
             # Your backend. Each event reaches it at least once, always under the same id.\n\
             # `postern listen --destination backend` is one to try with.\n\
             [[destination]]\n\
             name   = \"backend\"\n\
             url    = \"{backend}\"\n\
             secret = \"env:{BACKEND}\"        # signs each delivery (Standard Webhooks)\n\
             {sources}"
        )
    }
}

/// The source of a sender, and its variables.
fn source(
    sender: &Sender,
    unguessable: &str,
    needs: &Needs,
    variables: &mut Vec<Variable>,
) -> String {
    let sender_name = sender.name();
    let upper = sender_name.to_ascii_uppercase().replace('-', "_");
    let is_secret_path = sender.secret().is_none() && sender.may_be_unsigned();
    let name = match is_secret_path {
        true => format!("{sender_name}-{unguessable}"),
        false => sender_name.to_owned(),
    };
    let mut text =
        format!("\n# {}: `postern senders {sender_name}` shows its contract.\n", sender.title());
    let _ = writeln!(text, "[[source]]\nname         = \"{name}\"    # /callback/{name}");
    let _ = writeln!(text, "sender       = \"{sender_name}\"\ndestinations = [\"backend\"]");
    let mut add = |variable: String, key: &str, about: &str| {
        let _ = writeln!(text, "{key:<12} = \"env:{variable}\"    # {about}");
        variables.push(Variable {
            name: variable,
            key: format!("source[{name}].{key}"),
            about: format!("{}: {about}", sender.title()),
            form: Form::Hex,
            value: String::new(),
        });
    };
    if let Some(about) = sender.secret().filter(|_| sender.certificate_hosts().is_none()) {
        add(format!("{upper}_SECRET"), "secrets", about);
    }
    for (setting, about) in sender.settings() {
        add(format!("{upper}_{}", setting.to_ascii_uppercase()), setting, about);
    }
    if needs.replayable.contains(&name) {
        text.push_str(
            "replayable   = true    # a captured callback can be sent again; better: allow = [\"…\"], \
             the sender's addresses\n",
        );
    }
    if needs.weak.contains(&name) {
        text.push_str("weak         = true    # the signature is within reach of a forger; better: allow = [\"…\"] too\n");
    }
    if is_secret_path {
        text.push_str("unsigned     = true    # nothing is signed: the name is the protection, keep it secret\n");
    }
    text
}

fn variables_file(path: &Path, own: [&str; 2], variables: &[Variable]) -> String {
    let [token, backend] = own;
    let path: PathBuf = path.file_name().map_or_else(|| path.to_owned(), PathBuf::from);
    let mut text = format!(
        "# Secrets of {}. Keep this file to yourself: mode 0600, and out of version control.\n\n\
         # Token of the console and the admin API.\n{TOKEN}={token}\n\n\
         # Your backend verifies deliveries with it.\n{BACKEND}={backend}\n",
        path.display()
    );
    for Variable { name, about, value, .. } in variables {
        let _ = write!(
            text,
            "\n# {about}\n{PLACEHOLDER}{}: replace it with the sender's value\n{name}={value}\n",
            placeholder_digest(value)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Catalog;

    #[test]
    fn every_sender_gets_a_source_that_passes_the_check() {
        let catalog = Catalog::embedded().unwrap();
        let generated = Generated::new().unwrap();
        let mut failed = Vec::new();
        for sender in catalog.iter() {
            let senders = [Arc::clone(sender)];
            let draft = Draft {
                callbacks: SocketAddr::from(([0, 0, 0, 0], 8080)),
                admin: SocketAddr::from(([127, 0, 0, 1], 9090)),
                store: "postern-data",
                backend: "http://127.0.0.1:7000/",
                public_url: None,
                senders: &senders,
            };
            match draft.write(Path::new("postern.toml"), &generated) {
                Ok(files) => {
                    assert!(
                        files.configuration.contains(sender.title()),
                        "{}",
                        files.configuration
                    );
                    let secrets = files.variables.lines().filter(|line| !line.starts_with('#'));
                    for value in secrets.filter_map(|line| Some(line.split_once('=')?.1)) {
                        assert!(!files.configuration.contains(value), "{}", files.configuration);
                    }
                }
                Err(faults) => failed.push(format!("{}: {faults}", sender.name())),
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
