//! Operations on one callback or one recipe: verify, resolve, reply, sign, explain, describe.

pub(super) mod contract;
pub(super) mod evaluate;
pub(super) mod explain;
pub(super) mod identity;
pub(super) mod json_object;
pub(super) mod outcome;
pub(super) mod params_form;
pub(super) mod parts;
pub(super) mod prove;
pub(super) mod reply;
pub(super) mod resolve;
pub(super) mod resolved;
pub(super) mod rounds;
pub(super) mod sign;
pub(super) mod signature;
pub(super) mod without_secrets;
