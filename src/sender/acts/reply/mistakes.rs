//! Mistakes in one reply of a sender file.

use crate::sender::language::definition_error::DefinitionError;
use crate::sender::language::nearest::meant;

/// The keys of a reply that is a table.
const PARTS: [&str; 9] =
    ["body", "json", "form", "xml", "alike", "status", "type", "headers", "sealed"];

/// The mistake of a key that no reply has, or whose value has another type.
pub(super) fn no_part(key: &str) -> DefinitionError {
    if PARTS.contains(&key) {
        let remedy = "write a number as status, a text as body or type, a table as form, xml, \
                      alike or headers, and true or a table as sealed";
        return DefinitionError::new(key, "has a value of another type", remedy);
    }
    DefinitionError::new(key, "is not part of a reply", meant(key, &PARTS))
}

/// The mistake of a status that is not one.
pub(super) fn no_status() -> DefinitionError {
    DefinitionError::new("status", "is not a final HTTP status", "use a number from 200 to 999")
}
