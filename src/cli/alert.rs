//! `postern alert`: the channels to operators.

use std::io;

use clap::{Args, Subcommand};

use super::{ConfigFile, Exit, Screen};
use crate::alert;

/// Try the channels that notify operators of problems
#[derive(Args, Debug)]
pub(super) struct Alert {
    #[command(subcommand)]
    command: AlertCommand,
}

#[derive(Debug, Subcommand)]
enum AlertCommand {
    Test(AlertTest),
}

/// Send a test alert to one channel
#[derive(Args, Debug)]
#[command(
    long_about = "Send a test alert to one channel of the configuration, as the gateway would send \
        it. The gateway does not have to run.",
    after_help = "Examples:\n  \
        postern alert test --config postern.toml oncall"
)]
struct AlertTest {
    #[command(flatten)]
    config: ConfigFile,
    /// The name of the alert
    name: String,
}

impl Alert {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let AlertCommand::Test(test) = &self.command;
        test.run(screen)
    }
}

impl AlertTest {
    fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let own = format!("alert[{}]", self.name);
        if let Some(issue) = loaded.missing.iter().find(|issue| issue.key.starts_with(&own)) {
            writeln!(screen.err, "{}", issue.line_of_text(screen.err_paint))?;
            return Ok(Exit::Usage);
        }
        let config = loaded.config;
        let Some(found) = config.alerts.iter().find(|alert| alert.name == self.name) else {
            let names: Vec<&str> = config.alerts.iter().map(|alert| alert.name.as_str()).collect();
            let known = if names.is_empty() { String::from("none") } else { names.join(", ") };
            let name = &self.name;
            writeln!(screen.err, "there is no [[alert]] called {name}; configured: {known}")?;
            return Ok(Exit::Usage);
        };
        let console = alert::console_at(&config, config.server.admin);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(alert::send_test(found, &console)) {
            Ok(()) => {
                writeln!(screen.out, "sent a test alert to {}", self.name)?;
                Ok(Exit::Done)
            }
            Err(error) => {
                writeln!(screen.err, "could not send a test alert to {}: {error}", self.name)?;
                Ok(Exit::Failed)
            }
        }
    }
}
