//! The pieces that pages are made of. Each is a function that makes markup; everything that it is
//! given as text is escaped.

pub(super) mod badge;
pub(super) mod chart;
pub(super) mod csv;
pub(super) mod facts;
pub(super) mod form;
pub(super) mod notice;
pub(super) mod table;
pub(super) mod time;
pub(super) mod value;
