//! The callback-address API: managers of 人啊人 (renaren) set where the callbacks about a company and
//! an assessment are passed on to.

pub(crate) mod document;
pub(crate) mod edit;
pub(super) mod http;
pub(crate) mod plan;
pub(crate) mod settings;

pub use document::{Address, CALLBACK_ADDRESS};
pub use settings::{CallbackAddresses, Manager};

/// The sender whose signature rule the API shares.
const SENDER: &str = "renaren";
