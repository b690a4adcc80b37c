//! The push-configuration API: apps of WeChat set where their messages go.

pub(crate) mod document;
pub(crate) mod grant;
pub(super) mod http;
pub(crate) mod plan;
pub(crate) mod settings;

pub use document::{ContainerConfig, FunctionCallback, FunctionConfig, PUSH_CONFIG, Push};
pub use grant::{PushGrant, PushPathError, check_push_path};
pub use plan::{OutOfReach, PushBarrier, push_barrier};
pub use settings::{PushApp, PushConfig};
