//! The plan: what the gateway runs. `config` is what the configuration file says. The registry adds
//! the managed objects to it, and the routes that depend on a callback's parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Config;

/// The plan of the gateway. Clones share it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration: sources and destinations of the file and of the APIs.
    pub config: Arc<Config>,
    /// The sources whose events are routed by parameters, by name.
    pub routing: Arc<RoutingTable>,
}

/// Routings by the names of their sources.
pub type RoutingTable = BTreeMap<String, Routing>;

/// The values of two parameters, in the order of the `[routing]` table of the sender's file.
pub type RouteKey = (String, String);

/// How the events of a source are routed by two parameters. The sender's file names them.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The two parameters.
    pub parameters: Arc<[String; 2]>,
    /// The routes.
    pub routes: Routes,
}

/// Routes to destinations.
#[derive(Clone, Debug)]
pub enum Routes {
    /// Destinations besides those of the source: the callback addresses.
    Added(Arc<BTreeMap<RouteKey, String>>),
    /// Destinations in place of those of the source: a push configuration.
    Replaced(Arc<MessageRoutes>),
}

/// The routes of an app's messages.
#[derive(Clone, Debug, Default)]
pub struct MessageRoutes {
    /// The destination of single kinds, by message type and event; `None` if the kind is disabled.
    pub kinds: BTreeMap<RouteKey, Option<String>>,
    /// The destination of all other kinds; `None`: those of the source.
    pub others: Option<String>,
}

impl Plan {
    /// A plan of the file alone, without routing.
    #[must_use]
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, routing: Arc::default() }
    }
}
