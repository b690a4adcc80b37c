//! Names of sources and destinations that a command was given: a misspelled one is an error, not an
//! empty list.

use std::io;

use serde_json::Value;

use super::client::AdminApi;
use super::{Exit, Screen};
use crate::config::nearest;
use crate::ledger::{EventId, HeldId};

/// The kind of a named object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Source,
    Destination,
}

impl Named {
    const fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

/// Why a name is not used. The sentence is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameError {
    /// The gateway has nothing of that name.
    Absent {
        /// With the nearest name.
        sentence: String,
        /// The names that the gateway has.
        names: Vec<String>,
    },
    /// The gateway could not be asked.
    Unasked(String),
}

impl NameError {
    /// Says so. A name that does not exist is a mistake in the command line, in every command.
    pub(super) fn tell(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        match self {
            Self::Absent { sentence, .. } => {
                writeln!(screen.err, "{sentence}")?;
                Ok(Exit::Usage)
            }
            Self::Unasked(sentence) => screen.fail(sentence),
        }
    }

    /// The names that the gateway has, where it could be asked.
    pub(super) fn known(&self) -> &[String] {
        match self {
            Self::Absent { names, .. } => names,
            Self::Unasked(_) => &[],
        }
    }
}

impl From<String> for NameError {
    fn from(sentence: String) -> Self {
        Self::Unasked(sentence)
    }
}

/// Checks that the gateway has a source or destination called `name`.
///
/// # Errors
/// See [`NameError`].
pub(super) async fn check(api: &AdminApi, named: Named, name: &str) -> Result<(), NameError> {
    let list = format!("{}s", named.word());
    let all = api.get(&format!("/admin/v1/{list}")).await?;
    let all = all[&list].as_array().into_iter().flatten();
    let names: Vec<&str> = all.filter_map(|one: &Value| one["name"].as_str()).collect();
    if names.contains(&name) {
        return Ok(());
    }
    let sentence = absent(named, name, &names);
    let names = names.into_iter().map(str::to_owned).collect();
    Err(NameError::Absent { sentence, names })
}

/// Checks that the gateway has, or had, a source called `name`: one that was removed is known by its
/// events.
///
/// # Errors
/// As [`check`].
pub(super) async fn check_past(api: &AdminApi, name: &str) -> Result<(), NameError> {
    let Err(absent) = check(api, Named::Source, name).await else { return Ok(()) };
    let query = serde_urlencoded::to_string([("source", name), ("limit", "1")]);
    let known = api.get(&format!("/admin/v1/events?{}", query.unwrap_or_default())).await?;
    match known["events"].as_array().is_some_and(|events| !events.is_empty()) {
        true => Ok(()),
        false => Err(absent),
    }
}

/// The sentence for a name that none of `names` is.
pub(super) fn absent(named: Named, name: &str, names: &[&str]) -> String {
    let word = named.word();
    let remedy = match nearest(name, names) {
        Some(near) => format!("did you mean {near}?"),
        None if names.is_empty() => format!("there is no {word} at all"),
        None => format!("there are: {}", names.join(", ")),
    };
    format!("there is no {word} {name:?}; {remedy}")
}

/// Checks that `text` can be the id of an event. The objection says where to look for a transaction
/// or a callback instead.
///
/// # Errors
/// A sentence.
pub(super) fn check_event(text: &str) -> Result<(), String> {
    if text.parse::<EventId>().is_ok() {
        return Ok(());
    }
    let remedy = match text.parse::<HeldId>() {
        Ok(id) => format!(
            "a held callback: postern held {id}, a rejected one: postern explain --rejection {id}"
        ),
        Err(_) => String::from(
            "it is evt_ and 32 hexadecimal digits; look for a transaction with --transaction, for a \
             user with --user",
        ),
    };
    Err(format!("{text:?} is not the id of an event; {remedy}"))
}

/// Checks that `text` can be the id of a held callback.
///
/// # Errors
/// A sentence.
pub(super) fn check_held(text: &str) -> Result<(), String> {
    text.parse::<HeldId>().map(|_| ()).map_err(|_| {
        format!(
            "{text:?} is not the id of a held callback; it is ref_ and 32 hexadecimal digits, as \
             postern held lists it; look for a transaction with --transaction, for a user with \
             --user"
        )
    })
}

/// Checks that `text` can be the id of a rejected callback.
///
/// # Errors
/// A sentence.
pub(super) fn check_rejection(text: &str) -> Result<(), String> {
    text.parse::<HeldId>().map(|_| ()).map_err(|_| {
        format!(
            "{text:?} is not the id of a rejected callback; it is ref_ and 32 hexadecimal digits, \
             as postern events --rejected lists it"
        )
    })
}

/// A name as a part of a path: what is not plain is escaped, and the slash of managed names stays.
pub(super) fn in_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte);
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match plain(byte) {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered() {
        let names = ["game", "accounting"];
        let said = |name| absent(Named::Destination, name, &names);
        assert_eq!(said("gmae"), "there is no destination \"gmae\"; did you mean game?");
        assert_eq!(said("xyz"), "there is no destination \"xyz\"; there are: game, accounting");
    }

    #[test]
    fn what_is_no_id_says_where_to_look() {
        let digits = "0".repeat(32);
        assert_eq!(check_event(&format!("evt_{digits}")), Ok(()));
        let said = |text: &str| check_event(text).unwrap_err();
        assert!(said("tr-1").contains("\"tr-1\" is not the id of an event"), "{}", said("tr-1"));
        assert!(said("tr-1").contains("--transaction"), "{}", said("tr-1"));
        let held = format!("ref_{digits}");
        assert!(said(&held).contains(&format!("postern held {held}")), "{}", said(&held));
        assert_eq!(check_held(&held), Ok(()));
        assert!(check_held("tr-1").unwrap_err().contains("--transaction"));
        assert_eq!(check_rejection(&held), Ok(()));
        assert!(check_rejection("tr-1").unwrap_err().contains("events --rejected"));
    }

    #[test]
    fn a_name_is_escaped_in_a_path() {
        assert_eq!(in_path("reward/12"), "reward/12");
        assert_eq!(in_path("a b?c%"), "a%20b%3Fc%25");
    }
}
