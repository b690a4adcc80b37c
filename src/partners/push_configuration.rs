//! The push-configuration API: apps of WeChat set where their messages go.

pub mod document;
pub mod grant;
pub(super) mod http;
pub mod plan;
pub mod settings;
