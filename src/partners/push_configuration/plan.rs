//! Additions of a push configuration to the running configuration: routes to destinations that name
//! its app, below their `push_path`.
//!
//! Messages for a destination that does not exist yet, or does not name the app, wait under a name
//! of the app's own. A destination that is created later does not receive them by its name alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::document::Push;
use super::grant::PushGrant;
use crate::config::{Destination, Format, Mode, Notation, Origin, Shown, of_destination};
use crate::plan::{MessageRoutes, Routes, Routing};
use crate::registry::StoredDocument;
use crate::registry::merge::Merged;

/// The reason that a push configuration may not use a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushBarrier {
    /// The `push_apps` of the destination do not name the app.
    NotNamed,
    /// The path is not below its `push_path`, or servers may read it in different ways.
    Path,
}

/// A destination that a push configuration names and may not use. Its messages wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfReach {
    /// The app.
    pub app: String,
    /// The destination.
    pub destination: String,
    /// The reason.
    pub why: PushBarrier,
}

/// The result of routing one push configuration.
struct Routed {
    routes: MessageRoutes,
    /// The destinations that are made for it.
    destinations: Vec<Destination>,
    out_of_reach: Vec<OutOfReach>,
}

impl OutOfReach {
    /// Logs that its messages wait.
    pub(crate) fn log(&self) {
        let Self { app, destination, why } = self;
        tracing::error!(
            app, destination, %why,
            "messages wait: a push configuration names a destination that it may not use"
        );
    }
}

/// The reason that `app` may not send messages to a destination, or to its `path`. `None` if it
/// may.
#[must_use]
pub fn push_barrier(
    destination: &Destination,
    app: &str,
    path: Option<&str>,
) -> Option<PushBarrier> {
    let grant = &destination.push;
    if !grant.admits(app) {
        return Some(PushBarrier::NotNamed);
    }
    path.filter(|path| !grant.covers(path)).map(|_| PushBarrier::Path)
}

/// Routes the messages of each app: of every source that has its `app_id`, and whose sender's file
/// names the parameters of a message.
pub(crate) fn add(merged: &mut Merged, pushes: &BTreeMap<String, StoredDocument<Push>>) {
    for (app, kept) in pushes {
        let routed = route(&merged.config.destinations, app, &kept.value);
        merged.out_of_reach.extend(routed.out_of_reach);
        let made = routed.destinations.into_iter();
        merged.config.destinations.extend(made.map(|one| (one.name.clone(), Arc::new(one))));
        let routes = Arc::new(routed.routes);
        for source in merged.sources_of(|sender| sender.routing().message.is_some()) {
            if let Some(parameters) = source.recipe.sender().routing().message.clone()
                && source.app_id.as_deref() == Some(app)
            {
                let routes = Routes::Replaced(Arc::clone(&routes));
                merged.routing.insert(source.name.clone(), Routing { parameters, routes });
            }
        }
    }
}

/// Routes the messages of `app`.
fn route(known: &BTreeMap<String, Arc<Destination>>, app: &str, push: &Push) -> Routed {
    let mut routed = Routed {
        routes: MessageRoutes::default(),
        destinations: Vec::new(),
        out_of_reach: Vec::new(),
    };
    routed.route_functions(known, app, push);
    routed.route_container(known, app, push);
    routed
}

impl Routed {
    /// A function is the destination of its name, as it is.
    fn route_functions(
        &mut self,
        known: &BTreeMap<String, Arc<Destination>>,
        app: &str,
        push: &Push,
    ) {
        let functions = &push.function_config;
        if !functions.enable {
            return;
        }
        let mut seen = BTreeSet::new();
        for callback in &functions.callbacks {
            let name = callback.function_name.as_str();
            let target = callback.enable.then(|| {
                let found = known.get(name);
                let barrier = found.map(|found| push_barrier(found, app, None));
                if seen.insert(name) {
                    self.note(app, name, barrier.flatten());
                    // Messages that waited for the destination arrive under the name that they wait
                    // under.
                    if let (Some(found), Some(None)) = (found, barrier) {
                        self.destinations.push(made(found, function_name(app, name)));
                    }
                }
                match barrier {
                    Some(None) => name.to_owned(),
                    Some(Some(_)) | None => function_name(app, name),
                }
            });
            let kind = (callback.msg_type.clone(), callback.event.clone());
            self.routes.kinds.insert(kind, target);
        }
    }

    /// A container is the destination called by its environment, at the path and in the notation
    /// that were set.
    fn route_container(
        &mut self,
        known: &BTreeMap<String, Arc<Destination>>,
        app: &str,
        push: &Push,
    ) {
        let set = &push.container_config;
        if !set.enable {
            return;
        }
        self.routes.others = Some(container_name(app));
        let Some(base) = known.get(&set.qbase_env) else { return };
        let barrier = push_barrier(base, app, Some(&set.qbase_container_path));
        self.note(app, &set.qbase_env, barrier);
        let url = at_path(&base.url, &set.qbase_container_path);
        if let (None, Some(url)) = (barrier, url) {
            let notation = if set.text_mode == 2 { Notation::Xml } else { Notation::Json };
            let format = Format::Message(notation);
            let name = container_name(app);
            let signing_keys = of_destination(&base.signing_keys, &name, format);
            let container = Destination { url, format, signing_keys, ..made(base, name) };
            self.destinations.push(container);
        }
    }

    fn note(&mut self, app: &str, destination: &str, barrier: Option<PushBarrier>) {
        self.out_of_reach.extend(barrier.map(|why| OutOfReach {
            app: app.to_owned(),
            destination: destination.to_owned(),
            why,
        }));
    }
}

/// The destination `base` under a name that is made for an app.
fn made(base: &Destination, name: String) -> Destination {
    Destination {
        origin: Origin::PushConfig,
        shown: Shown::default(),
        name,
        mode: Mode::Async,
        push: PushGrant::default(),
        ..Destination::clone(base)
    }
}

/// The URL of `base` with another path.
fn at_path(base: &str, path: &str) -> Option<String> {
    let uri: http::Uri = base.parse().ok()?;
    Some(format!("{}://{}{path}", uri.scheme()?, uri.authority()?))
}

/// The name of the destination of an app's container.
fn container_name(app: &str) -> String {
    format!("push/{app}")
}

/// The name that messages for a function wait under. Neither an app nor a function has a slash.
fn function_name(app: &str, function: &str) -> String {
    format!("push/{app}/{function}")
}

impl fmt::Display for PushBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNamed => "its push_apps do not name the app",
            Self::Path => "the path is not a plain one below its push_path",
        })
    }
}
