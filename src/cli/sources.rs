//! `postern sources`: the sources of a running gateway, wherever they were defined.

use std::io;

use clap::Args;
use serde_json::Value;

use super::client::runtime;
use super::events::print_members;
use super::names::{self, Named, in_path};
use super::rows::{Columns, Page};
use super::{ConfigFile, Exit, Screen};

/// List the sources of the running gateway, or show one
#[derive(Args, Debug)]
#[command(
    long_about = "List the sources of the running gateway, or show one.\n\n\
        Those of the configuration file and those that were created over an API or in the console; \
        the column origin says which. A source is shown with its settings, secrets masked.",
    after_help = "Examples:\n  \
        postern sources\n  \
        postern sources level-end\n  \
        postern sources level-end --json\n  \
        postern sources --json | jq -r .name"
)]
pub(super) struct Sources {
    #[command(flatten)]
    config: ConfigFile,
    /// Source to show
    name: Option<String>,
}

impl Sources {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let runtime = runtime()?;
        let Some(name) = &self.name else {
            let came = match runtime.block_on(api.fetch("/admin/v1/sources")) {
                Ok(came) => came,
                Err(sentence) => return screen.fail(&sentence),
            };
            let columns = Columns {
                keys: &["name", "sender", "path", "destinations", "enabled", "origin"],
                seldom: &[],
                nothing: "there is no source: nothing will be received",
                narrow: "",
                as_json: self.config.json,
            };
            return match Page::read(&came.body, "sources") {
                Some(page) => page.print(&columns, screen),
                None => screen.fail(&"the gateway returned a list that cannot be read"),
            };
        };
        if let Err(error) = runtime.block_on(names::check(&api, Named::Source, name)) {
            return error.tell(screen);
        }
        let path = format!("/admin/v1/sources/{}", in_path(name));
        let shown: Result<Value, String> = runtime.block_on(api.get(&path));
        match shown {
            Ok(source) if self.config.json => {
                writeln!(screen.out, "{source:#}")?;
                Ok(Exit::Done)
            }
            Ok(source) => {
                print_members(&source, &[], screen)?;
                Ok(Exit::Done)
            }
            Err(sentence) => screen.fail(&sentence),
        }
    }
}
