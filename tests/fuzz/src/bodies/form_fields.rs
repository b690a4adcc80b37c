//! Any bytes as a form, as a form with parts and as JSON of a management API: each field is there once, and its
//! value is in the body.

use std::collections::BTreeSet;

use postern::partners::form_fields;

/// The largest number of parts that is taken.
const PARTS_MAX: usize = 32;

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    for content_type in [
        "application/x-www-form-urlencoded",
        "application/json",
        "multipart/form-data; boundary=x",
        "Multipart/Form-Data; a=b; Boundary=\"----x\"",
    ] {
        let Some(fields) = form_fields(content_type, data) else { continue };
        let names: BTreeSet<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), fields.len(), "a field is there twice");
        if !content_type.to_ascii_lowercase().starts_with("multipart") {
            continue;
        }
        assert!(fields.len() <= PARTS_MAX);
        let text = std::str::from_utf8(data).expect("parts are text");
        assert!(fields.iter().all(|(name, value)| text.contains(name) && text.contains(value)));
        let sum: usize = fields.iter().map(|(_, value)| value.len()).sum();
        assert!(sum <= data.len(), "no byte is in two values");
    }
}
