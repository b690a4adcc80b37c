//! The confirmation of a subscription by a request to its sender, in a sender file: `[confirm]`.

use super::Reader;
use crate::sender::crypto::pinned_url::UrlPins;
use crate::sender::language::condition::Condition;
use crate::sender::language::file;
use crate::sender::language::text::Spot;

/// Which callbacks ask for a confirmation, and the URL that confirms.
#[derive(Debug)]
pub(in crate::sender) struct Confirm {
    pub(in crate::sender) when: Vec<Condition>,
    pub(in crate::sender) url: Spot,
    pub(in crate::sender) pins: UrlPins,
}

impl Reader {
    pub(super) fn confirm(&mut self, written: &file::Confirm) -> Option<Confirm> {
        let when = self.conditions("confirm.when", written.when.clone());
        if when.is_empty() {
            let remedy = "say which callbacks ask for it: \"{Type} is SubscriptionConfirmation\"";
            self.fault("confirm.when", "is missing", remedy);
        }
        let url = self.spot("confirm.url", &written.url);
        match UrlPins::parse(&written.hosts.to_vec(), &written.path) {
            Ok(pins) => Some(Confirm { when, url: url?, pins }),
            Err(fault) => {
                self.faults.push(fault.under("confirm"));
                None
            }
        }
    }
}
