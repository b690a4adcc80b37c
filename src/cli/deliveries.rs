//! `postern deliveries`: what is still to be delivered, and what could not be.

use std::io;

use clap::Args;

use super::client::{AdminApi, runtime};
use super::names::{self, Named};
use super::replay::State;
use super::rows::{Columns, Page, rows_of_a_page};
use super::{ConfigFile, Exit, Screen};

/// List deliveries: pending, dead or done
#[derive(Args, Debug)]
#[command(
    long_about = "List deliveries: pending, dead or done.\n\n\
        Without --state both the pending and the dead ones, each with its event and the result of \
        its last attempt. `postern events ID` shows all attempts of one, `postern replay --state \
        dead` delivers the dead ones again.",
    after_help = "Examples:\n  \
        postern deliveries\n  \
        postern deliveries --state dead --destination game\n  \
        postern deliveries --state dead --json | jq -r .event"
)]
pub(super) struct Deliveries {
    #[command(flatten)]
    config: ConfigFile,
    /// Only in this state
    #[arg(long)]
    state: Option<State>,
    /// Only to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Maximum number of rows for each state
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = rows_of_a_page())]
    limit: u32,
}

impl Deliveries {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let api = match self.config.api(screen)? {
            Ok(api) => api,
            Err(exit) => return Ok(exit),
        };
        let runtime = runtime()?;
        if let Some(name) = &self.destination
            && let Err(error) = runtime.block_on(names::check(&api, Named::Destination, name))
        {
            return error.tell(screen);
        }
        let pages = runtime.block_on(self.pages(&api));
        let bodies = match pages {
            Ok(bodies) => bodies,
            Err(sentence) => return screen.fail(&sentence),
        };
        let pages = bodies.iter().map(|body| Page::read(body, "deliveries"));
        let Some(pages) = pages.collect::<Option<Vec<_>>>() else {
            return screen.fail(&"the gateway returned a list that cannot be read");
        };
        let columns = Columns {
            keys: &[
                "event",
                "destination",
                "state",
                "attempt",
                "due_at",
                "source",
                "transaction",
                "user",
                "last_status",
                "last_error",
            ],
            seldom: &["due_at", "user", "last_status", "last_error"],
            nothing: "nothing matches",
            narrow: "raise --limit, or narrow with --destination and --state",
            as_json: self.config.json,
        };
        let filled: Vec<_> = pages.iter().filter(|page| !page.rows.is_empty()).collect();
        match filled.as_slice() {
            [] => Page { rows: Vec::new(), next: super::rows::Next::End }.print(&columns, screen),
            pages => {
                for page in pages {
                    page.print(&columns, screen)?;
                }
                Ok(Exit::Done)
            }
        }
    }

    async fn pages(&self, api: &AdminApi) -> Result<Vec<bytes::Bytes>, String> {
        let states = match self.state {
            Some(state) => vec![state],
            None => vec![State::Pending, State::Dead],
        };
        let mut bodies = Vec::with_capacity(states.len());
        for state in states {
            let limit = self.limit.to_string();
            let mut pairs = vec![("state", state.as_str()), ("limit", limit.as_str())];
            pairs.extend(self.destination.as_deref().map(|name| ("destination", name)));
            let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
            bodies.push(api.fetch(&format!("/admin/v1/deliveries?{query}")).await?.body);
        }
        Ok(bodies)
    }
}
