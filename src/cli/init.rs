//! `postern init`: a first configuration, with secrets.

mod secrets;
mod written;

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use self::secrets::Generated;
use self::written::Draft;
use super::senders::instead;
use super::{ConfigFile, Exit, Screen};
use crate::private;
use crate::sender::{Catalog, Sender};

/// Ports that are offered for callbacks, in this order: the first that is free.
const CALLBACK_PORTS: [u16; 4] = [8080, 8088, 18080, 28080];

/// Ports that are offered for the admin listener. Prometheus' own is the first one's usual owner.
const ADMIN_PORTS: [u16; 4] = [9090, 9091, 19090, 29090];

/// Write a first configuration for the senders that you name
#[derive(Args, Debug)]
#[command(
    long_about = "Write a first configuration for the senders that you name.\n\n\
        Two files: the configuration, with a comment for each part and a source for each sender, and \
        next to it postern.env with its secrets, readable by you only. Secrets that you choose are \
        generated; those that a sender's console shows are placeholders until you replace them. The \
        configuration passes `postern check` as it is. Nothing is overwritten without --force.",
    after_help = "Examples:\n  \
        postern init taku stripe\n  \
        postern init --backend http://127.0.0.1:3000/webhooks admob\n  \
        postern init -c /etc/postern/postern.toml github"
)]
pub(super) struct Init {
    #[command(flatten)]
    config: ConfigFile,
    /// Senders, as `postern senders` lists them
    #[arg(value_name = "SENDER")]
    senders: Vec<String>,
    /// URL of your backend
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7000/")]
    backend: String,
    /// URL under which senders reach the gateway, such as https://callbacks.example.com
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Replace existing files
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let catalog = match Catalog::embedded() {
            Ok(catalog) => catalog,
            Err(_) => return screen.fail(&"the senders of this build cannot be read"),
        };
        let senders = match self.chosen(&catalog) {
            Ok(senders) => senders,
            Err(sentence) => {
                writeln!(screen.err, "{sentence}")?;
                return Ok(Exit::Usage);
            }
        };
        let path = self.config.named().unwrap_or_else(|| PathBuf::from("postern.toml"));
        let env_path = path.with_extension("env");
        if let Some(taken) = [&path, &env_path].into_iter().find(|path| path.exists())
            && !self.force
        {
            let sentence = format!(
                "{} exists; name another file with --config FILE, or replace it with --force",
                taken.display()
            );
            return screen.fail(&sentence);
        }
        let generated = match Generated::new() {
            Ok(generated) => generated,
            Err(error) => return screen.fail(&error),
        };
        let draft = Draft {
            callbacks: first_free(&CALLBACK_PORTS, [0, 0, 0, 0]),
            admin: first_free(&ADMIN_PORTS, [127, 0, 0, 1]),
            store: store_of(&path),
            backend: &self.backend,
            public_url: self.public_url.as_deref(),
            senders: &senders,
        };
        let files = match draft.write(&path, &generated) {
            Ok(files) => files,
            Err(faults) => return screen.refuse(&faults),
        };
        if let Err(error) = save(&path, &files.configuration, &env_path, &files.variables) {
            return screen.fail(&error);
        }
        self.tell(&files.to_replace, &path, screen)
    }

    /// The senders by name.
    fn chosen(&self, catalog: &Catalog) -> Result<Vec<Arc<Sender>>, String> {
        let mut chosen: Vec<Arc<Sender>> = Vec::with_capacity(self.senders.len());
        for name in &self.senders {
            let Some(sender) = catalog.get(name).or_else(|| catalog.also_called(name)) else {
                return Err(format!("there is no sender {name:?}; {}", instead(catalog, name)));
            };
            if !chosen.iter().any(|one| one.name() == sender.name()) {
                chosen.push(Arc::clone(sender));
            }
        }
        Ok(chosen)
    }

    /// Says what to do next.
    fn tell(
        &self,
        to_replace: &[String],
        path: &Path,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        let env_path = path.with_extension("env");
        let (path, env) = (path.display(), env_path.display());
        if self.config.json {
            let line = json!({
                "configuration": path.to_string(), "variables": env.to_string(),
                "placeholders": to_replace,
            });
            writeln!(screen.out, "{line}")?;
            return Ok(Exit::Done);
        }
        writeln!(screen.out, "{path}\n{env}")?;
        writeln!(screen.err, "\nnext:")?;
        if !to_replace.is_empty() {
            writeln!(screen.err, "  replace the placeholders in {env}: {}", to_replace.join(", "))?;
        }
        if self.senders.is_empty() {
            writeln!(screen.err, "  add a source to {path}: `postern senders` lists the senders")?;
        }
        let with = format!("--config {path} --env-file {env}");
        writeln!(screen.err, "  postern check {with}")?;
        writeln!(
            screen.err,
            "  postern listen {with} --destination backend    # a backend to try with"
        )?;
        writeln!(screen.err, "  postern serve {with}")?;
        writeln!(screen.err, "  postern url {with}    # what to paste into the senders' consoles")?;
        Ok(Exit::Done)
    }
}

/// The directory of the store. Of a configuration under `/etc` it is the one that the service may
/// write to, as in deploy/systemd.
fn store_of(path: &Path) -> &'static str {
    match std::path::absolute(path) {
        Ok(path) if path.starts_with("/etc") => "/var/lib/postern/data",
        _ => "postern-data",
    }
}

/// The first port of `ports` that is free on `ip`, or the first of them.
fn first_free(ports: &[u16; 4], ip: [u8; 4]) -> SocketAddr {
    let at = |port: &u16| SocketAddr::from((ip, *port));
    let free = ports.iter().map(at).find(|at| TcpListener::bind(at).is_ok());
    free.unwrap_or_else(|| SocketAddr::from((ip, ports[0])))
}

/// Writes both files; the one with secrets for its owner only.
fn save(path: &Path, configuration: &str, env: &Path, variables: &str) -> io::Result<()> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::other(format!("{path}: {error}"))
    };
    let _ = fs::remove_file(env);
    let mut file = private::create(env).map_err(named(env))?;
    file.write_all(variables.as_bytes()).map_err(named(env))?;
    fs::write(path, configuration).map_err(named(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_of_a_service_is_where_the_service_may_write() {
        let of = |path: &str| store_of(Path::new(path));
        assert_eq!(of("/etc/postern/postern.toml"), "/var/lib/postern/data");
        assert_eq!(of("/etcetera/postern.toml"), "postern-data");
        assert_eq!(of("postern.toml"), "postern-data");
    }
}
