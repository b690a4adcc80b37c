//! The reward-rule API: publishers of Taku (TopOn) manage the rules by which it rewards players.

pub mod document;
pub(crate) mod edit;
pub(super) mod http;
pub(crate) mod item;
pub mod plan;
pub mod settings;

/// The sender whose rules the API manages.
const SENDER: &str = "taku";
