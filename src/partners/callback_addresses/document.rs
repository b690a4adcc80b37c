//! A callback address as the ledger keeps it.

use serde::{Deserialize, Serialize};

use crate::ledger::Kind;

/// Callback addresses, by `<company>/<prefix>`.
pub const CALLBACK_ADDRESS: Kind = Kind::new("callback_address");

/// The callback address of a company for one assessment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The URL that callbacks are delivered to, if one is set.
    pub notify_url: Option<String>,
    /// The number of codes left, as it was sent.
    pub code_number: Option<String>,
    /// The number of reports left, as it was sent.
    pub report_number: Option<String>,
}
