//! The options of every command: the configuration, files of variables, and the form of the output.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{Exit, Screen};
use crate::config::{self, Environment, Loaded, Secrets};

/// The variable that names the configuration.
const VARIABLE: &str = "POSTERN_CONFIG";

/// The configuration of a folder.
const HERE: &str = "postern.toml";

/// The configuration of a machine, as packages install it.
const OF_THE_MACHINE: &str = "/etc/postern/postern.toml";

/// The options of every command.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "common")]
pub(super) struct ConfigFile {
    /// Configuration file [default: $POSTERN_CONFIG, ./postern.toml, /etc/postern/postern.toml]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    named: Option<PathBuf>,
    /// File of NAME=VALUE lines for `env:` secrets; variables of the process take precedence
    #[arg(long = "env-file", value_name = "FILE", global = true)]
    env_files: Vec<PathBuf>,
    /// Print JSON: one object, or one object per line for a list
    #[arg(long = "json", global = true)]
    pub(super) json: bool,
}

impl ConfigFile {
    /// The configuration file: the named one, or the first default that exists.
    pub(super) fn path(&self) -> PathBuf {
        let variable = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        if let Some(path) = self.named.clone().or_else(|| variable().map(PathBuf::from)) {
            return path;
        }
        let machine = Path::new(OF_THE_MACHINE);
        let is_here = Path::new(HERE).exists() || !machine.exists();
        if is_here { HERE.into() } else { machine.to_owned() }
    }

    /// The same options with the configuration at `path`, if there is one.
    pub(super) fn or_at(&self, path: Option<&Path>) -> Self {
        Self { named: path.map(Path::to_owned).or_else(|| self.named.clone()), ..self.clone() }
    }

    /// The configuration that was named, if one was.
    pub(super) fn named(&self) -> Option<PathBuf> {
        self.is_named().then(|| self.path())
    }

    /// Whether a configuration was named.
    pub(super) fn is_named(&self) -> bool {
        self.named.is_some() || std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
    }

    /// The environment, with the files of variables.
    pub(super) fn environment(&self) -> Arc<Environment> {
        Arc::new(Environment::new(self.env_files.clone()))
    }

    /// The configuration, or how the command ends: its errors are on the screen then.
    pub(super) fn load(&self, screen: &mut Screen<'_>) -> io::Result<Result<Loaded, Exit>> {
        self.load_with(Secrets::Required, screen)
    }

    /// The same for a command that neither verifies nor delivers: sources, destinations and tokens
    /// whose secrets are missing are omitted.
    pub(super) fn load_partly(&self, screen: &mut Screen<'_>) -> io::Result<Result<Loaded, Exit>> {
        self.load_with(Secrets::Optional, screen)
    }

    fn load_with(
        &self,
        secrets: Secrets,
        screen: &mut Screen<'_>,
    ) -> io::Result<Result<Loaded, Exit>> {
        match config::load_with(&*self.environment(), &self.path(), secrets) {
            Ok(loaded) => Ok(Ok(loaded)),
            Err(faults) => screen.refuse(&faults).map(Err),
        }
    }
}
