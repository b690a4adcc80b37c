//! `postern audit`: who changed what, and when.

use std::io;

use clap::Args;

use super::client::runtime;
use super::rows::{Columns, Page, rows_of_a_page};
use super::{ConfigFile, Exit, Screen};

/// List who changed what, and when
#[derive(Args, Debug)]
#[command(
    long_about = "List who changed what, and when: the audit log of the running gateway, newest \
        first.\n\n\
        Changes over the admin API, the console and the management APIs; replays, pauses, tests and \
        erasures. Secrets are masked.",
    after_help = "Examples:\n  postern audit\n  postern audit --limit 100 --json"
)]
pub(super) struct Audit {
    #[command(flatten)]
    config: ConfigFile,
    /// Maximum number of rows
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = rows_of_a_page())]
    limit: u32,
}

impl Audit {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let path = format!("/admin/v1/audit?limit={}", self.limit);
        let came = match runtime()?.block_on(api.fetch(&path)) {
            Ok(came) => came,
            Err(sentence) => return screen.fail(&sentence),
        };
        let columns = Columns {
            keys: &["at", "who", "action", "kind", "name", "changes"],
            seldom: &[],
            nothing: "nothing was changed yet",
            narrow: "raise --limit",
            as_json: self.config.json,
        };
        match Page::read(&came.body, "audit") {
            Some(page) => page.print(&columns, screen),
            None => screen.fail(&"the gateway returned a list that cannot be read"),
        }
    }
}
