//! The callback-address API: managers of 人啊人 (renaren) set where the callbacks about a company and
//! an assessment are passed on to.

pub mod document;
pub(crate) mod edit;
pub(super) mod http;
pub mod plan;
pub mod settings;

/// The sender whose signature rule the API shares.
const SENDER: &str = "renaren";
