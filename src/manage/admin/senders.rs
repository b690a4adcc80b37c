//! The catalog, for people who set up a source.

use serde::Serialize;

use super::Admin;
use crate::manage::http::{Answered, json};
use crate::operator::View;
use crate::sender::Sender;

#[derive(Serialize)]
struct Page<'a> {
    senders: Vec<SenderView<'a>>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct SenderView<'a> {
    name: &'a str,
    title: &'a str,
    docs: &'a [String],
    secret: Option<&'a str>,
    settings: Vec<Setting<'a>>,
    unconfirmed: &'a [String],
    timeout_ms: Option<u64>,
    retries: Option<u32>,
    sources: Vec<&'a str>,
}

#[derive(Serialize)]
struct Setting<'a> {
    name: &'a str,
    about: &'a str,
}

impl Admin {
    pub(super) fn senders(&self, view: &View) -> Answered {
        let config = view.config();
        let sources_of = |sender: &Sender| {
            let all = config.sources.values();
            let of = all.filter(|source| source.recipe.sender().name() == sender.name());
            of.map(|source| source.name.as_str()).collect()
        };
        let shown = |sender| SenderView::of(sender, sources_of(sender));
        let senders = config.catalog.iter().map(|sender| shown(sender)).collect();
        Ok(json(&Page { senders, next_cursor: None }))
    }
}

impl<'a> SenderView<'a> {
    fn of(sender: &'a Sender, sources: Vec<&'a str>) -> Self {
        let patience = sender.retries();
        let millis =
            |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            name: sender.name(),
            title: sender.title(),
            docs: sender.docs(),
            secret: sender.secret(),
            settings: sender
                .settings()
                .iter()
                .map(|(name, about)| Setting { name, about })
                .collect(),
            unconfirmed: sender.unconfirmed(),
            timeout_ms: patience.timeout.map(millis),
            retries: patience.retries,
            sources,
        }
    }
}
