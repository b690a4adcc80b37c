//! `[routing]` of a sender's file: the parameters that decide where its events go.

use std::sync::Arc;

/// The parameters that the events of a sender are routed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderRouting {
    /// The company and the assessment, for callback addresses.
    pub address: Option<Arc<[String; 2]>>,
    /// The type and the event of a message, for push configurations.
    pub message: Option<Arc<[String; 2]>>,
    /// The sender over which this one may take precedence.
    pub precedes: Option<Precedence>,
}

/// A sender over which another one may take precedence: both report the same things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedence {
    /// The name of the sender whose callbacks are superseded.
    pub sender: String,
    /// The parameter of those callbacks that `sids` of a source is compared with.
    pub parameter: String,
}
