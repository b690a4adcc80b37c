//! The language of sender files: a file as written, checked, and compiled for one source.
//!
//! [`file`] is the TOML text, [`definition`] the checked sender, [`recipe`] that sender with the
//! secrets, names and settings of one source. [`text`], [`condition`], [`modifier`], [`shape`],
//! [`url`] and [`time`] are the grammar. [`coverage`] and [`recut`] derive what a signature proves.

pub(super) mod bound;
pub(super) mod catalog;
pub(super) mod condition;
pub(super) mod coverage;
pub(super) mod definition;
pub(super) mod definition_error;
pub(super) mod event_condition;
pub(super) mod file;
pub(super) mod modifier;
pub(super) mod nearest;
pub(super) mod reads;
pub(super) mod recipe;
pub(super) mod recut;
pub(super) mod shape;
pub(super) mod text;
pub(super) mod time;
pub(super) mod url;
pub(super) mod value_shape;
pub(super) mod vector;
