//! What the admin API, the console and the command line share: who may ask, how a callback is
//! shown to people without what it claims, and how it is delivered again.

mod access;
mod explained;
mod masked;
mod replay;

pub use access::{Denied, Need, check_name, check_site, check_token, find_token};
pub(crate) use explained::explained;
pub use masked::Masked;
pub use replay::{NotReplayed, cancel_replay, replay_all, replay_event};
