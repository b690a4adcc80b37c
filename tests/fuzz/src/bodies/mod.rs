//! The bodies of the fuzz targets: each takes any bytes and panics if something is wrong.

pub mod admin_body;
pub mod cursor;
pub mod export_file;
pub mod form_fields;
pub mod head;
pub mod journal_record;
pub mod json_body;
pub mod key_list;
pub mod query_and_form;
pub mod sender_file;
pub mod simple_request;
pub mod support;
pub mod template;
pub mod verify;
pub mod xml_body;

/// A body.
pub type Body = fn(&[u8]);

/// Every body, under the name of its target.
pub const ALL: [(&str, Body); 14] = [
    ("admin_body", admin_body::run),
    ("cursor", cursor::run),
    ("export_file", export_file::run),
    ("form_fields", form_fields::run),
    ("head", head::run),
    ("journal_record", journal_record::run),
    ("json_body", json_body::run),
    ("key_list", key_list::run),
    ("query_and_form", query_and_form::run),
    ("sender_file", sender_file::run),
    ("simple_request", simple_request::run),
    ("template", template::run),
    ("verify", verify::run),
    ("xml_body", xml_body::run),
];
