//! `[manage.reward_rule]`: the publishers that may manage reward rules.

use sha2::{Digest as _, Sha256};

use crate::config::file::Section;
use crate::config::unit;
use crate::partners::settings::{need_secret, refuse_twice, users};
use crate::sender::Secret;

/// The keys of `[manage.reward_rule]`.
pub(crate) const KEYS: &[&str] = &["publishers"];

/// The keys of a publisher.
pub(crate) const PUBLISHER_KEYS: &[&str] = &["name", "key"];

/// The users of the reward-rule API.
#[derive(Clone, Debug)]
pub struct RewardRules {
    /// The publishers.
    pub publishers: Vec<Publisher>,
}

/// A publisher, who sees and changes its own rules only.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// The owner of its rules, also after a change of its key: its name, or a digest of its key.
    pub name: String,
    /// The key that its requests carry.
    pub key: Secret,
}

/// Checks `[manage.reward_rule]`.
pub(crate) fn check(section: &Section<'_>) -> RewardRules {
    section.refuse_unknown(KEYS);
    let publishers = users(section, "publishers", PUBLISHER_KEYS, |publisher| {
        let name = publisher.take("name", unit::name);
        let key = need_secret(publisher, "key")?;
        Some(Publisher { name: name.unwrap_or_else(|| digest(&key)), key })
    });
    let names = publishers.iter().map(|publisher| publisher.name.as_str());
    refuse_twice(section, "publishers", names);
    RewardRules { publishers }
}

/// The name of a publisher that has no other: it follows from the key.
fn digest(key: &Secret) -> String {
    let digest = Sha256::digest(key.expose());
    format!("key-{}", const_hex::encode(&digest[..6]))
}
