//! The routing of a sender, for readers.

use super::{Cell, Rows};
use crate::sender::language::definition::Sender;

/// One row for each key of `[routing]`.
pub(super) fn rows(sender: &Sender) -> Rows {
    let routing = sender.routing();
    let pair = |names: &[String; 2]| names.each_ref().map(|name| format!("{{{name}}}")).join(" ");
    let mut rows = Rows::new();
    let mut row = |what: &str, value: String| {
        rows.push(vec![Cell::words(what), Cell::code(value)]);
    };
    if let Some(names) = &routing.address {
        row("callback address of", pair(names));
    }
    if let Some(names) = &routing.message {
        row("push configuration of", pair(names));
    }
    if let Some(precedes) = &routing.precedes {
        let what = format!("takes precedence over {}, by", precedes.sender);
        row(&what, format!("{{{}}}", precedes.parameter));
    }
    rows
}
