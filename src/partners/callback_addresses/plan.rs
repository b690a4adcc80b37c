//! Additions of callback addresses to the running configuration. Each is a destination, and the
//! events of its company and assessment are delivered to it besides their source's destinations.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::Address;
use crate::config::{Destination, Format, Origin, Reach, Source, of_destination};
use crate::plan::{RouteKey, Routes, Routing};
use crate::registry::StoredDocument;
use crate::registry::merge::{Merged, plain};

/// The name of the destination of an address.
fn name_of(key: &str) -> String {
    format!("address/{key}")
}

/// Adds the destination of each address that has a URL.
pub(crate) fn add(merged: &mut Merged, addresses: &BTreeMap<String, StoredDocument<Address>>) {
    for (key, kept) in addresses {
        let Some(url) = &kept.value.notify_url else { continue };
        let (egress, name) = (&merged.config.egress, name_of(key));
        let destination = Destination {
            origin: Origin::CallbackAddress,
            reach: Reach::Public(egress.allow.clone()),
            format: Format::Forward,
            signing_keys: of_destination(&egress.signing_keys, &name, Format::Forward),
            ..plain(&name, url)
        };
        merged.config.destinations.insert(destination.name.clone(), Arc::new(destination));
    }
}

/// Routes the events of every source whose sender's file names the parameters of an address.
pub(crate) fn route(merged: &mut Merged, addresses: &BTreeMap<String, StoredDocument<Address>>) {
    let set = addresses.iter().filter(|(_, kept)| kept.value.notify_url.is_some());
    let all: BTreeMap<RouteKey, String> = set
        .filter_map(|(key, _)| {
            let (company, prefix) = key.split_once('/')?;
            Some(((company.to_owned(), prefix.to_owned()), name_of(key)))
        })
        .collect();
    if all.is_empty() {
        return;
    }
    for source in merged.sources_of(|sender| sender.routing().address.is_some()) {
        let Some(parameters) = source.recipe.sender().routing().address.clone() else { continue };
        let mut reached = all.clone();
        if let Some(companies) = companies(merged, &source) {
            let is_known = |company: &str| company.parse().is_ok_and(|id| companies.contains(&id));
            reached.retain(|(company, _), _| is_known(company));
        }
        let routing = Routing { parameters, routes: Routes::Added(Arc::new(reached)) };
        merged.routing.insert(source.name.clone(), routing);
    }
}

/// The companies whose callbacks a source may receive: those of the managers whose keys it knows.
/// `None` if it knows no manager's key: such a source has a secret of its own, and may receive all.
fn companies(merged: &Merged, source: &Source) -> Option<Vec<u64>> {
    let api = merged.config.manage.callback_address.as_ref()?;
    let known = api.managers.iter().filter(|manager| source.recipe.knows(&manager.key));
    let companies: Vec<&Vec<u64>> = known.map(|manager| &manager.companies).collect();
    (!companies.is_empty()).then(|| companies.into_iter().flatten().copied().collect())
}
