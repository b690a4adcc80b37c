//! A reward rule as the ledger keeps it.

use serde::{Deserialize, Serialize};

use crate::ledger::Kind;

/// Reward rules, by number.
pub const REWARD_RULE: Kind = Kind::new("reward_rule");

/// A reward rule.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The publisher that owns it.
    pub publisher: String,
    /// Its name.
    pub rule_name: String,
    /// The item that it grants.
    pub reward_name: String,
    /// The amount that it grants.
    pub reward_number: u64,
    /// The URL that receives the reward, as it was sent.
    pub reward_url: String,
    /// The key that its callbacks are signed with.
    pub reward_sec_key: String,
    /// A note for people.
    pub remark: String,
    /// Whether it accepts callbacks.
    pub status: RuleStatus,
}

/// Whether a rule accepts callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleStatus {
    /// Callbacks are rejected.
    Stopped,
    /// Callbacks are accepted.
    Running,
}

/// Without its key.
impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("publisher", &self.publisher)
            .field("rule_name", &self.rule_name)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
