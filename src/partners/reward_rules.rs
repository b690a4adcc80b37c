//! The reward-rule API: publishers of Taku (TopOn) manage the rules by which it rewards players.

pub(crate) mod document;
pub(crate) mod edit;
pub(super) mod http;
pub(crate) mod item;
pub(crate) mod plan;
pub(crate) mod settings;

pub use document::{REWARD_RULE, Rule, RuleStatus};
pub use plan::rule_name;
pub use settings::{Publisher, RewardRules};

/// The sender whose rules the API manages.
const SENDER: &str = "taku";
