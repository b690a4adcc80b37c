//! Badges: a member of a closed set as a coloured word. The word alone is sufficient.

use maud::{Markup, html};

use super::value;
use crate::console::lang::Lang;
use crate::console::text::texts;
use crate::console::words;
use crate::ledger::{DeliveryState, EventState, Rejected};
use crate::sender::{Effect, Outcome, Reason};

texts! {
    NO_EFFECT = "no effect", "不发放";
}

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

/// The effect of an event, where nothing else says that it is one.
pub(crate) fn effect(lang: Lang, of: Effect) -> Markup {
    let text = match of {
        Effect::None => NO_EFFECT,
        Effect::Grant | Effect::Revoke => words::effect(of),
    };
    html! { span.badge title=(of.as_str()) { (text.of(lang)) } }
}

/// The state of a delivery.
pub(crate) fn delivery(lang: Lang, of: DeliveryState) -> Markup {
    html! { span.badge.(of.as_str()) title=(of.as_str()) { (words::delivery(of).of(lang)) } }
}

/// The state of the deliveries of an event.
pub(crate) fn event(lang: Lang, of: EventState) -> Markup {
    html! { span.badge.(of.as_str()) title=(of.as_str()) { (words::event(of).of(lang)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_effect_says_so() {
        let shown = |lang| effect(lang, Effect::None).into_string();
        assert!(shown(Lang::En).contains(">no effect<"), "{}", shown(Lang::En));
        assert!(shown(Lang::Zh).contains(">不发放<"), "{}", shown(Lang::Zh));
        assert!(effect(Lang::En, Effect::Revoke).into_string().contains(">Revoke<"));
    }
}
