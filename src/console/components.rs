//! The building blocks of pages. Each is a function that returns markup and escapes every text it
//! receives.

pub(super) mod badge;
pub(super) mod chart;
pub(super) mod csv;
pub(super) mod facts;
pub(super) mod form;
pub(super) mod json;
pub(super) mod live;
pub(super) mod notice;
pub(super) mod outcome;
pub(super) mod span;
pub(super) mod table;
pub(super) mod time;
pub(super) mod value;
