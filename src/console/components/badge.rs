//! Badges: a member of a closed set as a coloured word. The word alone is sufficient.

use maud::{Markup, html};

use super::value;
use crate::console::lang::Lang;
use crate::console::words;
use crate::ledger::{DeliveryState, EventState, Rejected};
use crate::sender::{Outcome, Reason};

/// The outcome of a callback.
pub(crate) fn outcome(lang: Lang, of: Outcome) -> Markup {
    html! { span.badge.(of.as_str()) title=(of.as_str()) { (words::outcome(of).of(lang)) } }
}

/// The number of callbacks of one outcome.
pub(crate) fn outcomes(lang: Lang, of: Outcome, count: u64) -> Markup {
    html! {
        span.badge.(of.as_str()) title=(of.as_str()) {
            (words::outcome(of).of(lang)) " " b { (value::count(count)) }
        }
    }
}

/// The reason of a rejection.
pub(crate) fn reason(lang: Lang, of: Reason) -> Markup {
    html! { span.reason title=(of.as_str()) { (words::reason(of).of(lang)) } }
}

/// The reason of a rejected request.
pub(crate) fn rejected(lang: Lang, of: Rejected) -> Markup {
    html! { span.reason title=(of.as_str()) { (words::rejected(of).of(lang)) } }
}

/// The state of a delivery.
pub(crate) fn delivery(lang: Lang, of: DeliveryState) -> Markup {
    html! { span.badge.(of.as_str()) title=(of.as_str()) { (words::delivery(of).of(lang)) } }
}

/// The state of the deliveries of an event.
pub(crate) fn event(lang: Lang, of: EventState) -> Markup {
    html! { span.badge.(of.as_str()) title=(of.as_str()) { (words::event(of).of(lang)) } }
}
