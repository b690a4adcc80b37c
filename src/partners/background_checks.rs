//! The background-check API: companies of 易背调 (yibeidiao) order a report of a background check that
//! is not finished. The callbacks about a check are its only record.

mod fonts;
pub(super) mod http;
mod pdf;
mod record;
pub mod settings;

/// The sender whose callbacks report background checks.
const SENDER: &str = "yibeidiao";
