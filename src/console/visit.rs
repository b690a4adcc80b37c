//! A request to a page, as the page sees it.

use super::area::Area;
use super::fields::{Fields, unescape};
use super::lang::Lang;
use super::session::Viewer;

/// A request to a page, after the access checks.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub lang: Lang,
    pub viewer: Viewer,
    pub area: Area,
    /// The path, unchanged.
    pub path: String,
    /// The path segments after the area, unescaped.
    pub rest: Vec<String>,
    pub query: Fields,
    /// Whether the browser reports TLS, which a proxy terminates.
    pub is_over_tls: bool,
}

impl Visit {
    /// The segments after the area, to match on.
    pub(super) fn rest(&self) -> Vec<&str> {
        self.rest.iter().map(String::as_str).collect()
    }

    /// The segments of a path after `/console`; `None` if one is not valid UTF-8.
    pub(super) fn segments(path: &str) -> Option<Vec<String>> {
        let rest = path.strip_prefix("/console")?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Vec::new());
        }
        rest.split('/').map(unescape).collect()
    }

    /// The URL of this page with one field of its query set or removed.
    pub(super) fn with(&self, name: &str, value: Option<&str>) -> String {
        format!("{}{}", self.path, self.query.with(name, value))
    }
}
