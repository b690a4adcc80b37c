//! What the admin API, the console and the command line share: who may ask, and how a callback is
//! shown to people without what it claims.

mod access;
mod explained;
mod masked;

pub use access::{Denied, Need, check_name, check_site, check_token, find_token};
pub(crate) use explained::explained;
pub use masked::Masked;
