//! A push configuration as the ledger keeps it.

use serde::{Deserialize, Serialize};

use crate::ledger::Kind;

/// Push configurations, by app.
pub const PUSH_CONFIG: Kind = Kind::new("push_config");

/// The push configuration of an app, as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Push {
    /// Cloud functions.
    pub function_config: FunctionConfig,
    /// Cloud hosting.
    pub container_config: ContainerConfig,
}

/// The routes of messages to functions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// Whether any messages go to functions.
    pub enable: bool,
    /// The routes, one for each kind of message.
    pub callbacks: Vec<FunctionCallback>,
}

/// The route of one kind of message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionCallback {
    /// `event`, `image`, …
    pub msg_type: String,
    /// The event, if the type is `event`.
    #[serde(default)]
    pub event: String,
    /// The environment of the function.
    #[serde(default)]
    pub env: String,
    /// The function: the name of a destination.
    #[serde(default)]
    pub function_name: String,
    /// Whether this kind is delivered.
    pub enable: bool,
}

/// The route of messages to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Whether messages go to the container.
    pub enable: bool,
    /// Its environment: the name of a destination.
    #[serde(default)]
    pub qbase_env: String,
    /// The path of the container.
    #[serde(default)]
    pub qbase_container_path: String,
    /// The notation of messages: 1 is JSON, 2 is XML.
    #[serde(default = "json_mode")]
    pub text_mode: u8,
}

fn json_mode() -> u8 {
    1
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self {
            enable: false,
            qbase_env: String::new(),
            qbase_container_path: String::new(),
            text_mode: json_mode(),
        }
    }
}
