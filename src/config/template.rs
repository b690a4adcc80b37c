//! Templates of a destination's URL, held against the sources that deliver to it.
//!
//! `{user}` is the event's user, whatever its sender calls the parameter. Where a sender has a
//! parameter `user` that is something else, the URL does not say which is meant, and the
//! configuration has to.

use super::file::Section;
use super::{Destination, Format, Source};
use crate::sender::{Bracket, Placeholder, Role, UrlTemplate, Written};

/// Notes every placeholder of the URL of `to` that is ambiguous for events of `source`, at `key` of
/// `section`.
pub(super) fn check(section: &Section<'_>, key: &str, source: &Source, to: &Destination) {
    if to.format != Format::Template {
        return;
    }
    // A URL that cannot be read was reported where the URL was read.
    let Ok(template) = UrlTemplate::parse(&to.url) else { return };
    for written in template.placeholders() {
        if let Some((what, remedy)) = ambiguity(source, written) {
            section.fault(key, what, remedy);
        }
    }
}

/// The ambiguity of a placeholder, and how to write what is meant.
fn ambiguity(source: &Source, written: Written<'_>) -> Option<(String, String)> {
    let Written { key, bracket, column } = written;
    // A name with its prefix says what it is.
    let Placeholder::Member(name) = Placeholder::of(bracket, key) else { return None };
    if name != key {
        return None;
    }
    let role = Role::from_name(name);
    let (shown, other, spelling) = match bracket {
        Bracket::Came if source.recipe.reads_apart(name, role) => {
            let sender = source.recipe.sender().name();
            let other = format!("a parameter of {sender} with another meaning");
            (format!("{{{name}}}"), other, format!("{{params.{name}}} is the parameter"))
        }
        Bracket::Known if source.recipe.makes_apart(name) => {
            let other = String::from("a pair of the source's template with another value");
            (format!("[{name}]"), other, format!("[resolved.{name}] is the pair"))
        }
        _ => return None,
    };
    let what = format!(
        "`{shown}` (column {column} of the path) is ambiguous for the source {}: a member of the \
         event, and {other}",
        source.name
    );
    Some((what, format!("write {{event.{name}}} for the member; {spelling}")))
}
